// What a restore does with what is there already, with parts of a snapshot, with keys that reach only some of it, and with a file system
// that refuses.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { FileError, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import type { ReadKeys } from '../../../agent/keys/keys.ts'
import { dumpFile } from '../../../agent/restore/dump.ts'
import { listEntries } from '../../../agent/restore/list.ts'
import { planRestore } from '../../../agent/restore/plan.ts'
import type { RestoredEntry } from '../../../agent/restore/report.ts'
import { type Overwrite, restoreSnapshot } from '../../../agent/restore/restore.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file, symlink } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const work = folders()
afterAll(() => work.removeAll())
let target: string
beforeEach(() => {
  target = work.make()
})

const large = seededRandom('large').bytes(9 << 20)
const passage = (children: Parameters<typeof directory>[0]) => directory(children, { passage: true, mode: 0o711 })
const build = (): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    tree: passage({
      srv: passage({
        data: directory({
          a: file('a'.repeat(1000)),
          large: file(large, { chunkBytes: 700_001, listPage: 4 }),
          links: directory({
            one: file('linked'.repeat(100), { link: { volume: 1, inode: 9n } }),
            two: file('linked'.repeat(100), { link: { volume: 1, inode: 9n } }),
          }),
          sparse: file('xyz', {
            size: 1 << 20,
            extents: [
              { offset: 4096, bytes: 1 },
              { offset: 700_000, bytes: 2 },
            ],
          }),
          sym: symlink('a', { mode: 0o777 }),
        }),
        other: directory({ b: file('b') }),
      }),
    }),
  })
const short = (built: BuiltRepository): string => built.snapshot.structure.ref.random.slice(0, 8)
const data = (name: string): string => join(target, 'srv/data', name)

test('a file with holes has its size before its first byte, so that no file system reserves blocks for the holes', async () => {
  const calls: string[] = []
  const fs: FileSystem = {
    ...posixFileSystem,
    truncate: (fd, size) => {
      calls.push(`truncate ${size}`)
      posixFileSystem.truncate(fd, size)
    },
    write: (fd, bytes, position) => {
      if (bytes.length < 3 && position !== null) calls.push(`write at ${position}`)
      posixFileSystem.write(fd, bytes, position)
    },
  }
  expect(await restoreSnapshot(optionsFor(await build(), target, { fs }))).toMatchObject({ problems: [] })
  expect(calls.filter((call) => !call.endsWith(' 0'))).toEqual(['truncate 1048576', 'write at 4096', 'write at 700000'])
})

