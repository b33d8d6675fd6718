// Snapshots that are gone and of which no record says so (history-gaps.ts), as check and repair tell of them. A listing is a hint (reference bug B14): a
// gap that one listing shows is looked for in another one, and a snapshot whose name is known is asked for by it, before anything is called gone.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { LIMITS, objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { type HistoryGap, historyGaps } from '../collection/history-gaps.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import { readObject } from '../repository/read-object.ts'
import { listRefs, mapBounded, type Repository, type SnapshotListing } from '../repository/repository.ts'
import { decodeSnapshot, type OpenedSnapshot } from '../repository/snapshot.ts'

/** `error` is `not-found` where it is gone, and something else where that could not be told. */
export type MissingSnapshot = { readonly object: string; readonly error: HoldfastError }

/** What a first look showed: `present` are all snapshots that open, forgotten ones too; `listed` all names, by `refKey`. */
export type SeenHistory = {
  readonly state: CollectionState
  readonly present: readonly OpenedSnapshot[]
  readonly listed: ReadonlySet<string>
}

const AT_ONCE = 8

/** Every snapshot that is gone without a record of it. Rejects with `cancelled` alone. */
export async function missingSnapshots(repository: Repository, seen: SeenHistory, signal?: AbortSignal): Promise<MissingSnapshot[]> {
  if (historyGaps(seen.state, seen.present, seen.listed).length === 0) return []
  try {
    const state = await repository.loadCollection(signal)
    const again = await repository.listSnapshots(signal, state)
    const listed = new Set([...seen.listed, ...(await listRefs(repository.store, 'snapshots/', signal)).map(refKey)])
    const present = [...seen.present, ...again.snapshots, ...again.forgotten]
    const counted = historyGaps(state, present, listed).flatMap((gap) => (gap.kind === 'counted' ? [gap.snapshot] : []))
    const unread = new Map<string, MissingSnapshot>()
    await mapBounded(counted, AT_ONCE, async (ref) => {
      const object = objectName('snapshot', ref)
      try {
        present.push(await openByName(repository, ref, signal))
      } catch (error) {
        if (!isHoldfastError(error) || error.code === 'cancelled') throw error
        if (error.code === 'not-found') return
        unread.set(refKey(ref), { object, error })
      }
      listed.add(refKey(ref))
    })
    const opened = new Set(present.map(({ structure }) => refKey(structure.ref)))
    const areClosed = [...listed].some((name) => !opened.has(name))
    return [...unread.values(), ...historyGaps(state, present, listed).map((gap) => missingOf(gap, again, areClosed))]
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'cancelled') throw error
    return [{ object: 'snapshots/', error }]
  }
}

async function openByName({ store, keys }: Repository, ref: ObjectRef, signal?: AbortSignal): Promise<OpenedSnapshot> {
  return decodeSnapshot(await readObject(store, objectName('snapshot', ref), LIMITS.snapshotBytes, signal), ref, keys)
}

/** `areClosed`: some snapshots are there and do not open, so that their hashes are not known. */
function missingOf(gap: HistoryGap, { refused }: SnapshotListing, areClosed: boolean): MissingSnapshot {
  const next =
    "Either the store shows too little or somebody deleted it, and nothing is collected meanwhile. Where it is known to be lost, 'holdfast forget --missing' says so on record"
  if (gap.kind === 'counted') {
    const id = gap.snapshot.random.slice(0, 12)
    const message = `snapshot ${id}, which a list or record counts, is gone without a record of it. ${next}`
    return { object: objectName('snapshot', gap.snapshot), error: new HoldfastError('not-found', message) }
  }
  // What another key or another version would open says nothing of what is gone.
  const untold = refused.find(({ error }) => !isHoldfastError(error, 'damaged', 'not-found'))
  const which = `snapshot ${gap.sequence} of series ${gap.series.toString('hex').slice(0, 8)}, the one before ${gap.of.random.slice(0, 12)},`
  const message = `${which} is gone without a record of it${areClosed ? ', or is one of those that do not open' : ''}. ${next}`
  return { object: 'snapshots/', error: new HoldfastError(untold?.error.code ?? 'not-found', message) }
}
