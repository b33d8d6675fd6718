// Grants: one request, one agent, one snapshot, one selection, until they expire; anything else is refused with one code.
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { GRANT_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { rootKeys, segmentKeyOf, sessionEntry } from '../../../agent/keys/domain.ts'
import { makeGrant, openGrant, selectionHash } from '../../../agent/keys/grant.ts'
import { encodeKeyTable, keyTable } from '../../../agent/keys/key-table.ts'
import { signAndSeal } from '../../../agent/keys/signed-seal.ts'
import { xwingKeyPair } from '../../../agent/keys/xwing.ts'

const domainId = Buffer.alloc(16, 2)
const keys = rootKeys({ root: Buffer.alloc(32, 1), domainId })
const { structure } = keys.write
const keyPair = xwingKeyPair(Buffer.alloc(32, 3))
const refused = (pattern = /./) => expect.objectContaining({ code: 'grant-refused', message: expect.stringMatching(pattern) })
const usage = expect.objectContaining({ code: 'usage' })

const sessionKey = Buffer.alloc(32, 7)
const session = sessionEntry(sessionKey, Buffer.alloc(16, 8), keys.write, systemRandom)
const otherSession = sessionEntry(Buffer.alloc(32, 9), Buffer.alloc(16, 10), keys.write, systemRandom)
const segmentId = Buffer.alloc(32, 11)
const tokens = ['b'.repeat(64), 'a'.repeat(64)]

const terms = {
  restoreId: `rst_${'1'.repeat(32)}`,
  agentId: `ag_${'2'.repeat(32)}`,
  snapshotId: '3'.repeat(32),
  root: '4'.repeat(64),
  selection: 'whole',
  restoreRoot: 'desk',
  conflict: 'beside',
  issuedAt: 1_000_000,
  expiresAt: 2_000_000,
}
const base = {
  ...terms,
  signing: keys.signing,
  domainId,
  requestPublicKey: keyPair.publicKey,
  sessionKeys: [],
  segmentKeys: [],
  random: systemRandom,
}
const whole = makeGrant({ ...base, sessionKeys: [{ sessionId: session.sessionId, key: keys.sessionKey(session) }] })
const partTerms = { ...base, selection: selectionHash({ tokens }) }
const part = makeGrant({ ...partTerms, segmentKeys: [{ segmentId, key: segmentKeyOf(sessionKey, segmentId) }] })

const expectWhole = { ...terms, selectionHash: 'whole', now: 1_500_000 }
const expectPart = { ...expectWhole, selectionHash: selectionHash({ tokens }) }

function open(object: Buffer, expectation = expectWhole, pair = keyPair) {
  return openGrant({ object, keyPair: pair, structure, expect: expectation })
}

function seal(plain: Buffer): Buffer {
  return signAndSeal({ kind: 'grant', domainId, signing: keys.signing, recipient: keyPair.publicKey, plain, random: systemRandom })
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** A grant's content as `makeGrant` lays it out, so that a rightly signed one can hold anything. */
function content(json: unknown, rest: readonly Buffer[], pad = 0): Buffer {
  const text = Buffer.from(JSON.stringify(json) + ' '.repeat(pad))
  return seal(Buffer.concat([u32(text.length), text, ...rest]))
}

describe('a grant', () => {
  it('gives exactly the keys that it was made of, however many of each kind', () => {
    fc.assert(
      fc.property(fc.nat(30), fc.nat(30), (sessions, segments) => {
        const entries = Array.from({ length: sessions }, (_, n) => {
          const key = Buffer.alloc(32, n + 1)
          return { key, entry: sessionEntry(key, Buffer.alloc(16, 100 + n), keys.write, systemRandom) }
        })
        const segmentKeys = Array.from({ length: segments }, (_, n) => ({
          segmentId: Buffer.alloc(32, 100 + n),
          key: Buffer.alloc(32, 200 - n),
        }))
        const sessionKeys = entries.map(({ key, entry }) => ({ sessionId: entry.sessionId, key }))
        const { readKeys } = open(makeGrant({ ...base, sessionKeys, segmentKeys }))
        for (const { key, entry } of entries) {
          expect(readKeys.segmentKey(entry, segmentId)).toEqual(segmentKeyOf(key, segmentId))
          expect(readKeys.segmentKey(entry, Buffer.alloc(32, 1))).toEqual(segmentKeyOf(key, Buffer.alloc(32, 1)))
        }
        for (const granted of segmentKeys) expect(readKeys.segmentKey(otherSession, granted.segmentId)).toEqual(granted.key)
        expect(readKeys.segmentKey(session, segmentId)).toBeUndefined()
      }),
      { numRuns: 15 },
    )
  })

  it('of a part is made with any number of segment keys, also with none', () => {
    const none = makeGrant(partTerms)
    expect(open(none, expectPart).readKeys.segmentKey(session, segmentId)).toBeUndefined()
    const one = makeGrant({ ...partTerms, segmentKeys: [{ segmentId, key: segmentKeyOf(sessionKey, segmentId) }] })
    expect(open(one, expectPart).readKeys.segmentKey(session, segmentId)).toEqual(segmentKeyOf(sessionKey, segmentId))
  })

  it('says once why it is refused, and keeps what was found as the cause', () => {
    const elsewhere = makeGrant({ ...base, domainId: Buffer.alloc(16) })
    expect(() => open(elsewhere)).toThrow(refused(/^The grant is refused: it is of another domain\. Ask/))
    const failure = (object: Buffer, pair = keyPair): unknown => {
      try {
        return open(object, expectWhole, pair)
      } catch (error) {
        return error
      }
    }
    expect(failure(elsewhere)).not.toHaveProperty('cause')
    expect(failure(whole.subarray(0, 50))).toMatchObject({ code: 'grant-refused', cause: { code: 'damaged' } })
    expect(failure(whole, xwingKeyPair(Buffer.alloc(32, 5)))).toMatchObject({ code: 'grant-refused', cause: { code: 'wrong-key' } })
  })

  it('is not called refused where the agent itself failed', () => {
    const broken = {
      publicKey: keyPair.publicKey,
      decapsulate: () => {
        throw new TypeError('no such key in this process')
      },
    }
    expect(() => open(whole, expectWhole, broken)).toThrow(TypeError)
  })

  it('of a whole snapshot opens the segments of its sessions and of no other', () => {
    const { readKeys, terms: opened } = open(whole)
    expect(opened).toMatchObject({ restoreId: terms.restoreId, root: terms.root, expiresAt: '1970-01-01T00:33:20.000Z' })
    expect(readKeys.segmentKey(session, segmentId)).toEqual(segmentKeyOf(sessionKey, segmentId))
    expect(readKeys.segmentKey(session, Buffer.alloc(32))).toEqual(segmentKeyOf(sessionKey, Buffer.alloc(32)))
    expect(readKeys.segmentKey(otherSession, segmentId)).toBeUndefined()
    expect(() => readKeys.segmentKey({ ...session, commitment: Buffer.alloc(32) }, segmentId)).toThrow(
      expect.objectContaining({ code: 'damaged' }),
    )
  })

  it('of single files opens its segments and nothing else of their session', () => {
    const { readKeys } = open(part, expectPart)
    expect(readKeys.segmentKey(session, segmentId)).toEqual(segmentKeyOf(sessionKey, segmentId))
    expect(readKeys.segmentKey(session, Buffer.alloc(32, 12))).toBeUndefined()
  })

  it('reaches nothing after it was forgotten', () => {
    const { readKeys, forget } = open(whole)
    forget()
    expect(readKeys.segmentKey(session, segmentId)).toBeUndefined()
    const single = open(part, expectPart)
    single.forget()
    expect(single.readKeys.segmentKey(session, segmentId)).toBeUndefined()
    // The table is overwritten with zeros, which are no key either.
    expect(single.readKeys.segmentKey(session, Buffer.alloc(32))).toBeUndefined()
  })

  it('is refused for another place or conflict rule than it was made for, so that a relaying server cannot turn it elsewhere', () => {
    expect(() => open(whole, { ...expectWhole, restoreRoot: 'public' })).toThrow(refused(/for restore root desk, not for public/))
    expect(() => open(whole, { ...expectWhole, conflict: 'always' })).toThrow(refused(/conflicts 'beside', not 'always'/))
    expect(() => makeGrant({ ...base, restoreRoot: '/srv' })).toThrow(usage)
    expect(() => makeGrant({ ...base, conflict: 'overwrite' })).toThrow(usage)
  })

  it('is refused for another request, agent, snapshot or selection, and once it has expired', () => {
    expect(() => open(whole, { ...expectWhole, restoreId: `rst_${'9'.repeat(32)}` })).toThrow(refused(/for request rst_1+, not for rst_9+/))
    expect(() => open(whole, { ...expectWhole, agentId: `ag_${'9'.repeat(32)}` })).toThrow(refused(/for agent/))
    expect(() => open(whole, { ...expectWhole, snapshotId: '9'.repeat(32) })).toThrow(refused(/for snapshot/))
    expect(() => open(whole, expectPart)).toThrow(refused(/another selection/))
    expect(() => open(part, expectWhole)).toThrow(refused(/another selection/))
    expect(() => open(whole, { ...expectWhole, now: 2_000_000 })).toThrow(refused(/expired at 1970/))
    expect(open(whole, { ...expectWhole, now: 1_999_999 }).terms.selection).toBe('whole')
  })

  it('sealed to another request’s key, or of another domain or signer, is refused', () => {
    expect(() => open(whole, expectWhole, xwingKeyPair(Buffer.alloc(32, 5)))).toThrow(refused())
    const other = rootKeys({ root: Buffer.alloc(32, 6), domainId })
    expect(() => open(makeGrant({ ...base, signing: other.signing }))).toThrow(refused(/signed with another key/))
    expect(() => open(makeGrant({ ...base, domainId: Buffer.alloc(16) }))).toThrow(refused(/another domain/))
    const forged = makeGrant({ ...base, signing: { publicKey: keys.signing.publicKey, sign: other.signing.sign } })
    expect(() => open(forged)).toThrow(refused(/signature/))
  })

  it('with any one byte changed, cut short or made longer is refused', () => {
    for (let at = 0; at < part.length; at++) {
      const changed = Buffer.from(part)
      changed[at] = changed[at]! ^ 0x01
      expect(() => open(changed, expectPart)).toThrow(refused())
    }
    for (let length = 0; length < part.length; length += 5) expect(() => open(part.subarray(0, length), expectPart)).toThrow(refused())
    expect(() => open(Buffer.concat([part, Buffer.alloc(1)]), expectPart)).toThrow(refused())
  })

  it('whose content is malformed is refused, also when rightly signed', () => {
    const body = (json: unknown, ...rest: Buffer[]) => content(json, rest)
    const json = { v: 1, ...terms, issuedAt: '1970-01-01T00:16:40.000Z', expiresAt: '1970-01-01T00:33:20.000Z' }
    const none = u32(0)
    const pair = Buffer.alloc(48, 1)
    expect(open(body(json, none, none)).terms).toEqual(json)
    expect(() => open(body(json, none, none, Buffer.alloc(1)))).toThrow(refused(/1 bytes too many/))
    expect(() => open(body(json, none))).toThrow(refused())
    expect(() => open(body(json, u32(2), pair, none))).toThrow(refused(/more than it can hold/))
    for (const count of [0xffffffff, Math.floor(GRANT_BYTES_MAX / 48) + 1]) {
      expect(() => open(body(json, u32(count), none))).toThrow(refused(/over the limit/))
      expect(() => open(body(json, none, u32(count)))).toThrow(refused(/over the limit/))
    }
    expect(() => open(body(json, u32(Math.floor(GRANT_BYTES_MAX / 48)), none))).toThrow(refused(/more than it can hold/))
    expect(() => open(body(json, none, u32(Math.floor(GRANT_BYTES_MAX / 48))))).toThrow(refused(/more than it can hold/))
    expect(() => open(body(json, u32(2), pair, pair, none))).toThrow(refused(/stands in it twice/))
    for (const wrong of [{ ...json, v: 2 }, { ...json, only: 'x' }, { ...json, root: '' }, { ...json, expiresAt: 'never' }, []]) {
      expect(() => open(body(wrong, none, none))).toThrow(refused(/malformed/))
    }
    expect(() => open(body({ ...json, issuedAt: json.expiresAt }, none, none))).toThrow(refused(/before it was issued/))
    expect(() => open(body({ ...json, pad: 'x'.repeat(5000) }, none, none))).toThrow(refused(/too long/))
    const room = 4096 - JSON.stringify(json).length
    expect(open(content(json, [none, none], room)).terms).toEqual(json)
    expect(() => open(content(json, [none, none], room + 1))).toThrow(refused(/too long/))
    expect(() => open(seal(Buffer.alloc(0)))).toThrow(refused())
    const partial = { ...json, selection: selectionHash({ tokens }) }
    expect(() => open(body(partial, u32(1), pair, none), expectPart)).toThrow(refused(/not for a whole snapshot/))
  })

  it('is not made with session keys for a part, with an early expiry or with malformed terms', () => {
    const sessionKeys = [{ sessionId: session.sessionId, key: sessionKey }]
    expect(() => makeGrant({ ...partTerms, sessionKeys })).toThrow(usage)
    expect(() => makeGrant({ ...base, expiresAt: base.issuedAt })).toThrow(usage)
    expect(() => makeGrant({ ...base, restoreId: 'rst_1' })).toThrow(usage)
    const short = (name: string, bytes: number) => new RegExp(`The ${name} has ${bytes} bytes instead of`)
    expect(() => makeGrant({ ...base, sessionKeys: [{ sessionId: Buffer.alloc(15), key: sessionKey }] })).toThrow(short('id of .*', 15))
    expect(() => makeGrant({ ...base, segmentKeys: [{ segmentId: Buffer.alloc(16), key: sessionKey }] })).toThrow(short('id of .*', 16))
    expect(() => makeGrant({ ...base, segmentKeys: [{ segmentId, key: Buffer.alloc(31) }] })).toThrow(short('granted key', 31))
  })

  it('shows neither request nor key, whatever carries it', () => {
    expect(whole.includes(terms.restoreId)).toBe(false)
    expect(whole.includes(sessionKey)).toBe(false)
  })
})

describe('a selection', () => {
  it('has one hash whatever the order and repetition of its tokens', () => {
    expect(selectionHash({ tokens })).toBe(selectionHash({ tokens: [...tokens].reverse().concat(tokens) }))
    expect(selectionHash({ tokens })).not.toBe(selectionHash({ tokens: tokens.slice(1) }))
    expect(selectionHash({ whole: true })).toBe('whole')
    expect(() => selectionHash({ tokens: [] })).toThrow(usage)
    const malformed = ['A'.repeat(64), 'a'.repeat(63), `x${'a'.repeat(64)}`, `${'a'.repeat(64)}x`, '']
    for (const token of malformed) {
      expect(() => selectionHash({ tokens: [token] })).toThrow(usage)
      expect(() => selectionHash({ tokens: [...tokens, token] })).toThrow(usage)
    }
  })
})

describe('a table of keys', () => {
  it('finds every key by its id and no other, in any order', () => {
    const id = fc.uint8Array({ minLength: 16, maxLength: 16 })
    fc.assert(
      fc.property(fc.uniqueArray(id, { maxLength: 40, selector: (bytes) => Buffer.from(bytes).toString('hex') }), id, (ids, other) => {
        const entries = ids.map((bytes, n) => ({ id: Buffer.from(bytes), key: Buffer.alloc(32, n) }))
        const ascending = encodeKeyTable(entries)
        const asGiven = Buffer.concat(entries.flatMap((entry) => [entry.id, entry.key]))
        for (const find of [keyTable(ascending), keyTable(asGiven)]) {
          for (const entry of entries) expect(find(Buffer.concat([entry.id, Buffer.alloc(16)]))).toEqual(entry.key)
          if (!entries.some((entry) => entry.id.equals(Buffer.from(other)))) expect(find(Buffer.from(other))).toBeUndefined()
        }
      }),
      { numRuns: 50 },
    )
  })
})
