// Ed25519 (RFC 8032) with raw 32-byte keys, as the protocol and the record format carry them.
import { createPrivateKey, createPublicKey, sign as nodeSign, verify as nodeVerify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { HoldfastError } from './errors.ts'
import type { Random } from './random.ts'

// The fixed DER heads of RFC 8410 for a private seed and a public key.
const PRIVATE_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC_HEAD = Buffer.from('302a300506032b6570032100', 'hex')

/** A key pair that can sign; `seed` is the secret to keep. */
export type SigningKey = { readonly seed: Buffer; readonly publicKey: Buffer; sign(bytes: Uint8Array): Buffer }

/** The signing key of a 32-byte seed. */
export function signingKey(seed: Uint8Array): SigningKey {
  if (seed.length !== 32) throw new HoldfastError('wrong-key', 'a signing key is 32 bytes; this file or value is not one')
  const key = createPrivateKey({ key: Buffer.concat([PRIVATE_HEAD, seed]), format: 'der', type: 'pkcs8' })
  const publicKey = Buffer.from(createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_HEAD.length))
  return { seed: Buffer.from(seed), publicKey, sign: (bytes) => nodeSign(null, bytes, key) }
}

/** A fresh signing key. */
export function makeSigningKey(random: Random): SigningKey {
  return signingKey(random.bytes(32))
}

/** A raw public key made ready for repeated checks; `unprocessable` where it is not 32 bytes. */
export function verifyingKey(rawPublicKey: Uint8Array): KeyObject {
  if (rawPublicKey.length !== 32) throw new HoldfastError('unprocessable', 'an Ed25519 public key is 32 bytes')
  return createPublicKey({ key: Buffer.concat([PUBLIC_HEAD, rawPublicKey]), format: 'der', type: 'spki' })
}

/** True where `signature` over `bytes` is by the holder of `publicKey`; false for anything malformed. */
export function verifySignature(publicKey: Uint8Array | KeyObject, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false
  if (publicKey instanceof Uint8Array && publicKey.length !== 32) return false
  return nodeVerify(null, bytes, publicKey instanceof Uint8Array ? verifyingKey(publicKey) : publicKey, signature)
}
