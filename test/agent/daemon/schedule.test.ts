// When a policy is due, and what narrows it: pure, so every case can be asked.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AgentPolicy, PoliciesReply } from '@holdfast/shared/protocol/agent.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { policies } from '../../../agent/daemon/agent-state.ts'
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
    ['another purpose than backups', { purpose: 'restore' }, 'its purpose was changed to one that makes no backups'],
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

  describe('of a source that more than one policy keeps', () => {
    const kept = policy({ retention: { daily: 30 } })
    const beside = policy({ policyId: id('2'), retention: { last: 1 }, schedule: { every: '31d' } })
    const after = (before: readonly AgentPolicy[], ...next: readonly AgentPolicy[]) =>
      takeIn(takeIn(undefined, reply(1, ...before), undefined), reply(2, ...next), undefined)

    it('is not narrowed by one more that would let go more: all of them must', () => {
      expect(after([kept], kept, beside)).toMatchObject({ inForce: [kept, beside], held: [] })
    })

    it('is narrowed by a purpose that makes no backups, which leaves the word to the other', () => {
      const { inForce, held } = after([kept], { ...kept, purpose: 'restore' }, beside)
      expect(inForce).toEqual([kept, beside])
      expect(held).toMatchObject([{ policyId: kept.policyId }])
    })

    it.each([
      ['goes', []],
      ['is moved to another source', [{ source: 'mail' }]],
      ['is moved to another store', [{ storeId: `store_${'d'.repeat(32)}` }]],
      ['makes no backups any more', [{ purpose: 'restore' }]],
    ] as const)('is narrowed where one that rests %s, since it keeps what is there', (_, changes) => {
      const resting = { ...kept, enabled: false }
      const { inForce, held } = after([resting, beside], ...changes.map((change) => ({ ...resting, ...change }) as AgentPolicy), beside)
      expect(inForce).toContainEqual(resting)
      expect(held).toMatchObject([{ policyId: kept.policyId, reason: 'others would keep less of its source' }])
      // Where the other keeps as much, it may go.
      expect(after([resting, { ...beside, retention: { daily: 31 } }], { ...beside, retention: { daily: 31 } }).held).toEqual([])
    })

    it('is narrowed by one that forgets, where no policy named it any more and everything stayed', () => {
      const first = takeIn(undefined, reply(1, kept), undefined)
      const none = takeIn(first, reply(2), 2)
      expect(none.inForce).toEqual([])
      const { retention: _, ...keepsAll } = beside
      const again = takeIn(none, reply(3, beside), undefined)
      // It runs; only what it would forget waits.
      expect(again.inForce).toEqual([keepsAll])
      expect(again.held).toMatchObject([{ policyId: beside.policyId, reason: 'it forgets snapshots, and kept all before' }])
      expect(takeIn(again, reply(4, beside), undefined).inForce).toEqual([keepsAll])
      expect(takeIn(again, reply(4, beside), 4)).toMatchObject({ inForce: [beside], held: [] })
      expect(takeIn(none, reply(3, { ...beside, source: 'mail' }), undefined).held).toEqual([])
    })

    it('is narrowed by runs that come faster where `last` counts them, of its own or of another policy', () => {
      const last = policy({ retention: { last: 7 } })
      const faster = { ...last, schedule: { every: '5m' } }
      const own = after([last], faster)
      expect(own.inForce).toEqual([last])
      expect(own.held).toMatchObject([{ policyId: last.policyId, reason: expect.stringContaining('reach back less far') as string }])
      const other = { ...beside, retention: { last: 7 }, schedule: { every: '6h' } }
      const { retention: _, ...keepsAll } = other
      expect(after([last], last, other)).toMatchObject({ inForce: [last, keepsAll], held: [{ policyId: other.policyId }] })
      expect(after([last], last, keepsAll)).toMatchObject({ inForce: [last, keepsAll], held: [] })
      const more = { ...faster, retention: { last: 7 * 6 * 12 } }
      expect(after([last], more)).toMatchObject({ inForce: [more], held: [] })
      const resting = { ...last, enabled: false }
      expect(after([resting], last)).toMatchObject({ inForce: [last], held: [] })
    })

    it.each([
      ['a draft that rested and comes faster', { last: 3 }, '31d', { retention: { last: 3 } }],
      ['one that rested and would keep less', { daily: 30 }, '24h', { retention: { daily: 7 } }],
      ['one that rested, of another source, and would keep less', { daily: 30 }, '24h', { source: 'mail', retention: { daily: 7 } }],
    ] as const)('makes its backups at once, %s: only what it would forget waits', (_, retention, every, changes) => {
      const rested = policy({ enabled: false, schedule: { every }, retention })
      const woken = policy({ schedule: { every: '24h' }, ...changes })
      const { retention: _not, ...keepsAll } = woken
      const held = after([rested], woken)
      expect(held.inForce).toEqual([keepsAll])
      expect(held.held).toMatchObject([{ policyId: woken.policyId }])
      expect(takeIn(held, reply(3, woken), undefined).inForce).toEqual([keepsAll])
      expect(takeIn(held, reply(3, woken), 3)).toMatchObject({ inForce: [woken], held: [] })
    })

    it('makes its backups at once, an archive beside one with `last`', () => {
      const last = policy({ retention: { last: 7 } })
      const archive = { ...beside, purpose: 'archive', retention: { monthly: 12 } } as const
      const { retention: _, ...keepsAll } = archive
      expect(after([last], last, archive)).toMatchObject({ inForce: [last, keepsAll], held: [{ policyId: archive.policyId }] })
    })

    it('is narrowed by one that rested here, runs elsewhere now and leaves the word to others, which forget nothing then', () => {
      const rested = { ...kept, enabled: false }
      const elsewhere = { ...kept, source: 'mail' }
      const { retention: _, ...keepsAll } = beside
      expect(after([rested, beside], elsewhere, beside)).toMatchObject({
        inForce: [elsewhere, keepsAll],
        held: [{ policyId: beside.policyId }],
      })
    })

    it('never keeps less in any number of steps without consent', () => {
      const retention = fc.option(fc.record({ last: fc.integer({ min: 0, max: 3 }), daily: fc.integer({ min: 1, max: 3 }) }), {
        nil: undefined,
        freq: 4,
      })
      const any = fc
        .record({
          policyId: fc.constantFrom(id('1'), id('2'), id('3')),
          source: fc.constantFrom('documents', 'mail'),
          purpose: fc.constantFrom('backup', 'restore', 'archive'),
          enabled: fc.boolean(),
          hours: fc.integer({ min: 1, max: 3 }),
          retention,
        })
        .map(({ hours, retention: rules, ...rest }) =>
          policy({ ...rest, schedule: { every: `${hours}h` }, ...(rules === undefined ? {} : { retention: rules }) }),
        )
      const versions = fc.array(fc.uniqueArray(any, { selector: ({ policyId }) => policyId, maxLength: 3 }), { minLength: 2, maxLength: 5 })
      /** How many hours of hourly snapshots, and of how many days one, the policies of a source keep at least: undefined keeps all. */
      const keeps = (policies: readonly AgentPolicy[], source: string): { last: number; daily: number } | undefined => {
        const mine = policies.filter((one) => one.source === source && one.purpose !== 'restore')
        if (mine.length === 0 || mine.some((one) => one.retention === undefined)) return undefined
        const pace = mine.reduce((sum, { schedule }) => sum + 1 / Number(('every' in schedule ? schedule.every : '').slice(0, -1)), 0)
        return {
          last: Math.max(...mine.map((one) => (one.retention?.last ?? 0) / pace)),
          daily: Math.max(...mine.map((one) => one.retention?.daily ?? 0)),
        }
      }
      fc.assert(
        fc.property(versions, (all) => {
          let now = takeIn(undefined, reply(1, ...all[0]!), undefined)
          for (const [n, next] of all.entries()) {
            const before = now
            now = takeIn(before, reply(n + 2, ...next), undefined)
            // Backups that are asked for are made, whatever waits.
            for (const asked of next.filter(({ enabled, purpose }) => enabled && purpose !== 'restore')) {
              const same = ({ policyId }: AgentPolicy): boolean => policyId === asked.policyId
              const old = before.inForce.find(same)
              if (old?.enabled === true && old.purpose === 'restore') continue
              const made = now.inForce.find(same)
              expect([made?.enabled, made?.purpose === 'restore']).toEqual([true, false])
            }
            for (const source of ['documents', 'mail']) {
              if (!before.named!.some((place) => place.source === source)) continue
              const [was, is] = [keeps(before.inForce, source), keeps(now.inForce, source)]
              if (is === undefined) continue
              expect(was).toBeDefined()
              expect(is.daily).toBeGreaterThanOrEqual(was!.daily)
              expect(is.last).toBeGreaterThanOrEqual(was!.last - 1e-6)
            }
          }
        }),
        { numRuns: 2000 },
      )
    })
  })

  it('is not lost under a flood of policies: those in force stay, and what has no room beside them waits', () => {
    const numbered = (n: number, changes: Partial<AgentPolicy> = {}): AgentPolicy =>
      policy({ policyId: `pol_${String(n).padStart(32, '0')}`, source: `source-${n}`, retention: { last: 3 }, ...changes })
    const many = (from: number, changes: Partial<AgentPolicy> = {}): AgentPolicy[] =>
      Array.from({ length: 1000 }, (_, n) => numbered(from + n, changes))
    let now = takeIn(undefined, reply(1, ...many(0)), undefined)
    for (const [n, next] of [
      many(1000),
      many(500),
      many(0, { enabled: false, purpose: 'restore', excludes: ['a'], schedule: { every: '9h' } }),
    ].entries()) {
      now = takeIn(now, reply(n + 2, ...next), undefined)
      expect(now.inForce.toSorted((a, b) => (a.policyId < b.policyId ? -1 : 1))).toEqual(many(0))
      expect(now.held.length).toBeGreaterThanOrEqual(500)
      expect(policies.safeParse(now).success).toBe(true)
    }
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
