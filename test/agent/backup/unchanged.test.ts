// What a second run reads and stores: nothing of what is unchanged, little of what changed little, and never a file too few (B8).
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, readFile, type RunOptions, writeFile } from '../../_support/engine-fixture.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')
const SECOND = 1_000_000_000n

async function backedUp(options: { racy?: boolean; type?: number } = {}): Promise<Engine> {
  const engine = await makeEngine()
  const random = fixtureRandom('unchanged')
  if (options.type !== undefined) engine.fs.mount('/src', options.type)
  for (let i = 0; i < 20; i++) writeFile(engine, `/src/dir-${i % 3}/file-${i}`, random.bytes(300 * i))
  writeFile(engine, '/src/large', random.bytes(200_000))
  writeFile(engine, '/src/few/small', 'small')
  change(engine, (fs) => fs.makeSymlink(CWD, b('/src/link'), b('large')))
  if (options.racy !== true) engine.pass()
  await engine.backup()
  engine.fs.clearCalls()
  return engine
}

/** Runs once more and tells what it read and stored. */
async function again(engine: Engine, options: RunOptions = {}) {
  const packs = engine.bucket.names('packs/').length
  engine.fs.clearCalls()
  const run = await engine.backup(options)
  const read = engine.fs.calls.filter(({ operation, path }) => operation === 'read' && path.startsWith('/src')).map(({ path }) => path)
  expect(engine.newest()).toEqual(engine.source())
  return { run, read: [...new Set(read)].sort(), packs: engine.bucket.names('packs/').length - packs }
}

