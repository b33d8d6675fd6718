// What a collection would do, from what it saw: pure, so that a dry run, the run itself and the simulation share it. Design section 7.
import { type DeletableName, type CondemnedPack } from '@holdfast/shared/format/collection-list.ts'
import { type ObjectRef, packName, refKey } from '@holdfast/shared/format/layout.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { forgottenEntries, type LoadedForget, maySpeakOf } from '../repository/collection-state.ts'
import type { ForgetRecord } from '../repository/forget-record.ts'
import type { IndexFile } from '../repository/index-file.ts'
import { packsSaidAlone } from '../repository/view.ts'
import { deletedOnRecord } from './deletion.ts'
import type { Mark, PackUse } from './mark.ts'
import type { Listed, Survey } from './survey.ts'

/** Lists, and records that others replace, stay at least so long, so that a writer that slept sees what was condemned meanwhile. */
export const LISTS_STAY_MS = 30 * 86_400_000
/** Nothing is deleted sooner after it was condemned, forgotten or replaced, whatever the undelete window. */
export const WAIT_MS = 86_400_000
/** A pack of which less than this share is needed is condemned for reuse. */
const SPARSE = 0.5
/** An index file of which this share of packs is deleted is written anew. */
const REWRITE_SHARE = 0.25
/** No list names more: a quarter of what one may hold; the next run goes on. */
export const NAMES_AT_ONCE = 250_000
const NO_RANDOM = '0'.repeat(32)

export type PrunePlan = {
  /** Condemned as dead, needed after all. */
  readonly revive: readonly { readonly list: ObjectRef; readonly packs: readonly ObjectRef[] }[]
  readonly condemn: readonly CondemnedPack[]
  /** Packs that are condemned for reuse, with what of them is needed. */
  readonly sparse: readonly PackUse[]
  readonly deletions: readonly DeletableName[]
  /** Condemned lists that the deletions rely on. */
  readonly lists: readonly ObjectRef[]
  /** Index files of this writer to be written anew without packs that are deleted. */
  readonly rewrite: readonly IndexFile[]
  /** Condemned packs that are not due: how many, and when the first one is. */
  readonly waiting: { readonly packs: number; readonly bytes: number; readonly until: number | undefined }
  /** Condemned for reuse and still needed: they go when their writers have stored again what is left, or the last snapshot that needs it is gone. */
  readonly waitingForWriters: { readonly packs: number; readonly bytes: number }
  /** Packs that nothing needs but a run that may be at work. */
  readonly heldBySessions: { readonly packs: number; readonly bytes: number; readonly sessions: number }
}

/** `undeletable` marks what forgotten snapshots need that must not go yet; `held` are those of them that do not go by themselves, by `refKey`. */
export function planPrune(
  survey: Survey,
  mark: Mark,
  { undeletable, held: heldForgotten }: { undeletable: Mark; held: ReadonlySet<string> },
  keys: Pick<WriteKeys, 'writer'>,
  windowMs: number,
): PrunePlan {
  const { now, state, packs, sessions, whole } = survey
  const hold = Math.max(WAIT_MS, windowMs)
  const uses = mark.uses()
  const lacking = lackingOf(mark)
  const undeletableUses = undeletable.uses()
  const revive = new Map<string, { list: ObjectRef; packs: ObjectRef[] }>()
  const deletions: DeletableName[] = []
  const lists = new Map<string, ObjectRef>()
  const waiting = { packs: 0, bytes: 0, until: undefined as number | undefined }
  const forWriters = { packs: 0, bytes: 0 }
  const liveSince = Math.min(...[...sessions.all.values()].filter(({ session }) => sessions.isLive(session)).map((life) => life.startedAt))
  for (const [random, { pack, why, list, since, bytes }] of state.condemned) {
    const listed = packs.get(random)
    if (listed === undefined) continue
    const use = uses.get(random)
    if (use !== undefined && use.liveBytes > 0) {
      // One condemned for reuse stays so until the last snapshot that needs it is gone.
      if (why === 'dead') add(revive, list, pack)
      else {
        forWriters.packs += 1
        forWriters.bytes += bytes
      }
      continue
    }
    const due = since + hold
    // A session that began before the list may rely on what it condemns without having seen it; one without a time counts as older.
    const canComeBack = (undeletableUses.get(random)?.liveBytes ?? 0) > 0
    if (due <= now && !(liveSince <= since) && !canComeBack) {
      // A pack in no index file whose footer does not open is not known to hold nothing; it is left to repair.
      if (use === undefined) continue
      deletions.push({ kind: 'pack', ...pack })
      lists.set(refKey(list), list)
    } else {
      waiting.packs += 1
      waiting.bytes += bytes
      // One that is due waits for something that has no time.
      if (due > now) waiting.until = Math.min(waiting.until ?? Infinity, due)
    }
  }
  const held = { packs: 0, bytes: 0, sessions: new Set<string>() }
  const condemn: CondemnedPack[] = []
  const sparse: PackUse[] = []
  for (const [random, use] of uses) {
    if (condemn.length === NAMES_AT_ONCE) break
    const listed = packs.get(random)
    if (listed === undefined || whole.gone.has(random) || state.condemned.has(random)) continue
    if (use.liveBytes >= use.bytes * SPARSE && use.liveBytes > 0) continue
    if (sessions.isLive(listed.session)) {
      held.packs += 1
      held.bytes += listed.info.bytes
      held.sessions.add(listed.session)
      continue
    }
    const why = use.liveBytes === 0 ? 'dead' : 'reuse'
    condemn.push({ session: listed.session, random, bytes: listed.info.bytes, why })
    if (why === 'reuse') sparse.push(use)
  }
  const snapshots = dueSnapshots(survey, hold).filter((name) => !heldForgotten.has(refKey(name)))
  return {
    revive: [...revive.values()],
    condemn,
    sparse,
    // What names something goes before what it names.
    deletions: [
      ...snapshots,
      ...dueIndexFiles(survey, lacking),
      ...deletions,
      ...dueRecords(survey, lacking, keys.writer.id.equals(ROOT_WRITER_ID)),
      ...dueSessions(survey, snapshots, deletions),
    ].slice(0, NAMES_AT_ONCE),
    lists: [...lists.values()],
    rewrite: whole.indexed.files.filter((file) => file.writerKey.equals(keys.writer.publicKey) && isToRewrite(survey, lacking, file)),
    waiting,
    waitingForWriters: forWriters,
    heldBySessions: { packs: held.packs, bytes: held.bytes, sessions: held.sessions.size },
  }
}

