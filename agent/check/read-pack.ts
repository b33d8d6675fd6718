// Reads one pack and says which of its bytes are those that were stored. Without any content key: the hash over everything before the trailer, and
// the hash of every sealed segment. With the keys to read also whether every segment opens to the blobs that its footer names. The pack is read once,
// a few megabytes at a time.
import { NO_REPAIR_MENDS } from './check-types.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ReadKeys, SessionEntry } from '../keys/keys.ts'
import { blake3 } from '../repository/blake3.ts'
import { type OpenedFooter, readFooter } from '../repository/footer-reader.ts'
import { type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { type BlobInSegment, type FooterSegment, TRAILER_BYTES } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'
import { openSegment, SEGMENT_KIND, type SegmentDescription } from '../repository/segment.ts'
import { segmentKeyOf } from '../keys/domain.ts'
import { decodeReferences, nodeHasher } from '../repository/tree.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'

const READ_BYTES = 4 * 2 ** 20

export type PackReading = {
  readonly opened: OpenedFooter
  /** Offsets of the segments whose bytes are not those that were stored, or do not hold what the footer says. */
  readonly bad: ReadonlySet<number>
  /** What is wrong with the pack; undefined where every byte is as it was stored. With no bad segment nothing is lost by it. */
  readonly damage: HoldfastError | undefined
}

/** A segment of which all is known but its bytes. */
export type DescribedSegment = SegmentDescription & { readonly blobs: readonly BlobInSegment[] }

/** Throws `damaged` where a segment does not hold the blobs that are said to be in it, and what the keys say where they do not open it. */
export type SegmentOpener = (segment: DescribedSegment, session: SessionEntry | undefined, sealed: Buffer, what: string) => void

/** Opens segments as a restore would and checks every blob against its id. A node's private part is checked where its reference part is read. */
export function segmentOpener(repository: Repository, keys: ReadKeys | undefined): SegmentOpener {
  const structure = repository.keys
  const chunks = blake3.keyed(structure.idKey)
  const nodes = nodeHasher(structure.treeIdKey)
  const keyOf = (segment: DescribedSegment, session: SessionEntry | undefined): Buffer => {
    const base = segment.kind === SEGMENT_KIND.references ? structure.structureKey(segment.epoch) : undefined
    const key =
      segment.kind === SEGMENT_KIND.references
        ? base && segmentKeyOf(base, segment.segmentId)
        : session && keys?.segmentKey(session, segment.segmentId)
    if (key === undefined) throw new HoldfastError('grant-required', 'the keys at hand do not open a segment')
    return key
  }
  return (segment, session, sealed, what) => {
    const plain = openSegment({ domainId: structure.domainId, segment, key: keyOf(segment, session), sealed, what })
    let offset = 0
    for (const { id, bytes } of segment.blobs) {
      const blob = plain.subarray(offset, (offset += bytes))
      if (segment.kind === SEGMENT_KIND.references) decodeReferences(id, blob, nodes)
      else if (segment.kind === SEGMENT_KIND.chunk && (blob.length !== bytes || chunks.hex(blob) !== id))
        throw new HoldfastError('damaged', `${what} is damaged: chunk ${id.slice(0, 16)} is not what its id says`)
    }
  }
}

/** Throws `damaged` where the footer does not open, `not-found`, or what the store says. */
export async function readPack(
  repository: Repository,
  ref: ObjectRef & { readonly info?: ObjectInfo },
  bytes: number,
  options: { open?: SegmentOpener | undefined; signal?: AbortSignal | undefined; onRead?: (bytes: number) => void },
): Promise<PackReading> {
  const opened = await readFooter(repository, ref, bytes, options.signal)
  const { footer, trailer } = opened
  const what = `pack ${ref.random}`
  const whole = blake3.running()
  const bad = new Set<number>()
  let first: HoldfastError | undefined
  const segments = segmentHashes(footer.segments, options.open !== undefined, (segment, isStored, sealed) => {
    const session = segment.kind === SEGMENT_KIND.references ? undefined : footer.sessions[segment.session]
    try {
      if (!isStored)
        throw new HoldfastError(
          'damaged',
          `${what} is damaged: segment ${footer.segments.indexOf(segment) + 1} of ${footer.segments.length} is not the one that was stored`,
        )
      if (sealed !== undefined) options.open?.(segment, session, sealed, what)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged')) throw error
      first ??= error
      bad.add(segment.offset)
    }
  })
  const end = bytes - TRAILER_BYTES
  for (let offset = 0; offset < end; offset += READ_BYTES) {
    const piece = await repository.store.getRange(
      packName(ref),
      { offset, length: Math.min(READ_BYTES, end - offset) },
      { signal: options.signal },
    )
    options.onRead?.(piece.length)
    whole.update(piece)
    segments(piece)
  }
  const isWhole = whole.digest().equals(trailer.hash)
  if (!isWhole && bad.size === 0)
    first = new HoldfastError('damaged', `${what} is damaged, but in none of its segments: nothing is lost by it. ${NO_REPAIR_MENDS}`)
  return { opened, bad, damage: first }
}

/** Takes the pack's bytes in order and tells of each segment as it ends, with its sealed bytes where they are wanted. */
function segmentHashes(
  segments: readonly FooterSegment[],
  keep: boolean,
  onSegment: (segment: FooterSegment, isStored: boolean, sealed: Buffer | undefined) => void,
): (piece: Buffer) => void {
  let next = 0
  let running = blake3.running()
  let parts: Buffer[] = []
  let left = segments[0]?.sealedBytes ?? 0
  return (piece) => {
    for (let at = 0; at < piece.length && next < segments.length;) {
      const length = Math.min(left, piece.length - at)
      const part = piece.subarray(at, at + length)
      running.update(part)
      if (keep) parts.push(part)
      at += length
      left -= length
      if (left > 0) continue
      const segment = segments[next]!
      onSegment(segment, running.digest().equals(segment.sealedHash), keep ? joined(parts) : undefined)
      next += 1
      parts = []
      running = blake3.running()
      left = segments[next]?.sealedBytes ?? 0
    }
  }
}

function joined(parts: readonly Buffer[]): Buffer {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}
