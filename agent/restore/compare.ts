// Whether what stands in the target has the content of an entry, proven by reading it: chunks are hashed and compared with the ids in the
// snapshot, holes must read as zeros. Needs the tree and the index, and nothing of the content from the store.
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import type { Hasher } from '../repository/blake3.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import type { Entry, Extent } from '../repository/tree.ts'
import { contentBytes } from './decide.ts'
import { readChunkIds } from './tree-reader.ts'

const HERE = Buffer.alloc(0)
const ZEROS = Buffer.alloc(64 * 1024)
const scratch = Buffer.alloc(64 * 1024)

/** Reads content of `length` bytes at `position` of the content, through the extents. Undefined where the file ends before. */
function readContent(
  fs: FileSystem,
  fd: Descriptor,
  position: number,
  length: number,
  extents: readonly Extent[] | undefined,
): Buffer | undefined {
  const into = Buffer.allocUnsafe(length)
  if (extents === undefined) return fs.read(fd, into, 0, length, position) === length ? into : undefined
  let before = 0
  for (const extent of extents) {
    const from = Math.max(position, before)
    const to = Math.min(position + length, before + extent.bytes)
    if (from < to && fs.read(fd, into, from - position, to - from, extent.offset + from - before) !== to - from) return undefined
    before += extent.bytes
  }
  return before >= position + length ? into : undefined
}

function holesAreEmpty(fs: FileSystem, fd: Descriptor, size: number, extents: readonly Extent[]): boolean {
  let at = 0
  for (const extent of [...extents, { offset: size, bytes: 0 }]) {
    while (at < extent.offset) {
      const data = fs.nextData(fd, at)
      if (data === undefined || data >= extent.offset) break
      at = data
      const length = Math.min(scratch.length, extent.offset - at)
      if (fs.read(fd, scratch, 0, length, at) !== length || scratch.compare(ZEROS, 0, length, 0, length) !== 0) return false
      at += length
    }
    at = extent.offset + extent.bytes
  }
  return true
}

/**
 * True where `name` under `at`, which is of the entry's kind and size, has its content. What cannot be read is not the same. Rejects with what
 * reading the file's chunk list gives.
 */
export async function sameContent(options: {
  fs: FileSystem
  reader: PackReader
  chunkHasher: Hasher
  at: Descriptor
  name: Buffer
  entry: Entry
  signal?: AbortSignal | undefined
}): Promise<boolean> {
  const { fs, at, name, entry } = options
  if (entry.kind === 'symlink') return fs.readSymlink(at, name).equals(entry.target!)
  if (entry.kind === 'character-device' || entry.kind === 'block-device') {
    const now = fs.stat(at, name)
    return now.rdevMajor === entry.device?.major && now.rdevMinor === entry.device.minor
  }
  if (entry.kind !== 'file') return true
  let fd: Descriptor
  try {
    fd = fs.open(at, name, 'read')
  } catch (error) {
    if (error instanceof FileError) return false
    throw error
  }
  try {
    // What was opened must still be a file: a device put here meanwhile would be read without end.
    const now = fs.stat(fd, HERE)
    if (now.kind !== 'file' || now.size !== entry.size) return false
    return await hasContent(options, fd)
  } catch (error) {
    if (error instanceof FileError) return false
    throw error
  } finally {
    fs.close(fd)
  }
}

async function hasContent(options: Parameters<typeof sameContent>[0], fd: Descriptor): Promise<boolean> {
  const { fs, reader, entry, chunkHasher, signal } = options
  const { content, extents } = entry
  if (extents !== undefined && !holesAreEmpty(fs, fd, entry.size ?? 0, extents)) return false
  if (content?.kind === 'inline') return readContent(fs, fd, 0, content.bytes.length, extents)?.equals(content.bytes) === true
  let position = 0
  for await (const ids of readChunkIds(reader, entry, signal))
    for (const id of ids) {
      const length = reader.locate(id, 'chunk')[0]?.bytes
      const bytes = length === undefined ? undefined : readContent(fs, fd, position, length, extents)
      if (bytes === undefined || chunkHasher.hex(bytes) !== id) return false
      position += bytes.length
    }
  return position === contentBytes(entry)
}
