// How long to wait before trying again: doubling, with jitter so that a fleet does not come back all at once, never past a ceiling.
import type { Random } from '@holdfast/shared/random.ts'
import { randomBelow } from '@holdfast/shared/random.ts'

export type Backoff = {
  /** Milliseconds to wait after one more failure; at least what the server asked for, where it did. */
  readonly next: (askedMs?: number) => number
  readonly reset: () => void
}

/** Starts at about `firstMs`; between a half and the whole of the step is waited. */
export function backoff(random: Random, options: { firstMs: number; mostMs: number }): Backoff {
  let failures = 0
  return {
    next: (askedMs = 0) => {
      const step = Math.min(options.mostMs, options.firstMs * 2 ** Math.min(failures, 30))
      failures++
      return Math.max(Math.min(askedMs, options.mostMs), step / 2 + randomBelow(random, Math.max(1, Math.ceil(step / 2))))
    },
    reset: () => {
      failures = 0
    },
  }
}
