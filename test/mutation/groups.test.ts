// The mutation tests as they stand: what they name is there, and the scores that are kept are whole. The measuring itself is `npm run test:mutation`.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { EQUIVALENT } from './equivalent.ts'
import { GROUPS } from './groups.ts'

const ROOT = join(import.meta.dirname, '../..')
const RESULTS = join(import.meta.dirname, 'results.json')
const count = z.int().nonnegative()
const result = z.strictObject({
  date: z.iso.datetime(),
  commit: z.string().regex(/^[0-9a-f]{40}$/),
  mutants: count.positive(),
  killed: count,
  timedOut: count,
  survived: count,
  unreached: count,
  equivalent: count,
  notTried: count,
  score: z.number().min(0).max(100),
  seconds: count,
})

describe('the groups of the mutation tests', () => {
  it.each(GROUPS)('$name: every source and every test that is named is there', ({ sources, tests }) => {
    for (const pattern of [...sources, ...tests]) {
      // Braces name files one by one: each has to be there, not only one of them.
      const [, before = pattern, among = '', after = ''] = /^(.*)\{(.*)\}(.*)$/.exec(pattern) ?? []
      for (const one of among.split(',')) expect(globSync(`${before}${one}${after}`, { cwd: ROOT }), pattern).not.toEqual([])
    }
  })

  it('share no source: a change counts once', () => {
    const all = GROUPS.flatMap(({ sources }) => globSync([...sources], { cwd: ROOT }))
    expect(all.toSorted()).toEqual([...new Set(all)].toSorted())
  })
})

describe('the changes that are called equivalent', () => {
  it.each(EQUIVALENT)('$file: $line', ({ file, line, why }) => {
    const lines = readFileSync(join(ROOT, file), 'utf8').split('\n')
    expect(lines.map((one) => one.trim())).toContain(line)
    expect(why).toMatch(/^[A-Z].*\.$/)
    expect(GROUPS.flatMap(({ sources }) => globSync([...sources], { cwd: ROOT }))).toContain(file)
  })

  it('stand there once each', () => {
    const names = EQUIVALENT.map(({ file, line, change }) => `${file} ${line} ${change}`)
    expect(new Set(names).size).toBe(names.length)
  })
})

describe('the scores that are kept', () => {
  const kept = existsSync(RESULTS) ? z.record(z.string(), result).parse(JSON.parse(readFileSync(RESULTS, 'utf8'))) : {}

  it('add up, and are of groups that there are', () => {
    for (const [name, { mutants, killed, timedOut, survived, unreached, score }] of Object.entries(kept)) {
      expect(GROUPS.map((group) => group.name)).toContain(name)
      expect(killed + timedOut + survived + unreached, name).toBe(mutants)
      expect(score, name).toBeGreaterThanOrEqual(85)
      expect(score, name).toBeCloseTo((100 * (killed + timedOut)) / mutants, 0)
    }
  })
})
