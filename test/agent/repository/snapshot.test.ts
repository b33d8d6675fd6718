// Snapshots: both parts are read back as they were written, each is bound to the other and to the name, and nothing impossible in them is believed
// (FORMAT.md section 8).
import { describe, expect, test } from 'vitest'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { HEADER_BYTES } from '@holdfast/shared/format/layout.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { encodeSessionEntry, rootKeys, segmentKeyOf, sessionEntry } from '../../../agent/keys/domain.ts'
import type { ReadKeys } from '../../../agent/keys/keys.ts'
import { blake3Hash } from '../../../agent/repository/blake3.ts'
import { createSealer, type SegmentSealer, SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import {
  createTokens,
  decodeSnapshot,
  encodeSnapshot,
  type SnapshotPrivate,
  type SnapshotStructure,
} from '../../../agent/repository/snapshot.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { type Entry, writeEntry } from '../../../agent/repository/tree.ts'
import { createCompressor } from '../../../agent/repository/zstd.ts'
import { fixtureRandom } from '../../_support/engine-fixture.ts'

const random = fixtureRandom('snapshots')
const root = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
const keys = root.write.structure
const { writer } = root.write
const sessionKey = random.bytes(32)
const session = sessionEntry(sessionKey, random.bytes(16), root.write, random)
const sealer = createSealer({ domainId: keys.domainId, baseKey: sessionKey, epoch: session.contentEpoch, compressor: createCompressor(3) })
const read: ReadKeys = { structure: keys, segmentKey: (_, segmentId) => segmentKeyOf(sessionKey, segmentId) }
const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })

const ref = { session: session.sessionId.toString('hex'), random: 'b'.repeat(32) }
const other = { session: 'c'.repeat(32), random: 'd'.repeat(32) }
const structure: SnapshotStructure = {
  ref,
  writerId: writer.id,
  session,
  series: Buffer.alloc(32, 1),
  sequence: 2,
  previous: Buffer.alloc(32, 3),
  root: '4'.repeat(64),
  startedAt: 5,
  endedAt: 2 ** 50,
  files: 7,
  directories: 8,
  bytes: 2 ** 52,
  tags: [Buffer.alloc(32, 10), Buffer.alloc(32, 11)],
  lists: [other],
  indexFiles: [ref, other],
}
const rootEntry: Entry = { name: Buffer.from('r'), kind: 'directory', mode: 0o755, uid: 1, gid: 2, mtimeNs: -3n, node: '0'.repeat(64) }
const people: SnapshotPrivate = {
  host: 'a host',
  source: 'a source',
  paths: [Buffer.from('/a'), Buffer.from([0x2f, 0xff])],
  tags: ['one', 'two'],
  program: 'test 1',
  summary: { files: 7 },
  problems: [{ path: Buffer.from([0xfe]), code: 'EACCES' }],
  root: rootEntry,
}
const encode = (more: Partial<SnapshotStructure> = {}, part = people): Buffer =>
  encodeSnapshot({ structure: { ...structure, ...more }, private: part }, { structure: keys, writer, sealer })
const decode = (object: Buffer, name = ref) => decodeSnapshot(object, name, keys)

/** A snapshot whose private part is any text, all of it rightly sealed. */
function made(plain: Buffer, more: { counts?: [number, number, number]; extra?: number } = {}): Buffer {
  const segment = sealer(plain, SEGMENT_KIND.snapshot, true)
  const sealed = Buffer.concat([segment.body, segment.tag])
  const out = new ByteWriter()
    .hex(ref.random)
    .raw(writer.id)
    .raw(encodeSessionEntry(session))
    .zeros(32)
    .u64(1)
    .zeros(32)
    .hex('4'.repeat(64))
  for (let i = 0; i < 5; i++) out.u64(0)
  for (const count of more.counts ?? [0, 0, 0]) out.varint(count)
  out
    .raw(segment.segmentId)
    .u8(segment.codec)
    .u32(segment.sealedBytes)
    .u32(segment.plainBytes)
    .raw(blake3Hash(sealed))
    .zeros(more.extra ?? 0)
  const box = sealBox({ type: 'snapshot', keys, writer, body: out.view() })
  const length = Buffer.alloc(4)
  length.writeUInt32LE(box.length - HEADER_BYTES)
  return Buffer.concat([box.subarray(0, HEADER_BYTES), length, box.subarray(HEADER_BYTES), sealed])
}
const privateOf = (json: unknown): (() => SnapshotPrivate | undefined) => {
  const opened = decode(made(Buffer.from(JSON.stringify(json))))
  return () => opened.openPrivate(read)
}
const json = { v: 1, host: 'h', source: 's', paths: ['L2E='], tags: [], program: 'p', summary: {}, problems: [], root: null }

