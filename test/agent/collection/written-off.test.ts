// Collection lists and forget records that go bad where they lie: nothing that they may have taken back is lost by it, each is told, and the root writes
// it off (design section 7).
import { describe, expect, test } from 'vitest'
import { objectName } from '@holdfast/shared/format/layout.ts'
import { checkRepository, type CheckReport } from '../../../agent/check/check.ts'
import { writeOff } from '../../../agent/collection/forget.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import { encodeForgetRecord } from '../../../agent/repository/forget-record.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { makeTheft } from '../../hostile/_support/theft.ts'

const DAY = 86_400_000
const FORGETS_PREFIX = 'lists/forgets/'

const repositoryOf = (engine: Engine): Promise<Repository> =>
  openRepository({ store: engine.bucket.store('looker'), keys: engine.keys.write.structure })
const check = async (engine: Engine): Promise<CheckReport> => checkRepository({ repository: await repositoryOf(engine), readData: 'all' })
const isThere = (engine: Engine, id: string): boolean => engine.bucket.names('snapshots/').some((name) => name.endsWith(id))
const names = (engine: Engine): string[] => engine.bucket.names('lists/')

/** Two snapshots that share nothing, by their ids. */
async function world(): Promise<{ engine: Engine; first: string }> {
  const engine = await makeEngine({ limits: { packBytes: 6000, uploadsAtOnce: 2 } })
  const made: string[] = []
  for (let i = 0; i < 2; i++) {
    writeFile(engine, '/src/a', fixtureRandom(`content ${i}`).bytes(9000))
    engine.pass()
    made.push((await engine.backup()).snapshot!.ref.random)
  }
  return { engine, first: made[0]! }
}

/** Spoils what `act` adds below `prefix`, and gives the names. */
async function spoilNew(engine: Engine, prefix: string, act: () => Promise<unknown>): Promise<string[]> {
  const before = new Set(engine.bucket.names(prefix))
  await act()
  const added = engine.bucket.names(prefix).filter((name) => !before.has(name))
  for (const name of added) engine.bucket.tamper(name, (bytes) => bytes.subarray(0, 50))
  return added
}

async function writeOffAll(engine: Engine, keys = engine.keys.write): Promise<void> {
  const repository = await repositoryOf(engine)
  for (const refused of (await repository.loadCollection()).refused)
    await writeOff({ repository, keys, clock: engine.clock, random: engine.random }, refused)
}

describe('a forget record that goes bad', () => {
  test('and took a snapshot back keeps that, with all that it needs, however often a collection runs', async () => {
    const { engine, first } = await world()
    await engine.forget(first)
    const [bad] = await spoilNew(engine, FORGETS_PREFIX, () => engine.undelete(first))
    for (let day = 0; day < 60; day += 10) {
      expect(await engine.prune()).toMatchObject({ heldForgotten: 1, heldBy: 'unread', unreadable: [{ name: bad }], deleted: { packs: 0 } })
      engine.clock.advance(10 * DAY)
    }
    expect(await check(engine)).toMatchObject({ damaged: 1, findings: [{ object: bad, kind: 'list' }] })
    expect(await engine.undelete(first)).toMatchObject({ snapshots: 1 })
    expect(await check(engine)).toMatchObject({ snapshots: 2, damaged: 1, lostBlobs: 0 })
  })

  test('stands in the way until the root writes it off: then what is forgotten goes, and a month later what was written off', async () => {
    const { engine, first } = await world()
    const [bad] = await spoilNew(engine, FORGETS_PREFIX, async () => {
      await engine.forget(first)
      await engine.undelete(first)
    })
    await engine.forget(first)
    await writeOffAll(engine)
    expect(await check(engine)).toMatchObject({ damaged: 0, unknown: 0, writtenOff: 2 })
    for (let day = 0; day < 28; day += 7) {
      expect(await engine.prune()).toMatchObject({ heldForgotten: 0, unreadable: [] })
      engine.clock.advance(7 * DAY)
    }
    expect(isThere(engine, first)).toBe(false)
    expect(names(engine)).toContain(bad)
    engine.clock.advance(7 * DAY)
    await engine.prune()
    expect(names(engine)).not.toContain(bad)
    expect(await check(engine)).toMatchObject({ snapshots: 1, damaged: 0, unknown: 0, writtenOff: 0 })
  })

  test('and forgot a snapshot makes it count again once it is written off', async () => {
    const { engine, first } = await world()
    await spoilNew(engine, FORGETS_PREFIX, () => engine.forget(first))
    await writeOffAll(engine)
    expect(await check(engine)).toMatchObject({ snapshots: 2, forgotten: 0, damaged: 0 })
  })

  test('stays written off when records become one, while the store holds it', async () => {
    const { engine, first } = await world()
    const [bad] = await spoilNew(engine, FORGETS_PREFIX, () => engine.forget(first))
    engine.bucket.hold(bad!, engine.clock.now() + 200 * DAY)
    await writeOffAll(engine)
    const made: string[] = []
    for (let i = 0; i < 20; i++) {
      writeFile(engine, '/src/a', fixtureRandom(`more ${i}`).bytes(100))
      engine.pass()
      made.push((await engine.backup()).snapshot!.ref.random)
    }
    for (const id of made.slice(0, 18)) await engine.forget(id)
    for (const days of [1, 31, 31]) {
      engine.clock.advance(days * DAY)
      await engine.prune()
    }
    expect(names(engine).filter((name) => name.startsWith(FORGETS_PREFIX))).toHaveLength(3)
    expect(await check(engine)).toMatchObject({ damaged: 0, writtenOff: 1 })
  })
})

