// Who may take back what, and what is said where a store does not show what is there, or has lost some of it.
import { beforeEach, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { beingDeleted, listForgotten, undelete, type UndeleteOptions } from '../../../agent/collection/undelete.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { makeTheft } from '../../hostile/_support/theft.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000
let engine: Engine
let ids: string[]

/** Three snapshots of files that have nothing in common. */
beforeEach(async () => {
  engine = await makeEngine({ limits: { packBytes: 6000 } })
  ids = []
  for (let run = 0; run < 3; run++) {
    writeFile(engine, '/src/a', fixtureRandom(`a ${run}`).bytes(9000))
    engine.pass()
    ids.push((await engine.backup()).snapshot!.ref.random)
  }
})

async function optionsOf(one: Engine, keys = one.keys.write, seam = (store: Store): Store => store): Promise<UndeleteOptions> {
  const repository = await openRepository({ store: seam(one.store()), keys: keys.structure })
  return { repository, keys, clock: one.clock, random: one.random }
}

async function counting({ repository }: UndeleteOptions): Promise<string[]> {
  return (await repository.listSnapshots()).snapshots.map(({ structure }) => structure.ref.random)
}

async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await promise
  } catch (error) {
    if (isHoldfastError(error)) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}

test('an appliance takes back what it has forgotten itself, and of what the root has forgotten nothing, not even by a list that it was handed', async () => {
  const { victim, victims, stolen } = await makeTheft()
  const root = await makeEngine({ seed: 'root', beside: victim })
  await victim.forget(victims[0]!)
  await root.forget(victims[1]!)
  const [agents, roots] = [await optionsOf(victim, stolen), await optionsOf(victim)]
  const of = ({ structure }: { structure: { ref: { random: string } } }): string => structure.ref.random
  const mine = await listForgotten(agents)
  expect(mine.snapshots.map(of)).toEqual([victims[0]])
  const { snapshots: all, survey } = await listForgotten(roots)
  expect(all.map(of)).toEqual([victims[0], victims[1]])
  const before = victim.bucket.names()
  expect(await failure(undelete(agents, all, survey, false))).toEqual({
    code: 'forbidden',
    message: `snapshot ${victims[1]!.slice(0, 12)} was forgotten by another writer: whoever holds the root takes it back; nothing was changed`,
  })
  expect(victim.bucket.names()).toEqual(before)
  expect(await undelete(agents, mine.snapshots, mine.survey, false)).toMatchObject({ snapshots: 1 })
  expect(await counting(agents)).toContain(victims[0])
})

test('what no listing shows though it is there is said to be so, and counts', async () => {
  await engine.forget(ids[0]!)
  let isShort = false
  const short = await optionsOf(engine, engine.keys.write, (store) => ({
    ...store,
    async *list(prefix, more) {
      for await (const page of store.list(prefix, more))
        yield isShort && prefix === 'snapshots/' ? page.filter(({ name }) => !name.endsWith(ids[0]!)) : page
    },
    put: async (name, ...more) => {
      isShort = true
      return store.put(name, ...more)
    },
    close: () => store.close(),
  }))
  const { snapshots, survey } = await listForgotten(short)
  expect(await failure(undelete(short, snapshots, survey, false))).toEqual({
    code: 'store-unreachable',
    message: `a listing lacks snapshot ${ids[0]!.slice(0, 12)}, which is there and was taken back; run 'holdfast check' to see that all is well`,
  })
  expect(await counting(await optionsOf(engine))).toContain(ids[0])
})

test('what a store took and does not show is said to be so, and is nobody else who forgot it anew', async () => {
  await engine.forget(ids[0]!)
  const options = await optionsOf(engine, engine.keys.write, (store) => ({
    ...store,
    put: async (name, ...more) => (name.startsWith('lists/forgets/') ? undefined! : store.put(name, ...more)),
    close: () => store.close(),
  }))
  const { snapshots, survey } = await listForgotten(options)
  const told = await failure(undelete(options, snapshots, survey, false))
  expect(told.code).toBe('store-unreachable')
  expect(told.message).toContain(`takes back snapshot ${ids[0]!.slice(0, 12)} and does not show it`)
  const again = await optionsOf(engine)
  const left = await listForgotten(again)
  expect(await undelete(again, left.snapshots, left.survey, false)).toMatchObject({ snapshots: 1 })
  expect(await counting(again)).toContain(ids[0])
})

test('what has lost something is taken back where that is accepted, and what it lacks is told', async () => {
  await engine.forget(ids[0]!)
  const { condemned } = await engine.prune()
  const options = await optionsOf(engine)
  const { snapshots, survey } = await listForgotten(options)
  const { pack } = [...survey.state.condemned.values()][0]!
  const name = engine.bucket.names('packs/').find((one) => one.endsWith(pack.random))!
  engine.bucket.tamper(name, () => undefined)
  const told: string[] = []
  const accepting = { ...options, acceptDamage: true, onLacking: (text: string): unknown => told.push(text) }
  expect((await failure(undelete(options, snapshots, survey, false))).message).toContain('--accept-damage')
  expect(await counting(options)).not.toContain(ids[0])
  expect(await undelete(accepting, snapshots, survey, true)).toMatchObject({ snapshots: 1 })
  expect(await counting(options)).not.toContain(ids[0])
  const result = await undelete(accepting, snapshots, survey, false)
  expect(result.packs).toBeLessThan(condemned.packs)
  expect(await counting(options)).toContain(ids[0])
  expect(new Set(told).size).toBe(1)
  expect(told[0]).toMatch(new RegExp(`^snapshot ${ids[0]!.slice(0, 12)} is not whole: .*'holdfast check' tells exactly what is lost$`))
})

test('those are being deleted that a deletion list of a collection at work names, or of which it names a pack', async () => {
  await engine.forget(ids[0]!)
  await engine.prune()
  expect(beingDeleted((await listForgotten(await optionsOf(engine))).survey, [])).toEqual(new Set())
  engine.clock.advance(15 * DAY)
  let during: { named: number; all: number } | undefined
  const tree = engine.newest()
  const collector = await makeEngine({
    seed: 'collector',
    beside: engine,
    seam: (store) => ({
      ...store,
      remove: async (name, ...more) => {
        if (during === undefined) {
          const { survey, snapshots } = await listForgotten(await optionsOf(engine))
          during = {
            named: beingDeleted(survey, [...snapshots, ...survey.snapshots]).size,
            all: snapshots.length + survey.snapshots.length,
          }
        }
        return store.remove(name, ...more)
      },
      close: () => store.close(),
    }),
  })
  await collector.prune()
  expect(during).toEqual({ named: 1, all: 3 })
  await restoresTo(engine, tree, 'the newest', ids[2]!)
})
