// Reads blobs out of packs: few ranged reads, rounded out to whole blocks so that a store learns little about what was wanted, each segment
// opened once while it stays in the cache, every blob checked against its id. An id may stand in several places: all are tried before a
// blob is given up, and "could not be read" is never mistaken for "is damaged" (reference bug B21).
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { segmentKeyOf } from '../keys/domain.ts'
import type { ReadKeys, StructureKeys } from '../keys/keys.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { blake3 } from './blake3.ts'
import { ByteCache } from './byte-cache.ts'
import type { PackRow } from './index-file.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { release } from './release.ts'
import { openSegment, SEGMENT_KIND } from './segment.ts'
import { type DecodedNode, type DecodedReferences, decodeNode, decodeReferences, nodeHasher } from './tree.ts'
import type { BlobLocation, BlobPart, View } from './view.ts'

/** Ranged reads begin and end on multiples of this. */
export const BLOCK_BYTES = 256 * 1024
/** Segments of one pack are read together while the read stays under this. */
const READ_BYTES = 1 * 2 ** 20
/** Reads that are this close to each other become one. */
const GAP_BYTES = 2 * BLOCK_BYTES
const READS_IN_FLIGHT = 2
const WINDOW_CACHE_BYTES = 8 * 2 ** 20
const SEGMENT_CACHE_BYTES = 8 * 2 ** 20

/** Where blobs stand by the footers of all packs; `unread` where one was not given, so that what is not found may yet be there. */
export type ByFooters = { readonly view: View; readonly unread: HoldfastError | undefined }

export type PackReader = {
  /** All places of a blob, as the view has them. */
  readonly locate: (id: string, part: BlobPart) => BlobLocation[]
  /** A chunk, checked against its id. Valid as long as it is held; shares memory with the segment it stood in. */
  readonly readChunk: (id: string, signal?: AbortSignal) => Promise<Buffer>
  /** A tree node from both parts, checked against its id. */
  readonly readNode: (id: string, signal?: AbortSignal) => Promise<DecodedNode>
  /** The references of a tree node: needs the structure key alone. */
  readonly readReferences: (id: string, signal?: AbortSignal) => Promise<DecodedReferences>
  /**
   * The sealed bytes of segments in few reads, in the order asked for; where one could not be had, the error in its place (`damaged`,
   * `not-found`, or that of the store). The bytes are the caller's alone, to hand over or release. Rejects only with `cancelled`.
   */
  readonly fetchSealed: (places: readonly BlobLocation[], signal?: AbortSignal) => Promise<(Buffer | HoldfastError)[]>
  /** The key of the segment of a place. Throws `grant-required` where these keys do not reach it. */
  readonly keyOf: (place: BlobLocation) => Buffer
}

/** True for errors that say something about the bytes; all others say that nobody could look. */
export function isVerdict(error: unknown): error is HoldfastError {
  return isHoldfastError(error, 'damaged', 'not-found', 'grant-required', 'wrong-key', 'newer-format')
}

/** The error of a blob of which every copy failed: that nobody could look comes first, then a missing key, then damage. */
function worst(errors: readonly HoldfastError[], what: string): HoldfastError {
  const rank = (error: HoldfastError): number =>
    !isVerdict(error) ? 0 : error.code === 'grant-required' ? 1 : error.code === 'wrong-key' ? 2 : error.code === 'damaged' ? 3 : 4
  const first = errors.toSorted((a, b) => rank(a) - rank(b))[0]
  // A pack that an index file names and the store lacks is damage, not a thing that nobody ever stored.
  if (first?.code === 'not-found') return new HoldfastError('damaged', `${what} is lost: ${first.message}`, { cause: first })
  return (
    first ??
    new HoldfastError('not-found', `${what} is in no index file: run 'holdfast check', which also looks for it in the packs themselves`)
  )
}

export type PlannedRead = { readonly offset: number; readonly length: number; readonly members: readonly number[] }

/** Which ranges to read for segments of one pack; `members` are positions in `segments`. Pure. */
export function planReads(segments: readonly { offset: number; sealedBytes: number }[], packBytes: number): PlannedRead[] {
  const order = segments.map((_, i) => i).sort((a, b) => segments[a]!.offset - segments[b]!.offset)
  const reads: { offset: number; end: number; members: number[] }[] = []
  for (const member of order) {
    const segment = segments[member]!
    const offset = Math.floor(segment.offset / BLOCK_BYTES) * BLOCK_BYTES
    const end = Math.min(Math.ceil((segment.offset + segment.sealedBytes) / BLOCK_BYTES) * BLOCK_BYTES, packBytes)
    const last = reads.at(-1)
    if (last !== undefined && offset <= last.end + GAP_BYTES && Math.max(end, last.end) - last.offset <= READ_BYTES) {
      last.end = Math.max(end, last.end)
      last.members.push(member)
    } else reads.push({ offset, end, members: [member] })
  }
  return reads.map(({ offset, end, members }) => ({ offset, length: end - offset, members }))
}

