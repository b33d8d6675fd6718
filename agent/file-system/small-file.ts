// Small files of state that are there whole or not at all, whatever cuts a write off.
import { type Descriptor, FileError, type FileSystem } from './file-system.ts'

/** Replaces a file in an open directory; returns when that is durable. Throws what the local disk says, and then the old one is there still. */
export function writeDurably(fileSystem: FileSystem, directory: Descriptor, name: Buffer, bytes: Uint8Array): void {
  const temporary = Buffer.concat([name, Buffer.from('.tmp')])
  try {
    fileSystem.remove(directory, temporary, 'file')
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  const fd = fileSystem.open(directory, temporary, 'create')
  try {
    fileSystem.write(fd, bytes, 0)
    fileSystem.sync(fd)
  } finally {
    fileSystem.close(fd)
  }
  fileSystem.rename(directory, temporary, directory, name, false)
  fileSystem.sync(directory)
}

export function isAbsent(error: unknown): boolean {
  return error instanceof FileError && error.errno === 'ENOENT'
}
