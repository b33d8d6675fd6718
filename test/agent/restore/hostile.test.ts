// Hostile repositories and hostile targets: nothing is written, read, linked or changed outside the target, also as root, and what is wrong
// is named.
import { execFileSync } from 'node:child_process'
import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import type { FileSystem } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { restoreSnapshot } from '../../../agent/restore/restore.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import {
  buildRepository,
  directory,
  file,
  type FixtureDirectory,
  type FixtureNode,
  openBuilt,
  RepositoryBuilder,
  symlink,
} from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const asRoot = process.getuid?.() === 0
const work = folders()
afterAll(() => work.removeAll())

let base: string
let target: string
let outside: string
beforeEach(() => {
  base = work.make()
  target = join(base, 'target')
  outside = join(base, 'outside')
  mkdirSync(target)
  mkdirSync(outside)
  writeFileSync(join(outside, 'secret'), 'secret', { mode: 0o600 })
})

/** Everything about what is outside the target: it must be the same after as before. */
function outsideState(): string {
  return (
    execFileSync('find', [outside, '-printf', '%p %y %m %U %s %T@ %n\\n'], { encoding: 'utf8' }) +
    readFileSync(join(outside, 'secret'), 'utf8')
  )
}

async function restoreTree(tree: FixtureDirectory, more: Parameters<typeof optionsFor>[2] = {}) {
  const built = await buildRepository({ store: memoryStore(), tree })
  const before = outsideState()
  const report = await restoreSnapshot(optionsFor(built, target, more))
  expect(outsideState()).toBe(before)
  expect(readdirSync(base).sort()).toEqual(['outside', 'target'])
  return { report, built }
}

const codes = (report: { problems: readonly { code: string; path: Buffer }[] }): string[] =>
  report.problems.map(({ code, path }) => `${path.toString()} ${code}`)

describe('a hostile repository', () => {
  test.each([
    ['..', '..'],
    ['.', '.'],
    ['a slash', 'a/b'],
    ['an absolute path', '/etc/passwd'],
    ['a climb', '../outside/planted'],
    ['a NUL', 'a\0b'],
    ['nothing', ''],
  ])('with a name that is %s has that directory refused and the others restored', async (_, name) => {
    const bad: [Buffer, FixtureNode][] = [[Buffer.from(name), file('planted')]]
    const { report } = await restoreTree(directory({ bad: directory(bad), good: directory({ fine: file('fine') }) }))
    expect(codes(report)).toEqual(['/bad damaged'])
    expect(namesIn(target)).toEqual(['bad/', 'good/', 'good/fine'])
  })

  test('with one name twice, a link and a directory, writes nothing through the link', async () => {
    const twice: [Buffer, FixtureNode][] = [
      [Buffer.from('a'), symlink('../outside')],
      [Buffer.from('a'), directory({ planted: file('planted') })],
    ]
    const { report } = await restoreTree(directory(twice))
    expect(report.problems[0]!.code).toBe('damaged')
    // The same, across two pages of a directory.
    const paged = await restoreTree(directory(twice, { pageEntries: 1 }))
    expect(paged.report.problems[0]!.code).toBe('damaged')
    expect(readdirSync(outside)).toEqual(['secret'])
  })

  test('with links to places outside restores the links and follows none', async () => {
    const { report } = await restoreTree(
      directory({
        absolute: symlink(outside),
        file: symlink(join(outside, 'secret'), { mode: 0o777, uid: 0, link: { volume: 1, inode: 7n } }),
        // A hard link whose first name is a symbolic link: the link is linked, not what it leads to.
        'file-again': symlink(join(outside, 'secret'), { mode: 0o777, uid: 0, link: { volume: 1, inode: 7n } }),
      }),
    )
    expect(report.problems).toEqual([])
    expect(readlinkSync(join(target, 'file-again'))).toBe(join(outside, 'secret'))
    expect(lstatSync(join(target, 'file-again')).nlink).toBe(2)
    expect(statSync(join(outside, 'secret')).nlink).toBe(1)
  })

  test('with damaged, missing or mislabelled chunks leaves those files out, names them, and restores the rest', async () => {
    const store = memoryStore()
    const builder = new RepositoryBuilder({ store, segmentBytes: 1000 })
    await builder.begin()
    await builder.blob(1, '1'.repeat(64), Buffer.alloc(5000, 1))
    await builder.segment(1, Buffer.alloc(9 << 20), [{ id: '2'.repeat(64), bytes: 500 }], { plainBytes: 500 })
    const root = await builder.directory(
      directory({
        bomb: file('', { ids: ['2'.repeat(64)], size: 500 }),
        fine: file(seededRandom('fine').bytes(4000)),
        large: file('', { ids: ['1'.repeat(64), '3'.repeat(64)], size: 50 << 20 }),
        long: file('', { ids: ['1'.repeat(64)], size: 4999 }),
        mislabelled: file('', { ids: ['1'.repeat(64)], size: 5000 }),
        missing: file('', { ids: ['3'.repeat(64)], size: 5000 }),
        'no-node': directory({}, { node: '4'.repeat(64) }),
        // A file whose node is taken for a directory, and the other way round.
        'wrong-type': directory({}, { node: await builder.directory(directory({ x: file('x') })) }),
      }),
    )
    await builder.finish(root)
    const built = await openBuilt(store, builder)
    const report = await restoreSnapshot(optionsFor(built, target))
    expect(codes(report).sort()).toEqual(['bomb', 'large', 'long', 'mislabelled', 'missing', 'no-node'].map((name) => `/${name} damaged`))
    expect(report).toMatchObject({ files: 2, failed: 5 })
    expect(namesIn(target)).toEqual(['fine', 'no-node/', 'wrong-type/', 'wrong-type/x'])
    expect(readFileSync(join(target, 'fine')).equals(seededRandom('fine').bytes(4000))).toBe(true)
  })

  test('whose store fails in the middle aborts the restore with the store’s error, and the next try completes', async () => {
    const store = memoryStore()
    const content = seededRandom('content').bytes(300_000)
    const built = await buildRepository({ store, tree: directory({ a: file(content), b: file('b') }), packBytes: 1 })
    let ranges = 0
    const { HoldfastError } = await import('@holdfast/shared/errors.ts')
    store.fault = (call) => ((ranges += call === 'range' ? 1 : 0) > 2 ? new HoldfastError('store-unreachable', 'gone') : undefined)
    await expect(restoreSnapshot(optionsFor(built, target))).rejects.toMatchObject({ code: 'store-unreachable' })
    store.fault = undefined
    expect(await restoreSnapshot(optionsFor(built, target))).toMatchObject({ problems: [], beside: 0 })
    expect(readFileSync(join(target, 'a')).equals(content)).toBe(true)
    expect(namesIn(target)).toEqual(['a', 'b'])
  })
})

