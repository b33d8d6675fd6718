// Signatures over the bodies of stored objects (FORMAT.md sections 4, 9 to 12): whoever has the signer's public key can check one, with no other key.
import { hash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { LruMap } from '../lru-map.ts'
import { verifyingKey, verifySignature } from '../signing.ts'

// A repository has few writers but asks about each of their objects; importing a key costs as much as a verification.
const publicKeys = new LruMap<string, KeyObject>(1024)

function signedMessage(type: number, domainId: Uint8Array, bytesToHash: Uint8Array | readonly Uint8Array[]): Buffer {
  const joined = bytesToHash instanceof Uint8Array ? bytesToHash : Buffer.concat(bytesToHash)
  return Buffer.concat([Buffer.from('holdfast/1 signed\n'), Buffer.of(type), domainId, hash('sha256', joined, 'buffer')])
}

/** The 64-byte signature over `holdfast/1 signed\n` || u8 type || domain id || SHA-256(bytes, joined where they are several). */
export function signBody(
  signer: { readonly sign: (message: Uint8Array) => Buffer },
  type: number,
  domainId: Uint8Array,
  bytesToHash: Uint8Array | readonly Uint8Array[],
): Buffer {
  return signer.sign(signedMessage(type, domainId, bytesToHash))
}

/** True where `signature` is that of `publicKey` (raw Ed25519) over what `signBody` signs. Never throws for a wrong signature of any length. */
export function verifyBody(
  publicKey: Buffer,
  type: number,
  domainId: Uint8Array,
  bytesToHash: Uint8Array | readonly Uint8Array[],
  signature: Uint8Array,
): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  const id = publicKey.toString('latin1')
  const key = publicKeys.get(id) ?? publicKeys.set(id, verifyingKey(publicKey))
  return verifySignature(key, signedMessage(type, domainId, bytesToHash), signature)
}
