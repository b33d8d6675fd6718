// `prune`: collection without locks (design section 7). Each call does what is due and publishes what is to come: mark; take back what is needed
// after all; delete what was condemned long enough ago and nothing needs; condemn what nothing needs now; look again. Every step stands in the store
// before the next is begun, so a call that ends anywhere is gone on with by the next one. No backup waits for it.
import type { Clock } from '@holdfast/shared/clock.ts'
import { type CollectionListBody, type DeletableName, encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { ReadKeys, WriteKeys } from '../keys/keys.ts'
import { maySpeakOf, type RefusedObject, standingDeletionLists } from '../repository/collection-state.ts'
import { encodeForgetRecord, type ForgetRecord } from '../repository/forget-record.ts'
import { encodeIndexFile, type IndexFile, type PackRow } from '../repository/index-file.ts'
import { packsOf } from '../repository/index-merge.ts'
import type { Repository } from '../repository/repository.ts'
import { carryOut, deletableName, type DeletionReport, unopenedRecords } from './deletion.ts'
import { forgetSnapshots } from './forget.ts'
import type { Mark } from './mark.ts'
import { inGroups, type ListedPack, moveSegments, type MovedSegments } from './move-segments.ts'
import { spoiltCopies, type SpoiltCopy } from './copy-proof.ts'
import { lackingOf, planPrune, type PrunePlan, WAIT_MS } from './prune-plan.ts'
import {
  hasChanged,
  heldForgotten,
  markForgotten,
  markSurvey,
  onSurvey,
  requireSound,
  spoiltKey,
  type Survey,
  unfinishedOf,
  unreadForgets,
} from './survey.ts'

/** Bytes go only so long after they were condemned, unless less is asked for. */
export const UNDELETE_WINDOW_MS = 14 * 86_400_000
const MOVE_BYTES_MAX = 2 ** 30
const PACK_BYTES = 16 * 2 ** 20
/** More forget records than this become fewer. */
const FORGETS_MAX = 16
/** So many entries one that is made of others has at most; one of half as many stays as it is. */
const MERGED_ENTRIES_MAX = 50_000

export type PruneProgress = {
  readonly phase: 'looking' | 'marking' | 'proving' | 'moving' | 'deleting'
  readonly done: number
  readonly total: number
}

export type PruneOptions = {
  readonly repository: Repository
  readonly keys: WriteKeys
  /** Whoever deletes proves with them that what goes is somewhere else; without them what only they open stays in both places. */
  readonly readKeys?: ReadKeys | undefined
  readonly clock: Clock
  readonly random: Random
  /** How long what was condemned can be taken back; never less than a day. */
  readonly windowMs?: number
  /** False where another identity deletes what the deletion lists name: nothing is removed then. */
  readonly mayDelete: boolean
  /** Leaves out what whoever deletes would hold a list for; asked before a deletion list is published for another to carry out. */
  readonly mayName?: ((names: readonly DeletableName[]) => Promise<readonly DeletableName[]>) | undefined
  /** Says what would be done and stores and removes nothing. */
  readonly dryRun: boolean
  /** Collects although blobs that snapshots need are missing, or cannot be moved because their pack is damaged. */
  readonly acceptDamage?: boolean
  /**
   * Whoever holds an appliance's keys can forget that appliance's snapshots. Where this is absent, one who may speak for all (the root) keeps what only
   * they have forgotten, with all that it needs.
   */
  readonly acceptAgentForgets?: boolean
  readonly moveBytesMax?: number
  /** How large packs become that segments are moved into. */
  readonly packBytes?: number
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: PruneProgress) => void) | undefined
}

