// The queue against a real Redis: jobs do their work, what Redis loses is made again, failures say what to do, shutdown is clean.
import { Queue as BullJobs } from 'bullmq'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { createBullQueue } from 'holdfast-server/queues/bullmq-queue.ts'
import type { BullQueue, QueueHandle } from 'holdfast-server/queues/bullmq-queue.ts'
import type { QueueName } from 'holdfast-server/queue.ts'
import type { RedisServer } from '../../../demo/redis-server.ts'
import { fileRecord } from '../../_support/fake-agent.ts'
import { startRedis } from '../../_support/redis.ts'
import { startTestServer } from '../../_support/test-server.ts'
import type { TestServer } from '../../_support/test-server.ts'

let redis: RedisServer
let server: TestServer
let queue: BullQueue
let world: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>

beforeEach(async () => {
  redis = await startRedis()
  server = await startTestServer({ clock: systemClock })
  const administrator = await server.makeUser('administrator')
  world = await server.makeControllerWithAgent(administrator)
  queue = await createBullQueue({ redisUrl: redis.url, log: server.context.log })
  await queue.check()
})

afterEach(async () => {
  await queue.close()
  await server.close()
  await redis.stop()
})

/** Waits until `look` gives something; the test's own time limit ends it. */
async function until<T>(look: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  for (;;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    await systemClock.sleep(20)
  }
}

