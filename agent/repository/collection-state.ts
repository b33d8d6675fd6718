// What collection lists and forget records say together (FORMAT.md section 13): which packs are condemned and which snapshots no longer count. Pure:
// repository.ts loads the objects.
import type { CollectionList, CondemnedWhy } from '@holdfast/shared/format/collection-list.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { ForgetRecord, ForgottenSnapshot } from './forget-record.ts'

/** An object that opened and is signed by a writer of the domain, with the time at which the store received it. */
export type LoadedList<L = CollectionList> = { readonly list: L; readonly storedAt: number }
export type LoadedForget = { readonly record: ForgetRecord; readonly storedAt: number }
export type CondemnedList = Extract<CollectionList, { kind: 'condemned' }>
export type DeletionList = Extract<CollectionList, { kind: 'deletion' }>
export type RevivedList = Extract<CollectionList, { kind: 'revived' }>

export type Condemned = {
  readonly pack: ObjectRef
  readonly bytes: number
  readonly why: CondemnedWhy
  /** The list that says so, and when the store received it. Of several, the earliest. */
  readonly list: ObjectRef
  readonly since: number
}

export type Forgotten = ForgottenSnapshot & { readonly record: ObjectRef; readonly writerId: Buffer; readonly since: number }

export type RefusedObject = {
  readonly kind: 'list' | 'forget'
  readonly ref: ObjectRef
  readonly name: string
  readonly error: HoldfastError
  /** It opens, and is signed by a writer who does not count: nobody we know, or one that was revoked before. */
  readonly isForeign: boolean
}

export type CollectionState = {
  /** What records of the root replace, by `refKey`: where one of these does not open, nobody waits for it. */
  readonly replacedByRoot: ReadonlySet<string>
  readonly condemnedLists: readonly LoadedList<CondemnedList>[]
  readonly revivedLists: readonly LoadedList<RevivedList>[]
  readonly deletionLists: readonly LoadedList<DeletionList>[]
  readonly forgets: readonly LoadedForget[]
  /** Objects that do not open or are signed by nobody we know: they condemn and forget nothing. Without those that are written off. */
  readonly refused: readonly RefusedObject[]
  /** Those of which the root says that nobody waits for them any more, and since when it does. */
  readonly writtenOff: readonly (RefusedObject & { readonly since: number })[]
  /** Packs that are condemned and not revived, by the random part of their name. */
  readonly condemned: ReadonlyMap<string, Condemned>
  /** Entries that speak of a snapshot, by `refKey`; whether one counts depends on whose snapshot it is (`forgottenEntry`). */
  readonly forgotten: ReadonlyMap<string, readonly Forgotten[]>
}

/** The entry by which a snapshot of `writerId` no longer counts, or undefined where it does. */
export function forgottenEntry(state: Pick<CollectionState, 'forgotten'>, snapshot: ObjectRef, writerId: Buffer): Forgotten | undefined {
  return forgottenEntries(state, snapshot, writerId)[0]
}

/** All such entries, the earliest first: what writers say who may not speak of the snapshot is nothing, and begins no undelete window. */
export function forgottenEntries(state: Pick<CollectionState, 'forgotten'>, snapshot: ObjectRef, writerId: Buffer): Forgotten[] {
  return (state.forgotten.get(refKey(snapshot)) ?? []).filter((entry) => maySpeakOf(entry.writerId, writerId))
}

/** Whether a record of `recordWriter` may speak of snapshots of `snapshotWriter`: its own, or any where it is the root's. */
export function maySpeakOf(recordWriter: Buffer, snapshotWriter: Buffer): boolean {
  return recordWriter.equals(ROOT_WRITER_ID) || recordWriter.equals(snapshotWriter)
}

/** Adds up what all lists and records say. */
export function collectionState(loaded: {
  lists: readonly LoadedList[]
  forgets: readonly LoadedForget[]
  refused: readonly RefusedObject[]
}): CollectionState {
  const condemnedLists: LoadedList<CondemnedList>[] = []
  const revivedLists: LoadedList<RevivedList>[] = []
  const deletionLists: LoadedList<DeletionList>[] = []
  for (const { list, storedAt } of loaded.lists) {
    if (list.kind === 'condemned') condemnedLists.push({ list, storedAt })
    else if (list.kind === 'revived') revivedLists.push({ list, storedAt })
    else deletionLists.push({ list, storedAt })
  }
  const isRevived = revivedBy(revivedLists)
  const since = writtenOffSince(revivedLists, loaded.forgets)
  const condemned = new Map<string, Condemned>()
  for (const { list, storedAt } of condemnedLists.toSorted((a, b) => a.storedAt - b.storedAt))
    for (const pack of list.packs) {
      if (condemned.has(pack.random) || isRevived(list.ref, pack.random)) continue
      condemned.set(pack.random, {
        pack: { session: pack.session, random: pack.random },
        bytes: pack.bytes,
        why: pack.why,
        list: list.ref,
        since: storedAt,
      })
    }
  return {
    condemnedLists,
    revivedLists,
    deletionLists,
    forgets: loaded.forgets,
    replacedByRoot: new Set(
      loaded.forgets.filter(({ record }) => record.writerId.equals(ROOT_WRITER_ID)).flatMap(({ record }) => record.replaces.map(refKey)),
    ),
    refused: loaded.refused.filter(({ name }) => !since.has(name)),
    writtenOff: loaded.refused.flatMap((one) => (since.has(one.name) ? [{ ...one, since: since.get(one.name)! }] : [])),
    condemned,
    forgotten: forgottenBy(loaded.forgets),
  }
}

