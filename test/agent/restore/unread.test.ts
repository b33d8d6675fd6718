// A restore and what the store holds and does not give: the bad sector of a disk, a bucket's object in a class that has to be thawed. Nobody could look,
// so it is not damage, and it keeps nothing else from its owner.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { dumpFile } from '../../../agent/restore/dump.ts'
import { listEntries } from '../../../agent/restore/list.ts'
import { blake3 } from '../../../agent/repository/blake3.ts'
import { createPackReader, type PackReader } from '../../../agent/repository/pack-reader.ts'
import type { Repository } from '../../../agent/repository/repository.ts'
import { createView } from '../../../agent/repository/view.ts'
import { readPast, wholeViewPast } from '../../../agent/restore/read-past.ts'
import { ReportBuilder } from '../../../agent/restore/report.ts'
import { requireAllRead, restoreSnapshot } from '../../../agent/restore/restore.ts'
import { readDirectory } from '../../../agent/restore/tree-reader.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const work = folders()
afterAll(() => work.removeAll())
let target: string
beforeEach(() => {
  target = work.make()
})

const large = seededRandom('large').bytes(6 << 20)

/** Every segment is a pack of its own, so that one of them can be the one that is not given. */
const build = (): Promise<BuiltRepository> =>
  buildRepository({
    store: memoryStore(),
    segmentBytes: 1,
    packBytes: 1,
    tree: directory({
      a: file('a'.repeat(3000)),
      b: file('b'.repeat(3000)),
      inner: directory({ c: file('c'.repeat(3000)) }),
      large: file(large, { chunkBytes: 700_001 }),
    }),
  })

type Refusal = { readonly packs: ReadonlySet<string>; times: number; readonly away?: boolean }

/** The repository on a store that gives certain packs only after so many refusals, or is away with the first. */
function refusing(built: BuiltRepository, refusal: Refusal): BuiltRepository {
  const { store } = built.repository
  const fail = (): never => {
    refusal.times -= 1
    throw new HoldfastError('store-unreachable', 'read failed (EIO); check the disk or share and try again')
  }
  const failing: Store = {
    ...store,
    location: store.location,
    getRange: (name, range, options) =>
      [...refusal.packs].some((random) => name.endsWith(random)) && refusal.times > 0 ? fail() : store.getRange(name, range, options),
    head: (name, options) => (refusal.away === true && refusal.times < 9 ? fail() : store.head(name, options)),
  }
  return { ...built, repository: { ...built.repository, store: failing } }
}

async function packsOf(built: BuiltRepository, path: string): Promise<Set<string>> {
  const { repository, view, snapshot, keys } = built
  for await (const { path: at, entry } of listEntries({ repository, view, snapshot, keys: keys.read })) {
    if (at.toString() !== path) continue
    const places =
      entry.kind === 'directory'
        ? view.locate(entry.node!, 'private')
        : entry.content?.kind === 'chunks'
          ? entry.content.ids.flatMap((id) => view.locate(id, 'chunk'))
          : []
    const names = new Set(places.map(({ pack }) => packName(pack).split('/').at(-1)!))
    expect(names.size).toBeGreaterThan(0)
    return names
  }
  throw new Error(`there is no ${path}`)
}

