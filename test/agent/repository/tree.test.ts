// Tree nodes: what is written is read back, and a node that says anything that no honest writer says is refused with the reason (FORMAT.md section 8).
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import {
  type DecodedNode,
  decodeNode,
  decodeReferences,
  encodeChunkList,
  encodeChunkListPages,
  encodeDirectory,
  encodeDirectoryPages,
  type EncodedNode,
  type Entry,
  isEntryName,
  nodeHasher,
  NODE_TYPE,
  readEntry,
  type Reference,
  totalBytes,
  writeEntry,
} from '../../../agent/repository/tree.ts'

const hasher = nodeHasher(Buffer.alloc(32, 3))
const id = (number: number): string => number.toString(16).padStart(64, '0')
const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })
const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max }).map((made) => Buffer.from(made))
const name = (text: string): Buffer => Buffer.from(text)
const ids = fc.array(fc.integer({ min: 1, max: 1000 }).map(id), { maxLength: 5 })

const attributes = fc
  .uniqueArray(bytes(1, 6), { minLength: 1, maxLength: 4, selector: (one) => one.toString('hex') })
  .map((names) => names.filter((one) => !one.includes(0)).toSorted(Buffer.compare))
  .filter((names) => names.length > 0)
  .map((names) => names.map((one, i) => ({ name: one, value: Buffer.alloc(i, 7) })))
const extents = fc.array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 40 })), { maxLength: 4 }).map((gaps) => {
  let end = 0
  return gaps.map(([gap, length]) => {
    const extent = { offset: end + gap, bytes: length }
    end = extent.offset + length
    return extent
  })
})
const common = fc.record(
  {
    name: fc.constantFrom('a', '...', '.x', '-', '\xff').map((text) => Buffer.from(text, 'latin1')),
    mode: fc.nat(0o7777),
    uid: fc.oneof(fc.nat(70_000), fc.constant(0xfffffffe)),
    gid: fc.oneof(fc.nat(70_000), fc.constant(0xfffffffe)),
    mtimeNs: fc.oneof(fc.bigInt({ min: -(10n ** 19n), max: 10n ** 19n }), fc.constantFrom(-1n, 0n, -1_000_000_000n, 999_999_999n)),
    link: fc.record({ volume: fc.nat(9), inode: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) }),
    attributes,
  },
  { requiredKeys: ['name', 'mode', 'uid', 'gid', 'mtimeNs'] },
)
const content = fc.oneof(
  ids.map((all) => ({ kind: 'chunks' as const, ids: all })),
  fc.integer({ min: 1, max: 99 }).map((number) => ({ kind: 'list' as const, id: id(number) })),
)
const files = fc.oneof(
  fc
    .tuple(common, fc.nat(2 ** 40), content, fc.boolean())
    .map(([entry, size, made, changed]): Entry => ({ ...entry, kind: 'file', size, content: made, ...(changed ? { changed } : {}) })),
  fc
    .tuple(common, bytes(0, LIMITS.inlineBytes))
    .map(([entry, inline]): Entry => ({ ...entry, kind: 'file', size: inline.length, content: { kind: 'inline', bytes: inline } })),
  fc.tuple(common, extents, fc.nat(9), content, fc.boolean()).map(([entry, made, more, held, inline]): Entry => {
    const size = (made.at(-1)?.offset ?? 0) + (made.at(-1)?.bytes ?? 0) + more
    return {
      ...entry,
      kind: 'file',
      size,
      extents: made,
      content: inline ? { kind: 'inline', bytes: Buffer.alloc(totalBytes(made), 1) } : held,
    }
  }),
)
const device = fc.record({ major: fc.nat(0xffffffff), minor: fc.nat(0xffffffff) })
const entries = fc.oneof(
  files,
  fc
    .tuple(common, fc.integer({ min: 1, max: 99 }), fc.boolean())
    .map(([entry, node, passage]): Entry => ({ ...entry, kind: 'directory', node: id(node), ...(passage ? { passage } : {}) })),
  fc
    .tuple(common, bytes(1, 30))
    .filter(([, target]) => !target.includes(0))
    .map(([entry, target]): Entry => ({ ...entry, kind: 'symlink', target })),
  common.map((entry): Entry => ({ ...entry, kind: 'fifo' })),
  fc
    .tuple(common, device, fc.constantFrom('character-device' as const, 'block-device' as const))
    .map(([entry, made, kind]): Entry => ({ ...entry, kind, device: made })),
)

