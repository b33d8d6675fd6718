// Inode flags come back last: a file that may not be changed any more is first given all its names and put safely on the disk. Needs root.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { readAttributesWithin } from '../../../agent/backup/entry-attributes.ts'
import { CWD, FileError, type FileSystem, INODE_FLAGS } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { blake3 } from '../../../agent/repository/blake3.ts'
import { flagsAttribute, flagsOf } from '../../../agent/repository/inode-flags.ts'
import { restoreSnapshot } from '../../../agent/restore/restore.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { folders, optionsFor } from '../../_support/restore-fixture.ts'

const asRoot = process.getuid?.() === 0
const work = folders()
let target: string
beforeEach(() => {
  target = work.make()
})
afterAll(() => work.removeAll())

const { immutable, appendOnly, noDump } = INODE_FLAGS
const withFlags = (flags: number): { attributes: { name: Buffer; value: Buffer }[] } => ({
  attributes: [{ name: Buffer.from('holdfast.flags'), value: Buffer.from([flags]) }],
})
const link = { volume: 1, inode: 7n }
const build = (): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    tree: directory({
      data: directory({
        closed: directory({ one: file('linked', { link, ...withFlags(immutable) }) }, withFlags(immutable)),
        log: file('lines', withFlags(appendOnly | noDump)),
        open: directory({ two: file('linked', { link, ...withFlags(immutable) }), other: file('x') }, withFlags(noDump)),
      }),
    }),
  })

/** As lsattr shows them, of those that are kept. */
function flagsAt(...path: string[]): string {
  const printed = execFileSync('lsattr', ['-d', join(target, 'data', ...path)], { encoding: 'utf8' })
  return printed.slice(0, printed.indexOf(' ')).replace(/[^acdi]/g, '')
}

/** Whatever the test does, what it made can be removed afterwards. */
async function inTarget(act: () => Promise<void>): Promise<void> {
  try {
    await act()
  } finally {
    execFileSync('chattr', ['-R', '-f', '-i', '-a', target], { stdio: 'ignore' })
  }
}

const ALL = { closed: 'i', 'closed/one': 'i', log: 'ad', open: 'd', 'open/two': 'i', 'open/other': '' }
const found = (): Record<string, string> => Object.fromEntries(Object.keys(ALL).map((path) => [path, flagsAt(path)]))

test.skipIf(!asRoot)('immutable files come back with all their names, in directories that are immutable themselves', () =>
  inTarget(async () => {
    expect(await restoreSnapshot(optionsFor(await build(), target))).toMatchObject({ problems: [], failed: 0 })
    expect(found()).toEqual(ALL)
    const inode = (...path: string[]): bigint => posixFileSystem.stat(CWD, Buffer.from(join(target, 'data', ...path))).inode
    expect(inode('open', 'two')).toBe(inode('closed', 'one'))
  }),
)

test.skipIf(!asRoot).each(['beside', 'changed', 'never'] as const)(
  'a second restore (%s) finds nothing to do and nothing to complain of',
  (overwrite) =>
    inTarget(async () => {
      const built = await build()
      await restoreSnapshot(optionsFor(built, target))
      expect(await restoreSnapshot(optionsFor(built, target, { overwrite }))).toMatchObject({ files: 0, problems: [] })
      expect(found()).toEqual(ALL)
    }),
)

test.skipIf(!asRoot)('a directory that somebody has opened stays so with never', () =>
  inTarget(async () => {
    const built = await build()
    await restoreSnapshot(optionsFor(built, target))
    execFileSync('chattr', ['-i', join(target, 'data/closed')])
    expect(await restoreSnapshot(optionsFor(built, target, { overwrite: 'never' }))).toMatchObject({ files: 0, problems: [] })
    expect(flagsAt('closed')).toBe('')
  }),
)

