// The entry of a worker thread: a FileWorker behind messages. A counter in shared memory bounds how many sealed segments wait for the main
// thread, so that a fast worker cannot fill the memory.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parentPort, workerData } from 'node:worker_threads'
import { isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import { STOPPING, WAITING } from './batches.ts'
import { createFileWorker, type FileWorkerSetup } from './file-worker.ts'
import type { FinishedSegment } from './finished-segment.ts'
import { type KnownIdsMemory, openKnownIds } from './known-ids.ts'

export type WorkerData = { readonly setup: FileWorkerSetup; readonly known: KnownIdsMemory; readonly waiting: SharedArrayBuffer }
export type ToWorker =
  | { readonly kind: 'batch'; readonly batch: Uint8Array; readonly known: KnownIdsMemory }
  | { readonly kind: 'flush' }
  | { readonly kind: 'stop' }
export type FromWorker =
  | { readonly kind: 'segment'; readonly segment: FinishedSegment }
  | { readonly kind: 'results'; readonly results: Uint8Array }
  | { readonly kind: 'flushed' }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }

/** Sealed segments of one worker that may wait for the main thread. */
export const SEGMENTS_WAITING = 4
/** How long a file rests that changed while it was read, before it is read again. One write call that takes longer can outrun it. */
const REST_MS = 100

const port = parentPort
if (port !== null) {
  const data = workerData as WorkerData
  const waiting = new Int32Array(data.waiting)
  const known = openKnownIds(data.known)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void
  const stopped = (): boolean => Atomics.load(waiting, STOPPING) === 1
  let sealed = 0
  const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const setup: FileWorkerSetup = {
    ...data.setup,
    domainId: asBuffer(data.setup.domainId),
    idKey: asBuffer(data.setup.idKey),
    chunkerKey: asBuffer(data.setup.chunkerKey),
    sessionKey: asBuffer(data.setup.sessionKey),
  }
  const worker = createFileWorker(setup, {
    fileSystem: posixFileSystem,
    known,
    stopped,
    rest: () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REST_MS),
    onSegment: (segment) => {
      // Looks up once a second whether anybody still wants it.
      for (let count = Atomics.add(waiting, WAITING, 1) + 1; count > SEGMENTS_WAITING && !stopped(); count = Atomics.load(waiting, WAITING))
        Atomics.wait(waiting, WAITING, count, 1000)
      const { buffer, byteLength } = segment.body
      port.postMessage({ kind: 'segment', segment } satisfies FromWorker, byteLength === buffer.byteLength ? [buffer as ArrayBuffer] : [])
      sealed += 1
      // Sealed bytes lie outside of the heap, where nothing makes the collector run in time.
      if (sealed % 16 === 0) collect({ type: 'minor' })
    },
  })
  port.on('message', (message: ToWorker) => {
    try {
      if (message.kind === 'batch') {
        known.adopt(message.known)
        const results = worker.process(message.batch)
        port.postMessage({ kind: 'results', results } satisfies FromWorker, [results.buffer as ArrayBuffer])
      } else if (message.kind === 'flush') {
        worker.flush()
        port.postMessage({ kind: 'flushed' } satisfies FromWorker)
      } else port.close()
    } catch (error) {
      port.postMessage({
        kind: 'failed',
        code: isHoldfastError(error) ? error.code : 'failed',
        message: messageOf(error),
      } satisfies FromWorker)
    }
  })
}
