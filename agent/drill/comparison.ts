// Compares what a restore wrote with what the snapshot says, apart from the restore: the tree is read again from the store, every file is read again
// from the disk and its chunks are hashed again. Meant for scratch directories of drills: what cannot be read there because of its own mode is made
// readable first, once its metadata has been compared.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { blake3 } from '../repository/blake3.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { Entry } from '../repository/tree.ts'
import type { View } from '../repository/view.ts'
import { sameContent } from '../restore/compare.ts'
import { contentBytes, markName } from '../restore/decide.ts'
import { metadataDiffers } from '../restore/metadata.ts'
import { readPast } from '../restore/read-past.ts'
import { lostCode } from '../restore/report.ts'
import { createSelector, type Selection } from '../restore/selection.ts'
import { entryPath, walkTree, type WalkDirectory } from '../restore/tree-reader.ts'

const HERE = Buffer.alloc(0)
const OPEN_MAX = 64
const DIFFERENCES_HELD = 10_000

/**
 * content: other bytes, or another kind of entry · missing: not there · extra: something is in the directory that is not in the snapshot · metadata: owner, mode, time or attributes
 * differ · unreadable: nobody could look, which is no verdict · damaged: the snapshot itself cannot be read here · unread: the store does not give what the
 * comparison needs, which is no verdict either.
 */
export type DifferenceCode = 'content' | 'missing' | 'extra' | 'metadata' | 'unreadable' | 'damaged' | 'unread'
export type Difference = { readonly path: Buffer; readonly code: DifferenceCode; readonly why?: string; readonly bytes?: number }

export type Comparison = {
  /** Entries that were looked at: files, links, special files and directories. */
  readonly entries: number
  /** Content that was read from the disk and hashed. */
  readonly bytes: number
  /** The first 10,000. */
  readonly differences: readonly Difference[]
}

/** Rejects with what the store says, `cancelled`, and `local-disk` errors of the target as a whole. */
export async function compareRestored(options: {
  repository: Repository
  view: View
  keys: ReadKeys
  snapshot: OpenedSnapshot
  /** Absolute; what `restoreSnapshot` restored into. */
  target: Buffer
  selection: Selection
  fs: FileSystem
  signal?: AbortSignal | undefined
}): Promise<Comparison> {
  const { repository, view, keys, snapshot, selection, fs, signal } = options
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const chunkHasher = blake3.keyed(repository.keys.idKey)
  const differences: Difference[] = []
  const counts = { entries: 0, bytes: 0 }
  const { choose } = createSelector(selection, repository.keys.recordKey)
  const way = new Way(fs, options.target)
  /** How many entries of the snapshot stand in each directory on the way. */
  const present = new Map<WalkDirectory, number>()
  const links = new Map<string, bigint>()

  const differs = (path: Buffer, code: DifferenceCode, more: { why?: string; bytes?: number } = {}): void => {
    if (differences.length < DIFFERENCES_HELD) differences.push({ path, code, ...more })
  }
  /** All names of one inode are names of one inode here too. */
  const isLinked = ({ link }: Entry, now: FileStat): boolean => {
    if (link === undefined) return true
    const group = `${link.volume}/${link.inode}`
    const first = links.get(group) ?? now.inode
    links.set(group, first)
    return first === now.inode
  }
  /** Kind, size and metadata; what is left to look into, or undefined. */
  const look = (at: Descriptor, path: Buffer, entry: Entry, parent: WalkDirectory): FileStat | undefined => {
    counts.entries += 1
    const bytes = contentBytes(entry)
    const now = statOf(fs, at, entry.name)
    if (now !== undefined) present.set(parent, (present.get(parent) ?? 0) + 1)
    if (now === undefined) differs(path, 'missing', { bytes })
    else if (now.kind !== entry.kind || (entry.kind === 'file' && now.size !== entry.size)) differs(path, 'content', { bytes })
    else {
      if (metadataDiffers(fs, at, entry.name, entry) || !isLinked(entry, now)) differs(path, 'metadata')
      return now
    }
    return undefined
  }

  const lookInto = async (at: Descriptor, path: Buffer, entry: Entry): Promise<void> => {
    try {
      if (await sameContent({ fs, reader, chunkHasher, at, name: entry.name, entry, signal })) counts.bytes += contentBytes(entry)
      else differs(path, 'content', { bytes: contentBytes(entry) })
    } catch (error) {
      if (!isHoldfastError(error, 'unread')) throw error
      differs(path, 'unread', { why: error.message })
    }
  }
  // A restore that could not read everything leaves its mark to the next one.
  const mark = markName(snapshot.structure.ref.random)
  const namesAt = (at: Descriptor, isTop: boolean): number => fs.readDirectory(at).filter((name) => !isTop || !name.equals(mark)).length

  try {
    for await (const step of walkTree({ reader, root: snapshot.structure.root, bounds: snapshot.structure, choose, signal })) {
      const { directory } = step
      if (step.step === 'enter') {
        const { parent, entry } = directory
        if (parent === undefined || entry === undefined) continue
        const at = way.top()
        const isAsked = directory.selected && entry.passage !== true
        if (isAsked && at !== undefined) {
          const isThere = look(at, directory.path, entry, parent) !== undefined
          way.enter(isThere ? entry.name : undefined)
          if (isThere && way.top() === undefined) differs(directory.path, 'unreadable')
        } else {
          way.enter(entry.name)
          if (way.top() !== undefined) present.set(parent, (present.get(parent) ?? 0) + 1)
        }
      } else if (step.step === 'entries') {
        for (const entry of step.entries) {
          const path = entryPath(directory, entry.name)
          const at = way.top()
          // Told of the directory, once.
          if (at === undefined) continue
          const now = look(at, path, entry, directory)
          if (now === undefined) continue
          if (!isReadable(fs, at, entry)) differs(path, 'unreadable')
          else await lookInto(at, path, entry)
        }
      } else if (step.step === 'failed') {
        differs(directory.path, lostCode(step.error), { why: step.error.message })
        // Nobody knows how much belongs into it.
        present.set(directory, Number.POSITIVE_INFINITY)
      } else {
        const at = way.top()
        const isTop = directory.parent === undefined
        if (at !== undefined && namesAt(at, isTop) > (present.get(directory) ?? 0)) differs(directory.path, 'extra')
        present.delete(directory)
        if (!isTop) way.leave()
      }
    }
  } catch (error) {
    if (!isHoldfastError(error, 'damaged', 'not-found')) throw error
    differs(Buffer.from('/'), 'damaged', { why: error.message })
  } finally {
    way.close()
  }
  return { ...counts, differences }
}

