// Tree nodes (FORMAT.md section 8): directories and chunk lists, each in two parts, so that what refers to what can be seen with the
// structure key alone and names only with the content key. Pure codecs; names and contents are checked in both directions.
import { blake3, type Hasher } from './blake3.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'

export const NODE_TYPE = { directory: 1, directoryPages: 2, chunkList: 3, chunkListPages: 4 } as const
export type NodeType = (typeof NODE_TYPE)[keyof typeof NODE_TYPE]

export type Reference = { readonly what: 'chunk' | 'node'; readonly id: string }

const ENTRY_KIND = { file: 1, directory: 2, symlink: 3, fifo: 4, 'character-device': 5, 'block-device': 6 } as const
const KIND_OF = ['', 'file', 'directory', 'symlink', 'fifo', 'character-device', 'block-device'] as const
export type EntryKind = keyof typeof ENTRY_KIND

const FLAG = { linked: 1, attributes: 2, holes: 4, inline: 8, list: 16, changed: 32, passage: 64 } as const

export type Attribute = { readonly name: Buffer; readonly value: Buffer }
export type Extent = { readonly offset: number; readonly bytes: number }

export type Content =
  | { readonly kind: 'inline'; readonly bytes: Buffer }
  | { readonly kind: 'chunks'; readonly ids: readonly string[] }
  | { readonly kind: 'list'; readonly id: string }

export type Entry = {
  readonly name: Buffer
  readonly kind: EntryKind
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: bigint
  readonly link?: { readonly volume: number; readonly inode: bigint } | undefined
  readonly attributes?: readonly Attribute[] | undefined
  /** Files. */
  readonly size?: number | undefined
  readonly content?: Content | undefined
  /** Where data stands in a file with holes; the content is these, one after the other. */
  readonly extents?: readonly Extent[] | undefined
  readonly changed?: boolean | undefined
  /** Directories: the node of their content, and whether they only lead to what was backed up. */
  readonly node?: string | undefined
  readonly passage?: boolean | undefined
  readonly target?: Buffer | undefined
  readonly device?: { readonly major: number; readonly minor: number } | undefined
}

/** A node as it is stored: two blobs under one id. */
export type EncodedNode = { readonly id: string; readonly references: Buffer; readonly private: Buffer }

export type NodeHasher = { readonly privateHash: Hasher; readonly nodeId: Hasher }

const PRIVATE = Buffer.from('private')
const NODE = Buffer.from('node')

/** One hasher under the tree-id key serves both uses; the labels keep them apart. */
export function nodeHasher(treeIdKey: Buffer): Hasher {
  return blake3.keyed(treeIdKey)
}

function encodeNode(type: NodeType, privatePart: Buffer, references: readonly Reference[], hasher: Hasher): EncodedNode {
  const out = new ByteWriter(48 + references.length * 33)
  out
    .u8(1)
    .u8(type)
    .hex(hasher.hexOf([PRIVATE, privatePart]))
    .varint(references.length)
  for (const reference of references) out.u8(reference.what === 'chunk' ? 0 : 1).hex(reference.id)
  const part = out.finish()
  return { id: hasher.hexOf([NODE, part]), references: part, private: privatePart }
}

