// How an agent's state is read from what the API tells: worst first, offline apart from failed, uncovered never good.
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Agent, Policy, Run } from 'holdfast-server/console/api.ts'
import { byWorst, healthOf, STATES } from 'holdfast-server/console/fleet-health.ts'
import type { Health } from 'holdfast-server/console/fleet-health.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const NOW = 1_800_000_000_000
const LIMITS = { now: NOW, graceMs: HOUR, silentMs: HOUR }
const hex = (digit: string): string => digit.repeat(32)

const agent: Agent = {
  id: `ag_${hex('1')}`,
  controllerId: `ctl_${hex('2')}`,
  siteId: `site_${hex('3')}`,
  host: 'appliance-1',
  state: 'active',
  region: 'CA-QC',
  publicKey: '',
  enrolmentKey: '',
  fingerprint: '',
  agentVersion: '0.1.0',
  sources: ['documents'],
  restoreRoots: [],
  lastSeenAt: isoTime(NOW - 60_000),
  acceptedThrough: 0,
  recordedThrough: 0,
  journalPending: 0,
  journalBytes: 0,
  bundleVersion: 1,
  incident: null,
  createdAt: isoTime(NOW - 40 * DAY),
}
const policy: Policy = {
  id: `pol_${hex('4')}`,
  version: 1,
  agentId: agent.id,
  controllerId: agent.controllerId,
  source: 'documents',
  schedule: { every: '1d' },
  storeId: `store_${hex('5')}`,
  instructionId: `ins_${hex('6')}`,
  purpose: 'backup',
  tags: [],
  excludes: [],
  retention: null,
  enabled: true,
  lastRunAt: isoTime(NOW - 5 * HOUR),
  lastGoodAt: isoTime(NOW - 5 * HOUR),
  nextDueAt: isoTime(NOW + 19 * HOUR),
  createdAt: isoTime(NOW - 40 * DAY),
}

function run(ageMs: number, state: Run['state'], code: string | null = null): Run {
  const bytes = 1000
  const totals = { files: 1, bytes, newBytes: 100, reusedBytes: 900, storedBytes: 50, unchanged: 0, failed: 2, changed: 0, skipped: 0 }
  return {
    id: `run_${hex('7')}`,
    agentId: agent.id,
    controllerId: agent.controllerId,
    policyId: policy.id,
    restoreId: null,
    kind: 'backup',
    source: 'documents',
    state,
    code,
    startedAt: isoTime(NOW - ageMs),
    endedAt: state === 'running' ? null : isoTime(NOW - ageMs + 60_000),
    totals: state === 'running' ? null : totals,
    snapshotId: null,
    recordedFiles: 1,
    recordedBytes: 1,
    recorded: true,
  }
}

const health = (changes: {
  agent?: Partial<Agent>
  policy?: Partial<Policy>
  runs?: readonly Run[]
  policies?: readonly Policy[]
  more?: boolean
}): Health =>
  healthOf(
    { ...agent, ...changes.agent },
    changes.policies ?? [{ ...policy, ...changes.policy }],
    changes.runs ?? [run(5 * HOUR, 'ok')],
    LIMITS,
    changes.more,
  )

describe('the state of an agent', () => {
  it('is protected where its newest backup is younger than promised', () => {
    const found = health({})
    expect(found).toMatchObject({ state: 'protected', reasons: [], size: 1000, read: 1000, stored: 50, promiseMs: DAY })
  })

  it('is failed after a failed run, with what to do', () => {
    const found = health({ runs: [run(HOUR, 'failed', 'store-unreachable'), run(25 * HOUR, 'ok')] })
    expect(found.state).toBe('failed')
    expect(found.reasons[0]).toMatch(/store did not answer; check network/)
  })

  it('is offline, not failed, where nothing was heard and the last run was good', () => {
    const found = health({ agent: { lastSeenAt: isoTime(NOW - 9 * HOUR) } })
    expect(found.state).toBe('offline')
    expect(found.reasons).toEqual([expect.stringMatching(/Not heard of for 9.h/)])
  })

  it('is offline rather than overdue where both are so', () => {
    const late = { lastGoodAt: isoTime(NOW - 3 * DAY), nextDueAt: isoTime(NOW - 2 * DAY) }
    expect(health({ agent: { lastSeenAt: isoTime(NOW - 9 * HOUR) }, policy: late }).state).toBe('offline')
    expect(health({ policy: late }).state).toBe('overdue')
  })

  it('is never good without a policy that is on', () => {
    expect(health({ policies: [] }).state).toBe('uncovered')
    expect(health({ policy: { enabled: false } }).state).toBe('uncovered')
  })

  it('is an incident before all else', () => {
    const found = health({
      agent: { incident: 'two versions of record 7', lastSeenAt: isoTime(NOW - 9 * HOUR) },
      runs: [run(HOUR, 'failed')],
    })
    expect(found.state).toBe('incident')
    expect(found.reasons.length).toBe(3)
  })

  it('is incomplete, running, waiting or revoked as the API tells', () => {
    expect(health({ runs: [run(HOUR, 'incomplete')] }).state).toBe('incomplete')
    expect(health({ runs: [run(HOUR, 'running'), run(25 * HOUR, 'ok')] }).state).toBe('running')
    expect(health({ policy: { lastGoodAt: null, lastRunAt: null }, runs: [] }).state).toBe('waiting')
    expect(health({ agent: { bundleVersion: 0 } }).state).toBe('waiting')
    expect(health({ agent: { state: 'revoked' } }).state).toBe('revoked')
  })

  it('counts the age of the source that is worst off', () => {
    const other = { ...policy, id: `pol_${hex('8')}`, lastGoodAt: isoTime(NOW - 30 * HOUR) }
    expect(health({ policies: [policy, other] }).lastGoodAt).toBe(other.lastGoodAt)
    expect(health({ policies: [policy, { ...other, lastGoodAt: null }] }).lastGoodAt).toBeNull()
  })
})

describe('thirty days', () => {
  it('show a day without a run as overdue only where the promise was broken', () => {
    const daily = health({ runs: [run(5 * HOUR, 'ok'), run(10 * DAY, 'ok')] }).days
    expect(daily.at(-1)?.state).toBe('good')
    expect(daily.at(-5)?.state).toBe('overdue')
    const weekly = health({ policy: { schedule: { every: '7d' } }, runs: [run(5 * HOUR, 'ok'), run(6 * DAY, 'ok')] }).days
    expect(weekly.at(-4)?.state).toBe('none')
  })

  it('say nothing about days whose runs were not read', () => {
    const days = health({ runs: [run(5 * HOUR, 'ok'), run(29 * HOUR, 'ok')], more: true }).days
    expect(days.slice(0, 27).every((day) => day.state === 'unread')).toBe(true)
  })
})

it('sorts worst first, and within a state the longest unprotected first', () => {
  const late = health({ policy: { lastGoodAt: isoTime(NOW - 3 * DAY), nextDueAt: isoTime(NOW - 2 * DAY) } })
  const later = health({ policy: { lastGoodAt: isoTime(NOW - 5 * DAY), nextDueAt: isoTime(NOW - 4 * DAY) } })
  const good = health({})
  expect([good, late, later].sort(byWorst)).toEqual([later, late, good])
  expect(STATES.indexOf('protected')).toBeGreaterThan(STATES.indexOf('offline'))
})