/** Whether enough of what an index file names is deleted, or anything of which no list will tell any more. */
function isToRewrite({ state, packs, sessions }: Survey, lacking: ReadonlySet<string>, file: IndexFile): boolean {
  const gone = file.packs.filter(({ random }) => !packs.has(random) && !lacking.has(random))
  if (gone.length === 0) return false
  const deleted = deletedOnRecord(state)
  const ended = new Set(sessions.names.filter(({ kind }) => kind === 'end').map(({ session }) => session))
  // A run that slept while its packs were collected stored its index file after the lists were gone, and ended without a snapshot.
  const isUntold = (pack: ObjectRef): boolean =>
    !state.condemned.has(pack.random) && (deleted.has(packName(pack)) || ended.has(pack.session))
  const condemned = gone.filter(({ random }) => state.condemned.has(random)).length
  return condemned >= Math.max(1, file.packs.length * REWRITE_SHARE) || gone.some(isUntold)
}

function add(into: Map<string, { list: ObjectRef; packs: ObjectRef[] }>, list: ObjectRef, pack: ObjectRef): void {
  const known = into.get(refKey(list))
  if (known === undefined) into.set(refKey(list), { list, packs: [pack] })
  else known.packs.push(pack)
}

/** Snapshot objects whose undelete window is over. */
function dueSnapshots({ now, state, listed, snapshots, forgotten, givenUp }: Survey, hold: number): DeletableName[] {
  const writers = new Map([...snapshots, ...forgotten].map(({ structure }) => [refKey(structure.ref), structure.writerId]))
  return [...listed.values()]
    .filter((ref) => {
      const writerId = writers.get(refKey(ref))
      // Only who may speak of it has forgotten it; that counts of one that does not open, too, whether it went bad before or after.
      const spoken = writerId === undefined ? (givenUp.get(refKey(ref)) ?? []) : forgottenEntries(state, ref, writerId)
      return spoken.length > 0 && Math.min(...spoken.map(({ since }) => since)) + hold <= now
    })
    .map(({ session, random }) => ({ kind: 'snapshot', session, random }))
}

/** Index files that another one has replaced for a day, so that nobody is at work with a listing that lacks the other. Older ones first. */
function dueIndexFiles({ now, whole, indexFiles, packs }: Survey, lacking: ReadonlySet<string>): DeletableName[] {
  const info = new Map(indexFiles.map((ref) => [refKey(ref), ref]))
  const due = new Map<string, Listed>()
  // What a replaced one alone says of a pack that is there stays in reach of readers; of one that is lost, so that nothing else is taken for the reason.
  const alone = packsSaidAlone(whole.indexed.lastResort, whole.indexed.files)
  const isNeeded = (random: string): boolean => packs.has(random) || lacking.has(random)
  const saysMore = new Set([...alone].flatMap(([{ ref }, named]) => ([...named].some(isNeeded) ? [refKey(ref)] : [])))
  for (const { ref, by } of whole.indexed.replaced) {
    if (saysMore.has(refKey(ref))) continue
    const [old, replacing] = [info.get(refKey(ref)), info.get(refKey(by))]
    if (old !== undefined && replacing !== undefined && replacing.info.storedAt + WAIT_MS <= now) due.set(refKey(ref), old)
  }
  // One that goes brings back what it replaces: that goes with it, or it stays.
  for (let left = -1; left !== due.size;) {
    left = due.size
    for (const { ref, by } of whole.indexed.replaced) if (info.has(refKey(ref)) && !due.has(refKey(ref))) due.delete(refKey(by))
  }
  return [...due.values()]
    .sort((a, b) => a.info.storedAt - b.info.storedAt)
    .map(({ session, random }) => ({ kind: 'index', session, random }))
}

