// Whose a snapshot is, as far as agents say: the first to tell of one has its row, every other one that tells of it too has a claim beside it. The
// server cannot see which of them wrote it; what two claim is the matter of a person, who revokes the one that lies.
import type { SnapshotRow } from '../rows.ts'
import { findRow, insertRow, updateRow, type Db } from './table.ts'

/** Takes down that the agent of `row` made this snapshot; another one's word on it stays as it is. */
export function claimSnapshot(db: Db, row: SnapshotRow): void {
  const known = findRow(db, 'snapshots', { id: row.id })
  if (known === undefined) {
    insertRow(db, 'snapshots', row)
    return
  }
  if (known.agentId === row.agentId) {
    // The record may have come first; it does not say the tags.
    if (row.tags.length > 0) updateRow(db, 'snapshots', known.id, { tags: row.tags })
    return
  }
  db.sql(
    `INSERT INTO snapshot_claims (id, agent_id, store_id, series, source, at, created_at, deleted_at, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO NOTHING`,
  ).run(
    ...[row.id, row.agentId, row.storeId, row.series, row.source, row.at, row.createdAt],
    ...[known.storeId === row.storeId ? known.deletedAt : null, JSON.stringify(row)],
  )
}

/** What a revoked agent claimed beside others is theirs: a person has decided who lied. */
export function settleClaims(db: Db, agentId: string): void {
  db.sql('DELETE FROM snapshot_claims WHERE agent_id = ?').run(agentId)
  const others = db.sql(
    `SELECT c.id AS id, c.agent_id AS agent_id, c.deleted_at AS deleted_at, c.row AS row FROM snapshot_claims c
     JOIN snapshots p ON p.id = c.id WHERE p.agent_id = ? ORDER BY c.created_at`,
  )
  for (const { id, agent_id: heir, deleted_at: deletedAt, row } of others.all(agentId)) {
    if (findRow(db, 'snapshots', { id: String(id) })?.agentId !== agentId) continue
    updateRow(db, 'snapshots', String(id), {
      ...(JSON.parse(String(row)) as SnapshotRow),
      deletedAt: deletedAt === null ? null : Number(deletedAt),
    })
    db.sql('DELETE FROM snapshot_claims WHERE id = ? AND agent_id = ?').run(String(id), String(heir))
  }
  db.sql(
    `DELETE FROM need_statements AS t WHERE t.agent_id = ?1 AND t.series_n IS NOT NULL AND (
       EXISTS (SELECT 1 FROM snapshots p WHERE p.id = t.snapshot_id AND p.store_id = t.store_id AND p.agent_id <> ?1)
       OR EXISTS (SELECT 1 FROM snapshot_claims c WHERE c.id = t.snapshot_id AND c.store_id = t.store_id)
       OR EXISTS (SELECT 1 FROM need_statements o WHERE o.store_id = t.store_id AND o.snapshot_id = t.snapshot_id AND o.agent_id <> ?1
         AND o.series_n IS NOT NULL))`,
  ).run({ 1: agentId })
}
