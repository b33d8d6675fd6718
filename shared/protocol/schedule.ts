// When a policy is due: one pure reading of a schedule, used by the agent that keeps it and by the server that watches it.
import { z } from 'zod'

const EVERY = /^([1-9]\d{0,3})(m|h|d)$/
const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Every so often after the last start, or daily at a wall-clock time in a zone. The shortest step is 5 minutes, the longest 31 days. */
export const schedule = z.union([
  z.strictObject({ every: z.string().regex(EVERY, 'must be a step such as 6h').refine(isStep, 'must lie between 5m and 31d') }),
  z.strictObject({
    dailyAt: z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be a time such as 02:30'),
    timeZone: z.string().max(64).refine(isTimeZone, 'must be an IANA time zone such as America/Toronto'),
  }),
])
export type Schedule = z.infer<typeof schedule>

/** The longest time between two due times, in milliseconds. */
export function stepMs(of: Schedule): number {
  return 'every' in of ? everyMs(of.every) : UNIT_MS.d
}

/**
 * The first due time after `afterMs` (a start, or the time the policy began): `every` later, or the next such wall-clock time. A time that
 * a daylight change skips falls on the first minute after the gap; one that it repeats is due once, the first time.
 */
export function nextDue(of: Schedule, afterMs: number): number {
  if ('every' in of) return afterMs + everyMs(of.every)
  const [hour, minute] = of.dailyAt.split(':').map(Number) as [number, number]
  const day = partsIn(of.timeZone, afterMs)
  for (let ahead = 0; ahead <= 2; ahead++) {
    const due = wallTime(of.timeZone, utc(day) + ahead * UNIT_MS.d + hour * UNIT_MS.h + minute * UNIT_MS.m)
    if (due > afterMs) return due
  }
  return afterMs + UNIT_MS.d
}

function isStep(text: string): boolean {
  if (!EVERY.test(text)) return false
  const ms = everyMs(text)
  return ms >= 5 * UNIT_MS.m && ms <= 31 * UNIT_MS.d
}

/** When a policy that never ran is due: at once where it goes by steps, so that nothing stays unprotected for a first step; else at its time of day. */
export function firstDue(of: Schedule, sinceMs: number): number {
  return 'every' in of ? sinceMs : nextDue(of, sinceMs)
}

function everyMs(text: string): number {
  const match = EVERY.exec(text)
  return match === null ? UNIT_MS.d : Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS]
}

function isTimeZone(zone: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: zone }).resolvedOptions().timeZone !== ''
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}

/** The instant at which clocks in `zone` first show the wall-clock time that `asUtc` spells when it is read as UTC. */
function wallTime(zone: string, asUtc: number): number {
  const before = asUtc - offsetAt(zone, asUtc - UNIT_MS.d)
  const after = asUtc - offsetAt(zone, asUtc + UNIT_MS.d)
  const [early, late] = before < after ? [before, after] : [after, before]
  if (early + offsetAt(zone, early) === asUtc) return early
  if (late + offsetAt(zone, late) === asUtc) return late
  // Skipped by a change: find the change itself, which is the first minute after the gap.
  let low = early
  let high = late
  const offset = offsetAt(zone, low)
  while (high - low > UNIT_MS.m) {
    const middle = low + Math.floor((high - low) / 2 / UNIT_MS.m) * UNIT_MS.m
    if (offsetAt(zone, middle) === offset) low = middle
    else high = middle
  }
  return high
}

/** How far clocks in `zone` are ahead of UTC at an instant, in milliseconds. */
function offsetAt(zone: string, ms: number): number {
  const p = partsIn(zone, ms)
  return utc(p) + p.hour * UNIT_MS.h + p.minute * UNIT_MS.m + p.second * 1000 - Math.floor(ms / 1000) * 1000
}

/** Midnight of a Gregorian day, read as UTC, in milliseconds since 1970 (days by the civil calendar, years from 1970). */
function utc(day: { year: number; month: number; day: number }): number {
  const year = day.month <= 2 ? day.year - 1 : day.year
  const yearOfEra = year % 400
  const dayOfYear = Math.floor((153 * (day.month + (day.month > 2 ? -3 : 9)) + 2) / 5) + day.day - 1
  const days = Math.floor(year / 400) * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return (days - 719_468) * UNIT_MS.d
}

const formats = new Map<string, Intl.DateTimeFormat>()

function partsIn(zone: string, ms: number): Record<'year' | 'month' | 'day' | 'hour' | 'minute' | 'second', number> {
  let format = formats.get(zone)
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
    formats.set(zone, format)
  }
  const found = { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 }
  for (const part of format.formatToParts(ms)) {
    if (Object.hasOwn(found, part.type)) found[part.type as keyof typeof found] = Number(part.value)
  }
  return found
}