function handle(name: QueueName): QueueHandle {
  const found = queue.handles.find((one) => one.name === name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

async function deliverRun(): Promise<number> {
  const files = [fileRecord(Buffer.alloc(32, 7)), fileRecord(Buffer.alloc(32, 8))]
  const reply = await world.agent.deliver(
    world.agent.backupRun({ storeId: world.storeId, policyId: world.policyId, instructionId: world.instructionId, files }),
  )
  expect(reply.status).toBe(200)
  return world.agent.seq
}

async function recordedThrough(): Promise<number> {
  return (await server.records.get({ table: 'agents', id: world.agent.id }))?.recordedThrough ?? -1
}

async function openJobs(): Promise<number> {
  return (await server.records.openJobs({ limit: 500 })).items.length
}

async function askRestore(): Promise<string> {
  const snapshotId = 'ab'.repeat(16)
  await server.records.insert({
    table: 'snapshots',
    row: {
      id: snapshotId,
      createdAt: systemClock.now(),
      agentId: world.agent.id,
      controllerId: world.controllerId,
      runId: makeId(systemRandom, 'run'),
      storeId: world.storeId,
      series: 'cd'.repeat(32),
      source: 'documents',
      at: systemClock.now(),
      files: 1,
      bytes: 1024,
      storedBytes: 1024,
      tags: [],
      deletedAt: null,
      contested: false,
    },
  })
  const reply = await server.call(
    'POST',
    '/v1/restores',
    world.token,
    {
      agentId: world.agent.id,
      snapshotId,
      selection: { whole: true },
      restoreRoot: 'restored',
      purpose: 'restore',
      instructionId: world.instructionId,
    },
    { 'idempotency-key': 'restore-0001' },
  )
  expect(reply.status, reply.text).toBe(201)
  return reply.json().id
}

describe('the queue on Redis', () => {
  it('does the work of records and tells the agent how far it came', async () => {
    const last = await deliverRun()
    await queue.work(server.context)
    await until(async () => (await recordedThrough()) === last)
    expect(await openJobs()).toBe(0)
    const done = await until(async () => (await handle('transmissions').getCompleted()).find((job) => job.data.seq === last))
    expect(done.data).toEqual({ agentId: world.agent.id, seq: last })
  })

  it('adding a job that is there changes nothing', async () => {
    await deliverRun()
    const { items } = await server.records.openJobs({ limit: 500 })
    await queue.enqueue(items)
    await queue.enqueue(items)
    expect(await handle('transmissions').getJobCounts('waiting')).toEqual({ waiting: items.length })
  })

  it('loses nothing when Redis is emptied in the middle', async () => {
    await queue.work(server.context)
    await handle('transmissions').pause()
    const last = await deliverRun()
    await queue.reconcile(server.context)
    expect(await redis.command('FLUSHALL')).toBe('+OK')
    expect(await handle('watch').getJobScheduler('watch')).toBeUndefined()
    await queue.reconcile(server.context)
    await until(async () => (await recordedThrough()) === last)
    expect(await handle('watch').getJobScheduler('watch')).toMatchObject({ every: 60_000 })
  })

  it('goes on by itself after Redis was killed and started again', async () => {
    await queue.work(server.context)
    const first = await deliverRun()
    await queue.reconcile(server.context)
    await until(async () => (await recordedThrough()) === first)
    await redis.kill()
    const last = await deliverRun()
    await until(() =>
      queue.check().then(
        () => false,
        () => true,
      ),
    )
    await expect(queue.enqueue([{ queue: 'watch', jobId: 'watch-now', data: {} }])).rejects.toMatchObject({ code: 'server-unreachable' })
    expect(await recordedThrough()).toBe(first)
    await redis.restart()
    await until(async () => (await recordedThrough()) === last)
    await queue.check()
  })

  it('goes on by itself after an outage that outlasts the watchdogs of driver and workers', async () => {
    await queue.work(server.context)
    await redis.kill()
    const last = await deliverRun()
    // An outage is a length of time: workers of earlier BullMQ versions were stuck for good after about six seconds of it.
    await systemClock.sleep(8_000)
    await redis.restart()
    await until(async () => (await recordedThrough()) === last)
  })

  it('does again what counts as done where the database was set back, behind however many open rows it stands', async () => {
    await queue.work(server.context)
    await deliverRun()
    await queue.reconcile(server.context)
    await until(async () => (await recordedThrough()) === world.agent.seq)
    const done = await until(async () => (await handle('transmissions').getCompleted()).find((job) => job.data.seq === 1))
    const open = {
      queue: 'transmissions' as const,
      jobId: done.id ?? '',
      data: { agentId: world.agent.id, seq: 1 },
      createdAt: systemClock.now() - 3_600_000,
    }
    // On the second page of them.
    const openJobs = async ({ after }: { after?: number | undefined }) =>
      after === undefined ? { items: [], next: 1 } : { items: [open], next: null }
    const records = { ...server.records, openJobs }
    const before = (await handle('transmissions').getJob(open.jobId))?.finishedOn ?? 0
    await queue.reconcile({ ...server.context, records })
    await until(async () => ((await handle('transmissions').getJob(open.jobId))?.finishedOn ?? 0) > before)
  })

  it('parks a restore until it is promoted, and ends with it', async () => {
    await queue.work(server.context)
    const id = await askRestore()
    await queue.reconcile(server.context)
    const job = await until(() => handle('restores').getJob(`restore-${id}`))
    await until(() => job.isDelayed())
    expect((await server.records.get({ table: 'restores', id }))?.state).toBe('preparing')
    expect((await server.call('POST', `/v1/restores/${id}/cancel`, world.token)).status).toBe(200)
    await queue.promote('restores', `restore-${id}`)
    await until(() => job.isCompleted())
    await queue.promote('restores', `restore-${id}`)
    await queue.promote('restores', 'restore-unknown')
  })

  it('shows code, agent and next step of a failed job in one line, and a retry is safe', async () => {
    await deliverRun()
    const records = {
      ...server.records,
      getRecord: async (input: { agentId: string; seq: number }) => {
        const record = await server.records.getRecord(input)
        return record === undefined ? undefined : { ...record, sig: Buffer.alloc(64) }
      },
    }
    await queue.work({ ...server.context, records })
    const failed = await until(async () => (await handle('transmissions').getFailed()).find((job) => job.data.seq === 1))
    expect(failed.failedReason).toMatch(new RegExp(`^unprocessable, agent ${world.agent.id}: .*signed.*Next: `))
    expect(failed.failedReason).not.toContain('\n')
    expect(failed.stacktrace).toEqual([])
    expect(failed.attemptsMade).toBe(1)
    await queue.close()
    queue = await createBullQueue({ redisUrl: redis.url, log: silentLog })
    await queue.work(server.context)
    await (await until(() => handle('transmissions').getJob(failed.id ?? ''))).retry()
    await until(async () => (await server.records.getRecord({ agentId: world.agent.id, seq: 1 }))?.recordedAt !== null)
  })

  it('refuses a job that somebody made up', async () => {
    await queue.work(server.context)
    await handle('transmissions').add('transmission', { agentId: world.agent.id, seq: 1, path: '/etc/secret' })
    const failed = await until(async () => (await handle('transmissions').getFailed())[0])
    expect(failed.failedReason).toMatch(/^unprocessable, agent ag_/)
    expect(failed.failedReason).not.toContain('secret')
  })

  it('holds ids and numbers only', async () => {
    await deliverRun()
    await queue.work(server.context)
    await until(async () => (await recordedThrough()) === world.agent.seq)
    const reader = new BullJobs('transmissions', { connection: { url: redis.url }, prefix: 'holdfast' })
    for (const job of await reader.getJobs()) expect(Object.keys(job.data)).toEqual(['agentId', 'seq'])
    await reader.close()
  })

  it('runs the watch by itself', async () => {
    await queue.work(server.context)
    const done = await until(async () => (await handle('watch').getCompleted())[0])
    expect(done.returnvalue).toMatchObject({ overdue: 0 })
  })

  it('closes while Redis is away', async () => {
    await queue.close()
    queue = await createBullQueue({ redisUrl: redis.url, log: silentLog, closeMs: 200 })
    await queue.work(server.context)
    await redis.kill()
    await queue.close()
  })
})

describe('a Redis that is not sound', () => {
  it.each([
    [{ appendonly: 'no' }, /keeps no append-only file; set "appendonly yes"/],
    [{ 'maxmemory-policy': 'allkeys-lru' }, /maxmemory-policy noeviction/],
  ])('is refused with what to do: %o', async (settings, words) => {
    const poor = await startRedis(settings)
    const other = await createBullQueue({ redisUrl: poor.url, log: silentLog })
    try {
      await expect(other.check()).rejects.toMatchObject({ code: 'bad-config', message: expect.stringMatching(words) })
    } finally {
      await other.close()
      await poor.stop()
    }
  })

  it('is refused where the log-in is wrong, and the password stays out of the message', async () => {
    const closed = await startRedis({ requirepass: 'right-horse' })
    const other = await createBullQueue({ redisUrl: closed.url.replace('//', '//:wrong-horse@'), log: silentLog })
    try {
      const error: unknown = await other.check().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'bad-config', message: expect.stringMatching(/refuses the log-in/) })
      expect(String(error)).not.toContain('horse')
    } finally {
      await other.close()
      await closed.stop()
    }
  })

  it('is refused where nothing listens', async () => {
    const other = await createBullQueue({ redisUrl: 'redis://127.0.0.1:1', log: silentLog })
    await expect(other.check()).rejects.toMatchObject({ code: 'server-unreachable' })
    await expect(other.check()).rejects.toMatchObject({ code: 'server-unreachable' })
    await other.close()
  })

  it('is refused where the address is none', async () => {
    await expect(createBullQueue({ redisUrl: 'http://secret@x', log: silentLog })).rejects.toMatchObject({ code: 'bad-config' })
  })
})
