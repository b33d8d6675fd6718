// `holdfast drill` as a person uses it: what it restores and removes, what it says, its exit codes, and the evidence that stays.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seededRandom } from '../../_support/seeded-random.ts'
import { appendEvidence } from '../../../agent/drill/evidence.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { only, Workplace } from './_support/cli.ts'

const FILES = 25
let place: Workplace
let state: string

beforeAll(async () => {
  place = new Workplace()
  state = place.path('home', '.local', 'state', 'holdfast', 'drill')
  const content = seededRandom('drill')
  for (const source of ['papers', 'pictures']) {
    mkdirSync(place.path(source, 'below'), { recursive: true })
    for (let i = 0; i < FILES; i++) writeFileSync(place.path(source, 'below', `file-${i}`), content.bytes(900 + i))
    chmodSync(place.path(source, 'below', 'file-3'), 0o640)
  }
  expect((await place.run(['init'])).code).toBe(0)
  for (const source of ['papers', 'pictures']) expect((await place.run(['backup', source, '--label', source])).code).toBe(0)
}, 60_000)
afterAll(() => place.close())

/** Paths of all files below a directory. */
const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
const evidence = (): string => {
  const [domain = ''] = readdirSync(state)
  return join(state, domain, 'evidence.jsonl')
}
const evidenceLines = (): string[] => readFileSync(evidence(), 'utf8').trimEnd().split('\n')

