// The box that structure is sealed in, and what stands in it as forget record or end: whoever has the key opens it, and nothing in it can be changed,
// cut, exchanged or padded in another way, also by somebody who holds the key (FORMAT.md sections 4 and 13).
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { padme } from '@holdfast/shared/padme.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { encodeHeader, OBJECT_TYPE, refBytes } from '@holdfast/shared/format/layout.ts'
import { signBody } from '@holdfast/shared/format/signed-body.ts'
import { agentWriter, rootKeys } from '../../../agent/keys/domain.ts'
import { hmac } from '../../../agent/keys/primitives.ts'
import {
  decodeForgetRecord,
  decodeSessionEnd,
  encodeForgetRecord,
  encodeSessionEnd,
  FORGOTTEN_WHY,
  type ForgottenWhy,
} from '../../../agent/repository/forget-record.ts'
import { boxBytes, type BoxType, openBox, sealBox } from '../../../agent/repository/structure-box.ts'

const keys = rootKeys({ root: Buffer.alloc(32, 1), domainId: Buffer.alloc(16, 2) }).write.structure
const writer = agentWriter(Buffer.alloc(32, 4), Buffer.alloc(16, 4))
const what = 'this object'
const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })
const seal = (body: Uint8Array, type: BoxType = 'session') => sealBox({ type, keys, writer, body })
const open = (object: Buffer, type: BoxType = 'session') => openBox({ type, keys, object, what })

