// What a collection decides from what it saw, case by case and to the millisecond: when a pack is condemned, taken back, waited for, deleted, and in which
// order everything goes (design section 7).
import { describe, expect, test } from 'vitest'
import { type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { PackUse } from '../../../agent/collection/mark.ts'
import type { Listed } from '../../../agent/collection/survey.ts'
import type { LoadedForget } from '../../../agent/repository/collection-state.ts'
import { LISTS_STAY_MS, WAIT_MS } from '../../../agent/collection/prune-plan.ts'
import type { ForgottenSnapshot } from '../../../agent/repository/forget-record.ts'
import {
  condemned,
  entry,
  forget,
  hex,
  indexFile,
  listed,
  listOf,
  plan,
  ref,
  use,
  DAY,
  NOW,
  WINDOW,
  type Given,
} from './_support/plan-fixture.ts'

const NOTHING = { packs: 0, bytes: 0 }

describe('a condemned pack', () => {
  const pack = ref(1)
  const list = ref(90)
  const due = NOW - WINDOW

  type Fate = 'deleted' | 'waits' | 'taken back' | 'left to writers' | 'left alone'
  test.each<[Fate, string, 'dead' | 'reuse', number, [string, PackUse][], Given, Parameters<typeof plan>[2], number | undefined]>([
    ['deleted', 'when the window is over', 'dead', due, [use(pack, 0)], {}, {}, undefined],
    ['deleted', 'condemned for reuse, once nothing needs it', 'reuse', due, [use(pack, 0)], {}, {}, undefined],
    ['waits', 'a millisecond sooner', 'dead', due + 1, [use(pack, 0)], {}, {}, NOW + 1],
    ['deleted', 'after a day where no window is asked for', 'dead', NOW - WAIT_MS, [use(pack, 0)], {}, { windowMs: 0 }, undefined],
    ['waits', 'a day at least', 'dead', NOW - WAIT_MS + 1, [use(pack, 0)], {}, { windowMs: 0 }, NOW + 1],
    ['taken back', 'that is needed after all', 'dead', due, [use(pack, 1)], {}, {}, undefined],
    ['left to writers', 'for reuse that is needed still', 'reuse', due, [use(pack, 1)], {}, {}, undefined],
    ['left alone', 'that is not there any more', 'dead', due, [use(pack, 1)], { packs: [] }, {}, undefined],
    ['left alone', 'of which nothing is known', 'dead', due, [], {}, {}, undefined],
    ['waits', 'of which nothing is known, before its time', 'dead', due + 1, [], {}, {}, NOW + 1],
    ['waits', 'that a forgotten snapshot needs', 'dead', due, [use(pack, 0)], {}, { undeletable: [use(pack, 1)] }, undefined],
    ['deleted', 'that no forgotten snapshot needs', 'dead', due, [use(pack, 0)], {}, { undeletable: [use(pack, 0)] }, undefined],
    [
      'waits',
      'while a session is at work that began when the list came',
      'dead',
      due,
      [use(pack, 0)],
      { lives: [{ session: hex(7), startedAt: due, live: true }] },
      {},
      undefined,
    ],
    [
      'deleted',
      'beside a session that began after the list',
      'dead',
      due,
      [use(pack, 0)],
      { lives: [{ session: hex(7), startedAt: due + 1, live: true }] },
      {},
      undefined,
    ],
    [
      'deleted',
      'beside an older session that is over',
      'dead',
      due,
      [use(pack, 0)],
      { lives: [{ session: hex(7), startedAt: 0 }] },
      {},
      undefined,
    ],
    [
      'waits',
      'while the older of two sessions is at work',
      'dead',
      due,
      [use(pack, 0)],
      {
        lives: [
          { session: hex(7), startedAt: 0, live: true },
          { session: hex(8), startedAt: NOW, live: true },
        ],
      },
      {},
      undefined,
    ],
  ])('%s %s', (fate, _, why, since, uses, given, more, until) => {
    const found = plan({ packs: [listed(pack)], lists: [condemned(since, list, [[pack, why]])], ...given }, uses, more)
    expect(found).toMatchObject({
      deletions: fate === 'deleted' ? [{ kind: 'pack', ...pack }] : [],
      lists: fate === 'deleted' ? [list] : [],
      revive: fate === 'taken back' ? [{ list, packs: [pack] }] : [],
      waiting: { ...(fate === 'waits' ? { packs: 1, bytes: 70 } : NOTHING), until },
      waitingForWriters: fate === 'left to writers' ? { packs: 1, bytes: 70 } : NOTHING,
      condemn: [],
      sparse: [],
    })
  })

  test('is counted with the others of its fate, taken back list by list, and the first time tells when something is due', () => {
    const [a, b, c, d, e, f, g] = [1, 2, 3, 4, 5, 6, 7].map((number) => ref(number)) as [
      ObjectRef,
      ObjectRef,
      ObjectRef,
      ObjectRef,
      ObjectRef,
      ObjectRef,
      ObjectRef,
    ]
    const other = ref(91)
    const lists = [
      condemned(NOW - 2 * DAY, list, [
        [a, 'dead'],
        [b, 'dead'],
        [c, 'reuse'],
        [d, 'dead'],
      ]),
      condemned(NOW - DAY, other, [
        [e, 'dead'],
        [f, 'reuse'],
        [g, 'dead'],
      ]),
    ]
    const packs = [a, b, c, d, e, f, g].map((pack_) => listed(pack_))
    const found = plan({ packs, lists }, [use(a, 1), use(b, 2), use(c, 3), use(d, 0), use(e, 5), use(f, 6), use(g, 0)])
    expect(found).toMatchObject({
      revive: [
        { list, packs: [a, b] },
        { list: other, packs: [e] },
      ],
      waitingForWriters: { packs: 2, bytes: 140 },
      waiting: { packs: 2, bytes: 140, until: NOW + 12 * DAY },
    })
    const later = plan({ packs, lists: lists.toReversed() }, [use(d, 0), use(g, 0)], { windowMs: 0 })
    expect(later.deletions).toEqual([d, g].map((pack) => ({ kind: 'pack', ...pack })))
    expect(later.lists).toEqual([list, other])
  })
})

describe('a pack', () => {
  const pack = ref(1, 5)

  test.each<[number, number, 'dead' | 'reuse' | undefined]>([
    [0, 100, 'dead'],
    [1, 100, 'reuse'],
    [49, 100, 'reuse'],
    [50, 100, undefined],
    [51, 100, undefined],
    [100, 100, undefined],
    [0, 0, 'dead'],
  ])('of which %i of %i bytes are needed is condemned as: %s', (live, bytes, why) => {
    const found = plan({ packs: [listed(pack, 0, 123)] }, [use(pack, live, bytes)])
    expect(found.condemn).toEqual(why === undefined ? [] : [{ ...pack, bytes: 123, why }])
    expect(found.sparse).toEqual(why === 'reuse' ? [use(pack, live, bytes)[1]] : [])
    expect(found.heldBySessions).toEqual({ packs: 0, bytes: 0, sessions: 0 })
  })

  test('is not condemned where it is not there, not as it should be, or condemned already', () => {
    expect(plan({}, [use(pack, 0)]).condemn).toEqual([])
    expect(plan({ packs: [listed(pack)], gone: [pack] }, [use(pack, 0)]).condemn).toEqual([])
    expect(plan({ packs: [listed(pack)], lists: [condemned(NOW, ref(90), [[pack, 'dead']])] }, [use(pack, 0)]).condemn).toEqual([])
    expect(plan({ packs: [listed(pack)] }, []).condemn).toEqual([])
  })

  test('of a session that may be at work is held, whatever is needed of it, and told with the session', () => {
    const second = ref(2, 5)
    const third = ref(3, 6)
    const needed = ref(4, 6)
    const lives = [5, 6].map((session) => ({ session: hex(session), live: true }))
    const packs = [listed(pack, 0, 10), listed(second, 0, 20), listed(third, 0, 30), listed(needed, 0, 40)]
    const found = plan({ packs, lives }, [use(pack, 0), use(second, 1), use(third, 0), use(needed, 90)])
    expect(found).toMatchObject({ condemn: [], sparse: [], heldBySessions: { packs: 3, bytes: 60, sessions: 2 } })
  })
})

describe('a forgotten snapshot', () => {
  const snapshot = ref(1, 5)
  const kept = ref(2, 6)

  const deleted = (since: number, why: ForgottenSnapshot['why'], more: Given = {}, windowMs = WINDOW, held: ObjectRef[] = []) =>
    plan(
      {
        snapshots: [listed(snapshot), listed(kept)],
        opened: [snapshot],
        forgets: [forget(since, ref(80), [entry(snapshot, why)])],
        ...more,
      },
      [],
      { windowMs, held },
    ).deletions

  test('goes when its window is over and not a millisecond sooner', () => {
    expect(deleted(NOW - WINDOW, 'asked')).toEqual([{ kind: 'snapshot', ...snapshot }])
    expect(deleted(NOW - WINDOW + 1, 'asked')).toEqual([])
    expect(deleted(NOW - DAY, 'retention', {}, 0)).toEqual([{ kind: 'snapshot', ...snapshot }])
    expect(deleted(NOW - DAY + 1, 'retention', {}, 0)).toEqual([])
  })

  test('that does not open goes where it was forgotten or given up by who may speak of it', () => {
    const unopened = (...forgets: LoadedForget[]) => deleted(0, 'asked', { opened: [], forgets, givenUp: [[snapshot, forgets]] })
    const by = (since: number, why: ForgottenSnapshot['why'], number = 80) => forget(since, ref(number), [entry(snapshot, why)])
    expect(unopened()).toEqual([])
    expect(unopened(by(0, 'asked'))).toEqual([{ kind: 'snapshot', ...snapshot }])
    expect(unopened(by(0, 'unreadable'))).toEqual([{ kind: 'snapshot', ...snapshot }])
    expect(unopened(by(NOW, 'unreadable'))).toEqual([])
    expect(unopened(by(NOW, 'unreadable'), by(0, 'asked', 81))).toEqual([{ kind: 'snapshot', ...snapshot }])
    expect(deleted(0, 'asked', { forgets: [by(NOW, 'unreadable'), by(0, 'asked', 81)] })).toEqual([{ kind: 'snapshot', ...snapshot }])
    // What says so does not count: it is not among those that were given up.
    expect(deleted(0, 'asked', { opened: [], forgets: [by(0, 'unreadable')] })).toEqual([])
  })

  test('goes by the word of who may speak of it alone, and its window begins with that', () => {
    const [agent, other] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)]
    const by = (since: number, number: number, writerId: Buffer) =>
      forget(since, ref(number), [entry(snapshot, 'unreadable')], [], { writerId })
    const left = { opened: [], counting: [snapshot], writerId: agent }
    expect(deleted(0, 'asked', { ...left, forgets: [by(0, 80, other)] })).toEqual([])
    const forgotten = (...forgets: LoadedForget[]) => deleted(0, 'asked', { writerId: agent, forgets })
    expect(forgotten(by(0, 80, other), by(NOW - WINDOW + 1, 81, agent))).toEqual([])
    expect(forgotten(by(0, 80, other), by(NOW - WINDOW, 81, agent))).toEqual([{ kind: 'snapshot', ...snapshot }])
  })

  test('does not go where it is held, not there, or not forgotten', () => {
    expect(deleted(0, 'asked', {}, WINDOW, [snapshot])).toEqual([])
    expect(deleted(0, 'asked', { snapshots: [listed(kept)] })).toEqual([])
    expect(deleted(0, 'asked', { forgets: [] })).toEqual([])
  })
})

