// Due times: the same for agent and server, through daylight changes too.
import { describe, expect, it } from 'vitest'
import { nextDue, schedule } from '@holdfast/shared/protocol/schedule.ts'

const at = (iso: string): number => Date.parse(iso)

describe('nextDue', () => {
  it('adds the step of `every`', () => {
    expect(nextDue({ every: '6h' }, at('2026-01-31T01:00:00Z'))).toBe(at('2026-01-31T07:00:00Z'))
  })

  it.each([
    ['the same day', '02:30', 'America/Toronto', '2026-01-31T06:00:00Z', '2026-01-31T07:30:00Z'],
    ['the next day once it has passed', '02:30', 'America/Toronto', '2026-01-31T07:30:00Z', '2026-02-01T07:30:00Z'],
    ['over the end of a year', '23:59', 'UTC', '2026-12-31T23:59:30Z', '2027-01-01T23:59:00Z'],
    ['after a leap day', '00:00', 'UTC', '2028-02-28T12:00:00Z', '2028-02-29T00:00:00Z'],
    ['the first minute after the gap when clocks go forward', '02:30', 'America/Toronto', '2026-03-08T06:00:00Z', '2026-03-08T07:00:00Z'],
    ['the first of two when clocks go back', '01:30', 'America/Toronto', '2026-11-01T04:00:00Z', '2026-11-01T05:30:00Z'],
    ['only once when clocks go back', '01:30', 'America/Toronto', '2026-11-01T05:30:00Z', '2026-11-02T06:30:00Z'],
    ['in a zone of half hours', '02:30', 'Asia/Kolkata', '2026-01-30T20:00:00Z', '2026-01-30T21:00:00Z'],
    ['in a zone ahead of UTC over midnight', '02:30', 'Pacific/Auckland', '2026-01-31T13:40:00Z', '2026-02-01T13:30:00Z'],
  ])('falls on %s', (_, dailyAt, timeZone, after, due) => {
    expect(new Date(nextDue({ dailyAt, timeZone }, at(after))).toISOString()).toBe(new Date(due).toISOString())
  })
})

it.each([
  { every: '1m' },
  { every: '32d' },
  { every: '0h' },
  { dailyAt: '24:00', timeZone: 'UTC' },
  { dailyAt: '02:30', timeZone: 'Nowhere/Town' },
  { cron: '* * * * *' },
])('refuses the schedule %j', (value) => {
  expect(schedule.safeParse(value).success).toBe(false)
})
