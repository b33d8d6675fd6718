// Restores a snapshot, or a part of it, into a directory. Promises: nothing is written outside the target, whatever the repository or
// somebody else in the target says; a name in the target stands for something complete; the same restore twice gives the same tree, also
// when the first was interrupted; what could not be restored is named. Errors of the store abort; damage of single files does not, and an object that
// the store does not give while it answers otherwise is no reason to leave the rest: `requireAllRead` tells of it at the end.
// Durable at the end: one syncfs of the target's file system instead of an fsync per file, which costs a journal commit each.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { View } from '../repository/view.ts'
import { Applier } from './apply.ts'
import type { Overwrite } from './decide.ts'
import { createExecutor } from './executor.ts'
import { beginMark } from './mark.ts'
import { addFlags, flagsFor } from './metadata.ts'
import { planRestore, type RestorePlan } from './plan.ts'
import { readPast } from './read-past.ts'
import { ReportBuilder, type RestoredEntry, type RestoreProgress, type RestoreReport } from './report.ts'
import { createSelector, nameOf, type Selection } from './selection.ts'
import { walkTree } from './tree-reader.ts'

export type { Overwrite } from './decide.ts'
export type { RestoredEntry, RestoreProblem, RestoreProblemCode, RestoreProgress, RestoreReport } from './report.ts'
export type { Selection } from './selection.ts'

const HERE = Buffer.alloc(0)
const DEFAULT_WORKERS = 2

export type RestoreOptions = {
  readonly repository: Repository
  readonly view: View
  readonly keys: ReadKeys
  readonly snapshot: OpenedSnapshot
  /** Absolute path; made (mode 0700) where it is missing, its parent must exist. */
  readonly target: Buffer
  readonly selection?: Selection | undefined
  readonly overwrite?: Overwrite | undefined
  readonly fs?: FileSystem | undefined
  /** Threads that open and write; 0 does everything in this thread. Only on the real file system. */
  readonly workers?: number | undefined
  /** False leaves the last writes to the kernel. */
  readonly durable?: boolean | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined
  readonly onEntry?: ((entry: RestoredEntry) => void) | undefined
  /** How a person who lacks room there names another place; `--target` unless it is said. */
  readonly placeOption?: string | undefined
  /** Writes nothing; the report says what would be done. */
  readonly dryRun?: boolean | undefined
}

/** Rejects with `local-disk`, `grant-required`, `cancelled`, `usage` or what the store says; see the head of this file for what it promises. */
export async function restoreSnapshot(options: RestoreOptions): Promise<RestoreReport> {
  if (options.dryRun === true) return reportOf(await planRestore(options))
  const { repository, view, keys, snapshot, signal, overwrite = 'beside', fs = posixFileSystem } = options
  const selection = options.selection ?? { kind: 'whole' }
  const { structure } = snapshot
  const selector = createSelector(selection, repository.keys.recordKey)
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const whole = selection.kind === 'whole'
  const report = new ReportBuilder({
    onEntry: options.onEntry,
    onProgress: options.onProgress,
    totals: whole ? { files: structure.files, bytes: structure.bytes } : { files: undefined, bytes: undefined },
  })
  const rootEntry = whole ? snapshot.openPrivate(keys)?.root : undefined

  const opened = openTarget(fs, options.target)
  let targetFd: Descriptor | undefined = opened.fd
  const executor = createExecutor({
    fs,
    workers: fs === posixFileSystem ? (options.workers ?? DEFAULT_WORKERS) : 0,
    domainId: repository.keys.domainId,
    idKey: repository.keys.idKey,
  })
  const { base } = opened
  try {
    requireAlone(fs, base, options)
    await requireRoom(fs, base, options)
    const interruption = beginMark(fs, base, structure.ref.random, nameOf(selection))
    const applier = new Applier({
      fs,
      reader,
      idKey: repository.keys.idKey,
      executor,
      snapshotId: structure.ref.random,
      root: structure.root,
      overwrite,
      interruption,
      report,
      rootEntry,
      targetFd,
      targetExisted: opened.existed,
      durable: options.durable !== false,
      signal,
    })
    targetFd = undefined
    await applier.run(walkTree({ reader, root: structure.root, bounds: structure, choose: selector.choose, signal }))
    for (const path of selector.unmatched()) report.problem(path, 'not-in-snapshot')
    if (options.durable !== false) fs.syncFileSystem(base)
    // What could not be read is asked for again by the next one.
    const isAllRead = report.unread === 0
    interruption.end({ isAllRead, durable: options.durable !== false })
    if (rootEntry !== undefined && overwrite !== 'never') {
      fs.setTimes(base, HERE, rootEntry.mtimeNs)
      const { open, protecting } = flagsFor(rootEntry)
      report.metadata(Buffer.from('/'), addFlags(fs, base, isAllRead ? open | protecting : open))
    }
    // The end itself too: after a crash a restore that was told as complete has no mark of one that was interrupted.
    if (options.durable !== false) fs.sync(base)
    return report.finish()
  } catch (error) {
    if (error instanceof FileError)
      throw new HoldfastError('local-disk', `cannot restore into '${printable(options.target.toString())}': ${error.message}`, {
        cause: error,
      })
    throw error
  } finally {
    await executor.close()
    if (targetFd !== undefined) fs.close(targetFd)
    fs.close(base)
  }
}

