// A repair that ends at any call of the store, by a crash before or after it, by an error once or for good: what could be restored before can be restored
// then; run again it does what it would have done; and the next backup stores again what the damage took. Nothing is ever removed.
//
// HOLDFAST_SIM_POINT='segments/crash before/7' replays one point.
import { expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { repairRepository, type RepairReport } from '../../agent/repair/repair.ts'
import { objectName, packName } from '@holdfast/shared/format/layout.ts'
import { encodeIndexFile } from '../../agent/repository/index-file.ts'
import { packsOf } from '../../agent/repository/index-merge.ts'
import { SEGMENT_KIND } from '../../agent/repository/segment.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'
import { restorable, type Restorable } from '../_support/restorable.ts'
import { soak, soakResult } from '../_support/soak.ts'
import { atCall, type Fault, noFaults, SimulatedCrash } from '../_support/simulated-store.ts'

const replayed = process.env['HOLDFAST_SIM_POINT']

type Damage = { readonly name: string; readonly lost: boolean; readonly act: (engine: Engine) => void }

function flipSegments(engine: Engine, packs: readonly string[]): void {
  // The first bytes of a pack are those of its first segment.
  for (const name of packs) engine.bucket.tamper(name, (bytes) => (bytes.writeUInt8(bytes[20]! ^ 8, 20), bytes))
}

const DAMAGES: readonly Damage[] = [
  { name: 'segments', lost: true, act: (engine) => flipSegments(engine, engine.bucket.names('packs/')) },
  {
    name: 'index lost',
    lost: false,
    act: (engine) => {
      for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => undefined)
    },
  },
  {
    name: 'index and packs',
    lost: true,
    act: (engine) => {
      const [one, two] = engine.bucket.names('index/')
      engine.bucket.tamper(one!, (bytes) => bytes.subarray(0, 100))
      engine.bucket.tamper(two!, (bytes) => (bytes.writeUInt8(bytes[90]! ^ 1, 90), bytes))
      const packs = engine.bucket.names('packs/')
      engine.bucket.tamper(packs[0]!, () => undefined)
      engine.bucket.tamper(packs[1]!, (bytes) => bytes.subarray(0, bytes.length - 50))
      flipSegments(engine, packs.slice(2, 4))
    },
  },
  {
    name: 'packs lost',
    lost: true,
    act: (engine) => {
      for (const name of engine.bucket.names('packs/').slice(0, 2)) engine.bucket.tamper(name, () => undefined)
    },
  },
]

const MODES: Record<string, Fault | 'for good'> = {
  'crash before': { kind: 'crash', when: 'before' },
  'crash after': { kind: 'crash', when: 'after' },
  'fails once': { kind: 'fail', when: 'before', code: 'store-unreachable' },
  'fails after its effect': { kind: 'fail', when: 'after', code: 'store-unreachable' },
  'fails for good': 'for good',
  'a bit flips on the way': { kind: 'flipped', bit: 1234 },
}

