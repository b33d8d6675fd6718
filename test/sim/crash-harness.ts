// One point of the crash suite: a scenario runs with one fault at one call, the machine comes up again, and everything that was promised is
// looked at. Nothing here knows where in the engine the call stands.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { TransmittedFile } from '../../agent/backup/backup-types.ts'
import { INDEX_BLOB_BYTES } from '../../agent/repository/index-file.ts'
import { SEGMENT_KIND } from '../../agent/repository/segment.ts'
import type { Entry } from '../../agent/repository/tree.ts'
import { type Engine, makeEngine, type Run } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { atCall, type Fault, noFaults, SimulatedCrash } from '../_support/simulated-store.ts'
import { atFileCall, type FileCall, fromFileCall } from '../_support/simulated-file-system.ts'

type EngineOptions = NonNullable<Parameters<typeof makeEngine>[0]>

export type Scenario = {
  readonly name: string
  readonly limits?: EngineOptions['limits']
  /** A history that is the same for all points and costly to make. */
  readonly history?: () => Promise<Pick<EngineOptions, 'bucket' | 'startMs'>>
  /** What stands before the run under test: source, earlier snapshots, cache. Files told of by then are added to `told`. */
  readonly prepare: (engine: Engine, told: TransmittedFile[]) => Promise<void>
}

export type Mode =
  | 'store crash before'
  | 'store crash after'
  | 'store fails once'
  | 'store fails after its effect'
  | 'store fails for good'
  | 'machine crash'
  | 'file call fails once'
  | 'disk full'

export const STORE_MODES: readonly Mode[] = [
  'store crash before',
  'store crash after',
  'store fails once',
  'store fails after its effect',
  'store fails for good',
]
export const FILE_MODES: readonly Mode[] = ['machine crash', 'file call fails once', 'disk full']

export type Point = { readonly scenario: Scenario; readonly mode: Mode; readonly call: number; readonly seed: string }

export function pointName(point: Point): string {
  return `${point.scenario.name}/${point.mode}/${point.call}/${point.seed}`
}

/** What a run without faults asks of the store and the file system, in order. */
export async function countCalls(scenario: Scenario): Promise<{ store: number; files: readonly FileCall[] }> {
  const engine = await makeEngine({ seed: 'count', limits: scenario.limits, ...(await scenario.history?.()) })
  await scenario.prepare(engine, [])
  const before = engine.bucket.trace.length
  engine.fs.clearCalls()
  await engine.backup()
  return { store: engine.bucket.trace.length - before, files: [...engine.fs.calls] }
}

function setFault(engine: Engine, { mode, call }: Point): void {
  const first = engine.bucket.trace.length + 1
  const at = first + call - 1
  const store = (fault: Fault) => engine.setStoreFaults(atCall(at, fault))
  switch (mode) {
    case 'store crash before':
      return store({ kind: 'crash', when: 'before' })
    case 'store crash after':
      return store({ kind: 'crash', when: 'after' })
    case 'store fails once':
      return store({ kind: 'fail', when: 'before', code: 'store-unreachable' })
    case 'store fails after its effect':
      return store({ kind: 'fail', when: 'after', code: 'store-unreachable' })
    case 'store fails for good':
      return engine.setStoreFaults((one) => (one.index >= at ? [{ kind: 'fail', when: 'before', code: 'store-full' }] : []))
    case 'machine crash':
      return engine.fs.setFaults(atFileCall(call, 'crash'))
    case 'file call fails once':
      return engine.fs.setFaults(atFileCall(call, 'EIO'))
    case 'disk full':
      return engine.fs.setFaults(fromFileCall(call, 'ENOSPC'))
  }
}

function demand(truth: boolean, what: string): void {
  if (!truth) throw new Error(what)
}

function same(a: Tree, b: Tree, what: string): void {
  for (const [path, text] of b) if (a.get(path) !== text) throw new Error(`${what}: ${path} is '${a.get(path)}', not '${text}'`)
  for (const path of a.keys()) if (!b.has(path)) throw new Error(`${what}: ${path} is too much`)
}

