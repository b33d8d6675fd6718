// Packs' footers, which are the truth about what a pack holds: read one, or make a view of all of them where index files are missing.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'
import { INDEX_BLOB_BYTES, type IndexedSegment, type IndexFile, type PackInIndex } from './index-file.ts'
import { HEADER_BYTES, LIMITS, type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { decodeFooter, decodeTrailer, type PackFooter, type PackTrailer, TRAILER_BYTES } from './pack.ts'
import { BLOCK_BYTES, type ByFooters } from './pack-reader.ts'
import { listRefs, mapBounded, type Repository } from './repository.ts'
import { createView, type View } from './view.ts'

/** A repository, as far as footers are read of it. */
export type FooterSource = Pick<Repository, 'keys' | 'requireWriter'> & { readonly store: Pick<Store, 'list' | 'getRange'> }

export type OpenedFooter = {
  readonly footer: PackFooter
  /** Header and box, as in the pack. */
  readonly footerObject: Buffer
  readonly trailer: PackTrailer
  readonly bytes: number
}

/**
 * The footer of a pack of `bytes` bytes, from its end, signed by a writer of the domain. Throws `damaged`, `not-found` or what the store says.
 * Most footers come with the one read of the last block.
 */
export async function readFooter(
  repository: FooterSource,
  ref: ObjectRef & { readonly info?: ObjectInfo },
  bytes: number,
  signal?: AbortSignal,
): Promise<OpenedFooter> {
  const { store, keys } = repository
  const name = packName(ref)
  if (bytes < TRAILER_BYTES + HEADER_BYTES || bytes > LIMITS.packBytes)
    throw new HoldfastError('damaged', `pack ${ref.random} is damaged: no pack is ${bytes} bytes long`)
  const tailOffset = Math.max(0, Math.floor((bytes - BLOCK_BYTES) / BLOCK_BYTES) * BLOCK_BYTES)
  const tail = await store.getRange(name, { offset: tailOffset, length: bytes - tailOffset }, { signal })
  const trailer = decodeTrailer(tail.subarray(tail.length - TRAILER_BYTES), ref, bytes, keys)
  const { footerOffset, footerBytes } = trailer
  const object =
    footerOffset >= tailOffset
      ? tail.subarray(footerOffset - tailOffset, footerOffset - tailOffset + footerBytes)
      : await store.getRange(name, { offset: footerOffset, length: footerBytes }, { signal })
  const { footer, writerKey } = decodeFooter(object, ref, footerOffset, keys)
  repository.requireWriter(writerKey, `pack ${ref.random}`, ref.info?.storedAt, footer.writerId)
  return { footer, footerObject: Buffer.from(object), trailer, bytes }
}

/** An index file in memory over packs whose footers are known: what `encodeIndexFile` would store, without storing it. */
export function indexFromFooters(packs: readonly PackInIndex[]): IndexFile {
  const sessions = packs.flatMap(({ footer }) => footer.sessions)
  const segments: IndexedSegment[] = []
  const blobs: { id: Buffer; segment: number; offset: number; bytes: number }[] = []
  let firstSession = 0
  for (const [pack, { footer }] of packs.entries()) {
    for (const segment of footer.segments) {
      let offset = 0
      for (const blob of segment.blobs) {
        blobs.push({ id: Buffer.from(blob.id, 'hex'), segment: segments.length, offset, bytes: blob.bytes })
        offset += blob.bytes
      }
      segments.push({ ...segment, pack, session: firstSession + segment.session })
    }
    firstSession += footer.sessions.length
  }
  blobs.sort((a, b) => Buffer.compare(a.id, b.id) || a.segment - b.segment)
  const rows = Buffer.allocUnsafe(blobs.length * INDEX_BLOB_BYTES)
  for (const [i, blob] of blobs.entries()) {
    const at = i * INDEX_BLOB_BYTES
    blob.id.copy(rows, at)
    rows.writeUInt32LE(blob.segment, at + 32)
    rows.writeUInt32LE(blob.offset, at + 36)
    rows.writeUInt32LE(blob.bytes, at + 40)
  }
  const none = '0'.repeat(32)
  return {
    ref: { session: none, random: none },
    // Of several writers, so of none whose nodes would be reused.
    writerKey: Buffer.alloc(32),
    replaces: [],
    sessions,
    packs: packs.map(({ footer, bytes }) => ({ ...footer.ref, bytes })),
    segmentCount: segments.length,
    segment: (ordinal) => segments[ordinal]!,
    blobCount: blobs.length,
    blobs: rows,
  }
}

/** As many packs are told of by one index file in memory: small enough to sort, few enough to search. */
export const PACKS_PER_FILE = 256
const FOOTERS_AT_ONCE = 8

export type RefusedObject = { readonly name: string; readonly error: HoldfastError }
export type Footers = {
  readonly footers: readonly OpenedFooter[]
  /** Packs whose footer does not open, by name. */
  readonly refused: readonly RefusedObject[]
}

/** The footers of listed packs. Throws what the store says; a footer that does not open, or is `unread`, hides no other. */
export async function readFooters(
  repository: FooterSource,
  refs: readonly (ObjectRef & { readonly info: ObjectInfo })[],
  signal?: AbortSignal,
): Promise<Footers> {
  const refused: RefusedObject[] = []
  const footers = await mapBounded(refs, FOOTERS_AT_ONCE, async (ref) => {
    try {
      return await readFooter(repository, ref, ref.info.bytes, signal)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not-found', 'unread', 'wrong-key', 'newer-format')) throw error
      refused.push({ name: ref.info.name, error })
      return undefined
    }
  })
  return { footers: footers.filter((footer) => footer !== undefined), refused }
}

/** Index files in memory over packs whose footers are known, under names that differ and count from `first`, so that none is taken for another. */
export function indexFilesFromFooters(footers: readonly PackInIndex[], first = 0): IndexFile[] {
  const files: IndexFile[] = []
  for (let i = 0; i < footers.length; i += PACKS_PER_FILE)
    files.push({
      ...indexFromFooters(footers.slice(i, i + PACKS_PER_FILE)),
      ref: { session: '0'.repeat(32), random: (first + i).toString(16).padStart(32, '0') },
    })
  return files
}

/** What a pack reader asks where index files lead nowhere. */
export function footersOf(repository: FooterSource): (signal?: AbortSignal) => Promise<ByFooters> {
  return async (signal) => {
    const { view, refused } = await viewFromFooters(repository, signal)
    return { view, unread: refused.find(({ error }) => error.code === 'unread')?.error }
  }
}

/** A view made of the footers of all listed packs. A pack whose footer does not open is in `refused` and the view lacks what it holds. */
export async function viewFromFooters(
  repository: FooterSource,
  signal?: AbortSignal,
): Promise<{ view: View; refused: readonly RefusedObject[] }> {
  const refs = await listRefs(repository.store, 'packs/', signal)
  const files: IndexFile[] = []
  const refused: RefusedObject[] = []
  // One file at a time: footers as objects take ten times what an index file takes.
  for (let i = 0; i < refs.length; i += PACKS_PER_FILE) {
    const some = await readFooters(repository, refs.slice(i, i + PACKS_PER_FILE), signal)
    files.push(...indexFilesFromFooters(some.footers, i))
    refused.push(...some.refused)
  }
  return { view: createView(files), refused }
}
