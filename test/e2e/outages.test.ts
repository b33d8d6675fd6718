// Processes that die in the middle of the enrolled job: the control server and Redis during a run, the daemon during a run and during a restore.
// Afterwards every file that was transmitted has its one record, the chain has no gap, and what was asked for is carried out (O4).
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { S3Server } from '../../demo/s3-server.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { requireExactly, requireWholeChain, tokensOfSource, transmissionsOf } from './_support/exported-records.ts'
import { filesBelow } from './_support/leak-search.ts'
import { type Installation, startInstallation } from './_support/installation.ts'
import { lookIntoSpool } from './_support/spool.ts'
import { until } from './_support/until.ts'

const MIB = 1024 * 1024
const SMALL_FILES = 600
/** Slow enough that a run of some packs lasts for as long as the kills take. */
const UPLOAD_BYTES_PER_SECOND = 8 * MIB

let s3: S3Server
let one: Installation
const next = seededNumbers(77)

beforeAll(async () => {
  s3 = await startRadosgw()
  one = await startInstallation({
    s3,
    uploadBytesPerSecond: UPLOAD_BYTES_PER_SECOND,
    source: (place) => {
      const source = place.path('source')
      mkdirSync(join(source, 'small'), { recursive: true })
      for (let i = 0; i < SMALL_FILES; i++) writeFileSync(join(source, 'small', `file-${i}`), noise(200 + (next() % 3000)))
      for (let i = 0; i < 8; i++) writeFileSync(join(source, `large-${i}`), noise(9 * MIB))
      return source
    },
  })
  one.startGranting()
}, 120_000)

afterAll(async () => {
  await one?.close()
  await s3?.stop()
})

let first: string
let killed: string
let restoreId: string

it('a server that is killed three times, and a Redis that is killed and emptied, in the middle of a run lose no record', async () => {
  one.startDaemon()
  first = await one.nextRun(new Set())
  const state = one.place.path('agent', 'engine')
  const footers = (count: number): Promise<true> =>
    until(`${count} packs are durable`, () => lookIntoSpool(state).footers.size >= count && true, { everyMs: 10 })
  await footers(1)
  await one.killServer()
  await footers(2)
  await one.redis.kill()
  await one.redis.restart()
  await one.startServer()
  await one.redis.command('FLUSHALL')
  await one.killServer()
  await one.startServer()
  await one.redis.kill()
  await one.redis.restart()
  expect(await stateOf(first), 'the run is still on').toBe('running')
  await one.killServer()
  await one.startServer()
  await one.redis.command('FLUSHALL')

  const run = await one.recordedRun(first)
  expect(run).toMatchObject({ state: 'ok', code: null })
  const expected = new Set((await tokensOfSource(one)).keys())
  await requireExactly(one, first, expected)
  expect(run.recordedFiles).toBe(expected.size)
  await requireWholeChain(one)
}, 180_000)

it('a daemon that is killed in the middle of a restore takes it up again once its lease is over', async () => {
  const snapshotId = (await one.runs()).find(({ id }) => id === first)?.snapshotId ?? ''
  restoreId = await one.request(snapshotId)
  const restored = join(one.place.path('desk'), one.source, 'small')
  await until('the restore writes files', () => existsSync(restored) && readdirSync(restored).length > 5, { everyMs: 2 })
  await one.killDaemon()
  expect(await one.restoreState(restoreId)).toBe('running')
  expect(missingFiles(), 'it was killed in the middle').not.toEqual([])
  one.startDaemon()
}, 120_000)

it('a daemon that is killed in the middle of a run records the run as interrupted, and the next one transmits the rest', async () => {
  for (let i = 0; i < 4; i++) writeFileSync(join(one.source, `later-${i}`), noise(9 * MIB))
  killed = await one.backupNow()
  const state = one.place.path('agent', 'engine')
  await until('a pack is durable', () => lookIntoSpool(state).footers.size > 0, { everyMs: 5 })
  await one.killDaemon()
  one.startDaemon()
  const cutOff = await one.recordedRun(killed)
  expect(cutOff).toMatchObject({ state: 'failed', code: 'interrupted', snapshotId: null })
  const after = await one.backupNow()
  expect(await one.recordedRun(after)).toMatchObject({ state: 'ok' })
  const told = await transmissionsOf(one, killed)
  const toldAfter = await transmissionsOf(one, after)
  for (const tokens of [told, toldAfter]) expect(new Set(tokens).size, 'once in a run').toBe(tokens.length)
  const later = [...(await tokensOfSource(one))].filter(([, path]) => path.includes('/later-')).map(([token]) => token)
  // What was durable before the kill was told of then, or is told of now; never by nobody.
  expect(new Set([...told, ...toldAfter])).toEqual(new Set(later))
  await requireWholeChain(one)
}, 180_000)

it('the interrupted restore completes, leaves exactly the files of its snapshot, and its recoveries are recorded', async () => {
  expect(await one.endedRestore(restoreId, { withinMs: 150_000 })).toBe('completed')
  const restored = join(one.place.path('desk'), one.source)
  const isLater = (path: string): boolean => path.startsWith('later-')
  expect(await compareTrees(one.source, restored, { skip: ({ path }) => isLater(path) || path === '' })).toEqual([])
  expect(readdirSync(restored).filter(isLater)).toEqual([])
  const recoveries = await until('its end is recorded', async () => {
    const found = (await one.runs()).filter(({ kind }) => kind === 'recovery')
    return found.length === 2 && found.every(({ recorded }) => recorded) && found
  })
  expect(recoveries.map(({ state, code }) => [state, code]).sort()).toEqual([
    ['failed', 'interrupted'],
    ['ok', null],
  ])
  await requireWholeChain(one)
}, 180_000)

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(next(), at)
  return bytes
}

async function stateOf(runId: string): Promise<string | undefined> {
  return (await one.runs()).find(({ id }) => id === runId)?.state
}

function missingFiles(): string[] {
  const restored = new Set(filesBelow(join(one.place.path('desk'), one.source)).map(({ name }) => name))
  return filesBelow(one.source).flatMap(({ name }) => (restored.has(name) ? [] : [name]))
}
