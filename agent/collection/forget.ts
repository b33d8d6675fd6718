// `forget`: snapshots stop counting by a signed record, chosen by rules or by name (design section 7). Nothing is deleted here: prune does that when
// the undelete window is over. No rule and no request empties a series by mistake (reference bug B19).
import type { Clock } from '@holdfast/shared/clock.ts'
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { type RetentionRules, selectKept } from '@holdfast/shared/retention.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { blake3Hash } from '../repository/blake3.ts'
import { type RefusedObject, requireKnownFormat } from '../repository/collection-state.ts'
import { encodeForgetRecord, ENTRIES_MAX, type ForgottenSnapshot, type ForgottenWhy } from '../repository/forget-record.ts'
import { sessionWriter } from '../repository/given-up.ts'
import { listRefs, type Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { historyGaps } from './history-gaps.ts'
import { mayBeUnfinished } from './unfinished.ts'

const NO_BYTES = Buffer.alloc(32)

/** `at` is when the store received it. One of which it is `doubtful` whether its run ever reported it good takes nobody's place. */
export type DatedSnapshot = OpenedSnapshot & { readonly at: number; readonly doubtful?: boolean }

/** One series as the rules see it. */
export type SeriesSnapshots = {
  readonly series: Buffer
  readonly writerId: Buffer
  readonly snapshots: readonly DatedSnapshot[]
}

/** The snapshots that count, by series, with the times at which the store received them. */
export async function listSeries(repository: Repository, signal?: AbortSignal): Promise<SeriesSnapshots[]> {
  const state = await repository.loadCollection(signal)
  requireKnownFormat(state)
  const { snapshots } = await repository.listSnapshots(signal, state)
  const storedAt = new Map((await listRefs(repository.store, 'snapshots/', signal)).map((ref) => [refKey(ref), ref.info.storedAt]))
  const series = new Map<string, { series: Buffer; writerId: Buffer; snapshots: DatedSnapshot[] }>()
  for (const snapshot of snapshots) {
    const { structure } = snapshot
    // One that the listing of a moment later lacks cannot be dated, and is not touched.
    const at = storedAt.get(refKey(structure.ref))
    if (at === undefined) continue
    const name = `${structure.series.toString('hex')} ${structure.writerId.toString('hex')}`
    const known = series.get(name) ?? { series: structure.series, writerId: structure.writerId, snapshots: [] }
    series.set(name, known)
    known.snapshots.push({ ...snapshot, at, doubtful: mayBeUnfinished(state, snapshot, at) })
  }
  return [...series.values()]
}

export type RuleChoice = {
  readonly series: SeriesSnapshots
  /** Why each stays, by the id of the snapshot. */
  readonly kept: ReadonlyMap<string, readonly string[]>
  readonly forgotten: readonly OpenedSnapshot[]
}

/** What rules keep of each series, and what they forget. Doubtful ones stay and stand for no other. `keepTags` are tokens of tags whose snapshots always stay. Pure. */
export function chooseByRules(
  all: readonly SeriesSnapshots[],
  rules: RetentionRules,
  now: number,
  keepTags: readonly Buffer[] = [],
): RuleChoice[] {
  return all.map((series) => {
    const isTagged = ({ structure }: OpenedSnapshot): boolean => structure.tags.some((tag) => keepTags.some((wanted) => wanted.equals(tag)))
    const { kept } = selectKept(
      series.snapshots
        .filter(({ doubtful }) => doubtful !== true)
        .map(({ structure, at }) => ({ id: structure.ref.random, at, claimedAt: structure.endedAt })),
      rules,
      now,
    )
    const reasons = new Map(kept)
    for (const { structure, doubtful } of series.snapshots) if (doubtful === true) reasons.set(structure.ref.random, ['doubtful'])
    for (const snapshot of series.snapshots.filter(isTagged)) {
      const id = snapshot.structure.ref.random
      reasons.set(id, [...(reasons.get(id) ?? []), 'tag'])
    }
    return { series, kept: reasons, forgotten: series.snapshots.filter(({ structure }) => !reasons.has(structure.ref.random)) }
  })
}

/** Throws `usage` where these are all that a series surely has, unless `allowEmpty`; a series is never emptied by mistake. */
export function requireSomethingLeft(all: readonly SeriesSnapshots[], chosen: readonly OpenedSnapshot[], allowEmpty: boolean): void {
  const ids = new Set(chosen.map(({ structure }) => refKey(structure.ref)))
  const emptied = all.filter(({ snapshots }) => {
    const sure = snapshots.filter(({ doubtful }) => doubtful !== true)
    return (sure.length > 0 ? sure : snapshots).every(({ structure }) => ids.has(refKey(structure.ref)))
  })
  if (emptied.length > 0 && !allowEmpty)
    throw new HoldfastError(
      'usage',
      `that would forget every snapshot of ${emptied.length === 1 ? 'a series' : `${emptied.length} series`} (with ${emptied[0]!.snapshots.at(-1)!.structure.ref.random.slice(0, 12)}, the newest); nothing was changed. If you mean it, add --allow-empty-series`,
    )
}

export type ForgetOptions = {
  readonly repository: Repository
  readonly keys: WriteKeys
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal | undefined
}

/**
 * Puts it on record that these snapshots no longer count. Throws `forbidden` where one is another writer's: only the root speaks for all.
 */
export async function forgetSnapshots(
  options: ForgetOptions,
  snapshots: readonly OpenedSnapshot[],
  why: ForgottenWhy,
): Promise<ObjectRef | undefined> {
  const { keys } = options
  const foreign = snapshots.find(({ structure }) => !keys.writer.id.equals(ROOT_WRITER_ID) && !structure.writerId.equals(keys.writer.id))
  if (foreign !== undefined)
    throw new HoldfastError(
      'forbidden',
      `snapshot ${foreign.structure.ref.random.slice(0, 12)} is another agent's: that agent forgets it, or whoever holds the root; nothing was changed`,
    )
  return recordForgotten(
    options,
    snapshots.map(({ structure, hash }) => ({
      snapshot: structure.ref,
      series: structure.series,
      sequence: structure.sequence,
      hash,
      why,
    })),
  )
}

/** Forgets what the rules do not keep of one series of this writer. Gives the ids of the snapshots that no longer count. */
export async function forgetByRetention(options: ForgetOptions, series: Buffer, rules: RetentionRules): Promise<string[]> {
  const { repository, keys, clock, signal } = options
  const all = (await listSeries(repository, signal)).filter(
    (one) => one.series.equals(series) && (keys.writer.id.equals(ROOT_WRITER_ID) || one.writerId.equals(keys.writer.id)),
  )
  const chosen = chooseByRules(all, rules, (await repository.store.diagnostics?.now({ signal })) ?? clock.now())
  const forgotten = chosen.flatMap((choice) => choice.forgotten)
  requireSomethingLeft(all, forgotten, false)
  await forgetSnapshots(options, forgotten, 'retention')
  return forgotten.map(({ structure }) => structure.ref.random)
}

/** Gives up a snapshot object that does not open, by its name. Throws `forbidden` for an agent where its session is not one of its own. */
export async function forgetUnreadable(options: ForgetOptions, ref: ObjectRef): Promise<ObjectRef | undefined> {
  const { repository, keys, signal } = options
  const isRoot = keys.writer.id.equals(ROOT_WRITER_ID)
  if (!isRoot && (await sessionWriter(repository, ref.session, signal))?.equals(keys.writer.id) !== true)
    throw new HoldfastError(
      'forbidden',
      `snapshot ${ref.random.slice(0, 12)} is not of a session that is known to be this agent's: whoever holds the root gives it up; nothing was changed`,
    )
  return recordForgotten(options, [{ snapshot: ref, series: NO_BYTES, sequence: 0, hash: NO_BYTES, why: 'unreadable' }])
}

/** A session has no random part in its name; here it is zeros. */
export type UnopenedObject = Pick<RefusedObject, 'ref' | 'name'> & { readonly kind: RefusedObject['kind'] | 'session' | 'roster' }

/**
 * Writes off an object that does not open: nobody waits for it any more. A list or forget record is removed by a collection of the root a month later; what
 * it said is lost: what it forgot counts again, what it took back does not (decision 0014). Throws `forbidden` for everybody but the root, who alone answers for that.
 */
export async function writeOff(options: ForgetOptions, refused: UnopenedObject): Promise<void> {
  const { repository, keys, clock, random, signal } = options
  if (!keys.writer.id.equals(ROOT_WRITER_ID))
    throw new HoldfastError(
      'forbidden',
      `whose ${refused.name} is cannot be told, so only whoever holds the root writes it off; nothing was changed`,
    )
  const ref = { session: random.bytes(16).toString('hex'), random: random.bytes(16).toString('hex') }
  const madeAt = Math.floor(clock.now())
  const bytes =
    refused.kind === 'list'
      ? encodeCollectionList(
          { kind: 'revived', from: [{ list: refused.ref, packs: [] }], ref, madeAt },
          keys.structure.domainId,
          keys.writer,
        )
      : encodeForgetRecord({ ref, madeAt, replaces: [refused.ref], entries: [], undone: [] }, keys.structure, keys.writer)
  await repository.store.put(objectName(refused.kind === 'list' ? 'list' : 'forget', ref), { kind: 'bytes', bytes }, { signal })
}

/**
 * Puts it on record that snapshots are gone from the store: those that history lacks. Gives how many. Throws `store-unreachable` where one is there that a
 * listing lacks: what is called gone is collected.
 */
export async function forgetMissing(options: ForgetOptions, dryRun: boolean): Promise<number> {
  const { repository, signal } = options
  const state = await repository.loadCollection(signal)
  requireKnownFormat(state)
  const { snapshots, forgotten, refused, givenUp } = await repository.listSnapshots(signal, state)
  const opened = [...snapshots, ...forgotten]
  const listed = new Set((await listRefs(repository.store, 'snapshots/', signal)).map(refKey))
  const seen = new Set([...opened.map(({ structure }) => structure.ref), ...givenUp].map(refKey))
  for (const { name } of refused) seen.add(name.slice('snapshots/'.length))
  const gaps = historyGaps(state, opened, listed)
  const shown = [...listed].find((name) => !seen.has(name))
  if (shown !== undefined) throw isThere(shown.slice(33))
  for (const gap of gaps)
    if (gap.kind === 'counted' && (await repository.store.head(objectName('snapshot', gap.snapshot), { signal })) !== undefined)
      throw isThere(gap.snapshot.random)
  const entries = gaps.map((gap): ForgottenSnapshot => {
    if (gap.kind === 'counted') return { snapshot: gap.snapshot, series: NO_BYTES, sequence: 0, hash: NO_BYTES, why: 'missing' }
    // Only its hash is known; a name made from that stands for it.
    const made = blake3Hash(Buffer.concat([Buffer.from('missing'), gap.hash])).toString('hex')
    const snapshot = { session: made.slice(0, 32), random: made.slice(32) }
    return { snapshot, series: gap.series, sequence: gap.sequence, hash: gap.hash, why: 'missing' }
  })
  if (!dryRun) await recordForgotten(options, entries)
  return entries.length
}

function isThere(id: string): HoldfastError {
  return new HoldfastError(
    'store-unreachable',
    `snapshot ${id.slice(0, 12)} is in the store and a listing lacks it, so what is gone cannot be told; nothing was changed. Run this again when the store lists everything`,
  )
}

async function recordForgotten(options: ForgetOptions, entries: readonly ForgottenSnapshot[]): Promise<ObjectRef | undefined> {
  const { repository, keys, clock, random, signal } = options
  let last: ObjectRef | undefined
  for (let at = 0; at < entries.length; at += ENTRIES_MAX) {
    const ref = { session: random.bytes(16).toString('hex'), random: random.bytes(16).toString('hex') }
    const record = { ref, madeAt: Math.floor(clock.now()), replaces: [], entries: entries.slice(at, at + ENTRIES_MAX), undone: [] }
    const object = encodeForgetRecord(record, keys.structure, keys.writer)
    await repository.store.put(objectName('forget', ref), { kind: 'bytes', bytes: object }, { signal })
    last = ref
  }
  return last
}
