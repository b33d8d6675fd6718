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
import {
  INTERRUPTED,
  NO_TOTALS,
  recorder,
  startedHeader,
  storePlace,
  type Act,
  type FileAct,
  type Recorder,
  type RecoveryAct,
  type StartedHeader,
} from './recorder.ts'
import { tallyFiles } from './restore-task.ts'
import { openStateDirectory, type StateDirectory } from './state-directory.ts'

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
  const mark = markAlive(directory, records, act)
  return {
    files: (files) => {
      records.files(act, files, options.recordKey)
      tally.add(files)
    },
    ended: (outcome, code) => {
      records.ended(mark.header, {
        outcome,
        code,
        totals: outcome === 'cancelled' && tally.totals().files === 0 ? NO_TOTALS : tally.totals(),
      })
      mark.remove()
      journalDirectory.close()
      directory.close()
    },
  }
}

/** What a process says of the act that it is at; `after` as `Recorder.prepare` gives it. */
type Mark = ReturnType<Recorder['prepare']>

const MARK = /^local-run_[0-9a-f]{32}\.json$/
const MARK_BYTES_MAX = 64 * 1024

/**
 * Journals that an act of this process begins, and says before which it is; the kernel lets go of the lock with the process, and so a daemon sees that
 * it died. Throws as `Recorder.prepare` does; then it did not begin.
 */
export function markAlive(directory: StateDirectory, records: Recorder, act: Act): { header: StartedHeader; remove: () => void } {
  const { fileSystem } = directory
  const mark: Mark = records.prepare(act)
  const name = `local-${act.runId}.json`
  const fd = fileSystem.open(directory.fd, Buffer.from(name), 'create')
  fileSystem.lock?.(fd, true)
  fileSystem.write(fd, Buffer.from(JSON.stringify(mark)), 0)
  fileSystem.sync(fd)
  fileSystem.sync(directory.fd)
  records.started(mark.header)
  return {
    header: mark.header,
    remove: () => {
      directory.remove(name)
      fileSystem.close(fd)
    },
  }
}

/** Journals the end of local acts (recoveries, and backups of local-run.ts) whose processes died; called when the daemon starts. */
export function endDeadRecoveries(directory: StateDirectory, records: Recorder): void {
  const { fileSystem } = directory
  for (const name of directory.names()) {
    if (!MARK.test(name)) continue
    const fd = fileSystem.open(directory.fd, Buffer.from(name), 'update')
    try {
      const isAlive = fileSystem.lock?.(fd, false) === false
      const bytes = directory.read(name, MARK_BYTES_MAX)
      // Empty: its process is just about to write it, or died before anything began.
      if (isAlive || bytes === undefined || bytes.length === 0) continue
      const mark = parseOrNothing(bytes)
      const header = startedHeader(mark?.header)
      if (header !== undefined && records.standOf(header, Number(mark?.after)) === 'begun')
        records.ended(header, { ...INTERRUPTED, totals: NO_TOTALS })
      directory.remove(name)
    } finally {
      fileSystem.close(fd)
    }
  }
}

/** A mark that a crash tore says nothing: it was written before anything began. */
function parseOrNothing(bytes: Buffer): Partial<Mark> | undefined {
  try {
    return JSON.parse(bytes.toString('utf8')) as Partial<Mark>
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
