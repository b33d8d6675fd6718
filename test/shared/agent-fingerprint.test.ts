// The fingerprint that a person compares at enrolment: it changes with either of the agent's keys and is the documented hash.
import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { agentFingerprint, shownAgentFingerprint } from '@holdfast/shared/agent-fingerprint.ts'
import { base32 } from '@holdfast/shared/base32.ts'
import { seededRandom } from '../_support/seeded-random.ts'

const random = seededRandom('agent-fingerprint')
const keys = { publicKey: random.bytes(32), enrolmentKey: random.bytes(1216) }

it('an agent’s fingerprint is the beginning of the hash that FORMAT.md says, shown in eight groups of four', () => {
  const whole = Buffer.concat([Buffer.from('holdfast/1 agent'), keys.publicKey, keys.enrolmentKey])
  const expected = createHash('sha256').update(whole).digest().subarray(0, 20)
  expect(agentFingerprint(keys)).toEqual(expected)
  expect(shownAgentFingerprint(keys)).toMatch(/^([a-z2-7]{4}-){7}[a-z2-7]{4}$/)
  expect(shownAgentFingerprint(keys).replaceAll('-', '')).toBe(base32(expected))
})

it('an agent’s fingerprint changes with every byte of either key', () => {
  const shown = shownAgentFingerprint(keys)
  for (const name of ['publicKey', 'enrolmentKey'] as const)
    for (let at = 0; at < keys[name].length; at += 31) {
      const changed = Buffer.from(keys[name])
      changed[at] = changed[at]! ^ 1
      expect(shownAgentFingerprint({ ...keys, [name]: changed })).not.toBe(shown)
    }
})

it('an agent’s keys of other lengths have no fingerprint, so that no byte moves from one key to the other', () => {
  const all = Buffer.concat([keys.publicKey, keys.enrolmentKey])
  for (const length of [0, 31, 33, all.length])
    expect(() => agentFingerprint({ publicKey: all.subarray(0, length), enrolmentKey: all.subarray(length) })).toThrow(
      expect.objectContaining({ code: 'usage' }),
    )
})
