// The roster of agents: only the domain's own, without ambiguity, and revocation that counts from its time on.
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { agentWriter, rootKeys } from '../../../agent/keys/domain.ts'
import { acceptsWriter, entryOf, latestRoster, parseRosterBody, rosterBody, rosterWriter } from '../../../agent/keys/roster.ts'
import type { Roster, RosterEntry } from '../../../agent/keys/roster.ts'
import { openBox, sealBox } from '../../../agent/repository/structure-box.ts'

const keys = rootKeys({ root: Buffer.alloc(32, 1), domainId: Buffer.alloc(16, 2) })
const { structure } = keys.write
const writerKey = structure.signPublicKey
const damaged = expect.objectContaining({ code: 'damaged' })
const usage = expect.objectContaining({ code: 'usage' })

function entry(n: number, more: Partial<RosterEntry> = {}): RosterEntry {
  const writer = agentWriter(Buffer.alloc(32, n), Buffer.alloc(16, n))
  return {
    writerId: writer.id,
    publicKey: writer.publicKey,
    fingerprint: Buffer.alloc(20, n),
    state: 'active',
    since: 1000,
    label: `agent ${n}`,
    ...more,
  }
}

const roster: Roster = {
  number: 3,
  madeAt: 5000,
  entries: [entry(1), entry(2, { state: 'revoked', since: 4000 }), entry(3, { label: 'büro' })],
}

describe('a roster', () => {
  it('comes back as it was, through the box it is stored in', () => {
    const object = sealBox({ type: 'roster', keys: structure, writer: rosterWriter(keys.signing), body: rosterBody(roster) })
    const opened = openBox({ type: 'roster', keys: structure, object, what: 'rosters/1' })
    expect(parseRosterBody(opened, structure, 'rosters/1')).toEqual(roster)
  })

  it('signed by a writer or the root writer is refused', () => {
    const body = rosterBody(roster)
    for (const other of [entry(1).publicKey, structure.rootWriterKey]) {
      expect(() => parseRosterBody({ body, writerKey: other }, structure, 'rosters/1')).toThrow(damaged)
    }
  })

  it('cut short, made longer or with a state that does not exist is refused', () => {
    const body = rosterBody(roster)
    for (let length = 0; length < body.length; length++) {
      expect(() => parseRosterBody({ body: body.subarray(0, length), writerKey }, structure, 'r')).toThrow(damaged)
    }
    expect(() => parseRosterBody({ body: Buffer.concat([body, Buffer.alloc(1)]), writerKey }, structure, 'r')).toThrow(damaged)
    const state = Buffer.from(body)
    state[4 + 8 + 1 + 68] = 3
    expect(() => parseRosterBody({ body: state, writerKey }, structure, 'r')).toThrow(damaged)
  })

  it('that is rubbish gives only refusals', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (rubbish) => {
        try {
          parseRosterBody({ body: Buffer.from(rubbish), writerKey }, structure, 'r')
        } catch (error) {
          expect(error).toEqual(damaged)
        }
      }),
    )
  })

  it('with a key twice, an agent active with two keys, or the root writer’s id is neither made nor read', () => {
    const ambiguous = [
      [entry(1), entry(2, { publicKey: entry(1).publicKey })],
      [entry(1), entry(2, { writerId: entry(1).writerId })],
      [entry(1, { writerId: Buffer.alloc(16) })],
      [entry(1, { label: 'ü'.repeat(33) })],
    ]
    for (const entries of ambiguous) expect(() => rosterBody({ ...roster, entries })).toThrow(usage)
    const body = rosterBody({ ...roster, entries: [entry(1), entry(2)] })
    const size = 16 + 32 + 20 + 1 + 8 + 1 + 'agent 1'.length
    body.copy(body, 13 + size + 16, 13 + 16, 13 + 48)
    expect(() => parseRosterBody({ body, writerKey }, structure, 'r')).toThrow(damaged)
  })

  it('may hold an agent’s revoked key beside its new one', () => {
    const entries = [entry(1, { state: 'revoked' }), entry(2, { writerId: entry(1).writerId })]
    const changed = { ...roster, entries }
    expect(parseRosterBody({ body: rosterBody(changed), writerKey }, structure, 'r')).toEqual(changed)
  })

  it('counts when it has the highest number', () => {
    const later = { ...roster, number: 4 }
    expect(latestRoster([roster, later, { ...roster, number: 1 }])).toBe(later)
    expect(latestRoster([])).toBeUndefined()
  })
})

describe('a writer key', () => {
  it('counts when it is the root’s or an active agent’s', () => {
    expect(acceptsWriter(undefined, structure.rootWriterKey, structure.rootWriterKey)).toBe(true)
    expect(acceptsWriter(roster, structure.rootWriterKey, entry(1).publicKey)).toBe(true)
    expect(acceptsWriter(roster, structure.rootWriterKey, entry(9).publicKey)).toBe(false)
    expect(acceptsWriter(undefined, structure.rootWriterKey, entry(1).publicKey)).toBe(false)
    expect(entryOf(roster, entry(3).publicKey)?.label).toBe('büro')
  })

  it('that was revoked counts for what was stored before, and only then', () => {
    const key = entry(2).publicKey
    expect(acceptsWriter(roster, structure.rootWriterKey, key, 3999)).toBe(true)
    expect(acceptsWriter(roster, structure.rootWriterKey, key, 4000)).toBe(false)
    expect(acceptsWriter(roster, structure.rootWriterKey, key)).toBe(false)
  })
})