describe('existing files', () => {
  const differing = async (overwrite: Overwrite) => {
    const built = await build()
    mkdirSync(data(''), { recursive: true })
    writeFileSync(data('a'), 'mine')
    return { built, report: await restoreSnapshot(optionsFor(built, target, { overwrite })) }
  }

  test('that differ stay as they are by default, and the restored one lands beside, once however often', async () => {
    const { built, report } = await differing('beside')
    const name = Buffer.from(`a.restored-${short(built)}`)
    expect(report).toMatchObject({ beside: 1, besideNames: [{ path: Buffer.from('/srv/data/a'), name }], problems: [] })
    expect(readFileSync(data('a'), 'utf8')).toBe('mine')
    expect(readFileSync(data(`a.restored-${short(built)}`), 'utf8')).toBe('a'.repeat(1000))
    const names = namesIn(target)
    expect(await restoreSnapshot(optionsFor(built, target))).toMatchObject({ files: 0, problems: [] })
    expect(namesIn(target)).toEqual(names)
    // Where the name beside is taken by something else, too, the next one is numbered.
    writeFileSync(data(`a.restored-${short(built)}`), 'mine as well')
    await restoreSnapshot(optionsFor(built, target))
    expect(readFileSync(data(`a.restored-${short(built)}-2`), 'utf8')).toBe('a'.repeat(1000))
  })

  test.each(['changed', 'always'] as const)('that differ are replaced with %s', async (overwrite) => {
    await differing(overwrite)
    expect(readFileSync(data('a'), 'utf8')).toBe('a'.repeat(1000))
    expect(readdirSync(data('')).sort()).toEqual(['a', 'large', 'links', 'sparse', 'sym'])
  })

  test('are not touched with never, and no hard link is made to one that was kept unseen', async () => {
    const built = await build()
    mkdirSync(data('links'), { recursive: true })
    writeFileSync(data('links/one'), 'mine')
    await restoreSnapshot(optionsFor(built, target, { overwrite: 'never' }))
    expect(readFileSync(data('links/one'), 'utf8')).toBe('mine')
    expect(readFileSync(data('links/two'), 'utf8')).toBe('linked'.repeat(100))
  })

  test.each(['file', 'symlink'] as const)(
    'in the place of a directory are kept with never: a %s is named, and all below it counts',
    async (kind) => {
      const built = await build()
      mkdirSync(data(''), { recursive: true })
      if (kind === 'file') writeFileSync(data('links'), 'mine')
      else symlinkSync('/etc', data('links'))
      writeFileSync(data('a'), 'mine')
      const entries: string[] = []
      const onEntry = ({ path, outcome }: RestoredEntry) => void (outcome === 'failed' && entries.push(path.toString()))
      const wanted = {
        kept: 1,
        keptOther: 1,
        failed: 2,
        problemCount: 1,
        problems: [{ code: 'in-the-way', path: Buffer.from('/srv/data/links') }],
      }
      expect(await restoreSnapshot(optionsFor(built, target, { overwrite: 'never', dryRun: true }))).toMatchObject(wanted)
      expect(await restoreSnapshot(optionsFor(built, target, { overwrite: 'never', onEntry }))).toMatchObject(wanted)
      expect(entries.sort()).toEqual(['/srv/data/links/one', '/srv/data/links/two'])
      expect(readFileSync(data('a'), 'utf8')).toBe('mine')
    },
  )

  test('of the same size and time but other content are seen, also in a hole', async () => {
    const built = await build()
    await restoreSnapshot(optionsFor(built, target))
    const { mtime } = statSync(data('a'))
    writeFileSync(data('a'), 'b'.repeat(1000))
    utimesSync(data('a'), mtime, mtime)
    const fd = posixFileSystem.open(-100, Buffer.from(data('sparse')), 'update')
    posixFileSystem.write(fd, Buffer.from('!'), 300_000)
    posixFileSystem.close(fd)
    const report = await restoreSnapshot(optionsFor(built, target))
    expect(report).toMatchObject({ beside: 2 })
    await restoreSnapshot(optionsFor(built, target, { overwrite: 'changed' }))
    expect(readFileSync(data('a'), 'utf8')).toBe('a'.repeat(1000))
    expect(readFileSync(data('sparse'))[300_000]).toBe(0)
  })

  test('with other metadata are set right with changed, and named with beside', async () => {
    const built = await build()
    await restoreSnapshot(optionsFor(built, target))
    chmodSync(data('a'), 0o640)
    const beside = await restoreSnapshot(optionsFor(built, target))
    expect(beside.problems).toMatchObject([{ path: Buffer.from('/srv/data/a'), code: 'differs' }])
    expect(statSync(data('a')).mode & 0o777).toBe(0o640)
    expect(await restoreSnapshot(optionsFor(built, target, { overwrite: 'changed' }))).toMatchObject({ problems: [], files: 0 })
    expect(statSync(data('a')).mode & 0o777).toBe(0o644)
  })

  test('that a power cut left without their data are replaced where the mark of that restore stands', async () => {
    const { markName } = await import('../../../agent/restore/decide.ts')
    const built = await build()
    await restoreSnapshot(optionsFor(built, target))
    const times = statSync(data('a'), { bigint: true })
    writeFileSync(data('a'), '')
    posixFileSystem.setTimes(-100, Buffer.from(data('a')), times.mtimeNs)
    writeFileSync(join(target, markName(built.snapshot.structure.ref.random).toString()), '')
    expect(await restoreSnapshot(optionsFor(built, target))).toMatchObject({ beside: 0, files: 1, problems: [] })
    expect(readFileSync(data('a'), 'utf8')).toBe('a'.repeat(1000))
  })

  test('a directory that only leads to what was backed up keeps its mode where it was there, and gets its own where it was not', async () => {
    const built = await build()
    mkdirSync(join(target, 'srv'), { mode: 0o750 })
    await restoreSnapshot(optionsFor(built, target))
    expect(statSync(join(target, 'srv')).mode & 0o777).toBe(0o750)
    const fresh = work.make()
    await restoreSnapshot(optionsFor(built, fresh))
    expect(statSync(join(fresh, 'srv')).mode & 0o777).toBe(0o711)
  })
})