/** Writes one entry and gives the references it takes. */
export function writeEntry(out: ByteWriter, entry: Entry, references: Reference[]): void {
  const { content } = entry
  const flags =
    (entry.link === undefined ? 0 : FLAG.linked) |
    (entry.attributes === undefined || entry.attributes.length === 0 ? 0 : FLAG.attributes) |
    (entry.extents === undefined ? 0 : FLAG.holes) |
    (content?.kind === 'inline' ? FLAG.inline : 0) |
    (content?.kind === 'list' ? FLAG.list : 0) |
    (entry.changed === true ? FLAG.changed : 0) |
    (entry.passage === true ? FLAG.passage : 0)
  const seconds = floorDivide(entry.mtimeNs, 1_000_000_000n)
  out.bytes(entry.name).u8(ENTRY_KIND[entry.kind]).u16(flags).u16(entry.mode).varint(entry.uid).varint(entry.gid)
  out.svarint(seconds).varint(Number(entry.mtimeNs - seconds * 1_000_000_000n))
  if (entry.kind === 'file') out.varint(entry.size ?? 0)
  else if (entry.kind === 'directory') references.push({ what: 'node', id: entry.node! })
  else if (entry.kind === 'symlink') out.bytes(entry.target!)
  else if (entry.device !== undefined) out.varint(entry.device.major).varint(entry.device.minor)
  if (entry.link !== undefined) out.varint(entry.link.volume).varint(entry.link.inode)
  if ((flags & FLAG.attributes) !== 0) {
    out.varint(entry.attributes!.length)
    for (const attribute of entry.attributes!) out.bytes(attribute.name).bytes(attribute.value)
  }
  if (entry.extents !== undefined) {
    out.varint(entry.extents.length)
    let end = 0
    for (const extent of entry.extents) {
      out.varint(extent.offset - end).varint(extent.bytes)
      end = extent.offset + extent.bytes
    }
  }
  if (entry.kind !== 'file') return
  if (content?.kind === 'inline') out.bytes(content.bytes)
  else if (content?.kind === 'list') references.push({ what: 'node', id: content.id })
  else {
    const ids = content?.ids ?? []
    out.varint(ids.length)
    for (const id of ids) references.push({ what: 'chunk', id })
  }
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by
  return value % by < 0n ? quotient - 1n : quotient
}

/** The node of a directory page over entries that were written with `writeEntry` in ascending order of names. */
export function encodeDirectory(count: number, entries: Uint8Array, references: readonly Reference[], hasher: Hasher): EncodedNode {
  const part = new ByteWriter(entries.length + 5).varint(count).raw(entries).finish()
  return encodeNode(NODE_TYPE.directory, part, references, hasher)
}

export type DirectoryPage = { readonly firstName: Buffer; readonly entries: number; readonly id: string }

export function encodeDirectoryPages(pages: readonly DirectoryPage[], hasher: Hasher): EncodedNode {
  const out = new ByteWriter().varint(pages.length)
  for (const page of pages) out.bytes(page.firstName).varint(page.entries)
  return encodeNode(
    NODE_TYPE.directoryPages,
    out.finish(),
    pages.map(({ id }) => ({ what: 'node', id })),
    hasher,
  )
}

export function encodeChunkList(ids: readonly string[], bytes: number, hasher: Hasher): EncodedNode {
  return encodeNode(
    NODE_TYPE.chunkList,
    new ByteWriter(16).varint(bytes).finish(),
    ids.map((id) => ({ what: 'chunk', id })),
    hasher,
  )
}

export function encodeChunkListPages(pages: readonly { bytes: number; id: string }[], hasher: Hasher): EncodedNode {
  const out = new ByteWriter().varint(pages.length)
  for (const page of pages) out.varint(page.bytes)
  return encodeNode(
    NODE_TYPE.chunkListPages,
    out.finish(),
    pages.map(({ id }) => ({ what: 'node', id })),
    hasher,
  )
}

export type DecodedReferences = { readonly type: NodeType; readonly privateHash: string; readonly references: readonly Reference[] }

/** Checks the reference part against the node's id. Needs the structure and tree-id keys only. */
export function decodeReferences(id: string, part: Buffer, hasher: Hasher): DecodedReferences {
  const reader = new ByteReader(part, `tree node ${id.slice(0, 16)}`)
  if (part.length > LIMITS.nodePartBytes) throw reader.refuse('it is too long')
  if (hasher.hexOf([NODE, part]) !== id) throw reader.refuse('it does not have the id under which it is stored')
  if (reader.u8() !== 1) throw reader.refuse('its version does not exist')
  const type = reader.u8()
  if (type < 1 || type > 4) throw reader.refuse(`nodes of type ${type} do not exist`)
  const privateHash = reader.hex(32)
  const count = reader.count(LIMITS.referencesPerNode, 33)
  const references = Array.from({ length: count }, (): Reference => {
    const what = reader.u8()
    if (what > 1) throw reader.refuse(`references of kind ${what} do not exist`)
    return { what: what === 0 ? 'chunk' : 'node', id: reader.hex(32) }
  })
  reader.end()
  return { type: type as NodeType, privateHash, references }
}

