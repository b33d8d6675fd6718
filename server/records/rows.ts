// The rows of the durable store, as plain data. Times are milliseconds since 1970 by the server's clock, binary is Buffer.
// Nothing here can hold a path, a file name, content or a key that opens data (obligation O14).
import type { CommandKind, Selection } from '@holdfast/shared/protocol/commands.ts'
import type { Purpose } from '@holdfast/shared/protocol/common.ts'
import type { DeletionCode, DeletionState } from '@holdfast/shared/protocol/deletions.ts'
import type { RecordHeader, RecordKind, RunTotals } from '@holdfast/shared/protocol/records.ts'
import type { RetentionRules } from '@holdfast/shared/retention.ts'
import type { RestoreState } from '@holdfast/shared/protocol/restores.ts'
import type { Schedule } from '@holdfast/shared/protocol/schedule.ts'
import type { UserRole } from '@holdfast/shared/protocol/resources.ts'

type Made = { readonly id: string; readonly createdAt: number }

export type ControllerRow = Made & {
  readonly name: string
  readonly countries: readonly string[]
  readonly approval: 'none' | 'second-person'
  readonly rosterVersion: number
}
export type RepresentativeRow = Made & {
  readonly controllerId: string
  readonly name: string
  readonly contact: string
  readonly title: string | null
  readonly employer: string | null
}
export type SiteRow = Made & { readonly controllerId: string; readonly name: string; readonly region: string }
export type StoreRow = Made & {
  readonly controllerId: string
  readonly name: string
  readonly kind: 's3' | 'directory'
  readonly endpoint: string | null
  readonly bucket: string | null
  readonly prefix: string | null
  readonly region: string
  readonly country: string
  /** Sealed with the key outside the database. */
  readonly credentials: Buffer | null
  /** Sealed likewise; with these the server deletes. */
  readonly deleteCredentials: Buffer | null
}
export type InstructionRow = Made & {
  readonly controllerId: string
  readonly kind: 'standing' | 'request'
  readonly author: string
  readonly channel: 'contract' | 'portal' | 'letter' | 'e-mail' | 'telephone' | 'in-person'
  readonly scope: { readonly agentIds: readonly string[]; readonly sources: readonly string[] }
  readonly purposes: readonly Purpose[]
  readonly textHash: string
  readonly validFrom: number
  readonly validTo: number | null
  readonly enteredByProcessor: boolean
}
export type EnrolmentCodeRow = Made & {
  readonly controllerId: string
  readonly siteId: string
  readonly secretHash: string
  readonly expiresAt: number
  readonly usedAt: number | null
  readonly agentId: string | null
}
export type AgentRow = Made & {
  readonly controllerId: string
  readonly siteId: string
  readonly host: string
  readonly state: 'active' | 'revoked'
  readonly region: string
  readonly publicKey: Buffer
  readonly enrolmentKey: Buffer
  readonly agentVersion: string
  readonly sources: readonly string[]
  readonly restoreRoots: readonly string[]
  readonly lastSeenAt: number | null
  /** The end of the agent's chain as accepted: sequence and entry hash. */
  readonly lastSeq: number
  readonly lastHash: Buffer
  readonly recordedThrough: number
  readonly policiesVersion: number
  readonly bundleVersion: number
  readonly journalPending: number
  readonly journalBytes: number
  readonly incident: string | null
  /** Null while it is active. */
  readonly revokedAt: number | null
}
export type PolicyRow = Made & {
  readonly version: number
  readonly agentId: string
  readonly controllerId: string
  readonly source: string
  readonly schedule: Schedule
  readonly storeId: string
  readonly instructionId: string
  readonly purpose: Purpose
  readonly tags: readonly string[]
  readonly excludes: readonly string[]
  /** Null: all snapshots stay. */
  readonly retention: RetentionRules | null
  readonly enabled: boolean
  readonly lastRunAt: number | null
  readonly lastGoodAt: number | null
  readonly nextDueAt: number | null
}
export type RunState = 'running' | 'ok' | 'incomplete' | 'failed' | 'cancelled'
export type RunRow = Made & {
  readonly agentId: string
  readonly controllerId: string
  readonly policyId: string | null
  readonly restoreId: string | null
  readonly kind: 'backup' | 'recovery'
  readonly source: string | null
  readonly state: RunState
  readonly code: string | null
  readonly startedAt: number
  readonly endedAt: number | null
  readonly totals: RunTotals | null
  readonly snapshotId: string | null
  readonly recordedFiles: number
  readonly recordedBytes: number
  readonly recorded: boolean
}
export type SnapshotRow = Made & {
  readonly agentId: string
  readonly controllerId: string
  readonly runId: string
  readonly storeId: string
  readonly series: string
  readonly source: string
  readonly at: number
  readonly files: number
  readonly bytes: number
  readonly storedBytes: number
  readonly tags: readonly string[]
  readonly deletedAt: number | null
  /** Another agent of its controller says that it made this one too; once so, always so. */
  readonly contested: boolean
}
export type RestoreRow = Made & {
  readonly state: RestoreState
  readonly agentId: string
  readonly controllerId: string
  readonly snapshotId: string | null
  readonly series: string | null
  readonly at: number | null
  readonly storeId: string | null
  readonly selection: Selection
  readonly restoreRoot: string
  readonly conflict: 'beside' | 'changed' | 'always' | 'never'
  readonly purpose: 'restore' | 'restore-test'
  readonly instructionId: string
  readonly requestedBy: string
  readonly approvedBy: string | null
  readonly grantedBy: string | null
  readonly publicKey: Buffer | null
  readonly publicKeySignature: Buffer | null
  readonly leaseId: string | null
  readonly leaseUntil: number | null
  readonly attempt: number
  readonly progress: {
    readonly done: { readonly files: number; readonly bytes: number }
    readonly total: { readonly files: number; readonly bytes: number }
    readonly at: number
  } | null
  readonly totals: RunTotals | null
  readonly code: string | null
  readonly updatedAt: number
  readonly expiresAt: number
}
export type CommandRow = Made & {
  readonly agentId: string
  readonly kind: CommandKind
  readonly body: { readonly [field: string]: unknown }
  readonly restoreId: string | null
  readonly state: 'queued' | 'delivered' | 'taken' | 'refused' | 'withdrawn'
  readonly code: string | null
  readonly deliveredAt: number | null
  readonly expiresAt: number
}
export type UserRow = Made & {
  readonly userName: string
  readonly role: UserRole
  /** Argon2id in PHC string form. */
  readonly passwordHash: string
  /** The TOTP secret, sealed with the key outside the database. */
  readonly totpSecret: Buffer
  /** The last TOTP step that was accepted; an equal or earlier one is a replay. */
  readonly totpStep: number
  /** SHA-256 of the recovery codes that are left. */
  readonly recoveryHashes: readonly string[]
  readonly failedLogIns: number
  readonly lockedUntil: number
  readonly disabled: boolean
}
/** `id` is the SHA-256 of the cookie's secret. */
export type SessionRow = Made & { readonly userId: string; readonly lastUsedAt: number; readonly expiresAt: number }
export type ApiTokenRow = Made & {
  readonly name: string
  readonly secretHash: string
  /** Set: acts for this controller. Null: for the processor, with `role`. */
  readonly controllerId: string | null
  readonly role: 'operator' | 'auditor' | null
  readonly expiresAt: number | null
  readonly revokedAt: number | null
  readonly lastUsedAt: number | null
}
export type AlertRow = Made & {
  /** What the alert is about, once while open: `overdue:pol_...`, `silent:ag_...`, `deletion-held:del_...`,
   * `snapshot-contested:store_...:ag_...:ag_...`. */
  readonly subject: string
  readonly kind: 'overdue' | 'silent' | 'deletion-held' | 'snapshot-contested'
  readonly controllerId: string
  readonly agentId: string | null
  readonly policyId: string | null
  readonly deletionId: string | null
  /** The first snapshot that two agents say they made; `agentId` told of it last, `otherAgentId` before. */
  readonly snapshotId: string | null
  readonly otherAgentId: string | null
  readonly closedAt: number | null
}
/** Why a deletion is not carried out, by code, with how often and a few of the names that it is about. */
export type DeletionReason = { readonly code: DeletionCode; readonly count: number; readonly samples: readonly string[] }
/** A signed list in a store that names objects to delete, and what became of it. */
export type DeletionRow = Made & {
  readonly storeId: string
  readonly controllerId: string
  /** The enrolled agent that signed the list; null where it is none's. */
  readonly agentId: string | null
  /** The two parts of the list's name. */
  readonly session: string
  readonly random: string
  /** When the list was stored, by the store's clock. */
  readonly listedAt: number
  readonly state: DeletionState
  /** The first of the reasons. */
  readonly code: DeletionCode | null
  readonly reasons: readonly DeletionReason[]
  readonly counts: { readonly snapshots: number; readonly packs: number; readonly others: number }
  /** When the undelete window is over, where nothing else is in the way. */
  readonly waitUntil: number | null
  /** What explained it: the policies' retention, or the controller's approval. */
  readonly why: 'retention' | 'approval' | null
  readonly decidedBy: string | null
  readonly decidedAt: number | null
  readonly removed: number
  readonly removedBytes: number
  readonly updatedAt: number
  readonly endedAt: number | null
}
/** One line of what was done through the API, written in the transaction that did it. `id` is the request's. */
export type AuditRow = Made & {
  /** `user:ID`, `token:ID`, `agent:ID`, `code:ID` or `system`. */
  readonly actor: string
  readonly action: string
  readonly target: string
  readonly controllerId: string | null
}

