// The work of `deletions`: looks into one store for signed lists of what is to be deleted, and carries out those that are explained, name by name.
// Safe to repeat and to cut off anywhere: rows say what was decided, and removing what is gone changes nothing.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { objectName, parseObjectName, refKey } from '@holdfast/shared/format/layout.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { LruMap } from '@holdfast/shared/lru-map.ts'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'
import type { Context } from '../context.ts'
import type { Audit } from '../records/records.ts'
import type { AgentRow, DeletionReason, DeletionRow, StoreRow } from '../records/rows.ts'
import { booksFor } from './books.ts'
import { explainDeletion, SLACK_MS, type DeletionStored, type Explanation } from './explain.ts'
import { LOOKS_GAP_MS } from './gone.ts'
import { listNames, nameOf, readList, readLists, storeFacts, type ReadList, type ReadLists } from './store-facts.ts'
import { openDeleteCredentials } from './store-access.ts'

export type DeletionDeps = Pick<Context, 'records' | 'clock' | 'random' | 'log' | 'keys' | 'openStore'> & {
  readonly config: Pick<Context['config'], 'undeleteMs' | 'deletionsEveryMs'>
}

export type DeletionLook = {
  readonly open: number
  readonly held: number
  readonly done: number
  readonly removed: number
  /** When to look again, in milliseconds; undefined where this server may no longer delete there. */
  readonly againMs: number | undefined
}

/** Names between two looks at whether a list came that may take something back. */
const BATCH = 500
const AT_ONCE = 16
/** And it is looked again sooner where so much time went by: a server that was stopped for hours must not go on as if nobody had taken anything back. */
const LOOK_AGAIN_MS = 30_000
const AT_LEAST_MS = 1000
/** What is deleted before what: a snapshot before what it needs, so that none is ever there without its packs; lists, which explain it, last. */
const ORDER: readonly DeletableName['kind'][] = ['snapshot', 'pack', 'index', 'end', 'session', 'forget', 'list']
/** What holds a list for a while and says nothing about it: an approval outlasts these. */
const PASSING: ReadonlySet<DeletionReason['code']> = new Set(['clocks-disagree', 'unreadable', 'too-early'])
const isSnapshot = ({ kind }: DeletableName): boolean => kind === 'snapshot'
/** Lists that were read and are no deletions, so that each is read once by one server; losing it costs reading them again. */
const otherLists = new WeakMap<DeletionDeps['records'], LruMap<string, true>>()

/** One look into a store. Rejects with what the store says (`store-…`), `not-found` or `wrong-key`; what was decided by then stays. */
export async function lookForDeletions(deps: DeletionDeps, storeId: string): Promise<DeletionLook> {
  const { records, keys } = deps
  const row = await records.get({ table: 'stores', id: storeId })
  if (row === undefined) throw new HoldfastError('not-found', `no store ${storeId}; this job is of another database`)
  const nothing = { open: 0, held: 0, done: 0, removed: 0 }
  if (row.deleteCredentials === null) return { ...nothing, againMs: undefined }
  const store = await deps.openStore(row, openDeleteCredentials(keys, storeId, row.deleteCredentials))
  try {
    const agents = await agentsOf(deps, row.controllerId)
    await noteNew(deps, row, store, agents)
    const open = await records.openDeletions({ storeId })
    if (open.length === 0) return { ...nothing, againMs: deps.config.deletionsEveryMs }
    let { held, done, removed } = nothing
    let againMs = deps.config.deletionsEveryMs
    for (const deletion of open) {
      // Read anew for each: the one before may have taken a while.
      const signers = await agentsOf(deps, row.controllerId)
      const read = await readLists(store, signers)
      const unreadable = await inTheWay(deps, row, read.unreadable)
      const end = await examine(deps, row, store, deletion, { ...read, unreadable, signers })
      held += end.row.state === 'held' ? 1 : 0
      done += end.row.state === 'done' ? 1 : 0
      removed += end.removed
      againMs = Math.max(AT_LEAST_MS, Math.min(againMs, end.againMs ?? againMs))
    }
    return { open: open.length, held, done, removed, againMs }
  } finally {
    await store.close()
  }
}

/** The lists, and the agents of the controller as they were when it was decided whose lists count. */
type Read = ReadLists & { readonly signers: readonly AgentRow[] }

