// Who is not root restores what their rights allow; whatever needs more is named, each thing with what it lacks, and no right is given away.
import { execFile } from 'node:child_process'
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { restoreSnapshot } from '../../../agent/restore/restore.ts'
import { buildRepository, directory, file, symlink } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const NOBODY = 65_534
const asRoot = process.getuid?.() === 0
const launcher = join(import.meta.dirname, '../../../bin/node-run')
const program = join(import.meta.dirname, '_support/restore-as.ts')
const work = folders()
afterAll(() => work.removeAll())

test.skipIf(!asRoot)('as another user: content, modes and times come back, owners, devices and root’s attributes are named', async () => {
  const folder = work.make()
  const [storage, target] = [join(folder, 'store'), join(folder, 'target')]
  const mine = { uid: NOBODY, gid: NOBODY }
  const store = await openDirectoryStore(storage, { create: true })
  const content = seededRandom('content').bytes(5000)
  const attribute = (name: string): { attributes: { name: Buffer; value: Buffer }[] } => ({
    attributes: [{ name: Buffer.from(name), value: Buffer.from('value') }],
  })
  await buildRepository({
    store,
    seed: 'unprivileged',
    tree: directory(
      {
        data: directory(
          {
            device: { kind: 'character-device', major: 1, minor: 3, ...mine },
            foreign: file(content, { uid: 1234, gid: 1234, mode: 0o640 }),
            mine: file(content, { ...mine, mode: 0o600 }),
            'set-id': file('runs as somebody else', { uid: 0, gid: 0, mode: 0o6755 }),
            'set-id-mine': file('runs as me', { ...mine, mode: 0o6755 }),
            sym: symlink('foreign', { uid: 1234, gid: 1234, mode: 0o777 }),
            trusted: file('x', { ...mine, ...attribute('trusted.note') }),
            unreadable: directory({ deep: file('below', mine) }, { ...mine, mode: 0o000 }),
          },
          { ...mine, mode: 0o750 },
        ),
      },
      { passage: true },
    ),
  })
  await store.close()
  mkdirSync(target)
  chownSync(target, NOBODY, NOBODY)
  await promisify(execFile)('chmod', ['-R', 'a+rX', storage])
  chmodSync(folder, 0o755)
  // The fixture's keys follow from its seed.
  const random = seededRandom('unprivileged')
  const [root, domain] = [random.bytes(32).toString('hex'), random.bytes(16).toString('hex')]
  const restore = async (): Promise<{ uid: number; files: number; kept: number; beside: number; failed: number; problems: string[][] }> => {
    const { stdout } = await promisify(execFile)('sh', [launcher, program, storage, root, domain, target, String(NOBODY)], {
      env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: '' },
    })
    return JSON.parse(stdout) as Awaited<ReturnType<typeof restore>>
  }
  const report = await restore()
  expect(report).toMatchObject({ uid: NOBODY, files: 7, failed: 1, beside: 0 })
  expect(report.problems.sort()).toEqual([
    ['/data/device', 'refused', 'EPERM'],
    ['/data/foreign', 'owner', 'EPERM'],
    ['/data/set-id', 'mode', 'EPERM'],
    ['/data/set-id', 'owner', 'EPERM'],
    ['/data/sym', 'owner', 'EPERM'],
    ['/data/trusted', 'attribute', 'EPERM'],
  ])
  const stat = (name: string): { mode: number; uid: number; mtimeNs: bigint } => {
    const { mode, uid, mtimeNs } = lstatSync(join(target, 'data', name), { bigint: true })
    return { mode: Number(mode & 0o7777n), uid: Number(uid), mtimeNs }
  }
  const time = 1_600_000_000_123_456_789n
  expect(stat('foreign')).toEqual({ mode: 0o640, uid: NOBODY, mtimeNs: time })
  expect(stat('mine')).toEqual({ mode: 0o600, uid: NOBODY, mtimeNs: time })
  // Without its owner a set-uid file would run with the rights of whoever restored it.
  expect(stat('set-id').mode).toBe(0o755)
  expect(stat('set-id-mine').mode).toBe(0o6755)
  expect(stat('unreadable')).toEqual({ mode: 0, uid: NOBODY, mtimeNs: time })
  expect(readFileSync(join(target, 'data/foreign')).equals(content)).toBe(true)
  const names = namesIn(target)
  expect(names).toContain('data/unreadable/deep')
  expect(names.filter((name) => name.includes('.holdfast-restore-'))).toEqual([])

  const again = await restore()
  expect(again).toMatchObject({ files: 0, beside: 0 })
  expect(namesIn(target)).toEqual(names)
})

test.skipIf(!asRoot)('one’s own files below directories of root come back without a problem', async () => {
  const folder = work.make()
  const [storage, target] = [join(folder, 'store'), join(folder, 'target')]
  const mine = { uid: NOBODY, gid: NOBODY }
  const store = await openDirectoryStore(storage, { create: true })
  const passage = { uid: 0, gid: 0, mode: 0o2755, passage: true } as const
  const me = directory({ note: file('mine', { ...mine, mode: 0o600 }) }, { ...mine, mode: 0o750 })
  await buildRepository({ store, seed: 'passages', tree: directory({ home: directory({ me }, passage) }, passage) })
  await store.close()
  mkdirSync(target)
  chownSync(target, NOBODY, NOBODY)
  await promisify(execFile)('chmod', ['-R', 'a+rX', storage])
  chmodSync(folder, 0o755)
  const random = seededRandom('passages')
  const [root, domain] = [random.bytes(32).toString('hex'), random.bytes(16).toString('hex')]
  const { stdout } = await promisify(execFile)('sh', [launcher, program, storage, root, domain, target, String(NOBODY)], {
    env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: '' },
  })
  expect(JSON.parse(stdout)).toMatchObject({ uid: NOBODY, files: 1, failed: 0, problems: [] })
  // Set-gid without its group would give away what was not asked for.
  expect(lstatSync(join(target, 'home')).mode & 0o7777).toBe(0o755)
  expect(readFileSync(join(target, 'home/me/note'), 'utf8')).toBe('mine')
})

test.skipIf(!asRoot)('with --overwrite never, directories of somebody else that stand as they were backed up are no problem', async () => {
  const folder = work.make()
  const [storage, target] = [join(folder, 'store'), join(folder, 'target')]
  const store = await openDirectoryStore(storage, { create: true })
  const roots = (mode: number) => directory({ note: file('there') }, { uid: 0, gid: 0, mode })
  const tree = directory({ closed: roots(0o555), open: roots(0o755) }, { passage: true })
  const built = await buildRepository({ store, seed: 'of root', tree })
  mkdirSync(target)
  await restoreSnapshot(optionsFor(built, target))
  await store.close()
  chownSync(target, NOBODY, NOBODY)
  await promisify(execFile)('chmod', ['-R', 'a+rX', storage])
  chmodSync(folder, 0o755)
  const random = seededRandom('of root')
  const [root, domain] = [random.bytes(32).toString('hex'), random.bytes(16).toString('hex')]
  const { stdout } = await promisify(execFile)('sh', [launcher, program, storage, root, domain, target, String(NOBODY), 'never'], {
    env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: '' },
  })
  expect(JSON.parse(stdout)).toMatchObject({ uid: NOBODY, files: 0, kept: 2, failed: 0, problems: [] })
})
