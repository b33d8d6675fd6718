// Drills: samples that reach every file, a comparison that believes nothing of the restore, a scratch place that is empty afterwards.
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { compareRestored } from '../../../agent/drill/comparison.ts'
import { type DrillPlan, drillSnapshot, planDrill } from '../../../agent/drill/drill.ts'
import { RING } from '../../../agent/drill/sample.ts'
import { inDrillDirectory, removeTree, requireEmptyScratch } from '../../../agent/drill/scratch.ts'
import { CWD, FileError, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { listEntries } from '../../../agent/restore/list.ts'
import { restoreSnapshot } from '../../../agent/restore/restore.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file, symlink } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const work = folders()
afterAll(() => work.removeAll())
let scratch: string
beforeEach(() => {
  scratch = work.make()
})
const signal = new AbortController().signal
const uid = process.getuid?.() ?? 0
const gid = process.getgid?.() ?? 0
const own = { uid, gid }

const manyFiles = (count: number): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    tree: directory(
      {
        deep: directory(
          Object.fromEntries(Array.from({ length: count }, (_, i) => [`file-${i}`, file(`content ${i} `.repeat(i + 1), own)])),
          own,
        ),
      },
      own,
    ),
  })
const awkward = (): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    tree: directory(
      {
        a: file('a'.repeat(5000), own),
        'no-access': file('hidden', { ...own, mode: 0 }),
        closed: directory({ within: file('within', own) }, { ...own, mode: 0 }),
        one: file('linked'.repeat(100), { ...own, link: { volume: 1, inode: 9n } }),
        two: file('linked'.repeat(100), { ...own, link: { volume: 1, inode: 9n } }),
        sparse: file('xyz', {
          ...own,
          size: 1 << 20,
          extents: [
            { offset: 4096, bytes: 1 },
            { offset: 700_000, bytes: 2 },
          ],
        }),
        sym: symlink('a', { ...own, mode: 0o777 }),
      },
      own,
    ),
  })

type Limits = { readonly files: number; readonly bytes: number }
const ALL: Limits = { files: 1000, bytes: 1e9 }
function plan(built: BuiltRepository, from = 0, limits = ALL, roomBytes = 1e9): Promise<DrillPlan> {
  const { repository, view, snapshot } = built
  return planDrill({ repository, view, keys: built.keys.read, snapshot, limits, from, roomBytes, signal })
}
async function drill(built: BuiltRepository, { fs = posixFileSystem, limits = ALL }: { fs?: FileSystem; limits?: Limits } = {}) {
  const { repository, view, snapshot } = built
  const options = { repository, view, keys: built.keys.read, snapshot, scratch: Buffer.from(scratch), fs, workers: 0, signal }
  return drillSnapshot(options, await plan(built, 0, limits))
}

