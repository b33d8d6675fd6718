// Index files and views over them: what is written is read back and found, what cannot be is refused, and what one file alone says of a pack is never
// lost out of sight (FORMAT.md section 7).
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS, refBytes, refKey } from '@holdfast/shared/format/layout.ts'
import { agentWriter, encodeSessionEntry } from '../../../agent/keys/domain.ts'
import { indexFilesFromFooters, indexFromFooters, PACKS_PER_FILE } from '../../../agent/repository/footer-reader.ts'
import {
  decodeIndexFile,
  encodeIndexFile,
  INDEX_MAX_BLOBS,
  type IndexFile,
  type PackInIndex,
} from '../../../agent/repository/index-file.ts'
import { chooseMerge, packsOf } from '../../../agent/repository/index-merge.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { createView, isStillSaid, liveIndexFiles, withoutForeignReplaces } from '../../../agent/repository/view.ts'
import { entries, file, hex, id, keys, pack, ref, root, writer } from './_support/index-files.ts'

const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })

const somePacks = fc
  .array(
    fc.array(
      fc.record({
        kind: fc.constantFrom(1 as const, 2 as const, 3 as const),
        blobs: fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 500 })), { minLength: 1, maxLength: 6 }),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    { maxLength: 5 },
  )
  .map((all) =>
    all.map((segments, number) =>
      pack(number + 1, ...segments.map((one) => ({ ...one, session: one.kind === 3 ? 0 : one.blobs.length % 2 }))),
    ),
  )

