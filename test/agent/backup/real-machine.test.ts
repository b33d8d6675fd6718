// The engine as it runs for users: worker threads and the file system of this machine, with everything on it that backups are known to lose;
// and standard input.
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { DEFAULT_CHUNKING } from '../../../agent/repository/repository.ts'
import { buildAwkwardTree } from '../../_support/awkward-tree.ts'
import { atOperation, onNames } from '../../_support/simulated-store.ts'
import { type Engine, fixtureRandom, makeEngine, type RunOptions, treeOf } from '../../_support/engine-fixture.ts'

const directories: string[] = []
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true })
})

async function machine(): Promise<{ engine: Engine; source: string; run: (options?: RunOptions) => ReturnType<Engine['backup']> }> {
  const directory = mkdtempSync(join(tmpdir(), 'engine-'))
  directories.push(directory)
  const source = join(directory, 'source')
  mkdirSync(source)
  // An hour on, so that nothing that a test makes is so new that it is read again.
  const engine = await makeEngine({
    seed: directory,
    fileSystem: posixFileSystem,
    chunking: DEFAULT_CHUNKING,
    startMs: Date.now() + 3_600_000,
  })
  const run = (options: RunOptions = {}): ReturnType<Engine['backup']> =>
    engine.backup({ paths: [source], state: join(directory, 'state'), limits: { workers: 2 }, ...options })
  return { engine, source, run }
}

describe('on this machine, with worker threads', () => {
  test('an awkward tree comes back entry by entry, and its second run stores nothing', async () => {
    const { engine, source, run } = await machine()
    buildAwkwardTree(source, { ordinary: 300, hugeHoleBytes: 64 * 1024 * 1024 })
    const first = await run()
    expect(first.outcome).toBe('done')
    const wanted = treeOf(posixFileSystem, [source])
    expect(engine.newest()).toEqual(wanted)
    // Files whose times lie in the future may change again without a trace, so they alone are read again.
    const future = [...wanted.values()].filter(
      (text) => text.startsWith('file') && BigInt(text.split(' ')[3]!) > BigInt(engine.clock.now()) * 1_000_000n,
    )
    const second = await run()
    expect(second.summary).toMatchObject({ filesNew: 0, chunksNew: 0, bytesNew: 0 })
    expect(second.summary.filesChanged).toBeLessThanOrEqual(future.length)
    expect(engine.newest()).toEqual(wanted)
  })

  test('threads and one thread in place store the same chunks', async () => {
    const { engine, source, run } = await machine()
    const random = fixtureRandom('threads')
    for (let i = 0; i < 40; i++) writeFileSync(join(source, `file-${i}`), random.bytes(200_000 + i))
    writeFileSync(join(source, 'large'), random.bytes(9_000_000))
    await run()
    const again = await run({ label: 'in place', limits: { workers: 0 } })
    expect(again.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
    const reader = engine.reader()
    const [one, other] = reader.snapshots.map(reader.tree)
    expect(other).toEqual(one)
  })

  test('runs that end at once, good or bad, do not take the process with their threads', async () => {
    const { engine, source, run } = await machine()
    writeFileSync(join(source, 'file'), fixtureRandom('short').bytes(2_000_000))
    for (let i = 0; i < 3; i++) {
      await run({ force: true, limits: { workers: 4 } })
      engine.setStoreFaults(onNames('packs/', atOperation('put', { kind: 'fail', when: 'before', code: 'store-full' })))
      writeFileSync(join(source, 'file'), fixtureRandom(`short ${i}`).bytes(12_000_000))
      await expect(run({ limits: { workers: 4, packBytes: 1_000_000 } })).rejects.toMatchObject({ code: 'store-full' })
      engine.setStoreFaults(() => [])
      await run()
    }
  })

  test('a second run in the same state directory at once is refused', async () => {
    const { source, run } = await machine()
    writeFileSync(join(source, 'file'), fixtureRandom('lock').bytes(3_000_000))
    const results = await Promise.allSettled([run(), run({ label: 'beside' })])
    const refused = results.filter((result) => result.status === 'rejected')
    expect(refused).toHaveLength(1)
    expect(refused[0]!.reason).toMatchObject({ code: 'conflict' })
  })
})

describe('standard input', () => {
  test.each([
    ['a file', 0],
    ['a file', 3_000_000],
  ])('from %s of %i bytes is one file at the root', async (_, size) => {
    const { engine, source, run } = await machine()
    const content = fixtureRandom(`stdin ${size}`).bytes(size)
    writeFileSync(join(source, 'content'), content)
    const fd = openSync(join(source, 'content'), 'r')
    const result = await run({ source: { stdin: { name: Buffer.from('dump.sql'), fd } } })
    closeSync(fd)
    expect(result).toMatchObject({ outcome: 'done', snapshot: { files: 1, directories: 1, bytes: size } })
    expect([...engine.newest()].map(([path, text]) => [path, text.includes(`${size} bytes`)])).toEqual([['/dump.sql', true]])
  })

  test('from a pipe that comes in pieces is read to its end', async () => {
    const { engine, source, run } = await machine()
    const content = fixtureRandom('pipe').bytes(5_000_000)
    writeFileSync(join(source, 'content'), content)
    const fifo = join(source, 'fifo')
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0)
    const writer = spawn('sh', ['-c', 'dd if=content bs=7000 of=fifo 2>/dev/null'], { cwd: source, stdio: 'ignore' })
    const ended = new Promise((resolve) => writer.on('close', resolve))
    const fd = openSync(fifo, 'r')
    const result = await run({ source: { stdin: { name: Buffer.from('dump'), fd } } })
    closeSync(fd)
    await ended
    expect(result.summary.bytes).toBe(content.length)
    writeFileSync(join(source, 'again'), content)
    const direct = openSync(join(source, 'again'), 'r')
    const again = await run({ source: { stdin: { name: Buffer.from('dump'), fd: direct } } })
    closeSync(direct)
    // The same bytes give the same chunks, however they came.
    expect(again.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
    expect(statSync(join(source, 'again')).size).toBe(engine.reader().entries(engine.reader().snapshots[1]!).get('/dump')!.size)
  })

  test('that cannot be read makes no snapshot', async () => {
    const { engine, source, run } = await machine()
    const fd = openSync(source, 'r')
    await expect(run({ source: { stdin: { name: Buffer.from('dump'), fd } } })).rejects.toMatchObject({ code: 'source-unreadable' })
    closeSync(fd)
    expect(engine.bucket.names('snapshots/')).toEqual([])
  })
})
