// A share of the fuzzing in every run, from the seed of the day, and in a soak a million executions; and that the fuzzer finds what it is to find.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'

const root = join(import.meta.dirname, '..', '..')
const work = mkdtempSync(join(tmpdir(), 'holdfast-fuzz-test-'))
afterAll(() => rmSync(work, { recursive: true }))

const ASKED = 1_000_000
const EXECUTIONS = soak ? ASKED : 25_000
const TARGETS_ASKED = 10

type Line = {
  readonly target: string
  readonly executions: number
  readonly taken: number
  readonly reached: number
  readonly failures: number
}

/** Runs the command as a person does. */
function run(...options: string[]): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    const args = [join(root, 'bin/node-run'), 'test/fuzz/run.ts', ...options]
    const child = execFile('sh', args, { cwd: root, maxBuffer: 2 ** 26 }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, text: stdout + stderr }),
    )
  })
}

test(
  'nothing that reads bytes from outside fails on any of a rotating share of inputs, and every target takes some of them',
  async () => {
    const started = performance.now()
    const seed = rotatingSeed()
    const { code, text } = await run('--json', '--seed', seed, '--executions', String(EXECUTIONS))
    const lines = text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
    const executions = lines.reduce((sum, line) => sum + line.executions, 0)
    soakResult({
      suite: 'fuzz',
      figure: `executions of ${lines.length} coverage-guided fuzz targets`,
      asked: ASKED,
      value: executions,
      violations: lines.reduce((sum, line) => sum + line.failures, 0) + (code === 0 ? 0 : 1),
      seed,
      seconds: Math.round((performance.now() - started) / 1000),
    })
    // What it printed holds every failing input and the command that runs it again.
    expect(text.slice(text.indexOf('\nFAILURE')).trim(), text).not.toMatch(/^FAILURE/)
    expect(code, text).toBe(0)
    expect(executions).toBeGreaterThanOrEqual(EXECUTIONS)
    expect(lines.length).toBeGreaterThanOrEqual(TARGETS_ASKED)
    expect(lines.filter(({ taken }) => taken === 0)).toEqual([])
    expect(lines.filter(({ reached }) => reached === 0)).toEqual([])
  },
  soak ? 3_600_000 : 180_000,
)

describe('the fuzzer', () => {
  test('does the same again from the same seed', async () => {
    const of = async (seed: string): Promise<unknown> => {
      const { text } = await run('--json', '--seed', seed, '--executions', '3000', '--target', 'roster')
      return { ...(JSON.parse(text) as object), seconds: 0 }
    }
    expect(await of('a')).toEqual(await of('a'))
    expect(await of('b')).not.toEqual(await of('a'))
  })

  test('finds a planted bug behind three bytes that none of its seeds has, makes its input small, and says how to run it again', async () => {
    const { code, text } = await run('--seed', 'planted', '--executions', '60000', '--target', 'planted')
    expect(code, text).toBe(1)
    expect(text).toContain('FAILURE in planted (seed planted): RangeError: the planted bug')
    const [, file] = /^to run it again: sh bin\/node-run test\/fuzz\/run\.ts --target planted --replay (\S+)$/m.exec(text)!
    expect(readFileSync(file!).toString('latin1')).toBe('bug')
    const again = await run('--target', 'planted', '--replay', file!)
    expect(again.code).toBe(1)
    expect(again.text).toContain('RangeError: the planted bug')
    const harmless = join(work, 'harmless')
    writeFileSync(harmless, 'bag')
    expect(await run('--target', 'planted', '--replay', harmless)).toMatchObject({ code: 0, text: 'planted: taken\n' })
  })

  test.each([
    ['that never comes back', 'hang', 'does not come back'],
    ['that asks for more memory than any input is worth', 'bomb', 'asks for 67108865 bytes of memory'],
    ['that fails outside of its call', 'late', 'ends the thread: a late failure'],
  ])('notices a run %s', async (_, input, told) => {
    const file = join(work, input)
    writeFileSync(file, input)
    const { code, text } = await run('--target', 'planted', '--replay', file, '--hang-seconds', '2')
    expect(text).toContain(told)
    expect(code).toBe(1)
  })
})
