// The worker thread of a restore: takes batches, answers with what became of each file. Descriptors are those of the whole process.
import { parentPort, workerData } from 'node:worker_threads'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import { type Batch, createBatchRunner } from './batch.ts'

// No schema library here: it would cost every thread several megabytes for two buffers that this program made itself.
const { domainId, idKey } = workerData as { domainId: Uint8Array; idKey: Uint8Array }
const run = createBatchRunner(posixFileSystem, { domainId: Buffer.from(domainId), idKey: Buffer.from(idKey) })

parentPort?.on('message', (batch: Batch) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a thread, not a window
  parentPort?.postMessage(run(batch))
})
