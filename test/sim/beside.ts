// Months of backups beside collections on one bucket, one store call at a time under one seed: appliances with sources that share content, which goes and
// comes back; a collection a day that deletes after a day; retention; and snapshots taken back. The appliances pause for hours to weeks in the middle of
// a run and go on, and their machines die. After every good run everything that counts is read back.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import { randomBelow } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { forgetSnapshots, chooseByRules, listSeries } from '../../agent/collection/forget.ts'
import { listForgotten, undelete } from '../../agent/collection/undelete.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { agentWriter } from '../../agent/keys/domain.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { encodeRoster } from '../agent/backup/roster-object.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'
import { memoryCache } from '../_support/memory-cache.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { type SimulatedClock, simulatedClock } from '../_support/simulated-clock.ts'
import { noFaults, SimulatedCrash } from '../_support/simulated-store.ts'
import { demand, restored, same } from './invariants.ts'
import { createScheduler, type Scheduler } from './scheduler.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const WINDOW_MS = DAY
const RULES = { daily: 3, weekly: 1, monthly: 1 }
const WRITERS = 3
/** Contents that the sources draw from at a time: so many are new a day, and each comes back for some weeks, also where no snapshot that counts has it. */
const CONTENTS = 60
const CONTENTS_A_DAY = 3

export type BesideReport = {
  readonly days: number
  /** Calls of the store, all machines together. */
  readonly turns: number
  readonly backups: number
  readonly prunes: number
  /** Attempts that a collection made necessary. */
  readonly restarts: number
  readonly crashes: number
  readonly pauses: number
  readonly deletedPacks: number
  readonly takenBack: number
  /** Snapshots of which something stood, when it was looked, in a pack alone that no index file names yet. */
  readonly byFooters: number
  /** Calls of the store of a backup that was not made again: most, and on average. */
  readonly callsMost: number
  readonly callsMean: number
}

type Promised = { readonly tree: Tree; forgottenAt: number | undefined }

type World = {
  readonly clock: SimulatedClock
  readonly scheduler: Scheduler
  readonly below: (n: number) => number
  readonly promised: Map<string, Promised>
  readonly calls: Map<string, number>
  readonly report: { -readonly [K in keyof BesideReport]: BesideReport[K] }
  readonly isOver: () => boolean
}

/** One history of so many simulated days. Throws where a promise is broken. */
export async function runBeside(options: { seed: string; days: number }): Promise<BesideReport> {
  const random = fixtureRandom(`beside ${options.seed}`)
  const below = (n: number): number => randomBelow(random, n)
  const clock = simulatedClock({ autoMs: -1 })
  const startedAt = clock.now()
  const report = {
    days: 0,
    turns: 0,
    backups: 0,
    prunes: 0,
    restarts: 0,
    crashes: 0,
    pauses: 0,
    deletedPacks: 0,
    takenBack: 0,
    byFooters: 0,
    callsMost: 0,
    callsMean: 0,
  }
  let quiet = true
  const scheduler = createScheduler({
    clock,
    random,
    suspend: (actor) => {
      if (quiet || below(1000) >= (actor.startsWith('writer') ? 4 : 1)) return 0
      report.pauses += 1
      return pauseOf(actor, below)
    },
  })
  const calls = new Map<string, number>()
  const counting = (actor: string, store: Store): Store =>
    scheduler.scheduled(
      actor,
      counted(store, () => calls.set(actor, (calls.get(actor) ?? 0) + 1)),
    )
  const machine = (name: string, more: Parameters<typeof makeEngine>[0]): Promise<Engine> =>
    makeEngine({
      seed: `${options.seed} ${name}`,
      actor: name,
      seam: (store) => counting(name, store),
      limits: { packBytes: 6000, uploadsAtOnce: 2 },
      cache: memoryCache(),
      ...more,
    })
  const collector = await machine('collector', { clock, storeClock: clock })
  const keeper = await machine('keeper', { beside: collector })
  const writers = Array.from({ length: WRITERS }, (_, i) => agentWriter(random.bytes(32), Buffer.alloc(16, i + 1)))
  await collector.bucket.store().put(...encodeRoster(collector.keys, writers, clock.now()))
  const world: World = {
    clock,
    scheduler,
    below,
    promised: new Map(),
    calls,
    report,
    isOver: () => clock.now() - startedAt > options.days * DAY,
  }
  const machines = new Map<string, Engine>()
  for (const [i, writer] of writers.entries()) {
    const name = `writer ${i}`
    machines.set(name, await machine(name, { beside: collector, writeKeys: (keys) => ({ ...keys.write, writer }) }))
  }
  const { bucket } = collector
  const faults: Parameters<typeof bucket.setFaults>[0] = ({ actor }) => {
    if (!actor.startsWith('writer') || below(1000) >= 2) return []
    machines.get(actor)?.fs.crash()
    return [{ kind: 'crash', when: below(2) === 0 ? 'before' : 'after' }]
  }
  bucket.setFaults(faults)
  quiet = false
  for (const [name, engine] of machines) scheduler.spawn(name, () => livesAsWriter(world, name, engine, () => bucket.setFaults(faults)))
  scheduler.spawn('collector', () => livesAsCollector(world, collector))
  scheduler.spawn('keeper', () => livesAsKeeper(world, keeper))
  await scheduler.run()
  report.days = (clock.now() - startedAt) / DAY
  report.turns = scheduler.turns()

  quiet = true
  bucket.setFaults(noFaults)
  const plain = await makeEngine({ seed: `${options.seed} end`, beside: collector })
  for (let i = 0; i < 2; i++) {
    clock.advance(20 * DAY)
    await plain.prune({ windowMs: WINDOW_MS })
  }
  await everythingReadsBack(world, plain)
  report.callsMean = Math.round(report.callsMean / Math.max(1, report.backups))
  return report
}

