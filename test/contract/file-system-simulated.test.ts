// Holds the simulated file system to the contract of the real one, and to what it promises beyond: crashes that lose only what was not synced.
import { describe, expect, test } from 'vitest'
import { CWD, FileError } from '../../agent/file-system/file-system.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { atFileCall, fromFileCall, simulatedFileSystem, type SimulatedFileSystem } from '../_support/simulated-file-system.ts'
import { SimulatedCrash } from '../_support/simulated-faults.ts'
import { errnoOf, fileSystemContract } from './file-system-contract.ts'

const b = (text: string): Buffer => Buffer.from(text)

fileSystemContract('simulated', () => {
  const fs = simulatedFileSystem({ clock: simulatedClock() })
  fs.makeDirectory(CWD, b('/contract'), 0o755)
  return { fs, root: b('/contract'), can: { root: true, attributes: true, acls: false, holes: true } }
})

function write(fs: SimulatedFileSystem, path: string, content: Buffer, sync: boolean): void {
  const fd = fs.open(CWD, b(path), 'create')
  fs.write(fd, content, 0)
  if (sync) fs.sync(fd)
  fs.close(fd)
}
function read(fs: SimulatedFileSystem, path: string): Buffer | undefined {
  try {
    const fd = fs.open(CWD, b(path), 'read')
    const into = Buffer.alloc(fs.stat(fd, b('')).size)
    fs.read(fd, into, 0, into.length, 0)
    fs.close(fd)
    return into
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
}

describe('a crash of the simulated file system', () => {
  const content = Buffer.alloc(20_000, 'x')

  test('keeps what was synced with its name, whatever the seed', () => {
    for (let seed = 0; seed < 50; seed++) {
      const fs = simulatedFileSystem({ clock: simulatedClock() })
      write(fs, '/temporary', content, true)
      fs.rename(CWD, b('/temporary'), CWD, b('/kept'), false)
      const root = fs.open(CWD, b('/'), 'directory')
      fs.sync(root)
      write(fs, '/other', content, false)
      fs.crash()
      expect(() => fs.stat(CWD, b('/kept'))).toThrow(SimulatedCrash)
      fs.reboot(seededRandom(`kept ${seed}`))
      expect(read(fs, '/kept')).toEqual(content)
      expect(read(fs, '/temporary')).toBeUndefined()
      expect(errnoOf(() => fs.stat(root, b('')))).toBe('EBADF')
    }
  })

  test('loses, tears or keeps what was not synced: every fate is met, and the same seed gives the same', () => {
    const fates = new Set<string>()
    const fate = (seed: number): string => {
      const fs = simulatedFileSystem({ clock: simulatedClock() })
      write(fs, '/temporary', content, false)
      fs.rename(CWD, b('/temporary'), CWD, b('/file'), false)
      fs.crash()
      fs.reboot(seededRandom(`fate ${seed}`))
      const [old, found] = [read(fs, '/temporary'), read(fs, '/file')]
      const what = (bytes: Buffer | undefined): string =>
        bytes === undefined ? 'absent' : bytes.length === 0 ? 'empty' : bytes.equals(content) ? 'whole' : 'torn'
      return `${what(old)} ${what(found)}`
    }
    for (let seed = 0; seed < 200; seed++) {
      fates.add(fate(seed))
      expect(fate(seed)).toBe(fate(seed))
    }
    for (const kind of ['empty', 'whole', 'torn']) {
      expect(fates).toContain(`absent ${kind}`)
      expect(fates).toContain(`${kind} absent`)
    }
    expect(fates).toContain('absent absent')
  })

  test('a plan fails one call, or every change from one call on', () => {
    const fs = simulatedFileSystem({ clock: simulatedClock() })
    fs.setFaults(atFileCall(2, 'EIO'))
    const fd = fs.open(CWD, b('/file'), 'create')
    expect(errnoOf(() => fs.write(fd, b('x'), 0))).toBe('EIO')
    fs.write(fd, b('y'), 0)
    fs.setFaults(fromFileCall(4, 'ENOSPC'))
    expect(errnoOf(() => fs.write(fd, b('z'), 0))).toBe('ENOSPC')
    expect(errnoOf(() => fs.makeDirectory(CWD, b('/directory'), 0o700))).toBe('ENOSPC')
    fs.close(fd)
    expect(read(fs, '/file')?.toString()).toBe('y')
    expect(fs.calls.slice(0, 3).map((call) => `${call.operation} ${call.path}`)).toEqual(['open /file', 'write /file', 'write /file'])
  })
})
