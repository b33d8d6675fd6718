// Index files (FORMAT.md section 7): immutable sorted lists of where blobs are. The decoder checks once and then hands out views of the
// bytes as they stand, so that a view over many index files costs no objects per blob.
import { decodeSessionEntry, encodeSessionEntry } from '../keys/domain.ts'
import type { SessionEntry, StructureKeys, Writer } from '../keys/keys.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS, type ObjectRef, readRef, refBytes } from '@holdfast/shared/format/layout.ts'
import { type PackFooter, readCodec, readKind, SESSION_ENTRY_BYTES } from './pack.ts'
import { SEAL_BYTES, SEGMENT_KIND, type SegmentDescription } from './segment.ts'
import { openBox, sealBox } from './structure-box.ts'

export const INDEX_SEGMENT_BYTES = 60
export const INDEX_BLOB_BYTES = 44
/** What one index file may hold and still stay under its size limit with padding. */
export const INDEX_MAX_BLOBS = 1_000_000

export type PackRow = ObjectRef & { readonly bytes: number }
export type IndexedSegment = SegmentDescription & { readonly pack: number; readonly offset: number; readonly session: number }

export type IndexFile = {
  readonly ref: ObjectRef
  /** Who signed it. */
  readonly writerKey: Buffer
  readonly replaces: readonly ObjectRef[]
  readonly sessions: readonly SessionEntry[]
  readonly packs: readonly PackRow[]
  readonly segmentCount: number
  readonly segment: (ordinal: number) => IndexedSegment
  readonly blobCount: number
  /** `blobCount` rows of 44 bytes, sorted by id then segment: id 32, segment u32, offset u32, length u32. */
  readonly blobs: Buffer
}

export type PackInIndex = { readonly footer: PackFooter; readonly bytes: number }

/** An index file over packs whose footers are known. */
export function encodeIndexFile(
  file: { ref: ObjectRef; replaces: readonly ObjectRef[]; packs: readonly PackInIndex[] },
  keys: StructureKeys,
  writer: Writer,
): Buffer {
  const sessions: SessionEntry[] = []
  const ordinals = new Map<string, number>()
  const ordinalOf = (entry: SessionEntry): number => {
    const id = entry.sessionId.toString('hex')
    const known = ordinals.get(id)
    if (known !== undefined) return known
    ordinals.set(id, sessions.length)
    return sessions.push(entry) - 1
  }
  const segments = new ByteWriter(64 * 1024)
  const rows: { id: Buffer; segment: number; offset: number; bytes: number }[] = []
  let segmentCount = 0
  for (const [pack, { footer }] of file.packs.entries()) {
    for (const segment of footer.segments) {
      const entry = footer.sessions[segment.session]
      const session = segment.kind === SEGMENT_KIND.references || entry === undefined ? 0 : ordinalOf(entry)
      segments.u32(pack).u64(segment.offset).u32(segment.sealedBytes).u32(segment.plainBytes).u8(segment.kind).u8(segment.codec)
      segments.u16(session).u32(segment.epoch).raw(segment.segmentId)
      let offset = 0
      for (const blob of segment.blobs) {
        rows.push({ id: Buffer.from(blob.id, 'hex'), segment: segmentCount, offset, bytes: blob.bytes })
        offset += blob.bytes
      }
      segmentCount += 1
    }
  }
  rows.sort((a, b) => Buffer.compare(a.id, b.id) || a.segment - b.segment)
  const out = new ByteWriter(segments.length + rows.length * INDEX_BLOB_BYTES + 8192)
  out.raw(refBytes(file.ref)).varint(file.replaces.length)
  for (const replaced of file.replaces) out.raw(refBytes(replaced))
  out.varint(sessions.length)
  for (const session of sessions) out.raw(encodeSessionEntry(session))
  out.varint(file.packs.length)
  for (const { footer, bytes } of file.packs) out.raw(refBytes(footer.ref)).u64(bytes)
  out.u32(segmentCount).raw(segments.view()).u32(rows.length)
  for (const row of rows) out.raw(row.id).u32(row.segment).u32(row.offset).u32(row.bytes)
  return sealBox({ type: 'index', keys, writer, body: out.view() })
}

