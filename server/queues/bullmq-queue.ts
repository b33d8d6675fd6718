// The queue on Redis, through BullMQ; the only module that imports BullMQ and ioredis. Jobs carry ids and are derived from committed rows:
// reconcile adds what is missing at start, each minute and whenever Redis comes back, so that a Redis that lost everything loses nothing.
import { DelayedError, Queue as BullQueueOfJobs, UnrecoverableError, Worker } from 'bullmq'
import type { Job as BullJob } from 'bullmq'
import { Redis } from 'ioredis'
import { systemClock } from '@holdfast/shared/clock.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import { reconcile } from '../jobs.ts'
import type { JobDeps } from '../jobs.ts'
import { QUEUE_NAMES } from '../queue.ts'
import type { Job, QueueName } from '../queue.ts'
import type { WorkingQueue } from '../parts.ts'
import type { JobRow } from '../records/records.ts'
import { agentOfJob, failureOf, workJob } from './job-work.ts'
import { requireSound } from './redis-soundness.ts'

/** A BullMQ queue as the dashboard takes it. */
export type QueueHandle = BullQueueOfJobs

const RECONCILE_MS = 60_000
const WATCH_MS = 60_000
/** A job that failed after all its tries, or for good, is tried anew after this where its row is open still. */
const REVIVE_MS = 10 * 60_000
/** An open row this old whose job counts as completed is of a database that was set back: its work is done again. */
const REDO_MS = 2 * 60_000
/** No try that failed is tried again later than this, and no parked restore looks later; looks for deletions have their own time. */
const PARKED_MS = 15 * 60_000
const PARKED_STEP = 500
/** Of the times by which Redis sorts parked jobs: they are this many units a millisecond. */
const SCORES_A_MS = 0x1000
const COMMAND_MS = 10_000
const CLOSE_MS = 8_000
const RECONNECT_MS_MAX = 2_000
/** Jobs at work together share a commit; a record in memory is at most 8 MiB. */
const CONCURRENCY: { readonly [Q in QueueName]: number } = { transmissions: 16, recoveries: 16, restores: 8, deletions: 2, watch: 1 }
const DAY_S = 86_400

const JOB_OPTIONS = {
  attempts: 10,
  backoff: { type: 'exponential', delay: 1000, jitter: 0.5 },
  removeOnComplete: { age: DAY_S, count: 2000 },
  removeOnFail: { age: 30 * DAY_S, count: 5000 },
  stackTraceLimit: 0,
  sizeLimit: 1024,
} as const

export type BullQueueOptions = {
  readonly redisUrl: string
  readonly log: Log
  /** Of every key in Redis. */
  readonly prefix?: string
  readonly clock?: Clock
  /** How long `close` waits for jobs at work. */
  readonly closeMs?: number
}

/** The queue of one server. It does not wait for Redis: `check` says whether it is there and sound. Rejects with `bad-config` for no address. */
export async function createBullQueue(options: BullQueueOptions): Promise<BullQueue> {
  return new BullQueue(options)
}

export class BullQueue implements WorkingQueue {
  readonly #log: Log
  readonly #clock: Clock
  readonly #prefix: string
  readonly #closeMs: number
  readonly #address: string
  /** For requests: fails at once where Redis is away. */
  readonly #client: Redis
  /** For workers: waits for Redis as long as it takes. */
  readonly #workerClient: Redis
  readonly #queues = new Map<QueueName, BullQueueOfJobs>()
  readonly #workers: Worker[] = []
  readonly #stopping = new AbortController()
  #connecting: Promise<void> | undefined
  #away = false
  #refused = false
  #back: (() => void) | undefined
  #reconciling: Promise<void> | undefined

