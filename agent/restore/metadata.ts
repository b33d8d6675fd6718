// Owner, attributes, mode and time of a restored entry, in the order in which one does not undo another: owner first (it clears set-uid and
// capabilities), then attributes and ACLs, then the mode, then the time. Inode flags are for the caller to set when the entry has all of its
// names. What cannot be set is named, never passed over.
import { type Descriptor, FileError, type FileSystem, PROTECTING_FLAGS } from '../file-system/file-system.ts'
import { flagsOf, isReserved } from '../repository/inode-flags.ts'
import type { Attribute, Entry } from '../repository/tree.ts'

/** What of an entry could not be restored. Codes are stable; they appear in reports. */
export type MetadataProblem = { readonly code: 'owner' | 'attribute' | 'mode' | 'times' | 'flags'; readonly errno: string }

const EMPTY = Buffer.alloc(0)
const ACCESS_ACL = Buffer.from('system.posix_acl_access')
const DEFAULT_ACL = Buffer.from('system.posix_acl_default')

/** Errors after which going on would only repeat them for every other file. */
const FATAL = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM'])

export function isFatal(error: unknown): boolean {
  return error instanceof FileError && FATAL.has(error.errno)
}

/** Runs `act` and gives the name of the error it ended with; fatal ones are thrown. */
function errnoOf(act: () => void): string | undefined {
  try {
    act()
    return undefined
  } catch (error) {
    if (!(error instanceof FileError) || isFatal(error)) throw error
    return error.errno
  }
}

/**
 * Sets the metadata of what stands at `name` under `at`; an empty name is `at` itself. `inherited`: the directory may have given ACLs to what
 * was made in it, so those that the entry does not have are taken away.
 */
export function setMetadata(fs: FileSystem, at: Descriptor, name: Buffer, entry: Entry, inherited: boolean): MetadataProblem[] {
  const problems: MetadataProblem[] = []
  const owned = setOwner(fs, at, name, entry, problems)
  if (inherited && entry.kind !== 'symlink') removeInherited(fs, at, name, entry.attributes ?? [], problems)
  for (const attribute of entry.attributes ?? []) {
    if (isReserved(attribute.name)) continue
    const errno = attributeErrno(() => fs.setAttribute(at, name, attribute.name, attribute.value))
    if (errno !== undefined) problems.push({ code: 'attribute', errno })
  }
  if (entry.kind !== 'symlink') {
    // Set-uid and set-gid mean "as the owner": without the owner they would give somebody else's rights away.
    const mode = owned ? entry.mode : entry.mode & 0o1777
    const errno = errnoOf(() => fs.setMode(at, name, mode)) ?? (mode === entry.mode ? undefined : 'EPERM')
    if (errno !== undefined) problems.push({ code: 'mode', errno })
  }
  const errno = errnoOf(() => setTimes(fs, at, name, entry.mtimeNs))
  if (errno !== undefined) problems.push({ code: 'times', errno })
  return problems
}

/** "No space" may be said of one attribute that is too large for this file system, while there is room for everything else. */
function attributeErrno(act: () => void): string | undefined {
  try {
    return errnoOf(act)
  } catch (error) {
    if (error instanceof FileError && (error.errno === 'ENOSPC' || error.errno === 'EDQUOT')) return error.errno
    throw error
  }
}

/** Times that every file system can hold, in nanoseconds: from 1970 to 2038. */
const EVERYWHERE = 2n ** 31n * 1_000_000_000n

/** A file system takes a time beyond what it can hold without a word and keeps another: that is looked for. */
function setTimes(fs: FileSystem, at: Descriptor, name: Buffer, mtimeNs: bigint): void {
  fs.setTimes(at, name, mtimeNs)
  if ((mtimeNs < 0n || mtimeNs >= EVERYWHERE) && fs.stat(at, name).mtimeNs !== mtimeNs) throw new FileError('utimens', 'ERANGE')
}

function setOwner(fs: FileSystem, at: Descriptor, name: Buffer, entry: Entry, problems: MetadataProblem[]): boolean {
  const errno = errnoOf(() => fs.setOwner(at, name, entry.uid, entry.gid))
  if (errno === undefined) return true
  const now = fs.stat(at, name)
  if (now.uid === entry.uid && now.gid === entry.gid) return true
  // Somebody who is not root can still give a file to a group of theirs.
  if (now.gid !== entry.gid) errnoOf(() => fs.setOwner(at, name, now.uid, entry.gid))
  problems.push({ code: 'owner', errno })
  return false
}

function removeInherited(fs: FileSystem, at: Descriptor, name: Buffer, wanted: readonly Attribute[], problems: MetadataProblem[]): void {
  for (const acl of [ACCESS_ACL, DEFAULT_ACL]) {
    if (wanted.some((attribute) => attribute.name.equals(acl))) continue
    const errno = errnoOf(() => fs.removeAttribute(at, name, acl))
    // Nothing inherited, a file system without ACLs, or something that has none of this kind.
    if (errno !== undefined && !['ENODATA', 'ENOTSUP', 'EINVAL', 'EACCES'].includes(errno)) problems.push({ code: 'attribute', errno })
  }
}

/** Takes the ACLs that a new directory was given by the one it was made in, before anything is made in it. */
export function removeInheritedAcls(fs: FileSystem, fd: Descriptor): void {
  removeInherited(fs, fd, EMPTY, [], [])
}

/** Adds inode flags to the file or directory that `fd` is open on. */
export function addFlags(fs: FileSystem, fd: Descriptor, flags: number): MetadataProblem[] {
  if (flags === 0) return []
  const errno = fs.addInodeFlags === undefined ? 'ENOTSUP' : errnoOf(() => fs.addInodeFlags!(fd, flags))
  return errno === undefined ? [] : [{ code: 'flags', errno }]
}

/** Flags of an entry that say nothing against setting the rest of it, and those that must wait until it is as it will stay. */
export function flagsFor(entry: Entry): { readonly open: number; readonly protecting: number } {
  const flags = flagsOf(entry.attributes)
  return { open: flags & ~PROTECTING_FLAGS, protecting: flags & PROTECTING_FLAGS }
}

/** True where something lacks an inode flag of its entry. */
export function flagsDiffer(fs: FileSystem, at: Descriptor, name: Buffer, entry: Entry): boolean {
  const flags = flagsOf(entry.attributes)
  return flags !== 0 && ((fs.stat(at, name).inodeFlags ?? 0) & flags) !== flags
}

/** True for what nobody can change before a flag of it is taken away. */
export function isProtected(fs: FileSystem, at: Descriptor, name: Buffer): boolean {
  return ((fs.stat(at, name).inodeFlags ?? 0) & PROTECTING_FLAGS) !== 0
}

/** What of an existing entry's metadata differs from the snapshot's, but for inode flags. An attribute that the snapshot does not have is left alone. */
export function metadataDiffers(fs: FileSystem, at: Descriptor, name: Buffer, entry: Entry): boolean {
  const now = fs.stat(at, name)
  if (now.uid !== entry.uid || now.gid !== entry.gid || now.mtimeNs !== entry.mtimeNs) return true
  if (entry.kind !== 'symlink' && now.mode !== entry.mode) return true
  if (entry.attributes === undefined) return false
  const there = fs.readAttributes(at, name)
  return entry.attributes.some(
    (wanted) =>
      !isReserved(wanted.name) && !there.some((attribute) => attribute.name.equals(wanted.name) && attribute.value.equals(wanted.value)),
  )
}