/** Opens and checks an index file that must be the one named `ref`. */
export function decodeIndexFile(object: Buffer, ref: ObjectRef, keys: StructureKeys): { file: IndexFile; writerKey: Buffer } {
  const what = `index file ${ref.random}`
  const { body, writerKey } = openBox({ type: 'index', keys, object, what })
  const reader = new ByteReader(body, what)
  const named = readRef(reader)
  if (named.session !== ref.session || named.random !== ref.random) throw reader.refuse('it is another index file under this name')
  const replaces = Array.from({ length: reader.count(1_000_000, 32) }, () => readRef(reader))
  const sessions = Array.from({ length: reader.count(65_536, SESSION_ENTRY_BYTES) }, () =>
    decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES)),
  )
  const packs = Array.from({ length: reader.count(1_000_000, 40) }, () => ({ ...readRef(reader), bytes: reader.u64() }))
  const segmentCount = reader.count32(10_000_000, INDEX_SEGMENT_BYTES)
  const segmentRows = reader.raw(segmentCount * INDEX_SEGMENT_BYTES)
  const blobCount = reader.count32(10_000_000, INDEX_BLOB_BYTES)
  const blobs = reader.raw(blobCount * INDEX_BLOB_BYTES)
  reader.end()
  const plainBytes = checkSegments(segmentRows, segmentCount, packs, sessions.length, what)
  for (let i = 0, at = 0; i < blobCount; i++, at += INDEX_BLOB_BYTES) {
    const segment = blobs.readUInt32LE(at + 32)
    const bytes = blobs.readUInt32LE(at + 40)
    // One of no bytes could fill a file any number of times.
    if (segment >= segmentCount || bytes === 0 || blobs.readUInt32LE(at + 36) + bytes > plainBytes[segment]!)
      throw reader.refuse('a blob stands outside of its segment')
    if (i > 0 && blobs.compare(blobs, at - INDEX_BLOB_BYTES, at - INDEX_BLOB_BYTES + 32, at, at + 32) < 0)
      throw reader.refuse('its blobs are not in order')
  }
  const segment = (ordinal: number): IndexedSegment => segmentAt(segmentRows, ordinal)
  return { file: { ref, writerKey, replaces, sessions, packs, segmentCount, segment, blobCount, blobs }, writerKey }
}

function checkSegments(rows: Buffer, count: number, packs: readonly PackRow[], sessions: number, what: string): Uint32Array {
  const plainBytes = new Uint32Array(count)
  const reader = new ByteReader(rows, what)
  for (let i = 0; i < count; i++) {
    const pack = packs[reader.u32()]
    const offset = reader.u64()
    const sealedBytes = reader.u32()
    plainBytes[i] = reader.u32()
    const kind = readKind(reader)
    readCodec(reader)
    const session = reader.u16()
    reader.raw(36)
    if (pack === undefined || sealedBytes <= SEAL_BYTES || offset + sealedBytes > pack.bytes)
      throw reader.refuse('a segment stands outside of its pack')
    if (plainBytes[i]! === 0 || plainBytes[i]! > LIMITS.segmentPlainBytes) throw reader.refuse('a segment has a length that cannot be')
    if (kind === SEGMENT_KIND.references ? session !== 0 : session >= sessions) throw reader.refuse('a segment names no session')
  }
  return plainBytes
}

function segmentAt(rows: Buffer, ordinal: number): IndexedSegment {
  const at = ordinal * INDEX_SEGMENT_BYTES
  return {
    pack: rows.readUInt32LE(at),
    offset: Number(rows.readBigUInt64LE(at + 4)),
    sealedBytes: rows.readUInt32LE(at + 12),
    plainBytes: rows.readUInt32LE(at + 16),
    kind: rows.readUInt8(at + 20) as SegmentDescription['kind'],
    codec: rows.readUInt8(at + 21) as SegmentDescription['codec'],
    session: rows.readUInt16LE(at + 22),
    epoch: rows.readUInt32LE(at + 24),
    segmentId: rows.subarray(at + 28, at + 60),
  }
}
