// Hands open jobs to the queue. The rows are the truth: what cannot be handed over now is handed over by the next call or by reconcile.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { Job, Queue } from './queue.ts'
import type { Records } from './records/records.ts'

const STEP = 500

/** Enqueues every open job (or the first `limit`); false where the queue is away. Adding one that is queued already changes nothing. */
export async function dispatchJobs(deps: { records: Records; queue: Queue; log: Log }, limit = Number.POSITIVE_INFINITY): Promise<boolean> {
  let after: number | undefined
  let handed = 0
  do {
    const page = await deps.records.openJobs({ limit: Math.min(STEP, limit - handed), after })
    if (page.items.length > 0 && !(await enqueue(deps, page.items))) return false
    handed += page.items.length
    after = page.next ?? undefined
  } while (after !== undefined && handed < limit)
  return true
}

/** Enqueues these jobs; false where the queue is away, which is logged and left to reconcile. */
export async function enqueue({ queue, log }: { queue: Queue; log: Log }, jobs: readonly Job[]): Promise<boolean> {
  try {
    await queue.enqueue(jobs.map(({ queue: name, jobId, data }) => ({ queue: name, jobId, data })))
    return true
  } catch (error) {
    log.warn('queue-away', { count: jobs.length, code: isHoldfastError(error) ? error.code : 'failed' })
    return false
  }
}
