// Packs: footer, trailer, padding (FORMAT.md section 6). Codecs only; packs are spooled by pack-spool.ts and read by pack-reader.ts.
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { decodeSessionEntry, encodeSessionEntry } from '../keys/domain.ts'
import type { SessionEntry, StructureKeys, Writer } from '../keys/keys.ts'
import { hmac } from '../keys/primitives.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { encodeHeader, HEADER_BYTES, LIMITS, type ObjectRef, readHeader, readRef, refBytes } from '@holdfast/shared/format/layout.ts'
import { type Codec, SEAL_BYTES, SEGMENT_KIND, type SegmentDescription, type SegmentKind } from './segment.ts'
import { openBox, sealBox } from './structure-box.ts'

export const TRAILER_BYTES = HEADER_BYTES + 32 + 32
export const SESSION_ENTRY_BYTES = 1220
const NONCE = Buffer.alloc(12)

export type BlobInSegment = { readonly id: string; readonly bytes: number }

/** A segment as a footer lists it. `session` is an ordinal in the footer's list of sessions. */
export type FooterSegment = SegmentDescription & {
  readonly session: number
  readonly offset: number
  /** BLAKE3 of the sealed bytes: intactness without the content key. */
  readonly sealedHash: Buffer
  readonly blobs: readonly BlobInSegment[]
}

export type PackFooter = {
  readonly ref: ObjectRef
  readonly writerId: Buffer
  readonly sessions: readonly SessionEntry[]
  readonly segments: readonly FooterSegment[]
}

/** Header and box of the footer. Segments stand one after the other from offset 0. */
export function encodeFooter(footer: PackFooter, keys: StructureKeys, writer: Writer): Buffer {
  const out = new ByteWriter(64 * 1024)
  out.raw(refBytes(footer.ref)).raw(footer.writerId).varint(footer.sessions.length)
  for (const session of footer.sessions) out.raw(encodeSessionEntry(session))
  out.varint(footer.segments.length)
  for (const segment of footer.segments) {
    out.u8(segment.kind).u8(segment.codec).varint(segment.session).u32(segment.epoch).varint(segment.sealedBytes).varint(segment.plainBytes)
    out.raw(segment.segmentId).raw(segment.sealedHash).varint(segment.blobs.length)
    for (const blob of segment.blobs) out.hex(blob.id).varint(blob.bytes)
  }
  return sealBox({ type: 'pack', keys, writer, body: out.view() })
}

/**
 * Opens a footer that must be the one of pack `ref`. `bytesBefore` is the footer's offset: the segments must fill what is before it (undefined
 * for a footer that was kept by itself).
 */
export function decodeFooter(
  object: Buffer,
  ref: ObjectRef,
  bytesBefore: number | undefined,
  keys: StructureKeys,
): { footer: PackFooter; writerKey: Buffer } {
  const what = `pack ${ref.random}`
  const { body, writerKey } = openBox({ type: 'pack', keys, object, what })
  const reader = new ByteReader(body, what)
  const named = readRef(reader)
  if (named.session !== ref.session || named.random !== ref.random) throw reader.refuse('it is another pack under this name')
  const writerId = reader.raw(16)
  const sessions = Array.from({ length: reader.count(65_536, SESSION_ENTRY_BYTES) }, () =>
    decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES)),
  )
  const segments: FooterSegment[] = []
  let offset = 0
  const count = reader.count(1_000_000, 74)
  for (let i = 0; i < count; i++) {
    const kind = readKind(reader)
    const codec = readCodec(reader)
    const session = reader.varint(65_535)
    if (kind === SEGMENT_KIND.references ? session !== 0 : session >= sessions.length) throw reader.refuse('a segment names no session')
    const epoch = reader.u32()
    const sealedBytes = reader.varint(LIMITS.packBytes)
    const plainBytes = reader.varint(LIMITS.segmentPlainBytes)
    // Here, where it is the footer that is wrong, and not only when the segment is read.
    if (kind === SEGMENT_KIND.references ? epoch === 0 : epoch !== sessions[session]?.contentEpoch)
      throw reader.refuse(`a segment is of epoch ${epoch}, which its key is not`)
    if (sealedBytes <= SEAL_BYTES || plainBytes === 0) throw reader.refuse('a segment is empty')
    if (codec === 0 && sealedBytes !== plainBytes + SEAL_BYTES)
      throw reader.refuse(`a segment that is not compressed has ${sealedBytes} bytes sealed and ${plainBytes} plain`)
    const segmentId = reader.raw(32)
    const sealedHash = reader.raw(32)
    let sum = 0
    const blobs = Array.from({ length: reader.count(LIMITS.blobsPerSegment, 33) }, () => {
      const blob = { id: reader.hex(32), bytes: reader.varint(LIMITS.segmentPlainBytes) }
      if (blob.bytes === 0) throw reader.refuse('a blob in it is empty')
      sum += blob.bytes
      return blob
    })
    if (sum !== plainBytes) throw reader.refuse('the blobs of a segment do not add up')
    segments.push({ kind, codec, session, epoch, sealedBytes, plainBytes, segmentId, sealedHash, blobs, offset })
    offset += sealedBytes
  }
  reader.end()
  if (bytesBefore !== undefined && offset !== bytesBefore) throw reader.refuse('its segments do not fill it')
  return { footer: { ref, writerId, sessions, segments }, writerKey }
}

