// Pure decisions of a restore: what happens to an entry given what already stands at its name. Nothing here touches a file.
//
// beside   what stands there is never changed; a file that has the same content is kept, anything else lands beside it
// changed  a file that differs in kind, size or content is replaced; one that has the same content is kept and its metadata set right
// always   written anew, whatever stands there
// never    what stands there is kept and not even looked into, but for what an interrupted restore may have left half-written; something else in the
//          place of a directory is a problem, and all below it not restored
//
// "The same content" is proven by reading the existing file and comparing it with the chunk ids of the snapshot, which needs nothing from
// the store; size and time alone are not believed. A directory is never replaced by something else: that would remove what is in it.
import { hash } from 'node:crypto'
import type { FileStat } from '../file-system/file-system.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { type Entry, totalBytes } from '../repository/tree.ts'

export type Overwrite = 'beside' | 'changed' | 'always' | 'never'

export type Decision =
  /** Nothing is there. */
  | 'write'
  /** A directory is there for a directory. */
  | 'enter'
  /** Look whether the content is the same, then ask `decideCompared`. */
  | 'compare'
  | 'replace'
  | 'beside'
  | 'keep'

export function decide(
  entry: Pick<Entry, 'kind' | 'size'>,
  existing: Pick<FileStat, 'kind' | 'size'> | undefined,
  overwrite: Overwrite,
): Decision {
  if (existing === undefined) return 'write'
  if (entry.kind === 'directory' && existing.kind === 'directory') return 'enter'
  if (overwrite === 'never') return 'keep'
  const otherwise = inTheWay(existing, overwrite)
  if (overwrite === 'always' || entry.kind !== existing.kind) return otherwise
  if (entry.kind === 'file' && entry.size !== existing.size) return otherwise
  return 'compare'
}

/** True where size or kind alone tell that what stands there is not the entry: what `never` keeps unread. */
export function isKnownOther(entry: Pick<Entry, 'kind' | 'size'>, existing: Pick<FileStat, 'kind' | 'size'> | undefined): boolean {
  return existing !== undefined && (entry.kind !== existing.kind || (entry.kind === 'file' && entry.size !== existing.size))
}

/** After a comparison of two entries of one kind. `torn`: an interrupted restore may have left it half-written, so it is ours to replace. */
export function decideCompared(same: boolean, existing: Pick<FileStat, 'kind'>, overwrite: Overwrite): Decision {
  return same ? 'keep' : inTheWay(existing, overwrite)
}

function inTheWay(existing: Pick<FileStat, 'kind'>, overwrite: Overwrite): Decision {
  if (overwrite === 'never') return 'keep'
  return overwrite === 'beside' || existing.kind === 'directory' ? 'beside' : 'replace'
}

/**
 * True for a file that an interrupted restore of this snapshot may have left without its data: after a power cut a file can have its name and
 * time but not all of its bytes. Only asked where the mark of an interrupted restore stands in the target.
 */
export function mayBeTorn(entry: Pick<Entry, 'kind' | 'mtimeNs' | 'size'>, existing: Pick<FileStat, 'kind' | 'mtimeNs' | 'size'>): boolean {
  return entry.kind === 'file' && existing.kind === 'file' && existing.mtimeNs === entry.mtimeNs && existing.size <= (entry.size ?? 0)
}

/** Bytes of content that an entry brings; holes bring none. */
export function contentBytes(entry: Entry): number {
  if (entry.kind !== 'file') return 0
  return entry.extents === undefined ? (entry.size ?? 0) : totalBytes(entry.extents)
}

/** `name.restored-<8 digits of the snapshot id>`, from the second try on with a number; shortened so that it stays a name. */
export function besideName(name: Buffer, snapshotId: string, attempt: number): Buffer {
  const suffix = Buffer.from(`.restored-${snapshotId.slice(0, 8)}${attempt === 1 ? '' : `-${attempt}`}`)
  return Buffer.concat([name.subarray(0, LIMITS.nameBytes - suffix.length), suffix])
}

export const TEMPORARY_PREFIX = '.holdfast-restore-'

const OF_RESTORES = new RegExp(`^${TEMPORARY_PREFIX.replaceAll('.', '\\.')}(?:[0-9a-f]{16}|[0-9a-f]{32})$`)

/** True for names that `temporaryName` and `markName` give. */
export function isOfRestores(name: Buffer): boolean {
  return OF_RESTORES.test(name.toString('latin1'))
}

/** True for names that `markName` gives. */
export function isMark(name: Buffer): boolean {
  return isOfRestores(name) && name.length === TEMPORARY_PREFIX.length + 32
}

/** The name under which an entry is made before it is renamed: the same at every try, so that what a crash left is found and removed. */
export function temporaryName(name: Buffer): Buffer {
  return Buffer.from(TEMPORARY_PREFIX + hash('sha256', name, 'hex').slice(0, 16))
}

/** The file in the target that stands while a restore runs and says, after a crash, that one was interrupted. */
export function markName(snapshotId: string): Buffer {
  return Buffer.from(`${TEMPORARY_PREFIX}${snapshotId}`)
}