/** Opens the target, twice: the second descriptor stays open for what comes after the tree is closed. */
function openTarget(fs: FileSystem, target: Buffer): { fd: Descriptor; base: Descriptor; existed: boolean } {
  const shown = printable(target.toString())
  if (target[0] !== 0x2f) throw new HoldfastError('usage', `the target '${shown}' is no absolute path`)
  let fd: Descriptor | undefined
  let existed = true
  try {
    try {
      fd = fs.open(CWD, target, 'directory-follow')
    } catch (error) {
      if (!(error instanceof FileError) || error.errno !== 'ENOENT') throw error
      fs.makeDirectory(CWD, target, 0o700)
      fd = fs.open(CWD, target, 'directory')
      existed = false
    }
    return { fd, base: fs.open(fd, Buffer.from('.'), 'directory'), existed }
  } catch (error) {
    if (fd !== undefined) fs.close(fd)
    if (!(error instanceof FileError)) throw error
    throw new HoldfastError('local-disk', `cannot open the target '${shown}': ${error.message}; name a directory that can be written`, {
      cause: error,
    })
  }
}

/** Two restores at once would give each other's half-written files a name. A file system that knows no locks has to do without. */
function requireAlone(fs: FileSystem, base: Descriptor, { target, placeOption = '--target' }: RestoreOptions): void {
  try {
    if (fs.lock?.(base, false) !== false) return
  } catch (error) {
    if (error instanceof FileError) return
    throw error
  }
  throw new HoldfastError(
    'conflict',
    `another restore into '${printable(target.toString())}' is under way: wait for it, or name another ${placeOption}; nothing was written`,
  )
}

/** Refuses before anything is written where there is not enough room. Looks closely only where the whole snapshot would not fit. */
async function requireRoom(fs: FileSystem, target: Descriptor, options: RestoreOptions): Promise<void> {
  const free = fs.freeBytes(target)
  if (options.snapshot.structure.bytes <= free) return
  const { bytes } = await planRestore(options)
  if (bytes > free)
    throw new HoldfastError(
      'local-disk',
      `the restore needs ${bytes} bytes and '${printable(options.target.toString())}' has ${free} free; nothing was written. Make room there or name another ${options.placeOption ?? '--target'}`,
      {
        fields: { neededBytes: bytes, freeBytes: free },
      },
    )
}

function reportOf(plan: RestorePlan): RestoreReport {
  return {
    files: plan.files,
    directories: plan.directories,
    bytes: plan.bytes,
    kept: plan.kept,
    keptOther: plan.keptOther,
    beside: plan.beside,
    besideNames: plan.conflicts.flatMap(({ path, action }) => (action === 'beside' ? [{ path, name: undefined }] : [])),
    failed: plan.failed,
    problems: plan.problems,
    problemCount: plan.problems.length,
    damaged: plan.problems.filter(({ code }) => code === 'damaged').length,
    unread: plan.problems.filter(({ code }) => code === 'unread').length,
  }
}

/** Throws `unread` where a restore had to leave out what the store holds and does not give: it has restored all else, which the error's fields count. */
export function requireAllRead(report: RestoreReport, dryRun = false): void {
  const { unread, problems } = report
  if (unread === 0) return
  const { files, directories, bytes, kept, failed, damaged, problemCount } = report
  const first = problems.find(({ code }) => code === 'unread')?.errno ?? ''
  throw new HoldfastError(
    'unread',
    `${unread === 1 ? '1 path' : `${unread} paths`} ${dryRun ? 'cannot be' : 'could not be'} restored: the store holds what is needed and does not give it (first: ${first}). ${dryRun ? 'All else can be' : 'All else is restored; run the same restore again, it goes on with what is missing'}`,
    { fields: { files, directories, bytes, kept, failed, damaged, unread, problems: problemCount } },
  )
}
