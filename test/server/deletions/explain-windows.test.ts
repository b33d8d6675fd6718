// When what a list names may go: windows and the clocks that they are measured by, what `last` counts, and what carries no data.
import { describe, expect, it } from 'vitest'
import type { CollectionList, DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey } from '@holdfast/shared/format/layout.ts'
import { otherKey, type StoredList } from 'holdfast-server/deletions/explain.ts'
import { agentId, built, codes, DAY, explain, hex, NOW, ref, snapshotId, sound, type Parts } from './_support/explained.ts'

it('is held while the clocks of server and store are hours apart, also with an approval, and goes on by itself when they agree', () => {
  const parts = built({ ...sound, goingPacks: [] })
  const told = (at: number): Parts => ({
    ...parts,
    books: { ...parts.books, forgotten: new Map([0, 1].map((n) => [`${agentId} ${snapshotId(n)}`, { since: at, heardAt: at }])) },
  })
  // A year ahead, every window would be over.
  for (const hours of [3, -3, 365 * 24])
    for (const approved of [false, true])
      expect(explain(told(NOW - DAY), approved, NOW + hours * 3_600_000)).toMatchObject({
        kind: 'held',
        reasons: expect.arrayContaining([{ code: 'clocks-disagree', count: 1, samples: [`${hours} h`] }]) as unknown,
      })
  expect(explain(told(NOW - DAY))).toMatchObject({ kind: 'waiting', until: NOW + 13 * DAY })
  expect(explain(told(NOW - 20 * DAY), false, NOW + 3_600_000).kind).toBe('explained')
})

describe('what carries no data', () => {
  type Other = {
    readonly kind: 'index' | 'forget'
    readonly n: number
    readonly days: number
    readonly bytes?: number
    readonly going?: boolean
  }
  /** Objects by the days since they were stored, of which some are named, in a list that came so many days ago. */
  const of = (all: readonly Other[], asked: { packs?: number; listDays?: number } = {}): Parts => {
    const parts = built({ ...sound, goingSnapshots: [], goingPacks: [] })
    const names: DeletableName[] = all.flatMap(({ kind, n, going }) => (going === true ? [{ kind, ...ref(n) }] : []))
    const others = new Map(all.map(({ kind, n, days, bytes = 5000 }) => [otherKey(kind, ref(n)), { storedAt: NOW - days * DAY, bytes }]))
    return {
      asked: { ...parts.asked, storedAt: NOW - (asked.listDays ?? 0) * DAY, list: { ...parts.asked.list, names, lists: [] } },
      facts: { ...parts.facts, others, packs: 1000 },
      books: { ...parts.books, stands: [{ snapshotId: snapshotId(4), packs: asked.packs ?? 0 }] },
    }
  }

  it('goes after a day, where something newer stays that can say the same', () => {
    const merged: Other[] = [1, 2, 3].map((n) => ({ kind: 'index', n, days: 9 - n, going: true }))
    expect(explain(of([...merged, { kind: 'index', n: 4, days: 2 }])).kind).toBe('explained')
    expect(explain(of([...merged, { kind: 'index', n: 5, days: 0.5, going: true }, { kind: 'index', n: 4, days: 0 }]))).toMatchObject({
      kind: 'waiting',
    })
  })

  it('is held where nothing newer stays: of index files, and of records of what was forgotten', () => {
    for (const kind of ['index', 'forget'] as const) {
      const parts = of(
        [
          { kind, n: 1, days: 30 },
          { kind, n: 2, days: 20, going: true },
          { kind, n: 3, days: 20, going: true },
        ],
        { listDays: 20 },
      )
      expect(explain(parts)).toMatchObject({ kind: 'held', reasons: [{ code: 'in-use', count: 2 }] })
      expect(codes(parts, true)).toEqual(['in-use'])
    }
  })

  it('is held where the index files that stay are too small to name the packs that a kept snapshot needs', () => {
    const all: Other[] = [...[1, 2, 3].map((n) => ({ kind: 'index' as const, n, days: 9, going: true })), { kind: 'index', n: 4, days: 2 }]
    expect(explain(of(all, { packs: 34 })).kind).toBe('explained')
    expect(codes(of(all, { packs: 35 }))).toEqual(['in-use'])
    // Packs that are not there any more, such as those that the root emptied, need no name.
    const few = of(all, { packs: 35 })
    expect(explain({ ...few, facts: { ...few.facts, packs: 34 } }).kind).toBe('explained')
  })

  it('waits for a whole undelete window where it says what was forgotten or taken back', () => {
    const all: Other[] = [
      { kind: 'forget', n: 1, days: 60, going: true },
      { kind: 'forget', n: 2, days: 40 },
    ]
    expect(explain(of(all, { listDays: 1 }))).toMatchObject({ kind: 'waiting', until: NOW + 13 * DAY })
    expect(explain(of(all, { listDays: 15 })).kind).toBe('explained')
  })

  it('is held where it is a list that condemned a pack which is still there', () => {
    const parts = built({ ...sound, goingSnapshots: [], goingPacks: [] })
    const names: DeletableName[] = [{ kind: 'list', ...ref(900) }]
    const lists = new Map(
      [...parts.facts.lists].map(([key, one]) => [
        key,
        { ...one, list: { ...one.list, packs: [{ ...ref(9), bytes: 1, why: 'dead' }] } as CollectionList },
      ]),
    )
    const asked = { ...parts.asked, list: { ...parts.asked.list, names, lists: [] } }
    const facts = { ...parts.facts, lists, others: new Map([[otherKey('list', ref(900)), { storedAt: NOW - 40 * DAY, bytes: 9 }]]) }
    expect(explain({ ...parts, asked, facts }).kind).toBe('explained')
    expect(codes({ ...parts, asked, facts: { ...facts, condemnedThere: new Set([refKey(ref(9))]) } })).toEqual(['in-use'])
  })
})

