// The database's shape, as numbered steps that are never changed once released; a new step is added at the end.
import type { DatabaseSync } from 'node:sqlite'
import { HoldfastError } from '@holdfast/shared/errors.ts'

const made = 'n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL'

const FIRST = `
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE controllers (${made}, name TEXT NOT NULL, countries TEXT NOT NULL, approval TEXT NOT NULL, roster_version INTEGER NOT NULL);
CREATE TABLE representatives (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), name TEXT NOT NULL, contact TEXT NOT NULL,
  title TEXT, employer TEXT);
CREATE TABLE sites (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), name TEXT NOT NULL, region TEXT NOT NULL);
CREATE TABLE stores (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), name TEXT NOT NULL, kind TEXT NOT NULL,
  endpoint TEXT, bucket TEXT, prefix TEXT, region TEXT NOT NULL, country TEXT NOT NULL, credentials BLOB);
CREATE TABLE instructions (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), kind TEXT NOT NULL, author TEXT NOT NULL,
  channel TEXT NOT NULL, scope TEXT NOT NULL, purposes TEXT NOT NULL, text_hash TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER,
  entered_by_processor INTEGER NOT NULL);
CREATE TABLE enrolment_codes (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), site_id TEXT NOT NULL REFERENCES sites(id),
  secret_hash TEXT NOT NULL UNIQUE, expires_at INTEGER NOT NULL, used_at INTEGER, agent_id TEXT);
CREATE TABLE agents (${made}, controller_id TEXT NOT NULL REFERENCES controllers(id), site_id TEXT NOT NULL REFERENCES sites(id),
  host TEXT NOT NULL, state TEXT NOT NULL, region TEXT NOT NULL, public_key BLOB NOT NULL UNIQUE, enrolment_key BLOB NOT NULL,
  agent_version TEXT NOT NULL, sources TEXT NOT NULL, restore_roots TEXT NOT NULL, last_seen_at INTEGER, last_seq INTEGER NOT NULL,
  last_hash BLOB NOT NULL, recorded_through INTEGER NOT NULL, policies_version INTEGER NOT NULL, bundle_version INTEGER NOT NULL,
  journal_pending INTEGER NOT NULL, journal_bytes INTEGER NOT NULL, incident TEXT);
CREATE INDEX agents_controller ON agents(controller_id);
CREATE TABLE policies (${made}, version INTEGER NOT NULL, agent_id TEXT NOT NULL REFERENCES agents(id),
  controller_id TEXT NOT NULL REFERENCES controllers(id), source TEXT NOT NULL, schedule TEXT NOT NULL, store_id TEXT NOT NULL REFERENCES stores(id),
  instruction_id TEXT NOT NULL REFERENCES instructions(id), purpose TEXT NOT NULL, tags TEXT NOT NULL, excludes TEXT NOT NULL,
  enabled INTEGER NOT NULL, last_run_at INTEGER, last_good_at INTEGER, next_due_at INTEGER, UNIQUE (agent_id, source, store_id));
CREATE INDEX policies_due ON policies(next_due_at) WHERE enabled = 1;
CREATE TABLE runs (${made}, agent_id TEXT NOT NULL REFERENCES agents(id), controller_id TEXT NOT NULL, policy_id TEXT, restore_id TEXT,
  kind TEXT NOT NULL, source TEXT, state TEXT NOT NULL, code TEXT, started_at INTEGER NOT NULL, ended_at INTEGER, totals TEXT,
  snapshot_id TEXT, recorded_files INTEGER NOT NULL, recorded_bytes INTEGER NOT NULL, recorded INTEGER NOT NULL);
CREATE INDEX runs_agent ON runs(agent_id, n);
CREATE INDEX runs_controller ON runs(controller_id, n);
CREATE TABLE snapshots (${made}, agent_id TEXT NOT NULL REFERENCES agents(id), controller_id TEXT NOT NULL, run_id TEXT NOT NULL,
  store_id TEXT NOT NULL, series TEXT NOT NULL, source TEXT NOT NULL, at INTEGER NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
  stored_bytes INTEGER NOT NULL, tags TEXT NOT NULL);
CREATE INDEX snapshots_agent ON snapshots(agent_id, n);
CREATE TABLE restores (${made}, state TEXT NOT NULL, agent_id TEXT NOT NULL REFERENCES agents(id), controller_id TEXT NOT NULL,
  snapshot_id TEXT, series TEXT, at INTEGER, store_id TEXT, selection TEXT NOT NULL, restore_root TEXT NOT NULL, conflict TEXT NOT NULL,
  purpose TEXT NOT NULL, instruction_id TEXT NOT NULL REFERENCES instructions(id), requested_by TEXT NOT NULL, approved_by TEXT,
  granted_by TEXT, public_key BLOB, public_key_signature BLOB, lease_id TEXT, lease_until INTEGER, attempt INTEGER NOT NULL, progress TEXT,
  totals TEXT, code TEXT, updated_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX restores_state ON restores(state, expires_at);
CREATE TABLE commands (${made}, agent_id TEXT NOT NULL REFERENCES agents(id), kind TEXT NOT NULL, body TEXT NOT NULL, restore_id TEXT,
  state TEXT NOT NULL, code TEXT, delivered_at INTEGER, expires_at INTEGER NOT NULL);
CREATE INDEX commands_open ON commands(agent_id, n) WHERE state IN ('queued', 'delivered');
CREATE INDEX commands_restore ON commands(restore_id) WHERE restore_id IS NOT NULL;
CREATE TABLE users (${made}, user_name TEXT NOT NULL UNIQUE, role TEXT NOT NULL, password_hash TEXT NOT NULL, totp_secret BLOB NOT NULL,
  totp_step INTEGER NOT NULL, recovery_hashes TEXT NOT NULL, failed_log_ins INTEGER NOT NULL, locked_until INTEGER NOT NULL,
  disabled INTEGER NOT NULL);
CREATE TABLE sessions (${made}, user_id TEXT NOT NULL REFERENCES users(id), last_used_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE TABLE api_tokens (${made}, name TEXT NOT NULL, secret_hash TEXT NOT NULL, controller_id TEXT REFERENCES controllers(id), role TEXT,
  expires_at INTEGER, revoked_at INTEGER, last_used_at INTEGER);
CREATE TABLE alerts (${made}, subject TEXT NOT NULL, kind TEXT NOT NULL, controller_id TEXT NOT NULL, agent_id TEXT NOT NULL, policy_id TEXT,
  closed_at INTEGER);
CREATE UNIQUE INDEX alerts_open ON alerts(subject) WHERE closed_at IS NULL;
CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, created_at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
  target TEXT NOT NULL, controller_id TEXT);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE blobs (kind TEXT NOT NULL, owner_id TEXT NOT NULL, version INTEGER NOT NULL, bytes BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (kind, owner_id));
CREATE TABLE idempotency_keys (owner TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL, result_id TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (owner, key)) WITHOUT ROWID;

CREATE TABLE record_frames (n INTEGER PRIMARY KEY AUTOINCREMENT, agent_id TEXT NOT NULL REFERENCES agents(id), seq INTEGER NOT NULL,
  controller_id TEXT NOT NULL, prev BLOB NOT NULL, sig BLOB NOT NULL, entry_hash BLOB NOT NULL, secret BLOB NOT NULL, header BLOB NOT NULL,
  body BLOB NOT NULL, kind TEXT NOT NULL, run_id TEXT, restore_id TEXT, at INTEGER NOT NULL, files INTEGER NOT NULL,
  received_at INTEGER NOT NULL, recorded_at INTEGER, refused_code TEXT, UNIQUE (agent_id, seq));
CREATE INDEX record_frames_open ON record_frames(agent_id, seq) WHERE recorded_at IS NULL;
CREATE INDEX record_frames_controller ON record_frames(controller_id, n);
CREATE INDEX record_frames_run ON record_frames(run_id) WHERE run_id IS NOT NULL;
CREATE TRIGGER record_frames_signed BEFORE UPDATE OF n, agent_id, seq, controller_id, prev, sig, entry_hash, secret, header, body, kind, run_id,
  restore_id, at, files, received_at ON record_frames BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER record_frames_recorded BEFORE UPDATE OF recorded_at ON record_frames WHEN old.recorded_at IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER record_frames_no_delete BEFORE DELETE ON record_frames BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE record_forks (n INTEGER PRIMARY KEY AUTOINCREMENT, agent_id TEXT NOT NULL, seq INTEGER NOT NULL, entry_hash BLOB NOT NULL,
  prev BLOB NOT NULL, sig BLOB NOT NULL, secret BLOB NOT NULL, header BLOB NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL,
  UNIQUE (agent_id, seq, entry_hash));
CREATE TRIGGER record_forks_no_update BEFORE UPDATE ON record_forks BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER record_forks_no_delete BEFORE DELETE ON record_forks BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE file_tokens (token BLOB NOT NULL, frame INTEGER NOT NULL REFERENCES record_frames(n), place INTEGER NOT NULL,
  PRIMARY KEY (token, frame, place)) WITHOUT ROWID;
CREATE TABLE jobs (n INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, job_id TEXT NOT NULL UNIQUE, data TEXT NOT NULL,
  created_at INTEGER NOT NULL, done_at INTEGER);
CREATE INDEX jobs_open ON jobs(n) WHERE done_at IS NULL;
`

