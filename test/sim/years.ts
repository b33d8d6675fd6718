// Years of daily backups, retention and collection on a simulated machine, with the figures of each month. Packs, segments and chunks are smaller than
// real ones and stand in the same proportions.
import { forgetByRetention } from '../../agent/collection/forget.ts'
import type { PruneReport } from '../../agent/collection/prune.ts'
import { type Chunking, openRepository } from '../../agent/repository/repository.ts'
import { type Engine, makeEngine } from '../_support/engine-fixture.ts'
import { memoryCache } from '../_support/memory-cache.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { churningSource } from './churning-source.ts'

const DAY_MS = 86_400_000
const RULES = { daily: 7, weekly: 4, monthly: 12 }
export const KEPT_MAX = 7 + 4 + 12
/** Ten segments a pack and two to three packs a day: real ones have sixteen, and a day of a hundred gigabytes sixty-four packs. */
const CHUNKING: Chunking = { mode: 'gear', min: 4096, mean: 16_384, max: 65_536 }
const LIMITS = { packBytes: 128 * 1024, segmentBytes: 12 * 1024 }
const FILES = 1500

/** Bytes and counts at the end of a month. */
export type Month = {
  readonly day: number
  /** What a fresh repository of the newest snapshot alone would hold. */
  readonly newest: number
  /** All packs; and of them the share that kept snapshots need. */
  readonly stored: number
  readonly needed: number
  /** Condemned and waiting for the undelete window; condemned for reuse and still needed in part. */
  readonly waiting: number
  readonly sparse: number
  /** Of one day, on average. */
  readonly changed: number
  readonly uploaded: number
  readonly moved: number
  readonly backupCalls: number
  readonly pruneCalls: number
  readonly objects: Readonly<Record<string, number>>
}

export type Years = {
  readonly months: readonly Month[]
  readonly engine: Engine
  /** What each kept snapshot should hold, by its id. */
  readonly trees: ReadonlyMap<string, Tree>
}

/** One per cent of the bytes changes a day, nine tenths of it in a tenth of the files; each day one backup, retention, one collection. */
export async function simulateYears(options: { seed: string; days: number; onMonth: (month: Month) => void }): Promise<Years> {
  const { seed, days } = options
  const cache = memoryCache()
  const engine = await makeEngine({ seed: `years ${seed}`, chunking: CHUNKING, limits: LIMITS, cache, startMs: Date.UTC(2027, 0, 4, 1) })
  const source = churningSource(engine, { seed, files: FILES, share: 0.01, hotShare: 0.9 })
  const trees = new Map<string, Tree>()
  const months: Month[] = []
  let newest = 0
  let sums = NOTHING
  for (let day = 0; day <= days; day++) {
    const changed = day === 0 ? 0 : source.change()
    engine.pass()
    const backup = await counted(engine, () => engine.backup())
    const { snapshot, summary, outcome } = backup.result
    if (outcome !== 'done') throw new Error(`the backup of day ${day} is ${outcome}`)
    trees.set(snapshot!.ref.random, source.tree())
    // The source is as large every day.
    if (day === 0) newest = packBytes(engine)
    const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure, cache })
    const { keys, clock, random } = engine
    for (const id of await forgetByRetention({ repository, keys: keys.write, clock, random }, snapshot!.series, RULES)) trees.delete(id)
    const collection = await counted(engine, () => engine.prune({ packBytes: LIMITS.packBytes }))
    if (day > 0)
      sums = {
        days: sums.days + 1,
        changed: sums.changed + changed,
        uploaded: sums.uploaded + summary.bytesStored,
        moved: sums.moved + collection.result.moved.bytes,
        backupCalls: sums.backupCalls + backup.calls,
        pruneCalls: sums.pruneCalls + collection.calls,
      }
    if (sums.days === 30 || day === days) {
      const month = monthOf(engine, day, newest, collection.result, sums)
      months.push(month)
      options.onMonth(month)
      sums = NOTHING
    }
    engine.bucket.compact()
    engine.fs.clearCalls()
    engine.clock.advance(DAY_MS - (engine.clock.now() % DAY_MS) + 3_600_000)
  }
  return { months, engine, trees }
}

const NOTHING = { days: 0, changed: 0, uploaded: 0, moved: 0, backupCalls: 0, pruneCalls: 0 }

async function counted<T>(engine: Engine, act: () => Promise<T>): Promise<{ result: T; calls: number }> {
  const before = engine.bucket.trace.length
  const result = await act()
  return { result, calls: engine.bucket.trace.length - before }
}

function packBytes({ bucket }: Engine): number {
  return bucket.names('packs/').reduce((sum, name) => sum + bucket.content(name)!.length, 0)
}

function monthOf(engine: Engine, day: number, newest: number, report: PruneReport, sums: typeof NOTHING): Month {
  const count = (prefix: string): number => engine.bucket.names(prefix).length
  const forgets = count('lists/forgets/')
  return {
    day,
    newest,
    stored: packBytes(engine),
    needed: report.liveBytes,
    waiting: report.waiting.bytes,
    sparse: report.waitingForWriters.bytes,
    changed: sums.changed / sums.days,
    uploaded: sums.uploaded / sums.days,
    moved: sums.moved / sums.days,
    backupCalls: sums.backupCalls / sums.days,
    pruneCalls: sums.pruneCalls / sums.days,
    objects: {
      packs: count('packs/'),
      snapshots: count('snapshots/'),
      index: count('index/'),
      sessions: count('sessions/'),
      ends: count('ends/'),
      lists: count('lists/') - forgets,
      forgets,
    },
  }
}

/** One line for a person. */
export function monthLine(month: Month): string {
  const times = (bytes: number): string => (bytes / month.newest).toFixed(2)
  const kib = (bytes: number): string => (bytes / 1024).toFixed(0)
  const { stored, needed } = month
  return (
    `day ${month.day}: stored ${times(stored)} x newest, ${(stored / needed).toFixed(2)} x needed (needed ${times(needed)}, waiting ${times(month.waiting)}, for writers ${times(month.sparse)}); ` +
    `a day: changed ${kib(month.changed)} KiB, uploaded ${kib(month.uploaded)}, moved ${kib(month.moved)}, calls ${month.backupCalls.toFixed(0)} + ${month.pruneCalls.toFixed(0)}; ` +
    Object.entries(month.objects)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(', ')
  )
}
