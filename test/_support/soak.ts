// Figures of the soak: the same tests with the full numbers, and a line for each figure that the reliability table shows. Without the soak a suite
// takes a rotating share of its cases, chosen by a seed that every failure names.
import { appendFileSync } from 'node:fs'
import { env } from 'node:process'

/** True under `npm run test:soak`: suites run every figure in full. */
export const soak = env['HOLDFAST_SOAK'] === '1'

export type SoakResult = {
  readonly suite: string
  /** What was counted, in words, as the reliability table has it. */
  readonly figure: string
  readonly asked: number
  readonly value: number
  readonly violations: number
  readonly seed: string
  readonly seconds: number
}

/** What each figure of real kills begins with: the soak adds them up. */
export const REAL_KILLS = 'real kills of'

/** Keeps one figure of the soak; does nothing where no file for results is named. */
export function soakResult(result: SoakResult): void {
  const file = env['HOLDFAST_SOAK_RESULTS']
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify(result)}\n`)
}

/** The seed that chooses the share of this run: HOLDFAST_SEED, or the day, so that every day takes another share. */
export function rotatingSeed(): string {
  return env['HOLDFAST_SEED'] ?? new Date().toISOString().slice(0, 10)
}