/** Two runs with several packs, one file of so many chunks that they stand in a list, and an older state of one file. */
async function history(): Promise<Engine> {
  const engine = await makeEngine({ seed: 'repair', limits: { packBytes: 60_000 } })
  const random = fixtureRandom('repair source')
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/dir-${i % 2}/file-${i}`, random.bytes(9000))
  writeFile(engine, '/src/long', random.bytes(400_000))
  engine.pass()
  await engine.backup()
  engine.pass()
  writeFile(engine, '/src/dir-0/file-0', random.bytes(9000))
  engine.pass()
  await engine.backup()
  engine.pass()
  return engine
}

async function repair(engine: Engine): Promise<RepairReport> {
  const store = engine.store()
  const repository = await openRepository({ store, keys: engine.keys.write.structure })
  return repairRepository({
    repository,
    keys: engine.keys.write,
    read: engine.keys.read,
    readData: 'all',
    dryRun: false,
    random: engine.random,
    now: engine.clock.now(),
    signal: new AbortController().signal,
  })
}

const look = (engine: Engine): Promise<Restorable> => restorable(engine.bucket.store('looking'), engine.keys)

function demandKept(before: Restorable, after: Restorable, label: string): void {
  for (const [path, hash] of before.files) if (after.files.get(path) !== hash) throw new Error(`${label}: ${path} could be restored before`)
}

const begun = history()

async function again(damage: Damage, seed: string): Promise<Engine> {
  const { bucket, clock } = await begun
  const engine = await makeEngine({ seed, bucket, startMs: clock.now() + 10_000, limits: { packBytes: 60_000 } })
  damage.act(engine)
  return engine
}

test.each(DAMAGES.map((damage) => [damage.name, damage] as const))(
  'a repair interrupted anywhere keeps its promises: %s',
  { timeout: soak ? 3_600_000 : 300_000 },
  async (_, damage) => {
    const started = performance.now()
    const whole = await again(damage, 'whole')
    const before = await look(whole)
    const first = whole.bucket.trace.length
    const report = await repair(whole)
    expect(report.losses.lost > 0).toBe(damage.lost)
    const calls = whole.bucket.trace.length - first
    const repaired = await look(whole)
    expect(calls).toBeGreaterThan(10)
    const writes = whole.bucket.trace.slice(first).flatMap(({ operation }, i) => (operation === 'put' ? [i + 1] : []))
    const failures: string[] = []
    let points = 0
    for (const [mode, fault] of Object.entries(MODES))
      for (let call = 1; call <= calls; call++) {
        const label = `${damage.name}/${mode}/${call}`
        // By default every write and the calls beside it, and every fifth of the others.
        const isNear = writes.some((write) => Math.abs(write - call) <= 1)
        if (replayed === undefined ? !soak && !isNear && call % 5 !== 0 : replayed !== label) continue
        points += 1
        try {
          await point(damage, fault, call, label, before, repaired)
        } catch (error) {
          failures.push(
            `${error instanceof Error ? error.message : String(error)}\n  replay: HOLDFAST_SIM_POINT='${label}' npm run -s unit -- test/sim/repair`,
          )
        }
      }
    expect(failures.slice(0, 5).join('\n'), `${failures.length} of ${points} points failed`).toBe('')
    soakResult({
      suite: 'repair',
      figure: `crash and fault points of a repair: ${damage.name}`,
      asked: calls * Object.keys(MODES).length,
      value: points,
      violations: 0,
      seed: 'repair',
      seconds: Math.round((performance.now() - started) / 1000),
    })
  },
)

async function point(
  damage: Damage,
  fault: Fault | 'for good',
  call: number,
  label: string,
  before: Restorable,
  repaired: Restorable,
): Promise<void> {
  const engine = await again(damage, label)
  const start = engine.bucket.trace.length
  const at = start + call
  engine.setStoreFaults(
    fault === 'for good'
      ? (one) => (one.index >= at ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : [])
      : atCall(at, fault),
  )
  try {
    await repair(engine)
  } catch (error) {
    const isCrash = error instanceof SimulatedCrash
    if (!isCrash && !(isHoldfastError(error) && ['store-unreachable', 'store-unsuitable', 'damaged', 'no-repository'].includes(error.code)))
      throw new Error(`the fault became ${String(error)}`, { cause: error })
  }
  engine.setStoreFaults(noFaults)
  engine.reboot()
  const removes = engine.bucket.trace.filter(({ operation }) => operation === 'remove')
  if (removes.length > 0) throw new Error(`${label}: something was removed`)
  demandKept(before, await look(engine), `${label}, after the fault`)
  await repair(engine)
  const after = await look(engine)
  demandKept(repaired, after, `${label}, repaired again`)
  const puts = engine.bucket.trace.filter(({ operation }) => operation === 'put').length
  await repair(engine)
  if (engine.bucket.trace.filter(({ operation }) => operation === 'put').length !== puts)
    throw new Error(`${label}: a third repair still writes`)
}

test.each(DAMAGES.map((damage) => [damage.name, damage] as const))(
  'the backup after a repair stores again what the source still has, also with all that it remembers: %s',
  async (_, damage) => {
    const engine = await history()
    damage.act(engine)
    await repair(engine)
    engine.pass()
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    const newest = run.snapshot!.ref.random.slice(0, 8)
    const { files, failed } = await look(engine)
    expect([...failed].filter((path) => path.startsWith(newest))).toEqual([])
    expect([...files.keys()].filter((path) => path.startsWith(newest))).toHaveLength(7)
  },
)

/** Damages nothing but chunks: trees stay whole, and with them all that a run could inherit. */
async function flipChunks(engine: Engine): Promise<void> {
  const repository = await openRepository({ store: engine.bucket.store('tampering'), keys: engine.keys.write.structure })
  const { view } = await repository.loadView()
  for (const file of view.files)
    for (let i = 0; i < file.segmentCount; i++) {
      const { kind, pack, offset } = file.segment(i)
      if (kind === SEGMENT_KIND.chunk)
        engine.bucket.tamper(packName(file.packs[pack]!), (bytes) => (bytes.writeUInt8(bytes[offset]! ^ 8, offset), bytes))
    }
}

test('chunks of a file that stands in the tree as a list are stored again too, though the list itself is whole', async () => {
  const engine = await history()
  await flipChunks(engine)
  expect((await repair(engine)).losses).toMatchObject({ unsure: 0, snapshots: [{ lostNodes: 0 }, { lostNodes: 0 }] })
  engine.pass()
  const run = await engine.backup()
  const newest = run.snapshot!.ref.random.slice(0, 8)
  expect([...(await look(engine)).failed].filter((path) => path.startsWith(newest))).toEqual([])
  engine.pass()
  expect((await engine.backup()).summary.bytesRead, 'and the run after that trusts what it remembers again').toBe(0)
})

test('a pack that is lost together with the index file that named it is stored again, also where lists name its chunks', async () => {
  const engine = await history()
  const repository = await openRepository({ store: engine.bucket.store('tampering'), keys: engine.keys.write.structure })
  const { view } = await repository.loadView()
  // Each pack in an index file of its own, as after many runs.
  for (const file of view.files)
    for (const pack of packsOf(file)) {
      const ref = { session: file.ref.session, random: engine.random.bytes(16).toString('hex') }
      const object = encodeIndexFile({ ref, replaces: [], packs: [pack] }, engine.keys.write.structure, engine.keys.write.writer)
      await engine.bucket.store('tampering').put(objectName('index', ref), { kind: 'bytes', bytes: object })
    }
  for (const { ref } of view.files) engine.bucket.tamper(objectName('index', ref), () => undefined)
  engine.pass()
  writeFile(engine, '/src/another', 'so that there is a run that has seen these index files')
  engine.pass()
  await engine.backup()
  const split = (await repository.loadView()).view
  for (const file of split.files) {
    const kinds = Array.from({ length: file.segmentCount }, (_, i) => file.segment(i).kind)
    if (!kinds.every((kind) => kind === SEGMENT_KIND.chunk)) continue
    engine.bucket.tamper(objectName('index', file.ref), () => undefined)
    engine.bucket.tamper(packName(file.packs[0]!), () => undefined)
  }
  engine.pass()
  const run = await engine.backup()
  const newest = run.snapshot!.ref.random.slice(0, 8)
  expect([...(await look(engine)).failed].filter((path) => path.startsWith(newest))).toEqual([])
})
