// Segments, the unit of compression and sealing (FORMAT.md section 6). A sealer belongs to one thread and one base key; it reuses its
// buffers, so what it returns is valid until its next call.
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { segmentIdKey, segmentKeyOf } from '../keys/domain.ts'
import { blake3, type Hasher } from './blake3.ts'
import { FORMAT_VERSION, LIMITS } from '@holdfast/shared/format/layout.ts'
import { release } from './release.ts'
import { type Compressor, compressBound, createDecompressor, type Decompressor } from './zstd.ts'

export const SEGMENT_KIND = { chunk: 1, private: 2, references: 3, snapshot: 4 } as const
export type SegmentKind = (typeof SEGMENT_KIND)[keyof typeof SEGMENT_KIND]
export type Codec = 0 | 1

export const SEAL_BYTES = 16
const NONCE = Buffer.alloc(12)

/** What describes a sealed segment wherever it stands. */
export type SegmentDescription = {
  readonly kind: SegmentKind
  readonly codec: Codec
  readonly epoch: number
  readonly segmentId: Buffer
  readonly sealedBytes: number
  readonly plainBytes: number
}

function associatedData(domainId: Buffer, segment: Pick<SegmentDescription, 'kind' | 'codec' | 'epoch' | 'segmentId'>): Buffer {
  const aad = Buffer.alloc(55)
  aad.writeUInt8(FORMAT_VERSION, 0)
  domainId.copy(aad, 1)
  aad.writeUInt8(segment.kind, 17)
  aad.writeUInt8(segment.codec, 18)
  aad.writeUInt32LE(segment.epoch, 19)
  segment.segmentId.copy(aad, 23)
  return aad
}

export type SealedSegment = SegmentDescription & {
  /** The sealed bytes are these two, one after the other. */
  readonly body: Buffer
  readonly tag: Buffer
  readonly key: Buffer
}

export type SegmentSealer = (plain: Uint8Array, kind: SegmentKind, compress: boolean) => SealedSegment

/** Seals segments under one base key: a session key, or the structure key for reference parts. */
export function createSealer(options: { domainId: Buffer; baseKey: Buffer; epoch: number; compressor: Compressor }): SegmentSealer {
  const { domainId, baseKey, epoch, compressor } = options
  const idHasher: Hasher = blake3.keyed(segmentIdKey(baseKey))
  let scratch = Buffer.allocUnsafeSlow(0)
  const kindAndCodec = Buffer.alloc(2)
  return (plain, kind, compress) => {
    if (plain.length === 0 || plain.length > LIMITS.segmentPlainBytes) throw new RangeError(`a segment cannot hold ${plain.length} bytes`)
    let payload = plain
    let codec: Codec = 0
    if (compress) {
      const bound = compressBound(plain.length)
      if (scratch.length < bound) scratch = Buffer.allocUnsafeSlow(bound)
      const length = compressor.compress(plain, scratch)
      if (length < plain.length - plain.length / 33) {
        payload = scratch.subarray(0, length)
        codec = 1
      }
    }
    kindAndCodec[0] = kind
    kindAndCodec[1] = codec
    const segmentId = Buffer.from(idHasher.hexOf([kindAndCodec, payload]), 'hex')
    const key = segmentKeyOf(baseKey, segmentId)
    const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), NONCE)
    cipher.setAAD(associatedData(domainId, { kind, codec, epoch, segmentId }))
    const body = cipher.update(payload)
    cipher.final()
    return {
      kind,
      codec,
      epoch,
      segmentId,
      key,
      sealedBytes: body.length + SEAL_BYTES,
      plainBytes: plain.length,
      body,
      tag: cipher.getAuthTag(),
    }
  }
}

let threadDecompressor: Decompressor | undefined

type OpenOptions = {
  readonly domainId: Buffer
  readonly segment: SegmentDescription
  readonly key: Buffer
  readonly what: string
  /** Takes a compressed segment's plaintext where it is long enough. */
  readonly into?: Buffer
}

/** Opens a sealed segment. Throws `damaged` naming `what`; the caller checks each blob against its id. */
export function openSegment(options: OpenOptions & { sealed: Uint8Array }): Buffer {
  const { segment, sealed, what } = options
  if (sealed.length !== segment.sealedBytes || sealed.length < SEAL_BYTES || segment.plainBytes > LIMITS.segmentPlainBytes)
    throw new HoldfastError('damaged', `${what} is damaged: a segment has the wrong length`)
  return openParts(options, sealed.subarray(0, sealed.length - SEAL_BYTES), sealed.subarray(sealed.length - SEAL_BYTES))
}

/**
 * Opens a segment that was just sealed and compares it with what went in (design section 3, point 9: peers lost data to a lying codec and to bad
 * memory, B13). Throws `failed` where they differ.
 */
export function requireOpens(domainId: Buffer, sealed: SealedSegment, plain: Uint8Array, into?: Buffer): void {
  const what = 'a segment just sealed'
  const again = openParts(
    { domainId, segment: sealed, key: sealed.key, what, ...(into === undefined ? {} : { into }) },
    sealed.body,
    sealed.tag,
  )
  if (!again.equals(plain))
    throw new HoldfastError(
      'failed',
      `${what} did not open to what was sealed: the memory of this machine may be faulty; nothing was committed`,
    )
}

function openParts(options: OpenOptions, body: Uint8Array, tag: Uint8Array): Buffer {
  const { domainId, segment, key, what } = options
  const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), NONCE)
  decipher.setAAD(associatedData(domainId, segment))
  decipher.setAuthTag(tag)
  const payload = decipher.update(body)
  try {
    decipher.final()
  } catch (error) {
    throw new HoldfastError('damaged', `${what} is damaged: the seal of a segment does not open`, { cause: error })
  }
  if (segment.codec === 0) {
    if (payload.length !== segment.plainBytes) throw new HoldfastError('damaged', `${what} is damaged: a segment has the wrong length`)
    return payload
  }
  const into =
    options.into === undefined || options.into.length < segment.plainBytes ? Buffer.allocUnsafeSlow(segment.plainBytes) : options.into
  const plain = into.subarray(0, segment.plainBytes)
  threadDecompressor ??= createDecompressor()
  threadDecompressor.decompress(payload, plain, what)
  release(payload)
  return plain
}