/** Tells whether lists of kind 2 take a pack back from the list that condemned it. */
export function revivedBy(lists: readonly LoadedList<RevivedList>[]): (from: ObjectRef, random: string) => boolean {
  const revived = new Set<string>()
  for (const { list } of lists)
    for (const { list: from, packs } of list.from) for (const pack of packs) revived.add(`${refKey(from)} ${pack.random}`)
  return (from, random) => revived.has(`${refKey(from)} ${random}`)
}

/** Names of objects that the root writes off, where they do not open: by a record that replaces one, by a list that takes nothing back from one. */
function writtenOffSince(revivedLists: readonly LoadedList<RevivedList>[], forgets: readonly LoadedForget[]): Map<string, number> {
  const since = new Map<string, number>()
  const say = (name: string, storedAt: number): unknown => since.set(name, Math.min(storedAt, since.get(name) ?? Infinity))
  for (const { list, storedAt } of revivedLists)
    if (list.writerId.equals(ROOT_WRITER_ID))
      for (const { list: from, packs } of list.from) if (packs.length === 0) say(objectName('list', from), storedAt)
  for (const { record, storedAt } of forgets)
    if (record.writerId.equals(ROOT_WRITER_ID)) for (const ref of record.replaces) say(objectName('forget', ref), storedAt)
  return since
}

/**
 * An entry is undone by a record of its own writer or of the root: nobody else takes back what the root has forgotten. One that was merged into another
 * record is undone there too where it was undone in the record that this one replaces: a merge made from an old look forgets nothing again.
 */
function forgottenBy(forgets: readonly LoadedForget[]): Map<string, Forgotten[]> {
  const undone = new Set<string>()
  for (const { record } of forgets)
    for (const { record: from, snapshot } of record.undone)
      undone.add(`${record.writerId.toString('hex')} ${refKey(from)} ${refKey(snapshot)}`)
  const forgotten = new Map<string, Forgotten[]>()
  for (const { record, storedAt } of forgets.toSorted((a, b) => a.storedAt - b.storedAt)) {
    const { writerId, ref, replaces } = record
    const names = [ref, ...replaces].map(refKey)
    const who = new Set([writerId, ROOT_WRITER_ID].map((id) => id.toString('hex')))
    for (const entry of record.entries) {
      const name = refKey(entry.snapshot)
      if ([...who].some((id) => names.some((from) => undone.has(`${id} ${from} ${name}`)))) continue
      forgotten.set(name, [...(forgotten.get(name) ?? []), { ...entry, record: ref, writerId, since: storedAt }])
    }
  }
  return forgotten
}

/**
 * Deletion lists of which nothing was taken back, by whoever: only those will be carried out as they stand. The root carries out its own and hears nobody
 * meanwhile, so of those only the root says that they are over.
 */
export function standingDeletionLists({ deletionLists, revivedLists }: CollectionState): LoadedList<DeletionList>[] {
  const isRoots = ({ writerId }: { writerId: Buffer }): boolean => writerId.equals(ROOT_WRITER_ID)
  const back = (lists: readonly RevivedList[]): Set<string> => new Set(lists.flatMap(({ from }) => from.map((one) => refKey(one.list))))
  const all = revivedLists.map(({ list }) => list)
  const [byAny, byRoot] = [back(all), back(all.filter(isRoots))]
  return deletionLists.filter(({ list }) => !(isRoots(list) ? byRoot : byAny).has(refKey(list.ref)))
}

/**
 * For whoever writes: throws `newer-format` where a list or record is of a later format. What it condemns or takes back nobody knows who reads this one. A
 * reader goes on without it, or whoever may put an object could keep everybody from restoring.
 */
export function requireKnownFormat({ refused }: Pick<CollectionState, 'refused'>): void {
  const newer = refused.find(({ error }) => error.code === 'newer-format')
  if (newer === undefined) return
  throw new HoldfastError(
    'newer-format',
    `${newer.error.message}. Nothing was changed, and restores go on. Where no newer version was ever at work here, it is damage: 'holdfast forget --unreadable ${newer.ref.random.slice(0, 12)}' (with the root) lets the repository go on without it`,
    { cause: newer.error },
  )
}

/** Whether lists or records have come since: what was looked at before them may have been deleted or forgotten meanwhile. */
export function hasNewRecords(old: CollectionState, current: CollectionState): boolean {
  const known = new Set(namesOf(old))
  return namesOf(current).some((name) => !known.has(name))
}

function namesOf({ condemnedLists, revivedLists, deletionLists, forgets }: CollectionState): string[] {
  const lists = [...condemnedLists, ...revivedLists, ...deletionLists].map(({ list }) => list)
  return [...lists, ...forgets.map(({ record }) => record)].map(({ ref }) => refKey(ref))
}
