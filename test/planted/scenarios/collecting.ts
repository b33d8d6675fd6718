// What collection demands: nothing that a snapshot needs goes, whoever runs beside it and whatever a listing hides.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import { selectKept, type RetentionRules } from '@holdfast/shared/retention.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { writeOff } from '../../../agent/collection/forget.ts'
import { prune, type PruneReport } from '../../../agent/collection/prune.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { change, type Engine, fixtureRandom, makeEngine, type Run, writeFile } from '../../_support/engine-fixture.ts'
import { demand, restoresTo } from '../../sim/invariants.ts'
import { pausedBucket, pausedStore, type Stop } from '../_support/paused-bucket.ts'
import { SMALL_PACKS } from '../_support/sources.ts'

const DAY = 86_400_000

const idOf = (run: Run): string => run.snapshot!.ref.random

/** Each file of an owner of its own: segments never mix owners, so each is in a pack of its own. */
function fill(engine: Engine, folder: string, content: string, files = 6): void {
  for (let i = 0; i < files; i++) {
    const path = `/src/${folder}/${i}`
    writeFile(engine, path, fixtureRandom(`${content} ${i}`).bytes(4000))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(path), i, i))
  }
}

function clear(engine: Engine, folder: string, files = 6): void {
  change(engine, (fs) => {
    for (let i = 0; i < files; i++) fs.remove(CWD, Buffer.from(`/src/${folder}/${i}`), 'file')
  })
}

/** Two snapshots: the first one alone has the old content, the second alone the new, both have the rest. */
async function twoSnapshots(): Promise<{ engine: Engine; first: string; second: string }> {
  const engine = await makeEngine({ seed: 'collecting', limits: SMALL_PACKS })
  fill(engine, 'kept', 'kept')
  fill(engine, 'part', 'old')
  engine.pass()
  const first = idOf(await engine.backup())
  fill(engine, 'part', 'new')
  engine.pass()
  const second = idOf(await engine.backup())
  engine.pass()
  return { engine, first, second }
}

/** Another machine of the domain that collects. */
const collectorOf = (engine: Engine, seed = 'collector'): Promise<Engine> => makeEngine({ seed, beside: engine })

/** One collection that stops at one of its calls, where something else happens. */
async function pausedPrune(engine: Engine, stop: Stop, act: () => Promise<void>): Promise<PruneReport> {
  const { keys, clock, random, bucket } = engine
  const repository = await openRepository({ store: pausedStore(bucket.store('collector'), stop, act), keys: keys.write.structure })
  return prune({ repository, keys: keys.write, readKeys: keys.read, clock, random, mayDelete: true, dryRun: false })
}

/** Months of collections, each of which may say that it cannot. */
async function collectFor(engine: Engine, days: number, step = 8): Promise<void> {
  for (let day = 0; day < days; day += step) {
    engine.clock.advance(step * DAY)
    await engine.prune().catch(refused)
  }
}

/** What the product refuses by name is no violation by itself. */
function refused(error: unknown): void {
  if (!isHoldfastError(error)) throw error
}

/** Content that went with a collection and comes back into the source. */
export async function contentComesBack(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  await engine.forget(first)
  await engine.prune()
  engine.clock.advance(15 * DAY)
  demand((await engine.prune()).deleted.packs > 0, 'nothing was collected')
  fill(engine, 'again', 'old')
  engine.pass()
  await engine.backup()
  await restoresTo(engine, engine.source(), 'content that had been deleted and came back')
}

/** The same over months: a store that still lists the index file of what is gone. */
export async function deletedThenSeenAgain(): Promise<void> {
  const engine = await makeEngine({ seed: 'again', limits: SMALL_PACKS })
  fill(engine, 'kept', 'kept', 16)
  fill(engine, 'part', 'old', 2)
  engine.pass()
  const first = idOf(await engine.backup())
  clear(engine, 'part', 2)
  engine.pass()
  await engine.backup()
  await engine.forget(first)
  await engine.prune()
  engine.clock.advance(15 * DAY)
  demand((await engine.prune()).deleted.packs > 0, 'nothing was collected')
  fill(engine, 'part', 'old', 2)
  engine.pass()
  await engine.backup()
  await collectFor(engine, 48)
  await restoresTo(engine, engine.source(), 'content that was deleted, seen again, and collected around for weeks')
}

