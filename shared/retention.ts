// Retention: which snapshots of one series a schedule keeps (obligation O17). The agent selects with it; the server asks with it whether what an
// agent would delete is explained. Pure. Times are those at which the store or the server received a snapshot, never those that it claims: who
// may add snapshots could otherwise date one so that a good one is forgotten in its place.
import { isoTime } from './clock.ts'

export const RETENTION_UNITS = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
export type RetentionUnit = (typeof RETENTION_UNITS)[number]

/** How many to keep: the last ones, the newest of so many hours, days … that have one, and all of so many days. At least one is above zero. */
export type RetentionRules = { readonly last?: number | undefined; readonly withinDays?: number | undefined } & {
  readonly [U in RetentionUnit]?: number | undefined
}

export type RetainedSnapshot = {
  readonly id: string
  /** When the store, or the server, received it: milliseconds since 1970. */
  readonly at: number
  /** When it says that it was made; where the two are far apart, no rule forgets it. */
  readonly claimedAt?: number | undefined
}

/** A snapshot that says another time than the store is kept: a copied repository, a clock that was wrong, or somebody at work. */
export const TIMES_DISAGREE_MS = 48 * 3_600_000
const DAY_MS = 86_400_000

/** True where the rules keep anything at all by themselves. */
export function keepsSomething(rules: RetentionRules): boolean {
  return [rules.last, rules.withinDays, ...RETENTION_UNITS.map((unit) => rules[unit])].some((count) => (count ?? 0) > 0)
}

/** The name of the hour, day, ISO week, month or year (UTC) that a time falls into. */
function bucketOf(unit: RetentionUnit, at: number): string {
  const text = isoTime(at)
  if (unit === 'hourly') return text.slice(0, 13)
  if (unit === 'daily') return text.slice(0, 10)
  if (unit === 'monthly') return text.slice(0, 7)
  if (unit === 'yearly') return text.slice(0, 4)
  // Weeks begin on Monday; 1970-01-01 was a Thursday.
  return `week ${Math.floor((at / DAY_MS + 3) / 7)}`
}

const newestFirst = (a: RetainedSnapshot, b: RetainedSnapshot): number => b.at - a.at || (a.id < b.id ? 1 : -1)

/**
 * Which snapshots of one series stay, and why, and which the rules would forget. The newest always stays, so no rule empties a series; so does one
 * whose times disagree. Throws RangeError where the rules keep nothing: that is no schedule but a mistake.
 */
export function selectKept(
  snapshots: readonly RetainedSnapshot[],
  rules: RetentionRules,
  now: number,
): { readonly kept: ReadonlyMap<string, readonly string[]>; readonly forgotten: readonly string[] } {
  if (!keepsSomething(rules)) throw new RangeError('retention rules that keep nothing')
  const reasons = new Map<string, string[]>()
  const keep = (id: string, why: string): void => {
    const known = reasons.get(id)
    if (known === undefined) reasons.set(id, [why])
    else known.push(why)
  }
  const disagrees = ({ at, claimedAt }: RetainedSnapshot): boolean =>
    claimedAt !== undefined && Math.abs(at - claimedAt) > TIMES_DISAGREE_MS
  const ordered = [...snapshots].sort(newestFirst)
  const dated = ordered.filter((snapshot) => !disagrees(snapshot))
  for (const { id } of ordered.filter(disagrees)) keep(id, 'times disagree')
  const newest = ordered[0]
  if (newest !== undefined) keep(newest.id, 'newest')
  for (const { id } of dated.slice(0, rules.last ?? 0)) keep(id, 'last')
  const since = now - (rules.withinDays ?? 0) * DAY_MS
  if ((rules.withinDays ?? 0) > 0) for (const { id, at } of dated) if (at >= since) keep(id, 'within')
  for (const unit of RETENTION_UNITS) {
    const buckets = new Set<string>()
    for (const { id, at } of dated) {
      if (buckets.size >= (rules[unit] ?? 0)) break
      const bucket = bucketOf(unit, at)
      if (buckets.has(bucket)) continue
      buckets.add(bucket)
      keep(id, unit)
    }
  }
  return { kept: reasons, forgotten: ordered.filter(({ id }) => !reasons.has(id)).map(({ id }) => id) }
}

/**
 * Whether the kept ones of `all` still are what the rules promise, with times that may differ by `slackMs` between who selects and who asks: every
 * hour, day … that the rules cover has a kept one in or near it. `missing` names the promises that are broken, in words.
 */
export function stillSatisfied(
  all: readonly RetainedSnapshot[],
  keptIds: ReadonlySet<string>,
  rules: RetentionRules,
  now: number,
  slackMs: number,
): { readonly ok: boolean; readonly missing: readonly string[] } {
  const ordered = [...all].sort(newestFirst)
  const kept = ordered.filter(({ id }) => keptIds.has(id))
  const missing: string[] = []
  const newest = ordered[0]
  if (newest !== undefined && !kept.some(({ at }) => at >= newest.at - slackMs)) missing.push('the newest')
  const last = ordered.slice(0, rules.last ?? 0)
  const oldestOfLast = last.at(-1)
  if (oldestOfLast !== undefined && kept.filter(({ at }) => at >= oldestOfLast.at - slackMs).length < last.length)
    missing.push(`the last ${last.length}`)
  const since = now - (rules.withinDays ?? 0) * DAY_MS + slackMs
  if ((rules.withinDays ?? 0) > 0)
    for (const { id, at } of ordered) if (at >= since && !keptIds.has(id)) missing.push(`${isoTime(at)}, within ${rules.withinDays} days`)
  for (const unit of RETENTION_UNITS) {
    const buckets = new Map<string, RetainedSnapshot[]>()
    for (const snapshot of ordered) {
      const bucket = bucketOf(unit, snapshot.at)
      const members = buckets.get(bucket)
      if (members !== undefined) members.push(snapshot)
      else if (buckets.size < (rules[unit] ?? 0)) buckets.set(bucket, [snapshot])
    }
    for (const [bucket, members] of buckets) {
      const [first, end] = [members.at(-1)!.at - slackMs, members[0]!.at + slackMs]
      const near = kept.some(({ at }) => (at >= first && at <= end) || bucketOf(unit, at) === bucket)
      if (!near) missing.push(`${unit} ${bucket}`)
    }
  }
  return { ok: missing.length === 0, missing }
}
