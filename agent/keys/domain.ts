// The keys of a domain from its root (FORMAT.md section 3), session entries (section 5) and the key helpers of segments (section 6).
// Promise: WriteKeys hold nothing that opens content; content key pairs are derived only when something is read.
import type { Random } from '@holdfast/shared/random.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { ReadKeys, SessionEntry, StructureKeys, WriteKeys, Writer } from './keys.ts'
import { LruMap } from '@holdfast/shared/lru-map.ts'
import { hkdf, hmac, requireLength, signerFromSeed } from './primitives.ts'
import type { Signer } from './primitives.ts'
import { openSealed, SEAL_OVERHEAD, sealTo, xwingKeyPair } from './xwing.ts'
import type { XWingKeyPair } from './xwing.ts'

export const ROOT_WRITER_ID: Buffer = Buffer.alloc(16)
export const SESSION_ENTRY_LENGTH = 1220

const SEALED_KEY_LENGTH = 32 + SEAL_OVERHEAD
/** Opened session keys kept at hand by one ReadKeys; a snapshot after years of daily runs needs about a thousand. */
const OPENED_SESSIONS = 4096
const EPOCHS_AT_HAND = 16

export type DomainRoot = {
  /** 32 bytes. */
  readonly root: Buffer
  /** 16 bytes. */
  readonly domainId: Buffer
}

export type RootKeys = {
  readonly write: WriteKeys
  readonly read: ReadKeys
  /** The domain signing key: repository description, rosters, bundles, grants. */
  readonly signing: Signer
  /** The session key itself, for a grant of a whole snapshot. Throws like `ReadKeys.segmentKey`. */
  readonly sessionKey: (entry: SessionEntry) => Buffer
}

export function newDomainRoot(random: Random): DomainRoot {
  return { root: random.bytes(32), domainId: random.bytes(16) }
}

/** All keys of a domain. The epochs are those that new data is sealed under; data of every epoch can be read. */
export function rootKeys(domain: DomainRoot & { contentEpoch?: number; structureEpoch?: number }): RootKeys {
  const { root, domainId, contentEpoch = 1, structureEpoch = 1 } = domain
  requireLength('domain root', root, 32)
  requireLength('domain id', domainId, 16)
  const derive = (label: string, epoch: number): Buffer => hkdf(root, domainId, derivationInfo(label, epoch))

  const structureKeys = new LruMap<number, Buffer>(EPOCHS_AT_HAND)
  const contentPairs = new LruMap<number, XWingKeyPair>(EPOCHS_AT_HAND)
  const contentPair = (epoch: number): XWingKeyPair =>
    contentPairs.get(epoch) ?? contentPairs.set(epoch, xwingKeyPair(derive('content', epoch)))

  const signing = signerFromSeed(derive('sign', 0))
  const rootSigner = signerFromSeed(derive('writer', 0))
  const structure: StructureKeys = {
    domainId,
    structureEpoch,
    structureKey: (epoch) =>
      isEpoch(epoch) ? (structureKeys.get(epoch) ?? structureKeys.set(epoch, derive('structure', epoch))) : undefined,
    treeIdKey: derive('tree id', 0),
    idKey: derive('id', 0),
    recordKey: derive('record', 0),
    signPublicKey: signing.publicKey,
    rootWriterKey: rootSigner.publicKey,
  }
  let contentPublicKey: Buffer | undefined
  const write: WriteKeys = {
    structure,
    chunkerKey: derive('chunker', 0),
    contentEpoch,
    // Lazy, and kept apart from the cache of pairs: a writer asks for it once a run, a reader of other epochs never.
    get contentPublicKey() {
      return (contentPublicKey ??= contentPair(contentEpoch).publicKey)
    },
    writer: { id: ROOT_WRITER_ID, ...rootSigner },
  }
  const sessionKey = sessionOpener(domainId, contentPair)
  const read: ReadKeys = { structure, segmentKey: (entry, segmentId) => segmentKeyOf(sessionKey(entry), segmentId) }
  return { write, read, signing, sessionKey }
}

function sessionOpener(domainId: Buffer, contentPair: (epoch: number) => XWingKeyPair): (entry: SessionEntry) => Buffer {
  // The commitment names exactly one session key, so it can stand for the entry: a second sealing of the same key is the same key.
  const opened = new LruMap<string, Buffer>(OPENED_SESSIONS)
  return (entry) => {
    const id = entry.sessionId.toString('latin1') + entry.commitment.toString('latin1')
    return opened.get(id) ?? opened.set(id, openSession(entry, domainId, contentPair))
  }
}

