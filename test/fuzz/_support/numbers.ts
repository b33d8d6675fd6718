// Numbers from a seed, fast and the same on every machine: what the fuzzer chooses by.
import { createHash } from 'node:crypto'

export type Numbers = {
  /** 0 to `bound` - 1. */
  readonly below: (bound: number) => number
  /** True once in `n`. */
  readonly oneIn: (n: number) => boolean
  readonly pick: <T>(from: readonly T[]) => T
}

/** The generator sfc32 (public domain, PractRand), which passes every test and needs no more than 32-bit additions and shifts. */
export function numbersOf(seed: string): Numbers {
  const start = createHash('sha256').update(seed).digest()
  let [a, b, c, d] = [start.readInt32LE(0), start.readInt32LE(4), start.readInt32LE(8), 1]
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return t >>> 0
  }
  for (let i = 0; i < 12; i++) next()
  const below = (bound: number): number => Math.floor((next() / 2 ** 32) * bound)
  return { below, oneIn: (n) => below(n) === 0, pick: (from) => from[below(from.length)]! }
}
