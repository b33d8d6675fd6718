// The view: where every blob is, as the union of the index files that count (FORMAT.md section 7). Index files stay as the sorted bytes they
// were sealed as and are searched in place, so a blob costs 44 bytes and no object.
import type { SessionEntry } from '../keys/keys.ts'
import { INDEX_BLOB_BYTES, type IndexFile, type IndexedSegment, type PackRow } from './index-file.ts'
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
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
  /** Those that count: what writers build on. */
  readonly files: readonly IndexFile[]
  /** Replaced ones that name blobs of packs which no file that counts names: a reader's last resort, nothing for a writer. */
  readonly lastResort: readonly IndexFile[]
  /** Names of the other replaced ones (`session-random`): those that count say all that they said. */
  readonly covered: ReadonlySet<string>
  /** All places of a blob, those of the last resort after the others; none when the view does not have it. */
  readonly locate: (id: string, part: BlobPart) => BlobLocation[]
  /** All places of a blob as rows, for whoever counts what is needed: of `files`, then of `lastResort`. */
  readonly rows: (id: string, part: BlobPart) => BlobRow[]
  readonly has: (id: string, part: BlobPart) => boolean
  readonly packs: () => Iterable<PackRow>
  /** Index files that were left out because another one lists them as replaced. */
  readonly replaced: readonly { readonly ref: ObjectRef; readonly by: ObjectRef }[]
}

/**
 * Who signed an index file may say what replaces it, and so may the root: nobody else. A thief of one appliance could hide what the others stored, and
 * a collection would take their index files away. Files that are not among these are left to what is said of them.
 */
export function withoutForeignReplaces(files: readonly IndexFile[], rootWriterKey: Buffer): IndexFile[] {
  const writers = new Map(files.map((file) => [refKey(file.ref), file.writerKey]))
  return files.map((file) => {
    if (file.replaces.length === 0 || file.writerKey.equals(rootWriterKey)) return file
    return { ...file, replaces: file.replaces.filter((ref) => writers.get(refKey(ref))?.equals(file.writerKey) !== false) }
  })
}

/** Leaves out the files that a listed one replaces. A replaced file that still exists says nothing wrong, it is only superfluous. */
export function liveIndexFiles(files: readonly IndexFile[]): IndexFile[] {
  const replaced = new Set(files.flatMap((file) => file.replaces.map(refKey)))
  return files.filter((file) => !replaced.has(refKey(file.ref)))
}

/** How many blobs the files name in each pack, by the random part of its name: the most that one of them names. */
export function blobsByPack(files: readonly IndexFile[]): Map<string, number> {
  const most = new Map<string, number>()
  for (const file of files) {
    const packOf = Uint32Array.from({ length: file.segmentCount }, (_, ordinal) => file.segment(ordinal).pack)
    const counts = new Uint32Array(file.packs.length)
    for (let row = 0; row < file.blobCount; row++) {
      const pack = packOf[file.blobs.readUInt32LE(row * INDEX_BLOB_BYTES + 32)]!
      counts[pack] = counts[pack]! + 1
    }
    for (const [i, { random }] of file.packs.entries()) most.set(random, Math.max(most.get(random) ?? 0, counts[i]!))
  }
  return most
}

/** True where `most` names at least as many blobs of each of the file's packs as the file does: nothing is said by it alone. */
export function isCovered(file: IndexFile, most: ReadonlyMap<string, number>): boolean {
  for (const [random, count] of blobsByPack([file])) if (count > (most.get(random) ?? -1)) return false
  return true
}

/**
 * A repair replaces an index file by one that says less, where packs are damaged. What it was mistaken in, or could not look into, must not be out
 * of a reader's reach by that: a reader checks whatever it finds.
 */
function lastResortOf(all: readonly IndexFile[], files: readonly IndexFile[]): IndexFile[] {
  if (all.length === files.length) return []
  const most = blobsByPack(files)
  return all.filter((file) => !files.includes(file) && !isCovered(file, most))
}

/** Where a blob stands: the file (in `files`, then `lastResort`), its row in it, and the pack. Without an object for the place itself. */
export type BlobRow = { readonly file: number; readonly row: number; readonly pack: PackRow }

export function createView(all: readonly IndexFile[]): View {
  const files = liveIndexFiles(all)
  const lastResort = lastResortOf(all, files)
  const inOrder = [...files, ...lastResort]
  /** Calls `visit` for every place of a blob in the order of the files. */
  const eachRow = (
    id: string,
    part: BlobPart,
    visit: (file: number, row: number, segment: IndexedSegment, pack: PackRow) => void,
  ): void => {
    const wanted = Buffer.from(id, 'hex')
    for (const [number, file] of inOrder.entries()) {
      for (let row = firstRow(file, wanted); row < file.blobCount; row++) {
        const at = row * INDEX_BLOB_BYTES
        if (file.blobs.compare(wanted, 0, 32, at, at + 32) !== 0) break
        const segment = file.segment(file.blobs.readUInt32LE(at + 32))
        const pack = file.packs[segment.pack]
        if (segment.kind !== KIND[part] || pack === undefined) continue
        visit(number, row, segment, pack)
      }
    }
  }
  const locate = (id: string, part: BlobPart): BlobLocation[] => {
    const found: BlobLocation[] = []
    eachRow(id, part, (number, row, segment, pack) => {
      const file = inOrder[number]!
      const at = row * INDEX_BLOB_BYTES
      found.push({
        pack,
        segment,
        session: file.sessions[segment.session],
        offset: file.blobs.readUInt32LE(at + 36),
        bytes: file.blobs.readUInt32LE(at + 40),
      })
    })
    return found
  }
  const rows = (id: string, part: BlobPart): BlobRow[] => {
    const found: BlobRow[] = []
    eachRow(id, part, (file, row, _segment, pack) => found.push({ file, row, pack }))
    return found
  }
  const others = new Set(inOrder)
  const names = new Set(all.map((file) => refKey(file.ref)))
  return {
    files,
    lastResort,
    covered: new Set(all.filter((file) => !others.has(file)).map((file) => refKey(file.ref))),
    replaced: all.flatMap((by) => by.replaces.filter((ref) => names.has(refKey(ref))).map((ref) => ({ ref, by: by.ref }))),
    locate,
    rows,
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

/** Whether all that index files with these names said is still said by files that count. False where one is gone, or replaced by one that says less. */
export function isStillSaid(view: View, refs: readonly ObjectRef[]): boolean {
  const counted = new Set(view.files.map((file) => refKey(file.ref)))
  return refs.every((ref) => counted.has(refKey(ref)) || view.covered.has(refKey(ref)))
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
