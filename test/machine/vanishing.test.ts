// Stores and sources that go away, turn read-only or are taken from under a run: unmounted, renamed, switched off. The run says so with the code of
// what is gone, reports nothing good that is not, and the same command completes when all is back.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { eventsOf, only, type Summary, Workplace } from '../agent/cli/_support/cli.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { startFaultyProxy } from '../_support/faulty-proxy.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { changesIn } from './_support/kill-moment.ts'
import { until } from '../e2e/_support/until.ts'

const MIB = 1024 * 1024
const asRoot = process.getuid?.() === 0
const next = seededNumbers(404)

let work: Workplace
let source: string
const undo: (() => void)[] = []

afterEach(() => {
  for (const act of undo.splice(0).reverse()) act()
  work.close()
})

async function begin(): Promise<void> {
  work = new Workplace()
  source = work.path('source')
  mkdirSync(source)
  for (let i = 0; i < 5; i++) fill(`large-${i}`, 8 * MIB)
  for (let i = 0; i < 100; i++) fill(`small-${i}`, 5000)
}

function fill(name: string, length: number): void {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(next(), at)
  writeFileSync(join(source, name), bytes)
}

const backup = (): string[] => ['backup', source, '--state', work.path('state')]

/** Runs a backup, does `act` after so many changes in `directories`, and gives what it ended with. */
async function during(
  directories: readonly string[],
  changes: number,
  act: () => void | Promise<void>,
): Promise<Summary & { said: string }> {
  const child = work.start([...backup(), '--json'])
  let out = ''
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.resume()
  child.stdin.end()
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const over = new AbortController()
  const stop = (): void => over.abort()
  child.once('close', stop)
  const seen = await changesIn(directories, changes, over.signal)
  expect(seen, `the run ended before its moment came: ${out}`).toBeGreaterThanOrEqual(changes)
  await act()
  await ended
  const events = eventsOf(out)
  const summary = only(events, 'summary')[0]
  if (summary === undefined) throw new Error(`no summary: ${out}`)
  return { ...summary, said: JSON.stringify(events.filter(({ event }) => event === 'error' || event === 'problem')) }
}

async function requireCompletes(): Promise<void> {
  expect((await work.json(backup())).summary).toMatchObject({ exitCode: 0, counts: { problems: 0 } })
  expect((await work.json(['check', '--read-data'])).summary).toMatchObject({ exitCode: 0 })
  const target = work.path('restored')
  expect((await work.json(['restore', 'latest', '--target', target])).summary).toMatchObject({ exitCode: 0 })
  expect(await compareTrees(source, join(target, source))).toEqual([])
}

const snapshots = (): string[] => (existsSync(join(work.repo, 'snapshots')) ? readdirSync(join(work.repo, 'snapshots')) : [])

