// Evidence of drills: appended, chained, kept through crashes; what was changed or taken out later shows.
import { beforeEach, describe, expect, test } from 'vitest'
import { openStateDirectory } from '../../../agent/backup/state-lock.ts'
import { appendEvidence, readEvidence } from '../../../agent/drill/evidence.ts'
import { keepPlace, placeOfSeries } from '../../../agent/drill/rotation.ts'
import { CWD, type Descriptor } from '../../../agent/file-system/file-system.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { simulatedFileSystem, type SimulatedFileSystem } from '../../_support/simulated-file-system.ts'
import { fixtureRandom, readFile, writeFile } from '../../_support/engine-fixture.ts'

const FILE = '/drills/evidence.jsonl'
const hex = (digit: number, length = 32): string => digit.toString(16).repeat(length)
const at = '2027-01-31T12:00:00.000Z'
const about = (i: number) => ({ at, drill: hex(i), snapshotId: hex(1), series: hex(2, 64) })

let fs: SimulatedFileSystem
let directory: Descriptor
beforeEach(() => {
  fs = simulatedFileSystem({ clock: simulatedClock({ autoMs: Infinity }) })
  directory = openStateDirectory(fs, Buffer.from('/drills'))
  fs.syncAll()
})

function append(i: number): void {
  const sample = { sampleHash: hex(3, 64), whole: false, from: 0, next: 7 }
  appendEvidence(fs, directory, { kind: 'began', line: { ...about(i), repository: '/repo', host: 'h', program: 'p', ...sample } })
  const counts = { files: 1, bytes: 2, entriesCompared: 3, bytesCompared: 4, ofFiles: 5, ofBytes: 6 }
  const ended = {
    ...about(i),
    outcome: 'restored' as const,
    ...counts,
    problems: [{ token: hex(4, 64), code: 'damaged' }],
    problemCount: 1,
  }
  appendEvidence(fs, directory, { kind: 'ended', line: ended })
}
const text = (): string => readFile(fs, FILE)?.toString() ?? ''
const lines = (): string[] => text().trimEnd().split('\n')

describe('evidence', () => {
  test('comes back as it was put down, each line naming the one before', () => {
    append(5)
    append(6)
    const read = readEvidence(fs, directory)
    expect(read).toMatchObject({ broken: [], torn: 0 })
    expect(read.lines.map(({ kind, drill }) => `${kind} ${drill[0]}`)).toEqual(['began 5', 'ended 5', 'began 6', 'ended 6'])
    expect(new Set(read.lines.map(({ previous }) => previous)).size).toBe(4)
  })

  const CHANGES: readonly { what: string; change: (all: string[]) => string[]; broken: number[] }[] = [
    {
      what: 'changed in its middle',
      change: (all) => all.map((one, i) => (i === 1 ? one.replace('"bytes":2', '"bytes":3') : one)),
      broken: [3],
    },
    { what: 'without one of its lines', change: (all) => all.filter((_, i) => i !== 1), broken: [2] },
    { what: 'without its first line', change: (all) => all.slice(1), broken: [1] },
    { what: 'in another order', change: ([a, b, c, d]) => [a!, c!, b!, d!], broken: [2, 3, 4] },
    { what: 'with a line made unreadable', change: (all) => all.map((one, i) => (i === 1 ? one.slice(4) : one)), broken: [3] },
  ]
  test.each(CHANGES)('$what shows where', ({ change, broken }) => {
    append(5)
    append(6)
    writeFile({ fs }, FILE, `${change(lines()).join('\n')}\n`)
    expect(readEvidence(fs, directory).broken).toEqual(broken)
  })

  test('that a crash cut off goes on in a line of its own, twice over', () => {
    append(5)
    for (const torn of ['{"at":"2027', '{"at"']) {
      writeFile({ fs }, FILE, `${text()}${torn}`)
      const before = readEvidence(fs, directory)
      expect(before.broken).toEqual([])
      append(7)
    }
    expect(readEvidence(fs, directory)).toMatchObject({ broken: [], torn: 2 })
    expect(readEvidence(fs, directory).lines).toHaveLength(6)
  })

  test('is durable when it was said: a machine that dies afterwards loses none', () => {
    for (let i = 1; i < 8; i++) {
      append(i)
      fs.crash()
      fs.reboot(fixtureRandom(`crash ${i}`))
      directory = openStateDirectory(fs, Buffer.from('/drills'))
      expect(readEvidence(fs, directory).lines).toHaveLength(2 * i)
    }
  })

  test('that cannot be written is an error, not a drill without evidence', () => {
    fs.makeDirectory(CWD, Buffer.from(FILE), 0o700)
    expect(() => append(1)).toThrow(expect.objectContaining({ code: 'local-disk' }))
  })
})

describe('the place of the next sample', () => {
  test('is kept for each series, and is nowhere where the file is lost or is none', () => {
    keepPlace(fs, directory, hex(1, 64), 5)
    keepPlace(fs, directory, hex(2, 64), 6)
    keepPlace(fs, directory, hex(1, 64), 7)
    expect([1, 2, 3].map((i) => placeOfSeries(fs, directory, hex(i, 64)))).toEqual([7, 6, undefined])
    for (const content of ['', '{"v":1,"series":{"x":1}}', 'null', '[']) {
      writeFile({ fs }, '/drills/rotation.json', content)
      expect(placeOfSeries(fs, directory, hex(1, 64))).toBeUndefined()
    }
  })
})
