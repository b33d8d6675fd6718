// The operations that the crash suite runs, with the sources and histories they run on: small, so that every call can be a point, with several packs and owners in them.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository } from '../../agent/check/check.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { loadWholeView } from '../../agent/repository/whole-view.ts'
import { restoreSnapshot, type RestoreReport } from '../../agent/restore/restore.ts'
import { change, type Engine, fixtureRandom, makeEngine, type Run, treeOf, writeFile } from '../_support/engine-fixture.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import type { Attempt, Operation } from './crash-harness.ts'
import { demand, same, withoutTarget } from './invariants.ts'

/** Packs close after a few segments, so that a run has several of them. */
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

const backup = (engine: Engine, { signal, told }: Attempt): Promise<Run> => engine.backup({ signal, transmitted: told })

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

export const FIRST: Operation = {
  name: 'first',
  limits: LIMITS,
  run: backup,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
  },
}

export const INCREMENTAL: Operation = {
  name: 'incremental',
  limits: LIMITS,
  run: backup,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
    await engine.backup()
    engine.pass()
    alter(engine)
    engine.pass()
  },
}

export const UNCHANGED: Operation = {
  name: 'unchanged',
  limits: LIMITS,
  run: backup,
  prepare: async (engine) => {
    fill(engine)
    engine.pass()
    await engine.backup()
    engine.pass()
  },
}

/** A run after one that was killed in the middle of its uploads. */
export const RESUMED: Operation = {
  name: 'resumed',
  limits: LIMITS,
  run: backup,
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

/** A run that finds no index file: what packs hold is found by their footers (B15). */
export const INDEX_LOST: Operation = {
  name: 'index lost',
  limits: LIMITS,
  run: backup,
  prepare: async (engine) => {
    await INCREMENTAL.prepare(engine, [])
    for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => undefined)
  },
  unindexed: true,
}

const RESTORED = '/restored'

async function restoreNewest(engine: Engine, signal?: AbortSignal): Promise<RestoreReport> {
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure, signal })
  const { snapshots } = await repository.listSnapshots(signal)
  const { view } = await loadWholeView(repository, signal)
  const snapshot = snapshots.at(-1)
  if (snapshot === undefined) throw new HoldfastError('not-found', 'there is no snapshot')
  const target = Buffer.from(RESTORED)
  const fs = engine.fileSystem()
  const report = await restoreSnapshot({ repository, view, snapshot, keys: engine.keys.read, target, workers: 0, fs, signal })
  if (report.problems.length === 0) {
    const tree = engine.fs.quietly(() => withoutTarget(treeOf(engine.fs, [RESTORED]), RESTORED))
    same(tree, engine.source(), 'a restore that named no problem')
  }
  return report
}

/** Also after a power cut in the middle, running it again gives exactly the snapshot. */
export const RESTORE: Operation = {
  name: 'restore',
  limits: LIMITS,
  readsOnly: true,
  prepare: UNCHANGED.prepare,
  run: async (engine, { signal }) => {
    await restoreNewest(engine, signal)
  },
  after: async (engine) => {
    const report = await restoreNewest(engine)
    demand(report.problems.length === 0, `the restore after the fault names ${report.problems[0]?.code}`)
  },
}

/** Reads every byte; what the store does not answer is never called damaged (B21), and nothing is written (B11). */
export const CHECK: Operation = {
  name: 'check',
  limits: LIMITS,
  readsOnly: true,
  prepare: UNCHANGED.prepare,
  run: async (engine, { signal, lies }) => {
    const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure, signal })
    const report = await checkRepository({ repository, readData: 'all', signal })
    demand(lies || report.damaged === 0, `could not be read became damaged: ${JSON.stringify(report.findings[0])}`)
  },
}

/** A run that merges index files: the seventeenth of its size and more, with its state lost. */
export const MERGING: Operation = {
  name: 'merging',
  share: 12,
  limits: LIMITS,
  run: backup,
  history: () => (history ??= seventeenRuns()),
  prepare: async (engine) => {
    for (let i = 0; i < 3; i++) writeFile(engine, `/src/file-${i}`, fixtureRandom(`merging last ${i}`).bytes(2000))
    engine.pass()
  },
}

export const OPERATIONS: readonly Operation[] = [FIRST, INCREMENTAL, UNCHANGED, RESUMED, INDEX_LOST, RESTORE, CHECK]
/** Costly to look at, so that only the writes of the store at the end are points, unless more seeds are asked for. */
export const STORE_OPERATIONS: readonly Operation[] = [MERGING]
