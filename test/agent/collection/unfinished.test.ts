// Snapshots that a collection overtook before their runs could report them good: they are no damage, count no longer once that is on record, and stop no
// collection, however late. A good snapshot that lacks something is damaged whatever was condemned since.
import { describe, expect, test } from 'vitest'
import { packName } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { checkRepository, type CheckOptions, type CheckReport } from '../../../agent/check/check.ts'
import { chooseByRules, listSeries } from '../../../agent/collection/forget.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import { repairRepository, type RepairReport } from '../../../agent/repair/repair.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { encodeRoster } from '../backup/roster-object.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { SimulatedCrash } from '../../_support/simulated-store.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

/** A machine whose run sleeps before it stores its snapshot, while `others` goes on, and dies right after. */
async function overtaken(others: (engine: Engine) => Promise<void>, writers: 'root' | 'agents', isFirst = true) {
  const [mine, theirs] = [1, 2].map((n) => agentWriter(fixtureRandom(`writer ${n}`).bytes(32), Buffer.alloc(16, n)))
  const writing = (writer: typeof mine) =>
    writers === 'root' ? {} : { writeKeys: (keys: Engine['keys']) => ({ ...keys.write, writer: writer! }) }
  const collector = await makeEngine({ seed: 'collector', limits: LIMITS, ...writing(theirs) })
  await collector.bucket.store().put(...encodeRoster(collector.keys, [mine!, theirs!], collector.clock.now()))
  let dead = false
  let isDue = isFirst
  const sleeper = await makeEngine({
    seed: 'sleeper',
    limits: LIMITS,
    beside: collector,
    ...writing(mine),
    seam: (store): Store => ({
      ...store,
      get: async (...given) => {
        if (dead) throw new SimulatedCrash('the machine died')
        return store.get(...given)
      },
      async *list(...given) {
        if (dead) throw new SimulatedCrash('the machine died')
        yield* store.list(...given)
      },
      put: async (name, ...given) => {
        if (isDue && name.startsWith('snapshots/')) await others(collector)
        const put = await store.put(name, ...given)
        if (isDue && name.startsWith('snapshots/')) dead = true
        return put
      },
    }),
  })
  if (!isDue) {
    writeFile(sleeper, '/src/before', fixtureRandom('before').bytes(3000))
    sleeper.pass()
    await sleeper.backup()
  }
  isDue = true
  for (let i = 0; i < 4; i++) writeFile(sleeper, `/src/${i}`, fixtureRandom(`slept over ${i}`).bytes(3000))
  sleeper.pass()
  await expect(sleeper.backup()).rejects.toThrow(SimulatedCrash)
  return { collector, sleeper }
}

/** Until the packs of a run that is silent are condemned and gone. */
async function collectFor(engine: Engine): Promise<void> {
  for (const days of [8, 15, 1]) {
    await engine.prune()
    engine.clock.advance(days * DAY)
  }
  await engine.prune()
}

async function checked(engine: Engine, more: Partial<CheckOptions> = {}): Promise<CheckReport> {
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  return checkRepository({ repository, ...more })
}

async function repaired({ store, keys, random, clock }: Engine): Promise<RepairReport> {
  const repository = await openRepository({ store: store(), keys: keys.write.structure })
  const { signal } = new AbortController()
  return repairRepository({
    ...{ repository, keys: keys.write, read: keys.read, readData: 'all', dryRun: false, random, now: clock.now(), signal },
  })
}

