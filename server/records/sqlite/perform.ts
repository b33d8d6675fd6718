// Opening the database, and carrying out one act in the transaction under way: what the thread that owns the database does, apart from its messages.
import { DatabaseSync } from 'node:sqlite'
import type { ActName, Audit } from '../records.ts'
import { sqliteActs } from './acts.ts'
import { migrate } from './migrations.ts'
import { revive } from './revive.ts'
import { Db } from './table.ts'

/** The database at `path`, made and brought up to date where needed; `:memory:` keeps nothing. Throws `newer-format`, and what SQLite says. */
export function openDatabase(path: string): Db {
  const raw = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 })
  raw.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768',
  )
  migrate(raw)
  return new Db(raw)
}

/** One act under its own savepoint: done whole, with its audit line, or not at all. Throws what the act says. */
export function performAct(db: Db, name: ActName, input: unknown, audit: Audit | undefined): unknown {
  db.raw.exec('SAVEPOINT act')
  try {
    const act = sqliteActs[name] as (db: Db, input: unknown) => unknown
    const value = act(db, revive(input))
    if (audit !== undefined) writeAudit(db, audit)
    db.raw.exec('RELEASE act')
    return value
  } catch (error) {
    // A full or failing disk ends the whole transaction by itself.
    if (db.raw.isTransaction) db.raw.exec('ROLLBACK TO act; RELEASE act')
    throw error
  }
}

function writeAudit(db: Db, audit: Audit): void {
  db.sql('INSERT INTO audit (id, created_at, actor, action, target, controller_id) VALUES (?, ?, ?, ?, ?, ?)').run(
    audit.id,
    audit.at,
    audit.actor,
    audit.action,
    audit.target,
    audit.controllerId,
  )
}
