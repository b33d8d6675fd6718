// The resources of the REST API under /v1: what a person, a controller's client or a program sends and gets. Bodies are strict:
// an unknown field is refused, never ignored. Times are ISO 8601 UTC. Restores have a file of their own (restores.ts).
import { z } from 'zod'
import { idSchema } from '../ids.ts'
import * as c from './common.ts'
import { recordKind, runTotals } from './records.ts'
import { retentionRules } from './retention.ts'
import { schedule } from './schedule.ts'

const made = { createdAt: c.time }

export const controllerBody = z.strictObject({
  name: c.text(200),
  /** Countries that the controller's data may be stored or opened in; empty means no rule. */
  countries: z.array(c.country).max(50).default([]),
  /** Whether a restore needs the approval of a second person before it is prepared. */
  approval: z.enum(['none', 'second-person']).default('none'),
})
export const controller = z.strictObject({
  id: c.controllerId,
  name: c.text(200),
  countries: z.array(c.country),
  approval: z.enum(['none', 'second-person']),
  rosterVersion: c.count,
  ...made,
})

/** A person who acts for the controller (obligation O8). */
export const representativeBody = z.strictObject({
  name: c.text(200),
  contact: c.text(200),
  title: c.text(200).optional(),
  employer: c.text(200).optional(),
})
export const representative = representativeBody.extend({ id: c.representativeId, controllerId: c.controllerId, ...made })

export const siteBody = z.strictObject({ controllerId: c.controllerId, name: c.text(200), region: c.region })
export const site = siteBody.extend({ id: c.siteId, ...made })

const storeCommon = { controllerId: c.controllerId, name: c.text(200), region: c.region, country: c.country }
export const storeCredentials = z.strictObject({ accessKeyId: c.text(200), secretAccessKey: c.text(400) })
/** What the server deletes with: other credentials than the appliances', which can put and not delete. They never come out either. */
export const deleteCredentials = storeCredentials.extend({
  /** As the S3 server names it, where it asks for one. */
  region: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be a region of S3')
    .optional(),
  style: z.enum(['path', 'virtual']).optional(),
})
export type DeleteCredentials = z.infer<typeof deleteCredentials>
/** Credentials go in and never come out; they are sealed with a key outside the database. */
export const storeBody = z.discriminatedUnion('kind', [
  z.strictObject({
    ...storeCommon,
    kind: z.literal('s3'),
    endpoint: z.url({ protocol: /^https?$/ }).max(300),
    bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be a bucket name'),
    prefix: z
      .string()
      .regex(/^([a-z0-9-]+(\/[a-z0-9-]+)*)?$/, 'must be a prefix of a-z 0-9 - /')
      .max(120)
      .default(''),
    credentials: storeCredentials.optional(),
  }),
  z.strictObject({ ...storeCommon, kind: z.literal('directory') }),
])
export const store = z.strictObject({
  id: c.storeId,
  ...storeCommon,
  kind: z.enum(['s3', 'directory']),
  endpoint: z.string().nullable(),
  bucket: z.string().nullable(),
  prefix: z.string().nullable(),
  hasCredentials: z.boolean(),
  /** True where this server may delete there what signed lists name and retention explains. */
  hasDeleteCredentials: z.boolean(),
  ...made,
})

/** The controller's documented order (obligation O6). The text itself stays with the controller; its hash is kept. */
export const instructionBody = z.strictObject({
  controllerId: c.controllerId,
  kind: z.enum(['standing', 'request']),
  author: c.text(200),
  channel: z.enum(['contract', 'portal', 'letter', 'e-mail', 'telephone', 'in-person']),
  scope: z.strictObject({ agentIds: z.array(c.agentId).max(500).default([]), sources: z.array(c.label).max(256).default([]) }),
  purposes: z.array(c.purpose).min(1).max(c.PURPOSES.length),
  textHash: c.hex64,
  validFrom: c.time.optional(),
  validTo: c.time.optional(),
})
export const instruction = z.strictObject({
  id: c.instructionId,
  controllerId: c.controllerId,
  kind: z.enum(['standing', 'request']),
  author: c.text(200),
  channel: z.enum(['contract', 'portal', 'letter', 'e-mail', 'telephone', 'in-person']),
  scope: z.strictObject({ agentIds: z.array(c.agentId), sources: z.array(c.label) }),
  purposes: z.array(c.purpose),
  textHash: c.hex64,
  validFrom: c.time,
  validTo: c.time.nullable(),
  /** True where a user of the processor entered it, and not the controller's own token. */
  enteredByProcessor: z.boolean(),
  ...made,
})

