// Faults of a line, chosen by a seed: about every second connection is harmed, at a byte that is as often among the first as far in.
import type { Fault } from '../../_support/faulty-proxy.ts'

const KINDS = ['cut', 'reset', 'half-close', 'delay', 'throttle'] as const

/** A fault for the next connection, of up to about `reach` bytes in. Never a black hole: that is told from a slow line only by waiting. */
export function randomFault(next: () => number, reach: number): Fault {
  if (next() % 2 === 0) return { kind: 'none' }
  const kind = KINDS[next() % KINDS.length]!
  const answers = next() % 2 === 0
  if (kind === 'delay') return { kind, ms: 1 + (next() % 40) }
  // A few bytes at a time of what is short; a long body would take all day.
  if (kind === 'throttle') return { kind, bytes: Math.max(7, reach >> 6), everyMs: 2, answers }
  return { kind, atByte: Math.floor(2 ** (((next() % 1000) / 1000) * Math.log2(reach))), answers }
}
