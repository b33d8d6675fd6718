// What a restore would do, without doing it: how many entries and bytes, out of which packs, what stands in the way, whether there is room.
// Gathering (walk and stat) and deciding (decide.ts) are apart; contents are not compared, so a file of the same size and time counts as kept.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import { createPackReader, isVerdict, type PackReader } from '../repository/pack-reader.ts'
import type { Entry } from '../repository/tree.ts'
import { contentBytes, decide, decideCompared, isKnownOther, type Overwrite } from './decide.ts'
import { readPast } from './read-past.ts'
import { lostCode, type RestoreProblem } from './report.ts'
import type { RestoreOptions } from './restore.ts'
import { createSelector } from './selection.ts'
import { entryPath, readChunkIds, walkTree, type WalkDirectory } from './tree-reader.ts'

const CONFLICTS_SHOWN = 1_000

export type RestorePlan = {
  /** To be written under their names or beside. */
  readonly files: number
  readonly directories: number
  readonly bytes: number
  readonly kept: number
  /** Of `kept`, those that are known to be something else, by kind or size. */
  readonly keptOther: number
  readonly beside: number
  /** Existing files that would be replaced. */
  readonly replaced: number
  /** The first 1,000 names that something else stands at, and what would become of them. */
  readonly conflicts: readonly { readonly path: Buffer; readonly action: 'beside' | 'replace' }[]
  /** Entries below what stands in the way of a directory; that is in `problems`. */
  readonly failed: number
  /** Packs that would be read, and the sealed bytes of the segments in them. */
  readonly packs: number
  readonly sealedBytes: number
  /** What is known not to be restorable: directories that do not open or hold names that are none, selected paths that are not there. */
  readonly problems: readonly RestoreProblem[]
  /** Undefined where the target does not exist yet. */
  readonly freeBytes: number | undefined
}

/** What happens to an entry, by size and time alone. Pure. */
export function planEntry(
  entry: Entry,
  existing: FileStat | undefined,
  overwrite: Overwrite,
): 'write' | 'enter' | 'keep' | 'beside' | 'replace' {
  const decision = decide(entry, existing, overwrite)
  if (decision !== 'compare') return decision
  const after = decideCompared(entry.kind !== 'file' || existing?.mtimeNs === entry.mtimeNs, existing!, overwrite)
  return after === 'compare' ? 'keep' : after
}

/** Plans a restore; reads the snapshot's tree and looks at the target, writes nothing. */
export async function planRestore(
  options: Pick<RestoreOptions, 'repository' | 'view' | 'keys' | 'snapshot' | 'target' | 'selection' | 'overwrite' | 'fs' | 'signal'>,
): Promise<RestorePlan> {
  const { repository, view, keys, snapshot, signal, overwrite = 'beside', fs = posixFileSystem } = options
  const selector = createSelector(options.selection ?? { kind: 'whole' }, repository.keys.recordKey)
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const existing = new ExistingTree(fs, options.target)
  const totals = { files: 0, directories: 0, bytes: 0, kept: 0, keptOther: 0, beside: 0, replaced: 0, failed: 0 }
  const conflicts: { path: Buffer; action: 'beside' | 'replace' }[] = []
  const problems: RestoreProblem[] = []
  const sources = new Sources(reader)
  /** The directory in whose place something else is kept. */
  let blocked: WalkDirectory | undefined
  try {
    for await (const step of walkTree({
      reader,
      root: snapshot.structure.root,
      bounds: snapshot.structure,
      choose: selector.choose,
      signal,
    })) {
      const { directory } = step
      if (step.step === 'failed') problems.push({ path: directory.path, code: lostCode(step.error), errno: step.error.message })
      else if (step.step === 'leave') {
        existing.leave()
        if (directory === blocked) blocked = undefined
      } else if (step.step === 'enter') {
        const action = existing.enter(directory, overwrite)
        if (blocked !== undefined) continue
        if (action === 'keep') {
          blocked = directory
          problems.push({ path: directory.path, code: 'in-the-way' })
        }
        if (action === 'write' || action === 'beside' || action === 'replace') totals.directories += 1
        if (action === 'beside') totals.beside += 1
      } else if (blocked !== undefined) totals.failed += step.entries.length
      else
        for (const entry of step.entries) {
          const found = existing.stat(entry.name)
          const action = planEntry(entry, found, overwrite)
          if (action === 'keep') {
            totals.kept += 1
            if (isKnownOther(entry, found)) totals.keptOther += 1
            continue
          }
          totals.files += 1
          totals.bytes += contentBytes(entry)
          if (action === 'beside') totals.beside += 1
          if (action === 'replace') totals.replaced += 1
          if ((action === 'beside' || action === 'replace') && conflicts.length < CONFLICTS_SHOWN)
            conflicts.push({ path: entryPath(directory, entry.name), action })
          try {
            await sources.add(entry, signal)
          } catch (error) {
            if (!isVerdict(error) && !isHoldfastError(error, 'unread')) throw error
            problems.push({ path: entryPath(directory, entry.name), code: lostCode(error), errno: error.message })
          }
        }
    }
    for (const path of selector.unmatched()) problems.push({ path, code: 'not-in-snapshot' })
    return { ...totals, conflicts, ...sources.totals(), problems, freeBytes: existing.freeBytes() }
  } finally {
    existing.close()
  }
}

