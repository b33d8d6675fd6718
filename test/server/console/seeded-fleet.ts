// A server with its console and a made-up fleet in every state that the console knows, for tests and for looking at the pages.
import { Buffer } from 'node:buffer'
import { systemClock } from '@holdfast/shared/clock.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { encodeFileRecords, filesRoot } from '@holdfast/shared/record.ts'
import type { RecordFrame } from '@holdfast/shared/record.ts'
import { registerConsole } from 'holdfast-server/console/console.ts'
import { addUser } from 'holdfast-server/init.ts'
import { hashPassword, totpCode } from 'holdfast-server/passwords.ts'
import type { Queue } from 'holdfast-server/queue.ts'
import { registerQueueDashboard } from 'holdfast-server/queues/dashboard.ts'
import type { FakeAgent } from '../../_support/fake-agent.ts'
import { fileRecord } from '../../_support/fake-agent.ts'
import { MemoryQueue } from '../../_support/memory-queue.ts'
import { startTestServer } from '../../_support/test-server.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
export const PASSWORD = 'correct horse battery'
const COST = { memory: 8192, passes: 1, parallelism: 1 }

/** The real clock, which seeding can hold back to write the past. */
class HeldClock implements Clock {
  #back = 0
  now(): number {
    return systemClock.now() - this.#back
  }
  monotonicMs(): number {
    return systemClock.monotonicMs()
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal)
  }
  /** Time is so much earlier until the next call. */
  hold(backMs: number): void {
    this.#back = backMs
  }
}

export type SeededFleet = Awaited<ReturnType<typeof startSeededFleet>>

/** Starts it on a free port, without TLS, as on loopback. */
export async function startSeededFleet(options: { queue?: Queue; seed?: boolean } = {}) {
  const clock = new HeldClock()
  const server = await startTestServer({
    clock,
    secure: false,
    plugins: [registerConsole, registerQueueDashboard],
    ...(options.queue === undefined ? {} : { queue: options.queue }),
  })
  const { records, context } = server
  const users = new Map<string, Buffer>()
  for (const role of ['administrator', 'operator', 'auditor'] as const) {
    const { totpSecret } = await addUser(records, {
      keys: context.keys,
      clock,
      random: systemRandom,
      userName: role === 'administrator' ? 'alice' : role === 'operator' ? 'oscar' : 'audrey',
      passwordHash: await hashPassword(PASSWORD, systemRandom, COST),
      role,
    })
    users.set(role, totpSecret)
  }
  const address = await server.app.listen({ host: '127.0.0.1', port: 0 })
  const seeded = options.seed === false ? undefined : await seed(server, clock)
  return {
    ...server,
    address,
    seeded,
    /** The authenticator of a user. `step` moves on where a code was used already. */
    code: (role: 'administrator' | 'operator' | 'auditor', step = 0) =>
      totpCode(users.get(role) ?? Buffer.alloc(20), systemClock.now() + step * 30_000),
  }
}

/** One agent's made-up past; days are counted back from today. */
type Plan = {
  readonly host: string
  readonly name: string
  readonly site: string
  readonly days: number
  readonly every: string
  readonly fails: readonly number[]
  readonly gaps: readonly number[]
  /** How long before now each day's run began. */
  readonly last: number
  readonly incomplete?: readonly number[]
}
type Server = Awaited<ReturnType<typeof startTestServer>>

