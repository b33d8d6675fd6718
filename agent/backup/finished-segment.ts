// A sealed segment on its way from a worker to a pack: plain data that crosses threads, its bytes moved, not copied.
import { blake3Hash } from '../repository/blake3.ts'
import type { BlobInSegment } from '../repository/pack.ts'
import type { Codec, SealedSegment, SegmentKind } from '../repository/segment.ts'

export type FinishedSegment = {
  /** Unique in the run; what the table of known ids names. */
  readonly number: number
  readonly kind: SegmentKind
  readonly codec: Codec
  readonly epoch: number
  readonly plainBytes: number
  readonly segmentId: Uint8Array
  readonly sealedHash: Uint8Array
  readonly bytes: Uint8Array
  /** For each blob: id 32, length u32. */
  readonly blobs: Uint8Array
}

const ROW = 36

export function finishSegment(
  number: number,
  sealed: SealedSegment,
  bytes: Buffer,
  ids: readonly string[],
  lengths: readonly number[],
): FinishedSegment {
  const blobs = Buffer.allocUnsafeSlow(ids.length * ROW)
  for (const [i, id] of ids.entries()) {
    blobs.write(id, i * ROW, 'hex')
    blobs.writeUInt32LE(lengths[i]!, i * ROW + 32)
  }
  const { kind, codec, epoch, plainBytes, segmentId } = sealed
  return { number, kind, codec, epoch, plainBytes, segmentId, sealedHash: blake3Hash(bytes), bytes, blobs }
}

export function blobsOf(segment: FinishedSegment): BlobInSegment[] {
  const rows = Buffer.from(segment.blobs.buffer, segment.blobs.byteOffset, segment.blobs.length)
  return Array.from({ length: rows.length / ROW }, (_, i) => ({
    id: rows.toString('hex', i * ROW, i * ROW + 32),
    bytes: rows.readUInt32LE(i * ROW + 32),
  }))
}
