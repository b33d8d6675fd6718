// The fuzzer for people: `sh bin/node-run test/fuzz/run.ts --help`. Prints a line for each target and every failure with its input, as small as it
// got, and how to run it again; ends with code 1 where there was one.
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { rotatingSeed } from '../_support/soak.ts'
import type { Told } from './_support/job.ts'
import { type Asked, type Finding, HANG_MS, keepCorpus, supervise } from './_support/supervisor.ts'

const USAGE = `Fuzzes what reads bytes from outside, in this process, guided by the branches that inputs reach.

  --target NAME      one target; may be given several times (default: all)
  --executions N     runs over all chosen targets together, by their weights (default 100000)
  --seed TEXT        what the runs follow from (default: HOLDFAST_SEED, or the day)
  --keep             keeps the inputs that reach most as the targets' corpus, in test/fuzz/corpus
  --replay FILE      runs the one input in FILE, with --target
  --list             names the targets
  --hang-seconds N   how long a run may take before it is given up (default ${HANG_MS / 1000})
  --json             one line of JSON for each target
`

const { values } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    executions: { type: 'string' },
    seed: { type: 'string' },
    replay: { type: 'string' },
    keep: { type: 'boolean' },
    list: { type: 'boolean' },
    'hang-seconds': { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
})

if (values.help === true) process.stdout.write(USAGE)
else process.exitCode = await main()

async function main(): Promise<number> {
  const targets = values.target ?? []
  const seed = values.seed ?? rotatingSeed()
  const executions = Number(values.executions ?? 100_000)
  if (!Number.isSafeInteger(executions) || executions < 1) throw new RangeError('--executions takes a whole number from 1')
  let asked: Asked
  if (values.list === true) asked = { act: 'list', targets }
  else if (values.replay === undefined) asked = { act: values.keep === true ? 'keep' : 'fuzz', targets, seed, executions }
  else asked = { act: 'replay', targets, file: values.replay }
  let isBad = false
  const hear = (told: Told): void => {
    show(told)
    if (told.kind === 'replayed' && 'why' in told.result) isBad = true
  }
  const hangMs = values['hang-seconds'] === undefined ? HANG_MS : Number(values['hang-seconds']) * 1000
  const findings = await supervise(asked, hear, hangMs)
  for (const finding of findings) tell(finding, seed)
  return findings.length > 0 || isBad ? 1 : 0
}

function show(told: Told): void {
  switch (told.kind) {
    case 'list':
      for (const { name, about } of told.targets) say(`${name.padEnd(20)} ${about}`)
      return
    case 'report': {
      const { target, executions, seconds, taken, refused, corpus, reached, branches, failures } = told.report
      if (values.json === true) return say(JSON.stringify({ ...told.report, failures: failures.length }))
      const rate = Math.round(executions / seconds)
      return say(
        `${target.padEnd(20)} ${String(executions).padStart(8)} runs ${String(rate).padStart(7)}/s  ${taken} taken, ${refused} refused, ` +
          `corpus ${corpus}, branches ${reached} of ${branches}, ${failures.length} failures`,
      )
    }
    case 'corpus':
      keepCorpus(join(import.meta.dirname, 'corpus', told.target), told.inputs)
      return say(`${told.target.padEnd(20)} keeps ${told.inputs.length} inputs`)
    case 'replayed':
      return say(
        'why' in told.result ? `${told.target}: ${told.result.why}\n${told.result.stack}` : `${told.target}: ${told.result.outcome}`,
      )
  }
}

function tell({ target, why, stack, input, file, replay }: Finding, seed: string): void {
  const shown = input.length > 512 ? `${input.length} bytes` : `base64 ${Buffer.from(input).toString('base64')}`
  say(`\nFAILURE in ${target} (seed ${seed}): ${why}\n${stack}\ninput: ${shown}, in ${file}\nto run it again: ${replay}`)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
