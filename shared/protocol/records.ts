// What a record says: the header of one journal entry, as the agent signs it, by kind. Per-file records stand in the body (record.ts).
// Sizes are Padmé-rounded; no name, path or content can be expressed (obligations O4, O14).
import { z } from 'zod'
import * as c from './common.ts'

export const RECORD_KINDS = [
  'run-started',
  'transmission',
  'run-ended',
  'recovery-started',
  'recovery',
  'recovery-ended',
  'agent-note',
] as const
export type RecordKind = (typeof RECORD_KINDS)[number]
export const recordKind = z.enum(RECORD_KINDS)

/** Who acted: the agent by itself, a person at its command line, a policy, a user of the server, or an API token. */
export const actor = z
  .string()
  .regex(
    /^(agent|local|policy:pol_[0-9a-f]{32}|user:usr_[0-9a-f]{32}|token:tok_[0-9a-f]{32})$/,
    'must be agent, local, policy:ID, user:ID or token:ID',
  )

/** One end of a transfer. A store's end names the store; an appliance's end has its region, and the restore root where data landed. */
export const place = z.strictObject({ region: c.region, country: c.country.optional(), storeId: c.storeId.optional() })

/** Totals over the file records of this entry. */
export const fileTotals = z.strictObject({
  /** How many file records the body holds. */
  count: c.count,
  /** Sum of the rounded sizes. */
  bytes: c.count,
  /** Rounded bytes newly stored, or written by a recovery. */
  new: c.count,
  /** Rounded bytes found in the repository already, or kept as they were. */
  reused: c.count,
  /** File records whose outcome is `failed`. */
  failed: c.count,
})

/** Totals of a whole run or recovery. Sizes in bytes, Padmé-rounded. */
export const runTotals = z.strictObject({
  files: c.count,
  bytes: c.count,
  newBytes: c.count,
  reusedBytes: c.count,
  /** Bytes that went to the store, packs and index files and all; 0 for a recovery. */
  storedBytes: c.count,
  unchanged: c.count,
  failed: c.count,
  changed: c.count,
  skipped: c.count,
})
export type RunTotals = z.infer<typeof runTotals>

const common = {
  v: z.literal(1),
  agentId: c.agentId,
  controllerId: c.controllerId,
  processorId: c.processorId,
  actor,
  /** The instruction behind the act; null only for a person at the appliance's own command line. */
  instructionId: c.instructionId.nullable(),
  purpose: c.purpose,
  /** The agent's clock. */
  at: c.time,
}
const run = { ...common, runId: c.runId, policyId: c.policyId.optional(), source: c.label, series: c.hex64.optional() }
const recovery = {
  ...common,
  runId: c.runId,
  restoreId: c.restoreId.optional(),
  snapshotId: c.snapshotId,
  source: c.label.optional(),
  series: c.hex64.optional(),
  restoreRoot: c.label.optional(),
  requestedBy: actor.optional(),
  approvedBy: actor.optional(),
}
const ends = { from: place, to: place }
const body = { files: fileTotals, filesRoot: c.hex64 }

export const runStarted = z.strictObject({ ...run, ...ends, kind: z.literal('run-started') })
export const transmission = z.strictObject({
  ...run,
  ...ends,
  ...body,
  kind: z.literal('transmission'),
  outcome: c.outcome,
  code: c.code.optional(),
})
export const runEnded = z.strictObject({
  ...run,
  ...ends,
  kind: z.literal('run-ended'),
  outcome: c.outcome,
  code: c.code.optional(),
  snapshotId: c.snapshotId.optional(),
  totals: runTotals,
})
export const recoveryStarted = z.strictObject({ ...recovery, ...ends, kind: z.literal('recovery-started') })
export const recoveryBatch = z.strictObject({
  ...recovery,
  ...ends,
  ...body,
  kind: z.literal('recovery'),
  outcome: c.outcome,
  code: c.code.optional(),
})
export const recoveryEnded = z.strictObject({
  ...recovery,
  ...ends,
  kind: z.literal('recovery-ended'),
  outcome: c.outcome,
  code: c.code.optional(),
  totals: runTotals,
})
/** What an agent must tell though no run is on: `journal-nearly-full`, `clock-stepped`, `forked-journal` and the like. */
export const agentNote = z.strictObject({
  ...common,
  kind: z.literal('agent-note'),
  code: c.code,
  amount: c.count.optional(),
  runId: c.runId.optional(),
})

export const recordHeader = z.discriminatedUnion('kind', [
  runStarted,
  transmission,
  runEnded,
  recoveryStarted,
  recoveryBatch,
  recoveryEnded,
  agentNote,
])
export type RecordHeader = z.infer<typeof recordHeader>

/** Reply to a delivery of records: everything up to here is durable. */
export const recordsAccepted = z.strictObject({ acceptedThrough: c.count, acceptedHash: c.hex64, serverTime: c.time })
export type RecordsAccepted = z.infer<typeof recordsAccepted>

export const RECORDS_CONTENT_TYPE = 'application/vnd.holdfast.records'
