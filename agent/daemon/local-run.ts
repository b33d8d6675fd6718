// Backups at an enrolled appliance's own command line (`holdfast backup`): journalled like those of a policy, by the process that does them, with
// no policy and no instruction but the person's there (actor `local`). Without room in the journal no run begins. The daemon tells the server of
// the run and its snapshot when it next talks to it, so that the snapshot can be asked for there like any other.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import type { SnapshotReport } from '@holdfast/shared/protocol/agent.ts'
import type { Outcome } from '@holdfast/shared/protocol/common.ts'
import { label, LOCAL_SOURCE } from '@holdfast/shared/protocol/common.ts'
import type { RunTotals } from '@holdfast/shared/protocol/records.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { BackupResult, BackupSource, TransmittedFile } from '../backup/backup-types.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import { ownValue, type AgentConfig } from './agent-config.ts'
import { agentState, loadAgent } from './agent-state.ts'
import { newRunId } from './backup-task.ts'
import { openJournal } from './journal.ts'
import { beginLocalAct } from './local-act.ts'
import { NO_TOTALS, recorder, storePlace, type RunAct } from './recorder.ts'
import { openStateDirectory } from './state-directory.ts'

export type LocalRun = {
  /** Files that became durable; returns when they are journalled. Throws `local-disk`: then stop. */
  readonly transmitted: (files: readonly TransmittedFile[]) => void
  readonly done: (result: BackupResult) => void
  readonly failed: (outcome: Extract<Outcome, 'failed' | 'cancelled'>, code: string) => void
}

type Snapshot = NonNullable<BackupResult['snapshot']>

export type LocalRunOptions = {
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
  readonly stateDirectory: Buffer
  readonly config: AgentConfig
  readonly uid?: number | undefined
  readonly source: BackupSource
  /** The series token, 64 hex digits. */
  readonly series: string
  /** As `formatLocation` writes it; tells which of the configured stores this is. */
  readonly location: string
  readonly recordKey: Buffer
}

/** Journals that a run begins; returns when that is durable. Throws `journal-full`, and `not-found` where this appliance is not enrolled. */
export function journalLocalRun(options: LocalRunOptions): LocalRun {
  const { fileSystem, clock, random, config, recordKey } = options
  const directory = openStateDirectory({ fileSystem, path: options.stateDirectory, random, uid: options.uid })
  const state = agentState(directory)
  const agent = loadAgent(state)
  const journalDirectory = directory.below('journal')
  const limitBytes = config.journalLimitBytes
  const journal = openJournal({
    directory: journalDirectory,
    agentId: agent.agentId,
    key: agent.key,
    random,
    ...(limitBytes === undefined ? {} : { limitBytes }),
  })
  const records = recorder({ journal, agent, clock })
  const home = { region: agent.region }
  const storeId = Object.keys(config.stores).find((id) => ownValue(config.stores, id)?.location === options.location)
  const act: RunAct = {
    kind: 'run',
    runId: newRunId(random),
    actor: 'local',
    instructionId: null,
    purpose: 'backup',
    source: sourceLabel(config, options.source),
    series: options.series,
    from: home,
    to: storePlace(state.policies.load(), storeId, home),
  }
  const startedAt = isoTime(clock.now())
  const begun = beginLocalAct(directory, records, act)
  let sent = { files: 0, bytes: 0, newBytes: 0, changed: 0 }
  const end = (ending: { outcome: Outcome; code?: string; totals: RunTotals; snapshot?: Snapshot }): void => {
    const { outcome, code, totals, snapshot } = ending
    const why = code === undefined ? {} : { code }
    try {
      const made = snapshot === undefined || storeId === undefined ? [] : [{ snapshot: reportOf(snapshot, act, storeId, totals) }]
      const { runId, source } = act
      const run = { runId, kind: 'backup', source, state: outcome, startedAt, endedAt: isoTime(clock.now()), totals, ...why } as const
      begun.end({ outcome, ...why, snapshotId: snapshot?.ref.random, totals }, [...made, { run }])
    } finally {
      journalDirectory.close()
      directory.close()
    }
  }
  return {
    transmitted: (files) => {
      records.files(
        act,
        files.map(({ path, size, newBytes, changed }) => ({
          path,
          size,
          newBytes,
          outcome: changed ? ('changed' as const) : ('ok' as const),
        })),
        recordKey,
      )
      for (const { size, newBytes, changed } of files)
        sent = {
          files: sent.files + 1,
          bytes: sent.bytes + size,
          newBytes: sent.newBytes + newBytes,
          changed: sent.changed + (changed ? 1 : 0),
        }
    },
    done: ({ summary, problems, snapshot, outcome }) => {
      const lost = problems.filter(({ code }) => code !== 'changed')
      records.files(
        act,
        lost.map(({ path, code }) => ({ path, size: 0, newBytes: 0, outcome: 'failed' as const, errno: code })),
        recordKey,
      )
      end({
        outcome: outcome === 'done' ? 'ok' : 'incomplete',
        ...(outcome === 'done' ? {} : { code: 'incomplete' }),
        ...(snapshot === undefined ? {} : { snapshot }),
        totals: {
          ...NO_TOTALS,
          files: summary.files,
          bytes: summary.bytes,
          newBytes: summary.bytesNew,
          reusedBytes: Math.max(0, summary.bytesRead - summary.bytesNew),
          storedBytes: summary.bytesStored,
          unchanged: summary.filesUnchanged,
          failed: lost.length,
          changed: problems.length - lost.length,
        },
      })
    },
    failed: (outcome, code) => end({ outcome, code, totals: { ...NO_TOTALS, ...sent } }),
  }
}

/** Without the tags: those of a policy are labels that the server gave, those typed here may be words that it must not learn. */
function reportOf(snapshot: Snapshot, act: RunAct, storeId: string, totals: RunTotals): SnapshotReport {
  return {
    snapshotId: snapshot.ref.random,
    runId: act.runId,
    storeId,
    series: snapshot.series.toString('hex'),
    source: act.source,
    at: isoTime(snapshot.startedAt),
    files: snapshot.files,
    bytes: snapshot.bytes,
    storedBytes: totals.storedBytes,
    tags: [],
  }
}

/** The source of the configuration whose paths these are; else the one word for all others. */
function sourceLabel(config: AgentConfig, source: BackupSource): string {
  if (label.safeParse(source.label).success && ownValue(config.sources, source.label) !== undefined) return source.label
  const same = Object.entries(config.sources).find(
    ([, { paths }]) => paths.length === source.paths.length && paths.every((path) => source.paths.some((other) => other.equals(path))),
  )
  return same?.[0] ?? LOCAL_SOURCE
}
