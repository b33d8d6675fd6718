// Puts the status together from what the daemon holds. Pure but for asking its parts.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { AgentConfig } from './agent-config.ts'
import type { Agent, Link } from './agent-state.ts'
import type { Alarms } from './alarms.ts'
import type { Journal } from './journal.ts'
import type { PolicyKeeper } from './policy-keeper.ts'
import { dueMs } from './schedule.ts'
import type { AgentStatus } from './status.ts'
import type { Work } from './work.ts'

export function statusOf(
  parts: {
    agent: Agent
    config: AgentConfig
    link: Link
    journal: Journal
    policies: PolicyKeeper
    work: Work
    alarms: Alarms
    hasBundle: boolean
    startedAt: string
    lastContactAt: string | undefined
  },
  state: AgentStatus['state'],
  nowMs: number,
): AgentStatus {
  const { agent, config, link, journal, policies, work } = parts
  const runs = work.runs()
  const alarms = [...parts.alarms.list()]
  const good = Object.values(runs).flatMap(({ lastGoodMs }) => (lastGoodMs === undefined ? [] : [lastGoodMs]))
  const { lastSeq, bytes, limitBytes } = journal.stats()
  return {
    v: 1,
    agentId: agent.agentId,
    controllerId: agent.controllerId,
    host: config.host,
    state,
    startedAt: parts.startedAt,
    updatedAt: isoTime(nowMs),
    server: {
      url: config.server?.url ?? agent.serverUrl,
      lastContactAt: parts.lastContactAt ?? null,
      error: alarms.find(({ code }) => code === 'server')?.message ?? null,
      clockOffsetMs: link.offsetMs,
    },
    hasBundle: parts.hasBundle,
    journal: {
      pending: Math.max(0, lastSeq - link.acceptedThrough),
      lastSeq,
      acceptedThrough: link.acceptedThrough,
      recordedThrough: link.recordedThrough,
      bytes,
      limitBytes,
    },
    policiesVersion: policies.get().version,
    policies: policies.get().inForce.map((policy) => {
      const run = runs[policy.policyId]
      const refused = policies.whyRefused(policy) ?? null
      return {
        policyId: policy.policyId,
        source: policy.source,
        enabled: policy.enabled,
        lastRunAt: timeOf(run?.lastEndMs),
        lastOutcome: run?.lastOutcome ?? null,
        lastCode: run?.lastCode ?? null,
        lastGoodAt: timeOf(run?.lastGoodMs),
        nextDueAt: refused === null ? timeOf(dueMs(policy, run)) : null,
        refused,
      }
    }),
    held: [...policies.get().held],
    running: work.running(),
    lastRun: work.lastRun(),
    collections: Object.entries(work.collections()).map(
      ([
        storeId,
        {
          lastMs,
          waiting: { untilMs, ...waiting },
          ...found
        },
      ]) => ({
        ...{ storeId, at: isoTime(lastMs), ...found },
        waiting: { ...waiting, until: timeOf(untilMs) },
      }),
    ),
    lastGoodAt: good.length === 0 ? null : isoTime(Math.max(...good)),
    alarms,
  }
}

function timeOf(ms: number | undefined): string | null {
  return ms === undefined ? null : isoTime(ms)
}
