// The workers of a run: threads, or in place for simulation and for tiny machines. One interface; the pool keeps order within a worker and
// tells of segments as they come.
import { Worker } from 'node:worker_threads'
import { HoldfastError, isErrorCode } from '@holdfast/shared/errors.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import { decodeResults, encodeTasks, STOPPING, WAITING, type FileResult, type FileTask } from './batches.ts'
import { createFileWorker, type FileWorkerSetup } from './file-worker.ts'
import type { FinishedSegment } from './finished-segment.ts'
import type { KnownIds } from './known-ids.ts'
import type { FromWorker, ToWorker, WorkerData } from './worker-thread.ts'

export type WorkerPool = {
  /** Reads the files of a batch; resolves with a result for each, in order. Rejects when the run cannot go on. */
  readonly process: (tasks: readonly FileTask[]) => Promise<FileResult[]>
  /** Seals what is open in every worker; resolves when all of it was told. */
  readonly flush: () => Promise<void>
  readonly close: () => Promise<void>
  readonly size: number
}

export type PoolOptions = {
  readonly setup: Omit<FileWorkerSetup, 'worker'>
  readonly workers: number
  readonly known: KnownIds
  readonly fileSystem: FileSystem
  /** May return a promise: the worker is held back until it resolves. A rejection ends the run. */
  readonly onSegment: (segment: FinishedSegment) => void | Promise<void>
}

/** Workers in this thread, one after the other: the same code, deterministic. */
export function inPlacePool(options: PoolOptions): WorkerPool {
  const told: FinishedSegment[] = []
  const worker = createFileWorker({ ...options.setup, worker: 0 }, { ...options, onSegment: (segment) => told.push(segment) })
  const tell = async (): Promise<void> => {
    for (const segment of told.splice(0)) await options.onSegment(segment)
  }
  return {
    size: 1,
    process: async (tasks) => {
      const results = worker.process(encodeTasks(tasks))
      await tell()
      return decodeResults(results, tasks.length)
    },
    flush: async () => {
      worker.flush()
      await tell()
    },
    close: async () => undefined,
  }
}

type Lane = { readonly worker: Worker; readonly ended: Promise<void>; readonly waiting: Int32Array; readonly queue: Pending[] }
type Pending = { readonly count: number; readonly resolve: (results: FileResult[]) => void; readonly reject: (error: unknown) => void }

/** Worker threads. They read through the real file system only. */
export function threadPool(options: PoolOptions): WorkerPool {
  let failure: unknown
  let closing = false
  /** Opened when there is work for them: a run of one small file starts one thread. */
  const lanes: Lane[] = []

  function fail(error: unknown): void {
    failure ??= error
    for (const lane of lanes) for (const pending of lane.queue.splice(0)) pending.reject(failure)
  }

  function openLane(index: number): Lane {
    const waiting = new SharedArrayBuffer(8)
    const data: WorkerData = { setup: { ...options.setup, worker: index }, known: options.known.memory(), waiting }
    const worker = new Worker(new URL('./worker-thread.ts', import.meta.url), { workerData: data, trackUnmanagedFds: false })
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
    const lane: Lane = { worker, ended, waiting: new Int32Array(waiting), queue: [] }
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'segment') void take(lane, message.segment)
      else if (message.kind === 'results') {
        const pending = lane.queue.shift()
        pending?.resolve(decodeResults(message.results, pending.count))
      } else if (message.kind === 'flushed') lane.queue.shift()?.resolve([])
      else fail(new HoldfastError(isErrorCode(message.code) ? message.code : 'failed', message.message))
    })
    worker.on('error', (error) =>
      fail(new HoldfastError('failed', `a worker stopped: ${error instanceof Error ? error.message : 'unknown'}`, { cause: error })),
    )
    worker.on('exit', (code) => {
      if (lane.queue.length > 0) fail(new HoldfastError('failed', `a worker ended with ${code} in the middle of its work`))
    })
    return lane
  }

  async function take(lane: Lane, segment: FinishedSegment): Promise<void> {
    try {
      if (!closing) await options.onSegment(segment)
    } catch (error) {
      fail(error)
    }
    Atomics.sub(lane.waiting, WAITING, 1)
    Atomics.notify(lane.waiting, WAITING)
  }

  const ask = (lane: Lane, message: ToWorker, count: number, transfer: ArrayBuffer[]): Promise<FileResult[]> =>
    new Promise((resolve, reject) => {
      if (failure !== undefined) return reject(failure)
      lane.queue.push({ count, resolve, reject })
      lane.worker.postMessage(message, transfer)
    })

  return {
    size: options.workers,
    process: (tasks) => {
      let lane = lanes.find(({ queue }) => queue.length === 0)
      if (lane === undefined && lanes.length < options.workers) lanes.push((lane = openLane(lanes.length)))
      lane ??= lanes.reduce((least, other) => (other.queue.length < least.queue.length ? other : least))
      const batch = encodeTasks(tasks)
      return ask(lane, { kind: 'batch', batch, known: options.known.memory() }, tasks.length, [batch.buffer as ArrayBuffer])
    },
    flush: async () => {
      await Promise.all(lanes.map((lane) => ask(lane, { kind: 'flush' }, 0, [])))
      // 'flushed' comes after the last segment of its worker, but taking that segment may still be under way.
      while (lanes.some((lane) => Atomics.load(lane.waiting, WAITING) > 0)) {
        if (failure !== undefined) throw failure
        await new Promise((resolve) => setImmediate(resolve))
      }
      if (failure !== undefined) throw failure
    },
    close: async () => {
      closing = true
      // Asked to end, never terminated: a thread that is stopped while it loads or is in native code takes the whole process with it.
      for (const lane of lanes) {
        Atomics.store(lane.waiting, STOPPING, 1)
        Atomics.notify(lane.waiting, WAITING)
        lane.worker.postMessage({ kind: 'stop' } satisfies ToWorker)
      }
      await Promise.all(lanes.map((lane) => lane.ended))
    },
  }
}
