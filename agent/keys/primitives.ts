// The few cryptographic operations of FORMAT.md section 1, on node:crypto, and the raw keys of X-Wing as KeyObjects. No policy lives here: callers
// choose keys, labels and associated data. Raw keys go in through fixed DER prefixes (RFC 8410, RFC 9935), since they have one length each.
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  hkdfSync,
} from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { signingKey } from '@holdfast/shared/signing.ts'

const ZERO_NONCE = Buffer.alloc(12)
const TAG_LENGTH = 16

// Keys are given to node:crypto as KeyObjects: for bytes it looks in slow ways whether they are one (12 us against 3, Node 24).

/** `HMAC(key, parts joined)`, 32 bytes. */
export function hmac(key: Uint8Array, ...parts: readonly (Uint8Array | string)[]): Buffer {
  const mac = createHmac('sha256', createSecretKey(key))
  for (const part of parts) mac.update(part)
  return mac.digest()
}

/** `HKDF(ikm, salt, info, 32)` (RFC 5869, SHA-256). */
export function hkdf(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array | string): Buffer {
  return Buffer.from(hkdfSync('sha256', ikm, salt, info, 32))
}

export function sha256(...parts: readonly (Uint8Array | string)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** `GCM(key, aad, plain)`: ciphertext || tag. The nonce is zero unless given, so a key with the zero nonce must seal one plaintext only. */
export function gcmSeal(key: Uint8Array, aad: Uint8Array, plain: Uint8Array, nonce: Uint8Array = ZERO_NONCE): Buffer {
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), nonce, { authTagLength: TAG_LENGTH })
  cipher.setAAD(aad)
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

/** The plaintext of `gcmSeal`, or undefined where key, associated data or ciphertext are not the ones that belong together. */
export function gcmOpen(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, nonce: Uint8Array = ZERO_NONCE): Buffer | undefined {
  if (sealed.length < TAG_LENGTH) return undefined
  const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), nonce, { authTagLength: TAG_LENGTH })
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_LENGTH))
  const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_LENGTH))
  try {
    decipher.final()
  } catch {
    // The one thing final() reports here is a tag that does not match; the caller knows what that means for its object.
    return undefined
  }
  return plain
}

/** Private keys and public keys whose raw bytes follow a DER prefix of fixed content. */
const PRIVATE_PREFIX = {
  x25519: '302e020100300506032b656e04220420',
  'ml-kem-768': '3054020100300b060960864801650304040204428040',
} as const
const PUBLIC_PREFIX = {
  x25519: '302a300506032b656e032100',
  'ml-kem-768': '308204b2300b0609608648016503040402038204a100',
} as const
const PRIVATE_LENGTH = { x25519: 32, 'ml-kem-768': 64 } as const
const PUBLIC_LENGTH = { x25519: 32, 'ml-kem-768': 1184 } as const

export type RawKeyType = keyof typeof PRIVATE_PREFIX

/** A private key from its seed or scalar: 32 bytes, or 64 (d || z) for ML-KEM-768. */
export function rawPrivateKey(type: RawKeyType, raw: Uint8Array): KeyObject {
  requireLength(`${type} private key`, raw, PRIVATE_LENGTH[type])
  const der = Buffer.concat([Buffer.from(PRIVATE_PREFIX[type], 'hex'), raw])
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  } finally {
    der.fill(0)
  }
}

/** A public key from its raw bytes. Throws `damaged` where they cannot be a key of this type. */
export function rawPublicKey(type: RawKeyType, raw: Uint8Array): KeyObject {
  requireLength(`${type} public key`, raw, PUBLIC_LENGTH[type])
  try {
    return createPublicKey({ key: Buffer.concat([Buffer.from(PUBLIC_PREFIX[type], 'hex'), raw]), format: 'der', type: 'spki' })
  } catch (cause) {
    throw new HoldfastError('damaged', `These bytes are not a ${type} public key. The object they came from is damaged or was changed.`, {
      cause,
    })
  }
}

/** The raw bytes of a key's public half. */
export function rawPublicBytes(type: RawKeyType, key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return publicKey.export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX[type].length / 2)
}

/** Throws `damaged` for bytes of another length than a key, id or seal has; `what` names them. */
export function requireLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) {
    throw new HoldfastError('damaged', `The ${what} has ${bytes.length} bytes instead of ${length}. What it was read from is damaged.`)
  }
}

export type Signer = { readonly publicKey: Buffer; readonly sign: (message: Uint8Array) => Buffer }

/** An Ed25519 signer from a 32-byte seed (RFC 8032). The seed itself does not stay within reach. */
export function signerFromSeed(seed: Uint8Array): Signer {
  const { publicKey, sign } = signingKey(seed)
  return { publicKey, sign }
}
