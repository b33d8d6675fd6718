// A deletion list stands before anything goes, and whoever takes something back looks for one afterwards: so one of the two always sees the other, however
// long either sleeps in between (design section 7).
import { beforeEach, expect, test } from 'vitest'
import type { Store } from '@holdfast/shared/store/store.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import type { WriteKeys } from '../../../agent/keys/keys.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'
import { makeTheft } from '../../hostile/_support/theft.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000
let engine: Engine
let tree: Tree
let first: string

/** Two snapshots, the first of which is forgotten and condemned long enough ago. */
beforeEach(async () => {
  engine = await makeEngine({ limits: { packBytes: 6000 } })
  for (const name of ['first', 'second']) {
    for (let i = 0; i < 6; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`${name} ${i}`).bytes(3000))
    engine.pass()
    const before = engine.source()
    const id = (await engine.backup()).snapshot!.ref.random
    if (name === 'first') [tree, first] = [before, id]
  }
  await engine.forget(first)
  await engine.prune()
  engine.clock.advance(20 * DAY)
})

/** A machine that sleeps right before its first call of this kind, while something else is done. */
function asleepAt(
  operation: 'put' | 'remove',
  prefix: string,
  meanwhile: () => Promise<unknown>,
  more: Partial<Parameters<typeof makeEngine>[0]> = {},
): Promise<Engine> {
  let hasSlept = false
  const sleep = async (name: string): Promise<void> => {
    if (hasSlept || !name.startsWith(prefix)) return
    hasSlept = true
    await meanwhile()
  }
  const seam = (inner: Store): Store => ({
    ...inner,
    put: async (name, body, options) => (operation === 'put' && (await sleep(name)), inner.put(name, body, options)),
    remove: async (name, options) => (operation === 'remove' && (await sleep(name)), inner.remove(name, options)),
  })
  return makeEngine({ seed: 'asleep', beside: engine, seam, ...more })
}

const person = (): Promise<Engine> => makeEngine({ seed: 'person', beside: engine })
const opened = () => openRepository({ store: engine.bucket.store('look'), keys: engine.keys.write.structure })
const state = async () => (await opened()).loadCollection()
const isListed = async (id: string): Promise<boolean> => {
  return (await (await opened()).listSnapshots()).snapshots.some(({ structure }) => structure.ref.random === id)
}

test('an undelete that comes after the list is told that it is too late, and changes nothing', async () => {
  let told: unknown
  let puts = 0
  const collector = await asleepAt('remove', '', async () => {
    const one = await person()
    const before = engine.bucket.names().length
    told = await one.undelete(first).catch((error: unknown) => error)
    puts = engine.bucket.names().length - before
  })
  const report = await collector.prune()
  expect(told).toMatchObject({ code: 'conflict', message: expect.stringContaining('too late') as string })
  expect(puts).toBe(0)
  expect(report.deleted.packs).toBeGreaterThan(0)
  expect(await isListed(first)).toBe(false)
})

test('an undelete that comes before the list is seen by the collection, whenever that wakes', async () => {
  const collector = await asleepAt('put', 'lists/', async () => (await person()).undelete(first))
  const report = await collector.prune()
  expect(report.named.packs).toBeGreaterThan(0)
  expect(report.deleted.packs).toBe(0)
  await restoresTo(engine, tree, first, first)
})

test('an undelete during which the list comes and is carried out says so, and what is gone is forgotten as before', async () => {
  const collector = await makeEngine({ seed: 'collector', beside: engine })
  let report: unknown
  const one = await asleepAt('put', 'lists/', async () => {
    report = await collector.prune()
  })
  await expect(one.undelete(first)).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('1 of 1') as string })
  expect(await isListed(first)).toBe(false)
  expect(engine.bucket.names().some((name) => name.endsWith(first))).toBe(false)
  expect(await checkRepository({ repository: await opened() })).toMatchObject({ damaged: 0, unknown: 0, snapshotsMissing: 0 })
  expect(report).toMatchObject({ deleted: { packs: expect.any(Number) as number } })
})

/** An appliance that deletes nothing has forgotten its first snapshot and condemned what that alone needs, long enough ago. */
async function appliance(): Promise<{ root: Engine; forgotten: string; wanted: Tree; keys: WriteKeys }> {
  const { victim, victims, earlier, stolen } = await makeTheft()
  engine = victim
  const [forgotten] = victims
  await engine.forget(forgotten!)
  await engine.prune({ mayDelete: false })
  engine.clock.advance(20 * DAY)
  return { root: await makeEngine({ seed: 'root', beside: engine }), forgotten: forgotten!, wanted: earlier.get(forgotten!)!, keys: stolen }
}

const takenBackFrom = async (list: string | undefined): Promise<string[]> =>
  (await state()).revivedLists
    .flatMap(({ list: { from } }) => from)
    .filter((one) => one.list.random === list)
    .flatMap(({ packs }) => packs.map(({ random }) => random))

test("an appliance's list names what the server deletes: what is taken back later is taken back from it, and goes with a new list when its time is over again", async () => {
  const { root, forgotten, wanted } = await appliance()
  await engine.prune({ mayDelete: false })
  const [list] = (await state()).deletionLists
  expect(list?.list.names.some(({ random }) => random === forgotten)).toBe(true)
  expect(await root.undelete(forgotten)).toMatchObject({ snapshots: 1, namedForServer: 1 })
  expect(await takenBackFrom(list?.list.ref.random)).toContain(forgotten)
  await restoresTo(root, wanted, forgotten, forgotten)
  engine.clock.advance(DAY)
  await engine.forget(forgotten)
  for (let round = 0; round < 3; round++) {
    await engine.prune({ mayDelete: false })
    engine.clock.advance(20 * DAY)
  }
  const naming = (await state()).deletionLists.filter(({ list: { names } }) => names.some(({ random }) => random === forgotten))
  expect(naming).toHaveLength(2)
})

test("what was taken back while an appliance's list was on its way is taken back from it by the appliance", async () => {
  const { root, forgotten, wanted, keys } = await appliance()
  const same = await asleepAt('put', 'lists/', () => root.undelete(forgotten), { writeKeys: () => keys })
  await same.prune({ mayDelete: false })
  const { deletionLists } = await state()
  expect(deletionLists).toHaveLength(1)
  expect(await takenBackFrom(deletionLists[0]?.list.ref.random)).toContain(forgotten)
  await restoresTo(root, wanted, forgotten, forgotten)
})