describe('a directory store', () => {
  it('whose directory is renamed in the middle of a run: 14 or a snapshot that is whole there, and nothing where it was', async () => {
    await begin()
    expect((await work.json(['init'])).summary.exitCode).toBe(0)
    const away = `${work.repo}-away`
    const ended = await during([join(work.repo, 'tmp')], 1, () => renameSync(work.repo, away))
    if (existsSync(work.repo)) expect(readdirSync(work.repo)).toEqual([])
    else renameSync(away, work.repo)
    if (ended.exitCode === 0) expect(snapshots().some((name) => name.endsWith(ended.snapshotId ?? '-'))).toBe(true)
    else {
      expect(ended).toMatchObject({ exitCode: 14, code: 'store-unreachable' })
      expect(snapshots()).toEqual([])
    }
    await requireCompletes()
  }, 120_000)

  it.skipIf(!asRoot)(
    'that is unmounted in the middle of a run: 14 and no snapshot, also not below the mount point',
    async () => {
      await begin()
      mkdirSync(work.repo)
      const image = work.path('disk')
      execFileSync('truncate', ['-s', '256M', image])
      execFileSync('mkfs.ext4', ['-q', '-F', image], { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
      const mount = (): void => void execFileSync('mount', ['-o', 'loop', image, work.repo])
      const unmount = (): void => void execFileSync('umount', ['-l', work.repo])
      mount()
      undo.push(() => execFileSync('umount', [work.repo]))
      expect((await work.json(['init'])).summary.exitCode).toBe(0)
      const ended = await during([join(work.repo, 'tmp')], 1, unmount)
      const below = readdirSync(work.repo)
      mount()
      if (ended.exitCode === 0)
        expect(
          snapshots().some((name) => name.endsWith(ended.snapshotId ?? '-')),
          ended.said,
        ).toBe(true)
      else expect(ended).toMatchObject({ exitCode: 14 })
      expect(below, 'nothing is written to the disk below').toEqual([])
      await requireCompletes()
    },
    120_000,
  )

  it.skipIf(!asRoot)(
    'that is made read-only in the middle of a run: 14, what was there restores, and no snapshot is reported',
    async () => {
      await begin()
      mkdirSync(work.repo)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256M,mode=0700', 'holdfast-test', work.repo])
      undo.push(() => execFileSync('umount', [work.repo]))
      expect((await work.json(['init'])).summary.exitCode).toBe(0)
      // A file system cannot turn while a file is being written, so the run is held meanwhile by no more than retries.
      const remount = (mode: string): boolean => {
        try {
          execFileSync('mount', ['-o', `remount,${mode}`, work.repo], { stdio: 'ignore' })
          return true
        } catch {
          return false
        }
      }
      let isReadOnly = false
      const ended = await during([join(work.repo, 'tmp')], 1, () =>
        until('the store is read-only', () => (isReadOnly = remount('ro')), { everyMs: 1 }).then(() => undefined),
      )
      expect(isReadOnly).toBe(true)
      if (ended.exitCode !== 0) {
        expect(ended).toMatchObject({ exitCode: 14, code: 'store-refused' })
        expect(snapshots()).toEqual([])
      }
      remount('rw')
      await requireCompletes()
    },
    120_000,
  )
})

describe('a real S3 server', () => {
  it('that is switched off in the middle of a run: 14, and the same command goes on where it was once it is back', async () => {
    await begin()
    const s3 = await startRadosgw()
    const port = (): number => Number(new URL(s3.endpoint).port)
    let proxy = await startFaultyProxy(port, () => ({ kind: 'none' }))
    try {
      await s3.createBucket('vanishing')
      work.env = {
        ...work.env,
        AWS_ACCESS_KEY_ID: s3.accessKey,
        AWS_SECRET_ACCESS_KEY: s3.secretKey,
        HOLDFAST_REPO: `s3:${proxy.url}/vanishing/one`,
      }
      expect((await work.json(['init', '--accept-overwrite'])).summary.exitCode).toBe(0)
      const state = work.path('state')
      mkdirSync(join(state, 'spool'), { recursive: true, mode: 0o700 })
      const ended = await during([join(state, 'spool')], 6, () => proxy.close())
      proxy = await startFaultyProxy(port, () => ({ kind: 'none' }), Number(new URL(proxy.url).port))
      expect(ended).toMatchObject({ exitCode: 14, code: 'store-unreachable' })
      await requireCompletes()
    } finally {
      await proxy.close()
      await s3.stop()
    }
  }, 240_000)
})

describe('a source', () => {
  it('whose directory is renamed in the middle of a run: what is gone is named, or there is no snapshot', async () => {
    await begin()
    expect((await work.json(['init'])).summary.exitCode).toBe(0)
    const away = `${source}-away`
    const state = work.path('state')
    mkdirSync(join(state, 'spool'), { recursive: true, mode: 0o700 })
    const ended = await during([join(state, 'spool')], 2, () => renameSync(source, away))
    renameSync(away, source)
    expect([0, 1, 3], ended.said).toContain(ended.exitCode)
    if (ended.exitCode === 0) await requireWhole(ended.snapshotId ?? '')
    await requireCompletes()
  }, 120_000)

  it.skipIf(!asRoot)(
    'that is unmounted between runs, or in the middle of one, makes no snapshot of the empty directory below',
    async () => {
      await begin()
      const place = work.path('mounted')
      mkdirSync(place)
      const behind = source
      const bind = (): void => void execFileSync('mount', ['--bind', behind, place])
      bind()
      undo.push(() => execFileSync('umount', [place]))
      source = place
      expect((await work.json(['init'])).summary.exitCode).toBe(0)
      expect((await work.json(backup())).summary.exitCode).toBe(0)
      fill('large-1', 8 * MIB)
      const ended = await during([join(work.path('state'), 'spool')], 1, () => void execFileSync('umount', ['-l', place]))
      if (ended.exitCode === 0) {
        bind()
        await requireWhole(ended.snapshotId ?? '')
        execFileSync('umount', [place])
      } else expect([1, 3], ended.said).toContain(ended.exitCode)
      const before = snapshots().length
      expect((await work.json(backup())).summary).toMatchObject({ exitCode: 1, code: expect.stringMatching(/^source-(?:empty|missing)$/) })
      expect(snapshots()).toHaveLength(before)
      bind()
      await requireCompletes()
    },
    120_000,
  )
})

/** A run that says it is done has everything, whatever happened while it read. */
async function requireWhole(id: string): Promise<void> {
  const target = work.path('whole')
  expect((await work.json(['restore', id, '--target', target])).summary).toMatchObject({ exitCode: 0 })
  expect(await compareTrees(source, join(target, source))).toEqual([])
}
