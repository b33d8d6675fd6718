// What an enrolled agent keeps in its state directory, as typed files (0600, replaced atomically, read strictly). Threat note: the seeds stand
// there unsealed, for the daemon starts without a person; the bundle stands as it came, sealed to the enrolment key, whose seed is beside it.
// So a thief of the disk has what design section 4 says: keys that write and see the structure, nothing that opens content.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { agentPolicy, agentStore, BUNDLE_BYTES_MAX, restoreResult, runReport, snapshotReport } from '@holdfast/shared/protocol/agent.ts'
import { prepareRestore } from '@holdfast/shared/protocol/commands.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { runTotals } from '@holdfast/shared/protocol/records.ts'
import { signingKey, type SigningKey } from '@holdfast/shared/signing.ts'
import { z } from 'zod'
import { bundleWriteKeys, openBundle, writerIdOf, type Bundle } from '../keys/bundle.ts'
import { agentWriter } from '../keys/domain.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { xwingKeyPair, type XWingKeyPair } from '../keys/xwing.ts'
import type { StateDirectory } from './state-directory.ts'

const STATE_FILE_BYTES_MAX = 16 * 1024 * 1024
const seed = c.bytes(32)

/** One file of the state: `load` gives undefined where it was never written. */
export type StateFile<T> = {
  readonly load: () => T | undefined
  readonly save: (value: T) => void
  readonly remove: () => void
}

/** A JSON file of a strict shape. A file that is not of it is `damaged`, never taken for an absent one. */
export function stateFile<T>(directory: StateDirectory, name: string, schema: z.ZodType<T>): StateFile<T> {
  return {
    load: () => {
      const bytes = directory.read(name, STATE_FILE_BYTES_MAX)
      if (bytes === undefined) return undefined
      let value: unknown
      try {
        value = JSON.parse(bytes.toString('utf8'))
      } catch (cause) {
        throw damaged(name, cause)
      }
      const parsed = schema.safeParse(value)
      if (!parsed.success) throw damaged(name, parsed.error)
      return parsed.data
    },
    save: (value) => directory.write(name, Buffer.from(`${JSON.stringify(value)}\n`, 'utf8')),
    remove: () => directory.remove(name),
  }
}

function damaged(name: string, cause: unknown): HoldfastError {
  return new HoldfastError('damaged', `${name} in the state directory is damaged; restore it from a copy, or enrol this appliance anew`, {
    cause,
  })
}

export const identity = z.strictObject({
  v: z.literal(1),
  agentId: c.agentId,
  controllerId: c.controllerId,
  siteId: c.siteId,
  processorId: c.processorId,
  region: c.region,
  host: c.label,
  /** Ed25519: signs requests, records and what is stored. */
  seed,
  /** X-Wing: the domain bundle is sealed to it. */
  enrolmentSeed: seed,
  serverUrl: z.string().max(2048),
  serverCaFile: z.string().optional(),
  serverPublicKey: c.ed25519PublicKey,
  /** What the person gave or confirmed; the bundle must be of this domain. Absent until then. */
  domainFingerprint: z.string().max(80).optional(),
  enrolledAt: c.time,
})
export type Identity = z.infer<typeof identity>

/** How things stand with the server. */
export const link = z.strictObject({
  offsetMs: z.int(),
  acceptedThrough: c.count,
  acceptedHash: c.hex64,
  recordedThrough: c.count,
  bundleVersion: c.count,
  rosterVersion: c.count,
  policiesVersion: c.count,
  lastContactAt: c.time.optional(),
  /** Set when the server holds another version of a record than this journal: delivery stops, backups go on. */
  fork: z.strictObject({ seq: c.count, at: c.time }).optional(),
})
export type Link = z.infer<typeof link>
export const NEW_LINK: Link = {
  offsetMs: 0,
  acceptedThrough: 0,
  acceptedHash: '0'.repeat(64),
  recordedThrough: 0,
  bundleVersion: 0,
  rosterVersion: 0,
  policiesVersion: 0,
}

