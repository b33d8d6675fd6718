// Deletions on a real Redis: the job looks by itself, is made again where Redis lost it, and a retry deletes nothing twice.
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { createBullQueue, type BullQueue, type QueueHandle } from 'holdfast-server/queues/bullmq-queue.ts'
import type { RedisServer } from '../../../demo/redis-server.ts'
import { startRedis } from '../../_support/redis.ts'
import { fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

let redis: RedisServer
let world: DeletionWorld
let queue: BullQueue
beforeEach(async () => {
  ;[redis, world] = await Promise.all([startRedis(), makeDeletionWorld()])
  queue = await createBullQueue({ redisUrl: redis.url, log: world.server.context.log })
  await queue.check()
})
afterEach(async () => {
  await queue.close()
  await world.close()
  await redis.stop()
})

async function until(look: () => Promise<boolean | undefined>): Promise<void> {
  while ((await look()) !== true) await systemClock.sleep(20)
}

const handle = (): QueueHandle => queue.handles.find(({ name }) => name === 'deletions')!
const jobOf = () => handle().getJob(`deletions-${world.storeId}`)

it('a store is looked into by itself, and the job stays parked for the next look', async () => {
  const made = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(made.going.snapshots, made.going.packs) })
  await queue.work(world.server.context)
  await until(async () => (await world.deletions())[0]?.state === 'done')
  await until(async () => (await jobOf())?.isDelayed())
  expect((await jobOf())?.data).toEqual({ storeId: world.storeId })
  expect(world.removed()).toHaveLength(4)
})

it('nothing is lost when Redis is emptied while the server deletes, and nothing is deleted twice', async () => {
  const made = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(made.going.snapshots, made.going.packs) })
  let flushed: Promise<unknown> | undefined
  world.bucket.setFaults((call) => {
    // In the middle: Redis forgets everything, and the store breaks off the look.
    if (call.operation !== 'remove' || world.removed().length < 2 || flushed !== undefined) return []
    flushed = redis.command('FLUSHALL')
    return [{ kind: 'fail', when: 'before', code: 'store-unreachable' }]
  })
  await queue.work(world.server.context)
  await until(async () => flushed !== undefined)
  await flushed
  expect((await world.deletions())[0]?.state).not.toBe('done')
  await until(async () => {
    await queue.reconcile(world.server.context)
    return (await world.deletions())[0]?.state === 'done'
  })
  expect([...world.removed()].sort()).toEqual([...new Set(world.removed())].sort())
  expect(world.removed()).toHaveLength(4)
})

it('a job that is promoted again and again deletes once, and ends with the right to delete', async () => {
  const made = await fiveDays(world)
  await queue.work(world.server.context)
  await until(async () => (await jobOf())?.isDelayed())
  await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(made.going.snapshots, made.going.packs) })
  for (let time = 0; time < 3; time++) {
    await queue.promote('deletions', `deletions-${world.storeId}`)
    await until(async () => (await jobOf())?.isDelayed())
  }
  await until(async () => (await world.deletions())[0]?.state === 'done')
  expect(world.removed()).toHaveLength(4)
  await world.made('DELETE', `/v1/stores/${world.storeId}/delete-credentials`, world.token, undefined)
  await queue.promote('deletions', `deletions-${world.storeId}`)
  await until(async () => (await jobOf())?.isCompleted())
})

it('a look that fails for good tells what to do in one line', async () => {
  await world.server.records.setDeleteCredentials({ storeId: world.storeId, credentials: Buffer.from('of another key'), at: 1 })
  await queue.work(world.server.context)
  await until(async () => ((await handle().getFailed()).length + (await handle().getDelayed()).length > 0 ? true : undefined))
  const [job] = [...(await handle().getFailed()), ...(await handle().getDelayed())]
  expect(job?.failedReason).toMatch(/^wrong-key: .*Next: .*delete credentials anew/)
})
