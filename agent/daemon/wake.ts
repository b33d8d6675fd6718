// Lets a waiting loop go on before its time: for news, or for the end.
import type { Clock } from '@holdfast/shared/clock.ts'

export type Wake = {
  /** Ends the wait under way, or the next one. */
  readonly now: () => void
  /** Waits until `ms` are over, `now` was called, or the signal aborts; never rejects. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
}

export function wake(clock: Clock): Wake {
  let isDue = false
  let current: AbortController | undefined
  return {
    now: () => {
      isDue = true
      current?.abort()
    },
    wait: async (ms, signal) => {
      if (!isDue && !signal.aborted) {
        const waiting = new AbortController()
        current = waiting
        const stop = (): void => waiting.abort()
        signal.addEventListener('abort', stop, { once: true })
        await clock.sleep(ms, waiting.signal).catch((error: unknown) => {
          if (!waiting.signal.aborted) throw error
        })
        signal.removeEventListener('abort', stop)
        current = undefined
      }
      isDue = false
    },
  }
}
