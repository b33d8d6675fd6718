// When a policy is due, and what narrows it: pure, so every case can be asked.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AgentPolicy, PoliciesReply } from '@holdfast/shared/protocol/agent.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { narrowings, takeIn, whyRefused } from '../../../agent/daemon/policy-consent.ts'
import { afterClockStep, dueMs, runAsked, runBegan, runEnded, schedule } from '../../../agent/daemon/schedule.ts'
import type { RunStates } from '../../../agent/daemon/agent-state.ts'

const HOUR = 3_600_000
const START = Date.parse('2027-01-10T00:00:00.000Z')
const id = (digit: string): string => `pol_${digit.repeat(32)}`
const STORE = `store_${'e'.repeat(32)}`
function policy(changes: Partial<AgentPolicy> = {}): AgentPolicy {
  return {
    policyId: id('1'),
    version: 1,
    source: 'documents',
    schedule: { every: '6h' },
    storeId: STORE,
    instructionId: `ins_${'f'.repeat(32)}`,
    purpose: 'backup',
    tags: [],
    excludes: [],
    enabled: true,
    since: isoTime(START),
    ...changes,
  }
}
const reply = (version: number, ...policies: AgentPolicy[]): PoliciesReply => ({
  version,
  policies,
  stores: [{ storeId: STORE, kind: 's3', region: 'CA-QC', country: 'CA' }],
})

describe('a policy', () => {
  it('that goes by steps is due at once, then a step after each start', () => {
    expect(dueMs(policy(), undefined)).toBe(START)
    expect(dueMs(policy({ schedule: { dailyAt: '02:30', timeZone: 'UTC' } }), undefined)).toBeGreaterThan(START)
    expect(dueMs(policy(), { lastStartMs: START + 7 * HOUR, failures: 0 })).toBe(START + 13 * HOUR)
  })

  it('that was missed for days is caught up once', () => {
    const now = START + 100 * HOUR
    expect(dueMs(policy(), undefined)).toBeLessThan(now)
    const runs = runEnded(runBegan({}, id('1'), now), id('1'), { nowMs: now + 60_000, outcome: 'ok' })
    expect(dueMs(policy(), runs[id('1')])).toBe(now + 6 * HOUR)
  })

  it('is due daily at its wall-clock time, also across a change of daylight time', () => {
    const daily = policy({ schedule: { dailyAt: '02:30', timeZone: 'America/Toronto' } })
    const before = Date.parse('2027-03-13T12:00:00.000Z')
    // On 14 March 2027 clocks there go from 02:00 to 03:00: the first minute after the gap.
    expect(isoTime(dueMs(daily, { lastStartMs: before, failures: 0 })!)).toBe('2027-03-14T07:00:00.000Z')
  })

  it('that failed is tried again after 5 minutes, then ever later, never later than its time', () => {
    let runs: RunStates = {}
    const waits: number[] = []
    for (let now = START, i = 0; i < 9; i++) {
      runs = runEnded(runBegan(runs, id('1'), now), id('1'), { nowMs: now, outcome: 'failed', code: 'store-unreachable' })
      const due = dueMs(policy(), runs[id('1')])!
      waits.push((due - now) / 60_000)
      now = due
    }
    expect(waits).toEqual([5, 10, 20, 40, 80, 160, 240, 240, 240])
    const short = policy({ schedule: { every: '5m' } })
    expect(dueMs(short, { lastStartMs: START, lastEndMs: START + 60_000, failures: 3 })).toBe(START + 5 * 60_000)
  })

  it('that was cancelled waits for its next time', () => {
    const runs = runEnded(runBegan({}, id('1'), START), id('1'), { nowMs: START + HOUR, outcome: 'cancelled', code: 'cancelled' })
    expect(dueMs(policy(), runs[id('1')])).toBe(START + 6 * HOUR)
  })

  it('that is disabled is due only when a person asks', () => {
    const off = policy({ enabled: false })
    expect(dueMs(off, undefined)).toBeUndefined()
    const asked = runAsked({}, id('1'), START)
    expect(dueMs(off, asked[id('1')])).toBe(START)
    expect(dueMs(off, runBegan(asked, id('1'), START)[id('1')])).toBeUndefined()
  })

  it('whose clock jumped is neither silenced nor run without end', () => {
    fc.assert(
      fc.property(fc.integer({ min: -400, max: 400 }), fc.integer({ min: 1, max: 48 }), (jumpHours, stepHours) => {
        const one = policy({ schedule: { every: `${stepHours}h` } })
        const now = START + 1000 * HOUR
        const jumped = now + jumpHours * HOUR
        let runs: RunStates = runEnded(runBegan({}, one.policyId, now), one.policyId, { nowMs: now, outcome: 'ok' })
        runs = afterClockStep(runs, jumped) ?? runs
        const due = dueMs(one, runs[one.policyId])!
        expect(due).toBeLessThanOrEqual(Math.max(jumped, now) + stepHours * HOUR)
        expect(due - jumped).toBeLessThanOrEqual(stepHours * HOUR + 60_000)
        const after = runBegan(runs, one.policyId, Math.max(jumped, due))
        expect(dueMs(one, after[one.policyId])).toBeGreaterThan(Math.max(jumped, due))
        expect(afterClockStep(after, Math.max(jumped, due))).toBeUndefined()
      }),
    )
  })

  it('that waits longest goes first', () => {
    const runs = { [id('2')]: { lastStartMs: START - 20 * HOUR, failures: 0 }, [id('1')]: { lastStartMs: START - 10 * HOUR, failures: 0 } }
    const order = schedule([policy(), policy({ policyId: id('2'), source: 'mail' }), policy({ policyId: id('3'), enabled: false })], runs)
    expect(order.map((due) => due.policy.policyId)).toEqual([id('2'), id('1')])
  })
})

