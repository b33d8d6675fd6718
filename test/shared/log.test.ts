// The log: one JSON line an event, from a closed vocabulary, with credentials struck out (O9, O14).
import { expect, it } from 'vitest'
import { makeLog, redact } from '@holdfast/shared/log.ts'
import type { LogFields } from '@holdfast/shared/log.ts'
import { TestClock } from '../_support/test-clock.ts'

it('writes one line an event, with time, level, program and fields', () => {
  const lines: string[] = []
  const log = makeLog({ program: 'test', clock: new TestClock(0), write: (line) => lines.push(line) })
  log.warn('overdue', { agentId: 'ag_1', count: 2, message: 'two\nlines\u001b[2J', code: undefined })
  expect(lines).toEqual([
    '{"time":"1970-01-01T00:00:00.000Z","level":"warn","program":"test","event":"overdue","agentId":"ag_1","count":2,"message":"two\\\\nlines\\\\u001b[2J"}\n',
  ])
})

it('has no word for what must not be in it', () => {
  // @ts-expect-error -- a path has no field
  const fields: LogFields = { path: '/home' }
  expect(fields).toBeDefined()
})

it.each([
  [`tok_${'a'.repeat(32)}_c2VjcmV0`, `tok_${'a'.repeat(32)}_[redacted]`],
  ['code hf1-abcdefghijklmnopqrstuvwxy-abcdefghijklmnopqrst used', 'code hf1-[redacted] used'],
  ['Authorization: Bearer abc.def', 'Authorization: Bearer [redacted]'],
  ['redis://user:pass@host:6379', 'redis://[redacted]@host:6379'],
  ['password=hunter22, next', 'password=[redacted], next'],
])('strikes out the secret in %s', (text, shown) => {
  expect(redact(text)).toBe(shown)
})
