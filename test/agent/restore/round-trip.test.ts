// What is backed up comes back the same, by an oracle that shares no code with the product: content, modes, owners, times, links, holes,
// attributes; in one thread and in several; twice, and after an interruption at any point.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { runBackup } from '../../../agent/backup/run.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { rootKeys } from '../../../agent/keys/domain.ts'
import { createRepository, DEFAULT_CHUNKING, openRepository } from '../../../agent/repository/repository.ts'
import { restoreSnapshot, type RestoreOptions } from '../../../agent/restore/restore.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { buildAwkwardTree } from '../../_support/awkward-tree.ts'
import { type Folders, folders } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { compareManifests, compareTrees, treeManifest } from '../../_support/tree-manifest.ts'

const asRoot = process.getuid?.() === 0
let work: Folders
let source: string
let options: Omit<RestoreOptions, 'target'>

beforeAll(async () => {
  work = folders()
  const folder = work.make()
  source = join(folder, 'source')
  for (const name of ['source', 'state']) mkdirSync(join(folder, name), { mode: 0o700 })
  buildAwkwardTree(source)
  const random = seededRandom('round trip')
  const keys = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
  const store = await openDirectoryStore(join(folder, 'store'), { create: true })
  await createRepository({ store, keys: keys.write, signer: keys.signing, chunking: DEFAULT_CHUNKING, enrolled: false, now: 1_000 })
  const repository = await openRepository({ store, keys: keys.write.structure })
  const { snapshot: made } = await runBackup({
    repository,
    keys: keys.write,
    source: {
      label: 'awkward',
      host: 'host',
      paths: [Buffer.from(source)],
      excludes: { patterns: [], cacheDirectories: false, oneFileSystem: false },
    },
    tags: [],
    force: false,
    dryRun: false,
    state: Buffer.from(join(folder, 'state')),
    program: 'test',
    fileSystem: posixFileSystem,
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
  })
  const { view } = await repository.loadView()
  const { snapshots } = await repository.listSnapshots()
  const snapshot = snapshots.find(({ structure }) => structure.ref.random === made?.ref.random)
  if (snapshot === undefined) throw new Error('the backup made no snapshot')
  options = { repository, view, keys: keys.read, snapshot }
})
afterAll(() => work.removeAll())

/** Where the source stands in a restored target. */
const restored = (target: string): string => join(target, source)
const skip = (entry: { kind: string }): boolean => entry.kind === 's'

describe.skipIf(!asRoot)('an awkward tree', () => {
  test('comes back without a difference, through worker threads and in this thread', async () => {
    const before = await treeManifest(source)
    for (const workers of [2, 0]) {
      const target = work.make()
      const report = await restoreSnapshot({ ...options, target: Buffer.from(target), workers })
      expect(report.problems).toEqual([])
      const differences = compareManifests(before, await treeManifest(restored(target)), { top: true, skip, holesWithinBlocks: 16 })
      expect(differences).toEqual([])
      rmSync(target, { recursive: true, force: true })
    }
  })

  test('restored twice is the same tree, with nothing written the second time', async () => {
    const target = work.make()
    await restoreSnapshot({ ...options, target: Buffer.from(target) })
    const again = await restoreSnapshot({ ...options, target: Buffer.from(target) })
    expect(again.problems.map(({ path, code }) => `${path.toString('latin1')} ${code}`)).toEqual([])
    expect(again).toMatchObject({ files: 0, directories: 0, beside: 0 })
    expect(await compareTrees(source, restored(target), { top: true, skip })).toEqual([])
    rmSync(target, { recursive: true, force: true })
  })

  test('comes back the same after restores that were cut off again and again', async () => {
    const target = work.make()
    let entries = 0
    for (const stopAfter of [1, 40, 200, 500]) {
      const abort = new AbortController()
      entries = 0
      const attempt = restoreSnapshot({
        ...options,
        target: Buffer.from(target),
        durable: false,
        workers: stopAfter % 3,
        signal: abort.signal,
        onEntry: () => {
          entries += 1
          if (entries >= stopAfter) abort.abort()
        },
      })
      await expect(attempt).rejects.toMatchObject({ code: 'cancelled' })
    }
    const report = await restoreSnapshot({ ...options, target: Buffer.from(target) })
    expect(report).toMatchObject({ beside: 0, problems: [] })
    expect(report.kept).toBeGreaterThan(100)
    expect(await compareTrees(source, restored(target), { top: true, skip })).toEqual([])
    rmSync(target, { recursive: true, force: true })
  })
})