function directory(all: readonly Entry[]): EncodedNode {
  const out = new ByteWriter()
  const references: Reference[] = []
  for (const entry of all) writeEntry(out, entry, references)
  return encodeDirectory(all.length, out.finish(), references, hasher)
}
const decode = (node: EncodedNode) => decodeNode(node.id, node, hasher)

/** A node whose two parts are what they are, with the id that is theirs. */
function made(
  type: number,
  privatePart: Buffer,
  references: readonly Reference[],
  version = 1,
  whats: number[] = references.map(({ what }) => (what === 'chunk' ? 0 : 1)),
): EncodedNode {
  const out = new ByteWriter()
    .u8(version)
    .u8(type)
    .hex(hasher.hexOf([name('private'), privatePart]))
    .varint(references.length)
  for (const [i, reference] of references.entries()) out.u8(whats[i]!).hex(reference.id)
  const part = out.finish()
  return { id: hasher.hexOf([name('node'), part]), references: part, private: privatePart }
}
const chunk = (number: number): Reference => ({ what: 'chunk', id: id(number) })
const node = (number: number): Reference => ({ what: 'node', id: id(number) })

describe('an entry', () => {
  test('of every kind is read back as it was written, with its references in order', () => {
    fc.assert(
      fc.property(entries, (entry) => {
        expect(decode(directory([entry]))).toEqual({ type: 'directory', entries: [entry] })
      }),
      { numRuns: 400 },
    )
  })

  test('without anything that it may have reads back with none of it', () => {
    const plain = { name: name('f'), mode: 0, uid: 0, gid: 0, mtimeNs: 0n }
    const read = (entry: Entry): Entry => (decode(directory([entry])) as Extract<DecodedNode, { type: 'directory' }>).entries[0]!
    expect(read({ ...plain, kind: 'file', attributes: [], changed: false })).toEqual({
      ...plain,
      kind: 'file',
      size: 0,
      content: { kind: 'chunks', ids: [] },
    })
    expect(Object.keys(read({ ...plain, kind: 'fifo', passage: false }))).toEqual(['name', 'kind', 'mode', 'uid', 'gid', 'mtimeNs'])
  })

  type Raw = {
    name?: Buffer
    kind?: number
    flags?: number
    mode?: number
    uid?: number
    gid?: number
    nano?: number
    size?: number
    rest?: (out: ByteWriter) => unknown
  }
  const raw = (given: Raw): Buffer => {
    const out = new ByteWriter()
      .bytes(given.name ?? name('n'))
      .u8(given.kind ?? 1)
      .u16(given.flags ?? 0)
      .u16(given.mode ?? 0)
    out
      .varint(given.uid ?? 0)
      .varint(given.gid ?? 0)
      .svarint(0n)
      .varint(given.nano ?? 0)
    if ((given.kind ?? 1) === 1) out.varint(given.size ?? 0)
    if (given.rest === undefined) out.varint(0)
    else given.rest(out)
    return out.finish()
  }
  const read = (given: Raw): Entry => {
    const reader = new ByteReader(raw(given), 'it')
    const entry = readEntry(reader, { take: (what) => (what === 'chunk' ? id(1) : id(2)) })
    reader.end()
    return entry
  }
  const nothing = (): undefined => undefined

  test.each<[string, Raw, RegExp]>([
    ['no name', { name: Buffer.of() }, /a name in it is none/],
    ['a kind of 0', { kind: 0 }, /of a kind that does not exist/],
    ['a kind of 7', { kind: 7 }, /of a kind that does not exist/],
    ['a flag that does not exist', { flags: 128 }, /flags that do not belong/],
    ['the passage of a file', { flags: 64 }, /flags that do not belong/],
    ...[2, 4, 8, 16, 32].flatMap((flag): [string, Raw, RegExp][] =>
      flag === 2 ? [] : [[`flag ${flag} on a directory`, { kind: 2, flags: flag, rest: nothing }, /flags that do not belong/]],
    ),
    ['a mode over 7777', { mode: 0o10000 }, /a mode that does not exist/],
    ['a uid that is none', { uid: 0xffffffff }, /4294967295 is over the limit/],
    ['a gid that is none', { gid: 0xffffffff }, /4294967295 is over the limit/],
    ['a second of nanoseconds', { nano: 1_000_000_000 }, /over the limit of 999999999/],
    ['a target of nothing', { kind: 3, rest: (out) => out.bytes(Buffer.of()) }, /a target that cannot be/],
    ['a target with a zero', { kind: 3, rest: (out) => out.bytes(Buffer.of(65, 0)) }, /a target that cannot be/],
    ['a target too long', { kind: 3, rest: (out) => out.bytes(Buffer.alloc(LIMITS.targetBytes + 1, 65)) }, /over the limit of 4095/],
    ['a major number too large', { kind: 5, rest: (out) => out.varint(2 ** 32).varint(0) }, /over the limit of 4294967295/],
    ['a minor number too large', { kind: 6, rest: (out) => out.varint(0).varint(2 ** 32) }, /over the limit of 4294967295/],
    ['inline content and a list', { flags: 24, rest: (out) => out.bytes(Buffer.of()) }, /flags that do not belong/],
    [
      'inline content of another length',
      { flags: 8, size: 2, rest: (out) => out.bytes(Buffer.of(1)) },
      /a small file has the wrong length/,
    ],
    ['inline content too long', { flags: 8, size: 257, rest: (out) => out.bytes(Buffer.alloc(257)) }, /over the limit of 256/],
    [
      'inline content unlike its extents',
      { flags: 12, size: 9, rest: (out) => out.varint(1).varint(0).varint(2).bytes(Buffer.alloc(9)) },
      /a small file has the wrong length/,
    ],
    [
      'an extent of nothing',
      { flags: 4, size: 9, rest: (out) => out.varint(1).varint(0).varint(0).varint(0) },
      /stands outside of its file/,
    ],
    [
      'an extent past the end',
      { flags: 4, size: 9, rest: (out) => out.varint(1).varint(5).varint(5).varint(0) },
      /stands outside of its file/,
    ],
    [
      'a second extent past the end',
      { flags: 4, size: 9, rest: (out) => out.varint(2).varint(1).varint(4).varint(1).varint(4).varint(0) },
      /stands outside of its file/,
    ],
    [
      'an attribute without a name',
      { flags: 2, rest: (out) => out.varint(1).bytes(Buffer.of()).bytes(Buffer.of()).varint(0) },
      /an attribute has no name/,
    ],
    [
      'an attribute with a zero',
      { flags: 2, rest: (out) => out.varint(1).bytes(Buffer.of(65, 0)).bytes(Buffer.of()).varint(0) },
      /an attribute has no name/,
    ],
    [
      'an attribute twice',
      { flags: 2, rest: (out) => out.varint(2).bytes(name('a')).bytes(Buffer.of()).bytes(name('a')).bytes(Buffer.of()).varint(0) },
      /its attributes are not in order/,
    ],
    [
      'attributes not in order',
      { flags: 2, rest: (out) => out.varint(2).bytes(name('b')).bytes(Buffer.of()).bytes(name('a')).bytes(Buffer.of()).varint(0) },
      /its attributes are not in order/,
    ],
    ['too many chunks', { rest: (out) => out.varint(LIMITS.referencesPerNode + 1) }, /over the limit of 65536/],
  ])('with %s is refused', (_, given, why) => {
    expect(() => read(given)).toThrow(damaged(why))
  })

  test('at each of its limits is read', () => {
    expect(read({ mode: 0o7777, uid: 0xfffffffe, gid: 0xfffffffe, nano: 999_999_999 })).toMatchObject({ mtimeNs: 999_999_999n })
    expect(read({ flags: 12, size: 9, rest: (out) => out.varint(1).varint(7).varint(2).bytes(Buffer.of(1, 2)) })).toMatchObject({
      extents: [{ offset: 7, bytes: 2 }],
    })
    expect(read({ flags: 8, size: 256, rest: (out) => out.bytes(Buffer.alloc(256)) }).size).toBe(256)
    expect(read({ kind: 3, rest: (out) => out.bytes(Buffer.alloc(LIMITS.targetBytes, 65)) }).target).toHaveLength(4095)
    expect(read({ kind: 2, flags: 64 + 1, rest: (out) => out.varint(3).varint(4) })).toMatchObject({
      passage: true,
      node: id(2),
      link: { volume: 3, inode: 4n },
    })
    expect(read({ flags: 16, rest: nothing }).content).toEqual({ kind: 'list', id: id(2) })
    expect(
      read({ flags: 2, rest: (out) => out.varint(2).bytes(name('a')).bytes(name('v')).bytes(name('b')).bytes(Buffer.of()).varint(0) })
        .attributes,
    ).toEqual([
      { name: name('a'), value: name('v') },
      { name: name('b'), value: Buffer.of() },
    ])
  })

  test('has a name that leads nowhere else', () => {
    const names = ['a', '..a', '...', '.a', 'a.', '\n', 'x'.repeat(255)]
    expect(names.map((one) => isEntryName(name(one)))).toEqual(names.map(() => true))
    const none = ['', '.', '..', '/', 'a/b', '../x', 'a\0', 'x'.repeat(256)]
    expect(none.map((one) => isEntryName(name(one)))).toEqual(none.map(() => false))
  })
})