/** Hours to three weeks for a machine that is put to sleep; the others are never away for a day, or what they read would be of no use. */
function pauseOf(actor: string, below: (n: number) => number): number {
  if (!actor.startsWith('writer')) return below(20 * HOUR)
  const kind = below(10)
  return kind < 4 ? below(6 * HOUR) : kind < 8 ? below(3 * DAY) : below(20 * DAY)
}

function counted(store: Store, told: () => void): Store {
  return {
    location: store.location,
    ...(store.diagnostics === undefined ? {} : { diagnostics: store.diagnostics }),
    put: (...given) => (told(), store.put(...given)),
    get: (...given) => (told(), store.get(...given)),
    getRange: (...given) => (told(), store.getRange(...given)),
    head: (...given) => (told(), store.head(...given)),
    list: (...given) => (told(), store.list(...given)),
    remove: (...given) => (told(), store.remove(...given)),
    close: () => store.close(),
  }
}

async function livesAsWriter(world: World, name: string, engine: Engine, again: () => void): Promise<void> {
  const { below, scheduler, promised, report, calls } = world
  alter(world, engine, 12)
  while (!world.isOver()) {
    await scheduler.sleep(name, 12 * HOUR + below(DAY))
    alter(world, engine, 3)
    await scheduler.sleep(name, 10_000)
    const tree = engine.source()
    calls.set(name, 0)
    try {
      const { snapshot, outcome, notices } = await engine.backup({ label: name })
      demand(outcome === 'done', `a backup of ${name} is ${outcome}`)
      promised.set(snapshot!.ref.random, { tree, forgottenAt: undefined })
      const restarts = notices.filter((text) => text.startsWith('a collection condemned')).length
      report.backups += 1
      report.restarts += restarts
      const made = calls.get(name)!
      report.callsMean += made
      if (restarts === 0) report.callsMost = Math.max(report.callsMost, made)
    } catch (error) {
      if (!(error instanceof SimulatedCrash) || !engine.fs.crashed()) throw error
      report.crashes += 1
      engine.reboot(below(2) === 0 ? undefined : `loss ${below(1_000_000)}`)
      again()
      continue
    }
    await everythingReadsBack(world, engine)
  }
}

function alter({ clock, below }: World, engine: Engine, changes: number): void {
  const first = Math.floor((clock.now() / DAY) * CONTENTS_A_DAY)
  for (let i = 0; i < changes; i++) {
    const path = `/src/${below(4)}/file-${below(6)}`
    if (below(6) === 0) change(engine, (fs) => removeIfThere(fs, path))
    else writeFile(engine, path, fixtureRandom(`content ${first + below(CONTENTS)}`).bytes(1000 + below(3) * 1500))
  }
  // A source is never empty.
  writeFile(engine, '/src/always', 'here')
}

