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

type Said = { readonly count: Uint32Array; readonly digest: Uint32Array }

/** How many blobs a file names in each of its packs, and a digest over them that does not depend on their order. */
function saidOfPacks(file: IndexFile): Said {
  const count = new Uint32Array(file.packs.length)
  const digest = new Uint32Array(file.packs.length)
  const segments = Array.from({ length: file.segmentCount }, (_, ordinal) => {
    const { pack, offset } = file.segment(ordinal)
    return { pack, mixed: Math.imul(offset % 0x7fffffff, 0x9e3779b1) }
  })
  for (let row = 0, at = 0; row < file.blobCount; row++, at += INDEX_BLOB_BYTES) {
    const { pack, mixed } = segments[file.blobs.readUInt32LE(at + 32)]!
    count[pack]! += 1
    const place = mixed ^ Math.imul(file.blobs.readUInt32LE(at + 36), 0x85ebca6b) ^ file.blobs.readUInt32LE(at + 40)
    digest[pack]! += Math.imul(file.blobs.readUInt32LE(at) ^ place, 0xc2b2ae35)
  }
  return { count, digest }
}

/**
 * For each of `doubted`, the packs (random parts of names) of which it names a blob that none of `files` names at that place: what it alone says. The
 * same number of blobs is not enough: an untrue file may name others. Nearly all packs are told apart by the digest.
 */
export function packsSaidAlone(doubted: readonly IndexFile[], files: readonly IndexFile[]): Map<IndexFile, ReadonlySet<string>> {
  const by = new Map<string, { file: IndexFile; pack: number; said: Said }[]>()
  for (const file of files) {
    const said = saidOfPacks(file)
    for (const [pack, { random }] of file.packs.entries()) by.set(random, [...(by.get(random) ?? []), { file, pack, said }])
  }
  return new Map(
    doubted.map((file) => {
      const said = saidOfPacks(file)
      const open = new Set<number>()
      for (const [pack, { random }] of file.packs.entries()) {
        const isSame = (by.get(random) ?? []).some(
          (other) => other.said.count[other.pack] === said.count[pack] && other.said.digest[other.pack] === said.digest[pack],
        )
        if (!isSame) open.add(pack)
      }
      const alone = new Set<string>()
      for (let row = 0, at = 0; open.size > 0 && row < file.blobCount; row++, at += INDEX_BLOB_BYTES) {
        const segment = file.segment(file.blobs.readUInt32LE(at + 32))
        const { random } = file.packs[segment.pack]!
        if (!open.has(segment.pack) || alone.has(random)) continue
        const names = (by.get(random) ?? []).some(({ file: other }) =>
          namesAt(other, file.blobs.subarray(at, at + INDEX_BLOB_BYTES), random, segment),
        )
        if (!names) alone.add(random)
      }
      return [file, alone]
    }),
  )
}

/** Whether a file names the blob of a row at the same place. */
function namesAt(file: IndexFile, row: Buffer, random: string, segment: IndexedSegment): boolean {
  const id = row.subarray(0, 32)
  for (let i = firstRow(file, id); i < file.blobCount; i++) {
    const at = i * INDEX_BLOB_BYTES
    if (file.blobs.compare(id, 0, 32, at, at + 32) !== 0) return false
    const other = file.segment(file.blobs.readUInt32LE(at + 32))
    const isThere = file.packs[other.pack]?.random === random && other.offset === segment.offset && other.kind === segment.kind
    if (isThere && file.blobs.compare(row, 36, INDEX_BLOB_BYTES, at + 36, at + INDEX_BLOB_BYTES) === 0) return true
  }
  return false
}

/**
 * A repair replaces an index file by one that says less, where packs are damaged. What it was mistaken in, or could not look into, must not be out
 * of a reader's reach by that: a reader checks whatever it finds.
 */
function lastResortOf(all: readonly IndexFile[], files: readonly IndexFile[]): IndexFile[] {
  if (all.length === files.length) return []
  const alone = packsSaidAlone(
    all.filter((file) => !files.includes(file)),
    files,
  )
  return [...alone].flatMap(([file, packs]) => (packs.size > 0 ? [file] : []))
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
