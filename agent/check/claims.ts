// What an index file says of a pack, held against the pack's footer, which is the truth: an index file may say less, never more (FORMAT.md section 7).
import { encodeSessionEntry } from '../keys/domain.ts'
import { INDEX_BLOB_BYTES, type IndexFile, type PackRow } from '../repository/index-file.ts'
import type { FooterSegment, PackFooter } from '../repository/pack.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'

export type PackClaims = {
  /** False where the index file says more than the pack has, or something else. */
  readonly isTrue: boolean
  /** Offsets of the segments that it names with all their blobs. */
  readonly named: ReadonlySet<number>
}

/** The claims of one index file, ordered by pack. Holds 4 bytes a blob. */
export class IndexClaims {
  readonly file: IndexFile
  readonly #ordinals = new Map<string, number[]>()
  readonly #packs: ReadonlyMap<string, PackRow>
  /** Rows of `file.blobs` by segment, each segment's in order of offset; `#starts[i]` is where those of segment i begin. */
  readonly #rows: Uint32Array
  readonly #starts: Uint32Array

  constructor(file: IndexFile) {
    this.file = file
    this.#packs = new Map(file.packs.map((pack) => [pack.random, pack]))
    for (const { random } of file.packs) this.#ordinals.set(random, [])
    for (let ordinal = 0; ordinal < file.segmentCount; ordinal++)
      this.#ordinals.get(file.packs[file.segment(ordinal).pack]!.random)!.push(ordinal)
    this.#starts = new Uint32Array(file.segmentCount + 1)
    for (let row = 0; row < file.blobCount; row++) this.#starts[this.#field(row, 32) + 1]! += 1
    for (let i = 0; i < file.segmentCount; i++) this.#starts[i + 1]! += this.#starts[i]!
    const next = this.#starts.slice()
    this.#rows = new Uint32Array(file.blobCount)
    for (let row = 0; row < file.blobCount; row++) {
      const segment = this.#field(row, 32)
      this.#rows[next[segment]!] = row
      next[segment]! += 1
    }
    for (let i = 0; i < file.segmentCount; i++)
      this.#rows.subarray(this.#starts[i], this.#starts[i + 1]).sort((a, b) => this.#field(a, 36) - this.#field(b, 36))
  }

  names(random: string): boolean {
    return this.#ordinals.has(random)
  }

  /** Ordinals of the pack's segments in the file. */
  segmentsOf(random: string): readonly number[] {
    return this.#ordinals.get(random) ?? []
  }

  /** The blobs of a segment as the file has them, in order of offset. */
  blobsOf(ordinal: number): { id: string; offset: number; bytes: number }[] {
    return [...this.#rows.subarray(this.#starts[ordinal], this.#starts[ordinal + 1])].map((row) => ({
      id: this.file.blobs.toString('hex', row * INDEX_BLOB_BYTES, row * INDEX_BLOB_BYTES + 32),
      offset: this.#field(row, 36),
      bytes: this.#field(row, 40),
    }))
  }

  /** What the file says of a pack of `bytes` bytes with this footer, where the segments at the offsets `bad` are damaged. */
  of(footer: PackFooter, bytes: number, bad: ReadonlySet<number>): PackClaims {
    const named = new Set<number>()
    const row = this.#packs.get(footer.ref.random)
    let isTrue = row !== undefined && row.bytes === bytes && row.session === footer.ref.session
    const segments = new Map(footer.segments.map((segment) => [segment.offset, segment]))
    for (const ordinal of this.segmentsOf(footer.ref.random)) {
      const { offset } = this.file.segment(ordinal)
      const segment = segments.get(offset)
      const said = segment === undefined || bad.has(offset) ? 'more' : this.#compare(ordinal, segment, footer)
      if (said === 'more') isTrue = false
      else if (said === 'all') named.add(offset)
    }
    return { isTrue, named }
  }

  #compare(ordinal: number, truth: FooterSegment, footer: PackFooter): 'all' | 'less' | 'more' {
    const claim = this.file.segment(ordinal)
    const same =
      claim.sealedBytes === truth.sealedBytes &&
      claim.plainBytes === truth.plainBytes &&
      claim.kind === truth.kind &&
      claim.codec === truth.codec &&
      claim.epoch === truth.epoch &&
      claim.segmentId.equals(truth.segmentId)
    if (!same) return 'more'
    if (truth.kind !== SEGMENT_KIND.references) {
      const [said, is] = [this.file.sessions[claim.session], footer.sessions[truth.session]]
      if (said === undefined || is === undefined || !encodeSessionEntry(said).equals(encodeSessionEntry(is))) return 'more'
    }
    const blobs = new Map<number, { id: string; bytes: number }>()
    let offset = 0
    for (const blob of truth.blobs) {
      blobs.set(offset, blob)
      offset += blob.bytes
    }
    const claimed = this.blobsOf(ordinal)
    for (const { id, offset, bytes } of claimed) {
      const blob = blobs.get(offset)
      if (blob === undefined || blob.id !== id || blob.bytes !== bytes) return 'more'
      // Named twice is more as well.
      blobs.delete(offset)
    }
    return blobs.size === 0 ? 'all' : 'less'
  }

  #field(row: number, at: 32 | 36 | 40): number {
    return this.file.blobs.readUInt32LE(row * INDEX_BLOB_BYTES + at)
  }
}