describe('a snapshot that was overtaken before its run could report it good', () => {
  test('is no damage, is given up on record by the next collection of one who may, and stops none', async () => {
    const { collector } = await overtaken(collectFor, 'root')
    expect(await checked(collector)).toMatchObject({ damaged: 0, unknown: 0, unfinished: 1 })
    expect(await collector.prune()).toMatchObject({ givenUp: 1, snapshots: 1 })
    expect(await collector.prune()).toMatchObject({ givenUp: 0, snapshots: 0, forgotten: 1 })
    for (let months = 0; months < 4; months++) {
      collector.clock.advance(40 * DAY)
      await collector.prune()
    }
    expect(collector.bucket.names('snapshots/')).toEqual([])
    expect(await checked(collector)).toMatchObject({ damaged: 0, unknown: 0 })
  })

  test('is no damage either to a check that opens content, and to a repair', async () => {
    const { collector } = await overtaken(collectFor, 'root')
    expect(await checked(collector, { content: true, keys: collector.keys.read })).toMatchObject({ damaged: 0, unknown: 0, unfinished: 1 })
    expect((await repaired(collector)).losses).toMatchObject({ lost: 0, unsure: 0, snapshots: [], paths: [], unfinished: [{}] })
    expect(await checked(collector)).toMatchObject({ damaged: 0, unknown: 0, unfinished: 1 })
  })

  test('takes the place of no good one where rules choose what stays', async () => {
    const { collector } = await overtaken(collectFor, 'root', false)
    expect(await checked(collector)).toMatchObject({ damaged: 0, unfinished: 1, snapshots: 2 })
    const repository = await openRepository({ store: collector.store(), keys: collector.keys.write.structure })
    const [choice] = chooseByRules(await listSeries(repository), { last: 1 }, collector.clock.now())
    expect(choice!.forgotten).toEqual([])
    expect([...choice!.kept.values()]).toEqual([['newest', 'last'], ['doubtful']])
  })

  test('adds nothing to what good ones lack, each blob and path of which is counted once', async () => {
    const { collector } = await overtaken(collectFor, 'root')
    collector.bucket.trace.length = 0
    writeFile(collector, '/src/good', fixtureRandom('good').bytes(7000))
    collector.pass()
    await collector.backup()
    // The one that was full first has its chunks.
    const data = collector.bucket.trace.find(({ operation, name }) => operation === 'put' && name.startsWith('packs/'))
    for (const name of ['one', 'two']) {
      writeFile(collector, `/src/${name}`, name)
      collector.pass()
      await collector.backup()
    }
    expect(await checked(collector)).toMatchObject({ damaged: 0, unfinished: 1 })
    collector.bucket.tamper(data!.name, () => undefined)
    const { lostBlobs, affected, paths, unfinished } = await checked(collector, { keys: collector.keys.read })
    expect(unfinished).toBe(1)
    const good = affected.map(({ snapshot }) => snapshot.structure.ref.random)
    expect(affected.map(({ lostNodes }) => lostNodes)).toEqual([0, 0, 0])
    expect(affected.map(({ lostChunks }) => lostChunks)).toEqual([lostBlobs, lostBlobs, lostBlobs])
    expect(paths.map(({ path, snapshots }) => [path.toString(), snapshots])).toEqual([['/src/good', good]])
  })

  test('stays explained where only others collect, who may not speak of it', async () => {
    const { collector } = await overtaken(collectFor, 'agents')
    writeFile(collector, '/src/more', fixtureRandom('more').bytes(3000))
    for (let months = 0; months < 4; months++) {
      collector.pass()
      await collector.backup()
      expect(await collector.prune()).toMatchObject({ givenUp: 0 })
      collector.clock.advance(40 * DAY)
    }
    expect(await checked(collector)).toMatchObject({ damaged: 0, unknown: 0, unfinished: 1 })
  })
})

