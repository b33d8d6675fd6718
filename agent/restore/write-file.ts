// Writes one entry that is no directory: under a temporary name, with everything about it set, then renamed. So a name in the target always
// stands for something complete. All through descriptors: a link or another thing put in the way by somebody else is never followed.
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import type { Entry, Extent } from '../repository/tree.ts'
import { temporaryName } from './decide.ts'
import { type MetadataProblem, setMetadata } from './metadata.ts'

const HERE = Buffer.alloc(0)

/** Where an entry goes. `exclusive`: never replace what stands at the name (then fails with EEXIST). */
export type Place = {
  readonly at: Descriptor
  readonly name: Buffer
  readonly exclusive: boolean
  /** The directory may pass ACLs on to what is made in it, or hold a temporary file of an earlier try. */
  readonly existed: boolean
}

/** Runs `make` under the temporary name; where an earlier try left that name behind, takes it away first. */
function underTemporaryName<T>(fs: FileSystem, at: Descriptor, temporary: Buffer, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof FileError) || error.errno !== 'EEXIST') throw error
    fs.remove(at, temporary, 'file')
    return make()
  }
}

/** Removes a temporary name after a failure; that it is gone already is fine. */
export function removeTemporary(fs: FileSystem, at: Descriptor, temporary: Buffer): void {
  try {
    fs.remove(at, temporary, 'file')
  } catch (error) {
    if (!(error instanceof FileError)) throw error
  }
}

/**
 * Makes the temporary file of an entry. One with holes has its size from the start: where each write extends a file, XFS reserves blocks ahead
 * and leaves them in its holes, which then take their room on the disk and count as data once somebody has read them.
 */
export function createTemporary(fs: FileSystem, place: Place, entry: Entry, temporary = temporaryName(place.name)): Descriptor {
  const fd = underTemporaryName(fs, place.at, temporary, () => fs.open(place.at, temporary, 'create'))
  try {
    if (entry.extents !== undefined) fs.truncate(fd, entry.size ?? 0)
    return fd
  } catch (error) {
    fs.close(fd)
    removeTemporary(fs, place.at, temporary)
    throw error
  }
}

/** Writes `bytes`, which stand at `position` of the content, where the extents of the file put them. */
export function writeContent(
  fs: FileSystem,
  fd: Descriptor,
  bytes: Uint8Array,
  position: number,
  extents: readonly Extent[] | undefined,
): void {
  if (extents === undefined) {
    fs.write(fd, bytes, position)
    return
  }
  let before = 0
  for (const extent of extents) {
    const from = Math.max(position, before)
    const to = Math.min(position + bytes.length, before + extent.bytes)
    if (from < to) fs.write(fd, bytes.subarray(from - position, to - position), extent.offset + from - before)
    before += extent.bytes
  }
}

/** Gives the written temporary file its metadata and name. Closes `fd` in any case; after an error the temporary file is gone. */
export function finishFile(
  fs: FileSystem,
  fd: Descriptor,
  place: Place,
  entry: Entry,
  temporary = temporaryName(place.name),
): MetadataProblem[] {
  let open = true
  try {
    const problems = setMetadata(fs, fd, HERE, entry, place.existed)
    open = false
    fs.close(fd)
    fs.rename(place.at, temporary, place.at, place.name, place.exclusive)
    return problems
  } catch (error) {
    if (open) fs.close(fd)
    removeTemporary(fs, place.at, temporary)
    throw error
  }
}

/** Writes a whole file from the pieces of its content, in order. */
export function writeFile(fs: FileSystem, place: Place, entry: Entry, pieces: readonly Uint8Array[]): MetadataProblem[] {
  const temporary = temporaryName(place.name)
  const fd = createTemporary(fs, place, entry, temporary)
  try {
    let position = 0
    for (const piece of pieces) {
      writeContent(fs, fd, piece, position, entry.extents)
      position += piece.length
    }
  } catch (error) {
    fs.close(fd)
    removeTemporary(fs, place.at, temporary)
    throw error
  }
  return finishFile(fs, fd, place, entry, temporary)
}

/** Makes a symbolic link, FIFO or device. */
export function writeSpecial(fs: FileSystem, place: Place, entry: Entry): MetadataProblem[] {
  const temporary = temporaryName(place.name)
  underTemporaryName(fs, place.at, temporary, () => {
    if (entry.kind === 'symlink') fs.makeSymlink(place.at, temporary, entry.target!)
    else if (entry.kind === 'fifo') fs.makeNode(place.at, temporary, { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })
    else if (entry.kind === 'character-device' || entry.kind === 'block-device')
      fs.makeNode(place.at, temporary, { kind: entry.kind, mode: 0o600, ...entry.device! })
    else throw new TypeError(`a ${entry.kind} is not made here`)
  })
  try {
    const handle = fs.open(place.at, temporary, 'handle')
    try {
      // Somebody who may write here could have put another thing under this name: its owner and mode are not ours to change.
      if (fs.stat(handle, HERE).kind !== entry.kind) throw new FileError('stat', 'ESTALE')
      const problems = setMetadata(fs, handle, HERE, entry, place.existed)
      fs.rename(place.at, temporary, place.at, place.name, place.exclusive)
      return problems
    } finally {
      fs.close(handle)
    }
  } catch (error) {
    removeTemporary(fs, place.at, temporary)
    throw error
  }
}

/** Makes another name for what stands at `from`. */
export function writeHardLink(fs: FileSystem, from: { at: Descriptor; name: Buffer }, place: Place): void {
  const temporary = temporaryName(place.name)
  underTemporaryName(fs, place.at, temporary, () => fs.makeHardLink(from.at, from.name, place.at, temporary))
  try {
    fs.rename(place.at, temporary, place.at, place.name, place.exclusive)
  } catch (error) {
    removeTemporary(fs, place.at, temporary)
    throw error
  }
}