describe('a target with things planted in it', () => {
  const tree = () => directory({ d: directory({ f: file('content'.repeat(100)) }), f: file('content'.repeat(100)) })

  test('a link where a directory goes is not entered: the directory lands beside it', async () => {
    symlinkSync(outside, join(target, 'd'))
    const { report, built } = await restoreTree(tree())
    const beside = `d.restored-${built.snapshot.structure.ref.random.slice(0, 8)}`
    expect(namesIn(target)).toEqual(['d', `${beside}/`, `${beside}/f`, 'f'])
    expect(report.beside).toBe(1)
    const again = await restoreSnapshot(optionsFor(built, target))
    expect(again).toMatchObject({ files: 0, directories: 0, problems: [] })
  })

  test('a link where a directory goes is replaced where that was asked for, and what it led to is untouched', async () => {
    symlinkSync(outside, join(target, 'd'))
    await restoreTree(tree(), { overwrite: 'changed' })
    expect(namesIn(target)).toEqual(['d/', 'd/f', 'f'])
  })

  test('a link, a hard link and a device where a file goes keep what they lead to as it was', async () => {
    for (const overwrite of ['beside', 'changed', 'always', 'never'] as const)
      for (const plant of ['symlink', 'dangling', 'hard link', ...(asRoot ? ['device', 'fifo'] : [])]) {
        const at = join(target, `${overwrite}-${plant.replace(' ', '-')}`)
        mkdirSync(at)
        const name = join(at, 'f')
        if (plant === 'symlink') symlinkSync(join(outside, 'secret'), name)
        else if (plant === 'dangling') symlinkSync(join(outside, 'planted'), name)
        else if (plant === 'hard link') linkSync(join(outside, 'secret'), name)
        else execFileSync('mknod', plant === 'fifo' ? [name, 'p'] : [name, 'c', '1', '7'])
        const before = outsideState().replace(/ \d+\n/g, '\n')
        const built = await buildRepository({ store: memoryStore(), tree: directory({ f: file('content'.repeat(100)) }) })
        const report = await restoreSnapshot(optionsFor(built, at, { overwrite }))
        expect({ overwrite, plant, problems: report.problems }).toEqual({ overwrite, plant, problems: [] })
        expect(outsideState().replace(/ \d+\n/g, '\n')).toBe(before)
        const kept = overwrite === 'beside' || overwrite === 'never'
        expect(lstatSync(name).isFile() && readFileSync(name, 'utf8').startsWith('content')).toBe(!kept)
        expect(readdirSync(at)).toHaveLength(overwrite === 'beside' ? 2 : 1)
      }
  })

  test('links under the temporary names are taken away, never written through', async () => {
    const { temporaryName } = await import('../../../agent/restore/decide.ts')
    for (const name of ['f', 'd']) symlinkSync(join(outside, 'secret'), join(target, temporaryName(Buffer.from(name)).toString()))
    const { report } = await restoreTree(directory({ f: file('content'), d: symlink('x') }))
    expect(report.problems.filter(({ code }) => code !== 'owner')).toEqual([])
    expect(namesIn(target)).toEqual(['d', 'f'])
  })

  test('a directory that is swapped for a link while the restore runs leads nowhere', async () => {
    const content = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`f${i}`, file(`content ${i}`)]))
    const built = await buildRepository({ store: memoryStore(), tree: directory({ d: directory(content), e: file('e') }) })
    for (let nth = 1; nth < 40; nth += 3) {
      const at = join(target, String(nth))
      mkdirSync(at)
      const before = outsideState()
      let calls = 0
      const swap = (): void => {
        calls += 1
        if (calls !== nth) return
        try {
          execFileSync('mv', [join(at, 'd'), join(at, 'moved')], { stdio: 'ignore' })
          symlinkSync(outside, join(at, 'd'))
        } catch (error) {
          // The directory is not there yet: nothing to swap at this point.
          if (!(error instanceof Error)) throw error
        }
      }
      const racing: FileSystem = {
        ...posixFileSystem,
        open: (...call) => {
          swap()
          return posixFileSystem.open(...call)
        },
        makeDirectory: (...call) => {
          posixFileSystem.makeDirectory(...call)
          swap()
        },
        rename: (...call) => {
          swap()
          posixFileSystem.rename(...call)
        },
      }
      await restoreSnapshot(optionsFor(built, at, { fs: racing }))
      expect(outsideState()).toBe(before)
    }
  })
})
