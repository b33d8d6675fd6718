// Every registered route with every identity: deny by default, and nobody sees another controller's things (O19).
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ALLOWED } from 'holdfast-server/principal.ts'
import type { Access, Role } from 'holdfast-server/principal.ts'
import type { RouteOptions } from 'fastify'
import { buildApp } from 'holdfast-server/app.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

/** What each route is meant to need. A new route must be added here, on purpose. */
const EXPECTED: Readonly<Record<string, Access>> = {
  'GET /healthz': 'public',
  'GET /readyz': 'public',
  'GET /openapi.json': 'public',
  'POST /v1/log-in': 'public',
  'POST /v1/log-out': 'session',
  'GET /v1/session': 'session',
  'POST /v1/controllers': 'administer',
  'GET /v1/controllers': 'read',
  'GET /v1/controllers/:id': 'read',
  'POST /v1/controllers/:id/representatives': 'operate',
  'GET /v1/controllers/:id/representatives': 'read',
  'PUT /v1/controllers/:id/roster': 'controller',
  'GET /v1/controllers/:id/roster': 'controller',
  'POST /v1/sites': 'operate',
  'GET /v1/sites': 'read',
  'GET /v1/sites/:id': 'read',
  'POST /v1/stores': 'operate',
  'GET /v1/stores': 'read',
  'GET /v1/stores/:id': 'read',
  'PUT /v1/stores/:id/delete-credentials': 'dispose',
  'DELETE /v1/stores/:id/delete-credentials': 'dispose',
  'POST /v1/instructions': 'request',
  'GET /v1/instructions': 'read',
  'GET /v1/instructions/:id': 'read',
  'POST /v1/instructions/:id/withdraw': 'request',
  'POST /v1/enrolment-codes': 'operate',
  'GET /v1/enrolment-codes': 'read',
  'DELETE /v1/enrolment-codes/:id': 'operate',
  'GET /v1/agents': 'read',
  'GET /v1/agents/:id': 'read',
  'POST /v1/agents/:id/revoke': 'operate',
  'POST /v1/agents/:id/backup-now': 'request',
  'PUT /v1/agents/:id/bundle': 'controller',
  'POST /v1/policies': 'operate',
  'GET /v1/policies': 'read',
  'GET /v1/policies/:id': 'read',
  'PATCH /v1/policies/:id': 'operate',
  'GET /v1/runs': 'read',
  'GET /v1/runs/:id': 'read',
  'GET /v1/snapshots': 'read',
  'GET /v1/snapshots/:id': 'read',
  'GET /v1/records': 'read',
  'GET /v1/records/by-token/:token': 'read',
  'GET /v1/records/export': 'read',
  'POST /v1/restores': 'request',
  'GET /v1/restores': 'read',
  'GET /v1/restores/:id': 'read',
  'POST /v1/restores/:id/approve': 'request',
  'POST /v1/restores/:id/reject': 'request',
  'POST /v1/restores/:id/cancel': 'request',
  'PUT /v1/restores/:id/grant': 'controller',
  'GET /v1/deletions': 'read',
  'GET /v1/deletions/:id': 'read',
  'POST /v1/deletions/:id/approve': 'controller',
  'POST /v1/deletions/:id/refuse': 'dispose',
  'POST /v1/api-tokens': 'administer',
  'GET /v1/api-tokens': 'administer',
  'DELETE /v1/api-tokens/:id': 'administer',
  'POST /v1/users': 'administer',
  'GET /v1/users': 'administer',
  'DELETE /v1/users/:id': 'administer',
  'GET /v1/alerts': 'read',
  'GET /v1/audit': 'read',
  'POST /v1/agent/enroll': 'public',
  'POST /v1/agent/poll': 'agent',
  'POST /v1/agent/records': 'agent',
  'POST /v1/agent/runs': 'agent',
  'POST /v1/agent/snapshots': 'agent',
  'POST /v1/agent/needs': 'agent',
  'GET /v1/agent/needs/:storeId/:series': 'agent',
  'POST /v1/agent/needed': 'agent',
  'PUT /v1/agent/forgotten/:storeId': 'agent',
  'GET /v1/agent/policies': 'agent',
  'GET /v1/agent/bundle': 'agent',
  'GET /v1/agent/roster': 'agent',
  'PUT /v1/agent/restores/:id/key': 'agent',
  'GET /v1/agent/restores/:id/grant': 'agent',
  'POST /v1/agent/restores/:id/progress': 'agent',
  'POST /v1/agent/restores/:id/result': 'agent',
}

