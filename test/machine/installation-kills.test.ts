// The enrolled job with everything real: daemon, control server and Redis die at random moments of a run, one or all of them, or the line between
// appliance and server fails. Afterwards a run completes, each file that changed is on record, once in a run, the chain has no gap, and the
// customer's key holder gets everything back bit by bit.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { requireWholeChain, tokensOfSource, transmissionsOf } from '../e2e/_support/exported-records.ts'
import { type Installation, type RunSeen, startInstallation } from '../e2e/_support/installation.ts'
import { until } from '../e2e/_support/until.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { type Fault, type FaultyProxy, startFaultyProxy } from '../_support/faulty-proxy.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { randomFault } from './_support/random-fault.ts'
import { changesIn } from './_support/kill-moment.ts'

const ROUNDS = soak ? 40 : 3
const seed = rotatingSeed()
const next = seededNumbers(createHash('sha256').update(seed).digest().readUInt32LE())

let one: Installation
let proxy: FaultyProxy
let isLineBad = false

beforeAll(async () => {
  one = await startInstallation({
    source: (place) => {
      const source = place.path('source')
      mkdirSync(source)
      for (let i = 0; i < 40; i++) write(join(source, `file-${i}`))
      return source
    },
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
    let kills = 0
    for (let round = 0; round < ROUNDS; round++) {
      const names = Object.keys(DEATHS)
      const what = names[(round + next()) % names.length]!
      const told = `round ${round}, ${what} dies, HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}`
      const changed = change()
      const before = new Set((await one.runs()).map(({ id }) => id))
      isLineBad = next() % 3 === 0
      await one.askForBackup()
      await momentOfRun()
      await DEATHS[what]!()
      kills += what === 'everything' ? 3 : 1
      isLineBad = false
      const ended = await settledRuns(before, told)
      for (const { state, code } of ended)
        expect([state, code ?? ''].join(' '), told).toMatch(/^(?:ok |failed (?:interrupted|server-unreachable))$/)
      if (!ended.some(({ state }) => state === 'ok'))
        expect(await one.recordedRun(await one.backupNow()), told).toMatchObject({ state: 'ok' })
      await requireOnRecord(before, changed, told)
    }
    await requireWholeChain(one)
    await requireRestored()
    soakResult({
      suite: 'kills',
      figure: 'real kills of daemon, control server and Redis in the middle of enrolled runs',
      asked: ROUNDS,
      value: kills,
      violations: 0,
      seed,
      seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
    })
  },
  soak ? 1_800_000 : 240_000,
)

function write(path: string): void {
  const bytes = Buffer.alloc(next() % 300_000)
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(next(), at)
  // Never twice the same, not even where it is short.
  writeFileSync(path, Buffer.concat([bytes, Buffer.from(`${next()} ${next()}`)]))
}

/** Some files change; their paths. */
function change(): Set<string> {
  const changed = new Set<string>()
  for (let i = 3 + (next() % 10); i > 0; i--) {
    const path = join(one.source, `file-${next() % 60}`)
    write(path)
    changed.add(path)
  }
  return changed
}

/** A number of changes to what a run works on; where the run makes fewer, when its snapshot stands. */
async function momentOfRun(): Promise<void> {
  const engine = one.place.path('agent', 'engine')
  const repository = ['tmp', 'packs', 'index', 'snapshots', 'sessions'].map((name) => join(one.store, name))
  const quiet = new AbortController()
  const waiting = systemClock.sleep(15_000, quiet.signal).then(
    () => quiet.abort(),
    () => undefined,
  )
  await changesIn(
    [engine, join(engine, 'spool'), ...repository].filter((path) => existsSync(path)),
    1 + (next() % 24),
    quiet.signal,
  )
  quiet.abort()
  await waiting
}

/** The runs that began since, once none of them is under way and all are on record. */
function settledRuns(before: ReadonlySet<string>, told: string): Promise<RunSeen[]> {
  return until(
    `the run is over: ${told}`,
    async () => {
      const runs = (await one.runs()).filter(({ id, kind }) => kind === 'backup' && !before.has(id))
      return runs.length > 0 && runs.every(({ state, recorded }) => state !== 'running' && recorded) && runs
    },
    { everyMs: 200, withinMs: 120_000 },
  )
}

/** Every file that changed was told of by a run since, none by one that did not transmit it, and none twice in a run. */
async function requireOnRecord(before: ReadonlySet<string>, changed: ReadonlySet<string>, told: string): Promise<void> {
  const names = await tokensOfSource(one)
  const onRecord = new Set<string>()
  for (const { id, kind } of await one.runs()) {
    if (kind !== 'backup' || before.has(id)) continue
    const tokens = await transmissionsOf(one, id)
    expect(new Set(tokens).size, told).toBe(tokens.length)
    for (const token of tokens) onRecord.add(names.get(token) ?? `a token of no file: ${token}`)
  }
  expect([...onRecord].sort(), told).toEqual([...changed].sort())
}

/** The controller, who has the root, reads the last snapshot back and checks everything. */
async function requireRestored(): Promise<void> {
  const target = one.place.path('restored')
  const snapshotId = (await one.runs()).find(({ state, snapshotId: id }) => state === 'ok' && id !== null)?.snapshotId ?? ''
  await one.controller(['restore', snapshotId, '--target', target])
  expect(await compareTrees(one.source, join(target, one.source))).toEqual([])
  rmSync(target, { recursive: true })
  await one.controller(['check', '--read-data'])
}
