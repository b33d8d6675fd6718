// The domain bundle: it gives one agent of one domain the keys to write, and a swapped or changed one gives nothing.
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import { bundleWriteKeys, domainFingerprint, makeBundle, openBundle, writerIdOf } from '../../../agent/keys/bundle.ts'
import { agentWriter, rootKeys, sessionEntry } from '../../../agent/keys/domain.ts'
import { signAndSeal } from '../../../agent/keys/signed-seal.ts'
import { xwingKeyPair } from '../../../agent/keys/xwing.ts'

const domainId = Buffer.alloc(16, 2)
const keys = rootKeys({ root: Buffer.alloc(32, 1), domainId })
const agentId = `ag_${'ab'.repeat(16)}`
const writer = agentWriter(Buffer.alloc(32, 4), writerIdOf(agentId))
const enrolment = xwingKeyPair(Buffer.alloc(32, 3))
const fingerprint = domainFingerprint(domainId, keys.signing.publicKey)
const code = (name: string) => expect.objectContaining({ code: name })

const input = {
  keys,
  agentId,
  agentKey: writer.publicKey,
  enrolmentPublicKey: enrolment.publicKey,
  repository: 's3:https://store.example/bucket',
  madeAt: 1_700_000_000_000,
  random: systemRandom,
}
const object = makeBundle(input)

function open(bytes: Buffer, expected = fingerprint, keyPair = enrolment) {
  return openBundle({ object: bytes, enrolmentKeyPair: keyPair, expectedDomainFingerprint: expected })
}

const seal = (plain: string | Buffer) =>
  signAndSeal({
    kind: 'bundle',
    domainId,
    signing: keys.signing,
    recipient: enrolment.publicKey,
    plain: Buffer.from(plain),
    random: systemRandom,
  })

