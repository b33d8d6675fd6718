// Whole restores of hostile trees into a target where links were planted, on a file system in memory: whatever the names, links and devices are,
// nothing outside of the target changes. Input: which rule for conflicts, then nodes, each with a u16 length before it; a reference to a node means
// the one so many places after it.
import { blake3 } from '../../../agent/repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { CWD, FileError, type FileSystem } from '../../../agent/file-system/file-system.ts'
import type { IndexedSegment, PackRow } from '../../../agent/repository/index-file.ts'
import type { Repository } from '../../../agent/repository/repository.ts'
import { createSealer, SEGMENT_KIND, type SegmentKind } from '../../../agent/repository/segment.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'
import { type Entry, type Reference, writeEntry } from '../../../agent/repository/tree.ts'
import type { BlobLocation, BlobPart, View } from '../../../agent/repository/view.ts'
import { createCompressor } from '../../../agent/repository/zstd.ts'
import { planRestore } from '../../../agent/restore/plan.ts'
import { type Overwrite, type RestoreOptions, restoreSnapshot } from '../../../agent/restore/restore.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { type SimulatedFileSystem, simulatedFileSystem } from '../../_support/simulated-file-system.ts'
import { entry as session, readKeys, ref, sessionKey, structure } from '../_support/fixture.ts'
import { type Outcome, type Target, violation } from '../_support/target.ts'
import { ENTRIES, hasher } from './tree-node.ts'

const NODES_MAX = 24
const RULES: readonly Overwrite[] = ['beside', 'changed', 'always', 'never']
const CHUNKS = [Buffer.from('the first chunk'), Buffer.alloc(5000, 7), Buffer.from('x')]
const chunkHasher = blake3.keyed(structure.idKey)

/** Blobs that a view finds in one pack, each in a segment of its own kind. */
class Blobs {
  readonly #places = new Map<string, BlobLocation>()
  readonly #parts: Buffer[] = []
  #bytes = 0
  readonly #pack: { session: string; random: string; bytes: number } = { ...ref, bytes: 0 }

