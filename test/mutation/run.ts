// `npm run test:mutation [-- GROUP… | --only FILE]`: changes the sources of a group in every small way, one at a time, and looks whether a test notices.
// It works on a copy of the tree. Each group's last score is kept with date and commit; ends with 1 where one is below what is asked. See README.md
// beside it.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execPath } from 'node:process'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { soakResult } from '../_support/soak.ts'
import { writeTable } from '../soak/reliability-table.ts'
import { EQUIVALENT } from './equivalent.ts'
import { GROUPS, type MutationGroup } from './groups.ts'

const ROOT = join(import.meta.dirname, '../..')
const RESULTS = join(import.meta.dirname, 'results.json')
const ASKED = 85
/** Two mutants at a time: each runs the tests in a process of its own. */
const AT_ONCE = 2

const mutant = z.object({
  status: z.enum(['Killed', 'Survived', 'NoCoverage', 'Timeout', 'CompileError', 'RuntimeError', 'Ignored', 'Pending']),
  mutatorName: z.string(),
  replacement: z.string().optional(),
  location: z.object({ start: z.object({ line: z.int(), column: z.int() }) }),
})
const report = z.object({ files: z.record(z.string(), z.object({ mutants: z.array(mutant) })) })

const { values, positionals: wanted } = parseArgs({ allowPositionals: true, options: { only: { type: 'string', multiple: true } } })
const only = values.only ?? []
const unknown = wanted.filter((name) => !GROUPS.some((group) => group.name === name))
if (unknown.length > 0) {
  console.log(`no group is called ${unknown.join(', ')}; there are ${GROUPS.map(({ name }) => `'${name}'`).join(', ')}`)
  process.exit(2)
}
const groups = GROUPS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  .map((group) =>
    only.length === 0 ? group : { ...group, sources: only.filter((file) => globSync([...group.sources], { cwd: ROOT }).includes(file)) },
  )
  .filter(({ sources }) => sources.length > 0)
const commit = git('rev-parse', 'HEAD')
// A score is kept only where it is that of a whole group at a commit.
const isKept = only.length === 0 && git('status', '--porcelain', '--', ':!test/mutation/results.json') === ''
const rows: string[] = []
let isBelow = false
const copy = mkdtempSync(join(tmpdir(), 'holdfast-mutation-'))
try {
  copyTree()
  for (const group of groups) measure(group)
} finally {
  rmSync(copy, { recursive: true, force: true })
}
console.log(
  `\n| group | mutants | killed | timed out | survived | not reached | equivalent | not tried | score |\n|---|---|---|---|---|---|---|---|---|\n${rows.join('\n')}`,
)
const where = isKept
  ? 'Each score is kept in test/mutation/results.json'
  : 'No score is kept, as this is a part of a group or not what was committed'
writeTable()
console.log(`${where}; asked are ${ASKED} %`)
process.exit(isBelow ? 1 : 0)

function git(...args: string[]): string {
  return spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' }).stdout.trim()
}

/** The tree as it stands, with its packages and those of the mutation tests beside them. */
function copyTree(): void {
  const names = git('ls-files', '--cached', '--others', '--exclude-standard').split('\n')
  for (const name of names) {
    if (!existsSync(join(ROOT, name))) continue
    mkdirSync(dirname(join(copy, name)), { recursive: true })
    cpSync(join(ROOT, name), join(copy, name), { dereference: false })
  }
  run('cp', ['-a', '--reflink=auto', join(ROOT, 'node_modules'), join(copy, 'node_modules')])
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--legacy-peer-deps', '--loglevel=error'], 'test/mutation')
}

function run(program: string, args: readonly string[], where = '.'): void {
  const { status } = spawnSync(program, args, { cwd: join(copy, where), stdio: 'inherit' })
  if (status !== 0) throw new Error(`${program} ended with ${status}`)
}

