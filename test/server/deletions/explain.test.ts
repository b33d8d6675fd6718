// Which deletion lists are explained: case by case, and as properties over made histories. What a kept snapshot needs is never explained.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { CollectionList, CondemnedPack, DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { sha256Hex } from '@holdfast/shared/protocol/signatures.ts'
import type { DeletionCode } from '@holdfast/shared/protocol/deletions.ts'
import {
  explainDeletion,
  otherKey,
  type Books,
  type DeletionStored,
  type StoredList,
  type StoreFacts,
} from 'holdfast-server/deletions/explain.ts'
import type { KnownSnapshot, NeedInterval } from 'holdfast-server/records/records.ts'
import { rotatingSeed, soak } from '../../_support/soak.ts'

const DAY = 86_400_000
const NOW = 1_800_000_000_000
const UNDELETE = 14 * DAY
const agentId = `ag_${'a'.repeat(32)}`
const series = 'e'.repeat(64)
const hex = (n: number): string => n.toString(16).padStart(32, '0')
const ref = (n: number): ObjectRef => ({ session: hex(1000 + n), random: hex(n) })
const packHex = (n: number): string => ref(n).session + ref(n).random

type World = {
  /** Of each snapshot, oldest first: which packs it needs; undefined where nothing was stated. */
  readonly needs: readonly (ReadonlySet<number> | undefined)[]
  readonly goingSnapshots: readonly number[]
  readonly goingPacks: readonly number[]
  readonly condemned?: readonly number[]
  readonly revived?: readonly number[]
  readonly condemnedAt?: number
  readonly approved?: boolean
}

const snapshotId = (n: number): string => hex(500 + n)
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
    ...{ id: snapshotId(n), agentId, series, source: 'documents', claimedAt: storedAt(n, needs.length), deleted: false },
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
    replaced: new Set(),
    needs: intervalsOf(needs),
    stands: [],
    rulesOf: () => ({ retention: { daily: 3 }, stepMs: DAY }),
    forgotten: new Map(goingSnapshots.map((n) => [`${agentId} ${snapshotId(n)}`, NOW - 20 * DAY])),
  }
  return { asked, facts, books }
}

type Parts = ReturnType<typeof worldOf>
const explain = ({ asked, facts, books }: Parts, approved = false, now = NOW) =>
  explainDeletion(asked, facts, books, { undeleteMs: UNDELETE, isApproved: approved, now })
const codes = (parts: Parts, approved = false): DeletionCode[] => {
  const explanation = explain(parts, approved)
  return explanation.kind === 'explained' ? [] : explanation.reasons.map(({ code }) => code)
}

/** Five days, three of which the rules keep; pack 9 is needed by the oldest two alone, pack 1 by all. */
const sound: World = {
  needs: [new Set([1, 9]), new Set([1, 9]), new Set([1, 2]), new Set([1, 2]), new Set([1, 3])],
  goingSnapshots: [0, 1],
  goingPacks: [9],
}
/** Older than the undelete window, so that nothing of the snapshots themselves is too young. */
const built = (world: World = sound): Parts => worldOf(world)

describe('a deletion list is explained', () => {
  it('where retention lets go what it names, nothing that stays needs it, and the window is over', () => {
    expect(explain(built())).toEqual({ kind: 'explained', why: 'retention' })
  })

  it('where it names snapshots alone that were told of as forgotten long ago', () => {
    const { asked, facts, books } = built({ ...sound, goingPacks: [] })
    expect(explain({ asked: { ...asked, list: { ...asked.list, lists: [] } }, facts: { ...facts, lists: new Map() }, books }).kind).toBe(
      'explained',
    )
  })

  it('where a snapshot was replaced before anybody was told of it', () => {
    const parts = built({ ...sound, goingSnapshots: [], goingPacks: [] })
    const id = hex(77)
    const snapshots = new Map([...parts.facts.snapshots, [id, { session: hex(3), storedAt: NOW - 20 * DAY }] as const])
    const names: DeletableName[] = [{ kind: 'snapshot', session: hex(3), random: id }]
    const asked = { ...parts.asked, list: { ...parts.asked.list, names, lists: [] } }
    const books = { ...parts.books, replaced: new Set([id]), forgotten: new Map([[` ${id}`, NOW - 20 * DAY]]) }
    expect(explain({ asked, facts: { ...parts.facts, snapshots }, books }).kind).toBe('explained')
    expect(codes({ asked, facts: { ...parts.facts, snapshots }, books: { ...books, replaced: new Set() } })).toContain('unknown-snapshot')
  })
})

