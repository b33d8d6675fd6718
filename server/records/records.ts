// The seam to the durable store of record. A promise resolves only after its commit is on disk; every act below is one transaction,
// and an audit line given with it is written in the same one. Implementation: sqlite-records.ts; test/server/records holds it to this text.
import type { RecordKind } from '@holdfast/shared/protocol/records.ts'
import type { DeletionState } from '@holdfast/shared/protocol/deletions.ts'
import type { NeedsStatement } from '@holdfast/shared/protocol/needs.ts'
import type { RestoreState } from '@holdfast/shared/protocol/restores.ts'
import type { RunReport, SnapshotReport } from '@holdfast/shared/protocol/agent.ts'
import type { QueueName } from '../queue.ts'
import type {
  AgentRow,
  AlertRow,
  AuditRow,
  CommandRow,
  DeletionRow,
  PolicyRow,
  RecordDelivered,
  RecordRow,
  RestoreRow,
  Rows,
  StoreRow,
  TableName,
  UserRow,
} from './rows.ts'

export type Audit = Omit<AuditRow, 'createdAt'> & { readonly at: number }

export type Page<T> = { readonly items: readonly T[]; /** Where the next page begins; null at the end. */ readonly next: number | null }
export type PageInput = { readonly limit: number; /** From a page's `next`. */ readonly after?: number | undefined }
/** Equality on any column; an array means any of its values; undefined means no condition. */
export type Where<T extends TableName> = { readonly [K in keyof Rows[T]]?: Rows[T][K] | readonly Rows[T][K][] | undefined }

