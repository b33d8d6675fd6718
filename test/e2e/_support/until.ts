// Waiting in tests of real processes: a condition is looked at again and again until it holds; what never comes true fails by name.
import { systemClock } from '@holdfast/shared/clock.ts'

export type UntilOptions = {
  /** How long at most; far beyond what is expected, since other work may share the machine. */
  readonly withinMs?: number
  /** How often the condition is looked at. */
  readonly everyMs?: number
}

/** Resolves with the first answer of `look` that is neither false nor undefined; what `look` throws ends the wait. */
export async function until<T>(
  what: string,
  look: () => Promise<T | false | undefined> | T | false | undefined,
  { withinMs = 90_000, everyMs = 25 }: UntilOptions = {},
): Promise<T> {
  const deadline = systemClock.monotonicMs() + withinMs
  for (;;) {
    const found = await look()
    if (found !== false && found !== undefined) return found
    if (systemClock.monotonicMs() > deadline) throw new Error(`this did not come true within ${withinMs / 1000} s: ${what}`)
    await systemClock.sleep(everyMs)
  }
}
