// Recoveries at an enrolled appliance's own command line (`holdfast restore`, `holdfast dump`): journalled like any other, before the first byte
// and at the end, by the process that does them; the daemon delivers the records. Without a place in the journal nothing is recovered.
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Outcome, Purpose } from '@holdfast/shared/protocol/common.ts'
import { hex64, label } from '@holdfast/shared/protocol/common.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import { ownValue, type AgentConfig } from './agent-config.ts'
import { agentState, loadAgent } from './agent-state.ts'
import { newRunId } from './backup-task.ts'
import { openJournal } from './journal.ts'
import { beginLocalAct } from './local-act.ts'
import { NO_TOTALS, recorder, storePlace, type FileAct, type RecoveryAct } from './recorder.ts'
import { tallyFiles } from './restore-task.ts'
import { openStateDirectory } from './state-directory.ts'

export type LocalRecovery = {
  /** To be told of files that were restored or read, in batches. Throws `journal-full`, `local-disk`: then stop. */
  readonly files: (files: readonly FileAct[]) => void
  readonly ended: (outcome: Outcome, code?: string) => void
}

export type LocalRecoveryOptions = {
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
  readonly stateDirectory: Buffer
  readonly config: AgentConfig
  readonly uid?: number | undefined
  /** 32 hex digits. */
  readonly snapshotId: string
  /** The series token of the snapshot, 64 hex digits. */
  readonly series?: string | undefined
  /** The source label where it is one; anything else is left out, for it could hold a path. */
  readonly source?: string | undefined
  /** As `formatLocation` writes it; tells which of the configured stores this is. */
  readonly location: string
  /** The key that tokens are made with: `structure.recordKey` of the keys at hand. */
  readonly recordKey: Buffer
  readonly purpose?: Extract<Purpose, 'restore' | 'restore-test'>
}

/** Journals that a recovery begins; returns when that is durable. Throws `not-found` where this appliance is not enrolled. */
export function journalLocalRecovery(options: LocalRecoveryOptions): LocalRecovery {
  const { fileSystem, clock, random, config } = options
  const directory = openStateDirectory({ fileSystem, path: options.stateDirectory, random, uid: options.uid })
  const state = agentState(directory)
  const agent = loadAgent(state)
  const limitBytes = config.journalLimitBytes
  const journalDirectory = directory.below('journal')
  const journal = openJournal({
    directory: journalDirectory,
    agentId: agent.agentId,
    key: agent.key,
    random,
    ...(limitBytes === undefined ? {} : { limitBytes }),
  })
  const records = recorder({ journal, agent, clock })
  const storeId = Object.keys(config.stores).find((id) => ownValue(config.stores, id)?.location === options.location)
  const home = { region: agent.region }
  const act: RecoveryAct = {
    kind: 'recovery',
    runId: newRunId(random),
    snapshotId: options.snapshotId,
    series: hex64.safeParse(options.series).data,
    source: label.safeParse(options.source).data,
    actor: 'local',
    instructionId: null,
    purpose: options.purpose ?? 'restore',
    from: storePlace(state.policies.load(), storeId, home),
    to: home,
  }
  const tally = tallyFiles()
  const begun = beginLocalAct(directory, records, act)
  return {
    files: (files) => {
      records.files(act, files, options.recordKey)
      tally.add(files)
    },
    ended: (outcome, code) => {
      const totals = outcome === 'cancelled' && tally.totals().files === 0 ? NO_TOTALS : tally.totals()
      begun.end({ outcome, code, totals }, [])
      journalDirectory.close()
      directory.close()
    },
  }
}