describe('a part of a snapshot', () => {
  const paths = (...names: string[]) => ({ kind: 'paths' as const, paths: names.map((name) => Buffer.from(name)) })

  test('is restored by paths, with all below, and what is not there is named', async () => {
    const built = await build()
    const selection = paths('/srv/data/links', '/srv//data/a/', '/srv/none')
    const report = await restoreSnapshot(optionsFor(built, target, { selection }))
    expect(report.problems).toEqual([{ path: Buffer.from('/srv/none'), code: 'not-in-snapshot' }])
    expect(namesIn(target)).toEqual(['srv/', 'srv/data/', 'srv/data/a', 'srv/data/links/', 'srv/data/links/one', 'srv/data/links/two'])
  })

  test('is restored by tokens, which need no name, and makes no directory that leads nowhere', async () => {
    const built = await build()
    const { path } = built.builder.tokens
    const tokens = new Set([path(Buffer.from('/srv/data/a')), path(Buffer.from('/srv/data/links')), 'f'.repeat(64)])
    const report = await restoreSnapshot(optionsFor(built, target, { selection: { kind: 'tokens', tokens } }))
    expect(report.problems).toEqual([{ path: Buffer.from('f'.repeat(64)), code: 'not-in-snapshot' }])
    expect(namesIn(target)).toEqual(['srv/', 'srv/data/', 'srv/data/a', 'srv/data/links/', 'srv/data/links/one', 'srv/data/links/two'])
  })

  test('refuses paths that are relative or climb', async () => {
    const built = await build()
    for (const path of ['srv', '/srv/../etc', ''])
      await expect(restoreSnapshot(optionsFor(built, target, { selection: paths(path) }))).rejects.toMatchObject({ code: 'usage' })
  })

  test('with keys that do not reach it is refused and says what to ask for', async () => {
    const built = await build()
    const none: ReadKeys = { structure: built.keys.read.structure, segmentKey: () => undefined }
    await expect(restoreSnapshot(optionsFor(built, target, { keys: none }))).rejects.toMatchObject({ code: 'grant-required' })
    expect(namesIn(target).filter((name) => !name.includes('holdfast-restore'))).toEqual([])
  })
})

describe('a dry run and a plan', () => {
  test('write nothing and say what would be done', async () => {
    const built = await build()
    mkdirSync(data(''), { recursive: true })
    writeFileSync(data('a'), 'mine')
    const before = namesIn(target)
    const plan = await planRestore(optionsFor(built, target))
    expect(plan).toMatchObject({ files: 7, directories: 2, beside: 1, replaced: 0, kept: 0, packs: 1 })
    expect(plan.conflicts).toEqual([{ path: Buffer.from('/srv/data/a'), action: 'beside' }])
    expect(await restoreSnapshot(optionsFor(built, target, { dryRun: true }))).toMatchObject({ files: 7, beside: 1 })
    expect(namesIn(target)).toEqual(before)
  })

  test('a target without room is refused before anything is written', async () => {
    const built = await build()
    const full: FileSystem = { ...posixFileSystem, freeBytes: () => 1000 }
    await expect(restoreSnapshot(optionsFor(built, target, { fs: full }))).rejects.toMatchObject({ code: 'local-disk' })
    expect(namesIn(target)).toEqual([])
  })
})

