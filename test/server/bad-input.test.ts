// Malformed, oversized and unknown input: one clear problem with a stable code, nothing half-done, no value echoed, no detail of failures.
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
let administrator: string
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>

beforeAll(async () => {
  server = await startTestServer()
  administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
})
afterAll(() => server.close())

describe('a request', () => {
  it.each([
    ['that is not JSON', '{"name":', 400, 'usage'],
    ['that is no object', '[]', 422, 'unprocessable'],
    ['without a needed field', '{}', 422, 'unprocessable'],
    ['with an unknown field', '{"name":"A","nickname":"B"}', 422, 'unprocessable'],
    ['with control characters in a name', '{"name":"A\\u001b[2J"}', 422, 'unprocessable'],
    ['with a value off the list', '{"name":"A","approval":"maybe"}', 422, 'unprocessable'],
  ])('%s is refused', async (_, payload, status, code) => {
    const reply = await server.app.inject({
      method: 'POST',
      url: '/v1/controllers',
      headers: { cookie: administrator, 'holdfast-request': '1', 'content-type': 'application/json' },
      payload,
    })
    expect(reply.headers['content-type']).toContain('application/problem+json')
    expect(reply.json()).toMatchObject({
      status,
      code,
      type: `urn:holdfast:error:${code}`,
      requestId: expect.stringMatching(/^req_/) as string,
    })
  })

  it('that is too large is refused with 413', async () => {
    expect((await server.call('POST', '/v1/controllers', administrator, { name: 'x'.repeat(1_100_000) })).json()).toMatchObject({
      status: 413,
      code: 'too-large',
    })
  })

  it('of an unknown content type is refused with 415', async () => {
    expect((await server.call('POST', '/v1/controllers', administrator, 'x', { 'content-type': 'text/xml' })).status).toBe(415)
  })

  it.each([
    '/v1/agents?limit=501',
    '/v1/agents?limit=x',
    '/v1/agents?cursor=!!!',
    '/v1/agents?cursor=abcd',
    '/v1/agents?colour=red',
    '/v1/agents/not-an-id',
    '/v1/records/by-token/zz',
  ])('to %s is refused with 422', async (url) => {
    expect((await server.call('GET', url, administrator)).status).toBe(422)
  })

  it('to nowhere is 404', async () => {
    expect((await server.call('GET', '/v2/everything', administrator)).json()).toMatchObject({ status: 404, code: 'not-found' })
  })
})

describe('a policy', () => {
  const body = () => ({
    agentId: one.agent.id,
    source: 'documents',
    schedule: { every: '6h' },
    storeId: one.storeId,
    instructionId: one.instructionId,
  })

  it.each(['window', 'bandwidth', 'lock', 'hooks'])(
    'with %s, which is not carried out yet, is refused and the field is named',
    async (field) => {
      const reply = await server.call('POST', '/v1/policies', administrator, { ...body(), [field]: { any: 'thing' } })
      expect(reply.json()).toMatchObject({ status: 422, field, detail: expect.stringContaining(`${field}: not carried out yet`) as string })
      expect((await server.call('PATCH', `/v1/policies/${one.policyId}`, administrator, { [field]: 1 })).status).toBe(422)
    },
  )

  it.each([
    [{ schedule: { every: '1s' } }, 'schedule.every'],
    [{ schedule: { dailyAt: '02:30' } }, 'schedule.timeZone'],
    [{ excludes: ['/home/*/cache'] }, 'excludes.0'],
    [{ source: '/home/jane' }, 'source'],
    [{ source: 'pictures' }, 'source'],
  ])('with %j is refused at %s, without repeating the value', async (changes, field) => {
    const reply = await server.call('POST', '/v1/policies', administrator, { ...body(), ...changes })
    expect(reply.json()).toMatchObject({ status: 422, field })
    expect(reply.text).not.toContain('/home')
  })

  it('of a source that has one for this store already is a conflict', async () => {
    expect((await server.call('POST', '/v1/policies', administrator, body())).json()).toMatchObject({ status: 409, code: 'already-exists' })
  })
})

it('a store outside the countries that the controller allows is refused', async () => {
  const controller = (await server.call('POST', '/v1/controllers', administrator, { name: 'B', countries: ['CA'] })).json()
  const store = {
    controllerId: controller.id,
    name: 'S',
    kind: 's3',
    endpoint: 'https://s3.example',
    bucket: 'bucket',
    region: 'US-VA',
    country: 'US',
  }
  expect((await server.call('POST', '/v1/stores', administrator, store)).json()).toMatchObject({ status: 403, code: 'policy' })
  expect(
    (
      await server.call('POST', '/v1/stores', administrator, {
        ...store,
        country: 'CA',
        region: 'CA-ON',
        endpoint: 'https://u:p@s3.example',
      })
    ).status,
  ).toBe(422)
})

it('credentials of a store are sealed and never come back', async () => {
  const credentials = { accessKeyId: 'AKEXAMPLEKEY', secretAccessKey: 'very-secret-access-key' }
  const store = {
    controllerId: one.controllerId,
    name: 'S',
    kind: 's3',
    endpoint: 'https://s3.example',
    bucket: 'bucket',
    region: 'CA-ON',
    country: 'CA',
    credentials,
  }
  const reply = await server.call('POST', '/v1/stores', administrator, store)
  expect(reply.json()).toMatchObject({ hasCredentials: true })
  expect(reply.text).not.toContain('secret-access')
  const kept = Buffer.concat([readFileSync(server.databasePath), readFileSync(`${server.databasePath}-wal`)])
  expect(kept.includes('very-secret-access-key')).toBe(false)
  const row = await server.records.get({ table: 'stores', id: reply.json().id })
  expect(JSON.parse(server.context.keys.open(row!.credentials!, `store ${row!.id}`).toString())).toEqual(credentials)
})

it('a failure of ours is answered without detail and logged with its request id', async () => {
  const { records } = server.context
  const list = records.list
  Object.assign(records, { list: () => Promise.reject(new TypeError('inner detail')) })
  const reply = await server.call('GET', '/v1/sites', administrator)
  Object.assign(records, { list })
  expect(reply.json()).toMatchObject({ status: 500, code: 'failed' })
  expect(reply.text).not.toContain('inner detail')
  expect(server.logged.some((line) => line.includes('inner detail') && line.includes(String(reply.json()['requestId'])))).toBe(true)
})

it('the log holds routes, never addresses with values in them', async () => {
  await server.call('GET', `/v1/records/by-token/${'ab'.repeat(32)}`, administrator)
  await server.call('GET', '/home/jane/secret.txt', administrator)
  const log = server.logged.join('')
  expect(log).toContain('/v1/records/by-token/:token')
  // Ids of requests are random: a few letters alone may be in one of them.
  expect(log).not.toContain('ab'.repeat(8))
  expect(log).not.toContain('jane')
})
