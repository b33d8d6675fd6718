// Restores into a target that other restores of the same snapshot left things in: interrupted ones, ones that could not read everything, ones of other
// parts, ones that are still at work. In the end the tree is the one that a single restore makes.
import { linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { markName } from '../../../agent/restore/decide.ts'
import { listEntries } from '../../../agent/restore/list.ts'
import { restoreSnapshot, type RestoreOptions } from '../../../agent/restore/restore.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'

const work = folders()
afterAll(() => work.removeAll())
let target: string
beforeEach(() => {
  target = work.make()
})

const link = { link: { volume: 0, inode: 77n } }

/** Every segment is a pack of its own, so that one of them can be the one that is not given. */
const build = (): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    segmentBytes: 1,
    packBytes: 1,
    tree: directory({
      a: file('a'.repeat(3000)),
      b: file('b'.repeat(3000)),
      first: directory({ one: file('linked'.repeat(500), link) }),
      other: directory({ three: file('linked'.repeat(500), link), two: file('linked'.repeat(500), link) }),
    }),
  })

const NAMES = ['a', 'b', 'first/', 'first/one', 'other/', 'other/three', 'other/two']

/** The repository on a store that does not give what `path` needs, or is away altogether from then on. */
async function without(built: BuiltRepository, path: string, isAway = false): Promise<BuiltRepository> {
  const { repository, view, snapshot, keys } = built
  const packs = new Set<string>()
  for await (const { path: at, entry } of listEntries({ repository, view, snapshot, keys: keys.read })) {
    if (at.toString() !== path) continue
    const ids = entry.content?.kind === 'chunks' ? entry.content.ids : []
    const places = entry.node === undefined ? ids.flatMap((id) => view.locate(id, 'chunk')) : view.locate(entry.node, 'private')
    for (const { pack } of places) packs.add(pack.random)
  }
  expect(packs.size).toBeGreaterThan(0)
  const fail = (): never => {
    throw new HoldfastError('store-unreachable', 'read failed (EIO); check the disk or share and try again')
  }
  const { store } = repository
  const failing: Store = {
    ...store,
    location: store.location,
    getRange: (name, range, options) =>
      [...packs].some((random) => name.endsWith(random)) ? fail() : store.getRange(name, range, options),
    head: (name, options) => (isAway ? fail() : store.head(name, options)),
  }
  return { ...built, repository: { ...repository, store: failing } }
}

const restore = (built: BuiltRepository, more: Partial<RestoreOptions> = {}) =>
  restoreSnapshot(optionsFor(built, target, { durable: true, ...more }))
const only = (path: string): Partial<RestoreOptions> => ({ selection: { kind: 'paths', paths: [Buffer.from(path)] } })

/** What a power cut in the middle of a restore can leave: its mark, and a file that has its name and time and not its bytes. */
async function cutOff(built: BuiltRepository, more: Partial<RestoreOptions> = {}): Promise<void> {
  await restore(built, more)
  const torn = Buffer.from(join(target, 'b'))
  const { mtimeNs } = posixFileSystem.stat(CWD, torn)
  await expect(restore(await without(built, '/b', true), { overwrite: 'always', ...more })).rejects.toMatchObject({
    code: 'store-unreachable',
  })
  writeFileSync(join(target, 'b'), Buffer.alloc(3000))
  posixFileSystem.setTimes(CWD, torn, mtimeNs)
}

const isWhole = (): void => {
  expect(namesIn(target)).toEqual(NAMES)
  expect(readFileSync(join(target, 'b'), 'utf8')).toBe('b'.repeat(3000))
}

describe('what a restore left half-written', () => {
  test('is replaced by the restore that can read it, however many that could not came in between', async () => {
    const built = await build()
    await cutOff(built)
    const bad = await without(built, '/b')
    for (const from of [bad, bad]) expect(await restore(from)).toMatchObject({ unread: 1 })
    expect(await restore(built)).toMatchObject({ files: 1, beside: 0, problemCount: 0 })
    isWhole()
  })

  test('is replaced although a restore of another part of the snapshot came to its end in between', async () => {
    const built = await build()
    await cutOff(built)
    for (const path of ['/a', '/other', '/a']) expect(await restore(built, only(path))).toMatchObject({ problemCount: 0, beside: 0 })
    expect(await restore(built)).toMatchObject({ beside: 0, problemCount: 0 })
    isWhole()
  })

  test('leaves no mark when that part is restored again, or everything', async () => {
    const built = await build()
    await restore(built)
    await cutOff(built, only('/b'))
    await expect(restore(await without(built, '/a', true), { overwrite: 'always', ...only('/a') })).rejects.toThrow(HoldfastError)
    await restore(built, only('/b'))
    expect(namesIn(target).filter((name) => name.startsWith('.holdfast'))).toHaveLength(1)
    await restore(built, only('/a'))
    isWhole()
    await cutOff(built, only('/b'))
    await restore(built)
    isWhole()
  })

  test('leaves no mark after a power cut tore the mark itself either', async () => {
    const built = await build()
    await restore(built)
    writeFileSync(join(target, markName(built.snapshot.structure.ref.random).toString()), 'begun 0123')
    await restore(built, only('/a'))
    isWhole()
  })
})

