// Which packs are read today, so that every pack is read within a set number of days. Pure. Each pack has its day in a cycle, from its random name;
// a small local record of what was read makes up for days on which nothing ran. The record may be lost at any time: the days of the cycle stay the
// same without it, so where a check runs every day the promise holds with no record at all.

const DAY_MS = 86_400_000

/** Whole days since 1970, UTC. */
export function dayOf(ms: number): number {
  return Math.floor(ms / DAY_MS)
}

/** What is remembered of a pack: the day on which it was last read whole, or first seen; and whether it was found damaged then. */
export type PackMemory = { readonly day: number; readonly read: boolean; readonly damaged: boolean }

/**
 * The cycle is a day shorter than what is promised: two runs that are a day apart can miss midnight by nearly a day, and a pack is read within `days`
 * days all the same.
 */
export function cycleOf(days: number): number {
  return Math.max(1, days - 1)
}

/** The last day up to `today` on which the cycle has this pack. */
export function lastTurn(random: string, days: number, today: number): number {
  const cycle = cycleOf(days)
  const slot = Number.parseInt(random.slice(2, 14), 16) % cycle
  return today - ((((today - slot) % cycle) + cycle) % cycle)
}

/**
 * Whether a pack is to be read today. One that was found damaged is, every time: damage must not be told on one day and be silent on the next. A
 * memory from the future is none: the clock was wrong when it was made.
 */
export function isDue(random: string, memory: PackMemory | undefined, days: number, today: number): boolean {
  const turn = lastTurn(random, days, today)
  if (memory?.damaged === true) return true
  if (memory === undefined || memory.day > today) return turn === today
  return memory.read ? memory.day < turn : memory.day <= turn
}

/** Which of `t` shares a pack belongs to, from 1: by its random name, so that shares are even and stay the same. */
export function shareOf(random: string, t: number): number {
  return (Number.parseInt(random.slice(2, 14), 16) % t) + 1
}
