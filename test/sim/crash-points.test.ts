// The crash suite: every call of the store, and the calls of the file system, of a first backup, an incremental one, an unchanged one, and one
// that takes over from a killed run, is a point at which the machine dies, the call fails once, or everything fails from there on. After
// each: every snapshot reads back, one more backup, and everything reads back again.
//
// HOLDFAST_SIM_SEEDS=20 runs so many seeds with every point; HOLDFAST_SIM_POINT='incremental/machine crash/57/seed-0' replays one.
import { describe, expect, test } from 'vitest'
import { countCalls, FILE_MODES, type Mode, type Point, pointName, runPoint, STORE_MODES } from './crash-harness.ts'
import { SCENARIOS, STORE_SCENARIOS } from './scenarios.ts'

const seeds = Number(process.env['HOLDFAST_SIM_SEEDS'] ?? 0)
const replayed = process.env['HOLDFAST_SIM_POINT']
/** Without more seeds asked for, each seed takes every so manieth file call, so that the suite stays within a minute. */
const SHARE: Record<string, number> = { 'machine crash': 2, 'file call fails once': 6, 'disk full': 4 }

async function pointsOf(scenario: (typeof SCENARIOS)[number]): Promise<Point[]> {
  const calls = await countCalls(scenario)
  const points: Point[] = []
  const add = (mode: Mode, call: number, seed: number): void => {
    points.push({ scenario, mode, call, seed: `seed-${seed}` })
  }
  for (let seed = 0; seed < Math.max(1, seeds); seed++) {
    const writesAlone = seeds === 0 && replayed === undefined && STORE_SCENARIOS.includes(scenario)
    for (const mode of STORE_MODES) for (let call = writesAlone ? calls.store - 8 : 1; call <= calls.store; call++) add(mode, call, seed)
    if (writesAlone) continue
    for (const mode of FILE_MODES)
      for (const [i, { index, operation, changes, path }] of calls.files.entries()) {
        // What was only read is closed without an error by every kernel.
        if (operation === 'close' && !/\.(part|tmp|new)$/.test(path)) continue
        if (mode !== 'file call fails once' && !changes) continue
        if (seeds === 0 && replayed === undefined && i % SHARE[mode]! !== 0) continue
        add(mode, index, seed)
      }
  }
  return points
}

describe('a backup interrupted anywhere', () => {
  test.each([...SCENARIOS, ...STORE_SCENARIOS].map((scenario) => [scenario.name, scenario] as const))(
    'keeps every promise: %s',
    { timeout: Math.max(1, seeds) * 600_000 },
    async (_, scenario) => {
      const points = (await pointsOf(scenario)).filter((point) => replayed === undefined || pointName(point) === replayed)
      const failures: string[] = []
      const ends = { resolved: 0, rejected: 0, crashed: 0 }
      for (const point of points) {
        try {
          ends[await runPoint(point)] += 1
        } catch (error) {
          failures.push(
            `${error instanceof Error ? error.message : String(error)}\n  replay: HOLDFAST_SIM_POINT='${pointName(point)}' npm run -s unit -- test/sim`,
          )
        }
      }
      expect(failures.slice(0, 5).join('\n'), `${failures.length} of ${points.length} points failed`).toBe('')
      if (replayed === undefined) {
        expect(ends.crashed, 'points at which the machine died').toBeGreaterThan(8)
        expect(ends.rejected, 'points at which the run failed').toBeGreaterThan(8)
      }
    },
  )
})
