// What agent and server say to each other under /v1/agent. Requests are signed by the agent, answers by the server (signatures.ts).
import { z } from 'zod'
import { signedCommand } from './commands.ts'
import * as c from './common.ts'
import { runTotals } from './records.ts'
import { retentionRules } from './retention.ts'
import { schedule } from './schedule.ts'

/** What an appliance tells of itself: labels only, the paths behind them stay there. */
const appliance = {
  agentVersion: z.string().regex(/^[0-9A-Za-z.+-]{1,32}$/, 'must be a version'),
  sources: z.array(c.label).max(256),
  restoreRoots: z.array(c.label).max(256),
}

export const enrollRequest = z.strictObject({
  /** The secret half of the enrolment code. */
  secret: z.string().regex(/^[a-z2-7]{25}$/, 'must be the secret half of an enrolment code'),
  /** Ed25519 key that signs requests and records; this request is signed by it (proof of possession). */
  publicKey: c.ed25519PublicKey,
  /** X-Wing key that the controller seals the domain bundle to. */
  enrolmentKey: c.xwingPublicKey,
  host: c.label,
  ...appliance,
})
export type EnrollRequest = z.infer<typeof enrollRequest>

export const enrollReply = z.strictObject({
  agentId: c.agentId,
  controllerId: c.controllerId,
  siteId: c.siteId,
  processorId: c.processorId,
  /** Where the appliance stands, for the records it writes. */
  region: c.region,
  /** The server's Ed25519 key; its fingerprint must match the code's pin. */
  serverPublicKey: c.ed25519PublicKey,
  serverTime: c.time,
})
export type EnrollReply = z.infer<typeof enrollReply>

export const pollRequest = z.strictObject({
  ...appliance,
  policiesVersion: c.count,
  bundleVersion: c.count,
  rosterVersion: c.count,
  /** What the agent's journal holds that the server has not recorded yet. */
  journal: z.strictObject({ pending: c.count, bytes: c.count, limitBytes: c.count }),
  /** The recorded-through that the agent knows; a higher one ends the wait. */
  recordedThrough: c.count,
  /** What became of commands given earlier; a command is repeated until it is acknowledged or expires. */
  acknowledged: z.array(z.strictObject({ commandId: c.commandId, result: z.enum(['taken', 'refused']), code: c.code.optional() })).max(64),
  /** The longest wait in seconds; 0 asks for an answer at once. The server waits at most 45. */
  waitSeconds: z.int().min(0).max(45),
})
export type PollRequest = z.infer<typeof pollRequest>

/** 200. A server that is shutting down, or a second poll of the same agent, ends a waiting poll with 204 and Retry-After. */
export const pollReply = z.strictObject({
  serverTime: c.time,
  acceptedThrough: c.count,
  acceptedHash: c.hex64,
  /** Up to here the records' job has done its work; the agent may forget them. */
  recordedThrough: c.count,
  policiesVersion: c.count,
  bundleVersion: c.count,
  rosterVersion: c.count,
  commands: z.array(signedCommand).max(64),
})
export type PollReply = z.infer<typeof pollReply>

/** A policy as its agent carries it out: every field is obeyed or refused. */
export const agentPolicy = z.strictObject({
  policyId: c.policyId,
  version: c.count,
  source: c.label,
  schedule,
  storeId: c.storeId,
  instructionId: c.instructionId,
  purpose: c.purpose,
  tags: z.array(c.label).max(32),
  /** Labels of exclude lists that the appliance's own configuration maps to patterns. */
  excludes: z.array(c.label).max(64),
  /** Which snapshots of this source stay; without it all do. */
  retention: retentionRules.optional(),
  enabled: z.boolean(),
  /** The start from which the first due time counts. */
  since: c.time,
})
export type AgentPolicy = z.infer<typeof agentPolicy>

/** A store as an agent may know it: where, never with what credentials; those stand in the appliance's own configuration. */
export const agentStore = z.strictObject({
  storeId: c.storeId,
  kind: z.enum(['s3', 'directory']),
  region: c.region,
  country: c.country,
})

export const policiesReply = z.strictObject({
  version: c.count,
  policies: z.array(agentPolicy).max(1000),
  stores: z.array(agentStore).max(100),
})
export type PoliciesReply = z.infer<typeof policiesReply>

/** How a run stands; a hint for the console. The records are the truth and win. */
export const runReport = z.strictObject({
  runId: c.runId,
  policyId: c.policyId.optional(),
  restoreId: c.restoreId.optional(),
  kind: z.enum(['backup', 'recovery']),
  source: c.label.optional(),
  state: z.enum(['running', 'ok', 'incomplete', 'failed', 'cancelled']),
  startedAt: c.time,
  endedAt: c.time.optional(),
  code: c.code.optional(),
  totals: runTotals.optional(),
})
export type RunReport = z.infer<typeof runReport>

export const snapshotReport = z.strictObject({
  snapshotId: c.snapshotId,
  runId: c.runId,
  storeId: c.storeId,
  series: c.hex64,
  source: c.label,
  at: c.time,
  files: c.count,
  bytes: c.count,
  storedBytes: c.count,
  tags: z.array(c.label).max(32),
})
export type SnapshotReport = z.infer<typeof snapshotReport>

export const restoreKey = z.strictObject({
  publicKey: c.xwingPublicKey,
  /** Ed25519 by the agent over `restoreKeyBytes(restoreId, publicKey)`. */
  signature: c.ed25519Signature,
})
export type RestoreKey = z.infer<typeof restoreKey>

export const restoreProgress = z.strictObject({
  leaseId: c.leaseId,
  done: z.strictObject({ files: c.count, bytes: c.count }),
  total: z.strictObject({ files: c.count, bytes: c.count }),
})
export type RestoreProgress = z.infer<typeof restoreProgress>

export const restoreProgressReply = z.strictObject({ leaseUntil: c.time, cancel: z.boolean(), serverTime: c.time })
export type RestoreProgressReply = z.infer<typeof restoreProgressReply>

export const restoreResult = z.strictObject({
  leaseId: c.leaseId,
  outcome: z.enum(['completed', 'completed_with_errors', 'failed', 'cancelled']),
  code: c.code.optional(),
  totals: runTotals,
})
export type RestoreResult = z.infer<typeof restoreResult>

/** Answer to anything that needs no more. */
export const done = z.strictObject({ serverTime: c.time })

/** A lease lasts this long from delivery or from the last heartbeat; the agent beats three times as often. */
export const LEASE_MS = 90_000
export const HEARTBEAT_MS = 30_000
export const BUNDLE_BYTES_MAX = 64 * 1024
export const ROSTER_BYTES_MAX = 1024 * 1024
export const GRANT_BYTES_MAX = 64 * 1024 * 1024
