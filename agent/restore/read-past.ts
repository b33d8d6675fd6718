// What a restore does where the store holds an object and does not give it, as a disk with a bad sector does, or a bucket that has moved one to a class
// that has to be thawed: nobody can look, so it is not damage (reference bug B21), and one pack less is no reason to keep all else from its owner. It
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

/** What an object did not give; the error is the first one's, as those of a request can hold much. */
type NotGiven = { readonly error: HoldfastError; readonly ranges: { readonly offset: number; readonly length: number }[] }

/**
 * The reads of a restore. They throw `unread` for what the store does not give while it answers otherwise: at once where bytes of it were asked for in
 * vain before, and after one try where others of the same object were. A store may take minutes to fail, and a pack is asked for hundreds of times.
 */
export function readPast(repository: Repository): ReadPast {
  const { store } = repository
  const known = new Map<string, NotGiven>()
  const past: FooterSource['store'] = {
    list: (prefix, options) => store.list(prefix, options),
    getRange: async (name, range, options) => {
      const { offset, length } = range
      const within = (part: { offset: number; length: number }): boolean =>
        part.offset >= offset && part.offset + part.length <= offset + length
      for (let isAgain = known.has(name); ; isAgain = true) {
        const before = known.get(name)
        if (before?.ranges.some(within) === true) throw before.error
        try {
          return await store.getRange(name, range, options)
        } catch (error) {
          if (!isHoldfastError(error, ...NOT_GIVEN)) throw error
          // Rejects where the store is away altogether: then there is nothing to go on with.
          await store.head(REPOSITORY_OBJECT, { signal: options?.signal })
          if (!isAgain) continue
          const unread = known.get(name)?.error ?? new HoldfastError('unread', error.message, { cause: error, fields: error.fields })
          const ranges = known.get(name)?.ranges ?? []
          known.set(name, { error: unread, ranges: [...ranges, { offset, length }] })
          throw unread
        }
      }
    },
  }
  return { store: past, footers: footersOf({ ...repository, store: past }) }
}

/**
 * The whole view for a restore: without the packs in no index file that the store does not give, which are in `refused`. For readers alone that ask the
 * footers for what it lacks; a grant made by it would lack keys.
 */
export function wholeViewPast(repository: Repository, signal?: AbortSignal): Promise<WholeView> {
  return loadWholeView({ ...repository, store: readPast(repository).store }, signal)
}
