// One history of one domain under one seed: appliances that back up, a collector, somebody who forgets and takes back, somebody who restores, all on one
// bucket, each with a clock and a disk of its own. They are suspended for hours to weeks at any call, their machines die, the store fails, clocks jump.
// What was reported good is held against what the sources were.
import { createHash } from 'node:crypto'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import { listForgotten, undelete } from '../../agent/collection/undelete.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { agentWriter } from '../../agent/keys/domain.ts'
import { repairRepository } from '../../agent/repair/repair.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { encodeRoster } from '../agent/backup/roster-object.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { type SimulatedClock, simulatedClock } from '../_support/simulated-clock.ts'
import { type Fault, type FaultPlan, noFaults, SimulatedCrash } from '../_support/simulated-store.ts'
import { demand, restored, restoresTo } from './invariants.ts'
import { createScheduler, type Scheduler } from './scheduler.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** What an operation may end with that met a failure of the store or was overtaken; anything else is a mistake. */
const EXPECTED = ['store-unreachable', 'store-full'] as const

export type WorldOptions = {
  readonly seed: string
  readonly agents?: number
  readonly runs?: number
  /** Told of every call and event, to look at a seed that fails. */
  readonly log?: (line: string) => void
  /** How long what was condemned can be taken back. */
  readonly windowMs?: number
  /** In 10,000 calls. */
  readonly chances?: { readonly suspend: number; readonly crash: number; readonly fail: number }
}

type Promised = { readonly tree: Tree; readonly actor: string; forgottenAt: number | undefined }

export type WorldReport = {
  readonly hash: string
  readonly turns: number
  readonly snapshots: number
  readonly restores: number
  readonly deleted: number
  readonly faults: number
}

/** Runs one history to its end; throws where a promise is broken. */
export async function runWorld(options: WorldOptions): Promise<WorldReport> {
  const random = fixtureRandom(`world ${options.seed}`)
  const below = (n: number): number => randomBelow(random, n)
  const windowMs = options.windowMs ?? DAY * (1 + below(14))
  const chances = options.chances ?? { suspend: 60, crash: 25, fail: 60 }
  const clock = simulatedClock({ autoMs: Infinity })
  let quiet = true
  let faults = 0
  const scheduler = createScheduler({
    clock,
    random,
    suspend: (actor) => (quiet || below(10_000) >= chances.suspend ? 0 : suspensionOf(actor, below, windowMs)),
  })
  const promised = new Map<string, Promised>()
  const machines = new Map<string, Engine>()
  const plan: FaultPlan = ({ actor, operation }) => {
    if (quiet || actor === 'restore') return []
    const dice = below(10_000)
    const when = dice % 2 === 0 ? 'before' : 'after'
    if (dice < chances.crash) {
      faults += 1
      machines.get(actor)?.fs.crash()
      return [{ kind: 'crash', when }]
    }
    if (dice >= chances.crash + chances.fail) return []
    faults += 1
    const fault: Fault = { kind: 'fail', when: operation === 'put' || operation === 'remove' ? when : 'before', code: 'store-unreachable' }
    return [fault]
  }
  const count = options.agents ?? 1 + below(3)
  const writers = Array.from({ length: count }, (_, i) => agentWriter(random.bytes(32), Buffer.alloc(16, i + 1)))
  const machine = async (name: string, more: Parameters<typeof makeEngine>[0]): Promise<Engine> => {
    const engine = await makeEngine({
      seed: `${options.seed} ${name}`,
      actor: name,
      clock: localClock(clock),
      seam: (store) => scheduler.scheduled(name, store),
      limits: { packBytes: 6000, uploadsAtOnce: 2 },
      ...more,
    })
    machines.set(name, engine)
    return engine
  }
  const collector = await machine('collector', { storeClock: clock })
  const { bucket } = collector
  for (const [i, writer] of writers.entries())
    await machine(`agent ${i}`, { beside: collector, writeKeys: (keys) => ({ ...keys.write, writer }) })
  await bucket.store().put(...encodeRoster(collector.keys, writers, clock.now()))
  quiet = false
  bucket.setFaults(plan)

  let agentsLeft = count
  const world: World = { clock, scheduler, random, below, promised, windowMs, restores: 0, isOver: () => agentsLeft === 0 }
  for (let i = 0; i < count; i++) {
    const name = `agent ${i}`
    const engine = machines.get(name)!
    scheduler.spawn(name, async () => {
      await livesAsAgent(world, name, engine, options.runs ?? 2 + below(4), () => bucket.setFaults(plan))
      agentsLeft -= 1
    })
  }
  scheduler.spawn('collector', () => livesAsCollector(world, collector, () => bucket.setFaults(plan)))
  const keeper = await machine('keeper', { beside: collector })
  scheduler.spawn('keeper', () => livesAsKeeper(world, keeper, () => bucket.setFaults(plan)))
  scheduler.spawn('restore', () => livesAsRestorer(world, collector))
  try {
    await scheduler.run()
  } finally {
    for (const { actor, operation, name, outcome, at } of options.log === undefined ? [] : bucket.trace)
      options.log?.(`${(at / DAY).toFixed(3)} ${actor} ${operation} ${name} ${outcome}`)
  }

  // The end: no more faults. Everything that counts restores, what was forgotten in time comes back, and a last collection takes nothing away.
  quiet = true
  bucket.setFaults(noFaults)
  await everythingHolds(world, collector)
  const hash = createHash('sha256')
  for (const { actor, operation, name, outcome } of bucket.trace) hash.update(`${actor} ${operation} ${name} ${outcome}\n`)
  return {
    hash: hash.digest('hex'),
    turns: scheduler.turns(),
    snapshots: promised.size,
    restores: world.restores,
    deleted: bucket.trace.filter(({ operation, outcome }) => operation === 'remove' && outcome === 'ok').length,
    faults,
  }
}

