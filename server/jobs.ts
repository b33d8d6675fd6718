// The work of every queue, as plain functions on the durable store. All are safe to repeat, at once or later, and say by their code what
// a person can do. The queue only decides when they run (queues/).
import { isHoldfastError, HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { RestoreState } from '@holdfast/shared/protocol/restores.ts'
import { verifyRecordInSteps } from '@holdfast/shared/record.ts'
import type { Context } from './context.ts'
import type { JobRow } from './records/records.ts'
import type { RestoreRow } from './records/rows.ts'
import { isEnd } from './restore-states.ts'
import { ATTEMPTS_MAX, stepRestore } from './restores.ts'

export type JobDeps = Pick<Context, 'records' | 'clock' | 'random' | 'waker' | 'log' | 'keys' | 'openStore'> & {
  readonly config: Pick<Context['config'], 'graceMs' | 'silentMs' | 'undeleteMs' | 'deletionsEveryMs'>
}
export type RecordRef = { readonly agentId: string; readonly seq: number }

/** How often a parked restore looks again by itself; events promote it earlier. */
const RESTORE_LOOK_MS = 30_000
const PREPARE_MS = 120_000

/**
 * The work of `transmissions`: checks one record's signature, place in the chain, file records and root, then puts its tokens, run,
 * policy and recorded-through in place. Rejects with `damaged` or `unprocessable` where the record does not hold: it is flagged then.
 */
export async function processTransmission(deps: JobDeps, ref: RecordRef): Promise<{ recordedThrough: number }> {
  return processRecord(deps, ref)
}

/** The work of `recoveries`: the same for records of recoveries. */
export async function processRecovery(deps: JobDeps, ref: RecordRef): Promise<{ recordedThrough: number }> {
  return processRecord(deps, ref)
}

async function processRecord({ records, clock, waker, log }: JobDeps, { agentId, seq }: RecordRef): Promise<{ recordedThrough: number }> {
  const record = await records.getRecord({ agentId, seq })
  const agent = await records.get({ table: 'agents', id: agentId })
  if (record === undefined || agent === undefined)
    throw new HoldfastError('not-found', `no record ${seq} of agent ${agentId}; this job is of another database`)
  if (record.recordedAt !== null) return { recordedThrough: agent.recordedThrough }
  try {
    const { hash } = await verifyRecordInSteps(agentId, agent.publicKey, record, () => clock.sleep(0))
    if (!hash.equals(record.entryHash))
      throw new HoldfastError('damaged', `record ${seq} of agent ${agentId} is not what was accepted; the database was changed`)
    if (seq > 1) {
      const before = await records.getRecord({ agentId, seq: seq - 1, withBody: false })
      if (before === undefined || !before.entryHash.equals(record.prev)) {
        throw new HoldfastError('damaged', `record ${seq} of agent ${agentId} does not follow record ${seq - 1}; the database was changed`)
      }
    }
  } catch (error) {
    if (isHoldfastError(error, 'damaged', 'unprocessable', 'newer-format')) {
      await records.refuseRecord({ agentId, seq, code: error.code, at: clock.now() })
      log.error('record-refused', { agentId, seq, code: error.code })
    }
    throw error
  }
  const { recordedThrough } = await records.markRecorded({ agentId, seq, at: clock.now() })
  if (recordedThrough > agent.recordedThrough) waker.wake(agentId)
  return { recordedThrough }
}

export type RestoreLook = {
  readonly state: RestoreState
  /** When to look again, in milliseconds from now; undefined at its end. */ readonly againMs: number | undefined
}

/** The step job of `restores`: makes the next move that needs nobody else, ends what expired, gives a lost lease out anew. */
export async function advanceRestore(deps: JobDeps, restoreId: string): Promise<RestoreLook> {
  const restore = await deps.records.get({ table: 'restores', id: restoreId })
  if (restore === undefined) throw new HoldfastError('not-found', `no restore ${restoreId}; this job is of another database`)
  const now = deps.clock.now()
  const leaseOver = restore.leaseUntil === null || restore.leaseUntil <= now
  if (isEnd(restore.state)) {
    // A job whose row was left open by a crash between the two is closed here.
    await deps.records.closeJob({ jobId: `restore-${restoreId}`, at: now })
    return { state: restore.state, againMs: undefined }
  }
  if (restore.expiresAt <= now && (restore.state !== 'running' || leaseOver)) {
    await stepRestore(deps, restore, 'expire', { patch: { code: 'cancelled' } })
  } else if (restore.state === 'requested') {
    const controller = await deps.records.get({ table: 'controllers', id: restore.controllerId })
    await stepRestore(deps, restore, controller?.approval === 'second-person' ? 'needs-approval' : 'prepare')
  } else if (restore.state === 'preparing' && (await commandWasTaken(deps, restore))) {
    await stepRestore(deps, restore, 'prepare')
  } else if ((restore.state === 'running' && leaseOver) || (restore.state === 'granted' && restore.leaseUntil !== null && leaseOver)) {
    const attempt = restore.attempt + 1
    if (attempt >= ATTEMPTS_MAX) await stepRestore(deps, restore, 'failed', { patch: { code: 'lease-lost', attempt } })
    else await stepRestore(deps, restore, 'lease-lost', { patch: { attempt, leaseId: null, leaseUntil: null } })
  } else {
    return { state: restore.state, againMs: untilNextLook(restore.expiresAt, now) }
  }
  const after = await deps.records.get({ table: 'restores', id: restoreId })
  const state = after?.state ?? restore.state
  return { state, againMs: isEnd(state) ? undefined : untilNextLook(restore.expiresAt, now) }
}

/** The agent took the command to prepare some time ago and has answered no key: it forgot, or started anew. */
async function commandWasTaken({ records, clock }: JobDeps, restore: RestoreRow): Promise<boolean> {
  if (restore.updatedAt + PREPARE_MS > clock.now()) return false
  return (
    (await records.find({
      table: 'commands',
      where: { restoreId: restore.id, kind: 'prepare-restore', state: ['queued', 'delivered'] },
    })) === undefined
  )
}

function untilNextLook(expiresAt: number, now: number): number {
  return Math.max(1000, Math.min(RESTORE_LOOK_MS, expiresAt - now))
}

export type WatchResult = {
  readonly overdue: number
  readonly silent: number
  readonly opened: number
  readonly closed: number
  readonly restores: number
}

/** The work of `watch`: what should have arrived and did not. Opens and closes alerts, moves lapsed restores on, drops ended sessions. */
export async function watch(deps: JobDeps): Promise<WatchResult> {
  const { records, clock, random, config, log } = deps
  const at = clock.now()
  const overdue = await records.overdue({ at, graceMs: config.graceMs })
  const silent = await records.silent({ since: at - config.silentMs })
  let opened = 0
  for (const policy of overdue) {
    const row = {
      id: makeId(random, 'alert'),
      createdAt: at,
      subject: `overdue:${policy.id}`,
      kind: 'overdue' as const,
      controllerId: policy.controllerId,
      agentId: policy.agentId,
      policyId: policy.id,
      deletionId: null,
      snapshotId: null,
      otherAgentId: null,
      closedAt: null,
    }
    if (await records.openAlert({ row })) {
      opened++
      log.warn('overdue', { policyId: policy.id, agentId: policy.agentId, controllerId: policy.controllerId })
    }
  }
  for (const agent of silent) {
    const row = {
      id: makeId(random, 'alert'),
      createdAt: at,
      subject: `silent:${agent.id}`,
      kind: 'silent' as const,
      controllerId: agent.controllerId,
      agentId: agent.id,
      policyId: null,
      deletionId: null,
      snapshotId: null,
      otherAgentId: null,
      closedAt: null,
    }
    if (await records.openAlert({ row })) {
      opened++
      log.warn('silent', { agentId: agent.id, controllerId: agent.controllerId })
    }
  }
  const closed =
    (await records.closeAlertsExcept({ kind: 'overdue', subjects: overdue.map((policy) => `overdue:${policy.id}`), at })) +
    (await records.closeAlertsExcept({ kind: 'silent', subjects: silent.map((agent) => `silent:${agent.id}`), at }))
  const lapsed = await records.lapsedRestores({ at })
  for (const restoreId of lapsed) await advanceRestore(deps, restoreId)
  await records.prune({ at })
  return { overdue: overdue.length, silent: silent.length, opened, closed, restores: lapsed.length }
}

/** Every job that should be in the queue, oldest first, in steps of `limit`: after the queue lost everything, adding these loses nothing. */
export async function* reconcile({ records }: Pick<JobDeps, 'records'>, limit = 500): AsyncGenerator<readonly JobRow[]> {
  let after: number | undefined
  do {
    const page = await records.openJobs({ limit, after })
    if (page.items.length > 0) yield page.items
    after = page.next ?? undefined
  } while (after !== undefined)
}
