// Log-in with password and one-time code: right ones pass once, wrong ones are slowed down, and nothing of them is kept in clear (O19, O20).
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { addUser } from 'holdfast-server/init.ts'
import { hashPassword, totpCode, verifyPassword } from 'holdfast-server/passwords.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

const password = 'correct horse battery'
let server: TestServer
let totpSecret: Buffer
let recoveryCodes: string[]

beforeEach(async () => {
  server = await startTestServer()
  const { keys, clock, random } = server.context
  const made = await addUser(server.records, {
    keys,
    clock,
    random,
    userName: 'alice',
    passwordHash: await hashPassword(password, random),
    role: 'administrator',
  })
  totpSecret = made.totpSecret
  recoveryCodes = made.recoveryCodes
})
afterEach(() => server.close())

it('gives a session in one strict cookie, which a log-out ends', async () => {
  const reply = await logIn({})
  expect(reply.status).toBe(200)
  expect(reply.json()).toMatchObject({ userName: 'alice', role: 'administrator' })
  const cookie = String(reply.headers['set-cookie'])
  expect(cookie).toMatch(/^__Host-holdfast=[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict$/)
  const as = cookie.split(';')[0]!
  expect((await server.call('GET', '/v1/session', as)).json()).toMatchObject({ userName: 'alice' })
  expect((await server.call('POST', '/v1/log-out', as)).status).toBe(200)
  expect((await server.call('GET', '/v1/session', as)).status).toBe(401)
})

it('takes a one-time code once, also when it is used twice at the same moment', async () => {
  const both = await Promise.all([logIn({}), logIn({})])
  expect(both.map((reply) => reply.status).sort()).toEqual([200, 401])
  expect((await logIn({})).status).toBe(401)
  server.clock.advance(30_000)
  expect((await logIn({})).status).toBe(200)
})

it('takes each recovery code once', async () => {
  expect((await logIn({ code: recoveryCodes[0]! })).status).toBe(200)
  expect((await logIn({ code: recoveryCodes[0]! })).status).toBe(401)
  expect((await logIn({ code: recoveryCodes[1]!.toUpperCase() })).status).toBe(200)
})

it('says the same to a wrong name, a wrong password and a wrong code', async () => {
  const replies = await Promise.all([logIn({ userName: 'mallory' }), logIn({ password: 'wrong password!' }), logIn({ code: '000000' })])
  expect(new Set(replies.map((reply) => `${reply.status} ${String(reply.json()['detail'])}`)).size).toBe(1)
})

it('locks a name for ever longer after a few failures, and the right code does not help meanwhile', async () => {
  for (let i = 0; i < 5; i++) expect((await logIn({ password: 'wrong password!' })).status).toBe(401)
  const locked = await logIn({})
  expect(locked.status).toBe(429)
  expect(Number(locked.headers['retry-after'])).toBeGreaterThan(0)
  server.clock.advance(16 * 60_000)
  expect((await logIn({})).status).toBe(200)
})

it('stops an address that keeps trying names', async () => {
  const statuses: number[] = []
  for (let i = 0; i < 31; i++) statuses.push((await logIn({ userName: 'nobody' })).status)
  expect(statuses.slice(0, 30)).toEqual(Array.from({ length: 30 }, () => 401))
  expect(statuses[30]).toBe(429)
})

it('ends an idle session', async () => {
  const as = String((await logIn({})).headers['set-cookie']).split(';')[0]!
  server.clock.advance(31 * 60_000)
  expect((await server.call('GET', '/v1/session', as)).status).toBe(401)
})

it('keeps neither password, one-time secret, recovery code nor session in the database or the log', async () => {
  const reply = await logIn({})
  const secret = String(reply.headers['set-cookie']).split(/[=;]/)[1]!
  const kept = Buffer.concat([readFileSync(server.databasePath), readFileSync(`${server.databasePath}-wal`)])
  for (const value of [password, totpSecret, recoveryCodes[0]!, secret]) {
    expect(kept.includes(value)).toBe(false)
    expect(server.logged.join('').includes(value.toString())).toBe(false)
  }
})

it('an administrator adds a second person, and ends the log-in of one, but not of himself', async () => {
  const as = String((await logIn({})).headers['set-cookie']).split(';')[0]!
  const made = await server.call('POST', '/v1/users', as, { userName: 'bob', role: 'auditor', password: 'another long password' })
  expect(made.status).toBe(201)
  const code = (made.json()['recoveryCodes'] as string[])[0]!
  const bob = await server.call('POST', '/v1/log-in', undefined, { userName: 'bob', password: 'another long password', code })
  const bobAs = String(bob.headers['set-cookie']).split(';')[0]!
  expect((await server.call('GET', '/v1/agents', bobAs)).status).toBe(200)
  expect((await server.call('GET', '/v1/users', as)).text).not.toMatch(/argon2|otpauth|recovery/)
  expect((await server.call('POST', '/v1/users', as, { userName: 'bob', role: 'auditor', password: 'another long password' })).status).toBe(
    409,
  )
  expect((await server.call('DELETE', `/v1/users/${made.json().id}`, as)).json()).toMatchObject({ disabled: true })
  expect((await server.call('GET', '/v1/agents', bobAs)).status).toBe(401)
  const me = (await server.call('GET', '/v1/session', as)).json()['userId']
  expect((await server.call('DELETE', `/v1/users/${String(me)}`, as)).status).toBe(409)
})

it('a password hash verifies its own password only, whatever form of Unicode', async () => {
  const stored = await hashPassword('caf\u00e9 caf\u00e9 caf\u00e9', systemRandom)
  expect(stored).toMatch(/^\$argon2id\$v=19\$m=65536,t=3,p=4\$/)
  expect(await verifyPassword('cafe\u0301 cafe\u0301 cafe\u0301', stored)).toBe(true)
  expect(await verifyPassword('cafe cafe cafe', stored)).toBe(false)
  await expect(hashPassword('short', systemRandom)).rejects.toMatchObject({ code: 'usage' })
})

function logIn(changes: { userName?: string; password?: string; code?: string }) {
  return server.call('POST', '/v1/log-in', undefined, {
    userName: 'alice',
    password,
    code: totpCode(totpSecret, server.clock.now()),
    ...changes,
  })
}
