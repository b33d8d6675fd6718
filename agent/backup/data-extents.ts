// Where a file has data and where it has holes, within what a tree entry may hold.
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import type { Descriptor, FileSystem } from '../file-system/file-system.ts'
import type { Extent } from '../repository/tree.ts'

/** Where data stands in a file with holes, in at most `keep` pieces; the smallest holes are read as zeros where there are too many. Undefined when there is no hole. */
export function dataExtents(
  fileSystem: Pick<FileSystem, 'nextData' | 'nextHole'>,
  fd: Descriptor,
  size: number,
  keep: number = LIMITS.extents,
): Extent[] | undefined {
  const extents: { offset: number; bytes: number }[] = []
  for (let at = fileSystem.nextData(fd, 0); at !== undefined && at < size;) {
    const end = Math.min(fileSystem.nextHole(fd, at), size)
    if (end <= at) break
    extents.push({ offset: at, bytes: end - at })
    if (extents.length > keep * 4) closeSmallestHoles(extents, keep)
    at = end < size ? fileSystem.nextData(fd, end) : undefined
  }
  if (extents.length > keep) closeSmallestHoles(extents, keep)
  return extents.length === 1 && extents[0]!.offset === 0 && extents[0]!.bytes === size ? undefined : extents
}

/** The extents of the bytes that were there to read: a file that was cut off meanwhile gives fewer than its extents said. */
export function firstBytes(extents: readonly Extent[], total: number): Extent[] {
  const kept: Extent[] = []
  let left = total
  for (const { offset, bytes } of extents) {
    if (left > 0) kept.push({ offset, bytes: Math.min(bytes, left) })
    left -= bytes
  }
  return kept
}

function closeSmallestHoles(extents: { offset: number; bytes: number }[], keep: number): void {
  const holes = extents.slice(1).map((extent, i) => extent.offset - (extents[i]!.offset + extents[i]!.bytes))
  const limit = [...holes].sort((a, b) => b - a)[keep - 1] ?? 0
  // Of holes of the same size, as many as there is room for: a file of nothing but blocks and holes of one size must not lose them all.
  let ties = keep - 1 - holes.filter((hole) => hole > limit).length
  const merged: { offset: number; bytes: number }[] = []
  for (const [i, extent] of extents.entries()) {
    const last = merged[merged.length - 1]
    const hole = holes[i - 1] ?? 0
    if (last === undefined || hole > limit || (hole === limit && ties-- > 0)) merged.push({ ...extent })
    else last.bytes = extent.offset + extent.bytes - last.offset
  }
  extents.splice(0, extents.length, ...merged)
}
