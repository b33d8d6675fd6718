// Whose a snapshot is, as far as agents say: the first to tell of one has its row, every other one that tells of it too has a claim beside it. The
// server cannot see which of them wrote it, and to revoke one of them says nothing about that: an appliance that lied may stay, and one that made it
// be replaced. So what two claim stays everybody's until the controller approves that it goes.
import { ID_PREFIX } from '@holdfast/shared/ids.ts'
import { sha256Hex } from '@holdfast/shared/protocol/signatures.ts'
import type { SnapshotRow } from '../rows.ts'
import { findRow, insertRow, updateRow, type Db } from './table.ts'

/** Takes down that the agent of `row` made this snapshot; another one's word on it stays as it is. */
export function claimSnapshot(db: Db, row: Omit<SnapshotRow, 'contested'>): void {
  const known = findRow(db, 'snapshots', { id: row.id })
  if (known === undefined) insertRow(db, 'snapshots', { ...row, contested: false })
  else if (known.agentId === row.agentId) {
    // The record may have come first; it does not say the tags.
    if (row.tags.length > 0) updateRow(db, 'snapshots', known.id, { tags: row.tags })
    return
  } else
    db.sql(
      `INSERT INTO snapshot_claims (id, agent_id, store_id, series, source, at, created_at, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO NOTHING`,
    ).run(
      ...[row.id, row.agentId, row.storeId, row.series, row.source, row.at, row.createdAt],
      known.storeId === row.storeId ? known.deletedAt : null,
    )
  noteContest(db, { storeId: row.storeId, snapshotId: row.id, agentId: row.agentId, at: row.createdAt })
}

/** Who says that it made which snapshot that is not deleted: by report, by record or by what it needs. */
const SAID = `(SELECT id, agent_id, store_id, created_at AS at FROM snapshots WHERE deleted_at IS NULL
  UNION ALL SELECT id, agent_id, store_id, created_at FROM snapshot_claims WHERE deleted_at IS NULL
  UNION ALL SELECT snapshot_id, agent_id, store_id, at FROM need_statements WHERE series_n IS NOT NULL AND deleted_at IS NULL)`

const contestSubject = (storeId: string): string => `snapshot-contested:${storeId}:`

/**
 * Where another agent of the store's controller said before that it made this snapshot: marks it, and opens an alert that names both. One for the two of
 * them in a store: who claims thousands buries no other alert.
 */
export function noteContest(
  db: Db,
  { storeId, snapshotId, agentId, at }: { storeId: string; snapshotId: string; agentId: string; at: number },
): void {
  const controllerId = findRow(db, 'stores', { id: storeId })?.controllerId
  // Agents of another controller are nobody here.
  if (controllerId === undefined || findRow(db, 'agents', { id: agentId })?.controllerId !== controllerId) return
  const before = db
    .sql(
      `SELECT c.agent_id AS agent_id FROM ${SAID} c JOIN agents a ON a.id = c.agent_id
       WHERE c.id = ? AND c.store_id = ? AND c.agent_id <> ? AND a.controller_id = ? ORDER BY c.at LIMIT 1`,
    )
    .get(snapshotId, storeId, agentId, controllerId)
  if (before === undefined) return
  db.sql('UPDATE snapshots SET contested = 1 WHERE id = ? AND store_id = ?').run(snapshotId, storeId)
  const otherAgentId = String(before['agent_id'])
  const subject = contestSubject(storeId) + [agentId, otherAgentId].sort().join(':')
  if (db.sql('SELECT 1 FROM alerts WHERE subject = ? AND closed_at IS NULL').get(subject) !== undefined) return
  // Named after what it is about: it closes only once this snapshot is deleted, so there is none of the same name later.
  const id = `${ID_PREFIX.alert}_${sha256Hex(Buffer.from(`${subject} ${snapshotId}`)).slice(0, 32)}`
  const about = { controllerId, agentId, otherAgentId, snapshotId, policyId: null, deletionId: null }
  insertRow(db, 'alerts', { id, createdAt: at, subject, kind: 'snapshot-contested', ...about, closedAt: null })
}

/** Closes the alerts of a store whose agents have no snapshot left there that both say they made. */
export function closeContests(db: Db, storeId: string, at: number): void {
  const open = db.sql(
    `SELECT subject, agent_id, other_agent_id FROM alerts WHERE kind = 'snapshot-contested' AND closed_at IS NULL AND subject > ?1 AND subject < ?1 || '~'`,
  )
  const left = db.sql(
    `SELECT 1 FROM ${SAID} a WHERE a.store_id = ?1 AND a.agent_id = ?2
     AND EXISTS (SELECT 1 FROM ${SAID} b WHERE b.id = a.id AND b.store_id = ?1 AND b.agent_id = ?3) LIMIT 1`,
  )
  for (const { subject, agent_id: agentId, other_agent_id: otherAgentId } of open.all({ 1: contestSubject(storeId) })) {
    if (left.get({ 1: storeId, 2: String(agentId), 3: String(otherAgentId) }) !== undefined) continue
    db.sql('UPDATE alerts SET closed_at = ? WHERE subject = ? AND closed_at IS NULL').run(at, String(subject))
  }
}
