// When which policy is due, by the agent's own clock: pure. Missed runs are caught up once; a clock that jumps neither silences a policy nor
// makes it run without end; a run that made no snapshot is tried again sooner than its next time.
import { parseTime } from '@holdfast/shared/clock.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import { firstDue, nextDue } from '@holdfast/shared/protocol/schedule.ts'
import type { RunState, RunStates } from './agent-state.ts'

/** A start that lies further ahead than this came from a clock that was set back since. */
export const CLOCK_TOLERANCE_MS = 60_000
const RETRY_FIRST_MS = 5 * 60_000
const RETRY_MOST_MS = 4 * 3_600_000

export type Due = { readonly policy: AgentPolicy; readonly dueMs: number }

/** When a policy is due next; in the past where it is overdue. Undefined for one that is disabled and that nobody asked for. */
export function dueMs(policy: AgentPolicy, run: RunState | undefined): number | undefined {
  if (run?.askedMs !== undefined) return run.askedMs
  if (!policy.enabled) return undefined
  const regular =
    run?.lastStartMs === undefined ? firstDue(policy.schedule, parseTime(policy.since)) : nextDue(policy.schedule, run.lastStartMs)
  if (run?.lastEndMs === undefined || run.failures === 0) return regular
  return Math.min(regular, run.lastEndMs + Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(10, run.failures - 1)))
}

/** All enabled policies with their times, the one that waits longest first. */
export function schedule(policies: readonly AgentPolicy[], runs: RunStates): Due[] {
  return policies
    .flatMap((policy) => {
      const due = dueMs(policy, runs[policy.policyId])
      return due === undefined ? [] : [{ policy, dueMs: due }]
    })
    .sort((a, b) => a.dueMs - b.dueMs || (a.policy.policyId < b.policy.policyId ? -1 : 1))
}

/**
 * Times that lie in the future, because the clock was set back, are moved to now, so that the next run is at most one step away. Answers
 * undefined where nothing had to be moved.
 */
export function afterClockStep(runs: RunStates, nowMs: number): RunStates | undefined {
  let hasMoved = false
  const back = (time: number | undefined): number | undefined => {
    if (time === undefined || time <= nowMs + CLOCK_TOLERANCE_MS) return time
    hasMoved = true
    return nowMs
  }
  const moved = Object.entries(runs).map(([policyId, run]): [string, RunState] => {
    const lastStartMs = back(run.lastStartMs)
    const lastEndMs = back(run.lastEndMs)
    const askedMs = back(run.askedMs)
    const times = { lastStartMs, lastEndMs, askedMs }
    return [policyId, { ...run, ...Object.fromEntries(Object.entries(times).filter(([, time]) => time !== undefined)) }]
  })
  return hasMoved ? Object.fromEntries(moved) : undefined
}

/** What stands of a policy's runs after one began, or ended. */
export function runBegan(runs: RunStates, policyId: string, nowMs: number): RunStates {
  const { askedMs: _, ...before } = runs[policyId] ?? { failures: 0 }
  return { ...runs, [policyId]: { ...before, lastStartMs: nowMs } }
}

/** A person asked for a run now. */
export function runAsked(runs: RunStates, policyId: string, nowMs: number): RunStates {
  return { ...runs, [policyId]: { ...(runs[policyId] ?? { failures: 0 }), askedMs: nowMs } }
}

export function runEnded(
  runs: RunStates,
  policyId: string,
  end: { nowMs: number; outcome: NonNullable<RunState['lastOutcome']>; code?: string | undefined },
): RunStates {
  const { lastCode: _, ...before } = runs[policyId] ?? { failures: 0 }
  const isGood = end.outcome === 'ok' || end.outcome === 'incomplete'
  return {
    ...runs,
    [policyId]: {
      ...before,
      lastEndMs: end.nowMs,
      lastOutcome: end.outcome,
      ...(end.code === undefined ? {} : { lastCode: end.code }),
      ...(isGood ? { lastGoodMs: end.nowMs } : {}),
      // A run that somebody cancelled is not tried again before its time.
      failures: isGood || end.outcome === 'cancelled' ? 0 : before.failures + 1,
    },
  }
}