async function seed(server: Server, clock: HeldClock) {
  const drain = async (): Promise<void> => {
    const queue = server.queue instanceof MemoryQueue ? server.queue : new MemoryQueue()
    await queue.enqueue((await server.records.openJobs({ limit: 10_000 })).items)
    const errors = await queue.drain(server.context)
    if (errors.length > 0) throw errors[0]
  }
  const administrator = (await server.makeUser('administrator')).replace('__Host-', '')
  const past = { now: (): number => clock.now() }
  const plans: readonly Plan[] = [
    { host: 'clinic-nord', name: 'Clinique du Nord', site: 'Rue Principale', days: 30, every: '1d', fails: [11], gaps: [], last: 5 * HOUR },
    { host: 'notary-lac', name: 'Notary Lac', site: 'Office', days: 30, every: '1d', fails: [1, 0], gaps: [], last: 7 * HOUR },
    {
      host: 'school-east',
      name: 'School board East',
      site: 'Machine room',
      days: 27,
      every: '1d',
      fails: [],
      gaps: [0, 1, 2, 9],
      last: 9 * HOUR,
    },
    { host: 'dental-2', name: 'Dental group', site: 'Second floor', days: 30, every: '1d', fails: [], gaps: [], last: 11 * HOUR },
    {
      host: 'farm-office',
      name: 'Farm co-operative',
      site: 'Barn',
      days: 12,
      every: '1d',
      fails: [],
      gaps: [],
      last: 3 * HOUR,
      incomplete: [4, 0],
    },
    {
      host: 'law-archive',
      name: 'Law firm',
      site: 'Cellar',
      days: 30,
      every: '7d',
      fails: [],
      gaps: [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 25, 26, 27, 28, 29],
      last: 2 * HOUR,
    },
  ]
  const made: { host: string; agent: FakeAgent; world: Awaited<ReturnType<Server['makeControllerWithAgent']>> }[] = []
  for (const plan of plans) {
    clock.hold(31 * DAY)
    await freshSession(server, administrator)
    const world = await server.makeControllerWithAgent(administrator)
    await server.records.update({ table: 'agents', id: world.agent.id, patch: { host: plan.host, bundleVersion: 1 } })
    await server.records.update({ table: 'controllers', id: world.controllerId, patch: { name: plan.name } })
    await server.records.update({ table: 'sites', id: world.siteId, patch: { name: plan.site } })
    await server.records.savePolicy({ id: world.policyId, patch: { schedule: { every: plan.every } } })
    const frames: RecordFrame[] = []
    for (let day = plan.days - 1; day >= 0; day--) {
      if (plan.gaps.includes(day)) continue
      clock.hold(day * DAY + plan.last)
      const outcome = plan.fails.includes(day) ? 'failed' : plan.incomplete?.includes(day) === true ? 'incomplete' : 'ok'
      frames.push(...backup(world, past.now(), outcome, plan.host.length * 1e9 + day * 1e6))
    }
    clock.hold(0)
    for (let begin = 0; begin < frames.length; begin += 90) {
      const reply = await world.agent.deliver(frames.slice(begin, begin + 90))
      if (reply.status !== 200) throw new Error(reply.body.toString('utf8'))
    }
    clock.hold(plan.host === 'dental-2' ? 9 * HOUR : 0)
    await world.agent.poll()
    clock.hold(0)
    made.push({ host: plan.host, agent: world.agent, world })
  }
  await drain()
  for (const { world } of made) await world.agent.poll().catch(() => undefined)
  const dental = made.find((one) => one.host === 'dental-2')
  await server.records.update({ table: 'agents', id: dental?.agent.id ?? '', patch: { lastSeenAt: clock.now() - 9 * HOUR } })
  await freshSession(server, administrator)
  const fresh = await server.makeControllerWithAgent(administrator)
  await server.records.update({ table: 'agents', id: fresh.agent.id, patch: { host: 'bakery-new' } })
  await server.records.update({ table: 'controllers', id: fresh.controllerId, patch: { name: 'Bakery' } })
  await fresh.agent.poll()
  const restores = await seedRestores(
    server,
    clock,
    made.map((one) => one.world),
  )
  return { agents: made, restores, token: restores.token }
}

/** Sessions of the past have ended by now. */
async function freshSession(server: Server, cookie: string): Promise<void> {
  const id = (await import('holdfast-server/passwords.ts')).secretHash(cookie.split('=')[1] ?? '')
  const now = server.context.clock.now()
  await server.records.update({ table: 'sessions', id, patch: { lastUsedAt: now, expiresAt: now + 40 * DAY } })
}

type World = Awaited<ReturnType<Server['makeControllerWithAgent']>>

const TOKEN = Buffer.alloc(32, 0xa7)