export const POLICIES_MAX = 1000
export const HELD_MAX = 5000
export const NAMED_MAX = 5000

export const policies = z.strictObject({
  /** As last received, or higher where that was given before with others; what consent is for. */
  version: c.count,
  received: z.array(agentPolicy).max(1000),
  stores: z.array(agentStore).max(100),
  /** What is carried out: as received, but nothing narrower than what was in force until a person here agrees. */
  inForce: z.array(agentPolicy).max(POLICIES_MAX),
  /** Why `received` is not in force as a whole. */
  held: z.array(z.strictObject({ policyId: c.policyId, reason: z.string().max(200) })).max(HELD_MAX),
  /** Sources with the stores that a policy ever put them into: there may be snapshots of them. */
  named: z
    .array(z.strictObject({ source: c.label, storeId: c.storeId }))
    .max(NAMED_MAX)
    .optional(),
})
export type Policies = z.infer<typeof policies>

export const runState = z.strictObject({
  /** Set when a person asked for a run now, until it begins. */
  askedMs: c.count.optional(),
  lastStartMs: c.count.optional(),
  lastEndMs: c.count.optional(),
  lastOutcome: c.outcome.optional(),
  lastCode: c.code.optional(),
  lastGoodMs: c.count.optional(),
  /** Runs in a row that made no snapshot. */
  failures: c.count,
})
export type RunState = z.infer<typeof runState>
export const runStates = z.record(c.policyId, runState)
export type RunStates = Readonly<Record<string, RunState>>

/** What the last collection in a store found, for people; `lastMs` keeps collections a day apart. */
export const collectionState = z.strictObject({
  lastMs: c.count,
  forgotten: c.count,
  condemnedPacks: c.count,
  /** Condemned, and not due before `untilMs`. */
  waiting: z.strictObject({ packs: c.count, bytes: c.count, untilMs: c.count.optional() }),
  /** Needed by nothing but runs that may be at work. */
  held: z.strictObject({ packs: c.count, bytes: c.count, sessions: c.count }),
  /** Named for the server to delete. */
  namedObjects: c.count,
})
export type CollectionState = z.infer<typeof collectionState>
const collectionStates = z.record(c.storeId, collectionState)
export type CollectionStates = Readonly<Record<string, CollectionState>>

/** Commands that were taken, until they expire, so that none is obeyed twice. */
export const takenCommands = z.array(z.strictObject({ commandId: c.commandId, expiresAt: c.time })).max(20_000)

/** What a run tells the server beside its records. */
export const report = z.union([z.strictObject({ run: runReport }), z.strictObject({ snapshot: snapshotReport })])
export type Report = z.infer<typeof report>

/** How an act ended, from the moment that this is known until it stands in the journal and the reports wait to be sent. */
export const actEnd = z.strictObject({
  outcome: c.outcome,
  code: c.code.optional(),
  snapshotId: c.snapshotId.optional(),
  totals: runTotals,
  reports: z.array(report).max(2),
})
export type ActEnd = z.infer<typeof actEnd>

/** The act that is under way, so that one that a crash ended can be said to have ended. Written before the record of its beginning. */
export const currentAct = z.strictObject({
  header: z.record(z.string(), z.unknown()),
  startedAt: c.time,
  /** The journal's last record before it: an act of which nothing stands behind that was not begun. */
  after: c.count.optional(),
  end: actEnd.optional(),
})

/** One restore that was asked for: its own key pair lives here and nowhere else, and goes with this file. */
export const preparedRestore = z.strictObject({
  body: prepareRestore.shape.body,
  /** Gone once the restore ended, also while the server has not heard of the end. */
  seed: seed.optional(),
  preparedAt: c.time,
  keySent: z.boolean(),
  /** Once it ended: what the server is told until it has heard. */
  result: restoreResult.optional(),
})
export type PreparedRestore = z.infer<typeof preparedRestore>

/** Written by `holdfast run --accept-policy VERSION`, read by the daemon. */
export const consent = z.strictObject({ version: c.count, at: c.time })