let server: TestServer
let routes: RouteOptions[]
const identities: Record<string, { role: Role | undefined; as: string | undefined; session: boolean }> = {}
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>
let other: typeof one

beforeAll(async () => {
  server = await startTestServer()
  routes = []
  const probe = await buildApp({ ...server.context, plugins: [], routesSeen: (route) => routes.push(route) })
  await probe.close()
  const administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
  other = await server.makeControllerWithAgent(administrator)
  identities['nobody'] = { role: undefined, as: undefined, session: false }
  for (const role of ['administrator', 'operator', 'auditor'] as const)
    identities[role] = { role, as: await server.makeUser(role), session: true }
  for (const fleet of ['operator', 'auditor'] as const)
    identities[`${fleet} token`] = { role: fleet, as: await server.makeToken({ fleet }, administrator), session: false }
  identities['controller token'] = { role: 'controller', as: one.token, session: false }
})
afterAll(() => server.close())

it('the table names every route and no other', () => {
  const found = Object.fromEntries(routes.map((route) => [`${String(route.method)} ${route.url}`, route.config?.access]))
  expect(found).toEqual(EXPECTED)
})

describe.each(Object.entries(EXPECTED))('%s (%s)', (route, access) => {
  const [method, pattern] = route.split(' ') as [string, string]

  it('lets in exactly whom it should', async () => {
    for (const [name, { role, as, session }] of Object.entries(identities)) {
      const url = pattern.replace(':id', `x_${'0'.repeat(32)}`).replace(':token', '0'.repeat(64))
      const reply = await server.call(method, url, as, method === 'PUT' ? Buffer.from('x') : undefined)
      const allowed = ALLOWED[access]
      if (access === 'agent') {
        expect(reply.status, `${name}: ${reply.text}`).toBe(401)
      } else if (allowed === 'anyone' || (role !== undefined && allowed.includes(role) && (access !== 'session' || session))) {
        expect([401, 403], `${name}: ${reply.text}`).not.toContain(pattern === '/v1/agent/enroll' ? 0 : reply.status)
      } else {
        expect(reply.status, `${name}: ${reply.text}`).toBe(role === undefined ? 401 : 403)
      }
      // A log-out that was allowed ends the session; later routes need it again.
      if (route === 'POST /v1/log-out' && session && role !== undefined)
        identities[name] = { role, as: await server.makeUser(role as 'operator'), session }
    }
  })
})

describe("another controller's things", () => {
  it('are not there for its token', async () => {
    for (const url of [
      `/v1/controllers/${other.controllerId}`,
      `/v1/sites/${other.siteId}`,
      `/v1/stores/${other.storeId}`,
      `/v1/instructions/${other.instructionId}`,
      `/v1/agents/${other.agent.id}`,
      `/v1/policies/${other.policyId}`,
    ]) {
      expect((await server.call('GET', url, one.token)).status, url).toBe(404)
      expect((await server.call('GET', url, other.token)).status, url).toBe(200)
    }
    expect((await server.call('PUT', `/v1/agents/${other.agent.id}/bundle`, one.token, Buffer.from('x'))).status).toBe(404)
    expect((await server.call('PUT', `/v1/controllers/${other.controllerId}/roster`, one.token, Buffer.from('x'))).status).toBe(404)
    for (const url of [
      '/v1/controllers',
      '/v1/agents',
      '/v1/sites',
      '/v1/stores',
      '/v1/instructions',
      '/v1/policies',
      `/v1/agents?controllerId=${other.controllerId}`,
    ]) {
      const { items } = (await server.call('GET', url, one.token)).json() as unknown as { items: { id: string; controllerId?: string }[] }
      expect(items.map((item) => item.controllerId ?? item.id)).toEqual([one.controllerId])
    }
  })

  it('cannot be referred to', async () => {
    const code = await server.call('POST', '/v1/enrolment-codes', identities['operator']!.as, {
      controllerId: one.controllerId,
      siteId: other.siteId,
    })
    expect(code.status).toBe(404)
    const policy = {
      agentId: one.agent.id,
      source: 'documents',
      schedule: { every: '1h' },
      storeId: other.storeId,
      instructionId: one.instructionId,
    }
    expect((await server.call('POST', '/v1/policies', identities['operator']!.as, policy)).status).toBe(404)
    const foreign = await server.call('POST', '/v1/policies', identities['operator']!.as, {
      ...policy,
      storeId: one.storeId,
      instructionId: other.instructionId,
    })
    expect(foreign.status).toBe(403)
  })
})