/** Runs one point; throws where anything that was promised does not hold. */
export async function runPoint(point: Point): Promise<'resolved' | 'rejected' | 'crashed'> {
  const { scenario, mode } = point
  const engine = await makeEngine({ seed: point.seed, limits: scenario.limits, ...(await scenario.history?.()) })
  const told: TransmittedFile[] = []
  await scenario.prepare(engine, told)
  const wanted = engine.source()
  const before = treesOf(engine)
  engine.fs.clearCalls()
  setFault(engine, point)

  let run: Run | undefined
  let error: unknown
  try {
    run = await engine.backup({ transmitted: told })
  } catch (thrown) {
    error = thrown
  }
  // What the process still had under way has its turns now; a dead one can do nothing with them.
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
  const crashed = engine.fs.crashed()
  if (crashed) {
    demand(run === undefined || mode.startsWith('store'), 'a run came to its end on a machine that was off')
    demand(run !== undefined || error instanceof SimulatedCrash, `a crash became ${String(error)}`)
  } else if (error !== undefined) {
    demand(isHoldfastError(error), `not an error of the family: ${error instanceof Error ? error.stack : String(error)}`)
    const codes = mode.startsWith('store') ? ['store-unreachable', 'store-full'] : ['local-disk', 'source-missing', 'source-unreadable']
    demand(
      isHoldfastError(error) && codes.includes(error.code),
      `the fault became ${isHoldfastError(error) ? error.code : ''}: ${String(error)}`,
    )
    demand(engine.fs.openDescriptors() === 0, `${engine.fs.openDescriptors()} descriptors stay open`)
  }
  engine.setStoreFaults(noFaults)
  engine.reboot(mode === 'machine crash' ? `${pointName(point)} loss` : undefined)

  // Every snapshot that is there reads back: the ones of before as they were, a new one as the source was.
  const after = treesOf(engine)
  for (const [id, tree] of before) same(after.get(id) ?? new Map(), tree, `snapshot ${id} of before`)
  const fresh = [...after].filter(([id]) => !before.has(id))
  demand(fresh.length <= 1, 'one run made several snapshots')
  if (run?.outcome === 'done') {
    demand(fresh.length === 1, 'a run was reported good and made no snapshot')
    same(fresh[0]![1], wanted, 'a snapshot that was reported good')
  }
  if (run?.outcome === 'incomplete') demand(mode === 'file call fails once' && run.problems.length > 0, 'incomplete without a reason')
  if (fresh.length === 1 && run?.outcome !== 'incomplete') same(fresh[0]![1], wanted, 'a snapshot of a run that was not reported good')
  checkNames(engine)

  // One more backup on what is left.
  engine.pass()
  const again = await engine.backup({ transmitted: told })
  demand(again.outcome === 'done', 'the run after the fault is not good')
  const trees = treesOf(engine)
  same([...trees.values()].at(-1)!, wanted, 'the snapshot after the fault')
  for (const [id, tree] of before) same(trees.get(id) ?? new Map(), tree, `snapshot ${id} of before, in the end`)
  demand(engine.fs.openDescriptors() === 0, `${engine.fs.openDescriptors()} descriptors stay open in the end`)
  const left = engine.fs.quietly(() => namesUnder(engine, '/state'))
  demand(!left.some((name) => /\.(part|pack|footer|tmp|new)$/.test(name)), `left in the state directory: ${left.join(' ')}`)
  checkUploads(engine, mode !== 'machine crash')
  // A file that could not be read to its end is in no snapshot of that run: chunks of it may have gone up under no file's name.
  checkTold(engine, told, run?.problems.map(({ path }) => path.toString('latin1')) ?? [])
  return crashed ? 'crashed' : run === undefined ? 'rejected' : 'resolved'
}

function treesOf(engine: Engine): Map<string, Tree> {
  const reader = engine.reader()
  return new Map(reader.snapshots.map((snapshot) => [snapshot.structure.ref.random, reader.tree(snapshot)]))
}

