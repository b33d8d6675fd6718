// Log-ins, sessions and settings in SQLite.
import type { Acts } from '../records.ts'
import { findRow, updateRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

export const noteLogIn: Act<'noteLogIn'> = (db, { userId, ok, at, lockMs, totpStep, recoveryHash }) => {
  const user = findRow(db, 'users', { id: userId })
  if (user === undefined) return false
  // The decision on replay is made here, in the transaction that takes note of it: two log-ins at once cannot share one code.
  const fresh =
    (totpStep === undefined || totpStep > user.totpStep) && (recoveryHash === undefined || user.recoveryHashes.includes(recoveryHash))
  if (!ok || !fresh || (totpStep === undefined && recoveryHash === undefined)) {
    updateRow(db, 'users', userId, { failedLogIns: user.failedLogIns + 1, lockedUntil: Math.max(user.lockedUntil, at + lockMs) })
    return false
  }
  updateRow(db, 'users', userId, {
    failedLogIns: 0,
    lockedUntil: 0,
    ...(totpStep === undefined ? {} : { totpStep }),
    ...(recoveryHash === undefined ? {} : { recoveryHashes: user.recoveryHashes.filter((hash) => hash !== recoveryHash) }),
  })
  return true
}

export const removeSession: Act<'removeSession'> = (db, { id }) => {
  db.sql('DELETE FROM sessions WHERE id = ?').run(id)
}

export const prune: Act<'prune'> = (db, { at }) => {
  db.sql('DELETE FROM sessions WHERE expires_at <= ?').run(at)
}

export const getSetting: Act<'getSetting'> = (db, { name }) => {
  const row = db.sql('SELECT value FROM settings WHERE name = ?').get(name)
  return row === undefined ? undefined : String(row['value'])
}

export const initSetting: Act<'initSetting'> = (db, { name, value }) => {
  db.sql('INSERT OR IGNORE INTO settings (name, value) VALUES (?, ?)').run(name, value)
  return getSetting(db, { name }) ?? value
}

export const ping: Act<'ping'> = (db) => {
  db.sql('SELECT 1').get()
}
