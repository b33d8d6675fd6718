// What `holdfast` says, as data: the events of `--json` (one JSON object a line on standard output) and what the text for people is made from.
// Promise: version 1 only gains members and events; every command ends with exactly one `summary`, also when it fails or is not understood.
import type { ErrorCode } from '@holdfast/shared/errors.ts'
import { z } from 'zod'

export const EVENT_VERSION = 1

const count = z.int().min(0)
const time = z.iso.datetime()
/** `path` is text for people; where the bytes are not UTF-8, `pathBase64` has them exactly. */
const pathMembers = { path: z.string(), pathBase64: z.base64().optional() }
const path = z.object(pathMembers)

const event = <N extends string, S extends z.ZodRawShape>(name: N, shape: S) =>
  z.object({ v: z.literal(EVENT_VERSION), event: z.literal(name), ...shape })

const status = event('status', {
  phase: z.string(),
  /** What `files` counts where it is not files. */
  unit: z.string().optional(),
  files: count,
  bytes: count,
  /** Bytes that the repository did not have. */
  newBytes: count.optional(),
  uploadedBytes: count.optional(),
  problems: count,
  totalFiles: count.optional(),
  totalBytes: count.optional(),
  elapsedMs: count,
  bytesPerSecond: count,
  secondsLeft: count.optional(),
})
const notice = event('notice', { level: z.enum(['note', 'warning']), message: z.string() })
/** One file or object that something is wrong with; the command goes on. */
const problem = event('problem', { path: z.string().optional(), pathBase64: z.base64().optional(), code: z.string(), message: z.string() })
const entry = event('entry', {
  ...pathMembers,
  kind: z.string(),
  /** Permission bits, four octal digits. */
  mode: z.string(),
  uid: count,
  gid: count,
  size: count.optional(),
  /** Nanoseconds since 1970, as a decimal number in text: it does not fit a JSON number. */
  mtimeNs: z.string(),
  modifiedAt: time.optional(),
  target: z.string().optional(),
  targetBase64: z.base64().optional(),
  /** Whether it was asked for with all its metadata: the text for people shows it then. */
  long: z.boolean(),
})
const snapshot = event('snapshot', {
  id: z.string(),
  startedAt: time,
  endedAt: time,
  series: z.string(),
  sequence: count,
  writerId: z.string(),
  files: count,
  directories: count,
  bytes: count,
  /** False where only the structure could be opened: an appliance sees its snapshots, not what is in them. */
  opened: z.boolean(),
  host: z.string().optional(),
  source: z.string().optional(),
  paths: z.array(path).optional(),
  tags: z.array(z.string()).optional(),
})
const key = event('key', {
  name: z.string(),
  place: z.string(),
  kind: z.enum(['passphrase', 'recovery-code']),
  usable: z.boolean(),
  /** Known for the key that was opened. */
  label: z.string().optional(),
  createdAt: time.optional(),
})
const rosterAgent = event('agent', {
  agentId: z.string(),
  label: z.string(),
  state: z.enum(['active', 'revoked']),
  since: time,
  publicKey: z.string(),
  fingerprint: z.string(),
})
const finding = event('finding', { level: z.enum(['ok', 'warn', 'refuse']), code: z.string(), message: z.string() })
/** A file's record, found by the token of its name. */
const record = event('record', {
  agentId: z.string(),
  seq: count,
  index: count,
  kind: z.enum(['transmission', 'recovery']),
  outcome: z.string(),
  at: time,
  size: count,
  bytesNew: count,
  token: z.string(),
  header: z.record(z.string(), z.unknown()),
})
/** A signed record as the server exports it: everything that a verifier needs. */
const exportedRecord = event('exported-record', { record: z.record(z.string(), z.unknown()) })
/** What a grant opens, said before it is made. */
const grantTerms = event('grant-terms', {
  restoreId: z.string(),
  agentId: z.string(),
  agentLabel: z.string(),
  snapshotId: z.string(),
  restoreRoot: z.string(),
  conflict: z.string(),
  purpose: z.string(),
  instructionId: z.string(),
  requestedBy: z.string(),
  whole: z.boolean(),
  selected: z.array(path),
  files: count,
  bytes: count,
  segments: count,
  sessions: count,
  /** Snapshots whose content the session keys of a whole-snapshot grant open in part as well. */
  alsoOpens: z.array(z.string()),
  expiresAt: time,
})
/** A snapshot that does not hold all that it should; damage is told exactly, and without keys to read by counts alone. */
const affectedSnapshot = event('affected-snapshot', {
  id: z.string(),
  startedAt: time,
  series: z.string(),
  /** Different blobs that are in no place. */
  lostChunks: count,
  lostNodes: count,
  /** Different blobs of which it could not be told. */
  unsure: count,
  /** Packs that should hold what is lost, and how many blobs of it each. */
  packs: z.array(z.object({ pack: z.string(), blobs: count })),
})
/** A path that cannot be restored as it was, in each of these snapshots. */
const affectedPath = event('affected-path', {
  ...pathMembers,
  /** A directory of which some or all cannot be read: nobody knows what else was in it. */
  below: z.boolean(),
  verdict: z.enum(['lost', 'unsure']),
  snapshotIds: z.array(z.string()),
})
/** One drill: what it would be (`planned`), how it ended, or what the evidence says of one that was. `began`: it has no end, or not yet. */
const drill = event('drill', {
  outcome: z.enum(['planned', 'asked', 'began', 'restored', 'incomplete', 'damaged', 'failed', 'cancelled']),
  code: z.string().optional(),
  at: time,
  endedAt: time.optional(),
  repository: z.string(),
  snapshotId: z.string(),
  series: z.string(),
  restoreId: z.string().optional(),
  agentId: z.string().optional(),
  whole: z.boolean(),
  files: count,
  bytes: count,
  ofFiles: count.optional(),
  ofBytes: count.optional(),
  entriesCompared: count.optional(),
  bytesCompared: count.optional(),
  /** After about so many drills every file was in one. */
  drillsForAll: count.optional(),
  sampleHash: z.string(),
  problems: count,
})
/** What rules or a request say of one snapshot. */
const retention = event('retention', {
  id: z.string(),
  series: z.string(),
  /** When the store received it: what the rules go by. */
  at: time,
  kept: z.boolean(),
  /** Why it stays (`daily`, `tag`, …), or why it no longer counts. */
  why: z.array(z.string()),
})
/** A forgotten snapshot that can be taken back while its bytes are there. */
const forgotten = event('forgotten', {
  id: z.string(),
  series: z.string(),
  startedAt: time,
  since: time,
  why: z.string(),
  goneFrom: time.optional(),
  /** A prune's list names it for deletion: it is at work, or died over it. */
  beingDeleted: z.boolean(),
})
/** What the store refused to remove. */
const locked = event('locked', { object: z.string(), bytes: count, until: time.optional() })
/** Shown once and kept nowhere. */
const recoveryCode = event('recovery-code', { code: z.string() })
const help = event('help', { text: z.string() })
const error = event('error', {
  code: z.custom<ErrorCode>((value) => typeof value === 'string'),
  message: z.string(),
  exitCode: z.int(),
  retryable: z.boolean(),
  fields: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
})

