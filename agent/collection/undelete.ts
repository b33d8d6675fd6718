// `undelete`: takes back what was forgotten and condemned while its bytes are there (the undelete window). First the packs are taken back, then the
// snapshots count again, and then it is looked whether everything is still there: what was too late is said, never hoped for.
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { type Condemned, forgottenEntries } from '../repository/collection-state.ts'
import { encodeForgetRecord } from '../repository/forget-record.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { listRefs } from '../repository/repository.ts'
import { createMark } from './mark.ts'
import type { ForgetOptions } from './forget.ts'
import { surveyRepository, type Survey } from './survey.ts'

export type UndeleteReport = {
  readonly snapshots: number
  /** Packs that were condemned and are taken back. */
  readonly packs: number
  readonly bytes: number
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

/** Only the root undoes what the root has forgotten. */
function isMine({ writer }: WriteKeys, { state }: Survey, { structure }: OpenedSnapshot): boolean {
  const entries = forgottenEntries(state, structure.ref, structure.writerId)
  return writer.id.equals(ROOT_WRITER_ID) || entries.every(({ writerId }) => writerId.equals(writer.id))
}

/** Makes forgotten snapshots count again. Throws `damaged` where bytes that they need are gone; then nothing was changed, or what it says. */
export async function undelete(
  options: ForgetOptions,
  chosen: readonly OpenedSnapshot[],
  survey: Survey,
  dryRun: boolean,
): Promise<UndeleteReport> {
  const { repository, keys, clock, random, signal } = options
  if (chosen.length === 0) return { snapshots: 0, packs: 0, bytes: 0 }
  const foreign = chosen.find((snapshot) => !isMine(keys, survey, snapshot))
  if (foreign !== undefined)
    throw new HoldfastError(
      'forbidden',
      `snapshot ${foreign.structure.ref.random.slice(0, 12)} was forgotten by another writer: whoever holds the root takes it back; nothing was changed`,
    )
  const condemned = await neededOf(options, chosen, survey)
  const result = { snapshots: chosen.length, packs: condemned.length, bytes: condemned.reduce((sum, { bytes }) => sum + bytes, 0) }
  if (dryRun) return result
  const madeAt = Math.floor(clock.now())
  const session = random.bytes(16).toString('hex')
  const newRef = (): ObjectRef => ({ session, random: random.bytes(16).toString('hex') })
  if (condemned.length > 0) {
    const ref = newRef()
    const list = { kind: 'revived', from: byList(survey, condemned), ref, madeAt } as const
    const object = encodeCollectionList(list, keys.structure.domainId, keys.writer)
    await repository.store.put(objectName('list', ref), { kind: 'bytes', bytes: object }, { signal })
  }
  const undone = chosen.flatMap(({ structure }) =>
    forgottenEntries(survey.state, structure.ref, structure.writerId).map(({ record }) => ({ record, snapshot: structure.ref })),
  )
  const ref = newRef()
  const object = encodeForgetRecord({ ref, madeAt, replaces: [], entries: [], undone }, keys.structure, keys.writer)
  await repository.store.put(objectName('forget', ref), { kind: 'bytes', bytes: object }, { signal })
  // A collection may have begun to delete before it could see this.
  const again = await surveyRepository(repository, () => clock.now(), signal)
  const counting = new Set(again.snapshots.map(({ structure }) => refKey(structure.ref)))
  const lost = chosen.filter(({ structure }) => !counting.has(refKey(structure.ref)))
  if (lost.length > 0)
    throw new HoldfastError(
      'damaged',
      `${lost.length} of ${chosen.length} snapshots were deleted while they were taken back; run 'holdfast check' to see what is left`,
    )
  await neededOf(options, chosen, again)
  return result
}

/** Condemned packs that the snapshots need. Throws `damaged` where something that they need is no longer there. */
async function neededOf({ repository, signal }: ForgetOptions, chosen: readonly OpenedSnapshot[], survey: Survey): Promise<Condemned[]> {
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
  if (count > 0)
    throw new HoldfastError(
      'damaged',
      `snapshot ${first[0]!.snapshot.slice(0, 12)} cannot be taken back whole: ${count} blobs that it needs are deleted already. Choose others ('holdfast undelete' lists them)`,
    )
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
