// A run whose machine is suspended for weeks with its clocks, while others collect: lists that condemned what it relies on may have come and gone
// meanwhile. By the store's clock it sees how long it took, and begins anew instead of reporting good what does not restore.
import { describe, expect, test } from 'vitest'
import { checkRepository } from '../../../agent/check/check.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { type SimulatedClock, simulatedClock } from '../../_support/simulated-clock.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

type Moment = 'before' | 'after'
type Two = { server: Engine; engine: Engine; storeClock: SimulatedClock; arm: () => void; wasReached: () => boolean }

function fill(engine: Engine, text: string): void {
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`${text} ${i}`).bytes(3000))
  engine.pass()
}

/**
 * An appliance with a clock of its own, and a collector with the store's clock, which goes on with every call of the appliance. Once armed, `work` is
 * done once, right before or after the call that `isMoment` picks.
 */
async function two(
  isMoment: (call: 'put' | 'list', name: string, made: number) => boolean,
  when: Moment,
  work: (server: Engine, storeClock: SimulatedClock, own: SimulatedClock) => Promise<void>,
): Promise<Two> {
  const storeClock = simulatedClock({ autoMs: Infinity })
  const own = simulatedClock({ autoMs: Infinity })
  const server = await makeEngine({ seed: 'collector', clock: storeClock, storeClock, limits: LIMITS })
  let state: 'off' | 'armed' | 'reached' = 'off'
  const calls = new Map<string, number>()
  const at = async (moment: Moment, call: 'put' | 'list', name: string): Promise<void> => {
    if (state !== 'armed') return
    const key = `${call} ${name.slice(0, name.indexOf('/') + 1)}`
    if (moment === 'before') calls.set(key, (calls.get(key) ?? 0) + 1)
    if (moment !== when || !isMoment(call, name, calls.get(key)!)) return
    state = 'reached'
    await work(server, storeClock, own)
  }
  const engine = await makeEngine({
    seed: 'appliance',
    beside: server,
    clock: own,
    limits: LIMITS,
    seam: (inner: Store): Store => ({
      ...inner,
      put: async (name, ...more) => {
        await at('before', 'put', name)
        const put = await inner.put(name, ...more)
        await at('after', 'put', name)
        return put
      },
      async *list(prefix, ...more) {
        await at('before', 'list', prefix)
        yield* inner.list(prefix, ...more)
        await at('after', 'list', prefix)
      },
    }),
  })
  fill(engine, 'first')
  storeClock.advance(20_000)
  await engine.backup()
  fill(engine, 'second')
  storeClock.advance(20_000)
  return { server, engine, storeClock, arm: () => void (state = 'armed'), wasReached: () => state === 'reached' }
}

const collectFor =
  (days: number) =>
  async (server: Engine, storeClock: SimulatedClock): Promise<void> => {
    for (let day = 0; day < days; day++) {
      storeClock.advance(DAY)
      await server.prune()
    }
  }

async function checked({ server }: Two) {
  const repository = await openRepository({ store: server.store(), keys: server.keys.write.structure })
  return checkRepository({ repository, readData: 'all' })
}

const MOMENTS: readonly (readonly [string, Moment, Parameters<typeof two>[0]])[] = [
  ['after its first look at the lists', 'before', (call, name) => call === 'list' && name === 'snapshots/'],
  ['before its index file is stored', 'before', (call, name) => call === 'put' && name.startsWith('index/')],
  ['before its snapshot is stored', 'before', (call, name) => call === 'put' && name.startsWith('snapshots/')],
  ['before its last look at the lists', 'before', (call, name, made) => call === 'list' && name === 'lists/' && made === 3],
  ['after its last look at the lists', 'after', (call, name, made) => call === 'list' && name === 'lists/' && made === 3],
]