function namesUnder(engine: Engine, path: string): string[] {
  const fd = engine.fs.open(-100, Buffer.from(path), 'directory')
  const names = engine.fs.readDirectory(fd).map((name) => name.toString('latin1'))
  engine.fs.close(fd)
  return names.flatMap((name) => (name === 'spool' ? namesUnder(engine, `${path}/spool`) : [name]))
}

/** An index file names nothing that is not in the store (I4), and every snapshot's session is there. */
function checkNames(engine: Engine): void {
  const packs = new Set(engine.bucket.names('packs/').map((name) => name.slice(name.lastIndexOf('/') + 1)))
  for (const file of engine.reader().indexFiles)
    for (const pack of file.packs)
      demand(packs.has(`${pack.session}-${pack.random}`), `an index file names pack ${pack.random}, which is not there`)
  const sessions = new Set(engine.bucket.names('sessions/').map((name) => name.slice('sessions/'.length)))
  for (const name of [...engine.bucket.names('packs/'), ...engine.bucket.names('snapshots/')]) {
    const session = name.slice(name.lastIndexOf('/') + 1).split('-')[0]!
    demand(sessions.has(session), `${name} was stored before its session`)
  }
}

/** No pack goes up twice; and where the disk lost nothing, no chunk is stored twice. */
function checkUploads(engine: Engine, kept: boolean): void {
  const puts = new Map<string, number>()
  for (const { operation, name, outcome, bytes } of engine.bucket.trace)
    if (operation === 'put' && name.startsWith('packs/') && bytes > 0 && outcome === 'ok') puts.set(name, (puts.get(name) ?? 0) + 1)
  for (const [name, count] of puts) demand(count === 1, `${name} was uploaded ${count} times`)
  if (!kept) return
  const copies = new Map<string, Set<string>>()
  for (const file of engine.reader().indexFiles)
    for (let at = 0; at < file.blobs.length; at += INDEX_BLOB_BYTES) {
      const segment = file.segment(file.blobs.readUInt32LE(at + 32))
      if (segment.kind !== SEGMENT_KIND.chunk) continue
      const id = file.blobs.toString('hex', at, at + 32)
      const places = copies.get(id) ?? new Set()
      copies.set(id, places.add(file.packs[segment.pack]!.random))
    }
  for (const [id, places] of copies) demand(places.size === 1, `chunk ${id} was stored ${places.size} times`)
}

/** Files that were told as transmitted have all their chunks in the store, and every new file was told (O4). */
function checkTold(engine: Engine, told: readonly TransmittedFile[], failed: readonly string[]): void {
  const reader = engine.reader()
  const entries = reader.entries(reader.snapshots.at(-1)!)
  const earlier = reader.snapshots.slice(0, -1).flatMap((snapshot) => [...reader.entries(snapshot).values()].flatMap(reader.chunkIds))
  const old = new Set(earlier)
  const small = new Set(
    reader.snapshots
      .slice(0, -1)
      .flatMap((snapshot) => [...reader.entries(snapshot)].map(([path, { content }]) => inlineKey(path, content))),
  )
  const paths = new Set(told.map(({ path }) => path.toString('latin1')))
  for (const path of paths) {
    const entry = entries.get(path)
    demand(entry !== undefined, `${path} was told as transmitted and is not there`)
    for (const id of reader.chunkIds(entry!)) demand(reader.has(SEGMENT_KIND.chunk, id), `${path} was told and lacks chunk ${id}`)
  }
  const exempt = (path: string): boolean => failed.some((above) => path === above || path.startsWith(`${above}/`))
  for (const [path, entry] of entries) {
    const ids = reader.chunkIds(entry)
    if (entry.content?.kind === 'inline' && entry.size! > 0 && !small.has(inlineKey(path, entry.content)))
      demand(paths.has(path) || exempt(path), `${path} stands in the tree and was never told as transmitted`)
    if (ids.some((id) => !old.has(id)) && !exempt(path))
      demand(paths.has(path), `${path} has new content and was never told as transmitted`)
  }
}

function inlineKey(path: string, content: Entry['content']): string {
  return `${path} ${content?.kind === 'inline' ? content.bytes.toString('hex') : ''}`
}