describe('a snapshot', () => {
  test('is read back in both parts, and its hash is that of the whole object', () => {
    const object = encode()
    const opened = decode(object)
    expect(opened).toMatchObject({ structure, writerKey: writer.publicKey, hash: blake3Hash(object) })
    expect(opened.openPrivate(read)).toEqual({ v: 1, ...people })
    const bare: SnapshotPrivate = { ...people, problems: [], paths: [], root: undefined }
    const second = decode(encode({ tags: [], lists: [], indexFiles: [] }, bare))
    expect(second.structure).toEqual({ ...structure, tags: [], lists: [], indexFiles: [] })
    expect(second.openPrivate(read)).toEqual({ v: 1, ...bare })
  })

  test('shows its private part only to whoever has the key, and its length only in steps', () => {
    const opened = decode(encode())
    expect(opened.openPrivate({ structure: keys, segmentKey: () => undefined })).toBeUndefined()
    expect(() => opened.openPrivate({ structure: keys, segmentKey: () => Buffer.alloc(32, 1) })).toThrow(
      damaged(/^snapshot b{16} is damaged: the seal of a segment does not open/),
    )
    const plain: Buffer[] = []
    const watched: SegmentSealer = (bytes, kind, compress) => (plain.push(Buffer.from(bytes)), sealer(bytes, kind, compress))
    encodeSnapshot({ structure, private: people }, { structure: keys, writer, sealer: watched })
    const text = plain[0]!.toString().trimEnd()
    expect(plain[0]!.length).toBe(padme(text.length))
    expect(JSON.parse(text)).toMatchObject({ v: 1, paths: ['L2E=', 'L/8='], problems: [{ path: '/g==', code: 'EACCES' }] })
  })

  test('keeps the first hundred thousand problems, and fewer where they would not fit', () => {
    const problems = Array.from({ length: 100_001 }, (_, i) => ({ path: Buffer.from(`${i}`), code: 'EIO' }))
    expect(decode(encode({}, { ...people, problems })).openPrivate(read)!.problems).toHaveLength(100_000)
    const long = Array.from({ length: 1201 }, () => ({ path: Buffer.alloc(12_000, 7), code: 'EIO' }))
    const kept = decode(encode({}, { ...people, problems: long })).openPrivate(read)!.problems
    expect(kept).toEqual(long.slice(0, 300))
  })

  test('with any byte changed, cut, or under another name is refused', () => {
    const object = encode()
    for (let at = 0; at < object.length; at += at < 200 ? 1 : 7) {
      const changed = Buffer.from(object)
      changed[at]! ^= 1
      expect(() => decode(changed)).toThrow()
    }
    for (let length = 0; length < object.length; length += 3) expect(() => decode(object.subarray(0, length))).toThrow(damaged(/./))
    expect(() => decode(Buffer.concat([object, Buffer.of(0)]))).toThrow(damaged(/its private part is another one/))
    for (const name of [
      { ...ref, session: other.session },
      { ...ref, random: other.random },
    ])
      expect(() => decode(object, name)).toThrow(damaged(/^snapshot [bd]{16} is damaged: it is another snapshot under this name/))
    const foreign = encode({}, { ...people, host: 'another' })
    const at = HEADER_BYTES + 4 + object.readUInt32LE(HEADER_BYTES)
    const swapped = Buffer.concat([object.subarray(0, at), foreign.subarray(HEADER_BYTES + 4 + foreign.readUInt32LE(HEADER_BYTES))])
    expect(() => decode(swapped)).toThrow(damaged(/its private part is another one/))
  })

  test('that counts more than it holds, or holds more than it says, is refused', () => {
    expect(() => decode(made(Buffer.of(1), { extra: 1 }))).toThrow(damaged(/1 bytes too many/))
    const limits = [1_000, 100_000, 100_000]
    for (const [i, limit] of limits.entries()) {
      const claim = (count: number) => made(Buffer.of(1), { counts: [i === 0 ? count : 0, i === 1 ? count : 0, i === 2 ? count : 0] })
      expect(() => decode(claim(limit + 1))).toThrow(damaged(new RegExp(`over the limit of ${limit}`)))
      expect(() => decode(claim(limit))).toThrow(damaged(/more than it can hold/))
    }
  })
})