function removeIfThere(fs: Engine['fs'], path: string): void {
  try {
    fs.remove(CWD, Buffer.from(path), 'file')
  } catch (error) {
    if (!(error instanceof Error && error.name === 'FileError')) throw error
  }
}

async function livesAsCollector(world: World, engine: Engine): Promise<void> {
  while (!world.isOver()) {
    await world.scheduler.sleep('collector', 20 * HOUR + world.below(8 * HOUR))
    const { deleted } = await engine.prune({ windowMs: WINDOW_MS })
    world.report.prunes += 1
    world.report.deletedPacks += deleted.packs
  }
}

/** Retention over all series, and now and then somebody who wants a snapshot back. */
async function livesAsKeeper(world: World, engine: Engine): Promise<void> {
  const { below, scheduler, promised, clock } = world
  while (!world.isOver()) {
    await scheduler.sleep('keeper', 12 * HOUR + below(DAY))
    const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure, cache: memoryCache() })
    const options = { repository, keys: engine.keys.write, clock: engine.clock, random: engine.random }
    const chosen = chooseByRules(await listSeries(repository), RULES, clock.now()).flatMap(({ forgotten }) => forgotten)
    // Before the record stands: a look at the store in between must not call it lost.
    for (const { structure } of chosen) {
      const one = promised.get(structure.ref.random)
      if (one !== undefined) one.forgottenAt = clock.now()
    }
    await forgetSnapshots(options, chosen, 'retention')
    if (below(5) === 0) await takeOneBack(world, options)
  }
}

async function takeOneBack(world: World, options: Parameters<typeof listForgotten>[0]): Promise<void> {
  const { below, promised, clock } = world
  const wanted = [...promised].filter(([, { forgottenAt }]) => forgottenAt !== undefined && clock.now() - forgottenAt < WINDOW_MS)
  const [id, one] = wanted[below(Math.max(1, wanted.length))] ?? []
  if (id === undefined || one === undefined) return
  const { survey, snapshots } = await listForgotten(options)
  try {
    const chosen = snapshots.filter(({ structure }) => structure.ref.random === id)
    if (chosen.length === 0) return
    await undelete(options, chosen, survey, false)
    one.forgottenAt = undefined
    world.report.takenBack += 1
  } catch (error) {
    // A collection may be at work by a list that names it from when it was forgotten before.
    if (isHoldfastError(error, 'conflict')) return
    // Too late is too late, and said; in time it has to work.
    if (!isHoldfastError(error, 'damaged') || clock.now() - one.forgottenAt! < WINDOW_MS) throw error
  }
}

/** Every snapshot that was reported good and not forgotten, read without the product's reader where index files name all of it; and no object that is none of the format's. */
async function everythingReadsBack(world: World, engine: Engine): Promise<void> {
  const reader = engine.reader()
  const found = new Map(reader.snapshots.map((snapshot) => [snapshot.structure.ref.random, snapshot]))
  for (const [id, { tree, forgottenAt }] of world.promised) {
    if (forgottenAt !== undefined) continue
    const snapshot = found.get(id)
    demand(snapshot !== undefined, `snapshot ${id} was reported good and is not listed`)
    try {
      same(reader.tree(snapshot), tree, `snapshot ${id}`)
    } catch {
      // What a run stored anew and did not come to index counts as well: its pack's footer says what is in it, and the product reads that.
      const result = await restored(engine, id)
      // Others go on meanwhile: it may be forgotten by now.
      if (world.promised.get(id)!.forgottenAt !== undefined) continue
      demand('tree' in result, `snapshot ${id} does not restore: ${'told' in result ? result.told : ''}`)
      same(result.tree, tree, `snapshot ${id}`)
      world.report.byFooters += 1
    }
  }
  for (const name of engine.bucket.names())
    demand(
      /^(?:sessions|ends)\//.test(name) || !name.includes('/') || parseObjectName(name) !== undefined,
      `${name} is no object of the format`,
    )
}