describe('a domain bundle', () => {
  it('gives the agent the write keys of the domain and where to store', () => {
    const bundle = open(object)
    expect(bundle).toMatchObject({ agentId, repository: input.repository, madeAt: '2023-11-14T22:13:20.000Z' })
    const write = bundleWriteKeys(bundle, writer)
    const root = keys.write
    expect(write.chunkerKey).toEqual(root.chunkerKey)
    expect(write.contentPublicKey).toEqual(root.contentPublicKey)
    expect(write.contentEpoch).toBe(1)
    for (const name of ['domainId', 'treeIdKey', 'idKey', 'recordKey', 'signPublicKey', 'rootWriterKey'] as const) {
      expect(write.structure[name]).toEqual(root.structure[name])
    }
    expect(write.structure.structureKey(1)).toEqual(root.structure.structureKey(1))
    expect(write.structure.structureKey(2)).toBeUndefined()
    const sessionKey = systemRandom.bytes(32)
    const entry = sessionEntry(sessionKey, systemRandom.bytes(16), write, systemRandom)
    expect(keys.sessionKey(entry)).toEqual(sessionKey)
  })

  it('shows nothing of its content and holds no root, content or signing secret', () => {
    expect(object.includes(agentId)).toBe(false)
    expect(object.includes('store.example')).toBe(false)
    expect(JSON.stringify(open(object))).not.toContain(Buffer.alloc(32, 1).toString('base64url'))
  })

  it('of another domain is refused, also where it names the same domain id', () => {
    const other = rootKeys({ root: Buffer.alloc(32, 9), domainId })
    expect(() => open(makeBundle({ ...input, keys: other }))).toThrow(code('wrong-key'))
    expect(() => open(object, domainFingerprint(Buffer.alloc(16), keys.signing.publicKey))).toThrow(/Compare the fingerprint/)
    expect(() => open(object, '')).toThrow(code('wrong-key'))
  })

  it('is accepted with the fingerprint typed in capitals and without hyphens', () => {
    expect(open(object, fingerprint.toUpperCase().replaceAll('-', ' ')).agentId).toBe(agentId)
  })

  it('for another enrolment key or another agent gives nothing', () => {
    expect(() => open(object, fingerprint, xwingKeyPair(Buffer.alloc(32, 5)))).toThrow(code('wrong-key'))
    const bundle = open(object)
    expect(() => bundleWriteKeys(bundle, agentWriter(Buffer.alloc(32, 5), writer.id))).toThrow(code('wrong-key'))
    expect(() => bundleWriteKeys(bundle, agentWriter(Buffer.alloc(32, 4), Buffer.alloc(16, 1)))).toThrow(code('wrong-key'))
  })

  it('with any one byte changed, or cut short, or made longer, is refused', () => {
    const refusal = expect.objectContaining({ code: expect.stringMatching(/^(damaged|wrong-key|newer-format)$/) })
    for (let at = 0; at < object.length; at++) {
      const changed = Buffer.from(object)
      changed[at] = changed[at]! ^ 0x80
      expect(() => open(changed)).toThrow(refusal)
    }
    for (let length = 0; length < object.length; length += 7) expect(() => open(object.subarray(0, length))).toThrow(refusal)
    expect(() => open(Buffer.concat([object, Buffer.alloc(1)]))).toThrow(refusal)
    expect(() => open(Buffer.concat([object, Buffer.alloc(70_000)]))).toThrow(/more than the 65536 allowed/)
  })

  it('is opened up to its greatest size and refused as too large from there on; a shorter one than any seal is cut short', () => {
    const longest = 65_536 - seal('').length
    expect(() => open(seal(' '.repeat(longest)))).toThrow(/does not hold JSON in UTF-8/)
    expect(() => open(seal(' '.repeat(longest + 1)))).toThrow(/65537 bytes, more than the 65536 allowed/)
    const empty = seal('')
    expect(() => open(empty)).toThrow(/does not hold JSON in UTF-8/)
    expect(() => open(empty.subarray(0, -1))).toThrow(/this bundle is damaged: it is cut short/)
    expect(() => open(empty.subarray(0, 200))).toThrow(/this bundle is damaged: it is cut short/)
  })

  it('names the members that are not as they must be, at most four and each once', () => {
    const json = (members: object) => JSON.stringify({ v: 1, ...members })
    expect(() => open(seal('[]'))).toThrow(/damaged: its form is not as it must be/)
    expect(() => open(seal(json({})))).toThrow(/damaged: agentId, agentKey, contentEpoch, contentPublicKey is not/)
    expect(() => makeBundle({ ...input, repository: 'a\nb' })).toThrow(/made: repository is not as it must be/)
    expect(() => makeBundle({ ...input, agentId: 'ag_1', agentKey: Buffer.alloc(31) })).toThrow(
      /made: agentId, agentKey is not as it must be/,
    )
  })

  it('whose keys are written in another way than the one they have is refused', () => {
    const { domainId: _, ...bundle } = open(object)
    const json = Object.fromEntries(
      Object.entries(bundle).map(([name, value]) => [name, Buffer.isBuffer(value) ? value.toString('base64url') : value]),
    )
    const idKey = String(json['idKey'])
    // 32 bytes leave two bits of the last letter unused.
    const other = `${idKey.slice(0, -1)}${String.fromCharCode(idKey.charCodeAt(42) + 1)}`
    expect(Buffer.from(other, 'base64url')).toEqual(bundle.idKey)
    expect(() => open(seal(JSON.stringify({ ...json, idKey: other })))).toThrow(/damaged: idKey is not/)
  })

  it('whose content is not of the schema is refused, also when rightly signed', () => {
    const { domainId: _, ...bundle } = open(object)
    const json: Record<string, unknown> = Object.fromEntries(
      Object.entries(bundle).map(([name, value]) => [name, Buffer.isBuffer(value) ? value.toString('base64url') : value]),
    )
    expect(open(seal(JSON.stringify(json)))).toEqual(open(object))
    const bad = [
      { ...json, v: 2 },
      { ...json, more: 1 },
      { ...json, idKey: 'AAAA' },
      { ...json, structureEpoch: 0 },
      { ...json, signPublicKey: json['idKey'] },
      { ...json, agentId: 'ag_1' },
      [],
      null,
    ]
    for (const value of bad) expect(() => open(seal(JSON.stringify(value)))).toThrow(code('damaged'))
    for (const plain of ['', '{', Buffer.from([0xff])]) expect(() => open(seal(plain))).toThrow(code('damaged'))
  })

  it('is not made for an id, key or address that a reader would refuse', () => {
    expect(() => makeBundle({ ...input, agentId: 'ag_1' })).toThrow(code('usage'))
    expect(() => makeBundle({ ...input, repository: 'a\nb' })).toThrow(code('usage'))
    expect(() => makeBundle({ ...input, agentKey: Buffer.alloc(31) })).toThrow(code('usage'))
    expect(() => writerIdOf('ag_x')).toThrow(code('usage'))
    const structure = { ...keys.write.structure, structureKey: () => undefined }
    expect(() => makeBundle({ ...input, keys: { ...keys, write: { ...keys.write, structure } } })).toThrow(code('wrong-key'))
    const sealing = {
      kind: 'bundle',
      signing: keys.signing,
      recipient: enrolment.publicKey,
      plain: Buffer.alloc(1),
      random: systemRandom,
    } as const
    expect(() => signAndSeal({ ...sealing, domainId: Buffer.alloc(15) })).toThrow(/domain id has 15 bytes instead of 16/)
  })
})