describe('the private part of a snapshot', () => {
  const rootOf = (entry: Entry, extra = 0): string => {
    const out = new ByteWriter()
    writeEntry(out, entry, [])
    return Buffer.concat([out.finish(), Buffer.alloc(extra)]).toString('base64')
  }

  test('that is of the schema opens', () => {
    expect(privateOf(json)()).toEqual({ ...json, paths: [Buffer.from('/a')], root: undefined })
    expect(privateOf({ ...json, root: rootOf(rootEntry) })()!.root).toEqual(rootEntry)
  })

  test.each<[string, object | null]>([
    ['is nothing', null],
    ['is of another version', { ...json, v: 2 }],
    ['lacks the host', { ...json, host: undefined }],
    ['has a path that is not base64', { ...json, paths: ['*'] }],
    ['has a problem without a code', { ...json, problems: [{ path: '' }] }],
    ['has a summary of words', { ...json, summary: { files: 'many' } }],
  ])('that %s is damage, with what was found as the cause', (_, value) => {
    const failure = (() => {
      try {
        return privateOf(value)()
      } catch (error) {
        return error
      }
    })()
    expect(failure).toMatchObject({
      code: 'damaged',
      message: expect.stringMatching(/its private part does not parse/),
      cause: expect.anything(),
    })
  })

  test('has a root that is a directory of its own name and nothing behind it', () => {
    const wrong = damaged(/its root is no directory, or has another name/)
    expect(privateOf({ ...json, root: rootOf({ ...rootEntry, name: Buffer.from('x') }) })).toThrow(wrong)
    expect(privateOf({ ...json, root: rootOf({ name: Buffer.from('r'), kind: 'fifo', mode: 0, uid: 0, gid: 0, mtimeNs: 0n }) })).toThrow(
      wrong,
    )
    expect(privateOf({ ...json, root: rootOf(rootEntry, 1) })).toThrow(damaged(/1 bytes too many/))
    const named = { ...rootEntry, name: Buffer.from('elsewhere') }
    expect(decode(encode({}, { ...people, root: named })).openPrivate(read)!.root).toEqual(rootEntry)
  })
})

describe('tokens', () => {
  test('are of one writer and source, one tag, one path, under one key', () => {
    const tokens = createTokens(Buffer.alloc(32, 1))
    const hex = (token: Buffer | string): string => (typeof token === 'string' ? token : token.toString('hex'))
    const all = [
      tokens.series(writer.id, 'a'),
      tokens.series(writer.id, 'b'),
      tokens.series(Buffer.alloc(16, 9), 'a'),
      tokens.tag('a'),
      tokens.tag('b'),
      tokens.path(Buffer.from('a')),
      tokens.path(Buffer.from('b')),
      createTokens(Buffer.alloc(32, 2)).path(Buffer.from('a')),
    ].map(hex)
    for (const token of all) expect(token).toMatch(/^[0-9a-f]{64}$/)
    expect(new Set(all).size).toBe(all.length)
    expect(hex(createTokens(Buffer.alloc(32, 1)).tag('a'))).toBe(all[3])
  })
})
