// When and how long to wait before a request is tried again: exponential with full jitter, so that many agents that
// failed together do not come back together. (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
import type { Clock } from '../clock.ts'
import type { Random } from '../random.ts'
import { randomBelow } from '../random.ts'

export type RetryPolicy = {
  /** Tries in all, the first one included. */
  readonly attempts: number
  readonly baseMs: number
  readonly capMs: number
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 8, baseMs: 200, capMs: 20_000 }

/** Milliseconds to wait after try number `attempt` (from 1) failed; never less than the store asked for, within the cap. */
export function backoffMs(policy: RetryPolicy, attempt: number, random: Random, askedMs = 0): number {
  const ceiling = Math.min(policy.capMs, policy.baseMs * 2 ** Math.min(attempt - 1, 30))
  return Math.max(randomBelow(random, Math.max(1, Math.floor(ceiling))), Math.min(askedMs, policy.capMs))
}

/** Paces uploads to a rate shared by all of a store's transfers: each taker waits until its bytes are due. */
export class RateLimit {
  readonly #clock: Clock
  readonly #bytesPerSecond: number
  #free = 0

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock
    this.#bytesPerSecond = bytesPerSecond
  }

  /** How much to send at once, so that a slow rate still shows progress several times a second. */
  chunkBytes(most: number): number {
    return Math.min(most, Math.max(4096, Math.floor(this.#bytesPerSecond / 4)))
  }

  /** Resolves when `bytes` may be sent; rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const now = this.#clock.monotonicMs()
    const due = Math.max(now, this.#free)
    this.#free = due + (bytes / this.#bytesPerSecond) * 1000
    if (due > now) await this.#clock.sleep(due - now, signal)
  }
}
