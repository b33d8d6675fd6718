// What the store holds after years of daily backups, retention and collection, against the live data: what the kept snapshots need, as everywhere in
// collection. Whether that stays so; that nothing piles up, and that every kept snapshot reads back. decisions/0011 has the curve and its bounds.
//
// HOLDFAST_SIM_DAYS=1095 simulates so many days; HOLDFAST_SEED=2026-01-31 replays those of another day's seed.
import { expect, test, vi } from 'vitest'
import type { Tree } from '../_support/plain-reader.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { KEPT_MAX, monthLine, simulateYears } from './years.ts'

vi.mock('@holdfast/shared/signing.ts', async (original) => {
  const { rememberSignatures } = await import('./remembered-signatures.ts')
  return rememberSignatures(await original())
})

const ASKED_PERCENT = 250
/** What a day costs: requests of a backup and of a collection, with the caches that commands have. */
const CALLS_MOST = { backup: 150, prune: 600 }
const YEAR = 365
const days = Number(process.env['HOLDFAST_SIM_DAYS'] ?? (soak ? 1095 : 45))

test(
  `after ${days} days the store holds no more than 2.5 times what is needed, stays so, and every kept snapshot reads back`,
  { timeout: 2 * 3_600_000 },
  async () => {
    const begun = performance.now()
    const seed = rotatingSeed()
    const { months, engine, trees } = await simulateYears({ seed, days, onMonth: (month) => console.log(monthLine(month)) })

    const reader = engine.reader()
    expect(reader.snapshots.map(({ structure }) => structure.ref.random).sort()).toEqual([...trees.keys()].sort())
    expect(reader.snapshots.length).toBeLessThanOrEqual(KEPT_MAX)
    for (const snapshot of reader.snapshots) same(reader.tree(snapshot), trees.get(snapshot.structure.ref.random)!)

    const last = months.at(-1)!
    const percent = Math.round((100 * last.stored) / last.needed)
    soakResult({
      suite: 'simulation',
      figure: 'store size after three years, percent of live data',
      asked: soak ? ASKED_PERCENT : 0,
      value: percent,
      violations: percent > ASKED_PERCENT ? 1 : 0,
      seed,
      seconds: Math.round((performance.now() - begun) / 1000),
    })
    expect(percent, `replay with HOLDFAST_SEED=${seed} HOLDFAST_SIM_DAYS=${days}`).toBeLessThanOrEqual(ASKED_PERCENT)
    for (const [kind, most] of Object.entries({ lists: 200, forgets: 80, index: 120, sessions: 600, ends: 400, snapshots: 60 }))
      expect(last.objects[kind], kind).toBeLessThan(most)
    expect(last.backupCalls).toBeLessThan(CALLS_MOST.backup)
    expect(last.pruneCalls).toBeLessThan(CALLS_MOST.prune)
    // Once the oldest monthly snapshot is as old as it gets, nothing may grow.
    const before = months.find(({ day }) => day >= 2 * YEAR)
    if (before !== undefined) expect(last.stored / before.stored).toBeLessThan(1.1)
  },
)

/** Compares without printing whole trees. */
function same(tree: Tree, wanted: Tree): void {
  const wrong = [...wanted].filter(([path, text]) => tree.get(path) !== text).map(([path]) => path)
  expect([tree.size, ...wrong]).toEqual([wanted.size])
}