export const RESULTS = ['done', 'unchanged', 'incomplete', 'damaged', 'failed', 'interrupted'] as const
export type CommandOutcome = (typeof RESULTS)[number]

const numbers = z.record(z.string(), z.number())
/** The members below the line depend on the command; each is there where it has a meaning. */
const summary = event('summary', {
  command: z.string(),
  result: z.enum(RESULTS),
  exitCode: z.int().min(0).max(255),
  elapsedMs: count,
  dryRun: z.boolean(),
  /** The error's code where the command failed. */
  code: z.string().optional(),
  // ---
  repository: z.string().optional(),
  domainId: z.string().optional(),
  domainFingerprint: z.string().optional(),
  snapshotId: z.string().optional(),
  restoreId: z.string().optional(),
  agentId: z.string().optional(),
  fingerprint: z.string().optional(),
  keyName: z.string().optional(),
  place: z.string().optional(),
  state: z.string().optional(),
  version: z.string().optional(),
  target: path.optional(),
  /** What was counted, by the names that each command's help lists. */
  counts: numbers.optional(),
  details: z.record(z.string(), z.unknown()).optional(),
})

export const cliEvent = z.discriminatedUnion('event', [
  status,
  notice,
  problem,
  entry,
  snapshot,
  key,
  rosterAgent,
  finding,
  record,
  exportedRecord,
  grantTerms,
  affectedSnapshot,
  retention,
  forgotten,
  locked,
  affectedPath,
  drill,
  recoveryCode,
  help,
  error,
  summary,
])
export type CliEvent = z.infer<typeof cliEvent>
/** An event as a command makes it; the version is put in where it is written. */
export type Said<N extends CliEvent['event'] = CliEvent['event']> = CliEvent extends infer E
  ? E extends { event: N }
    ? Omit<E, 'v'>
    : never
  : never
export type Summary = Said<'summary'>
export type Status = Said<'status'>
