// Configuration: file, environment, flags in rising order; unknown keys and wrong values are refused by name and origin.
import { expect, it } from 'vitest'
import { z } from 'zod'
import { readConfig, readSecret } from '@holdfast/shared/config.ts'

const schema = z.strictObject({ host: z.string().default('localhost'), port: z.coerce.number().int().max(65_535).default(1) })
const env = (variables: Record<string, string>) => ({ variables, names: { host: 'X_HOST', port: 'X_PORT' } })
const file = (text: string) => ({ location: 'config.json', text })

it('takes a flag before the environment before the file before the default', () => {
  const from = {
    file: file('{"host":"file","port":2}'),
    env: env({ X_HOST: 'env', X_PORT: '3' }),
    flags: { host: 'flag', port: undefined },
  }
  expect(readConfig(schema, from)).toEqual({ host: 'flag', port: 3 })
  expect(readConfig(schema, {})).toEqual({ host: 'localhost', port: 1 })
})

it.each([
  [{ file: file('{"hots":"x"}') }, 'unknown configuration key hots (from config.json)'],
  [{ env: env({ X_PORT: 'many' }) }, 'port'],
  [{ env: env({ X_PORT: '70000' }) }, '(from X_PORT)'],
  [{ flags: { port: '70000' } }, '(from --port)'],
  [{ file: file('{') }, 'config.json is not JSON'],
  [{ file: file('[]') }, 'config.json must hold one JSON object'],
])('refuses %j and says where it came from', (from, words) => {
  expect(() => readConfig(schema, from)).toThrow(
    expect.objectContaining({ code: 'bad-config', message: expect.stringContaining(words) as string }),
  )
})

it('reads a secret from the variable or the first line of a file, never both', () => {
  const readFile = (path: string): string => {
    if (path !== '/secret') throw new Error('ENOENT')
    return 'from file\nsecond line'
  }
  expect(readSecret('P', { P: 'direct' }, readFile)).toBe('direct')
  expect(readSecret('P', { P_FILE: '/secret' }, readFile)).toBe('from file')
  expect(readSecret('P', {}, readFile)).toBeUndefined()
  expect(() => readSecret('P', { P: 'a', P_FILE: '/secret' }, readFile)).toThrow(expect.objectContaining({ code: 'bad-config' }))
  expect(() => readSecret('P', { P_FILE: '/nowhere' }, readFile)).toThrow(expect.objectContaining({ code: 'bad-config' }))
})
