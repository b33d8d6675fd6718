// A survey made by hand, object by object, and what a collection plans by it.
import type { CollectionListBody } from '@holdfast/shared/format/collection-list.ts'
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Mark, PackUse } from '../../../../agent/collection/mark.ts'
import { planPrune, type PrunePlan } from '../../../../agent/collection/prune-plan.ts'
import type { SessionLife } from '../../../../agent/collection/session-life.ts'
import type { Listed, Survey } from '../../../../agent/collection/survey.ts'
import { rootKeys } from '../../../../agent/keys/domain.ts'
import { collectionState, type LoadedForget, type LoadedList } from '../../../../agent/repository/collection-state.ts'
import type { ForgottenSnapshot } from '../../../../agent/repository/forget-record.ts'
import type { IndexFile } from '../../../../agent/repository/index-file.ts'
import type { OpenedSnapshot } from '../../../../agent/repository/snapshot.ts'
import { createView } from '../../../../agent/repository/view.ts'
import { fixtureRandom } from '../../../_support/engine-fixture.ts'

export const DAY = 86_400_000
export const NOW = 1000 * DAY
export const WINDOW = 14 * DAY
const random = fixtureRandom('prune plan')
export const keys = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
export const WRITER = keys.write.writer.id

export const hex = (number: number): string => number.toString(16).padStart(32, '0')
/** An object of session `session`, whose random part is made of `number`. */
export const ref = (number: number, session = 1): ObjectRef => ({ session: hex(session), random: hex(number) })
export const listed = (one: ObjectRef, storedAt = 0, bytes = 100): Listed => ({
  ...one,
  info: { name: `packs/${refKey(one)}`, bytes, storedAt } as unknown as Listed['info'],
})
export const condemned = (storedAt: number, list: ObjectRef, packs: readonly (readonly [ObjectRef, 'dead' | 'reuse'])[]): LoadedList => ({
  storedAt,
  list: {
    kind: 'condemned',
    kept: [],
    packs: packs.map(([pack, why]) => ({ ...pack, bytes: 70, why })),
    ref: list,
    writerId: WRITER,
    madeAt: 0,
  },
})
export const listOf = (storedAt: number, list: ObjectRef, body: CollectionListBody): LoadedList => ({
  storedAt,
  list: { ...body, ref: list, writerId: WRITER, madeAt: 0 },
})
export const use = (pack: ObjectRef, liveBytes: number, bytes = 100): [string, PackUse] => [
  pack.random,
  { pack: { ...pack, bytes: 100 }, bytes, liveBytes },
]
const markOf = (uses: [string, PackUse][], lacking: readonly ObjectRef[] = []): Mark => ({
  add: async () => undefined,
  missing: () => ({ first: [], count: lacking.length, packs: new Map([[hex(999), new Set(lacking.map((pack) => pack.random))]]) }),
  uses: () => new Map(uses),
  isLive: () => false,
})
export const indexFile = (
  one: ObjectRef,
  packs: readonly ObjectRef[],
  replaces: readonly ObjectRef[] = [],
  writerKey = keys.write.writer.publicKey,
): IndexFile => ({
  ref: one,
  writerKey,
  replaces,
  sessions: [],
  packs: packs.map((pack) => ({ ...pack, bytes: 100 })),
  segmentCount: 0,
  segment: () => {
    throw new Error('it has no segments')
  },
  blobCount: 0,
  blobs: Buffer.alloc(0),
})

export type Given = {
  lists?: readonly LoadedList[]
  forgets?: readonly LoadedForget[]
  packs?: readonly Listed[]
  snapshots?: readonly Listed[]
  /** Snapshots that open and are forgotten. */
  opened?: readonly ObjectRef[]
  /** Snapshots that count. */
  counting?: readonly ObjectRef[]
  /** Whose these are; the root's unless given. */
  writerId?: Buffer
  /** Snapshots that do not open and were given up by these records. */
  givenUp?: readonly (readonly [ObjectRef, readonly LoadedForget[]])[]
  files?: readonly IndexFile[]
  indexFiles?: readonly Listed[]
  gone?: readonly ObjectRef[]
  lives?: readonly (Partial<SessionLife> & { session: string; live?: boolean })[]
  names?: Survey['sessions']['names']
}

function survey(given: Given): Survey {
  const view = createView(given.files ?? [])
  const lives = given.lives ?? []
  const { writerId = WRITER } = given
  const opened = (one: ObjectRef): OpenedSnapshot => ({ structure: { ref: one, writerId } }) as unknown as OpenedSnapshot
  return {
    now: NOW,
    state: collectionState({ lists: given.lists ?? [], forgets: given.forgets ?? [], refused: [] }),
    snapshots: (given.counting ?? []).map(opened),
    forgotten: (given.opened ?? []).map(opened),
    refused: [],
    givenUp: new Map(
      (given.givenUp ?? []).map(([one, records]) => [
        refKey(one),
        [...collectionState({ lists: [], forgets: records, refused: [] }).forgotten.values()].flat(),
      ]),
    ),
    listed: new Map((given.snapshots ?? []).map((one) => [refKey(one), one])),
    packs: new Map((given.packs ?? []).map((one) => [one.random, one])),
    indexFiles: given.indexFiles ?? (given.files ?? []).map((file) => listed(file.ref)),
    sessions: {
      all: new Map(lives.map((life) => [life.session, { startedAt: 0, lastAt: 0, ended: false, ...life }])),
      isLive: (session) => lives.some((life) => life.session === session && life.live === true),
      names: given.names ?? [],
    },
    whole: { view, indexed: view, refused: [], gone: new Set((given.gone ?? []).map((one) => one.random)), unindexed: [] },
  }
}

export function plan(
  given: Given,
  uses: [string, PackUse][] = [],
  more: { undeletable?: [string, PackUse][]; held?: ObjectRef[]; windowMs?: number; lacking?: ObjectRef[] } = {},
): PrunePlan {
  const aside = { undeletable: markOf(more.undeletable ?? []), held: new Set((more.held ?? []).map(refKey)) }
  return planPrune(survey(given), markOf(uses, more.lacking), aside, keys.write, more.windowMs ?? WINDOW)
}

export const entry = (snapshot: ObjectRef, why: ForgottenSnapshot['why'] = 'asked'): ForgottenSnapshot => ({
  snapshot,
  series: Buffer.alloc(32),
  sequence: 0,
  hash: Buffer.alloc(32),
  why,
})
export const forget = (
  storedAt: number,
  record: ObjectRef,
  entries: readonly ForgottenSnapshot[],
  replaces: readonly ObjectRef[] = [],
  more: Partial<LoadedForget['record']> = {},
): LoadedForget => ({
  storedAt,
  record: { ref: record, writerId: WRITER, madeAt: 0, replaces, entries, undone: [], ...more },
})