test('a good snapshot that lacks a pack which was condemned since is damaged, not unfinished', async () => {
  const engine = await makeEngine({ limits: LIMITS })
  for (let i = 0; i < 8; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`first ${i}`).bytes(1500))
  engine.pass()
  const first = (await engine.backup()).snapshot!.ref.random
  for (const i of [0, 1, 2, 4, 5, 6]) writeFile(engine, `/src/${i}`, fixtureRandom(`later ${i}`).bytes(1500))
  engine.pass()
  await engine.backup()
  await engine.forget(first)
  const report = await engine.prune({ moveBytesMax: 0 })
  expect(report.condemned.forReuse).toBeGreaterThan(0)
  expect(await checked(engine)).toMatchObject({ damaged: 0, unknown: 0 })
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  const { condemned } = await repository.loadCollection()
  for (const { pack, why } of condemned.values()) if (why === 'reuse') await engine.bucket.store().remove(packName(pack))
  const after = await checked(engine)
  expect(after.unfinished).toBe(0)
  expect(after.damaged).toBeGreaterThan(0)
})

test('a good snapshot of which one pack was condemned while it was stored and the other is lost stays damaged, whatever a repair and collections do to index files', async () => {
  const first = await makeEngine({ seed: 'first' })
  let meanwhile: () => Promise<unknown> = async () => undefined
  const second = await makeEngine({
    seed: 'second',
    beside: first,
    seam: (store): Store => ({
      ...store,
      put: async (name, ...given) => {
        if (name.startsWith('packs/') || name.startsWith('snapshots/')) await meanwhile()
        return store.put(name, ...given)
      },
    }),
  })
  for (const engine of [first, second]) writeFile(engine, '/src/file', fixtureRandom('twice').bytes(3000))
  first.pass()
  // Both store the same at the same time.
  meanwhile = () => first.backup()
  await second.backup()
  meanwhile = async () => undefined
  // One of the two packs is condemned while a run that stores nothing is at work: what it needs stands in the other, so it is good.
  second.pass()
  meanwhile = () => first.prune()
  const good = (await second.backup()).snapshot!.ref.random
  meanwhile = async () => undefined
  first.clock.advance(15 * DAY)
  expect(await first.prune()).toMatchObject({ deleted: { packs: 1 } })
  expect(await checked(first)).toMatchObject({ damaged: 0, unfinished: 0 })
  const [pack] = first.bucket.names('packs/')
  first.bucket.tamper(pack!, () => undefined)
  await repaired(first)
  const isLost = async (): Promise<boolean> =>
    (await checked(first)).affected.some(({ snapshot }) => snapshot.structure.ref.random === good)
  expect(await isLost()).toBe(true)
  for (let months = 0; months < 3; months++) {
    first.clock.advance(40 * DAY)
    expect(await first.prune({ acceptDamage: true })).toMatchObject({ givenUp: 0 })
    expect(await isLost()).toBe(true)
  }
})

test('a run that stores nothing and slept for days holds its tree against what it sees condemned then, before its snapshot says that it saw it', async () => {
  const engine = await makeEngine({ seed: 'awake' })
  let meanwhile = async (): Promise<void> => undefined
  let [sleeping, dead] = [false, false]
  const sleeper = await makeEngine({
    seed: 'sleeper',
    beside: engine,
    seam: (store): Store => ({
      ...store,
      async *list(...given) {
        if (dead) throw new SimulatedCrash('the machine died')
        yield* store.list(...given)
      },
      put: async (name, ...given) => {
        const put = await store.put(name, ...given)
        if (name.startsWith('sessions/')) await meanwhile()
        dead ||= sleeping && name.startsWith('snapshots/')
        return put
      },
    }),
  })
  writeFile(sleeper, '/src/file', fixtureRandom('slept over').bytes(3000))
  sleeper.pass()
  const first = (await sleeper.backup()).snapshot!.ref.random
  sleeper.pass()
  sleeping = true
  meanwhile = async () => {
    meanwhile = async () => undefined
    await engine.forget(first)
    await engine.prune({ windowMs: DAY })
    engine.clock.advance(8 * DAY)
    expect(await engine.prune({ windowMs: DAY })).toMatchObject({ deleted: { packs: 1 } })
  }
  await expect(sleeper.backup()).rejects.toThrow(SimulatedCrash)
  expect(await checked(engine)).toMatchObject({ damaged: 0, unknown: 0, snapshots: 1 })
})
