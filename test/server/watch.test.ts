// What should have arrived and did not: overdue policies and silent agents, each told once, and taken back when it is over.
import { afterEach, beforeEach, expect, it } from 'vitest'
import { watch } from 'holdfast-server/jobs.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>
const HOUR = 3_600_000

beforeEach(async () => {
  server = await startTestServer()
  one = await server.makeControllerWithAgent(await server.makeUser('administrator'))
})
afterEach(() => server.close())

it('opens one alert for a policy that is overdue by more than the grace, and closes it with the next good run', async () => {
  // A new policy is due at once; the grace is an hour.
  server.clock.advance(HOUR - 1)
  await one.agent.poll()
  expect(await watch(server.context)).toMatchObject({ overdue: 0, opened: 0 })
  server.clock.advance(1)
  expect(await watch(server.context)).toMatchObject({ overdue: 1, opened: 1 })
  expect(await watch(server.context)).toMatchObject({ overdue: 1, opened: 0, closed: 0 })
  await one.agent.deliver(one.agent.backupRun({ storeId: one.storeId, policyId: one.policyId }))
  await server.queue.drain(server.context)
  expect(await watch(server.context)).toMatchObject({ overdue: 0, closed: 1 })
  const alerts = (await server.records.list({ table: 'alerts', where: {}, limit: 10 })).items
  expect(alerts).toMatchObject([{ kind: 'overdue', policyId: one.policyId, closedAt: server.clock.now() }])
})

it('counts the next due time from the start of a good run, and no failed one', async () => {
  server.clock.advance(6 * HOUR)
  await one.agent.deliver(one.agent.backupRun({ storeId: one.storeId, policyId: one.policyId }))
  await server.queue.drain(server.context)
  const policy = await server.records.get({ table: 'policies', id: one.policyId })
  expect(policy).toMatchObject({ lastGoodAt: server.clock.now(), nextDueAt: server.clock.now() + 6 * HOUR })
})

it('tells of an agent that has gone silent, and of its return', async () => {
  server.clock.advance(HOUR + 1)
  // Its policy never ran, so that is told as well.
  expect(await watch(server.context)).toMatchObject({ silent: 1, overdue: 1, opened: 2 })
  await one.agent.poll()
  expect(await watch(server.context)).toMatchObject({ silent: 0, closed: 1 })
})
