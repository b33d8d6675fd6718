// The seam to the job queue. Jobs carry ids only and are derived from committed rows: losing the queue loses nothing (jobs.ts, reconcile).
// Implementations: queues/ (BullMQ on Redis) and test/_support/memory-queue.ts.

export const QUEUE_NAMES = ['transmissions', 'recoveries', 'restores', 'deletions', 'watch'] as const
export type QueueName = (typeof QUEUE_NAMES)[number]

export type Job = {
  readonly queue: QueueName
  /** Stable for one piece of work, without a colon; adding a job whose id is there already changes nothing. */
  readonly jobId: string
  /** Ids and numbers only, never a name, token or key. */
  readonly data: { readonly [field: string]: string | number }
}

export interface Queue {
  /** Rejects with `bad-config` or `server-unreachable`, in one clear line that says what to do, unless the queue's store is sound. */
  check(): Promise<void>
  /** Adds jobs; may reject when the queue is away: reconcile adds them later. */
  enqueue(jobs: readonly Job[]): Promise<void>
  /** Runs a parked job of `queue` now rather than at its next look; nothing where it is not parked. */
  promote(queue: QueueName, jobId: string): Promise<void>
  close(): Promise<void>
}
