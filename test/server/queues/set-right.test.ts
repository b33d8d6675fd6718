// What Redis says of a job that an open row still wants, set right by itself: parked while the clock was ahead, failed for good over something that was
// mended since, or taken by another server on the same Redis.
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { createBullQueue, type BullQueue, type QueueHandle } from 'holdfast-server/queues/bullmq-queue.ts'
import type { QueueName } from 'holdfast-server/queue.ts'
import type { RedisServer } from '../../../demo/redis-server.ts'
import { startRedis } from '../../_support/redis.ts'
import { DAY, fiveDays, makeDeletionWorld, type DeletionWorld } from '../deletions/_support/deletion-world.ts'

let redis: RedisServer
let world: DeletionWorld
let queue: BullQueue
const trueNow = Date.now.bind(Date)
beforeEach(async () => {
  ;[redis, world] = await Promise.all([startRedis(), makeDeletionWorld()])
  queue = await createBullQueue({ redisUrl: redis.url, log: silentLog })
  await queue.check()
})
afterEach(async () => {
  vi.restoreAllMocks()
  await queue.close()
  await world.close()
  await redis.stop()
})

/** Sets the clock of this machine: of the server, and of what keeps its queues. */
const setClock = (aheadMs: number): void => {
  vi.spyOn(Date, 'now').mockImplementation(() => trueNow() + aheadMs)
}

async function until(look: () => Promise<boolean | undefined>): Promise<void> {
  while ((await look()) !== true) await systemClock.sleep(20)
}

const handle = (of: BullQueue, queueName: QueueName): QueueHandle => of.handles.find(({ name }) => name === queueName)!
const jobOf = () => handle(queue, 'deletions').getJob(`deletions-${world.storeId}`)
const isDone = async (): Promise<boolean> => (await world.deletions())[0]?.state === 'done'

async function publishGoing(): Promise<void> {
  const { going, list } = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
}

it('a clock that was a year ahead for a while stops neither the looks into a store nor the watch', async () => {
  setClock(365 * DAY)
  await queue.work(world.server.context)
  await until(async () => (await jobOf())?.isDelayed())
  await until(async () => (await handle(queue, 'watch').getCompletedCount()) > 0)
  setClock(0)
  await publishGoing()
  expect(await queue.reconcile(world.server.context)).toBe(true)
  await until(isDone)
  const { next } = (await handle(queue, 'watch').getJobScheduler('watch'))!
  expect(next).toBeLessThan(Date.now() + 2 * 60_000)
})

it('a look that failed for good is tried again by itself once what was wrong is mended', async () => {
  await publishGoing()
  const { openStore } = world.server.context
  let isBroken = true
  await queue.work({
    ...world.server.context,
    openStore: async (...of) => {
      if (isBroken) throw new HoldfastError('bad-config', 'the CA file cannot be read')
      return openStore(...of)
    },
  })
  await until(async () => (await jobOf())?.isFailed())
  isBroken = false
  await queue.reconcile(world.server.context)
  expect(await (await jobOf())?.isFailed()).toBe(true)
  setClock(11 * 60_000)
  await queue.reconcile(world.server.context)
  await until(isDone)
})

it('servers with prefixes of their own on one Redis do each their own work and fail none of the other', async () => {
  const others = await makeDeletionWorld()
  const mine = await createBullQueue({ redisUrl: redis.url, prefix: 'holdfast:one', log: silentLog })
  const theirs = await createBullQueue({ redisUrl: redis.url, prefix: 'holdfast:two', log: silentLog })
  try {
    await publishGoing()
    await mine.work(world.server.context)
    await theirs.work(others.server.context)
    await until(isDone)
    await until(async () => (await handle(theirs, 'deletions').getJob(`deletions-${others.storeId}`))?.isDelayed())
    for (const one of [mine, theirs])
      for (const queueName of ['deletions', 'watch'] as const) expect(await handle(one, queueName).getFailedCount()).toBe(0)
  } finally {
    await mine.close()
    await theirs.close()
    await others.close()
  }
})
