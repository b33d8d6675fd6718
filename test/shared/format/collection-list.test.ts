// Collection lists and signed bodies: what is signed is read back whole, and a list with one byte changed, of another name, domain or writer is none.
import { generateKeyPairSync, sign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import {
  type CollectionListBody,
  DELETABLE,
  type DeletableKind,
  decodeCollectionList,
  encodeCollectionList,
} from '@holdfast/shared/format/collection-list.ts'
import { encodeHeader, LIMITS, OBJECT_TYPE, refBytes } from '@holdfast/shared/format/layout.ts'
import { signBody, verifyBody } from '@holdfast/shared/format/signed-body.ts'

const pair = generateKeyPairSync('ed25519')
const publicKey = Buffer.from(pair.publicKey.export({ format: 'jwk' }).x!, 'base64url')
const writer = { id: Buffer.alloc(16, 4), publicKey, sign: (message: Uint8Array) => sign(null, message, pair.privateKey) }
const domainId = Buffer.alloc(16, 2)
const ref = (number: number) => ({ session: `${number}`.padStart(32, 'a'), random: `${number}`.padStart(32, 'b') })
const mine = ref(1)
const NO_RANDOM = '0'.repeat(32)

const bodies: CollectionListBody[] = [
  { kind: 'condemned', kept: [], packs: [] },
  {
    kind: 'condemned',
    kept: [ref(2), ref(3)],
    packs: [
      { ...ref(4), bytes: 5, why: 'dead' },
      { ...ref(6), bytes: 2 ** 40, why: 'reuse' },
    ],
  },
  { kind: 'revived', from: [] },
  {
    kind: 'revived',
    from: [
      { list: ref(2), packs: [ref(3), ref(4)] },
      { list: ref(5), packs: [] },
    ],
  },
  { kind: 'deletion', lists: [], names: [] },
  {
    kind: 'deletion',
    lists: [ref(2)],
    names: (Object.keys(DELETABLE) as DeletableKind[]).map((kind) => ({
      kind,
      ...ref(3),
      ...(kind === 'session' || kind === 'end' ? { random: NO_RANDOM } : {}),
    })),
  },
]
const encode = (body: CollectionListBody): Buffer => encodeCollectionList({ ...body, ref: mine, madeAt: 1234 }, domainId, writer)
const decode = (object: Buffer, name = mine, domain = domainId) => decodeCollectionList(object, name, domain)
const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })

/** A rightly signed list of any content. */
function signed(fill: (out: ByteWriter) => unknown, name = mine): Buffer {
  const out = new ByteWriter()
    .raw(encodeHeader('list', domainId, 0))
    .raw(refBytes(name))
    .raw(writer.id)
    .u64(0)
  fill(out)
  out.raw(publicKey)
  return Buffer.concat([out.view(), signBody(writer, OBJECT_TYPE.list, domainId, out.view())])
}

