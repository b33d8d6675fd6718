// Retention keeps what it promises, never empties a series, and the server's question agrees with the agent's selection (bug B19 of the field).
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type RetainedSnapshot, type RetentionRules, selectKept, stillSatisfied } from '@holdfast/shared/retention.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 5, 15, 12)
const daily = (days: number): RetainedSnapshot[] => Array.from({ length: days }, (_, i) => ({ id: `s${i}`, at: NOW - i * DAY }))
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
