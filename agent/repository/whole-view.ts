// The view held against what the store has: packs that an index file names but that are gone or cut are told apart, and packs that no index file
// names are read by their footers, which are the truth (design section 3, point 7). One listing of packs; footers only where an index lacks them.
import { type FooterSource, indexFilesFromFooters, type OpenedFooter, readFooters, type RefusedObject } from './footer-reader.ts'
import { listRefs, type Repository } from './repository.ts'
import { createView, type View } from './view.ts'

export type WholeView = {
  readonly view: View
  /** The part of the view that index files tell of. */
  readonly indexed: View
  /** Index files and packs that do not open, by name. */
  readonly refused: readonly RefusedObject[]
  /** Random parts of the names of packs that are named by an index file and are not there, or not as long as they should be. */
  readonly gone: ReadonlySet<string>
  /** Packs in no index file: left by runs that ended early, by runs under way, or because index files were lost. */
  readonly unindexed: readonly OpenedFooter[]
}

/** Throws what the store says; a pack that is `unread` is in `refused` instead, as one whose footer does not open. */
export async function loadWholeView(repository: FooterSource & Pick<Repository, 'loadView'>, signal?: AbortSignal): Promise<WholeView> {
  const { view, refused } = await repository.loadView(signal)
  const listed = await listRefs(repository.store, 'packs/', signal)
  const bytesOf = new Map(listed.map((ref) => [ref.random, ref.info.bytes]))
  const indexed = new Set<string>()
  const gone = new Set<string>()
  for (const pack of view.packs()) {
    indexed.add(pack.random)
    if (bytesOf.get(pack.random) !== pack.bytes) gone.add(pack.random)
  }
  const found = await readFooters(
    repository,
    listed.filter((ref) => !indexed.has(ref.random)),
    signal,
  )
  const extra = indexFilesFromFooters(found.footers)
  return {
    view: extra.length === 0 ? view : createView([...view.files, ...view.lastResort, ...extra]),
    indexed: view,
    refused: [...refused, ...found.refused],
    gone,
    unindexed: found.footers,
  }
}