describe('a directory', () => {
  const entry = (text: string): Entry => ({ name: name(text), kind: 'fifo', mode: 0, uid: 0, gid: 0, mtimeNs: 0n })

  test('has its names in order, each once', () => {
    expect(decode(directory([entry('a'), entry('b')]))).toMatchObject({ entries: [{ name: name('a') }, { name: name('b') }] })
    expect(decode(directory([]))).toEqual({ type: 'directory', entries: [] })
    for (const all of [
      ['a', 'a'],
      ['b', 'a'],
      ['a', 'c', 'b'],
    ])
      expect(() => decode(directory(all.map(entry)))).toThrow(damaged(/its names are not in order/))
  })

  test('has as many references as its entries take, of their kind', () => {
    const sub: Entry = { ...entry('d'), kind: 'directory', node: id(5) }
    const out = new ByteWriter()
    writeEntry(out, sub, [])
    const of = (references: Reference[]) => encodeDirectory(1, out.view(), references, hasher)
    expect(decode(of([node(5)]))).toEqual({ type: 'directory', entries: [sub] })
    for (const references of [[], [chunk(5)], [node(5), node(6)], [node(5), chunk(6)]])
      expect(() => decode(of(references))).toThrow(damaged(/its two parts do not fit each other/))
  })
})