/** Which segments of which packs a restore reads. */
class Sources {
  readonly #reader: PackReader
  readonly #packs = new Set<string>()
  readonly #lists = new Set<string>()
  #segments = new Set<string>()
  #sealedBytes = 0

  constructor(reader: PackReader) {
    this.#reader = reader
  }

  async add(entry: Entry, signal?: AbortSignal): Promise<void> {
    for await (const ids of readChunkIds(this.#reader, entry, signal, this.#lists))
      for (const id of ids) {
        const place = this.#reader.locate(id, 'chunk')[0]
        if (place === undefined) continue
        const segment = `${place.pack.random}/${place.segment.offset}`
        if (this.#segments.has(segment)) continue
        this.#segments.add(segment)
        this.#packs.add(place.pack.random)
        this.#sealedBytes += place.segment.sealedBytes
      }
  }

  totals(): { packs: number; sealedBytes: number } {
    return { packs: this.#packs.size, sealedBytes: this.#sealedBytes }
  }
}

/** Looks at what stands in the target, following no link below it. */
class ExistingTree {
  readonly #fs: FileSystem
  readonly #target: Buffer
  /** Descriptors of the directories on the way down; undefined from where nothing stands. */
  readonly #stack: (Descriptor | undefined)[] = []
  #free: number | undefined

  constructor(fs: FileSystem, target: Buffer) {
    this.#fs = fs
    this.#target = target
  }

  enter(directory: WalkDirectory, overwrite: Overwrite): ReturnType<typeof planEntry> {
    if (directory.entry === undefined) {
      const fd = this.#attempt(() => this.#fs.open(CWD, this.#target, 'directory-follow'))
      if (fd !== undefined) this.#free = this.#fs.freeBytes(fd)
      this.#stack.push(fd)
      return 'enter'
    }
    const { name } = directory.entry
    const at = this.#stack.at(-1)
    const action = planEntry(directory.entry, this.stat(name), overwrite)
    // Below what is hundreds deep nothing is looked for: descriptors are few.
    const looks = at !== undefined && action === 'enter' && this.#stack.length < 256
    this.#stack.push(looks ? this.#attempt(() => this.#fs.open(at, name, 'directory')) : undefined)
    return action
  }

  stat(name: Buffer): FileStat | undefined {
    const at = this.#stack.at(-1)
    return at === undefined ? undefined : this.#attempt(() => this.#fs.stat(at, name))
  }

  leave(): void {
    const fd = this.#stack.pop()
    if (fd !== undefined) this.#fs.close(fd)
  }

  freeBytes(): number | undefined {
    return this.#free
  }

  close(): void {
    while (this.#stack.length > 0) this.leave()
  }

  /** What cannot be looked at counts as not there; the restore itself will say what is wrong with it. */
  #attempt<T>(look: () => T): T | undefined {
    try {
      return look()
    } catch (error) {
      if (error instanceof FileError) return undefined
      throw error
    }
  }
}