describe('the undelete window of a snapshot', () => {
  const lists = (parts: Parts, ...more: { at: number; keeps: boolean }[]): Parts => {
    const [condemned] = parts.facts.lists.values()
    const made = more.map(({ at, keeps }, n): StoredList => {
      const list = condemned!.list as Extract<CollectionList, { kind: 'condemned' }>
      const going = [0, 1].map((one) => ({ session: hex(2000 + one), random: snapshotId(one) }))
      return { list: { ...list, ref: ref(910 + n), kept: keeps ? [...list.kept, ...going] : list.kept }, storedAt: at, isTrusted: true }
    })
    return {
      ...parts,
      facts: { ...parts.facts, lists: new Map([...parts.facts.lists, ...made.map((one) => [refKey(one.list.ref), one] as const)]) },
    }
  }
  const forgotten = (parts: Parts, at: number | undefined): Parts => ({
    ...parts,
    books: {
      ...parts.books,
      forgotten: new Map(at === undefined ? [] : [0, 1].map((n) => [`${agentId} ${snapshotId(n)}`, { since: at, heardAt: at }])),
    },
  })
  /** Stored a month ago, so that every list is younger. */
  const old = (): Parts => {
    const parts = built({ ...sound, condemnedAt: NOW - 20 * DAY })
    const snapshots = new Map([...parts.facts.snapshots].map(([id, one]) => [id, { ...one, storedAt: one.storedAt - 30 * DAY }]))
    const known = parts.books.snapshots.map((one) => ({ ...one, claimedAt: one.claimedAt! - 30 * DAY }))
    return { ...parts, facts: { ...parts.facts, snapshots }, books: { ...parts.books, snapshots: known } }
  }

  it('counts from what its agent told last, whatever lists said before: it may have been taken back between', () => {
    expect(explain(forgotten(old(), NOW - 15 * DAY)).kind).toBe('explained')
    expect(explain(forgotten(old(), NOW - 3 * DAY))).toMatchObject({ kind: 'waiting', until: NOW + 11 * DAY })
  })

  it('begins after the newest list that counts it: the clock of the server may have stood in the past when it was told', () => {
    const told = forgotten(old(), NOW - 400 * DAY)
    expect(explain(told).kind).toBe('explained')
    expect(explain(lists(told, { at: NOW - 4 * DAY, keeps: true }))).toMatchObject({
      kind: 'waiting',
      until: NOW + 10 * DAY - 2 * 3_600_000,
    })
  })

  it('counts from the first list that left it out, where no agent told of it', () => {
    expect(explain(forgotten(old(), undefined)).kind).toBe('explained')
    const later = lists(forgotten(built({ ...sound, goingPacks: [], condemnedAt: NOW - 40 * DAY }), undefined), {
      at: NOW - DAY,
      keeps: false,
    })
    // The list of forty days ago is older than the snapshots, which says nothing of them.
    expect(explain(later)).toMatchObject({ kind: 'waiting', until: NOW + 13 * DAY })
  })

  it('has not begun where the newest list that could leave it out counts it', () => {
    expect(codes(lists(forgotten(old(), undefined), { at: NOW - 18 * DAY, keeps: true }))).toEqual(['not-forgotten'])
    const again = lists(forgotten(old(), undefined), { at: NOW - 18 * DAY, keeps: true }, { at: NOW - 4 * DAY, keeps: false })
    expect(explain(again)).toMatchObject({ kind: 'waiting', until: NOW + 10 * DAY })
  })
})

