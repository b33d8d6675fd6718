// Collection on a simulated bucket: what is forgotten goes when the window is over and not before, what is needed never does, and backups beside it
// neither wait nor lose anything (design section 7; obligations O10, O17, O18).
import { describe, expect, test } from 'vitest'
import { checkRepository, type CheckReport } from '../../../agent/check/check.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

async function twoSnapshots(): Promise<{ engine: Engine; first: string; second: string }> {
  const engine = await makeEngine({ limits: LIMITS })
  for (let i = 0; i < 8; i++) writeFile(engine, `/src/kept-${i}`, fixtureRandom(`kept ${i}`).bytes(4000))
  for (let i = 0; i < 8; i++) writeFile(engine, `/src/old/${i}`, fixtureRandom(`old ${i}`).bytes(4000))
  engine.pass()
  const first = (await engine.backup()).snapshot!.ref.random
  for (let i = 0; i < 8; i++) writeFile(engine, `/src/old/${i}`, fixtureRandom(`new ${i}`).bytes(4000))
  engine.pass()
  const second = (await engine.backup()).snapshot!.ref.random
  return { engine, first, second }
}

const packs = (engine: Engine): number => engine.bucket.names('packs/').length

describe('what is forgotten', () => {
  test('no longer counts at once, stays for the undelete window, and is deleted after it with all that it alone needed', async () => {
    const { engine, first } = await twoSnapshots()
    const before = packs(engine)
    await engine.forget(first)
    expect(engine.reader().snapshots.map(({ structure }) => structure.ref.random)).not.toContain(first)
    const condemned = await engine.prune()
    expect(condemned).toMatchObject({ snapshots: 1, forgotten: 1, deleted: { objects: 0 } })
    expect(condemned.condemned.packs).toBeGreaterThan(0)
    expect(packs(engine)).toBeGreaterThanOrEqual(before)
    engine.clock.advance(13 * DAY)
    expect((await engine.prune()).deleted.packs).toBe(0)
    engine.clock.advance(1.1 * DAY)
    const report = await engine.prune()
    expect(report.deleted.packs).toBeGreaterThan(0)
    expect(report.deleted.locked).toEqual([])
    expect(packs(engine)).toBeLessThan(before)
    expect(engine.bucket.names('snapshots/')).toHaveLength(1)
    expect(engine.newest()).toEqual(engine.source())
    engine.pass()
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })

  test('comes back whole within the window, and counts again', async () => {
    const { engine, first } = await twoSnapshots()
    const tree = engine.reader().tree(engine.reader().snapshots[0]!)
    await engine.forget(first)
    await engine.prune()
    engine.clock.advance(13 * DAY)
    expect(await engine.undelete(first)).toMatchObject({ snapshots: 1 })
    engine.clock.advance(20 * DAY)
    const report = await engine.prune()
    expect(report).toMatchObject({ snapshots: 2, forgotten: 0, deleted: { packs: 0 } })
    engine.clock.advance(20 * DAY)
    await engine.prune()
    expect(engine.reader().tree(engine.reader().snapshots[0]!)).toEqual(tree)
  })

  test('is told to be too late when its bytes are gone', async () => {
    const { engine, first } = await twoSnapshots()
    await engine.forget(first)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    // The snapshot object is kept by a lock while its packs go.
    engine.setStoreFaults((call) => (call.operation === 'remove' && call.name.startsWith('snapshots/') ? [{ kind: 'undead' }] : []))
    await engine.prune()
    expect(await codeOf(engine.undelete(first))).toBe('damaged')
  })

  test('is never all that a collection needs to look at: a collection without anything to do stores and removes nothing', async () => {
    const { engine } = await twoSnapshots()
    const before = engine.bucket.names()
    const report = await engine.prune()
    expect(report.condemned.packs).toBe(0)
    expect(engine.bucket.names()).toEqual(before)
  })
})

describe('a check', () => {
  test('finds nothing wrong before, while and after packs are condemned and deleted', async () => {
    const { engine, first } = await twoSnapshots()
    const check = async (): Promise<CheckReport> =>
      checkRepository({ repository: await openRepository({ store: engine.store(), keys: engine.keys.write.structure }), readData: 'all' })
    await engine.forget(first)
    expect(await check()).toMatchObject({ damaged: 0, unknown: 0, snapshots: 1, forgotten: 1, condemnedPacks: 0 })
    await engine.prune()
    expect((await check()).condemnedPacks).toBeGreaterThan(0)
    engine.clock.advance(15 * DAY)
    await engine.prune()
    const after = await check()
    expect(after).toMatchObject({ damaged: 0, unknown: 0, snapshots: 1, forgotten: 0, condemnedPacks: 0, findings: [] })
    expect(after.deletedPacks).toBeGreaterThan(0)
    // The index file is written anew by the next collection, and no longer names what is gone.
    await engine.prune()
    expect((await check()).deletedPacks).toBe(0)
  })
})