describe('a run that is suspended', () => {
  test.each(MOMENTS)(
    '%s, for weeks, while others collect, restores where it ends well, and nothing is damaged',
    async (_, when, isMoment) => {
      for (const days of [45, 70]) {
        const given = await two(isMoment, when, collectFor(days))
        const { engine, server } = given
        given.arm()
        const run = await engine.backup()
        expect(given.wasReached()).toBe(true)
        expect(run.notices.filter((text) => text.includes('begins anew'))).toHaveLength(when === 'before' ? 1 : 0)
        await restoresTo(server, engine.source(), `suspended for ${days} days`, run.snapshot!.ref.random)
        expect(await checked(given)).toMatchObject({ damaged: 0, unknown: 0, affected: [] })
      }
    },
  )

  test('until its packs are collected leaves an index file that names them: nothing is read anew for that, and a collection writes it anew', async () => {
    const given = await two(MOMENTS[1]![2], 'before', collectFor(70))
    const { engine, server, storeClock } = given
    given.arm()
    await engine.backup()
    expect((await checked(given)).deletedPacks).toBeGreaterThan(0)
    engine.pass()
    const next = await engine.backup()
    expect(next.summary).toMatchObject({ bytesRead: 0, filesUnchanged: 6, packs: 0 })
    expect(next.notices).toEqual([expect.stringMatching(/the last snapshot needs none of them/)])
    storeClock.advance(DAY)
    await server.prune()
    expect(await checked(given)).toMatchObject({ damaged: 0, deletedPacks: 0, affected: [] })
    expect((await engine.backup()).notices).toEqual([])
  })

  test('and lost a pack that an earlier snapshot needs is no excuse: the loss is told, and what the source has is stored again', async () => {
    const given = await two(MOMENTS[1]![2], 'before', collectFor(70))
    const { engine, server } = given
    given.arm()
    await engine.backup()
    const needed = new Set(server.bucket.names('packs/'))
    for (const name of needed) server.bucket.tamper(name, () => undefined)
    const report = await checked(given)
    expect(report.affected.length).toBeGreaterThan(0)
    expect(report.damaged).toBeGreaterThan(needed.size)
    engine.pass()
    const next = await engine.backup()
    expect(next.notices).toContainEqual(expect.stringMatching(/stored again where the source still has it/))
    await restoresTo(server, engine.source(), 'after a loss', next.snapshot!.ref.random)
  })

  test('for two weeks and a half is reported good by what it saw: no list can have come and gone', async () => {
    const given = await two(MOMENTS[2]![2], 'before', collectFor(18))
    given.arm()
    const run = await given.engine.backup()
    await restoresTo(given.server, given.engine.source(), 'suspended for 18 days', run.snapshot!.ref.random)
  })
})

describe('where the clock of the store jumps', () => {
  test('by ten years and stays there, a run begins anew once, and is good', async () => {
    const jump = async (_: Engine, storeClock: SimulatedClock): Promise<void> => storeClock.stepWallClock(3650 * DAY)
    const given = await two(MOMENTS[2]![2], 'before', jump)
    given.arm()
    const run = await given.engine.backup()
    expect(run).toMatchObject({ outcome: 'done' })
    expect(run.notices).toHaveLength(1)
    await restoresTo(given.server, given.engine.source(), 'after a jump', run.snapshot!.ref.random)
  })

  test('in every attempt of a run, it ends with an error and no snapshot that counts, and the next run is good', async () => {
    const storeClock = simulatedClock({ autoMs: Infinity })
    let jumps = true
    const engine = await makeEngine({
      clock: simulatedClock({ autoMs: Infinity }),
      storeClock,
      limits: LIMITS,
      seam: (inner) => ({
        ...inner,
        put: async (name, ...more) => {
          if (jumps && name.startsWith('snapshots/')) storeClock.stepWallClock(400 * DAY)
          return inner.put(name, ...more)
        },
      }),
    })
    fill(engine, 'first')
    await expect(engine.backup()).rejects.toThrow(/3 times over.*no snapshot was made/)
    jumps = false
    expect(await engine.backup()).toMatchObject({ outcome: 'done', notices: [] })
    expect(engine.newest()).toEqual(engine.source())
    expect(engine.reader().snapshots).toHaveLength(1)
  })
})