describe('what the store holds and does not give', () => {
  test('of a file keeps back that file alone, which is named as unread and not as damaged, and comes with the next restore', async () => {
    const built = await build()
    const bad = refusing(built, { packs: await packsOf(built, '/b'), times: Infinity })
    const report = await restoreSnapshot(optionsFor(bad, target))
    expect(report).toMatchObject({ files: 3, failed: 1, unread: 1, damaged: 0, problems: [{ path: Buffer.from('/b'), code: 'unread' }] })
    expect(namesIn(target).filter((name) => !name.startsWith('.holdfast'))).toEqual(['a', 'inner/', 'inner/c', 'large'])
    expect(() => requireAllRead(report)).toThrow(
      expect.objectContaining({
        code: 'unread',
        exitCode: 14,
        retryable: true,
        message: expect.stringMatching(/1 path could not be restored.*EIO.*run the same restore again/),
      }),
    )
    const again = await restoreSnapshot(optionsFor(built, target))
    expect(again).toMatchObject({ files: 1, kept: 3, problemCount: 0, beside: 0 })
    expect(() => requireAllRead(again)).not.toThrow()
    expect(readFileSync(join(target, 'b'), 'utf8')).toBe('b'.repeat(3000))
    expect(namesIn(target)).toEqual(['a', 'b', 'inner/', 'inner/c', 'large'])
  })

  test("makes nobody's file that stood in the target before a half-written one, which the next restore would replace", async () => {
    const built = await build()
    const bad = refusing(built, { packs: await packsOf(built, '/b'), times: Infinity })
    await restoreSnapshot(optionsFor(built, target, { selection: { kind: 'paths', paths: [Buffer.from('/a')] } }))
    const { mtimeNs } = posixFileSystem.stat(CWD, Buffer.from(join(target, 'a')))
    writeFileSync(join(target, 'a'), 'z'.repeat(3000))
    posixFileSystem.setTimes(CWD, Buffer.from(join(target, 'a')), mtimeNs)
    for (const from of [bad, bad, built]) await restoreSnapshot(optionsFor(from, target, { durable: true }))
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('z'.repeat(3000))
    expect(namesIn(target).filter((name) => name.startsWith('.holdfast'))).toEqual([])
  })

  test('of a large file leaves nothing half of it', async () => {
    const built = await build()
    const [, second] = await packsOf(built, '/large')
    const report = await restoreSnapshot(optionsFor(refusing(built, { packs: new Set([second!]), times: Infinity }), target))
    expect(report).toMatchObject({ files: 3, failed: 1, unread: 1, problems: [{ path: Buffer.from('/large'), code: 'unread' }] })
    expect(namesIn(target)).not.toContain('large')
  })

  test('of a directory keeps back what is in that directory', async () => {
    const built = await build()
    const bad = refusing(built, { packs: await packsOf(built, '/inner'), times: Infinity })
    for (const dryRun of [true, false])
      expect(await restoreSnapshot(optionsFor(bad, target, { dryRun }))).toMatchObject({
        files: 3,
        unread: 1,
        damaged: 0,
        problems: [{ path: Buffer.from('/inner'), code: 'unread' }],
      })
  })

  test('of a directory hides no other name in a listing, and no other file from whoever wants it', async () => {
    const built = await build()
    const { repository, view, snapshot, keys } = refusing(built, { packs: await packsOf(built, '/inner'), times: Infinity })
    const options = { repository, view, snapshot, keys: keys.read }
    const listed: string[] = []
    for await (const { path, error } of listEntries(options)) listed.push(`${path.toString()} ${error?.code ?? 'is there'}`)
    expect(listed).toEqual(['/a is there', '/b is there', '/inner is there', '/inner unread', '/large is there'])
    const dump = async (path: string): Promise<string> => {
      const parts: Buffer[] = []
      await dumpFile({ ...options, path: Buffer.from(path), write: (bytes) => void parts.push(Buffer.from(bytes)) })
      return Buffer.concat(parts).toString()
    }
    expect(await dump('/b')).toBe('b'.repeat(3000))
    await expect(dump('/inner/c')).rejects.toMatchObject({ code: 'unread', exitCode: 14 })
  })

  test('of a pack that no index file names keeps back what is in that pack alone', async () => {
    const indexed = await build()
    const packs = await packsOf(indexed, '/b')
    const built = { ...indexed, view: createView([]) }
    const { repository } = refusing(indexed, { packs, times: Infinity })
    const withoutIndex: Repository = { ...repository, loadView: () => Promise.resolve({ view: createView([]), refused: [] }) }
    const { view, refused } = await wholeViewPast(withoutIndex)
    expect(refused).toMatchObject([{ name: expect.stringMatching([...packs][0]!), error: { code: 'unread' } }])
    for (const known of [view, built.view])
      expect(await restoreSnapshot(optionsFor({ ...built, repository, view: known }, work.make()))).toMatchObject({
        files: 3,
        unread: 1,
        damaged: 0,
        problems: [{ path: Buffer.from('/b'), code: 'unread' }],
      })
  })

  test('is not asked for more often than it takes to know, however many files need it', async () => {
    const contents = Array.from({ length: 40 }, (_, i) => seededRandom(`many ${i}`).bytes(300_000))
    const built = await buildRepository({
      store: memoryStore(),
      segmentBytes: 1,
      tree: directory({ ...Object.fromEntries(contents.map((content, i) => [`f${i}`, file(content)])) }),
    })
    const asked = { packs: await packsOf(built, '/f0'), times: 1_000_000 }
    expect(asked.packs.size).toBe(1)
    const { repository, view, keys } = refusing(built, asked)
    const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys: keys.read })
    const ids = contents.map((content) => blake3.keyed(repository.keys.idKey).hex(content))
    const sealed = await reader.fetchSealed(ids.flatMap((id) => view.locate(id, 'chunk')))
    expect(sealed.map((bytes) => isHoldfastError(bytes, 'unread'))).toEqual(ids.map(() => true))
    for (const id of ids) await expect(reader.readChunk(id)).rejects.toMatchObject({ code: 'unread' })
    // One for each file, one for each read that several of them share, one more for the first, and the footer.
    expect(1_000_000 - asked.times).toBeLessThan(40 * 2)
  })

  test('of a directory of many pages hides no other page, and is told before the damage of another, as the next restore still finds something', async () => {
    const tree = directory(Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, file(name)])), { pageEntries: 1 })
    const { repository, view, keys, snapshot } = await buildRepository({ store: memoryStore(), tree })
    const whole = createPackReader({ store: repository.store, structure: repository.keys, view, keys: keys.read })
    const { root } = snapshot.structure
    const node = await whole.readNode(root)
    const [, second, third] = node.type === 'directory-pages' ? node.pages : []
    const failures = new Map([
      [second?.id, new HoldfastError('damaged', 'other bytes')],
      [third?.id, new HoldfastError('unread', 'not given')],
    ])
    const readNode: PackReader['readNode'] = (id) => (failures.has(id) ? Promise.reject(failures.get(id)!) : whole.readNode(id))
    const names: string[] = []
    const read = async (): Promise<void> => {
      for await (const entries of readDirectory({ ...whole, readNode }, root)) names.push(...entries.map(({ name }) => name.toString()))
    }
    await expect(read()).rejects.toMatchObject({ code: 'unread' })
    expect(names).toEqual(['a', 'd'])
  })

  test('only once is asked for again and noticed by nobody', async () => {
    const built = await build()
    const bad = refusing(built, { packs: await packsOf(built, '/b'), times: 1 })
    expect(await restoreSnapshot(optionsFor(bad, target))).toMatchObject({ files: 4, problemCount: 0, unread: 0 })
  })

  test('as it is away altogether ends the restore', async () => {
    const built = await build()
    const bad = refusing(built, { packs: await packsOf(built, '/b'), times: 9, away: true })
    await expect(restoreSnapshot(optionsFor(bad, target))).rejects.toMatchObject({ code: 'store-unreachable' })
  })
})

test('what could not be set as it was hides no damage, however much of it there is', () => {
  const report = new ReportBuilder({ totals: { files: undefined, bytes: undefined } })
  for (let i = 0; i < 10_001; i++) for (const code of ['owner', 'refused'] as const) report.problem(Buffer.from(`/${i}`), code, 'EPERM')
  report.problem(Buffer.from('/lost'), 'damaged')
  const { problems, problemCount, damaged } = report.finish()
  expect([problems.length, problemCount, damaged]).toEqual([20_001, 20_003, 1])
  expect(problems[0]).toMatchObject({ path: Buffer.from('/lost'), code: 'damaged' })
})
