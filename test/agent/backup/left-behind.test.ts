// What an earlier run left in the state directory is a hint too: the store may have changed under it, and the local disk may not have kept what it was told.
import { describe, expect, test } from 'vitest'
import { CWD, FileError, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, type Run, writeFile } from '../../_support/engine-fixture.ts'
import { noFaults } from '../../_support/simulated-store.ts'

async function withFiles(files: number, packBytes: number): Promise<Engine> {
  const engine = await makeEngine({ limits: { packBytes } })
  for (let i = 0; i < files; i++) {
    writeFile(engine, `/src/file-${i}`, fixtureRandom(`left behind ${i}`).bytes(5000))
    // Owners share no segment.
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  engine.pass()
  return engine
}

/** The file system with one of its calls replaced. */
function but(fs: FileSystem, calls: Partial<FileSystem>): FileSystem {
  return new Proxy(fs, { get: (target, property: keyof FileSystem) => calls[property] ?? target[property] })
}

test('a pack of a large file that did not come back is stored anew, though the file is as before', async () => {
  const engine = await makeEngine({ limits: { packBytes: 120_000 } })
  // Its chunks stand in a list, which is taken over without looking each of them up.
  writeFile(engine, '/src/large', fixtureRandom('large').bytes(600_000))
  engine.pass()
  await engine.backup({
    // The local disk does not let go of what is known to be durable.
    fileSystem: but(engine.fs, {
      remove: (directory, name, kind) => {
        if (name.toString().endsWith('.footer')) throw new FileError('unlinkat', 'EIO')
        engine.fs.remove(directory, name, kind)
      },
    }),
  })
  engine.pass()
  const rotten = engine.bucket.names('packs/')[0]!
  engine.bucket.tamper(rotten, (bytes) => bytes?.fill(bytes[100]! ^ 1, 100, 101))
  await expect(engine.backup()).rejects.toMatchObject({ code: 'damaged' })
  const { summary } = await engine.backup()
  expect(summary.filesUnchanged).toBe(0)
  engine.bucket.tamper(rotten, () => undefined)
  expect(engine.newest()).toEqual(engine.source())
})

describe('a pack that an interrupted run knows to be durable', () => {
  test('and that the store has cut since is stored anew: an index file would call it whole', async () => {
    const engine = await withFiles(24, 4000)
    engine.setStoreFaults(({ operation, name }) =>
      operation === 'put' && name.startsWith('index/') ? [{ kind: 'crash', when: 'before' }] : [],
    )
    await expect(engine.backup()).rejects.toThrow()
    engine.reboot()
    engine.setStoreFaults(noFaults)
    const cut = engine.bucket.names('packs/')[0]!
    engine.bucket.tamper(cut, (bytes) => bytes?.subarray(0, 4000))
    const run: Run = await engine.backup()
    expect(run.notices.join()).toMatch(/dropped .* of an interrupted run/)
    engine.bucket.tamper(cut, () => undefined)
    expect(engine.newest()).toEqual(engine.source())
  })
})

test('a bit that the local disk flips in an open pack ends the run before the pack is uploaded, and is not laid to the store', async () => {
  const engine = await withFiles(3, 1_000_000)
  const fileSystem = but(engine.fs, {
    read: (fd, into, at, length, position) => {
      const read = engine.fs.read(fd, into, at, length, position)
      const opened = engine.fs.calls.findLast((call) => call.operation === 'open')
      if (opened?.path.endsWith('.part') === true && read > 100) into[at]! ^= 1
      return read
    },
  })
  await expect(engine.backup({ fileSystem })).rejects.toMatchObject({ code: 'local-disk' })
  expect(engine.bucket.names('packs/')).toEqual([])
})
