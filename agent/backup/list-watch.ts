// A run and the collections beside it (design section 7). What a list condemned is as if it were not there, and is stored again; a list that comes while
// the run is under way is held against what the run relies on, before the snapshot and after it. No lock, and no collection waits or is waited for.
import type { Clock } from '@holdfast/shared/clock.ts'
import { endName, objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { unsoundNodes } from '../collection/reference-walk.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { type CollectionState, requireKnownFormat, revivedBy } from '../repository/collection-state.ts'
import { indexFromFooters } from '../repository/footer-reader.ts'
import { encodeForgetRecord, encodeSessionEnd } from '../repository/forget-record.ts'
import { decodeFooter } from '../repository/pack.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { OpenedSnapshot, SnapshotStructure } from '../repository/snapshot.ts'
import { type BlobPart, createView, type View } from '../repository/view.ts'
import type { BackupOptions } from './backup-types.ts'
import type { DurablePack } from './index-files.ts'
import type { Session } from './session.ts'

const DAY_MS = 86_400_000
/**
 * Lists stay for thirty days by the store's clock: a run that does not look for nearly as long could miss one, and begins anew. Its own clocks stand still
 * where its machine is suspended, so the store's is asked as well.
 */
const UNSEEN_MAX_MS = 20 * DAY_MS
/** A run that takes longer looks in between, so that however long it takes it misses none while its machine is awake. */
const LOOK_AGAIN_MS = DAY_MS

export type ListWatch = {
  /** Packs that nothing may rely on, by the random part of their names: gone, spoilt, or condemned when the run began. */
  readonly absent: ReadonlySet<string>
  /** Packs that are spoilt or condemned: what is left of them in the spool is worth nothing either. */
  readonly unusable: ReadonlySet<string>
  /** Packs that are gone or spoilt, that index files count on all the same, and that were never condemned. */
  readonly lost: number
  /** Nodes of the previous snapshot from which something condemned is reached: none of them is taken over as it is. */
  readonly tainted: (previous: OpenedSnapshot | undefined) => Promise<ReadonlySet<string>>
  /** Whether all of the previous snapshot is there without what is absent. */
  readonly isWhole: (previous: OpenedSnapshot) => Promise<boolean>
  /** Lists that condemned packs when it was last looked. */
  readonly seen: () => readonly ObjectRef[]
  /** Whether a day has passed by the run's own clocks since it was last looked. */
  readonly isDue: () => boolean
  /** Looks in between: one listing and what is new in it. What it condemns counts in `isHit` as if it were there still. */
  readonly look: () => Promise<void>
  /** Whether a look in between showed a list that no tree was held against yet: a snapshot that says it saw that one must not come before `isHit`. */
  readonly hasNews: () => boolean
  /**
   * Looks at the lists again: true where one that came since the last such look condemns what the tree at `root` relies on, or may have been missed; and
   * where one condemns a new pack, which no index file must name then: what was taken over from an interrupted run may hold nothing that the tree relies on.
   */
  readonly isHit: (root: string, newPacks: readonly DurablePack[]) => Promise<boolean>
  /** Whether between two looks so much time passed that lists may have been missed. */
  readonly isLate: () => boolean
}

/** What lists and records said, and the store's clock at the beginning and the end of that look, where the store says it. */
export type ListLook = {
  readonly collection: CollectionState
  readonly storeTime: { readonly from: number; readonly to: number } | undefined
  /** When it began by the run's own clocks. */
  readonly ownTime: OwnTime
}

/** A moment by both of a machine's clocks, in milliseconds: each may stand still or be set while the other goes on. */
export type OwnTime = { readonly wall: number; readonly monotonic: number }

export function ownTime(clock: Clock): OwnTime {
  return { wall: clock.now(), monotonic: clock.monotonicMs() }
}

/** How long ago that was, by whichever clock says more. */
export function passedSince(clock: Clock, { wall, monotonic }: OwnTime): number {
  return Math.max(clock.now() - wall, clock.monotonicMs() - monotonic)
}

/** Looks at lists and records. A dry run leaves nothing behind in any store, and does without the store's clock. */
export async function lookAtLists({
  repository,
  dryRun,
  clock,
  signal,
}: Pick<BackupOptions, 'repository' | 'dryRun' | 'clock' | 'signal'>): Promise<ListLook> {
  const began = ownTime(clock)
  let storeTime: ListLook['storeTime']
  const onTime = (at: number): void => void (storeTime = { from: storeTime?.from ?? at, to: at })
  const collection = await repository.loadCollection(signal, dryRun ? undefined : onTime)
  requireKnownFormat(collection)
  return { collection, storeTime, ownTime: began }
}

export function createListWatch(given: {
  options: BackupOptions
  look: ListLook
  gone: ReadonlySet<string>
  spoilt: ReadonlySet<string>
  /** What the index files tell of. */
  view: View
}): ListWatch {
  const { options, view } = given
  const { collection } = given.look
  const { repository, keys, clock, signal } = options
  const { store } = repository
  const structure = keys.structure
  const without = (condemned: Iterable<string>): Set<string> => new Set([...given.gone, ...given.spoilt, ...condemned])
  const absent = without(collection.condemned.keys())
  const spoilt = [...view.packs()].filter(({ random }) => given.spoilt.has(random)).map(({ random }) => random)
  let { storeTime: lastStoreTime, ownTime: lastOwnTime } = given.look
  let seen = refsOf(collection)
  // What any look saw condemned: the list may be gone when the tree is held against it, and the pack with it.
  const condemned = new Map([...collection.condemned].map(([random, { list }]) => [random, list]))
  let isNews = false
  let late = false

  const look = async (): Promise<void> => {
    const { collection: state, storeTime, ownTime: began } = await lookAtLists(options)
    const byStore = lastStoreTime === undefined || storeTime === undefined ? 0 : storeTime.to - lastStoreTime.from
    const unseen = Math.max(byStore, passedSince(clock, lastOwnTime))
    if (unseen > UNSEEN_MAX_MS) late = true
    lastStoreTime = storeTime ?? lastStoreTime
    lastOwnTime = began
    const now = refsOf(state)
    if ([...now.keys()].some((name) => !seen.has(name))) isNews = true
    seen = now
    const isRevived = revivedBy(state.revivedLists)
    for (const [random, list] of condemned) if (isRevived(list, random)) condemned.delete(random)
    for (const [random, { list }] of state.condemned) condemned.set(random, list)
  }

  // What only replaced index files tell of is a reader's last resort: a repair found it damaged.
  const sound = (within: View, lacking: ReadonlySet<string>) => (id: string, part: BlobPart) =>
    within.rows(id, part).some(({ file, pack }) => file < within.files.length && !lacking.has(pack.random))

  return {
    absent,
    unusable: new Set([...given.spoilt, ...collection.condemned.keys()]),
    lost: [...new Set([...given.gone, ...spoilt])].filter((random) => !collection.condemned.has(random)).length,
    seen: () => [...seen.values()],
    tainted: async (previous) => {
      // What the previous run saw condemned it did without already.
      const known = new Set(previous?.structure.lists.map(refKey))
      if (previous === undefined || [...seen.keys()].every((name) => known.has(name))) return new Set()
      const reader = createPackReader({ store, structure, view })
      return unsoundNodes({ reader, root: previous.structure.root, isThere: sound(view, absent), signal })
    },
    isWhole: async (previous) => {
      const reader = createPackReader({ store, structure, view })
      const { root } = previous.structure
      return (await unsoundNodes({ reader, root, isThere: sound(view, absent), untilFirst: true, signal })).size === 0
    },
    isDue: () => passedSince(clock, lastOwnTime) >= LOOK_AGAIN_MS,
    look,
    hasNews: () => isNews,
    isHit: async (root, newPacks) => {
      await look()
      if (late) return true
      if (newPacks.some(({ ref }) => condemned.has(ref.random))) return true
      if (!isNews) return false
      isNews = false
      const written = newPacks.map(({ footerObject, ref, bytes }) => ({
        footer: decodeFooter(footerObject, ref, undefined, structure).footer,
        bytes,
      }))
      const whole = createView([...view.files, indexFromFooters(written)])
      const reader = createPackReader({ store, structure, view: whole })
      const unsound = await unsoundNodes({ reader, root, isThere: sound(whole, without(condemned.keys())), untilFirst: true, signal })
      return unsound.size > 0
    },
    isLate: () => late,
  }
}

function refsOf(state: CollectionState): Map<string, ObjectRef> {
  return new Map(state.condemnedLists.map(({ list }) => [refKey(list.ref), list.ref]))
}

/**
 * Ends the session of an attempt that has to be made again: nobody waits for it, and where its snapshot was stored already that does not count. From then
 * on what it uploaded may be collected, but for what a snapshot needs: of one that stored no snapshot that is done when the next attempt's stands.
 */
export async function endWithoutSnapshot(attempt: {
  store: Store
  keys: WriteKeys
  session: Session
  clock: Clock
  random: Random
  signal: AbortSignal
  snapshot?: { readonly structure: SnapshotStructure; readonly hash: Buffer }
}): Promise<void> {
  const { store, keys, session, clock, random, signal, snapshot } = attempt
  const now = Math.floor(clock.now())
  if (snapshot !== undefined) {
    const { ref: of, series, sequence } = snapshot.structure
    const ref = { session: session.id, random: random.bytes(16).toString('hex') }
    const entry = { snapshot: of, series, sequence, hash: snapshot.hash, why: 'replaced' } as const
    const object = encodeForgetRecord({ ref, madeAt: now, replaces: [], entries: [entry], undone: [] }, keys.structure, keys.writer)
    await store.put(objectName('forget', ref), { kind: 'bytes', bytes: object }, { signal })
  }
  const end = encodeSessionEnd({ sessionId: session.entry.sessionId, endedAt: now }, keys.structure, keys.writer)
  await store.put(endName(session.id), { kind: 'bytes', bytes: end }, { signal })
}
