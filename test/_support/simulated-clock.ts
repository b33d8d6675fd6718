// A clock that tests own: time passes only when somebody waits for it or moves it.
import type { Clock } from '@holdfast/shared/clock.ts'

type Sleeper = { readonly due: number; readonly wake: () => void }

export type SimulatedClock = Clock & {
  /** Moves time forward and wakes, in order, all who are due. */
  advance(ms: number): void
  /** Steps the wall clock alone, as an administrator or a bad time server does. */
  stepWallClock(ms: number): void
  /** How many wait now. */
  readonly sleepers: number
}

/**
 * `auto`: a sleep of at most `autoMs` passes by itself, at once, taking time with it; longer ones wait for `advance`, so
 * that backoffs run through while time limits do not fire by themselves.
 */
export function simulatedClock(options: { startMs?: number; autoMs?: number } = {}): SimulatedClock {
  let monotonic = 0
  let offset = options.startMs ?? 1_800_000_000_000
  const sleepers = new Set<Sleeper>()
  function advance(ms: number): void {
    const end = monotonic + ms
    for (;;) {
      const next = [...sleepers].filter((s) => s.due <= end).sort((a, b) => a.due - b.due)[0]
      if (next === undefined) break
      monotonic = Math.max(monotonic, next.due)
      sleepers.delete(next)
      next.wake()
    }
    monotonic = end
  }
  return {
    now: () => Math.floor(offset + monotonic),
    monotonicMs: () => monotonic,
    advance,
    stepWallClock(ms) {
      offset += ms
    },
    get sleepers() {
      return sleepers.size
    },
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason)
          return
        }
        const cancel = (): void => {
          sleepers.delete(sleeper)
          reject(signal?.reason)
        }
        const sleeper: Sleeper = {
          due: monotonic + ms,
          wake() {
            signal?.removeEventListener('abort', cancel)
            resolve()
          },
        }
        signal?.addEventListener('abort', cancel, { once: true })
        sleepers.add(sleeper)
        if (ms <= (options.autoMs ?? -1)) queueMicrotask(() => sleepers.has(sleeper) && advance(Math.max(0, sleeper.due - monotonic)))
      })
    },
  }
}
