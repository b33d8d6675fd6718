// What a store gives back right after it said "durable": a run reads a sample while it holds its session key, and where the store kept something else
// no snapshot is reported good.
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { type Fault, noFaults, type StoreCall } from '../../_support/simulated-store.ts'

async function withFiles(files = 6, options: Parameters<typeof makeEngine>[0] = {}): Promise<Engine> {
  const engine = await makeEngine(options)
  for (let i = 0; i < files; i++) {
    writeFile(engine, `/src/file-${i}`, fixtureRandom(`read back ${i}`).bytes(5000))
    // Owners share no segment.
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  engine.pass()
  return engine
}

/** Segments and ends of packs that the run asked the store for. */
const packReads = (engine: Engine): string[] =>
  engine.bucket.trace.filter(({ operation, name }) => operation === 'getRange' && name.startsWith('packs/')).map(({ name }) => name)

/** The first call that fits gets the fault. */
function once(fits: (call: StoreCall) => boolean, fault: Fault): { plan: (call: StoreCall) => readonly Fault[]; name: () => string } {
  let name = ''
  return {
    plan: (call) => {
      if (name !== '' || !fits(call)) return []
      ;({ name } = call)
      return [fault]
    },
    name: () => name,
  }
}
const putOf = (prefix: string) => (call: StoreCall) => call.operation === 'put' && call.name.startsWith(prefix)
const randomOf = (name: string): string => name.split('-').at(-1) ?? name

describe('a run reads back', () => {
  test('segments of each of its packs where they are few, and says how much', async () => {
    const engine = await withFiles()
    const { summary } = await engine.backup()
    expect(new Set(packReads(engine))).toEqual(new Set(engine.bucket.names('packs/')))
    expect(summary.segmentsReadBack).toBeGreaterThanOrEqual(2)
    expect(summary.bytesReadBack).toBeGreaterThan(5000)
  })

  test('eight segments and one from the newest pack at most, however much it stored, and others each time', async () => {
    const seen = new Set<string>()
    for (const seed of ['a', 'b', 'c']) {
      const engine = await withFiles(60, { seed, limits: { packBytes: 10_000 } })
      const { summary } = await engine.backup()
      const puts = engine.bucket.trace.filter(({ operation, name }) => operation === 'put' && name.startsWith('packs/'))
      expect(puts.length).toBeGreaterThan(12)
      expect(summary.segmentsReadBack).toBe(8)
      expect(packReads(engine)).toHaveLength(9)
      expect(packReads(engine)).toContain(puts.at(-1)?.name)
      const order = [...new Set(packReads(engine))].map((name) => puts.findIndex((put) => put.name === name))
      seen.add(order.join())
    }
    expect(seen.size).toBe(3)
  })

  test('nothing where it stored nothing', async () => {
    const engine = await withFiles()
    await engine.backup()
    engine.pass()
    await engine.backup()
    engine.bucket.trace.length = 0
    const { summary } = await engine.backup()
    expect(summary).toMatchObject({ segmentsReadBack: 0, bytesReadBack: 0 })
    expect(engine.bucket.trace.filter(({ operation }) => operation === 'getRange')).toEqual([])
  })
})

describe('a pack that does not come back as it was stored', () => {
  const WAYS: readonly { how: string; fault: Fault }[] = [
    { how: 'torn', fault: { kind: 'torn', keepBytes: 9000, reported: 'success' } },
    { how: 'cut in its last byte', fault: { kind: 'torn', keepBytes: 131_071, reported: 'success' } },
    { how: 'lost', fault: { kind: 'lost' } },
  ]
  test.each(WAYS)(
    'because its upload was $how ends the run before a snapshot, names it, and is stored anew by the next',
    async ({ fault }) => {
      const engine = await withFiles()
      const torn = once(putOf('packs/'), fault)
      engine.setStoreFaults(torn.plan)
      const failure: unknown = await engine.backup().catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'damaged' })
      expect(String(failure)).toContain(randomOf(torn.name()))
      expect(engine.bucket.names('snapshots/')).toEqual([])
      engine.setStoreFaults(noFaults)
      expect((await engine.backup()).outcome).toBe('done')
      expect(engine.newest()).toEqual(engine.source())
    },
  )

  test.each([
    { where: 'the hash in its trailer', from: -64, to: -63 },
    { where: 'the place of its footer', from: -20, to: -19 },
  ])('because $where changed is noticed, and no later run relies on it', async ({ from, to }) => {
    const engine = await withFiles(2)
    let spoilt = ''
    engine.setStoreFaults((call) => {
      if (call.operation === 'getRange' && call.name.startsWith('packs/') && spoilt === '') {
        spoilt = call.name
        engine.bucket.tamper(call.name, (bytes) => {
          for (const part of [bytes.subarray(from, to)]) part.fill(1 ^ part[0]!)
          return bytes
        })
      }
      return []
    })
    const failure: unknown = await engine.backup().catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'damaged' })
    expect(String(failure)).toContain(randomOf(spoilt))
    expect(engine.bucket.names('snapshots/')).toEqual([])
    engine.setStoreFaults(noFaults)
    engine.reboot()
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
    engine.pass()
    expect((await engine.backup()).summary.chunksNew, 'it is stored anew once').toBe(0)
  })

  test.each([1, 2, 3])('because one bit of read %i of it is wrong is noticed', async (nth) => {
    const engine = await withFiles(2)
    let reads = 0
    engine.setStoreFaults((call) => (call.operation === 'getRange' && ++reads === nth ? [{ kind: 'flipped', bit: 77 }] : []))
    await expect(engine.backup()).rejects.toMatchObject({ code: 'damaged' })
    expect(engine.bucket.names('snapshots/')).toEqual([])
    engine.setStoreFaults(noFaults)
    await engine.backup()
    expect(engine.newest()).toEqual(engine.source())
  })

  test('is noticed also where an earlier run stored it and this one takes it over', async () => {
    const engine = await withFiles(1)
    engine.setStoreFaults(once(putOf('index/'), { kind: 'fail', when: 'before', code: 'store-unreachable' }).plan)
    await expect(engine.backup()).rejects.toMatchObject({ code: 'store-unreachable' })
    engine.setStoreFaults(noFaults)
    const packs = engine.bucket.names('packs/')
    for (const name of packs)
      engine.bucket.tamper(name, (bytes) => {
        bytes[3]! ^= 1
        return bytes
      })
    // Each attempt finds one of them.
    for (let i = 0; i < packs.length; i++) await expect(engine.backup()).rejects.toMatchObject({ code: 'damaged' })
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })
})

