// Keys and objects that every target shares: from a seed, the same in every process. What needs randomness of Node's own (the ML-KEM half of a seal)
// is made of fixed bytes instead, so that an input means the same in every run.
import { createCipheriv, createHmac } from 'node:crypto'
import { rootKeys, segmentIdKey, segmentKeyOf } from '../../../agent/keys/domain.ts'
import type { ReadKeys, SessionEntry } from '../../../agent/keys/keys.ts'
import { signBody } from '@holdfast/shared/format/signed-body.ts'
import { gcmSeal, hkdf, hmac, type Signer } from '../../../agent/keys/primitives.ts'
import { encapsulate, xwingKeyPair, type XWingKeyPair } from '../../../agent/keys/xwing.ts'
import { blake3 } from '../../../agent/repository/blake3.ts'
import { encodeHeader, OBJECT_TYPE, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { SegmentDescription, SegmentKind } from '../../../agent/repository/segment.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

export const random = seededRandom('fuzz')
export const keys = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
export const { structure, writer } = keys.write
export const signing: Signer = keys.signing
export const sessionKey = random.bytes(32)

/** A session entry whose seal is not one: parsers of structure do not open it. */
export function fixedEntry(seed: string): SessionEntry {
  const bytes = seededRandom(seed)
  const sessionId = bytes.bytes(16)
  return { sessionId, contentEpoch: 1, sealedKey: bytes.bytes(1168), commitment: hmac(sessionKey, 'holdfast/1 commitment', sessionId) }
}

export const entry = fixedEntry('session')
export const ref: ObjectRef = { session: entry.sessionId.toString('hex'), random: random.bytes(16).toString('hex') }

/** Read keys that open what `sealedSegment` sealed, whatever session it says it is of. */
export const readKeys: ReadKeys = { structure, segmentKey: (_, segmentId) => segmentKeyOf(sessionKey, segmentId) }

/** The name that a body says it has, where its first 32 bytes say any: so that a changed name is not all that is refused. */
export function refOf(body: Buffer): ObjectRef {
  return body.length < 32 ? ref : { session: body.toString('hex', 0, 16), random: body.toString('hex', 16, 32) }
}

/** A payload sealed as a segment, with whatever length it claims. */
export function sealedSegment(
  payload: Buffer,
  claims: { kind: SegmentKind; codec: 0 | 1; plainBytes: number },
): { segment: SegmentDescription; sealed: Buffer; key: Buffer } {
  const { kind, codec, plainBytes } = claims
  const segmentId = Buffer.from(blake3.keyed(segmentIdKey(sessionKey)).hexOf([Buffer.of(kind, codec), payload]), 'hex')
  const key = segmentKeyOf(sessionKey, segmentId)
  const epoch = Buffer.alloc(4)
  epoch.writeUInt32LE(1)
  const aad = Buffer.concat([Buffer.of(1), structure.domainId, Buffer.of(kind, codec), epoch, segmentId])
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12))
  cipher.setAAD(aad)
  const sealed = Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()])
  return { segment: { kind, codec, epoch: 1, segmentId, sealedBytes: sealed.length, plainBytes }, sealed, key }
}

/** 16 bytes of plaintext as the trailer of a pack. */
export function sealedTrailer(plain: Buffer, hash: Buffer): Buffer {
  const header = encodeHeader('pack', structure.domainId, 1)
  const key = createHmac('sha256', structure.structureKey(1)!).update('holdfast/1 trailer').update(hash).digest()
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12))
  cipher.setAAD(Buffer.concat([header, hash]))
  return Buffer.concat([header, hash, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

const recipient = xwingKeyPair(random.bytes(32))
const { ciphertext, shared } = encapsulate(recipient.publicKey, random)

/** A key pair that knows the one ciphertext below by heart, since opening one takes longer than all else that is tried. */
export const keyPair: XWingKeyPair = {
  publicKey: recipient.publicKey,
  decapsulate: (given) => (given.equals(ciphertext) ? shared : recipient.decapsulate(given)),
}

/** A plaintext as a bundle or grant, signed by the domain and sealed to `keyPair`. */
export function signedAndSealed(kind: 'bundle' | 'grant', plain: Buffer): Buffer {
  const bound = Buffer.concat([encodeHeader(kind, structure.domainId, 0), signing.publicKey])
  const sealed = Buffer.concat([ciphertext, gcmSeal(hkdf(shared, Buffer.alloc(0), `holdfast/1 ${kind}`), bound, plain)])
  return Buffer.concat([bound, signBody(signing, OBJECT_TYPE[kind], structure.domainId, sealed), sealed])
}