describe('a collection', () => {
  test('deletes nothing on a dry run and says what it would do', async () => {
    const { engine, first } = await twoSnapshots()
    await engine.forget(first)
    const before = engine.bucket.names()
    expect((await engine.prune({ dryRun: true })).condemned.packs).toBeGreaterThan(0)
    expect(engine.bucket.names()).toEqual(before)
  })

  test('stops where a snapshot does not open, and goes on when that is on record', async () => {
    const { engine, first, second } = await twoSnapshots()
    await engine.forget(first)
    const name = engine.bucket.names('snapshots/').find((one) => one.endsWith(second))!
    engine.bucket.tamper(name, (bytes) => bytes.subarray(0, 200))
    const before = engine.bucket.names()
    expect(await codeOf(engine.prune())).toBe('damaged')
    expect(engine.bucket.names()).toEqual(before)
  })

  test('stops where a snapshot is gone without a record: the middle of a series, and the newest that an earlier collection counted', async () => {
    const { engine, first } = await twoSnapshots()
    await engine.forget(first)
    await engine.prune()
    const [newest] = engine.bucket.names('snapshots/').filter((name) => !name.endsWith(first))
    engine.bucket.tamper(newest!, () => undefined)
    engine.clock.advance(15 * DAY)
    const before = engine.bucket.names()
    expect(await codeOf(engine.prune())).toBe('damaged')
    expect(engine.bucket.names()).toEqual(before)
  })

  test('stops where a short listing hides packs that are needed', async () => {
    const { engine, first } = await twoSnapshots()
    await engine.forget(first)
    engine.setStoreFaults((call) => (call.operation === 'list' && call.name === 'packs/' ? [{ kind: 'short-list', drop: 3 }] : []))
    expect(await codeOf(engine.prune())).toBe('damaged')
    expect(engine.bucket.names('lists/').filter((name) => !name.includes('forgets'))).toEqual([])
  })

  test('leaves the packs of a session alone that may be at work, and takes them when it has been silent for seven days', async () => {
    const { engine } = await twoSnapshots()
    writeFile(engine, '/src/large', fixtureRandom('interrupted').bytes(60_000))
    engine.pass()
    const before = packs(engine)
    engine.setStoreFaults((call) => (call.operation === 'put' && call.name.startsWith('index/') ? [{ kind: 'crash', when: 'before' }] : []))
    await engine.backup().catch(() => undefined)
    engine.reboot()
    const left = packs(engine) - before
    expect(left).toBeGreaterThan(0)
    const report = await engine.prune()
    expect(report.condemned.packs).toBe(0)
    expect(report.heldBySessions).toMatchObject({ packs: left, sessions: 1 })
    engine.clock.advance(7.1 * DAY)
    expect((await engine.prune()).condemned.packs).toBe(left)
  })

  test('that condemns what a run relies on makes the run store it again, before and after its snapshot', async () => {
    for (const when of ['index/', 'snapshots/']) {
      const { engine, first, second } = await twoSnapshots()
      const collector = await makeEngine({ seed: 'collector', beside: engine })
      // What only the old snapshots have comes back into the source: the run finds it known.
      for (let i = 0; i < 8; i++) writeFile(engine, `/src/again-${i}`, fixtureRandom(`old ${i}`).bytes(4000))
      engine.pass()
      let collected: Promise<unknown> | undefined
      engine.setStoreFaults((call) => {
        if (call.operation === 'put' && call.name.startsWith(when) && collected === undefined)
          collected = collector.forget(first, second).then(() => collector.prune())
        return collected !== undefined && call.name.startsWith('snapshots/') && call.operation === 'put' ? [{ kind: 'latency', ms: 1 }] : []
      })
      const run = await engine.backup()
      await collected
      engine.setStoreFaults(() => [])
      expect(run.outcome).toBe('done')
      for (let day = 0; day < 40; day += 8) {
        engine.clock.advance(8 * DAY)
        await collector.prune()
      }
      expect(engine.newest(), when).toEqual(engine.source())
    }
  })

  test('by an appliance that may not delete names what is due, once, and removes nothing', async () => {
    const { engine, first } = await twoSnapshots()
    await engine.forget(first)
    await engine.prune({ mayDelete: false })
    engine.clock.advance(15 * DAY)
    const before = engine.bucket.names().filter((name) => !name.startsWith('lists/'))
    expect((await engine.prune({ mayDelete: false })).named.packs).toBeGreaterThan(0)
    expect((await engine.prune({ mayDelete: false })).named.packs).toBe(0)
    expect(engine.bucket.names().filter((name) => before.includes(name))).toEqual(before)
  })

  test('says what a lock still holds and until when', async () => {
    const { engine, first } = await twoSnapshots()
    const locked = await makeEngine({ bucket: engine.bucket.clone({ lockMs: 100 * DAY }), startMs: engine.clock.now() })
    await locked.forget(first)
    await locked.prune()
    locked.clock.advance(15 * DAY)
    const { deleted } = await locked.prune()
    expect(deleted.objects).toBe(0)
    expect(deleted.locked.length).toBeGreaterThan(0)
    expect(deleted.locked[0]!.until).toBeGreaterThan(locked.clock.now())
  })
})
