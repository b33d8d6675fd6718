// Retention keeps what it promises, never empties a series, and the server's question agrees with the agent's selection (bug B19 of the field).
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  keepsSomething,
  type RetainedSnapshot,
  RETENTION_UNITS,
  type RetentionRules,
  selectKept,
  stillSatisfied,
  TIMES_DISAGREE_MS,
} from '@holdfast/shared/retention.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 5, 15, 12)
const daily = (days: number): RetainedSnapshot[] => Array.from({ length: days }, (_, i) => ({ id: `s${i}`, at: NOW - i * DAY }))

/** Snapshots by the time they were received, `2026-06-15T12` and finer. */
const at = (...times: string[]): RetainedSnapshot[] =>
  times.map((time) => ({ id: time, at: Date.parse(`${time}${':00:00.000Z'.slice(time.length - 13)}`) }))
const count = fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined })
const rulesArbitrary: fc.Arbitrary<RetentionRules> = fc
  .record({ last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count, withinDays: count })
  .filter((rules) => Object.values(rules).some((n) => (n ?? 0) > 0))
const seriesArbitrary = fc
  .array(fc.integer({ min: 0, max: 900 * 24 }), { minLength: 1, maxLength: 60 })
  .map((hours) => hours.map((hour, i): RetainedSnapshot => ({ id: `s${i}`, at: NOW - hour * 3_600_000 })))