/** The acts, as the implementation sees them: one input, one result. */
export type Acts = {
  /** Adds a row; `already-exists` where its id or another unique value is taken. */
  insert: <T extends TableName>(input: { table: T; row: Rows[T] }) => void
  /** Changes a row, where `where` still holds; the row as it is afterwards, or undefined where there is none such. */
  update: <T extends TableName>(input: { table: T; id: string; patch: Partial<Rows[T]>; where?: Where<T> }) => Rows[T] | undefined
  get: <T extends TableName>(input: { table: T; id: string }) => Rows[T] | undefined
  find: <T extends TableName>(input: { table: T; where: Where<T> }) => Rows[T] | undefined
  /** Newest first. */
  list: <T extends TableName>(input: { table: T; where: Where<T> } & PageInput) => Page<Rows[T]>
  removeSession: (input: { id: string }) => void
  /** Removes sessions that ended, used and expired enrolment codes' secrets excepted, before `at`. */
  prune: (input: { at: number }) => void

  getSetting: (input: { name: string }) => string | undefined
  /** Sets once; an existing value stays and is returned. */
  initSetting: (input: { name: string; value: string }) => string

  /** Uses up the code and adds the agent in one; `unauthenticated` where the code is unknown, used or expired. */
  enroll: (input: { secretHash: string; at: number; agent: Omit<AgentRow, 'controllerId' | 'siteId' | 'region'> }) => AgentRow
  /** Ends everything of an agent: its state, open commands and restores. Undefined where it was revoked before or never was. */
  revokeAgent: (input: { agentId: string; at: number }) => AgentRow | undefined
  /** Takes note of what a poll told. */
  noteSeen: (input: {
    agentId: string
    at: number
    seen: Pick<AgentRow, 'agentVersion' | 'sources' | 'restoreRoots' | 'journalPending' | 'journalBytes'>
  }) => void

  /** Adds a policy, or changes one, and raises the policies version of its agent. */
  savePolicy: (input: { row: PolicyRow } | { id: string; patch: Partial<PolicyRow> }) => PolicyRow | undefined

  /** Opaque bytes that the server relays and cannot open. A new version each time; returns it. */
  putBlob: (input: { kind: BlobKind; ownerId: string; bytes: Buffer; at: number }) => number
  getBlob: (input: { kind: BlobKind; ownerId: string }) => { version: number; bytes: Buffer } | undefined

  /**
   * Appends a contiguous batch to the agent's chain with one job a record. Records that are there already, with the same hash, pass.
   * Answers `gap` where the batch starts beyond the end, `fork` where a record differs from one accepted or does not continue the chain:
   * then the differing record is kept as evidence and the agent flagged.
   */
  acceptRecords: (input: { agentId: string; at: number; records: readonly RecordDelivered[] }) => AcceptResult
  /** With its body unless `withBody` is false. */
  getRecord: (input: { agentId: string; seq: number; withBody?: boolean }) => RecordRow | undefined
  /** Newest first; without bodies unless asked. */
  listRecords: (input: RecordFilter & PageInput & { withBody?: boolean }) => Page<RecordRow>
  /** File records by token: which record, and at which place in it. Newest first. */
  findToken: (input: { token: Buffer; controllerId?: string | undefined } & PageInput) => Page<{ record: RecordRow; index: number }>
  /** The work of a record's job: token rows, run, policy and snapshot from its header, recorded-through. Repeating it changes nothing. */
  markRecorded: (input: { agentId: string; seq: number; at: number }) => { recordedThrough: number }
  /** The record did not hold: it stays as evidence, never counts as recorded, and the agent is flagged. */
  refuseRecord: (input: { agentId: string; seq: number; code: string; at: number }) => void
  listForks: (input: { agentId: string }) => readonly { seq: number; entryHash: Buffer; at: number }[]

  /** Hints from the agent for the console; never overwrites what records said. */
  reportRun: (input: { agentId: string; controllerId: string; report: RunReport; at: number }) => void
  reportSnapshot: (input: { agentId: string; controllerId: string; report: SnapshotReport; at: number }) => void

  /** The restore that was made with this idempotency key before. */
  restoreOfKey: (input: { owner: string; key: string }) => { restore: RestoreRow; bodyHash: string } | undefined
  /** Adds the restore and its job. The same key with the same body hash gives the restore that is there; with another, `unprocessable`. */
  createRestore: (input: { row: RestoreRow; owner: string; key: string; bodyHash: string }) => { restore: RestoreRow; created: boolean }
  /**
   * Moves a restore that is in one of `from`, with a command for its agent where the step needs one; undefined where it is elsewhere.
   * Reaching an end closes its job and withdraws its commands; moving it otherwise withdraws the commands that are open before the new one.
   */
  moveRestore: (input: {
    id: string
    from: readonly RestoreState[]
    patch: Partial<RestoreRow>
    command?: CommandRow | undefined
    /** Only where the lease is still this one. */
    leaseId?: string | undefined
  }) => RestoreRow | undefined
  /** Extends the lease and notes progress; undefined where the lease is not the restore's, or it has ended. */
  beatRestore: (input: {
    id: string
    agentId: string
    leaseId: string
    progress: NonNullable<RestoreRow['progress']>
    leaseUntil: number
  }) => RestoreRow | undefined

  /** Commands to deliver now: new ones, and those delivered before `again` without an acknowledgement. A restore gets its lease here. */
  claimCommands: (input: { agentId: string; at: number; again: number; leaseId: string; leaseUntil: number }) => readonly CommandRow[]
  /** Takes note of acknowledgements; answers the restores whose command the agent refused. */
  acknowledgeCommands: (input: {
    agentId: string
    acknowledged: readonly { commandId: string; result: 'taken' | 'refused'; code?: string | undefined }[]
  }) => readonly { restoreId: string; code: string }[]

  /** Counts a log-in. A right password with a TOTP step that was used already answers false, and so does a used recovery code. */
  noteLogIn: (input: { userId: string; ok: boolean; at: number; lockMs: number; totpStep?: number; recoveryHash?: string }) => boolean

  /** Jobs whose work is not done yet, oldest first: the queue is derived from these. */
  openJobs: (input: { limit: number; after?: number | undefined }) => Page<JobRow>
  closeJob: (input: { jobId: string; at: number }) => void
  /** Enabled policies of active agents whose next due time plus grace has passed. */
  overdue: (input: { at: number; graceMs: number }) => readonly PolicyRow[]
  /** Active agents that were not seen since. */
  silent: (input: { since: number }) => readonly AgentRow[]
  /** Restores that need the step job's eye: past their expiry, or running with a lease that ended. */
  lapsedRestores: (input: { at: number }) => readonly string[]
  /** Opens an alert once per subject; true where it is new. */
  openAlert: (input: { row: AlertRow }) => boolean
  /** Closes open alerts of this kind whose subject is not listed; how many. */
  closeAlertsExcept: (input: { kind: AlertRow['kind']; subjects: readonly string[]; at: number }) => number
  /** Where a series stands with the server; undefined where this agent has stated nothing of it. */
  needsStand: (input: { agentId: string; storeId: string; series: string }) => { sequence: number; snapshotId: string } | undefined
  /**
   * Takes a needs statement. The first about a snapshot counts: another one changes nothing. `conflict` where it does not go on from the last of its
   * series, or where the series is another agent's; `not-found` where the store is not its controller's.
   */
  stateNeeds: (input: { agentId: string; at: number; statement: NeedsStatement }) => { sequence: number; snapshotId: string | null }
  /** All that this server knows of snapshots in a store, deleted ones too; and those that were replaced before they were reported. */
  booksOf: (input: { storeId: string }) => {
    snapshots: readonly KnownSnapshot[]
    replaced: readonly { id: string; agentId: string }[]
    /** Snapshots that count as replaced by the controller's approval, whoever may have made them. */
    settled: readonly string[]
    /** All agents of the store's controller, and when each was last heard from. */
    agents: readonly KnownAgent[]
    /** `at`: since when the agent says so without a break; `heardAt`: when it said so last. */
    forgotten: readonly { id: string; agentId: string; at: number; heardAt: number }[]
    /** Snapshots that the store was seen without since then, at looks no more than `gapMs` apart, and last at `seenAt`. */
    absent: readonly { id: string; since: number; seenAt: number }[]
  }
  /** Takes note of which of its snapshots in a store an agent has forgotten: all of them; others it has taken back. */
  noteForgotten: (input: { agentId: string; storeId: string; snapshotIds: readonly string[]; at: number }) => void
  /**
   * Takes note of a look into a store: which snapshots it was seen without, all of them; anew where the look before was more than `gapMs` ago. What has a
   * later time was told or seen while the clock was ahead, and counts from now on.
   */
  noteLooked: (input: { storeId: string; absent: readonly string[]; at: number; gapMs: number }) => void
  /** What was stated about these packs (32 bytes each) and about all packs of these sessions. */
  needsOf: (input: { storeId: string; packs: Buffer; sessions: readonly string[] }) => readonly NeedInterval[]
  /** How many packs the last snapshot needs that was stated of each series in a store. */
  needStands: (input: { storeId: string }) => readonly { readonly snapshotId: string; readonly packs: number }[]
  /** Forgets what was stated about packs (32 bytes each) that are gone. */
  dropNeeds: (input: { storeId: string; packs: Buffer }) => void
  /** Gives or takes the right to delete in a store, and with it the job that looks there. */
  setDeleteCredentials: (input: { storeId: string; credentials: Buffer | null; at: number }) => StoreRow
  /** Adds the row of a list that was found in a store; the row that is there already, where it is. */
  noteDeletion: (input: { row: DeletionRow }) => DeletionRow
  /** Those of a store that have not ended, oldest first. */
  openDeletions: (input: { storeId: string }) => readonly DeletionRow[]
  /**
   * Moves a deletion that is in one of `from`: opens its alert where it is held, closes it else; `snapshots` count as deleted from then on, and
   * `settled` as replaced.
   */
  moveDeletion: (input: {
    id: string
    from: readonly DeletionState[]
    patch: Partial<DeletionRow>
    alert?: Omit<AlertRow, 'subject'> | undefined
    snapshots?: readonly string[] | undefined
    settled?: readonly string[] | undefined
  }) => DeletionRow | undefined
  /** Cheap proof that the database answers. */
  ping: (input: Record<string, never>) => void
}
export type ActName = keyof Acts