describe('an index file', () => {
  const [first, second, third] = [ref(21), ref(22), ref(23)]

  test('goes a day after its replacement was stored, the oldest first, and one by one only where nothing comes back', () => {
    const files = [indexFile(first, [ref(1)]), indexFile(second, [ref(1)], [first]), indexFile(third, [ref(1)], [first, second])]
    const at = (...times: [number, number, number]) => [first, second, third].map((one, i) => listed(one, times[i]!))
    const gone = (indexFiles: Listed[]) =>
      plan({ files, indexFiles }).deletions.map(({ kind, random: name }) => `${kind} ${Number.parseInt(name, 16)}`)
    expect(gone(at(5, 4, NOW - WAIT_MS))).toEqual(['index 22', 'index 21'])
    expect(gone(at(4, 5, NOW - WAIT_MS))).toEqual(['index 21', 'index 22'])
    // Another file said long ago that the first is replaced, so it goes alone.
    expect(gone(at(4, 5, NOW - WAIT_MS + 1))).toEqual(['index 21'])
    expect(gone(at(4, NOW - WAIT_MS + 1, NOW - WAIT_MS + 1))).toEqual([])
    // The second cannot go before the first, which it hides.
    const chain = [indexFile(first, [ref(1)]), indexFile(second, [ref(1)], [first]), indexFile(third, [ref(1)], [second])]
    const goneOf = (indexFiles: Listed[]) => plan({ files: chain, indexFiles }).deletions.map(({ random: name }) => name)
    expect(goneOf(at(4, NOW - WAIT_MS + 1, 5))).toEqual([])
    expect(goneOf(at(4, NOW - WAIT_MS, 5))).toEqual([first.random, second.random])
  })

  test('stays where its replacement is not in the store', () => {
    const files = [indexFile(first, [ref(1)]), indexFile(second, [ref(1)], [first])]
    expect(plan({ files, indexFiles: [listed(first)] }).deletions).toEqual([])
    expect(plan({ files, indexFiles: [listed(second)] }).deletions).toEqual([])
  })

  test('is written anew where a quarter of its packs is deleted, by its own writer', () => {
    const packs = [1, 2, 3, 4, 5].map((number) => ref(number))
    const rewritten = (
      deleted: number,
      of: number,
      more: { writerKey?: Buffer; there?: boolean; condemned?: boolean; lacking?: ObjectRef[] } = {},
    ) => {
      const named = packs.slice(0, of)
      const gone = named.slice(0, deleted)
      const file = indexFile(first, named, [], more.writerKey)
      const lists =
        more.condemned === false
          ? []
          : [
              condemned(
                0,
                ref(90),
                gone.map((pack) => [pack, 'dead']),
              ),
            ]
      const there = named.filter((pack) => more.there === true || !gone.includes(pack))
      return plan(
        { files: [file], lists, packs: there.map((pack) => listed(pack)) },
        there.map((pack) => use(pack, 100)),
        more.lacking === undefined ? {} : { lacking: more.lacking },
      ).rewrite.length
    }
    expect([0, 1, 2].map((deleted) => rewritten(deleted, 5))).toEqual([0, 0, 1])
    expect([0, 1].map((deleted) => rewritten(deleted, 4))).toEqual([0, 1])
    expect([0, 1].map((deleted) => rewritten(deleted, 1))).toEqual([0, 1])
    expect(rewritten(0, 0)).toBe(0)
    expect(rewritten(2, 5, { writerKey: Buffer.alloc(32, 9) })).toBe(0)
    expect(rewritten(2, 5, { there: true })).toBe(0)
    expect(rewritten(2, 5, { condemned: false })).toBe(0)
    // What a snapshot lacks must stay named: it tells what was never finished from what is damaged.
    expect(rewritten(2, 5, { lacking: [packs[1]!] })).toBe(0)
    expect(rewritten(2, 5, { lacking: [packs[3]!] })).toBe(1)
  })

  test('that name what is gone and in no condemned list any more are written anew, where it was deleted on record or its run ended without a snapshot', () => {
    const packs = Array.from({ length: 9 }, (_, i) => ref(i + 1, i === 0 ? 2 : 1))
    const [gone, ...there] = packs
    const file = indexFile(ref(50), packs)
    const rewritten = (more: Given, lacking: ObjectRef[] = []): number =>
      plan(
        { files: [file], packs: there.map((pack) => listed(pack)), ...more },
        there.map((pack) => use(pack, 100)),
        { lacking },
      ).rewrite.length
    const names = (kind: 'session' | 'end', session: number): Given => ({ names: [{ kind, session: hex(session) }] })
    const deleted = (pack: ObjectRef): Given => ({
      lists: [listOf(0, ref(91), { kind: 'deletion', lists: [], names: [{ kind: 'pack', ...pack }] })],
    })
    expect(rewritten({})).toBe(0)
    expect([names('end', 2), names('end', 1), names('session', 2)].map((more) => rewritten(more))).toEqual([1, 0, 0])
    expect([deleted(gone!), deleted(there[0]!)].map((more) => rewritten(more))).toEqual([1, 0])
    expect(rewritten(names('end', 2), [gone!])).toBe(0)
    // What a list still condemns waits until there is enough of it.
    expect(rewritten({ ...names('end', 2), lists: [condemned(0, ref(90), [[gone!, 'dead']])] })).toBe(0)
  })
})