/** True where the file can be opened, if need be after its owner, which is who restored it, gave themselves the right. */
function isReadable(fs: FileSystem, at: Descriptor, entry: Entry): boolean {
  if (entry.kind !== 'file') return true
  for (const change of [undefined, 0o600])
    try {
      if (change !== undefined) fs.setMode(at, entry.name, change)
      fs.close(fs.open(at, entry.name, 'read'))
      return true
    } catch (error) {
      if (!(error instanceof FileError)) throw error
    }
  return false
}

function statOf(fs: FileSystem, at: Descriptor, name: Buffer): FileStat | undefined {
  try {
    return fs.stat(at, name)
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
}

/** The directories from the target down to where the walk is, opened through no link, a bounded number of them at a time. */
class Way {
  readonly #fs: FileSystem
  readonly #base: Descriptor
  /** `name` is undefined from where nothing can be looked into. */
  readonly #steps: { readonly name: Buffer | undefined; fd: Descriptor | undefined }[] = []

  constructor(fs: FileSystem, target: Buffer) {
    this.#fs = fs
    this.#base = fs.open(CWD, target, 'directory')
  }

  /** The directory of the walk, undefined where it cannot be looked into. */
  top(): Descriptor | undefined {
    const last = this.#steps.at(-1)
    if (last === undefined) return this.#base
    if (last.name === undefined) return undefined
    return (last.fd ??= this.#again())
  }

  enter(name: Buffer | undefined): void {
    const at = this.top()
    const fd = at === undefined || name === undefined ? undefined : this.#openOwn(at, name)
    this.#steps.push({ name: fd === undefined ? undefined : name, fd })
    const far = this.#steps.at(-1 - OPEN_MAX)
    if (far?.fd === undefined) return
    this.#fs.close(far.fd)
    far.fd = undefined
  }

  leave(): void {
    const step = this.#steps.pop()
    if (step?.fd !== undefined) this.#fs.close(step.fd)
  }

  close(): void {
    while (this.#steps.length > 0) this.leave()
    this.#fs.close(this.#base)
  }

  #openOwn(at: Descriptor, name: Buffer): Descriptor | undefined {
    for (const change of [undefined, 0o700])
      try {
        if (change !== undefined) this.#fs.setMode(at, name, change)
        return this.#fs.open(at, name, 'directory')
      } catch (error) {
        if (!(error instanceof FileError)) throw error
      }
    return undefined
  }

  /** Down again from the target: everything on the way was opened once. */
  #again(): Descriptor {
    let at = this.#base
    for (const { name } of this.#steps) {
      const next = this.#fs.open(at, name ?? HERE, 'directory')
      if (at !== this.#base) this.#fs.close(at)
      at = next
    }
    return at
  }
}