describe('samples', () => {
  test('reach every file once before any comes again, whatever place they begin at', async () => {
    const built = await manyFiles(37)
    const starts = seededRandom('starts')
    for (let round = 0; round < 4; round++) {
      let from = starts.bytes(6).readUIntBE(0, 6) % RING
      const seen: string[] = []
      const limits = { files: 5, bytes: 1e9 }
      const { drillsForAll } = await plan(built, from, limits)
      expect(drillsForAll).toBe(8)
      for (let i = 0; i < drillsForAll; i++) {
        const { sample } = await plan(built, from, limits)
        expect(sample.paths.length).toBe(5)
        seen.push(...sample.paths.map(String))
        from = sample.next
      }
      expect(new Set(seen).size).toBe(37)
      expect(new Set(seen.slice(0, 37)).size, 'none twice before all were there').toBe(37)
    }
  })

  test('stay within the bytes, but take one file at least', async () => {
    const built = await manyFiles(20)
    for (const bytes of [0, 300, 1000]) {
      const { sample } = await plan(built, 5, { files: 100, bytes })
      expect(sample.paths.length).toBeGreaterThan(0)
      expect(sample.paths.length === 1 || sample.bytes <= bytes).toBe(true)
    }
  })

  test('are the whole snapshot where that is small, and say so', async () => {
    const built = await manyFiles(5)
    expect(await plan(built)).toMatchObject({ selection: { kind: 'whole' }, drillsForAll: 1, sample: { ofFiles: 5, from: 0, next: 0 } })
  })

  test('are the whole snapshot where that is asked for, without a list of it', async () => {
    const built = await manyFiles(30)
    const { repository, view, snapshot } = built
    const named = { repository, view, keys: built.keys.read, snapshot, limits: 'whole', from: 7, roomBytes: 1, signal } as const
    const whole = await planDrill(named)
    expect(whole).toMatchObject({ selection: { kind: 'whole' }, files: 30, drillsForAll: 1, sample: { from: 7, next: 7, tooLarge: [] } })
    const options = {
      repository,
      view,
      keys: built.keys.read,
      snapshot,
      scratch: Buffer.from(scratch),
      fs: posixFileSystem,
      workers: 0,
      signal,
    }
    expect(await drillSnapshot(options, whole)).toMatchObject({ verdict: 'restored', whole: true, files: 30, bytesCompared: whole.bytes })
  })

  test('pass over what there is no room for, name it, and go on', async () => {
    const built = await manyFiles(6)
    const { sample, selection } = await plan(built, 0, ALL, 40)
    expect(sample.tooLarge.length).toBeGreaterThan(0)
    expect(sample.paths.length + sample.tooLarge.length).toBe(6)
    expect(selection.kind).toBe('paths')
    const { repository, view, snapshot } = built
    const options = {
      repository,
      view,
      keys: built.keys.read,
      snapshot,
      scratch: Buffer.from(scratch),
      fs: posixFileSystem,
      workers: 0,
      signal,
    }
    const report = await drillSnapshot(options, await plan(built, 0, ALL, 40))
    expect(report.verdict).toBe('incomplete')
    expect(report.problems.map(({ code }) => code)).toEqual(sample.tooLarge.map(() => 'too-large'))
  })
})

