// The rotation: every pack is read within the days that were asked for where a check runs at least once a day, whatever becomes of the local record of
// what was read; days on which nothing ran are made up for.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryReadLog, openReadLog, type ReadLog } from '../../../agent/check/read-log.ts'
import { dayOf, isDue } from '../../../agent/check/rotation.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { rotatingSeed } from '../../_support/soak.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { fromFileCall, simulatedFileSystem } from '../../_support/simulated-file-system.ts'

const HOUR = 3_600_000
const names = (count: number, seed: string): string[] => {
  const random = seededRandom(seed)
  return Array.from({ length: count }, () => random.bytes(16).toString('hex'))
}

/** What a check does with its record: reads what is due, notes the rest as seen. Gives what was read. */
function run(log: ReadLog, packs: readonly string[], days: number, now: number): string[] {
  const today = dayOf(now)
  const due = packs.filter((random) => isDue(random, log.of(random), days, today))
  for (const random of packs) if (log.of(random) === undefined) log.note(random, { day: today, read: false, damaged: false })
  for (const random of due) log.note(random, { day: today, read: true, damaged: false })
  return due
}

const seed = Number.parseInt(seededRandom(rotatingSeed()).bytes(4).toString('hex'), 16) | 0

test('with a run at least once in 24 hours no pack waits longer than the days asked for, also new ones, and with the record lost at any time', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.record({ hours: fc.integer({ min: 1, max: 24 }), lost: fc.boolean(), more: fc.integer({ min: 0, max: 2 }) }), {
        minLength: 100,
        maxLength: 200,
      }),
      fc.string(),
      (days, steps, text) => {
        const all = names(20 + steps.length * 2, text)
        let packs = all.slice(0, 20)
        // Since when each waits to be read: when it was read last, or stored.
        const since = new Map(packs.map((random) => [random, 0]))
        let log = memoryReadLog()
        let now = 0
        for (const { hours, lost, more } of steps) {
          const stored = now
          now += hours * HOUR
          for (const random of all.slice(packs.length, packs.length + more)) since.set(random, stored)
          packs = all.slice(0, packs.length + more)
          if (lost) log = memoryReadLog()
          for (const random of run(log, packs, days, now)) since.set(random, now)
          for (const random of packs)
            if (now - since.get(random)! > days * 24 * HOUR) throw new Error(`${random} has waited since ${since.get(random)}`)
        }
      },
    ),
    { seed, numRuns: 200 },
  )
})

test('reads about a thirtieth a day, each pack once in a cycle', () => {
  const packs = names(3000, 'even')
  const log = memoryReadLog()
  const counts = Array.from({ length: 29 }, (_, day) => run(log, packs, 30, (1000 + day) * 24 * HOUR).length)
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(3000)
  expect(Math.max(...counts)).toBeLessThan(160)
})

test('makes up for days on which nothing ran, at the first run after them', () => {
  const packs = names(300, 'missed')
  const log = memoryReadLog()
  for (let day = 0; day < 10; day++) run(log, packs, 11, day * 24 * HOUR)
  const afterwards = run(log, packs, 11, 14 * 24 * HOUR)
  const missed = packs.filter((random) => [10, 11, 12, 13, 14].some((day) => day % 10 === Number.parseInt(random.slice(2, 14), 16) % 10))
  expect(afterwards.sort()).toEqual(missed.sort())
})

test('a clock that was years ahead for a while does not keep packs from being read', () => {
  const packs = names(50, 'clock')
  const log = memoryReadLog()
  run(log, packs, 1, 20_000 * 24 * HOUR)
  const read = new Set<string>()
  for (let day = 100; day < 110; day++) for (const random of run(log, packs, 5, day * 24 * HOUR)) read.add(random)
  expect(read.size).toBe(50)
})

test('a pack that was damaged is read every time', () => {
  expect(isDue('00'.repeat(16), { day: 50, read: true, damaged: true }, 30, 50)).toBe(true)
  expect(isDue('00'.repeat(16), { day: 50, read: true, damaged: false }, 30, 50)).toBe(false)
})

test('the record lasts, and is an empty one where the file is cut, changed or cannot be written', () => {
  const fs = simulatedFileSystem({ clock: simulatedClock({ autoMs: Infinity }) })
  fs.makeDirectory(CWD, Buffer.from('/state'), 0o700)
  const directory = fs.open(CWD, Buffer.from('/state'), 'directory')
  const [one, two] = names(2, 'log') as [string, string]
  const log = openReadLog(fs, directory)
  log.note(one, { day: 7, read: true, damaged: true })
  log.note(two, { day: 8, read: false, damaged: false })
  expect(log.save()).toBe(true)
  const again = openReadLog(fs, directory)
  expect([again.of(one), again.of(two), again.damaged()]).toEqual([
    { day: 7, read: true, damaged: true },
    { day: 8, read: false, damaged: false },
    [one],
  ])
  again.keepOnly(new Set([two]))
  expect(again.save()).toBe(true)
  expect(openReadLog(fs, directory).damaged()).toEqual([])
  const fd = fs.open(directory, Buffer.from('reads'), 'update')
  fs.write(fd, Buffer.from([9]), 20)
  fs.close(fd)
  expect(openReadLog(fs, directory).of(two)).toBeUndefined()
  fs.clearCalls()
  fs.setFaults(fromFileCall(1, 'ENOSPC'))
  expect(openReadLog(fs, directory).save()).toBe(false)
})
