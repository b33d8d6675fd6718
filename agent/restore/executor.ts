// Who writes the batches of a restore: worker threads on the real file system, or the calling thread where the restore is small or the file
// system is a simulated one. Results come back as promises; a worker that dies fails everything that it was given.
import { Worker } from 'node:worker_threads'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import { type Batch, type BatchResult, createBatchRunner } from './batch.ts'

/** A restore of less than this is done before a worker would have started. */
const INLINE_BYTES = 4 * 2 ** 20
const INLINE_BATCHES = 2

export type Executor = {
  readonly run: (batch: Batch, plainBytes: number) => Promise<BatchResult>
  readonly close: () => Promise<void>
}

type Lane = { readonly worker: Worker; readonly waiting: { resolve: (result: BatchResult) => void; reject: (error: unknown) => void }[] }

export function createExecutor(options: { fs: FileSystem; workers: number; domainId: Buffer; idKey: Buffer }): Executor {
  const inline = createBatchRunner(options.fs, options)
  const lanes: Lane[] = []
  let doneInline = 0
  let bytesInline = 0

  const start = (): Lane => {
    // Copies: a key is often a slice of a larger buffer, and all of that would be handed over.
    const workerData = { domainId: new Uint8Array(options.domainId), idKey: new Uint8Array(options.idKey) }
    const worker = new Worker(new URL('./write-worker.ts', import.meta.url), {
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    })
    const lane: Lane = { worker, waiting: [] }
    const fail = (cause: unknown): void => {
      for (const { reject } of lane.waiting.splice(0))
        reject(new HoldfastError('failed', 'a writing thread of the restore ended', { cause }))
    }
    worker.on('message', (result: BatchResult) => lane.waiting.shift()?.resolve(result))
    worker.on('error', fail)
    worker.on('exit', (code) => fail(new Error(`exit code ${code}`)))
    return lane
  }

  return {
    run: (batch, plainBytes) => {
      if (options.workers === 0 || (lanes.length === 0 && doneInline < INLINE_BATCHES && bytesInline + plainBytes < INLINE_BYTES)) {
        doneInline += 1
        bytesInline += plainBytes
        return Promise.resolve(inline(batch))
      }
      let lane = lanes.toSorted((a, b) => a.waiting.length - b.waiting.length)[0]
      if (lane === undefined || (lane.waiting.length > 0 && lanes.length < options.workers)) lanes.push((lane = start()))
      const { worker, waiting } = lane
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        // Every buffer of a batch was made for it and holds nothing else, so they can be handed over instead of copied.
        worker.postMessage(
          batch,
          batch.segments.map((segment) => segment.sealed.buffer as ArrayBuffer),
        )
      })
    },
    close: async () => {
      await Promise.all(lanes.map(({ worker }) => worker.terminate()))
    },
  }
}
