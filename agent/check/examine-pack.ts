// One pack, looked into as far as the keys reach: which of its segments can be relied on. Errors become answers; only `cancelled` is thrown.
import { NO_REPAIR_MENDS, NO_REPAIR_READS } from './check-types.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import type { ReadKeys, SessionEntry } from '../keys/keys.ts'
import { blake3Hash } from '../repository/blake3.ts'
import type { OpenedFooter } from '../repository/footer-reader.ts'
import { type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import type { FooterSegment, PackFooter } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import type { View } from '../repository/view.ts'
import { IndexClaims } from './claims.ts'
import { knownSegments, type Trouble } from './holdings.ts'
import { type PackReading, readPack, type SegmentOpener, segmentOpener } from './read-pack.ts'

export type Examined = {
  /** Undefined where every segment can be relied on. */
  readonly trouble: Trouble | undefined
  /** Why the pack is not as it was stored, or why nobody could look. There may be damage without trouble: in what no segment needs. */
  readonly damage: HoldfastError | undefined
  readonly opened: OpenedFooter | undefined
  /** What stands for a footer that does not open: the segments that were opened with the root's keys. */
  readonly found?: PackFooter
}

/**
 * Reads a listed pack whole. Where its footer does not open, segments that index files in `view` know of are opened, with the root's keys all of them,
 * without it none.
 */
export async function examinePack(
  repository: Repository,
  pack: ObjectRef & { readonly info?: ObjectInfo; readonly bytes: number },
  view: View,
  options: {
    open?: SegmentOpener | undefined
    keys?: ReadKeys | undefined
    signal?: AbortSignal | undefined
    onRead?: (bytes: number) => void
  },
): Promise<Examined> {
  try {
    const { opened, bad, damage } = await readTwice(() => readPack(repository, pack, pack.bytes, options))
    return {
      trouble: bad.size === 0 ? undefined : { kind: 'bad-segments', bad, segments: knownSegments(opened.footer, bad) },
      damage,
      opened,
    }
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'cancelled') throw error
    if (error.code === 'not-found') return { trouble: { kind: 'gone' }, damage: error, opened: undefined }
    if (error.code !== 'damaged') return { trouble: { kind: 'unread', error }, damage: error, opened: undefined }
    try {
      const found = options.keys === undefined ? undefined : await openedSegments(repository, pack, view, options.keys, options)
      return {
        trouble: { kind: 'footerless', bytes: pack.bytes, segments: found && knownSegments(found) },
        damage: error,
        opened: undefined,
        ...(found === undefined ? {} : { found }),
      }
    } catch (second) {
      if (!isHoldfastError(second) || second.code === 'cancelled') throw second
      return { trouble: { kind: 'unread', error: second }, damage: second, opened: undefined }
    }
  }
}

/**
 * True where no index file that counts rests on what is damaged in a pack, by the offsets of the segments that they name in it (undefined where none names
 * the pack): a repair has seen to it. On a footer that does not open all of them rest: nothing else tells of them once index files are lost, and a reader
 * that goes by footers alone lacks them at once.
 */
export function isSeenTo(trouble: Trouble | undefined, named: readonly number[] | undefined): boolean {
  if (trouble?.kind !== 'bad-segments' && trouble?.kind !== 'footerless') return false
  return named?.every((offset) => trouble.kind === 'bad-segments' && !trouble.bad.has(offset)) === true
}

/**
 * The damage of a pack as a person is told of it: where its footer alone went bad, and all that is named in it opens, that nothing is lost yet; and where
 * nothing tells what was in it, what to do, as no repair does it.
 */
export function damageWithWhatOpens(
  damage: HoldfastError,
  trouble: Trouble | undefined,
  named: readonly number[] | undefined,
): HoldfastError {
  if (trouble?.kind === 'footerless' && named === undefined)
    return new HoldfastError('damaged', `${damage.message}. ${NO_REPAIR_READS}`, { cause: damage })
  const opens = trouble?.kind === 'footerless' ? trouble.segments : undefined
  if (opens === undefined || named?.every((offset) => opens.has(offset)) !== true) return damage
  return new HoldfastError(
    'damaged',
    `${damage.message}, but nothing is lost by it while index files tell what is in it, which opens. ${NO_REPAIR_MENDS}`,
    { cause: damage },
  )
}

/** Damage is believed when it is there a second time: what flips on the way, or in the memory of this machine, is not in the store. */
async function readTwice(read: () => Promise<PackReading>): Promise<PackReading> {
  try {
    const first = await read()
    if (first.damage === undefined) return first
  } catch (error) {
    if (!isHoldfastError(error, 'damaged')) throw error
  }
  return read()
}

/** The segments of a pack without a footer that open to the blobs that an index file says are in them. */
async function openedSegments(
  repository: Repository,
  pack: ObjectRef & { readonly bytes: number },
  view: View,
  keys: ReadKeys,
  options: { signal?: AbortSignal | undefined; onRead?: (bytes: number) => void },
): Promise<PackFooter> {
  const open = segmentOpener(repository, keys)
  const sessions: SessionEntry[] = []
  const good = new Map<number, FooterSegment>()
  for (const file of [...view.files, ...view.lastResort]) {
    if (!file.packs.some(({ random }) => random === pack.random)) continue
    const claims = new IndexClaims(file)
    const first = sessions.length
    sessions.push(...file.sessions)
    for (const ordinal of claims.segmentsOf(pack.random)) {
      const segment = file.segment(ordinal)
      const told = claims.blobsOf(ordinal)
      if (good.has(segment.offset) || segment.offset + segment.sealedBytes > pack.bytes || !isGapless(told, segment.plainBytes)) continue
      const blobs = told.map(({ id, bytes }) => ({ id, bytes }))
      try {
        const range = { offset: segment.offset, length: segment.sealedBytes }
        const sealed = await repository.store.getRange(packName(pack), range, { signal: options.signal })
        options.onRead?.(sealed.length)
        open({ ...segment, blobs }, file.sessions[segment.session], sealed, `pack ${pack.random}`)
        const session = segment.kind === SEGMENT_KIND.references ? 0 : first + segment.session
        good.set(segment.offset, { ...segment, session, sealedHash: blake3Hash(sealed), blobs })
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'wrong-key')) throw error
      }
    }
  }
  const segments = [...good.values()].sort((a, b) => a.offset - b.offset)
  return { ref: { session: pack.session, random: pack.random }, writerId: Buffer.alloc(16), sessions, segments }
}

/** Whether blobs, in order of offset, fill a segment from end to end. */
export function isGapless(blobs: readonly { offset: number; bytes: number }[], plainBytes: number): boolean {
  let end = 0
  for (const { offset, bytes } of blobs) {
    if (offset !== end) return false
    end += bytes
  }
  return end === plainBytes
}
