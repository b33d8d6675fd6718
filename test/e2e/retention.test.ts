// Retention from end to end: the real engine and the real server over one simulated bucket and clock, day by day. The appliance's credentials cannot
// delete; the server deletes what the appliance names and no more, the store shrinks, and every snapshot that stays is whole.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Deletion } from '@holdfast/shared/protocol/deletions.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import { done } from '@holdfast/shared/protocol/agent.ts'
import { encodeCollectionList, type CollectionListBody } from '@holdfast/shared/format/collection-list.ts'
import { objectName, parseObjectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { lookForDeletions } from 'holdfast-server/deletions/look.ts'
import { runBackup } from '../../agent/backup/run.ts'
import { checkRepository } from '../../agent/check/check.ts'
import { runCollection } from '../../agent/daemon/collection-task.ts'
import { excludeRules } from '../../agent/daemon/agent-config.ts'
import { AGENT_ROUTES, needsRoutes } from '../../agent/daemon/routes.ts'
import { posixFileSystem } from '../../agent/file-system/posix-file-system.ts'
import { agentWriter } from '../../agent/keys/domain.ts'
import { writerIdOf } from '../../agent/keys/bundle.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { encodeRoster } from '../agent/backup/roster-object.ts'
import { makeCustomer, type Customer } from '../agent/daemon/_support/appliance.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { SimulatedBucket } from '../_support/simulated-store.ts'
import { TestClock } from '../_support/test-clock.ts'

const DAY = 86_400_000
const random = seededRandom('retention')
let clock: TestClock
let bucket: SimulatedBucket
let one: Customer
let policy: AgentPolicy

beforeEach(async () => {
  clock = new TestClock()
  bucket = new SimulatedBucket({ clock })
  one = await makeCustomer({ first: 'first' }, { clock, bucket })
  // As the daemon puts it there from the server's relay.
  const { keys } = appliance()
  await one.store.put(...encodeRoster(one.keys, [keys.writer], clock.now()))
  const { id } = await one.makePolicy({ schedule: { every: '24h' }, retention: { daily: 3 } })
  const credentials = { accessKeyId: 'deleter', secretAccessKey: 'secret' }
  await one.server.call('PUT', `/v1/stores/${one.ids.storeId}/delete-credentials`, one.token, credentials)
  policy = {
    ...{
      policyId: id,
      version: 1,
      source: 'documents',
      schedule: { every: '24h' },
      storeId: one.ids.storeId,
      instructionId: one.ids.instructionId,
    },
    ...{ purpose: 'backup', tags: [], excludes: [], retention: { daily: 3 }, enabled: true, since: isoTime(clock.now()) },
  }
})
afterEach(() => one.close())

function appliance() {
  const agent = one.agent()
  const writer = agentWriter(agent.key.seed, writerIdOf(agent.agentId))
  return { agent, keys: { ...one.keys.write, writer } }
}

const open = () => openRepository({ store: bucket.store('appliance', { remove: false }), keys: appliance().keys.structure })

/** One day's run and its report, as the daemon makes them. */
async function backup(): Promise<string> {
  const { keys } = appliance()
  const result = await runBackup({
    ...{ repository: await open(), keys, tags: [], force: false, dryRun: false, program: 'holdfast test', clock, random: systemRandom },
    source: {
      label: 'documents',
      host: 'appliance-1',
      paths: [Buffer.from(one.at('source'))],
      excludes: excludeRules(one.config, 'documents', []),
    },
    ...{
      state: Buffer.from(join(one.folder, 'engine')),
      fileSystem: posixFileSystem,
      limits: { workers: 1 },
      signal: new AbortController().signal,
    },
  })
  const { snapshot } = result
  if (snapshot === undefined) throw new Error('no snapshot')
  const report = {
    ...{
      snapshotId: snapshot.ref.random,
      runId: `run_${systemRandom.bytes(16).toString('hex')}`,
      storeId: one.ids.storeId,
      source: 'documents',
    },
    ...{ series: snapshot.series.toString('hex'), at: isoTime(snapshot.startedAt), files: 1, bytes: 1, storedBytes: 1, tags: [] },
  }
  await one.client.call(done, { ...AGENT_ROUTES.snapshots, json: report })
  return snapshot.ref.random
}

async function collect(mayCollect = true) {
  const { keys } = appliance()
  const parts = { repository: await open(), keys, client: one.client, directory: one.directory, clock, random: systemRandom }
  return runCollection({ ...parts, signal: new AbortController().signal }, one.ids.storeId, [policy], mayCollect)
}

const look = () => lookForDeletions(one.server.context, one.ids.storeId)

async function deletions(): Promise<Deletion[]> {
  return (await one.server.call('GET', '/v1/deletions', one.token)).json()['items'] as unknown as Deletion[]
}

/** A tree of which a part is new each day. */
function changeFiles(day: number): void {
  mkdirSync(one.at('source'), { recursive: true })
  writeFileSync(join(one.at('source'), `of-day-${day % 4}`), random.bytes(400_000))
  if (day === 2) rmSync(join(one.at('source'), 'first'))
}

it('a month of daily runs: what retention lets go is deleted after the undelete window, and what stays is whole', async () => {
  const stored: number[] = []
  for (let day = 0; day < 26; day++) {
    changeFiles(day)
    await backup()
    const end = await collect()
    expect(end.stated).toBe(1)
    expect(await look()).toMatchObject({ held: 0 })
    stored.push(bucket.names('packs/').reduce((sum, name) => sum + (bucket.content(name)?.length ?? 0), 0))
    clock.advance(DAY)
  }
  const all = await deletions()
  expect(all.filter(({ state }) => state === 'done').length).toBeGreaterThan(5)
  expect(all.filter(({ state }) => state === 'held')).toEqual([])
  // Nobody but the server removed anything.
  expect(
    new Set(bucket.trace.filter(({ operation, outcome }) => operation === 'remove' && outcome === 'ok').map(({ actor }) => actor)),
  ).toEqual(new Set(['server']))
  // The store no longer grows with the days: three kept, and what the window still holds.
  expect(stored[25]!).toBeLessThan(stored[20]! * 1.15)
  const repository = await open()
  const { snapshots } = await repository.listSnapshots()
  expect(snapshots).toHaveLength(3)
  // Every segment of what is left opens, and every snapshot that stays finds all that it needs.
  const report = await checkRepository({ repository, readData: 'all', content: true, keys: one.keys.read })
  expect(report).toMatchObject({ lostBlobs: 0, unsureBlobs: 0, affected: [], paths: [] })
  const gone = new Set(all.flatMap(({ state, counts }) => (state === 'done' ? [counts.packs] : [])))
  expect(Math.max(...gone)).toBeGreaterThan(0)
}, 120_000)

it('a stolen appliance that condemns everything, waits, and names it loses nothing: every list is held, and what it names stays whole', async () => {
  for (let day = 0; day < 4; day++) {
    changeFiles(day)
    await backup()
    await collect(false)
    clock.advance(DAY)
  }
  const { keys } = appliance()
  const packs = bucket.names('packs/').map((name) => parseObjectName(name)!)
  const snapshots = bucket.names('snapshots/').map((name) => parseObjectName(name)!)
  const publish = async (list: CollectionListBody): Promise<ObjectRef> => {
    const ref = { session: '9'.repeat(32), random: systemRandom.bytes(16).toString('hex') }
    const object = encodeCollectionList({ ...list, ref, madeAt: clock.now() }, keys.structure.domainId, keys.writer)
    await bucket.store('appliance', { remove: false }).put(objectName('list', ref), { kind: 'bytes', bytes: object })
    return ref
  }
  const told = { snapshotIds: snapshots.map(({ random: id }) => id) }
  await one.client.call(done, { ...needsRoutes(one.ids.storeId).forgotten, json: told })
  const list = await publish({ kind: 'condemned', kept: [], packs: packs.map((pack) => ({ ...pack, bytes: 1, why: 'dead' })) })
  clock.advance(20 * DAY)
  const all = [
    ...packs.map((ref) => ({ kind: 'pack' as const, ...ref })),
    ...snapshots.map((ref) => ({ kind: 'snapshot' as const, ...ref })),
  ]
  await publish({ kind: 'deletion', lists: [list], names: all })
  await publish({ kind: 'deletion', lists: [list], names: all.filter(({ kind }) => kind === 'pack') })
  await publish({ kind: 'deletion', lists: [list], names: all.filter(({ kind }) => kind === 'snapshot') })
  const before = bucket.names()
  expect(await look()).toMatchObject({ open: 3, held: 3, removed: 0 })
  expect(bucket.names()).toEqual(before)
  expect((await deletions()).flatMap(({ reasons }) => reasons.map(({ code }) => code)).sort()).toEqual(['last-one', 'last-one', 'needed'])
  const report = await checkRepository({ repository: await open(), readData: 'all', content: true, keys: one.keys.read })
  expect(report).toMatchObject({ snapshots: 4, lostBlobs: 0, affected: [] })
}, 60_000)