/** Whether this server may still delete there, and nobody whose lists counted has been revoked since. */
async function mayGoOn(deps: DeletionDeps, storeId: string, { signers }: Read): Promise<boolean> {
  const store = await deps.records.get({ table: 'stores', id: storeId })
  if (store === undefined || store.deleteCredentials === null) return false
  const active = new Set((await agentsOf(deps, store.controllerId)).flatMap(({ id, state }) => (state === 'active' ? [id] : [])))
  return signers.every(({ id, state }) => state !== 'active' || active.has(id))
}

async function agentsOf({ records }: DeletionDeps, controllerId: string): Promise<AgentRow[]> {
  const agents: AgentRow[] = []
  let after: number | undefined
  do {
    const page = await records.list({ table: 'agents', where: { controllerId }, limit: 500, after })
    agents.push(...page.items)
    after = page.next ?? undefined
  } while (after !== undefined)
  return agents
}

/** Gives every deletion list, and every list that cannot be read, a row. */
async function noteNew(deps: DeletionDeps, row: StoreRow, store: Store, agents: readonly AgentRow[]): Promise<void> {
  const { records } = deps
  const others = otherLists.get(records) ?? new LruMap<string, true>(10_000)
  otherLists.set(records, others)
  for (const info of await listNames(store)) {
    const ref = parseObjectName(info.name)
    const key = `${row.id} ${info.name}`
    if (ref === undefined || others.get(key) === true) continue
    if ((await records.find({ table: 'deletions', where: { storeId: row.id, ...ref } })) !== undefined) continue
    const read = await readList(store, info, agents)
    if (read !== undefined && read.list.kind !== 'deletion') others.set(key, true)
    else await noteOne(deps, row, info, ref, read)
  }
}

async function noteOne(
  { records, random, clock, log }: DeletionDeps,
  { id: storeId, controllerId }: StoreRow,
  info: ObjectInfo,
  ref: { session: string; random: string },
  read: ReadList | undefined,
): Promise<void> {
  const names = read?.list.kind === 'deletion' ? read.list.names : []
  const at = clock.now()
  const id = makeId(random, 'deletion')
  await records.noteDeletion({
    row: {
      ...{ id, createdAt: at, storeId, controllerId, agentId: read?.agentId ?? null, ...ref, listedAt: info.storedAt, state: 'waiting' },
      ...{
        code: null,
        reasons: [],
        counts: countsOf(names),
        waitUntil: null,
        why: null,
        decidedBy: null,
        decidedAt: null,
        removed: 0,
        removedBytes: 0,
      },
      ...{ updatedAt: at, endedAt: null },
    },
  })
  log.info('deletion-found', { deletionId: id, storeId, count: names.length })
}

function countsOf(names: readonly DeletableName[]): DeletionRow['counts'] {
  const [snapshots, packs] = (['snapshot', 'pack'] as const).map((kind) => names.filter((name) => name.kind === kind).length)
  return { snapshots: snapshots!, packs: packs!, others: names.length - snapshots! - packs! }
}

/**
 * Which lists that cannot be read stand in the way of others: not those that a person refused, nor a deletion that was carried out and went bad since,
 * which took nothing back. Each of the rest has an open row from the next look on, so that a person may refuse it, also where it could be read before.
 */
async function inTheWay({ records, clock }: DeletionDeps, { id: storeId }: StoreRow, unreadable: readonly string[]): Promise<string[]> {
  const left: string[] = []
  for (const name of unreadable) {
    const ref = parseObjectName(name)
    const row = ref && (await records.find({ table: 'deletions', where: { storeId, ...ref } }))
    if (row?.state === 'done' || (row?.state === 'refused' && row.decidedBy !== 'system')) continue
    left.push(name)
    if (row === undefined) otherLists.get(records)?.delete(`${storeId} ${name}`)
    else if (row.state === 'refused') {
      const patch = { state: 'waiting', code: null, decidedBy: null, endedAt: null, updatedAt: clock.now() } as const
      await records.moveDeletion({ id: row.id, from: ['refused'], patch }, undefined)
    }
  }
  return left
}

type Examined = { readonly row: DeletionRow; readonly removed: number; readonly againMs?: number }

