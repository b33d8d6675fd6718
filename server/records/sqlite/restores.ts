// Restores and commands in SQLite: compare-and-set moves, leases that fence, commands that are repeated until acknowledged.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { isEnd } from '../../restore-states.ts'
import type { Acts } from '../records.ts'
import type { CommandRow } from '../rows.ts'
import { closeJob, openJob, restoreJobId } from './jobs.ts'
import { findRow, insertRow, updateRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

const COMMANDS_A_POLL = 32

export const restoreOfKey: Act<'restoreOfKey'> = (db, { owner, key }) => {
  const known = db.sql('SELECT body_hash, result_id FROM idempotency_keys WHERE owner = ? AND key = ?').get(owner, key)
  if (known === undefined) return undefined
  const restore = findRow(db, 'restores', { id: String(known['result_id']) })
  if (restore === undefined) throw new HoldfastError('failed', 'the restore of this Idempotency-Key is gone')
  return { restore, bodyHash: String(known['body_hash']) }
}

export const createRestore: Act<'createRestore'> = (db, { row, owner, key, bodyHash }) => {
  const known = restoreOfKey(db, { owner, key })
  if (known !== undefined) {
    if (known.bodyHash !== bodyHash) {
      throw new HoldfastError('unprocessable', 'this Idempotency-Key was used for another request; use a fresh key for a new request')
    }
    return { restore: known.restore, created: false }
  }
  insertRow(db, 'restores', row)
  db.sql('INSERT INTO idempotency_keys (owner, key, body_hash, result_id, at) VALUES (?, ?, ?, ?, ?)').run(
    owner,
    key,
    bodyHash,
    row.id,
    row.createdAt,
  )
  openJob(db, { queue: 'restores', jobId: restoreJobId(row.id), data: { restoreId: row.id }, createdAt: row.createdAt })
  return { restore: row, created: true }
}

export const moveRestore: Act<'moveRestore'> = (db, { id, from, patch, command, leaseId }) => {
  const moved = updateRow(db, 'restores', id, patch, { state: from, leaseId })
  if (moved === undefined) return undefined
  if (patch.state !== undefined) {
    withdrawCommands(db, id)
    if (isEnd(patch.state)) closeJob(db, { jobId: restoreJobId(id), at: moved.updatedAt })
  }
  if (command !== undefined) insertRow(db, 'commands', command)
  return moved
}

export function withdrawCommands(db: Db, restoreId: string): void {
  db.sql(`UPDATE commands SET state = 'withdrawn' WHERE restore_id = ? AND state IN ('queued', 'delivered') AND kind <> 'cancel'`).run(
    restoreId,
  )
}

export const beatRestore: Act<'beatRestore'> = (db, { id, agentId, leaseId, progress, leaseUntil }) => {
  const beaten = updateRow(
    db,
    'restores',
    id,
    { state: 'running', progress, leaseUntil, updatedAt: progress.at },
    { agentId, leaseId, state: ['granted', 'running'] },
  )
  if (beaten !== undefined)
    db.sql(`UPDATE commands SET state = 'taken' WHERE restore_id = ? AND kind = 'restore' AND state = 'delivered'`).run(id)
  return beaten
}

export const claimCommands: Act<'claimCommands'> = (db, { agentId, at, again, leaseId, leaseUntil }) => {
  const open = db
    .sql(
      `SELECT id FROM commands WHERE agent_id = ? AND expires_at > ? AND (state = 'queued' OR (state = 'delivered' AND delivered_at <= ?))
       ORDER BY n LIMIT ?`,
    )
    .all(agentId, at, again, COMMANDS_A_POLL)
  const claimed: CommandRow[] = []
  let leaseGiven = false
  for (const { id } of open) {
    const command = findRow(db, 'commands', { id: String(id) })
    if (command === undefined) continue
    let body = command.body
    if (command.kind === 'restore' && command.restoreId !== null) {
      // One lease a poll: a second granted restore waits for the next one.
      if (leaseGiven) continue
      leaseGiven = true
      const restore = findRow(db, 'restores', { id: command.restoreId })
      // A repeated delivery keeps the lease that it gave, so that an agent that began already is not fenced out.
      const lease = command.state === 'delivered' && restore?.leaseId ? restore.leaseId : leaseId
      updateRow(db, 'restores', command.restoreId, { leaseId: lease, leaseUntil })
      body = { ...body, leaseId: lease, leaseUntil }
    }
    updateRow(db, 'commands', command.id, { state: 'delivered', deliveredAt: at })
    claimed.push({ ...command, state: 'delivered', deliveredAt: at, body })
  }
  return claimed
}

export const acknowledgeCommands: Act<'acknowledgeCommands'> = (db, { agentId, acknowledged }) => {
  const refused: { restoreId: string; code: string }[] = []
  for (const { commandId, result, code } of acknowledged) {
    const command = updateRow(db, 'commands', commandId, { state: result, code: code ?? null }, { agentId, state: ['queued', 'delivered'] })
    if (command?.restoreId && result === 'refused' && command.kind !== 'cancel')
      refused.push({ restoreId: command.restoreId, code: code ?? 'failed' })
  }
  return refused
}
