// The single file operations of the directory store: paths relative to handles, taking a name exclusively, exact reads.
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { link, lstat, open, rename } from 'node:fs/promises'
import { HoldfastError } from '../errors.ts'
import { throwIfAborted } from './checks.ts'
import { errnoOf, localFileError } from './directory-errors.ts'
import type { ObjectName, PutBody } from './store.ts'

export const COPY_BUFFER_BYTES = 1024 * 1024
export const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
/** What a file system without hard links answers (FAT, some network shares); the name is then taken by a plain rename. */
export const NO_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

/** A path relative to an open directory: what `openat` would do, which Node lacks. */
export function under(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`
}

/** The directories and the last segment of a name. */
export function split(name: ObjectName): [string[], string] {
  const segments = name.split('/')
  const last = segments.pop() ?? ''
  return [segments, last]
}

/** True where an object of that name exists; a directory there is refused. */
export async function isTaken(target: string): Promise<boolean> {
  try {
    const found = await lstat(target)
    if (found.isDirectory())
      throw new HoldfastError('store-refused', 'a directory stands where an object should be written; remove it by hand')
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

/** Gives a finished temporary file its name, exclusively; without hard links, by a look and a rename (names are random, so no race is lost). */
export async function takeName(path: string, target: string): Promise<boolean> {
  try {
    await link(path, target)
    return true
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (errno === 'EEXIST') return !(await isTaken(target))
    if (!NO_LINKS.includes(errno)) throw error
    if (await isTaken(target)) return false
    await rename(path, target)
    return true
  }
}

/** A body's file, of exactly the length it was declared with; `local-disk` otherwise. */
export async function openLocal(body: PutBody & { kind: 'file' }): Promise<FileHandle> {
  let file: FileHandle
  try {
    file = await open(body.path, READ)
  } catch (error) {
    throw localFileError(error, body.path)
  }
  const found = await file.stat()
  if (found.isFile() && found.size === body.bytes) return file
  await file.close()
  throw localFileError(undefined, body.path)
}

/** `length` bytes from `from`; `damaged` where the file ends before. */
export async function readExactly(file: FileHandle, from: number, length: number, signal: AbortSignal | undefined): Promise<Buffer> {
  const into = Buffer.allocUnsafeSlow(length)
  for (let done = 0; done < length;) {
    throwIfAborted(signal)
    const { bytesRead } = await file.read(into, done, Math.min(length - done, 16 * COPY_BUFFER_BYTES), from + done)
    if (bytesRead === 0) throw new HoldfastError('damaged', 'an object became shorter while it was read; run check')
    done += bytesRead
  }
  return into
}
