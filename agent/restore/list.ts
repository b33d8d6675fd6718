// What a snapshot holds, as `holdfast ls` shows it: entries in order, one at a time, in bounded memory.
import type { ReadKeys } from '../keys/keys.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { Entry } from '../repository/tree.ts'
import type { View } from '../repository/view.ts'
import { readPast } from './read-past.ts'
import { createSelector } from './selection.ts'
import { entryPath, walkTree } from './tree-reader.ts'

export type ListOptions = {
  readonly repository: Repository
  readonly view: View
  readonly keys: ReadKeys
  readonly snapshot: OpenedSnapshot
  /** Absolute; what is at it and below. Default: everything. */
  readonly path?: Buffer | undefined
  /** False shows what is at the path, and one level below where that is a directory. */
  readonly recursive?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export type ListedEntry = {
  /** Absolute, as it was when it was backed up. */
  readonly path: Buffer
  readonly entry: Entry
  /** Set where what is in this directory, or some of it, cannot be read. */
  readonly error?: HoldfastError | undefined
}

/**
 * Entries in byte order of names, directories before what is in them; directories that only lead to the path are left out. Rejects with
 * `not-found` where the snapshot has nothing at `path`, `grant-required`, or what the store says. A directory that is damaged, or
 * `unread`, comes again with its error.
 */
export async function* listEntries(options: ListOptions): AsyncGenerator<ListedEntry> {
  const { repository, view, keys, snapshot, signal } = options
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const selector = createSelector(
    options.path === undefined ? { kind: 'whole' } : { kind: 'paths', paths: [options.path] },
    repository.keys.recordKey,
  )
  const top = options.path === undefined ? 0 : options.path.toString('latin1').split('/').filter(Boolean).length
  const shallow = options.recursive === false
  let found = options.path === undefined || top === 0
  for await (const step of walkTree({
    reader,
    root: snapshot.structure.root,
    bounds: snapshot.structure,
    choose: selector.choose,
    signal,
    ...(shallow ? { maxDepth: top + 1 } : {}),
  })) {
    const { directory } = step
    if (step.step === 'failed') {
      if (directory.parent === undefined) throw step.error
      yield { path: directory.path, entry: directory.entry!, error: step.error }
    } else if (step.step === 'enter') {
      if (!directory.selected || directory.entry === undefined) continue
      found = true
      yield { path: directory.path, entry: directory.entry }
    } else if (step.step === 'entries')
      for (const entry of step.entries) {
        found = true
        yield { path: entryPath(directory, entry.name), entry }
      }
  }
  if (!found) throw new HoldfastError('not-found', `the snapshot has nothing at this path: 'holdfast ls' without a path shows what it has`)
}
