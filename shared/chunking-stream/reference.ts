// REFERENCE, not the product's path: the same chunking in plain JavaScript, without WebAssembly and without skipping anything, for
// tests and the benchmark to compare with. It shares only the table with the kernel. A 64-bit number is two 32-bit halves.
import type { CutSizes } from './cuts.ts'

/** Every candidate offset of `bytes`, ascending, by the definition: after byte p - 1 the state is under `threshold`, p >= 64. */
export function referenceCandidates(bytes: Uint8Array, table: BigUint64Array, threshold: bigint): number[] {
  const high = Uint32Array.from(table, (entry) => Number(entry >> 32n))
  const low = Uint32Array.from(table, (entry) => Number(entry & 0xffff_ffffn))
  const boundHigh = Number(threshold >> 32n)
  const boundLow = Number(threshold & 0xffff_ffffn)
  const found: number[] = []
  let stateHigh = 0
  let stateLow = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0
    const sum = stateLow * 2 + (low[byte] ?? 0)
    stateLow = sum >>> 0
    stateHigh = (stateHigh * 2 + (high[byte] ?? 0) + Math.floor(sum / 0x1_0000_0000)) >>> 0
    if (at + 1 >= 64 && (stateHigh < boundHigh || (stateHigh === boundHigh && stateLow < boundLow))) found.push(at + 1)
  }
  return found
}

/** The chunk ends of `bytes`, written as plainly as the rule: the first candidate at length >= min, else max, else the end. */
export function referenceCuts(bytes: Uint8Array, table: BigUint64Array, threshold: bigint, { min, max }: CutSizes): number[] {
  const candidates = new Set(referenceCandidates(bytes, table, threshold))
  const cuts: number[] = []
  let start = 0
  for (let at = 1; at <= bytes.length; at++) {
    const length = at - start
    if ((length >= min && candidates.has(at)) || length === max || at === bytes.length) {
      cuts.push(at)
      start = at
    }
  }
  return cuts
}
