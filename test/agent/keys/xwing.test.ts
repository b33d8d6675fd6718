// X-Wing against the draft's published vectors, and what sealing to a public key refuses.
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import { encapsulate, openSealed, SEAL_OVERHEAD, sealTo, xwingKeyPair } from '../../../agent/keys/xwing.ts'

type Vector = { seed: string; pk: string; ct: string; ss: string }
const { vectors } = JSON.parse(readFileSync(new URL('vectors/x-wing.json', import.meta.url), 'utf8')) as { vectors: Vector[] }
const hex = (text: string): Buffer => Buffer.from(text, 'hex')

describe('X-Wing', () => {
  it.each(vectors)('gives the public key and shared secret of the published vector with seed $seed', ({ seed, pk, ct, ss }) => {
    const pair = xwingKeyPair(hex(seed))
    expect(pair.publicKey.toString('hex')).toBe(pk)
    expect(pair.decapsulate(hex(ct)).toString('hex')).toBe(ss)
  })

  it('gives both sides the same secret', () => {
    const pair = xwingKeyPair(systemRandom.bytes(32))
    const { ciphertext, shared } = encapsulate(pair.publicKey, systemRandom)
    expect(ciphertext.length).toBe(1120)
    expect(shared.length).toBe(32)
    expect(pair.decapsulate(ciphertext)).toEqual(shared)
  })

  it('refuses a seed, public key or ciphertext of another length', () => {
    const pair = xwingKeyPair(systemRandom.bytes(32))
    expect(() => xwingKeyPair(Buffer.alloc(31))).toThrow(expect.objectContaining({ code: 'damaged' }))
    expect(() => encapsulate(pair.publicKey.subarray(1), systemRandom)).toThrow(expect.objectContaining({ code: 'damaged' }))
    expect(() => pair.decapsulate(Buffer.alloc(1119))).toThrow(expect.objectContaining({ code: 'damaged' }))
  })

  it('refuses a public key whose ML-KEM half is not reduced, and one whose X25519 half has small order', () => {
    const { publicKey } = xwingKeyPair(systemRandom.bytes(32))
    const notReduced = Buffer.concat([Buffer.alloc(1184, 0xff), publicKey.subarray(1184)])
    expect(() => encapsulate(notReduced, systemRandom)).toThrow(expect.objectContaining({ code: 'damaged' }))
    const smallOrder = Buffer.concat([publicKey.subarray(0, 1184), Buffer.alloc(32)])
    expect(() => encapsulate(smallOrder, systemRandom)).toThrow(expect.objectContaining({ code: 'wrong-key' }))
  })
})

describe('sealing to a public key', () => {
  const pair = xwingKeyPair(Buffer.alloc(32, 7))

  it('opens again with the same key, label and associated data, whatever the content', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 64 }), (plain, aad) => {
        const sealed = sealTo(pair.publicKey, 'session', aad, plain, systemRandom)
        expect(sealed.length).toBe(plain.length + SEAL_OVERHEAD)
        expect(openSealed(pair, 'session', aad, sealed)).toEqual(Buffer.from(plain))
      }),
      { numRuns: 30 },
    )
  })

  it('refuses another key, another label and other associated data', () => {
    const sealed = sealTo(pair.publicKey, 'session', Buffer.from('a'), Buffer.from('secret'), systemRandom)
    const wrongKey = expect.objectContaining({ code: 'wrong-key' })
    expect(() => openSealed(xwingKeyPair(Buffer.alloc(32, 8)), 'session', Buffer.from('a'), sealed)).toThrow(wrongKey)
    expect(() => openSealed(pair, 'grant', Buffer.from('a'), sealed)).toThrow(wrongKey)
    expect(() => openSealed(pair, 'session', Buffer.from('b'), sealed)).toThrow(wrongKey)
  })

  it('refuses a seal with any one byte changed, added or missing', () => {
    const sealed = sealTo(pair.publicKey, 'session', Buffer.alloc(0), Buffer.from('secret'), systemRandom)
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed[at] = changed[at]! ^ 0x01
      // The top bit of an X25519 point is ignored by RFC 7748, but X-Wing hashes the ciphertext as it was sent.
      expect(() => openSealed(pair, 'session', Buffer.alloc(0), changed)).toThrow(expect.objectContaining({ code: 'wrong-key' }))
    }
    expect(() => openSealed(pair, 'session', Buffer.alloc(0), Buffer.concat([sealed, Buffer.alloc(1)]))).toThrow()
    expect(() => openSealed(pair, 'session', Buffer.alloc(0), sealed.subarray(0, -1))).toThrow()
    expect(() => openSealed(pair, 'session', Buffer.alloc(0), sealed.subarray(0, 1135))).toThrow(
      expect.objectContaining({ code: 'damaged' }),
    )
  })
})