  add(kind: SegmentKind, blobs: readonly { id: string; bytes: Buffer }[]): void {
    const plain = Buffer.concat(blobs.map(({ bytes }) => bytes))
    if (plain.length === 0) return
    const { body, tag, ...described } = sealers[kind]!(plain, kind, false)
    const segment: IndexedSegment = { ...described, pack: 0, session: 0, offset: this.#bytes }
    let offset = 0
    for (const { id, bytes } of blobs) {
      this.#places.set(`${kind} ${id}`, { pack: this.#pack, segment, session, offset, bytes: bytes.length })
      offset += bytes.length
    }
    this.#parts.push(Buffer.from(body), Buffer.from(tag))
    this.#bytes += described.sealedBytes
  }

  opened(): { view: View; store: Store } {
    const pack = Buffer.concat(this.#parts)
    this.#pack.bytes = pack.length
    const locate = (id: string, part: BlobPart): BlobLocation[] => {
      const place = this.#places.get(`${KIND_OF[part]} ${id}`)
      return place === undefined ? [] : [place]
    }
    const packs: PackRow[] = [this.#pack]
    const view: View = {
      files: [],
      lastResort: [],
      covered: new Set(),
      locate,
      rows: () => [],
      replaced: [],
      has: (id, part) => locate(id, part).length > 0,
      packs: () => packs,
    }
    const getRange = async (_: string, { offset, length }: { offset: number; length: number }): Promise<Buffer> => {
      if (offset + length > pack.length) throw new HoldfastError('damaged', 'the pack ends too early')
      const copy = Buffer.allocUnsafeSlow(length)
      pack.copy(copy, 0, offset, offset + length)
      return copy
    }
    // A restore reads ranges of packs, and looks for other packs where one lacks something: there are none.
    const list = async function* (): AsyncGenerator<readonly []> {
      yield []
    }
    return { view, store: { location: 'memory', getRange, list } as unknown as Store }
  }
}
const KIND_OF = { chunk: SEGMENT_KIND.chunk, references: SEGMENT_KIND.references, private: SEGMENT_KIND.private } as const
const compressor = createCompressor(1)
const sealerOf = (baseKey: Buffer) => createSealer({ domainId: structure.domainId, baseKey, epoch: 1, compressor })
const content = sealerOf(sessionKey)
const sealers: Readonly<Record<number, typeof content>> = { 1: content, 2: content, 3: sealerOf(structure.structureKey(1)!) }

/** The nodes of an input, the last first, so that each can name those after it. */
function repositoryOf(input: Buffer): { root: string; view: View; store: Store } {
  const pieces: Buffer[] = []
  for (let at = 1; at + 2 <= input.length && pieces.length < NODES_MAX;) {
    const length = input.readUInt16LE(at)
    pieces.push(input.subarray(at + 2, at + 2 + length))
    at += 2 + length
  }
  const nodes: { id: string; references: Buffer; private: Buffer }[] = []
  for (const piece of pieces.toReversed()) {
    const [type = 1, count = 0] = piece
    const whats = piece.subarray(2, 2 + count)
    const privatePart = piece.subarray(2 + count)
    const out = new ByteWriter(64 + whats.length * 33)
      .u8(1)
      .u8(type)
      .hex(hasher.hexOf([Buffer.from('private'), privatePart]))
    out.varint(whats.length)
    for (const what of whats) {
      const after = nodes[nodes.length - 1 - (what >> 1)]
      const chunk = CHUNK_BLOBS[(what >> 1) % CHUNK_BLOBS.length]!
      out.u8(what & 1).hex((what & 1) === 0 ? chunk.id : (after?.id ?? '0'.repeat(64)))
    }
    const references = out.finish()
    nodes.push({ id: hasher.hexOf([Buffer.from('node'), references]), references, private: privatePart })
  }
  const blobs = new Blobs()
  blobs.add(SEGMENT_KIND.chunk, CHUNK_BLOBS)
  const parts = (part: 'references' | 'private') =>
    nodes.filter((node) => node[part].length > 0).map((node) => ({ id: node.id, bytes: node[part] }))
  blobs.add(SEGMENT_KIND.references, parts('references'))
  blobs.add(SEGMENT_KIND.private, parts('private'))
  return { root: nodes.at(-1)?.id ?? '0'.repeat(64), ...blobs.opened() }
}
const CHUNK_BLOBS = CHUNKS.map((bytes) => ({ id: chunkHasher.hex(bytes), bytes }))

const name = (text: string): Buffer => Buffer.from(text)

/** A machine with something to protect, and a target in which somebody planted links to it. */
function machine(): SimulatedFileSystem {
  const fs = simulatedFileSystem({ clock })
  const write = (path: string, text: string): void => {
    const fd = fs.open(CWD, name(path), 'create')
    fs.write(fd, name(text), 0)
    fs.close(fd)
  }
  for (const path of ['/outside', '/outside/directory', '/target', '/target/d']) fs.makeDirectory(CWD, name(path), 0o755)
  write('/outside/secret', 'secret')
  write('/target/f', 'what stood there')
  fs.makeSymlink(CWD, name('/target/l'), name('../outside'))
  fs.makeSymlink(CWD, name('/target/s'), name('/outside/secret'))
  fs.makeSymlink(CWD, name('/target/d/up'), name('../..'))
  fs.clearCalls()
  return fs
}
const clock = simulatedClock()

/** All that can be seen of what is not in the target. */
function outside(fs: SimulatedFileSystem): string {
  return fs.quietly(() => {
    const seen: string[] = []
    const look = (path: string): void => {
      const stat = fs.stat(CWD, name(path))
      const attributes = fs.readAttributes(CWD, name(path)).map((each) => `${each.name}=${each.value}`)
      if (path !== '/target')
        seen.push(`${path} ${stat.kind} ${stat.mode} ${stat.uid} ${stat.gid} ${stat.size} ${stat.mtimeNs} ${stat.links} ${attributes}`)
      if (stat.kind === 'file') {
        const fd = fs.open(CWD, name(path), 'read')
        const into = Buffer.alloc(stat.size)
        fs.read(fd, into, 0, stat.size, 0)
        fs.close(fd)
        seen.push(into.toString())
      }
      if (stat.kind !== 'directory' || path === '/target') return
      const fd = fs.open(CWD, name(path), 'directory')
      const names = fs.readDirectory(fd)
      fs.close(fd)
      for (const each of names) look(`${path === '/' ? '' : path}/${each}`)
    }
    look('/')
    return seen.join('\n')
  })
}

/** A disk has an end: a file of a size that no memory holds is refused as a kernel refuses it. */
function bounded(fs: SimulatedFileSystem): FileSystem {
  const fit = (end: number): void => {
    if (end > 2 ** 24) throw new FileError('write', 'EFBIG')
  }
  return {
    ...fs,
    truncate: (fd, size) => {
      fit(size)
      fs.truncate(fd, size)
    },
    write: (fd, bytes, position) => {
      fit((position ?? 0) + bytes.length)
      fs.write(fd, bytes, position)
    },
  }
}

export const restore: Target = {
  name: 'restore',
  about:
    'a restore of a hostile tree into a target with planted links: nothing outside of the target changes, and no descriptor stays open',
  form: 'bytes',
  covers: [
    'agent/restore/restore.ts',
    'agent/restore/apply.ts',
    'agent/restore/plan.ts',
    'agent/restore/target-tree.ts',
    'agent/restore/tree-reader.ts',
    'agent/restore/file-pipeline.ts',
    'agent/restore/decide.ts',
    'agent/restore/metadata.ts',
    'agent/restore/write-file.ts',
  ],
  weight: 0.5,
  bytesMax: 4096,
  seeds: () => [
    input(0, [node(ENTRIES.map((each) => each)), node([])]),
    input(1, [
      node([entry('d', { kind: 'directory' }), entry('f', file), entry('l', { kind: 'directory' }), entry('s', file)]),
      node([entry('up', { kind: 'directory' })]),
      node([entry('planted', file)]),
    ]),
    input(2, [
      node([
        entry('a', { kind: 'symlink', target: name('/outside') }),
        entry('b', linked),
        entry('c', linked),
        entry('d', { kind: 'directory' }),
      ]),
      node([entry('e', linked)]),
    ]),
    input(3, [node([entry('n', { kind: 'character-device', device: { major: 1, minor: 3 } }), entry('p', { kind: 'fifo' })])]),
    input(2, [
      node([entry('d', file), entry('f', { kind: 'directory' }), entry('l', file), entry('s', { kind: 'symlink', target: name('..') })]),
      node([]),
    ]),
  ],
  run: async (bytes) => {
    const { root, view, store } = repositoryOf(bytes)
    const fs = machine()
    const before = outside(fs)
    const repository = { store, keys: structure } as unknown as Repository
    const options: RestoreOptions = {
      repository,
      view,
      keys: readKeys,
      snapshot: snapshotOf(root),
      target: name('/target'),
      overwrite: RULES[(bytes[0] ?? 0) % RULES.length]!,
      fs: bounded(fs),
      workers: 0,
      durable: false,
    }
    const planned = await settled(planRestore(options))
    if (fs.calls.some(({ changes }) => changes)) violation('a plan changes something')
    const outcome = await settled(restoreSnapshot(options))
    if (outside(fs) !== before) violation(`what is outside of the target changed:\n${before}\nto\n${outside(fs)}`)
    if (fs.openDescriptors() !== 0) violation(`${fs.openDescriptors()} descriptors stay open`)
    // The target itself is opened a second time, as `.`.
    const strange = fs.calls.find(
      ({ changes, path }) =>
        changes && (!/^\/target(?:\/|$)/.test(path) || /\/\.\.?(?:\/|$)/.test(path.replace(/^\/target\/\.(?=\/|$)/, '/target'))),
    )
    if (strange !== undefined) violation(`${strange.operation} of ${strange.path}`)
    return planned === 'refused' ? planned : outcome
  },
}

async function settled(work: Promise<unknown>): Promise<Outcome> {
  try {
    await work
    return 'taken'
  } catch (error) {
    if (isHoldfastError(error)) return 'refused'
    throw error
  }
}

function snapshotOf(root: string): OpenedSnapshot {
  const empty = Buffer.alloc(32)
  return {
    structure: {
      ref,
      writerId: Buffer.alloc(16),
      session,
      series: empty,
      sequence: 1,
      previous: empty,
      root,
      startedAt: 1,
      endedAt: 2,
      files: 1,
      directories: 1,
      bytes: 1,
      tags: [],
      lists: [],
      indexFiles: [],
    },
    writerKey: empty,
    hash: empty,
    openPrivate: () => undefined,
  }
}

const file: Partial<Entry> = { kind: 'file', size: 7, content: { kind: 'inline', bytes: name('planted') } }
const linked: Partial<Entry> = { ...file, link: { volume: 1, inode: 7n } }

function entry(text: string, more: Partial<Entry>): Entry {
  const common = { name: name(text), mode: 0o755, uid: 0, gid: 0, mtimeNs: 1_600_000_000_000_000_000n }
  return { ...common, kind: 'file', ...more, ...(more.kind === 'directory' ? { node: '0'.repeat(64) } : {}) }
}

/** A directory as a piece of the input: chunk references are to the first chunk, the n-th directory is the n-th piece after this. */
function node(entries: readonly Entry[]): Buffer {
  const references: Reference[] = []
  const out = new ByteWriter()
  for (const each of entries) writeEntry(out, each, references)
  let directories = 0
  const whats = references.map(({ what }) => (what === 'chunk' ? 0 : (directories++ << 1) | 1))
  return Buffer.concat([Buffer.of(1, whats.length), Buffer.from(whats), Buffer.of(entries.length), out.finish()])
}

function input(rule: number, pieces: readonly Buffer[]): Buffer {
  const parts = pieces.flatMap((piece) => {
    const length = Buffer.alloc(2)
    length.writeUInt16LE(piece.length)
    return [length, piece]
  })
  return Buffer.concat([Buffer.of(rule), ...parts])
}
