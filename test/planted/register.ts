// The register of planted bugs: what cost other programs data, how each is planted in ours, and which scenario has to catch it.
import { bugsOfCollection } from './bugs-of-collection.ts'
import { bugsOfStoring } from './bugs-of-storing.ts'
import type { PlantedBug } from './_support/planted-bug.ts'

export type { PlantedBug }

/** In the order of their numbers. */
export const bugs: readonly PlantedBug[] = [...bugsOfStoring, ...bugsOfCollection].sort(
  (a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1)),
)