export type PruneReport = {
  readonly snapshots: number
  readonly forgotten: number
  /** Forgotten and kept: by their appliances alone, or while a forget record that may have taken them back does not open. */
  readonly heldForgotten: number
  readonly heldBy: 'agents' | 'unread'
  /** Of all packs that are there, and of what in them is needed (by the share of each pack that is). */
  readonly storedBytes: number
  readonly liveBytes: number
  readonly condemned: { readonly packs: number; readonly bytes: number; readonly forReuse: number }
  readonly revived: number
  /** Snapshots that their runs never finished, and that count no longer. */
  readonly givenUp: number
  /** Packs with copies that do not hold what they should, by the random part of their names: other copies of it were kept. */
  readonly spoilt: readonly string[]
  readonly moved: MovedSegments
  readonly waiting: PrunePlan['waiting']
  readonly waitingForWriters: PrunePlan['waitingForWriters']
  readonly heldBySessions: PrunePlan['heldBySessions']
  /** Named in a deletion list: by this run, or where another identity deletes, by this one and earlier ones. */
  readonly named: { readonly objects: number; readonly packs: number }
  readonly deleted: DeletionReport
  /** Lists and records that do not open; they count for nothing. */
  readonly unreadable: readonly RefusedObject[]
}

type Look = {
  readonly survey: Survey
  readonly mark: Mark
  readonly undeletable: Mark
  readonly held: ReadonlySet<string>
  readonly plan: PrunePlan
}