export function readKind(reader: ByteReader): SegmentKind {
  const kind = reader.u8()
  if (kind !== 1 && kind !== 2 && kind !== 3) throw reader.refuse(`segments of kind ${kind} do not belong here`)
  return kind
}

export function readCodec(reader: ByteReader): Codec {
  const codec = reader.u8()
  if (codec !== 0 && codec !== 1) throw reader.refuse(`codec ${codec} does not exist`)
  return codec
}

/** Random bytes needed between footer and trailer. */
export function paddingBytes(segmentsAndFooter: number): number {
  const holds = segmentsAndFooter + TRAILER_BYTES
  return Math.max(padme(holds), LIMITS.packMinBytes) - holds
}

/** How long a pack is that ends with a footer of so many bytes, header and all. */
export function packBytes({ segments }: Pick<PackFooter, 'segments'>, footerBytes: number): number {
  const last = segments.at(-1)
  const filled = (last === undefined ? 0 : last.offset + last.sealedBytes) + footerBytes
  return filled + paddingBytes(filled) + TRAILER_BYTES
}

function trailerKey(key: Buffer, hash: Buffer): KeyObject {
  return createSecretKey(hmac(key, 'holdfast/1 trailer', hash))
}

/** `hash` is the BLAKE3 of everything before the trailer. */
export function encodeTrailer(keys: StructureKeys, hash: Buffer, footer: { offset: number; bytes: number }): Buffer {
  const header = encodeHeader('pack', keys.domainId, keys.structureEpoch)
  const key = keys.structureKey(keys.structureEpoch)
  if (key === undefined) throw new HoldfastError('wrong-key', 'the current structure key is not at hand: fetch a new domain bundle')
  const plain = Buffer.alloc(16)
  plain.writeBigUInt64LE(BigInt(footer.offset), 0)
  plain.writeBigUInt64LE(BigInt(footer.bytes), 8)
  const cipher = createCipheriv('aes-256-gcm', trailerKey(key, hash), NONCE)
  cipher.setAAD(Buffer.concat([header, hash]))
  return Buffer.concat([header, hash, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

export type PackTrailer = { readonly hash: Buffer; readonly footerOffset: number; readonly footerBytes: number }

/** Opens the last 96 bytes of a pack of `packBytes` bytes. */
export function decodeTrailer(trailer: Buffer, ref: ObjectRef, packBytes: number, keys: StructureKeys): PackTrailer {
  const what = `pack ${ref.random}`
  const refuse = (why: string, cause?: unknown): HoldfastError => new HoldfastError('damaged', `${what} is damaged: ${why}`, { cause })
  if (trailer.length !== TRAILER_BYTES || packBytes > LIMITS.packBytes) throw refuse('it has the wrong length')
  const { epoch } = readHeader(trailer, { type: 'pack', domainId: keys.domainId, what })
  const key = keys.structureKey(epoch)
  if (key === undefined) throw new HoldfastError('wrong-key', `${what} is sealed under structure key ${epoch}, which is not at hand`)
  const hash = trailer.subarray(HEADER_BYTES, HEADER_BYTES + 32)
  const decipher = createDecipheriv('aes-256-gcm', trailerKey(key, hash), NONCE)
  decipher.setAAD(trailer.subarray(0, HEADER_BYTES + 32))
  decipher.setAuthTag(trailer.subarray(80))
  let plain: Buffer
  try {
    plain = Buffer.concat([decipher.update(trailer.subarray(64, 80)), decipher.final()])
  } catch (error) {
    throw refuse('its trailer does not open', error)
  }
  const offset = plain.readBigUInt64LE(0)
  const bytes = plain.readBigUInt64LE(8)
  if (offset + bytes + BigInt(TRAILER_BYTES) > BigInt(packBytes)) throw refuse('its trailer points outside of it')
  return { hash, footerOffset: Number(offset), footerBytes: Number(bytes) }
}
