// A repository made by somebody who holds the keys: trees without end, pages that name themselves, names and links that lead elsewhere, lying sizes,
// times and links. Whatever reads it comes to an end in bounded memory, says what is wrong, and writes nothing outside of the target.
import { execFileSync } from 'node:child_process'
import { chmodSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { checkRepository } from '../../agent/check/check.ts'
import { wrapRoot } from '../../agent/keys/key-object.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../agent/keys/recovery-code.ts'
import { encodeChunkList, encodeChunkListPages, encodeDirectoryPages, nodeHasher } from '../../agent/repository/tree.ts'
import { isOfRestores, markName, temporaryName } from '../../agent/restore/decide.ts'
import { dumpFile } from '../../agent/restore/dump.ts'
import { listEntries } from '../../agent/restore/list.ts'
import { planRestore } from '../../agent/restore/plan.ts'
import { type RestoreOptions, type RestoreReport, restoreSnapshot } from '../../agent/restore/restore.ts'
import { memoryStore } from '../_support/memory-store.ts'
import { type BuiltRepository, directory, file, openBuilt, RepositoryBuilder, symlink } from '../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../_support/restore-fixture.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { soak, soakResult } from '../_support/soak.ts'
import { runReaderArchive } from '../reader/reader-support.ts'

/** As long as a file can be said to be, beside a few others. */
const HUGE = Number.MAX_SAFE_INTEGER - 2 ** 20
const asRoot = process.getuid?.() === 0
const work = folders()
const started = performance.now()
let looks = 0
afterAll(() => {
  soakResult({
    ...{ suite: 'hostile', figure: 'hostile trees read by every reader', asked: looks, value: looks, violations: 0, seed: 'fixed' },
    seconds: Math.round((performance.now() - started) / 1000),
  })
  // Deep trees are too long for the paths that removal by name would need.
  for (const folder of made.splice(0)) execFileSync('rm', ['-rf', folder])
  work.removeAll()
})

const made: string[] = []
let base: string
let target: string
let outside: string
beforeEach(() => {
  base = work.make()
  made.push(base)
  target = join(base, 'target')
  outside = join(base, 'outside')
  mkdirSync(target)
  mkdirSync(outside)
  writeFileSync(join(outside, 'secret'), 'secret', { mode: 0o600 })
})

const outsideState = (): string =>
  execFileSync('find', [outside, '-printf', '%p %y %m %U %G %s %T@ %n\\n'], { encoding: 'utf8' }) +
  readFileSync(join(outside, 'secret'), 'utf8')

type Build = (builder: RepositoryBuilder) => Promise<string>
const hasher = (builder: RepositoryBuilder) => nodeHasher(builder.keys.write.structure.treeIdKey)

async function build(make: Build, store = memoryStore()): Promise<BuiltRepository> {
  const builder = new RepositoryBuilder({ store })
  await builder.begin()
  await builder.finish(await make(builder))
  return openBuilt(store, builder)
}

/** What something that reads says, as a code; every other end is the test's. */
async function codeOf(act: () => Promise<unknown>): Promise<string> {
  try {
    await act()
    return 'done'
  } catch (error) {
    if (isHoldfastError(error)) return error.code
    throw error
  }
}

/** Everything that reads a snapshot reads this one; nothing outside of the target changes. */
async function readAll(built: BuiltRepository, more: Partial<RestoreOptions> = {}) {
  looks += 1
  const before = outsideState()
  let report: RestoreReport | undefined
  const restore = await codeOf(async () => {
    report = await restoreSnapshot(optionsFor(built, target, more))
  })
  const { repository, view, snapshot } = built
  const common = { repository, view, snapshot, keys: built.keys.read }
  const plan = await codeOf(() => planRestore(optionsFor(built, join(base, 'elsewhere'))))
  const list = await codeOf(async () => {
    const entries = listEntries(common)
    while ((await entries.next()).done !== true) continue
  })
  const dump = await codeOf(() => dumpFile({ ...common, path: Buffer.from('/not/there'), write: () => undefined }))
  const check = await checkRepository({ repository, readData: 'all' })
  expect(outsideState()).toBe(before)
  expect(readdirSync(base).sort()).toEqual(['outside', 'target'])
  expect([0, process.getuid?.()]).toContain(statSync(target).uid)
  const problems = (report?.problems ?? []).map(({ path, code }) => `${path.toString('latin1')} ${code}`).sort()
  return { restore, plan, list, dump, check, report, problems }
}

describe('a tree without end', () => {
  test('where one node stands twice in the next, sixty times over, ends where the snapshot says that there is no more', async () => {
    const built = await build(async (builder) => {
      let node = await builder.directory(directory({ f: file('content') }))
      for (let level = 0; level < 60; level++)
        node = await builder.directory(directory({ a: directory({}, { node }), b: directory({}, { node }) }))
      return node
    })
    const result = await readAll(built)
    expect(result).toMatchObject({ restore: 'damaged', plan: 'damaged', list: 'damaged', problems: [] })
    // Sixty nodes are sixty nodes.
    expect(result.check.nodes).toBe(61)
  })

  test.each([
    ['that are empty', async (builder: RepositoryBuilder) => builder.directory(directory({}))],
    ['that are not there', async () => 'ab'.repeat(32)],
    ['that hold the same', async (builder: RepositoryBuilder) => builder.directory(directory({ a: file('x') }))],
  ])('of pages of pages of a directory %s is refused at the second of them', async (_, leaf) => {
    const built = await build(async (builder) => {
      let page = await leaf(builder)
      const names = Array.from({ length: 1000 }, (__, i) => Buffer.from(`a${i === 0 ? '' : String(i).padStart(4, '0')}`))
      for (let level = 0; level < LIMITS.pageLevels; level++)
        page = await builder.node(
          encodeDirectoryPages(
            names.map((firstName) => ({ firstName, entries: 1, id: page })),
            hasher(builder),
          ),
        )
      builder.files = 10
      return builder.directory(directory({ bad: directory({}, { node: page }), good: file('good') }))
    })
    const result = await readAll(built)
    expect(result).toMatchObject({ restore: 'done', problems: ['/bad damaged'] })
    expect(readFileSync(join(target, 'good'), 'latin1')).toBe('good')
  })

  test('of pages deeper than pages can be is refused', async () => {
    const built = await build(async (builder) => {
      let page = await builder.directory(directory({ a: file('x') }))
      for (let level = 0; level <= LIMITS.pageLevels; level++)
        page = await builder.node(encodeDirectoryPages([{ firstName: Buffer.from('a'), entries: 1, id: page }], hasher(builder)))
      return builder.directory(directory({ bad: directory({}, { node: page }) }))
    })
    expect((await readAll(built)).problems).toEqual(['/bad damaged'])
  })

  test('of lists of lists of chunks is read no further than the file is long, and by a plan each list once', async () => {
    const endless = async (builder: RepositoryBuilder): Promise<string> => {
      let list = await builder.node(
        encodeChunkList(
          Array.from({ length: 5000 }, () => chunk),
          100,
          hasher(builder),
        ),
      )
      for (let level = 0; level < LIMITS.pageLevels; level++) {
        const pages = Array.from({ length: 500 }, () => ({ bytes: 1, id: list }))
        list = await builder.node(encodeChunkListPages(pages, hasher(builder)))
      }
      return list
    }
    let chunk = ''
    const make = (size: number, claimed: number): Build => {
      return async (builder) => {
        chunk = await builder.chunk(Buffer.alloc(64, 'x'))
        const content = { kind: 'list' as const, id: await endless(builder) }
        const entry = await builder.entry(Buffer.from('bad'), file('', { size }))
        const good = await builder.entry(Buffer.from('good'), file('good'))
        builder.bytes = claimed
        return builder.directoryOf([{ ...entry, content }, good])
      }
    }
    expect((await readAll(await build(make(6000, 7000)))).problems).toEqual(['/bad damaged'])
    // Longer than a part of a large file.
    expect((await readAll(await build(make(2_150_000, 2_200_000)))).problems).toEqual(['/bad damaged'])
    // As long as can be said: more than the snapshot says, or than there is room for.
    expect(await readAll(await build(make(Number.MAX_SAFE_INTEGER - 4, 4)))).toMatchObject({ restore: 'damaged', plan: 'damaged' })
    const honest = await readAll(await build(make(Number.MAX_SAFE_INTEGER - 4, Number.MAX_SAFE_INTEGER)))
    expect(honest).toMatchObject({ restore: 'local-disk', plan: 'done', list: 'done' })
  })

  test('of chunks without a byte has its index file refused', async () => {
    const built = await build(async (builder) => {
      const empty = 'cd'.repeat(32)
      await builder.segment(1, Buffer.from('x'), [
        { id: empty, bytes: 0 },
        { id: 'ef'.repeat(32), bytes: 1 },
      ])
      return builder.directory(directory({ bad: file('', { ids: Array.from({ length: 1000 }, () => empty), size: 3_000_000 }) }))
    })
    expect((await built.repository.loadView()).refused).toHaveLength(1)
    expect((await readAll(built)).check.damaged).toBeGreaterThan(0)
  })

  const deep = (name: string, levels: number): Build => {
    return async (builder) => {
      let node = await builder.directory(directory({ f: file('at the bottom') }))
      for (let level = 0; level < levels; level++) node = await builder.directory(directory({ [name]: directory({}, { node }) }))
      return node
    }
  }

  test('of names as long as can be takes no gigabytes for its paths', async () => {
    const levels = soak ? LIMITS.depth : 2000
    const before = process.resourceUsage().maxRSS
    const result = await readAll(await build(deep('d'.repeat(LIMITS.nameBytes), levels)))
    expect(result).toMatchObject({ restore: 'done', list: 'done', problems: [], report: { files: 1, directories: levels } })
    // Kept for every directory, the paths alone would be 512 MiB, and 2 GiB at the greatest depth.
    expect(process.resourceUsage().maxRSS - before).toBeLessThan((levels * levels * 64) / 1024)
  }, 600_000)

  test('is restored as deep as directories can be, and no deeper', async () => {
    const deepest = await restoreSnapshot(optionsFor(await build(deep('d', LIMITS.depth)), join(target, 'deepest')))
    expect(deepest).toMatchObject({ files: 1, directories: LIMITS.depth })
    const deeper = await restoreSnapshot(optionsFor(await build(deep('d', LIMITS.depth + 1)), join(target, 'deeper')))
    expect(deeper).toMatchObject({ files: 0, directories: LIMITS.depth, problemCount: 1 })
  }, 300_000)
})

describe('content that lies', () => {
  test('segments that open to more than they say, sizes and holes that do not fit, are left out and named', async () => {
    const built = await build(async (builder) => {
      const bomb = '11'.repeat(32)
      await builder.segment(1, Buffer.alloc(16 << 20), [{ id: bomb, bytes: 700 }], { plainBytes: 700 })
      const part = await builder.chunk(seededRandom('part').bytes(5000))
      return builder.directory(
        directory({
          bomb: file('', { ids: [bomb], size: 700 }),
          fine: file('fine'),
          'huge-hole': file('xy', { size: HUGE, extents: [{ offset: 2 ** 50, bytes: 2 }] }),
          long: file('', { ids: [part], size: 4999 }),
          short: file('', { ids: [part, part], size: 10_001 }),
        }),
      )
    })
    const result = await readAll(built)
    expect(result.restore).toBe('done')
    const there = namesIn(target)
    for (const name of ['bomb', 'long', 'short'])
      expect([name, there.includes(name), result.problems.includes(`/${name} damaged`)]).toEqual([name, false, true])
    expect(readFileSync(join(target, 'fine'), 'latin1')).toBe('fine')
    // Whether a file system takes such a size is its own matter; then it has it.
    if (there.includes('huge-hole')) expect(lstatSync(join(target, 'huge-hole')).size).toBe(HUGE)
    else expect(result.problems).toContain('/huge-hole refused')
  })

  test('a file of the right size that has only the beginning of its content is not kept as if it were the same', async () => {
    const content = seededRandom('beginning').bytes(6000)
    const built = await build(async (builder) => {
      const id = await builder.chunk(content.subarray(0, 5000))
      return builder.directory(directory({ f: file('', { ids: [id], size: 6000 }) }))
    })
    writeFileSync(join(target, 'f'), content)
    expect(await readAll(built)).toMatchObject({ problems: ['/f damaged'], report: { kept: 0 } })
  })

  test('times beyond every calendar, and more attributes than a file system takes, cost their own file a word and no other file anything', async () => {
    const many = Array.from({ length: 100 }, (_, i) => ({
      name: Buffer.from(`user.${String(i).padStart(4, '0')}`),
      value: Buffer.alloc(60_000, i),
    }))
    const built = await build(async (builder) =>
      builder.directory(
        directory({
          after: file('after', { mtimeNs: (2n ** 63n - 1n) * 1_000_000_000n }),
          attributes: file('attributes', { attributes: many }),
          before: file('before', { mtimeNs: -(2n ** 63n) * 1_000_000_000n }),
          fine: file('fine'),
        }),
      ),
    )
    const result = await readAll(built)
    expect(result.restore).toBe('done')
    expect(namesIn(target)).toEqual(['after', 'attributes', 'before', 'fine'])
    const named = new Set(result.problems.filter((problem) => !problem.endsWith(' owner')))
    for (const [name, ns] of [
      ['after', (2n ** 63n - 1n) * 1_000_000_000n],
      ['before', -(2n ** 63n) * 1_000_000_000n],
    ] as const)
      expect([name, lstatSync(join(target, name), { bigint: true }).mtimeNs === ns || named.has(`/${name} times`)]).toEqual([name, true])
    for (const name of readdirSync(target)) expect(readFileSync(join(target, name), 'latin1')).toBe(name)
  })
})

describe('names and links that lead elsewhere', () => {
  test('a group of hard links of different things is not made one: the first counts, the others are named', async () => {
    const link = { volume: 1, inode: 5n }
    const built = await build(async (builder) =>
      builder.directory(
        directory({
          a: symlink(join(outside, 'secret'), { link, mode: 0o777 }),
          b: file('content that is longer', { link }),
          c: { kind: 'fifo', link },
          d: symlink(join(outside, 'secret'), { link, mode: 0o777 }),
        }),
      ),
    )
    const result = await readAll(built)
    expect(result.problems.filter((one) => !one.endsWith('owner'))).toEqual(['/b damaged', '/c damaged'])
    expect(namesIn(target)).toEqual(['a', 'd'])
    expect(lstatSync(join(target, 'a')).ino).toBe(lstatSync(join(target, 'd')).ino)
  })

  test('names that a restore needs for itself land beside, and nothing that was restored is removed for them', async () => {
    const entries = [Buffer.from('f'), temporaryName(Buffer.from('f')), temporaryName(Buffer.from('g')), Buffer.from('g')]
    const build1 = async (extra: readonly Buffer[]): Promise<BuiltRepository> =>
      build(async (builder) => {
        const all = [...entries, ...extra].sort(Buffer.compare)
        return builder.directory(directory(all.map((name) => [name, file(`content of ${name.toString()}`.repeat(20))])))
      })
    const first = await build1([])
    // The names of snapshots follow from the seed, so the mark of this one can stand in it.
    const built = await build1([markName(first.snapshot.structure.ref.random)])
    for (const at of ['new', 'there']) {
      if (at === 'there') mkdirSync(join(target, at))
      const report = await restoreSnapshot(optionsFor(built, join(target, at)))
      const names = namesIn(join(target, at))
      expect({ at, count: names.length, files: report.files, problems: report.problems.filter(({ code }) => code !== 'owner') }).toEqual({
        ...{ at, count: 5, files: 5, problems: [] },
      })
      for (const name of names) {
        expect(isOfRestores(Buffer.from(name))).toBe(false)
        const original = name.split('.restored-')[0]!
        expect(readFileSync(join(target, at, name), 'latin1')).toBe(`content of ${original}`.repeat(20))
      }
      expect(await restoreSnapshot(optionsFor(built, join(target, at)))).toMatchObject({ files: 0, kept: 5 })
    }
  })

  test('names as restores have them that this one does not need are restored as they are', async () => {
    const names = [temporaryName(Buffer.from('of nobody here')), markName('0'.repeat(32)), Buffer.from('f')].sort(Buffer.compare)
    const below = directory(names.map((name) => [name, file(`content of ${name.toString()}`)]))
    const built = await build(async (builder) => builder.directory(directory({ below })))
    for (let again = 0; again < 2; again++) {
      const report = await restoreSnapshot(optionsFor(built, target))
      expect(report.problems.filter(({ code }) => code !== 'owner')).toEqual([])
      expect(namesIn(target)).toEqual(['below/', ...names.map((name) => `below/${name.toString()}`)])
    }
  })

  test('a file that is also a name of something outside keeps owner, mode and time there: the restored one is made anew', async () => {
    for (const [name, link] of [
      ['single', undefined],
      ['group', { volume: 1, inode: 8n }],
    ] as const) {
      const at = join(target, name)
      mkdirSync(at)
      linkSync(join(outside, 'secret'), join(at, 'f'))
      const meta = { mode: 0o4777, ...(link === undefined ? {} : { link }) }
      const built = await build(async (builder) => builder.directory(directory({ f: file('secret', meta), g: file('secret', meta) })))
      const before = outsideState().replace(/ \d+\n/g, '\n')
      const report = await restoreSnapshot(optionsFor(built, at, { overwrite: 'changed' }))
      expect(report.problems.filter(({ code }) => code !== 'owner' && code !== 'mode')).toEqual([])
      expect(outsideState().replace(/ \d+\n/g, '\n')).toBe(before)
      expect(lstatSync(join(at, 'f')).ino).not.toBe(lstatSync(join(outside, 'secret')).ino)
      if (link !== undefined) expect(lstatSync(join(at, 'f')).ino).toBe(lstatSync(join(at, 'g')).ino)
      expect(await restoreSnapshot(optionsFor(built, at, { overwrite: 'changed' }))).toMatchObject({ kept: 2, files: 0 })
    }
  })

  test('devices, pipes, set-id files and links of every kind stay what they are inside, also for root', async () => {
    const built = await build(async (builder) =>
      builder.directory(
        directory({
          block: { kind: 'block-device', major: 7, minor: 0 },
          char: { kind: 'character-device', major: 1, minor: 3 },
          dots: symlink('../../../../../../etc'),
          fifo: { kind: 'fifo' },
          passage: directory({ etc: symlink('/etc') }, { passage: true, mode: 0o777 }),
          setuid: file('#!/bin/sh', { mode: 0o6755 }),
          'z\n\u001B[2J': file('a name to look at'),
        }),
      ),
    )
    const result = await readAll(built)
    expect(result.restore).toBe('done')
    if (asRoot) expect(result.problems).toEqual([])
    expect(namesIn(target)).toHaveLength(asRoot ? 8 : 6)
    const again = await restoreSnapshot(optionsFor(built, target))
    expect(again).toMatchObject({ files: 0, directories: 0, beside: 0 })
  })
})

describe('the single-file reader', () => {
  const code = printRecoveryCode(makeRecoveryCode(seededRandom('reader code')))
  async function read(make: Build) {
    const folder = join(base, 'target', 'repository')
    const store = await openDirectoryStore(folder, { create: true })
    const builder = new RepositoryBuilder({ store })
    await builder.begin()
    const key = { ...builder.domain, secret: { recoveryCode: code }, label: 'k', createdAt: 1, random: seededRandom('wrap') }
    await store.put(`keys/${'1'.repeat(32)}`, { kind: 'bytes', bytes: await wrapRoot(key) })
    await builder.finish(await make(builder))
    await store.close()
    chmodSync(folder, 0o700)
    looks += 1
    return runReaderArchive(folder, 'latest', { recoveryCode: code })
  }

  test('ends where one node stands twice in the next', async () => {
    const run = await read(async (builder) => {
      let node = await builder.directory(directory({ f: file('content') }))
      for (let level = 0; level < 60; level++)
        node = await builder.directory(directory({ a: directory({}, { node }), b: directory({}, { node }) }))
      return node
    })
    expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('more in it than its snapshot says') })
  })

  test('refuses pages of pages that are empty', async () => {
    const run = await read(async (builder) => {
      let page = await builder.directory(directory({}))
      const names = Array.from({ length: 1000 }, (_, i) => Buffer.from(String(i).padStart(4, '0')))
      for (let level = 0; level < LIMITS.pageLevels; level++) {
        const pages = names.map((firstName) => ({ firstName, entries: 0, id: page }))
        page = await builder.node(encodeDirectoryPages(pages, hasher(builder)))
      }
      return builder.directory(directory({ bad: directory({}, { node: page }), good: file('good content') }))
    })
    expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('empty page') })
    expect(run.archive.includes('good content')).toBe(true)
  })
})
