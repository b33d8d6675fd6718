// Every bug of the register is planted, one at a time, and has to be caught by its scenario, which holds without it. `npm test` takes a share that changes
// with the day, so that each is planted every few days; the soak takes all. HOLDFAST_PLANTED=B17 plants that one alone.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { outcomeOf } from './_support/outcome.ts'
import { requireFits } from './_support/plant.ts'
import { bugs, type PlantedBug } from './register.ts'

const one = process.env['HOLDFAST_PLANTED']
/** So that each has its turn within this many days. */
const DAYS = 4
const seed = rotatingSeed()

/** The day of a date counts on by one; any other seed chooses by what it spells. */
function turn(): number {
  const day = Date.parse(seed) / 86_400_000
  return Number.isInteger(day) ? day : Buffer.from(seed).reduce((sum, byte) => (sum * 31 + byte) % 65_536, 0)
}

function isChosen(bug: PlantedBug, at: number): boolean {
  if (one !== undefined) return bug.id === one
  return soak || at % DAYS === turn() % DAYS
}

const chosen = bugs.filter(isChosen)

test('the register has all 32, each once, and its table says the same', () => {
  expect(bugs.map(({ id }) => id)).toEqual(Array.from({ length: 32 }, (_, i) => `B${i + 1}`))
  const readme = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8')
  const rows = readme.split('\n').filter((line) => line.startsWith('| B'))
  expect(rows).toEqual(bugs.map(({ id, title, how, caughtBy }) => `| ${id} | ${title} | ${how} | \`${caughtBy}\` |`))
})

test.each(bugs.map((bug) => [bug.id, bug] as const))('the plant of %s fits the product as it stands', (_, { plants, given = [] }) => {
  expect(plants.length).toBeGreaterThan(0)
  requireFits([...given, ...plants])
})

describe('planted bugs', () => {
  let caught = 0
  const started = performance.now()

  test.each(chosen.map((bug) => [bug.id, bug.title, bug.caughtBy, bug] as const))(
    '%s (%s) is caught by %s',
    { timeout: 300_000 },
    async (id, _title, _caughtBy, bug) => {
      const replay = `replay: HOLDFAST_PLANTED=${id} npm run -s unit -- test/planted`
      expect(await outcomeOf({ bug: id, planted: false }), `without the plant; ${replay}`).toEqual({ kind: 'holds' })
      const outcome = await outcomeOf({ bug: id, planted: true })
      expect(outcome, `with the plant; ${replay}`).toEqual({ kind: 'violated', message: expect.stringMatching(bug.says) })
      caught += 1
    },
  )

  afterAll(() => {
    soakResult({
      suite: 'planted bugs',
      figure: 'planted bugs caught',
      asked: 32,
      value: caught,
      violations: chosen.length - caught,
      seed,
      seconds: Math.round((performance.now() - started) / 1000),
    })
  })
})