describe('a drill', () => {
  test('of an awkward tree restores all of it, reads every byte again and leaves nothing', async () => {
    const report = await drill(await awkward())
    expect(report).toMatchObject({ verdict: 'restored', problems: [], files: 7, whole: true })
    expect(report.bytesCompared).toBe(5000 + 6 + 6 + 600 * 2 + 3)
    expect(readdirSync(scratch)).toEqual([])
  })

  test('that finds no room on the way says how a drill is given more, or needs less', async () => {
    const fs: FileSystem = { ...posixFileSystem, freeBytes: () => 0 }
    await expect(drill(await manyFiles(3), { fs })).rejects.toThrow(
      /Make room there or name another --scratch, or drill fewer --files or --bytes$/,
    )
  })

  test('of a share restores that share alone', async () => {
    const restored: string[] = []
    const built = await manyFiles(30)
    const { repository, view, snapshot } = built
    const chosen = await plan(built, 0, { files: 4, bytes: 1e9 })
    const report = await drillSnapshot(
      {
        ...{ repository, view, keys: built.keys.read, snapshot, scratch: Buffer.from(scratch), fs: posixFileSystem, workers: 0, signal },
        onEntry: ({ path }) => restored.push(path.toString()),
      },
      chosen,
    )
    expect(report).toMatchObject({ verdict: 'restored', files: 4, entriesCompared: 4, ofFiles: 30, whole: false, next: chosen.sample.next })
    expect(restored.sort()).toEqual(chosen.sample.paths.map(String).sort())
  })

  // Each of them says that it did what it was asked and does something else, as a restore with a fault would.
  const LIES: readonly { what: string; code: string; verdict: string; lie: (fs: FileSystem) => Partial<FileSystem> }[] = [
    {
      what: 'writes another byte',
      ...{ code: 'content', verdict: 'damaged' },
      lie: (fs) => ({
        write: (fd, bytes, position) =>
          fs.write(
            fd,
            Uint8Array.from(bytes, (byte, i) => (i === 0 ? byte ^ 1 : byte)),
            position,
          ),
      }),
    },
    {
      what: 'cuts files',
      code: 'content',
      verdict: 'damaged',
      lie: (fs) => ({ write: (fd, bytes, at) => fs.write(fd, bytes.subarray(1), at) }),
    },
    { what: 'sets no times', code: 'metadata', verdict: 'incomplete', lie: () => ({ setTimes: () => undefined }) },
    { what: 'sets no modes', code: 'metadata', verdict: 'incomplete', lie: () => ({ setMode: () => undefined }) },
    {
      what: 'makes copies of hard links',
      ...{ code: 'metadata', verdict: 'incomplete' },
      lie: (fs) => ({
        makeHardLink: (fromAt, from, toAt, to) => {
          const source = fs.open(fromAt, from, 'read')
          const copy = fs.open(toAt, to, 'create')
          const { size, mode, mtimeNs, uid: owner, gid: group } = fs.stat(fromAt, from)
          const bytes = Buffer.alloc(size)
          fs.read(source, bytes, 0, size, 0)
          fs.write(copy, bytes, 0)
          fs.close(source)
          fs.close(copy)
          fs.setOwner(toAt, to, owner, group)
          fs.setMode(toAt, to, mode)
          fs.setTimes(toAt, to, mtimeNs)
        },
      }),
    },
  ]
  test.each(LIES)('notices a restore that $what', async ({ lie, code, verdict }) => {
    const { repository, view, snapshot, keys } = await awkward()
    const target = Buffer.from(join(scratch, 'target'))
    const lying = new Proxy(posixFileSystem, { get: (fs, name: keyof FileSystem) => lie(fs)[name] ?? fs[name] })
    await restoreSnapshot({ ...{ repository, view, snapshot, keys: keys.read, target, fs: lying, workers: 0, durable: false } })
    const compare = { repository, view, keys: keys.read, snapshot, target, selection: { kind: 'whole' }, fs: posixFileSystem } as const
    const { differences } = await compareRestored(compare)
    expect(new Set(differences.map((one) => one.code))).toEqual(new Set([code]))
    // And the same as a whole.
    const report = await drill(await awkward(), { fs: honestWhenEmptying(lying) })
    expect(report.verdict).toBe(verdict)
    chmodSync(join(scratch, 'target', 'closed'), 0o700)
  })

  test('notices what is missing and what was not backed up', async () => {
    const { repository, view, snapshot, keys } = await awkward()
    const target = join(scratch, 'target')
    await restoreSnapshot(optionsFor(await awkward(), target))
    const options = {
      repository,
      view,
      keys: keys.read,
      snapshot,
      target: Buffer.from(target),
      selection: { kind: 'whole' },
      fs: posixFileSystem,
    } as const
    expect((await compareRestored(options)).differences).toEqual([])
    removeTree(posixFileSystem, posixFileSystem.open(CWD, Buffer.from(target), 'directory'), Buffer.from('closed'))
    posixFileSystem.remove(CWD, Buffer.from(join(target, 'a')), 'file')
    writeFileSync(join(target, 'strange'), 'x')
    const found = (await compareRestored(options)).differences.map(({ path, code }) => `${code} ${path.toString()}`)
    expect(found.sort()).toEqual(['extra /', 'missing /a', 'missing /closed'])
  })

  test('finds damage in the store and names the files, and nothing else', async () => {
    const built = await awkward()
    const { store } = built
    for (const name of await packsOf(built)) {
      const bytes = await store.get(name, { limitBytes: 1e8 })
      // The first segment of the first pack: content, not the tree.
      bytes[20]! ^= 1
      await store.remove(name)
      await store.put(name, { kind: 'bytes', bytes })
    }
    const report = await drill(built)
    expect(report.verdict).toBe('damaged')
    expect(report.problems.length).toBeGreaterThan(0)
    expect(new Set(report.problems.map(({ code }) => code))).toEqual(new Set(['damaged']))
    expect(report.files + report.problems.length).toBe(7)
    expect(readdirSync(scratch)).toEqual([])
  })

  test('removes what it restored also where it fails, and what a killed one left', async () => {
    mkdirSync(join(scratch, 'holdfast-drill-0011', 'left'), { recursive: true })
    const failing = inDrillDirectory(posixFileSystem, Buffer.from(scratch), 'ab', async (path) => {
      expect(readdirSync(scratch)).toEqual([])
      mkdirSync(path.toString())
      writeFileSync(join(path.toString(), 'half'), 'x')
      throw new Error('the store went away')
    })
    await expect(failing).rejects.toThrow('the store went away')
    expect(readdirSync(scratch)).toEqual([])
  })
})

