// Files that another process edits, truncates, grows, replaces and removes while the real program backs them up with its threads: what the snapshot
// holds of a file is one state that it had, or the file is named and the run ends with 3. When the files rest, everything is taken as it is.
import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { only, Workplace } from '../agent/cli/_support/cli.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { mixture } from './_support/state-blocks.ts'

const RUNS = soak ? 100 : 5
const WRITER = join(import.meta.dirname, '_support/restless-writer.ts')

let work: Workplace
afterEach(() => work?.close())

it(
  'a file that changes while it is read is named, or stands in the snapshot as it once was; never two states in one',
  async () => {
    const seed = rotatingSeed()
    const started = systemClock.monotonicMs()
    work = new Workplace()
    const source = work.path('source')
    mkdirSync(source)
    expect((await work.json(['init'])).summary.exitCode).toBe(0)
    const number = createHash('sha256').update(`restless ${seed}`).digest().readUInt32LE()
    const writer = spawn(process.execPath, [WRITER, source, String(number)], { stdio: ['pipe', 'pipe', 'inherit'] })
    const ended = new Promise<number | null>((resolve) => writer.once('close', resolve))
    await new Promise<void>((resolve, reject) => {
      writer.stdout.once('data', () => resolve())
      writer.once('close', () => reject(new Error('the writer ended before it was ready')))
    })
    let [read, named] = [0, 0]
    for (let run = 0; run < RUNS; run++) {
      const { summary, events } = await work.json(['backup', source, '--state', work.path('state')])
      const problems = new Set(only(events, 'problem').map(({ path }) => path))
      const told = `run ${run}, HOLDFAST_SEED=${seed}: ${JSON.stringify(events.filter(({ event }) => event !== 'status'))}`
      expect(summary.exitCode, told).toBe(problems.size > 0 ? 3 : 0)
      named += problems.size
      const target = work.path('restored')
      expect((await work.json(['restore', summary.snapshotId ?? '', '--target', target])).summary, told).toMatchObject({ exitCode: 0 })
      for (const name of readdirSync(join(target, source))) {
        const path = join(target, source, name)
        if (problems.has(join(source, name)) || !lstatSync(path).isFile()) continue
        read += 1
        expect(mixture(readFileSync(path)), `${name} was not named, ${told}`).toBeUndefined()
      }
      rmSync(target, { recursive: true, force: true })
    }
    writer.stdin.end()
    expect(await ended).toBe(0)
    // How many are read while nothing happens to them is a matter of the machine: over many runs there are some.
    expect(soak ? read : read + named).toBeGreaterThan(RUNS)
    const { summary, events } = await work.json(['backup', source, '--state', work.path('state')])
    expect(summary, JSON.stringify(events)).toMatchObject({ exitCode: 0, counts: { problems: 0 } })
    const target = work.path('at rest')
    expect((await work.json(['restore', 'latest', '--target', target])).summary).toMatchObject({ exitCode: 0 })
    expect(await compareTrees(source, join(target, source))).toEqual([])
    soakResult({
      suite: 'changing files',
      figure: `backups of files that another process changes meanwhile (${read} files taken as they once were, ${named} named)`,
      asked: RUNS,
      value: RUNS,
      violations: 0,
      seed,
      seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
    })
  },
  soak ? 1_800_000 : 240_000,
)
