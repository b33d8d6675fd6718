// The mark of a running restore in its target: a file that is there while the restore runs. One that is found at the start says that an
// earlier try was interrupted, or that it ended without what the store did not give; it also names the directories which only lead somewhere
// and which that try made, because such a directory is otherwise left as it is and would keep the mode it was made with. Restores of other parts of
// the same snapshot share it: it goes with the last of them, as none of them looks at what the others may have left half-written.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { markName } from './decide.ts'

/** A snapshot of ten thousand sources has about this much. */
const LIMIT_BYTES = 16 * 2 ** 20

/** Lines that name no directory. The last of these two says how things stand; none is as AGAIN. */
const WHOLE = 'whole\n'
const AGAIN = 'again\n'
/** Before the name of a selection: a restore of it began, or brought back all of it. */
const BEGUN = 'begun '
const DONE = 'done '

export type Interruption = {
  /** An earlier restore of the same snapshot into this target left something to this one. */
  readonly goesOn: boolean
  /** One of them did not even come to its end: what it wrote may lack its data. */
  readonly interrupted: boolean
  /** That restore made this directory. */
  readonly made: (path: Buffer) => boolean
  /** Notes that this restore is about to make it. */
  readonly note: (path: Buffer) => void
  /**
   * This restore has come to its end. Takes the mark away where everything is there that was ever to be restored; else leaves it to the next one. Where
   * all that is there is `durable`, nothing needs to be replaced for it, unless it was half-written before and this one could not look at all of it.
   */
  readonly end: (how: { readonly isAllRead: boolean; readonly durable: boolean }) => void
}

/** `selection` tells what is restored from other parts of the snapshot; undefined for all of it. */
export function beginMark(fs: FileSystem, target: Descriptor, snapshotId: string, selection: string | undefined): Interruption {
  const name = markName(snapshotId)
  const earlier = readMark(fs, target, name)
  // What a crash cut off is no line: nothing followed it.
  const lines = (earlier ?? '').split('\n').slice(0, -1)
  const made = new Set(lines)
  const open = new Set<string>()
  for (const line of lines) {
    if (line.startsWith(BEGUN)) open.add(line.slice(BEGUN.length))
    else if (line.startsWith(DONE)) open.delete(line.slice(DONE.length))
  }
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
  const interrupted = earlier !== undefined && !isWhole
  const mine = selection ?? 'all'
  // A line that a crash cut off ends here.
  const cut = earlier === undefined || earlier === '' || earlier.endsWith('\n') ? '' : '\n'
  append(`${cut}${isWhole ? AGAIN : ''}${open.has(mine) ? '' : `${BEGUN}${mine}\n`}`)
  fs.sync(target)
  open.add(mine)
  return {
    goesOn: earlier !== undefined,
    interrupted,
    made: (path) => made.has(path.toString('hex')),
    note: (path) => append(`${path.toString('hex')}\n`),
    end: ({ isAllRead, durable }) => {
      if (isAllRead && (selection === undefined || open.size === 1)) fs.remove(target, name, 'file')
      else append(`${isAllRead ? `${DONE}${mine}\n` : ''}${durable && !interrupted ? WHOLE : ''}`)
    },
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
