// The durable store of a simulated server: the real acts on a real SQLite database in memory, in this thread and one act after the other, so that
// what happens when is the simulation's alone. The database outlives its servers, as a disk does.
import type { ActName, Acts, Audit, Records } from 'holdfast-server/records/records.ts'
import type { Rows, TableName } from 'holdfast-server/records/rows.ts'
import { sqliteActs } from 'holdfast-server/records/sqlite/acts.ts'
import { openDatabase, performAct } from 'holdfast-server/records/sqlite/perform.ts'
import { revive } from 'holdfast-server/records/sqlite/revive.ts'

export type SimulatedDatabase = {
  /** The durable store as one server has it: each act waits for `turn`, and is durable when that calls what it is given. */
  readonly records: (turn: <T>(act: ActName, perform: () => T) => Promise<T>) => Records
  /** The truth, at once. */
  readonly look: <K extends ActName>(act: K, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>
  readonly get: <T extends TableName>(table: T, id: string) => Rows[T] | undefined
  /** Rows that no act of the product lists. */
  readonly rows: (sql: string) => readonly Record<string, unknown>[]
  readonly close: () => void
}

export function simulatedDatabase(): SimulatedDatabase {
  const db = openDatabase(':memory:')
  const perform = (act: ActName, input: unknown, audit: Audit | undefined): unknown => {
    db.raw.exec('BEGIN IMMEDIATE')
    try {
      const value = performAct(db, act, input, audit)
      db.raw.exec('COMMIT')
      // As it comes from the thread of the real one.
      return revive(structuredClone(value))
    } catch (error) {
      if (db.raw.isTransaction) db.raw.exec('ROLLBACK')
      throw error
    }
  }
  return {
    records: (turn) => ({
      ...(Object.fromEntries(
        (Object.keys(sqliteActs) as ActName[]).map((act) => [
          act,
          (input: unknown, audit?: Audit) => {
            const copy = structuredClone(input)
            return turn(act, () => perform(act, copy, audit))
          },
        ]),
      ) as unknown as Omit<Records, 'backup' | 'close'>),
      backup: () => Promise.reject(new Error('a simulated database makes no copies')),
      close: async () => undefined,
    }),
    look: (act, input) => perform(act, input, undefined) as ReturnType<Acts[typeof act]>,
    get: <T extends TableName>(table: T, id: string) => perform('get', { table, id }, undefined) as Rows[T] | undefined,
    rows: (sql) => db.raw.prepare(sql).all(),
    close: () => db.raw.close(),
  }
}
