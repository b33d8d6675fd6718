// The synchronous form: the caller reads a file straight into the chunker's memory and asks where the next chunk ends. No copy,
// no allocation per call, and no state between calls, so that one chunker serves one file after another.
import { createKernel } from './kernel.ts'
import type { Kernel } from './kernel.ts'
import { LARGEST_BUFFER, planOf, requireInteger, WINDOW } from './options.ts'
import type { ChunkingOptions, Plan } from './options.ts'

/** Options of a chunker: those of the chunking, and the size of its memory. */
export type ChunkerOptions = ChunkingOptions & {
  /** At least `max` (or `size`), at most 1 GiB; twice `max` unless told. */
  readonly bufferBytes?: number
}

/** Finds the ends of chunks in its own memory. Not to be shared between threads. */
export interface Chunker {
  /** The chunker's memory. It never moves or grows: read into it, and keep views of it as long as you like. */
  readonly buffer: Uint8Array
  /** No chunk but the last of an input is shorter. */
  readonly min: number
  /** No chunk is longer. */
  readonly max: number
  /**
   * The end offset of the chunk that starts at `start`, given that buffer[start, end) holds the input from there on and that `final`
   * says whether the input ends at `end`. -1 when that cannot be said yet (read more, or move the bytes to the front and read
   * more), or when the input is over (`final` and start = end). A chunk never depends on where it lies in the buffer.
   * `searched`: after a -1, that call's end - start, so that the same bytes are not searched again; a value kept from another
   * chunk would miss cuts. Throws RangeError for offsets outside the buffer and for a `searched` beyond end - start.
   */
  nextCut(start: number, end: number, final: boolean, searched?: number): number
  /**
   * The first candidate p with first <= p <= last, or -1: a place where content allows a cut, whatever came before its last 64 bytes.
   * For `selectCuts` and `isAnchor`. In fixed mode there is none. Throws RangeError when first < 64 or last is outside the buffer.
   */
  nextCandidate(first: number, last: number): number
}

/** Makes a chunker. Throws TypeError or RangeError, naming the option, what was given and what is allowed. */
export function createChunker(options: ChunkerOptions): Chunker {
  return chunkerOf(planOf(options), options.bufferBytes)
}

/** As `createChunker`, for options that are checked already. */
export function chunkerOf(plan: Plan, bufferBytes: number = Math.min(2 * plan.max, LARGEST_BUFFER)): Chunker {
  const bytes = requireInteger('bufferBytes', bufferBytes, plan.max, LARGEST_BUFFER)
  return plan.mode === 'fixed' ? fixedChunker(plan.max, bytes) : contentChunker(plan, createKernel(plan.table, plan.threshold, bytes))
}

function contentChunker({ min, max }: { min: number; max: number }, { buffer, find }: Kernel): Chunker {
  return {
    buffer,
    min,
    max,
    nextCut(start, end, final, searched = 0) {
      requireRange(start, end, buffer.length)
      if (searched !== 0) requireInteger('searched', searched, 0, end - start)
      // The largest length that may be tested: a candidate at `max` and the forced cut there are the same cut.
      const last = Math.min(end, start + max)
      // Bytes before min - 64 are never looked at. A candidate at length `searched` was found or ruled out by the earlier call.
      const first = start + Math.max(min, searched + 1)
      if (first <= last) {
        const cut = find(first, last)
        if (cut !== -1) return cut
      }
      if (last - start === max) return last
      return final && end > start ? end : -1
    },
    nextCandidate(first, last) {
      requireRange(first, last, buffer.length)
      if (first < WINDOW)
        throw new RangeError(`a candidate needs ${WINDOW} bytes before it: first must be at least ${WINDOW}, not ${first}`)
      return find(first, last)
    },
  }
}

function fixedChunker(size: number, bytes: number): Chunker {
  const buffer = new Uint8Array(bytes)
  return {
    buffer,
    min: size,
    max: size,
    nextCut(start, end, final) {
      requireRange(start, end, buffer.length)
      if (end - start >= size) return start + size
      return final && end > start ? end : -1
    },
    nextCandidate(first, last) {
      requireRange(first, last, buffer.length)
      return -1
    },
  }
}

function requireRange(from: number, to: number, length: number): void {
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || from > to || to > length) {
    throw new RangeError(`offsets ${from} to ${to} are not a range of the buffer of ${length} bytes`)
  }
}
