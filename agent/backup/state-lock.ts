// One run at a time in a state directory: two runs would take each other's spool for leftovers.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'

const SELF = Buffer.from('run.lock')

/** Makes missing directories of `path` and opens it; all that is made is private to this user. */
export function openStateDirectory(fileSystem: FileSystem, path: Buffer): Descriptor {
  const parts = path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '')
  let at = fileSystem.open(CWD, Buffer.from('/'), 'directory-follow')
  for (const part of parts) {
    const name = Buffer.from(part, 'latin1')
    const parent = at
    try {
      try {
        at = fileSystem.open(parent, name, 'directory-follow')
      } catch (error) {
        if (!(error instanceof FileError) || error.errno !== 'ENOENT') throw error
        fileSystem.makeDirectory(parent, name, 0o700)
        at = fileSystem.open(parent, name, 'directory')
      }
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      throw new HoldfastError(
        'local-disk',
        `the state directory '${printable(path.toString())}' cannot be used (${error.errno}): choose another with --state`,
        { cause: error },
      )
    } finally {
      fileSystem.close(parent)
    }
  }
  return at
}

/** Takes the lock of a state directory, or throws `conflict` naming the process that has it. The kernel frees it when a process dies. */
export function lockState(fileSystem: FileSystem, directory: Descriptor): { release: () => void } {
  const fd = fileSystem.open(directory, SELF, 'append')
  if (fileSystem.lock?.(fd, false) === false) {
    fileSystem.close(fd)
    throw new HoldfastError(
      'conflict',
      'another run of this source is under way on this machine: wait for it, or give this one its own --state directory',
    )
  }
  return { release: () => fileSystem.close(fd) }
}
