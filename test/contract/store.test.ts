// Runs the store contract against every implementation that needs no other process.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@holdfast/shared/clock.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import { startFakeS3 } from '../_support/fake-s3.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { SimulatedBucket } from '../_support/simulated-store.ts'
import { describeStore } from './store-contract.ts'

describeStore('a directory', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-store-'))
  let count = 0
  return {
    conditional: true,
    open: () => openDirectoryStore(join(folder, `s${count++}`), { create: true }),
    stop: () => rm(folder, { recursive: true, force: true }),
  }
})

for (const conditional of [true, false])
  describeStore(`in memory, conditional puts ${conditional ? 'honoured' : 'ignored'}`, async () => ({
    conditional,
    open: async () => new SimulatedBucket({ clock: simulatedClock(), conditional }).store(),
    stop: async () => undefined,
  }))

for (const conditional of ['honoured', 'ignored', 'not-implemented'] as const)
  describeStore(`S3, conditional puts ${conditional}`, async () => {
    const server = await startFakeS3({ now: systemClock.now, conditional })
    const credentials = { accessKeyId: 'AKTEST', secretAccessKey: 'SKTEST' }
    let count = 0
    return {
      conditional: conditional === 'honoured',
      open: () => openS3Store({ endpoint: server.endpoint, bucket: server.bucket, prefix: `p${count++}`, credentials }),
      stop: () => server.stop(),
    }
  })
