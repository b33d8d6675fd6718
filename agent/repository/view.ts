// The view: where every blob is, as the union of the index files that count (FORMAT.md section 7). Index files stay as the sorted bytes they
// were sealed as and are searched in place, so a blob costs 44 bytes and no object.
import type { SessionEntry } from '../keys/keys.ts'
import { INDEX_BLOB_BYTES, type IndexFile, type IndexedSegment, type PackRow } from './index-file.ts'
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import { SEGMENT_KIND, type SegmentKind } from './segment.ts'

export type BlobLocation = {
  readonly pack: PackRow
  readonly segment: IndexedSegment
  /** The session whose key opens the segment; for reference parts it has no meaning. */
  readonly session: SessionEntry | undefined
  /** Of the blob in the segment's plaintext. */
  readonly offset: number
  readonly bytes: number
}

export type BlobPart = 'chunk' | 'references' | 'private'
const KIND: Record<BlobPart, SegmentKind> = {
  chunk: SEGMENT_KIND.chunk,
  references: SEGMENT_KIND.references,
  private: SEGMENT_KIND.private,
}

export type View = {
  readonly files: readonly IndexFile[]
  /** All places of a blob; none when the view does not have it. */
  readonly locate: (id: string, part: BlobPart) => BlobLocation[]
  readonly has: (id: string, part: BlobPart) => boolean
  readonly packs: () => Iterable<PackRow>
}

const key = (ref: ObjectRef): string => `${ref.session}-${ref.random}`

/** Leaves out the files that a listed one replaces. A replaced file that still exists says nothing wrong, it is only superfluous. */
export function liveIndexFiles(files: readonly IndexFile[]): IndexFile[] {
  const replaced = new Set(files.flatMap((file) => file.replaces.map(key)))
  return files.filter((file) => !replaced.has(key(file.ref)))
}

export function createView(all: readonly IndexFile[]): View {
  const files = liveIndexFiles(all)
  const locate = (id: string, part: BlobPart): BlobLocation[] => {
    const wanted = Buffer.from(id, 'hex')
    const found: BlobLocation[] = []
    for (const file of files) {
      for (let row = firstRow(file, wanted); row < file.blobCount; row++) {
        const at = row * INDEX_BLOB_BYTES
        if (file.blobs.compare(wanted, 0, 32, at, at + 32) !== 0) break
        const segment = file.segment(file.blobs.readUInt32LE(at + 32))
        const pack = file.packs[segment.pack]
        if (segment.kind !== KIND[part] || pack === undefined) continue
        found.push({
          pack,
          segment,
          session: file.sessions[segment.session],
          offset: file.blobs.readUInt32LE(at + 36),
          bytes: file.blobs.readUInt32LE(at + 40),
        })
      }
    }
    return found
  }
  return {
    files,
    locate,
    has: (id, part) => locate(id, part).length > 0,
    packs: function* () {
      const seen = new Set<string>()
      for (const file of files)
        for (const pack of file.packs) {
          if (seen.has(pack.random)) continue
          seen.add(pack.random)
          yield pack
        }
    },
  }
}

function firstRow(file: IndexFile, wanted: Buffer): number {
  let low = 0
  let high = file.blobCount
  // Ids are hashes: four bytes nearly always decide, and a call of the native comparison costs ten times as much.
  const first = wanted.readUInt32BE(0)
  while (low < high) {
    const middle = (low + high) >>> 1
    const at = middle * INDEX_BLOB_BYTES
    const there = file.blobs.readUInt32BE(at)
    if (there === first ? file.blobs.compare(wanted, 0, 32, at, at + 32) < 0 : there < first) low = middle + 1
    else high = middle
  }
  return low
}
