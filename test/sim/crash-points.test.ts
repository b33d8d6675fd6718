// The crash suite: every call of the store, and the calls of the file system, of every operation is a point at which the machine dies, the call
// fails, the disk is full, a person interrupts, or the store lies. After each: every snapshot reads back, one more backup, and everything restores.
//
// HOLDFAST_SIM_SEEDS=20 runs so many seeds with every point; HOLDFAST_SIM_POINT='incremental/machine crash/57/seed-0' replays one, with a * at its end all that begin so.
import { createHash } from 'node:crypto'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { COLLECTION_OPERATIONS } from './collection-operations.ts'
import { countCalls, type End, type Operation, type Point, pointName, runPoint } from './crash-harness.ts'
import { FILE_MODES, LIE_MODES, type Mode, STORE_MODES } from './modes.ts'
import { OPERATIONS, STORE_OPERATIONS } from './operations.ts'

vi.mock('@holdfast/shared/signing.ts', async (original) => {
  const { rememberSignatures } = await import('./remembered-signatures.ts')
  return rememberSignatures(await original())
})

const seeds = Number(process.env['HOLDFAST_SIM_SEEDS'] ?? (soak ? 2 : 0))
const replayed = process.env['HOLDFAST_SIM_POINT']
const everything = seeds > 0 || replayed !== undefined
let points = 0
let violations = 0
const begun = performance.now()

afterAll(() => {
  if (replayed === undefined)
    soakResult({
      suite: 'simulation',
      figure: 'crash and fault points',
      asked: soak ? 10_000 : 0,
      value: points,
      violations,
      seed: soak ? `seed-0 to seed-${seeds - 1}` : rotatingSeed(),
      seconds: Math.round((performance.now() - begun) / 1000),
    })
})

async function pointsOf(operation: Operation): Promise<Point[]> {
  const calls = await countCalls(operation)
  const found: Point[] = []
  const add = (modes: readonly Mode[], from: typeof calls.store, seed: string): void => {
    for (const mode of modes) for (const call of from) if (mode.fits(call)) found.push({ operation, mode, call, seed })
  }
  for (let seed = 0; seed < Math.max(1, seeds); seed++) {
    add(STORE_MODES, calls.store, `seed-${seed}`)
    add(LIE_MODES, calls.store, `seed-${seed}`)
    add(FILE_MODES, calls.files, `seed-${seed}`)
  }
  return found
}

/** All of them, the ones to be replayed, or the share of the day. */
function chooseFrom(all: readonly Point[], { share = 25 }: Operation): readonly Point[] {
  if (replayed?.endsWith('*') === true) return all.filter((point) => pointName(point).startsWith(replayed.slice(0, -1)))
  if (replayed !== undefined) return all.filter((point) => pointName(point) === replayed)
  const every = everything ? 1 : Math.ceil(all.length / share)
  const first = createHash('sha256').update(rotatingSeed()).digest().readUInt32LE() % every
  return all.filter((_, i) => i % every === first)
}

describe('an operation interrupted anywhere', () => {
  test.each([...OPERATIONS, ...COLLECTION_OPERATIONS, ...STORE_OPERATIONS].map((operation) => [operation.name, operation] as const))(
    'keeps every promise: %s',
    { timeout: Math.max(1, seeds) * 1_200_000 },
    async (_, operation) => {
      const all = await pointsOf(operation)
      const chosen = chooseFrom(all, operation)
      const failures: string[] = []
      const ends: Record<End, number> = { resolved: 0, rejected: 0, crashed: 0 }
      for (const point of chosen) {
        try {
          ends[await runPoint(point)] += 1
        } catch (error) {
          failures.push(
            `${error instanceof Error ? error.stack : String(error)}\n  replay: HOLDFAST_SIM_POINT='${pointName(point)}' npm run -s unit -- test/sim`,
          )
        }
      }
      points += chosen.length
      violations += failures.length
      expect(failures.slice(0, 5).join('\n'), `${failures.length} of ${chosen.length} points failed`).toBe('')
      if (replayed === undefined) {
        expect(ends.rejected + ends.resolved, 'points at which the operation came to an end').toBeGreaterThan(0)
        expect(ends.crashed, 'points at which the machine died').toBeGreaterThan(0)
      }
    },
  )
})