describe('pages and lists', () => {
  const pages = [
    { firstName: name('a'), entries: 3, id: id(1) },
    { firstName: name('b'), entries: 2 ** 40, id: id(2) },
  ]

  test('are read back as they were written', () => {
    expect(decode(encodeDirectoryPages(pages, hasher))).toEqual({ type: 'directory-pages', pages })
    expect(decode(encodeChunkList([id(1), id(2)], 77, hasher))).toEqual({ type: 'chunk-list', ids: [id(1), id(2)], bytes: 77 })
    const lists = [
      { bytes: 7, id: id(1) },
      { bytes: 8, id: id(2) },
    ]
    expect(decode(encodeChunkListPages(lists, hasher))).toEqual({ type: 'chunk-list-pages', pages: lists })
    const types = [
      directory([]),
      encodeDirectoryPages(pages, hasher),
      encodeChunkList([id(1)], 7, hasher),
      encodeChunkListPages(lists, hasher),
    ]
    expect(types.map((one) => decodeReferences(one.id, one.references, hasher).type)).toEqual([1, 2, 3, 4])
  })

  test('are refused where they are empty, out of order, or of another kind than their references', () => {
    expect(() => decode(encodeChunkList([], 0, hasher))).toThrow(damaged(/a page of it is empty/))
    expect(() => decode(encodeDirectoryPages([], hasher))).toThrow(damaged(/a page of it is empty/))
    expect(() => decode(encodeChunkListPages([], hasher))).toThrow(damaged(/a page of it is empty/))
    expect(() => decode(encodeDirectoryPages(pages.toReversed(), hasher))).toThrow(damaged(/its names are not in order/))
    expect(() => decode(encodeDirectoryPages([{ ...pages[0]!, firstName: name('..') }], hasher))).toThrow(damaged(/a name in it is none/))
    const fit = damaged(/its two parts do not fit each other/)
    expect(() => decode(made(NODE_TYPE.chunkList, Buffer.of(1), [node(1)]))).toThrow(fit)
    expect(() => decode(made(NODE_TYPE.chunkListPages, Buffer.of(1, 7), [chunk(1)]))).toThrow(fit)
    expect(() => decode(made(NODE_TYPE.chunkListPages, Buffer.of(1, 7), [node(1), node(2)]))).toThrow(fit)
    expect(() => decode(made(NODE_TYPE.directoryPages, Buffer.of(1, 1, 65, 7), [chunk(1)]))).toThrow(fit)
    expect(() => decode(made(NODE_TYPE.chunkList, Buffer.of(1, 1), [chunk(1)]))).toThrow(damaged(/1 bytes too many/))
    expect(() => decode(made(NODE_TYPE.directory, Buffer.of(2, 1), []))).toThrow(damaged(/more than it can hold/))
  })
})