describe('a collection list', () => {
  test.each(bodies)('that is $kind is read back as it was written', (body) => {
    expect(decode(encode(body))).toEqual({ list: { ...body, ref: mine, writerId: writer.id, madeAt: 1234 }, writerKey: publicKey })
  })

  test('with any byte changed, cut short or made longer is refused', () => {
    for (const body of bodies) {
      const object = encode(body)
      for (let at = 0; at < object.length; at++) {
        const changed = Buffer.from(object)
        changed[at]! ^= 1
        expect(() => decode(changed)).toThrow()
      }
      for (let length = 0; length < object.length; length++) expect(() => decode(object.subarray(0, length))).toThrow(damaged(/./))
      expect(() => decode(Buffer.concat([object, Buffer.of(0)]))).toThrow(damaged(/signature/))
    }
    expect(() => decode(encode(bodies[0]!).subarray(0, 127))).toThrow(damaged(/collection list b+1 is damaged: it is too short/))
    expect(() => decode(Buffer.concat([encodeHeader('list', domainId, 0), Buffer.alloc(96)]))).toThrow(
      damaged(/signature is not its writer’s/),
    )
  })

  test('under another name, of another domain, or too long is refused', () => {
    const object = encode(bodies[1]!)
    expect(() => decode(object, { ...mine, random: ref(2).random })).toThrow(damaged(/another list under this name/))
    expect(() => decode(object, { ...mine, session: ref(2).session })).toThrow(damaged(/another list under this name/))
    expect(() => decode(object, mine, Buffer.alloc(16, 3))).toThrow(damaged(/another domain/))
    const longest = Buffer.alloc(LIMITS.listBytes)
    encodeHeader('list', domainId, 0).copy(longest)
    expect(() => decode(longest)).toThrow(damaged(/signature/))
    expect(() => decode(Buffer.concat([longest, Buffer.of(0)]))).toThrow(damaged(/it is too long/))
  })

  test('that says what no list says is refused, also when rightly signed', () => {
    expect(() => decode(signed((out) => out.u8(0)))).toThrow(damaged(/lists of kind 0 do not exist/))
    expect(() => decode(signed((out) => out.u8(4)))).toThrow(damaged(/lists of kind 4 do not exist/))
    const pack = (why: number) =>
      signed((out) =>
        out
          .u8(1)
          .varint(0)
          .varint(1)
          .raw(refBytes(ref(2)))
          .u64(9)
          .u8(why),
      )
    expect(decode(pack(1)).list).toMatchObject({ packs: [{ why: 'dead' }] })
    for (const why of [0, 3]) expect(() => decode(pack(why))).toThrow(damaged(/reason that does not exist/))
    const name = (type: number, random: string) =>
      signed((out) =>
        out
          .u8(3)
          .varint(0)
          .varint(1)
          .u8(type)
          .raw(refBytes({ ...ref(2), random })),
      )
    for (const type of [0, 1, 2, 7, 8, 9, 12, 14])
      expect(() => decode(name(type, NO_RANDOM))).toThrow(damaged(/which no collection deletes/))
    for (const type of [3, 13]) {
      expect(decode(name(type, NO_RANDOM)).list.kind).toBe('deletion')
      expect(() => decode(name(type, ref(2).random))).toThrow(damaged(/a name in it cannot be/))
    }
    for (const type of [4, 5, 6, 10, 11]) expect(() => decode(name(type, NO_RANDOM))).toThrow(damaged(/a name in it cannot be/))
    expect(() => decode(signed((out) => out.u8(3).varint(0).varint(0).u8(0)))).toThrow(damaged(/1 bytes too many/))
    for (const kind of [1, 2, 3]) {
      expect(() => decode(signed((out) => out.u8(kind).varint(1_000_001)))).toThrow(damaged(/over the limit of 1000000/))
      expect(() => decode(signed((out) => out.u8(kind).varint(1_000_000)))).toThrow(damaged(/more than it can hold/))
    }
    expect(() =>
      decode(
        signed((out) =>
          out
            .u8(2)
            .varint(1)
            .raw(refBytes(ref(2))),
        ),
      ),
    ).toThrow(damaged(/more than it can hold/))
    expect(() =>
      decode(
        signed((out) =>
          out
            .u8(3)
            .varint(0)
            .varint(1)
            .raw(refBytes(ref(2))),
        ),
      ),
    ).toThrow(damaged(/more than it can hold/))
    expect(() =>
      decode(
        signed((out) =>
          out
            .u8(1)
            .varint(0)
            .varint(1)
            .raw(refBytes(ref(2)))
            .u64(9),
        ),
      ),
    ).toThrow(damaged(/more than it can hold/))
  })
})

describe('a signed body', () => {
  const signature = signBody(writer, 9, domainId, Buffer.from('abc'))

  test('is that of its type, domain and bytes, in however many pieces they come', () => {
    expect(signature).toHaveLength(64)
    const verify = (type: number, domain: Buffer, bytes: Buffer | Buffer[], by = publicKey, what: Uint8Array = signature) =>
      verifyBody(by, type, domain, bytes, what)
    expect(verify(9, domainId, Buffer.from('abc'))).toBe(true)
    expect(verify(9, domainId, [Buffer.from('a'), Buffer.from('bc')])).toBe(true)
    expect(verify(8, domainId, Buffer.from('abc'))).toBe(false)
    expect(verify(9, Buffer.alloc(16, 3), Buffer.from('abc'))).toBe(false)
    expect(verify(9, domainId, Buffer.from('abd'))).toBe(false)
    for (const length of [31, 33]) expect(verify(9, domainId, Buffer.from('abc'), Buffer.alloc(length, 1))).toBe(false)
    for (const length of [0, 63, 65]) expect(verify(9, domainId, Buffer.from('abc'), publicKey, Buffer.alloc(length, 1))).toBe(false)
    const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x!
    expect(verify(9, domainId, Buffer.from('abc'), Buffer.from(other, 'base64url'))).toBe(false)
    expect(signBody(writer, 9, domainId, [Buffer.from('ab'), Buffer.from('c')])).toEqual(signature)
  })
})