export async function prune(options: PruneOptions): Promise<PruneReport> {
  const { repository, keys, clock, signal, dryRun, acceptDamage = false } = options
  const windowMs = options.windowMs ?? UNDELETE_WINDOW_MS
  const collector = options.random.bytes(16).toString('hex')
  const spoilt = new Map<string, SpoiltCopy>()
  const look = async (): Promise<Look> => {
    options.onProgress?.({ phase: 'looking', done: 0, total: 0 })
    const known = new Set(spoilt.keys())
    const work = async (survey: Survey) => {
      const mark = await markSurvey(
        repository,
        survey,
        (done, total) => options.onProgress?.({ phase: 'marking', done, total }),
        signal,
        known,
      )
      requireSound(survey, mark, acceptDamage)
      const held = heldForgotten(survey, keys.writer.id, options.acceptAgentForgets === true)
      const undeletable = await markForgotten(repository, survey, Math.max(WAIT_MS, windowMs), held, signal, known)
      return { survey, mark, undeletable, held, plan: planPrune(survey, mark, { undeletable, held }, keys, windowMs) }
    }
    return onSurvey(repository, () => clock.now(), work, signal, dryRun)
  }

  let seen = await look()
  if (dryRun)
    return report(seen, {
      moved: NOTHING_MOVED,
      revived: 0,
      givenUp: 0,
      spoilt: [],
      deleted: NOTHING_DELETED,
      named: countNames(seen.plan.deletions),
    })
  let revived = await reviveNeeded(seen.plan)
  const givenUp = await giveUpUnfinished(seen)
  await rewriteIndex(seen.plan.rewrite)
  await mergeForgets(seen.survey)

  // Once more right before anything goes: what appeared meanwhile is marked too.
  if (seen.plan.deletions.length > 0 && (await hasChanged(repository, seen.survey, collector, signal))) {
    seen = await look()
    revived += await reviveNeeded(seen.plan)
  }
  if (options.mayDelete) seen = await untilProven(seen)
  const open = options.mayDelete ? seen.plan.deletions : withoutNamed(seen)
  const names = options.mayDelete || options.mayName === undefined || open.length === 0 ? open : await options.mayName(open)
  let deleted = NOTHING_DELETED
  if (names.length > 0) {
    const list = await publish({ kind: 'deletion', lists: seen.plan.lists, names })
    if (options.mayDelete) deleted = await carryOutStill(list, names)
    else await takeBackUndone(list, names)
  }

  let moved = NOTHING_MOVED
  if (seen.plan.condemn.length > 0) {
    moved = await moveSegments({
      repository,
      keys,
      view: seen.survey.whole.view,
      mark: seen.mark,
      packs: seen.plan.sparse.flatMap(({ pack }) => listedOf(seen.survey, pack)),
      bytesMax: options.moveBytesMax ?? MOVE_BYTES_MAX,
      packBytes: options.packBytes ?? PACK_BYTES,
      acceptDamage,
      clock,
      random: options.random,
      signal,
    })
    await publish({ kind: 'condemned', kept: seen.survey.snapshots.map(({ structure }) => structure.ref), packs: seen.plan.condemn })
    // A snapshot that was stored before the list could be seen: what it uses is taken back. One stored later has seen the list itself.
    if (await hasChanged(repository, seen.survey, collector, signal)) revived += await reviveNeeded((await look()).plan)
  }
  const packsSpoilt = [...new Set([...spoilt.values()].map(({ pack }) => pack))]
  return report(seen, { moved, revived, givenUp, spoilt: packsSpoilt, deleted, named: countNames(names) })

  /** Looks until a copy that stays was opened of everything in the packs that go which is needed. What does not open is chosen last from then on. */
  async function untilProven(from: Look): Promise<Look> {
    for (let at = from; ;) {
      const { survey, mark, undeletable, plan } = at
      const found = await spoiltCopies({
        ...{ repository, readKeys: options.readKeys, view: survey.whole.view, marks: [mark, undeletable], signal },
        going: new Set(plan.deletions.flatMap(({ kind, random }) => (kind === 'pack' ? [random] : []))),
        onBlob: (done, total) => options.onProgress?.({ phase: 'proving', done, total }),
      })
      if (found.length === 0) return at
      // Where no copy opens, what is there stays as it is: a repair or a person may know more.
      if (found.every((copy) => spoilt.has(spoiltKey(copy)))) return { ...at, plan: withoutCopiesOf(found, at) }
      for (const copy of found) spoilt.set(spoiltKey(copy), copy)
      at = await look()
      revived += await reviveNeeded(at.plan)
    }
  }

  /**
   * Removes what is named, as far as it is still due. Whoever takes something back looks at deletion lists after that, so from the list on it is they who are
   * too late; what they took back before stands in the store by now. So this may sleep anywhere. What it leaves it takes back from the list in the end: that is
   * in nobody's way any more.
   */
  async function carryOutStill(list: ObjectRef, names: readonly DeletableName[]): Promise<DeletionReport> {
    let due = names
    if (await hasChanged(repository, seen.survey, collector, signal)) {
      const again = await look()
      revived += await reviveNeeded(again.plan)
      seen = await untilProven(again)
      const still = new Set(seen.plan.deletions.map(nameKey))
      due = names.filter((name) => still.has(nameKey(name)))
    }
    const onDeleted = (done: number, total: number): void => options.onProgress?.({ phase: 'deleting', done, total })
    const deleted = await carryOut(repository.store, due, { signal, onDeleted })
    await forgetTakenBackLate(due)
    const locked = new Set(deleted.locked.map(({ name }) => name))
    const going = new Set(due.filter((name) => !locked.has(deletableName(name))))
    await takeBackFrom(
      list,
      names.filter((name) => !going.has(name) && (name.kind === 'snapshot' || name.kind === 'pack')),
    )
    return deleted
  }

  /**
   * What was taken back while it was deleted counts no more: whoever took it back sees the list that names it, and calls nothing good, or died before that. It
   * would be a gap in history, or lack what is gone.
   */
  async function forgetTakenBackLate(names: readonly DeletableName[]): Promise<void> {
    const deleted = new Set(names.filter(({ kind }) => kind === 'snapshot').map(refKey))
    if (deleted.size === 0) return
    const { forgotten } = await repository.loadCollection(signal)
    const late = seen.survey.forgotten.filter(({ structure: { ref, writerId } }) => {
      const name = refKey(ref)
      return deleted.has(name) && !forgotten.has(name) && maySpeakOf(keys.writer.id, writerId)
    })
    if (late.length > 0) await forgetSnapshots(options, late, 'asked')
  }

  async function takeBackFrom(list: ObjectRef, names: readonly DeletableName[]): Promise<void> {
    if (names.length === 0) return
    await publish({ kind: 'revived', from: [{ list, packs: names.map(({ session, random }) => ({ session, random })) }] })
  }

  /** What counts again since the look is taken back from the list that names it: whoever deletes reads that first. */
  async function takeBackUndone(list: ObjectRef, names: readonly DeletableName[]): Promise<void> {
    if (!(await hasChanged(repository, seen.survey, collector, signal))) return
    const again = await look()
    revived += await reviveNeeded(again.plan)
    const due = new Set(again.plan.deletions.map(nameKey))
    await takeBackFrom(
      list,
      names.filter((name) => !due.has(nameKey(name))),
    )
  }

  async function publish(body: CollectionListBody): Promise<ObjectRef> {
    const ref = newRef()
    const list = { ...body, ref, madeAt: Math.floor(clock.now()) }
    const object = encodeCollectionList(list, keys.structure.domainId, keys.writer)
    await repository.store.put(objectName('list', ref), { kind: 'bytes', bytes: object }, { signal })
    return ref
  }

  function newRef(): ObjectRef {
    return { session: collector, random: options.random.bytes(16).toString('hex') }
  }

  async function reviveNeeded(plan: PrunePlan): Promise<number> {
    if (plan.revive.length > 0) await publish({ kind: 'revived', from: plan.revive })
    return plan.revive.reduce((sum, { packs }) => sum + packs.length, 0)
  }

  /** Puts on record that snapshots which nobody finished do not count: one day nothing else will tell them from damaged ones. */
  async function giveUpUnfinished({ survey, mark }: Look): Promise<number> {
    const mine = unfinishedOf(survey, mark).filter(({ structure }) => maySpeakOf(keys.writer.id, structure.writerId))
    if (mine.length > 0) await forgetSnapshots(options, mine, 'replaced')
    return mine.length
  }

  /** Index files that name what is deleted, without it: so that the lists that hide it can go one day. */
  async function rewriteIndex(files: readonly IndexFile[]): Promise<void> {
    if (files.length === 0) return
    const { packs } = seen.survey
    const lacking = lackingOf(seen.mark)
    const left = files.flatMap((file) => packsOf(file)).filter(({ footer: { ref } }) => packs.has(ref.random) || lacking.has(ref.random))
    const groups = inGroups(left)
    // What they replace stays replaced when they are gone.
    const replaces = [...new Map(files.flatMap((file) => [file.ref, ...file.replaces]).map((ref) => [refKey(ref), ref])).values()]
    // The last one replaces them all, so that nothing is hidden before everything stands elsewhere.
    for (const [i, packs] of (groups.length === 0 ? [[]] : groups).entries()) {
      const ref = newRef()
      const isLast = i >= groups.length - 1
      const object = encodeIndexFile({ ref, replaces: isLast ? replaces : [], packs }, keys.structure, keys.writer)
      await repository.store.put(objectName('index', ref), { kind: 'bytes', bytes: object }, { signal })
    }
  }

  /**
   * Many small forget records become one; the old ones go when nobody can have missed it. Those that take something back, or of which something was taken
   * back, stay as they are: what counts again must not hang on the order in which records go, or on how old this look is. So does one that only writes off.
   */
  async function mergeForgets({ state }: Survey): Promise<void> {
    const mine = state.forgets.map(({ record }) => record).filter(({ writerId }) => writerId.equals(keys.writer.id))
    const there = new Map(mine.map((record) => [refKey(record.ref), record]))
    const replaced = new Set(mine.flatMap(({ replaces }) => replaces.map(refKey)))
    const holds = ({ ref, entries, undone }: ForgetRecord): boolean =>
      undone.length === 0 &&
      entries.length > 0 &&
      entries.every(({ snapshot }) => state.forgotten.get(refKey(snapshot))?.some(({ record }) => refKey(record) === refKey(ref)) === true)
    const isOpen = (record: ForgetRecord): boolean => !replaced.has(refKey(record.ref)) && record.entries.length < MERGED_ENTRIES_MAX / 2
    const open = mine.filter((record) => isOpen(record) && holds(record)).toSorted((a, b) => a.entries.length - b.entries.length)
    if (open.length <= FORGETS_MAX) return
    let room = MERGED_ENTRIES_MAX
    const merged = open.filter((record) => (room -= record.entries.length) >= 0)
    // Whoever takes back an entry of a record that one of these replaced, and that is there still, takes it back here too.
    const replaces = merged.flatMap((record) => [record.ref, ...record.replaces.filter((ref) => there.has(refKey(ref)))])
    const entries = new Map(merged.flatMap((record) => record.entries).map((entry) => [`${refKey(entry.snapshot)} ${entry.why}`, entry]))
    const ref = newRef()
    const record = {
      ref,
      madeAt: Math.floor(clock.now()),
      replaces: [...new Map(replaces.map((one) => [refKey(one), one])).values()],
      entries: [...entries.values()],
      undone: [],
    }
    const object = encodeForgetRecord(record, keys.structure, keys.writer)
    await repository.store.put(objectName('forget', ref), { kind: 'bytes', bytes: object }, { signal })
  }
}