describe('a node', () => {
  const list = encodeChunkList([id(1), id(2)], 77, hasher)

  test('is held against its id in both parts', () => {
    const other = encodeChunkList([id(1), id(3)], 78, hasher)
    expect(() => decodeNode(list.id, other, hasher)).toThrow(
      damaged(/^tree node [0-9a-f]{16} is damaged: it does not have the id under which it is stored/),
    )
    expect(() => decodeNode(list.id, { ...list, private: other.private }, hasher)).toThrow(damaged(/its private part is another one/))
    expect(() => decodeNode(list.id, list, nodeHasher(Buffer.alloc(32, 4)))).toThrow(damaged(/does not have the id/))
  })

  test('of a version, type or reference that does not exist is refused', () => {
    const references = (one: EncodedNode) => () => decodeReferences(one.id, one.references, hasher)
    for (const version of [0, 2]) expect(references(made(3, Buffer.of(1), [], version))).toThrow(damaged(/its version does not exist/))
    for (const type of [0, 5])
      expect(references(made(type, Buffer.of(1), []))).toThrow(damaged(new RegExp(`nodes of type ${type} do not exist`)))
    expect(references(made(3, Buffer.of(1), [chunk(1)], 1, [2]))).toThrow(damaged(/references of kind 2 do not exist/))
    expect(references(made(3, Buffer.of(1), [chunk(1), node(2)]))()).toEqual({
      type: 3,
      privateHash: hasher.hexOf([name('private'), Buffer.of(1)]),
      references: [chunk(1), node(2)],
    })
    const longer = Buffer.concat([list.references, Buffer.of(0)])
    expect(() => decodeReferences(hasher.hexOf([name('node'), longer]), longer, hasher)).toThrow(damaged(/1 bytes too many/))
  })

  test('is no longer than a node may be, in each of its parts', () => {
    const long = Buffer.alloc(LIMITS.nodePartBytes + 1)
    expect(() => decodeReferences(list.id, long, hasher)).toThrow(damaged(/it is too long/))
    expect(() => decodeReferences(list.id, long.subarray(1), hasher)).toThrow(damaged(/does not have the id/))
    expect(() => decodeNode(list.id, { ...list, private: long }, hasher)).toThrow(damaged(/it is too long/))
    expect(() => decodeNode(list.id, { ...list, private: long.subarray(1) }, hasher)).toThrow(damaged(/its private part is another one/))
  })
})
