// The sources and histories that the crash suite runs on: small, so that every call can be a point, with several packs and owners in them.
import { CWD } from '../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import type { Scenario } from './crash-harness.ts'

/** Packs close after a few segments, so that a run has several of them. */
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

function fill(engine: Engine): void {
  const random = fixtureRandom('scenario')
  // Segments never mix owners and few owners stay open, so each of these begins a new segment.
  for (let owner = 0; owner < 7; owner++) {
    writeFile(engine, `/src/owner-${owner}/data`, random.bytes(3000 + owner * 500))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/owner-${owner}/data`), owner, owner))
  }
  writeFile(engine, '/src/large', random.bytes(40_000))
  writeFile(engine, '/src/same', random.bytes(1000))
  writeFile(engine, '/src/same again', readSame())
  writeFile(engine, '/src/small', 'small enough to stand in the tree')
  writeFile(engine, '/src/empty', '')
  change(engine, (fs) => {
    fs.makeSymlink(CWD, Buffer.from('/src/link'), Buffer.from('large'))
    fs.makeDirectory(CWD, Buffer.from('/src/nothing'), 0o755)
    fs.setAttribute(CWD, Buffer.from('/src/large'), Buffer.from('user.a'), Buffer.from('value'))
  })
}

function readSame(): Buffer {
  return fixtureRandom('same').bytes(1000)
}

function alter(engine: Engine): void {
  writeFile(engine, '/src/owner-2/data', fixtureRandom('altered').bytes(5000))
  writeFile(engine, '/src/new/file', fixtureRandom('new').bytes(9000))
  writeFile(engine, '/src/small', 'another text')
  change(engine, (fs) => {
    fs.rename(CWD, Buffer.from('/src/same'), CWD, Buffer.from('/src/moved'), false)
    fs.remove(CWD, Buffer.from('/src/link'), 'file')
    const fd = fs.open(CWD, Buffer.from('/src/large'), 'update')
    fs.write(fd, Buffer.from('patched'), 20_000)
    fs.close(fd)
  })
}

export const FIRST: Scenario = {
  name: 'first',
  limits: LIMITS,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
  },
}

export const INCREMENTAL: Scenario = {
  name: 'incremental',
  limits: LIMITS,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
    await engine.backup()
    engine.pass()
    alter(engine)
    engine.pass()
  },
}

export const UNCHANGED: Scenario = {
  name: 'unchanged',
  limits: LIMITS,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
    await engine.backup()
    engine.pass()
  },
}

/** A run after one that was killed in the middle of its uploads. */
export const RESUMED: Scenario = {
  name: 'resumed',
  limits: LIMITS,
  prepare: async (engine, told) => {
    fill(engine)
    engine.pass()
    let packs = 0
    engine.setStoreFaults((call) =>
      call.name.startsWith('packs/') && call.operation === 'put' && ++packs === 4 ? [{ kind: 'crash', when: 'before' }] : [],
    )
    await engine.backup({ transmitted: told }).catch(() => undefined)
    engine.reboot()
    engine.pass()
  },
}

let history: Promise<{ bucket: SimulatedBucket; startMs: number }> | undefined

async function seventeenRuns(): Promise<{ bucket: SimulatedBucket; startMs: number }> {
  const engine = await makeEngine({ seed: 'history', limits: LIMITS })
  for (let i = 0; i < 17; i++) {
    writeFile(engine, `/src/file-${i % 3}`, fixtureRandom(`merging ${i}`).bytes(2000))
    engine.pass()
    await engine.backup()
  }
  return { bucket: engine.bucket, startMs: engine.clock.now() + 10_000 }
}

/** A run that merges index files: the seventeenth of its size and more, with its state lost. */
export const MERGING: Scenario = {
  name: 'merging',
  limits: LIMITS,
  history: () => (history ??= seventeenRuns()),
  prepare: async (engine) => {
    for (let i = 0; i < 3; i++) writeFile(engine, `/src/file-${i}`, fixtureRandom(`merging last ${i}`).bytes(2000))
    engine.pass()
  },
}

export const SCENARIOS: readonly Scenario[] = [FIRST, INCREMENTAL, UNCHANGED, RESUMED]
/** Costly to look at, so that only the writes of the store at the end are points, unless more seeds are asked for. */
export const STORE_SCENARIOS: readonly Scenario[] = [MERGING]
