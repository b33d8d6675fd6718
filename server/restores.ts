// Moving a restore: every step is a compare-and-set on its row, with the command that the agent needs for it, and a word to its parked poll.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { Audit, Records } from './records/records.ts'
import type { CommandRow, RestoreRow } from './records/rows.ts'
import { isEnd, moveOf, statesFor, waitingFor } from './restore-states.ts'
import type { RestoreEvent } from './restore-states.ts'
import type { Waker } from './waker.ts'
import { wireTime } from './routes/wire.ts'

export type RestoreDeps = { readonly records: Records; readonly clock: Clock; readonly random: Random; readonly waker: Waker }

export const ATTEMPTS_MAX = 5
const CANCEL_COMMAND_MS = 24 * 3_600_000
/** Once the agent may know of a restore, its end must reach the agent too. */
const KNOWN_TO_AGENT = new Set(['preparing', 'awaiting_grant', 'granted', 'running'])

/** Moves `restore` by `event`, from the state that it was read in; undefined where it moved meanwhile or the event leads nowhere. */
export async function stepRestore(
  deps: RestoreDeps,
  restore: RestoreRow,
  event: RestoreEvent,
  options: { patch?: Partial<RestoreRow>; audit?: Audit | undefined; leaseId?: string | undefined } = {},
): Promise<RestoreRow | undefined> {
  const to = moveOf(restore.state, event)
  if (to === undefined) return undefined
  const now = deps.clock.now()
  const ended = isEnd(to)
  const patch: Partial<RestoreRow> = { ...options.patch, state: to, updatedAt: now, ...(ended ? { leaseId: null, leaseUntil: null } : {}) }
  const command = commandFor(deps, { ...restore, ...patch }, restore.state, now)
  const moved = await deps.records.moveRestore(
    { id: restore.id, from: [restore.state], patch, command, leaseId: options.leaseId },
    options.audit,
  )
  if (moved !== undefined && command !== undefined) deps.waker.wake(restore.agentId)
  return moved
}

/** The command that a restore's new state means for its agent. */
function commandFor(deps: RestoreDeps, restore: RestoreRow, before: RestoreRow['state'], now: number): CommandRow | undefined {
  const command = (kind: CommandRow['kind'], body: CommandRow['body'], expiresAt: number): CommandRow => ({
    id: makeId(deps.random, 'command'),
    createdAt: now,
    agentId: restore.agentId,
    kind,
    body,
    restoreId: restore.id,
    state: 'queued',
    code: null,
    deliveredAt: null,
    expiresAt,
  })
  if (restore.state === 'preparing') return command('prepare-restore', commandBody(restore), restore.expiresAt)
  if (restore.state === 'granted') return command('restore', commandBody(restore), restore.expiresAt)
  if ((restore.state === 'cancelled' || restore.state === 'expired' || restore.state === 'refused') && KNOWN_TO_AGENT.has(before)) {
    return command('cancel', { restoreId: restore.id }, now + CANCEL_COMMAND_MS)
  }
  return undefined
}

function commandBody(restore: RestoreRow): CommandRow['body'] {
  return {
    restoreId: restore.id,
    snapshot: restore.snapshotId === null ? { series: restore.series, at: isoTime(restore.at ?? 0) } : { snapshotId: restore.snapshotId },
    selection: restore.selection,
    restoreRoot: restore.restoreRoot,
    conflict: restore.conflict,
    purpose: restore.purpose,
    instructionId: restore.instructionId,
    storeId: restore.storeId,
    requestedBy: restore.requestedBy,
    approvedBy: restore.approvedBy,
  }
}

/** The states in which a restore can still be cancelled. */
export const CANCELLABLE = statesFor('cancel')

/** A restore as people and the controller's client see it. */
export function wireRestore(row: RestoreRow) {
  const { publicKey, publicKeySignature } = row
  return {
    id: row.id,
    state: row.state,
    agentId: row.agentId,
    controllerId: row.controllerId,
    snapshotId: row.snapshotId,
    series: row.series,
    at: row.at === null ? null : wireTime(row.at),
    storeId: row.storeId,
    selection: 'whole' in row.selection ? row.selection : { tokens: [...row.selection.tokens] },
    restoreRoot: row.restoreRoot,
    conflict: row.conflict,
    purpose: row.purpose,
    instructionId: row.instructionId,
    requestedBy: row.requestedBy,
    approvedBy: row.approvedBy,
    grantedBy: row.grantedBy,
    key:
      publicKey === null || publicKeySignature === null
        ? null
        : { publicKey: publicKey.toString('base64url'), signature: publicKeySignature.toString('base64url') },
    waitingFor: waitingFor(row.state),
    progress: row.progress === null ? null : { ...row.progress, at: wireTime(row.progress.at) },
    totals: row.totals,
    code: row.code,
    attempt: row.attempt,
    createdAt: wireTime(row.createdAt),
    updatedAt: wireTime(row.updatedAt),
    expiresAt: wireTime(row.expiresAt),
  }
}