describe('an index file', () => {
  test('says of every pack what its footer says, and merging says it again', () => {
    fc.assert(
      fc.property(somePacks, (packs) => {
        const made = file(900, packs, [ref(1), ref(2)])
        expect(made).toMatchObject({ ref: ref(900), replaces: [ref(1), ref(2)], writerKey: writer.publicKey })
        expect(made.packs).toEqual(packs.map(({ footer, bytes }) => ({ ...footer.ref, bytes })))
        const again = packsOf(made)
        // Sessions are numbered by the file, and hashes of sealed segments stand in footers alone.
        const told = (all: readonly PackInIndex[]): object[] =>
          all.map(({ footer, bytes }) => ({
            bytes,
            name: refKey(footer.ref),
            segments: footer.segments.map(({ session, kind, codec, epoch, segmentId, sealedBytes, plainBytes, offset, blobs }) => ({
              ...{ kind, codec, epoch, segmentId, sealedBytes, plainBytes, offset, blobs },
              entry: kind === 3 ? undefined : footer.sessions[session]?.sessionId,
            })),
          }))
        expect(told(again)).toEqual(told(packs))
        expect(file(901, again).blobs).toEqual(made.blobs)
        // In memory it is the same, but for its name and its writer.
        const memory = indexFromFooters(packs)
        expect(memory.blobs).toEqual(made.blobs)
        expect(memory).toMatchObject({
          packs: made.packs,
          segmentCount: made.segmentCount,
          blobCount: made.blobCount,
          replaces: [],
          writerKey: Buffer.alloc(32),
        })
        for (let i = 0; i < made.segmentCount; i++) {
          const { session, ...segment } = made.segment(i)
          expect(memory.segment(i)).toMatchObject(segment)
          if (segment.kind !== 3) expect(memory.sessions[memory.segment(i).session]).toEqual(made.sessions[session])
        }
      }),
      { numRuns: 25 },
    )
  })

  test('names each session once', () => {
    const packs = [
      pack(1, { session: 0, blobs: [[1, 1]] }, { session: 1, blobs: [[2, 1]] }),
      pack(2, { session: 1, blobs: [[3, 1]] }, { kind: 3, blobs: [[4, 1]] }),
    ]
    const made = file(900, packs)
    expect(made.sessions).toEqual(entries.slice(0, 2))
    expect([0, 1, 2, 3].map((i) => made.segment(i).session)).toEqual([0, 1, 1, 0])
  })

  test('belongs to its name', () => {
    const object = encodeIndexFile({ ref: ref(900), replaces: [], packs: [] }, keys, writer)
    expect(decodeIndexFile(object, ref(900), keys)).toMatchObject({ file: { blobCount: 0, segmentCount: 0 }, writerKey: writer.publicKey })
    for (const name of [ref(901), { ...ref(900), session: hex(2) }])
      expect(() => decodeIndexFile(object, name, keys)).toThrow(
        damaged(/^index file [0-9a-f]{32} is damaged: it is another index file under this name/),
      )
  })

  type Row = {
    pack?: number
    offset?: number
    sealed?: number
    plain?: number
    kind?: number
    codec?: number
    session?: number
    blobs?: [number, number, number, number][]
    extra?: number
    packBytes?: number
  }
  /** One pack, one segment, rightly signed and sealed; blobs are id, segment, offset and length. */
  const forged = ({
    pack: of = 0,
    offset = 0,
    sealed = 116,
    plain = 100,
    kind = 1,
    codec = 0,
    session = 0,
    blobs = [[1, 0, 0, 100]],
    extra = 0,
    packBytes = 116,
  }: Row): Buffer => {
    const out = new ByteWriter()
      .raw(refBytes(ref(900)))
      .varint(0)
      .varint(1)
      .raw(encodeSessionEntry(entries[0]!))
      .varint(1)
      .raw(refBytes(ref(1)))
      .u64(packBytes)
    out.u32(1).u32(of).u64(offset).u32(sealed).u32(plain).u8(kind).u8(codec).u16(session).u32(1).zeros(32).u32(blobs.length)
    for (const [number, segment, at, bytes] of blobs) out.hex(id(number)).u32(segment).u32(at).u32(bytes)
    return sealBox({ type: 'index', keys, writer, body: out.zeros(extra).view() })
  }
  const read = (row: Row): IndexFile => decodeIndexFile(forged(row), ref(900), keys).file

  test('at its limits is read', () => {
    expect(read({})).toMatchObject({ blobCount: 1, segmentCount: 1 })
    expect(read({ offset: 99, sealed: 17, plain: 1, blobs: [[1, 0, 0, 1]] }).segment(0)).toMatchObject({
      offset: 99,
      sealedBytes: 17,
      plainBytes: 1,
    })
    expect(read({ plain: LIMITS.segmentPlainBytes }).segment(0).plainBytes).toBe(LIMITS.segmentPlainBytes)
    expect(read({ kind: 3 }).segment(0)).toMatchObject({ kind: 3, session: 0 })
    expect(
      read({
        blobs: [
          [1, 0, 0, 1],
          [1, 0, 99, 1],
          [2, 0, 0, 100],
        ],
      }).blobCount,
    ).toBe(3)
  })

  test.each<[string, Row, RegExp]>([
    ['a segment of a pack that is not listed', { pack: 1 }, /a segment stands outside of its pack/],
    ['a segment that ends after its pack', { offset: 1 }, /a segment stands outside of its pack/],
    ['a segment of a seal alone', { sealed: 16 }, /a segment stands outside of its pack/],
    ['a segment of nothing', { plain: 0 }, /a length that cannot be/],
    ['a segment that is too long', { plain: LIMITS.segmentPlainBytes + 1 }, /a length that cannot be/],
    ['a kind that does not belong there', { kind: 4 }, /segments of kind 4 do not belong here/],
    ['a codec that does not exist', { codec: 2 }, /codec 2 does not exist/],
    ['a session that is not listed', { session: 1 }, /a segment names no session/],
    ['references with a session', { kind: 3, session: 1 }, /a segment names no session/],
    ['a blob in no segment', { blobs: [[1, 1, 0, 1]] }, /a blob stands outside of its segment/],
    ['a blob of nothing', { blobs: [[1, 0, 0, 0]] }, /a blob stands outside of its segment/],
    ['a blob that ends after its segment', { blobs: [[1, 0, 1, 100]] }, /a blob stands outside of its segment/],
    [
      'blobs out of order',
      {
        blobs: [
          [2, 0, 0, 1],
          [1, 0, 0, 1],
        ],
      },
      /its blobs are not in order/,
    ],
    ['bytes after its end', { extra: 1 }, /1 bytes too many/],
  ])('with %s is refused', (_, row, why) => {
    expect(() => read(row)).toThrow(damaged(why))
  })

  test('that claims more than it can hold is refused', () => {
    const counts: [number, (out: ByteWriter, count: number) => ByteWriter][] = [
      [1_000_000, (out, count) => out.varint(count)],
      [65_536, (out, count) => out.varint(0).varint(count)],
      [1_000_000, (out, count) => out.varint(0).varint(0).varint(count)],
      [10_000_000, (out, count) => out.varint(0).varint(0).varint(0).u32(count)],
      [10_000_000, (out, count) => out.varint(0).varint(0).varint(0).u32(0).u32(count)],
    ]
    for (const [limit, write] of counts) {
      const of = (count: number) =>
        sealBox({ type: 'index', keys, writer, body: write(new ByteWriter().raw(refBytes(ref(900))), count).view() })
      expect(() => decodeIndexFile(of(limit + 1), ref(900), keys)).toThrow(damaged(new RegExp(`over the limit of ${limit}`)))
      expect(() => decodeIndexFile(of(limit), ref(900), keys)).toThrow(damaged(/more than it can hold/))
    }
  })
})

