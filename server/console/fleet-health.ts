// How each agent fares, as a pure reading of what the API tells: protected or not, why, how old the last good backup is against what its
// policy promises, and thirty days at a glance. Offline is not failed, and what no policy covers is never good.
import { isoTime, parseTime } from '@holdfast/shared/clock.ts'
import { stepMs } from '@holdfast/shared/protocol/schedule.ts'
import type { Agent, Policy, Run } from './api.ts'
import { codeWords, span } from './format.ts'
import type { Tone } from './format.ts'

const DAY = 86_400_000
export const STRIP_DAYS = 30

/** Worst first. */
export const STATES = [
  'incident',
  'failed',
  'overdue',
  'uncovered',
  'offline',
  'incomplete',
  'waiting',
  'running',
  'protected',
  'revoked',
] as const
export type HealthState = (typeof STATES)[number]
export const STATE_WORDS: { readonly [S in HealthState]: readonly [Tone, string] } = {
  incident: ['bad', 'Incident'],
  failed: ['bad', 'Failed'],
  overdue: ['bad', 'Overdue'],
  uncovered: ['warn', 'Not covered'],
  offline: ['warn', 'Offline'],
  incomplete: ['warn', 'Incomplete'],
  waiting: ['idle', 'First backup due'],
  running: ['busy', 'Backing up'],
  protected: ['good', 'Protected'],
  revoked: ['idle', 'Revoked'],
}

export type Day = { readonly date: string; readonly state: 'good' | 'incomplete' | 'failed' | 'overdue' | 'none' | 'unread' }

export type Health = {
  readonly agent: Agent
  readonly state: HealthState
  /** What is wrong, in words with what to do; empty where nothing is. */
  readonly reasons: readonly string[]
  /** The oldest among the newest good backups of its policies: what the promise is measured by. Null where one never succeeded. */
  readonly lastGoodAt: string | null
  /** The shortest step of its enabled policies: how old a backup may become. */
  readonly promiseMs: number | undefined
  readonly nextDueAt: string | null
  /** Bytes of the newest good run of each source. */
  readonly size: number | undefined
  /** Over the runs at hand: bytes read against bytes stored. */
  readonly read: number
  readonly stored: number
  readonly days: readonly Day[]
}

export type Limits = { readonly now: number; readonly graceMs: number; readonly silentMs: number }

/** The health of one agent from its policies and its newest runs (newest first); `more` where older runs were not read. */
export function healthOf(agent: Agent, policies: readonly Policy[], runs: readonly Run[], limits: Limits, more = false): Health {
  const { now, graceMs, silentMs } = limits
  const enabled = policies.filter((policy) => policy.enabled)
  const backups = runs.filter((run) => run.kind === 'backup')
  const goodTimes = enabled.map((policy) => policy.lastGoodAt)
  const lastGoodAt =
    enabled.length === 0
      ? (backups.find((run) => run.state === 'ok')?.startedAt ?? null)
      : goodTimes.reduce((a, b) => (a === null || b === null ? null : a < b ? a : b))
  const promiseMs = enabled.length === 0 ? undefined : Math.min(...enabled.map((policy) => stepMs(policy.schedule)))
  const dues = enabled.flatMap((policy) => policy.nextDueAt ?? []).sort()
  const overdue = enabled.filter((policy) => policy.nextDueAt !== null && parseTime(policy.nextDueAt) + graceMs <= now)
  const seen = agent.lastSeenAt ?? agent.createdAt
  const offline = now - parseTime(seen) > silentMs
  const newest = newestOfEach(backups)
  const failed = newest.filter((run) => run.state === 'failed')
  const incomplete = newest.filter((run) => run.state === 'incomplete')

  const reasons: string[] = []
  const add = (state: HealthState, ...words: string[]): HealthState => {
    reasons.push(...words)
    return state
  }
  const found: HealthState[] = []
  if (agent.state === 'revoked')
    return { ...rest('revoked'), reasons: ['Revoked: it is refused everything. Enroll it anew to use it again.'] }
  if (agent.incident !== null)
    found.push(
      add('incident', `Its records do not hold (${agent.incident}): compare them with the appliance's journal before trusting either.`),
    )
  for (const run of failed) found.push(add('failed', `Last run${of(run)} failed: ${codeWords(run.code) || 'no code was given'}.`))
  for (const policy of overdue) {
    const late = span(now - parseTime(policy.nextDueAt ?? agent.createdAt))
    found.push(
      offline
        ? 'offline'
        : add('overdue', `Backup of ${policy.source} is ${late} overdue though the agent is online: see its log on the appliance.`),
    )
  }
  if (enabled.length === 0)
    found.push(
      add(
        'uncovered',
        policies.length === 0 ? 'No policy: nothing is backed up. Add one.' : 'Every policy is switched off: nothing is backed up.',
      ),
    )
  if (offline) {
    const late = overdue.length > 0 ? ' Its backups are overdue, or were made and not told yet.' : ''
    found.push(add('offline', `Not heard of for ${span(now - parseTime(seen))}: check power and network of the appliance.${late}`))
  }
  for (const run of incomplete)
    found.push(
      add(
        'incomplete',
        `Last run${of(run)} is incomplete: ${run.totals === null ? 'some' : run.totals.failed} files could not be read; their names are on the appliance.`,
      ),
    )
  if (agent.bundleVersion === 0)
    found.push(add('waiting', "It waits for the controller's domain bundle: run holdfast domain bundle on the controller's machine."))
  if (enabled.some((policy) => policy.lastGoodAt === null) && found.length === 0) found.push('waiting')
  if (found.length === 0 && newest.some((run) => run.state === 'running')) found.push('running')
  const state = found.reduce<HealthState>((a, b) => (STATES.indexOf(a) <= STATES.indexOf(b) ? a : b), 'protected')
  return { ...rest(state), reasons }

  function rest(of: HealthState): Omit<Health, 'reasons'> {
    const sizes = newestGood(backups)
    return {
      agent,
      state: of,
      lastGoodAt,
      promiseMs,
      nextDueAt: dues[0] ?? null,
      size: sizes.length === 0 ? undefined : sum(sizes.map((run) => run.totals?.bytes ?? 0)),
      read: sum(backups.map((run) => run.totals?.bytes ?? 0)),
      stored: sum(backups.map((run) => run.totals?.storedBytes ?? 0)),
      days: strip(agent, enabled, backups, limits, more),
    }
  }
}