function measure(group: MutationGroup): void {
  const began = performance.now()
  console.log(`== ${group.name}: ${group.sources.join(', ')}`)
  const tests = JSON.stringify(group.tests)
  // In the order of the group, quick ones first: a change is known by the first test that fails.
  const order = JSON.stringify(group.tests.flatMap((pattern) => globSync(pattern, { cwd: copy }).toSorted()))
  writeFileSync(
    join(copy, 'mutation.vitest.config.ts'),
    `import { BaseSequencer } from 'vitest/node'
import { defineConfig } from 'vitest/config'
const order = ${order}
const place = ({ moduleId }) => order.findIndex((file) => moduleId.endsWith(file))
class InOrder extends BaseSequencer {
  async sort(files) {
    return [...files].sort((a, b) => place(a) - place(b))
  }
}
export default defineConfig({
  test: { include: ${tests}, setupFiles: ['mutation.setup.ts'], sequence: { sequencer: InOrder }, pool: 'threads', maxWorkers: 1, testTimeout: 60000 },
})
`,
  )
  // The first counter-example will do, and the same examples each time: a score can be had again.
  writeFileSync(join(copy, 'mutation.setup.ts'), `import * as fc from 'fast-check'\nfc.configureGlobal({ endOnFailure: true, seed: 4 })\n`)
  const configuration = {
    testRunner: 'vitest',
    plugins: [join(copy, 'test/mutation/node_modules/@stryker-mutator/vitest-runner/dist/src/index.js')],
    vitest: { configFile: 'mutation.vitest.config.ts' },
    mutate: group.sources,
    mutator: { excludedMutations: ['StringLiteral'] },
    coverageAnalysis: 'perTest',
    ignoreStatic: true,
    concurrency: AT_ONCE,
    inPlace: true,
    // TypeScript 7 has no interface to rewrite a configuration with, and none has to be rewritten.
    tsconfigFile: 'none.json',
    disableTypeChecks: false,
    reporters: ['json', 'progress-append-only'],
    jsonReporter: { fileName: 'mutation.json' },
    // Long, so that a busy machine is not taken for a test that hangs.
    timeoutMS: 15_000,
    allowConsoleColors: false,
  }
  writeFileSync(join(copy, 'stryker.config.json'), JSON.stringify(configuration))
  run(execPath, [join(copy, 'test/mutation/node_modules/@stryker-mutator/core/bin/stryker.js'), 'run', 'stryker.config.json'])
  const { files } = report.parse(JSON.parse(readFileSync(join(copy, 'mutation.json'), 'utf8')))
  const all = Object.entries(files).flatMap(([file, { mutants }]) => {
    const lines = readFileSync(join(copy, file), 'utf8').split('\n')
    return mutants.map((one) => ({ ...one, file, line: (lines[one.location.start.line - 1] ?? '').trim(), change: changeOf(one) }))
  })
  const isEquivalent = ({ file, line, change }: (typeof all)[number]): boolean =>
    EQUIVALENT.some((known) => known.file === file && known.line === line && known.change === change)
  const count = (...statuses: string[]): number => all.filter(({ status }) => statuses.includes(status)).length
  const left = all.filter(({ status }) => status === 'Survived' || status === 'NoCoverage')
  const equivalent = left.filter(isEquivalent).length
  const missed = left.filter((one) => !isEquivalent(one))
  const [killed, timedOut] = [count('Killed'), count('Timeout')]
  const survived = missed.filter(({ status }) => status === 'Survived').length
  const unreached = missed.length - survived
  // What runs once when a module is loaded cannot be switched on test by test, and strings are not changed: left out of the score, and said.
  const notTried = count('Ignored', 'CompileError', 'RuntimeError', 'Pending')
  const mutants = killed + timedOut + survived + unreached
  const score = Math.round((1000 * (killed + timedOut)) / Math.max(1, mutants)) / 10
  const told = [...missed, ...all.filter(({ status }) => status === 'Timeout')].toSorted((a, b) => a.file.localeCompare(b.file))
  for (const { file, location, change, status } of told) {
    const { line, column } = location.start
    console.log(
      `   ${status === 'Survived' ? 'survived   ' : status === 'Timeout' ? 'timed out  ' : 'not reached'} ${file}:${line}:${column} ${change.slice(0, 120)}`,
    )
  }
  const seconds = Math.round((performance.now() - began) / 1000)
  rows.push(
    `| ${group.name} | ${mutants} | ${killed} | ${timedOut} | ${survived} | ${unreached} | ${equivalent} | ${notTried} | ${score} % |`,
  )
  if (score < ASKED) isBelow = true
  if (!isKept) return
  const kept = existsSync(RESULTS) ? z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(RESULTS, 'utf8'))) : {}
  const result = {
    date: new Date().toISOString(),
    commit,
    mutants,
    killed,
    timedOut,
    survived,
    unreached,
    equivalent,
    notTried,
    score,
    seconds,
  }
  writeFileSync(RESULTS, `${JSON.stringify({ ...kept, [group.name]: result }, null, 2)}\n`)
  soakResult({
    suite: 'mutation',
    figure: `mutation score: ${group.name}, percent`,
    asked: ASKED,
    value: score,
    violations: 0,
    seed: '',
    seconds,
  })
}

/** A change in one line: what was done, and what stands there instead. */
function changeOf({ mutatorName, replacement }: z.infer<typeof mutant>): string {
  return `${mutatorName} → ${(replacement ?? '').replace(/\s+/g, ' ')}`
}
