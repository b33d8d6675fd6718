// Carries out a deletion list: removes exactly the objects that it names, in its order, each looked at first. What the store does not let go (a lock, a
// missing right) is told with its date and tried again by the next collection.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { endName, objectName, type ObjectRef, packName, sessionName } from '@holdfast/shared/format/layout.ts'
import type { ObjectName, Store } from '@holdfast/shared/store/store.ts'
import type { CollectionState, RefusedObject } from '../repository/collection-state.ts'

export type Locked = { readonly name: ObjectName; readonly bytes: number; readonly until: number | undefined }
export type DeletionReport = {
  readonly objects: number
  readonly packs: number
  readonly bytes: number
  /** What the store refused to remove, and until when it says so. */
  readonly locked: readonly Locked[]
}

/** The name under which an object stands that a deletion list names. */
export function deletableName(name: DeletableName): ObjectName {
  switch (name.kind) {
    case 'session':
      return sessionName(name.session)
    case 'end':
      return endName(name.session)
    case 'pack':
      return packName(name)
    case 'index':
    case 'snapshot':
    case 'list':
    case 'forget':
      return objectName(name.kind, name)
  }
}

/** Everything that deletion lists name: where one of these is not there, it was deleted on record. */
export function deletedOnRecord({ deletionLists }: Pick<CollectionState, 'deletionLists'>): Set<ObjectName> {
  return new Set(deletionLists.flatMap(({ list }) => list.names.map(deletableName)))
}

/** Lists and records that do not open, without those that were deleted on record since they were listed. */
export function unopenedRecords(state: Pick<CollectionState, 'deletionLists' | 'refused'>): RefusedObject[] {
  const deleted = deletedOnRecord(state)
  return state.refused.filter(({ name, error }) => error.code !== 'not-found' || !deleted.has(name))
}

/**
 * Whether a pack that is gone was deleted on record, or may have been before an index file named it: its run slept for weeks and then ended without a
 * snapshot. `deleted` is what `deletedOnRecord` gives. Throws what the store says.
 */
export async function wasCollected(
  store: Store,
  pack: ObjectRef,
  deleted: ReadonlySet<ObjectName>,
  signal?: AbortSignal,
): Promise<boolean> {
  return deleted.has(packName(pack)) || (await store.head(endName(pack.session), { signal })) !== undefined
}

/** Throws what the store says where it cannot be reached; repeating the call removes what is left. */
export async function carryOut(
  store: Store,
  names: readonly DeletableName[],
  options: { signal?: AbortSignal | undefined; onDeleted?: (done: number, total: number) => void } = {},
): Promise<DeletionReport> {
  const { signal } = options
  const locked: Locked[] = []
  let objects = 0
  let packs = 0
  let bytes = 0
  for (const [i, one] of names.entries()) {
    const name = deletableName(one)
    const info = await store.head(name, { signal })
    options.onDeleted?.(i + 1, names.length)
    if (info === undefined) continue
    try {
      await store.remove(name, { signal })
    } catch (error) {
      if (!isHoldfastError(error, 'store-refused')) throw error
      locked.push({ name, bytes: info.bytes, until: info.lockedUntil })
      continue
    }
    objects += 1
    bytes += info.bytes
    if (one.kind === 'pack') packs += 1
  }
  return { objects, packs, bytes, locked }
}
