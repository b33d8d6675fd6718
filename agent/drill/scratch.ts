// Where drills restore to: a directory of their own below a scratch directory, removed when the drill has ended, whatever it restored. Nothing else
// in the scratch directory is ever touched.
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { openStateDirectory } from '../backup/state-lock.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'

const PREFIX = 'holdfast-drill-'

/** Opens `path`, made private where it is missing, and closes it again. Throws `local-disk`, and `conflict` where something is in it. */
export function requireEmptyScratch(fs: FileSystem, path: Buffer): void {
  const fd = openStateDirectory(fs, path)
  try {
    const [first] = fs.readDirectory(fd)
    if (first !== undefined)
      throw new HoldfastError(
        'conflict',
        `the scratch directory '${printable(path.toString())}' is not empty ('${printable(first.toString())}' is in it): name an empty one with --scratch, for a drill empties it`,
      )
  } finally {
    fs.close(fd)
  }
}

/** Removes all directories of drills below `scratch`, which is made, private, where it is missing. */
function removeDrills(fs: FileSystem, scratch: Buffer): void {
  const fd = openStateDirectory(fs, scratch)
  try {
    for (const name of fs.readDirectory(fd)) if (name.toString('latin1').startsWith(PREFIX)) removeTree(fs, fd, name)
  } finally {
    fs.close(fd)
  }
}

/**
 * Removes a directory with all that is in it, through descriptors that follow no link. Deep trees are brought up level by level, so that few descriptors
 * and no long path is needed. A name that is not there is no error. Throws `local-disk`.
 */
export function removeTree(fs: FileSystem, at: Descriptor, name: Buffer): void {
  let top: Descriptor | undefined
  try {
    fs.setMode(at, name, 0o700)
    top = fs.open(at, name, 'directory')
    let raised = 0
    for (let more = true; more;) {
      more = false
      for (const child of fs.readDirectory(top)) {
        if (fs.stat(top, child).kind !== 'directory') {
          fs.remove(top, child, 'file')
          continue
        }
        more = true
        fs.setMode(top, child, 0o700)
        const fd = fs.open(top, child, 'directory')
        try {
          for (const below of fs.readDirectory(fd))
            if (fs.stat(fd, below).kind === 'directory') {
              // A directory can be moved by whoever may write to it.
              fs.setMode(fd, below, 0o700)
              raised = raise(fs, fd, below, top, raised)
            } else fs.remove(fd, below, 'file')
        } finally {
          fs.close(fd)
        }
        fs.remove(top, child, 'directory')
      }
    }
    fs.close(top)
    top = undefined
    fs.remove(at, name, 'directory')
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    if (error.errno === 'ENOENT' && top === undefined) return
    throw new HoldfastError(
      'local-disk',
      `the scratch directory '${printable(name.toString())}' cannot be emptied (${error.message}): remove it by hand`,
      {
        cause: error,
      },
    )
  } finally {
    if (top !== undefined) fs.close(top)
  }
}

/** Moves a directory up under the first free name; answers the next number to try. */
function raise(fs: FileSystem, at: Descriptor, name: Buffer, top: Descriptor, from: number): number {
  for (let number = from; ; number++)
    try {
      fs.rename(at, name, top, Buffer.from(`holdfast-raised-${number}`), true)
      return number + 1
    } catch (error) {
      if (!(error instanceof FileError) || error.errno !== 'EEXIST') throw error
    }
}

/**
 * Gives `work` the path of a directory below `scratch` that is not there yet, and removes it afterwards, whatever was made there and however that
 * ended; also what an earlier drill left that was killed. Throws `local-disk` where that cannot be done, besides what `work` throws.
 */
export async function inDrillDirectory<T>(fs: FileSystem, scratch: Buffer, id: string, work: (path: Buffer) => Promise<T>): Promise<T> {
  removeDrills(fs, scratch)
  let result: T
  try {
    result = await work(Buffer.concat([scratch, Buffer.from(`/${PREFIX}${id}`)]))
  } catch (error) {
    try {
      removeDrills(fs, scratch)
    } catch (left) {
      // Why the drill ended is what counts; what it left is removed by the next one, which refuses where it cannot.
      if (!isHoldfastError(left, 'local-disk')) throw left
    }
    throw error
  }
  removeDrills(fs, scratch)
  return result
}
