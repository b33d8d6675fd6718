// Files that are not what the walk saw by the time they are read: the run goes on, names them, and never mixes two states in silence.
import { describe, expect, test } from 'vitest'
import { CWD, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, readFile, type Run, writeFile } from '../../_support/engine-fixture.ts'
import type { FileCall } from '../../_support/simulated-file-system.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')
const FILE = '/src/busy'
const OLD = fixtureRandom('old').bytes(40_000)

/** Backs up a tree in which something happens to a file at calls of the engine that `when` picks. */
async function backupWhile(
  when: (call: FileCall, nth: number) => boolean,
  act: (fs: FileSystem, engine: Engine) => void,
  content: Buffer = OLD,
): Promise<{ engine: Engine; run: Run; problems: string[] }> {
  const engine = await makeEngine()
  writeFile(engine, FILE, content)
  writeFile(engine, '/src/quiet', 'here and whole')
  writeFile(engine, '/elsewhere', fixtureRandom('elsewhere').bytes(40_000))
  engine.pass()
  let nth = 0
  engine.fs.setFaults((call) => {
    if (call.path === FILE && when(call, ++nth)) change(engine, (fs) => act(fs, engine))
    return undefined
  })
  const run = await engine.backup()
  engine.fs.setFaults(() => undefined)
  return { engine, run, problems: run.problems.map(({ path, code }) => `${path.toString()} ${code}`) }
}

const once = (operation: string) => {
  let done = false
  return (call: FileCall): boolean => {
    if (done || call.operation !== operation) return false
    return (done = true)
  }
}
const always =
  (operation: string) =>
  (call: FileCall): boolean =>
    call.operation === operation

/** The next run, with nobody at the file, has all of it. */
async function settles(engine: Engine): Promise<void> {
  engine.pass()
  const run = await engine.backup()
  expect(run.outcome).toBe('done')
  expect(engine.newest()).toEqual(engine.source())
}

describe('a file replaced between the walk and the read', () => {
  const kinds: readonly [string, (fs: FileSystem) => void][] = [
    ['a fifo', (fs) => fs.makeNode(CWD, b(FILE), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })],
    ['a socket', (fs) => fs.makeNode(CWD, b(FILE), { kind: 'socket', mode: 0o600, major: 0, minor: 0 })],
    ['a device', (fs) => fs.makeNode(CWD, b(FILE), { kind: 'character-device', mode: 0o600, major: 1, minor: 5 })],
    ['a link', (fs) => fs.makeSymlink(CWD, b(FILE), b('/elsewhere'))],
    ['a directory', (fs) => fs.makeDirectory(CWD, b(FILE), 0o700)],
  ]
  test.each(kinds)('by %s is left out and named, and nothing else is read in its place', async (_, put) => {
    const { engine, run, problems } = await backupWhile(once('open'), (fs) => {
      fs.remove(CWD, b(FILE), 'file')
      put(fs)
    })
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} replaced`])
    expect(engine.newest().has(FILE)).toBe(false)
    expect(engine.newest().has('/src/quiet')).toBe(true)
    await settles(engine)
  })

  test('by another file is backed up as that one', async () => {
    const { engine, run } = await backupWhile(once('open'), (fs) => fs.rename(CWD, b('/elsewhere'), CWD, b(FILE), false))
    expect(run.outcome).toBe('done')
    expect(engine.newest().get(FILE)).toBe(engine.source().get(FILE))
    await settles(engine)
  })

  test('by nothing is named as vanished', async () => {
    const { engine, run, problems } = await backupWhile(once('open'), (fs) => fs.remove(CWD, b(FILE), 'file'))
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} vanished`])
    await settles(engine)
  })
})

