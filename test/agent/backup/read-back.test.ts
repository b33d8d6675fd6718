// What a store gives back right after it said "durable": a run reads a sample while it holds its session key, and where the store kept something else
// no snapshot is reported good.
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
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
  test('small packs whole, each in one request, and says how much', async () => {
    const engine = await withFiles()
    const { summary } = await engine.backup()
    const packs = engine.bucket.names('packs/')
    expect(packReads(engine)).toEqual(packs)
    expect(summary.bytesReadBack).toBe(packs.reduce((sum, name) => sum + (engine.bucket.content(name)?.length ?? 0), 0))
    // Six files whose owners differ, and the tree's two parts.
    expect(summary.segmentsReadBack).toBe(8)
  })

  test('eight packs at most, the newest among them, and others each time', async () => {
    const seen = new Set<string>()
    for (const seed of ['a', 'b', 'c']) {
      const engine = await withFiles(60, { seed, limits: { packBytes: 10_000 } })
      await engine.backup()
      const puts = engine.bucket.trace.filter(({ operation, name }) => operation === 'put' && name.startsWith('packs/'))
      expect(puts.length).toBeGreaterThan(12)
      expect(packReads(engine)).toHaveLength(8)
      expect(packReads(engine)).toContain(puts.at(-1)?.name)
      seen.add(
        packReads(engine)
          .map((name) => puts.findIndex((put) => put.name === name))
          .join(),
      )
    }
    expect(seen.size).toBe(3)
  })

  test('of large packs some segments and the end of the newest, and no more than 8 MiB however large the run', async () => {
    const engine = await makeEngine({ limits: { packBytes: 1_100_000 } })
    for (let i = 0; i < 36; i++) {
      writeFile(engine, `/src/file-${i}`, fixtureRandom(`large ${i}`).bytes(300_000))
      change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
    }
    engine.pass()
    const { summary } = await engine.backup()
    expect(summary.packs).toBeGreaterThan(5)
    expect(summary.bytesReadBack).toBeGreaterThan(300_000)
    expect(summary.bytesReadBack).toBeLessThan(Math.min(9 * 2 ** 20, summary.bytesStored))
    expect(packReads(engine).length).toBeLessThanOrEqual(8 + 1 + 8)
    expect(new Set(packReads(engine)).size).toBeGreaterThan(2)
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
    { where: 'the epoch in its trailer', from: -84, to: -83 },
    { where: 'its padding', from: -200, to: -199 },
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

  test('because one bit of it is wrong is noticed, whichever bit of a small pack, or of what was read of a large one', async () => {
    const flips = seededRandom('flips')
    for (const large of [false, true])
      for (let i = 0; i < 6; i++) {
        const engine = await withFiles(2, { seed: `flip ${i}` })
        if (large) writeFile(engine, '/src/large', fixtureRandom('large').bytes(1_500_000))
        engine.pass()
        let reads = 0
        const nth = large ? 1 + (i % 3) : 1
        const bit = flips.bytes(4).readUInt32LE(0) % (large ? 8 * 900 : 8 * 131_072)
        engine.setStoreFaults((call) => (call.operation === 'getRange' && ++reads === nth ? [{ kind: 'flipped', bit }] : []))
        await expect(engine.backup(), `${large} ${i} bit ${bit}`).rejects.toMatchObject({ code: 'damaged' })
        expect(engine.bucket.names('snapshots/')).toEqual([])
        engine.setStoreFaults(noFaults)
        await engine.backup()
        expect(engine.newest()).toEqual(engine.source())
      }
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
