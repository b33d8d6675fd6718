// Grants: the keys that one approved restore needs, signed by the domain and sealed to a key pair made for that request (FORMAT.md section 10).
// Promise: a grant opens for its own request, agent, snapshot, selection and place, until it expires, and for nothing else.
import { z } from 'zod'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { GRANT_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import { conflict as conflictRule } from '@holdfast/shared/protocol/commands.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { requireCommitment, segmentKeyOf } from './domain.ts'
import { encodeKeyTable, keyTable, PAIR_BYTES } from './key-table.ts'
import type { ReadKeys, StructureKeys } from './keys.ts'
import { requireLength, sha256 } from './primitives.ts'
import type { Signer } from './primitives.ts'
import { parseJson, signAndSeal, verifyAndOpen } from './signed-seal.ts'
import type { XWingKeyPair } from './xwing.ts'

const JSON_BYTES_MAX = 4096

// Strict: a member that this version does not know could be a restriction.
const grantJson = z.strictObject({
  v: z.literal(1),
  restoreId: c.restoreId,
  agentId: c.agentId,
  snapshotId: c.snapshotId,
  /** Id of the snapshot's root node. */
  root: c.hex64,
  selection: z.union([z.literal('whole'), c.hex64]),
  /** Where it may be restored to and over what: a server that relays the request cannot turn it elsewhere. */
  restoreRoot: c.label,
  conflict: conflictRule,
  issuedAt: c.time,
  expiresAt: c.time,
})

/** What a grant says it is for. */
export type GrantTerms = Readonly<z.infer<typeof grantJson>>

export type SessionKey = { readonly sessionId: Buffer; readonly key: Buffer }
export type SegmentKey = { readonly segmentId: Buffer; readonly key: Buffer }

/** `selection` of a grant: `whole`, or SHA-256 over the 32-byte tokens in ascending order, each once, in hex. */
export function selectionHash(selection: { readonly whole: true } | { readonly tokens: readonly string[] }): string {
  if ('whole' in selection) return 'whole'
  // Lower-case hex sorts like the bytes it stands for.
  const tokens = [...new Set(selection.tokens)].sort()
  if (tokens.length === 0 || tokens.some((token) => !/^[0-9a-f]{64}$/.test(token))) {
    throw new HoldfastError('usage', 'A selection is a list of tokens, each of 64 hex digits. Correct it.')
  }
  return sha256(Buffer.from(tokens.join(''), 'hex')).toString('hex')
}

/**
 * A grant, sealed to the request's public key (1216 bytes). Times in milliseconds since 1970. Throws `usage` for terms that cannot be, and for
 * session keys in a grant of less than a whole snapshot: they would open everything of their sessions.
 */
export function makeGrant(input: {
  signing: Signer
  domainId: Buffer
  requestPublicKey: Buffer
  restoreId: string
  agentId: string
  /** 32 hex digits. */
  snapshotId: string
  /** Id of the root node, 64 hex digits. */
  root: string
  /** As `selectionHash` gives it. */
  selection: string
  restoreRoot: string
  conflict: string
  issuedAt: number
  expiresAt: number
  sessionKeys: readonly SessionKey[]
  segmentKeys: readonly SegmentKey[]
  random: Random
}): Buffer {
  const {
    restoreId,
    agentId,
    snapshotId,
    root,
    selection,
    restoreRoot,
    conflict,
    sessionKeys,
    segmentKeys,
    signing,
    domainId,
    requestPublicKey,
    random,
  } = input
  const terms = grantJson.safeParse({
    v: 1,
    restoreId,
    agentId,
    snapshotId,
    root,
    selection,
    restoreRoot,
    conflict,
    issuedAt: isoTime(input.issuedAt),
    expiresAt: isoTime(input.expiresAt),
  })
  if (!terms.success)
    throw new HoldfastError(
      'usage',
      'This grant cannot be made: its request, agent, snapshot, root, selection, restore root or conflict rule is malformed.',
    )
  if (selection !== 'whole' && sessionKeys.length > 0) {
    throw new HoldfastError('usage', 'Only a grant for a whole snapshot may hold session keys. Grant the segments that are needed.')
  }
  if (input.issuedAt >= input.expiresAt)
    throw new HoldfastError('usage', 'This grant would expire before it is issued. Give a later expiry.')
  for (const { sessionId, key } of sessionKeys) requirePair(sessionId, 16, key)
  for (const { segmentId, key } of segmentKeys) requirePair(segmentId, 32, key)
  const json = Buffer.from(JSON.stringify(terms.data), 'utf8')
  const sessions = encodeKeyTable(sessionKeys.map(({ sessionId, key }) => ({ id: sessionId, key })))
  const segments = encodeKeyTable(segmentKeys.map(({ segmentId, key }) => ({ id: segmentId, key })))
  const plain = new ByteWriter(12 + json.length + sessions.length + segments.length)
    .u32(json.length)
    .raw(json)
    .u32(sessions.length / PAIR_BYTES)
    .raw(sessions)
    .u32(segments.length / PAIR_BYTES)
    .raw(segments)
    .finish()
  const object = signAndSeal({ kind: 'grant', domainId, signing, recipient: requestPublicKey, plain, random })
  if (object.length > GRANT_BYTES_MAX) {
    throw new HoldfastError('too-large', `This grant would have ${object.length} bytes. Restore the whole snapshot, or in several parts.`)
  }
  return object
}

export type OpenedGrant = {
  readonly readKeys: ReadKeys
  readonly terms: GrantTerms
  /** Overwrites the keys; the read keys reach nothing afterwards. To be called when the restore has ended. */
  readonly forget: () => void
}

/** What the agent knows of the request; `selectionHash` as the function of that name gives it, `now` in milliseconds since 1970. */
export type GrantExpectation = {
  readonly restoreId: string
  readonly agentId: string
  readonly snapshotId: string
  readonly selectionHash: string
  readonly restoreRoot: string
  readonly conflict: string
  readonly now: number
}

/** Opens a grant for the request that `keyPair` was made for. Whatever is not as expected is refused with `grant-refused`. */
export function openGrant(input: {
  object: Buffer
  keyPair: XWingKeyPair
  structure: StructureKeys
  expect: GrantExpectation
}): OpenedGrant {
  try {
    return openChecked(input)
  } catch (error) {
    if (!isHoldfastError(error) || error.code === 'grant-refused') throw error
    throw refuse(error.message, error)
  }
}

function openChecked({ object, keyPair, structure, expect }: Parameters<typeof openGrant>[0]): OpenedGrant {
  const { plain } = verifyAndOpen({
    kind: 'grant',
    object,
    keyPair,
    bytesMax: GRANT_BYTES_MAX,
    accept: (domainId, signPublicKey) => {
      if (!domainId.equals(structure.domainId)) throw refuse('it is of another domain')
      if (!signPublicKey.equals(structure.signPublicKey)) throw refuse('it is signed with another key than the domain signing key')
    },
  })
  const reader = new ByteReader(plain, 'this grant')
  const jsonLength = reader.u32()
  if (jsonLength > JSON_BYTES_MAX) throw reader.refuse('its terms are too long')
  const parsed = grantJson.safeParse(parseJson(reader.raw(jsonLength), 'this grant'))
  if (!parsed.success) throw reader.refuse('its terms are malformed')
  const terms = parsed.data
  requireExpected(terms, expect)
  const sessions = reader.raw(reader.count32(Math.floor(GRANT_BYTES_MAX / PAIR_BYTES), PAIR_BYTES) * PAIR_BYTES)
  const segments = reader.raw(reader.count32(Math.floor(GRANT_BYTES_MAX / PAIR_BYTES), PAIR_BYTES) * PAIR_BYTES)
  reader.end()
  if (terms.selection !== 'whole' && sessions.length > 0) throw refuse('it holds session keys, but is not for a whole snapshot')
  return { ...grantReadKeys(structure, keyTable(sessions), keyTable(segments), plain), terms }
}

function grantReadKeys(
  structure: StructureKeys,
  sessionKey: ReturnType<typeof keyTable>,
  segmentKey: ReturnType<typeof keyTable>,
  plain: Buffer,
): Omit<OpenedGrant, 'terms'> {
  // Checked once for each entry's commitment, so that a second segment of a session costs one HMAC.
  const checked = new Map<string, string>()
  let isForgotten = false
  const readKeys: ReadKeys = {
    structure,
    segmentKey: (session, segmentId) => {
      if (isForgotten) return undefined
      const known = segmentKey(segmentId)
      if (known !== undefined) return known
      const key = sessionKey(session.sessionId)
      if (key === undefined) return undefined
      const id = session.sessionId.toString('latin1')
      const commitment = session.commitment.toString('latin1')
      if (checked.get(id) !== commitment) {
        requireCommitment(session, key)
        checked.set(id, commitment)
      }
      return segmentKeyOf(key, segmentId)
    },
  }
  return {
    readKeys,
    forget: () => {
      isForgotten = true
      plain.fill(0)
    },
  }
}

function requireExpected(terms: GrantTerms, expect: GrantExpectation): void {
  if (terms.restoreId !== expect.restoreId) throw refuse(`it is for request ${terms.restoreId}, not for ${expect.restoreId}`)
  if (terms.agentId !== expect.agentId) throw refuse(`it is for agent ${terms.agentId}, not for ${expect.agentId}`)
  if (terms.snapshotId !== expect.snapshotId) throw refuse(`it is for snapshot ${terms.snapshotId}, not for ${expect.snapshotId}`)
  if (terms.selection !== expect.selectionHash) throw refuse('it is for another selection of files')
  if (terms.restoreRoot !== expect.restoreRoot) throw refuse(`it is for restore root ${terms.restoreRoot}, not for ${expect.restoreRoot}`)
  if (terms.conflict !== expect.conflict) throw refuse(`it is for conflicts '${terms.conflict}', not '${expect.conflict}'`)
  // Times in this form are of one length, so they compare as text.
  if (terms.issuedAt >= terms.expiresAt) throw refuse('it expires before it was issued')
  if (isoTime(expect.now) >= terms.expiresAt) throw refuse(`it expired at ${terms.expiresAt}`)
}

function requirePair(id: Buffer, idLength: number, key: Buffer): void {
  requireLength('id of a granted key', id, idLength)
  requireLength('granted key', key, 32)
}

function refuse(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError('grant-refused', `The grant is refused: ${why}. Ask the controller for a new grant.`, { cause })
}