describe('index files in memory', () => {
  test('hold so many packs each, under names that differ', () => {
    const packs = Array.from({ length: PACKS_PER_FILE + 1 }, (_, i) => pack(i + 1, { blobs: [[i, 1]] }))
    const files = indexFilesFromFooters(packs, 16)
    expect(files.map((one) => one.packs.length)).toEqual([PACKS_PER_FILE, 1])
    expect(files.map((one) => Number.parseInt(one.ref.random, 16))).toEqual([16, 16 + PACKS_PER_FILE])
    expect(indexFilesFromFooters([])).toEqual([])
    expect(indexFilesFromFooters(packs.slice(0, 1))[0]!.ref).toEqual({ session: '0'.repeat(32), random: '0'.repeat(32) })
  })
})

describe('merging', () => {
  const sized = (number: number, blobCount: number): IndexFile => ({ ...file(number, []), blobCount })
  const names = (files: readonly IndexFile[]): number[] => files.map((one) => Number.parseInt(one.ref.random, 16))
  const many = (count: number, blobs: number, first = 1): IndexFile[] => Array.from({ length: count }, (_, i) => sized(first + i, blobs))

  test('takes files of one size when there are more than sixteen, the smallest size first', () => {
    expect(chooseMerge(many(16, 1))).toEqual([])
    expect(chooseMerge(many(17, 1))).toHaveLength(17)
    expect(chooseMerge([...many(16, 15), ...many(1, 16, 100)])).toEqual([])
    expect(chooseMerge([...many(16, 0), ...many(1, 15, 100)])).toHaveLength(17)
    expect(names(chooseMerge([...many(20, 300, 100), ...many(17, 20)]))).toEqual(names(many(17, 20)))
    expect(names(chooseMerge([...many(10, 1), ...many(17, 300, 100)]))).toEqual(names(many(17, 300, 100)))
  })

  test('makes no file larger than one may be, and merges no file alone', () => {
    const half = INDEX_MAX_BLOBS / 2
    expect(chooseMerge(many(17, half))).toHaveLength(2)
    expect(chooseMerge(many(17, half + 1))).toEqual([])
    expect(chooseMerge(many(17, INDEX_MAX_BLOBS / 4))).toHaveLength(4)
    expect(chooseMerge([])).toEqual([])
  })
})

