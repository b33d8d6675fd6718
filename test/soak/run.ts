// `npm run test:soak`: every figure of the reliability table in full, one suite after the other, and the result kept with date, seed and commit.
// Words after it choose suites (`npm run test:soak -- fuzz planted`); each suite's last result is kept by itself. Ends with the table of what ran, and
// with 1 where a figure is below what is asked, a violation was found, or a suite failed.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { env, execPath } from 'node:process'
import { z } from 'zod'
import { writeTable } from './reliability-table.ts'
import { SUITES, type SoakSuite } from './suites.ts'

const ROOT = join(import.meta.dirname, '../..')
const RESULT = join(import.meta.dirname, 'result.json')
const figure = z.strictObject({
  suite: z.string(),
  figure: z.string(),
  asked: z.number(),
  value: z.number(),
  violations: z.number(),
  seed: z.string(),
  seconds: z.number(),
})
type Figure = z.infer<typeof figure>
type Ran = { readonly name: string; readonly code: number; readonly seconds: number; readonly figures: readonly Figure[] }

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !SUITES.some((suite) => suite.name === name))
if (unknown.length > 0) {
  console.log(`no suite is called ${unknown.join(', ')}; there are ${SUITES.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}
const seed = env['HOLDFAST_SEED'] ?? `soak-${new Date().toISOString().slice(0, 10)}`
const startedAt = new Date()
const git = (...args: string[]): string => spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' }).stdout.trim()
const commit = git('rev-parse', 'HEAD')
const isClean = git('status', '--porcelain', '--', '.', ':!test/soak/result.json', ':!README.md') === ''

const runs: Ran[] = []
for (const suite of SUITES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  console.log(`== ${suite.name}: ${suite.says} (about ${suite.minutes} minutes)`)
  const ran = await runSuite(suite)
  runs.push(ran)
  keep(ran)
  for (const one of ran.figures) console.log(`   ${line(one)}`)
  console.log(`   ${ran.code === 0 ? 'ok' : `FAILED (${ran.code})`} after ${ran.seconds} s`)
}

const figures = runs.flatMap((ran) => ran.figures)
const failed = runs.filter(({ code }) => code !== 0).map(({ name }) => name)
const below = figures.filter(isBelow)
console.log(`\n${table(figures)}`)
writeTable()
console.log('Each result is kept in test/soak/result.json, and shown in the README')
console.log(
  `seed ${seed}, commit ${commit}${isClean ? '' : ' and uncommitted changes'}; ${failed.length} suites failed, ${below.length} figures below what is asked`,
)
process.exit(failed.length === 0 && below.length === 0 ? 0 : 1)

/** Puts the result of one suite in the place of its last one. */
function keep({ name, code, seconds, figures: measured }: Ran): void {
  const kept = existsSync(RESULT) ? z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(RESULT, 'utf8'))) : {}
  const date = startedAt.toISOString()
  const result = { date, commit, uncommittedChanges: !isClean, seed, node: process.version, passed: code === 0, seconds, figures: measured }
  const all = Object.entries({ ...kept, [name]: result }).sort(([a], [b]) => (a < b ? -1 : 1))
  writeFileSync(RESULT, `${JSON.stringify(Object.fromEntries(all), null, 2)}\n`)
}

async function runSuite({ name, files, tests, sum, env: more = {} }: SoakSuite): Promise<Ran> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-soak-'))
  const results = join(folder, 'figures')
  writeFileSync(results, '')
  const began = performance.now()
  try {
    const code = await new Promise<number>((resolve, reject) => {
      // The timeouts of tests are for their default shares.
      const args = [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--testTimeout=7200000', '--hookTimeout=7200000', ...files]
      if (tests !== undefined) args.push('-t', tests)
      const child = spawn(execPath, ['--disable-warning=ExperimentalWarning', ...args], {
        cwd: ROOT,
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...env, HOLDFAST_SEED: seed, ...more, HOLDFAST_SOAK: '1', HOLDFAST_SOAK_RESULTS: results },
      })
      child.once('error', reject)
      child.once('exit', (status) => resolve(status ?? 1))
    })
    const lines = readFileSync(results, 'utf8')
      .split('\n')
      .filter((text) => text !== '')
    const seconds = Math.round((performance.now() - began) / 1000)
    const measured = lines.map((text) => figure.parse(JSON.parse(text)))
    return { name, code, seconds, figures: sum === undefined ? measured : [...measured, added(name, sum, measured, seconds)] }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** One figure of several that count the same. */
function added(suite: string, sum: NonNullable<SoakSuite['sum']>, measured: readonly Figure[], seconds: number): Figure {
  const parts = measured.filter((one) => one.figure.startsWith(sum.of))
  const total = (of: (one: Figure) => number): number => parts.reduce((all, one) => all + of(one), 0)
  const [value, violations] = [total((one) => one.value), total((one) => one.violations)]
  return { suite, figure: sum.figure, asked: sum.asked, value, violations, seed, seconds }
}

/** Shares of something are asked to be at most, everything else at least. */
function isBelow({ figure: what, asked, value, violations }: Figure): boolean {
  return violations > 0 || (what.includes('percent of live data') ? value > asked : value < asked)
}

function line(one: Figure): string {
  return `${one.figure}: ${one.value} (asked ${one.asked}), ${one.violations} violations, ${one.seconds} s`
}

function table(all: readonly Figure[]): string {
  const rows = all.map((one) => `| ${one.figure} | ${one.asked} | ${one.value} | ${one.violations} |`)
  return ['| figure | asked | measured | violations |', '|---|---|---|---|', ...rows].join('\n')
}
