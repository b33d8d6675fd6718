// Moves whole segments out of packs that are mostly dead (design sections 3 and 7): sealed as they are, since a segment does not know its pack, so
// no content key is needed. What a segment holds is compared with the hash in its pack's footer on the way.
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { endName, objectName, type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { newSession, storeSession } from '../backup/session.ts'
import type { SessionEntry, WriteKeys } from '../keys/keys.ts'
import { blake3Hash } from '../repository/blake3.ts'
import { readFooter } from '../repository/footer-reader.ts'
import { encodeSessionEnd } from '../repository/forget-record.ts'
import { encodeIndexFile, INDEX_MAX_BLOBS, type PackInIndex, type PackRow } from '../repository/index-file.ts'
import { encodeFooter, encodeTrailer, type FooterSegment, paddingBytes } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import type { BlobPart, View } from '../repository/view.ts'
import type { Mark } from './mark.ts'

/** A segment of which at least this share is needed is worth moving; what is sparser is left for writers to store again. */
const DENSE = 0.5
const PART: Record<1 | 2 | 3, BlobPart> = { 1: 'chunk', 2: 'private', 3: 'references' }

export type MovedSegments = { readonly segments: number; readonly bytes: number; readonly packs: number }

export type ListedPack = PackRow & { readonly info: ObjectInfo }

export type MoveOptions = {
  readonly repository: Repository
  readonly keys: WriteKeys
  readonly view: View
  readonly mark: Mark
  /**
   * Packs that are mostly dead, as they are listed: when the store received one tells whether its writer was revoked by then. Those of other writers are
   * passed over: their nodes must not come under this writer's name.
   */
  readonly packs: readonly ListedPack[]
  /** No more than so many sealed bytes in one run; the rest waits for the next. */
  readonly bytesMax: number
  /** How large the packs become. */
  readonly packBytes: number
  /** Leaves what is not moved of a damaged pack where it is, instead of stopping there. */
  readonly acceptDamage?: boolean
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal | undefined
}

/** Stores the segments that are needed again in packs of this run, and an index file that names them. The old packs stay until they are due. */
export async function moveSegments(options: MoveOptions): Promise<MovedSegments> {
  const { repository, keys, view, mark, clock, random, signal } = options
  const { store } = repository
  const session = newSession(keys, random, Math.floor(clock.now()))
  const written: PackInIndex[] = []
  let isStored = false
  let segments = 0
  let bytes = 0
  let open = newPack()

  function newPack(): { segments: FooterSegment[]; parts: Buffer[]; bytes: number; sessions: SessionEntry[] } {
    return { segments: [], parts: [], bytes: 0, sessions: [] }
  }

  const close = async (): Promise<void> => {
    if (open.segments.length === 0) return
    if (!isStored) await storeSession(store, session, keys, signal ?? new AbortController().signal)
    isStored = true
    const ref: ObjectRef = { session: session.id, random: random.bytes(16).toString('hex') }
    const footer = { ref, writerId: keys.writer.id, sessions: open.sessions, segments: open.segments }
    const footerObject = encodeFooter(footer, keys.structure, keys.writer)
    const content = Buffer.concat([...open.parts, footerObject])
    const padded = Buffer.concat([content, random.bytes(paddingBytes(content.length))])
    const trailer = encodeTrailer(keys.structure, blake3Hash(padded), { offset: open.bytes, bytes: footerObject.length })
    const object = Buffer.concat([padded, trailer])
    await store.put(packName(ref), { kind: 'bytes', bytes: object }, { signal })
    written.push({ footer, bytes: object.length })
    open = newPack()
  }

  const sessionOrdinal = (entry: SessionEntry): number => {
    const known = open.sessions.findIndex(({ sessionId }) => sessionId.equals(entry.sessionId))
    return known >= 0 ? known : open.sessions.push(entry) - 1
  }

  const isDense = (pack: PackRow, segment: FooterSegment): boolean => {
    const part = PART[segment.kind as 1 | 2 | 3]
    let live = 0
    for (const blob of segment.blobs)
      if (view.rows(blob.id, part).some(({ file, row, pack: where }) => where.random === pack.random && mark.isLive(file, row)))
        live += blob.bytes
    return live > 0 && live >= segment.plainBytes * DENSE
  }

  const moveFrom = async (pack: ListedPack): Promise<void> => {
    const { footer } = await readFooter(repository, pack, pack.bytes, signal)
    if (!footer.writerId.equals(keys.writer.id)) return
    for (const segment of footer.segments) {
      if (!isDense(pack, segment)) continue
      const sealed = await store.getRange(packName(pack), { offset: segment.offset, length: segment.sealedBytes }, { signal })
      if (!blake3Hash(sealed).equals(segment.sealedHash))
        throw new HoldfastError(
          'damaged',
          `pack ${pack.random} is damaged: a segment is not what was stored; run 'holdfast check --read-data'. --accept-damage leaves it where it is`,
        )
      if (open.bytes > 0 && open.bytes + sealed.length > options.packBytes) await close()
      const entry = footer.sessions[segment.session]
      const ordinal = segment.kind === SEGMENT_KIND.references || entry === undefined ? 0 : sessionOrdinal(entry)
      open.segments.push({ ...segment, session: ordinal, offset: open.bytes })
      open.parts.push(sealed)
      open.bytes += sealed.length
      segments += 1
      bytes += sealed.length
    }
  }

  for (const pack of options.packs) {
    if (bytes >= options.bytesMax) break
    try {
      await moveFrom(pack)
    } catch (error) {
      // Another collection has deleted it since it was looked at: nothing that counts needs it.
      if (!isHoldfastError(error, 'not-found') && !(options.acceptDamage === true && isHoldfastError(error, 'damaged'))) throw error
    }
  }
  await close()
  if (written.length === 0) return { segments: 0, bytes: 0, packs: 0 }
  for (const group of inGroups(written)) {
    const ref: ObjectRef = { session: session.id, random: random.bytes(16).toString('hex') }
    const object = encodeIndexFile({ ref, replaces: [], packs: group }, keys.structure, keys.writer)
    await store.put(objectName('index', ref), { kind: 'bytes', bytes: object }, { signal })
  }
  const end = encodeSessionEnd({ sessionId: session.entry.sessionId, endedAt: Math.floor(clock.now()) }, keys.structure, keys.writer)
  await store.put(endName(session.id), { kind: 'bytes', bytes: end }, { signal })
  return { segments, bytes, packs: written.length }
}

/** Packs in groups that fit into one index file each. */
export function inGroups(packs: readonly PackInIndex[]): PackInIndex[][] {
  const groups: PackInIndex[][] = []
  let blobs = 0
  for (const pack of packs) {
    const count = pack.footer.segments.reduce((sum, segment) => sum + segment.blobs.length, 0)
    const last = groups.at(-1)
    if (last === undefined || blobs + count > INDEX_MAX_BLOBS) {
      groups.push([pack])
      blobs = count
    } else {
      last.push(pack)
      blobs += count
    }
  }
  return groups
}
