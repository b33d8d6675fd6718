// A run that takes weeks beside a collection every day: it ends, uploads nothing twice, and what it reports good restores. How long it takes is no reason to
// begin anew; a machine that slept too long is, and then what was uploaded is still there to be taken over.
import { describe, expect, test } from 'vitest'
import type { FileSystem } from '../../../agent/file-system/file-system.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { type Engine, fixtureRandom, makeEngine, type Run, writeFile } from '../../_support/engine-fixture.ts'
import { type SimulatedClock, simulatedClock } from '../../_support/simulated-clock.ts'
import { noFaults } from '../../_support/simulated-store.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, segmentBytes: 3000, uploadsAtOnce: 1 }
const DIRECTORIES = 400

type Beside = { engine: Engine; clock: SimulatedClock; prune: () => Promise<void>; uploads: string[] }

/** A machine and a collector of one domain, by one clock. `after` is done after each call of the machine, and never within itself. */
async function beside(after: (call: 'put' | 'list', name: string, given: Beside) => Promise<void>): Promise<Beside> {
  const clock = simulatedClock({ autoMs: Infinity })
  const collector = await makeEngine({ seed: 'collector', clock, limits: LIMITS })
  const uploads: string[] = []
  let busy = false
  const then = async (call: 'put' | 'list', name: string): Promise<void> => {
    if (busy) return
    busy = true
    await after(call, name, given)
    busy = false
  }
  const engine = await makeEngine({
    seed: 'machine',
    beside: collector,
    limits: LIMITS,
    seam: (inner: Store): Store => ({
      ...inner,
      put: async (name, ...more) => {
        if (name.startsWith('packs/')) uploads.push(name)
        const put = await inner.put(name, ...more)
        await then('put', name)
        return put
      },
      async *list(prefix, ...more) {
        yield* inner.list(prefix, ...more)
        await then('list', prefix)
      },
    }),
  })
  const given = { engine, clock, uploads, prune: async () => void (await collector.prune()) }
  return given
}

async function isGood({ engine, uploads }: Beside, run: Run, what: string): Promise<void> {
  expect(new Set(uploads).size).toBe(uploads.length)
  // Nothing of it was collected, and nothing was stored again under another name.
  expect(engine.bucket.names('packs/').toSorted()).toEqual(uploads.toSorted())
  expect(engine.bucket.names('snapshots/')).toHaveLength(1)
  expect(engine.reader().snapshots).toHaveLength(1)
  await restoresTo(engine, engine.source(), what, run.snapshot!.ref.random)
}

describe('a first upload beside a collection every day', () => {
  test.each([22, 40, 70])(
    'that takes %i days on a machine that is awake ends with one snapshot and uploads each pack once',
    async (days) => {
      const given = await beside(async (call, name, { clock, prune }) => {
        if (call !== 'put' || !name.startsWith('packs/')) return
        for (let day = 0; day < 2; day++) {
          clock.advance(DAY)
          await prune()
        }
      })
      for (let i = 0; i < days; i++) writeFile(given.engine, `/src/${i}`, fixtureRandom(`${days} ${i}`).bytes(3000))
      const begunAt = given.clock.now()
      const run = await given.engine.backup()
      expect(given.clock.now() - begunAt).toBeGreaterThan(days * DAY)
      expect(run).toMatchObject({ outcome: 'done', notices: [] })
      await isGood(given, run, `a run of ${days} days`)
      expect(given.engine.bucket.names('ends/')).toEqual([])
    },
  )

  /** A few packs at first, then weeks of reading what adds none; `onDirectory` comes with each directory. */
  async function reading(sleepDays: number, isSecond = false) {
    let awake = true
    const given = await beside(async (call, name, { prune }) => {
      // After it woke, the machine comes first.
      if (call !== 'list' || name !== 'lists/') return
      if (awake) await prune()
      awake = true
    })
    const { engine, clock } = given
    for (let i = 0; i < 6; i++) writeFile(engine, `/src/0/${i}`, fixtureRandom(`first ${i}`).bytes(6000))
    for (let i = 0; i < DIRECTORIES; i++) writeFile(engine, `/src/d${String(i).padStart(3, '0')}/file`, `small ${i}`)
    if (isSecond) {
      engine.setStoreFaults(({ operation, name }) =>
        operation === 'put' && name.startsWith('index/') ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : [],
      )
      await expect(engine.backup()).rejects.toMatchObject({ code: 'store-unreachable' })
      engine.setStoreFaults(noFaults)
      clock.advance(5 * DAY)
    }
    let left = sleepDays
    const fileSystem = new Proxy<FileSystem>(engine.fs, {
      get: (target, property: keyof FileSystem) => {
        if (property !== 'open') return target[property]
        const open: FileSystem['open'] = (directory, name, how) => {
          if (how === 'directory' && /^d\d{3}$/.test(name.toString())) clock.advance(DAY / 16)
          if (left > 0 && name.toString() === 'd160') {
            clock.advance(left * DAY)
            left = 0
            awake = false
          }
          return target.open(directory, name, how)
        }
        return open
      },
    })
    return { given, run: await engine.backup({ fileSystem, state: isSecond ? '/another' : '/state' }) }
  }

  test('that reads for weeks without storing a pack keeps what it uploaded', async () => {
    const { given, run } = await reading(0)
    expect(run).toMatchObject({ outcome: 'done', notices: [] })
    await isGood(given, run, 'a run that read for weeks')
  })

  test('that finds what an earlier run uploaded, whose state is lost, keeps that however long it reads', async () => {
    const { given, run } = await reading(0, true)
    expect(run).toMatchObject({ outcome: 'done', notices: [] })
    await isGood(given, run, 'a run that found packs in no index file')
  })

  test('that slept too long before its snapshot is heard of again before it reads anything', async () => {
    let slept = false
    const given = await beside(async (call, name, { clock, prune }) => {
      if (call !== 'put' || !name.startsWith('index/')) return
      if (slept) await prune()
      else clock.advance(25 * DAY)
      slept = true
    })
    for (let i = 0; i < 6; i++) writeFile(given.engine, `/src/${i}`, fixtureRandom(`slept ${i}`).bytes(3000))
    const run = await given.engine.backup()
    expect(run).toMatchObject({ outcome: 'done', notices: [expect.stringContaining('begins anew')] })
    await isGood(given, run, 'a run that slept before its snapshot')
  })

  test('that slept too long begins anew, takes over what it uploaded however long it reads, and only then is its first session over', async () => {
    const { given, run } = await reading(25)
    const { engine } = given
    expect(run).toMatchObject({ outcome: 'done', notices: [expect.stringContaining('begins anew')] })
    await isGood(given, run, 'a run that slept')
    const first = given.uploads[0]!.split('/').at(-1)!.split('-')[0]!
    expect(engine.bucket.names('ends/')).toEqual([`ends/${first}`])
    const puts = engine.bucket.trace.filter(({ operation }) => operation === 'put').map(({ name }) => name)
    expect(puts.indexOf(`ends/${first}`)).toBeGreaterThan(puts.findIndex((name) => name.startsWith('snapshots/')))
  })
})
