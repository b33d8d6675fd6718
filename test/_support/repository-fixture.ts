// Small repositories made with the codecs alone, so that readers can be tested without the backup engine, and against objects that no
// honest writer makes: names that lead elsewhere, lying lengths, swapped bytes.
import { blake3 } from '../../agent/repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { encodeIndexFile, type PackInIndex } from '../../agent/repository/index-file.ts'
import { objectName, type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { encodeFooter, encodeTrailer, type FooterSegment, type PackFooter, paddingBytes } from '../../agent/repository/pack.ts'
import { createRepository, DEFAULT_CHUNKING, openRepository, type Repository } from '../../agent/repository/repository.ts'
import { createSealer, SEGMENT_KIND, type SegmentKind, type SegmentSealer } from '../../agent/repository/segment.ts'
import { createTokens, encodeSnapshot, type OpenedSnapshot, type SnapshotPrivate } from '../../agent/repository/snapshot.ts'
import { sealBox } from '../../agent/repository/structure-box.ts'
import {
  type Attribute,
  encodeChunkList,
  encodeChunkListPages,
  encodeDirectory,
  encodeDirectoryPages,
  type EncodedNode,
  type Entry,
  type EntryKind,
  type Extent,
  nodeHasher,
  type Reference,
  totalBytes,
  writeEntry,
} from '../../agent/repository/tree.ts'
import type { View } from '../../agent/repository/view.ts'
import { createCompressor } from '../../agent/repository/zstd.ts'
import { type DomainRoot, encodeSessionEntry, rootKeys, type RootKeys, sessionEntry } from '../../agent/keys/domain.ts'
import type { SessionEntry } from '../../agent/keys/keys.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { seededRandom } from './seeded-random.ts'

type Meta = {
  mode?: number
  uid?: number
  gid?: number
  mtimeNs?: bigint
  attributes?: Attribute[]
  link?: { volume: number; inode: bigint }
}
export type FixtureFile = Meta & {
  kind: 'file'
  content?: Buffer | string
  /** Where the content stands in a file with holes; then `size` is the size of the file. */
  extents?: Extent[]
  size?: number
  chunkBytes?: number
  inline?: boolean
  /** Use chunk lists, with at most this many ids in a page. */
  listPage?: number
  /** Claim these ids instead of storing the content. */
  ids?: string[]
}
export type FixtureDirectory = Meta & {
  kind: 'directory'
  children: Record<string, FixtureNode> | [Buffer, FixtureNode][]
  passage?: boolean
  /** Page the directory after this many entries. */
  pageEntries?: number
  /** Claim this node instead of making one from the children. */
  node?: string
}
export type FixtureNode =
  | FixtureFile
  | FixtureDirectory
  | (Meta & { kind: 'symlink'; target: Buffer | string })
  | (Meta & { kind: 'fifo' })
  | (Meta & { kind: 'character-device' | 'block-device'; major: number; minor: number })

export const file = (content: Buffer | string, more: Omit<FixtureFile, 'kind' | 'content'> = {}): FixtureFile => ({
  kind: 'file',
  content,
  ...more,
})
export const directory = (
  children: FixtureDirectory['children'],
  more: Omit<FixtureDirectory, 'kind' | 'children'> = {},
): FixtureDirectory => ({
  kind: 'directory',
  children,
  ...more,
})
export const symlink = (target: Buffer | string, more: Meta = {}): FixtureNode => ({ kind: 'symlink', target, ...more })

export type BuilderOptions = {
  store: Store
  seed?: string
  segmentBytes?: number
  packBytes?: number
  compress?: boolean
}

type Segment = { sealed: Buffer; row: Omit<FooterSegment, 'offset'> }

/** Makes one repository in an empty store: blobs go into segments, segments into packs, and `finish` writes index file and snapshot. */
export class RepositoryBuilder {
  readonly domain: DomainRoot
  readonly keys: RootKeys
  readonly session: SessionEntry
  readonly sessionKey: Buffer
  readonly tokens: ReturnType<typeof createTokens>
  readonly packs: (PackInIndex & { ref: ObjectRef })[] = []
  readonly #random
  readonly #store: Store
  readonly #options: Required<Omit<BuilderOptions, 'store' | 'seed'>>
  readonly #sealers: Record<number, SegmentSealer>
  readonly #ids
  readonly #nodes
  readonly #known = new Set<string>()
  readonly #open: Record<number, { parts: Buffer[]; bytes: number; blobs: { id: string; bytes: number }[] }> = {}
  #segments: Segment[] = []
  #segmentBytes = 0
  files = 0
  directories = 0
  bytes = 0

  constructor(options: BuilderOptions) {
    this.#store = options.store
    this.#options = {
      segmentBytes: options.segmentBytes ?? 1 << 20,
      packBytes: options.packBytes ?? 16 << 20,
      compress: options.compress ?? true,
    }
    this.#random = seededRandom(options.seed ?? 'fixture')
    this.domain = { root: this.#random.bytes(32), domainId: this.#random.bytes(16) }
    this.keys = rootKeys(this.domain)
    const { structure } = this.keys.write
    this.sessionKey = this.#random.bytes(32)
    this.session = sessionEntry(this.sessionKey, this.#random.bytes(16), this.keys.write, this.#random)
    this.tokens = createTokens(structure.recordKey)
    const compressor = createCompressor(3)
    const domainId = structure.domainId
    const content = createSealer({ domainId, baseKey: this.sessionKey, epoch: 1, compressor })
    const references = createSealer({ domainId, baseKey: structure.structureKey(1)!, epoch: 1, compressor })
    this.#sealers = { 1: content, 2: content, 3: references, 4: content }
    this.#ids = blake3.keyed(structure.idKey)
    this.#nodes = nodeHasher(structure.treeIdKey)
  }

  async begin(): Promise<void> {
    const { write, signing } = this.keys
    await createRepository({ store: this.#store, keys: write, signer: signing, chunking: DEFAULT_CHUNKING, enrolled: false, now: 1_000 })
    const body = new ByteWriter().raw(encodeSessionEntry(this.session)).raw(write.writer.id).u64(1_000).finish()
    const object = sealBox({ type: 'session', keys: write.structure, writer: write.writer, body })
    await this.#store.put(`sessions/${this.session.sessionId.toString('hex')}`, { kind: 'bytes', bytes: object })
  }

  /** A new object name of this session. */
  ref(): ObjectRef {
    return { session: this.session.sessionId.toString('hex'), random: this.#random.bytes(16).toString('hex') }
  }

  async chunk(bytes: Buffer): Promise<string> {
    const id = this.#ids.hex(bytes)
    await this.blob(SEGMENT_KIND.chunk, id, bytes)
    return id
  }

  async node(node: EncodedNode): Promise<string> {
    await this.blob(SEGMENT_KIND.references, node.id, node.references)
    await this.blob(SEGMENT_KIND.private, node.id, node.private)
    return node.id
  }

  /** Stores bytes under an id, which need not be theirs. */
  async blob(kind: SegmentKind, id: string, bytes: Buffer): Promise<void> {
    const key = `${kind}${id}`
    if (this.#known.has(key)) return
    this.#known.add(key)
    const open = (this.#open[kind] ??= { parts: [], bytes: 0, blobs: [] })
    if (open.bytes > 0 && open.bytes + bytes.length > this.#options.segmentBytes) await this.seal(kind)
    const into = (this.#open[kind] ??= { parts: [], bytes: 0, blobs: [] })
    into.parts.push(bytes)
    into.bytes += bytes.length
    into.blobs.push({ id, bytes: bytes.length })
  }

  /** Ends the open segment of a kind. */
  async seal(kind: SegmentKind): Promise<void> {
    const open = this.#open[kind]
    if (open === undefined || open.bytes === 0) return
    delete this.#open[kind]
    await this.segment(kind, Buffer.concat(open.parts), open.blobs)
  }

  /** Adds a sealed segment; `lie` changes what footer and index say about it. */
  async segment(
    kind: SegmentKind,
    plain: Buffer,
    blobs: { id: string; bytes: number }[],
    lie: Partial<Omit<FooterSegment, 'offset'>> = {},
  ): Promise<void> {
    const made = this.#sealers[kind]!(plain, kind, this.#options.compress)
    const sealed = Buffer.concat([made.body, made.tag])
    const row = {
      kind,
      codec: made.codec,
      epoch: made.epoch,
      segmentId: made.segmentId,
      sealedBytes: made.sealedBytes,
      plainBytes: made.plainBytes,
      session: 0,
      sealedHash: Buffer.from(blake3.plain().hex(sealed), 'hex'),
      blobs,
      ...lie,
    }
    this.#segments.push({ sealed, row })
    this.#segmentBytes += sealed.length
    if (this.#segmentBytes >= this.#options.packBytes) await this.pack()
  }

  /** Ends the open pack. */
  async pack(): Promise<void> {
    if (this.#segments.length === 0) return
    const { structure, writer } = this.keys.write
    const ref = this.ref()
    let offset = 0
    const segments = this.#segments.map(({ row }) => {
      const at = { ...row, offset }
      offset += row.sealedBytes
      return at
    })
    const footer: PackFooter = { ref, writerId: writer.id, sessions: [this.session], segments }
    const box = encodeFooter(footer, structure, writer)
    const padding = this.#random.bytes(paddingBytes(offset + box.length))
    const before = Buffer.concat([...this.#segments.map(({ sealed }) => sealed), box, padding])
    const hash = Buffer.from(blake3.plain().hex(before), 'hex')
    const object = Buffer.concat([before, encodeTrailer(structure, hash, { offset, bytes: box.length })])
    await this.#store.put(packName(ref), { kind: 'bytes', bytes: object })
    this.packs.push({ footer, bytes: object.length, ref })
    this.#segments = []
    this.#segmentBytes = 0
  }

  /** Stores a file's content and gives the entry under `name`. */
  async entry(name: Buffer, node: FixtureNode): Promise<Entry> {
    const {
      mode = node.kind === 'directory' ? 0o755 : 0o644,
      uid = 0,
      gid = 0,
      mtimeNs = 1_600_000_000_123_456_789n,
      attributes,
      link,
    } = node
    const common = { name, mode, uid, gid, mtimeNs, attributes, link }
    switch (node.kind) {
      case 'file':
        return { ...common, kind: 'file', ...(await this.#content(node)) }
      case 'directory':
        this.directories += 1
        return { ...common, kind: 'directory', passage: node.passage, node: node.node ?? (await this.directory(node)) }
      case 'symlink':
        return { ...common, kind: 'symlink', target: Buffer.from(node.target) }
      case 'fifo':
        return { ...common, kind: 'fifo' }
      default:
        return { ...common, kind: node.kind satisfies EntryKind, device: { major: node.major, minor: node.minor } }
    }
  }

  async #content(node: FixtureFile): Promise<Pick<Entry, 'size' | 'content' | 'extents'>> {
    const content = Buffer.from(node.content ?? '')
    const size = node.size ?? content.length
    this.files += 1
    this.bytes += size
    const where = { size, extents: node.extents }
    if (node.inline ?? (content.length <= 256 && node.ids === undefined)) return { ...where, content: { kind: 'inline', bytes: content } }
    const { chunkBytes = 1 << 20 } = node
    const ids = node.ids ?? []
    const pieces: number[] = []
    if (node.ids === undefined)
      for (let at = 0; at < content.length; at += chunkBytes) {
        const piece = content.subarray(at, at + chunkBytes)
        pieces.push(piece.length)
        ids.push(await this.chunk(piece))
      }
    if (node.listPage === undefined) return { ...where, content: { kind: 'chunks', ids } }
    const pages: { bytes: number; id: string }[] = []
    for (let i = 0; i < ids.length; i += node.listPage) {
      const bytes = pieces.slice(i, i + node.listPage).reduce((sum, piece) => sum + piece, 0)
      pages.push({ bytes, id: await this.node(encodeChunkList(ids.slice(i, i + node.listPage), bytes, this.#nodes)) })
    }
    const id = pages.length === 1 ? pages[0]!.id : await this.node(encodeChunkListPages(pages, this.#nodes))
    return { ...where, content: { kind: 'list', id } }
  }

  /** Stores a directory with all below and gives its node. Names are taken as they are, also those that no reader accepts. */
  async directory(node: FixtureDirectory): Promise<string> {
    const children = Array.isArray(node.children)
      ? node.children
      : Object.entries(node.children)
          .map(([name, child]): [Buffer, FixtureNode] => [Buffer.from(name), child])
          .sort(([a], [b]) => Buffer.compare(a, b))
    const entries: Entry[] = []
    for (const [name, child] of children) entries.push(await this.entry(name, child))
    return this.directoryOf(entries, node.pageEntries)
  }

  async directoryOf(entries: readonly Entry[], pageEntries = Number.POSITIVE_INFINITY): Promise<string> {
    const page = async (some: readonly Entry[]): Promise<string> => {
      const out = new ByteWriter()
      const references: Reference[] = []
      for (const entry of some) writeEntry(out, entry, references)
      return this.node(encodeDirectory(some.length, out.view(), references, this.#nodes))
    }
    if (entries.length <= pageEntries) return page(entries)
    const pages = []
    for (let i = 0; i < entries.length; i += pageEntries) {
      const some = entries.slice(i, i + pageEntries)
      pages.push({ firstName: some[0]!.name, entries: some.length, id: await page(some) })
    }
    return this.node(encodeDirectoryPages(pages, this.#nodes))
  }

  /** Writes what is still open, the index file and the snapshot over `root`. */
  async finish(root: string, changes: { private?: Partial<SnapshotPrivate>; withoutIndex?: boolean } = {}): Promise<ObjectRef> {
    for (const kind of [1, 2, 3] as const) await this.seal(kind)
    await this.pack()
    const { structure, writer } = this.keys.write
    const index = this.ref()
    if (changes.withoutIndex !== true)
      await this.#store.put(objectName('index', index), {
        kind: 'bytes',
        bytes: encodeIndexFile({ ref: index, replaces: [], packs: this.packs }, structure, writer),
      })
    const ref = this.ref()
    const object = encodeSnapshot(
      {
        structure: {
          ref,
          writerId: writer.id,
          session: this.session,
          series: this.tokens.series(writer.id, 'fixture'),
          sequence: 1,
          previous: Buffer.alloc(32),
          root,
          startedAt: 1_000,
          endedAt: 2_000,
          files: this.files,
          directories: this.directories + 1,
          bytes: this.bytes,
          tags: [],
          lists: [],
          indexFiles: [index],
        },
        private: {
          host: 'host',
          source: 'fixture',
          paths: [Buffer.from('/')],
          tags: [],
          program: 'fixture',
          summary: {},
          problems: [],
          ...changes.private,
        },
      },
      { structure, writer, sealer: this.#sealers[SEGMENT_KIND.snapshot]! },
    )
    await this.#store.put(objectName('snapshot', ref), { kind: 'bytes', bytes: object })
    return ref
  }
}

export type BuiltRepository = {
  readonly store: Store
  readonly repository: Repository
  readonly view: View
  readonly keys: RootKeys
  readonly builder: RepositoryBuilder
  readonly snapshot: OpenedSnapshot
}

/** Opens what a builder has finished. */
export async function openBuilt(store: Store, builder: RepositoryBuilder): Promise<BuiltRepository> {
  const repository = await openRepository({ store, keys: builder.keys.write.structure })
  const { view } = await repository.loadView()
  const { snapshots } = await repository.listSnapshots()
  const snapshot = snapshots.at(-1)
  if (snapshot === undefined) throw new Error('the fixture made no snapshot')
  return { store, repository, view, keys: builder.keys, builder, snapshot }
}

/** A repository with one snapshot: `tree` is the content of `/`. */
export async function buildRepository(
  options: BuilderOptions & { tree: FixtureDirectory; private?: Partial<SnapshotPrivate>; withoutIndex?: boolean },
): Promise<BuiltRepository> {
  const builder = new RepositoryBuilder(options)
  await builder.begin()
  await builder.finish(await builder.directory(options.tree), {
    ...(options.private === undefined ? {} : { private: options.private }),
    ...(options.withoutIndex === undefined ? {} : { withoutIndex: options.withoutIndex }),
  })
  return openBuilt(options.store, builder)
}

/** Bytes of content that `extents` hold. */
export const extentBytes = totalBytes
