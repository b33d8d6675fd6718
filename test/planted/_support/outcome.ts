// Runs one scenario in a thread of its own, so that what is planted there is planted nowhere else.
import { Worker } from 'node:worker_threads'

/** What a scenario came to: it holds, or it was violated, or it ended in another way. */
export type Outcome =
  | { readonly kind: 'holds' }
  /** What it demands does not hold. */
  | { readonly kind: 'violated'; readonly message: string }
  /** Something else went wrong: that catches nothing. */
  | { readonly kind: 'broke'; readonly message: string }

export type Job = { readonly bug: string; readonly planted: boolean }

/** Far beyond what any scenario takes, also on a busy machine: one that does not come back breaks, and catches nothing. */
const LIMIT_MS = 120_000

/** Runs the scenario of a bug, with the bug planted or without. */
export async function outcomeOf(job: Job): Promise<Outcome> {
  const worker = new Worker(new URL('worker.ts', import.meta.url), { workerData: job })
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      timer = setTimeout(() => resolve({ kind: 'broke', message: 'the scenario does not come back' }), LIMIT_MS)
      worker.once('message', resolve)
      worker.once('error', (error: Error) => resolve({ kind: 'broke', message: error.stack ?? error.message }))
      worker.once('exit', () => reject(new Error(`the thread of ${job.bug} ended without a word`)))
    })
  } finally {
    clearTimeout(timer)
    await worker.terminate()
  }
}