describe('a file that changes while it is read', () => {
  const patch = (fs: FileSystem): void => {
    const fd = fs.open(CWD, b(FILE), 'update')
    fs.write(fd, b('patched'), 20_000)
    fs.close(fd)
  }

  test('once is read again and is good', async () => {
    let told = false
    const { engine, run } = await backupWhile(once('read'), (fs, machine) => {
      machine.clock.advance(1)
      patch(fs)
      told = true
    })
    expect(told).toBe(true)
    expect(run.outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
    await settles(engine)
  })

  test('once more while it rests before it is read again is named: a write may be under way in the second reading too', async () => {
    let isRead = false
    let stats = 0
    const { engine, run, problems } = await backupWhile(
      ({ operation }) => {
        if (operation === 'read' && !isRead) return (isRead = true)
        return isRead && operation === 'stat' && ++stats === 2
      },
      (fs, machine) => {
        machine.clock.advance(1)
        patch(fs)
      },
    )
    expect(stats).toBeGreaterThan(2)
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} changed`])
    await settles(engine)
  })

  test('all the time is kept as it was found and named', async () => {
    const { engine, run, problems } = await backupWhile(always('read'), (fs, machine) => {
      machine.clock.advance(1)
      patch(fs)
    })
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} changed`])
    expect(engine.newest().get(FILE)).toMatch(/changed$/)
    expect(run.transmitted.find(({ path }) => path.toString() === FILE)).toMatchObject({ changed: true })
    await settles(engine)
  })

  test('by being cut off has the length that was read', async () => {
    let size = 39_000
    const { engine, run, problems } = await backupWhile(always('read'), (fs, machine) => {
      machine.clock.advance(1)
      const fd = fs.open(CWD, b(FILE), 'update')
      fs.truncate(fd, (size -= 5000))
      fs.close(fd)
    })
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} changed`])
    expect(engine.newest().get(FILE)).toMatch(/changed$/)
    await settles(engine)
  })

  test('by growing without end is read to where it ended, and named', async () => {
    const { engine, run, problems } = await backupWhile(always('read'), (fs, machine) => {
      machine.clock.advance(1)
      const fd = fs.open(CWD, b(FILE), 'append')
      fs.write(fd, fixtureRandom('more').bytes(50_000), null)
      fs.close(fd)
    })
    expect(run.outcome).toBe('incomplete')
    expect(problems).toEqual([`${FILE} changed`])
    expect(engine.newest().get(FILE)).toMatch(/changed$/)
    await settles(engine)
  })

  test('a small file that shrinks or grows all the time is named', async () => {
    for (const size of [3, 5000]) {
      let add = 0
      const { engine, run, problems } = await backupWhile(
        always('read'),
        (_, machine) => {
          machine.clock.advance(1)
          writeFile(machine, FILE, Buffer.alloc(size + add++, 's'))
        },
        b('a small file of some bytes'),
      )
      expect(run.outcome).toBe('incomplete')
      expect(problems).toEqual([`${FILE} changed`])
      expect(engine.newest().get(FILE)).toMatch(/changed$/)
      await settles(engine)
    }
  })

  test('a file with holes that is cut off while it is read still reads back', async () => {
    const engine = await makeEngine()
    change(engine, (fs) => {
      const fd = fs.open(CWD, b(FILE), 'create')
      for (const at of [0, 100_000, 200_000]) fs.write(fd, fixtureRandom(`piece ${at}`).bytes(20_000), at)
      fs.truncate(fd, 300_000)
      fs.close(fd)
    })
    engine.pass()
    let stats = 0
    engine.fs.setFaults((call) => {
      if (call.path === FILE && call.operation === 'stat') stats += 1
      if (call.path !== FILE || call.operation !== 'read') return undefined
      engine.clock.advance(1)
      // The first try only finds a new time; the second loses the end of what it has begun to read.
      change(engine, (fs) => {
        if (stats < 2) return fs.setTimes(CWD, b(FILE), 1n)
        const fd = fs.open(CWD, b(FILE), 'update')
        fs.truncate(fd, 205_000)
        fs.close(fd)
      })
      return undefined
    })
    const run = await engine.backup()
    engine.fs.setFaults(() => undefined)
    expect(run.outcome).toBe('incomplete')
    expect(engine.newest().get(FILE)).toMatch(/changed$/)
    await settles(engine)
  })
})

describe('what cannot be read', () => {
  test('a file without permission is named, left out, and there again when it can be read', async () => {
    const engine = await makeEngine()
    writeFile(engine, FILE, OLD)
    writeFile(engine, '/src/quiet', 'here')
    engine.pass()
    await engine.backup()
    writeFile(engine, FILE, fixtureRandom('newer').bytes(1000))
    engine.pass()
    engine.fs.setFaults((call) => (call.path === FILE && call.operation === 'open' ? 'EACCES' : undefined))
    const run = await engine.backup()
    expect(run.outcome).toBe('incomplete')
    expect(run.problems.map(({ path, code }) => [path.toString(), code])).toEqual([[FILE, 'EACCES']])
    expect([...engine.newest().keys()]).toEqual(['/src', '/src/quiet'])
    engine.fs.setFaults(() => undefined)
    await settles(engine)
  })

  test('a file with an error in the middle is named, not cut short', async () => {
    const engine = await makeEngine()
    writeFile(engine, FILE, fixtureRandom('long').bytes(400_000))
    writeFile(engine, '/src/quiet', 'here')
    let reads = 0
    engine.fs.setFaults((call) => (call.path === FILE && call.operation === 'read' && ++reads === 3 ? 'EIO' : undefined))
    const run = await engine.backup()
    expect(reads).toBeGreaterThanOrEqual(3)
    expect(run.outcome).toBe('incomplete')
    expect(run.problems.map(({ code }) => code)).toEqual(['EIO'])
    expect(engine.newest().has(FILE)).toBe(false)
    await settles(engine)
  })

  test('a directory that cannot be entered or listed is named; the rest is there', async () => {
    for (const operation of ['open', 'readDirectory', 'stat']) {
      const engine = await makeEngine()
      writeFile(engine, '/src/closed/file', 'inside')
      writeFile(engine, '/src/open/file', 'inside')
      engine.pass()
      await engine.backup()
      engine.fs.setFaults((call) => (call.path === '/src/closed' && call.operation === operation ? 'EACCES' : undefined))
      for (let i = 0; i < 2; i++) {
        engine.pass()
        const run = await engine.backup()
        expect(run.outcome).toBe('incomplete')
        expect(run.problems.map(({ path, code }) => `${path.toString()} ${code}`)).toEqual(['/src/closed EACCES'])
        expect(engine.newest().has('/src/open/file')).toBe(true)
        expect(engine.newest().has('/src/closed/file')).toBe(false)
      }
      engine.fs.setFaults(() => undefined)
      await settles(engine)
      expect(readFile(engine.fs, '/src/closed/file')?.toString()).toBe('inside')
    }
  })
})