describe('a view', () => {
  test('finds every place of every blob, of its kind, in the order of the files', () => {
    fc.assert(
      fc.property(somePacks, somePacks, (first, second) => {
        const files = [file(900, first), file(901, second)]
        const view = createView(files)
        for (let number = 0; number <= 41; number++)
          for (const [kind, part] of [
            [1, 'chunk'],
            [2, 'private'],
            [3, 'references'],
          ] as const) {
            const places = [first, second].flatMap((packs, of) =>
              packs.flatMap((one) =>
                one.footer.segments.flatMap((segment) => {
                  let offset = 0
                  return segment.blobs.flatMap((blob) => {
                    const place = {
                      of,
                      pack: one.footer.ref.random,
                      segment: segment.offset,
                      offset,
                      bytes: blob.bytes,
                      entry: segment.kind === 3 ? undefined : entries[segment.session]!.sessionId,
                    }
                    offset += blob.bytes
                    return blob.id === id(number) && segment.kind === kind ? [place] : []
                  })
                }),
              ),
            )
            const found = view.locate(id(number), part)
            const rows = view.rows(id(number), part)
            expect(view.has(id(number), part)).toBe(places.length > 0)
            const sorted = (all: unknown[]) => all.map((one) => JSON.stringify(one)).toSorted()
            expect(
              sorted(
                found.map((one, i) => ({
                  of: rows[i]!.file,
                  pack: one.pack.random,
                  segment: one.segment.offset,
                  offset: one.offset,
                  bytes: one.bytes,
                  entry: part === 'references' ? undefined : one.session?.sessionId,
                })),
              ),
            ).toEqual(sorted(places))
            for (const [i, row] of rows.entries()) {
              expect(row.pack).toEqual(found[i]!.pack)
              expect(files[row.file]!.blobs.toString('hex', row.row * 44, row.row * 44 + 32)).toBe(id(number))
            }
            expect(rows.map((row) => row.file)).toEqual(rows.map((row) => row.file).toSorted())
          }
      }),
      { numRuns: 12 },
    )
  })

  test('leaves out what others replace, unless it alone says something', () => {
    const [a, b] = [
      pack(1, {
        blobs: [
          [1, 5],
          [2, 6],
        ],
      }),
      pack(2, { blobs: [[3, 7]] }),
    ]
    const old = file(900, [a, b])
    const merged = file(901, [a, b], [ref(900), ref(899)])
    const view = createView([old, merged])
    expect(view.files).toEqual([merged])
    expect(view.lastResort).toEqual([])
    expect(view.covered).toEqual(new Set([refKey(ref(900))]))
    expect(view.replaced).toEqual([{ ref: ref(900), by: ref(901) }])
    expect(liveIndexFiles([old, merged])).toEqual([merged])
    const less = file(901, [a], [ref(900)])
    const doubted = createView([old, less])
    expect([doubted.files, doubted.lastResort]).toEqual([[less], [old]])
    expect(doubted.covered).toEqual(new Set())
    expect(doubted.rows(id(1), 'chunk').map((row) => row.file)).toEqual([0, 1])
    expect(doubted.locate(id(3), 'chunk')).toMatchObject([{ pack: { random: hex(2) }, bytes: 7 }])
    // Its packs are those of files that count, each once.
    expect([...doubted.packs()].map((one) => one.random)).toEqual([hex(1)])
    expect([...createView([old, file(902, [b, a])]).packs()].map((one) => one.random)).toEqual([hex(1), hex(2)])
    expect(isStillSaid(view, [ref(901), ref(900)])).toBe(true)
    expect(isStillSaid(view, [ref(901), ref(899)])).toBe(false)
    expect(isStillSaid(doubted, [ref(900)])).toBe(false)
    expect(isStillSaid(doubted, [])).toBe(true)
  })

  test('lets nobody replace what another wrote, but the root', () => {
    const other = agentWriter(Buffer.alloc(32, 7), Buffer.alloc(16, 7))
    const mine = file(900, [])
    const theirs = file(901, [], [], other)
    const replaces = [ref(900), ref(901), ref(899)]
    const by = (who: typeof writer) => withoutForeignReplaces([mine, theirs, file(902, [], replaces, who)], keys.rootWriterKey)[2]!.replaces
    expect(by(writer)).toEqual([ref(900), ref(899)])
    expect(by(other)).toEqual([ref(901), ref(899)])
    expect(by(root.write.writer)).toEqual(replaces)
    expect(withoutForeignReplaces([mine], keys.rootWriterKey)).toEqual([mine])
  })
})
