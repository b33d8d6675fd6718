// A run and the collections beside it (design section 7). What a list condemned is as if it were not there, and is stored again; a list that comes while
// the run is under way is held against what the run relies on, before the snapshot and after it. No lock, and no collection waits or is waited for.
import type { Clock } from '@holdfast/shared/clock.ts'
import { endName, objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { unsoundNodes } from '../collection/reference-walk.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import { indexFromFooters } from '../repository/footer-reader.ts'
import { encodeForgetRecord, encodeSessionEnd } from '../repository/forget-record.ts'
import { decodeFooter } from '../repository/pack.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { OpenedSnapshot, SnapshotStructure } from '../repository/snapshot.ts'
import { type BlobPart, createView, type View } from '../repository/view.ts'
import type { BackupOptions } from './backup-types.ts'
import type { DurablePack } from './index-files.ts'
import type { Session } from './session.ts'

/**
 * Lists stay for thirty days by the store's clock: a run that takes nearly as long could miss one, and begins anew. Its own clocks stand still where its
 * machine is suspended, so the store's is asked as well.
 */
const RUN_MAX_MS = 20 * 86_400_000

export type ListWatch = {
  /** Packs that nothing may rely on, by the random part of their names: gone, spoilt, or condemned when the run began. */
  readonly absent: ReadonlySet<string>
  /** Packs that are spoilt or condemned: what is left of them in the spool is worth nothing either. */
  readonly unusable: ReadonlySet<string>
  /** Packs that are gone and were never condemned. */
  readonly lost: number
  /** Nodes of the previous snapshot from which something condemned is reached: none of them is taken over as it is. */
  readonly tainted: (previous: OpenedSnapshot | undefined) => Promise<ReadonlySet<string>>
  /** Whether all of the previous snapshot is there without what is absent. */
  readonly isWhole: (previous: OpenedSnapshot) => Promise<boolean>
  /** Lists that condemned packs when it was last looked. */
  readonly seen: () => readonly ObjectRef[]
  /** Looks at the lists again: true where one that is new condemns what the tree at `root` relies on, or may have been missed. */
  readonly isHit: (root: string, newPacks: readonly DurablePack[]) => Promise<boolean>
  /** Whether the last look came so late that lists may have been missed. */
  readonly isLate: () => boolean
}

/** What lists and records said, and the store's clock at the beginning and the end of that look, where the store says it. */
export type ListLook = {
  readonly collection: CollectionState
  readonly storeTime: { readonly from: number; readonly to: number } | undefined
}

/** Looks at lists and records. A dry run leaves nothing behind in any store, and does without the store's clock. */
export async function lookAtLists({
  repository,
  dryRun,
  signal,
}: Pick<BackupOptions, 'repository' | 'dryRun' | 'signal'>): Promise<ListLook> {
  let storeTime: ListLook['storeTime']
  const onTime = (at: number): void => void (storeTime = { from: storeTime?.from ?? at, to: at })
  const collection = await repository.loadCollection(signal, dryRun ? undefined : onTime)
  return { collection, storeTime }
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
  const { collection, storeTime: begun } = given.look
  const { repository, keys, clock, signal } = options
  const { store } = repository
  const structure = keys.structure
  const startedAt = clock.now()
  const startedMs = clock.monotonicMs()
  const condemnedBy = (state: CollectionState): Set<string> => new Set([...given.gone, ...given.spoilt, ...state.condemned.keys()])
  const absent = condemnedBy(collection)
  let seen = refsOf(collection)
  let elapsed = 0

  const sound = (within: View, without: ReadonlySet<string>) => (id: string, part: BlobPart) =>
    within.rows(id, part).some(({ pack }) => !without.has(pack.random))

  return {
    absent,
    unusable: new Set([...given.spoilt, ...collection.condemned.keys()]),
    lost: [...given.gone].filter((random) => !collection.condemned.has(random)).length,
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
    isHit: async (root, newPacks) => {
      const { collection: state, storeTime: ended } = await lookAtLists(options)
      const byStore = begun === undefined || ended === undefined ? 0 : ended.to - begun.from
      elapsed = Math.max(byStore, clock.now() - startedAt, clock.monotonicMs() - startedMs)
      if (elapsed > RUN_MAX_MS) return true
      const now = refsOf(state)
      const isNew = [...now.keys()].some((name) => !seen.has(name))
      seen = now
      if (!isNew) return false
      const written = newPacks.map(({ footerObject, ref, bytes }) => ({
        footer: decodeFooter(footerObject, ref, undefined, structure).footer,
        bytes,
      }))
      const whole = createView([...view.files, indexFromFooters(written)])
      const reader = createPackReader({ store, structure, view: whole })
      const unsound = await unsoundNodes({ reader, root, isThere: sound(whole, condemnedBy(state)), untilFirst: true, signal })
      return unsound.size > 0
    },
    isLate: () => elapsed > RUN_MAX_MS,
  }
}

function refsOf(state: CollectionState): Map<string, ObjectRef> {
  return new Map(state.condemnedLists.map(({ list }) => [refKey(list.ref), list.ref]))
}

/**
 * Ends the session of an attempt that has to be made again: nobody waits for it, and where its snapshot was stored already that does not count. What it
 * uploaded is taken over by the next attempt.
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
