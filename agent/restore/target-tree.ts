// The directories of a restore on their way into the target: opened one inside the other through descriptors that follow no link, so that no
// name in a hostile repository and no link planted in the target leads out of it. A directory gets its metadata when everything below it is
// done, deepest first. Descriptors are few whatever the depth: those not in use are closed and opened again from above, and must then be
// the same directory as before.
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import type { WalkDirectory } from './tree-reader.ts'

const HERE = Buffer.alloc(0)
const MAX_OPEN = 128

/** A directory in the target. It is over when nothing below it is left to do and `leave` was called. */
export class TargetDirectory {
  readonly parent: TargetDirectory | undefined
  readonly walk: WalkDirectory
  /** Undefined until it is made or found; then its name in the parent, which for one that landed beside is not the entry's. */
  name: Buffer | undefined
  /** It stood there before this restore. */
  existed = false
  /** Metadata is set at the end. */
  finish = false
  /** Nothing can be restored into it. */
  failed = false
  /** Which of the names that restores give to what they make are needed in it; asked for where such a name is to be restored. */
  inUse: Promise<(name: Buffer) => boolean> | undefined
  fd: Descriptor | undefined
  identity: { readonly deviceId: bigint; readonly inode: bigint } | undefined
  /** Work in flight, directories below that are not over, and one for the walk itself. */
  holds = 1
  /** Uses of the descriptor by work in flight. */
  pins = 0

  constructor(parent: TargetDirectory | undefined, walk: WalkDirectory) {
    this.parent = parent
    this.walk = walk
    if (parent !== undefined) parent.holds += 1
  }
}

export class TargetTree {
  readonly #fs: FileSystem
  readonly #onOver: (directory: TargetDirectory) => void
  readonly #open = new Set<TargetDirectory>()

  /** `onOver` is called once for each directory when everything below it is over, while it can still be reached. */
  constructor(fs: FileSystem, onOver: (directory: TargetDirectory) => void) {
    this.#fs = fs
    this.#onOver = onOver
  }

  /** Takes a descriptor that was just opened as that of `directory`; closes it where it cannot. */
  adopt(directory: TargetDirectory, fd: Descriptor): void {
    const stat = closedUnless(this.#fs, fd, () => this.#fs.stat(fd, HERE))
    directory.fd = fd
    directory.identity = { deviceId: stat.deviceId, inode: stat.inode }
    this.#open.add(directory)
    this.#closeUnused(directory)
  }

  /** The open descriptor of a directory that was made or found. Valid until another is asked for, unless it is held. */
  descriptor(directory: TargetDirectory): Descriptor {
    if (directory.fd !== undefined) {
      this.#open.delete(directory)
      this.#open.add(directory)
      return directory.fd
    }
    const { parent, name, identity } = directory
    if (parent === undefined || name === undefined || identity === undefined) throw new FileError('open', 'ENOENT')
    const fd = this.#fs.open(this.descriptor(parent), name, 'directory')
    const stat = closedUnless(this.#fs, fd, () => this.#fs.stat(fd, HERE))
    if (stat.inode !== identity.inode || stat.deviceId !== identity.deviceId) {
      this.#fs.close(fd)
      throw new FileError('open', 'ESTALE')
    }
    directory.fd = fd
    this.#open.add(directory)
    this.#closeUnused(directory)
    return fd
  }

  /** Keeps the descriptor open, and the directory unfinished, until `release`. */
  hold(directory: TargetDirectory): Descriptor {
    const fd = this.descriptor(directory)
    directory.pins += 1
    directory.holds += 1
    return fd
  }

  release(directory: TargetDirectory): void {
    directory.pins -= 1
    this.leave(directory)
  }

  /** One thing less to do in a directory; the last one ends it, and may end those above. */
  leave(directory: TargetDirectory): void {
    for (let at: TargetDirectory | undefined = directory; at !== undefined; at = at.parent) {
      at.holds -= 1
      if (at.holds > 0) return
      this.#onOver(at)
      this.#close(at)
    }
  }

  closeAll(): void {
    for (const directory of this.#open) this.#close(directory)
  }

  #close(directory: TargetDirectory): void {
    this.#open.delete(directory)
    if (directory.fd === undefined) return
    const { fd } = directory
    directory.fd = undefined
    this.#fs.close(fd)
  }

  #closeUnused(wanted: TargetDirectory): void {
    if (this.#open.size <= MAX_OPEN) return
    for (const directory of this.#open) {
      // The top was named by a person and is never opened again by name.
      if (directory === wanted || directory.pins > 0 || directory.parent === undefined) continue
      this.#close(directory)
      if (this.#open.size <= MAX_OPEN / 2) return
    }
  }
}

/** Does something with a descriptor that nobody else knows of yet: where it fails, the descriptor is closed. */
export function closedUnless<T>(fs: FileSystem, fd: Descriptor, act: () => T): T {
  try {
    return act()
  } catch (error) {
    fs.close(fd)
    throw error
  }
}

/** What stands at a name, or nothing. */
export function statOf(fs: FileSystem, at: Descriptor, name: Buffer): FileStat | undefined {
  try {
    return fs.stat(at, name)
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
}

/** Opens a directory that was there. One that is to be set right anyway is made passable for its owner first. */
export function openExisting(fs: FileSystem, at: Descriptor, name: Buffer, ours: boolean): Descriptor {
  try {
    const fd = fs.open(at, name, 'directory')
    if (!ours) return fd
    return closedUnless(fs, fd, () => {
      const { mode } = fs.stat(fd, HERE)
      if ((mode & 0o700) !== 0o700) makePassable(fs, fd, mode)
      return fd
    })
  } catch (error) {
    if (!ours || !(error instanceof FileError) || error.errno !== 'EACCES') throw error
    fs.setMode(at, name, 0o700)
    return fs.open(at, name, 'directory')
  }
}

function makePassable(fs: FileSystem, fd: Descriptor, mode: number): void {
  try {
    fs.setMode(fd, HERE, mode | 0o700)
  } catch (error) {
    // Somebody else's: nothing may have to be written into it, and what has to is named.
    if (!(error instanceof FileError) || error.errno !== 'EPERM') throw error
  }
}