type World = {
  readonly clock: SimulatedClock
  readonly scheduler: Scheduler
  readonly random: Random
  readonly below: (n: number) => number
  readonly promised: Map<string, Promised>
  readonly windowMs: number
  restores: number
  readonly isOver: () => boolean
}

/** Mostly hours, at times weeks. A collector or a person who takes back is never away for longer than a day: what it read would be of no use. */
function suspensionOf(actor: string, below: (n: number) => number, windowMs: number): number {
  if (actor === 'restore') return below(Math.min(HOUR, windowMs))
  if (!actor.startsWith('agent')) return below(20 * HOUR)
  const kind = below(10)
  return kind < 5 ? below(6 * HOUR) : kind < 8 ? below(3 * DAY) : below(20 * DAY)
}

/** A clock that can be stepped by itself and passes with the one of the world. */
function localClock(world: SimulatedClock): SimulatedClock {
  let offset = 0
  return {
    now: () => world.now() + offset,
    monotonicMs: () => world.monotonicMs(),
    sleep: () => Promise.reject(new Error('something waits: nothing in a backup or a collection may')),
    advance: (ms) => world.advance(ms),
    stepWallClock: (ms) => {
      offset += ms
    },
    get sleepers() {
      return world.sleepers
    },
  }
}

async function livesAsAgent(world: World, name: string, engine: Engine, runs: number, again: () => void): Promise<void> {
  const { below, scheduler, promised, windowMs } = world
  const random = fixtureRandom(`source of ${name} ${world.random.bytes(4).toString('hex')}`)
  alter(engine, random, below, 6)
  for (let run = 0; run < runs; run++) {
    await scheduler.sleep(name, 10_000 + below(below(4) === 0 ? 9 * DAY : 2 * DAY))
    if (below(8) === 0) engine.clock.stepWallClock((below(80 * 24) - 40 * 24) * HOUR)
    alter(engine, random, below, 2)
    await scheduler.sleep(name, 10_000)
    const tree = engine.source()
    try {
      const result = await engine.backup()
      demand(result.outcome === 'done', `a backup of ${name} is ${result.outcome}`)
      promised.set(result.snapshot!.ref.random, { tree, actor: name, forgottenAt: undefined })
    } catch (error) {
      if (!tolerated(engine, error)) throw error
      // So that every agent comes to a good run, however unlucky the seed.
      if (below(3) > 0) run -= 1
    }
    await revive(engine, again, below)
    // Appliances collect too, beside each other and the collector; whether one may delete depends on the store.
    if (below(3) > 0) continue
    try {
      await engine.prune({ windowMs, mayDelete: below(2) === 0 })
    } catch (error) {
      if (!tolerated(engine, error)) throw error
    }
    await revive(engine, again, below)
  }
}

/** A machine that died comes up again; what it had not synced is lost or not. */
async function revive(engine: Engine, again: () => void, below: (n: number) => number): Promise<void> {
  if (!engine.fs.crashed()) return
  engine.reboot(below(2) === 0 ? undefined : `loss ${below(1_000_000)}`)
  again()
}

/** True for what a machine that died or a store that failed ends with. */
function tolerated(engine: Engine, error: unknown): boolean {
  if (error instanceof SimulatedCrash) return engine.fs.crashed()
  return isHoldfastError(error, ...EXPECTED) || isHoldfastError(error, 'conflict')
}

function alter(engine: Engine, random: Random, below: (n: number) => number, changes: number): void {
  for (let i = 0; i < changes; i++) {
    const path = `/src/${below(3)}/file-${below(4)}`
    const kind = below(6)
    if (kind === 0) writeFile(engine, path, 'inline'.repeat(1 + below(4)))
    else if (kind === 1 && i > 0) change(engine, (fs) => removeIfThere(fs, path))
    // What others have too: shared content that comes and goes is what collections lose.
    else if (kind < 4) writeFile(engine, path, fixtureRandom(`shared ${below(6)}`).bytes(2500))
    else writeFile(engine, path, random.bytes(500 + below(4000)))
  }
}

