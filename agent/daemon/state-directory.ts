// The private directory of an enrolled agent (0700, files 0600), on the FileSystem seam. A file is replaced as a whole: written beside,
// synced, renamed, the directory synced; so after a crash there is the old content or the new one, never a mixture.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { CWD, FileError, type Descriptor, type FileSystem } from '../file-system/file-system.ts'

const TEMPORARY = /^tmp-[0-9a-f]{16}$/
const NOTHING = Buffer.alloc(0)

/** What every module of the daemon that touches the disk is given. */
export type StateDirectory = {
  readonly fileSystem: FileSystem
  /** Absolute, for messages and for parts (the engine's spool) that take a path. */
  readonly path: Buffer
  /** Stays open for the life of the process: what is mounted over the path later is not written to. */
  readonly fd: Descriptor
  /** The content of a file, undefined where there is none. Rejects with `damaged` where it is longer than `limitBytes`. */
  readonly read: (name: string, limitBytes: number) => Buffer | undefined
  /** Replaces a file durably. */
  readonly write: (name: string, bytes: Uint8Array) => void
  readonly remove: (name: string) => void
  /** A directory below, made where it is missing. */
  readonly below: (name: string) => StateDirectory
  readonly names: () => string[]
  readonly close: () => void
}

/**
 * Opens the state directory. Rejects with `bad-config` where it belongs to or is open to others: it holds keys. With `create` it is made;
 * without, a missing one is `not-found`, for the agent is then not enrolled.
 */
export function openStateDirectory(options: {
  fileSystem: FileSystem
  path: Buffer
  random: Random
  create?: boolean
  /** The user that must own it; undefined where there is no such notion. */
  uid?: number | undefined
  /** Drops what a crash left of files that were being replaced. For the daemon at its start alone: another process may be replacing one right now. */
  clean?: boolean
}): StateDirectory {
  const { fileSystem, path, random } = options
  if (path[0] !== 0x2f) throw new HoldfastError('usage', 'the state directory must be an absolute path')
  let fd: Descriptor
  try {
    fd = fileSystem.open(CWD, path, 'directory-follow')
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw stateError(error, path)
    if (options.create !== true)
      throw new HoldfastError('not-found', `${shown(path)} is not there: this appliance is not enrolled; run 'holdfast enroll'`, {
        cause: error,
      })
    makeDirectories(fileSystem, path)
    fd = guarded(path, () => fileSystem.open(CWD, path, 'directory-follow'))
  }
  const { mode, uid } = fileSystem.stat(fd, NOTHING)
  if ((mode & 0o077) !== 0 || (options.uid !== undefined && uid !== options.uid)) {
    fileSystem.close(fd)
    throw new HoldfastError('bad-config', `${shown(path)} holds keys and must belong to this user alone; chown it and chmod 700`)
  }
  return stateDirectoryAt(fileSystem, path, fd, random, options.clean === true)
}

function stateDirectoryAt(fileSystem: FileSystem, path: Buffer, fd: Descriptor, random: Random, clean: boolean): StateDirectory {
  const guard = <T>(act: () => T): T => guarded(path, act)
  const names = (): string[] => guard(() => fileSystem.readDirectory(fd).map((name) => name.toString('latin1')))
  for (const name of clean ? names() : []) if (TEMPORARY.test(name)) guard(() => fileSystem.remove(fd, Buffer.from(name), 'file'))
  return {
    fileSystem,
    path,
    fd,
    names,
    read: (name, limitBytes) => guard(() => readWhole(fileSystem, fd, name, limitBytes)),
    write: (name, bytes) =>
      guard(() => {
        const temporary = Buffer.from(`tmp-${random.bytes(8).toString('hex')}`)
        try {
          const file = fileSystem.open(fd, temporary, 'create')
          try {
            fileSystem.write(file, bytes, 0)
            fileSystem.sync(file)
          } finally {
            fileSystem.close(file)
          }
          fileSystem.rename(fd, temporary, fd, Buffer.from(name), false)
        } catch (error) {
          removeIfThere(fileSystem, fd, temporary)
          throw error
        }
        fileSystem.sync(fd)
      }),
    remove: (name) =>
      guard(() => {
        removeIfThere(fileSystem, fd, Buffer.from(name))
        fileSystem.sync(fd)
      }),
    below: (name) =>
      guard(() => {
        try {
          fileSystem.makeDirectory(fd, Buffer.from(name), 0o700)
          fileSystem.sync(fd)
        } catch (error) {
          if (!isErrno(error, 'EEXIST')) throw error
        }
        const path_ = Buffer.concat([path, Buffer.from(`/${name}`)])
        return stateDirectoryAt(fileSystem, path_, fileSystem.open(fd, Buffer.from(name), 'directory'), random, clean)
      }),
    close: () => fileSystem.close(fd),
  }
}

/** Reads a file of the state whole; undefined where there is none. */
export function readWhole(fileSystem: FileSystem, at: Descriptor, name: string, limitBytes: number): Buffer | undefined {
  let file: Descriptor
  try {
    file = fileSystem.open(at, Buffer.from(name), 'read')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const { kind, size } = fileSystem.stat(file, NOTHING)
    if (kind !== 'file' || size > limitBytes)
      throw new HoldfastError('damaged', `${name} in the state directory is no file of at most ${limitBytes} bytes; it was not used`)
    const bytes = Buffer.alloc(size)
    const length = fileSystem.read(file, bytes, 0, size, 0)
    return bytes.subarray(0, length)
  } finally {
    fileSystem.close(file)
  }
}

/** True for a failed call of the file system; with one of these errors, where any are given. */
export function isErrno(error: unknown, ...errnos: string[]): error is FileError {
  return error instanceof FileError && (errnos.length === 0 || errnos.includes(error.errno))
}

function removeIfThere(fileSystem: FileSystem, at: Descriptor, name: Buffer): void {
  try {
    fileSystem.remove(at, name, 'file')
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

function makeDirectories(fileSystem: FileSystem, path: Buffer): void {
  for (let at = path.indexOf('/', 1); ; at = path.indexOf('/', at + 1)) {
    const part = at < 0 ? path : path.subarray(0, at)
    try {
      fileSystem.makeDirectory(CWD, part, at < 0 ? 0o700 : 0o755)
      const parent = fileSystem.open(CWD, part.subarray(0, Math.max(1, part.lastIndexOf(0x2f))), 'directory-follow')
      fileSystem.sync(parent)
      fileSystem.close(parent)
    } catch (error) {
      if (!isErrno(error, 'EEXIST', 'EISDIR')) throw stateError(error, path)
    }
    if (at < 0) return
  }
}

function guarded<T>(path: Buffer, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw stateError(error, path)
  }
}

function stateError(error: unknown, path: Buffer): unknown {
  if (!(error instanceof FileError)) return error
  const advice = error.errno === 'ENOSPC' || error.errno === 'EDQUOT' ? 'free some space there' : 'check the disk and its permissions'
  return new HoldfastError('local-disk', `the state directory ${shown(path)} cannot be used (${error.call}: ${error.errno}); ${advice}`, {
    cause: error,
    fields: { errno: error.errno },
  })
}

function shown(path: Buffer): string {
  return printable(path.toString('utf8'))
}
