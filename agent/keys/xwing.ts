// X-Wing (draft-connolly-cfrg-xwing-kem), the hybrid of ML-KEM-768 and X25519, and sealing to an X-Wing public key: FORMAT.md section 3.
// Promise: what is sealed stays closed while one of the two holds. The ML-KEM half draws its randomness inside node:crypto, which has no way
// to be given any, so ciphertexts differ between runs also where `random` is seeded; their lengths do not.
import { createHash, decapsulate as kemDecapsulate, diffieHellman, encapsulate as kemEncapsulate } from 'node:crypto'
import type { Random } from '@holdfast/shared/random.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { gcmOpen, gcmSeal, hkdf, rawPrivateKey, rawPublicBytes, rawPublicKey, requireLength } from './primitives.ts'

export const XWING_PUBLIC_KEY_LENGTH = 1216
export const XWING_CIPHERTEXT_LENGTH = 1120
/** Bytes that sealing adds: the X-Wing ciphertext and the tag. */
export const SEAL_OVERHEAD = XWING_CIPHERTEXT_LENGTH + 16

const ML_KEM_PUBLIC_KEY_LENGTH = 1184
const ML_KEM_CIPHERTEXT_LENGTH = 1088
const LABEL = Buffer.from('5c2e2f2f5e5c', 'hex')
const EMPTY = Buffer.alloc(0)

export type XWingKeyPair = {
  /** 1216 bytes: ML-KEM-768 public key || X25519 public key. */
  readonly publicKey: Buffer
  /**
   * The 32-byte shared secret of a 1120-byte ciphertext. A ciphertext for another key gives another secret, not an error (implicit rejection);
   * throws `wrong-key` only for an X25519 half that no honest sender makes, `damaged` for another length.
   */
  readonly decapsulate: (ciphertext: Buffer) => Buffer
}

/** The key pair of a 32-byte seed. Same seed, same pair. */
export function xwingKeyPair(seed: Buffer): XWingKeyPair {
  requireLength('X-Wing seed', seed, 32)
  const expanded = createHash('shake256', { outputLength: 96 }).update(seed).digest()
  const kemKey = rawPrivateKey('ml-kem-768', expanded.subarray(0, 64))
  const dhKey = rawPrivateKey('x25519', expanded.subarray(64))
  expanded.fill(0)
  const dhPublic = rawPublicBytes('x25519', dhKey)
  return {
    publicKey: Buffer.concat([rawPublicBytes('ml-kem-768', kemKey), dhPublic]),
    decapsulate: (ciphertext) => {
      requireLength('X-Wing ciphertext', ciphertext, XWING_CIPHERTEXT_LENGTH)
      const dhCiphertext = ciphertext.subarray(ML_KEM_CIPHERTEXT_LENGTH)
      const kemShared = kemDecapsulate(kemKey, ciphertext.subarray(0, ML_KEM_CIPHERTEXT_LENGTH))
      const dhShared = sharedX25519(dhKey, dhCiphertext)
      return combine(kemShared, dhShared, dhCiphertext, dhPublic)
    },
  }
}

/** A fresh shared secret (32 bytes) and the ciphertext (1120 bytes) that carries it to the holder of `publicKey` (1216 bytes). */
export function encapsulate(publicKey: Buffer, random: Random): { ciphertext: Buffer; shared: Buffer } {
  requireLength('X-Wing public key', publicKey, XWING_PUBLIC_KEY_LENGTH)
  const dhPublic = publicKey.subarray(ML_KEM_PUBLIC_KEY_LENGTH)
  const ephemeral = rawPrivateKey('x25519', random.bytes(32))
  const dhCiphertext = rawPublicBytes('x25519', ephemeral)
  const dhShared = sharedX25519(ephemeral, dhPublic)
  const kem = kemEncapsulate(rawPublicKey('ml-kem-768', publicKey.subarray(0, ML_KEM_PUBLIC_KEY_LENGTH)))
  const shared = combine(kem.sharedKey, dhShared, dhCiphertext, dhPublic)
  return { ciphertext: Buffer.concat([kem.ciphertext, dhCiphertext]), shared }
}

/** `Seal(publicKey, label, aad, plain)`: only the holder of the key pair opens it, and only with the same label and associated data. */
export function sealTo(publicKey: Buffer, label: string, aad: Uint8Array, plain: Uint8Array, random: Random): Buffer {
  const { ciphertext, shared } = encapsulate(publicKey, random)
  return Buffer.concat([ciphertext, gcmSeal(sealingKey(shared, label), aad, plain)])
}

/** Opens what `sealTo` made. Throws `wrong-key` where it was sealed to another key, under another label or associated data, or was changed. */
export function openSealed(keyPair: XWingKeyPair, label: string, aad: Uint8Array, sealed: Buffer): Buffer {
  if (sealed.length < SEAL_OVERHEAD) {
    throw new HoldfastError('damaged', `A sealed ${label} of ${sealed.length} bytes is cut short. What it was read from is damaged.`)
  }
  const shared = keyPair.decapsulate(sealed.subarray(0, XWING_CIPHERTEXT_LENGTH))
  const plain = gcmOpen(sealingKey(shared, label), aad, sealed.subarray(XWING_CIPHERTEXT_LENGTH))
  if (plain === undefined) {
    throw new HoldfastError('wrong-key', `This key does not open the sealed ${label}: it was sealed to another key, or was changed since.`)
  }
  return plain
}

function sealingKey(shared: Buffer, label: string): Buffer {
  return hkdf(shared, EMPTY, `holdfast/1 ${label}`)
}

function combine(kemShared: Uint8Array, dhShared: Uint8Array, dhCiphertext: Uint8Array, dhPublic: Uint8Array): Buffer {
  const hash = createHash('sha3-256')
  for (const part of [kemShared, dhShared, dhCiphertext, dhPublic, LABEL]) hash.update(part)
  return hash.digest()
}

function sharedX25519(privateKey: Parameters<typeof rawPublicBytes>[1], raw: Uint8Array): Buffer {
  const publicKey = rawPublicKey('x25519', raw)
  try {
    return diffieHellman({ privateKey, publicKey })
  } catch (cause) {
    // OpenSSL refuses the points of small order, whose shared secret is zero whatever the private key.
    throw new HoldfastError('wrong-key', 'The X25519 half of a sealed key or public key is not one that an honest sender makes.', { cause })
  }
}
