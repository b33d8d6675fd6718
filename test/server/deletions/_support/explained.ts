// A store and books of a made history, as `explainDeletion` gets them: snapshots of one series, a day apart, and which packs each of them needs.
import type { CollectionList, CondemnedPack, DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { DeletionCode } from '@holdfast/shared/protocol/deletions.ts'
import { explainDeletion, type Books, type DeletionStored, type StoredList, type StoreFacts } from 'holdfast-server/deletions/explain.ts'
import type { KnownSnapshot, NeedInterval } from 'holdfast-server/records/records.ts'

export const DAY = 86_400_000
export const NOW = 1_800_000_000_000
const UNDELETE = 14 * DAY
export const agentId = `ag_${'a'.repeat(32)}`
const series = 'e'.repeat(64)
export const hex = (n: number): string => n.toString(16).padStart(32, '0')
export const ref = (n: number): ObjectRef => ({ session: hex(1000 + n), random: hex(n) })
const packHex = (n: number): string => ref(n).session + ref(n).random

export type World = {
  /** Of each snapshot, oldest first: which packs it needs; undefined where nothing was stated. */
  readonly needs: readonly (ReadonlySet<number> | undefined)[]
  readonly goingSnapshots: readonly number[]
  readonly goingPacks: readonly number[]
  readonly condemned?: readonly number[]
  readonly revived?: readonly number[]
  readonly condemnedAt?: number
  readonly approved?: boolean
}

export const snapshotId = (n: number): string => hex(500 + n)
/** One a day, the newest of today. */
const storedAt = (n: number, of: number): number => NOW - (of - 1 - n) * DAY - 3_600_000

/** Intervals as a plain reader of sets would make them: from the first to the last of each stretch of stated snapshots that need a pack. */
function intervalsOf(needs: World['needs']): NeedInterval[] {
  const stated = needs.flatMap((packs, n) => (packs === undefined ? [] : [{ packs, sequence: n + 1 }]))
  const all = new Set(stated.flatMap(({ packs }) => [...packs]))
  return [...all].flatMap((pack) => {
    const found: NeedInterval[] = []
    let open: { first: number; last: number } | undefined
    for (const { packs, sequence } of stated) {
      if (packs.has(pack)) open = { first: open?.first ?? sequence, last: sequence }
      else if (open !== undefined) {
        found.push({ pack: packHex(pack), series, ...open })
        open = undefined
      }
    }
    if (open !== undefined) found.push({ pack: packHex(pack), series, first: open.first, last: null })
    return found
  })
}

function worldOf({ needs, goingSnapshots, goingPacks, condemned = goingPacks, revived = [], condemnedAt = NOW - 20 * DAY }: World) {
  const list = (n: number, body: object): CollectionList =>
    ({ ref: ref(n), writerId: Buffer.from(agentId.slice(3), 'hex'), madeAt: 0, ...body }) as CollectionList
  const kept = needs.flatMap((_, n) => (goingSnapshots.includes(n) ? [] : [{ session: hex(2000 + n), random: snapshotId(n) }]))
  const packs: CondemnedPack[] = condemned.map((n) => ({ ...ref(n), bytes: 1, why: 'dead' }))
  const stored: StoredList[] = [{ list: list(900, { kind: 'condemned', kept, packs }), storedAt: condemnedAt, isTrusted: true }]
  if (revived.length > 0)
    stored.push({
      list: list(901, { kind: 'revived', from: [{ list: ref(900), packs: revived.map(ref) }] }),
      storedAt: NOW,
      isTrusted: false,
    })
  const names: DeletableName[] = [
    ...goingSnapshots.map((n) => ({ kind: 'snapshot' as const, session: hex(2000 + n), random: snapshotId(n) })),
    ...goingPacks.map((n) => ({ kind: 'pack' as const, ...ref(n) })),
  ]
  const asked: DeletionStored = {
    list: list(902, { kind: 'deletion', lists: [ref(900)], names }) as DeletionStored['list'],
    storedAt: NOW,
    isTrusted: true,
  }
  const snapshots: KnownSnapshot[] = needs.map((packsOf, n) => ({
    ...{ id: snapshotId(n), agentId, series, source: 'documents', claimedAt: storedAt(n, needs.length), deleted: false, contested: false },
    ...{ witnessedAt: storedAt(n, needs.length), sequence: packsOf === undefined ? null : n + 1 },
  }))
  const facts: StoreFacts = {
    now: NOW,
    lists: new Map(stored.map((one) => [refKey(one.list.ref), one])),
    unreadable: [],
    snapshots: new Map(needs.map((_, n) => [snapshotId(n), { session: hex(2000 + n), storedAt: storedAt(n, needs.length) }])),
    others: new Map(),
    packs: 0,
    condemnedThere: new Set(),
  }
  const books: Books = {
    snapshots,
    replaced: new Map(),
    absent: new Map(),
    settled: new Set(),
    agents: [{ id: agentId, heardAt: NOW, revokedAt: null }],
    needs: intervalsOf(needs),
    stands: [],
    rulesOf: () => ({ retention: { daily: 3 }, stepMs: DAY }),
    forgotten: new Map(goingSnapshots.map((n) => [`${agentId} ${snapshotId(n)}`, { since: NOW - 20 * DAY, heardAt: NOW - 20 * DAY }])),
  }
  return { asked, facts, books }
}

export type Parts = ReturnType<typeof worldOf>
export const explain = ({ asked, facts, books }: Parts, approved = false, now = NOW) =>
  explainDeletion(asked, facts, books, { undeleteMs: UNDELETE, isApproved: approved, hasBegun: false, now })
export const codes = (parts: Parts, approved = false): DeletionCode[] => {
  const explanation = explain(parts, approved)
  return explanation.kind === 'explained' ? [] : explanation.reasons.map(({ code }) => code)
}

/** Five days, three of which the rules keep; pack 9 is needed by the oldest two alone, pack 1 by all. */
export const sound: World = {
  needs: [new Set([1, 9]), new Set([1, 9]), new Set([1, 2]), new Set([1, 2]), new Set([1, 3])],
  goingSnapshots: [0, 1],
  goingPacks: [9],
}
/** Older than the undelete window, so that nothing of the snapshots themselves is too young. */
export const built = (world: World = sound): Parts => worldOf(world)
