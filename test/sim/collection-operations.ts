// Forgetting, each phase of a collection, taking back, and repair as the crash suite runs them. In each the oldest snapshot is given up; all others
// stay whole at every point, and running the operation again brings it to its end.
import { CWD } from '../../agent/file-system/file-system.ts'
import { repairRepository } from '../../agent/repair/repair.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { change, type Engine, fixtureRandom, writeFile } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'
import type { Attempt, Operation } from './crash-harness.ts'
import { countingIds, demand, restoresTo } from './invariants.ts'

const DAY = 86_400_000
/** Packs hold a few segments, so that some are half dead after a change. */
const LIMITS = { packBytes: 12_000, uploadsAtOnce: 2 }
/** What the snapshot that is given up held, and its id. */
const givenUp = new WeakMap<Engine, { readonly id: string; readonly tree: Tree }>()

function fill(engine: Engine, which: string, owners: readonly number[]): void {
  for (const owner of owners) {
    writeFile(engine, `/src/owner-${owner}`, fixtureRandom(`${which} ${owner}`).bytes(2500 + owner * 400))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/owner-${owner}`), owner, owner))
  }
}

/** Two snapshots; most of what the first one holds is nowhere else, and what it shares with the second stands in packs that are half dead. */
async function twoSnapshots(engine: Engine): Promise<void> {
  fill(engine, 'old', [0, 1, 2, 3, 4, 5])
  writeFile(engine, '/src/same', fixtureRandom('same').bytes(3000))
  engine.pass()
  const { snapshot } = await engine.backup()
  givenUp.set(engine, { id: snapshot!.ref.random, tree: engine.source() })
  engine.clock.advance(DAY)
  fill(engine, 'new', [0, 1, 3, 4, 5])
  engine.pass()
  await engine.backup()
  engine.clock.advance(DAY)
}

async function condemned(engine: Engine): Promise<void> {
  await twoSnapshots(engine)
  await engine.forget(givenUp.get(engine)!.id)
  await engine.prune()
}

const prune = async (engine: Engine, { signal }: Pick<Attempt, 'signal'>): Promise<void> => {
  await engine.prune({ signal })
}

export const FORGET: Operation = {
  name: 'forget',
  limits: LIMITS,
  losesOldest: true,
  prepare: twoSnapshots,
  run: (engine) => engine.forget(givenUp.get(engine)!.id),
  after: async (engine) => {
    const { id } = givenUp.get(engine)!
    await engine.forget(id)
    demand(!(await countingIds(engine)).has(id), 'a snapshot that was forgotten counts')
  },
}

/** Marking, moving what is left in sparse packs, and publishing what is condemned. */
export const CONDEMN: Operation = {
  name: 'condemn',
  limits: LIMITS,
  prepare: async (engine) => {
    await twoSnapshots(engine)
    await engine.forget(givenUp.get(engine)!.id)
  },
  run: prune,
  after: async (engine) => {
    await engine.prune()
    await engine.undelete()
    const { id, tree } = givenUp.get(engine)!
    await restoresTo(engine, tree, 'a snapshot that was taken back', id)
  },
}

/** Publishing what goes, and deleting it, when the undelete window is over. */
export const DELETE: Operation = {
  name: 'delete',
  limits: LIMITS,
  prepare: async (engine) => {
    await condemned(engine)
    engine.clock.advance(15 * DAY)
  },
  run: prune,
}

/** Index files without what was deleted, and what nothing depends on any more. */
export const TIDY: Operation = {
  name: 'tidy',
  limits: LIMITS,
  prepare: async (engine) => {
    await condemned(engine)
    engine.clock.advance(15 * DAY)
    await engine.prune()
    engine.clock.advance(31 * DAY)
  },
  run: prune,
}

export const UNDELETE: Operation = {
  name: 'undelete',
  limits: LIMITS,
  prepare: condemned,
  run: async (engine) => {
    await engine.undelete()
  },
  after: async (engine) => {
    await engine.undelete()
    const { id, tree } = givenUp.get(engine)!
    demand((await countingIds(engine)).has(id), 'a snapshot that was taken back does not count')
    await restoresTo(engine, tree, 'a snapshot that was taken back', id)
  },
}

/** A backup of what is condemned and comes again (B30): nothing of it is relied on. */
export const COME_AGAIN: Operation = {
  name: 'come again',
  limits: LIMITS,
  prepare: async (engine) => {
    await condemned(engine)
    fill(engine, 'old', [0, 1, 2])
    engine.pass()
  },
  run: (engine, { signal, told }) => engine.backup({ signal, transmitted: told }),
}

/** A backup beside which a collection condemned and deleted what its cache speaks of (B1, B29). */
export const AFTER_DELETION: Operation = {
  name: 'after a deletion',
  limits: LIMITS,
  prepare: async (engine) => {
    await condemned(engine)
    engine.clock.advance(15 * DAY)
    await engine.prune()
    fill(engine, 'old', [0, 1, 2])
    engine.pass()
  },
  run: (engine, { signal, told }) => engine.backup({ signal, transmitted: told }),
}

/** New index files from footers, where the index is lost. */
export const REPAIR: Operation = {
  name: 'repair',
  limits: LIMITS,
  unindexed: true,
  prepare: async (engine) => {
    await twoSnapshots(engine)
    for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => undefined)
  },
  run: async (engine, { signal }) => {
    const { keys, random, clock } = engine
    const repository = await openRepository({ store: engine.store(), keys: keys.write.structure, signal })
    await repairRepository({
      repository,
      keys: keys.write,
      read: keys.read,
      readData: 'all',
      dryRun: false,
      random,
      now: clock.now(),
      signal,
    })
  },
}

export const COLLECTION_OPERATIONS: readonly Operation[] = [FORGET, CONDEMN, DELETE, TIDY, UNDELETE, COME_AGAIN, AFTER_DELETION, REPAIR]
