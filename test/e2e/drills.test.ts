// Restore drills of an enrolled appliance, through real processes: asked for where the root is, granted within a standing, time-limited rule, carried
// out by the agent in its drill root, compared, recorded, removed (obligations O10, O23).
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { isoTime, systemClock } from '@holdfast/shared/clock.ts'
import { only } from '../agent/cli/_support/cli.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { type Installation, startInstallation } from './_support/installation.ts'
import { until } from './_support/until.ts'

const FILES = 20
let one: Installation
let snapshotId = ''

beforeAll(async () => {
  const content = seededRandom('drills of an appliance')
  one = await startInstallation({
    source: (place) => {
      mkdirSync(place.path('source', 'below'), { recursive: true })
      for (let i = 0; i < FILES; i++) writeFileSync(place.path('source', 'below', `file-${i}`), content.bytes(1000 + i))
      return place.path('source')
    },
  })
  one.startDaemon()
  const run = await one.recordedRun(await one.nextRun(new Set()))
  snapshotId = run.snapshotId ?? ''
  one.startGranting(['--only', 'restore-test', '--to', 'drill', '--until', '2099-01-31'])
}, 120_000)
afterAll(() => one?.close())

const drill = (...more: string[]) =>
  one.place.json(['drill', '--agent', one.agentId, '--to', 'drill', '--instruction', one.customer.instructionId, ...more], {
    env: { ...one.atController, HOME: one.place.path('controller') },
  })
type RecordSeen = { readonly kind: string; readonly header: Readonly<Record<string, unknown>> }
/** The records of one restore, oldest first, once its end is among them. */
const recordsOf = (restoreId: string): Promise<Readonly<Record<string, unknown>>[]> =>
  until(`the end of ${restoreId} is recorded`, async () => {
    const { items } = await one.api.get<{ items: RecordSeen[] }>('/v1/records?limit=500')
    const headers = items.map(({ header }) => header).filter((header) => header['restoreId'] === restoreId)
    return headers.some(({ kind }) => kind === 'recovery-ended') ? headers.reverse() : undefined
  })

it('a drill takes a share, is granted and carried out without a person, and stands in the records as a restore test', async () => {
  const samples = new Set<string>()
  for (let i = 0; i < 2; i++) {
    const { code, events, summary } = await drill('--files', '6')
    expect(code, JSON.stringify(events)).toBe(0)
    expect(summary).toMatchObject({ result: 'done', counts: { drills: 1, restored: 1, files: 6, problems: 0 } })
    const [done] = only(events, 'drill')
    expect(done).toMatchObject({ outcome: 'restored', snapshotId, files: 6, ofFiles: FILES, agentId: one.agentId, whole: false })
    samples.add(done?.sampleHash ?? '')
    const records = await recordsOf(done?.restoreId ?? '')
    expect(records.map(({ kind }) => kind)).toEqual(['recovery-started', 'recovery', 'recovery-ended'])
    for (const record of records)
      expect(record).toMatchObject({ purpose: 'restore-test', restoreRoot: 'drill', instructionId: one.customer.instructionId, snapshotId })
    expect(records.at(-1)).toMatchObject({ outcome: 'ok', totals: { files: 6, failed: 0 } })
    expect(readdirSync(one.place.path('drill'))).toEqual([])
  }
  expect(samples.size, 'the second took others').toBe(2)
  expect(readdirSync(one.place.path('desk'))).toEqual([])
}, 60_000)

it('the standing grant gives nothing for another purpose or another place, nor after its time', async () => {
  const restoreId = await one.request(snapshotId)
  await until('the watch refused it', () => one.log('controller').includes(restoreId) && true)
  expect(one.log('controller')).toMatch(new RegExp(`${restoreId}.*not granted`))
  expect(await one.restoreState(restoreId)).toBe('awaiting_grant')
  await one.api.post(`/v1/restores/${restoreId}/cancel`, {})
  const watch = ['grant', '--watch', '--only', 'restore-test', '--to', 'drill', '--instruction', one.customer.instructionId, '--every', '1']
  const env = { ...one.atController, HOME: one.place.path('controller') }
  const soon = `${isoTime(Math.ceil(systemClock.now() / 1000) * 1000 + 2000).slice(0, 19)}Z`
  const over = await one.place.json([...watch, '--until', soon], { env })
  expect(over.summary).toMatchObject({ exitCode: 0, counts: { granted: 0 } })
  for (const [terms, says] of [
    [['--until', '2020-01-31'], /is over/],
    [['--until', '2099-02-31'], /is a date in UTC/],
  ] as const) {
    const { events, summary } = await one.place.json([...watch, ...terms], { env })
    expect(summary.code).toBe('usage')
    expect(only(events, 'error')[0]?.message).toMatch(says)
  }
}, 60_000)

it('the drill root takes nothing that is not a drill, whatever the server says', async () => {
  const terms = ['--agent', one.agentId, '--to', 'drill', '--instruction', one.customer.instructionId]
  const { restoreId = '' } = await one.controller(['request', snapshotId, ...terms])
  expect(await one.endedRestore(restoreId)).toBe('failed')
  expect(readdirSync(one.place.path('drill'))).toEqual([])
}, 60_000)

it('a drill of what the store has spoilt ends with 4, is recorded as damage, and leaves nothing', async () => {
  const packs = join(one.store, 'packs')
  for (const entry of readdirSync(packs, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const bytes = readFileSync(path)
    bytes[500]! ^= 1
    chmodSync(path, 0o600)
    writeFileSync(path, bytes)
  }
  const { code, events } = await drill('--whole')
  expect(code, JSON.stringify(events)).toBe(4)
  const [done] = only(events, 'drill')
  expect(done).toMatchObject({ outcome: 'damaged', code: 'damaged', whole: true })
  expect((await recordsOf(done?.restoreId ?? '')).at(-1)).toMatchObject({ outcome: 'incomplete', code: 'damaged', purpose: 'restore-test' })
  expect(readdirSync(one.place.path('drill'))).toEqual([])
  // What the controller's machine keeps of it.
  const history = await one.place.json(['drill', '--history'], { env: { ...one.atController, HOME: one.place.path('controller') } })
  expect(only(history.events, 'drill').map(({ outcome }) => outcome)).toEqual(['restored', 'restored', 'damaged'])
  expect(existsSync(one.place.path('controller', '.local', 'state', 'holdfast', 'drill'))).toBe(true)
}, 60_000)
