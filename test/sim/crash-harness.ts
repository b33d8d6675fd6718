// One point of the crash suite: an operation runs with one fault at one call, the machine comes up again, and everything that was promised is looked
// at; then comes one more backup and a full restore. Nothing here knows where in the product the call stands.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import type { TransmittedFile } from '../../agent/backup/backup-types.ts'
import { type Engine, makeEngine, type Run } from '../_support/engine-fixture.ts'
import type { PlainReader, Tree } from '../_support/plain-reader.ts'
import { noFaults, SimulatedCrash } from '../_support/simulated-store.ts'
import {
  checkMerges,
  checkNames,
  checkState,
  checkTold,
  checkUploads,
  countingIds,
  demand,
  restoredTrees,
  restoresOrTells,
  restoresTo,
  same,
  treesOf,
} from './invariants.ts'
import { type Call, callsOf, type Mode } from './modes.ts'

type EngineOptions = NonNullable<Parameters<typeof makeEngine>[0]>

/** What an operation under test is given: the signal that a person's interruption aborts, where to tell of files that were transmitted, and whether
 * the store may lie to it. */
export type Attempt = { readonly signal: AbortSignal; readonly told: TransmittedFile[]; readonly lies: boolean }

export type Operation = {
  readonly name: string
  readonly limits?: EngineOptions['limits']
  /** A history that is the same for all points and costly to make. */
  readonly history?: () => Promise<Pick<EngineOptions, 'bucket' | 'startMs'>>
  /** What stands before the operation: source, earlier snapshots, cache. Files told of by then are added to `told`. */
  readonly prepare: (engine: Engine, told: TransmittedFile[]) => Promise<void>
  /** The operation itself, in the process that runs now. A backup gives its run. */
  readonly run: (engine: Engine, attempt: Attempt) => Promise<Run | void>
  /** Writes and removes nothing in the store, whatever happens (I3, I7). */
  readonly readsOnly?: boolean
  /** Packs stand in no index file before it: what is there is read with the product alone. */
  readonly unindexed?: boolean
  /** Gives up the oldest snapshot, which may be there or not afterwards. */
  readonly losesOldest?: boolean
  /** So many points by default; 100 unless given. */
  readonly share?: number
  /** What holds for this operation alone once the machine is up again: mostly that running it again brings it to its end. */
  readonly after?: (engine: Engine) => Promise<void>
}

export type Point = { readonly operation: Operation; readonly mode: Mode; readonly call: Call; readonly seed: string }
export type End = 'resolved' | 'rejected' | 'crashed'

export function pointName({ operation, mode, call, seed }: Point): string {
  return `${operation.name}/${mode.name}/${call.index}/${seed}`
}

async function made(operation: Operation, seed: string, told: TransmittedFile[]): Promise<Engine> {
  const engine = await makeEngine({ seed, limits: operation.limits, ...(await operation.history?.()) })
  await operation.prepare(engine, told)
  engine.fs.clearCalls()
  return engine
}

/** What an undisturbed operation asks of the store and the file system, in order. */
export async function countCalls(operation: Operation): Promise<ReturnType<typeof callsOf>> {
  const engine = await made(operation, 'count', [])
  const before = engine.bucket.trace.length
  await operation.run(engine, { signal: new AbortController().signal, told: [], lies: false })
  return callsOf(engine.bucket.trace.slice(before), engine.fs.calls)
}

/** Runs one point; throws where anything that was promised does not hold. */
export async function runPoint(point: Point): Promise<End> {
  const { operation, mode, call } = point
  const told: TransmittedFile[] = []
  const engine = await made(operation, point.seed, told)
  const wanted = engine.source()
  const before = operation.unindexed === true ? await restoredTrees(engine) : treesOf(engine.reader())
  const counting = await countingIds(engine)
  for (const id of [...before.keys()]) if (!counting.has(id)) before.delete(id)
  if (operation.losesOldest === true) before.delete([...before.keys()][0]!)
  const byProduct = mode.lies === true || operation.unindexed === true
  const known = new Set(engine.bucket.names('snapshots/').map((name) => parseObjectName(name)!.random))
  const traced = engine.bucket.trace.length
  const abort = new AbortController()
  mode.arm(engine, call, abort)

  let run: Run | void = undefined
  let error: unknown
  try {
    run = await operation.run(engine, { signal: abort.signal, told, lies: mode.lies === true })
  } catch (thrown) {
    error = thrown
  }
  // What the process still had under way has its turns now; a dead one can do nothing with them.
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
  const crashed = engine.fs.crashed()
  judgeEnd(mode, engine, error, crashed, run !== undefined)
  engine.setStoreFaults(noFaults)
  engine.fs.setFaults(() => undefined)
  engine.reboot(mode.losesFiles === true ? `${pointName(point)} loss` : undefined)
  // What a late store holds back shows by now.
  if (mode.lies === true) engine.clock.advance(2 * 3_600_000)
  if (operation.readsOnly === true)
    for (const { operation: done, name } of engine.bucket.trace.slice(traced))
      demand(done !== 'put' && done !== 'remove', `a command that only reads did ${done} ${name}`)

  const spoilt = new Set(mode.spoils === true ? [engine.bucket.trace[traced + call.index - 1]?.name ?? ''] : [])
  if (byProduct) await nothingWrong(engine, before, run, wanted)
  else {
    const reader = engine.reader(spoilt)
    checkSnapshots(reader, { mode, before, run, wanted, known })
    checkNames(engine, reader, spoilt)
    if (spoilt.size === 0) checkMerges(engine)
  }
  if (operation.after !== undefined) await operation.after(engine)
  await oneMore(engine, { mode, before, wanted, told, run, spoilt, byProduct })
  return crashed ? 'crashed' : error !== undefined ? 'rejected' : 'resolved'
}

