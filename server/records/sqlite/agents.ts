// Agents, their policies and the opaque bytes relayed to them, in SQLite.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { parseTime } from '@holdfast/shared/clock.ts'
import type { Acts } from '../records.ts'
import type { RunRow } from '../rows.ts'
import { claimSnapshot } from './claims.ts'
import { closeJob, restoreJobId } from './jobs.ts'
import { withdrawCommands } from './restores.ts'
import { findRow, insertRow, updateRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

export const enroll: Act<'enroll'> = (db, { secretHash, at, agent }) => {
  const code = findRow(db, 'enrolmentCodes', { secretHash })
  // One message for all three, so that guessing learns nothing.
  if (code === undefined || code.usedAt !== null || code.expiresAt <= at) {
    throw new HoldfastError('unauthenticated', 'this enrolment code is unknown, used or expired; ask for a new one')
  }
  const site = findRow(db, 'sites', { id: code.siteId })
  if (site === undefined) throw new HoldfastError('failed', 'the site of this enrolment code is gone')
  const row = { ...agent, controllerId: code.controllerId, siteId: code.siteId, region: site.region }
  insertRow(db, 'agents', row)
  updateRow(db, 'enrolmentCodes', code.id, { usedAt: at, agentId: agent.id })
  return row
}

export const revokeAgent: Act<'revokeAgent'> = (db, { agentId, at }) => {
  const agent = updateRow(db, 'agents', agentId, { state: 'revoked', revokedAt: at }, { state: 'active' })
  if (agent === undefined) return undefined
  db.sql(`UPDATE commands SET state = 'withdrawn' WHERE agent_id = ? AND state IN ('queued', 'delivered')`).run(agentId)
  const open = db
    .sql(
      `SELECT id FROM restores WHERE agent_id = ? AND state NOT IN ('completed', 'completed_with_errors', 'failed', 'cancelled', 'expired', 'refused')`,
    )
    .all(agentId)
  for (const row of open) {
    const id = String(row['id'])
    updateRow(db, 'restores', id, { state: 'failed', code: 'forbidden', leaseId: null, leaseUntil: null, updatedAt: at })
    withdrawCommands(db, id)
    closeJob(db, { jobId: restoreJobId(id), at })
  }
  return agent
}

export const noteSeen: Act<'noteSeen'> = (db, { agentId, at, seen }) => {
  updateRow(db, 'agents', agentId, { lastSeenAt: at, ...seen })
}

export const savePolicy: Act<'savePolicy'> = (db, input) => {
  if ('row' in input) {
    insertRow(db, 'policies', input.row)
    raisePolicies(db, input.row.agentId)
    return input.row
  }
  const before = findRow(db, 'policies', { id: input.id })
  if (before === undefined) return undefined
  const after = updateRow(db, 'policies', input.id, { ...input.patch, version: before.version + 1 })
  raisePolicies(db, before.agentId)
  return after
}

function raisePolicies(db: Db, agentId: string): void {
  db.sql('UPDATE agents SET policies_version = policies_version + 1 WHERE id = ?').run(agentId)
}

export const putBlob: Act<'putBlob'> = (db, { kind, ownerId, bytes, at }) => {
  const row = db
    .sql(
      `INSERT INTO blobs (kind, owner_id, version, bytes, at) VALUES (?, ?, 1, ?, ?)
       ON CONFLICT DO UPDATE SET version = version + 1, bytes = excluded.bytes, at = excluded.at RETURNING version`,
    )
    .get(kind, ownerId, bytes, at)
  const version = Number(row?.['version'])
  if (kind === 'bundle') updateRow(db, 'agents', ownerId, { bundleVersion: version })
  if (kind === 'roster') updateRow(db, 'controllers', ownerId, { rosterVersion: version })
  return version
}

export const getBlob: Act<'getBlob'> = (db, { kind, ownerId }) => {
  const row = db.sql('SELECT version, bytes FROM blobs WHERE kind = ? AND owner_id = ?').get(kind, ownerId)
  return row === undefined ? undefined : { version: Number(row['version']), bytes: Buffer.from(row['bytes'] as Uint8Array) }
}

export const reportRun: Act<'reportRun'> = (db, { agentId, controllerId, report, at }) => {
  const known = findRow(db, 'runs', { id: report.runId })
  if (known !== undefined && known.agentId !== agentId) throw new HoldfastError('conflict', 'this run belongs to another agent')
  if (known?.recorded === true) return
  const told: Partial<RunRow> = {
    policyId: report.policyId ?? null,
    restoreId: report.restoreId ?? null,
    kind: report.kind,
    source: report.source ?? null,
    state: report.state,
    code: report.code ?? null,
    endedAt: report.endedAt === undefined ? null : parseTime(report.endedAt),
    totals: report.totals ?? null,
  }
  if (known !== undefined) {
    updateRow(db, 'runs', known.id, told)
    return
  }
  insertRow(db, 'runs', {
    id: report.runId,
    createdAt: at,
    agentId,
    controllerId,
    policyId: null,
    restoreId: null,
    kind: report.kind,
    source: null,
    state: report.state,
    code: null,
    startedAt: parseTime(report.startedAt),
    endedAt: null,
    totals: null,
    snapshotId: null,
    recordedFiles: 0,
    recordedBytes: 0,
    recorded: false,
    ...told,
  })
}

export const reportSnapshot: Act<'reportSnapshot'> = (db, { agentId, controllerId, report, at }) => {
  const { snapshotId, ...rest } = report
  claimSnapshot(db, { ...rest, id: snapshotId, createdAt: at, agentId, controllerId, at: parseTime(report.at), deletedAt: null })
}
