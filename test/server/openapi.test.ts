// The API describes itself in OpenAPI 3.1, and the committed description is the real one. `npm run unit -- test/server/openapi.test.ts -u` writes it anew.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

it('is the one that stands in server/openapi.json', async () => {
  const reply = await server.call('GET', '/openapi.json', undefined)
  expect(reply.json()['openapi']).toBe('3.1.0')
  await expect(`${JSON.stringify(reply.json(), null, 1)}\n`).toMatchFileSnapshot('../../server/openapi.json')
})

it('says of every operation what it is for and what it answers', async () => {
  const { paths } = (await server.call('GET', '/openapi.json', undefined)).json() as unknown as {
    paths: Record<string, Record<string, { summary?: string; responses?: object }>>
  }
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      expect(operation.summary, `${method} ${path}`).toBeTruthy()
      expect(Object.keys(operation.responses ?? {}), `${method} ${path}`).not.toHaveLength(0)
    }
  }
})