/** What somebody can make who holds the structure key: any plaintext under its rightful seal, or under `id`. */
function sealPlain(plain: Buffer, id?: Buffer): Buffer {
  const key = keys.structureKey(1)!
  const type = Buffer.of(OBJECT_TYPE.session)
  const contentId = id ?? hmac(hmac(key, 'holdfast/1 content id'), type, plain)
  const header = encodeHeader('session', keys.domainId, 1)
  const cipher = createCipheriv('aes-256-gcm', hmac(key, 'holdfast/1 seal', type, contentId), Buffer.alloc(12))
  cipher.setAAD(Buffer.concat([header, contentId]))
  return Buffer.concat([header, contentId, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

/** The plaintext as `sealBox` lays it out: length, body, writer, signature, zeros. */
function plainOf(body: Buffer, more: { length?: number; padding?: Buffer; total?: number } = {}): Buffer {
  const signed = Buffer.concat([body, writer.publicKey])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(more.length ?? body.length))
  const plain = Buffer.concat([length, signed, signBody(writer, OBJECT_TYPE.session, keys.domainId, signed)])
  return Buffer.concat([plain, more.padding ?? Buffer.alloc((more.total ?? padme(plain.length)) - plain.length)])
}

describe('a box', () => {
  test('opens to its body and its writer, whatever the length, and is as long as it was said to be', () => {
    for (const length of [0, 1, 7, 100, 1000, 4097]) {
      const body = Buffer.alloc(length, 0xb0)
      const object = seal(body)
      expect(open(object)).toEqual({ body, writerKey: writer.publicKey })
      expect(object.length).toBe(boxBytes(length))
      expect(boxBytes(length)).toBe(32 + 32 + padme(8 + length + 32 + 64) + 16)
      expect(sealPlain(plainOf(body))).toEqual(object)
    }
  })

  test('with any byte changed, cut or made longer does not open, and says how', () => {
    const object = seal(Buffer.alloc(40, 0xb0))
    for (let at = 32; at < object.length; at++) {
      const changed = Buffer.from(object)
      changed[at]! ^= 1
      expect(() => open(changed)).toThrow(damaged(/^this object is damaged: its seal does not open$/))
    }
    for (let length = 0; length < object.length; length++)
      expect(() => open(object.subarray(0, length))).toThrow(damaged(/this object is damaged/))
    expect(() => open(object.subarray(0, 183))).toThrow(damaged(/it is too short/))
    expect(() => open(object.subarray(0, 184))).toThrow(damaged(/its seal does not open/))
    expect(() => open(Buffer.concat([object, Buffer.of(0)]))).toThrow(damaged(/its seal does not open/))
    try {
      open(object.subarray(0, -1))
    } catch (error) {
      expect(error).toHaveProperty('cause')
    }
  })

  test('of one type is none of another, and of another key or domain is none', () => {
    const object = seal(Buffer.alloc(3))
    expect(() => open(object, 'end')).toThrow(damaged(/not a end/))
    const renamed = Buffer.concat([encodeHeader('end', keys.domainId, 1), object.subarray(32)])
    expect(() => open(renamed, 'end')).toThrow(damaged(/its seal does not open/))
    const other = rootKeys({ root: Buffer.alloc(32, 9), domainId: keys.domainId }).write.structure
    expect(() => openBox({ type: 'session', keys: other, object, what })).toThrow(damaged(/its seal does not open/))
    const elsewhere = rootKeys({ root: Buffer.alloc(32, 1), domainId: Buffer.alloc(16, 3) }).write.structure
    expect(() => openBox({ type: 'session', keys: elsewhere, object, what })).toThrow(damaged(/another domain/))
    const without = { ...keys, structureKey: () => undefined }
    const wrongKey = (name: string) =>
      expect.objectContaining({
        code: 'wrong-key',
        message: expect.stringMatching(`^${name} is sealed under structure key 1, which is not at hand`),
      })
    expect(() => openBox({ type: 'session', keys: without, object, what })).toThrow(wrongKey('this object'))
    expect(() => sealBox({ type: 'session', keys: without, writer, body: Buffer.alloc(1) })).toThrow(wrongKey('session'))
  })

  test('made in another way than the one there is does not open, also where the seal is right', () => {
    const body = Buffer.alloc(50, 0xb0)
    expect(() => open(sealPlain(plainOf(body), Buffer.alloc(32, 7)))).toThrow(damaged(/its content id does not fit/))
    expect(() => open(sealPlain(plainOf(body, { total: padme(154) + 1 })))).toThrow(damaged(/its padding does not fit/))
    expect(() => open(sealPlain(plainOf(body, { length: 2 ** 40 })))).toThrow(damaged(/its padding does not fit/))
    expect(() => open(sealPlain(plainOf(body, { length: 51 })))).toThrow(damaged(/./))
    const long = Buffer.alloc(1001, 0xb0)
    const room = padme(8 + long.length + 96) - (8 + long.length + 96)
    expect(room).toBeGreaterThan(2)
    for (const at of [0, room - 1]) {
      const padding = Buffer.alloc(room)
      padding[at] = 1
      expect(() => open(sealPlain(plainOf(long, { padding })))).toThrow(damaged(/its padding is not zero/))
    }
    const forged = plainOf(long)
    forged[8]! ^= 1
    expect(() => open(sealPlain(forged))).toThrow(damaged(/its signature is not its writer’s/))
    const wrongType = sealBox({ type: 'session', keys, writer: { ...writer, sign: () => Buffer.alloc(64) }, body })
    expect(() => open(wrongType)).toThrow(damaged(/its signature is not its writer’s/))
  })
})

const hex = (digit: string) => digit.repeat(32)
const ref = { session: hex('a'), random: hex('b') }
const other = { session: hex('c'), random: hex('d') }

describe('a forget record', () => {
  const entry = (why: ForgottenWhy) => ({ snapshot: other, series: Buffer.alloc(32, 5), sequence: 6, hash: Buffer.alloc(32, 7), why })
  const record = {
    ref,
    madeAt: 1234,
    replaces: [other, ref],
    entries: (Object.keys(FORGOTTEN_WHY) as ForgottenWhy[]).map(entry),
    undone: [{ record: other, snapshot: ref }],
  }
  const body = (fill: (out: ByteWriter) => unknown): Buffer => {
    const out = new ByteWriter().raw(refBytes(ref)).raw(writer.id).u64(1)
    fill(out)
    return seal(out.view(), 'forget')
  }

  test('is read back as it was written', () => {
    for (const given of [record, { ...record, replaces: [], entries: [], undone: [] }])
      expect(decodeForgetRecord(encodeForgetRecord(given, keys, writer), ref, keys)).toEqual({
        record: { ...given, writerId: writer.id },
        writerKey: writer.publicKey,
      })
  })

  test('under another name, or that says what none says, is refused', () => {
    const object = encodeForgetRecord(record, keys, writer)
    for (const name of [
      { ...ref, session: hex('c') },
      { ...ref, random: hex('c') },
    ])
      expect(() => decodeForgetRecord(object, name, keys)).toThrow(
        damaged(/forget record .* is damaged: it is another record under this name/),
      )
    const withWhy = (why: number) =>
      body((out) => out.varint(0).varint(1).raw(refBytes(other)).zeros(32).u64(1).zeros(32).u8(why).varint(0))
    expect(decodeForgetRecord(withWhy(3), ref, keys).record.entries).toMatchObject([{ why: 'replaced' }])
    for (const why of [0, 6]) expect(() => decodeForgetRecord(withWhy(why), ref, keys)).toThrow(damaged(/reason that does not exist/))
    expect(() =>
      decodeForgetRecord(
        body((out) => out.varint(0).varint(0).varint(0).u8(0)),
        ref,
        keys,
      ),
    ).toThrow(damaged(/1 bytes too many/))
    for (const lists of [0, 1, 2]) {
      const claim = (count: number) =>
        body((out) => {
          for (let i = 0; i < lists; i++) out.varint(0)
          return out.varint(count)
        })
      expect(() => decodeForgetRecord(claim(100_001), ref, keys)).toThrow(damaged(/over the limit of 100000/))
      expect(() => decodeForgetRecord(claim(100_000), ref, keys)).toThrow(damaged(/more than it can hold/))
    }
  })
})

describe('the end of a session', () => {
  test('is read back, and is that of one session', () => {
    const object = encodeSessionEnd({ sessionId: Buffer.alloc(16, 0xaa), endedAt: 99 }, keys, writer)
    expect(decodeSessionEnd(object, hex('a'), keys)).toEqual({ writerId: writer.id, endedAt: 99, writerKey: writer.publicKey })
    expect(() => decodeSessionEnd(object, hex('b'), keys)).toThrow(damaged(/the end of session b+ is damaged: it is another session's/))
    const long = seal(new ByteWriter().raw(Buffer.alloc(16, 0xaa)).raw(writer.id).u64(1).u8(0).view(), 'end')
    expect(() => decodeSessionEnd(long, hex('a'), keys)).toThrow(damaged(/1 bytes too many/))
  })
})
