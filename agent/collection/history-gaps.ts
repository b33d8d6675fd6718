// Gaps in history: a snapshot may be absent only if a signed forget record says so (design section 7). A short listing and a deleted snapshot look the
// same, and both must stop a collection before it takes what that snapshot needs. Pure.
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'

export type HistoryGap =
  /** A snapshot that an earlier collection counted, or that somebody took back, is neither there nor forgotten. */
  | { readonly kind: 'counted'; readonly snapshot: ObjectRef }
  /** The snapshot before one of a series is neither there nor forgotten; its hash is known. */
  | { readonly kind: 'predecessor'; readonly of: ObjectRef; readonly series: Buffer; readonly sequence: number; readonly hash: Buffer }

/** Every gap, each once. `present` are all snapshots that open, forgotten ones too; `listed` all snapshot names, by `refKey`. */
export function historyGaps(state: CollectionState, present: readonly OpenedSnapshot[], listed: ReadonlySet<string>): HistoryGap[] {
  const gaps: HistoryGap[] = []
  const told = new Set<string>()
  const once = (name: string, gap: HistoryGap): void => {
    if (told.has(name)) return
    told.add(name)
    gaps.push(gap)
  }
  const isGone = (ref: ObjectRef): boolean => !listed.has(refKey(ref)) && !state.forgotten.has(refKey(ref))
  for (const { list } of state.condemnedLists)
    for (const ref of list.kept) if (isGone(ref)) once(refKey(ref), { kind: 'counted', snapshot: ref })
  // A collection that was deleting already may have overtaken whoever took it back.
  for (const { record } of state.forgets)
    for (const { snapshot } of record.undone) if (isGone(snapshot)) once(refKey(snapshot), { kind: 'counted', snapshot })
  const hashes = new Set(present.map(({ hash }) => hash.toString('latin1')))
  for (const entries of state.forgotten.values()) for (const { hash } of entries) hashes.add(hash.toString('latin1'))
  for (const { structure } of present) {
    const { previous, ref, series, sequence } = structure
    if (previous.every((byte) => byte === 0) || hashes.has(previous.toString('latin1'))) continue
    once(previous.toString('hex'), { kind: 'predecessor', of: ref, series, sequence: sequence - 1, hash: previous })
  }
  return gaps
}
