// `holdfast status` for people. It answers in order: is it protected, what is it doing, does the server hear of it, what is wrong.
import { parseTime } from '@holdfast/shared/clock.ts'
import type { AgentStatus } from '../daemon/status.ts'
import { shownText } from './byte-text.ts'
import type { Summary } from './events.ts'
import { formatBytes, formatCount, formatDuration, formatMany, formatTime } from './format.ts'
import type { Style } from './style.ts'

/** A daemon writes its status at least this often while it lives. */
const STALE_MS = 10 * 60_000

export function statusLines(summary: Summary, style: Style): string[] {
  const status = summary.details?.['status'] as AgentStatus | undefined
  const now = Number(summary.details?.['now'] ?? 0)
  const head = `${style.bold('agent')}        ${summary.agentId ?? ''}`
  const keys = [
    `fingerprint    ${summary.fingerprint ?? ''}`,
    `domain         ${summary.domainFingerprint ?? style.warn('no bundle yet: nothing can be backed up before the controller sends it')}`,
  ]
  if (status === undefined) return [head, ...keys, style.warn("the daemon has not run yet; start it with 'holdfast run'")]
  const ago = (time: string | null): string =>
    time === null ? style.warn('never') : `${formatTime(parseTime(time))} (${since(now - parseTime(time))})`
  const { journal, server, running } = status
  return [
    `${head} on ${shownText(status.host)}`,
    ...keys,
    `last good      ${ago(status.lastGoodAt)}`,
    `daemon         ${daemonWord(status, now, style)}`,
    ...(running === null
      ? []
      : [
          `doing          ${running.kind}${running.source === null ? '' : ` of ${shownText(running.source)}`}: ${formatCount(running.files)} files, ${formatBytes(running.bytes)}, since ${formatTime(parseTime(running.since))}`,
        ]),
    `server         ${shownText(server.url)}, last heard ${ago(server.lastContactAt)}${server.error === null ? '' : ` ${style.bad(shownText(server.error))}`}`,
    `journal        ${formatMany(journal.pending, 'record')} to deliver, ${formatBytes(journal.bytes)} of ${formatBytes(journal.limitBytes)}`,
    ...status.policies.map((policy) => {
      const last =
        policy.lastRunAt === null
          ? 'not run yet'
          : `${policy.lastOutcome === 'ok' ? style.good('ok') : style.bad(policy.lastCode ?? policy.lastOutcome ?? '')} ${since(now - parseTime(policy.lastRunAt))}`
      const next = policy.nextDueAt === null ? '' : `, next ${formatTime(parseTime(policy.nextDueAt))}`
      const state = policy.refused === null ? (policy.enabled ? `${last}${next}` : 'switched off') : style.bad(shownText(policy.refused))
      return `policy         ${shownText(policy.source)}: ${state}`
    }),
    ...status.collections.map(({ storeId, at, forgotten, namedObjects, waiting, held }) => {
      const words = [
        `${formatMany(forgotten, 'snapshot')} forgotten, ${formatMany(namedObjects, 'object')} named for deletion`,
        ...(waiting.packs === 0
          ? []
          : [
              `${formatMany(waiting.packs, 'pack')} (${formatBytes(waiting.bytes)}) condemned and kept${waiting.until === null ? '' : ` until ${formatTime(parseTime(waiting.until))}`}`,
            ]),
        ...(held.packs === 0
          ? []
          : [
              `${formatMany(held.packs, 'pack')} (${formatBytes(held.bytes)}) held by ${formatMany(held.sessions, 'run')} that may be at work`,
            ]),
      ]
      return `retention      ${storeId.slice(0, 14)}, ${ago(at)}: ${words.join('; ')}`
    }),
    ...status.held.map(
      ({ policyId, reason }) =>
        `${style.warn('held')}           ${policyId}: ${shownText(reason)} (holdfast run --accept-policy ${status.policiesVersion})`,
    ),
    ...status.alarms.map(
      ({ code, since: from, message }) =>
        `${style.bad('alarm')}          ${shownText(message)} (${code}, since ${formatTime(parseTime(from))})`,
    ),
  ]
}

function daemonWord(status: AgentStatus, now: number, style: Style): string {
  if (status.state === 'stopped') return style.warn(`stopped ${since(now - parseTime(status.updatedAt))}`)
  const age = now - parseTime(status.updatedAt)
  if (age > STALE_MS) return style.bad(`has not been heard of for ${formatDuration(age)}; is it running?`)
  return `running since ${formatTime(parseTime(status.startedAt))}`
}

function since(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 1) return 'just now'
  if (minutes < 120) return `${formatMany(minutes, 'minute')} ago`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${formatMany(hours, 'hour')} ago` : `${formatMany(Math.floor(hours / 24), 'day')} ago`
}
