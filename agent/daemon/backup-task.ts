// Carries out one run of one policy: the record that it began, the engine, a record of every batch of files that became durable, the record of
// how it ended. Nothing is begun without an instruction, a bundle and room in the journal.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import type { Outcome } from '@holdfast/shared/protocol/common.ts'
import type { RunTotals } from '@holdfast/shared/protocol/records.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { BackupProgress, BackupResult, BackupSource, TransmittedFile } from '../backup/backup-types.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { createTokens } from '../repository/snapshot.ts'
import { excludeRules, ownValue, type AgentConfig } from './agent-config.ts'
import type { Agent, AgentState, Policies } from './agent-state.ts'
import { beginAct, endAct } from './current-act.ts'
import type { Outbox } from './outbox.ts'
import { isRequestedCancel, withRepository, type Engines } from './parts.ts'
import { publishRoster } from './roster-relay.ts'
import { whyRefused } from './policy-consent.ts'
import { actorOfPolicy, NO_TOTALS, requireInstruction, storePlace, type FileAct, type Recorder, type RunAct } from './recorder.ts'

export type BackupTaskParts = {
  readonly agent: Agent
  readonly state: AgentState
  readonly config: AgentConfig
  readonly policies: Policies
  readonly keys: WriteKeys
  readonly engines: Engines
  readonly recorder: Recorder
  readonly outbox: Outbox
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
  readonly program: string
  readonly onProgress?: (progress: BackupProgress) => void
  readonly onNotice?: (text: string) => void
}

export type TaskEnd = {
  readonly runId: string
  readonly outcome: Outcome
  readonly code?: string | undefined
  readonly message?: string | undefined
}

/**
 * Runs `policy` once. Resolves with how it ended, also where it failed; throws only where it could not even be begun: `policy` (no instruction,
 * or what the appliance does not have), `journal-full`, `local-disk`.
 */
export async function runPolicy(parts: BackupTaskParts, policy: AgentPolicy, runId: string, signal: AbortSignal): Promise<TaskEnd> {
  const { agent, config, clock } = parts
  const instructionId = requireInstruction(policy.instructionId)
  const refusal = whyRefused(config, policy, parts.policies.stores)
  if (refusal !== undefined)
    throw new HoldfastError('policy', `policy ${policy.policyId} cannot be carried out here (${refusal}); correct agent.json or the policy`)
  const source = backupSource(config, policy, agent)
  const home = { region: agent.region }
  const act: RunAct = {
    kind: 'run',
    runId,
    policyId: policy.policyId,
    actor: actorOfPolicy(policy),
    instructionId,
    purpose: policy.purpose,
    source: policy.source,
    series: createTokens(parts.keys.structure.recordKey).series(parts.keys.writer.id, source.label).toString('hex'),
    from: home,
    to: storePlace(parts.policies, policy.storeId, home),
  }
  const begun = beginAct(parts, act)
  const report = { runId, policyId: policy.policyId, kind: 'backup', source: policy.source, startedAt: begun.startedAt } as const
  parts.outbox.run({ ...report, state: 'running' })

  const end = await carryOut(parts, policy, act, source, signal)
  const { outcome, code, snapshotId, totals } = end
  const ended = { ...report, state: outcome, endedAt: isoTime(clock.now()), totals, ...(code === undefined ? {} : { code }) }
  const made = end.result?.snapshot === undefined ? [] : [{ snapshot: snapshotReport(parts, policy, act, end.result) }]
  endAct(parts, begun, { outcome, code, snapshotId, totals }, [...made, { run: ended }])
  return { runId, outcome: end.outcome, code: end.code, message: end.message }
}

export function newRunId(random: Random): string {
  return makeId(random, 'run')
}

type End = {
  readonly outcome: Outcome
  readonly code?: string
  readonly message?: string
  readonly snapshotId?: string
  readonly totals: RunTotals
  readonly result?: BackupResult
}