describe('protection', () => {
  it.each([
    ['a policy that is gone', undefined, 'it was removed'],
    ['one that is disabled', { enabled: false }, 'it was disabled'],
    ['one for another source', { source: 'mail' }, 'its source was changed to another'],
    ['one for another store', { storeId: `store_${'d'.repeat(32)}` }, 'its store was changed to another'],
    ['a longer step', { schedule: { every: '7h' } }, 'the time between its runs was made longer'],
    ['daily instead of every six hours', { schedule: { dailyAt: '02:30', timeZone: 'UTC' } }, 'the time between its runs was made longer'],
    ['a further exclude list', { excludes: ['media'] }, 'it leaves out more'],
  ] as const)('is narrowed by %s, which is held', (_, changes, reason) => {
    const before = takeIn(undefined, reply(1, policy()), undefined)
    const after = changes === undefined ? [] : [policy({ version: 2, ...changes } as Partial<AgentPolicy>)]
    const held = takeIn(before, reply(2, ...after), undefined)
    expect(held).toMatchObject({ version: 2, inForce: [policy()], held: [{ policyId: id('1'), reason }], received: after })
    expect(takeIn(held, reply(2, ...after), 2)).toMatchObject({ inForce: after, held: [] })
    // The next version is compared with what is in force, not with what was held: nothing slips through in two steps.
    expect(takeIn(held, reply(3, ...after), undefined).held).toMatchObject([{ reason }])
  })

  it('is not narrowed by a shorter step, other tags, another instruction, fewer excludes or one policy more', () => {
    const before = policy({ excludes: ['media'] })
    const wider = policy({ schedule: { every: '1h' }, tags: ['monthly'], instructionId: `ins_${'a'.repeat(32)}` })
    expect(narrowings(before, wider)).toEqual([])
    const other = policy({ policyId: id('2'), source: 'mail' })
    expect(takeIn(takeIn(undefined, reply(1, before), undefined), reply(2, wider, other), undefined)).toMatchObject({
      inForce: [wider, other],
      held: [],
    })
  })

  it('is not put off by moving its beginning', () => {
    const first = takeIn(undefined, reply(1, policy()), undefined)
    const later = takeIn(first, reply(2, policy({ since: isoTime(START + 1000 * HOUR) })), undefined)
    expect(later.inForce[0]!.since).toBe(isoTime(START))
  })

  it('that the appliance cannot carry out is refused as a whole, with the reason', () => {
    const config = parseAgentConfig(
      JSON.stringify({
        host: 'a',
        sources: { documents: { paths: ['/srv'] } },
        excludes: { media: ['*.mkv'] },
        stores: { [STORE]: { location: '/mnt/store' } },
      }),
      'agent.json',
    )
    const { stores } = reply(1)
    expect(whyRefused(config, policy({ excludes: ['media'] }), stores)).toBeUndefined()
    expect(whyRefused(config, policy({ source: 'mail' }), stores)).toBe('unknown-source')
    expect(whyRefused(config, policy({ source: 'constructor' }), stores)).toBe('unknown-source')
    expect(whyRefused(config, policy({ excludes: ['media', 'caches'] }), stores)).toBe('unknown-exclude-list')
    expect(whyRefused(config, policy({ storeId: `store_${'d'.repeat(32)}` }), stores)).toBe('unknown-store')
    expect(whyRefused(config, policy(), [])).toBe('undescribed-store')
    expect(whyRefused(config, policy({ purpose: 'failover' }), stores)).toBe('purpose-not-carried-out')
  })
})
