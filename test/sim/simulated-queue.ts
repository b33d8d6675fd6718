// The job queue of a simulated server, as Redis and BullMQ keep it: it outlives its servers, forgets everything when it is emptied, gives a job whose
// worker died to another, and at times to two at once. What a job does is the server's own work.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import { reconcile, type JobDeps } from 'holdfast-server/jobs.ts'
import { failureOf, workJob } from 'holdfast-server/queues/job-work.ts'
import type { Job, Queue, QueueName } from 'holdfast-server/queue.ts'
import { wake } from '../../agent/daemon/wake.ts'
import type { Process } from './processes.ts'

const MINUTE = 60_000
/** As the real one: how often open rows are looked through, and when what failed or seems done is tried anew. */
const RECONCILE_MS = MINUTE
const REVIVE_MS = 10 * MINUTE
const REDO_MS = 2 * MINUTE
const KEEP_DONE_MS = 24 * 60 * MINUTE
const WORKERS = 2

type Kept = { readonly job: Job; state: 'waiting' | 'at work' | 'done' | 'failed'; notBefore: number; tries: number }

export type SimulatedQueue = Queue & {
  /** Everything is gone, as after FLUSHALL. */
  readonly empty: () => void
  setAway: (isAway: boolean) => void
  /** The workers of one server; they end with its process. A job at work then waits again. */
  readonly work: (process: Process, deps: JobDeps, spawn: (work: () => Promise<void>) => void) => void
  /** Jobs that failed for good, with why. */
  readonly failures: readonly string[]
}

export function simulatedQueue(options: {
  readonly random: Random
  /** In 1000 jobs, how many are done by two workers at once. */
  readonly twice: () => number
  readonly note: (line: string) => void
}): SimulatedQueue {
  const { random, note } = options
  const jobs = new Map<string, Kept>()
  const failures: string[] = []
  let isAway = false
  let news = (): void => undefined
  let trueNow = (): number => 0

  const requireThere = (): void => {
    if (isAway) throw new HoldfastError('server-unreachable', 'the queue is away')
  }
  const add = (job: Job): void => {
    if (!jobs.has(job.jobId)) jobs.set(job.jobId, { job, state: 'waiting', notBefore: 0, tries: 0 })
  }
  const next = (): Kept | undefined => {
    if (isAway) return undefined
    const ready = [...jobs.values()].filter(({ state, notBefore }) => state === 'waiting' && notBefore <= trueNow())
    return ready.length === 0 ? undefined : ready[randomBelow(random, ready.length)]
  }
  const restMs = (): number => {
    const due = [...jobs.values()].filter(({ state }) => state === 'waiting').map(({ notBefore }) => notBefore - trueNow())
    return Math.max(1, Math.min(MINUTE, ...due))
  }

  const workOne = async (deps: JobDeps, kept: Kept): Promise<void> => {
    const { job } = kept
    kept.state = 'at work'
    kept.tries += 1
    const once = () => workJob(deps, job.queue, job.data)
    try {
      // A lock that ran out gave it to another worker too.
      const both = randomBelow(random, 1000) < options.twice() ? await Promise.all([once(), once()]) : [await once()]
      const { againMs } = both[0]!
      if (againMs === undefined) Object.assign(kept, { state: 'done', notBefore: trueNow() })
      else Object.assign(kept, { state: 'waiting', notBefore: trueNow() + againMs, tries: 0 })
    } catch (error) {
      if (!isHoldfastError(error)) throw error
      const { permanent, line } = failureOf(error, undefined)
      note(`job ${job.jobId} failed: ${line}`)
      const isLast = permanent || kept.tries >= 10
      if (permanent) failures.push(`${job.jobId}: ${line}`)
      Object.assign(kept, { state: isLast ? 'failed' : 'waiting', notBefore: trueNow() + 1000 * 2 ** kept.tries })
    }
  }

  const reconcileOnce = async (deps: JobDeps): Promise<void> => {
    if (isAway) return
    add({ queue: 'watch', jobId: 'watch', data: {} })
    for (const [id, kept] of jobs)
      if (
        kept.job.queue === 'watch'
          ? ['done', 'failed'].includes(kept.state)
          : kept.state === 'done' && kept.notBefore < trueNow() - KEEP_DONE_MS
      )
        jobs.delete(id)
    for await (const page of reconcile(deps))
      for (const { createdAt, ...job } of page) {
        if (isAway) break
        const kept = jobs.get(job.jobId)
        // Rows that are open though their job counts as done, or has failed.
        if (kept?.state === 'done' && createdAt <= deps.clock.now() - REDO_MS) jobs.delete(job.jobId)
        if (kept?.state === 'failed' && kept.notBefore < trueNow() - REVIVE_MS) Object.assign(kept, { state: 'waiting', tries: 0 })
        add(job)
      }
    news()
  }

  return {
    check: async () => requireThere(),
    enqueue: async (added) => {
      requireThere()
      for (const job of added) add(job)
      news()
    },
    promote: async (_: QueueName, jobId) => {
      requireThere()
      const kept = jobs.get(jobId)
      if (kept?.state === 'waiting') kept.notBefore = 0
      news()
    },
    close: async () => undefined,
    empty: () => {
      note('the queue is emptied')
      jobs.clear()
    },
    setAway: (away) => {
      isAway = away
    },
    failures,
    work: (process, deps, spawn) => {
      const { clock } = deps
      const never = new AbortController().signal
      trueNow = () => clock.monotonicMs()
      for (const kept of jobs.values()) if (kept.state === 'at work') kept.state = 'waiting'
      const wakes = Array.from({ length: WORKERS }, () => wake(clock))
      news = () => wakes.forEach((one) => one.now())
      for (const news of wakes)
        spawn(async () => {
          while (!process.isOver()) {
            const kept = next()
            if (kept === undefined) await news.wait(restMs(), never)
            else await workOne(deps, kept)
          }
        })
      spawn(async () => {
        while (!process.isOver()) {
          await reconcileOnce(deps)
          await clock.sleep(RECONCILE_MS)
        }
      })
    },
  }
}