describe('holdfast drill', () => {
  it('on a dry run says what it would take and makes nothing', async () => {
    const { code, events, summary } = await place.json(['drill', '--dry-run', '--files', '5', '--scratch', 'nowhere'])
    expect(code).toBe(0)
    expect(only(events, 'drill').map(({ outcome, files, drillsForAll }) => ({ outcome, files, drillsForAll }))).toEqual([
      { outcome: 'planned', files: 5, drillsForAll: 5 },
      { outcome: 'planned', files: 5, drillsForAll: 5 },
    ])
    expect(summary).toMatchObject({ dryRun: true, counts: { drills: 2, files: 10 } })
    expect(existsSync(state)).toBe(false)
    expect(existsSync(place.path('nowhere'))).toBe(false)
  })

  it('restores the newest snapshot of each series, compares every byte, and leaves nothing but the evidence', async () => {
    const { code, events, summary } = await place.json(['drill'])
    expect(code).toBe(0)
    const drills = only(events, 'drill')
    expect(drills.map(({ outcome, whole, files }) => ({ outcome, whole, files }))).toEqual([
      { outcome: 'restored', whole: true, files: FILES },
      { outcome: 'restored', whole: true, files: FILES },
    ])
    for (const { bytes, bytesCompared } of drills) expect(bytesCompared).toBe(bytes)
    expect(summary).toMatchObject({ result: 'done', counts: { drills: 2, restored: 2, files: 2 * FILES, problems: 0 } })
    const below = filesBelow(state)
      .map((path) => basename(path))
      .sort()
    expect(below).toEqual(['evidence.jsonl', 'rotation.json', 'run.lock'])
    expect(statSync(evidence()).mode & 0o077).toBe(0)
    // Who reads the evidence learns no name of a file.
    expect(readFileSync(evidence(), 'utf8')).not.toMatch(/file-|below|papers/)
  })

  it('takes other files each time until all were in one, also of one source alone', async () => {
    const hashes = new Set<string>()
    for (let i = 0; i < 3; i++) {
      const { code, events } = await place.json(['drill', '--source', 'papers', '--files', '9'])
      expect(code).toBe(0)
      const [drill, ...more] = only(events, 'drill')
      expect(more).toEqual([])
      expect(drill).toMatchObject({ outcome: 'restored', whole: false, files: 9, ofFiles: FILES, entriesCompared: 9 })
      hashes.add(drill?.sampleHash ?? '')
    }
    expect(hashes.size).toBe(3)
  }, 60_000)

  it('refuses a scratch directory that holds something, and empties one that does not', async () => {
    mkdirSync(place.path('full'))
    writeFileSync(place.path('full', 'mine'), 'x')
    const refused = await place.json(['drill', 'latest', '--scratch', 'full'])
    expect(refused.summary).toMatchObject({ exitCode: 1, code: 'conflict' })
    expect(readdirSync(place.path('full'))).toEqual(['mine'])
    const done = await place.json(['drill', 'latest', '--scratch', 'fresh'])
    expect(done.summary).toMatchObject({ exitCode: 0, counts: { drills: 1 } })
    expect(readdirSync(place.path('fresh'))).toEqual([])
  })

  it('shows the history, and in words', async () => {
    const { code, events, summary } = await place.json(['drill', '--history'], {
      env: { HOLDFAST_REPO: undefined, HOLDFAST_PASSWORD: undefined },
    })
    expect(code).toBe(0)
    const shown = only(events, 'drill')
    expect(shown.map(({ outcome }) => outcome)).toEqual(Array.from({ length: 6 }, () => 'restored'))
    expect(summary.counts).toMatchObject({ drills: 6, restored: 6, problems: 0 })
    const { text, stderr } = await place.run(['drill', '--history'])
    expect(text).toMatch(/restored\n {2}all: 25 files, .* read again and compared\n/)
    expect(stderr).toMatch(/6 drills, 6 of them restored all they took/)
  })

  it('ends with 4 and names the files where the store gives back something else, and says so in the evidence', async () => {
    const packs = join(place.repo, 'packs')
    const before = filesBelow(packs).map((path) => ({ path, bytes: readFileSync(path) }))
    for (const { path, bytes } of before) {
      chmodSync(path, 0o600)
      const spoilt = Buffer.from(bytes)
      spoilt[1000]! ^= 1
      writeFileSync(path, spoilt)
    }
    const { code, events, summary } = await place.json(['drill'])
    expect(code).toBe(4)
    expect(summary).toMatchObject({ result: 'damaged' })
    const problems = only(events, 'problem')
    expect(problems.length).toBeGreaterThan(0)
    expect(problems.every(({ path, code: of }) => of === 'damaged' && path?.includes('file-'))).toBe(true)
    expect(only(events, 'drill').some(({ outcome }) => outcome === 'damaged')).toBe(true)
    expect(JSON.parse(evidenceLines().at(-1) ?? '')).toMatchObject({ kind: 'ended', outcome: 'damaged' })
    for (const { path, bytes } of before) writeFileSync(path, bytes)
  }, 60_000)

  it('whose process was killed has a beginning without an end, and the next one clears up', async () => {
    // What a process leaves that is killed in the middle of its restore.
    const left = join(dirname(evidence()), 'scratch', 'holdfast-drill-0123', 'below')
    mkdirSync(left, { recursive: true })
    writeFileSync(join(left, 'half'), 'of a file')
    chmodSync(left, 0o500)
    const directory = posixFileSystem.open(CWD, Buffer.from(dirname(evidence())), 'directory')
    const { v: _, kind, previous, ...line } = JSON.parse(evidenceLines().at(-2) ?? '') as Record<string, never>
    expect(kind).toBe('began')
    appendEvidence(posixFileSystem, directory, { kind: 'began', line: { ...line, drill: '0'.repeat(32) } as never })
    posixFileSystem.close(directory)
    const { code, events } = await place.json(['drill', '--history'])
    expect(code).toBe(0)
    expect(only(events, 'drill').at(-1)?.outcome).toBe('began')
    expect((await place.run(['drill', '--source', 'papers', '--whole'])).code).toBe(0)
    expect(readdirSync(join(dirname(evidence()), 'scratch'))).toEqual([])
    expect(previous).not.toBe('')
  })

  it('shows evidence that was changed', async () => {
    const lines = evidenceLines()
    writeFileSync(
      evidence(),
      `${lines.map((line, i) => (i === 1 ? line.replace('"outcome":"restored"', '"outcome":"failed"') : line)).join('\n')}\n`,
    )
    const { code, events } = await place.json(['drill', '--history'])
    expect(code).toBe(4)
    expect(only(events, 'problem').map(({ path }) => path)).toEqual([expect.stringMatching(/evidence\.jsonl, line 3$/)])
    writeFileSync(evidence(), `${lines.join('\n')}\n`)
    // Cut off by a crash: said, and no damage.
    truncateSync(evidence(), statSync(evidence()).size - 20)
    const torn = await place.json(['drill', '--history'])
    expect(torn.code).toBe(0)
    expect(only(torn.events, 'notice').map(({ message }) => message)).toEqual([expect.stringMatching(/1 lines? that/)])
  })

  const MISTAKES: readonly { args: readonly string[]; says: RegExp; code: string }[] = [
    { args: ['--files', '0'], says: /--files is a whole number/, code: 'usage' },
    { args: ['--source', 'nobody'], says: /no snapshot to drill .* of that source/, code: 'not-found' },
    { args: ['latest', '--source', 'papers'], says: /not both/, code: 'usage' },
    { args: ['--agent', 'ag_1'], says: /needs --agent, --to and --instruction/, code: 'usage' },
  ]
  it.each(MISTAKES)('refuses $args', async ({ args, says, code }) => {
    const { events, summary } = await place.json(['drill', ...args])
    expect(summary.code).toBe(code)
    expect(only(events, 'error')[0]?.message).toMatch(says)
  })
})