const segmentName = (place: BlobLocation): string => `${place.pack.random}/${place.segment.offset}`

/**
 * A reader over one view. Without `keys` it reads references alone; chunks and private parts are then refused with `grant-required`.
 * Holds at most about 16 MiB.
 */
export function createPackReader(options: {
  store: Pick<Store, 'getRange'>
  structure: StructureKeys
  view: View
  keys?: ReadKeys | undefined
  /** Where blobs stand by the footers of all packs: asked for once, when the view leads to no copy of a blob. Index files can be lost, and can lie. */
  footers?: ((signal?: AbortSignal) => Promise<ByFooters>) | undefined
  cacheBytes?: number
}): PackReader {
  const { store, structure, view, keys } = options
  const nodes = nodeHasher(structure.treeIdKey)
  const chunks = blake3.keyed(structure.idKey)
  const windows = new ByteCache<{ offset: number; bytes: Buffer }>(WINDOW_CACHE_BYTES, ({ bytes }) => release(bytes))
  const opened = new ByteCache<Buffer>(options.cacheBytes ?? SEGMENT_CACHE_BYTES)
  const opening = new Map<string, Promise<Buffer>>()

  const keyOf = (place: BlobLocation): Buffer => {
    const { segment, session } = place
    if (segment.kind === SEGMENT_KIND.references) {
      const key = structure.structureKey(segment.epoch)
      if (key === undefined)
        throw new HoldfastError('wrong-key', `structure key ${segment.epoch} is not at hand: fetch a new domain bundle`)
      return segmentKeyOf(key, segment.segmentId)
    }
    const key = session === undefined ? undefined : keys?.segmentKey(session, segment.segmentId)
    if (key === undefined)
      throw new HoldfastError(
        'grant-required',
        'the keys at hand do not open what is to be read: ask the key holder for a grant that covers it',
      )
    return key
  }

  /** The last window read of each pack, where the next segments of a walk in order usually begin. */
  const fromWindow = (place: BlobLocation): Buffer | undefined => {
    const window = windows.get(place.pack.random)
    if (window === undefined) return undefined
    const from = place.segment.offset - window.offset
    if (from < 0 || from + place.segment.sealedBytes > window.bytes.length) return undefined
    return ownCopy(window.bytes, from, place.segment.sealedBytes)
  }

  const tasksFor = (
    pack: PackRow,
    places: readonly { place: BlobLocation; at: number }[],
    results: (Buffer | HoldfastError)[],
    signal?: AbortSignal,
  ): (() => Promise<void>)[] => {
    const segments = places.map(({ place }) => place.segment)
    return planReads(segments, pack.bytes).map((read) => async () => {
      const bytes = await rangeOf(store, pack, read, signal)
      for (const member of read.members) {
        const { at } = places[member]!
        const segment = segments[member]!
        if (Buffer.isBuffer(bytes)) results[at] = ownCopy(bytes, segment.offset - read.offset, segment.sealedBytes)
        // A pack that was cut short still has what stands before the cut, and a bad sector spoils what stands on it: ask for the segment itself.
        else if (bytes.code === 'damaged' || bytes.code === 'unread')
          results[at] = await rangeOf(store, pack, { offset: segment.offset, length: segment.sealedBytes }, signal)
        else results[at] = bytes
      }
      // Last: a window is released when another takes its place.
      if (Buffer.isBuffer(bytes)) windows.set(pack.random, { offset: read.offset, bytes }, bytes.length)
    })
  }

  const fetchSealed = async (places: readonly BlobLocation[], signal?: AbortSignal): Promise<(Buffer | HoldfastError)[]> => {
    const results: (Buffer | HoldfastError)[] = Array.from({ length: places.length })
    const byPack = new Map<string, { pack: PackRow; places: { place: BlobLocation; at: number }[] }>()
    for (const [at, place] of places.entries()) {
      const known = fromWindow(place)
      if (known !== undefined) {
        results[at] = known
        continue
      }
      let group = byPack.get(place.pack.random)
      if (group === undefined) byPack.set(place.pack.random, (group = { pack: place.pack, places: [] }))
      group.places.push({ place, at })
    }
    const tasks: (() => Promise<void>)[] = []
    for (const group of byPack.values()) tasks.push(...tasksFor(group.pack, group.places, results, signal))
    let next = 0
    const lane = async (): Promise<void> => {
      for (let i = next++; i < tasks.length; i = next++) await tasks[i]!()
    }
    await Promise.all(Array.from({ length: Math.min(READS_IN_FLIGHT, tasks.length) }, lane))
    return results
  }

  const openPlace = (place: BlobLocation, signal?: AbortSignal): Promise<Buffer> | Buffer => {
    const name = segmentName(place)
    const cached = opened.get(name)
    if (cached !== undefined) return cached
    const running = opening.get(name)
    if (running !== undefined) return running
    const work = (async () => {
      const key = keyOf(place)
      const [sealed] = await fetchSealed([place], signal)
      if (!Buffer.isBuffer(sealed)) throw sealed ?? new HoldfastError('failed', 'a read gave no result')
      const plain = openSegment({ domainId: structure.domainId, segment: place.segment, key, sealed, what: `pack ${place.pack.random}` })
      release(sealed)
      opened.set(name, plain, plain.length)
      return plain
    })().finally(() => opening.delete(name))
    opening.set(name, work)
    return work
  }

  let truth: Promise<ByFooters> | undefined
  /** Places by footers, where every place that the view has was looked at and none is the blob. A missing key is no such thing. Adds to `errors` what was not given. */
  const placesByFooters = async (id: string, part: BlobPart, errors: HoldfastError[], signal?: AbortSignal): Promise<BlobLocation[]> => {
    if (
      options.footers === undefined ||
      errors.some((error) => error.code === 'grant-required' || (error.code !== 'unread' && !isVerdict(error)))
    )
      return []
    truth ??= options.footers(signal)
    const { view: byFooters, unread } = await truth
    if (unread !== undefined) errors.push(unread)
    return byFooters.locate(id, part)
  }

  /** The first copy that `check` accepts; `check` throws `damaged` for one that is not what the id says. */
  const readBlob = async <T>(id: string, part: BlobPart, check: (bytes: Buffer) => T, signal?: AbortSignal): Promise<T> => {
    const errors: HoldfastError[] = []
    const firstOf = async (places: readonly BlobLocation[]): Promise<{ value: T } | undefined> => {
      for (const place of places) {
        try {
          const plain = await openPlace(place, signal)
          if (place.offset + place.bytes > plain.length)
            throw new HoldfastError('damaged', `pack ${place.pack.random} is damaged: an index file points outside of a segment`)
          return { value: check(plain.subarray(place.offset, place.offset + place.bytes)) }
        } catch (error) {
          if (!isHoldfastError(error) || error.code === 'cancelled') throw error
          errors.push(error)
        }
      }
      return undefined
    }
    const found = (await firstOf(view.locate(id, part))) ?? (await firstOf(await placesByFooters(id, part, errors, signal)))
    if (found !== undefined) return found.value
    throw worst(errors, part === 'chunk' ? `chunk ${id.slice(0, 16)}` : `tree node ${id.slice(0, 16)}`)
  }

  return {
    locate: (id, part) => view.locate(id, part),
    keyOf,
    fetchSealed,
    readChunk: (id, signal) =>
      readBlob(
        id,
        'chunk',
        (bytes) => {
          if (chunks.hex(bytes) !== id)
            throw new HoldfastError('damaged', `chunk ${id.slice(0, 16)} is damaged: other bytes stand in its place`)
          return bytes
        },
        signal,
      ),
    readReferences: (id, signal) => readBlob(id, 'references', (bytes) => decodeReferences(id, bytes, nodes), signal),
    readNode: async (id, signal) => {
      const references = await readBlob(
        id,
        'references',
        (bytes) => {
          decodeReferences(id, bytes, nodes)
          return bytes
        },
        signal,
      )
      return readBlob(id, 'private', (bytes) => decodeNode(id, { references, private: bytes }, nodes), signal)
    },
  }
}

/** A copy with memory of its own: windows are released, and what is handed to another thread is gone here. */
function ownCopy(bytes: Buffer, from: number, length: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(length)
  bytes.copy(copy, 0, from, from + length)
  return copy
}

/** A ranged read whose failure is a value; only `cancelled` and what is no error of the family are thrown. */
async function rangeOf(
  store: Pick<Store, 'getRange'>,
  pack: PackRow,
  range: { offset: number; length: number },
  signal?: AbortSignal,
): Promise<Buffer | HoldfastError> {
  try {
    return await store.getRange(packName(pack), range, { signal })
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'cancelled') throw error
    return error
  }
}
