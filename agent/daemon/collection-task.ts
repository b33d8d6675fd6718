// What the daemon does for a store after a good run: it states what the new snapshots need; and where a policy says which snapshots stay, once a day,
// it forgets the others by that, condemns what nothing needs, and names what may go. It deletes nothing: the server does, with other credentials and
// only what retention explains (design section 7).
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey } from '@holdfast/shared/format/layout.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import { done } from '@holdfast/shared/protocol/agent.ts'
import { encodeNeededQuestion, NEEDS_BYTES_MAX, NEEDS_CONTENT_TYPE, PACK_REF_BYTES } from '@holdfast/shared/protocol/needs.ts'
import type { RetentionRules } from '@holdfast/shared/retention.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { chooseByRules, forgetSnapshots, listSeries } from '../collection/forget.ts'
import { packsNeeded } from '../collection/mark.ts'
import { prune, type PruneReport } from '../collection/prune.ts'
import { onSurvey, surveyRepository, type Survey } from '../collection/survey.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { createTokens } from '../repository/snapshot.ts'
import { stateNeeds } from './needs-statement.ts'
import { needsRoutes } from './routes.ts'
import type { ServerClient } from './server-client.ts'
import type { StateDirectory } from './state-directory.ts'

export type CollectionParts = {
  readonly repository: Repository
  readonly keys: WriteKeys
  readonly client: ServerClient
  readonly directory: StateDirectory
  readonly clock: Clock
  readonly random: Random
  readonly signal: AbortSignal
}

export type CollectionEnd = {
  /** Snapshots whose needs were stated, and those that were forgotten by retention. */
  readonly stated: number
  readonly forgotten: number
  /** Undefined where no policy says which snapshots stay. */
  readonly pruned: PruneReport | undefined
}

/**
 * One collection in the store `storeId` for the policies in force there; without `mayCollect` needs are stated and nothing else is done. Rejects as
 * store, repository and server do, and then nothing was condemned that was not stated before.
 */
export async function runCollection(
  parts: CollectionParts,
  storeId: string,
  policies: readonly AgentPolicy[],
  mayCollect: boolean,
): Promise<CollectionEnd> {
  const { repository, keys, client, clock, random, signal } = parts
  const isOwn = ({ structure }: OpenedSnapshot): boolean => structure.writerId.equals(keys.writer.id)
  const state = async (survey: Survey) => ({
    survey,
    stated: await stateNeeds({
      ...{ client, directory: parts.directory, storeId, signal },
      snapshots: survey.snapshots.filter(isOwn),
      replaced: ownForgotten(survey, keys, ['replaced']),
      packsOf: (snapshot) => packsOf(parts, survey, snapshot),
    }),
  })
  const { survey, stated } = await onSurvey(repository, () => clock.now(), state, signal)
  if (!mayCollect || !policies.some(({ retention }) => retention !== undefined)) return { stated, forgotten: 0, pruned: undefined }
  const tell = (at: Survey) =>
    client.call(done, { ...needsRoutes(storeId).forgotten, json: { snapshotIds: ownForgotten(at, keys, undefined) }, signal })
  // Before anything is forgotten: what was taken back and goes again today has its whole window again, which the server counts from the next word.
  await tell(survey)
  const forgotten = await forgetByRetention(parts, policies, survey.now)
  if (forgotten > 0) await tell(await surveyRepository(repository, () => clock.now(), signal))
  const mayName = (names: readonly DeletableName[]) => withoutNeeded(client, storeId, names, signal)
  const pruned = await prune({ repository, keys, clock, random, mayDelete: false, dryRun: false, mayName, signal })
  return { stated, forgotten, pruned }
}

/** Snapshots of this writer that are forgotten and still there, for any of these reasons. */
function ownForgotten({ state, listed }: Survey, { writer }: WriteKeys, whys: readonly string[] | undefined): string[] {
  return [...listed].flatMap(([name, { random }]) => {
    const entries = state.forgotten.get(name) ?? []
    return entries.some((entry) => entry.writerId.equals(writer.id) && (whys?.includes(entry.why) ?? true)) ? [random] : []
  })
}

async function packsOf({ repository, signal }: CollectionParts, survey: Survey, snapshot: OpenedSnapshot): Promise<Buffer[]> {
  const { whole, packs, state } = survey
  const needed = await packsNeeded({
    ...{ repository, view: whole.view, snapshot, signal },
    isGone: (random) => whole.gone.has(random) || !packs.has(random),
    isCondemned: (random) => state.condemned.has(random),
  })
  return needed.map((random) => {
    const pack = packs.get(random)
    if (pack === undefined) throw new HoldfastError('damaged', `pack ${random} is needed and not in the store; run 'holdfast check'`)
    return Buffer.from(pack.session + pack.random, 'hex')
  })
}

/** Forgets what no policy in force keeps of its source; a source with a policy that keeps everything loses nothing. */
async function forgetByRetention(
  { repository, keys, clock, random, signal }: CollectionParts,
  policies: readonly AgentPolicy[],
  now: number,
): Promise<number> {
  const tokens = createTokens(keys.structure.recordKey)
  const going: OpenedSnapshot[] = []
  for (const series of await listSeries(repository, signal)) {
    if (!series.writerId.equals(keys.writer.id)) continue
    const mine = policies.filter(({ source }) => tokens.series(keys.writer.id, source).equals(series.series))
    const rules = mine.flatMap(({ retention }): RetentionRules[] => (retention === undefined ? [] : [retention]))
    if (rules.length === 0 || rules.length < mine.length) continue
    const chosen = rules.map(
      (one) => new Set(chooseByRules([series], one, now)[0]?.forgotten.map(({ structure }) => refKey(structure.ref))),
    )
    going.push(...series.snapshots.filter(({ structure }) => chosen.every((ids) => ids.has(refKey(structure.ref)))))
  }
  await forgetSnapshots({ repository, keys, clock, random, signal }, going, 'retention')
  return going.length
}

/** Without packs that the server still counts as needed, by what was stated first: a list that names one is held as a whole. */
async function withoutNeeded(
  client: ServerClient,
  storeId: string,
  names: readonly DeletableName[],
  signal: AbortSignal,
): Promise<readonly DeletableName[]> {
  const packs = names.flatMap((name) => (name.kind === 'pack' ? [Buffer.from(name.session + name.random, 'hex')] : []))
  if (packs.length === 0) return names
  const snapshotIds = names.flatMap(({ kind, random }) => (kind === 'snapshot' ? [random] : []))
  const body = encodeNeededQuestion({ storeId, snapshotIds, packs })
  const bytes = { contentType: NEEDS_CONTENT_TYPE, body }
  const answer = await client.fetch({ ...needsRoutes(storeId).needed, bytes, limitBytes: NEEDS_BYTES_MAX, signal })
  const needed = new Set<string>()
  for (let at = 0; at + PACK_REF_BYTES <= answer.length; at += PACK_REF_BYTES) needed.add(answer.toString('hex', at, at + PACK_REF_BYTES))
  return names.filter((name) => name.kind !== 'pack' || !needed.has(name.session + name.random))
}
