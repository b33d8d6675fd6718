// Which deletion lists are explained: case by case, and as properties over made histories. What a kept snapshot needs is never explained.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey } from '@holdfast/shared/format/layout.ts'
import { sha256Hex } from '@holdfast/shared/protocol/signatures.ts'
import type { DeletionCode } from '@holdfast/shared/protocol/deletions.ts'
import { otherKey } from 'holdfast-server/deletions/explain.ts'
import { rotatingSeed, soak } from '../../_support/soak.ts'
import { agentId, built, codes, DAY, explain, hex, NOW, ref, snapshotId, sound, type Parts, type World } from './_support/explained.ts'

describe('a deletion list is explained', () => {
  it('where retention lets go what it names, nothing that stays needs it, and the window is over', () => {
    expect(explain(built())).toEqual({ kind: 'explained', why: 'retention', settled: [] })
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
    const books = {
      ...parts.books,
      replaced: new Map([[id, new Set([agentId])]]),
      forgotten: new Map([[` ${id}`, { since: NOW - 20 * DAY, heardAt: NOW - 20 * DAY }]]),
    }
    const facts = { ...parts.facts, snapshots }
    expect(explain({ asked, facts, books }).kind).toBe('explained')
    expect(codes({ asked, facts, books: { ...books, replaced: new Map() } })).toContain('unknown-snapshot')
    // It may be another's, as long as that one was not heard from since and could have made it.
    const withOther = (heardAt: number, revokedAt: number | null = null) =>
      codes({ asked, facts, books: { ...books, agents: [...books.agents, { id: `ag_${'b'.repeat(32)}`, heardAt, revokedAt }] } })
    expect(withOther(NOW - 20 * DAY)).toEqual(['unknown-snapshot'])
    expect(withOther(NOW - 19 * DAY)).toEqual([])
    expect(withOther(NOW - 40 * DAY, NOW - 19 * DAY)).toEqual(['unknown-snapshot'])
    expect(withOther(NOW - 40 * DAY, NOW - 30 * DAY)).toEqual([])
    // An approval settles it for good; not one that came later than the list, which nobody could see.
    const silent = [...books.agents, { id: `ag_${'b'.repeat(32)}`, heardAt: 0, revokedAt: null }]
    const approved = (at: number) => explain({ asked: { ...asked, storedAt: at }, facts, books: { ...books, agents: silent } }, true)
    expect(approved(NOW)).toEqual({ kind: 'explained', why: 'approval', settled: [id] })
    expect(approved(NOW - 21 * DAY)).toEqual({ kind: 'explained', why: 'approval', settled: [] })
    expect(codes({ asked, facts, books: { ...books, agents: silent, settled: new Set([id]) } })).toEqual([])
  })
})

it('a snapshot that nobody reported is in the way only of a list that may take something of it', () => {
  const session = hex(7)
  const codesOf = (goingPacks: readonly number[], more: readonly DeletableName[]) => {
    const { asked, facts, books } = built({ ...sound, goingPacks })
    const list = { ...asked.list, names: [...asked.list.names, ...more] }
    const snapshots = new Map([...facts.snapshots, [hex(7), { session, storedAt: NOW - 20 * DAY }] as const])
    return codes({ asked: { ...asked, list }, facts: { ...facts, snapshots }, books })
  }
  expect(codesOf([], [])).toEqual([])
  expect(codesOf([], [{ kind: 'session', session: hex(8), random: hex(0) }])).toEqual([])
  expect(codesOf([9], [])).toEqual(['unknown-snapshot'])
  expect(codesOf([], [{ kind: 'session', session, random: hex(0) }])).toEqual(['unknown-snapshot'])
  expect(codesOf([], [{ kind: 'end', session, random: hex(0) }])).toEqual(['unknown-snapshot'])
  expect(codesOf([], [{ kind: 'snapshot', session, random: hex(7) }])).toContain('unknown-snapshot')
})

it('a snapshot that was taken back and forgotten again goes, also where the clocks of server and store cannot tell which came first', () => {
  const backAt = NOW - 20 * DAY
  const codesOf = (hours: number, heardDaysLater: number) => {
    const parts = built({ ...sound, goingPacks: [], condemnedAt: NOW - 40 * DAY })
    const from = [0, 1].map((n) => ({ list: { session: hex(2000 + n), random: snapshotId(n) }, packs: [] }))
    const list = { kind: 'revived', ref: ref(903), writerId: Buffer.alloc(16), madeAt: 0, from } as const
    const lists = new Map([...parts.facts.lists, [refKey(ref(903)), { list, storedAt: backAt, isTrusted: true }]])
    const since = backAt + hours * 3_600_000
    const told = { since, heardAt: since + heardDaysLater * DAY }
    const forgotten = new Map([0, 1].map((n) => [`${agentId} ${snapshotId(n)}`, told]))
    return codes({ ...parts, facts: { ...parts.facts, lists }, books: { ...parts.books, forgotten } })
  }
  expect(codesOf(3, 0)).toEqual([])
  // It may have been told before it was taken back, by an appliance that was not heard from again.
  for (const hours of [1, 0, -1, -3]) expect(codesOf(hours, 0)).toEqual(['revived'])
  for (const hours of [1, 0, -1]) expect(codesOf(hours, 2)).toEqual([])
  expect(codesOf(-3, 2)).toEqual(['revived'])
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
    [
      'that names a snapshot which was taken back, whenever the list was made',
      'revived',
      (p) => {
        const list = { kind: 'revived', ref: ref(903), writerId: Buffer.alloc(16), madeAt: 0 } as const
        const from = [{ list: { session: hex(2000), random: snapshotId(0) }, packs: [] }]
        const stored = { list: { ...list, from }, storedAt: NOW - 19 * DAY, isTrusted: false }
        return { ...p, facts: { ...p.facts, lists: new Map([...p.facts.lists, [refKey(ref(903)), stored]]) } }
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
      'that names a snapshot which two agents say they made',
      'contested',
      (p) => ({
        ...p,
        books: {
          ...p.books,
          snapshots: p.books.snapshots.flatMap((s, n) =>
            n > 0
              ? [s]
              : [
                  { ...s, contested: true },
                  { ...s, contested: true, agentId: `ag_${'b'.repeat(32)}`, series: 'd'.repeat(64) },
                ],
          ),
        },
      }),
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