/** The session key of an entry. Throws `wrong-key` where the seal does not open, `damaged` where the commitment does not match. */
function openSession(entry: SessionEntry, domainId: Buffer, contentPair: (epoch: number) => XWingKeyPair): Buffer {
  if (!isEpoch(entry.contentEpoch)) {
    throw new HoldfastError('damaged', `Session ${entry.sessionId.toString('hex')} names key epoch ${entry.contentEpoch}, which cannot be.`)
  }
  requireLength('sealed session key', entry.sealedKey, SEALED_KEY_LENGTH)
  const key = openSealed(contentPair(entry.contentEpoch), 'session', Buffer.concat([domainId, entry.sessionId]), entry.sealedKey)
  requireCommitment(entry, key)
  return key
}

/** Throws `damaged` unless `sessionKey` is the one the entry commits to. */
export function requireCommitment(entry: SessionEntry, sessionKey: Uint8Array): void {
  if (!commitmentOf(sessionKey, entry.sessionId).equals(entry.commitment)) {
    throw new HoldfastError(
      'damaged',
      `The key of session ${entry.sessionId.toString('hex')} is not the one its entry commits to. Nothing of this session is read with it.`,
    )
  }
}

/** The writer of an enrolled agent: `seed` is its 32-byte Ed25519 seed, `id` its 16-byte writer id (not all zero, which is the root writer). */
export function agentWriter(seed: Buffer, id: Buffer): Writer {
  requireLength('writer id', id, 16)
  if (id.equals(ROOT_WRITER_ID))
    throw new HoldfastError('bad-config', 'An agent cannot have the all-zero writer id: it means the root writer.')
  return { id, ...signerFromSeed(seed) }
}

/** The stored form of a run's session key, sealed to the content public key of `keys`. */
export function sessionEntry(sessionKey: Buffer, sessionId: Buffer, keys: WriteKeys, random: Random): SessionEntry {
  requireLength('session key', sessionKey, 32)
  requireLength('session id', sessionId, 16)
  const aad = Buffer.concat([keys.structure.domainId, sessionId])
  return {
    sessionId,
    contentEpoch: keys.contentEpoch,
    sealedKey: sealTo(keys.contentPublicKey, 'session', aad, sessionKey, random),
    commitment: commitmentOf(sessionKey, sessionId),
  }
}

/** 1220 bytes: session id 16 || u32 content epoch || sealed key 1168 || commitment 32. */
export function encodeSessionEntry(entry: SessionEntry): Buffer {
  const epoch = Buffer.alloc(4)
  epoch.writeUInt32LE(entry.contentEpoch)
  const bytes = Buffer.concat([entry.sessionId, epoch, entry.sealedKey, entry.commitment])
  requireLength('session entry', bytes, SESSION_ENTRY_LENGTH)
  return bytes
}

/** Reads exactly 1220 bytes; the parts are copies, so that the entry does not keep a whole object in memory. */
export function decodeSessionEntry(bytes: Buffer): SessionEntry {
  requireLength('session entry', bytes, SESSION_ENTRY_LENGTH)
  const contentEpoch = bytes.readUInt32LE(16)
  if (!isEpoch(contentEpoch)) throw new HoldfastError('damaged', 'A session entry names key epoch 0. What it was read from is damaged.')
  const copy = Buffer.from(bytes)
  return {
    sessionId: copy.subarray(0, 16),
    contentEpoch,
    sealedKey: copy.subarray(20, 20 + SEALED_KEY_LENGTH),
    commitment: copy.subarray(20 + SEALED_KEY_LENGTH),
  }
}

/** The BLAKE3 key that a segment's id is made with. `baseKey` is the session key, or the structure key for kind 3. */
export function segmentIdKey(baseKey: Uint8Array): Buffer {
  return hmac(baseKey, 'holdfast/1 segment id')
}

/** The AES key of one segment. `baseKey` is the session key, or the structure key for kind 3. */
export function segmentKeyOf(baseKey: Uint8Array, segmentId: Uint8Array): Buffer {
  return hmac(baseKey, 'holdfast/1 segment', segmentId)
}

function commitmentOf(sessionKey: Uint8Array, sessionId: Uint8Array): Buffer {
  return hmac(sessionKey, 'holdfast/1 commitment', sessionId)
}

function derivationInfo(label: string, epoch: number): Buffer {
  const number = Buffer.alloc(4)
  number.writeUInt32LE(epoch)
  return Buffer.concat([Buffer.from(`holdfast/1 ${label}`), number])
}

function isEpoch(epoch: number): boolean {
  return Number.isInteger(epoch) && epoch >= 1 && epoch < 2 ** 32
}