test.skipIf(!asRoot)('a restore that ended before the flags were set leaves them to the next one', () =>
  inTarget(async () => {
    const built = await build()
    const failing: FileSystem = {
      ...posixFileSystem,
      addInodeFlags: (fd, flags) => {
        if ((flags & (immutable | appendOnly)) !== 0) throw new FileError('setflags', 'EIO')
        posixFileSystem.addInodeFlags?.(fd, flags)
      },
    }
    await expect(restoreSnapshot(optionsFor(built, target, { fs: failing }))).rejects.toMatchObject({ code: 'local-disk' })
    expect(found()).toEqual({ ...ALL, closed: '', 'closed/one': '', log: 'd', 'open/two': '' })
    expect(await restoreSnapshot(optionsFor(built, target))).toMatchObject({ problems: [] })
    expect(found()).toEqual(ALL)
  }),
)

test.skipIf(!asRoot)('a restore that could not read all of an immutable directory leaves room in it for the next one, which ends it', () =>
  inTarget(async () => {
    const built = await buildRepository({
      store: memoryStore(),
      segmentBytes: 1,
      packBytes: 1,
      tree: directory({
        data: directory({
          closed: directory({ one: file('1'.repeat(3000), withFlags(immutable)), two: file('2'.repeat(3000)) }, withFlags(immutable)),
        }),
      }),
    })
    const { store } = built.repository
    const chunk = blake3.keyed(built.repository.keys.idKey).hex(Buffer.from('2'.repeat(3000)))
    const packs = built.view.locate(chunk, 'chunk').map(({ pack }) => pack.random)
    const getRange: Store['getRange'] = (name, range, options) =>
      packs.some((random) => name.endsWith(random))
        ? Promise.reject(new HoldfastError('store-refused', 'not given'))
        : store.getRange(name, range, options)
    const repository = { ...built.repository, store: { ...store, location: store.location, getRange } }
    const first = await restoreSnapshot(optionsFor({ ...built, repository }, target))
    expect(first).toMatchObject({ files: 1, unread: 1, problems: [{ code: 'unread' }, { code: 'flags' }, { code: 'flags' }] })
    expect(await restoreSnapshot(optionsFor(built, target))).toMatchObject({ files: 1, kept: 1, problems: [] })
    expect([flagsAt('closed'), flagsAt('closed', 'one'), flagsAt('closed', 'two')]).toEqual(['i', 'i', ''])
  }),
)

test('flags that cannot be set are named, each with its entry, and everything else is restored', async () => {
  const fs: FileSystem = {
    ...posixFileSystem,
    addInodeFlags: () => {
      throw new FileError('setflags', 'ENOTSUP')
    },
  }
  const { problems, failed } = await restoreSnapshot(optionsFor(await build(), target, { fs }))
  expect(failed).toBe(0)
  expect(new Set(problems.map(({ path, code, errno }) => `${path.toString()} ${code} ${errno}`))).toEqual(
    new Set(['/data/closed', '/data/closed/one', '/data/log', '/data/open'].map((path) => `${path} flags ENOTSUP`)),
  )
})

test('an attribute of the name that is ours, in a file system, is refused and not taken for flags', () => {
  const planted = [{ name: Buffer.from('holdfast.flags'), value: Buffer.from([immutable]) }]
  const fs: FileSystem = { ...posixFileSystem, readAttributes: () => planted }
  expect(() => readAttributesWithin(fs, CWD, Buffer.from('/'), { kind: 'file' })).toThrow(new FileError('listxattr', 'EINVAL'))
})

test('flags that are not kept, and values of another kind, count as none', () => {
  expect(flagsAttribute(0x80000)).toBeUndefined()
  expect(flagsAttribute(0x80000 | noDump)?.value).toEqual(Buffer.from([noDump]))
  const of = (value: number[]): number => flagsOf([{ name: Buffer.from('holdfast.flags'), value: Buffer.from(value) }])
  expect([of([immutable | 0x80]), of([]), of([immutable, 0]), flagsOf(undefined)]).toEqual([immutable, 0, 0, 0])
})
