// Tree nodes: both parts, whose ids are made to fit, so that what is tried is the reading of them. Input: the type, the number of references, what
// each of them is (0 a chunk, 1 a node), then the private part.
import { blake3 } from '../../../agent/repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import {
  type DecodedNode,
  decodeNode,
  encodeChunkList,
  encodeChunkListPages,
  encodeDirectory,
  encodeDirectoryPages,
  type EncodedNode,
  type Entry,
  nodeHasher,
  type Reference,
  writeEntry,
} from '../../../agent/repository/tree.ts'
import { structure } from '../_support/fixture.ts'
import { accepted, requireSame, type Target, violation } from '../_support/target.ts'

export const hasher = nodeHasher(structure.treeIdKey)
const idOf = (n: number): string => blake3.plain().hex(Buffer.of(n & 255, n >> 8))

/** The input as a node: references are numbered, and a part that does not fit the other is the reader's to find. */
export function nodeOf(input: Buffer): EncodedNode {
  const [type = 1, count = 0] = input
  const whats = input.subarray(2, 2 + count)
  const privatePart = input.subarray(2 + count)
  const out = new ByteWriter(64 + whats.length * 33)
    .u8(1)
    .u8(type)
    .hex(hasher.hexOf([Buffer.from('private'), privatePart]))
    .varint(whats.length)
  for (const [at, what] of whats.entries()) out.u8(what).hex(idOf(at))
  const references = out.finish()
  return { id: hasher.hexOf([Buffer.from('node'), references]), references, private: privatePart }
}

const common = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 1_600_000_000_123_456_789n }
const file = (name: string, more: Partial<Entry>): Entry => ({ ...common, name: Buffer.from(name), kind: 'file', ...more })
const attributes = [
  { name: Buffer.from('security.x'), value: Buffer.from([1, 0, 2]) },
  { name: Buffer.from('user.a'), value: Buffer.from('value') },
]
export const ENTRIES: readonly Entry[] = [
  file('a-file', { size: 5, content: { kind: 'inline', bytes: Buffer.from('hello') } }),
  file('b-chunks', { size: 5000, content: { kind: 'chunks', ids: [idOf(0), idOf(1)] }, mtimeNs: -1n, changed: true }),
  file('c-list', { size: 2 ** 40, content: { kind: 'list', id: idOf(2) }, attributes }),
  file('d-holes', { size: 4096, extents: [{ offset: 512, bytes: 3 }], content: { kind: 'inline', bytes: Buffer.from('abc') } }),
  { ...common, name: Buffer.from('e-directory'), kind: 'directory', node: idOf(3), passage: true },
  { ...common, name: Buffer.from('f-fifo'), kind: 'fifo', link: { volume: 1, inode: 2n ** 63n } },
  { ...common, name: Buffer.from('g-link'), kind: 'symlink', target: Buffer.from('../somewhere') },
  { ...common, name: Buffer.from('h-null'), kind: 'character-device', device: { major: 1, minor: 3 } },
  { ...common, name: Buffer.from('i-disk'), kind: 'block-device', device: { major: 4_294_967_295, minor: 0 }, attributes },
]

/** Entries as an input. */
export function directoryInput(entries: readonly Entry[]): Buffer {
  const references: Reference[] = []
  const out = new ByteWriter()
  for (const entry of entries) writeEntry(out, entry, references)
  const node = encodeDirectory(entries.length, out.view(), references, hasher)
  return inputOf(1, references, node)
}

function inputOf(type: number, references: readonly Reference[], node: EncodedNode): Buffer {
  return Buffer.concat([
    Buffer.of(type, references.length),
    Buffer.from(references.map(({ what }) => (what === 'chunk' ? 0 : 1))),
    node.private,
  ])
}

/** The node written again by the product's encoders. */
function encoded(node: DecodedNode): EncodedNode {
  switch (node.type) {
    case 'directory': {
      const references: Reference[] = []
      const out = new ByteWriter()
      for (const entry of node.entries) writeEntry(out, entry, references)
      return encodeDirectory(node.entries.length, out.view(), references, hasher)
    }
    case 'directory-pages':
      return encodeDirectoryPages(node.pages, hasher)
    case 'chunk-list':
      return encodeChunkList(node.ids, node.bytes, hasher)
    default:
      return encodeChunkListPages(node.pages, hasher)
  }
}

export const treeNode: Target = {
  name: 'tree-node',
  about: 'directories, chunk lists and their pages: what is taken is written again as the same bytes, and its names are names',
  form: 'bytes',
  covers: ['agent/repository/tree.ts', 'shared/format/bytes.ts'],
  weight: 4,
  bytesMax: 4096,
  seeds: () => {
    const nodes: Reference[] = [0, 1].map((n) => ({ what: 'node', id: idOf(n) }))
    const chunks: Reference[] = [0, 1].map((n) => ({ what: 'chunk', id: idOf(n) }))
    const pages = ['a', 'm'].map((name, n) => ({ firstName: Buffer.from(name), entries: 10, id: idOf(n) }))
    return [
      directoryInput(ENTRIES),
      directoryInput([]),
      ...ENTRIES.map((entry) => directoryInput([entry])),
      inputOf(2, nodes, encodeDirectoryPages(pages, hasher)),
      inputOf(3, chunks, encodeChunkList([idOf(0), idOf(1)], 2 ** 21, hasher)),
      inputOf(
        4,
        nodes,
        encodeChunkListPages(
          [0, 1].map((n) => ({ bytes: 2 ** 21, id: idOf(n) })),
          hasher,
        ),
      ),
    ]
  },
  run: (input) => {
    const node = nodeOf(input)
    const decoded = accepted(() => decodeNode(node.id, node, hasher))
    if (decoded === undefined) return 'refused'
    const again = encoded(decoded)
    requireSame(node.private, again.private, 'the private part of a node')
    requireSame(node.references, again.references, 'the reference part of a node')
    if (decoded.type === 'directory')
      for (const { name } of decoded.entries)
        if (/^(?:|\.|\.\.)$|[/\0]/.test(name.toString('latin1')))
          violation(`a directory has the name ${JSON.stringify(name.toString('latin1'))}`)
    return 'taken'
  },
}
