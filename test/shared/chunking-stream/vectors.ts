// The golden vectors of chunking-stream and the inputs they name. test/vectors/chunking.json was written once by write-vectors.ts
// from the reference; stored repositories depend on it, so it never changes.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** An input is its parts, one after another: bytes of SHAKE256 over the seed, or one byte repeated. */
export type Part = { readonly seed: string; readonly length: number } | { readonly byte: number; readonly length: number }

export interface Sizes {
  readonly min: number
  readonly mean: number
  readonly max: number
}

export interface Vectors {
  readonly key: string
  /** For a spread (mean - min): SHA-256 of the table's entries as u64 big-endian, and its first two entries. */
  readonly tables: readonly { readonly spread: number; readonly sha256: string; readonly first: readonly string[] }[]
  readonly cases: readonly { readonly sizes: Sizes; readonly input: readonly Part[]; readonly cuts: readonly number[] }[]
  /** Cuts of a run of `length` equal bytes, the same for each of the 256 bytes. */
  readonly runs: readonly { readonly sizes: Sizes; readonly length: number; readonly cuts: readonly number[] }[]
  readonly fixed: readonly { readonly size: number; readonly length: number; readonly cuts: readonly number[] }[]
}

export const VECTORS_FILE = new URL('../../vectors/chunking.json', import.meta.url)

export function readVectors(): Vectors {
  return JSON.parse(readFileSync(VECTORS_FILE, 'utf8')) as Vectors
}

export function seededBytes(seed: string, length: number): Uint8Array {
  if (length === 0) return new Uint8Array(0)
  return createHash('shake256', { outputLength: length }).update(seed).digest()
}

export function inputOf(parts: readonly Part[]): Uint8Array {
  return Buffer.concat(parts.map((part) => ('seed' in part ? seededBytes(part.seed, part.length) : Buffer.alloc(part.length, part.byte))))
}

export function tableDigest(table: BigUint64Array): string {
  const bytes = Buffer.alloc(table.length * 8)
  table.forEach((entry, i) => bytes.writeBigUInt64BE(entry, i * 8))
  return createHash('sha256').update(bytes).digest('hex')
}
