// One run at a time in a state directory: two runs would take each other's spool for leftovers.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'

const SELF = Buffer.from('run.lock')

/** Makes missing directories of `path` and opens it; all that is made is private to this user. */
export function openStateDirectory(fileSystem: FileSystem, path: Buffer): Descriptor {
  try {
    return openOrMake(fileSystem, path)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    throw new HoldfastError(
      'local-disk',
      `the state directory '${printable(path.toString())}' cannot be used (${error.errno}): choose another with --state`,
      { cause: error },
    )
  }
}

/** By whole paths: a directory on the way may be one that this user can pass through but not open, such as a /home of mode 0711. */
function openOrMake(fileSystem: FileSystem, path: Buffer): Descriptor {
  try {
    return fileSystem.open(CWD, path, 'directory-follow')
  } catch (error) {
    if (!(error instanceof FileError) || error.errno !== 'ENOENT') throw error
  }
  const parent = path.subarray(0, path.lastIndexOf(0x2f))
  if (parent.length > 0) fileSystem.close(openOrMake(fileSystem, parent))
  try {
    fileSystem.makeDirectory(CWD, path, 0o700)
  } catch (error) {
    // Another run of this user may have made it at the same moment.
    if (!(error instanceof FileError) || error.errno !== 'EEXIST') throw error
  }
  return fileSystem.open(CWD, path, 'directory-follow')
}

/** Takes the lock of a state directory, or throws `conflict` naming the process that has it. The kernel frees it when a process dies. */
export function lockState(
  fileSystem: FileSystem,
  directory: Descriptor,
  otherwise = 'another run of this source is under way on this machine: wait for it, or give this one its own --state directory',
): { release: () => void } {
  const fd = fileSystem.open(directory, SELF, 'append')
  if (fileSystem.lock?.(fd, false) === false) {
    fileSystem.close(fd)
    throw new HoldfastError('conflict', otherwise)
  }
  return { release: () => fileSystem.close(fd) }
}
