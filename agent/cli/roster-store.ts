// The roster of a domain in its repository: reading the one that counts, and putting the next one there, signed by the domain.
import { createHash } from 'node:crypto'
import { shownFingerprint } from '@holdfast/shared/base32.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { isId } from '@holdfast/shared/ids.ts'
import { openRoster } from '../daemon/roster-relay.ts'
import { writerIdOf } from '../keys/bundle.ts'
import type { RootKeys } from '../keys/domain.ts'
import { type Roster, rosterBody, type RosterEntry, rosterWriter } from '../keys/roster.ts'
import { LIMITS, objectName } from '@holdfast/shared/format/layout.ts'
import { readObject } from '../repository/read-object.ts'
import { listRefs, type Repository } from '../repository/repository.ts'
import { sealBox } from '../repository/structure-box.ts'
import { shownText } from './byte-text.ts'
import type { Said } from './events.ts'

/** The active entry of an agent. Throws `policy` where the roster has none: then nothing is sealed to it. */
export function activeEntry(roster: Roster | undefined, agentId: string): RosterEntry {
  const writerId = writerIdOf(agentId)
  const entry = roster?.entries.find((other) => other.writerId.equals(writerId) && other.state === 'active')
  if (entry === undefined)
    throw new HoldfastError(
      'policy',
      `agent ${agentId} is not on the domain's roster; add it first: holdfast domain roster add ${agentId} --fingerprint …`,
    )
  return entry
}

/** An agent's id as typed. Throws `usage`. */
export function requireAgentId(text: string): string {
  const id = text.toLowerCase()
  if (!isId('agent', id)) throw new HoldfastError('usage', `'${shownText(text)}' is no agent: an agent's id is ag_ and 32 hex digits`)
  return id
}

/** Seals and stores the next roster. Returns its number and the object, for the server to relay. */
export async function storeRoster(
  repository: Repository,
  keys: RootKeys,
  entries: readonly RosterEntry[],
  madeAt: number,
): Promise<{ number: number; object: Buffer }> {
  const number = (repository.roster?.number ?? 0) + 1
  const body = rosterBody({ number, madeAt, entries })
  const object = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
  // The name follows from the content, as the agents that relay it name it too.
  const name = createHash('sha256').update(object).digest('hex')
  await repository.store.put(objectName('roster', { session: name.slice(0, 32), random: name.slice(32) }), { kind: 'bytes', bytes: object })
  return { number, object }
}

/** The object of the roster that counts; undefined where there is none. */
export async function latestRosterObject(
  repository: Repository,
  signal: AbortSignal,
): Promise<{ number: number; object: Buffer } | undefined> {
  let latest: { number: number; object: Buffer } | undefined
  for (const ref of await listRefs(repository.store, 'rosters/', signal)) {
    try {
      const object = await readObject(repository.store, objectName('roster', ref), LIMITS.objectBytes, signal)
      const { number } = openRoster(object, repository.keys)
      if (latest === undefined || number > latest.number) latest = { number, object }
    } catch (error) {
      // A forged or damaged one is nobody's roster; the ones that open count.
      if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
    }
  }
  return latest
}

export function rosterEvent(entry: RosterEntry): Said<'agent'> {
  return {
    event: 'agent',
    agentId: `ag_${entry.writerId.toString('hex')}`,
    label: entry.label,
    state: entry.state,
    since: isoTime(entry.since),
    publicKey: entry.publicKey.toString('base64url'),
    fingerprint: shownFingerprint(entry.fingerprint),
  }
}