export const enrolmentCodeBody = z.strictObject({
  controllerId: c.controllerId,
  siteId: c.siteId,
  /** Default 15 minutes, at most 24 hours. */
  ttlSeconds: z.int().min(60).max(86_400).default(900),
})
export const enrolmentCode = z.strictObject({
  id: c.enrolmentCodeId,
  controllerId: c.controllerId,
  siteId: c.siteId,
  expiresAt: c.time,
  state: z.enum(['open', 'used', 'expired']),
  agentId: c.agentId.nullable(),
  ...made,
})
/** The one answer that shows the code itself. */
export const enrolmentCodeMade = enrolmentCode.extend({ code: z.string() })

export const agent = z.strictObject({
  id: c.agentId,
  controllerId: c.controllerId,
  siteId: c.siteId,
  host: c.label,
  state: z.enum(['active', 'revoked']),
  region: c.region,
  publicKey: c.ed25519PublicKey,
  enrolmentKey: c.xwingPublicKey,
  /** What a person compares before the controller seals the bundle: of both keys (agent-fingerprint.ts). */
  fingerprint: z.string(),
  agentVersion: z.string(),
  sources: z.array(c.label),
  restoreRoots: z.array(c.label),
  lastSeenAt: c.time.nullable(),
  acceptedThrough: c.count,
  recordedThrough: c.count,
  journalPending: c.count,
  journalBytes: c.count,
  bundleVersion: c.count,
  /** Set when the agent's chain forked or a record did not hold; a person must look. */
  incident: z.string().nullable(),
  ...made,
})

export const policyBody = z.strictObject({
  agentId: c.agentId,
  source: c.label,
  schedule,
  storeId: c.storeId,
  instructionId: c.instructionId,
  purpose: z.enum(['backup', 'archive']).default('backup'),
  tags: z.array(c.label).max(32).default([]),
  excludes: z.array(c.label).max(64).default([]),
  /** Which snapshots of this source stay; without it all do. */
  retention: retentionRules.optional(),
  enabled: z.boolean().default(true),
})
/** What a policy may be changed to; agent and source are its identity. */
export const policyPatch = z.strictObject({
  schedule: schedule.optional(),
  storeId: c.storeId.optional(),
  instructionId: c.instructionId.optional(),
  tags: z.array(c.label).max(32).optional(),
  excludes: z.array(c.label).max(64).optional(),
  /** Null: all snapshots stay. */
  retention: retentionRules.nullable().optional(),
  enabled: z.boolean().optional(),
})
/** Fields that are planned and not carried out yet: refused by name, never ignored. */
export const POLICY_FIELDS_TO_COME = ['bandwidth', 'window', 'lock', 'verify', 'priority', 'hooks', 'quota', 'replicate'] as const
export const policy = z.strictObject({
  id: c.policyId,
  version: c.count,
  agentId: c.agentId,
  controllerId: c.controllerId,
  source: c.label,
  schedule,
  storeId: c.storeId,
  instructionId: c.instructionId,
  purpose: c.purpose,
  tags: z.array(c.label),
  excludes: z.array(c.label),
  retention: retentionRules.nullable(),
  enabled: z.boolean(),
  lastRunAt: c.time.nullable(),
  lastGoodAt: c.time.nullable(),
  nextDueAt: c.time.nullable(),
  ...made,
})

export const run = z.strictObject({
  id: c.runId,
  agentId: c.agentId,
  controllerId: c.controllerId,
  policyId: c.policyId.nullable(),
  restoreId: c.restoreId.nullable(),
  kind: z.enum(['backup', 'recovery']),
  source: c.label.nullable(),
  state: z.enum(['running', 'ok', 'incomplete', 'failed', 'cancelled']),
  code: c.code.nullable(),
  startedAt: c.time,
  endedAt: c.time.nullable(),
  totals: runTotals.nullable(),
  snapshotId: c.snapshotId.nullable(),
  /** Files in the records that are verified so far. */
  recordedFiles: c.count,
  recordedBytes: c.count,
  /** True once the run's closing record is verified and in place. */
  recorded: z.boolean(),
})

export const snapshot = z.strictObject({
  id: c.snapshotId,
  agentId: c.agentId,
  controllerId: c.controllerId,
  runId: c.runId,
  storeId: c.storeId,
  series: c.hex64,
  source: c.label,
  at: c.time,
  files: c.count,
  bytes: c.count,
  storedBytes: c.count,
  tags: z.array(c.label),
  /** When this server learned of it, by its own clock. */
  witnessedAt: c.time,
  /** When this server deleted it from its store, on a list that retention or the controller explained. */
  deletedAt: c.time.nullable(),
  /** Another agent says that it made this one too: nothing deletes it without the controller's approval. */
  contested: z.boolean(),
})

