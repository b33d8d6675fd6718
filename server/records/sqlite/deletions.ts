// Deletions in SQLite: the right to delete in a store with its standing job, and the life of every list that names objects.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Acts } from '../records.ts'
import { closeContests } from './claims.ts'
import { closeJob, openJob } from './jobs.ts'
import { findRow, insertRow, updateRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

/** The id of the job that looks into a store for deletions as long as the server may delete there. */
export function deletionsJobId(storeId: string): string {
  return `deletions-${storeId}`
}

export const setDeleteCredentials: Act<'setDeleteCredentials'> = (db, { storeId, credentials, at }) => {
  const store = updateRow(db, 'stores', storeId, { deleteCredentials: credentials })
  if (store === undefined) throw new HoldfastError('not-found', 'no such store')
  const jobId = deletionsJobId(storeId)
  if (credentials === null) closeJob(db, { jobId, at })
  else {
    openJob(db, { queue: 'deletions', jobId, data: { storeId }, createdAt: at })
    db.sql('UPDATE jobs SET done_at = NULL, created_at = ? WHERE job_id = ? AND done_at IS NOT NULL').run(at, jobId)
  }
  return store
}

export const noteDeletion: Act<'noteDeletion'> = (db, { row }) => {
  const { storeId, session, random } = row
  const known = findRow(db, 'deletions', { storeId, session, random })
  if (known !== undefined) return known
  insertRow(db, 'deletions', row)
  return row
}

export const openDeletions: Act<'openDeletions'> = (db, { storeId }) =>
  db
    .sql('SELECT id FROM deletions WHERE store_id = ? AND ended_at IS NULL ORDER BY n')
    .all(storeId)
    .flatMap((row) => findRow(db, 'deletions', { id: String(row['id']) }) ?? [])

export const moveDeletion: Act<'moveDeletion'> = (db, { id, from, patch, alert, snapshots, settled }) => {
  const moved = updateRow(db, 'deletions', id, patch, { state: from })
  if (moved === undefined) return undefined
  const subject = `deletion-held:${id}`
  if (moved.state === 'held') {
    const open = db.sql('SELECT 1 FROM alerts WHERE subject = ? AND closed_at IS NULL').get(subject)
    if (open === undefined && alert !== undefined) insertRow(db, 'alerts', { ...alert, subject })
  } else db.sql('UPDATE alerts SET closed_at = ? WHERE subject = ? AND closed_at IS NULL').run(moved.updatedAt, subject)
  for (const snapshot of snapshots ?? []) {
    db.sql('UPDATE snapshots SET deleted_at = ? WHERE id = ? AND store_id = ? AND deleted_at IS NULL').run(
      moved.updatedAt,
      snapshot,
      moved.storeId,
    )
    db.sql('UPDATE snapshot_claims SET deleted_at = ? WHERE id = ? AND store_id = ? AND deleted_at IS NULL').run(
      moved.updatedAt,
      snapshot,
      moved.storeId,
    )
    db.sql('UPDATE need_statements SET deleted_at = ? WHERE store_id = ? AND snapshot_id = ? AND deleted_at IS NULL').run(
      moved.updatedAt,
      moved.storeId,
      snapshot,
    )
  }
  for (const snapshot of settled ?? [])
    db.sql('INSERT OR IGNORE INTO settled_snapshots (store_id, snapshot_id, deletion_id, at) VALUES (?, ?, ?, ?)').run(
      ...[moved.storeId, snapshot, moved.id, moved.updatedAt],
    )
  if (snapshots !== undefined && snapshots.length > 0) closeContests(db, moved.storeId, moved.updatedAt)
  return moved
}