/** Packs that snapshots lack: lists and index files that name them tell an unfinished snapshot from a damaged one. */
export function lackingOf(mark: Mark): Set<string> {
  return new Set([...mark.missing().packs.values()].flatMap((packs) => [...packs]))
}

/** Lists that nothing depends on any more, and forget records that stand in another one. */
function dueRecords(
  { now, state, packs, whole, indexFiles, listed }: Survey,
  lacking: ReadonlySet<string>,
  isRoot: boolean,
): DeletableName[] {
  const names: DeletableName[] = []
  const named = new Set<string>()
  for (const file of whole.indexed.files) for (const pack of file.packs) named.add(pack.random)
  // A replaced index file that is still there names packs too, and its replacement might be lost first.
  const onlyLive = indexFiles.length === whole.indexed.files.length
  const isOver = ({ storedAt }: { storedAt: number }): boolean => storedAt + LISTS_STAY_MS <= now
  const over = new Set<string>()
  for (const { list, storedAt } of state.condemnedLists) {
    const isNeeded = list.packs.some(({ random }) => packs.has(random) || named.has(random) || lacking.has(random))
    if (!onlyLive || isNeeded || !isOver({ storedAt })) continue
    over.add(refKey(list.ref))
    names.push({ kind: 'list', ...list.ref })
  }
  for (const loaded of state.deletionLists) {
    if (!isOver(loaded)) continue
    over.add(refKey(loaded.list.ref))
    names.push({ kind: 'list', ...loaded.list.ref })
  }
  // One that takes back goes after what it takes from, a list or a snapshot by itself: in between, that would hold again.
  const isGone = (ref: ObjectRef): boolean => over.has(refKey(ref)) || !(isThere(state, ref) || listed.has(refKey(ref)))
  for (const loaded of state.revivedLists)
    if (isOver(loaded) && loaded.list.from.every(({ list }) => isGone(list))) names.push({ kind: 'list', ...loaded.list.ref })
  // Nobody can have read one that does not open; whoever can after all has had as long as with any other.
  if (isRoot) for (const { kind, ref, since } of state.writtenOff) if (isOver({ storedAt: since })) names.push({ kind, ...ref })
  for (const { record } of state.forgets) if (isMerged(record, state, isOver)) names.push({ kind: 'forget', ...record.ref })
  return names
}

/**
 * Whether all that a forget record says stands in others that replace it, for long enough: of its own writer or of the root, or a thief could take away
 * what others forgot. One that takes something back stays: without it that would be forgotten again, in whichever record holds it still.
 */
function isMerged(record: ForgetRecord, { forgets, forgotten }: Survey['state'], isOver: (one: LoadedForget) => boolean): boolean {
  if (record.undone.length > 0) return false
  const name = refKey(record.ref)
  const replacing = new Set(
    forgets
      .filter((one) => maySpeakOf(one.record.writerId, record.writerId) && one.record.replaces.some((ref) => refKey(ref) === name))
      .filter(isOver)
      .map((one) => refKey(one.record.ref)),
  )
  if (replacing.size === 0) return false
  return record.entries.every(({ snapshot }) => {
    const by = (forgotten.get(refKey(snapshot)) ?? []).map((entry) => refKey(entry.record))
    return !by.includes(name) || by.some((one) => replacing.has(one))
  })
}

function isThere({ condemnedLists, deletionLists, writtenOff }: Survey['state'], ref: ObjectRef): boolean {
  const refs = [...[...condemnedLists, ...deletionLists].map(({ list }) => list.ref), ...writtenOff.map((one) => one.ref)]
  return refs.some((one) => refKey(one) === refKey(ref))
}

/** Sessions that are over and of which nothing is left but their names. */
function dueSessions(survey: Survey, snapshots: readonly DeletableName[], deletedPacks: readonly DeletableName[]): DeletableName[] {
  const { now, sessions, packs, listed, indexFiles } = survey
  const deleted = new Set([...snapshots, ...deletedPacks].map(refKey))
  const left = new Set<string>()
  for (const ref of [...packs.values(), ...listed.values()]) if (!deleted.has(refKey(ref))) left.add(ref.session)
  for (const { session } of indexFiles) left.add(session)
  return sessions.names
    .filter(({ session }) => {
      const life = sessions.all.get(session)
      return !left.has(session) && !sessions.isLive(session) && (life === undefined || life.lastAt + LISTS_STAY_MS <= now)
    })
    .map(({ kind, session }) => ({ kind, session, random: NO_RANDOM }))
}