/** One record as a list shows it. The signed bytes come with `export`. */
export const recordSummary = z.strictObject({
  agentId: c.agentId,
  seq: c.sequence,
  controllerId: c.controllerId,
  kind: recordKind,
  at: c.time,
  receivedAt: c.time,
  recordedAt: c.time.nullable(),
  runId: c.runId.nullable(),
  restoreId: c.restoreId.nullable(),
  files: c.count,
  entryHash: c.hex64,
  /** The header as the agent signed it. */
  header: z.record(z.string(), z.unknown()),
})
/** One file record that a token found. */
export const fileRecordFound = z.strictObject({
  agentId: c.agentId,
  seq: c.sequence,
  index: c.count,
  kind: z.enum(['transmission', 'recovery']),
  outcome: z.enum(['ok', 'failed', 'changed', 'kept']),
  code: c.count,
  token: c.hex64,
  size: c.count,
  bytesNew: c.count,
  time: c.time,
  header: z.record(z.string(), z.unknown()),
})
/** One line of the NDJSON export: everything that a verifier needs. Binary in base64url. */
export const recordExported = z.strictObject({
  agentId: c.agentId,
  seq: c.sequence,
  prev: z.string(),
  sig: z.string(),
  secret: z.string(),
  header: z.string(),
  body: z.string(),
  entryHash: c.hex64,
  receivedAt: c.time,
})

/** What should have arrived and did not, or waits for the controller, told once and closed when it is over. */
export const alert = z.strictObject({
  id: idSchema('alert'),
  kind: z.enum(['overdue', 'silent', 'deletion-held', 'snapshot-contested']),
  controllerId: c.controllerId,
  /** Null for a held deletion that no enrolled agent signed. */
  agentId: c.agentId.nullable(),
  policyId: c.policyId.nullable(),
  deletionId: c.deletionId.nullable(),
  /**
   * For a contested snapshot: the first that both agents say they made. `agentId` told of it last, `otherAgentId` before. One alert for the two of them
   * in a store, open while there is any such snapshot.
   */
  snapshotId: c.snapshotId.nullable(),
  otherAgentId: c.agentId.nullable(),
  openedAt: c.time,
  closedAt: c.time.nullable(),
})

/** One line of what was done through the API; `requestId` is the request's. */
export const auditLine = z.strictObject({
  requestId: z.string(),
  at: c.time,
  actor: z.string(),
  action: z.string(),
  target: z.string(),
  controllerId: c.controllerId.nullable(),
})

export const apiTokenBody = z.strictObject({
  name: c.text(200),
  /** A controller's token acts for that controller alone; a fleet token for the processor. */
  scope: z.union([z.strictObject({ controllerId: c.controllerId }), z.strictObject({ fleet: z.enum(['operator', 'auditor']) })]),
  expiresAt: c.time.optional(),
})
export const apiToken = z.strictObject({
  id: c.apiTokenId,
  name: c.text(200),
  scope: z.union([z.strictObject({ controllerId: c.controllerId }), z.strictObject({ fleet: z.enum(['operator', 'auditor']) })]),
  expiresAt: c.time.nullable(),
  revokedAt: c.time.nullable(),
  lastUsedAt: c.time.nullable(),
  ...made,
})
/** The one answer that shows the token itself. */
export const apiTokenMade = apiToken.extend({ token: z.string() })

export const USER_ROLES = ['administrator', 'operator', 'auditor'] as const
export const userRole = z.enum(USER_ROLES)
export type UserRole = z.infer<typeof userRole>
export const userName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,31}$/, 'must be a user name: 1 to 32 of a-z 0-9 . _ -')

export const userBody = z.strictObject({ userName, role: userRole, password: z.string().min(12).max(1024) })
export const user = z.strictObject({ id: c.userId, userName, role: userRole, disabled: z.boolean(), ...made })
/** The one answer that shows what the person needs to log in; both are to be handed over in person. */
export const userMade = user.extend({ otpauth: z.string(), recoveryCodes: z.array(z.string()) })

export const logInBody = z.strictObject({
  userName,
  password: z.string().min(1).max(1024),
  /** Six digits of the authenticator, or a recovery code. */
  code: z.string().min(6).max(40),
})
export const session = z.strictObject({ userId: c.userId, userName, role: userRole, expiresAt: c.time })
