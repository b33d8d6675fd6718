// What a restore does where the store holds an object and does not give it, as a disk with a bad sector does, or a bucket that has moved one to a class
// that has to be thawed: nobody can look, so it is not damage (reference bug B21), and one pack less is no reason to keep all else from its owner. Each
// is asked for twice; where the store answers otherwise, what needs it is `unread`, and the restore ends with that when it has brought back the rest.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { footersOf } from '../repository/footer-reader.ts'
import { REPOSITORY_OBJECT, type Repository } from '../repository/repository.ts'
import type { View } from '../repository/view.ts'

const NOT_GIVEN = ['store-unreachable', 'store-refused'] as const

export type ReadPast = {
  readonly store: Pick<Store, 'getRange'>
  readonly footers: (signal?: AbortSignal) => Promise<View>
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
  return {
    store: {
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
    },
    footers: (signal) => twice(() => footersOf(repository)(signal), { signal }),
  }
}