/** A listing of snapshots that leaves out what an earlier collection counted, and says that it is whole. */
export async function shortListing(): Promise<void> {
  const { engine, first, second } = await twoSnapshots()
  const listed = engine.bucket.names('snapshots/')
  const hidden = listed.at(-1)!.endsWith(second) ? second : first
  await engine.forget(hidden === second ? first : second)
  const tree = engine.reader().tree(engine.reader().snapshots.at(-1)!)
  await engine.prune()
  engine.setStoreFaults(({ operation, name }) => (operation === 'list' && name === 'snapshots/' ? [{ kind: 'short-list', drop: 1 }] : []))
  await collectFor(engine, 48)
  engine.setStoreFaults(() => [])
  await restoresTo(engine, tree, 'the snapshot that a short listing left out of collections', hidden)
}

/** A writer stands still while a collector that believes it dead condemns and deletes what the writer relies on. */
export async function suspendedWriter(): Promise<void> {
  for (const prefix of ['index/', 'snapshots/']) {
    const { engine, first, second } = await twoSnapshots()
    const collector = await collectorOf(engine)
    fill(engine, 'again', 'old')
    engine.pass()
    const bucket = pausedBucket(engine.bucket, { operation: 'put', prefix }, async () => {
      await collector.forget(first, second)
      await collector.prune({ windowMs: 0 })
      engine.clock.advance(2 * DAY)
      await collector.prune({ windowMs: 0 })
    })
    await engine.backup({ bucket })
    await restoresTo(engine, engine.source(), `a run that was suspended for two days before ${prefix}`)
  }
}

/** A writer so slow that the list which condemned what it relies on is gone again. */
export async function slowWriter(): Promise<void> {
  const { engine, first, second } = await twoSnapshots()
  const collector = await collectorOf(engine)
  clear(engine, 'kept')
  fill(engine, 'part', 'other')
  engine.pass()
  const third = idOf(await engine.backup())
  fill(engine, 'again', 'old')
  engine.pass()
  const bucket = pausedBucket(engine.bucket, { operation: 'put', prefix: 'snapshots/' }, async () => {
    await collector.forget(first, second)
    await collectFor(collector, 120, 4)
    demand(
      engine.bucket.names('snapshots/').some((name) => name.endsWith(third)),
      'the snapshot that counts is gone',
    )
  })
  let isGood = true
  await engine.backup({ bucket }).catch((error: unknown) => {
    refused(error)
    isGood = false
  })
  if (isGood) await restoresTo(engine, engine.source(), 'a run that took four months')
}

/** The advisory's four steps: a collection has looked, a snapshot appears that shares what it condemns, and the older snapshot was forgotten. */
export async function snapshotAppears(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  const writer = await makeEngine({ seed: 'writer', beside: engine })
  fill(writer, 'again', 'old')
  engine.pass()
  await engine.forget(first)
  let appeared = ''
  await pausedPrune(engine, { operation: 'put', prefix: 'lists/' }, async () => {
    appeared = idOf(await writer.backup())
  })
  demand(appeared !== '', 'the snapshot did not appear in time')
  await collectFor(engine, 48)
  await restoresTo(engine, writer.source(), 'a snapshot that appeared beside a collection', appeared)
}

/** Forgotten by mistake, and taken back within the window. */
export async function withinTheWindow(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  const tree = engine.reader().tree(engine.reader().snapshots[0]!)
  await engine.forget(first)
  for (let day = 0; day < 12; day += 2) {
    await engine.prune()
    engine.clock.advance(2 * DAY)
  }
  await takenBack(engine, tree, first, 'within the undelete window')
}

async function takenBack(engine: Engine, tree: ReturnType<Engine['newest']>, id: string, when: string): Promise<void> {
  await engine.undeleteLeft(id).catch((error: unknown) => {
    refused(error)
    throw new Error(`a snapshot does not come back ${when}: ${String(error)}`)
  })
  await collectFor(engine, 32)
  await restoresTo(engine, tree, `a snapshot that was taken back ${when}`, id)
}

/** Taken back by somebody while a collection is about to delete it. */
export async function takenBackMeanwhile(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  const tree = engine.reader().tree(engine.reader().snapshots[0]!)
  const other = await collectorOf(engine, 'somebody')
  await engine.forget(first)
  await engine.prune()
  engine.clock.advance(15 * DAY)
  let said = 'nobody took it back'
  // The collection lists the lists a second time right before it deletes.
  await pausedPrune(engine, { operation: 'list', prefix: 'lists/', nth: 2 }, async () => {
    said = `${(await other.undelete(first)).snapshots} taken back`
  })
  demand(said === '1 taken back', said)
  await restoresTo(engine, tree, 'a snapshot that was taken back before a collection deleted it', first)
}