describe('a deletion list is held', () => {
  const held: readonly (readonly [string, DeletionCode, (parts: Parts) => Parts, boolean])[] = [
    ['that names a pack of a kept snapshot', 'needed', () => built({ ...sound, goingPacks: [9, 1] }), false],
    ['that names a pack which was taken back', 'revived', () => built({ ...sound, revived: [9] }), false],
    [
      'that names a snapshot which was taken back from it',
      'revived',
      (p) => {
        const packs = [{ session: hex(2000), random: snapshotId(0) }]
        const list = { kind: 'revived', ref: ref(903), writerId: Buffer.alloc(16), madeAt: 0, from: [{ list: ref(902), packs }] } as const
        return {
          ...p,
          facts: { ...p.facts, lists: new Map([...p.facts.lists, [refKey(ref(903)), { list, storedAt: NOW, isTrusted: false }]]) },
        }
      },
      false,
    ],
    ['that names a pack which no list condemned', 'not-condemned', () => built({ ...sound, condemned: [] }), false],
    ['that relies on a list which is not there', 'list-missing', (p) => ({ ...p, facts: { ...p.facts, lists: new Map() } }), false],
    ['while a list cannot be read', 'unreadable', (p) => ({ ...p, facts: { ...p.facts, unreadable: ['lists/x'] } }), false],
    ['that nobody to be trusted signed', 'signer', (p) => ({ ...p, asked: { ...p.asked, isTrusted: false } }), true],
    ['that names a snapshot which the rules keep', 'retention', () => built({ ...sound, goingSnapshots: [0, 1, 2] }), true],
    ['whose snapshots have no rules', 'no-retention', (p) => ({ ...p, books: { ...p.books, rulesOf: () => undefined } }), true],
    ['that empties a series', 'last-one', () => built({ ...sound, goingSnapshots: [0, 1, 2, 3, 4] }), true],
    [
      'while needs of a kept snapshot are not stated',
      'unstated',
      () => built({ ...sound, needs: [...sound.needs.slice(0, 4), undefined] }),
      true,
    ],
    [
      'that names a snapshot whose times disagree',
      'times-disagree',
      (p) => ({ ...p, books: { ...p.books, snapshots: p.books.snapshots.map((s) => ({ ...s, claimedAt: s.witnessedAt - 3 * DAY })) } }),
      true,
    ],
    [
      'while the store has a snapshot that nobody reported',
      'unknown-snapshot',
      (p) => ({ ...p, facts: { ...p.facts, snapshots: new Map([...p.facts.snapshots, [hex(7), { session: hex(7), storedAt: 0 }]]) } }),
      true,
    ],
    [
      'that names a snapshot nobody told of as forgotten',
      'not-forgotten',
      (p) => ({ ...p, books: { ...p.books, forgotten: new Map() } }),
      true,
    ],
    [
      'that names the session of a kept snapshot',
      'in-use',
      (p) => ({
        ...p,
        asked: { ...p.asked, list: { ...p.asked.list, names: [{ kind: 'session', session: hex(2004), random: hex(0) }] } },
      }),
      false,
    ],
    [
      'that names every index file',
      'in-use',
      (p) => ({
        ...p,
        facts: { ...p.facts, others: new Map([[otherKey('index', ref(5)), { storedAt: 0, bytes: 9 }]]) },
        asked: { ...p.asked, list: { ...p.asked.list, names: [{ kind: 'index', ...ref(5) }] } },
      }),
      false,
    ],
  ]
  it.each(held)('%s (%s)', (_, code, change, settled) => {
    const parts = change(built())
    expect(explain(parts).kind).toBe('held')
    expect(codes(parts)).toContain(code)
    // The controller's approval settles what is a matter of will, never what would lose data that stays.
    expect(codes(parts, true).includes(code)).toBe(!settled)
  })

  it('and tells how often and with examples', () => {
    const explanation = explain(built({ ...sound, goingPacks: [9, 1, 2, 3] }))
    expect(explanation).toMatchObject({
      kind: 'held',
      reasons: [{ code: 'needed', count: 3, samples: [refKey(ref(1)), refKey(ref(2)), refKey(ref(3))] }],
    })
  })
})

