// The enrolled job with everything real: daemon, control server and Redis die at random moments of a run, one or all of them, or the line between
// appliance and server fails. Afterwards a run completes, each file that changed is on record, once in a run, the chain has no gap, and the
// customer's key holder gets everything back bit by bit.
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { type Installation, startInstallation } from '../e2e/_support/installation.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { type Fault, type FaultyProxy, startFaultyProxy } from '../_support/faulty-proxy.ts'
import { REAL_KILLS, rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { randomFault } from './_support/random-fault.ts'
import { change, makeSource, momentOfRun, requireAllThere, requireOnRecord, settledRuns } from './_support/enrolled-rounds.ts'

const ROUNDS = soak ? 60 : 3
const seed = rotatingSeed()
const next = seededNumbers(createHash('sha256').update(seed).digest().readUInt32LE())

let one: Installation
let proxy: FaultyProxy
let isLineBad = false

beforeAll(async () => {
  one = await startInstallation({
    source: (place) => makeSource(place, next),
    serverUrl: async (port) => {
      proxy = await startFaultyProxy(
        () => port,
        (): Fault => (isLineBad ? randomFault(next, 4000) : { kind: 'none' }),
      )
      return proxy.url
    },
  })
}, 120_000)

afterAll(async () => {
  await one?.close()
  await proxy?.close()
})

/** What dies, and how it comes back. */
const DEATHS: Readonly<Record<string, () => Promise<void>>> = {
  daemon: async () => {
    await one.killDaemon()
    one.startDaemon()
  },
  server: async () => {
    await one.killServer()
    await one.startServer()
  },
  Redis: async () => {
    await one.redis.kill()
    await one.redis.restart()
    if (next() % 2 === 0) await one.redis.command('FLUSHALL')
  },
  everything: async () => {
    await Promise.all([one.killDaemon(), one.killServer(), one.redis.kill()])
    await one.redis.restart()
    await one.startServer()
    one.startDaemon()
  },
}

it(
  'daemon, server and Redis, killed at random moments of runs over a bad line, lose no record and no snapshot',
  async () => {
    const started = systemClock.monotonicMs()
    one.startDaemon()
    const first = await one.recordedRun(await one.nextRun(new Set()))
    expect(first.state).toBe('ok')
    let [kills, processes] = [0, 0]
    for (let round = 0; round < ROUNDS; round++) {
      const names = Object.keys(DEATHS)
      const what = names[(round + next()) % names.length]!
      const told = `round ${round}, ${what} dies, HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}`
      const changed = change(one, next)
      const before = new Set((await one.runs()).map(({ id }) => id))
      isLineBad = next() % 3 === 0
      await momentOfRun(one, next)
      await DEATHS[what]!()
      // All three at one moment are one kill.
      kills += 1
      processes += what === 'everything' ? 3 : 1
      isLineBad = false
      const ended = await settledRuns(one, before, told)
      for (const { state, code } of ended)
        expect([state, code ?? ''].join(' '), told).toMatch(/^(?:ok |failed (?:interrupted|server-unreachable))$/)
      if (!ended.some(({ state }) => state === 'ok'))
        expect(await one.recordedRun(await one.backupNow()), told).toMatchObject({ state: 'ok' })
      await requireOnRecord(one, before, changed, told)
    }
    await requireAllThere(one)
    soakResult({
      suite: 'kills',
      figure: `${REAL_KILLS} daemon, control server and Redis in the middle of enrolled runs (${processes} processes)`,
      asked: ROUNDS,
      value: kills,
      violations: 0,
      seed,
      seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
    })
  },
  soak ? 3_600_000 : 240_000,
)