describe('the names of a session', () => {
  const session = hex(5)
  const over = NOW - LISTS_STAY_MS
  const names = [
    { kind: 'session', session },
    { kind: 'end', session },
  ] as const
  const both = names.map((name) => ({ ...name, random: '0'.repeat(32) }))
  const ended = (lastAt: number, live = false) => ({ names, lives: [{ session, lastAt, live }] })

  test('go thirty days after it was last heard of, when nothing else of it is left', () => {
    expect(plan(ended(over)).deletions).toEqual(both)
    expect(plan(ended(over + 1)).deletions).toEqual([])
    expect(plan(ended(over, true)).deletions).toEqual([])
    expect(plan({ names }).deletions).toEqual(both)
    expect(plan({ ...ended(over), packs: [listed(ref(1, 5))] }, [use(ref(1, 5), 100)]).deletions).toEqual([])
    expect(plan({ ...ended(over), packs: [listed(ref(1, 6))] }, [use(ref(1, 6), 100)]).deletions).toEqual(both)
    expect(plan({ ...ended(over), snapshots: [listed(ref(1, 5))] }).deletions).toEqual([])
    expect(plan({ ...ended(over), files: [indexFile(ref(21, 5), [])] }).deletions).toEqual([])
  })

  test('go with the last of it: its snapshot first, index files, packs, then lists and records', () => {
    const [snapshot, pack, old, list] = [ref(1, 5), ref(2, 5), ref(21), ref(90, 9)]
    const given: Given = {
      ...ended(over),
      snapshots: [listed(snapshot)],
      opened: [snapshot],
      forgets: [forget(0, ref(80), [entry(snapshot)])],
      packs: [listed(pack)],
      lists: [condemned(0, list, [[pack, 'dead']]), listOf(0, ref(92), { kind: 'deletion', lists: [], names: [] })],
      files: [indexFile(old, []), indexFile(ref(22), [], [old])],
    }
    const kinds = plan(given, [use(pack, 0)]).deletions.map(({ kind }) => kind)
    expect(kinds).toEqual(['snapshot', 'index', 'pack', 'list', 'session', 'end'])
  })
})