async function examine(deps: DeletionDeps, store: StoreRow, objects: Store, found: DeletionRow, read: Read): Promise<Examined> {
  let row = found
  const stored = read.lists.get(refKey(row))
  const name = objectName('list', row)
  // What cannot be read is held and stands in the way; what is gone has ended. So has what was read anew and deletes nothing.
  if (stored === undefined && read.names.has(name))
    return { row: await hold(deps, row, [{ code: 'unreadable', count: 1, samples: [name] }]), removed: 0 }
  // Another list in its place is not what was decided about: an approval of the one would delete what the other names.
  if (stored?.list.kind !== 'deletion' || stored.storedAt !== row.listedAt) {
    const gone = { code: 'list-missing', reasons: [], state: 'refused', decidedBy: 'system', endedAt: deps.clock.now() } as const
    return { row: await move(deps, row, gone, 'deletion.gone'), removed: 0 }
  }
  const asked: DeletionStored = { ...stored, list: stored.list }
  // Whoever decides sees what it names, also where it could not be read at first.
  const counts = countsOf(asked.list.names)
  if (JSON.stringify(counts) !== JSON.stringify(row.counts)) row = await move(deps, row, { counts, agentId: stored.agentId }, undefined)
  const facts = await storeFacts(objects, asked, read)
  const books = await booksFor(deps, store, asked)
  const at = deps.clock.now()
  if (Math.abs(at - facts.now) <= SLACK_MS) {
    const absent = books.snapshots.flatMap(({ id, deleted }) => (deleted || facts.snapshots.has(id) ? [] : [id]))
    await deps.records.noteLooked({ storeId: store.id, absent, at, gapMs: LOOKS_GAP_MS })
  }
  // Also where it is held for something that passes by itself: the word stands until something else comes up.
  const isApproved = row.decidedBy !== null || row.why === 'approval'
  const explanation = explainDeletion(asked, facts, books, {
    undeleteMs: deps.config.undeleteMs,
    isApproved,
    hasBegun: row.why !== null,
    now: deps.clock.now(),
  })
  if (explanation.kind === 'held') return { row: await hold(deps, row, explanation.reasons), removed: 0 }
  if (explanation.kind === 'waiting') {
    const againMs = explanation.until - facts.now
    return { row: await wait(deps, row, explanation), removed: 0, againMs }
  }
  return carryOut(deps, objects, row, asked, read, explanation)
}

async function carryOut(
  deps: DeletionDeps,
  objects: Store,
  row: DeletionRow,
  asked: DeletionStored,
  read: Read,
  { why, settled }: Extract<Explanation, { kind: 'explained' }>,
): Promise<Examined> {
  const { records, log, clock } = deps
  const names = ORDER.flatMap((kind) => asked.list.names.filter((name) => name.kind === kind))
  const held = (samples: readonly string[]): readonly DeletionReason[] =>
    samples.length === 0 ? [] : [{ code: 'store-refused', count: samples.length, samples: samples.slice(0, 5) }]
  // What the store refused before is tried again, and told of anew only where it refuses other names.
  const begun = row.code === 'store-refused' ? {} : ({ state: 'deleting', code: null, reasons: [], waitUntil: null, why } as const)
  let now = await move(deps, row, begun, row.why === null ? 'deletion.begin' : undefined, { settled })
  const before = now.removed
  const refused: string[] = []
  let looked = { at: 0, monotonic: 0 }
  // A list that came meanwhile may take something back: everything is looked at again then.
  const isAsRead = async (): Promise<boolean> => {
    looked = { at: clock.now(), monotonic: clock.monotonicMs() }
    return (await mayGoOn(deps, row.storeId, read)) && (await listNames(objects)).every(({ name }) => read.names.has(name))
  }
  // By either clock: one may stand still while a machine sleeps, the other may be set.
  const isLongAgo = (): boolean => Math.max(Math.abs(clock.now() - looked.at), clock.monotonicMs() - looked.monotonic) > LOOK_AGAIN_MS
  for (let at = 0; at < names.length;) {
    if (!(await isAsRead())) return { row: now, removed: now.removed - before, againMs: AT_LEAST_MS }
    // Snapshots by themselves: what they need goes once they are gone.
    const batch = names.slice(at, at + BATCH).filter((name) => isSnapshot(name) === isSnapshot(names[at]!))
    at += batch.length
    let { removed, removedBytes } = now
    const snapshots: string[] = []
    let mayGo = true
    for (let first = 0; first < batch.length && (mayGo = !isLongAgo() || (await isAsRead())); first += AT_ONCE) {
      const some = batch.slice(first, first + AT_ONCE)
      for (const [each, end] of (await Promise.all(some.map((name) => removeOne(objects, name)))).entries()) {
        const name = some[each]!
        if (end === 'refused') {
          refused.push(nameOf(name))
          continue
        }
        if (isSnapshot(name)) snapshots.push(name.random)
        removed += end === 'gone' ? 0 : 1
        removedBytes += end === 'gone' ? 0 : end
      }
    }
    now = await move(deps, now, { removed, removedBytes }, undefined, { snapshots })
    if (!mayGo) return { row: now, removed: now.removed - before, againMs: AT_LEAST_MS }
    // A lock that holds a snapshot longer than its packs: it would be there and restore nothing.
    if (refused.length > 0 && isSnapshot(batch[0]!)) break
  }
  if (refused.length > 0) return { row: await hold(deps, now, held(refused)), removed: now.removed - before }
  const packs = names.filter(({ kind }) => kind === 'pack').map(({ session, random }) => Buffer.from(session + random, 'hex'))
  for (let at = 0; at < packs.length; at += 10 * BATCH)
    await records.dropNeeds({ storeId: row.storeId, packs: Buffer.concat(packs.slice(at, at + 10 * BATCH)) })
  now = await move(deps, now, { state: 'done', code: null, reasons: [], endedAt: clock.now() }, 'deletion.done')
  log.info('deletion-done', { deletionId: row.id, storeId: row.storeId, count: now.removed })
  return { row: now, removed: now.removed - before }
}

