// Four mistakes of collection that whole simulated histories found, each as small as it gets: what is stored or asleep beside a collection is taken for
// what it is, and what was forgotten late can still be taken back.
import { expect, test } from 'vitest'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'
import { listRefs } from '../../../agent/repository/repository.ts'
import { fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

/** A store that does `work` once, right before the first call that `isMoment` picks. */
function interrupted(
  inner: Store,
  isMoment: (call: 'list' | 'read', name: string) => boolean,
  work: () => Promise<void>,
): { store: Store; wasReached: () => boolean } {
  let reached = false
  const before = async (call: 'list' | 'read', name: string): Promise<void> => {
    if (reached || !isMoment(call, name)) return
    reached = true
    await work()
  }
  const store: Store = {
    ...inner,
    get: async (name, ...more) => (await before('read', name), inner.get(name, ...more)),
    getRange: async (name, ...more) => (await before('read', name), inner.getRange(name, ...more)),
    async *list(prefix, ...more) {
      await before('list', prefix)
      yield* inner.list(prefix, ...more)
    },
    close: () => inner.close(),
  }
  return { store, wasReached: () => reached }
}

test('a snapshot that is stored while a collection looks, after it read the index files, is no damage: the collection leaves it to the next one', async () => {
  const writer = await makeEngine({ limits: LIMITS })
  writeFile(writer, '/src/first', fixtureRandom('first').bytes(9000))
  writer.pass()
  await writer.backup()
  let hook: ReturnType<typeof interrupted> | undefined
  const collector = await makeEngine({
    seed: 'collector',
    beside: writer,
    seam: (store) => {
      // The packs are listed after the view was made.
      hook = interrupted(
        store,
        (call, name) => call === 'list' && name === 'packs/',
        async () => {
          writeFile(writer, '/src/second', fixtureRandom('second').bytes(9000))
          await writer.backup()
        },
      )
      return hook.store
    },
  })
  expect(await collector.prune()).toMatchObject({ snapshots: 1, condemned: { packs: 0 } })
  expect(hook?.wasReached()).toBe(true)
  expect(await writer.prune()).toMatchObject({ snapshots: 2 })
  expect(writer.newest()).toEqual(writer.source())
})

test('a pack that was condemned for reuse stays while a snapshot that was forgotten long after it can be taken back', async () => {
  const engine = await makeEngine({ limits: LIMITS })
  const names = [...Array(16).keys()]
  for (const i of names) writeFile(engine, `/src/${i}`, fixtureRandom(`first ${i}`).bytes(1500))
  engine.pass()
  const first = (await engine.backup()).snapshot!.ref.random
  // Of each pack little is left.
  for (const i of names.filter((one) => one % 8 !== 0)) writeFile(engine, `/src/${i}`, fixtureRandom(`second ${i}`).bytes(1500))
  engine.pass()
  const second = (await engine.backup()).snapshot!.ref.random
  const promised = engine.newest()
  await engine.forget(first)
  const { condemned } = await engine.prune()
  expect(condemned.forReuse).toBeGreaterThan(0)
  for (const i of names) writeFile(engine, `/src/${i}`, fixtureRandom(`third ${i}`).bytes(1500))
  engine.pass()
  await engine.backup()
  engine.clock.advance(13 * DAY)
  await engine.forget(second)
  engine.clock.advance(2 * DAY)
  // Condemned for more than the window, and needed by nothing that counts; but not forgotten for so long.
  await engine.prune()
  expect(await engine.undelete(second)).toMatchObject({ snapshots: 1 })
  const reader = engine.reader()
  expect(reader.tree(reader.snapshots.find(({ structure }) => structure.ref.random === second)!)).toEqual(promised)
})

test('a run that sleeps until its own packs are collected stores them again and ends well: the store is not called spoilt', async () => {
  const collector = await makeEngine({ seed: 'collector' })
  let hook: ReturnType<typeof interrupted> | undefined
  const writer = await makeEngine({
    seed: 'writer',
    limits: LIMITS,
    beside: collector,
    seam: (store) => {
      // The first pack that it reads is one that it reads back.
      hook ??= interrupted(
        store,
        (call, name) => call === 'read' && name.startsWith('packs/'),
        async () => {
          collector.clock.advance(8 * DAY)
          await collector.prune()
          collector.clock.advance(15 * DAY)
          expect((await collector.prune()).deleted.packs).toBeGreaterThan(0)
        },
      )
      return hook.store
    },
  })
  for (let i = 0; i < 6; i++) writeFile(writer, `/src/${i}`, fixtureRandom(`slept ${i}`).bytes(3000))
  writer.pass()
  expect(await writer.backup()).toMatchObject({ outcome: 'done', problems: [] })
  expect(hook?.wasReached()).toBe(true)
  expect(writer.newest()).toEqual(writer.source())
})

test('a run that sleeps until a pack is collected that it took over and relies on nothing of ends well, too', async () => {
  const collector = await makeEngine({ seed: 'collector' })
  let sleeps = false
  const writer = await makeEngine({
    seed: 'writer',
    limits: LIMITS,
    beside: collector,
    seam: (store) => ({
      ...store,
      // Before it has stored a pack of its own.
      put: async (name, ...more) => {
        if (sleeps && name.startsWith('packs/')) {
          sleeps = false
          collector.clock.advance(8 * DAY)
          await collector.prune({ windowMs: 2 * DAY })
          collector.clock.advance(3 * DAY)
          expect((await collector.prune({ windowMs: 2 * DAY })).deleted.packs).toBeGreaterThan(0)
        }
        return store.put(name, ...more)
      },
      close: () => store.close(),
    }),
  })
  writeFile(writer, '/src/kept', fixtureRandom('kept').bytes(3000))
  writer.pass()
  await writer.backup()
  writeFile(writer, '/src/passing', fixtureRandom('passing').bytes(9000))
  writer.pass()
  writer.setStoreFaults(({ operation, name }) =>
    operation === 'put' && name.startsWith('snapshots/') ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : [],
  )
  await expect(writer.backup()).rejects.toMatchObject({ code: 'store-refused' })
  writer.setStoreFaults(() => [])
  // Another content, so that nothing of what was uploaded is needed any more.
  writeFile(writer, '/src/passing', fixtureRandom('other').bytes(100))
  writer.pass()
  sleeps = true
  expect(await writer.backup()).toMatchObject({ outcome: 'done', problems: [] })
  expect(sleeps).toBe(false)
  expect(writer.newest()).toEqual(writer.source())
})

test('a list that a listing shows and another collection has deleted by then, on record, is not told of as one that does not open', async () => {
  const first = await makeEngine({ seed: 'first', limits: LIMITS })
  const ids: string[] = []
  for (let run = 0; run < 3; run++) {
    writeFile(first, '/src/file', fixtureRandom(`run ${run}`).bytes(9000))
    first.pass()
    ids.push((await first.backup()).snapshot!.ref.random)
  }
  await first.forget(ids[0]!)
  await first.prune()
  const lists = async (): Promise<ObjectInfo[]> => (await listRefs(first.store(), 'lists/')).map(({ info }) => info)
  let gone: ObjectInfo[] = []
  for (let more = 0; more < 6 && gone.length === 0; more++) {
    const before = await lists()
    first.clock.advance(20 * DAY)
    await first.prune()
    const after = (await lists()).map(({ name }) => name)
    gone = before.filter(({ name }) => !after.includes(name))
  }
  expect(gone.length).toBeGreaterThan(0)
  const second = await makeEngine({
    seed: 'second',
    beside: first,
    seam: (store) => ({
      ...store,
      async *list(prefix, ...more) {
        yield* store.list(prefix, ...more)
        if (prefix === 'lists/') yield gone
      },
      close: () => store.close(),
    }),
  })
  expect((await second.prune({ dryRun: true })).unreadable).toEqual([])
})
