// Inode flags of Linux (as `chattr` sets them) in a tree: they stand among an entry's attributes under a name of Holdfast's own, so that a reader
// that does not know them says which attribute it could not set, and restores everything else (FORMAT.md, section 8).
import { INODE_FLAGS } from '../file-system/file-system.ts'
import type { Attribute } from './tree.ts'

/** No file system of Linux has attributes in this namespace; one in user space may claim to. */
export const RESERVED_PREFIX = Buffer.from('holdfast.')
const NAME = Buffer.from('holdfast.flags')
const KEPT = INODE_FLAGS.compressed | INODE_FLAGS.immutable | INODE_FLAGS.appendOnly | INODE_FLAGS.noDump

export function isReserved(name: Buffer): boolean {
  return name.subarray(0, RESERVED_PREFIX.length).equals(RESERVED_PREFIX)
}

/** The attribute that stands for these flags; undefined where none of those that are kept is set. */
export function flagsAttribute(flags: number): Attribute | undefined {
  const kept = flags & KEPT
  return kept === 0 ? undefined : { name: NAME, value: Buffer.from([kept]) }
}

/** The flags that an entry's attributes bring, 0 without any. Bits and lengths that this version does not know count as none. */
export function flagsOf(attributes: readonly Attribute[] | undefined): number {
  const value = attributes?.find(({ name }) => name.equals(NAME))?.value
  return value?.length === 1 ? (value[0] ?? 0) & KEPT : 0
}
