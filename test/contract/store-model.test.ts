// Whatever is done to a store, in whatever order, a directory and the simulated store give the same answers: so what the
// simulation proves about the engine holds for real storage.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { array, assert, asyncProperty, constantFrom, integer, oneof, record, uint8Array } from 'fast-check'
import { expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { SimulatedBucket } from '../_support/simulated-store.ts'
import { bytesBody, listAll } from './store-contract.ts'

// No name is a directory of another: that is the one thing a directory cannot hold and the product never writes.
const name = constantFrom('a', 'b-c', 'p/0', 'p/1', 'p/q/r', 'p/q/r-', 'p/q0/r', 'z.z')
const small = integer({ min: -12, max: 12 })
const action = oneof(
  record({ act: constantFrom('put' as const), name, bytes: uint8Array({ maxLength: 10 }) }),
  record({ act: constantFrom('get' as const), name, limit: integer({ min: 0, max: 10 }) }),
  record({ act: constantFrom('range' as const), name, offset: small, length: small }),
  record({ act: constantFrom('head' as const), name }),
  record({ act: constantFrom('remove' as const), name }),
  record({ act: constantFrom('list' as const), prefix: constantFrom('', 'p/', 'p/q/', 'none/') }),
)
type Action = typeof action extends { generate: (...args: never[]) => { value: infer A } } ? A : never

async function perform(store: Store, step: Action): Promise<unknown> {
  try {
    if (step.act === 'put') return await store.put(step.name, bytesBody(step.bytes))
    if (step.act === 'get') return await store.get(step.name, { limitBytes: step.limit })
    if (step.act === 'range') return await store.getRange(step.name, step)
    if (step.act === 'head') return (await store.head(step.name))?.bytes
    if (step.act === 'remove') return await store.remove(step.name)
    return (await listAll(store, step.prefix)).map((object) => [object.name, object.bytes])
  } catch (error) {
    return isHoldfastError(error) ? error.code : error
  }
}

test('a directory answers every sequence of calls as the model does', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-model-'))
  let count = 0
  try {
    await assert(
      asyncProperty(array(action, { maxLength: 30 }), async (steps) => {
        const real = await openDirectoryStore(join(folder, String(count++)), { create: true })
        const model = new SimulatedBucket({ clock: simulatedClock() }).store()
        for (const step of steps) expect(await perform(real, step), JSON.stringify(step)).toEqual(await perform(model, step))
        await real.close()
      }),
      { numRuns: 60 },
    )
  } finally {
    await rm(folder, { recursive: true })
  }
})
