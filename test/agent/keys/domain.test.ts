// The keys of a domain: derived the same each time, apart from each other, and reaching exactly what they should.
import { createHmac, hkdfSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import {
  agentWriter,
  decodeSessionEntry,
  encodeSessionEntry,
  newDomainRoot,
  rootKeys,
  segmentKeyOf,
  sessionEntry,
} from '../../../agent/keys/domain.ts'
import { signBody, verifyBody } from '@holdfast/shared/format/signed-body.ts'
import { xwingKeyPair } from '../../../agent/keys/xwing.ts'

const domain = { root: Buffer.alloc(32, 1), domainId: Buffer.alloc(16, 2) }
const damaged = expect.objectContaining({ code: 'damaged' })
const wrongKey = expect.objectContaining({ code: 'wrong-key' })

function newSession(keys = rootKeys(domain)) {
  const sessionKey = systemRandom.bytes(32)
  const sessionId = systemRandom.bytes(16)
  return { sessionKey, sessionId, entry: sessionEntry(sessionKey, sessionId, keys.write, systemRandom) }
}

describe('the keys of a domain', () => {
  it('follow the derivation of the format page', () => {
    const keys = rootKeys(domain)
    const derive = (label: string, epoch: string): Buffer =>
      Buffer.from(hkdfSync('sha256', domain.root, domain.domainId, Buffer.from(`holdfast/1 ${label}${epoch}`, 'latin1'), 32))
    expect(keys.write.structure.treeIdKey).toEqual(derive('tree id', '\0\0\0\0'))
    expect(keys.write.structure.idKey).toEqual(derive('id', '\0\0\0\0'))
    expect(keys.write.structure.recordKey).toEqual(derive('record', '\0\0\0\0'))
    expect(keys.write.chunkerKey).toEqual(derive('chunker', '\0\0\0\0'))
    expect(keys.write.structure.structureKey(1)).toEqual(derive('structure', '\x01\0\0\0'))
    expect(keys.write.structure.structureKey(0x01020304)).toEqual(derive('structure', '\x04\x03\x02\x01'))
    expect(keys.write.contentPublicKey).toEqual(xwingKeyPair(derive('content', '\x01\0\0\0')).publicKey)
  })

  it('are the same each time from the same root, and all differ with the domain id', () => {
    const other = rootKeys({ root: domain.root, domainId: Buffer.alloc(16, 3) })
    const keys = rootKeys(domain)
    expect(rootKeys(domain).write.structure.idKey).toEqual(keys.write.structure.idKey)
    expect(other.write.structure.idKey).not.toEqual(keys.write.structure.idKey)
    expect(other.signing.publicKey).not.toEqual(keys.signing.publicKey)
    expect(other.write.contentPublicKey).not.toEqual(keys.write.contentPublicKey)
  })

  it('give no structure key for an epoch that cannot be', () => {
    const { structure } = rootKeys(domain).write
    for (const epoch of [0, -1, 1.5, 2 ** 32, Number.NaN]) expect(structure.structureKey(epoch)).toBeUndefined()
  })

  it('are made fresh for a new domain', () => {
    const made = newDomainRoot(systemRandom)
    expect(made.root.length).toBe(32)
    expect(made.domainId.length).toBe(16)
    expect(made.root).not.toEqual(newDomainRoot(systemRandom).root)
  })

  it('refuse a root or domain id of another length', () => {
    expect(() => rootKeys({ root: Buffer.alloc(31), domainId: domain.domainId })).toThrow(damaged)
    expect(() => rootKeys({ root: domain.root, domainId: Buffer.alloc(15) })).toThrow(damaged)
  })
})

describe('a session entry', () => {
  it('is 1220 bytes and comes back as it was', () => {
    const { entry } = newSession()
    const bytes = encodeSessionEntry(entry)
    expect(bytes.length).toBe(1220)
    expect(decodeSessionEntry(bytes)).toEqual(entry)
  })

  it('lets the root reach the key of a segment', () => {
    const { entry, sessionKey } = newSession()
    const segmentId = systemRandom.bytes(32)
    const expected = createHmac('sha256', sessionKey).update('holdfast/1 segment').update(segmentId).digest()
    const { read } = rootKeys(domain)
    expect(read.segmentKey(entry, segmentId)).toEqual(expected)
    expect(read.segmentKey(entry, segmentId)).toEqual(segmentKeyOf(sessionKey, segmentId))
  })

  it('of an earlier content epoch can still be read after the content key was rotated', () => {
    const { entry, sessionKey } = newSession()
    const rotated = rootKeys({ ...domain, contentEpoch: 2 })
    expect(rotated.write.contentEpoch).toBe(2)
    expect(rotated.read.segmentKey(entry, Buffer.alloc(32))).toEqual(segmentKeyOf(sessionKey, Buffer.alloc(32)))
    const later = newSession(rotated)
    expect(later.entry.contentEpoch).toBe(2)
    expect(rootKeys(domain).read.segmentKey(later.entry, Buffer.alloc(32))).toEqual(segmentKeyOf(later.sessionKey, Buffer.alloc(32)))
  })

  it('is refused in another domain, under another session id and under another epoch', () => {
    const { entry } = newSession()
    const foreign = rootKeys({ root: domain.root, domainId: Buffer.alloc(16, 9) })
    expect(() => foreign.read.segmentKey(entry, Buffer.alloc(32))).toThrow(wrongKey)
    const { read } = rootKeys(domain)
    expect(() => read.segmentKey({ ...entry, sessionId: Buffer.alloc(16) }, Buffer.alloc(32))).toThrow(wrongKey)
    expect(() => read.segmentKey({ ...entry, contentEpoch: 2 }, Buffer.alloc(32))).toThrow(wrongKey)
    expect(() => read.segmentKey({ ...entry, contentEpoch: 0 }, Buffer.alloc(32))).toThrow(damaged)
  })

  it('whose commitment is not that of its key is refused, also after the right one was opened', () => {
    const { entry } = newSession()
    const { read } = rootKeys(domain)
    read.segmentKey(entry, Buffer.alloc(32))
    expect(() => read.segmentKey({ ...entry, commitment: Buffer.alloc(32) }, Buffer.alloc(32))).toThrow(damaged)
  })

  it('of another length or with epoch 0 is refused', () => {
    const bytes = encodeSessionEntry(newSession().entry)
    expect(() => decodeSessionEntry(bytes.subarray(1))).toThrow(damaged)
    expect(() => decodeSessionEntry(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(damaged)
    bytes.fill(0, 16, 20)
    expect(() => decodeSessionEntry(bytes)).toThrow(damaged)
  })
})

describe('a writer', () => {
  it('signs for one type, one domain and one content', () => {
    const writer = agentWriter(Buffer.alloc(32, 5), Buffer.alloc(16, 6))
    const body = Buffer.from('body')
    const signature = signBody(writer, 5, domain.domainId, body)
    expect(verifyBody(writer.publicKey, 5, domain.domainId, body, signature)).toBe(true)
    expect(verifyBody(writer.publicKey, 5, domain.domainId, [Buffer.from('bo'), Buffer.from('dy')], signature)).toBe(true)
    expect(verifyBody(writer.publicKey, 6, domain.domainId, body, signature)).toBe(false)
    expect(verifyBody(writer.publicKey, 5, Buffer.alloc(16), body, signature)).toBe(false)
    expect(verifyBody(writer.publicKey, 5, domain.domainId, Buffer.from('Body'), signature)).toBe(false)
    expect(verifyBody(rootKeys(domain).write.writer.publicKey, 5, domain.domainId, body, signature)).toBe(false)
    expect(verifyBody(writer.publicKey, 5, domain.domainId, body, signature.subarray(1))).toBe(false)
    expect(verifyBody(Buffer.alloc(31), 5, domain.domainId, body, signature)).toBe(false)
  })

  it('that is the root has the all-zero id, which no agent may have', () => {
    expect(rootKeys(domain).write.writer.id).toEqual(Buffer.alloc(16))
    expect(() => agentWriter(Buffer.alloc(32, 5), Buffer.alloc(16))).toThrow(expect.objectContaining({ code: 'bad-config' }))
  })
})
