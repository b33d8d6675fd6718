// Backups that run while collections run, for simulated months, with appliances that pause for days in the middle of a run: nothing that counts is ever
// lost, and no backup waits for a collection (design section 7; obligation O18).
//
// HOLDFAST_SIM_BESIDE='2026-01-31 3' replays one history; HOLDFAST_SIM_MINUTES=60 goes on for so long.
import { describe, expect, test, vi } from 'vitest'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import type { TraceEntry } from '../_support/simulated-store.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { runBeside } from './beside.ts'
import { same } from './invariants.ts'

vi.mock('@holdfast/shared/signing.ts', async (original) => {
  const { rememberSignatures } = await import('./remembered-signatures.ts')
  return rememberSignatures(await original())
})

const minutes = Number(process.env['HOLDFAST_SIM_MINUTES'] ?? (soak ? 0 : 0.15))
const replayed = process.env['HOLDFAST_SIM_BESIDE']
/** Of one history. */
const DAYS = soak ? 60 : 30
const MONTH_DAYS = 30.44
/** However long they take. */
const MONTHS = soak ? 60 : 0

describe('backups beside collections', () => {
  test('lose nothing that was reported good, whatever pauses and dies', { timeout: (minutes + 30) * 60_000 }, async () => {
    const begun = performance.now()
    const seed = rotatingSeed()
    const sums = {
      days: 0,
      turns: 0,
      backups: 0,
      prunes: 0,
      restarts: 0,
      crashes: 0,
      pauses: 0,
      deletedPacks: 0,
      takenBack: 0,
      byFooters: 0,
    }
    const failures: string[] = []
    const isMore = (): boolean => performance.now() - begun < minutes * 60_000 || sums.days < MONTHS * MONTH_DAYS
    for (let i = 0; i === 0 || (replayed === undefined && isMore()); i++) {
      const name = replayed ?? `${seed} ${i}`
      try {
        const report = await runBeside({ seed: name, days: DAYS })
        for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += report[key]
      } catch (error) {
        const shown = error instanceof Error ? error.stack?.split('\n').slice(0, 6).join('\n') : String(error)
        failures.push(
          `${shown}\n  replay: HOLDFAST_SIM_BESIDE='${name}'${soak ? ' HOLDFAST_SOAK=1' : ''} npm run -s unit -- test/sim/beside.test.ts`,
        )
      }
    }
    const months = Math.round(sums.days / MONTH_DAYS)
    console.log(
      `${months} simulated months, ${sums.turns} calls of the store: ${sums.backups} backups, ${sums.prunes} collections, ${sums.deletedPacks} packs deleted, ` +
        `${sums.restarts} runs made again, ${sums.pauses} pauses, ${sums.crashes} machines died, ${sums.takenBack} snapshots taken back, ${sums.byFooters} looks that needed footers`,
    )
    if (replayed === undefined)
      soakResult({
        suite: 'simulation',
        figure: 'simulated months of collections beside backups',
        asked: MONTHS,
        value: months,
        violations: failures.length,
        seed,
        seconds: Math.round((performance.now() - begun) / 1000),
      })
    expect(failures.slice(0, 5).join('\n'), `${failures.length} histories failed`).toBe('')
    expect(sums.deletedPacks).toBeGreaterThan(0)
  })

  test(
    'cost no backup more than reading what appeared: wherever in a run a whole collection takes place',
    { timeout: 120_000 },
    async () => {
      const alone = await runWithCollectionAt(Infinity)
      expect(alone.restarts).toBe(0)
      let listed = 0
      for (let at = 1; at <= alone.calls.length; at++) {
        const beside = await runWithCollectionAt(at)
        const extra = beside.calls.length - alone.calls.length
        const where = `a collection before call ${at} of ${alone.calls.length}`
        expect(beside.restarts, where).toBe(0)
        // Each new list is read once whenever the lists are listed, and the references of the run's own tree at most once.
        expect(extra, where).toBeLessThanOrEqual(beside.newLists * 3 + beside.nodes)
        for (const operation of ['put', 'list', 'head', 'remove'] as const)
          expect(count(beside.calls, operation), `${where}: ${operation}`).toBe(count(alone.calls, operation))
        listed += beside.newLists
      }
      expect(listed).toBeGreaterThan(0)
    },
  )
})

const count = (calls: readonly TraceEntry[], operation: string): number => calls.filter((call) => call.operation === operation).length

/** A run of which nothing is condemned, with a whole collection, which condemns, before its call number `at`. Nothing in it may wait for a clock. */
async function runWithCollectionAt(at: number): Promise<{ calls: TraceEntry[]; restarts: number; newLists: number; nodes: number }> {
  let calls = -1
  let collector: Engine | undefined
  const due = async (): Promise<void> => {
    if (calls >= 0 && ++calls === at) await collector!.prune()
  }
  const clock = simulatedClock({ autoMs: -1 })
  const engine = await makeEngine({
    seed: 'beside',
    clock,
    storeClock: clock,
    limits: { packBytes: 6000 },
    seam: (store) => ({
      location: store.location,
      put: async (...given) => (await due(), store.put(...given)),
      get: async (...given) => (await due(), store.get(...given)),
      getRange: async (...given) => (await due(), store.getRange(...given)),
      head: async (...given) => (await due(), store.head(...given)),
      async *list(...given) {
        await due()
        yield* store.list(...given)
      },
      remove: async (...given) => (await due(), store.remove(...given)),
      close: () => store.close(),
    }),
  })
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/old/${i}`, fixtureRandom(`old ${i}`).bytes(4000))
  engine.pass()
  const first = await engine.backup()
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/old/${i}`, fixtureRandom(`new ${i}`).bytes(4000))
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/kept/${i}`, fixtureRandom(`kept ${i}`).bytes(4000))
  engine.pass()
  await engine.backup()
  await engine.forget(first.snapshot!.ref.random)
  for (let i = 0; i < 3; i++) writeFile(engine, `/src/added/${i}`, fixtureRandom(`added ${i}`).bytes(4000))
  engine.pass()
  collector = await makeEngine({ seed: 'collector', beside: engine })
  const lists = engine.bucket.names('lists/').length
  engine.bucket.trace.length = 0
  calls = 0
  const run = await engine.backup()
  calls = -1
  same(engine.newest(), engine.source(), 'the newest snapshot')
  return {
    calls: engine.bucket.trace.filter(({ actor }) => actor === 'agent beside'),
    restarts: run.notices.filter((text) => text.startsWith('a collection condemned')).length,
    newLists: engine.bucket.names('lists/').length - lists,
    nodes: run.summary.directories + 1,
  }
}