function removeIfThere(fs: Engine['fs'], path: string): void {
  const name = Buffer.from(path)
  const directory = fs.open(CWD, Buffer.from('/src'), 'directory')
  fs.close(directory)
  try {
    fs.remove(CWD, name, 'file')
  } catch (error) {
    if (!(error instanceof Error && error.name === 'FileError')) throw error
  }
}

async function livesAsCollector(world: World, engine: Engine, again: () => void): Promise<void> {
  const { below, scheduler, windowMs } = world
  for (let after = 0; after < 3;) {
    await scheduler.sleep('collector', HOUR + below(4 * DAY))
    if (world.isOver()) after += 1
    try {
      await engine.prune({ windowMs })
    } catch (error) {
      if (!tolerated(engine, error)) throw error
    }
    await revive(engine, again, below)
  }
}

/** Forgets by name, takes some of it back, and repairs what needs none. */
async function livesAsKeeper(world: World, engine: Engine, again: () => void): Promise<void> {
  const { below, scheduler, promised, clock } = world
  while (!world.isOver()) {
    await scheduler.sleep('keeper', HOUR + below(5 * DAY))
    const known = [...promised].filter(([, one]) => one.forgottenAt === undefined)
    const forgotten = [...promised].filter(([, one]) => one.forgottenAt !== undefined)
    try {
      if (below(6) === 0) await repair(engine)
      else if (below(3) > 0 && known.length > 1) {
        const [id, one] = known[below(known.length)]!
        // Before it is asked for: a store that fails after its effect has done it all the same.
        one.forgottenAt = clock.now()
        await engine.forget(id)
      } else if (forgotten.length > 0) {
        const [id, one] = forgotten[below(forgotten.length)]!
        const inTime = clock.now() - one.forgottenAt! < world.windowMs / 2
        if (inTime) await takeBack(world, engine, id)
      }
    } catch (error) {
      if (!tolerated(engine, error)) throw error
    }
    await revive(engine, again, below)
  }
}

/** Makes index files true, while others write theirs. */
async function repair(engine: Engine): Promise<void> {
  const { keys, random, clock } = engine
  const repository = await openRepository({ store: engine.store(), keys: keys.write.structure })
  const signal = new AbortController().signal
  const options = { repository, keys: keys.write, read: keys.read, dryRun: false, random, now: clock.now(), signal }
  await repairRepository({ ...options, readData: 'all' })
}

/** Takes one snapshot back. It counts again only once this has said so. */
async function takeBack(world: World, engine: Engine, id: string): Promise<void> {
  const options = await forgetOptions(engine)
  const { survey, snapshots } = await listForgotten(options)
  const chosen = snapshots.filter(({ structure }) => structure.ref.random === id)
  // The forgetting of it may have failed.
  if (chosen.length === 0) return
  try {
    await undelete(options, chosen, survey, false)
  } catch (error) {
    // Said, and left as it was: a collection may be at work by a list that names it.
    if (!isHoldfastError(error, 'conflict')) throw error
    return
  }
  world.promised.get(id)!.forgottenAt = undefined
}

async function forgetOptions(engine: Engine) {
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  return { repository, keys: engine.keys.write, clock: engine.clock, random: engine.random }
}

async function livesAsRestorer(world: World, engine: Engine): Promise<void> {
  const { below, scheduler, promised } = world
  while (!world.isOver()) {
    await scheduler.sleep('restore', HOUR + below(6 * DAY))
    const known = [...promised].filter(([, one]) => one.forgottenAt === undefined)
    if (known.length === 0) continue
    const [id, { tree }] = known[below(known.length)]!
    const result = await restored(engine, id, scheduler.scheduled('restore', engine.bucket.store('restore')))
    // It may have been forgotten meanwhile; then only what is wrong is wrong.
    if ('told' in result) demand(promised.get(id)!.forgottenAt !== undefined, `${id} does not restore: ${result.told}`)
    else await restoresTo(engine, tree, `snapshot ${id}`, id, result)
    world.restores += 1
  }
}

async function everythingHolds(world: World, engine: Engine): Promise<void> {
  const { promised, clock, windowMs } = world
  const quietly = async (what: string): Promise<void> => {
    for (const [id, { tree, actor, forgottenAt }] of promised)
      if (forgottenAt === undefined) await restoresTo(engine, tree, `${id} of ${actor}, ${what}`, id)
  }
  const plain = await makeEngine({ seed: 'plain', beside: engine })
  for (const [id, one] of promised) {
    if (one.forgottenAt === undefined || clock.now() - one.forgottenAt >= windowMs) continue
    const options = { ...(await forgetOptions(plain)), pruneIsOver: true }
    const { survey, snapshots } = await listForgotten(options)
    const chosen = snapshots.filter(({ structure }) => structure.ref.random === id)
    if (chosen.length > 0) await undelete(options, chosen, survey, false)
    one.forgottenAt = undefined
    await restoresTo(engine, one.tree, `${id}, forgotten in time and taken back`, id)
  }
  for (let i = 0; i < 2; i++) {
    clock.advance(20 * DAY)
    await plain.prune({ windowMs })
  }
  await quietly('after the last collections')
}
