// Snapshots: the structure part as a body that is sealed, and the private part as JSON in its segment.
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { blake3Hash } from '../../../agent/repository/blake3.ts'
import { HEADER_BYTES, refBytes } from '@holdfast/shared/format/layout.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import {
  createTokens,
  decodeSnapshot,
  encodeSnapshot,
  type OpenedSnapshot,
  type SnapshotPrivate,
} from '../../../agent/repository/snapshot.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { encodeSessionEntry } from '../../../agent/keys/domain.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { entry, readKeys, ref, sealedSegment, structure, writer } from '../_support/fixture.ts'
import { accepted, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('snapshot')

/** The fields up to the description of the private part. */
function structureBody(): Buffer {
  const out = new ByteWriter()
    .hex(ref.random)
    .raw(writer.id)
    .raw(encodeSessionEntry(entry))
    .raw(bytes.bytes(32))
    .u64(3)
    .raw(bytes.bytes(32))
  out.raw(bytes.bytes(32)).u64(1_000).u64(2_000).u64(10).u64(3).u64(123_456)
  out.varint(1).raw(bytes.bytes(32)).varint(1).raw(refBytes(ref)).varint(2).raw(refBytes(ref)).raw(refBytes(ref))
  return out.finish()
}

function objectOf(body: Buffer, sealed: Buffer): Buffer {
  const box = sealBox({ type: 'snapshot', keys: structure, writer, body })
  const length = Buffer.alloc(4)
  length.writeUInt32LE(box.length - HEADER_BYTES)
  return Buffer.concat([box.subarray(0, HEADER_BYTES), length, box.subarray(HEADER_BYTES), sealed])
}

function privatePart(json: Buffer): { description: Buffer; sealed: Buffer } {
  const { segment, sealed } = sealedSegment(json, { kind: SEGMENT_KIND.snapshot, codec: 0, plainBytes: json.length })
  const out = new ByteWriter()
    .raw(segment.segmentId)
    .u8(segment.codec)
    .u32(segment.sealedBytes)
    .u32(segment.plainBytes)
    .raw(blake3Hash(sealed))
  return { description: out.finish(), sealed }
}

const BODY = structureBody()
const rootEntry = new ByteWriter().bytes(Buffer.from('r')).u8(2).u16(0).u16(0o755).varint(0).varint(0).svarint(-5n).varint(7).finish()
const JSON_PART = {
  v: 1,
  host: 'appliance-1',
  source: 'documents',
  paths: ['L3Nydg==', 'L2hvbWU='],
  tags: ['daily'],
  program: 'holdfast 0.1.0',
  summary: { files: 10, bytesNew: 123 },
  problems: [{ path: 'L3Nydi94', code: 'EACCES' }],
  root: rootEntry.toString('base64'),
}
const WHOLE = privatePart(Buffer.from(JSON.stringify(JSON_PART)))
const nameOf = (body: Buffer) => ({
  session: body.toString('hex', 32, 48),
  random: body.toString('hex', 0, 16),
})

/** What must hold of a snapshot that was taken: another one written of it says the same. */
function requireAgain(opened: OpenedSnapshot, told: SnapshotPrivate): void {
  const sealer = (plain: Uint8Array) => {
    const { segment, sealed, key } = sealedSegment(Buffer.from(plain), { kind: SEGMENT_KIND.snapshot, codec: 0, plainBytes: plain.length })
    return { ...segment, key, body: sealed.subarray(0, -16), tag: sealed.subarray(-16) }
  }
  const object = encodeSnapshot({ structure: opened.structure, private: told }, { structure, writer, sealer })
  const again = decodeSnapshot(object, opened.structure.ref, structure)
  const texts = [opened, again].map((of) => JSON.stringify([of.structure, of === opened ? told : of.openPrivate(readKeys)], plainly))
  if (texts[0] !== texts[1]) violation('a snapshot that is written again says something else')
}

function plainly(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}` : value
}

export const snapshotStructure: Target = {
  name: 'snapshot',
  about: 'the structure part of a snapshot, sealed: what is taken says the same when it is written again',
  form: 'bytes',
  covers: ['agent/repository/snapshot.ts', 'shared/format/bytes.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => [Buffer.concat([BODY, WHOLE.description])],
  run: (body) => {
    const opened = accepted(() => decodeSnapshot(objectOf(body, WHOLE.sealed), nameOf(body), structure))
    const told = opened === undefined ? undefined : accepted(() => opened.openPrivate(readKeys))
    if (opened === undefined || told === undefined) return 'refused'
    requireAgain(opened, told)
    return 'taken'
  },
}

export const snapshotPrivate: Target = {
  name: 'snapshot-private',
  about: 'the private part of a snapshot, sealed: what is taken says the same when it is written again',
  form: 'json',
  covers: ['agent/repository/snapshot.ts', 'agent/repository/tree.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => [
    Buffer.from(JSON.stringify(JSON_PART)),
    Buffer.from(JSON.stringify({ ...JSON_PART, root: null, tags: [], problems: [], later: 1 })),
  ],
  run: (json) => {
    if (json.length === 0) return 'refused'
    const { description, sealed } = privatePart(json)
    const body = Buffer.concat([BODY, description])
    const opened = decodeSnapshot(objectOf(body, sealed), nameOf(body), structure)
    const told = accepted(() => opened.openPrivate(readKeys))
    if (told === undefined) return 'refused'
    requireAgain(opened, told)
    const { series, tag } = createTokens(structure.recordKey)
    if (series(writer.id, told.source).length !== 32 || told.tags.some((text) => tag(text).length !== 32))
      violation('a token has another length')
    return 'taken'
  },
}