async function carryOut(parts: BackupTaskParts, policy: AgentPolicy, act: RunAct, source: BackupSource, signal: AbortSignal): Promise<End> {
  const { engines, config, keys, recorder, clock, random, fileSystem, state } = parts
  const recordKey = keys.structure.recordKey
  // What became durable by then is told also of a run that fails.
  let sent = { files: 0, bytes: 0, newBytes: 0, changed: 0 }
  const onTransmitted = (files: readonly TransmittedFile[]): void => {
    recorder.files(act, files.map(transmitted), recordKey)
    for (const { size, newBytes, changed } of files)
      sent = {
        files: sent.files + 1,
        bytes: sent.bytes + size,
        newBytes: sent.newBytes + newBytes,
        changed: sent.changed + (changed ? 1 : 0),
      }
  }
  const engineState = Buffer.concat([parts.state.directory.path, Buffer.from('/engine')])
  const copies = { fileSystem, path: Buffer.concat([engineState, Buffer.from('/objects')]) }
  try {
    const result = await withRepository({ engines, config, storeId: policy.storeId, keys, signal, copies }, async (repository) => {
      await publishRoster(state, repository)
      return engines.backup({
        repository,
        keys,
        source,
        tags: policy.tags,
        force: false,
        dryRun: false,
        state: engineState,
        program: parts.program,
        fileSystem,
        clock,
        random,
        limits: defined(config.limits),
        signal,
        onTransmitted,
        ...(parts.onProgress === undefined ? {} : { onProgress: parts.onProgress }),
        ...(parts.onNotice === undefined ? {} : { onNotice: parts.onNotice }),
      })
    })
    recorder.files(act, result.problems.filter(({ code }) => code !== 'changed').map(notRead), recordKey)
    const outcome = result.outcome === 'done' ? 'ok' : 'incomplete'
    return {
      outcome,
      ...(outcome === 'incomplete' ? { code: 'incomplete' } : {}),
      ...(result.snapshot === undefined ? {} : { snapshotId: result.snapshot.ref.random }),
      totals: totalsOf(result, sent.changed),
      result,
    }
  } catch (error) {
    const isCancelled = signal.aborted && isRequestedCancel(signal.reason)
    return {
      outcome: isCancelled ? 'cancelled' : 'failed',
      code: isCancelled ? 'cancelled' : signal.aborted ? 'interrupted' : isHoldfastError(error) ? error.code : 'failed',
      message: messageOf(error),
      totals: { ...NO_TOTALS, files: sent.files, bytes: sent.bytes, newBytes: sent.newBytes, changed: sent.changed },
    }
  }
}

function backupSource(config: AgentConfig, policy: AgentPolicy, agent: Agent): BackupSource {
  const source = ownValue(config.sources, policy.source)
  if (source === undefined) throw new HoldfastError('policy', `this appliance has no source ${policy.source}; add it to agent.json`)
  return { label: policy.source, host: agent.host, paths: source.paths, excludes: excludeRules(config, policy.source, policy.excludes) }
}

function transmitted({ path, size, newBytes, changed }: TransmittedFile): FileAct {
  return { path, size, newBytes, outcome: changed ? 'changed' : 'ok' }
}

const ERRNO_OF: Readonly<Record<string, string>> = { vanished: 'ENOENT', replaced: 'ESTALE' }

/** A file that the snapshot lacks: the controller can find by its token that it was not transmitted. */
function notRead({ path, code }: { path: Buffer; code: string }): FileAct {
  return { path, size: 0, newBytes: 0, outcome: 'failed', errno: ERRNO_OF[code] ?? code }
}

function totalsOf({ summary, problems }: BackupResult, changed: number): RunTotals {
  return {
    files: summary.files,
    bytes: summary.bytes,
    newBytes: summary.bytesNew,
    reusedBytes: Math.max(0, summary.bytesRead - summary.bytesNew),
    storedBytes: summary.bytesStored,
    unchanged: summary.filesUnchanged,
    failed: problems.filter(({ code }) => code !== 'changed').length,
    changed: Math.max(changed, problems.filter(({ code }) => code === 'changed').length),
    skipped: 0,
  }
}

function snapshotReport({ agent }: BackupTaskParts, policy: AgentPolicy, act: RunAct, { snapshot, summary }: BackupResult) {
  if (snapshot === undefined) throw new HoldfastError('failed', `run ${act.runId} of agent ${agent.agentId} made no snapshot to report`)
  return {
    snapshotId: snapshot.ref.random,
    runId: act.runId,
    storeId: policy.storeId,
    series: act.series,
    source: policy.source,
    at: isoTime(snapshot.startedAt),
    files: snapshot.files,
    bytes: snapshot.bytes,
    storedBytes: summary.bytesStored,
    tags: [...policy.tags],
  }
}

function defined<T extends object>(value: T): { [K in keyof T]: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as { [K in keyof T]: NonNullable<T[K]> }
}