describe('what `last` lets go', () => {
  /** Snapshots of one series by their age in days, oldest first; `going` of them are named, and were forgotten long ago. */
  const aged = (ages: readonly number[], going: number, last: number): Parts => {
    const { asked, facts, books } = built({
      needs: ages.map(() => new Set([1])),
      goingSnapshots: ages.slice(0, going).map((_, n) => n),
      goingPacks: [],
    })
    const at = (n: number): number => NOW - ages[n]! * DAY
    return {
      asked,
      facts: { ...facts, snapshots: new Map([...facts.snapshots].map(([id, one], n) => [id, { ...one, storedAt: at(n) }])) },
      books: {
        ...books,
        snapshots: books.snapshots.map((one, n) => ({ ...one, claimedAt: at(n), witnessedAt: at(n) })),
        rulesOf: () => ({ retention: { last }, stepMs: DAY }),
      },
    }
  }

  it('goes where as many newer ones stay that came as the policy was due, and the window is over since the last of them', () => {
    expect(explain(aged([18, 17, 16, 15, 3, 2, 1], 1, 3)).kind).toBe('explained')
    expect(explain(aged([18, 17, 16.4, 15.5, 3, 2, 1], 1, 3)).kind).toBe('explained')
    expect(explain(aged([18, 17, 16, 13, 3, 2, 1], 1, 3))).toMatchObject({ kind: 'waiting', until: NOW + DAY })
  })

  it('stays for the controller where the newer ones came all at once, as a thief of the appliance would add them', () => {
    const rubbish = Array.from({ length: 9 }, (_, n) => 20 - n / 1000)
    const parts = aged([24, 23, 22, 21, ...rubbish], 4, 7)
    expect(explain(parts)).toMatchObject({ kind: 'held', reasons: [{ code: 'crowded-out', count: 4 }] })
    expect(explain(parts, true)).toEqual({ kind: 'explained', why: 'approval', settled: [] })
  })

  it('goes no earlier than time would have taken it, where newer ones came all at once and others after them', () => {
    const rubbish = Array.from({ length: 7 }, (_, n) => 20 - n / 1000)
    // Seven places are filled on the 7th day after it, whatever came between.
    expect(explain(aged([21, ...rubbish, 19, 18, 17, 16, 15, 14.5, 14], 1, 7)).kind).toBe('explained')
    expect(explain(aged([21, ...rubbish, 19, 18, 17, 16, 15, 13, 12], 1, 7))).toMatchObject({ kind: 'waiting', until: NOW + DAY })
    expect(codes(aged([21, ...rubbish, 19, 18, 17, 16, 15], 1, 7))).toEqual(['crowded-out'])
  })

  it('is not asked of a series whose rules go by hours, days, weeks, months or years', () => {
    const parts = aged([24, 20.001, 20, 19, 18], 1, 0)
    expect(explain({ ...parts, books: { ...parts.books, rulesOf: () => ({ retention: { daily: 3 }, stepMs: DAY }) } }).kind).toBe(
      'explained',
    )
  })
})

describe('the rules of a series', () => {
  const named = (...sources: readonly (string | null)[]): Parts => {
    const parts = built()
    const snapshots = parts.books.snapshots.map((one, n) => ({ ...one, source: sources[n] === undefined ? 'documents' : sources[n] }))
    const rulesOf: Parts['books']['rulesOf'] = (_, source) =>
      source === 'local' ? undefined : { retention: { daily: source === 'scratch' ? 1 : 3 }, stepMs: DAY }
    return { ...parts, books: { ...parts.books, snapshots, rulesOf } }
  }

  it('are those of its source, also where a report was lost or a person began it by hand', () => {
    expect(explain(named('local', null)).kind).toBe('explained')
    expect(explain(named(null, 'local')).kind).toBe('explained')
  })

  it('are none where its snapshots name two: another source of the same appliance may keep less', () => {
    expect(codes(named('scratch'))).toEqual(['no-retention'])
    expect(codes(named(null, null, 'documents', 'scratch'))).toEqual(['no-retention'])
    expect(codes(named('local', 'local', 'local', 'local', 'local'))).toEqual(['no-retention'])
  })
})
