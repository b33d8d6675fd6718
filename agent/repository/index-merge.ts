// Merging small index files of one writer (FORMAT.md section 7): the merged one lists what it replaces. Two mergers at once are harmless, since
// the view is a union and a replaced file says nothing that the merged one does not.
import { INDEX_BLOB_BYTES, INDEX_MAX_BLOBS, type IndexFile, type PackInIndex } from './index-file.ts'
import type { FooterSegment, PackFooter } from './pack.ts'

/** More small index files than this in one size class are merged. */
const FILES_PER_CLASS = 16
const CLASS_FACTOR = 16
const NO_HASH = Buffer.alloc(32)

/** The files to merge into one, or none. Classes grow by sixteen, so that each blob is rewritten a few times in all. */
export function chooseMerge(files: readonly IndexFile[]): IndexFile[] {
  const classes = new Map<number, IndexFile[]>()
  for (const file of files) {
    const size = Math.floor(Math.log(Math.max(file.blobCount, 1)) / Math.log(CLASS_FACTOR))
    classes.set(size, [...(classes.get(size) ?? []), file])
  }
  for (const [, members] of [...classes].sort(([a], [b]) => a - b)) {
    if (members.length <= FILES_PER_CLASS) continue
    let blobs = 0
    const chosen = members.filter((file) => (blobs += file.blobCount) <= INDEX_MAX_BLOBS)
    if (chosen.length > 1) return chosen
  }
  return []
}

/** What an index file says, pack by pack, as if it came from footers. Hashes of sealed segments stand in footers only. */
export function packsOf(file: IndexFile): PackInIndex[] {
  const blobs: { id: string; offset: number; bytes: number }[][] = Array.from({ length: file.segmentCount }, () => [])
  for (let row = 0, at = 0; row < file.blobCount; row++, at += INDEX_BLOB_BYTES)
    blobs[file.blobs.readUInt32LE(at + 32)]!.push({
      id: file.blobs.toString('hex', at, at + 32),
      offset: file.blobs.readUInt32LE(at + 36),
      bytes: file.blobs.readUInt32LE(at + 40),
    })
  const segments: FooterSegment[][] = file.packs.map(() => [])
  for (let ordinal = 0; ordinal < file.segmentCount; ordinal++) {
    const segment = file.segment(ordinal)
    const inOrder = blobs[ordinal]!.sort((a, b) => a.offset - b.offset)
    segments[segment.pack]!.push({ ...segment, sealedHash: NO_HASH, blobs: inOrder.map(({ id, bytes }) => ({ id, bytes })) })
  }
  return file.packs.map((pack, i) => {
    const footer: PackFooter = { ref: pack, writerId: Buffer.alloc(16), sessions: file.sessions, segments: segments[i]! }
    return { footer, bytes: pack.bytes }
  })
}
