// A clock that a test moves by hand; sleepers wake when it passes their time.
import type { Clock } from '@holdfast/shared/clock.ts'

export class TestClock implements Clock {
  #now: number
  readonly #start: number
  readonly #sleepers = new Set<{ until: number; wake: () => void }>()

  constructor(now = 1_800_000_000_000) {
    this.#now = now
    this.#start = now
  }

  now(): number {
    return this.#now
  }

  monotonicMs(): number {
    return this.#now - this.#start
  }

  get sleeping(): number {
    return this.#sleepers.size
  }

  /** Moves time on and wakes who waited for it. */
  advance(ms: number): void {
    this.#now += ms
    for (const sleeper of [...this.#sleepers]) if (sleeper.until <= this.#now) sleeper.wake()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      // No time is no wait: only a turn of the event loop.
      if (ms <= 0) {
        setImmediate(resolve)
        return
      }
      const abort = (): void => {
        this.#sleepers.delete(sleeper)
        reject(signal?.reason)
      }
      const sleeper = {
        until: this.#now + ms,
        wake: () => {
          this.#sleepers.delete(sleeper)
          signal?.removeEventListener('abort', abort)
          resolve()
        },
      }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', abort, { once: true })
    })
  }
}
