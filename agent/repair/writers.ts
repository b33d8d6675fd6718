// Who wrote what: before a repair relies on signatures, the rosters that know the writers must open.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import type { Repository } from '../repository/repository.ts'

/** Throws `damaged` where a roster does not open: without it the objects of a writer that it names would look forged. */
export function requireRosters({ refusedRosters }: Repository, state: Pick<CollectionState, 'replacedByRoot'>): void {
  const isOpen = (name: string): boolean => !state.replacedByRoot.has(name.slice('rosters/'.length))
  const first = refusedRosters.find(({ name, error }) => error.code === 'damaged' && isOpen(name))
  if (first === undefined) return
  throw new HoldfastError(
    'damaged',
    `${first.error.message}. Whose word counts cannot be told without it, so nothing was repaired: publish the roster again (holdfast domain roster publish)`,
    { cause: first.error },
  )
}