describe('an agent', () => {
  it('that is revoked, unknown, replayed, late or unsigned gets nothing', async () => {
    const { agent } = await server.makeControllerWithAgent(identities['administrator']!.as!)
    const transport = agent.transport
    const seen: Parameters<typeof transport>[0][] = []
    agent.transport = (request) => {
      seen.push(request)
      return transport(request)
    }
    await agent.poll()
    expect((await transport(seen[0]!)).status).toBe(401)
    expect((await transport({ ...seen[0]!, headers: { ...seen[0]!.headers, 'holdfast-nonce': '0'.repeat(32) } })).status).toBe(401)
    const late = new Proxy(agent, {
      get: (target, name) => (name === 'now' ? () => server.clock.now() - 6 * 60_000 : Reflect.get(target, name, target)),
    })
    const refused = await late.request('POST', '/v1/agent/poll', agent.pollBody())
    expect(refused.status).toBe(401)
    expect(refused.json()).toHaveProperty('serverTime')
    expect((await server.call('POST', `/v1/agents/${agent.id}/revoke`, identities['operator']!.as)).json()['state']).toBe('revoked')
    expect((await agent.request('POST', '/v1/agent/poll', agent.pollBody())).status).toBe(401)
  })

  it('enrolls with a code once, and not after its time', async () => {
    const again = server.makeAgent()
    expect((await again.enroll(one.code)).status).toBe(401)
    const code = await server.call('POST', '/v1/enrolment-codes', identities['operator']!.as, {
      controllerId: one.controllerId,
      siteId: one.siteId,
      ttlSeconds: 60,
    })
    server.clock.advance(60_000)
    expect((await again.enroll(String(code.json()['code']))).status).toBe(401)
    expect(
      (
        await server.call('POST', '/v1/enrolment-codes', identities['operator']!.as, {
          controllerId: one.controllerId,
          siteId: one.siteId,
          ttlSeconds: 86_401,
        })
      ).status,
    ).toBe(422)
  })
})

it('a change by cookie needs this very site', async () => {
  const as = identities['administrator']!.as!
  const attempt = (headers: Record<string, string>) =>
    server.app.inject({
      method: 'POST',
      url: '/v1/controllers',
      headers: { cookie: as, 'content-type': 'application/json', host: 'server.example', ...headers },
      payload: '{"name":"X"}',
    })
  expect((await attempt({})).statusCode).toBe(403)
  expect((await attempt({ 'holdfast-request': '1', origin: 'https://evil.example' })).statusCode).toBe(403)
  expect((await attempt({ 'holdfast-request': '1', origin: 'https://server.example' })).statusCode).toBe(201)
})

it('every change leaves an audit line in the same transaction', async () => {
  const before = (await server.records.list({ table: 'audit', where: {}, limit: 1 })).items[0]
  const reply = await server.call('POST', '/v1/sites', identities['operator']!.as, {
    controllerId: one.controllerId,
    name: 'Annex',
    region: 'CA-QC',
  })
  const [line] = (await server.records.list({ table: 'audit', where: {}, limit: 1 })).items
  expect(line).not.toEqual(before)
  expect(line).toMatchObject({
    id: reply.headers['holdfast-request-id'],
    action: 'site.add',
    target: reply.json().id,
    controllerId: one.controllerId,
  })
  expect(line?.actor).toMatch(/^user:usr_/)
})
