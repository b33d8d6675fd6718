// The view held against what the store has: packs that an index file names but that are gone or cut are told apart, and packs that no index file
// names are read by their footers, which are the truth (design section 3, point 7). One listing of packs; footers only where an index lacks them.
import { type HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { indexFromFooters, type OpenedFooter, readFooter } from './footer-reader.ts'
import type { IndexFile } from './index-file.ts'
import { listRefs, mapBounded, type Repository } from './repository.ts'
import { createView, type View } from './view.ts'

export type WholeView = {
  readonly view: View
  /** The part of the view that index files tell of. */
  readonly indexed: View
  /** Index files and packs that do not open, by name. */
  readonly refused: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Random parts of the names of packs that are named by an index file and are not there, or not as long as they should be. */
  readonly gone: ReadonlySet<string>
  /** Packs in no index file: left by runs that ended early, by runs under way, or because index files were lost. */
  readonly unindexed: readonly OpenedFooter[]
}

const PACKS_PER_FILE = 256

export async function loadWholeView(repository: Repository, signal?: AbortSignal): Promise<WholeView> {
  const { view, refused } = await repository.loadView(signal)
  const listed = await listRefs(repository.store, 'packs/', signal)
  const bytesOf = new Map(listed.map((ref) => [ref.random, ref.info.bytes]))
  const indexed = new Set<string>()
  const gone = new Set<string>()
  for (const pack of view.packs()) {
    indexed.add(pack.random)
    if (bytesOf.get(pack.random) !== pack.bytes) gone.add(pack.random)
  }
  const all = [...refused]
  const footers = await mapBounded(
    listed.filter((ref) => !indexed.has(ref.random)),
    8,
    async (ref) => {
      try {
        return await readFooter(repository, ref, ref.info.bytes, signal)
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
        all.push({ name: ref.info.name, error })
        return undefined
      }
    },
  )
  const unindexed = footers.filter((footer) => footer !== undefined)
  const extra: IndexFile[] = []
  for (let i = 0; i < unindexed.length; i += PACKS_PER_FILE)
    extra.push({
      ...indexFromFooters(unindexed.slice(i, i + PACKS_PER_FILE)),
      ref: { session: '0'.repeat(32), random: i.toString(16).padStart(32, '0') },
    })
  return { view: extra.length === 0 ? view : createView([...view.files, ...extra]), indexed: view, refused: all, gone, unindexed }
}
