// A sealed segment on its way from a worker to a pack: plain data that crosses threads, its bytes moved, not copied.
import { blake3 } from '../repository/blake3.ts'
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
  /** The sealed bytes are these two, one after the other. */
  readonly body: Uint8Array
  readonly tag: Uint8Array
  /** For each blob: id 32, length u32. */
  readonly blobs: Uint8Array
}

const ROW = 36
const hasher = blake3.plain()

export function finishSegment(number: number, sealed: SealedSegment, ids: readonly string[], lengths: readonly number[]): FinishedSegment {
  const blobs = Buffer.allocUnsafeSlow(ids.length * ROW)
  for (const [i, id] of ids.entries()) {
    blobs.write(id, i * ROW, 'hex')
    blobs.writeUInt32LE(lengths[i]!, i * ROW + 32)
  }
  const { kind, codec, epoch, plainBytes, segmentId, body, tag } = sealed
  return { number, kind, codec, epoch, plainBytes, segmentId, sealedHash: Buffer.from(hasher.hexOf([body, tag]), 'hex'), body, tag, blobs }
}

export function blobsOf(segment: FinishedSegment): BlobInSegment[] {
  const rows = Buffer.from(segment.blobs.buffer, segment.blobs.byteOffset, segment.blobs.length)
  return Array.from({ length: rows.length / ROW }, (_, i) => ({
    id: rows.toString('hex', i * ROW, i * ROW + 32),
    bytes: rows.readUInt32LE(i * ROW + 32),
  }))
}
