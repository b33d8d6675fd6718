// Extended attributes of an entry, within what a tree node may hold: a user with thousands of large ones must not make the whole run fail.
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { flagsAttribute, isReserved } from '../repository/inode-flags.ts'
import type { Attribute } from '../repository/tree.ts'

/** Names and values of one entry together; a page of a directory and one such entry fit into a node. */
const ATTRIBUTES_BYTES_MAX = LIMITS.nodePartBytes / 2

/**
 * As the file system's own call, and the inode flags of a file or directory as an attribute among them. A FileError `E2BIG` where there is more
 * than the format takes, `EINVAL` where the file system has one under a name that is ours.
 */
export function readAttributesWithin(
  fileSystem: FileSystem,
  at: Descriptor,
  name: Buffer,
  stat: Pick<FileStat, 'kind' | 'inodeFlags'>,
): readonly Attribute[] {
  const attributes = fileSystem.readAttributes(at, name)
  if (attributes.some((attribute) => isReserved(attribute.name))) throw new FileError('listxattr', 'EINVAL')
  const flags = stat.kind === 'file' || stat.kind === 'directory' ? flagsAttribute(stat.inodeFlags ?? 0) : undefined
  if (flags !== undefined) {
    attributes.push(flags)
    attributes.sort((a, b) => a.name.compare(b.name))
  }
  let bytes = 0
  for (const attribute of attributes) {
    bytes += attribute.name.length + attribute.value.length
    if (attribute.name.length > LIMITS.attributeNameBytes || attribute.value.length > LIMITS.attributeValueBytes)
      throw new FileError('getxattr', 'E2BIG')
  }
  if (attributes.length > LIMITS.attributes || bytes > ATTRIBUTES_BYTES_MAX) throw new FileError('listxattr', 'E2BIG')
  return attributes
}