it('a list that is too early waits until the window of what it relies on is over, also with an approval', () => {
  const parts = built({ ...sound, condemnedAt: NOW - 2 * DAY })
  for (const approved of [false, true]) expect(explain(parts, approved)).toMatchObject({ kind: 'waiting', until: NOW + 12 * DAY })
})

it('is held while the clocks of server and store are hours apart, also with an approval, and goes on by itself when they agree', () => {
  const parts = built({ ...sound, goingPacks: [] })
  const told = (at: number): Parts => ({
    ...parts,
    books: { ...parts.books, forgotten: new Map([0, 1].map((n) => [`${agentId} ${snapshotId(n)}`, at])) },
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
    books: { ...parts.books, forgotten: new Map(at === undefined ? [] : [0, 1].map((n) => [`${agentId} ${snapshotId(n)}`, at])) },
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
    expect(explain(parts, true)).toEqual({ kind: 'explained', why: 'approval' })
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

const packs = fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 8 })
const worlds = fc.record({
  needs: fc.array(
    fc.option(
      packs.map((all) => new Set(all)),
      { nil: undefined, freq: 12 },
    ),
    { minLength: 1, maxLength: 9 },
  ),
  goingSnapshots: fc.uniqueArray(fc.integer({ min: 0, max: 8 }), { maxLength: 6 }),
  goingPacks: packs,
  revived: packs,
  approved: fc.boolean(),
  mark: fc.integer({ min: 0, max: 3 }),
})

describe('whatever a list names and whoever approves', () => {
  const seed = Number.parseInt(sha256Hex(Buffer.from(rotatingSeed())).slice(0, 7), 16)
  const check = (property: (parts: Parts & { world: World }) => void): void =>
    fc.assert(
      fc.property(worlds, (made) => {
        const world = { ...made, goingSnapshots: made.goingSnapshots.filter((n) => n < made.needs.length) }
        property({ ...built(world), world })
      }),
      { numRuns: soak ? 200_000 : 3000, seed },
    )

  it('no pack that a kept snapshot needs by its statement is explained, nor one that was taken back', () => {
    check(({ world, ...parts }) => {
      if (explain(parts, world.approved === true).kind !== 'explained') return
      const kept = world.needs.filter((_, n) => !world.goingSnapshots.includes(n))
      for (const pack of world.goingPacks) {
        expect(kept.some((needed) => needed?.has(pack) === true)).toBe(false)
        expect(world.revived).not.toContain(pack)
      }
    })
  })

  it('without approval, each day that the rules cover keeps a snapshot, and none is without a statement', () => {
    let explained = 0
    check(({ world, ...parts }) => {
      if (explain(parts).kind !== 'explained') return
      explained += world.goingSnapshots.length
      const kept = world.needs.flatMap((_, n) => (world.goingSnapshots.includes(n) ? [] : [n]))
      const promised = world.needs.map((_, n) => n).slice(-3)
      for (const day of promised) expect(kept).toContain(day)
      if (world.goingPacks.length > 0) expect(kept.every((n) => world.needs[n] !== undefined)).toBe(true)
    })
    expect(explained, 'the property is about something').toBeGreaterThan(20)
  })
})
