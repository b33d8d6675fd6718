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

/** An index file with its rows by pack: those of pack `p` are `rows[start[p]]` to `rows[start[p + 1] - 1]`, in the order of the file. */
type RowsByPack = {
  readonly file: IndexFile
  readonly segments: readonly IndexedSegment[]
  readonly start: Uint32Array
  readonly rows: Uint32Array
}

function rowsByPack(file: IndexFile): RowsByPack {
  const segments = Array.from({ length: file.segmentCount }, (_, ordinal) => file.segment(ordinal))
  const packOf = (row: number): number => segments[file.blobs.readUInt32LE(row * INDEX_BLOB_BYTES + 32)]!.pack
  const start = new Uint32Array(file.packs.length + 1)
  for (let row = 0; row < file.blobCount; row++) start[packOf(row) + 1]! += 1
  for (let pack = 0; pack < file.packs.length; pack++) start[pack + 1]! += start[pack]!
  const next = start.slice()
  const rows = new Uint32Array(file.blobCount)
  for (let row = 0; row < file.blobCount; row++) {
    const pack = packOf(row)
    rows[next[pack]!] = row
    next[pack]! += 1
  }
  return { file, segments, start, rows }
}

/**
 * Whether two files name the same blobs of a pack at the same places, row by row. Compared are the bytes themselves: a digest of them could be met on
 * purpose by who writes an untrue file that replaces a true one.
 */
function saysTheSame(a: RowsByPack, packOfA: number, b: RowsByPack, packOfB: number): boolean {
  const [from, count] = [a.start[packOfA]!, a.start[packOfA + 1]! - a.start[packOfA]!]
  if (b.start[packOfB + 1]! - b.start[packOfB]! !== count || a.file.packs[packOfA]!.bytes !== b.file.packs[packOfB]!.bytes) return false
  const same = new Map<number, number>()
  for (let i = 0; i < count; i++) {
    const atA = a.rows[from + i]! * INDEX_BLOB_BYTES
    const atB = b.rows[b.start[packOfB]! + i]! * INDEX_BLOB_BYTES
    if (a.file.blobs.compare(b.file.blobs, atB, atB + 32, atA, atA + 32) !== 0) return false
    if (a.file.blobs.compare(b.file.blobs, atB + 36, atB + INDEX_BLOB_BYTES, atA + 36, atA + INDEX_BLOB_BYTES) !== 0) return false
    const [ofA, ofB] = [a.file.blobs.readUInt32LE(atA + 32), b.file.blobs.readUInt32LE(atB + 32)]
    if (same.get(ofA) === ofB) continue
    if (!isSameSegment(a.file, a.segments[ofA]!, b.file, b.segments[ofB]!)) return false
    same.set(ofA, ofB)
  }
  return true
}

/** Whether a reader who follows either finds the same bytes and opens them with the same key. The pack is the caller's to compare. */
function isSameSegment(a: IndexFile, ofA: IndexedSegment, b: IndexFile, ofB: IndexedSegment): boolean {
  if (ofA.offset !== ofB.offset || ofA.sealedBytes !== ofB.sealedBytes || ofA.plainBytes !== ofB.plainBytes) return false
  if (ofA.kind !== ofB.kind || ofA.codec !== ofB.codec || ofA.epoch !== ofB.epoch || !ofA.segmentId.equals(ofB.segmentId)) return false
  if (ofA.kind === SEGMENT_KIND.references) return true
  const [one, other] = [a.sessions[ofA.session], b.sessions[ofB.session]]
  return one !== undefined && other !== undefined && isSameSession(one, other)
}

function isSameSession(a: SessionEntry, b: SessionEntry): boolean {
  if (a.contentEpoch !== b.contentEpoch || !a.sessionId.equals(b.sessionId)) return false
  return a.sealedKey.equals(b.sealedKey) && a.commitment.equals(b.commitment)
}

/**
 * For each of `doubted`, the packs (random parts of names) of which it names a blob that none of `files` names at that place: what it alone says. The
 * same number of blobs is not enough: an untrue file may name others, or the same ones under a key that does not open them.
 */
export function packsSaidAlone(doubted: readonly IndexFile[], files: readonly IndexFile[]): Map<IndexFile, ReadonlySet<string>> {
  const asked = new Set(doubted.flatMap((file) => file.packs.map(({ random }) => random)))
  const by = new Map<string, { said: RowsByPack; pack: number }[]>()
  for (const file of files) {
    if (!file.packs.some(({ random }) => asked.has(random))) continue
    const said = rowsByPack(file)
    for (const [pack, { random }] of file.packs.entries()) {
      const known = by.get(random)
      if (known === undefined) by.set(random, [{ said, pack }])
      else known.push({ said, pack })
    }
  }
  return new Map(
    doubted.map((file) => {
      const mine = rowsByPack(file)
      const alone = new Set<string>()
      for (const [pack, { random }] of file.packs.entries()) {
        const others = by.get(random) ?? []
        if (others.some((other) => saysTheSame(mine, pack, other.said, other.pack))) continue
        const rows = mine.rows.subarray(mine.start[pack], mine.start[pack + 1])
        if (rows.some((row) => !others.some((other) => namesAt(other, mine, row)))) alone.add(random)
      }
      return [file, alone]
    }),
  )
}

/** Whether what a file says of a pack has the blob of a row of another file at the same place. */
function namesAt({ said, pack }: { said: RowsByPack; pack: number }, mine: RowsByPack, row: number): boolean {
  const { file, segments } = said
  const from = row * INDEX_BLOB_BYTES
  const segment = mine.segments[mine.file.blobs.readUInt32LE(from + 32)]!
  if (file.packs[pack]!.bytes !== mine.file.packs[segment.pack]!.bytes) return false
  const wanted = mine.file.blobs.subarray(from, from + INDEX_BLOB_BYTES)
  for (let i = firstRow(file, wanted.subarray(0, 32)); i < file.blobCount; i++) {
    const at = i * INDEX_BLOB_BYTES
    if (file.blobs.compare(wanted, 0, 32, at, at + 32) !== 0) return false
    const other = segments[file.blobs.readUInt32LE(at + 32)]!
    if (other.pack !== pack || !isSameSegment(file, other, mine.file, segment)) continue
    if (file.blobs.compare(wanted, 36, INDEX_BLOB_BYTES, at + 36, at + INDEX_BLOB_BYTES) === 0) return true
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