/** All files of the state. */
export type AgentState = {
  readonly directory: StateDirectory
  readonly identity: StateFile<Identity>
  readonly link: StateFile<Link>
  readonly policies: StateFile<Policies>
  readonly runs: StateFile<RunStates>
  readonly collections: StateFile<CollectionStates>
  readonly taken: StateFile<z.infer<typeof takenCommands>>
  readonly current: StateFile<z.infer<typeof currentAct>>
  readonly consent: StateFile<z.infer<typeof consent>>
  readonly restore: (restoreId: string) => StateFile<PreparedRestore>
  readonly restoreIds: () => string[]
}

export function agentState(directory: StateDirectory): AgentState {
  return {
    directory,
    identity: stateFile(directory, 'identity.json', identity),
    link: stateFile(directory, 'link.json', link),
    policies: stateFile(directory, 'policies.json', policies),
    runs: stateFile(directory, 'runs.json', runStates),
    collections: stateFile(directory, 'collections.json', collectionStates),
    taken: stateFile(directory, 'commands.json', takenCommands),
    current: stateFile(directory, 'current.json', currentAct),
    consent: stateFile(directory, 'consent.json', consent),
    restore: (restoreId) => stateFile(directory, `restore-${restoreId}.json`, preparedRestore),
    restoreIds: () => directory.names().flatMap((name) => /^restore-(rst_[0-9a-f]{32})\.json$/.exec(name)?.[1] ?? []),
  }
}

/** The identity of an enrolled agent with its keys made ready. Throws `not-found` where the appliance is not enrolled. */
export type Agent = Identity & { readonly key: SigningKey; readonly enrolmentKeyPair: XWingKeyPair; readonly serverKey: Buffer }

export function loadAgent(state: AgentState): Agent {
  const found = state.identity.load()
  if (found === undefined) throw new HoldfastError('not-found', "this appliance is not enrolled; run 'holdfast enroll'")
  return agentOf(found)
}

export function agentOf(found: Identity): Agent {
  return {
    ...found,
    key: signingKey(Buffer.from(found.seed, 'base64url')),
    enrolmentKeyPair: xwingKeyPair(Buffer.from(found.enrolmentSeed, 'base64url')),
    serverKey: Buffer.from(found.serverPublicKey, 'base64url'),
  }
}

const BUNDLE_FILE = 'bundle'

/** The bundle as it came, opened anew each time; undefined before the controller sent one. */
export function loadBundle(state: AgentState, agent: Agent): { bundle: Bundle; keys: WriteKeys } | undefined {
  const object = state.directory.read(BUNDLE_FILE, BUNDLE_BYTES_MAX)
  return object === undefined || agent.domainFingerprint === undefined ? undefined : openAgentBundle(agent, object, agent.domainFingerprint)
}

export function saveBundle(state: AgentState, object: Buffer): void {
  state.directory.write(BUNDLE_FILE, object)
}

/** Throws `wrong-key` where the bundle is of another domain or for another agent, `damaged` where it was changed. */
export function openAgentBundle(agent: Agent, object: Buffer, domainFingerprint: string): { bundle: Bundle; keys: WriteKeys } {
  const bundle = openBundle({ object, enrolmentKeyPair: agent.enrolmentKeyPair, expectedDomainFingerprint: domainFingerprint })
  return { bundle, keys: bundleWriteKeys(bundle, agentWriter(agent.key.seed, writerIdOf(agent.agentId))) }
}

/** One daemon at a time: throws `conflict` where another holds the state directory; `release` lets it go, as the end of the process does. */
export function holdAlone(directory: StateDirectory): { release: () => void } {
  const { fileSystem, fd } = directory
  const lock = fileSystem.open(fd, Buffer.from('daemon.lock'), 'append')
  if (fileSystem.lock !== undefined && !fileSystem.lock(lock, false)) {
    fileSystem.close(lock)
    throw new HoldfastError('conflict', 'another holdfast daemon runs with this state directory; stop it first')
  }
  return { release: () => fileSystem.close(lock) }
}