/** Only a crash or an error of the family comes out, with a code that says what happened; and nothing stays open. */
function judgeEnd(mode: Mode, engine: Engine, error: unknown, crashed: boolean, finished: boolean): void {
  if (crashed) {
    demand(!finished || mode.seam === 'store', 'an operation came to its end on a machine that was off')
    demand(error === undefined || error instanceof SimulatedCrash, `a crash became ${String(error)}`)
    return
  }
  if (error === undefined) return
  const shown = error instanceof Error ? error.stack : String(error)
  demand(isHoldfastError(error), `not an error of the family: ${shown}`)
  demand(mode.codes.includes(error.code), `'${mode.name}' became ${error.code}: ${shown}`)
  demand(engine.fs.openDescriptors() === 0, `${engine.fs.openDescriptors()} descriptors stay open`)
}

type Made = { readonly mode: Mode; readonly before: Map<string, Tree>; readonly run: Run | void; readonly wanted: Tree }

/** Every snapshot that is there reads back: the ones of before as they were, a new one as the source was. */
function checkSnapshots(reader: PlainReader, { mode, before, run, wanted, known }: Made & { readonly known: ReadonlySet<string> }): void {
  const after = treesOf(reader, (id) => before.has(id) || !known.has(id))
  for (const [id, tree] of before) same(after.get(id) ?? new Map(), tree, `snapshot ${id} of before`)
  const fresh = [...after].filter(([id]) => !known.has(id))
  demand(fresh.length <= 1, 'one run made several snapshots')
  if (run?.outcome === 'done') {
    demand(fresh.length === 1, 'a run was reported good and made no snapshot')
    same(fresh[0]![1], wanted, 'a snapshot that was reported good')
  }
  if (run?.outcome === 'incomplete') demand(mode.name === 'file call fails once' && run.problems.length > 0, 'incomplete without a reason')
  if (fresh.length === 1 && run?.outcome !== 'incomplete') same(fresh[0]![1], wanted, 'a snapshot of a run that was not reported good')
}

/** After a lie: each snapshot restores exactly, or the restore says that it does not. */
async function nothingWrong(engine: Engine, before: Map<string, Tree>, run: Run | void, wanted: Tree): Promise<void> {
  for (const [id, tree] of before) await restoresTo(engine, tree, `snapshot ${id} of before`, id)
  const id = run?.snapshot?.ref.random
  if (id === undefined || run?.outcome === 'incomplete') return
  await restoresOrTells(engine, wanted, 'a snapshot stored by a store that lied', id)
}

/** One more backup on what is left, and a full restore. */
async function oneMore(
  engine: Engine,
  {
    mode,
    before,
    wanted,
    told,
    run,
    spoilt,
    byProduct,
  }: Made & {
    readonly told: TransmittedFile[]
    readonly spoilt: ReadonlySet<string>
    readonly byProduct: boolean
  },
): Promise<void> {
  engine.pass()
  const again = await engine.backup({ transmitted: told }).catch((error: unknown) => {
    // A name that a broken put spoilt is given up by the run that finds it so.
    if (mode.spoils !== true || !isHoldfastError(error, 'store-unsuitable')) throw error
    return engine.backup({ transmitted: told })
  })
  demand(again.outcome === 'done', 'the run after the fault is not good')
  await restoresTo(engine, wanted, 'the snapshot after the fault', again.snapshot!.ref.random)
  checkState(engine)
  const good = new Map([...before, [again.snapshot!.ref.random, wanted]])
  if (byProduct) return collected(engine, good, mode)
  const reader = engine.reader(spoilt)
  const trees = treesOf(reader, (id) => good.has(id))
  same(trees.get(again.snapshot!.ref.random) ?? new Map(), wanted, 'the snapshot after the fault')
  for (const [id, tree] of before) same(trees.get(id) ?? new Map(), tree, `snapshot ${id} of before, in the end`)
  if (spoilt.size > 0) return collected(engine, good, mode)
  checkMerges(engine)
  const isCollected = engine.bucket.names('lists/').length > 0
  checkUploads(engine, reader, mode.losesFiles !== true && !isCollected)
  // A file that could not be read to its end is in no snapshot of that run: chunks of it may have gone up under no file's name.
  if (!isCollected) checkTold(reader, told, run?.problems.map(({ path }) => path.toString('latin1')) ?? [])
  await collected(engine, good, mode)
}

/** One more collection, to the end of everything that nothing needs: what is good restores. */
async function collected(engine: Engine, good: ReadonlyMap<string, Tree>, mode: Mode): Promise<void> {
  for (let i = 0; i < 2; i++) {
    engine.clock.advance(15 * 86_400_000)
    try {
      await engine.prune()
    } catch (error) {
      // What a lie or a broken put left damaged stops a collection, and a person decides.
      if ((mode.lies !== true && mode.spoils !== true) || !isHoldfastError(error, 'damaged')) throw error
    }
  }
  for (const [id, tree] of good) await restoresTo(engine, tree, `snapshot ${id} after a collection`, id)
}
