// The box that sessions, footers, index files, snapshots' structure parts and rosters are sealed in (FORMAT.md section 4): signed by its
// writer, sealed under the structure key with a key that derives from the content, so that no nonce can ever repeat.
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { signBody, verifyBody } from '@holdfast/shared/format/signed-body.ts'
import type { StructureKeys, Writer } from '../keys/keys.ts'
import { hmac } from '../keys/primitives.ts'
import { encodeHeader, HEADER_BYTES, OBJECT_TYPE, type ObjectType, readHeader } from '@holdfast/shared/format/layout.ts'

const NONCE = Buffer.alloc(12)
const TAIL_BYTES = 8 + 32 + 64

export type BoxType = Extract<ObjectType, 'session' | 'pack' | 'index' | 'snapshot' | 'roster' | 'forget' | 'end'>

function contentId(key: Buffer, type: BoxType, plain: Buffer): Buffer {
  return hmac(hmac(key, 'holdfast/1 content id'), Buffer.of(OBJECT_TYPE[type]), plain)
}

function sealingKey(key: Buffer, type: BoxType, id: Buffer): KeyObject {
  return createSecretKey(hmac(key, 'holdfast/1 seal', Buffer.of(OBJECT_TYPE[type]), id))
}

function structureKeyOf(keys: StructureKeys, epoch: number, what: string): Buffer {
  const key = keys.structureKey(epoch)
  if (key === undefined)
    throw new HoldfastError('wrong-key', `${what} is sealed under structure key ${epoch}, which is not at hand: fetch a new domain bundle`)
  return key
}

/** Bytes that a body of `length` bytes takes as a box, header included. */
export function boxBytes(length: number): number {
  return HEADER_BYTES + 32 + padme(TAIL_BYTES + length) + 16
}

/** Header and box of a body, signed by `writer`. */
export function sealBox(box: { type: BoxType; keys: StructureKeys; writer: Writer; body: Uint8Array }): Buffer {
  const { type, keys, writer, body } = box
  const key = structureKeyOf(keys, keys.structureEpoch, type)
  const plain = Buffer.alloc(padme(TAIL_BYTES + body.length))
  plain.writeBigUInt64LE(BigInt(body.length))
  plain.set(body, 8)
  writer.publicKey.copy(plain, 8 + body.length)
  signBody(writer, OBJECT_TYPE[type], keys.domainId, plain.subarray(8, 8 + body.length + 32)).copy(plain, 8 + body.length + 32)
  const id = contentId(key, type, plain)
  const header = encodeHeader(type, keys.domainId, keys.structureEpoch)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(key, type, id), NONCE)
  cipher.setAAD(Buffer.concat([header, id]))
  return Buffer.concat([header, id, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

export type OpenedBox = { readonly body: Buffer; readonly writerKey: Buffer }

/**
 * Opens header and box, which must be all of `object`. Checks seal, content id, padding and signature; whether the writer is to be trusted is
 * for the caller. Throws `damaged`, `newer-format` or `wrong-key` naming `what`.
 */
export function openBox(box: { type: BoxType; keys: StructureKeys; object: Buffer; what: string }): OpenedBox {
  const { type, keys, object, what } = box
  const { epoch } = readHeader(object, { type, domainId: keys.domainId, what })
  const refuse = (why: string): HoldfastError => new HoldfastError('damaged', `${what} is damaged: ${why}`)
  if (object.length < HEADER_BYTES + 32 + TAIL_BYTES + 16) throw refuse('it is too short')
  const key = structureKeyOf(keys, epoch, what)
  const id = object.subarray(HEADER_BYTES, HEADER_BYTES + 32)
  const decipher = createDecipheriv('aes-256-gcm', sealingKey(key, type, id), NONCE)
  decipher.setAAD(object.subarray(0, HEADER_BYTES + 32))
  decipher.setAuthTag(object.subarray(object.length - 16))
  let plain: Buffer
  try {
    plain = Buffer.concat([decipher.update(object.subarray(HEADER_BYTES + 32, object.length - 16)), decipher.final()])
  } catch (error) {
    throw new HoldfastError('damaged', `${what} is damaged: its seal does not open`, { cause: error })
  }
  if (!timingSafeEqual(contentId(key, type, plain), id)) throw refuse('its content id does not fit')
  const length = Number(plain.readBigUInt64LE())
  if (length > plain.length - TAIL_BYTES || padme(TAIL_BYTES + length) !== plain.length) throw refuse('its padding does not fit')
  if (plain.subarray(TAIL_BYTES + length).some((byte) => byte !== 0)) throw refuse('its padding is not zero')
  const writerKey = plain.subarray(8 + length, 8 + length + 32)
  const signature = plain.subarray(8 + length + 32, TAIL_BYTES + length)
  if (!verifyBody(writerKey, OBJECT_TYPE[type], keys.domainId, plain.subarray(8, 8 + length + 32), signature))
    throw refuse('its signature is not its writer’s')
  return { body: plain.subarray(8, 8 + length), writerKey }
}
