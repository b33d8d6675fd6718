// Reads a source: the walk, what is unchanged, batches to the workers, and the tree as directories complete. Bounded: a few batches are under
// way at any time, a batch spans few directories, and only those keep a descriptor.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import type { Hasher } from '../repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { type Attribute, encodeDirectory, type EncodedNode, type Entry, type Reference, writeEntry } from '../repository/tree.ts'
import type { Problem } from '../repository/snapshot.ts'
import type { BackupOptions, TransmittedFile } from './backup-types.ts'
import type { FileResult, FileTask } from './batches.ts'
import { compileExcludes } from './excludes.ts'
import type { KnownIds } from './known-ids.ts'
import { UNKNOWN } from './known-ids.ts'
import { readAttributesWithin } from './entry-attributes.ts'
import { createTreeBuilder, type OpenDirectory, type PendingEntry } from './tree-builder.ts'
import { type CachedContent, type CacheReader, type CacheWriter, type RecordPlace, STAT_ROW_BYTES, statRow } from './unchanged-cache.ts'
import { joinPath, walk, type WalkStep } from './walk.ts'
import type { WorkerPool } from './worker-pool.ts'

const BATCH_FILES = 256
const BATCH_BYTES = 4 * 1024 * 1024
const BATCH_DIRECTORIES = 32
/** File times closer to now than this may be changed again without a trace; covers file systems that count in two seconds (FAT). */
const RACY_NS = 2_500_000_000n
/** f_type of file systems whose inodes or ctimes do not last: NFS, SMB, CIFS, SMB2, FUSE, 9P. */
const UNSTABLE = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997])
const EMPTY = Buffer.alloc(0)

export type SourceCounts = {
  files: number
  directories: number
  others: number
  bytes: number
  filesNew: number
  filesChanged: number
  filesUnchanged: number
  bytesRead: number
  bytesInline: number
  chunks: number
  bytesNew: number
}

export type ReadSource = {
  readonly rootNode: string
  readonly rootPlace: RecordPlace | undefined
  readonly rootStat: FileStat | undefined
  readonly counts: SourceCounts
  readonly problems: readonly Problem[]
}

type Task = { readonly directory: OpenDirectory; readonly entry: PendingEntry; readonly path: Buffer; readonly before: boolean }

/** Whether the file system keeps inodes and ctimes; one that does not tell what it is counts as one that does not. */
function isStable(fileSystem: FileSystem, fd: Descriptor): boolean {
  try {
    return !UNSTABLE.has(fileSystem.fileSystemType(fd))
  } catch (error) {
    if (error instanceof FileError) return false
    throw error
  }
}