async function packsOf({ store }: BuiltRepository): Promise<string[]> {
  const names: string[] = []
  for await (const page of store.list('packs/')) names.push(...page.map(({ name }) => name))
  return names
}

/** Emptying the scratch place needs the modes that the lie does not set. */
function honestWhenEmptying(lying: FileSystem): FileSystem {
  let isEmptying = false
  return new Proxy(lying, {
    get: (fs, name: keyof FileSystem) => {
      if (name === 'remove') isEmptying = true
      return isEmptying ? posixFileSystem[name] : fs[name]
    },
  })
}

describe('the scratch place', () => {
  test('is refused where something is in it, which stays as it is', () => {
    writeFileSync(join(scratch, 'mine'), 'x')
    expect(() => requireEmptyScratch(posixFileSystem, Buffer.from(scratch))).toThrow(expect.objectContaining({ code: 'conflict' }))
    expect(namesIn(scratch)).toEqual(['mine'])
  })

  test('is emptied of a tree deeper than a path can be, with names that the emptying uses, through no link', () => {
    const outside = work.make()
    writeFileSync(join(outside, 'kept'), 'x')
    const fs = posixFileSystem
    const top = fs.open(CWD, Buffer.from(scratch), 'directory')
    fs.makeDirectory(top, Buffer.from('tree'), 0o700)
    let at = fs.open(top, Buffer.from('tree'), 'directory')
    for (let depth = 0; depth < 1500; depth++) {
      if (depth % 100 === 0) fs.makeSymlink(at, Buffer.from('link'), Buffer.from(outside))
      if (depth === 1) fs.makeDirectory(at, Buffer.from('holdfast-raised-0'), 0o500)
      if (depth === 0) fs.makeDirectory(at, Buffer.from('holdfast-raised-1'), 0o500)
      fs.makeDirectory(at, Buffer.from('down'), 0o700)
      const next = fs.open(at, Buffer.from('down'), 'directory')
      fs.close(at)
      at = next
    }
    fs.close(at)
    removeTree(fs, top, Buffer.from('tree'))
    fs.close(top)
    expect(readdirSync(scratch)).toEqual([])
    expect(existsSync(join(outside, 'kept'))).toBe(true)
  })

  test('that cannot be emptied is said', () => {
    const refusing = new Proxy(posixFileSystem, {
      get: (fs, name: keyof FileSystem) =>
        name === 'remove'
          ? () => {
              throw new FileError('unlink', 'EROFS')
            }
          : fs[name],
    })
    mkdirSync(join(scratch, 'tree'))
    const top = posixFileSystem.open(CWD, Buffer.from(scratch), 'directory')
    expect(() => removeTree(refusing, top, Buffer.from('tree'))).toThrow(expect.objectContaining({ code: 'local-disk' }))
    posixFileSystem.close(top)
  })
})

