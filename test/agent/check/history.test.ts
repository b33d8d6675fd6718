// A snapshot that is gone without a record of it is damage to a check of any depth and to a repair, named as exactly as anybody can; one that a listing
// does not show for a moment, that was forgotten, or of which the store does not answer, is none.
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { checkRepository, type CheckOptions, type CheckReport } from '../../../agent/check/check.ts'
import { forgetMissing } from '../../../agent/collection/forget.ts'
import { repairRepository, type RepairReport } from '../../../agent/repair/repair.ts'
import { listRefs, openRepository } from '../../../agent/repository/repository.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

/** Backs up `runs` times, each with a file of its own that the others have not. Gives the ids in order. */
async function backedUp(engine: Engine, runs: number): Promise<string[]> {
  const ids: string[] = []
  for (let run = 0; run < runs; run++) {
    writeFile(engine, '/src/file', fixtureRandom(`run ${run}`).bytes(9000))
    engine.pass()
    ids.push((await engine.backup()).snapshot!.ref.random)
  }
  return ids
}

const open = (engine: Engine, store: Store = engine.store()) => openRepository({ store, keys: engine.keys.write.structure })
const check = async (engine: Engine, more: Partial<CheckOptions> = {}, store?: Store): Promise<CheckReport> =>
  checkRepository({ repository: await open(engine, store), ...more })
const repair = async (engine: Engine, store?: Store): Promise<RepairReport> =>
  repairRepository({
    ...{ repository: await open(engine, store), keys: engine.keys.write, read: engine.keys.read, readData: 'all' },
    ...{ dryRun: true, random: engine.random, now: engine.clock.now(), signal: new AbortController().signal },
  })

async function nameOf(engine: Engine, id: string): Promise<string> {
  for await (const page of engine.store().list('snapshots/')) for (const { name } of page) if (name.endsWith(id)) return name
  throw new Error(`no snapshot ${id}`)
}

async function remove(engine: Engine, id: string): Promise<void> {
  await engine.store().remove(await nameOf(engine, id))
}

describe('a snapshot that is gone without a record of it', () => {
  test('is damage to a check of any depth and to a repair, and none once it is on record as lost', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    await remove(engine, ids[1]!)
    for (const more of [{}, { readData: 'all' }, { readData: 'all', content: true, keys: engine.keys.read }] as const) {
      const report = await check(engine, more)
      expect(report).toMatchObject({ damaged: 1, unknown: 0, snapshots: 2, snapshotsMissing: 1, affected: [] })
      expect(report.findings).toMatchObject([{ kind: 'snapshot', verdict: 'damaged', code: 'not-found' }])
      expect(report.findings[0]!.message).toContain(`snapshot 2 of series`)
      expect(report.findings[0]!.message).toContain(`the one before ${ids[2]!.slice(0, 12)}, is gone`)
      expect(report.findings[0]!.message).toContain('holdfast forget --missing')
    }
    expect((await repair(engine)).snapshotsMissing).toMatchObject([{ error: { code: 'not-found' } }])
    const { clock, random, keys } = engine
    expect(await forgetMissing({ repository: await open(engine), keys: keys.write, clock, random }, false)).toBe(1)
    expect(await check(engine)).toMatchObject({ damaged: 0, unknown: 0, snapshotsMissing: 0 })
    expect((await repair(engine)).snapshotsMissing).toEqual([])
  })

  test('is named where a list counted it, the newest of its series too', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    await engine.forget(ids[0]!)
    expect((await engine.prune()).condemned.packs).toBeGreaterThan(0)
    const name = await nameOf(engine, ids[2]!)
    await remove(engine, ids[2]!)
    expect((await check(engine)).findings).toMatchObject([{ object: name, verdict: 'damaged', code: 'not-found' }])
    expect((await repair(engine)).snapshotsMissing).toMatchObject([{ object: name, error: { code: 'not-found' } }])
  })

  /** Two forgotten snapshots whose undelete window is over, and who takes them back while a whole collection runs just before its first list. */
  async function takenBackTooLate(
    isDead: (name: string, done: boolean) => boolean,
  ): Promise<{ collector: Engine; ids: string[]; late: Promise<unknown> }> {
    const collector = await makeEngine({ seed: 'collector', limits: LIMITS })
    const ids = await backedUp(collector, 3)
    await collector.forget(ids[0]!, ids[1]!)
    await collector.prune()
    collector.clock.advance(15 * DAY)
    let done = false
    const asker = await makeEngine({
      seed: 'asker',
      beside: collector,
      seam: (store) => ({
        ...store,
        head: async (name, ...more) => {
          if (isDead(name, done)) throw new HoldfastError('store-unreachable', 'no route to the store')
          return store.head(name, ...more)
        },
        put: async (name, ...more) => {
          if (!done && name.startsWith('lists/')) {
            done = true
            await collector.prune()
          }
          return store.put(name, ...more)
        },
        close: () => store.close(),
      }),
    })
    return { collector, ids, late: asker.undelete(ids[0]!, ids[1]!) }
  }

  test('is each one that a whole collection deleted while it was taken back by who then lost the store', async () => {
    const { collector, ids, late } = await takenBackTooLate((name, done) => done && name.startsWith('snapshots/'))
    await expect(late).rejects.toMatchObject({ code: 'store-unreachable' })
    const report = await check(collector)
    expect(report.findings.filter(({ kind }) => kind === 'snapshot').map(({ object }) => object.slice(-32))).toEqual(
      expect.arrayContaining([ids[0]!, ids[1]!]),
    )
    expect(report.snapshotsMissing).toBeGreaterThanOrEqual(2)
  })

  test('is none that a whole collection deleted while it was taken back: that was too late, and it is forgotten again', async () => {
    const { collector, late } = await takenBackTooLate(() => false)
    await expect(late).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('2 of 2 snapshots were deleted') })
    expect(await check(collector)).toMatchObject({ damaged: 0, unknown: 0, snapshots: 1, snapshotsMissing: 0, findings: [] })
  })
})