/** The records of one backup, with a snapshot where it was good. */
function backup(world: World, at: number, outcome: 'ok' | 'incomplete' | 'failed', bytes: number): RecordFrame[] {
  const { agent } = world
  const time = new Date(at).toISOString()
  const run = {
    ...agent.common(world.instructionId),
    at: time,
    from: { region: 'CA-QC' },
    to: { region: 'CA-ON', storeId: world.storeId, country: 'CA' },
    runId: makeId(systemRandom, 'run'),
    source: 'documents',
    series: 'cd'.repeat(32),
    policyId: world.policyId,
    actor: `policy:${world.policyId}`,
  }
  const code = outcome === 'failed' ? { code: 'store-unreachable' } : outcome === 'incomplete' ? { code: 'incomplete' } : {}
  const ended = new Date(at + 252_000).toISOString()
  const files = [fileRecord(TOKEN, 65_536, at), fileRecord(systemRandom.bytes(32), 1_048_576, at)]
  const secret = systemRandom.bytes(32)
  const body = encodeFileRecords(files)
  const totals = {
    files: 78_579,
    bytes,
    newBytes: Math.round(bytes / 40),
    reusedBytes: bytes - Math.round(bytes / 40),
    storedBytes: Math.round(bytes / 90),
    unchanged: 77_102,
    failed: outcome === 'incomplete' ? 3 : 0,
    changed: 1,
    skipped: 2,
  }
  return [
    agent.journal({ ...run, kind: 'run-started' }),
    agent.journal(
      {
        ...run,
        at: ended,
        kind: 'transmission',
        files: { count: files.length, bytes: 1_114_112, new: 1_114_112, reused: 0, failed: 0 },
        filesRoot: filesRoot(secret, body).toString('hex'),
        outcome: 'ok',
      },
      body,
      secret,
    ),
    agent.journal({
      ...run,
      at: ended,
      kind: 'run-ended',
      outcome,
      ...code,
      totals,
      ...(outcome === 'failed' ? {} : { snapshotId: systemRandom.bytes(16).toString('hex') }),
    }),
  ]
}

/** Restores in several states, all by the real API. */
async function seedRestores(server: Server, clock: HeldClock, worlds: readonly World[]) {
  const ask = async (world: World, key: string, purpose = 'restore'): Promise<string> => {
    const snapshot = (await server.records.list({ table: 'snapshots', where: { agentId: world.agent.id }, limit: 1 })).items[0]
    const reply = await server.call(
      'POST',
      '/v1/restores',
      world.token,
      {
        agentId: world.agent.id,
        snapshotId: snapshot?.id,
        selection: purpose === 'restore' ? { whole: true } : { tokens: [TOKEN.toString('hex')] },
        restoreRoot: 'restored',
        purpose,
        instructionId: world.instructionId,
      },
      { 'idempotency-key': key },
    )
    if (reply.status !== 201) throw new Error(reply.text)
    return reply.json().id
  }
  const step = async (): Promise<void> => {
    const queue = new MemoryQueue()
    await queue.enqueue((await server.records.openJobs({ limit: 10_000 })).items)
    await queue.drain(server.context)
  }
  const [first, second, third, fourth] = worlds as [World, World, World, World]
  clock.hold(2 * DAY)
  const completed = await ask(first, 'seed-0001', 'restore-test')
  clock.hold(0)
  const granting = await ask(first, 'seed-0002')
  await server.records.update({ table: 'controllers', id: second.controllerId, patch: { approval: 'second-person' } })
  const approving = await ask(second, 'seed-0003')
  const running = await ask(third, 'seed-0004', 'restore-test')
  const cancelled = await ask(fourth, 'seed-0005')
  await step()
  await server.call('POST', `/v1/restores/${cancelled}/cancel`, fourth.token)
  for (const [world, id] of [
    [first, completed],
    [first, granting],
    [third, running],
  ] as const) {
    await world.agent.poll()
    await world.agent.putRestoreKey(id)
  }
  await server.call('PUT', `/v1/restores/${completed}/grant`, first.token, Buffer.from('sealed'))
  await server.call('PUT', `/v1/restores/${running}/grant`, third.token, Buffer.from('sealed'))
  const totals = {
    files: 1,
    bytes: 65_536,
    newBytes: 65_536,
    reusedBytes: 0,
    storedBytes: 0,
    unchanged: 0,
    failed: 0,
    changed: 0,
    skipped: 0,
  }
  await server.records.update({ table: 'restores', id: completed, patch: { state: 'completed', totals } })
  await server.records.update({
    table: 'restores',
    id: running,
    patch: {
      state: 'running',
      attempt: 1,
      leaseId: makeId(systemRandom, 'lease'),
      leaseUntil: clock.now() + HOUR,
      progress: { done: { files: 31_204, bytes: 4_120_000_000 }, total: { files: 78_579, bytes: 11_000_000_000 }, at: clock.now() },
    },
  })
  await step()
  return { completed, granting, approving, running, cancelled, token: TOKEN.toString('hex') }
}
