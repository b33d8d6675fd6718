// The words of the protocol that something reckons with.
import { describe, expect, test } from 'vitest'
import { policiesReply } from '@holdfast/shared/protocol/agent.ts'
import { time } from '@holdfast/shared/protocol/common.ts'

describe('a time', () => {
  test.each(['2026-01-31T12:00:00.000Z', '2024-02-29T23:59:59.999Z', '1969-12-31T23:59:59.999Z'])('%s is one', (text) => {
    expect(time.safeParse(text).success).toBe(true)
  })

  test.each([
    ['a month that there is not', '2026-19-01T00:00:00.000Z'],
    ['no month', '2026-00-01T00:00:00.000Z'],
    ['a day that there is not', '2026-01-39T00:00:00.000Z'],
    ['a day that this month does not have', '2026-02-30T00:00:00.000Z'],
    ['an hour that there is not', '2026-01-01T29:00:00.000Z'],
    ['the hour after the last', '2026-01-01T24:00:00.000Z'],
  ])('with %s is none', (_, text) => {
    expect(time.safeParse(text).success).toBe(false)
  })

  test('that is none in a policy has the policy refused, which would never be due', () => {
    const policy = {
      policyId: `pol_${'1'.repeat(32)}`,
      version: 1,
      source: 'documents',
      schedule: { every: '6h' },
      storeId: `store_${'2'.repeat(32)}`,
      instructionId: `ins_${'3'.repeat(32)}`,
      purpose: 'backup',
      tags: [],
      excludes: [],
      enabled: true,
      since: '2026-01-01T00:00:00.000Z',
    }
    const reply = (since: string) => policiesReply.safeParse({ version: 1, policies: [{ ...policy, since }], stores: [] }).success
    expect(reply(policy.since)).toBe(true)
    expect(reply('2026-01-32T00:00:00.000Z')).toBe(false)
  })
})
