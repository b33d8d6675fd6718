// A snapshot that lacks something which was condemned before it was stored, by a list that it had not seen, was never reported good: its run looks at the
// lists once more after the snapshot, and makes another one (design section 7). It is unfinished, not damaged, and no parent. What was condemned after it
// was stored, or taken back, explains nothing: that would hide damage of a good one. Pure.
import { refKey } from '@holdfast/shared/format/layout.ts'
import { type CollectionState, type CondemnedList, revivedBy } from '../repository/collection-state.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'

/**
 * Of the packs that should have one blob of a snapshot those that it relied on: none that it had seen condemned, as its run looked that everything stands
 * elsewhere too. All, where nothing else is known.
 */
export function reliedOn(state: CollectionState, { structure }: OpenedSnapshot): (packs: readonly string[]) => readonly string[] {
  const seen = new Set(structure.lists.map(refKey))
  const isRevived = revivedBy(state.revivedLists)
  const avoided = new Set<string>()
  for (const { list } of state.condemnedLists)
    if (seen.has(refKey(list.ref))) for (const { random } of list.packs) if (!isRevived(list.ref, random)) avoided.add(random)
  return (packs) => {
    const relied = packs.filter((random) => !avoided.has(random))
    return relied.length > 0 ? relied : packs
  }
}

/** Packs that lists condemned which the snapshot had not seen and which the store had before it, and that are not taken back. `storedAt` is when the store received the snapshot. */
function condemnedUnseen(state: CollectionState, { structure }: OpenedSnapshot, storedAt: number): ReadonlySet<string> {
  const seen = new Set(structure.lists.map(refKey))
  const isRevived = revivedBy(state.revivedLists)
  const unseen = new Set<string>()
  // Stores tell times in whole seconds: in the same one, a list that counted the snapshot came after it.
  const isLater = ({ kept }: CondemnedList): boolean => kept.some((ref) => refKey(ref) === refKey(structure.ref))
  for (const { list, storedAt: condemnedAt } of state.condemnedLists)
    if (!seen.has(refKey(list.ref)) && condemnedAt <= storedAt && !isLater(list))
      for (const { random } of list.packs) if (!isRevived(list.ref, random)) unseen.add(random)
  return unseen
}

/** Whether what `packs` (random parts of names, those relied on) held and the snapshot lacks was condemned by lists that it had not seen, all of it. */
export function isUnfinished(state: CollectionState, snapshot: OpenedSnapshot, storedAt: number, packs: Iterable<string>): boolean {
  const unseen = condemnedUnseen(state, snapshot, storedAt)
  const lacking = [...packs]
  return lacking.length > 0 && lacking.every((random) => unseen.has(random))
}

/** Whether a snapshot might turn out to be unfinished, as far as lists tell without a look at what it needs. Rare: a list came between the last look of its run and it. */
export function mayBeUnfinished(state: CollectionState, snapshot: OpenedSnapshot, storedAt: number): boolean {
  return condemnedUnseen(state, snapshot, storedAt).size > 0
}
