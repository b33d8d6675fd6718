// The long poll over real HTTP: parked until there is news, one a agent, and answered when the server stops.
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { AddressInfo } from 'node:net'
import type { PollReply } from '@holdfast/shared/protocol/agent.ts'
import { httpTransport } from '../_support/fake-agent.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>
let administrator: string

beforeEach(async () => {
  server = await startTestServer()
  administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
  await server.app.listen({ host: '127.0.0.1', port: 0 })
  one.agent.transport = httpTransport(`http://127.0.0.1:${(server.app.server.address() as AddressInfo).port}`)
  await one.agent.poll()
})
afterEach(() => server.close())

it('wakes a parked poll as soon as there is a command', async () => {
  const poll = one.agent.poll({ waitSeconds: 45 })
  await parked()
  const asked = await server.call('POST', `/v1/agents/${one.agent.id}/backup-now`, administrator, { policyId: one.policyId })
  expect(asked.status).toBe(202)
  expect((await poll).commands).toMatchObject([{ command: { kind: 'backup-now', body: { policyId: one.policyId } } }])
})

it('wakes a parked poll when records were worked on, and when a policy changed', async () => {
  await one.agent.deliver(one.agent.backupRun({ storeId: one.storeId }))
  let poll = one.agent.poll({ waitSeconds: 45 })
  await parked()
  await server.queue.drain(server.context)
  // Each of three records wakes it; the first is news already.
  expect((await poll).recordedThrough).toBeGreaterThan(0)
  await one.agent.poll()
  poll = one.agent.poll({ waitSeconds: 45 })
  await parked()
  await server.call('PATCH', `/v1/policies/${one.policyId}`, administrator, { enabled: false })
  expect((await poll).policiesVersion).toBe(2)
  expect((await one.agent.request('GET', '/v1/agent/policies')).json()).toMatchObject({
    version: 2,
    policies: [{ policyId: one.policyId, enabled: false, schedule: { every: '6h' } }],
  })
})

it('does not sleep over news that come between its look and its sleep', async () => {
  const { waker } = server
  const park = waker.park.bind(waker)
  let changed = false
  waker.park = async (...given) => {
    if (!changed) {
      changed = true
      await server.call('PATCH', `/v1/policies/${one.policyId}`, administrator, { enabled: false })
    }
    return park(...given)
  }
  expect((await one.agent.poll({ waitSeconds: 45 })).policiesVersion).toBe(2)
})

it('answers with nothing new when the time is over', async () => {
  const poll = one.agent.poll({ waitSeconds: 20 })
  await parked()
  server.clock.advance(20_000)
  expect((await poll).commands).toEqual([])
})

it('repeats a command until it is acknowledged', async () => {
  await server.call('POST', `/v1/agents/${one.agent.id}/backup-now`, administrator, { policyId: one.policyId })
  const first = (await one.agent.poll()).commands[0]!
  expect((await one.agent.poll()).commands).toEqual([])
  server.clock.advance(30_000)
  expect((await one.agent.poll()).commands[0]!.command.id).toBe(first.command.id)
  server.clock.advance(30_000)
  expect((await one.agent.poll({ acknowledged: [{ commandId: first.command.id, result: 'taken' }] })).commands).toEqual([])
})

it('ends an older poll of the same agent with 204', async () => {
  const older = one.agent.request('POST', '/v1/agent/poll', one.agent.pollBody({ waitSeconds: 45 }))
  await parked()
  const newer = one.agent.request('POST', '/v1/agent/poll', one.agent.pollBody({ waitSeconds: 45 }))
  expect((await older).status).toBe(204)
  await parked()
  server.clock.advance(45_000)
  expect((await newer).status).toBe(200)
})

it('ends parked polls with a signed 204 and Retry-After when the server stops', async () => {
  const poll = one.agent.request('POST', '/v1/agent/poll', one.agent.pollBody({ waitSeconds: 45 }))
  await parked()
  await server.app.close()
  const reply = await poll
  expect(reply.status).toBe(204)
  expect(reply.headers['retry-after']).toBe('5')
})

it('ends the poll of an agent that is revoked meanwhile with a refusal', async () => {
  const poll = one.agent.request('POST', '/v1/agent/poll', one.agent.pollBody({ waitSeconds: 45 }))
  await parked()
  await server.call('POST', `/v1/agents/${one.agent.id}/revoke`, administrator)
  expect((await poll).status).toBe(401)
})

it('relays bundle and roster byte by byte, and tells of new ones', async () => {
  expect((await one.agent.request('GET', '/v1/agent/bundle')).status).toBe(404)
  const bytes = Buffer.from([0, 200, 10, 13, 255])
  await server.call('PUT', `/v1/agents/${one.agent.id}/bundle`, one.token, bytes)
  await server.call('PUT', `/v1/controllers/${one.controllerId}/roster`, one.token, bytes)
  const news: PollReply = await one.agent.poll({ waitSeconds: 45 })
  expect(news).toMatchObject({ bundleVersion: 1, rosterVersion: 1 })
  expect((await one.agent.request('GET', '/v1/agent/bundle')).body).toEqual(bytes)
  expect((await one.agent.request('GET', '/v1/agent/roster')).body).toEqual(bytes)
  expect((await server.call('PUT', `/v1/agents/${one.agent.id}/bundle`, one.token, Buffer.alloc(64 * 1024 + 1))).status).toBe(413)
})

/** Until the server has parked a poll; turns the event loop, waits for no time. */
async function parked(): Promise<void> {
  while (server.waker.parked === 0) await new Promise((resolve) => setImmediate(resolve))
}
