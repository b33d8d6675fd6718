// Clocks that jump by ten years, between runs and within them, forward and back: what is the latest, what comes before it, and what counts as
// unchanged stay right. The real program, with a clock of its own (libfaketime); files keep the times of this machine.
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { only, Workplace } from '../agent/cli/_support/cli.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { readIndependently } from './_support/independent-reader.ts'

const LIBRARY = ['x86_64', 'aarch64']
  .map((arch) => `/usr/lib/${arch}-linux-gnu/faketime/libfaketimeMT.so.1`)
  .find((path) => existsSync(path))
const YEARS = '3650d'

describe.skipIf(LIBRARY === undefined)('a clock that jumps (needs libfaketime)', () => {
  let work: Workplace
  afterEach(() => work.close())

  async function begin(): Promise<{ source: string; code: string; at: (offset: string) => void }> {
    work = new Workplace()
    const clock = work.path('clock')
    const at = (offset: string): void => writeFileSync(clock, offset)
    at('+0')
    work.env = {
      ...work.env,
      LD_PRELOAD: LIBRARY ?? '',
      FAKETIME_TIMESTAMP_FILE: clock,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    }
    const { events } = await work.json(['init'])
    const source = work.path('source')
    mkdirSync(source)
    for (let i = 0; i < 20; i++) writeFileSync(join(source, `file-${i}`), `file ${i} `.repeat(200))
    return { source, code: only(events, 'recovery-code')[0]?.code ?? '', at }
  }

  async function requireLatest(source: string, target: string, code: string): Promise<void> {
    expect((await work.json(['restore', 'latest', '--target', target])).summary).toMatchObject({ exitCode: 0 })
    expect(await compareTrees(source, join(target, source))).toEqual([])
    const aside = `${target}-aside`
    mkdirSync(aside)
    await readIndependently(work.repo, 'latest', code, aside)
    expect(await compareTrees(source, join(aside, source))).toEqual([])
  }

  it('between runs: the last run is the latest, the series is in the order of its runs, and what changed is read', async () => {
    const { source, code, at } = await begin()
    const made: string[] = []
    for (const [i, offset] of ['+0', `+${YEARS}`, `-${YEARS}`, '-1d', '+0'].entries()) {
      // As long as before, so that times alone tell.
      writeFileSync(join(source, 'file-0'), `state ${i} `.repeat(200))
      at(offset)
      const { summary } = await work.json(['backup', source])
      expect(summary, offset).toMatchObject({ exitCode: 0, result: 'done' })
      expect(summary.counts?.[i === 0 ? 'filesNew' : 'filesChanged']).toBeGreaterThan(0)
      made.push(summary.snapshotId ?? '')
      if (i > 1) await requireLatest(source, work.path(`restored-${i}`), code)
    }
    const listed = only((await work.json(['snapshots'])).events, 'snapshot')
    expect(listed.map(({ id }) => id)).toEqual(made)
    expect(listed.map(({ sequence }) => sequence)).toEqual(made.map((_, i) => i + 1))
    const { summary } = await work.json(['backup', source])
    expect(summary.counts, 'nothing changed, whatever time it is').toMatchObject({ bytesNew: 0, filesNew: 0 })
    expect((await work.json(['check', '--read-data'])).summary).toMatchObject({ exitCode: 0 })
  }, 120_000)

  it('within a run, again and again: the run ends, and what it reports restores', async () => {
    const { source, code, at } = await begin()
    const next = seededNumbers(31)
    for (let i = 0; i < 12; i++) {
      const bytes = Buffer.alloc(2 ** 20)
      for (let k = 0; k < bytes.length; k += 4) bytes.writeUInt32LE(next(), k)
      writeFileSync(join(source, `large-${i}`), bytes)
    }
    const child = work.start(['backup', source, '--json'])
    const offsets = [`+${YEARS}`, '+0', `-${YEARS}`, '+1d', '-1d']
    let [turn, said] = [0, '']
    // With everything that it says, and so through all of its phases.
    child.stdout.on('data', (data: Buffer) => {
      said += data.toString()
      at(offsets[turn++ % offsets.length]!)
    })
    child.stdin.end()
    at(`+${YEARS}`)
    await new Promise((resolve) => child.once('close', resolve))
    expect(child.exitCode, said).toBe(0)
    expect(turn).toBeGreaterThan(1)
    await requireLatest(source, work.path('restored'), code)
  }, 120_000)

  it('back to the very times that a file had before: one of the same size and time is read again after the clock of the machine was set back', async () => {
    const { source, code, at } = await begin()
    const path = join(source, 'file-3')
    const past = new Date('2020-02-02T02:02:02Z')
    utimesSync(path, past, past)
    at(`-${YEARS}`)
    expect((await work.json(['backup', source])).summary).toMatchObject({ exitCode: 0 })
    const other = readFileSync(path, 'utf8').replaceAll('file 3', 'FILE 3')
    writeFileSync(path, other)
    utimesSync(path, past, past)
    expect((await work.json(['backup', source])).summary).toMatchObject({ exitCode: 0 })
    await requireLatest(source, work.path('restored'), code)
  }, 120_000)
})
