// Extended attributes of an entry, within what a tree node may hold: a user with thousands of large ones must not make the whole run fail.
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import type { Attribute } from '../repository/tree.ts'

/** Names and values of one entry together; a page of a directory and one such entry fit into a node. */
const ATTRIBUTES_BYTES_MAX = LIMITS.nodePartBytes / 2

/** As the file system's own call; a FileError `E2BIG` where there is more than the format takes. */
export function readAttributesWithin(fileSystem: FileSystem, at: Descriptor, name: Buffer): readonly Attribute[] {
  const attributes = fileSystem.readAttributes(at, name)
  let bytes = 0
  for (const attribute of attributes) {
    bytes += attribute.name.length + attribute.value.length
    if (attribute.name.length > LIMITS.attributeNameBytes || attribute.value.length > LIMITS.attributeValueBytes)
      throw new FileError('getxattr', 'E2BIG')
  }
  if (attributes.length > LIMITS.attributes || bytes > ATTRIBUTES_BYTES_MAX) throw new FileError('listxattr', 'E2BIG')
  return attributes
}
