// The mark of a running restore in its target: a file that is there while the restore runs. One that is found at the start says that an
// earlier try was interrupted, or that it ended without what the store did not give; it also names the directories which only lead somewhere
// and which that try made, because such a directory is otherwise left as it is and would keep the mode it was made with.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { markName } from './decide.ts'

/** A snapshot of ten thousand sources has about this much. */
const LIMIT_BYTES = 16 * 2 ** 20

/** Lines that name no directory. The last of these two says how things stand; none is as AGAIN. */
const WHOLE = 'whole\n'
const AGAIN = 'again\n'

export type Interruption = {
  /** An earlier restore of the same snapshot into this target left something to this one. */
  readonly goesOn: boolean
  /** It did not even come to its end: what it wrote may lack its data. */
  readonly interrupted: boolean
  /** That restore made this directory. */
  readonly made: (path: Buffer) => boolean
  /** Notes that this restore is about to make it. */
  readonly note: (path: Buffer) => void
  /** Leaves the mark to the next one: not everything is there, but what is has all its data, durably, so that nothing needs to be replaced for it. */
  readonly leave: () => void
  /** Takes the mark away: everything is there. */
  readonly end: () => void
}

export function beginMark(fs: FileSystem, target: Descriptor, snapshotId: string): Interruption {
  const name = markName(snapshotId)
  const earlier = readMark(fs, target, name)
  const made = new Set((earlier ?? '').split('\n'))
  const append = (text: string): void => {
    const fd = fs.open(target, name, 'append')
    try {
      fs.write(fd, Buffer.from(text), null)
      // Durable before what it speaks of: after a power cut a file without its data or a directory without its mode is known as ours. These are few.
      fs.sync(fd)
    } finally {
      fs.close(fd)
    }
  }
  const isWhole = earlier?.endsWith(WHOLE) === true
  append(isWhole ? AGAIN : '')
  fs.sync(target)
  return {
    goesOn: earlier !== undefined,
    interrupted: earlier !== undefined && !isWhole,
    made: (path) => made.has(path.toString('hex')),
    note: (path) => append(`${path.toString('hex')}\n`),
    leave: () => append(WHOLE),
    end: () => fs.remove(target, name, 'file'),
  }
}

function readMark(fs: FileSystem, target: Descriptor, name: Buffer): string | undefined {
  let fd: Descriptor
  try {
    fd = fs.open(target, name, 'read')
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
  try {
    const stat = fs.stat(fd, Buffer.alloc(0))
    if (stat.kind !== 'file' || stat.size > LIMIT_BYTES)
      throw new HoldfastError('conflict', `'${name.toString()}' in the target is not what a restore left there: remove it`)
    const bytes = Buffer.alloc(stat.size)
    return bytes.toString('latin1', 0, fs.read(fd, bytes, 0, bytes.length, 0))
  } finally {
    fs.close(fd)
  }
}