/** Retention, needs statements and deletions. A deletion may be held that no enrolled agent signed, so an alert need not name one. */
const SECOND = `
ALTER TABLE policies ADD COLUMN retention TEXT;
ALTER TABLE stores ADD COLUMN delete_credentials BLOB;
ALTER TABLE snapshots ADD COLUMN deleted_at INTEGER;
CREATE INDEX snapshots_store ON snapshots(store_id) WHERE deleted_at IS NULL;
ALTER TABLE alerts RENAME TO alerts_before;
DROP INDEX alerts_open;
CREATE TABLE alerts (${made}, subject TEXT NOT NULL, kind TEXT NOT NULL, controller_id TEXT NOT NULL, agent_id TEXT, policy_id TEXT,
  deletion_id TEXT, closed_at INTEGER);
INSERT INTO alerts (n, id, created_at, subject, kind, controller_id, agent_id, policy_id, closed_at)
  SELECT n, id, created_at, subject, kind, controller_id, agent_id, policy_id, closed_at FROM alerts_before;
DROP TABLE alerts_before;
CREATE UNIQUE INDEX alerts_open ON alerts(subject) WHERE closed_at IS NULL;
CREATE TABLE need_series (n INTEGER PRIMARY KEY AUTOINCREMENT, store_id TEXT NOT NULL REFERENCES stores(id), series TEXT NOT NULL,
  agent_id TEXT NOT NULL REFERENCES agents(id), sequence INTEGER NOT NULL, snapshot_id TEXT NOT NULL, UNIQUE (store_id, series));
CREATE TABLE need_statements (store_id TEXT NOT NULL, snapshot_id TEXT NOT NULL, agent_id TEXT NOT NULL, series_n INTEGER, sequence INTEGER,
  at INTEGER NOT NULL, deleted_at INTEGER, PRIMARY KEY (store_id, snapshot_id, agent_id)) WITHOUT ROWID;
CREATE TABLE forgotten_snapshots (store_id TEXT NOT NULL, agent_id TEXT NOT NULL, snapshot_id TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (store_id, agent_id, snapshot_id)) WITHOUT ROWID;
CREATE TABLE need_intervals (pack BLOB NOT NULL, series_n INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER,
  PRIMARY KEY (pack, series_n, first)) WITHOUT ROWID;
CREATE INDEX need_intervals_open ON need_intervals(series_n) WHERE last IS NULL;
CREATE TABLE deletions (${made}, store_id TEXT NOT NULL REFERENCES stores(id), controller_id TEXT NOT NULL, agent_id TEXT, session TEXT NOT NULL,
  random TEXT NOT NULL, listed_at INTEGER NOT NULL, state TEXT NOT NULL, code TEXT, reasons TEXT NOT NULL, counts TEXT NOT NULL,
  wait_until INTEGER, why TEXT, decided_by TEXT, decided_at INTEGER, removed INTEGER NOT NULL, removed_bytes INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, ended_at INTEGER, UNIQUE (store_id, session, random));
CREATE INDEX deletions_open ON deletions(store_id) WHERE ended_at IS NULL;
`

