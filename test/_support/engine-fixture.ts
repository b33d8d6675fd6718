// The backup engine on a simulated machine: one bucket, one file system, one clock, all from one seed. A run can be ended at any call of
// the store or the file system; what comes after a reboot is a new process on what is left.
import { createHash } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { BackupOptions, BackupResult, BackupSource, TransmittedFile } from '../../agent/backup/backup-types.ts'
import { runBackup } from '../../agent/backup/run.ts'
import { forgetSnapshots } from '../../agent/collection/forget.ts'
import { prune, type PruneOptions, type PruneReport } from '../../agent/collection/prune.ts'
import { listForgotten, undelete, type UndeleteReport } from '../../agent/collection/undelete.ts'
import { CWD, FileError, type FileSystem } from '../../agent/file-system/file-system.ts'
import { rootKeys, type RootKeys } from '../../agent/keys/domain.ts'
import type { WriteKeys } from '../../agent/keys/keys.ts'
import type { ObjectCache } from '../../agent/repository/object-cache.ts'
import { type Chunking, createRepository, openRepository } from '../../agent/repository/repository.ts'
import type { PutBody, Store } from '@holdfast/shared/store/store.ts'
import { describe, plainReader, type PlainReader, type Tree } from './plain-reader.ts'
import { seededRandom } from './seeded-random.ts'
import { simulatedClock, type SimulatedClock } from './simulated-clock.ts'
import { simulatedFileSystem, type SimulatedFileSystem } from './simulated-file-system.ts'
import { type FaultPlan, noFaults, SimulatedBucket, SimulatedCrash } from './simulated-store.ts'

/** Chunks small enough that kilobytes show what megabytes do. */
export const SMALL_CHUNKS: Chunking = { mode: 'gear', min: 1024, mean: 4096, max: 16_384 }
export const NO_EXCLUDES: BackupSource['excludes'] = { patterns: [], cacheDirectories: false, oneFileSystem: false }
const EMPTY = Buffer.alloc(0)

export type Run = BackupResult & { readonly transmitted: readonly TransmittedFile[]; readonly notices: readonly string[] }
export type RunOptions = Partial<Omit<BackupOptions, 'source' | 'state'>> & {
  readonly paths?: readonly string[]
  readonly label?: string
  readonly excludes?: Partial<BackupSource['excludes']>
  readonly source?: Partial<BackupSource>
  readonly state?: string
  /** Another state of the store than the engine's own; default that. */
  readonly bucket?: SimulatedBucket
  /** Told of files as they are transmitted, also by a run that ends badly. */
  readonly transmitted?: TransmittedFile[]
}

export type Engine = {
  readonly keys: RootKeys
  readonly clock: SimulatedClock
  readonly random: Random
  readonly bucket: SimulatedBucket
  readonly fs: SimulatedFileSystem
  /** A store handle of the process that runs now; it dies with the process. */
  readonly store: () => Store
  /** The file system as the process that runs now sees it; it dies with the process. */
  readonly fileSystem: () => FileSystem
  readonly setStoreFaults: (plan: FaultPlan) => void
  /** A new process: the file system as a crash left it where `seed` is given, all kept otherwise; no faults. */
  readonly reboot: (seed?: string) => void
  /** Lets time pass, so that what was touched before is no longer racy. */
  readonly pass: () => void
  readonly backup: (options?: RunOptions) => Promise<Run>
  /** One collection under the keys of this machine. */
  readonly prune: (options?: Partial<PruneOptions>) => Promise<PruneReport>
  /** Forgets snapshots of this machine's domain by their ids. */
  readonly forget: (...ids: readonly string[]) => Promise<void>
  /** Takes back whatever is forgotten and still there. */
  readonly undelete: (...ids: readonly string[]) => Promise<UndeleteReport>
  /** The same where whoever published a deletion list is known to be at work no more. */
  readonly undeleteLeft: (...ids: readonly string[]) => Promise<UndeleteReport>
  /** Reads what is stored, but for these objects. */
  readonly reader: (without?: ReadonlySet<string>) => PlainReader
  /** The tree of the newest snapshot. */
  readonly newest: () => Tree
  /** What stands in the file system under these paths, as a snapshot should have it. */
  readonly source: (...paths: string[]) => Tree
}

