// Snapshots (FORMAT.md section 8): the only commit point, in a structure part for collection, checking and replication, and a private part
// for people. Pure codecs.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { z } from 'zod'
import { decodeSessionEntry, encodeSessionEntry } from '../keys/domain.ts'
import type { ReadKeys, SessionEntry, StructureKeys, Writer } from '../keys/keys.ts'
import { blake3, blake3Hash } from './blake3.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { HEADER_BYTES, LIMITS, type ObjectRef, readRef, refBytes } from '@holdfast/shared/format/layout.ts'
import { readCodec, SESSION_ENTRY_BYTES } from './pack.ts'
import { openSegment, requireOpens, SEGMENT_KIND, type SegmentDescription, type SegmentSealer } from './segment.ts'
import { openBox, sealBox } from './structure-box.ts'
import { type Entry, readEntry, writeEntry } from './tree.ts'

export type SnapshotStructure = {
  readonly ref: ObjectRef
  readonly writerId: Buffer
  readonly session: SessionEntry
  readonly series: Buffer
  readonly sequence: number
  /** BLAKE3 of the object before it in this series; zeros for the first. */
  readonly previous: Buffer
  readonly root: string
  readonly startedAt: number
  readonly endedAt: number
  readonly files: number
  readonly directories: number
  readonly bytes: number
  readonly tags: readonly Buffer[]
  readonly lists: readonly ObjectRef[]
  readonly indexFiles: readonly ObjectRef[]
}

const base64 = z
  .string()
  .max(16_384)
  .regex(/^[A-Za-z0-9+/]*={0,2}$/)
const privateSchema = z.object({
  v: z.literal(1),
  host: z.string().max(255),
  source: z.string().max(255),
  paths: z.array(base64).max(10_000),
  tags: z.array(z.string().max(255)).max(1_000),
  program: z.string().max(255),
  summary: z.record(z.string().max(64), z.number()),
  problems: z.array(z.object({ path: base64, code: z.string().max(64) })).max(100_000),
  root: base64.nullable(),
})

export type Problem = { readonly path: Buffer; readonly code: string }
export type SnapshotPrivate = {
  readonly host: string
  readonly source: string
  readonly paths: readonly Buffer[]
  readonly tags: readonly string[]
  readonly program: string
  readonly summary: Readonly<Record<string, number>>
  /** Files that could not be read, changed or vanished; the first 100,000. */
  readonly problems: readonly Problem[]
  /** Metadata of `/` itself where it was backed up. */
  readonly root?: Entry | undefined
}

export function encodeSnapshot(
  snapshot: { structure: SnapshotStructure; private: SnapshotPrivate },
  keys: { structure: StructureKeys; writer: Writer; sealer: SegmentSealer },
): Buffer {
  const plain = encodePrivate(snapshot.private)
  const sealed = keys.sealer(plain, SEGMENT_KIND.snapshot, true)
  requireOpens(keys.structure.domainId, sealed, plain)
  const sealedBytes = Buffer.concat([sealed.body, sealed.tag])
  const { structure: s } = snapshot
  const out = new ByteWriter(4096)
  out.hex(s.ref.random).raw(s.writerId).raw(encodeSessionEntry(s.session)).raw(s.series).u64(s.sequence).raw(s.previous)
  out.hex(s.root).u64(s.startedAt).u64(s.endedAt).u64(s.files).u64(s.directories).u64(s.bytes).varint(s.tags.length)
  for (const tag of s.tags) out.raw(tag)
  for (const refs of [s.lists, s.indexFiles]) {
    out.varint(refs.length)
    for (const ref of refs) out.raw(refBytes(ref))
  }
  out.raw(sealed.segmentId).u8(sealed.codec).u32(sealed.sealedBytes).u32(sealed.plainBytes).raw(blake3Hash(sealedBytes))
  const box = sealBox({ type: 'snapshot', keys: keys.structure, writer: keys.writer, body: out.view() })
  const length = Buffer.alloc(4)
  length.writeUInt32LE(box.length - HEADER_BYTES)
  return Buffer.concat([box.subarray(0, HEADER_BYTES), length, box.subarray(HEADER_BYTES), sealedBytes])
}

export type OpenedSnapshot = {
  readonly structure: SnapshotStructure
  readonly writerKey: Buffer
  /** BLAKE3 of the whole object: what the next snapshot of the series names as `previous`. */
  readonly hash: Buffer
  /** Opens the private part; undefined where these keys do not reach it. */
  readonly openPrivate: (keys: ReadKeys) => SnapshotPrivate | undefined
}