describe('a list that goes bad', () => {
  test.each([
    ['condemned packs', async (engine: Engine, first: string) => void (await engine.forget(first), await engine.prune())],
    [
      'took packs back',
      async (engine: Engine, first: string) => void (await engine.forget(first), await engine.prune(), await engine.undelete(first)),
    ],
  ])('and %s is told until the root writes it off, nothing that counts is lost, and it goes a month later', async (_, act) => {
    const { engine, first } = await world()
    const bad = await spoilNew(engine, 'lists/', () => act(engine, first))
    expect((await check(engine)).damaged).toBe(bad.length)
    await writeOffAll(engine)
    expect(await check(engine)).toMatchObject({ damaged: 0, unknown: 0, writtenOff: bad.length })
    engine.clock.advance(31 * DAY)
    await engine.prune()
    expect(names(engine).filter((name) => bad.includes(name))).toEqual([])
    for (const days of [15, 31]) {
      engine.clock.advance(days * DAY)
      await engine.prune()
    }
    expect(await check(engine)).toMatchObject({ snapshots: 2, damaged: 0, unknown: 0, writtenOff: 0 })
  })
})

test('only the root writes something off', async () => {
  const { victim, victims, stolen } = await makeTheft()
  await spoilNew(victim, FORGETS_PREFIX, () => victim.forget(victims[0]!))
  expect(await codeOf(writeOffAll(victim, stolen))).toBe('forbidden')
  expect((await check(victim)).findings.filter(({ kind }) => kind === 'list')).toHaveLength(1)
})

test('a session and a roster that go bad are told until the root writes them off', async () => {
  const { victim } = await makeTheft()
  const root = await makeEngine({ seed: 'root', beside: victim })
  const rosters = victim.bucket.names('rosters/').length
  await victim.bucket.store('controller').put(`rosters/${'0'.repeat(32)}-${'a'.repeat(32)}`, { kind: 'bytes', bytes: Buffer.alloc(300) })
  for (const prefix of ['sessions/', 'rosters/']) {
    const name = victim.bucket.names(prefix)[prefix === 'rosters/' ? rosters : 0]
    victim.bucket.tamper(name!, (bytes) => bytes.subarray(0, 60))
    expect((await check(victim)).findings).toContainEqual(expect.objectContaining({ object: name, verdict: 'damaged' }))
    const [session, random] = name!.slice(prefix.length).split('-')
    const unopened = { kind: prefix === 'sessions/' ? ('session' as const) : ('roster' as const), name: name! }
    const ref = { session: session!, random: random ?? '0'.repeat(32) }
    await writeOff(
      { repository: await repositoryOf(root), keys: root.keys.write, clock: root.clock, random: root.random },
      { ...unopened, ref },
    )
    expect((await check(victim)).findings.filter(({ object }) => object === name)).toEqual([])
  }
  expect((await check(victim)).writtenOff).toBe(2)
  // However many records of the root become one.
  const { snapshots } = await (await repositoryOf(root)).listSnapshots()
  for (let i = 0; i < 20; i++) {
    await root.forget(snapshots[0]!.structure.ref.random)
    await root.undelete(snapshots[0]!.structure.ref.random)
  }
  for (let i = 0; i < 3; i++) {
    root.clock.advance(31 * DAY)
    await root.prune()
  }
  expect(await check(victim)).toMatchObject({ damaged: 0, writtenOff: 2 })
})

test('a record of a writer who does not count holds nothing back', async () => {
  const { engine, first } = await world()
  const nobody = agentWriter(fixtureRandom('nobody').bytes(32), Buffer.alloc(16, 9))
  const ref = { session: 'a'.repeat(32), random: 'b'.repeat(32) }
  const bytes = encodeForgetRecord({ ref, madeAt: 1, replaces: [], entries: [], undone: [] }, engine.keys.write.structure, nobody)
  await engine.bucket.store('somebody').put(objectName('forget', ref), { kind: 'bytes', bytes })
  await engine.forget(first)
  for (let day = 0; day < 30; day += 15) {
    expect(await engine.prune()).toMatchObject({ heldForgotten: 0, unreadable: [{ isForeign: true }] })
    engine.clock.advance(15 * DAY)
  }
  expect(isThere(engine, first)).toBe(false)
})

test('a list or record of a later format stops whoever writes and nobody who reads, until the root writes it off', async () => {
  for (const prefix of ['lists/', FORGETS_PREFIX]) {
    const { engine, first } = await world()
    const before = new Set(names(engine))
    await engine.forget(first)
    await engine.prune()
    const name = names(engine).find((one) => !before.has(one) && one.startsWith(FORGETS_PREFIX) === (prefix === FORGETS_PREFIX))!
    engine.bucket.tamper(name, (bytes) => (bytes.writeUInt8(2, 8), bytes))
    const told = { object: name, kind: 'list', verdict: 'unknown', code: 'newer-format' }
    expect((await check(engine)).findings).toMatchObject([told])
    const { snapshots, forgotten } = await (await repositoryOf(engine)).listSnapshots()
    expect([...snapshots, ...forgotten]).toHaveLength(2)
    for (const writes of [() => engine.backup(), () => engine.prune(), () => engine.undelete(first)])
      expect([prefix, await codeOf(writes())]).toEqual([prefix, 'newer-format'])
    await writeOffAll(engine)
    for (const writes of [() => engine.backup(), () => engine.prune()])
      expect([prefix, await codeOf(writes())]).toEqual([prefix, 'no error'])
    expect(await check(engine)).toMatchObject({ damaged: 0, unknown: 0, writtenOff: 1 })
  }
})
