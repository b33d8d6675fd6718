// A snapshot that lacks something which was condemned before it was stored, by a list that it had not seen, was never reported good: its run looks at the
// lists once more after the snapshot, and makes another one (design section 7). It is unfinished, not damaged, and no parent. What was condemned after it
// was stored, or taken back, explains nothing: that would hide damage of a good one. Pure.
import { refKey } from '@holdfast/shared/format/layout.ts'
import type { CollectionState, CondemnedList } from '../repository/collection-state.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'

/**
 * Whether what `packs` (random parts of names) held and the snapshot lacks was condemned by lists that it had not seen, all of it. `storedAt` is when the
 * store received the snapshot.
 */
export function isUnfinished(state: CollectionState, { structure }: OpenedSnapshot, storedAt: number, packs: Iterable<string>): boolean {
  const seen = new Set(structure.lists.map(refKey))
  const revived = new Set<string>()
  for (const { list } of state.revivedLists)
    for (const { list: from, packs: back } of list.from) for (const { random } of back) revived.add(`${refKey(from)} ${random}`)
  const unseen = new Set<string>()
  // Stores tell times in whole seconds: in the same one, a list that counted the snapshot came after it.
  const isLater = ({ kept }: CondemnedList): boolean => kept.some((ref) => refKey(ref) === refKey(structure.ref))
  for (const { list, storedAt: condemnedAt } of state.condemnedLists)
    if (!seen.has(refKey(list.ref)) && condemnedAt <= storedAt && !isLater(list))
      for (const { random } of list.packs) if (!revived.has(`${refKey(list.ref)} ${random}`)) unseen.add(random)
  const lacking = [...packs]
  return lacking.length > 0 && lacking.every((random) => unseen.has(random))
}
