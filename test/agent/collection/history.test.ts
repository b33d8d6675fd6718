// What is missing from history and what was never finished: told from names, hashes and lists alone (design section 7).
import { describe, expect, test } from 'vitest'
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { historyGaps } from '../../../agent/collection/history-gaps.ts'
import { isUnfinished, reliedOn } from '../../../agent/collection/unfinished.ts'
import { collectionState, type LoadedForget, type LoadedList } from '../../../agent/repository/collection-state.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'

const hex = (number: number): string => number.toString(16).padStart(32, '0')
const ref = (number: number): ObjectRef => ({ session: hex(1), random: hex(number) })
const hash = (number: number): Buffer => Buffer.alloc(32, number)
const SERIES = Buffer.alloc(32, 5)
const writerId = Buffer.alloc(16, 1)

/** The snapshot `number` of a series: its hash is made of its number, and it names the one before it. */
const snapshot = (number: number, previous = number - 1, lists: ObjectRef[] = []): OpenedSnapshot =>
  ({
    structure: { ref: ref(number), series: SERIES, sequence: number, previous: hash(previous), lists },
    hash: hash(number),
  }) as unknown as OpenedSnapshot
const list = (number: number, kept: ObjectRef[], packs: ObjectRef[] = []): LoadedList => ({
  storedAt: number,
  list: {
    kind: 'condemned',
    kept,
    packs: packs.map((pack) => ({ ...pack, bytes: 1, why: 'dead' })),
    ref: ref(900 + number),
    writerId,
    madeAt: 0,
  },
})
const forgot = (...numbers: number[]): LoadedForget => ({
  storedAt: 0,
  record: {
    ref: ref(800),
    writerId,
    madeAt: 0,
    replaces: [],
    entries: numbers.map((number) => ({
      snapshot: ref(number),
      series: SERIES,
      sequence: number,
      hash: hash(number),
      why: 'asked' as const,
    })),
    undone: [],
  },
})
const state = (lists: LoadedList[], forgets: LoadedForget[] = []) => collectionState({ lists, forgets, refused: [] })
const names = (...numbers: number[]): Set<string> => new Set(numbers.map((number) => refKey(ref(number))))

describe('a gap in history', () => {
  test('is a snapshot that a collection counted and that is neither there nor forgotten, each once', () => {
    const lists = [list(1, [ref(1), ref(2)]), list(2, [ref(2), ref(3)])]
    const gaps = (listed: Set<string>, ...forgotten: number[]) => historyGaps(state(lists, [forgot(...forgotten)]), [], listed)
    expect(gaps(names(1, 2, 3))).toEqual([])
    expect(gaps(names(1, 3))).toEqual([{ kind: 'counted', snapshot: ref(2) }])
    expect(gaps(names(1, 3), 2)).toEqual([])
    expect(gaps(names())).toEqual([1, 2, 3].map((number) => ({ kind: 'counted', snapshot: ref(number) })))
  })

  test('is a snapshot that the one after it names and nobody forgot, each once, with what is known of it', () => {
    const gaps = (present: OpenedSnapshot[], ...forgotten: number[]) => historyGaps(state([], [forgot(...forgotten)]), present, names())
    expect(gaps([snapshot(1), snapshot(2), snapshot(3)])).toEqual([])
    expect(gaps([snapshot(1), snapshot(3)])).toEqual([{ kind: 'predecessor', of: ref(3), series: SERIES, sequence: 2, hash: hash(2) }])
    expect(gaps([snapshot(1), snapshot(3)], 2)).toEqual([])
    expect(gaps([snapshot(1), snapshot(3), snapshot(4, 2)])).toHaveLength(1)
    expect(gaps([snapshot(2), snapshot(4)]).map((gap) => gap.kind === 'predecessor' && gap.hash[0])).toEqual([1, 3])
  })
})

describe('a snapshot that lacks packs', () => {
  const packs = [hex(1), hex(2)]
  const lists = [list(1, [], [ref(1)]), list(2, [], [ref(2), ref(3)])]
  const ask = (of: OpenedSnapshot, storedAt: number, lacking: Iterable<string>, all = lists) =>
    isUnfinished(state(all), of, storedAt, lacking)

  test('is unfinished where lists that came before it and that it had not seen condemned all of them', () => {
    expect(ask(snapshot(1), 2, packs)).toBe(true)
    expect(ask(snapshot(1, 0, [ref(902)]), 2, [hex(1)])).toBe(true)
    expect(ask(snapshot(1), 3, new Set([hex(3)]))).toBe(true)
  })

  test('relied of the places of a blob on none that it had seen condemned, unless that was taken back, or there is no other', () => {
    const relied = (seen: ObjectRef[], all: LoadedList[], ...places: number[]) =>
      reliedOn(state(all), snapshot(1, 0, seen))(places.map(hex))
    expect(relied([ref(901)], lists, 1, 2)).toEqual([hex(2)])
    expect(relied([ref(901), ref(902)], lists, 1, 2, 4)).toEqual([hex(4)])
    expect(relied([], lists, 1, 2)).toEqual([hex(1), hex(2)])
    expect(relied([ref(901)], lists, 1)).toEqual([hex(1)])
    const back = { kind: 'revived', from: [{ list: ref(901), packs: [ref(1)] }], ref: ref(903), writerId, madeAt: 0 } as const
    expect(relied([ref(901)], [...lists, { storedAt: 3, list: back }], 1, 2)).toEqual([hex(1), hex(2)])
  })

  test('is damaged where it had seen one of them, where another is gone, and where nothing is known to lack', () => {
    expect(ask(snapshot(1, 0, [ref(902)]), 2, packs)).toBe(false)
    expect(ask(snapshot(1, 0, [ref(901), ref(902)]), 2, packs)).toBe(false)
    expect(ask(snapshot(1), 2, [...packs, hex(4)])).toBe(false)
    expect(ask(snapshot(1), 2, [])).toBe(false)
  })

  test('is damaged where a list came after it, also in the same second, and where what it lacks was taken back', () => {
    expect(ask(snapshot(1), 1, packs)).toBe(false)
    expect(ask(snapshot(1), 2, packs, [list(1, [], [ref(1)]), list(2, [ref(9), ref(1)], [ref(2)])])).toBe(false)
    expect(ask(snapshot(1), 2, packs, [list(1, [], [ref(1)]), list(2, [ref(9)], [ref(2)])])).toBe(true)
    const revived = (from: ObjectRef, ...back: ObjectRef[]): LoadedList => ({
      storedAt: 3,
      list: { kind: 'revived', from: [{ list: from, packs: back }], ref: ref(903), writerId, madeAt: 0 },
    })
    expect(ask(snapshot(1), 2, packs, [...lists, revived(ref(902), ref(2))])).toBe(false)
    expect(ask(snapshot(1), 2, packs, [...lists, revived(ref(902), ref(3))])).toBe(true)
    expect(ask(snapshot(1), 2, packs, [...lists, revived(ref(901), ref(2))])).toBe(true)
  })
})
