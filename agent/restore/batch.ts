// A batch of files on its way from the planning thread to whoever writes them: sealed segments with their keys, and the files that take their
// content from them, as bytes. `runBatch` opens, checks every chunk against its id and writes. It runs in workers and, for small restores
// and in the simulation, in the planning thread itself: the same code in both.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { blake3 } from '../repository/blake3.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { release } from '../repository/release.ts'
import { openSegment, type SegmentDescription } from '../repository/segment.ts'
import { type Entry, type Extent, readEntry, writeEntry } from '../repository/tree.ts'
import { isFatal, type MetadataProblem } from './metadata.ts'
import { type Place, writeContent, writeFile } from './write-file.ts'

export type SealedInBatch = SegmentDescription & { readonly sealed: Uint8Array; readonly key: Uint8Array }

/** A piece of content: `bytes` of the plaintext of a segment from `offset`, which must hash to `id`. */
export type Piece = { readonly segment: number; readonly offset: number; readonly bytes: number; readonly id: string }

export type WholeFile = { readonly place: Place; readonly entry: Entry; readonly pieces: readonly Piece[] }
/** A run of a large file that is open already; `position` is that of the first piece in the content. */
export type PartOfFile = {
  readonly fd: Descriptor
  readonly extents: readonly Extent[] | undefined
  readonly position: number
  readonly pieces: readonly Piece[]
}

/** What crosses to a worker. */
export type Batch = {
  readonly segments: readonly SealedInBatch[]
  readonly files: Uint8Array
  readonly parts: readonly PartOfFile[]
}

/**
 * What became of each file and part, in order. `damaged`: its bytes were not what they should be and nothing was written; another copy may do.
 * `exists`: somebody made the name meanwhile. `failed`: the file system refused; nothing of the file is left.
 */
export type Outcome = {
  readonly result: 'written' | 'damaged' | 'exists' | 'failed'
  readonly errno?: string | undefined
  readonly message?: string | undefined
  readonly fatal?: boolean | undefined
  readonly problems?: readonly MetadataProblem[] | undefined
}
export type BatchResult = { readonly files: readonly Outcome[]; readonly parts: readonly Outcome[] }

const WRITTEN: Outcome = { result: 'written' }

export class BatchWriter {
  readonly #out = new ByteWriter(64 * 1024)
  #count = 0

  add(file: WholeFile): void {
    const { place, entry } = file
    this.#out.u32(place.at).u8((place.exclusive ? 1 : 0) | (place.existed ? 2 : 0))
    const inline = entry.content?.kind === 'inline'
    writeEntry(this.#out, { ...entry, name: place.name, content: inline ? entry.content : { kind: 'chunks', ids: [] } }, [])
    this.#out.varint(file.pieces.length)
    for (const piece of file.pieces) this.#out.varint(piece.segment).varint(piece.offset).varint(piece.bytes).hex(piece.id)
    this.#count += 1
  }

  finish(): Uint8Array {
    const files = new ByteWriter(this.#out.length + 4).u32(this.#count).raw(this.#out.view()).finish()
    this.#out.reset()
    this.#count = 0
    return files
  }
}

function readFiles(bytes: Uint8Array): WholeFile[] {
  const reader = new ByteReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), 'a batch')
  const none = {
    take: (): string => {
      throw reader.refuse('an entry in it has references')
    },
  }
  return Array.from({ length: reader.u32() }, () => {
    const at = reader.u32()
    const flags = reader.u8()
    const entry = readEntry(reader, none)
    const pieces = Array.from({ length: reader.varint() }, () => ({
      segment: reader.varint(),
      offset: reader.varint(),
      bytes: reader.varint(),
      id: reader.hex(32),
    }))
    return { place: { at, name: entry.name, exclusive: (flags & 1) !== 0, existed: (flags & 2) !== 0 }, entry, pieces }
  })
}

/** Plaintexts are opened into these again and again: a fresh megabyte per segment costs its page faults. */
export type BatchRunner = (batch: Batch) => BatchResult

export function createBatchRunner(fs: FileSystem, keys: { domainId: Buffer; idKey: Buffer }): BatchRunner {
  const chunks = blake3.keyed(keys.idKey)
  const pool: Buffer[] = []
  return (batch) => {
    const plains: (Buffer | HoldfastError | undefined)[] = []
    const plainOf = (ordinal: number): Buffer => {
      const known = plains[ordinal]
      if (known instanceof HoldfastError) throw known
      if (known !== undefined) return known
      const segment = batch.segments[ordinal]!
      const into = (pool[ordinal] =
        pool[ordinal] !== undefined && pool[ordinal].length >= segment.plainBytes
          ? pool[ordinal]
          : Buffer.allocUnsafeSlow(segment.plainBytes))
      try {
        const plain = openSegment({
          domainId: keys.domainId,
          segment: { ...segment, segmentId: asBuffer(segment.segmentId) },
          key: asBuffer(segment.key),
          sealed: segment.sealed,
          what: 'a segment',
          into,
        })
        plains[ordinal] = plain
        return plain
      } catch (error) {
        if (isHoldfastError(error, 'damaged')) plains[ordinal] = error
        throw error
      }
    }
    const contentOf = (pieces: readonly Piece[]): Buffer[] =>
      pieces.map((piece) => {
        const plain = plainOf(piece.segment)
        const bytes = plain.subarray(piece.offset, piece.offset + piece.bytes)
        if (bytes.length !== piece.bytes || chunks.hex(bytes) !== piece.id)
          throw new HoldfastError('damaged', `chunk ${piece.id.slice(0, 16)} is damaged: other bytes stand in its place`)
        return bytes
      })
    const attempt = (act: () => readonly MetadataProblem[]): Outcome => {
      try {
        const problems = act()
        return problems.length === 0 ? WRITTEN : { result: 'written', problems }
      } catch (error) {
        if (isHoldfastError(error, 'damaged')) return { result: 'damaged', message: error.message }
        if (!(error instanceof FileError)) throw error
        if (error.errno === 'EEXIST') return { result: 'exists' }
        return { result: 'failed', errno: error.errno, message: error.message, fatal: isFatal(error) }
      }
    }
    const files = readFiles(batch.files).map(({ place, entry, pieces }) =>
      attempt(() => writeFile(fs, place, entry, entry.content?.kind === 'inline' ? [entry.content.bytes] : contentOf(pieces))),
    )
    const parts = batch.parts.map((part) =>
      attempt(() => {
        let { position } = part
        for (const bytes of contentOf(part.pieces)) {
          writeContent(fs, part.fd, bytes, position, part.extents)
          position += bytes.length
        }
        return []
      }),
    )
    // The sealed bytes came for this batch alone.
    for (const { sealed } of batch.segments) release(sealed)
    // One large segment must not keep the room of the largest for ever in every slot.
    pool.length = Math.min(pool.length, 32)
    return { files, parts }
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
