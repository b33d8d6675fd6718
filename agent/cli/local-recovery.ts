// Recoveries at the command line of an enrolled appliance are journalled like any other (design section 8): before the first byte and at the end.
// Anywhere else, and on a dry run, there is no journal and nothing to tell.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { FileAct } from '../daemon/recorder.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { Repository } from '../repository/repository.ts'
import type { RestoredEntry } from '../restore/report.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { findAgent } from './agent-identity.ts'
import type { Context } from './context.ts'

export type Recovery = {
  readonly files: (files: readonly FileAct[]) => void
  /** One entry of a restore; told on in batches, each of which costs one fsync of the journal. */
  readonly entry: (entry: RestoredEntry) => void
}
const NOWHERE: Recovery = { files: () => undefined, entry: () => undefined }

/** Gives `work` a place to tell of files; what it throws is journalled as the end of the recovery. */
export async function withRecovery<T>(
  context: Context,
  what: { repository: Repository; snapshot: OpenedSnapshot; dryRun: boolean; purpose?: 'restore-test' },
  work: (recovery: Recovery) => Promise<T>,
  /** True, or the code to say it with, where it did not end well. */
  isIncomplete: (result: T) => boolean | string,
): Promise<T> {
  const { repository, snapshot } = what
  const agent = what.dryRun ? undefined : await findAgent(context, repository.description.domainId)
  if (agent === undefined) return work(NOWHERE)
  const stateDirectory = agent.directory.path
  agent.directory.close()
  const { journalLocalRecovery } = await import('../daemon/local-recovery.ts')
  const { batched, fileActOf } = await import('../daemon/engines.ts')
  const { readAgentConfig } = await import('./agent-config-file.ts')
  const journalled = journalLocalRecovery({
    fileSystem: posixFileSystem,
    clock: context.clock,
    random: context.random,
    stateDirectory,
    config: readAgentConfig(context).config,
    ...(context.uid === undefined ? {} : { uid: context.uid }),
    snapshotId: snapshot.structure.ref.random,
    series: snapshot.structure.series.toString('hex'),
    location: repository.store.location,
    recordKey: repository.keys.recordKey,
    ...(what.purpose === undefined ? {} : { purpose: what.purpose }),
  })
  const entries = batched(journalled.files)
  try {
    const result = await work({ files: journalled.files, entry: (entry) => entries.add(fileActOf(entry)) })
    entries.flush()
    const incomplete = isIncomplete(result)
    if (incomplete === false) journalled.ended('ok')
    else journalled.ended('incomplete', incomplete === true ? 'incomplete' : incomplete)
    return result
  } catch (error) {
    entries.flush()
    const isCancelled = context.signal.aborted || isHoldfastError(error, 'cancelled')
    const code = isCancelled ? 'cancelled' : error instanceof HoldfastError ? error.code : 'failed'
    journalled.ended(isCancelled ? 'cancelled' : 'failed', code)
    throw error
  }
}
