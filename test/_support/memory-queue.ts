// A queue in memory for tests: keeps jobs by id, can be told to be away, and runs them when asked.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { lookForDeletions } from 'holdfast-server/deletions/look.ts'
import { advanceRestore, processRecovery, processTransmission, watch } from 'holdfast-server/jobs.ts'
import type { JobDeps, RecordRef } from 'holdfast-server/jobs.ts'
import type { Job, Queue } from 'holdfast-server/queue.ts'

export class MemoryQueue implements Queue {
  readonly jobs = new Map<string, Job>()
  away = false

  async check(): Promise<void> {
    if (this.away) throw new HoldfastError('server-unreachable', 'the queue is away')
  }

  async enqueue(jobs: readonly Job[]): Promise<void> {
    await this.check()
    for (const job of jobs) if (!this.jobs.has(job.jobId)) this.jobs.set(job.jobId, job)
  }

  async promote(): Promise<void> {
    await this.check()
  }

  async close(): Promise<void> {
    this.jobs.clear()
  }

  /** Runs every job once and drops it; restores that go on are kept. Errors of jobs are collected. */
  async drain(deps: JobDeps): Promise<unknown[]> {
    const errors: unknown[] = []
    for (const [id, job] of [...this.jobs]) {
      this.jobs.delete(id)
      try {
        if (job.queue === 'transmissions') await processTransmission(deps, job.data as unknown as RecordRef)
        else if (job.queue === 'recoveries') await processRecovery(deps, job.data as unknown as RecordRef)
        else if (job.queue === 'deletions') {
          if ((await lookForDeletions(deps, String(job.data['storeId']))).againMs !== undefined) this.jobs.set(id, job)
        } else if (job.queue === 'watch') await watch(deps)
        else if ((await advanceRestore(deps, String(job.data['restoreId']))).againMs !== undefined) this.jobs.set(id, job)
      } catch (error) {
        errors.push(error)
      }
    }
    return errors
  }
}