export async function readSource(options: {
  backup: BackupOptions
  /** Made at the first file that has to be read. */
  pool: () => WorkerPool
  known: KnownIds
  treeHasher: Hasher
  namesHasher: Hasher
  cache: CacheReader | undefined
  /** Whether what only a list of chunks or a page of a directory names is as surely there as it was when the cache was made. */
  treeHolds: boolean
  newCache: CacheWriter | undefined
  store: (node: EncodedNode) => number | undefined
  onFile: (file: TransmittedFile, segments: readonly number[]) => void
  /** Resolves when the spool has room again. */
  room: () => Promise<void>
  onCounts: (counts: SourceCounts, problems: number) => void
}): Promise<ReadSource> {
  const { backup, known, cache } = options
  const { fileSystem, source, signal, force } = backup
  const counts: SourceCounts = {
    files: 0,
    directories: 0,
    others: 0,
    bytes: 0,
    filesNew: 0,
    filesChanged: 0,
    filesUnchanged: 0,
    bytesRead: 0,
    bytesInline: 0,
    chunks: 0,
    bytesNew: 0,
  }
  const problems: Problem[] = []
  const problem = (path: Buffer, code: string): void => {
    problems.push({ path, code })
  }
  const racyAfter = BigInt(Math.floor(backup.clock.now())) * 1_000_000n - RACY_NS
  const volumes = new Map<bigint, { volume: number; stable: boolean }>()
  const row = Buffer.alloc(STAT_ROW_BYTES)
  const inodes = new WeakMap<OpenDirectory, Map<bigint, number>>()
  const underWay = new Set<Promise<void>>()
  let failure: { error: unknown } | undefined
  let batch: Task[] = []
  let batchBytes = 0
  let batchDirectories = 0
  let rootDirectory: OpenDirectory | undefined
  const openDirectories = new Set<OpenDirectory>()

  const attributesOfOpen = (directory: OpenDirectory): readonly Attribute[] => {
    try {
      return readAttributesWithin(fileSystem, directory.fd, EMPTY, directory.self.stat)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      problem(directory.path, `attributes-${error.errno}`)
      directory.self.racy = true
      if (directory.parent !== undefined) directory.parent.identical = false
      return []
    }
  }

  const builder = createTreeBuilder({
    fileSystem,
    hasher: options.treeHasher,
    namesHasher: options.namesHasher,
    cache: options.newCache,
    store: options.store,
    onInline: (file, segment) => options.onFile(file, [segment]),
    onProblem: problem,
    onComplete: (directory) => {
      directory.self.attributes ??= attributesOfOpen(directory)
      openDirectories.delete(directory)
      fileSystem.close(directory.fd)
      const { parent } = directory
      if (parent === undefined) return
      if (directory.cached?.node !== directory.self.node) parent.identical = false
      settle(parent)
    },
  })

  /** One pending thing of a directory is known. The last one completes it, after small files that turn out to be needed were read. */
  const ready: OpenDirectory[] = []
  let completing = false
  const settle = (directory: OpenDirectory): void => {
    directory.pending -= 1
    if (directory.pending > 0) return
    ready.push(directory)
    // Completing one may make its parent ready, and so on up: a loop, since a tree may be deeper than the stack.
    if (completing) return
    completing = true
    try {
      for (let next = ready.pop(); next !== undefined; next = ready.pop()) completeOne(next)
    } finally {
      completing = false
    }
  }

  const completeOne = (directory: OpenDirectory): void => {
    if (directory.late.length > 0 && !builder.isAsBefore(directory)) {
      const late = directory.late.splice(0)
      directory.pending += late.length
      for (const entry of late) queue({ directory, entry, path: joinPath(directory.path, entry.name), before: true })
      return
    }
    builder.complete(directory)
  }

  const queue = (task: Task): void => {
    if (batch.at(-1)?.directory !== task.directory) batchDirectories += 1
    batch.push(task)
    batchBytes += task.entry.stat.size
  }

  const dispatch = (): void => {
    if (batch.length === 0) return
    const tasks = batch
    batch = []
    batchBytes = 0
    batchDirectories = 0
    const ids = tasks.reduce((sum, task) => sum + 1 + Math.ceil(task.entry.stat.size / 4096 / 64), 0)
    if (known.count() + ids * (underWay.size + 2) > known.capacity()) known.grow(ids * 16 + 65_536)
    const files = tasks.map((task): FileTask => ({ directory: task.directory.fd, name: task.entry.name, stat: task.entry.stat }))
    const work = options
      .pool()
      .process(files)
      .then((results) => {
        for (const [i, result] of results.entries()) take(tasks[i]!, result)
        options.onCounts(counts, problems.length)
      })
      .catch((error: unknown) => {
        failure ??= { error }
      })
      .finally(() => underWay.delete(work))
    underWay.add(work)
  }

  const take = (task: Task, result: FileResult): void => {
    const { directory, entry, path } = task
    if (result.outcome === 'failed') {
      problem(path, result.code)
      entry.failed = true
      directory.identical = false
    } else {
      if (result.stat !== undefined) {
        entry.stat = { ...entry.stat, ...result.stat }
        entry.racy = true
        directory.identical = false
      }
      if (result.changed) {
        problem(path, 'changed')
        entry.changed = true
      }
      entry.attributes = result.attributes
      entry.extents = result.extents
      entry.content = result.inline !== undefined ? { kind: 'inline', bytes: result.inline } : builder.content(result.ids, result.lengths)
      counts.bytesRead += result.bytesRead
      counts.bytesInline += result.inline?.length ?? 0
      counts.chunks += result.ids.length
      counts.bytesNew += result.newBytes
      counts.bytes += entry.stat.size
      if (!task.before) {
        counts.files += 1
        const { size } = entry.stat
        if (result.inline === undefined) options.onFile({ path, size, newBytes: result.newBytes, changed: result.changed }, result.segments)
        else if (size > 0) entry.told = { path, size, newBytes: size, changed: result.changed }
      } else counts.bytes -= entry.stat.size
    }
    settle(directory)
  }

  const volumeOf = (stat: FileStat, fd: number): { volume: number; stable: boolean } => {
    const seen = volumes.get(stat.deviceId)
    if (seen !== undefined) return seen
    const fresh = { volume: volumes.size, stable: isStable(fileSystem, fd) }
    volumes.set(stat.deviceId, fresh)
    return fresh
  }

  const pendingEntry = (name: Buffer, stat: FileStat, passage: boolean): PendingEntry => ({
    name,
    stat,
    failed: false,
    content: undefined,
    extents: undefined,
    attributes: undefined,
    changed: false,
    racy: stat.mtimeNs >= racyAfter || stat.ctimeNs >= racyAfter,
    node: undefined,
    place: undefined,
    passage,
  })

  /** The row of the cache that an entry matches, or -1. Rows are in order of names, so the row at the same place nearly always is it. */
  const cachedRow = (directory: OpenDirectory, stat: FileStat, at: number): { row: number; inPlace: boolean } => {
    const { cached } = directory
    if (cached === undefined) return { row: -1, inPlace: false }
    statRow(stat, row, 0, directory.stable, false)
    if (at < cached.entries && cached.rows.compare(row, 0, STAT_ROW_BYTES, at * STAT_ROW_BYTES, (at + 1) * STAT_ROW_BYTES) === 0)
      return { row: at, inPlace: true }
    if (!directory.stable || stat.kind !== 'file') return { row: -1, inPlace: false }
    let byInode = inodes.get(directory)
    if (byInode === undefined) {
      byInode = new Map()
      for (let i = 0; i < cached.entries; i++) byInode.set(cached.rows.readBigUInt64LE(i * STAT_ROW_BYTES + 16), i)
      inodes.set(directory, byInode)
    }
    const candidate = byInode.get(stat.inode) ?? -1
    if (candidate === -1) return { row: -1, inPlace: false }
    const same = cached.rows.compare(row, 0, 32, candidate * STAT_ROW_BYTES, candidate * STAT_ROW_BYTES + 32) === 0
    return { row: same ? candidate : -2, inPlace: false }
  }

  const enter = (step: Extract<WalkStep, { step: 'enter' }>, parent: OpenDirectory | undefined): OpenDirectory => {
    const { volume, stable } = volumeOf(step.stat, step.fd)
    const self = pendingEntry(step.name, step.stat, step.passage)
    let cached = undefined
    if (cache !== undefined && !force) {
      const place = parent === undefined ? cache.root : parent.cached?.child(step.name)
      cached = place === undefined ? undefined : cache.directory(place)
    }
    // A node that is not there any more is encoded anew from what is known of its entries, each of which is looked up by itself. So is one that may
    // stand for pages which are not looked up.
    const isNodeKnown = options.treeHolds && cached !== undefined && known.lookup(Buffer.from(cached.node, 'hex')) !== UNKNOWN
    const directory: OpenDirectory = {
      path: step.path,
      fd: step.fd,
      parent,
      self,
      entries: [],
      cached,
      identical: isNodeKnown,
      pending: 1,
      volume,
      stable,
      late: [],
    }
    openDirectories.add(directory)
    counts.directories += 1
    if (parent === undefined) rootDirectory = directory
    else {
      // A directory's own row has to match too, or its parent is not as before; what is in it is compared by itself.
      if (!cachedRow(parent, step.stat, parent.entries.length).inPlace) parent.identical = false
      parent.entries.push(self)
      parent.pending += 1
    }
    return directory
  }

  const allKnown = (content: CachedContent): boolean => {
    // A list stands for chunks that are not looked up one by one.
    if (content.content.kind === 'list' && !options.treeHolds) return false
    const ids = content.content.kind === 'list' ? [content.content.id] : content.content.kind === 'chunks' ? content.content.ids : []
    return ids.every((id) => known.lookup(Buffer.from(id, 'hex')) !== UNKNOWN)
  }

  const addEntry = (step: Extract<WalkStep, { step: 'entry' }>, directory: OpenDirectory): void => {
    const { stat, name, path } = step
    if (stat.kind === 'socket') {
      backup.onNotice?.(`left out ${printable(path.toString())}: it is a socket, which holds nothing to back up`)
      counts.others += 1
      return
    }
    const match = cachedRow(directory, stat, directory.entries.length)
    if (!match.inPlace) directory.identical = false
    const entry = pendingEntry(name, stat, false)
    directory.entries.push(entry)
    if (stat.kind !== 'file') {
      counts.others += 1
      return
    }
    if (stat.size === 0) {
      entry.content = { kind: 'inline', bytes: EMPTY }
      counts.files += 1
      if (match.row >= 0) counts.filesUnchanged += 1
      else counts.filesNew += 1
      return
    }
    const cached = match.row >= 0 && directory.cached !== undefined ? directory.cached.contentAt(match.row) : undefined
    if (cached !== undefined && allKnown(cached)) {
      entry.content = cached.content
      entry.extents = cached.extents
    } else if (match.row >= 0 && stat.size <= LIMITS.inlineBytes) {
      directory.late.push(entry)
    } else {
      if (match.row === -1) counts.filesNew += 1
      else counts.filesChanged += 1
      directory.pending += 1
      queue({ directory, entry, path, before: false })
      return
    }
    counts.files += 1
    counts.filesUnchanged += 1
    counts.bytes += stat.size
  }

  const pause = async (): Promise<void> => {
    const most = options.pool().size * 2 + 2
    while (underWay.size >= most) await Promise.race(underWay)
    await options.room()
  }

  if (source.stdin !== undefined) return readStream()
  let current: OpenDirectory | undefined
  try {
    for (const step of walk({
      fileSystem,
      paths: source.paths,
      excludes: compileExcludes(source.excludes, fileSystem),
      oneFileSystem: source.excludes.oneFileSystem,
    })) {
      if (failure !== undefined) break
      if (step.step === 'enter') current = enter(step, current)
      else if (step.step === 'problem') {
        problem(step.path, step.code)
        current!.identical = false
      } else if (step.step === 'entry') addEntry(step, current!)
      else {
        const left = current!
        current = left.parent
        settle(left)
      }
      if (batch.length >= BATCH_FILES || batchBytes >= BATCH_BYTES || batchDirectories >= BATCH_DIRECTORIES) {
        dispatch()
        signal.throwIfAborted()
        await pause()
      }
    }
    while ((batch.length > 0 || underWay.size > 0) && failure === undefined) {
      dispatch()
      await Promise.race(underWay)
    }
  } finally {
    await Promise.allSettled(underWay)
    for (const directory of openDirectories) fileSystem.close(directory.fd)
  }
  if (failure !== undefined) throw failure.error
  signal.throwIfAborted()
  options.onCounts(counts, problems.length)
  const root = rootDirectory!
  return {
    rootNode: root.self.node!,
    rootPlace: root.self.place,
    rootStat: root.self.passage ? undefined : root.self.stat,
    counts,
    problems,
  }

  /** Standard input: one file at `/`, read to its end by one worker. */
  async function readStream(): Promise<ReadSource> {
    const { name, fd } = source.stdin!
    const [result] = await options.pool().process([{ directory: fd, name: EMPTY, stat: undefined }])
    if (result === undefined || result.outcome === 'failed')
      throw new HoldfastError(
        'source-unreadable',
        `standard input could not be read (${result?.outcome === 'failed' ? result.code : 'no answer'}); no snapshot was made`,
      )
    const now = BigInt(Math.floor(backup.clock.now())) * 1_000_000n
    const size = result.lengths.reduce((sum, length) => sum + length, 0)
    const references: Reference[] = []
    const content = builder.content(result.ids, result.lengths)
    const entry: Entry = { name, kind: 'file', mode: 0o600, uid: 0, gid: 0, mtimeNs: now, size, content }
    const bytes = new ByteWriter()
    writeEntry(bytes, entry, references)
    const node = encodeDirectory(1, bytes.view(), references, options.treeHasher)
    options.store(node)
    options.onFile({ path: joinPath(Buffer.from('/'), name), size, newBytes: result.newBytes, changed: false }, result.segments)
    // The root counts as a directory: a reader stops where a tree has more of them than its snapshot says.
    Object.assign(counts, { files: 1, directories: 1, filesNew: 1, bytes: size, bytesRead: size })
    Object.assign(counts, { chunks: result.ids.length, bytesNew: result.newBytes })
    return { rootNode: node.id, rootPlace: undefined, rootStat: undefined, counts, problems }
  }
}
