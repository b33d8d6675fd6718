// Everything that a collection looks at, read once and in one order: the names of snapshots twice over and lists and records in between, the view, packs,
// the snapshots, sessions. A listing is a hint (reference bug B14): what two listings of snapshots show is joined, and what is missing stops the collection. Snapshots
// that were stored after these listings are for the next look: the view may be older than they are, and would make them look damaged.
import { counted, HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import {
  type CollectionState,
  type Forgotten,
  forgottenEntries,
  hasNewRecords,
  requireKnownFormat,
} from '../repository/collection-state.ts'
import { listRefs, type Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { loadWholeView, type WholeView } from '../repository/whole-view.ts'
import { unopenedRecords } from './deletion.ts'
import { historyGaps } from './history-gaps.ts'
import type { SpoiltCopy } from './copy-proof.ts'
import { createMark, type Mark } from './mark.ts'
import { isUnfinished, reliedOn } from './unfinished.ts'
import { loadSessionLives, type SessionLives } from './session-life.ts'

const SURVEYS_MAX = 3

export type Listed = ObjectRef & { readonly info: ObjectInfo }

export type Survey = {
  /** The store's clock. */
  readonly now: number
  readonly state: CollectionState
  /** Snapshots that count, and those that are forgotten and still there. */
  readonly snapshots: readonly OpenedSnapshot[]
  readonly forgotten: readonly OpenedSnapshot[]
  /** Snapshots that do not open and that nobody has forgotten who may. */
  readonly refused: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Snapshots that do not open and were forgotten by who may, by `refKey`: the entries that count. */
  readonly givenUp: ReadonlyMap<string, readonly Forgotten[]>
  /** Names of all snapshot objects that were there when the survey began, by `refKey`, and when the store received them. */
  readonly listed: ReadonlyMap<string, Listed>
  /** By the random part of the name. */
  readonly packs: ReadonlyMap<string, Listed>
  readonly indexFiles: readonly Listed[]
  readonly sessions: SessionLives
  readonly whole: WholeView
}

/** By the store's clock, which all that is stored is dated by. With `readOnly`, by this machine's where the store's can only be learnt by writing. */
export async function storeTime(
  repository: Repository,
  fallback: () => number,
  options: { signal?: AbortSignal | undefined; readOnly?: boolean },
): Promise<number> {
  return (await repository.store.diagnostics?.now(options)) ?? fallback()
}

/** `readOnly`: for one who only shows what would be done; whoever deletes asks the store for its time. */
export async function surveyRepository(
  repository: Repository,
  clockNow: () => number,
  signal?: AbortSignal,
  readOnly = false,
): Promise<Survey> {
  const { store } = repository
  const now = await storeTime(repository, clockNow, { signal, readOnly })
  // Lists and records are read between the listings: what was deleted before the first was on record by then, and what a list counts was stored before it.
  // A survey that sleeps in between would otherwise take what another collection deleted meanwhile for a gap in history.
  const early = await listRefs(store, 'snapshots/', signal)
  const state = await repository.loadCollection(signal)
  requireKnownFormat(state)
  const listed = new Map([...early, ...(await listRefs(store, 'snapshots/', signal))].map((ref): [string, Listed] => [refKey(ref), ref]))
  const whole = await loadWholeView(repository, signal)
  const packs = new Map((await listRefs(store, 'packs/', signal)).map((ref): [string, Listed] => [ref.random, ref]))
  const indexFiles = await listRefs(store, 'index/', signal)
  const all = await repository.listSnapshots(signal, state)
  const isListed = ({ structure }: OpenedSnapshot): boolean => listed.has(refKey(structure.ref))
  const [snapshots, forgotten, refused] = [all.snapshots.filter(isListed), all.forgotten.filter(isListed), all.refused]
  const givenUp = new Map(all.givenUp.map((one) => [refKey(one), one.entries]))
  const opened = new Set([...snapshots, ...forgotten].map(({ structure }) => refKey(structure.ref)))
  const isSeen = (name: string): boolean => opened.has(name) || givenUp.has(name) || refused.some((one) => one.name.endsWith(name))
  // One that is on record as forgotten may have been deleted meanwhile. Whose word that is cannot be told without it, so the store is asked for it by name.
  for (const [name, ref] of listed)
    if (!isSeen(name) && (!state.forgotten.has(name) || (await store.head(objectName('snapshot', ref), { signal })) !== undefined))
      throw new HoldfastError(
        'store-unreachable',
        `two listings of snapshots differ (${name.slice(33, 49)} is in one of them): nothing was condemned or deleted; run this again`,
      )
  const committed = new Set<string>()
  for (const { session } of listed.values()) committed.add(session)
  for (const entries of state.forgotten.values()) for (const { snapshot } of entries) committed.add(snapshot.session)
  const objects = [...packs.values(), ...indexFiles, ...listed.values()]
  const sessions = await loadSessionLives(store, objects, committed, now, signal)
  return { now, state, snapshots, forgotten, refused, givenUp, listed, packs, indexFiles, sessions, whole }
}

/**
 * Does `work` on a survey. What a survey shows is old where somebody else collects or forgets meanwhile; then what it lacks may be what they deleted, so
 * where `work` ends with `damaged` and lists or records have come since, it is done again on a new one, three times at most.
 */
export async function onSurvey<T>(
  repository: Repository,
  clockNow: () => number,
  work: (survey: Survey) => Promise<T>,
  signal?: AbortSignal,
  readOnly = false,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const survey = await surveyRepository(repository, clockNow, signal, readOnly)
    try {
      return await work(survey)
    } catch (error) {
      if (attempt === SURVEYS_MAX || !isHoldfastError(error, 'damaged')) throw error
      if (!hasNewRecords(survey.state, await repository.loadCollection(signal))) throw error
    }
  }
}

/** Copies that are known not to hold what they should. */
export type Spoilt = ReadonlySet<string>

export function spoiltKey({ id, part, pack }: SpoiltCopy): string {
  return `${id} ${part} ${pack}`
}

/** Marks what the snapshots that count need. */
export async function markSurvey(
  repository: Repository,
  survey: Survey,
  onSnapshot: (done: number, total: number) => void,
  signal?: AbortSignal,
  spoilt: Spoilt = new Set(),
): Promise<Mark> {
  const mark = emptyMark(repository, survey, spoilt)
  for (const [i, snapshot] of survey.snapshots.entries()) {
    await mark.add(snapshot, signal)
    onSnapshot(i + 1, survey.snapshots.length)
  }
  return mark
}

/** Snapshots that are forgotten by records of other writers alone, where `writerId` is the root's; by `refKey`. */
export function forgottenByAgents({ state, forgotten, givenUp }: Survey, writerId: Buffer): Set<string> {
  if (!writerId.equals(ROOT_WRITER_ID)) return new Set()
  const names = [...forgotten.map(({ structure }) => refKey(structure.ref)), ...givenUp.keys()]
  return new Set(names.filter((name) => state.forgotten.get(name)?.some((entry) => entry.writerId.equals(ROOT_WRITER_ID)) !== true))
}

/**
 * Forget records that are there and do not open. Each may be the one that took a forgotten snapshot back, so while there are any, nothing that is forgotten
 * may go. One of a writer who does not count takes nothing back (decision 0014).
 */
export function unreadForgets({ state }: Pick<Survey, 'state'>): string[] {
  return unopenedRecords(state)
    .filter(({ kind, isForeign }) => kind === 'forget' && !isForeign)
    .map(({ name }) => name)
}

/** Forgotten snapshots that do not go by themselves, by `refKey`. */
export function heldForgotten(survey: Survey, writerId: Buffer, acceptAgentForgets: boolean): Set<string> {
  if (unreadForgets(survey).length > 0)
    return new Set([...survey.forgotten.map(({ structure }) => refKey(structure.ref)), ...survey.givenUp.keys()])
  return acceptAgentForgets ? new Set() : forgottenByAgents(survey, writerId)
}

/**
 * Marks what forgotten snapshots need that can still be taken back, or that are `held`: a pack condemned for reuse was needed until the last of them was forgotten, which may
 * be long after it was condemned. What they lack stops nothing.
 */
export async function markForgotten(
  repository: Repository,
  survey: Survey,
  windowMs: number,
  held: ReadonlySet<string>,
  signal?: AbortSignal,
  spoilt: Spoilt = new Set(),
): Promise<Mark> {
  const mark = emptyMark(repository, survey, spoilt)
  for (const snapshot of survey.forgotten) {
    const { ref, writerId } = snapshot.structure
    const entries = forgottenEntries(survey.state, ref, writerId)
    const since = Math.min(...entries.map((entry) => entry.since))
    const canComeBack = since + windowMs > survey.now && !entries.some(({ why }) => why === 'replaced')
    if (canComeBack || held.has(refKey(ref))) await mark.add(snapshot, signal)
  }
  return mark
}

function emptyMark(repository: Repository, { whole, state, packs }: Survey, spoilt: Spoilt): Mark {
  return createMark({
    repository,
    view: whole.view,
    isGone: (random) => whole.gone.has(random) || !packs.has(random),
    isCondemned: (random) => state.condemned.has(random),
    reliedOn: (snapshot) => reliedOn(state, snapshot),
    isSpoilt: spoilt.size === 0 ? undefined : (id, part, pack) => spoilt.has(spoiltKey({ id, part, pack })),
  })
}

/** True where other snapshots count now, or others took packs back, than when the survey was made; `collector` is who asks. */
export async function hasChanged(repository: Repository, survey: Survey, collector: string, signal?: AbortSignal): Promise<boolean> {
  const state = await repository.loadCollection(signal)
  requireKnownFormat(state)
  const refs = await listRefs(repository.store, 'snapshots/', signal)
  // Entry by entry: what another writer says of a snapshot hides no undelete.
  const entriesOf = ({ forgotten }: CollectionState): string[] =>
    [...forgotten].flatMap(([name, entries]) => entries.map(({ record }) => `${refKey(record)} ${name}`))
  const entries = new Set(entriesOf(state))
  const undone = entriesOf(survey.state).some((entry) => !entries.has(entry))
  const taken = ({ revivedLists }: CollectionState): number => revivedLists.filter(({ list }) => list.ref.session !== collector).length
  return undone || refs.some((ref) => !survey.listed.has(refKey(ref))) || taken(state) !== taken(survey.state)
}

/** Snapshots that count and were never finished: a collection overtook them before they were reported good. */
export function unfinishedOf({ snapshots, state, listed }: Survey, mark: Mark): OpenedSnapshot[] {
  const { packs } = mark.missing()
  return snapshots.filter((snapshot) => {
    const { ref } = snapshot.structure
    const lacking = packs.get(ref.random)
    return lacking !== undefined && isUnfinished(state, snapshot, listed.get(refKey(ref))!.info.storedAt, lacking)
  })
}

/** Throws `damaged` where something is not as it must be before anything may be condemned: what, and how to go on. */
export function requireSound(survey: Survey, mark: Mark, acceptDamage: boolean): void {
  const { refused, state, snapshots, forgotten, listed } = survey
  const first = refused[0]
  const stop = (what: string, next: string): HoldfastError =>
    new HoldfastError('damaged', `${what}; nothing was condemned or deleted. ${next}`)
  if (first !== undefined)
    throw stop(
      `${counted(refused.length, 'snapshot does not open', 'snapshots do not open')}, so what they need is not known (${first.error.message})`,
      `If they are worth nothing, 'holdfast forget --unreadable ${first.name.split('-').at(-1)?.slice(0, 12)}' says so on record; then run this again`,
    )
  const gaps = historyGaps(state, [...snapshots, ...forgotten], new Set(listed.keys()))
  const gap = gaps[0]
  if (gap !== undefined)
    throw stop(
      `${counted(gaps.length, 'snapshot is gone', 'snapshots are gone')} without a record of it (${gap.kind === 'counted' ? gap.snapshot.random.slice(0, 12) : `the one before ${gap.of.random.slice(0, 12)}`})`,
      `Either the store shows too little or somebody deleted them. Where you know them to be lost, 'holdfast forget --missing' says so on record; then run this again`,
    )
  const { count, first: missing, packs } = mark.missing()
  // What a collection overtook before it was reported good lacks nothing that was promised.
  const unfinished = new Set(unfinishedOf(survey, mark))
  const isWhole = snapshots.every((snapshot) => !packs.has(snapshot.structure.ref.random) || unfinished.has(snapshot))
  if (count > 0 && !isWhole && !acceptDamage)
    throw stop(
      `${counted(count, 'blob that snapshots need is', 'blobs that snapshots need are')} in no pack (first: ${missing[0]!.part === 'chunk' ? 'chunk' : 'tree node'} ${missing[0]!.id.slice(0, 16)} of snapshot ${missing[0]!.snapshot.slice(0, 12)})`,
      `'holdfast check' names what is lost, 'holdfast repair' finds what an index file lacks; --accept-damage collects all the same and takes nothing that can be reached`,
    )
}
