// Time as a seam: everything that reads a clock or waits takes a Clock, so that tests and the simulation own time.
// This is the only module that touches Date, performance and timers.

export interface Clock {
  /** Wall-clock time in milliseconds since 1970; may jump. */
  now(): number
  /** Milliseconds from an arbitrary start; never goes back. */
  monotonicMs(): number
  /** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const timer = setTimeout(done, ms)
      function done(): void {
        signal?.removeEventListener('abort', abort)
        resolve()
      }
      function abort(): void {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
    }),
}

/** RFC 3339 in UTC with milliseconds, the one form of time in records, API and JSON output. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString()
}

/** Milliseconds since 1970 of a time in the form of `isoTime`, or of an HTTP date; NaN where the text is none. */
export function parseTime(iso: string): number {
  return Date.parse(iso)
}