describe('an object that does not come back as it was stored', () => {
  test.each(['index/', 'snapshots/'])('of %s lets no run report good, and the next is whole', async (prefix) => {
    const engine = await withFiles()
    const torn = once(putOf(prefix), { kind: 'torn', keepBytes: 100, reported: 'success' })
    engine.setStoreFaults(torn.plan)
    const failure: unknown = await engine.backup().catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'damaged' })
    expect(String(failure)).toContain(torn.name())
    engine.setStoreFaults(noFaults)
    const run = await engine.backup()
    expect(run).toMatchObject({ outcome: 'done', summary: { chunksNew: 0 } })
    engine.bucket.tamper(torn.name(), () => undefined)
    expect(engine.newest()).toEqual(engine.source())
  })
})

test('a store that cannot be reached while a run reads back ends the run with that, and the next uploads nothing twice', async () => {
  const engine = await withFiles()
  engine.setStoreFaults(once((call) => call.operation === 'getRange', { kind: 'fail', when: 'before', code: 'store-unreachable' }).plan)
  await expect(engine.backup()).rejects.toMatchObject({ code: 'store-unreachable' })
  expect(engine.bucket.names('snapshots/')).toEqual([])
  engine.setStoreFaults(noFaults)
  expect((await engine.backup()).summary.chunksNew).toBe(0)
  expect(engine.newest()).toEqual(engine.source())
})