/** Random bytes from a seed, fast also for the padding of packs. */
export function fixtureRandom(seed: string): Random {
  const small = seededRandom(seed)
  return {
    bytes: (length) =>
      length <= 1024 ? small.bytes(length) : createHash('shake256', { outputLength: length }).update(small.bytes(32)).digest(),
  }
}

/** A repository with root keys on a bucket of its own, or on that of another engine. Nothing is read from the real machine. */
export async function makeEngine(
  options: {
    seed?: string
    /** What the wall clock begins with. */
    startMs?: number
    chunking?: Chunking
    writeKeys?: (keys: RootKeys) => WriteKeys
    limits?: BackupOptions['limits']
    /** Sources, state and spool are on this one instead of the simulated one. */
    fileSystem?: FileSystem
    /** A bucket that has a repository of this fixture's domain already. */
    bucket?: SimulatedBucket
    /** What the store's trace calls it; made from the seed unless given. */
    actor?: string
    /** The machine's clock, and the store's where it makes one. */
    clock?: SimulatedClock
    storeClock?: SimulatedClock
    /** Between the process and the store: a scheduler that lets calls wait. */
    seam?: (store: Store) => Store
    /** Keeps small objects, as every command and the daemon do; none by default, so that each call reads the store. */
    cache?: ObjectCache
    /** Shares bucket, clock and keys: another machine of the same domain. */
    beside?: Engine
  } = {},
): Promise<Engine> {
  const { seed = 'engine', beside, cache } = options
  const random = fixtureRandom(seed)
  const clock =
    options.clock ??
    beside?.clock ??
    simulatedClock({ autoMs: Infinity, ...(options.startMs === undefined ? {} : { startMs: options.startMs }) })
  const bucket = beside?.bucket ?? options.bucket?.clone({ clock }) ?? new SimulatedBucket({ clock: options.storeClock ?? clock })
  const fs = simulatedFileSystem({ clock })
  const domain = fixtureRandom('domain')
  const keys = beside?.keys ?? rootKeys({ root: domain.bytes(32), domainId: domain.bytes(16) })
  const writeKeys = options.writeKeys?.(keys) ?? keys.write
  if (beside === undefined && options.bucket === undefined)
    await createRepository({
      store: bucket.store(),
      keys: keys.write,
      signer: keys.signing,
      chunking: options.chunking ?? SMALL_CHUNKS,
      enrolled: false,
      now: clock.now(),
    })
  fs.makeDirectory(CWD, Buffer.from('/src'), 0o755)
  fs.syncAll()
  fs.clearCalls()

  let process = 0
  const storeOf = (on: SimulatedBucket = bucket): Store => {
    const mine = process
    const inner = on.store(options.actor ?? `agent ${seed}`)
    const alive = (): void => {
      if (mine !== process || fs.crashed()) throw new SimulatedCrash('the machine is off')
    }
    const store: Store = {
      location: inner.location,
      ...(inner.diagnostics === undefined ? {} : { diagnostics: inner.diagnostics }),
      put: async (name, body, more) => {
        alive()
        return inner.put(name, options.fileSystem === undefined ? inMemory(fs, body) : body, more)
      },
      get: async (name, more) => (alive(), inner.get(name, more)),
      getRange: async (name, range, more) => (alive(), inner.getRange(name, range, more)),
      head: async (name, more) => (alive(), inner.head(name, more)),
      async *list(prefix, more) {
        alive()
        for await (const page of inner.list(prefix, more)) {
          alive()
          yield page
        }
      },
      remove: async (name, more) => (alive(), inner.remove(name, more)),
      close: () => inner.close(),
    }
    return options.seam?.(store) ?? store
  }
  const fileSystemOf = (given: FileSystem): FileSystem => {
    const mine = process
    return new Proxy(given, {
      get: (target, property: keyof FileSystem) => {
        if (mine !== process) throw new SimulatedCrash('the process has ended')
        return target[property]
      },
    })
  }

  const takeBack = async (ids: readonly string[], pruneIsOver: boolean): Promise<UndeleteReport> => {
    const repository = await openRepository({ store: storeOf(), keys: writeKeys.structure, cache })
    const options = { repository, keys: writeKeys, clock, random, pruneIsOver }
    const { survey, snapshots } = await listForgotten(options)
    const chosen = snapshots.filter(({ structure }) => ids.length === 0 || ids.includes(structure.ref.random))
    return undelete(options, chosen, survey, false)
  }

  const engine: Engine = {
    keys,
    clock,
    random,
    bucket,
    fs,
    store: () => storeOf(),
    fileSystem: () => fileSystemOf(fs),
    setStoreFaults: (plan) =>
      bucket.setFaults((call) => {
        const faults = plan(call)
        // The machine dies as a whole.
        if (faults.some((fault) => fault.kind === 'crash')) fs.crash()
        return faults
      }),
    reboot: (by) => {
      process += 1
      bucket.setFaults(noFaults)
      fs.reboot(by === undefined ? undefined : fixtureRandom(by))
    },
    pass: () => clock.advance(10_000),
    backup: async (run = {}) => {
      const { paths = ['/src'], label = 'source', excludes, source, state = '/state', bucket: on, transmitted = [], ...rest } = run
      const notices: string[] = []
      const store = storeOf(on)
      const repository = await openRepository({ store, keys: writeKeys.structure, cache })
      const result = await runBackup({
        repository,
        keys: writeKeys,
        tags: [],
        force: false,
        dryRun: false,
        program: 'test',
        clock,
        random,
        signal: new AbortController().signal,
        onTransmitted: (files) => transmitted.push(...files),
        onNotice: (text) => notices.push(text),
        ...rest,
        source: {
          label,
          host: 'host',
          paths: paths.map((path) => Buffer.from(path, 'latin1')),
          excludes: { ...NO_EXCLUDES, ...excludes },
          ...source,
        },
        state: Buffer.from(state),
        fileSystem: options.fileSystem ?? fileSystemOf(rest.fileSystem ?? fs),
        limits: { workers: 0, ...options.limits, ...rest.limits },
      })
      return { ...result, transmitted, notices }
    },
    prune: async (more = {}) => {
      const store = storeOf()
      const repository = await openRepository({ store, keys: writeKeys.structure, cache })
      return prune({ repository, keys: writeKeys, readKeys: keys.read, clock, random, mayDelete: true, dryRun: false, ...more })
    },
    forget: async (...ids) => {
      const repository = await openRepository({ store: storeOf(), keys: writeKeys.structure, cache })
      const { snapshots } = await repository.listSnapshots()
      const chosen = snapshots.filter(({ structure }) => ids.includes(structure.ref.random))
      await forgetSnapshots({ repository, keys: writeKeys, clock, random }, chosen, 'asked')
    },
    undelete: (...ids) => takeBack(ids, false),
    undeleteLeft: (...ids) => takeBack(ids, true),
    reader: (without) => plainReader(without === undefined ? bucket : hiding(bucket, without), keys),
    newest: () => {
      const reader = engine.reader()
      const last = reader.snapshots.at(-1)
      if (last === undefined) throw new Error('there is no snapshot')
      return reader.tree(last)
    },
    source: (...paths) => fs.quietly(() => treeOf(fs, paths.length === 0 ? ['/src'] : paths)),
  }
  return engine
}

