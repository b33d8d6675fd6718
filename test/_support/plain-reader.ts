// What a repository holds, read back by the simplest way there is: all index files, all packs whole, no cache, no keys but the root's. It shares
// the codecs with the product and nothing of how the product reads, so that a mistake of the engine shows here.
import { createHash } from 'node:crypto'
import type { RootKeys } from '../../agent/keys/domain.ts'
import { segmentKeyOf } from '../../agent/keys/domain.ts'
import { blake3 } from '../../agent/repository/blake3.ts'
import { decodeIndexFile, INDEX_BLOB_BYTES, type IndexFile } from '../../agent/repository/index-file.ts'
import { packName, parseObjectName } from '@holdfast/shared/format/layout.ts'
import { decodeForgetRecord } from '../../agent/repository/forget-record.ts'
import { openSegment, SEGMENT_KIND, type SegmentKind } from '../../agent/repository/segment.ts'
import { decodeSnapshot, type OpenedSnapshot } from '../../agent/repository/snapshot.ts'
import { decodeNode, type Entry, nodeHasher } from '../../agent/repository/tree.ts'

/** One entry as plain text, so that a difference can be read. */
export type Tree = Map<string, string>

export type Objects = { readonly names: (prefix: string) => readonly string[]; readonly content: (name: string) => Buffer | undefined }

export type PlainReader = {
  /** Those that count. */
  readonly snapshots: readonly OpenedSnapshot[]
  readonly indexFiles: readonly IndexFile[]
  readonly tree: (snapshot: OpenedSnapshot) => Tree
  /** Every entry of a snapshot by its path, decoded. */
  readonly entries: (snapshot: OpenedSnapshot) => Map<string, Entry>
  /** Ids of the chunks of a file. */
  readonly chunkIds: (entry: Entry) => string[]
  /** Whether a blob stands in a pack that is in the store, whatever index files say of it. */
  readonly has: (kind: SegmentKind, id: string) => boolean
}

type Place = { readonly file: IndexFile; readonly row: number }

/** Reads every index file and snapshot; throws where one does not open. */
export function plainReader(objects: Objects, keys: RootKeys): PlainReader {
  const { structure } = keys.write
  const nodes = nodeHasher(structure.treeIdKey)
  const chunks = blake3.keyed(structure.idKey)
  const must = (name: string): Buffer => {
    const object = objects.content(name)
    if (object === undefined) throw new Error(`${name} is missing`)
    return object
  }
  const indexFiles = objects.names('index/').map((name) => decodeIndexFile(must(name), parseObjectName(name)!, structure).file)
  const forgets = objects.names('lists/forgets/').map((name) => decodeForgetRecord(must(name), parseObjectName(name)!, structure).record)
  const isForgotten = ({ structure: { ref } }: OpenedSnapshot): boolean =>
    forgets.some(
      (record) =>
        record.entries.some((entry) => entry.snapshot.random === ref.random) &&
        // Under its own name, or that of a record whose entries stand in it.
        ![record.ref, ...record.replaces].some(({ random }) =>
          forgets.some(({ undone }) => undone.some((one) => one.record.random === random && one.snapshot.random === ref.random)),
        ),
    )
  const snapshots = objects
    .names('snapshots/')
    .map((name) => decodeSnapshot(must(name), parseObjectName(name)!, structure))
    .filter((snapshot) => !isForgotten(snapshot))
    .sort((a, b) => a.structure.startedAt - b.structure.startedAt || a.structure.sequence - b.structure.sequence)

  const places = new Map<string, Place[]>()
  for (const file of indexFiles)
    for (let row = 0; row < file.blobCount; row++) {
      const at = row * INDEX_BLOB_BYTES
      const { kind } = file.segment(file.blobs.readUInt32LE(at + 32))
      const key = `${kind} ${file.blobs.toString('hex', at, at + 32)}`
      const list = places.get(key)
      if (list === undefined) places.set(key, [{ file, row }])
      else list.push({ file, row })
    }

  const opened = new Map<string, Buffer>()
  const read = (kind: SegmentKind, id: string): Buffer => {
    const all = places.get(`${kind} ${id}`)
    // A pack may be deleted while an index file still names it; the blob then stands elsewhere.
    const place = all?.find(({ file, row: at }) => packOf(file, at, objects)) ?? all?.[0]
    if (place === undefined) throw new Error(`blob ${id} of kind ${kind} is in no index file`)
    const { file, row } = place
    const at = row * INDEX_BLOB_BYTES
    const segment = file.segment(file.blobs.readUInt32LE(at + 32))
    const pack = file.packs[segment.pack]!
    const name = `${pack.random} ${segment.offset}`
    let plain = opened.get(name)
    if (plain === undefined) {
      const bytes = must(packName(pack))
      if (bytes.length !== pack.bytes) throw new Error(`pack ${pack.random} is ${bytes.length} bytes, not ${pack.bytes}`)
      const session = file.sessions[segment.session]
      const key =
        kind === SEGMENT_KIND.references
          ? segmentKeyOf(structure.structureKey(segment.epoch)!, segment.segmentId)
          : keys.read.segmentKey(session!, segment.segmentId)!
      const sealed = bytes.subarray(segment.offset, segment.offset + segment.sealedBytes)
      plain = Buffer.from(openSegment({ domainId: structure.domainId, segment, key, sealed, what: name }))
      opened.set(name, plain)
    }
    const offset = file.blobs.readUInt32LE(at + 36)
    return plain.subarray(offset, offset + file.blobs.readUInt32LE(at + 40))
  }
  const node = (id: string) =>
    decodeNode(id, { references: read(SEGMENT_KIND.references, id), private: read(SEGMENT_KIND.private, id) }, nodes)

  const listIds = (id: string): string[] => {
    const list = node(id)
    if (list.type === 'chunk-list') return [...list.ids]
    if (list.type !== 'chunk-list-pages') throw new Error(`node ${id} is no chunk list`)
    return list.pages.flatMap((page) => listIds(page.id))
  }
  const chunkIds = (entry: Entry): string[] =>
    entry.content?.kind === 'chunks' ? [...entry.content.ids] : entry.content?.kind === 'list' ? listIds(entry.content.id) : []
  const contentOf = (entry: Entry): Buffer => {
    if (entry.content?.kind === 'inline') return entry.content.bytes
    return Buffer.concat(
      chunkIds(entry).map((id) => {
        const chunk = read(SEGMENT_KIND.chunk, id)
        if (chunks.hex(chunk) !== id) throw new Error(`chunk ${id} holds other bytes`)
        return chunk
      }),
    )
  }
  const entriesOf = (id: string): Entry[] => {
    const directory = node(id)
    if (directory.type === 'directory') return [...directory.entries]
    if (directory.type !== 'directory-pages') throw new Error(`node ${id} is no directory`)
    return directory.pages.flatMap((page) => {
      const below = entriesOf(page.id)
      if (below.length !== page.entries || Buffer.compare(below[0]!.name, page.firstName) !== 0) throw new Error(`page ${page.id} lies`)
      return below
    })
  }
  const entries = (snapshot: OpenedSnapshot): Map<string, Entry> => {
    const found = new Map<string, Entry>()
    const enter = (path: string, id: string): void => {
      for (const entry of entriesOf(id)) {
        const below = `${path}/${entry.name.toString('latin1')}`
        found.set(below, entry)
        if (entry.kind === 'directory') enter(below, entry.node!)
      }
    }
    enter('', snapshot.structure.root)
    return found
  }
  return {
    snapshots,
    indexFiles,
    entries,
    chunkIds,
    has: (kind, id) => (places.get(`${kind} ${id}`) ?? []).some(({ file, row }) => packOf(file, row, objects)),
    tree: (snapshot) => {
      const links = new Map<string, string>()
      const tree: Tree = new Map()
      for (const [path, entry] of entries(snapshot)) {
        const link = entry.link === undefined ? undefined : `${entry.link.volume}:${entry.link.inode}`
        if (link !== undefined && !links.has(link)) links.set(link, path)
        if (entry.passage === true) continue
        const logical = entry.kind === 'file' ? spread(contentOf(entry), entry) : undefined
        tree.set(
          path,
          describe({
            ...entry,
            linkedTo: link === undefined ? undefined : links.get(link),
            content: logical,
            extents: entry.extents,
          }),
        )
      }
      return tree
    },
  }
}