/** Opens the structure part of a snapshot object that must be the one named `ref`, and checks the private part's hash. */
export function decodeSnapshot(object: Buffer, ref: ObjectRef, keys: StructureKeys): OpenedSnapshot {
  const what = `snapshot ${ref.random.slice(0, 16)}`
  const outer = new ByteReader(object, what)
  const header = outer.raw(HEADER_BYTES)
  const box = outer.raw(outer.u32())
  const sealed = outer.raw(outer.left)
  const { body, writerKey } = openBox({ type: 'snapshot', keys, object: Buffer.concat([header, box]), what })
  const reader = new ByteReader(body, what)
  const random = reader.hex(16)
  const writerId = reader.raw(16)
  const session = decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES))
  if (random !== ref.random || session.sessionId.toString('hex') !== ref.session)
    throw reader.refuse('it is another snapshot under this name')
  const structure: SnapshotStructure = {
    ref,
    writerId,
    session,
    series: reader.raw(32),
    sequence: reader.u64(),
    previous: reader.raw(32),
    root: reader.hex(32),
    startedAt: reader.u64(),
    endedAt: reader.u64(),
    files: reader.u64(),
    directories: reader.u64(),
    bytes: reader.u64(),
    tags: Array.from({ length: reader.count(1_000, 32) }, () => reader.raw(32)),
    lists: Array.from({ length: reader.count(100_000, 32) }, () => readRef(reader)),
    indexFiles: Array.from({ length: reader.count(100_000, 32) }, () => readRef(reader)),
  }
  const segment: SegmentDescription = {
    kind: SEGMENT_KIND.snapshot,
    epoch: session.contentEpoch,
    segmentId: reader.raw(32),
    codec: readCodec(reader),
    sealedBytes: reader.u32(),
    plainBytes: reader.u32(),
  }
  const sealedHash = reader.raw(32)
  reader.end()
  if (!blake3Hash(sealed).equals(sealedHash)) throw reader.refuse('its private part is another one')
  const openPrivate = (read: ReadKeys): SnapshotPrivate | undefined => {
    const key = read.segmentKey(session, segment.segmentId)
    return key === undefined ? undefined : decodePrivate(openSegment({ domainId: keys.domainId, segment, key, sealed, what }), what)
  }
  return { structure, writerKey, hash: blake3Hash(object), openPrivate }
}

function encodePrivate(part: SnapshotPrivate): Buffer {
  const json = Buffer.from(
    JSON.stringify({
      v: 1,
      host: part.host,
      source: part.source,
      paths: part.paths.map((path) => path.toString('base64')),
      tags: part.tags,
      program: part.program,
      summary: part.summary,
      problems: part.problems.slice(0, 100_000).map(({ path, code }) => ({ path: path.toString('base64'), code })),
      root: part.root === undefined ? null : encodeRootEntry(part.root).toString('base64'),
    }),
  )
  if (json.length > LIMITS.segmentPlainBytes / 2)
    return encodePrivate({ ...part, problems: part.problems.slice(0, Math.floor(part.problems.length / 2)) })
  return Buffer.concat([json, Buffer.alloc(padme(json.length) - json.length, ' ')])
}

function decodePrivate(plain: Buffer, what: string): SnapshotPrivate {
  let parsed: z.infer<typeof privateSchema>
  try {
    parsed = privateSchema.parse(JSON.parse(plain.toString('utf8')))
  } catch (error) {
    throw new HoldfastError('damaged', `${what} is damaged: its private part does not parse`, { cause: error })
  }
  return {
    ...parsed,
    paths: parsed.paths.map((path) => Buffer.from(path, 'base64')),
    problems: parsed.problems.map(({ path, code }) => ({ path: Buffer.from(path, 'base64'), code })),
    root: parsed.root === null ? undefined : decodeRootEntry(Buffer.from(parsed.root, 'base64'), what),
  }
}

const ROOT_NAME = Buffer.from('r')
const NO_NODE = '0'.repeat(64)

function encodeRootEntry(entry: Entry): Buffer {
  const out = new ByteWriter()
  writeEntry(out, { ...entry, name: ROOT_NAME, kind: 'directory', node: NO_NODE }, [])
  return out.finish()
}

function decodeRootEntry(bytes: Buffer, what: string): Entry {
  const reader = new ByteReader(bytes, what)
  const entry = readEntry(reader, { take: () => NO_NODE })
  reader.end()
  if (entry.kind !== 'directory' || !entry.name.equals(ROOT_NAME)) throw reader.refuse('its root is no directory, or has another name')
  return entry
}

/** Tokens under the record key: of a series, a tag, a path (FORMAT.md section 8). */
export function createTokens(recordKey: Buffer): {
  series: (writerId: Buffer, source: string) => Buffer
  tag: (tag: string) => Buffer
  path: (absolutePath: Buffer) => string
} {
  const hasher = blake3.keyed(recordKey)
  const path = Buffer.from('path\0')
  return {
    series: (writerId, source) => Buffer.from(hasher.hexOf([Buffer.from('series\0'), writerId, Buffer.from(source)]), 'hex'),
    tag: (tag) => Buffer.from(hasher.hexOf([Buffer.from('tag\0'), Buffer.from(tag)]), 'hex'),
    path: (absolutePath) => hasher.hexOf([path, absolutePath]),
  }
}

/**
 * Snapshots as they follow each other, the latest last: by when they began, and those of one writer and series by their sequence. A clock can go
 * back, so none counts as begun later than one that follows it in its series.
 */
export function inOrder<T extends { readonly structure: SnapshotStructure }>(snapshots: readonly T[]): T[] {
  const placed = snapshots.map((snapshot) => {
    const { writerId, series, sequence, startedAt, ref } = snapshot.structure
    return { snapshot, series: writerId.toString('hex') + series.toString('hex'), sequence, startedAt, id: ref.random }
  })
  const beganAt = new Map<(typeof placed)[number], number>()
  const earliest = new Map<string, number>()
  for (const one of placed.toSorted((a, b) => b.sequence - a.sequence || a.startedAt - b.startedAt)) {
    const at = Math.min(one.startedAt, earliest.get(one.series) ?? Infinity)
    earliest.set(one.series, at)
    beganAt.set(one, at)
  }
  const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
  return placed
    .sort(
      (a, b) =>
        beganAt.get(a)! - beganAt.get(b)! ||
        compare(a.series, b.series) ||
        a.sequence - b.sequence ||
        a.startedAt - b.startedAt ||
        compare(a.id, b.id),
    )
    .map(({ snapshot }) => snapshot)
}