/** What several agents claim, and when one was revoked: what was stored later is not its. `row` is the claim as a row of snapshots. */
const THIRD = `
ALTER TABLE agents ADD COLUMN revoked_at INTEGER;
CREATE TABLE snapshot_claims (id TEXT NOT NULL, agent_id TEXT NOT NULL REFERENCES agents(id), store_id TEXT NOT NULL, series TEXT NOT NULL,
  source TEXT NOT NULL, at INTEGER NOT NULL, created_at INTEGER NOT NULL, deleted_at INTEGER, row TEXT NOT NULL,
  PRIMARY KEY (id, agent_id)) WITHOUT ROWID;
CREATE INDEX snapshot_claims_store ON snapshot_claims(store_id);
`

/**
 * Contested snapshots are shown as such, and told of by an alert; revoking gives them to nobody, so no row waits for an heir. What was told of as replaced
 * and may be another agent's is settled once. When an agent was revoked stands in the audit; else it was before now.
 */
const FOURTH = `
ALTER TABLE snapshots ADD COLUMN contested INTEGER NOT NULL DEFAULT 0;
UPDATE snapshots SET contested = 1 WHERE EXISTS (SELECT 1 FROM snapshot_claims c JOIN stores s ON s.id = c.store_id
  JOIN agents a ON a.id = c.agent_id AND a.controller_id = s.controller_id WHERE c.id = snapshots.id AND c.store_id = snapshots.store_id);
ALTER TABLE snapshot_claims DROP COLUMN row;
ALTER TABLE alerts ADD COLUMN snapshot_id TEXT;
ALTER TABLE alerts ADD COLUMN other_agent_id TEXT;
UPDATE agents SET revoked_at = coalesce((SELECT min(created_at) FROM audit WHERE action = 'agent.revoke' AND target = agents.id), unixepoch() * 1000)
  WHERE state = 'revoked' AND revoked_at IS NULL;
CREATE TABLE settled_snapshots (store_id TEXT NOT NULL, snapshot_id TEXT NOT NULL, deletion_id TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (store_id, snapshot_id)) WITHOUT ROWID;
ALTER TABLE forgotten_snapshots ADD COLUMN heard_at INTEGER NOT NULL DEFAULT 0;
UPDATE forgotten_snapshots SET heard_at = at;
DROP INDEX snapshots_store;
CREATE INDEX snapshots_store ON snapshots(store_id);
`