function packOf(file: IndexFile, row: number, objects: Objects): boolean {
  const segment = file.segment(file.blobs.readUInt32LE(row * INDEX_BLOB_BYTES + 32))
  return objects.content(packName(file.packs[segment.pack]!)) !== undefined
}

function spread(stored: Buffer, entry: Entry): Buffer {
  const size = entry.size!
  if (entry.extents === undefined) {
    if (stored.length !== size) throw new Error(`${entry.name.toString('latin1')} has ${stored.length} bytes, not ${size}`)
    return stored
  }
  const whole = Buffer.alloc(size)
  let at = 0
  for (const extent of entry.extents) {
    stored.copy(whole, extent.offset, at, at + extent.bytes)
    at += extent.bytes
  }
  if (at !== stored.length)
    throw new Error(`${entry.name.toString('latin1')} has extents of ${at} bytes and ${stored.length} bytes of content`)
  return whole
}

/** The text of an entry; also for what stands in a file system, to compare with. */
export function describe(entry: {
  kind: string
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  size?: number | undefined
  content?: Buffer | undefined
  extents?: readonly { offset: number; bytes: number }[] | undefined
  linkedTo?: string | undefined
  target?: Buffer | undefined
  device?: { major: number; minor: number } | undefined
  attributes?: readonly { name: Buffer; value: Buffer }[] | undefined
  changed?: boolean | undefined
}): string {
  const { content, extents, target, device, attributes } = entry
  return [
    `${entry.kind} ${entry.mode.toString(8)} ${entry.uid}:${entry.gid} ${entry.mtimeNs}`,
    content === undefined ? '' : `${content.length} bytes ${createHash('sha256').update(content).digest('hex').slice(0, 16)}`,
    extents === undefined ? '' : `data at ${extents.map(({ offset, bytes }) => `${offset}+${bytes}`).join(',')}`,
    entry.linkedTo === undefined ? '' : `linked to ${entry.linkedTo}`,
    target === undefined ? '' : `-> ${target.toString('latin1')}`,
    device === undefined ? '' : `device ${device.major}:${device.minor}`,
    (attributes ?? []).map(({ name, value }) => `${name.toString('latin1')}=${value.toString('hex')}`).join(' '),
    entry.changed === true ? 'changed' : '',
  ]
    .filter((part) => part !== '')
    .join(' | ')
}
