// The worker thread of a restore: takes batches, answers with what became of each file. Descriptors are those of the whole process.
import { parentPort, workerData } from 'node:worker_threads'
import { z } from 'zod'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import { type Batch, createBatchRunner } from './batch.ts'
import { collectGarbage } from './collect-garbage.ts'

const keys = z.object({ domainId: z.instanceof(Uint8Array), idKey: z.instanceof(Uint8Array) }).parse(workerData)
const run = createBatchRunner(posixFileSystem, { domainId: Buffer.from(keys.domainId), idKey: Buffer.from(keys.idKey) })

parentPort?.on('message', (batch: Batch) => {
  parentPort?.postMessage(run(batch))
  collectGarbage()
})