/** Every table that can be read, listed and changed by row. */
export type Rows = {
  readonly controllers: ControllerRow
  readonly representatives: RepresentativeRow
  readonly sites: SiteRow
  readonly stores: StoreRow
  readonly instructions: InstructionRow
  readonly enrolmentCodes: EnrolmentCodeRow
  readonly agents: AgentRow
  readonly policies: PolicyRow
  readonly runs: RunRow
  readonly snapshots: SnapshotRow
  readonly restores: RestoreRow
  readonly commands: CommandRow
  readonly users: UserRow
  readonly sessions: SessionRow
  readonly apiTokens: ApiTokenRow
  readonly alerts: AlertRow
  readonly audit: AuditRow
  readonly deletions: DeletionRow
}
export type TableName = keyof Rows

/** An accepted record with the bytes that were signed. */
export type RecordRow = {
  readonly agentId: string
  readonly seq: number
  readonly controllerId: string
  readonly prev: Buffer
  readonly sig: Buffer
  readonly secret: Buffer
  readonly header: Buffer
  readonly body: Buffer
  readonly entryHash: Buffer
  readonly kind: RecordKind
  readonly runId: string | null
  readonly restoreId: string | null
  readonly at: number
  readonly files: number
  readonly receivedAt: number
  readonly recordedAt: number | null
  /** Set where the record's job refused it: the code of what was wrong. */
  readonly refusedCode: string | null
}
/** A record as delivered, opened at the door. */
export type RecordDelivered = Pick<RecordRow, 'seq' | 'prev' | 'sig' | 'secret' | 'header' | 'body' | 'entryHash'> & {
  readonly opened: RecordHeader
}