/** A deletion that ends at any removal: what still stands can still be taken back. */
export async function deletionInOrder(): Promise<void> {
  for (let nth = 1; nth <= 8; nth++) {
    const { engine, first } = await twoSnapshots()
    const tree = engine.reader().tree(engine.reader().snapshots[0]!)
    await engine.forget(first)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    let removals = 0
    engine.setStoreFaults(({ operation }) => (operation === 'remove' && ++removals === nth ? [{ kind: 'crash', when: 'after' }] : []))
    await engine.prune().catch(() => undefined)
    engine.reboot()
    if (engine.bucket.names('snapshots/').some((name) => name.endsWith(first)))
      await takenBack(engine, tree, first, `after a deletion that ended at removal ${nth}`)
  }
}

/** Objects that do not open lie among lists, forget records, sessions and ends; collection goes on and the index stays small. */
export async function poisonObjects(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  await engine.forget(first)
  const random = fixtureRandom('poison')
  const ref = (): { session: string; random: string } => ({
    session: random.bytes(16).toString('hex'),
    random: random.bytes(16).toString('hex'),
  })
  const store = engine.bucket.store('somebody')
  const forget = ref()
  const names = [objectName('list', ref()), objectName('forget', forget), `sessions/${ref().session}`, `ends/${ref().session}`]
  for (const name of names) await store.put(name, { kind: 'bytes', bytes: random.bytes(300) })
  let deleted = 0
  for (let day = 0; day < 100; day += 4) {
    fill(engine, 'part', `day ${day}`, 2)
    engine.clock.advance(4 * DAY)
    await engine.backup().catch(refused)
    const report = await engine.prune().catch((error: unknown) => {
      refused(error)
      throw new Error(`an object that does not open keeps everything from being collected: ${String(error)}`)
    })
    deleted += report.deleted.packs
    // A forget record that does not open may have taken back what is forgotten: the root says that nobody waits for it.
    if (day === 40) {
      const { keys, clock } = engine
      const repository = await openRepository({ store: engine.store(), keys: keys.write.structure })
      await writeOff({ repository, keys: keys.write, clock, random }, { kind: 'forget', ref: forget, name: objectName('forget', forget) })
    }
  }
  demand(deleted > 0, 'nothing was collected beside objects that do not open')
  const { length } = engine.bucket.names('index/')
  demand(length < 20, `${length} index files stand beside objects that do not open`)
}

/** No name is ever put twice, so that a reader who sees an older state of a name sees nothing else in its place. */
export async function namesOnce(): Promise<void> {
  const { engine, first } = await twoSnapshots()
  await engine.forget(first)
  for (let day = 0; day < 32; day += 4) {
    fill(engine, 'part', `day ${day}`, 2)
    engine.clock.advance(4 * DAY)
    await engine.forget(idOf(await engine.backup())).catch(refused)
    await engine.prune().catch(refused)
  }
  const puts = new Map<string, number>()
  for (const { operation, name } of engine.bucket.trace) if (operation === 'put') puts.set(name, (puts.get(name) ?? 0) + 1)
  for (const [name, count] of puts) demand(count === 1, `${name} was put ${count} times: who reads it back may see either`)
}

/** Whatever the rules, some snapshot of a series stays; rules that keep nothing are refused. */
export async function rulesKeepSome(): Promise<void> {
  const random = fixtureRandom('rules')
  const below = (limit: number): number => random.bytes(2).readUInt16LE() % limit
  const now = 1_800_000_000_000
  for (let round = 0; round < 500; round++) {
    const snapshots = Array.from({ length: 1 + below(20) }, (_, i) => {
      const at = now - below(1000) * DAY
      return { id: `${i}`, at, claimedAt: at + (below(3) === 0 ? below(10) * DAY : 0) }
    })
    const rules: RetentionRules = {
      last: below(2) * below(3),
      withinDays: below(2) * below(40),
      daily: below(2) * below(8),
      monthly: below(2) * below(4),
    }
    const isEmpty = Object.values(rules).every((count) => count === 0)
    try {
      const { kept } = selectKept(snapshots, rules, now)
      demand(!isEmpty, 'rules that keep nothing were taken')
      demand(kept.size > 0, `the rules ${JSON.stringify(rules)} select all ${snapshots.length} snapshots of a series`)
    } catch (error) {
      if (!(error instanceof RangeError) || !isEmpty) throw error
    }
  }
}