/** A snapshot in the server's books. */
export type KnownSnapshot = {
  readonly id: string
  readonly agentId: string
  readonly series: string | null
  /** Null where only its needs were stated. */
  readonly source: string | null
  readonly claimedAt: number | null
  readonly witnessedAt: number
  readonly deleted: boolean
  /** Another agent says that it made this one too; then there is one of these for each. */
  readonly contested: boolean
  /** Its place in its series, where its needs were stated. */
  readonly sequence: number | null
}
/** An agent as the books know it; times by this server's clock. */
export type KnownAgent = { readonly id: string; readonly heardAt: number; readonly revokedAt: number | null }
/** A pack (64 hex digits: session and random part) is needed by the snapshots `first` to `last` of a series; null: so far. */
export type NeedInterval = { readonly pack: string; readonly series: string; readonly first: number; readonly last: number | null }

export type BlobKind = 'bundle' | 'roster' | 'grant'
export type AcceptResult =
  | { readonly kind: 'accepted'; readonly through: number; readonly hash: Buffer }
  | { readonly kind: 'gap'; readonly expectedSeq: number; readonly hash: Buffer }
  | { readonly kind: 'fork'; readonly seq: number; readonly through: number; readonly hash: Buffer }
export type RecordFilter = {
  readonly controllerId?: string | undefined
  readonly agentId?: string | undefined
  readonly runId?: string | undefined
  readonly restoreId?: string | undefined
  readonly kind?: RecordKind | undefined
  readonly from?: number | undefined
  readonly to?: number | undefined
}
export type JobRow = {
  readonly queue: QueueName
  readonly jobId: string
  readonly data: { readonly [field: string]: string | number }
  readonly createdAt: number
}

/** The acts as callers see them, with the audit line of the request that causes them. */
export type Records = {
  insert<T extends TableName>(input: { table: T; row: Rows[T] }, audit?: Audit): Promise<void>
  update<T extends TableName>(
    input: { table: T; id: string; patch: Partial<Rows[T]>; where?: Where<T> },
    audit?: Audit,
  ): Promise<Rows[T] | undefined>
  get<T extends TableName>(input: { table: T; id: string }): Promise<Rows[T] | undefined>
  find<T extends TableName>(input: { table: T; where: Where<T> }): Promise<Rows[T] | undefined>
  list<T extends TableName>(input: { table: T; where: Where<T> } & PageInput): Promise<Page<Rows[T]>>
  /** A consistent copy of the whole store in one new file, checked; while the server runs. */
  backup(path: string): Promise<void>
  /** Waits for what was begun, then closes. */
  close(): Promise<void>
} & {
  [K in Exclude<ActName, 'insert' | 'update' | 'get' | 'find' | 'list'>]: (
    input: Parameters<Acts[K]>[0],
    audit?: Audit,
  ) => Promise<ReturnType<Acts[K]>>
}

export type { UserRow }
