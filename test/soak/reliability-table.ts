// The reliability table of the README, made from the last results of the soak and of the mutation tests: what was measured, on which commit, and what of
// it is below what is asked. A test holds the README to it; `npm run test:soak` and `npm run test:mutation` write it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

const ROOT = join(import.meta.dirname, '../..')
const README = join(ROOT, 'README.md')
const BEGIN = '<!-- made by npm run test:soak and npm run test:mutation -->'
const END = '<!-- end of what they make -->'

const figure = z.object({ figure: z.string(), asked: z.number(), value: z.number(), violations: z.number() })
const soakResults = z.record(
  z.string(),
  z.object({ date: z.string(), commit: z.string(), seed: z.string(), passed: z.boolean(), figures: z.array(figure) }),
)
const scores = z.record(z.string(), z.object({ date: z.string(), commit: z.string(), mutants: z.int(), score: z.number() }))

/** What has to stand in the README between the two marks, marks included. */
export function reliabilityTable(): string {
  const soak = soakResults.parse(readJson('test/soak/result.json'))
  const mutation = scores.parse(readJson('test/mutation/results.json'))
  const rows = Object.entries(soak).flatMap(([suite, { date, commit, seed, passed, figures }]) => {
    const where = `\`${suite}\`${passed ? '' : ' (failed)'} | ${date.slice(0, 10)}, \`${commit.slice(0, 7)}\`, ${seed}`
    return figures.map((one) => row(one.figure, one.asked === 0 ? '' : number(one.asked), number(one.value), number(one.violations), where))
  })
  for (const [group, { date, commit, mutants, score }] of Object.entries(mutation))
    rows.push(
      row(
        `mutation score of ${group}, percent of ${number(mutants)} changes`,
        '85',
        String(score),
        '',
        `mutation | ${date.slice(0, 10)}, \`${commit.slice(0, 7)}\``,
      ),
    )
  const head = ['| figure | asked | measured | violations | suite | date, commit, seed |', '|---|---|---|---|---|---|']
  return [BEGIN, '', ...head, ...rows, '', END].join('\n')
}

/** What stands in the README now. */
export function tableInReadme(): string {
  const readme = readFileSync(README, 'utf8')
  return readme.slice(readme.indexOf(BEGIN), readme.indexOf(END) + END.length)
}

/** Puts the table into the README. */
export function writeTable(): void {
  const readme = readFileSync(README, 'utf8')
  writeFileSync(
    README,
    readme.replace(tableInReadme(), () => reliabilityTable()),
  )
}

function row(...cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function number(value: number): string {
  return value.toLocaleString('en-US')
}

function readJson(path: string): unknown {
  return existsSync(join(ROOT, path)) ? JSON.parse(readFileSync(join(ROOT, path), 'utf8')) : {}
}

if (import.meta.main) writeTable()
