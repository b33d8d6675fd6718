// What a caller may ask for, checked once: every limit stands here, and every refusal is a TypeError (wrong kind of value) or a
// RangeError (value outside the limits) whose message says what was given and what is allowed.
import { deriveTable, findConstantRun, TABLE_ENTRIES } from './table.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** A candidate depends on this many bytes before it, and on nothing else. */
export const WINDOW = 64

export const DEFAULT_MIN = 512 * KIB
export const DEFAULT_MEAN = MIB
export const DEFAULT_MAX = 4 * MIB

/** The largest `max`: a chunk must fit into the chunker's memory. */
export const LARGEST_MAX = 256 * MIB
/** The least distance of `mean` from `min`: nearer, and tables without a cut in a constant run become rare. */
export const LEAST_SPREAD = 256

export const DEFAULT_FIXED_SIZE = MIB
export const LEAST_FIXED_SIZE = 256 * KIB
export const LARGEST_FIXED_SIZE = MIB

/** The largest buffer a chunker may be given. */
export const LARGEST_BUFFER = 1024 * MIB

/** Cut where the content says so. Give the `key`, or the `table` that `deriveTable` made of it; sizes are bytes. */
export interface ContentOptions {
  readonly mode?: 'content'
  /** 32 secret bytes: the same key and sizes give the same cuts everywhere. */
  readonly key?: Uint8Array
  /** Instead of `key`: 256 entries; it is copied. */
  readonly table?: BigUint64Array
  /** No chunk but the last of an input is shorter. 512 KiB unless told. */
  readonly min?: number
  /** The mean on random data, before `max` is applied. 1 MiB unless told. */
  readonly mean?: number
  /** No chunk is longer. 4 MiB unless told. */
  readonly max?: number
}

/** Cut every `size` bytes: for disk images, whose blocks change in place and never move. */
export interface FixedOptions {
  readonly mode: 'fixed'
  /** 256 KiB to 1 MiB; 1 MiB unless told. */
  readonly size?: number
}

export type ChunkingOptions = ContentOptions | FixedOptions

/** Checked options. `threshold` is floor(2^64 / (mean - min)). */
export type Plan =
  | {
      readonly mode: 'content'
      readonly min: number
      readonly mean: number
      readonly max: number
      readonly threshold: bigint
      readonly table: BigUint64Array
    }
  | { readonly mode: 'fixed'; readonly max: number }

/** The share of all states that are candidates, as the bound under which a state is one. */
export function thresholdOf(min: number, mean: number): bigint {
  return (1n << 64n) / BigInt(mean - min)
}

/** Checks `value`; throws TypeError for what is no number and RangeError for what is no integer from `least` to `most`. */
export function requireInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number') throw new TypeError(`${name} must be a number of bytes, not ${typeof value}`)
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`)
  }
  return value
}

/** Checks options and derives the table. Throws TypeError or RangeError. */
export function planOf(options: ChunkingOptions): Plan {
  if (typeof options !== 'object' || options === null) throw new TypeError('chunking options must be an object')
  if (options.mode === 'fixed') {
    return { mode: 'fixed', max: requireInteger('size', options.size ?? DEFAULT_FIXED_SIZE, LEAST_FIXED_SIZE, LARGEST_FIXED_SIZE) }
  }
  if (options.mode !== undefined && options.mode !== 'content') {
    throw new RangeError(`mode must be 'content' or 'fixed', not ${JSON.stringify(options.mode)}`)
  }
  const min = requireInteger('min', options.min ?? DEFAULT_MIN, WINDOW, LARGEST_MAX)
  const mean = requireInteger('mean', options.mean ?? DEFAULT_MEAN, min + LEAST_SPREAD, LARGEST_MAX)
  const max = requireInteger('max', options.max ?? DEFAULT_MAX, mean, LARGEST_MAX)
  const threshold = thresholdOf(min, mean)
  return { mode: 'content', min, mean, max, threshold, table: tableOf(options, threshold) }
}

function tableOf({ key, table }: ContentOptions, threshold: bigint): BigUint64Array {
  if (key !== undefined && table !== undefined) throw new TypeError('give key or table, not both')
  if (key !== undefined) return deriveTable(key, threshold)
  if (table === undefined) throw new TypeError('content-defined chunking needs a key of 32 bytes (or a table made of one)')
  if (!(table instanceof BigUint64Array)) throw new TypeError('table must be a BigUint64Array')
  if (table.length !== TABLE_ENTRIES) throw new RangeError(`table must have ${TABLE_ENTRIES} entries, not ${table.length}`)
  const byte = findConstantRun(table, threshold)
  if (byte !== -1) throw new RangeError(`table does not fit these sizes: a run of byte ${byte} would be cut everywhere; derive another`)
  return table.slice()
}