const NOTHING_MOVED: MovedSegments = { segments: 0, bytes: 0, packs: 0 }
const NOTHING_DELETED: DeletionReport = { objects: 0, packs: 0, bytes: 0, locked: [] }

/** What no earlier deletion list names that somebody else has yet to carry out; one of which something was taken back will not be. */
function withoutNamed({ survey, plan }: { survey: Survey; plan: PrunePlan }): PrunePlan['deletions'] {
  const named = new Set(standingDeletionLists(survey.state).flatMap(({ list }) => list.names.map(nameKey)))
  return plan.deletions.filter((name) => !named.has(nameKey(name)))
}

/** A plan that lets no copy of these blobs go. */
function withoutCopiesOf(blobs: readonly SpoiltCopy[], { survey, plan }: Look): PrunePlan {
  const rows = blobs.flatMap(({ id, part }) => survey.whole.view.rows(id, part))
  const [packs, sessions] = [new Set(rows.map(({ pack }) => pack.random)), new Set(rows.map(({ pack }) => pack.session))]
  const stays = ({ kind, session, random }: DeletableName): boolean =>
    kind === 'pack' ? packs.has(random) : (kind === 'session' || kind === 'end') && sessions.has(session)
  return { ...plan, deletions: plan.deletions.filter((name) => !stays(name)) }
}

