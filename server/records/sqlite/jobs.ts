// Open work in SQLite: one row a job, written in the transaction that makes the work and closed in the one that does it; and the watch.
import type { Acts, JobRow } from '../records.ts'
import type { QueueName } from '../../queue.ts'
import { findRow, insertRow, toPage } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

/** The id of a restore's step job. */
export function restoreJobId(restoreId: string): string {
  return `restore-${restoreId}`
}

export function openJob(db: Db, job: JobRow): void {
  db.sql('INSERT OR IGNORE INTO jobs (queue, job_id, data, created_at) VALUES (?, ?, ?, ?)').run(
    job.queue,
    job.jobId,
    JSON.stringify(job.data),
    job.createdAt,
  )
}

export const closeJob: Act<'closeJob'> = (db, { jobId, at }) => {
  db.sql('UPDATE jobs SET done_at = ? WHERE job_id = ? AND done_at IS NULL').run(at, jobId)
}

/** Oldest first, so `after` and `next` grow. */
export const openJobs: Act<'openJobs'> = (db, { limit, after }) => {
  const rows = db.sql('SELECT * FROM jobs WHERE done_at IS NULL AND n > ? ORDER BY n LIMIT ?').all(after ?? 0, limit + 1)
  return toPage(rows, limit, (row) => ({
    queue: String(row['queue']) as QueueName,
    jobId: String(row['job_id']),
    data: JSON.parse(String(row['data'])) as JobRow['data'],
    createdAt: Number(row['created_at']),
  }))
}

export const overdue: Act<'overdue'> = (db, { at, graceMs }) =>
  db
    .sql(
      `SELECT p.id AS id FROM policies p JOIN agents a ON a.id = p.agent_id WHERE p.enabled = 1 AND a.state = 'active' AND p.next_due_at <= ?
       ORDER BY p.next_due_at LIMIT 100000`,
    )
    .all(at - graceMs)
    .flatMap((row) => findRow(db, 'policies', { id: String(row['id']) }) ?? [])

export const silent: Act<'silent'> = (db, { since }) =>
  db
    .sql(`SELECT id FROM agents WHERE state = 'active' AND coalesce(last_seen_at, created_at) < ? ORDER BY n LIMIT 100000`)
    .all(since)
    .flatMap((row) => findRow(db, 'agents', { id: String(row['id']) }) ?? [])

export const lapsedRestores: Act<'lapsedRestores'> = (db, { at }) =>
  db
    .sql(
      `SELECT id FROM restores WHERE state IN ('requested', 'awaiting_approval', 'preparing', 'awaiting_grant', 'granted', 'running')
       AND (expires_at <= ?1 OR (state IN ('granted', 'running') AND lease_until <= ?1)) LIMIT 100000`,
    )
    .all({ 1: at })
    .map((row) => String(row['id']))

export const openAlert: Act<'openAlert'> = (db, { row }) => {
  const known = db.sql('SELECT 1 FROM alerts WHERE subject = ? AND closed_at IS NULL').get(row.subject)
  if (known !== undefined) return false
  insertRow(db, 'alerts', row)
  return true
}

export const closeAlertsExcept: Act<'closeAlertsExcept'> = (db, { kind, subjects, at }) =>
  Number(
    db
      .sql('UPDATE alerts SET closed_at = ? WHERE kind = ? AND closed_at IS NULL AND subject NOT IN (SELECT value FROM json_each(?))')
      .run(at, kind, JSON.stringify(subjects)).changes,
  )
