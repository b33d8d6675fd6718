// What the server demands of its queue: work goes on as soon as Redis is back, and what Redis lost is made again.
import type { Clock } from '@holdfast/shared/clock.ts'
import { systemClock } from '@holdfast/shared/clock.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { createBullQueue } from 'holdfast-server/queues/bullmq-queue.ts'
import { startRedis } from '../../_support/redis.ts'
import { startTestServer } from '../../_support/test-server.ts'
import { demand } from '../../sim/invariants.ts'

const POLL_MS = 20
/** After which the queue looks at what is missing, whatever happens. */
const TURN_MS = 60_000

/** A Redis that lost everything and comes back: the schedule stands again without anybody waiting for the next turn. */
export async function redisComesBack(): Promise<void> {
  const redis = await startRedis()
  const server = await startTestServer({ clock: systemClock })
  const turns: AbortSignal[] = []
  // The first turn ends only where something ends it.
  const clock: Clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs(),
    sleep: (ms, signal) => {
      if (ms !== TURN_MS || signal === undefined) return systemClock.sleep(ms, signal)
      turns.push(signal)
      if (turns.length > 1) return systemClock.sleep(POLL_MS, signal)
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
    },
  }
  const queue = await createBullQueue({ redisUrl: redis.url, log: silentLog, clock })
  try {
    await queue.check()
    await queue.work(server.context)
    const turn = turns[0]
    demand(turn !== undefined, 'the queue does not wait for its next turn')
    await redis.command('FLUSHALL')
    await redis.kill()
    await redis.restart()
    // Its answer comes after the driver has told everybody that it is there again.
    while (!(await succeeds(queue.check()))) await systemClock.sleep(POLL_MS)
    demand(turn.aborted, 'Redis is back, and nobody looks at what it lost before the next turn')
    const watch = queue.handles.find(({ name }) => name === 'watch')!
    const isThere = async (): Promise<boolean> => (await watch.getJobScheduler('watch')) !== undefined
    while (!(await succeeds(isThere().then((there) => demand(there, 'not yet'))))) await systemClock.sleep(POLL_MS)
  } finally {
    await queue.close()
    await server.close()
    await redis.stop()
  }
}

function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  )
}