function nameKey(name: DeletableName): string {
  return `${name.kind} ${refKey(name)}`
}

function listedOf({ packs }: Survey, pack: PackRow): ListedPack[] {
  const info = packs.get(pack.random)?.info
  return info === undefined ? [] : [{ ...pack, info }]
}

function countNames(names: PrunePlan['deletions']): { objects: number; packs: number } {
  return { objects: names.length, packs: names.filter(({ kind }) => kind === 'pack').length }
}

function report(
  { survey, mark, held, plan }: Look,
  done: Pick<PruneReport, 'moved' | 'revived' | 'givenUp' | 'spoilt' | 'deleted' | 'named'>,
): PruneReport {
  let storedBytes = 0
  let liveBytes = 0
  for (const { info } of survey.packs.values()) storedBytes += info.bytes
  for (const [random, use] of mark.uses()) {
    const listed = survey.packs.get(random)
    if (listed !== undefined && use.bytes > 0) liveBytes += Math.round((listed.info.bytes * use.liveBytes) / use.bytes)
  }
  return {
    snapshots: survey.snapshots.length,
    forgotten: survey.forgotten.length,
    heldForgotten: held.size,
    heldBy: unreadForgets(survey).length > 0 ? 'unread' : 'agents',
    storedBytes,
    liveBytes,
    condemned: {
      packs: plan.condemn.length,
      bytes: plan.condemn.reduce((sum, { bytes }) => sum + bytes, 0),
      forReuse: plan.condemn.filter(({ why }) => why === 'reuse').length,
    },
    waiting: plan.waiting,
    waitingForWriters: plan.waitingForWriters,
    heldBySessions: plan.heldBySessions,
    unreadable: unopenedRecords(survey.state),
    ...done,
  }
}
