// The parts of the single-file reader that the format rests on, each against another implementation or by its definition.
import { Blake3Hasher } from '@napi-rs/blake-hash'
import { createHash, createPublicKey, diffieHellman, encapsulate, generateKeyPairSync, hash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { assert, bigInt, integer, property } from 'fast-check'
import { expect, test } from 'vitest'
import { readerPrimitives } from './reader-support.ts'

const { blake3, pad, recoveryCode, xwingKeys, xwingDecapsulate, reader } = await readerPrimitives()

function pattern(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => i % 251))
}

function encode(value: bigint): Buffer {
  const bytes = []
  for (; value > 127n; value >>= 7n) bytes.push(Number(value & 127n) | 128)
  return Buffer.from([...bytes, Number(value)])
}

function zigzag(n: bigint): bigint {
  return BigInt.asUintN(64, (n << 1n) ^ (n >> 63n))
}

function spki(prefix: string, bytes: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([Buffer.from(prefix, 'hex'), bytes]), format: 'der', type: 'spki' })
}

test('BLAKE3 gives the published digests of the empty input, and of the pattern input of one and of two chunks', () => {
  expect(blake3(pattern(0)).toString('hex')).toBe('af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262')
  expect(blake3(pattern(1)).toString('hex')).toBe('2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213')
  expect(blake3(pattern(1024)).toString('hex')).toBe('42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7')
  expect(blake3(pattern(1025)).toString('hex')).toBe('d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444')
})

test('BLAKE3, plain and keyed, is that of another implementation at every length to 5000 and around larger trees', () => {
  const all = pattern(1024 * 1024 + 1)
  const key = Buffer.from('whats the Elvish word for friend')
  const lengths = [
    ...Array.from({ length: 5001 }, (_, i) => i),
    7168,
    8192,
    8193,
    16384,
    31744,
    102400,
    1024 * 1024 - 1,
    1024 * 1024,
    1024 * 1024 + 1,
  ]
  const wrong = lengths.filter((length) => {
    const data = all.subarray(0, length)
    const plain = new Blake3Hasher().update(data).digestBuffer()
    const keyed = Blake3Hasher.newKeyed(key).update(data).digestBuffer()
    return !plain.equals(blake3(data)) || !keyed.equals(blake3(data, key))
  })
  expect(wrong).toEqual([])
})

test('a varint is read back whatever its value, and refused when it is longer than needed or over 64 bits', () => {
  assert(property(bigInt({ min: 0n, max: 2n ** 64n - 1n }), (n) => reader(encode(n)).varint64() === n))
  assert(property(bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (n) => reader(encode(zigzag(n))).svarint64() === n))
  for (const bad of ['8000', 'ff00', 'ffffffffffffffffff02', 'ffffffffffffffffff8001', '80', '']) {
    expect(() => reader(Buffer.from(bad, 'hex')).varint64()).toThrow(/^it (ends|holds)/)
  }
})

test('Padmé rounds to its published steps, never below, never by more than 12 percent, and keeps what it gave', () => {
  expect([0, 1, 2, 3, 8, 9, 10, 100, 129, 1000].map((n) => pad(n))).toEqual([0, 1, 2, 3, 8, 10, 10, 104, 144, 1024])
  assert(property(integer({ min: 2, max: 2 ** 31 }), (n) => pad(n) >= n && pad(n) <= n * 1.12 && pad(pad(n)) === pad(n)))
})

test('X-Wing gives both sides the same secret, and the public key of the first vector of the draft', () => {
  const seed = Buffer.from('7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26', 'hex')
  const keys = xwingKeys(seed)
  expect(keys.public.subarray(0, 16).toString('hex')).toBe('e2236b35a8c24b39b10aa1323a96a919')
  const mlkem = encapsulate(spki('308204b2300b0609608648016503040402038204a100', keys.public.subarray(0, 1184)))
  const ephemeral = generateKeyPairSync('x25519')
  const ephemeralPublic = ephemeral.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  const shared = diffieHellman({
    privateKey: ephemeral.privateKey,
    publicKey: spki('302a300506032b656e032100', keys.public.subarray(1184)),
  })
  const parts = [mlkem.sharedKey, shared, ephemeralPublic, keys.public.subarray(1184), Buffer.from('\\.//^\\')]
  const secret = hash('sha3-256', Buffer.concat(parts), 'hex')
  expect(xwingDecapsulate(keys, Buffer.concat([mlkem.ciphertext, ephemeralPublic])).toString('hex')).toBe(secret)
})

test('a recovery code is read whatever its case, groups and look-alikes, and refused when a character is wrong', () => {
  const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
  const code = Buffer.alloc(20, 0x5a)
  const check = createHash('sha256').update('holdfast/1 recovery code').update(code).digest()
  const bits = [...code, ...check.subarray(0, 3)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  const digits = Array.from({ length: 36 }, (_, i) => alphabet[Number.parseInt(bits.slice(i * 5, i * 5 + 5), 2)] ?? '').join('')
  const grouped = digits.match(/.{4}/g)?.join('-') ?? ''
  for (const text of [digits, grouped, grouped.toUpperCase(), digits.replaceAll('1', 'l').replaceAll('0', 'O')]) {
    expect(recoveryCode(text)?.equals(code)).toBe(true)
  }
  const wrong = alphabet[(alphabet.indexOf(digits[3] ?? '') + 1) % 32] ?? ''
  for (const text of [digits.slice(1), `${digits}0`, `${digits.slice(0, 35)}u`, digits.slice(0, 3) + wrong + digits.slice(4), '']) {
    expect(recoveryCode(text)).toBeUndefined()
  }
})