describe('a file system that fails', () => {
  test('at any single call, leaves either an error or a report that names it, and the next restore completes (B31)', async () => {
    const built = await build()
    const calls = [
      'open',
      'write',
      'truncate',
      'makeDirectory',
      'makeSymlink',
      'makeHardLink',
      'rename',
      'setOwner',
      'setMode',
      'setTimes',
      'stat',
    ] as const
    for (const call of calls)
      for (const errno of ['EACCES', 'ENOSPC'])
        for (let nth = 1; ; nth++) {
          const at = work.make()
          let n = 0
          let failed = false
          const failing: FileSystem = {
            ...posixFileSystem,
            [call]: (...rest: never[]) => {
              n += 1
              if (n === nth) {
                failed = true
                throw new FileError(call, errno)
              }
              return (posixFileSystem[call] as (...rest: never[]) => unknown)(...rest)
            },
          }
          const result = await restoreSnapshot(optionsFor(built, at, { fs: failing })).catch((error: unknown) => error)
          if (!failed) break
          let told = result instanceof Error || (result as { problems: readonly unknown[] }).problems.length > 0
          // Not told is right only where nothing is missing: an owner that was the right one already.
          if (!told) {
            const again = await restoreSnapshot(optionsFor(built, at))
            told = again.files === 0 && again.problemCount === 0
          }
          const complete = await restoreSnapshot(optionsFor(built, at, { overwrite: 'changed' }))
          const temporary = namesIn(at).filter((name) => name.includes('.holdfast-restore-'))
          expect({ call, errno, nth, told, problems: complete.problems, beside: complete.beside, temporary }).toEqual({
            call,
            errno,
            nth,
            told: true,
            problems: [],
            beside: 0,
            temporary: [],
          })
        }
  }, 300_000)
})

describe('ls and dump', () => {
  test('ls lists in order, one level or all, and says when there is nothing', async () => {
    const built = await build()
    const all = async (path?: string, recursive = true): Promise<string[]> => {
      const names: string[] = []
      const options = { ...built, keys: built.keys.read, recursive, ...(path === undefined ? {} : { path: Buffer.from(path) }) }
      for await (const { path } of listEntries(options)) names.push(path.toString())
      return names
    }
    expect(await all()).toContain('/srv/other/b')
    expect(await all('/srv/data/links')).toEqual(['/srv/data/links', '/srv/data/links/one', '/srv/data/links/two'])
    expect(await all('/srv', false)).toEqual(['/srv', '/srv/data', '/srv/other'])
    expect(await all('/srv/other/b')).toEqual(['/srv/other/b'])
    await expect(all('/nothing')).rejects.toMatchObject({ code: 'not-found' })
  })

  test('dump gives a file’s bytes, holes as zeros, and refuses what is no file', async () => {
    const built = await build()
    const dump = async (path: string): Promise<Buffer> => {
      const parts: Buffer[] = []
      await dumpFile({ ...built, keys: built.keys.read, path: Buffer.from(path), write: (bytes) => void parts.push(Buffer.from(bytes)) })
      return Buffer.concat(parts)
    }
    expect((await dump('/srv/data/large')).equals(large)).toBe(true)
    const sparse = await dump('/srv/data/sparse')
    expect([sparse.length, sparse[4096], sparse[700_001], sparse[5000]]).toEqual([1 << 20, 0x78, 0x7a, 0])
    await expect(dump('/srv/data')).rejects.toMatchObject({ code: 'usage' })
    await expect(dump('/srv/none')).rejects.toMatchObject({ code: 'not-found' })
  })
})

test('a restore of everything writes every file, through threads too', async () => {
  const built = await build()
  const report = await restoreSnapshot(optionsFor(built, target, { workers: 2, durable: true }))
  expect(report).toMatchObject({ files: 7, directories: 4, problems: [] })
  expect(readFileSync(data('large')).equals(large)).toBe(true)
  expect(statSync(data('links/one')).ino).toBe(statSync(data('links/two')).ino)
  expect(existsSync(join(target, 'srv/other/b'))).toBe(true)
})
