// What a restore does where the store holds an object and does not give it, as a disk with a bad sector does, or a bucket that has moved one to a class
// that has to be thawed: nobody can look, so it is not damage (reference bug B21), and one pack less is no reason to keep all else from its owner. Each
// is asked for twice; where the store answers otherwise, what needs it is `unread`, and the restore ends with that when it has brought back the rest.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type FooterSource, footersOf } from '../repository/footer-reader.ts'
import type { ByFooters } from '../repository/pack-reader.ts'
import { REPOSITORY_OBJECT, type Repository } from '../repository/repository.ts'
import { loadWholeView, type WholeView } from '../repository/whole-view.ts'

const NOT_GIVEN = ['store-unreachable', 'store-refused'] as const

export type ReadPast = {
  readonly store: FooterSource['store']
  readonly footers: (signal?: AbortSignal) => Promise<ByFooters>
}

/** The reads of a restore. They throw `unread` for what the store does not give while it answers otherwise, at once where the same bytes were asked for before. */
export function readPast(repository: Repository): ReadPast {
  const { store } = repository
  const known = new Map<string, HoldfastError>()
  const twice = async <T>(read: () => Promise<T>, { signal }: { signal?: AbortSignal | undefined }): Promise<T> => {
    try {
      return await read()
    } catch (error) {
      if (!isHoldfastError(error, ...NOT_GIVEN)) throw error
      // Rejects where the store is away altogether: then there is nothing to go on with.
      await store.head(REPOSITORY_OBJECT, { signal })
    }
    try {
      return await read()
    } catch (error) {
      if (!isHoldfastError(error, ...NOT_GIVEN)) throw error
      throw new HoldfastError('unread', error.message, { cause: error, fields: error.fields })
    }
  }
  const past: FooterSource['store'] = {
    list: (prefix, options) => store.list(prefix, options),
    getRange: async (name, range, options) => {
      const bytes = `${name} ${range.offset} ${range.length}`
      const before = known.get(bytes)
      if (before !== undefined) throw before
      try {
        return await twice(() => store.getRange(name, range, options), options ?? {})
      } catch (error) {
        if (isHoldfastError(error, 'unread')) known.set(bytes, error)
        throw error
      }
    },
  }
  return { store: past, footers: footersOf({ ...repository, store: past }) }
}

/** The whole view for a restore: without the packs in no index file that the store does not give, which are in `refused`. */
export function wholeViewPast(repository: Repository, signal?: AbortSignal): Promise<WholeView> {
  return loadWholeView({ ...repository, store: readPast(repository).store }, signal)
}
