// What collection lists and forget records say together (FORMAT.md section 13): which packs are condemned and which snapshots no longer count. Pure:
// repository.ts loads the objects.
import type { CollectionList, CondemnedWhy } from '@holdfast/shared/format/collection-list.ts'
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { HoldfastError } from '@holdfast/shared/errors.ts'
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

export type CollectionState = {
  readonly condemnedLists: readonly LoadedList<CondemnedList>[]
  readonly revivedLists: readonly LoadedList<RevivedList>[]
  readonly deletionLists: readonly LoadedList<DeletionList>[]
  readonly forgets: readonly LoadedForget[]
  /** Objects that do not open or are signed by nobody we know: they condemn and forget nothing. */
  readonly refused: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Packs that are condemned and not revived, by the random part of their name. */
  readonly condemned: ReadonlyMap<string, Condemned>
  /** Entries that speak of a snapshot, by `refKey`; whether one counts depends on whose snapshot it is (`forgottenEntry`). */
  readonly forgotten: ReadonlyMap<string, readonly Forgotten[]>
}

/** The entry by which a snapshot of `writerId` no longer counts, or undefined where it does. */
export function forgottenEntry(state: Pick<CollectionState, 'forgotten'>, snapshot: ObjectRef, writerId: Buffer): Forgotten | undefined {
  return state.forgotten.get(refKey(snapshot))?.find((entry) => maySpeakOf(entry.writerId, writerId))
}

/** Whether a record of `recordWriter` may speak of snapshots of `snapshotWriter`: its own, or any where it is the root's. */
export function maySpeakOf(recordWriter: Buffer, snapshotWriter: Buffer): boolean {
  return recordWriter.equals(ROOT_WRITER_ID) || recordWriter.equals(snapshotWriter)
}

/** Adds up what all lists and records say. */
export function collectionState(loaded: {
  lists: readonly LoadedList[]
  forgets: readonly LoadedForget[]
  refused: CollectionState['refused']
}): CollectionState {
  const condemnedLists: LoadedList<CondemnedList>[] = []
  const revivedLists: LoadedList<RevivedList>[] = []
  const deletionLists: LoadedList<DeletionList>[] = []
  for (const { list, storedAt } of loaded.lists) {
    if (list.kind === 'condemned') condemnedLists.push({ list, storedAt })
    else if (list.kind === 'revived') revivedLists.push({ list, storedAt })
    else deletionLists.push({ list, storedAt })
  }
  const revived = new Set<string>()
  for (const { list } of revivedLists)
    for (const { list: from, packs } of list.from) for (const pack of packs) revived.add(`${refKey(from)} ${pack.random}`)
  const condemned = new Map<string, Condemned>()
  for (const { list, storedAt } of condemnedLists.toSorted((a, b) => a.storedAt - b.storedAt))
    for (const pack of list.packs) {
      if (condemned.has(pack.random) || revived.has(`${refKey(list.ref)} ${pack.random}`)) continue
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
    refused: loaded.refused,
    condemned,
    forgotten: forgottenBy(loaded.forgets),
  }
}

/** An undone entry is undone in every record that holds it: one that was merged into another is not forgotten again by that. */
function forgottenBy(forgets: readonly LoadedForget[]): Map<string, Forgotten[]> {
  const undone = new Map<string, Set<string>>()
  for (const { record } of forgets)
    for (const { record: from, snapshot } of record.undone) {
      const known = undone.get(refKey(from)) ?? new Set()
      undone.set(refKey(from), known.add(refKey(snapshot)))
    }
  const forgotten = new Map<string, Forgotten[]>()
  for (const { record, storedAt } of forgets.toSorted((a, b) => a.storedAt - b.storedAt))
    for (const entry of record.entries) {
      const name = refKey(entry.snapshot)
      if (undone.get(refKey(record.ref))?.has(name) === true) continue
      const spoken = { ...entry, record: record.ref, writerId: record.writerId, since: storedAt }
      forgotten.set(name, [...(forgotten.get(name) ?? []), spoken])
    }
  return forgotten
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