describe('a second run', () => {
  test('of an unchanged tree reads no file, opens no file and stores no blob', async () => {
    const engine = await backedUp()
    engine.pass()
    const { run, read, packs } = await again(engine)
    expect(read).toEqual([])
    expect(engine.fs.calls.filter(({ operation, path }) => operation === 'open' && /\/(file-|large|few\/)/.test(path))).toEqual([])
    expect(packs).toBe(0)
    expect(run.summary).toMatchObject({ filesNew: 0, filesChanged: 0, filesUnchanged: 22, bytesRead: 0, chunksNew: 0, bytesNew: 0 })
    expect(run.transmitted).toEqual([])
  })

  test('with --force reads everything and stores no chunk', async () => {
    const engine = await backedUp()
    engine.pass()
    const { run, read, packs } = await again(engine, { force: true })
    expect(read).toHaveLength(21)
    expect(packs).toBe(0)
    expect(run.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
  })

  test('stores about one chunk where one byte changed', async () => {
    const engine = await backedUp()
    change(engine, (fs) => {
      const fd = fs.open(CWD, b('/src/large'), 'update')
      fs.write(fd, b('X'), 100_000)
      fs.close(fd)
    })
    engine.pass()
    const { run, read } = await again(engine)
    expect(read).toEqual(['/src/large'])
    expect(run.summary.filesChanged).toBe(1)
    expect(run.summary.chunksNew).toBeGreaterThan(0)
    expect(run.summary.chunksNew).toBeLessThanOrEqual(2)
    expect(run.transmitted.map(({ path, size, newBytes }) => [path.toString(), size, newBytes])).toEqual([
      ['/src/large', 200_000, run.summary.bytesNew],
    ])
  })

  test('stores about one chunk where bytes were inserted at the front', async () => {
    const engine = await backedUp()
    writeFile(engine, '/src/large', Buffer.concat([b('inserted'), readFile(engine.fs, '/src/large')!]))
    engine.pass()
    const { run } = await again(engine)
    expect(run.summary.chunksNew).toBeLessThanOrEqual(3)
  })

  test('stores no data of files that were renamed or moved', async () => {
    const engine = await backedUp()
    change(engine, (fs) => {
      fs.rename(CWD, b('/src/large'), CWD, b('/src/zzz'), false)
      fs.rename(CWD, b('/src/dir-1/file-19'), CWD, b('/src/dir-2/moved'), false)
      fs.rename(CWD, b('/src/dir-0'), CWD, b('/src/renamed'), false)
    })
    engine.pass()
    const { run } = await again(engine)
    expect(run.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
    expect(run.transmitted).toEqual([])
  })

  test('keeps a change of mode, owner, time or attributes alone, and stores no data', async () => {
    const engine = await backedUp()
    change(engine, (fs) => {
      fs.setTimes(CWD, b('/src/large'), 5n * SECOND)
      fs.setMode(CWD, b('/src/dir-0/file-18'), 0o4711)
      fs.setOwner(CWD, b('/src/link'), 7, 8)
      fs.setAttribute(CWD, b('/src/dir-1'), b('user.a'), b('b'))
      fs.setTimes(CWD, b('/src/dir-2'), -5n)
    })
    engine.pass()
    const { run } = await again(engine)
    expect(run.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
  })

  test('notices a file that is changed in the same tick after it was read (B8)', async () => {
    const engine = await backedUp({ racy: true })
    const { mtimeNs } = engine.fs.quietly(() => engine.fs.stat(CWD, b('/src/large')))
    // As long as before, at the same time on the same clock: nothing but the content tells.
    writeFile(engine, '/src/large', fixtureRandom('same tick').bytes(200_000))
    expect(engine.fs.quietly(() => engine.fs.stat(CWD, b('/src/large')).mtimeNs)).toBe(mtimeNs)
    engine.pass()
    await again(engine)
  })

  test('notices a small file that is changed in the same tick', async () => {
    const engine = await backedUp({ racy: true })
    writeFile(engine, '/src/few/small', 'SMALL')
    engine.pass()
    await again(engine)
  })

  test('notices a change whose modification time was set back, by the change time', async () => {
    const engine = await backedUp()
    const { mtimeNs } = engine.fs.quietly(() => engine.fs.stat(CWD, b('/src/large')))
    engine.pass()
    writeFile(engine, '/src/large', fixtureRandom('set back').bytes(200_000))
    change(engine, (fs) => fs.setTimes(CWD, b('/src/large'), mtimeNs))
    engine.pass()
    const { read } = await again(engine)
    expect(read).toEqual(['/src/large'])
  })

  test('notices a file put in the place of another with the same size and time, by its inode', async () => {
    const engine = await backedUp()
    const { mtimeNs } = engine.fs.quietly(() => engine.fs.stat(CWD, b('/src/large')))
    change(engine, (fs) => {
      fs.remove(CWD, b('/src/large'), 'file')
    })
    writeFile(engine, '/src/large', fixtureRandom('in place').bytes(200_000))
    change(engine, (fs) => fs.setTimes(CWD, b('/src/large'), mtimeNs))
    engine.pass()
    await again(engine)
  })

  test('does not rely on inodes and change times where the file system does not keep them', async () => {
    const CIFS = 0xff534d42
    const engine = await backedUp({ type: CIFS })
    // As after a new mount: other inodes, other change times, the same content and modification times.
    change(engine, (fs) => {
      const all = [...engine.source().keys()].filter((path) => /file-|large/.test(path))
      for (const path of all) {
        const { mtimeNs } = fs.stat(CWD, b(path))
        const content = readFile(fs, path)!
        fs.remove(CWD, b(path), 'file')
        writeFile(engine, path, content)
        fs.setTimes(CWD, b(path), mtimeNs)
      }
    })
    engine.pass()
    const { read } = await again(engine)
    expect(read).toEqual([])
  })

  test('names an entry again that could not be read twice, and gives it back once it can be', async () => {
    const engine = await backedUp()
    const deny = (): void =>
      engine.fs.setFaults((call) => (call.path === '/src/link' && call.operation === 'readSymlink' ? 'EIO' : undefined))
    // A directory that has to be written anew, so that the link in it is read.
    writeFile(engine, '/src/other', 'other')
    engine.pass()
    for (let i = 0; i < 2; i++) {
      deny()
      const run = await engine.backup()
      expect(run.outcome).toBe('incomplete')
      expect(run.problems.map(({ path, code }) => [path.toString(), code])).toEqual([['/src/link', 'EIO']])
      engine.pass()
    }
    engine.fs.setFaults(() => undefined)
    expect((await again(engine)).run.outcome).toBe('done')
  })

  test('looks again for attributes that could not be read', async () => {
    const engine = await makeEngine()
    writeFile(engine, '/src/directory/file', 'x')
    change(engine, (fs) => {
      fs.makeSymlink(CWD, b('/src/directory/link'), b('file'))
      for (const path of ['/src/directory', '/src/directory/link', '/src']) fs.setAttribute(CWD, b(path), b('user.a'), b('b'))
    })
    engine.pass()
    engine.fs.setFaults((call) => (call.operation === 'readAttributes' ? 'EIO' : undefined))
    const run = await engine.backup()
    expect(run.outcome).toBe('incomplete')
    expect(run.problems.map(({ path, code }) => `${path.toString()} ${code}`).sort()).toContain('/src/directory attributes-EIO')
    engine.fs.setFaults(() => undefined)
    engine.pass()
    expect((await again(engine)).run.outcome).toBe('done')
  })
})

describe('the cache of what is unchanged', () => {
  const cachePath = (engine: Engine): string => {
    const fd = engine.fs.open(CWD, b('/state'), 'directory')
    const name = engine.fs.readDirectory(fd).find((one) => one.toString().startsWith('unchanged-'))!
    engine.fs.close(fd)
    return `/state/${name.toString()}`
  }

  test('costs reading and no upload when it is lost', async () => {
    const engine = await backedUp()
    change(engine, (fs) => fs.remove(CWD, b(cachePath(engine)), 'file'))
    engine.pass()
    const { run, packs } = await again(engine)
    expect(packs).toBe(0)
    expect(run.summary.bytesRead).toBeGreaterThan(200_000)
  })

  test('costs at most reading, whatever byte of it is wrong or wherever it ends', async () => {
    const engine = await backedUp()
    const path = cachePath(engine)
    const whole = engine.fs.quietly(() => readFile(engine.fs, path)!)
    const wanted = engine.source()
    const step = Math.max(1, Math.floor(whole.length / 60))
    const places = new Set([
      ...Array.from({ length: 60 }, (_, i) => i * step),
      ...Array.from({ length: 20 }, (_, i) => whole.length - 1 - i),
      8,
      12,
      28,
      60,
    ])
    for (const at of places) {
      for (const damaged of [Buffer.from(whole), whole.subarray(0, at)]) {
        if (damaged.length === whole.length) damaged[at]! ^= 0xff
        writeFile(engine, path, damaged)
        engine.pass()
        const run = await engine.backup({ dryRun: true })
        expect(run.outcome).toBe('done')
        expect(run.summary).toMatchObject({ chunksNew: 0, bytesNew: 0, files: 22 })
      }
    }
    writeFile(engine, path, whole.subarray(0, whole.length - 7))
    await engine.backup()
    expect(engine.newest()).toEqual(wanted)
  })

  test('is not used when it cannot be read', async () => {
    const engine = await backedUp()
    const path = cachePath(engine)
    engine.pass()
    engine.fs.setFaults((call) => (call.path === path && call.operation === 'read' ? 'EIO' : undefined))
    const { run } = await again(engine)
    expect(run.outcome).toBe('done')
    expect(run.summary.bytesRead).toBeGreaterThan(200_000)
  })

  test('holds no name and no content', async () => {
    const engine = await backedUp()
    const bytes = engine.fs.quietly(() => readFile(engine.fs, cachePath(engine))!)
    for (const word of ['file-', 'large', 'dir-', 'small']) expect(bytes.includes(word)).toBe(false)
  })

  test('counts for nothing once its snapshot or its blobs are gone from the store', async () => {
    const engine = await backedUp()
    for (const name of engine.bucket.names('packs/')) engine.bucket.tamper(name, () => undefined)
    for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => undefined)
    engine.pass()
    const { run } = await again(engine)
    expect(run.summary.bytesRead).toBeGreaterThan(200_000)
  })
})
