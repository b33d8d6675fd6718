// An entry of the register. Where several defences stand against a bug, the plant takes as many as it needs for data to be lost.
import type { Change } from './plant.ts'

export type PlantedBug = {
  readonly id: string
  /** What went wrong elsewhere. */
  readonly title: string
  /** How it is planted here, in words. */
  readonly how: string
  readonly plants: readonly Change[]
  /** What is hostile in the scenario itself and stands in the code, so that it is there without the plant too. */
  readonly given?: readonly Change[]
  /** The scenario: its file in `scenarios/`, and its function there. */
  readonly caughtBy: string
  /** What it says when it catches the bug. */
  readonly says: RegExp
}
