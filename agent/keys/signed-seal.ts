// What bundles and grants have in common (FORMAT.md sections 9 and 10): header || domain signing public key || signature || Seal(…).
// Promise: nothing is opened before signer and signature are accepted, and the seal is bound to both.
import type { Random } from '@holdfast/shared/random.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { encodeHeader, HEADER_BYTES, OBJECT_TYPE, readHeader } from '@holdfast/shared/format/layout.ts'
import { signBody, verifyBody } from '@holdfast/shared/format/signed-body.ts'
import { requireLength } from './primitives.ts'
import type { Signer } from './primitives.ts'
import { openSealed, SEAL_OVERHEAD, sealTo } from './xwing.ts'
import type { XWingKeyPair } from './xwing.ts'

export type SealedKind = 'bundle' | 'grant'

const BOUND_BYTES = HEADER_BYTES + 32
const CLEAR_BYTES = BOUND_BYTES + 64

export function signAndSeal(input: {
  kind: SealedKind
  domainId: Buffer
  signing: Signer
  recipient: Buffer
  plain: Buffer
  random: Random
}): Buffer {
  const { kind, domainId, signing, recipient, plain, random } = input
  requireLength('domain id', domainId, 16)
  const bound = Buffer.concat([encodeHeader(kind, domainId, 0), signing.publicKey])
  const sealed = sealTo(recipient, kind, bound, plain, random)
  return Buffer.concat([bound, signBody(signing, OBJECT_TYPE[kind], domainId, sealed), sealed])
}

/**
 * The plaintext. `accept` throws where domain and signer are not the expected ones; it is asked before anything else is done with the object.
 * Throws `damaged`, `newer-format`, or `wrong-key` where it was sealed to another key.
 */
export function verifyAndOpen(input: {
  kind: SealedKind
  object: Buffer
  keyPair: XWingKeyPair
  bytesMax: number
  accept: (domainId: Buffer, signPublicKey: Buffer) => void
}): { plain: Buffer; domainId: Buffer; signPublicKey: Buffer } {
  const { kind, object, keyPair, bytesMax, accept } = input
  const what = `this ${kind}`
  const refuse = (why: string): HoldfastError => new HoldfastError('damaged', `${what} is damaged: ${why}`)
  if (object.length > bytesMax) throw refuse(`it has ${object.length} bytes, more than the ${bytesMax} allowed`)
  const { domainId } = readHeader(object, { type: kind, what })
  if (object.length < CLEAR_BYTES + SEAL_OVERHEAD) throw refuse('it is cut short')
  const bound = object.subarray(0, BOUND_BYTES)
  const signPublicKey = Buffer.from(object.subarray(HEADER_BYTES, BOUND_BYTES))
  accept(domainId, signPublicKey)
  const sealed = object.subarray(CLEAR_BYTES)
  if (!verifyBody(signPublicKey, OBJECT_TYPE[kind], domainId, sealed, object.subarray(BOUND_BYTES, CLEAR_BYTES))) {
    throw refuse('its signature is not that of the domain signing key')
  }
  return { plain: openSealed(keyPair, kind, bound, sealed), domainId: Buffer.from(domainId), signPublicKey }
}

/** JSON in UTF-8, or `damaged`. What it holds is checked by the caller's schema. */
export function parseJson(bytes: Buffer, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) as unknown
  } catch {
    // The parser's message may quote keys, so it is not kept.
    throw new HoldfastError('damaged', `${what} is damaged: it does not hold JSON in UTF-8`)
  }
}