  constructor(options: BullQueueOptions) {
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#prefix = options.prefix ?? 'holdfast'
    this.#closeMs = options.closeMs ?? CLOSE_MS
    this.#address = addressOf(options.redisUrl)
    const common = {
      lazyConnect: true,
      connectTimeout: COMMAND_MS,
      retryStrategy: (times: number) => (this.#stopping.signal.aborted ? null : Math.min(50 * 2 ** Math.min(times, 10), RECONNECT_MS_MAX)),
    }
    const url = options.redisUrl.replace(/^unix:(\/\/)?/, '')
    this.#client = new Redis(url, { ...common, maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: COMMAND_MS })
    this.#workerClient = new Redis(url, { ...common, maxRetriesPerRequest: null })
    for (const client of [this.#client, this.#workerClient]) {
      // The driver tells a refused log-in here, and to whoever waits only that the connection closed.
      client.on('error', (error: Error) => this.#noteAway(error))
      client.on('ready', () => this.#noteBack())
    }
  }

  /** The queues, for the dashboard; none before the first `check`. */
  get handles(): readonly QueueHandle[] {
    return [...this.#queues.values()]
  }

  async check(): Promise<void> {
    await this.#connect()
    const info = await this.#client.info().catch((cause: unknown) => {
      throw this.#unreachable(cause)
    })
    requireSound(info, this.#address)
    this.#openQueues()
  }

  async enqueue(jobs: readonly Job[]): Promise<void> {
    this.#requireThere()
    for (const name of QUEUE_NAMES) {
      const mine = jobs.filter((job) => job.queue === name)
      if (mine.length === 0) continue
      await this.#queue(name)
        .addBulk(mine.map(({ jobId, data }) => ({ name: nameOf(name), data, opts: { jobId } })))
        .catch((cause: unknown) => {
          throw this.#unreachable(cause)
        })
    }
  }

  async promote(queue: QueueName, jobId: string): Promise<void> {
    this.#requireThere()
    try {
      const job = await this.#queue(queue).getJob(jobId)
      if (job !== undefined && (await job.isDelayed())) await job.promote()
    } catch (cause) {
      // The worker took it between the two: it looks right now, which is what was wanted.
      if (this.#client.status === 'ready') return
      throw this.#unreachable(cause)
    }
  }

  async work(deps: JobDeps): Promise<void> {
    await this.check()
    await this.#workerClient.connect()
    for (const name of QUEUE_NAMES) {
      const worker = new Worker(name, (job: BullJob, token?: string) => this.#process(deps, name, job, token), {
        connection: this.#workerClient,
        prefix: this.#prefix,
        name: 'holdfast-server',
        concurrency: CONCURRENCY[name],
        lockDuration: 60_000,
        stalledInterval: 30_000,
        maxStalledCount: 3,
        skipVersionCheck: true,
        metrics: { maxDataPoints: 7 * 1440 },
      })
      worker.on('error', () => this.#noteAway())
      worker.on('failed', (job, error) => this.#noteFailed(name, job, error))
      this.#workers.push(worker)
    }
    await this.reconcile(deps)
    this.#reconciling = this.#reconcileLoop(deps)
  }

  /**
   * Adds the job of every open row that has none, has that done again which an open row still wants, brings forward what was parked while the clock was
   * ahead, and sets the watch's schedule. Safe to repeat; false where Redis is away.
   */
  async reconcile(deps: JobDeps): Promise<boolean> {
    try {
      this.#requireThere()
      await this.#scheduleWatch()
      const latest = this.#clock.now() + Math.max(PARKED_MS, deps.config.deletionsEveryMs)
      for (const name of QUEUE_NAMES) await this.#bringForward(name, latest)
      for await (const rows of reconcile(deps)) {
        const { missing, ended } = await this.#lookUp(rows)
        await this.enqueue(missing)
        for (const row of ended) await this.#doAgain(row, deps.clock.now())
      }
      return true
    } catch (error) {
      if (this.#client.status === 'ready') {
        const code = isHoldfastError(error) ? error.code : 'failed'
        this.#log.error('reconcile-failed', { code, stack: error instanceof Error ? error.stack : undefined })
      }
      return false
    }
  }

  /** Jobs at work may end within the deadline; what does not is given to another worker, or to this one when it is back. */
  async close(): Promise<void> {
    if (this.#stopping.signal.aborted) return
    this.#stopping.abort()
    await this.#reconciling
    const timer = new AbortController()
    const late = this.#clock.sleep(this.#closeMs, timer.signal).then(
      () => true,
      () => false,
    )
    const closed = Promise.allSettled(this.#workers.map((worker) => worker.close())).then(() => false)
    if (await Promise.race([closed, late])) this.#log.warn('jobs-cut-off', { message: 'jobs at work are done again after the next start' })
    timer.abort()
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue.close()))
    this.#workerClient.disconnect()
    this.#client.disconnect()
  }

  async #process(
    deps: JobDeps,
    name: QueueName,
    job: BullJob,
    token: string | undefined,
  ): Promise<Readonly<Record<string, string | number>>> {
    const done = await workJob(deps, name, job.data).catch(async (error: unknown) => {
      // Where the database itself is away the line does without the agent; the first error is the one that counts.
      const agent = await agentOfJob(deps, job.data).catch(() => undefined)
      const { code, line, permanent } = failureOf(error, agent)
      if (code === 'failed') {
        this.#log.error('job-error', {
          queue: name,
          jobId: job.id,
          agentId: agent,
          stack: error instanceof Error ? error.stack : undefined,
        })
      }
      throw permanent ? new UnrecoverableError(line) : new Error(line)
    })
    if (done.againMs === undefined || token === undefined) return done.result
    await job.moveToDelayed(this.#clock.now() + done.againMs, token)
    throw new DelayedError()
  }

  async #reconcileLoop(deps: JobDeps): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const turn = new AbortController()
      const end = (): void => turn.abort()
      signal.addEventListener('abort', end, { once: true })
      this.#back = end
      // Ends early, by rejection, when Redis is back or the server stops.
      await this.#clock.sleep(RECONCILE_MS, turn.signal).catch(() => undefined)
      signal.removeEventListener('abort', end)
      this.#back = undefined
      if (!signal.aborted) await this.reconcile(deps)
    }
  }

  async #scheduleWatch(): Promise<void> {
    const watch = this.#queue('watch')
    const known = await watch.getJobScheduler('watch')
    if (known !== undefined && (known.next ?? 0) <= this.#clock.now() + 2 * WATCH_MS) return
    // One that is due far off was set while the clock was ahead: nothing would be watched until then.
    if (known !== undefined) await watch.removeJobScheduler('watch')
    await watch.upsertJobScheduler('watch', { every: WATCH_MS }, { name: nameOf('watch'), data: {}, opts: JOB_OPTIONS })
  }

  /** What was parked for later than anything asks to be was parked while the clock was ahead: it looks now. */
  async #bringForward(name: QueueName, latest: number): Promise<void> {
    const key = this.#queue(name).toKey('delayed')
    for (const jobId of await this.#client.zrangebyscore(key, latest * SCORES_A_MS, '+inf', 'LIMIT', 0, PARKED_STEP))
      await this.promote(name, jobId)
  }

  /** Which of these jobs Redis does not hold, and which have ended there; looking is far cheaper than adding what is there. */
  async #lookUp(rows: readonly JobRow[]): Promise<{ missing: readonly JobRow[]; ended: readonly JobRow[] }> {
    const pipeline = this.#client.pipeline()
    for (const { queue, jobId } of rows) pipeline.hmget(this.#queue(queue).toKey(jobId), 'timestamp', 'finishedOn')
    const replies = await pipeline.exec()
    const held = rows.map((_, at) => (replies?.[at]?.[1] ?? []) as readonly (string | null | undefined)[])
    return {
      missing: rows.filter((_, at) => typeof held[at]?.[0] !== 'string'),
      ended: rows.filter((_, at) => typeof held[at]?.[1] === 'string'),
    }
  }

  /**
   * An open row wants its work, whatever Redis says of its job: that counts as done where the database is older than Redis, and as failed for good where what
   * was wrong has been mended since, or was the doing of another server. Times are apart either way where the clock was set.
   */
  async #doAgain(row: JobRow, now: number): Promise<void> {
    const job = await this.#queue(row.queue).getJob(row.jobId)
    if (job === undefined) return
    if (await job.isCompleted()) {
      if (Math.abs(now - row.createdAt) < REDO_MS) return
      await job.remove()
      await this.enqueue([row])
    } else if ((await job.isFailed()) && Math.abs(this.#clock.now() - (job.finishedOn ?? 0)) >= REVIVE_MS)
      // Somebody may press Retry at this moment; then it is done already.
      await job.retry('failed', { resetAttemptsMade: true }).catch(() => undefined)
  }

  #noteFailed(name: QueueName, job: BullJob | undefined, error: Error): void {
    const [code = 'failed'] = error.message.split(/[,:]/, 1)
    this.#log.warn('job-failed', {
      queue: name,
      jobId: job?.id,
      attempt: job?.attemptsMade,
      code: /^[a-z-]{1,40}$/.test(code) ? code : 'failed',
    })
  }

  #queue(name: QueueName): BullQueueOfJobs {
    const queue = this.#queues.get(name)
    if (queue === undefined) throw this.#unreachable(undefined)
    return queue
  }

  /** Connects where that was not done yet; later ioredis does it by itself. */
  async #connect(): Promise<void> {
    if (this.#client.status === 'ready') return
    if (this.#client.status === 'wait') {
      this.#connecting ??= this.#client.connect().catch((cause: unknown) => {
        throw this.#unreachable(cause)
      })
    }
    await this.#connecting
    this.#connecting = undefined
    this.#requireThere()
  }

  /** BullMQ's own set-up needs a connection that is there, so its queues are made with the first. */
  #openQueues(): void {
    if (this.#queues.size > 0) return
    for (const name of QUEUE_NAMES) {
      const queue = new BullQueueOfJobs(name, {
        connection: this.#client,
        prefix: this.#prefix,
        skipVersionCheck: true,
        defaultJobOptions: JOB_OPTIONS,
        streams: { events: { maxLen: 1000 } },
      })
      queue.on('error', () => this.#noteAway())
      this.#queues.set(name, queue)
    }
  }

  #requireThere(): void {
    if (this.#client.status !== 'ready') throw this.#unreachable(undefined)
  }

  #unreachable(cause: unknown): HoldfastError {
    if (this.#refused || isRefusal(cause))
      return new HoldfastError('bad-config', `Redis at ${this.#address} refuses the log-in; put user and password into the address`, {
        cause,
      })
    return new HoldfastError('server-unreachable', `Redis at ${this.#address} does not answer; start it, or correct its address`, { cause })
  }

  #noteAway(error?: Error): void {
    if (isRefusal(error)) this.#refused = true
    if (this.#away || this.#stopping.signal.aborted) return
    this.#away = true
    this.#log.warn('queue-away', { message: 'Redis does not answer; requests go on, jobs wait in the database' })
  }

  #noteBack(): void {
    if (this.#away) this.#log.info('queue-back')
    this.#away = false
    this.#refused = false
    // What was missed, or lost, is added now and not in a minute.
    this.#back?.()
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && /^(NOAUTH|WRONGPASS|NOPERM)\b/.test(error.message)
}

/** How jobs are named on the dashboard. */
function nameOf(queue: QueueName): string {
  return { transmissions: 'transmission', recoveries: 'recovery', restores: 'restore', deletions: 'deletions', watch: 'watch' }[queue]
}

/** Host and port of an address, without what is secret in it. */
function addressOf(redisUrl: string): string {
  if (/^(unix:|\/)/.test(redisUrl)) return redisUrl.replace(/^unix:(\/\/)?/, '').split('?')[0] ?? ''
  const url = URL.canParse(redisUrl) ? new URL(redisUrl) : undefined
  if (url === undefined || !/^rediss?:$/.test(url.protocol))
    throw new HoldfastError('bad-config', 'the address of Redis is none; give one such as redis://127.0.0.1:6379')
  return `${url.hostname}:${url.port === '' ? '6379' : url.port}`
}