/** Worst first; within a state the longest unprotected first. */
export function byWorst(a: Health, b: Health): number {
  const states = STATES.indexOf(a.state) - STATES.indexOf(b.state)
  if (states !== 0) return states
  const [x, y] = [a.lastGoodAt ?? '', b.lastGoodAt ?? '']
  return x === y ? (a.agent.host < b.agent.host ? -1 : 1) : x < y ? -1 : 1
}

/** A day is good when a run of it was; overdue when none was and the last good one was then older than promised. */
function strip(agent: Agent, enabled: readonly Policy[], backups: readonly Run[], { now, graceMs }: Limits, more: boolean): Day[] {
  const today = Math.floor(now / DAY)
  const begin = Math.min(...enabled.map((policy) => parseTime(policy.createdAt)), Number.POSITIVE_INFINITY)
  const promise = Math.max(DAY, Math.min(...enabled.map((policy) => stepMs(policy.schedule)), Number.POSITIVE_INFINITY))
  const ends = backups.map((run) => ({ state: run.state, day: Math.floor(parseTime(run.startedAt) / DAY), at: parseTime(run.startedAt) }))
  return Array.from({ length: STRIP_DAYS }, (_, index): Day => {
    const day = today - STRIP_DAYS + 1 + index
    const date = isoTime(day * DAY).slice(0, 10)
    const mine = ends.filter((run) => run.day === day)
    if (mine.some((run) => run.state === 'ok')) return { date, state: 'good' }
    if (mine.some((run) => run.state === 'incomplete')) return { date, state: 'incomplete' }
    if (mine.some((run) => run.state === 'failed')) return { date, state: 'failed' }
    const end = Math.min(now, (day + 1) * DAY)
    const last = Math.max(
      begin,
      ...ends.filter((run) => run.at < end && (run.state === 'ok' || run.state === 'incomplete')).map((run) => run.at),
    )
    if (more && day < (ends.at(-1)?.day ?? 0)) return { date, state: 'unread' }
    const late = agent.state === 'active' && Number.isFinite(last) && end - last > promise + graceMs
    return { date, state: late ? 'overdue' : 'none' }
  })
}

/** The newest ended or running run of each source. */
function newestOfEach(backups: readonly Run[]): Run[] {
  const seen = new Map<string, Run>()
  for (const run of backups) if (run.state !== 'cancelled' && !seen.has(run.source ?? '')) seen.set(run.source ?? '', run)
  return [...seen.values()]
}

function newestGood(backups: readonly Run[]): Run[] {
  const seen = new Map<string, Run>()
  for (const run of backups)
    if ((run.state === 'ok' || run.state === 'incomplete') && run.totals !== null && !seen.has(run.source ?? ''))
      seen.set(run.source ?? '', run)
  return [...seen.values()]
}

function of(run: Run): string {
  return run.source === null ? '' : ` of ${run.source}`
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0)
}
