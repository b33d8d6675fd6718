// `undelete`: takes back what was forgotten and condemned while its bytes are there (the undelete window). First the packs are taken back, then the
// snapshots count again, and then it is looked whether everything is still there, and whether a deletion list names it: whoever deletes stores that list
// first and looks for what was taken back after it. So one of the two always sees the other, and what was too late is said, never hoped for.
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { counted, HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { WriteKeys } from '../keys/keys.ts'
import {
  type Condemned,
  type DeletionList,
  forgottenEntries,
  type RevivedList,
  standingDeletionLists,
} from '../repository/collection-state.ts'
import { encodeForgetRecord, ENTRIES_MAX, type ForgetRecord, type ForgottenSnapshot } from '../repository/forget-record.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { listRefs, mapBounded } from '../repository/repository.ts'
import { createMark } from './mark.ts'
import type { ForgetOptions } from './forget.ts'
import { surveyRepository, type Survey } from './survey.ts'

export type UndeleteReport = {
  readonly snapshots: number
  /** Packs that were condemned and are taken back. */
  readonly packs: number
  readonly bytes: number
  /** Snapshots that an appliance named for the server to delete: it reads that they were taken back before it deletes, unless it was just at it. */
  readonly namedForServer: number
}

export type UndeleteOptions = ForgetOptions & {
  /** Says that no collection of the root is at work any more whose deletion list stands; else what that names is too late. */
  readonly pruneIsOver?: boolean
  /** Takes back also what has lost something that it needs: the rest of it can be restored then. */
  readonly acceptDamage?: boolean
  /** Told what the snapshots lack where that is accepted; perhaps more than once. */
  readonly onLacking?: (text: string) => void
}

/** Snapshots that are forgotten, still there, and may be taken back by this writer: the root any, an agent its own that it has forgotten itself. `readOnly`
 * where nothing is taken back now. */
export async function listForgotten(
  options: ForgetOptions,
  readOnly = false,
): Promise<{ survey: Survey; snapshots: readonly OpenedSnapshot[] }> {
  const { repository, keys, clock, signal } = options
  const survey = await surveyRepository(repository, () => clock.now(), signal, readOnly)
  return { survey, snapshots: survey.forgotten.filter((snapshot) => isMine(keys, survey, snapshot)) }
}

/** Which of them (by `refKey`) a deletion list of the root names: its collection is deleting them, or died over it. */
export function beingDeleted(survey: Survey, snapshots: readonly OpenedSnapshot[]): ReadonlySet<string> {
  return new Set(namedBy(survey, snapshots, [], isRoots).map(({ structure }) => refKey(structure.ref)))
}

/** Only the root undoes what the root has forgotten. */
function isMine({ writer }: WriteKeys, { state }: Survey, { structure }: OpenedSnapshot): boolean {
  const entries = forgottenEntries(state, structure.ref, structure.writerId)
  return writer.id.equals(ROOT_WRITER_ID) || entries.every(({ writerId }) => writerId.equals(writer.id))
}

/** Makes forgotten snapshots count again. Throws `damaged` where bytes that they need are gone and that is not accepted; then nothing was changed, or what it says. */
export async function undelete(
  options: UndeleteOptions,
  chosen: readonly OpenedSnapshot[],
  survey: Survey,
  dryRun: boolean,
): Promise<UndeleteReport> {
  const { repository, keys, clock, random, signal } = options
  if (chosen.length === 0) return { snapshots: 0, packs: 0, bytes: 0, namedForServer: 0 }
  const foreign = chosen.find((snapshot) => !isMine(keys, survey, snapshot))
  if (foreign !== undefined)
    throw new HoldfastError(
      'forbidden',
      `snapshot ${foreign.structure.ref.random.slice(0, 12)} was forgotten by another writer: whoever holds the root takes it back; nothing was changed`,
    )
  const condemned = await neededOf(options, chosen, survey)
  const late = options.pruneIsOver === true ? [] : namedBy(survey, chosen, condemned, isRoots)
  if (late.length > 0)
    throw new HoldfastError(
      'conflict',
      `it is too late for ${late.length} of ${chosen.length} snapshots (first: ${late[0]!.structure.ref.random.slice(0, 12)}): a collection whose undelete window is over is deleting them; nothing was changed. ${HOW_ON}`,
    )
  const forServer = namedBy(survey, chosen, condemned, isAppliances)
  const result = {
    snapshots: chosen.length,
    packs: condemned.length,
    bytes: condemned.reduce((sum, { bytes }) => sum + bytes, 0),
    namedForServer: forServer.length,
  }
  if (dryRun) return result
  const madeAt = Math.floor(clock.now())
  const session = random.bytes(16).toString('hex')
  const newRef = (): ObjectRef => ({ session, random: random.bytes(16).toString('hex') })
  const revive = async (from: readonly Revived[]): Promise<void> => {
    if (from.length === 0) return
    const ref = newRef()
    const object = encodeCollectionList({ kind: 'revived', from, ref, madeAt }, keys.structure.domainId, keys.writer)
    await repository.store.put(objectName('list', ref), { kind: 'bytes', bytes: object }, { signal })
  }
  // For a server, which reads no forget record, the snapshots themselves too.
  const counting = chosen.map(({ structure }) => ({ list: structure.ref, packs: [] }))
  await revive([...byList(survey, condemned), ...fromDeletionLists(survey, chosen, condemned), ...counting])
  const undone = chosen.flatMap(({ structure }) =>
    forgottenEntries(survey.state, structure.ref, structure.writerId).flatMap(({ record }) =>
      [record, ...mergedInto(survey, record)].map((one) => ({ record: one, snapshot: structure.ref })),
    ),
  )
  const record = async (more: Pick<ForgetRecord, 'entries' | 'undone'>): Promise<void> => {
    const ref = newRef()
    const object = encodeForgetRecord({ ref, madeAt, replaces: [], ...more }, keys.structure, keys.writer)
    await repository.store.put(objectName('forget', ref), { kind: 'bytes', bytes: object }, { signal })
  }
  for (let at = 0; at < undone.length; at += ENTRIES_MAX) await record({ entries: [], undone: undone.slice(at, at + ENTRIES_MAX) })
  // Whoever deletes may have begun before it could see this. What is gone must not count: that would be a gap in history.
  const forgetAgain = (those: readonly OpenedSnapshot[]): Promise<void> =>
    record({ entries: those.map((snapshot) => entryAgain(survey, snapshot)), undone: [] })
  const { again, left, anew } = await lookAgain(options, chosen, survey, forgetAgain)
  const gone = chosen.filter((snapshot) => !left.includes(snapshot) && !anew.includes(snapshot))
  // A list that came meanwhile is of a collection at work, whatever was known of earlier ones.
  const known = new Set(survey.state.deletionLists.map(({ list }) => refKey(list.ref)))
  const refuseOvertaken = async (packs: readonly Condemned[]): Promise<void> => {
    const overtaken = namedBy(again, left, packs, (list) => !known.has(refKey(list.ref)) && isRoots(list))
    if (overtaken.length === 0) return
    // Nor may they count while they are being deleted: a backup might rely on them.
    await forgetAgain(overtaken)
    throw new HoldfastError(
      'conflict',
      `a collection began to delete ${gone.length + overtaken.length} of ${chosen.length} snapshots while they were taken back (first: ${overtaken[0]!.structure.ref.random.slice(0, 12)}); those are forgotten as before, the others count again. ${HOW_ON}`,
    )
  }
  await refuseOvertaken(condemned)
  try {
    await refuseOvertaken(await neededOf(options, left, again))
  } catch (error) {
    if (!isHoldfastError(error, 'damaged')) throw error
    await forgetAgain(left)
    throw new HoldfastError(
      'damaged',
      `${error.message}. While they were taken back it was there; all that were chosen are forgotten as before`,
      {
        cause: error,
      },
    )
  }
  await revive(fromDeletionLists(again, left, condemned).filter(({ list }) => !known.has(refKey(list))))
  if (gone.length > 0)
    throw new HoldfastError(
      'conflict',
      `${gone.length} of ${chosen.length} snapshots were deleted while they were taken back (first: ${gone[0]!.structure.ref.random.slice(0, 12)}): whoever deletes was at it already; those are forgotten as before, the others count again`,
    )
  if (anew.length > 0)
    throw new HoldfastError(
      'conflict',
      `${anew.length} of ${chosen.length} snapshots were forgotten anew by somebody else while they were taken back (first: ${anew[0]!.structure.ref.random.slice(0, 12)}); the others count again. 'holdfast undelete' lists what is left`,
    )
  return { ...result, namedForServer: Math.max(result.namedForServer, namedBy(again, chosen, condemned, isAppliances).length) }
}

const HOW_ON = `'holdfast undelete' lists what is left; where no 'holdfast prune' of the root is at work any more, anywhere, --prune-is-over takes that back`

/**
 * What there is after these were taken back, and those of them that are left, and that somebody has forgotten since: one that the store lacks, asked for by
 * name, is forgotten again. Throws `store-unreachable` where it is there and a listing lacks it, or lacks the record that took it back.
 */
async function lookAgain(
  { repository, clock, signal }: ForgetOptions,
  chosen: readonly OpenedSnapshot[],
  { state: before }: Survey,
  forgetAgain: (those: readonly OpenedSnapshot[]) => Promise<void>,
): Promise<{ again: Survey; left: readonly OpenedSnapshot[]; anew: readonly OpenedSnapshot[] }> {
  for (let left = chosen; ;) {
    let again: Survey | undefined
    let listings: unknown
    try {
      again = await surveyRepository(repository, () => clock.now(), signal)
    } catch (error) {
      // So it ends where one goes between two listings.
      if (!isHoldfastError(error, 'store-unreachable')) throw error
      listings = error
    }
    const namesOf = (all: readonly OpenedSnapshot[] = []): Set<string> => new Set(all.map(({ structure }) => refKey(structure.ref)))
    const [counting, forgotten] = [namesOf(again?.snapshots), namesOf(again?.forgotten)]
    const anew = left.filter(({ structure }) => forgotten.has(refKey(structure.ref)))
    const missing = left.filter((snapshot) => !counting.has(refKey(snapshot.structure.ref)) && !anew.includes(snapshot))
    // A record that forgot it `before` is not undone: the store lost the one that undid it, or does not show it yet.
    const isUnseen = ({ structure: { ref, writerId } }: OpenedSnapshot): boolean => {
      const known = new Set(forgottenEntries(before, ref, writerId).map(({ record }) => refKey(record)))
      return again !== undefined && forgottenEntries(again.state, ref, writerId).some(({ record }) => known.has(refKey(record)))
    }
    const unseen = anew.find(isUnseen)
    if (unseen !== undefined)
      throw new HoldfastError(
        'store-unreachable',
        `the store took the record that takes back snapshot ${unseen.structure.ref.random.slice(0, 12)} and does not show it: it counts once that is seen. 'holdfast undelete' lists what is forgotten still: take it back again`,
      )
    if (again !== undefined && missing.length === 0) return { again, left: left.filter((snapshot) => !anew.includes(snapshot)), anew }
    const heads = await mapBounded(missing, AT_ONCE, ({ structure }) =>
      repository.store.head(objectName('snapshot', structure.ref), { signal }),
    )
    const gone = missing.filter((_, i) => heads[i] === undefined)
    if (gone.length === 0)
      throw (
        listings ??
        new HoldfastError(
          'store-unreachable',
          `a listing lacks snapshot ${missing[0]!.structure.ref.random.slice(0, 12)}, which is there and was taken back; run 'holdfast check' to see that all is well`,
        )
      )
    await forgetAgain(gone)
    left = left.filter((snapshot) => !gone.includes(snapshot))
  }
}

const AT_ONCE = 8

/** What a record replaced and that is gone: a collection that slept since may store another one that replaces the same, and that forgets nothing again. */
function mergedInto({ state }: Survey, record: ObjectRef): ObjectRef[] {
  const there = new Set(state.forgets.map((one) => refKey(one.record.ref)))
  const merged = state.forgets.find((one) => refKey(one.record.ref) === refKey(record))?.record.replaces ?? []
  return merged.filter((ref) => !there.has(refKey(ref)))
}

/** What was said of a snapshot before it was taken back. */
function entryAgain({ state }: Survey, { structure, hash }: OpenedSnapshot): ForgottenSnapshot {
  const { ref, writerId, series, sequence } = structure
  return { snapshot: ref, series, sequence, hash, why: forgottenEntries(state, ref, writerId)[0]?.why ?? 'asked' }
}

type Revived = RevivedList['from'][number]

const isRoots = ({ writerId }: DeletionList): boolean => writerId.equals(ROOT_WRITER_ID)
const isAppliances = (list: DeletionList): boolean => !isRoots(list)

/**
 * Those of `chosen` that a standing deletion list names, or of which it names a pack that they need. Also one from before they were forgotten: what was
 * taken back too late and is forgotten again is deleted by it all the same.
 */
function namedBy(
  { state }: Survey,
  chosen: readonly OpenedSnapshot[],
  condemned: readonly Condemned[],
  which: (list: DeletionList) => boolean,
): OpenedSnapshot[] {
  const lists = standingDeletionLists(state).filter(({ list }) => which(list))
  const packs = new Set(condemned.map(({ pack }) => refKey(pack)))
  return chosen.filter(({ structure }) =>
    lists.some(({ list }) =>
      list.names.some(
        (name) => (name.kind === 'snapshot' && refKey(name) === refKey(structure.ref)) || (name.kind === 'pack' && packs.has(refKey(name))),
      ),
    ),
  )
}

/** What is taken back under every deletion list that names it, for whoever carries it out. */
function fromDeletionLists({ state }: Survey, chosen: readonly OpenedSnapshot[], condemned: readonly Condemned[]): Revived[] {
  const wanted = new Set([...chosen.map(({ structure }) => structure.ref), ...condemned.map(({ pack }) => pack)].map(refKey))
  return state.deletionLists.flatMap(({ list }) => {
    const packs = list.names
      .filter(({ kind, ...ref }) => (kind === 'snapshot' || kind === 'pack') && wanted.has(refKey(ref)))
      .map(({ session, random }) => ({ session, random }))
    return packs.length === 0 ? [] : [{ list: list.ref, packs }]
  })
}

/** Condemned packs that the snapshots need. Throws `damaged` where something that they need is no longer there, unless that is accepted. */
async function neededOf(
  { repository, acceptDamage, onLacking, signal }: UndeleteOptions,
  chosen: readonly OpenedSnapshot[],
  survey: Survey,
): Promise<Condemned[]> {
  const { whole, state } = survey
  const packs = new Set((await listRefs(repository.store, 'packs/', signal)).map(({ random }) => random))
  const mark = createMark({
    repository,
    view: whole.view,
    isGone: (random) => whole.gone.has(random) || !packs.has(random),
    isCondemned: (random) => state.condemned.has(random),
  })
  for (const snapshot of chosen) await mark.add(snapshot, signal)
  const { count, first } = mark.missing()
  if (count > 0) {
    const id = first[0]!.snapshot.slice(0, 12)
    const lacking = `${counted(count, 'blob that it needs is', 'blobs that it needs are')} deleted already, or lost`
    if (acceptDamage !== true)
      throw new HoldfastError(
        'damaged',
        `snapshot ${id} cannot be taken back whole: ${lacking}. Choose others ('holdfast undelete' lists them), or take back what is left of it with --accept-damage`,
      )
    onLacking?.(`snapshot ${id} is not whole: ${lacking}; once it counts, 'holdfast check' tells exactly what is lost`)
  }
  return [...mark.uses()].flatMap(([random, use]) => {
    const entry = state.condemned.get(random)
    return entry === undefined || use.liveBytes === 0 ? [] : [entry]
  })
}

/** Packs under every list that condemns them, so that a second list does not condemn them again. */
function byList({ state }: Survey, packs: readonly Condemned[]): { list: ObjectRef; packs: ObjectRef[] }[] {
  const wanted = new Set(packs.map(({ pack }) => pack.random))
  return state.condemnedLists
    .map(({ list }) => ({
      list: list.ref,
      packs: list.packs.filter(({ random }) => wanted.has(random)).map(({ session, random }) => ({ session, random })),
    }))
    .filter((one) => one.packs.length > 0)
}
