// The parts that the command line plugs into the server: the queue on Redis, and pages beside the API. Listed here and nowhere else.
import type { Log } from '@holdfast/shared/log.ts'
import type { Plugin } from './app.ts'
import type { JobDeps } from './jobs.ts'
import type { Queue } from './queue.ts'

/** A queue that can also run the jobs of jobs.ts: workers, the watch schedule, and reconcile at start and each minute. */
export type WorkingQueue = Queue & {
  /** Starts the workers; they run until `close`. */
  work(deps: JobDeps): Promise<void>
}
/** `prefix` is of every key in Redis: no two servers may share one. */
export type OpenQueue = (options: { readonly redisUrl: string; readonly prefix: string; readonly log: Log }) => Promise<WorkingQueue>
export type Parts = { readonly openQueue: OpenQueue | undefined; readonly plugins: readonly Plugin[] }

/** Loaded when a server starts, so that the other commands do without them. */
export const parts: Parts = {
  openQueue: async (options) => (await import('./queues/bullmq-queue.ts')).createBullQueue(options),
  plugins: [
    async (app, context) => (await import('./console/console.ts')).registerConsole(app, context),
    async (app, context) => (await import('./queues/dashboard.ts')).registerQueueDashboard(app, context),
  ],
}