describe('what the store holds and does not give', () => {
  const build = (): Promise<BuiltRepository> =>
    buildRepository({
      store: memoryStore(),
      segmentBytes: 1,
      packBytes: 1,
      tree: directory(
        { a: file('a'.repeat(3000), own), b: file('b'.repeat(3000), own), inner: directory({ c: file('c'.repeat(3000), own) }, own) },
        own,
      ),
    })

  test.each(['/b', '/inner'])('of %s is named and is no damage, and the next drill goes on behind it', async (path) => {
    const built = await build()
    const packs = await packsOf(built, path)
    const { done, next } = await drillPast(built, () => packs)
    expect(done).toMatchObject({ verdict: 'incomplete', problems: [{ path: Buffer.from(path), code: 'unread' }] })
    expect(done.files).toBe(2)
    expect(done.next).toBe(next)
    expect(readdirSync(scratch)).toEqual([])
  })

  test('while it restores, and gives when it is compared, is not called missing', async () => {
    const built = await build()
    const packs = await packsOf(built, '/inner')
    const { done } = await drillPast(built, (phase) => (phase === 'restoring' ? packs : new Set()))
    expect(done).toMatchObject({ verdict: 'incomplete', problems: [{ path: Buffer.from('/inner'), code: 'unread' }] })
  })

  test('when it is compared, and gave while it was restored, is no damage', async () => {
    const built = await build()
    const packs = await packsOf(built, '/inner')
    const { done } = await drillPast(built, (phase) => (phase === 'comparing' ? packs : new Set()))
    expect(done).toMatchObject({ verdict: 'incomplete', files: 3, problems: [{ path: Buffer.from('/inner'), code: 'unread' }] })
    expect(done.problems).toHaveLength(1)
  })

  test('of more files than are named is no damage either', async () => {
    const [here, gone] = [file('a'.repeat(3000), own), file('b'.repeat(3000), own)]
    const names = Object.fromEntries(Array.from({ length: 12_000 }, (_, i) => [`${i}`.padStart(5, '0'), i === 20 ? here : gone]))
    const built = await buildRepository({ store: memoryStore(), segmentBytes: 1, packBytes: 1, tree: directory(names, own) })
    const packs = await packsOf(built, '/00000')
    const { done } = await drillPast(built, () => packs, { files: 20_000, bytes: 1e9 })
    expect(done).toMatchObject({ verdict: 'incomplete', files: 1 })
    expect(done.problems.every(({ code }) => code === 'unread')).toBe(true)
  })

  async function packsOf(built: BuiltRepository, path: string): Promise<ReadonlySet<string>> {
    const { repository, view, snapshot, keys } = built
    for await (const { path: at, entry } of listEntries({ repository, view, snapshot, keys: keys.read })) {
      if (at.toString() !== path) continue
      const ids = entry.content?.kind === 'chunks' ? entry.content.ids : []
      const places = entry.node === undefined ? ids.flatMap((id) => view.locate(id, 'chunk')) : view.locate(entry.node, 'private')
      return new Set(places.map(({ pack }) => pack.random))
    }
    throw new Error(`there is no ${path}`)
  }

  async function drillPast(built: BuiltRepository, missing: (phase: string) => ReadonlySet<string>, limits = ALL) {
    let phase = 'restoring'
    const { store } = built.repository
    const getRange: typeof store.getRange = (name, range, options) =>
      [...missing(phase)].some((random) => name.endsWith(random))
        ? Promise.reject(new HoldfastError('store-unreachable', 'read failed (EIO)'))
        : store.getRange(name, range, options)
    const repository = { ...built.repository, store: { ...store, location: store.location, getRange } }
    const planned = await plan({ ...built, repository }, 0, limits)
    const { view, snapshot, keys } = built
    const options = { repository, view, keys: keys.read, snapshot, scratch: Buffer.from(scratch), fs: posixFileSystem, workers: 0, signal }
    const onProgress = (told: { phase: string }): void => void (phase = told.phase)
    return { done: await drillSnapshot({ ...options, onProgress }, planned), next: planned.sample.next }
  }
})