function hiding(bucket: SimulatedBucket, without: ReadonlySet<string>): Parameters<typeof plainReader>[0] {
  return { names: (prefix) => bucket.names(prefix).filter((name) => !without.has(name)), content: (name) => bucket.content(name) }
}

/** The body as a store would read it from the spool. */
function inMemory(fs: SimulatedFileSystem, body: PutBody): PutBody {
  if (body.kind === 'bytes') return body
  const bytes = fs.quietly(() => readFile(fs, body.path.toString('latin1')))
  if (bytes === undefined || bytes.length !== body.bytes || createHash('sha256').update(bytes).digest('hex') !== body.sha256)
    throw new HoldfastError('local-disk', 'a spool file is not what was written')
  return { kind: 'bytes', bytes }
}

export function readFile(fs: FileSystem, path: string): Buffer | undefined {
  try {
    const fd = fs.open(CWD, Buffer.from(path, 'latin1'), 'read')
    try {
      const into = Buffer.alloc(fs.stat(fd, EMPTY).size)
      fs.read(fd, into, 0, into.length, 0)
      return into
    } finally {
      fs.close(fd)
    }
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
}

/** Makes or replaces the content of a file behind the engine's back; parents are made. */
export function writeFile(engine: Pick<Engine, 'fs'>, path: string, content: Buffer | string): void {
  const { fs } = engine
  fs.quietly(() => {
    makeParents(fs, path)
    const name = Buffer.from(path, 'latin1')
    let fd
    try {
      fd = fs.open(CWD, name, 'update')
    } catch (error) {
      if (!(error instanceof FileError) || error.errno !== 'ENOENT') throw error
      fd = fs.open(CWD, name, 'create')
    }
    fs.truncate(fd, 0)
    fs.write(fd, Buffer.from(content), 0)
    fs.close(fd)
    fs.syncAll()
  })
}

/** Does anything else to the file system behind the engine's back, durably. */
export function change(engine: Pick<Engine, 'fs'>, act: (fs: SimulatedFileSystem) => void): void {
  engine.fs.quietly(() => act(engine.fs))
  engine.fs.syncAll()
}

function makeParents(fs: FileSystem, path: string): void {
  const parts = path.split('/').slice(1, -1)
  for (let i = 1; i <= parts.length; i++) {
    try {
      fs.makeDirectory(CWD, Buffer.from(`/${parts.slice(0, i).join('/')}`, 'latin1'), 0o755)
    } catch (error) {
      if (!(error instanceof FileError) || error.errno !== 'EEXIST') throw error
    }
  }
}

/** What stands under these paths as a snapshot should have it. */
export function treeOf(fs: FileSystem, paths: readonly string[]): Tree {
  const tree: Tree = new Map()
  const links = new Map<bigint, string>()
  const enter = (path: string): void => {
    const name = Buffer.from(path, 'latin1')
    const stat = fs.stat(CWD, name)
    if (stat.kind === 'socket') return
    const linked = stat.kind !== 'directory' && stat.links > 1
    if (linked && !links.has(stat.inode)) links.set(stat.inode, path)
    const attributes = fs.readAttributes(CWD, name)
    tree.set(
      path,
      describe({
        ...stat,
        attributes,
        linkedTo: linked ? links.get(stat.inode) : undefined,
        content: stat.kind === 'file' ? readFile(fs, path) : undefined,
        extents: stat.kind === 'file' ? extentsOf(fs, name, stat.size) : undefined,
        target: stat.kind === 'symlink' ? fs.readSymlink(CWD, name) : undefined,
        device: stat.kind.endsWith('device') ? { major: stat.rdevMajor, minor: stat.rdevMinor } : undefined,
      }),
    )
    if (stat.kind !== 'directory') return
    const fd = fs.open(CWD, name, 'directory')
    for (const child of fs.readDirectory(fd)) enter(`${path}/${child.toString('latin1')}`)
    fs.close(fd)
  }
  for (const path of paths) enter(path)
  return tree
}

/** Where data stands, or undefined for a file without holes. */
function extentsOf(fs: FileSystem, name: Buffer, size: number): { offset: number; bytes: number }[] | undefined {
  const fd = fs.open(CWD, name, 'read')
  try {
    const extents: { offset: number; bytes: number }[] = []
    for (let at = fs.nextData(fd, 0); at !== undefined;) {
      const end = fs.nextHole(fd, at)
      extents.push({ offset: at, bytes: end - at })
      at = fs.nextData(fd, end)
    }
    const dense = size === 0 || (extents.length === 1 && extents[0]!.offset === 0 && extents[0]!.bytes === size)
    return dense ? undefined : extents
  } finally {
    fs.close(fd)
  }
}