describe('a schedule', () => {
  test('keeps the newest of so many days, weeks and months that have one', () => {
    const { kept, forgotten } = selectKept(daily(400), { daily: 7, weekly: 4, monthly: 12 }, NOW)
    expect([...kept.keys()].filter((id) => kept.get(id)!.includes('daily'))).toEqual(['s0', 's1', 's2', 's3', 's4', 's5', 's6'])
    // 15 June 2026 is a Monday: the Sundays before it end the weeks before.
    expect([...kept.keys()].filter((id) => kept.get(id)!.includes('weekly'))).toEqual(['s0', 's1', 's8', 's15'])
    expect([...kept.values()].filter((why) => why.includes('monthly'))).toHaveLength(12)
    expect(kept.size + forgotten.length).toBe(400)
  })

  test('keeps hours, years, the last ones, and all within so many days', () => {
    const hours = Array.from({ length: 50 }, (_, i) => ({ id: `h${i}`, at: NOW - i * 1_800_000 }))
    expect([...selectKept(hours, { hourly: 3 }, NOW).kept.keys()]).toEqual(['h0', 'h1', 'h3'])
    expect(selectKept(daily(1000), { yearly: 3 }, NOW).kept.size).toBe(3)
    expect([...selectKept(daily(9), { last: 2 }, NOW).kept.keys()]).toEqual(['s0', 's1'])
    expect(selectKept(daily(9), { withinDays: 3 }, NOW).kept.size).toBe(4)
  })

  test('says of each snapshot by which rules it stays, and in which order the others go', () => {
    const series = at(
      '2026-06-15T11',
      '2026-06-15T10:30',
      '2026-06-15T10',
      '2026-06-14T23',
      '2026-06-14T01',
      '2026-06-07T23',
      '2026-05-31T23',
      '2025-12-31T23',
      '2024-02-29T12',
    )
    const all: RetentionRules = { last: 1, withinDays: 1, hourly: 2, daily: 2, weekly: 2, monthly: 2, yearly: 2 }
    const { kept, forgotten } = selectKept(series.toReversed(), all, NOW)
    expect(Object.fromEntries(kept)).toEqual({
      '2026-06-15T11': ['newest', 'last', 'within', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'],
      '2026-06-15T10:30': ['within', 'hourly'],
      '2026-06-15T10': ['within'],
      '2026-06-14T23': ['within', 'daily', 'weekly'],
      '2026-05-31T23': ['monthly'],
      '2025-12-31T23': ['yearly'],
    })
    expect(forgotten).toEqual(['2026-06-14T01', '2026-06-07T23', '2024-02-29T12'])
    for (const unit of RETENTION_UNITS) {
      const alone = selectKept(series, { [unit]: 2 }, NOW).kept
      expect([...alone.keys()]).toEqual([...kept.keys()].filter((id) => kept.get(id)!.some((why) => why === unit)))
    }
  })

  test('begins a day at midnight, a week on Monday, a month on its first day, all in UTC', () => {
    const keptOf = (rules: RetentionRules, ...times: string[]) => [...selectKept(at(...times), rules, NOW).kept.keys()]
    const sunday = '2026-06-07T23:59'
    const monday = '2026-06-08T00'
    for (const unit of ['hourly', 'daily', 'weekly'] as const) expect(keptOf({ [unit]: 2 }, monday, sunday)).toEqual([monday, sunday])
    for (const unit of ['monthly', 'yearly'] as const) expect(keptOf({ [unit]: 2 }, monday, sunday)).toEqual([monday])
    expect(keptOf({ weekly: 2 }, sunday, '2026-06-01T00', '2026-05-31T23')).toEqual([sunday, '2026-05-31T23'])
    expect(keptOf({ monthly: 2 }, '2026-06-01T00', '2026-05-31T23:59')).toHaveLength(2)
    expect(keptOf({ yearly: 2 }, '2026-01-01T00', '2025-12-31T23:59')).toHaveLength(2)
  })

  test('takes of two received at once the one whose id comes last, in whatever order they are given', () => {
    const twins = ['a', 'c', 'b'].map((id) => ({ id, at: NOW }))
    for (const given of [twins, twins.toReversed()]) {
      expect([...selectKept(given, { daily: 1 }, NOW).kept.keys()]).toEqual(['c'])
      expect(selectKept(given, { daily: 1 }, NOW).forgotten).toEqual(['b', 'a'])
    }
  })

  test('holds its limits to the millisecond: within so many days, and times that disagree', () => {
    const edge = [0, -1].map((ms) => ({ id: `${ms}`, at: NOW - 3 * DAY + ms }))
    expect([...selectKept([{ id: 'new', at: NOW }, ...edge], { withinDays: 3 }, NOW).kept.keys()]).toEqual(['new', '0'])
    for (const way of [-1, 1]) {
      const claims = [0, 1].map((ms) => ({ id: `${ms}`, at: NOW - DAY, claimedAt: NOW - DAY + way * (TIMES_DISAGREE_MS + ms) }))
      const { kept } = selectKept([{ id: 'new', at: NOW, claimedAt: NOW }, ...claims], { last: 1 }, NOW)
      expect(Object.fromEntries(kept)).toEqual({ new: ['newest', 'last'], 1: ['times disagree'] })
    }
  })

  test('keeps something as soon as one of its rules does', () => {
    for (const rule of ['last', 'withinDays', ...RETENTION_UNITS] as const) {
      expect(keepsSomething({ [rule]: 1 }), rule).toBe(true)
      expect(keepsSomething({ [rule]: 0 }), rule).toBe(false)
      expect(keepsSomething({ [rule]: undefined }), rule).toBe(false)
    }
    expect(keepsSomething({})).toBe(false)
    expect(() => selectKept([], { last: 0 }, NOW)).toThrow(/keep nothing/)
    expect(selectKept([], { last: 1 }, NOW)).toEqual({ kept: new Map(), forgotten: [] })
  })

  test('that keeps nothing is refused, and one that fits nothing still keeps the newest', () => {
    expect(() => selectKept(daily(3), {}, NOW)).toThrow(RangeError)
    expect(() => selectKept(daily(3), { daily: 0 }, NOW)).toThrow(RangeError)
    const old = daily(3).map((s) => ({ ...s, at: s.at - 1000 * DAY }))
    expect([...selectKept(old, { withinDays: 1 }, NOW).kept]).toEqual([['s0', ['newest']]])
  })

  test('never forgets a snapshot that claims another time than the store has, and does not let it stand for others', () => {
    const good = daily(5)
    const forged = { id: 'forged', at: NOW, claimedAt: NOW - 4 * DAY }
    const { kept } = selectKept([...good, forged], { daily: 5 }, NOW)
    expect(kept.get('forged')).toContain('times disagree')
    for (const { id } of good) expect(kept.has(id)).toBe(true)
    const copied = daily(30).map(({ id, at }) => ({ id, at: NOW, claimedAt: at }))
    expect(selectKept(copied, { last: 1 }, NOW).forgotten.length, 'a copied repository loses nothing of its history').toBeLessThanOrEqual(2)
  })

  test('never selects all of a series, whatever rules and times', () => {
    fc.assert(
      fc.property(seriesArbitrary, rulesArbitrary, (series, rules) => {
        const { kept, forgotten } = selectKept(series, rules, NOW)
        expect(kept.size).toBeGreaterThan(0)
        expect(kept.size + forgotten.length).toBe(series.length)
      }),
    )
  })
})

describe('asked whether what remains is still what was promised', () => {
  test('the server agrees with every selection, also where its times are up to the slack apart', () => {
    fc.assert(
      fc.property(seriesArbitrary, rulesArbitrary, fc.infiniteStream(fc.integer({ min: 0, max: 600_000 })), (series, rules, shift) => {
        const { kept } = selectKept(series, rules, NOW)
        const witnessed = series.map((s) => ({ ...s, at: s.at + shift.next().value! }))
        expect(stillSatisfied(series, new Set(kept.keys()), rules, NOW, 0)).toEqual({ ok: true, missing: [] })
        expect(stillSatisfied(witnessed, new Set(kept.keys()), { last: rules.last }, NOW, 7_200_000).ok).toBe(true)
      }),
    )
  })

  test.each<[string, RetentionRules, number[], number, string[]]>([
    ['all that is promised', { daily: 3 }, [0, 1, 2], 0, []],
    ['a day too few', { daily: 3 }, [0, 1], 0, ['daily 2026-06-13']],
    ['a day whose neighbour is near', { daily: 3 }, [0, 1, 3], DAY, []],
    ['a day whose neighbour is a millisecond too far', { daily: 3 }, [0, 1, 3], DAY - 1, ['daily 2026-06-13']],
    ['a day whose younger neighbour is near', { daily: 2 }, [0], DAY, []],
    ['a day whose younger neighbour is a millisecond too far', { daily: 2 }, [0], DAY - 1, ['daily 2026-06-14']],
    ['no newest', { weekly: 1 }, [1], 0, ['the newest', 'weekly week 2946']],
    ['one nearly as new as the newest', { last: 1 }, [1], DAY, []],
    ['one not as new as the newest', { last: 1 }, [1], DAY - 1, ['the newest', 'the last 1']],
    ['too few of the last', { last: 3 }, [0, 2], 0, ['the last 3']],
    ['as many as the last, one of them nearly as new', { last: 3 }, [0, 1, 3], DAY, []],
    ['as many as the last, one of them not as new', { last: 3 }, [0, 1, 3], DAY - 1, ['the last 3']],
    [
      'two gone within',
      { withinDays: 3 },
      [0, 2],
      0,
      ['2026-06-14T12:00:00.000Z, within 3 days', '2026-06-12T12:00:00.000Z, within 3 days'],
    ],
    ['one gone within, one at the edge', { withinDays: 3 }, [0, 2], 1, ['2026-06-14T12:00:00.000Z, within 3 days']],
    [
      'more rules than snapshots',
      { last: 90, hourly: 90, daily: 90, weekly: 90, monthly: 90, yearly: 90 },
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      0,
      [],
    ],
    ['a month gone', { monthly: 2, daily: 1 }, [0, 1], 0, []],
    ['no hour', { hourly: 2 }, [0], 0, ['hourly 2026-06-14T12']],
    ['a year that another day stands for', { yearly: 1 }, [0], 0, []],
  ])('of %s it says so', (_, rules, kept, slack, missing) => {
    const answer = stillSatisfied(daily(10), new Set(kept.map((i) => `s${i}`)), rules, NOW, slack)
    expect(answer).toEqual({ ok: missing.length === 0, missing })
  })

  test('a bucket is as good as kept where any of its members is, however far apart they are', () => {
    const month = at('2026-06-14T00', '2026-06-01T00', '2026-05-31T00', '2026-05-01T00')
    const ask = (...ids: string[]) => stillSatisfied(month, new Set(ids), { monthly: 2 }, NOW, 0).missing
    expect(ask('2026-06-14T00', '2026-05-01T00')).toEqual([])
    expect(ask('2026-06-14T00', '2026-05-31T00')).toEqual([])
    expect(ask('2026-06-14T00', '2026-06-01T00')).toEqual(['monthly 2026-05'])
    expect(ask('2026-05-31T00')).toEqual(['the newest', 'monthly 2026-06'])
    expect(stillSatisfied([], new Set(), { daily: 1, last: 1, withinDays: 1 }, NOW, 0)).toEqual({ ok: true, missing: [] })
  })

  test('it names the promise that is broken', () => {
    const all = daily(40)
    const rules = { daily: 7, monthly: 2, last: 2, withinDays: 3 }
    const kept = new Set(selectKept(all, rules, NOW).kept.keys())
    for (const id of ['s0', 's1', 's5']) {
      const { ok, missing } = stillSatisfied(all, new Set([...kept].filter((one) => one !== id)), rules, NOW, 3_600_000)
      expect(ok, id).toBe(false)
      expect(missing.length).toBeGreaterThan(0)
    }
    expect(stillSatisfied(all, new Set(), rules, NOW, 0).missing).toContain('the newest')
  })
})