/** Bytes that went, or why none did. */
async function removeOne(objects: Store, name: DeletableName): Promise<number | 'gone' | 'refused'> {
  const object = nameOf(name)
  const info = await objects.head(object)
  if (info === undefined) return 'gone'
  try {
    await objects.remove(object)
    return info.bytes
  } catch (error) {
    if (isHoldfastError(error, 'store-refused')) return 'refused'
    throw error
  }
}

/** Held for the controller, with an alert; told anew only where the reasons are others. */
async function hold(deps: DeletionDeps, row: DeletionRow, reasons: readonly DeletionReason[]): Promise<DeletionRow> {
  const code = reasons[0]?.code ?? null
  if (row.state === 'held' && JSON.stringify(row.reasons) === JSON.stringify(reasons)) return row
  const { log, random, clock } = deps
  log.warn('deletion-held', { deletionId: row.id, storeId: row.storeId, code: code ?? 'failed' })
  const { id: deletionId, controllerId, agentId } = row
  const alert = {
    ...{ id: makeId(random, 'alert'), createdAt: clock.now(), kind: 'deletion-held' as const },
    ...{ controllerId, agentId, policyId: null, deletionId, snapshotId: null, otherAgentId: null, closedAt: null },
  }
  const stands = row.why === 'approval' || reasons.every((one) => PASSING.has(one.code))
  const patch = { state: 'held', code, reasons, waitUntil: null, ...(stands ? {} : { decidedBy: null, decidedAt: null }) } as const
  return move(deps, row, patch, row.state === 'held' ? undefined : 'deletion.hold', { alert })
}

async function wait(
  deps: DeletionDeps,
  row: DeletionRow,
  { until, reasons }: Extract<Explanation, { kind: 'waiting' }>,
): Promise<DeletionRow> {
  if (row.waitUntil === until && row.state !== 'held') return row
  // An approval stays one while the window lasts.
  const state = row.state === 'approved' ? 'approved' : 'waiting'
  return move(deps, row, { state, code: 'too-early', reasons, waitUntil: until }, undefined)
}

/** Moves the row where it is still as it was read; a person may have decided meanwhile, which ends this look with `conflict`. */
async function move(
  { records, random, clock }: DeletionDeps,
  row: DeletionRow,
  patch: Partial<DeletionRow>,
  action: string | undefined,
  more: Pick<Parameters<DeletionDeps['records']['moveDeletion']>[0], 'snapshots' | 'settled' | 'alert'> = {},
): Promise<DeletionRow> {
  const at = clock.now()
  const audit: Audit | undefined =
    action === undefined
      ? undefined
      : { id: makeId(random, 'request'), at, actor: 'system', action, target: row.id, controllerId: row.controllerId }
  const moved = await records.moveDeletion({ id: row.id, from: [row.state], patch: { ...patch, updatedAt: at }, ...more }, audit)
  if (moved === undefined) throw new HoldfastError('conflict', `deletion ${row.id} was decided meanwhile; the next look goes on from there`)
  return moved
}
