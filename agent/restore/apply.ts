// Carries a restore out: walks the snapshot, decides for every entry, makes directories on the way down, collects files into batches that are
// fetched and written beside the walk, and ends directories from the deepest up. One Applier per restore.
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { blake3, type Hasher } from '../repository/blake3.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import type { Entry } from '../repository/tree.ts'
import { sameContent } from './compare.ts'
import { besideName, decide, decideCompared, type Decision, isKnownOther, isOfRestores, mayBeTorn, type Overwrite } from './decide.ts'
import type { Executor } from './executor.ts'
import { BATCHES_IN_FLIGHT, FilePipeline, type Item } from './file-pipeline.ts'
import { LateFlags } from './late-flags.ts'
import { flagsDiffer, isFatal, isProtected, metadataDiffers, type MetadataProblem, removeInheritedAcls, setMetadata } from './metadata.ts'
import { type Leader, LinkGroups } from './link-groups.ts'
import type { Interruption } from './mark.ts'
import { namesInUse } from './own-names.ts'
import { lostCode, type ReportBuilder } from './report.ts'
import { closedUnless, openExisting, statOf, TargetDirectory, TargetTree } from './target-tree.ts'
import { Tasks } from './tasks.ts'
import { entryPath, type WalkDirectory, type WalkStep } from './tree-reader.ts'
import { writeHardLink } from './write-file.ts'

const BESIDE_ATTEMPTS = 1000
const HERE = Buffer.alloc(0)

export type ApplyOptions = {
  readonly fs: FileSystem
  readonly reader: PackReader
  readonly idKey: Buffer
  readonly executor: Executor
  readonly snapshotId: string
  /** Node of `/`. */
  readonly root: string
  readonly overwrite: Overwrite
  readonly interruption: Interruption
  readonly report: ReportBuilder
  /** Metadata for the target itself, where `/` was backed up and everything is restored. */
  readonly rootEntry: Entry | undefined
  readonly targetFd: Descriptor
  readonly targetExisted: boolean
  /** False where nobody waits for the disk. */
  readonly durable: boolean
  readonly signal?: AbortSignal | undefined
}

export class Applier {
  readonly #options: ApplyOptions
  readonly #fs: FileSystem
  readonly #tree: TargetTree
  readonly #tasks = new Tasks(BATCHES_IN_FLIGHT)
  readonly #groups = new LinkGroups<TargetDirectory>()
  readonly #targets = new Map<WalkDirectory, TargetDirectory>()
  readonly #hasher: Hasher
  readonly #report: ReportBuilder
  readonly #deferred: (() => Promise<void>)[] = []
  readonly #files: FilePipeline
  readonly #late: LateFlags
  #top: TargetDirectory | undefined

