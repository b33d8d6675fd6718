// All acts of the durable store in SQLite, by name: what the worker can be asked to do.
import type { Acts } from '../records.ts'
import * as agents from './agents.ts'
import * as deletions from './deletions.ts'
import * as jobs from './jobs.ts'
import * as journal from './journal.ts'
import * as needs from './needs.ts'
import * as restores from './restores.ts'
import { findRow, insertRow, listRows, updateRow } from './table.ts'
import type { Db } from './table.ts'
import * as users from './users.ts'

type Bound<F> = F extends (input: infer I) => infer O ? (db: Db, input: I) => O : never
type SqliteActs = { readonly [K in keyof Acts]: Bound<Acts[K]> }

export const sqliteActs: SqliteActs = {
  insert: (db, { table, row }) => insertRow(db, table, row),
  update: (db, { table, id, patch, where }) => updateRow(db, table, id, patch, where),
  get: (db, { table, id }) => findRow(db, table, { id }),
  find: (db, { table, where }) => findRow(db, table, where),
  list: (db, { table, where, ...page }) => listRows(db, table, where, page),
  removeSession: users.removeSession,
  prune: users.prune,
  getSetting: users.getSetting,
  initSetting: users.initSetting,
  enroll: agents.enroll,
  revokeAgent: agents.revokeAgent,
  noteSeen: agents.noteSeen,
  savePolicy: agents.savePolicy,
  putBlob: agents.putBlob,
  getBlob: agents.getBlob,
  acceptRecords: journal.acceptRecords,
  getRecord: journal.getRecord,
  listRecords: journal.listRecords,
  findToken: journal.findToken,
  markRecorded: journal.markRecorded,
  refuseRecord: journal.refuseRecord,
  listForks: journal.listForks,
  reportRun: agents.reportRun,
  reportSnapshot: agents.reportSnapshot,
  restoreOfKey: restores.restoreOfKey,
  createRestore: restores.createRestore,
  moveRestore: restores.moveRestore,
  beatRestore: restores.beatRestore,
  claimCommands: restores.claimCommands,
  acknowledgeCommands: restores.acknowledgeCommands,
  noteLogIn: users.noteLogIn,
  openJobs: jobs.openJobs,
  closeJob: jobs.closeJob,
  overdue: jobs.overdue,
  silent: jobs.silent,
  lapsedRestores: jobs.lapsedRestores,
  openAlert: jobs.openAlert,
  closeAlertsExcept: jobs.closeAlertsExcept,
  needsStand: needs.needsStand,
  stateNeeds: needs.stateNeeds,
  booksOf: needs.booksOf,
  noteForgotten: needs.noteForgotten,
  noteLooked: needs.noteLooked,
  needsOf: needs.needsOf,
  needStands: needs.needStands,
  dropNeeds: needs.dropNeeds,
  setDeleteCredentials: deletions.setDeleteCredentials,
  noteDeletion: deletions.noteDeletion,
  openDeletions: deletions.openDeletions,
  moveDeletion: deletions.moveDeletion,
  ping: users.ping,
}
