// Two collections merge the same forget records, and one of them sleeps for weeks before it stores its record: what was taken back meanwhile, when the
// records that both merged were gone already, is not forgotten again.
import { expect, test } from 'vitest'
import { openRepository } from '../../../agent/repository/repository.ts'
import { fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { pausedStore } from '../../planted/_support/paused-bucket.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000

test('a merged record that comes weeks late forgets nothing again that was taken back', async () => {
  const windowMs = 90 * DAY
  const server = await makeEngine({ seed: 'awake' })
  const ids: string[] = []
  const tree = async (text: string): Promise<string> => {
    writeFile(server, '/src/file', fixtureRandom(text).bytes(3000))
    server.pass()
    return (await server.backup()).snapshot!.ref.random
  }
  for (let i = 0; i < 17; i++) ids.push(await tree(`version ${i}`))
  const back = await tree('taken back')
  const source = server.source()
  await tree('last')
  for (const id of [...ids.slice(1), back]) await server.forget(id)
  let slept = false
  const asleep = await makeEngine({
    seed: 'asleep',
    beside: server,
    seam: (inner) =>
      pausedStore(inner, { operation: 'put', prefix: 'lists/forgets/' }, async () => {
        slept = true
        await server.prune({ windowMs })
        server.clock.advance(31 * DAY)
        await server.prune({ windowMs })
        expect(server.bucket.names('lists/forgets/')).toHaveLength(1)
        await server.undelete(back)
      }),
  })
  await asleep.prune({ windowMs })
  expect(slept).toBe(true)
  const { snapshots } = await (await openRepository({ store: server.store(), keys: server.keys.write.structure })).listSnapshots()
  expect(snapshots.map(({ structure }) => structure.ref.random)).toContain(back)
  await restoresTo(server, source, 'what was taken back', back)
})