  constructor(options: ApplyOptions) {
    this.#options = options
    this.#fs = options.fs
    this.#report = options.report
    this.#hasher = blake3.keyed(options.idKey)
    this.#tree = new TargetTree(options.fs, (directory) => this.#over(directory))
    this.#late = new LateFlags(options.fs, this.#tree)
    this.#files = new FilePipeline({
      ...options,
      tree: this.#tree,
      tasks: this.#tasks,
      onSettled: (item, problems) => this.#settled(item, problems),
      onRefused: (item, error) => this.#refusedItem(item, error),
      onProgress: () => this.#report.progress(),
    })
  }

  /** Restores everything that the walk yields. When it resolves or rejects nothing is being written any more. */
  async run(steps: AsyncIterable<WalkStep>): Promise<void> {
    try {
      for await (const step of steps) {
        this.#tasks.check()
        await this.#runDeferred()
        await this.#step(step)
      }
      await this.#finish()
    } finally {
      await this.#tasks.settle()
      this.#tree.closeAll()
    }
  }

  async #finish(): Promise<void> {
    // What settles may start work again: a name that was taken meanwhile, a hard link whose first name failed.
    do {
      await this.#runDeferred()
      await this.#files.flush()
      await this.#tasks.settle()
      this.#tasks.check()
    } while (this.#deferred.length > 0 || !this.#files.empty)
    const top = this.#top
    if (top === undefined) return
    const tell = (path: Buffer, problems: readonly MetadataProblem[]): void => this.#report.metadata(path, problems)
    if (this.#report.unread > 0) this.#late.leave(tell)
    else {
      if (!this.#late.empty && this.#options.durable) this.#fs.syncFileSystem(this.#tree.descriptor(top))
      this.#late.set(tell)
    }
    this.#tree.release(top)
  }

  async #step(step: WalkStep): Promise<void> {
    const walk = step.directory
    switch (step.step) {
      case 'enter': {
        const parent = walk.parent === undefined ? undefined : this.#targets.get(walk.parent)
        const directory = new TargetDirectory(parent, walk)
        this.#targets.set(walk, directory)
        if (parent === undefined) this.#adoptTarget(directory)
        else if (walk.selected) await this.#materialize(directory)
        return
      }
      case 'entries': {
        const directory = this.#targets.get(walk)!
        if (!(await this.#materialize(directory))) {
          for (const entry of step.entries) this.#report.failed(entryPath(walk, entry.name), entry)
          return
        }
        for (const entry of step.entries) {
          const begun = this.#entry(directory, entry)
          if (begun !== undefined) await begun
        }
        return
      }
      case 'failed':
        this.#report.problem(walk.path, lostCode(step.error), step.error.message)
        return
      case 'leave': {
        const directory = this.#targets.get(walk)!
        this.#targets.delete(walk)
        this.#tree.leave(directory)
      }
    }
  }

  #adoptTarget(directory: TargetDirectory): void {
    directory.name = HERE
    directory.existed = this.#options.targetExisted
    directory.finish = this.#options.rootEntry !== undefined && this.#options.overwrite !== 'never'
    this.#tree.adopt(directory, this.#options.targetFd)
    // Kept open to the end: everything put off is reached from it.
    this.#tree.hold(directory)
    this.#top = directory
  }

  /** Makes or finds a directory, and those above it. False where nothing can be restored into it; that is reported once. */
  async #materialize(directory: TargetDirectory): Promise<boolean> {
    if (directory.name !== undefined) return true
    if (directory.failed) return false
    const parent = directory.parent!
    const entry = directory.walk.entry!
    if (parent.failed || !(await this.#materialize(parent))) {
      directory.failed = true
      return false
    }
    try {
      const first = await this.#firstAttempt(parent, entry.name)
      for (let attempt = first; directory.name === undefined && !directory.failed; attempt++) {
        const name = attempt === 0 ? entry.name : besideName(entry.name, this.#options.snapshotId, attempt)
        if (attempt > BESIDE_ATTEMPTS) throw new FileError('mkdir', 'EEXIST')
        this.#tryDirectory(directory, parent, entry, name, attempt > 0)
      }
    } catch (error) {
      this.#refused(entryPath(parent.walk, entry.name), error)
      directory.failed = true
    }
    return !directory.failed
  }

  /** One try at one name: sets the directory's name, or marks it failed, or leaves both for the next name to be tried. */
  #tryDirectory(directory: TargetDirectory, parent: TargetDirectory, entry: Entry, name: Buffer, beside: boolean): void {
    const fs = this.#fs
    const { overwrite, interruption } = this.#options
    const at = this.#tree.descriptor(parent)
    const { path } = directory.walk
    const leadsOnly = entry.passage === true || !directory.walk.selected
    const existing = parent.existed ? statOf(fs, at, name) : undefined
    const decision = decide(entry, existing, overwrite)
    if (decision === 'keep') {
      this.#report.problem(path, 'in-the-way', existing?.kind)
      directory.failed = true
      return
    }
    if (decision === 'beside') return
    if (decision === 'enter') {
      directory.finish = interruption.made(path) || (!leadsOnly && this.#isToFinish(at, name, path, entry))
      const fd = openExisting(fs, at, name, directory.finish)
      directory.existed = true
      directory.name = name
      this.#tree.adopt(directory, fd)
      return
    }
    if (decision === 'replace') fs.remove(at, name, 'file')
    // Before it is made: one that stands there without a note would keep the mode it was made with.
    if (leadsOnly) interruption.note(path)
    try {
      fs.makeDirectory(at, name, 0o700)
    } catch (error) {
      if (!(error instanceof FileError) || error.errno !== 'EEXIST') throw error
      // Somebody made it since it was looked for: look again.
      parent.existed = true
      return this.#tryDirectory(directory, parent, entry, name, beside)
    }
    const fd = fs.open(at, name, 'directory')
    closedUnless(fs, fd, () => parent.existed && removeInheritedAcls(fs, fd))
    directory.name = name
    directory.finish = true
    this.#tree.adopt(directory, fd)
    this.#report.directory(path, beside ? name : undefined)
  }

  /** With `never` what stands there stays as it is, so one that is as it was backed up stays so; one that is not may be what an interrupted restore left. */
  #isToFinish(at: Descriptor, name: Buffer, path: Buffer, entry: Entry): boolean {
    const { overwrite, interruption } = this.#options
    if (overwrite !== 'never') return true
    const differs = metadataDiffers(this.#fs, at, name, entry)
    if (differs && interruption.interrupted)
      this.#report.problem(path, 'differs', 'an interrupted restore may have made it and not ended it: --overwrite changed sets it right')
    return !differs
  }

  #over(directory: TargetDirectory): void {
    if (!directory.finish || directory.failed || directory.name === undefined) return
    const entry = directory.walk.entry ?? this.#options.rootEntry
    if (entry === undefined) return
    try {
      const at = this.#tree.descriptor(directory)
      // What `never` finds as it was backed up needs nothing unless something came into it, nor flags that no earlier restore left to this one.
      const { overwrite, interruption } = this.#options
      const found = overwrite === 'never' && directory.existed && !interruption.made(directory.walk.path)
      // What an earlier restore finished and protected takes no change, and needs none.
      const done = directory.existed && (found || isProtected(this.#fs, at, HERE)) && !metadataDiffers(this.#fs, at, HERE, entry)
      const problems = done ? [] : setMetadata(this.#fs, at, HERE, entry, directory.existed)
      // The target itself still has a mark to lose, and what only leads to the selection is not what a person wants to be kept from changing.
      if (directory.parent !== undefined && directory.walk.selected && (!found || interruption.goesOn))
        problems.push(...this.#late.give(directory, HERE, directory.walk.path, entry))
      // What only leads to the selection was never asked for: that its owner needs more rights leaves nothing of the selection behind.
      const leadsOnly = entry.passage === true || !directory.walk.selected
      this.#report.metadata(directory.walk.path, leadsOnly ? problems.filter((problem) => !isOfRights(problem)) : problems)
    } catch (error) {
      this.#refused(directory.walk.path, error)
    }
  }

  #entry(directory: TargetDirectory, entry: Entry): Promise<void> | undefined {
    if (entry.link !== undefined) {
      const group = this.#groups.join(entry.link)
      if (group.state === 'pending') {
        // The directory stays unfinished until the first name of the group is there.
        directory.holds += 1
        group.waiting.push({ directory, entry })
        return undefined
      }
      if (group.state === 'ready') return this.#link(directory, entry, group.leader)
    }
    if (directory.existed || isOfRestores(entry.name)) return this.#place(directory, entry)
    // Nothing can stand in a directory that was just made: there is nothing to look for and mostly nothing to wait for.
    try {
      const begun = this.#files.write({ directory, entry, name: entry.name, replace: false, beside: false, ids: [] })
      return begun?.catch((error: unknown) => this.#failed(directory, entry, error))
    } catch (error) {
      this.#failed(directory, entry, error)
      return undefined
    }
  }

  /** Finds the name for an entry and brings it on its way. `existing` is looked for where it could be. */
  async #place(directory: TargetDirectory, entry: Entry, looksAgain = false): Promise<void> {
    try {
      const first = await this.#firstAttempt(directory, entry.name)
      for (let attempt = first; attempt <= BESIDE_ATTEMPTS; attempt++) {
        const name = attempt === 0 ? entry.name : besideName(entry.name, this.#options.snapshotId, attempt)
        const decision = await this.#decide(directory, entry, name, looksAgain || directory.existed)
        if (decision === 'beside') continue
        const apart = decision === 'keep' && this.#mustPart(directory, entry, name)
        if (decision === 'keep' && !apart) return this.#keep(directory, entry, name)
        return await this.#files.write({ directory, entry, name, replace: apart || decision === 'replace', beside: attempt > 0, ids: [] })
      }
      throw new FileError('open', 'EEXIST')
    } catch (error) {
      this.#failed(directory, entry, error)
    }
  }

  async #decide(directory: TargetDirectory, entry: Entry, name: Buffer, look: boolean): Promise<Decision> {
    if (!look) return 'write'
    const { fs, overwrite, reader, signal, interruption } = this.#options
    const at = this.#tree.hold(directory)
    try {
      const existing = statOf(fs, at, name)
      const decision = decide(entry, existing, overwrite)
      if (existing === undefined) return decision
      const keepsOthers = overwrite === 'beside' || overwrite === 'never'
      const torn = interruption.interrupted && keepsOthers && mayBeTorn(entry, existing)
      if (decision === 'beside' && torn) return 'replace'
      if (decision !== 'compare' && !torn) return decision
      const same = await sameContent({ fs, reader, chunkHasher: this.#hasher, at, name, entry, signal })
      return !same && torn ? 'replace' : decideCompared(same, existing, overwrite)
    } finally {
      this.#tree.release(directory)
    }
  }

  /**
   * True where a kept file would be given other metadata and has other names, which may stand outside of the target: it is written anew instead,
   * so that they keep theirs.
   */
  #mustPart(directory: TargetDirectory, entry: Entry, name: Buffer): boolean {
    if (this.#options.overwrite !== 'changed') return false
    const at = this.#tree.descriptor(directory)
    if (this.#fs.stat(at, name).links === 1) return false
    return metadataDiffers(this.#fs, at, name, entry) || flagsDiffer(this.#fs, at, name, entry)
  }

  /** 0 where an entry may have its own name, 1 where it goes beside that from the start. */
  async #firstAttempt(directory: TargetDirectory, name: Buffer): Promise<number> {
    if (!isOfRestores(name)) return 0
    const { reader, snapshotId, signal } = this.#options
    const node = directory.walk.entry?.node ?? this.#options.root
    directory.inUse ??= namesInUse({ reader, node, snapshotId, isTop: directory.parent === undefined, signal })
    return (await directory.inUse)(name) ? 1 : 0
  }

  #keep(directory: TargetDirectory, entry: Entry, name: Buffer): void {
    const { overwrite, interruption } = this.#options
    const path = entryPath(directory.walk, entry.name)
    const at = this.#tree.descriptor(directory)
    const differs = overwrite !== 'never' && metadataDiffers(this.#fs, at, name, entry)
    if (differs || (overwrite !== 'never' && flagsDiffer(this.#fs, at, name, entry))) {
      // Flags are what a restore sets last: one that was interrupted, or could not read everything, left them to this one.
      const ours = interruption.goesOn && (entry.link !== undefined || this.#fs.stat(at, name).links === 1)
      if (overwrite === 'changed' || (!differs && ours)) {
        const problems = differs ? this.#setKept(at, name, entry) : []
        this.#report.metadata(path, [...problems, ...this.#late.give(directory, name, path, entry)])
      } else this.#report.problem(path, 'differs', 'it has the same content and was kept, but owner, mode, time or attributes differ')
    }
    this.#report.kept(path, entry, overwrite === 'never' && isKnownOther(entry, statOf(this.#fs, at, name)))
    // With `never` nobody has looked what it holds, so the other names of the group must not become links to it.
    if (overwrite === 'never') this.#passOn(entry)
    else this.#settleGroup(directory, entry, name)
  }

  /** The next name of the group, if one waits, takes the place of a first name that cannot be linked to. */
  #passOn(entry: Entry): void {
    const next = entry.link === undefined ? undefined : this.#groups.promote(entry.link)
    if (next !== undefined) this.#later(next.directory, () => this.#place(next.directory, next.entry))
  }

  #setKept(at: Descriptor, name: Buffer, entry: Entry): MetadataProblem[] {
    const handle = this.#fs.open(at, name, 'handle')
    try {
      if (this.#fs.stat(handle, HERE).kind !== entry.kind) throw new FileError('stat', 'ESTALE')
      return setMetadata(this.#fs, handle, HERE, entry, true)
    } finally {
      this.#fs.close(handle)
    }
  }

  async #link(directory: TargetDirectory, entry: Entry, leader: Leader<TargetDirectory>): Promise<void> {
    const { fs, overwrite } = this.#options
    const path = entryPath(directory.walk, entry.name)
    if (leader.entry.kind !== entry.kind || leader.entry.size !== entry.size)
      return this.#failed(directory, entry, new HoldfastError('damaged', 'it says that it is a hard link of another thing'))
    const first = await this.#firstAttempt(directory, entry.name)
    for (let attempt = first; attempt <= BESIDE_ATTEMPTS; attempt++) {
      const name = attempt === 0 ? entry.name : besideName(entry.name, this.#options.snapshotId, attempt)
      try {
        // Held first: asking for the second descriptor could close the first.
        const at = this.#tree.hold(directory)
        try {
          const from = this.#tree.descriptor(leader.directory)
          const first = fs.stat(from, leader.name)
          if (first.inode !== leader.inode || first.deviceId !== leader.deviceId) throw new FileError('link', 'ESTALE')
          const existing = statOf(fs, at, name)
          if (existing?.inode === leader.inode && existing.deviceId === leader.deviceId) return this.#report.kept(path, entry, false)
          const decision = decide(entry, existing, overwrite)
          const plain = decision === 'compare' ? decideCompared(false, existing!, overwrite) : decision
          // One that was torn has been torn under all its names.
          const torn = plain === 'keep' && this.#options.interruption.interrupted && mayBeTorn(entry, existing!)
          if (plain === 'keep' && (!torn || (await this.#isSame(entry, at, name))))
            return this.#report.kept(path, entry, isKnownOther(entry, existing))
          if (plain === 'beside' && !(await this.#mayLink(entry, at, name, existing!))) continue
          writeHardLink(fs, { at: from, name: leader.name }, { at, name, exclusive: plain === 'write', existed: directory.existed })
          return this.#report.written(path, entry, attempt > 0 ? name : undefined)
        } finally {
          this.#tree.release(directory)
        }
      } catch (error) {
        if (!(error instanceof FileError) || isFatal(error)) throw localDisk(path, error)
        // No link can be made here: every name of the group carries the content, so it becomes a file of its own, and that is said.
        this.#report.problem(path, 'link', error.errno)
        return this.#place(directory, { ...entry, link: undefined })
      }
    }
  }

  /** True for what an earlier restore left half-written, or wrote by itself as the directory of its first name could not be read. */
  async #mayLink(entry: Entry, at: Descriptor, name: Buffer, existing: FileStat): Promise<boolean> {
    const { fs, interruption } = this.#options
    if (interruption.interrupted && mayBeTorn(entry, existing)) return true
    if (!interruption.goesOn || decide(entry, existing, 'beside') !== 'compare' || metadataDiffers(fs, at, name, entry)) return false
    return this.#isSame(entry, at, name)
  }

  /** False also where what tells the content cannot be read. */
  async #isSame(entry: Entry, at: Descriptor, name: Buffer): Promise<boolean> {
    const { fs, reader, signal } = this.#options
    try {
      return await sameContent({ fs, reader, chunkHasher: this.#hasher, at, name, entry, signal })
    } catch (error) {
      if (isHoldfastError(error, 'damaged', 'not-found', 'unread')) return false
      throw error
    }
  }

  /** Something was written under its name. */
  #settled(item: Item, problems: readonly MetadataProblem[]): void {
    const path = entryPath(item.directory.walk, item.entry.name)
    this.#report.metadata(path, [...problems, ...this.#late.give(item.directory, item.name, path, item.entry)])
    this.#report.written(path, item.entry, item.beside ? item.name : undefined)
    this.#settleGroup(item.directory, item.entry, item.name)
  }

  /** The first name of a group of hard links stands: the others can follow. */
  #settleGroup(directory: TargetDirectory, entry: Entry, name: Buffer): void {
    if (entry.link === undefined) return
    const stat = this.#fs.stat(this.#tree.descriptor(directory), name)
    const leader = { directory, name, inode: stat.inode, deviceId: stat.deviceId, entry: { kind: entry.kind, size: entry.size } }
    for (const waiting of this.#groups.ready(entry.link, leader))
      this.#later(waiting.directory, () => this.#link(waiting.directory, waiting.entry, leader))
  }

  /**
   * Puts off work in a directory that `holds` counts already to the next step of the walk: what runs beside the walk must not wait for its own
   * place among the work in flight.
   */
  #later(directory: TargetDirectory, work: () => Promise<void>): void {
    this.#deferred.push(async () => {
      await work()
      this.#tree.leave(directory)
    })
  }

  async #runDeferred(): Promise<void> {
    for (let work = this.#deferred.shift(); work !== undefined; work = this.#deferred.shift()) await work()
  }

  #refusedItem(item: Item, error: unknown): void {
    if (error instanceof FileError && error.errno === 'EEXIST') {
      // Somebody made the name since it was looked for, or the file system takes two names for one: look again.
      item.directory.holds += 1
      this.#later(item.directory, () => this.#place(item.directory, item.entry, true))
    } else this.#failed(item.directory, item.entry, error)
  }

  /** An entry cannot be restored: it is named, and the next name of its group, if there is one, is tried instead. */
  #failed(directory: TargetDirectory, entry: Entry, error: unknown): void {
    this.#refused(entryPath(directory.walk, entry.name), error)
    this.#report.failed(entryPath(directory.walk, entry.name), entry)
    this.#passOn(entry)
  }

  #refused(path: Buffer, error: unknown): void {
    if (error instanceof FileError) {
      if (isFatal(error)) throw localDisk(path, error)
      this.#report.problem(path, 'refused', error.errno)
    } else if (isHoldfastError(error, 'damaged', 'not-found', 'unread')) this.#report.problem(path, lostCode(error), error.message)
    else throw error
  }
}

function localDisk(path: Buffer, error: unknown): unknown {
  if (!(error instanceof FileError)) return error
  return new HoldfastError(
    'local-disk',
    `cannot restore '${printable(path.toString())}': ${error.message}; make room or repair the disk and run the same restore again, it goes on where it stopped`,
    {
      cause: error,
    },
  )
}

/** Owner, mode or time that this user's rights do not allow to be set. */
function isOfRights({ code, errno }: MetadataProblem): boolean {
  return code !== 'attribute' && errno === 'EPERM'
}