export type DecodedNode =
  | { readonly type: 'directory'; readonly entries: readonly Entry[] }
  | { readonly type: 'directory-pages'; readonly pages: readonly DirectoryPage[] }
  | { readonly type: 'chunk-list'; readonly ids: readonly string[]; readonly bytes: number }
  | { readonly type: 'chunk-list-pages'; readonly pages: readonly { bytes: number; id: string }[] }

/** A node from both of its parts, each checked against the id. */
export function decodeNode(id: string, parts: { references: Buffer; private: Buffer }, hasher: Hasher): DecodedNode {
  const { type, privateHash, references } = decodeReferences(id, parts.references, hasher)
  const reader = new ByteReader(parts.private, `tree node ${id.slice(0, 16)}`)
  if (parts.private.length > LIMITS.nodePartBytes) throw reader.refuse('it is too long')
  if (hasher.hexOf([PRIVATE, parts.private]) !== privateHash) throw reader.refuse('its private part is another one')
  const source = new ReferenceReader(references, reader)
  const node = decodePrivate(type, reader, source)
  reader.end()
  source.end()
  return node
}

function decodePrivate(type: NodeType, reader: ByteReader, source: ReferenceReader): DecodedNode {
  if (type === NODE_TYPE.chunkList) {
    const bytes = reader.varint()
    const ids = source.rest('chunk')
    if (ids.length === 0) throw reader.refuse('a page of it is empty')
    return { type: 'chunk-list', ids, bytes }
  }
  const count = reader.count(LIMITS.entriesPerNode, 1)
  if (count === 0 && type !== NODE_TYPE.directory) throw reader.refuse('a page of it is empty')
  if (type === NODE_TYPE.chunkListPages)
    return { type: 'chunk-list-pages', pages: Array.from({ length: count }, () => ({ bytes: reader.varint(), id: source.take('node') })) }
  if (type === NODE_TYPE.directoryPages) {
    const pages = Array.from({ length: count }, () => ({ firstName: readName(reader), entries: reader.varint(), id: source.take('node') }))
    requireAscending(
      pages.map((page) => page.firstName),
      reader,
    )
    return { type: 'directory-pages', pages }
  }
  const entries = Array.from({ length: count }, () => readEntry(reader, source))
  requireAscending(
    entries.map((entry) => entry.name),
    reader,
  )
  return { type: 'directory', entries }
}

function requireAscending(names: readonly Buffer[], reader: ByteReader): void {
  for (let i = 1; i < names.length; i++)
    if (Buffer.compare(names[i - 1]!, names[i]!) >= 0) throw reader.refuse('its names are not in order')
}

class ReferenceReader {
  readonly #references: readonly Reference[]
  readonly #reader: ByteReader
  #at = 0

  constructor(references: readonly Reference[], reader: ByteReader) {
    this.#references = references
    this.#reader = reader
  }

  take(what: Reference['what']): string {
    const reference = this.#references[this.#at++]
    if (reference?.what !== what) throw this.#reader.refuse('its two parts do not fit each other')
    return reference.id
  }

  rest(what: Reference['what']): string[] {
    const ids: string[] = []
    while (this.#at < this.#references.length) ids.push(this.take(what))
    return ids
  }

  end(): void {
    if (this.#at !== this.#references.length) throw this.#reader.refuse('its two parts do not fit each other')
  }
}

/** A single name that cannot lead anywhere else: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`. */
export function isEntryName(name: Buffer): boolean {
  if (name.length === 0 || name.length > LIMITS.nameBytes || name.includes(0x2f) || name.includes(0)) return false
  return !(name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)))
}

function readName(reader: ByteReader): Buffer {
  const name = reader.bytes(LIMITS.nameBytes)
  if (!isEntryName(name)) throw reader.refuse('a name in it is none')
  return name
}

