// What inputs reached so far: for each branch, how often it was taken in one run, in eight steps, since a loop that ran twice is another case
// than one that ran a thousand times.
import { branchCount, counters, modules } from './counters.ts'

const words = new Uint32Array(counters.buffer)

/** 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, and more: a bit each. */
const stepOf = Uint8Array.from({ length: 256 }, (_, n) => {
  if (n < 4) return [0, 1, 2, 4][n]!
  if (n < 8) return 8
  if (n < 16) return 16
  if (n < 32) return 32
  return n < 128 ? 64 : 128
})

export class Coverage {
  readonly #seen = new Uint8Array(counters.length)

  /** Takes in what was counted since the last call, which is then forgotten. True where any of it is new. */
  take(): boolean {
    let isNew = false
    forEachTaken((branch, step) => {
      if ((this.#seen[branch]! & step) !== 0) return
      this.#seen[branch]! |= step
      isNew = true
    })
    return isNew
  }

  /** Branches reached of those in the named modules; a module that was not loaded is an error of the target. */
  reachedIn(paths: readonly string[]): { reached: number; of: number } {
    let [reached, of] = [0, 0]
    for (const path of paths) {
      const module = modules.get(path)
      if (module === undefined) throw new Error(`${path} is not among the modules that were loaded`)
      for (let branch = module.from; branch < module.to; branch++) if (this.#seen[branch] !== 0) reached++
      of += module.to - module.from
    }
    return { reached, of }
  }
}

/** What was counted since the last call, as numbers that stand for a branch and a step. */
export function takenFeatures(): number[] {
  const features: number[] = []
  forEachTaken((branch, step) => features.push(branch * 256 + step))
  return features
}

function forEachTaken(tell: (branch: number, step: number) => void): void {
  const end = Math.ceil(branchCount() / 4)
  for (let word = 0; word < end; word++) {
    if (words[word] === 0) continue
    for (let branch = word * 4; branch < word * 4 + 4; branch++) if (counters[branch] !== 0) tell(branch, stepOf[counters[branch]!]!)
    words[word] = 0
  }
}

/** The literals in the named modules. */
export function wordsOf(paths: readonly string[]): string[] {
  return [...new Set(paths.flatMap((path) => modules.get(path)?.words ?? []))]
}