/** Since when a store is seen without a snapshot that the books count, and when it was seen so last. */
const FIFTH = `
CREATE TABLE absent_snapshots (store_id TEXT NOT NULL, snapshot_id TEXT NOT NULL, since INTEGER NOT NULL, seen_at INTEGER NOT NULL,
  PRIMARY KEY (store_id, snapshot_id)) WITHOUT ROWID;
`

/** Who approved what was held again, and waits perhaps since, stood in the row and counted no more; now it counts for as long as it stands there. */
const SIXTH = `
UPDATE deletions SET decided_by = NULL, decided_at = NULL WHERE state IN ('held', 'waiting') AND why IS NOT 'approval';
`

/** The steps, in order. */
export const MIGRATIONS: readonly string[] = [FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH]

/** Brings the database to this program's shape; `newer-format` where it is ahead of it. */
export function migrate(db: DatabaseSync): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
  if (version > MIGRATIONS.length) {
    throw new HoldfastError(
      'newer-format',
      `this database has version ${version}, this program knows ${MIGRATIONS.length}; start a newer holdfast-server`,
    )
  }
  for (let next = version; next < MIGRATIONS.length; next++) {
    db.exec('BEGIN IMMEDIATE')
    try {
      db.exec(MIGRATIONS[next]!)
      db.exec(`PRAGMA user_version = ${next + 1}`)
      db.exec('COMMIT')
    } catch (error) {
      db.exec('ROLLBACK')
      throw error
    }
  }
}