/** Reads one entry; `source` gives its references in order. */
export function readEntry(reader: ByteReader, source: { take(what: Reference['what']): string }): Entry {
  const name = readName(reader)
  const kind = KIND_OF[reader.u8()]
  if (kind === undefined || kind === '') throw reader.refuse('an entry is of a kind that does not exist')
  const flags = reader.u16()
  const fileOnly = FLAG.holes | FLAG.inline | FLAG.list | FLAG.changed
  if (flags > 127 || (kind !== 'file' && (flags & fileOnly) !== 0) || (kind !== 'directory' && (flags & FLAG.passage) !== 0))
    throw reader.refuse('an entry has flags that do not belong to it')
  const mode = reader.u16()
  if (mode > 0o7777) throw reader.refuse('an entry has a mode that does not exist')
  const uid = reader.varint(0xfffffffe)
  const gid = reader.varint(0xfffffffe)
  const seconds = reader.svarint()
  const mtimeNs = seconds * 1_000_000_000n + BigInt(reader.varint(999_999_999))
  const size = kind === 'file' ? reader.varint() : undefined
  const node = kind === 'directory' ? source.take('node') : undefined
  const target = kind === 'symlink' ? reader.bytes(LIMITS.targetBytes) : undefined
  if (target !== undefined && (target.length === 0 || target.includes(0))) throw reader.refuse('a symlink has a target that cannot be')
  const device =
    kind === 'character-device' || kind === 'block-device'
      ? { major: reader.varint(0xffffffff), minor: reader.varint(0xffffffff) }
      : undefined
  const link = (flags & FLAG.linked) === 0 ? undefined : { volume: reader.varint(), inode: reader.varintBig() }
  const attributes = (flags & FLAG.attributes) === 0 ? undefined : readAttributes(reader)
  const extents = (flags & FLAG.holes) === 0 ? undefined : readExtents(reader, size!)
  const content = kind === 'file' ? readContent(reader, source, flags) : undefined
  if (content?.kind === 'inline' && content.bytes.length !== (extents === undefined ? size : totalBytes(extents)))
    throw reader.refuse('a small file has the wrong length')
  return {
    name,
    kind,
    mode,
    uid,
    gid,
    mtimeNs,
    ...(link === undefined ? {} : { link }),
    ...(attributes === undefined ? {} : { attributes }),
    ...(size === undefined ? {} : { size }),
    ...(content === undefined ? {} : { content }),
    ...(extents === undefined ? {} : { extents }),
    ...((flags & FLAG.changed) === 0 ? {} : { changed: true }),
    ...(node === undefined ? {} : { node }),
    ...((flags & FLAG.passage) === 0 ? {} : { passage: true }),
    ...(target === undefined ? {} : { target }),
    ...(device === undefined ? {} : { device }),
  }
}

/** Bytes of content that a list of extents stands for. */
export function totalBytes(extents: readonly Extent[]): number {
  return extents.reduce((sum, extent) => sum + extent.bytes, 0)
}

function readAttributes(reader: ByteReader): Attribute[] {
  const attributes = Array.from({ length: reader.count(LIMITS.attributes, 2) }, () => ({
    name: reader.bytes(LIMITS.attributeNameBytes),
    value: reader.bytes(LIMITS.attributeValueBytes),
  }))
  for (const [i, { name }] of attributes.entries()) {
    if (name.length === 0 || name.includes(0)) throw reader.refuse('an attribute has no name')
    if (i > 0 && Buffer.compare(attributes[i - 1]!.name, name) >= 0) throw reader.refuse('its attributes are not in order')
  }
  return attributes
}

function readExtents(reader: ByteReader, size: number): Extent[] {
  let end = 0
  return Array.from({ length: reader.count(LIMITS.extents, 2) }, () => {
    const offset = end + reader.varint()
    const bytes = reader.varint()
    end = offset + bytes
    if (bytes === 0 || end > size) throw reader.refuse('an extent stands outside of its file')
    return { offset, bytes }
  })
}

function readContent(reader: ByteReader, source: { take(what: Reference['what']): string }, flags: number): Content {
  if ((flags & FLAG.inline) !== 0) {
    if ((flags & FLAG.list) !== 0) throw reader.refuse('an entry has flags that do not belong to it')
    return { kind: 'inline', bytes: reader.bytes(LIMITS.inlineBytes) }
  }
  if ((flags & FLAG.list) !== 0) return { kind: 'list', id: source.take('node') }
  const count = reader.varint(LIMITS.referencesPerNode)
  return { kind: 'chunks', ids: Array.from({ length: count }, () => source.take('chunk')) }
}