describe('no damage is', () => {
  test('a snapshot that one listing does not show', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    for (const look of [check, repair] as const) {
      let listings = 0
      const inner = engine.store()
      const store: Store = {
        ...inner,
        async *list(prefix, ...more) {
          const isShort = prefix === 'snapshots/' && (listings += 1) === 1
          for await (const page of inner.list(prefix, ...more)) yield isShort ? page.filter(({ name }) => !name.endsWith(ids[1]!)) : page
        },
        close: () => inner.close(),
      }
      const report = await (look === check ? check(engine, {}, store) : repair(engine, store))
      expect(listings).toBeGreaterThan(1)
      if ('findings' in report) expect(report).toMatchObject({ damaged: 0, unknown: 0, findings: [] })
      else expect(report.snapshotsMissing).toEqual([])
    }
  })

  test('one that no listing shows and that is there under the name that a list counts', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    await engine.forget(ids[0]!)
    await engine.prune()
    const inner = engine.store()
    const store: Store = {
      ...inner,
      async *list(prefix, ...more) {
        for await (const page of inner.list(prefix, ...more)) yield page.filter(({ name }) => !name.endsWith(ids[1]!))
      },
      close: () => inner.close(),
    }
    expect(await check(engine, {}, store)).toMatchObject({ damaged: 0, snapshotsMissing: 0 })
  })

  test('one that was forgotten and deleted', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    await engine.forget(ids[1]!)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    expect((await engine.prune()).deleted.objects).toBeGreaterThan(0)
    expect(await check(engine, { readData: 'all' })).toMatchObject({ damaged: 0, unknown: 0, snapshots: 2, sessionsGone: 0 })
  })

  test('a look that the store does not answer: it could not be told then', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 3)
    const inner = engine.store()
    const name = await nameOf(engine, ids[1]!)
    const store: Store = {
      ...inner,
      get: async (asked, ...more) => {
        if (asked === name) throw new HoldfastError('store-unreachable', 'no route to the store')
        return inner.get(asked, ...more)
      },
      close: () => inner.close(),
    }
    const report = await check(engine, {}, store)
    expect(report).toMatchObject({ damaged: 0, snapshotsMissing: 0 })
    expect(report.unknown).toBeGreaterThan(0)
  })
})

describe('packs that a collection deleted on record', () => {
  test('are nothing to a repair, though index files name them; one that somebody else removed is', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const ids = await backedUp(engine, 4)
    await engine.forget(ids[0]!)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    expect((await engine.prune()).deleted.packs).toBeGreaterThan(0)
    // An index file goes on naming what is gone until a collection has written it anew and a day has passed.
    const { view } = await (await open(engine)).loadView()
    const there = new Set((await listRefs(engine.store(), 'packs/')).map(({ random }) => random))
    expect([...view.packs()].some(({ random }) => !there.has(random))).toBe(true)
    expect(await repair(engine)).toMatchObject({ notes: [], replaced: 0, segmentsWrittenOff: 0, losses: { lost: 0 } })

    const pack = [...view.packs()].find(({ random }) => there.has(random))!
    await engine.store().remove(packName(pack))
    expect((await repair(engine)).notes.map(({ object }) => object)).toContain(packName(pack))
  })
})
