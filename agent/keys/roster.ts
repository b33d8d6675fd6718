// The roster of a domain's agents: the body of `rosters/S-R` (FORMAT.md section 9) and whose signature counts on what is stored.
// Promise: only a roster signed with the domain signing key is read, and no key stands in it twice.
import { AGENT_FINGERPRINT_BYTES } from '@holdfast/shared/agent-fingerprint.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { ROOT_WRITER_ID } from './domain.ts'
import { requireLength } from './primitives.ts'
import type { Signer } from './primitives.ts'
import type { StructureKeys, Writer } from './keys.ts'

const LABEL_BYTES_MAX = 64
const ENTRY_BYTES_MIN = 16 + 32 + AGENT_FINGERPRINT_BYTES + 1 + 8 + 1
const STATES = { active: 1, revoked: 2 } as const

export type RosterEntry = {
  readonly writerId: Buffer
  /** Ed25519, raw 32 bytes. */
  readonly publicKey: Buffer
  /** 20 bytes over both of the agent's keys, as a person compared them; see `agentFingerprint`. */
  readonly fingerprint: Buffer
  readonly state: keyof typeof STATES
  /** Milliseconds since 1970 of the last change of state. */
  readonly since: number
  readonly label: string
}

export type Roster = {
  /** Counts up; the highest one counts. */
  readonly number: number
  readonly madeAt: number
  readonly entries: readonly RosterEntry[]
}

/** The domain signing key as the writer of a roster's box. */
export function rosterWriter(signing: Signer): Writer {
  return { id: ROOT_WRITER_ID, ...signing }
}

/** The body to box. Throws `usage` for what a reader would refuse. */
export function rosterBody(roster: Roster): Buffer {
  const problem = problemOf(roster)
  if (problem !== undefined) throw new HoldfastError('usage', `This roster cannot be made: ${problem}.`)
  const writer = new ByteWriter().u32(roster.number).u64(roster.madeAt).varint(roster.entries.length)
  for (const entry of roster.entries) {
    const label = Buffer.from(entry.label, 'utf8')
    if (label.length > LABEL_BYTES_MAX || !entry.label.isWellFormed()) {
      throw new HoldfastError('usage', `An agent's label has at most ${LABEL_BYTES_MAX} bytes of UTF-8. Give a shorter one.`)
    }
    requireLength('writer id', entry.writerId, 16)
    requireLength('agent key', entry.publicKey, 32)
    requireLength('agent fingerprint', entry.fingerprint, AGENT_FINGERPRINT_BYTES)
    writer.raw(entry.writerId).raw(entry.publicKey).raw(entry.fingerprint).u8(STATES[entry.state]).u64(entry.since).bytes(label)
  }
  if (writer.length > LIMITS.objectBytes - 4096) throw new HoldfastError('usage', 'This roster has too many agents for one object.')
  return writer.finish()
}

/** Reads the body of an opened box. Throws `damaged`, naming `what`, also where another than the domain signing key signed it. */
export function parseRosterBody(opened: { body: Buffer; writerKey: Buffer }, structure: StructureKeys, what: string): Roster {
  const reader = new ByteReader(opened.body, what)
  if (!opened.writerKey.equals(structure.signPublicKey)) throw reader.refuse('it is not signed with the domain signing key')
  const number = reader.u32()
  const madeAt = reader.u64()
  const count = reader.count(Math.floor(LIMITS.objectBytes / ENTRY_BYTES_MIN), ENTRY_BYTES_MIN)
  const entries: RosterEntry[] = []
  for (let at = 0; at < count; at++) entries.push(readEntry(reader))
  reader.end()
  const roster = { number, madeAt, entries }
  const problem = problemOf(roster)
  if (problem !== undefined) throw reader.refuse(problem)
  return roster
}

/** The roster that counts, or undefined where there is none. */
export function latestRoster(rosters: readonly Roster[]): Roster | undefined {
  // Two of one number can only come from two runs of the controller at once; the later one is then the one that knew more.
  return rosters.toSorted((a, b) => b.number - a.number || b.madeAt - a.madeAt)[0]
}

/** The entry of a writer key, so that a caller can hold its id against the writer id that an object names. */
export function entryOf(roster: Roster | undefined, publicKey: Buffer): RosterEntry | undefined {
  return roster?.entries.find((entry) => entry.publicKey.equals(publicKey))
}

/**
 * True where what `publicKey` signed counts: the root writer key, an active agent's key, or a revoked agent's key for an object that the store
 * had at `storedAt` (milliseconds by the store's clock) before the revocation. Without `storedAt` a revoked key never counts.
 */
export function acceptsWriter(roster: Roster | undefined, rootWriterKey: Buffer, publicKey: Buffer, storedAt?: number): boolean {
  if (publicKey.equals(rootWriterKey)) return true
  const entry = entryOf(roster, publicKey)
  if (entry === undefined) return false
  return entry.state === 'active' || (storedAt !== undefined && storedAt < entry.since)
}

function readEntry(reader: ByteReader): RosterEntry {
  const writerId = Buffer.from(reader.raw(16))
  const publicKey = Buffer.from(reader.raw(32))
  const fingerprint = Buffer.from(reader.raw(AGENT_FINGERPRINT_BYTES))
  const state = reader.u8()
  if (state !== STATES.active && state !== STATES.revoked) throw reader.refuse(`an agent has state ${state}, which does not exist`)
  const since = reader.u64()
  const label = reader.bytes(LABEL_BYTES_MAX)
  return {
    writerId,
    publicKey,
    fingerprint,
    state: state === STATES.active ? 'active' : 'revoked',
    since,
    label: decodeLabel(reader, label),
  }
}

function decodeLabel(reader: ByteReader, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The decoder says no more than that these bytes are not UTF-8.
    throw reader.refuse('a label is not UTF-8')
  }
}

/** Why a roster would be ambiguous. An id may stand twice where an agent got a new key, but only once as active. */
function problemOf(roster: Roster): string | undefined {
  const keys = new Set<string>()
  const active = new Set<string>()
  for (const { writerId, publicKey, state } of roster.entries) {
    const id = writerId.toString('hex')
    if (writerId.equals(ROOT_WRITER_ID)) return 'an agent has the id of the root writer'
    if (keys.has(publicKey.toString('hex'))) return `the key of agent ${id} stands in it twice`
    if (state === 'active' && active.has(id)) return `agent ${id} is active with two keys`
    keys.add(publicKey.toString('hex'))
    if (state === 'active') active.add(id)
  }
  return undefined
}