describe('with --overwrite never', () => {
  const never = { overwrite: 'never' } as const

  test('a file that a power cut left without its bytes is not kept for a restored one', async () => {
    const built = await build()
    await cutOff(built)
    writeFileSync(join(target, 'a'), 'of somebody')
    expect(await restore(built, never)).toMatchObject({ files: 1, keptOther: 1, problemCount: 0 })
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('of somebody')
    isWhole()
  })

  test('nor is any other name of such a file', async () => {
    const built = await build()
    await cutOff(built)
    const torn = Buffer.from(join(target, 'first/one'))
    const { mtimeNs } = posixFileSystem.stat(CWD, torn)
    writeFileSync(join(target, 'first/one'), Buffer.alloc(3000))
    posixFileSystem.setTimes(CWD, torn, mtimeNs)
    for (const name of ['other/two', 'other/three']) rmSync(join(target, name))
    linkSync(join(target, 'first/one'), join(target, 'other/two'))
    writeFileSync(join(target, 'other/three'), 'of somebody')
    expect(await restore(built, never)).toMatchObject({ keptOther: 1, beside: 0, failed: 0 })
    for (const name of ['first/one', 'other/two']) expect(readFileSync(join(target, name), 'utf8')).toBe('linked'.repeat(500))
    expect(readFileSync(join(target, 'other/three'), 'utf8')).toBe('of somebody')
    isWhole()
  })

  test('a directory that an interrupted restore made and did not end is told', async () => {
    const built = await build()
    await expect(restore(await without(built, '/other/two', true), never)).rejects.toMatchObject({ code: 'store-unreachable' })
    expect((await restore(built, never)).problems).toMatchObject(
      ['/first', '/other'].map((path) => ({
        path: Buffer.from(path),
        code: 'differs',
        errno: expect.stringMatching(/--overwrite changed/),
      })),
    )
    expect(await restore(built, { overwrite: 'changed' })).toMatchObject({ problemCount: 0 })
    expect(statSync(join(target, 'other')).mode & 0o777).not.toBe(0o700)
    isWhole()
  })

  test('a directory that gets what could not be read before keeps its time', async () => {
    const built = await build()
    await restore(await without(built, '/other/two'), never)
    const before = statSync(join(target, 'other'), { bigint: true })
    expect(namesIn(join(target, 'other'))).toEqual([])
    expect(await restore(built, never)).toMatchObject({ problemCount: 0 })
    expect(statSync(join(target, 'other'), { bigint: true }).mtimeNs).toBe(before.mtimeNs)
    isWhole()
  })
})

test('names of one file are one file again when the directory of the first of them could be read', async () => {
  const built = await build()
  const bad = await without(built, '/first')
  expect(await restore(bad)).toMatchObject({ unread: 1, beside: 0 })
  expect(await restore(built)).toMatchObject({ beside: 0, problemCount: 0 })
  isWhole()
  const inodes = ['first/one', 'other/two', 'other/three'].map((name) => statSync(join(target, name)).ino)
  expect(new Set(inodes).size).toBe(1)
})

test("somebody's own file is not made another name of a restored one, though it has its content", async () => {
  const built = await build()
  await restore(await without(built, '/first'))
  rmSync(join(target, 'other/two'))
  writeFileSync(join(target, 'other/two'), 'linked'.repeat(500))
  expect(await restore(built)).toMatchObject({ beside: 1 })
  expect(statSync(join(target, 'other/two')).nlink).toBe(1)
})

test('two restores into one target at once would take each other for leftovers: the second is refused and writes nothing', async () => {
  const built = await build()
  const fd = posixFileSystem.open(CWD, Buffer.from(target), 'directory')
  try {
    expect(posixFileSystem.lock?.(fd, false)).toBe(true)
    await expect(restore(built)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/another restore into .* is under way/),
    })
    expect(namesIn(target)).toEqual([])
  } finally {
    posixFileSystem.close(fd)
  }
  await restore(built)
  isWhole()
})
