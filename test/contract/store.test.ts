// Runs the store contract against every implementation that needs no other process.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDirectoryStore } from '../../agent/store/directory-store.ts'
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
