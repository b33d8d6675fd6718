// A snapshot that lacks something a collection took, and that had not seen the list by which it was condemned, was never reported good: its run looks at
// the lists once more after the snapshot, and makes another one (design section 7). It is unfinished, not damaged, and no parent. Pure.
import { refKey } from '@holdfast/shared/format/layout.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'

/** Whether what `packs` (random parts of names) held and the snapshot lacks was condemned by lists that it had not seen, all of it. */
export function isUnfinished(state: CollectionState, { structure }: OpenedSnapshot, packs: Iterable<string>): boolean {
  const seen = new Set(structure.lists.map(refKey))
  const unseen = new Set<string>()
  for (const { list } of state.condemnedLists) if (!seen.has(refKey(list.ref))) for (const { random } of list.packs) unseen.add(random)
  const lacking = [...packs]
  return lacking.length > 0 && lacking.every((random) => unseen.has(random))
}
