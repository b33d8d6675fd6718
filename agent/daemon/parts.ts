// What the daemon is made of, in one place: seams, state and the two engines. The command line fills it in for real, tests with their own.
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { BackupOptions, BackupResult } from '../backup/backup-types.ts'
import { openStateDirectory } from '../backup/state-lock.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import type { ReadKeys, WriteKeys } from '../keys/keys.ts'
import { directoryObjectCache } from '../repository/object-cache.ts'
import { openRepository, type Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { View } from '../repository/view.ts'
import { openStore } from '@holdfast/shared/store/location.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { ownValue, type AgentConfig, type StoreAccess } from './agent-config.ts'
import type { runCollection } from './collection-task.ts'
import type { FileAct } from './recorder.ts'

/** What the daemon asks of a restore: `agent/restore` behind an adapter, or a test's own. */
export type RestoreWork = {
  readonly repository: Repository
  readonly view: View
  readonly keys: ReadKeys
  readonly snapshot: OpenedSnapshot
  /** Absolute; the restore cannot leave it. */
  readonly target: Buffer
  readonly selection: { readonly kind: 'whole' } | { readonly kind: 'tokens'; readonly tokens: ReadonlySet<string> }
  readonly overwrite: 'beside' | 'changed' | 'always' | 'never'
  readonly fs: FileSystem
  /** A drill: what was restored is compared with the snapshot afterwards, and what differs is told of as failed. */
  readonly compare: boolean
  readonly signal: AbortSignal
  readonly onProgress: (progress: RestoreStand) => void
  /** Told of files that were restored, kept or failed, in batches; a throw aborts the restore. Paths are absolute, as in the snapshot. */
  readonly onFiles: (files: readonly FileAct[]) => void
}
export type RestoreStand = {
  readonly done: { readonly files: number; readonly bytes: number }
  readonly total: { readonly files: number; readonly bytes: number }
}
export type RestoreOutcome = {
  /** `incomplete`: something could not be restored as it was. `damaged`: a comparison found that something is not what was backed up. */
  readonly outcome: 'done' | 'incomplete' | 'damaged'
  readonly files: number
  readonly bytes: number
  readonly kept: number
  readonly failed: number
}

export type Engines = {
  readonly backup: (options: BackupOptions) => Promise<BackupResult>
  readonly restore: (work: RestoreWork) => Promise<RestoreOutcome>
  /** States needs, forgets and condemns in one store. */
  readonly collect: typeof runCollection
  /** Opens a store with what the appliance's configuration says of it. */
  readonly openStore: (access: StoreAccess) => Promise<Store>
}

/** Opens a store of the configuration with its own credentials. */
export function storeOpener(clock: Clock, random: Random): Engines['openStore'] {
  return ({ location, ...config }) =>
    openStore(location, Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined)), { clock, random })
}

/** The store that `storeId` stands for here. Throws `policy` where the configuration does not have it. */
export function storeAccess(config: AgentConfig, storeId: string): StoreAccess {
  const access = ownValue(config.stores, storeId)
  if (access === undefined) throw new HoldfastError('policy', `this appliance does not know store ${storeId}; add it to agent.json`)
  return access
}

/** Where a run keeps copies of index files and snapshots, so that it fetches each once. */
export type CopiesPlace = { readonly fileSystem: FileSystem; readonly path: Buffer }

/** Opens store and repository, gives them to `work`, and closes the store whatever happens. */
export async function withRepository<T>(
  options: { engines: Engines; config: AgentConfig; storeId: string; keys: WriteKeys; signal: AbortSignal; copies?: CopiesPlace },
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  const store = await options.engines.openStore(storeAccess(options.config, options.storeId))
  try {
    const directory = options.copies === undefined ? undefined : openStateDirectory(options.copies.fileSystem, options.copies.path)
    try {
      const cache = directory === undefined ? undefined : directoryObjectCache(options.copies!.fileSystem, directory)
      return await work(await openRepository({ store, keys: options.keys.structure, cache, signal: options.signal }))
    } finally {
      if (directory !== undefined) options.copies!.fileSystem.close(directory)
    }
  } finally {
    await store.close()
  }
}

/** The reason of a signal where a person asked for the end, told apart from a daemon that stops and goes on another time. */
export function requestedCancel(what: string): HoldfastError {
  return new HoldfastError('cancelled', `${what} was cancelled on request`, { fields: { requested: true } })
}

export function isRequestedCancel(reason: unknown): boolean {
  return isHoldfastError(reason, 'cancelled') && reason.fields['requested'] === true
}
