// Who may repair what: an appliance signs index files over its own packs alone, because what it signs it trusts later; the root repairs everything. What
// could not be read stays as it is said to be.
import { expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import type { WriteKeys } from '../../../agent/keys/keys.ts'
import { repairRepository, type RepairReport } from '../../../agent/repair/repair.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { encodeRoster } from '../backup/roster-object.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { claimsOf, restorable } from '../../_support/restorable.ts'
import { severalPacks } from './damage.ts'

const writers = [1, 2].map((n) => agentWriter(fixtureRandom(`agent ${n}`).bytes(32), Buffer.alloc(16, n)))

async function twoAgents(): Promise<[Engine, Engine]> {
  const limits = { packBytes: 20_000 }
  const first = await makeEngine({ seed: 'first', limits, writeKeys: (keys) => ({ ...keys.write, writer: writers[0]! }) })
  const second = await makeEngine({ seed: 'second', limits, beside: first, writeKeys: (keys) => ({ ...keys.write, writer: writers[1]! }) })
  await first.bucket.store().put(...encodeRoster(first.keys, writers, first.clock.now()))
  for (const engine of [first, second]) {
    for (let i = 0; i < 4; i++) writeFile(engine, `/src/file-${i}`, fixtureRandom(`${engine === first} ${i}`).bytes(9000))
    engine.pass()
    await engine.backup()
  }
  return [first, second]
}

async function repair(engine: Engine, as: 'root' | 'agent'): Promise<RepairReport> {
  const keys: WriteKeys = as === 'root' ? engine.keys.write : { ...engine.keys.write, writer: writers[0]! }
  return repairRepository({
    repository: await openRepository({ store: engine.store(), keys: keys.structure }),
    keys,
    read: as === 'root' ? engine.keys.read : undefined,
    readData: 'all',
    dryRun: false,
    random: engine.random,
    now: engine.clock.now(),
    signal: new AbortController().signal,
  })
}

test('an appliance puts its own index right and leaves what others made to them, and to the root', async () => {
  const [first] = await twoAgents()
  const reader = first.reader()
  const told = new Set(claimsOf(reader.indexFiles))
  for (const name of first.bucket.names('index/')) first.bucket.tamper(name, () => undefined)
  const report = await repair(first, 'agent')
  expect(report).toMatchObject({ losses: { lost: 0, unsure: 0, paths: [] } })
  expect(report.packsIndexed).toBeGreaterThan(0)
  expect(report.leftToOthers).toBeGreaterThan(0)
  const mine = claimsOf(first.reader().indexFiles)
  expect(mine.length).toBeLessThan(told.size)
  expect(mine.every((line) => told.has(line))).toBe(true)
  expect(report.packsIndexed + report.leftToOthers).toBe(report.packs)

  const rest = await repair(first, 'root')
  expect(rest).toMatchObject({ packsIndexed: report.leftToOthers, leftToOthers: 0, replaced: 0 })
  expect(claimsOf(first.reader().indexFiles)).toEqual([...told].sort())
})

test('an appliance tells what is lost by counts, and no name', async () => {
  const [first] = await twoAgents()
  for (const name of first.bucket.names('packs/')) first.bucket.tamper(name, (bytes) => (bytes.writeUInt8(bytes[30]! ^ 1, 30), bytes))
  const report = await repair(first, 'agent')
  expect(report.losses.paths).toEqual([])
  expect(report.losses.lost).toBeGreaterThan(0)
  expect(report.losses.snapshots.length).toBe(2)
  expect(report.leftToOthers).toBeGreaterThan(0)
})

test('with a roster that does not open nobody can say whose word counts: nothing is repaired', async () => {
  const [first] = await twoAgents()
  for (const name of first.bucket.names('index/')) first.bucket.tamper(name, () => undefined)
  first.bucket.tamper(first.bucket.names('rosters/')[0]!, (bytes) => bytes.subarray(0, 200))
  const before = first.bucket.names('')
  await expect(repair(first, 'root')).rejects.toMatchObject({ code: 'damaged' })
  expect(first.bucket.names('')).toEqual(before)
})

test('what is said of a pack that cannot be read is carried over, and with an index file that cannot be read nothing is called missing', async () => {
  const built = await severalPacks()
  const { store, keys, builder } = built
  store.objects.delete(packName(builder.packs[1]!.ref))
  const unread = packName(builder.packs[0]!.ref)
  const before = await restorable(store, keys)
  store.fault = (_, name) => (name === unread ? new HoldfastError('store-unreachable', 'no route to the store') : undefined)
  const options = {
    keys: keys.write,
    read: keys.read,
    readData: 'all' as const,
    dryRun: false,
    random: fixtureRandom('unread'),
    now: 1,
    signal: new AbortController().signal,
  }
  const report = await repairRepository({ ...options, repository: await openRepository({ store, keys: keys.write.structure }) })
  expect(report).toMatchObject({ unread: 1, replaced: 1 })
  store.fault = undefined
  const { view } = await (await openRepository({ store, keys: keys.write.structure })).loadView()
  expect([...view.packs()].map(({ random }) => random)).toContain(builder.packs[0]!.ref.random)
  expect((await restorable(store, keys)).files).toEqual(before.files)

  // Every index file is out of reach: not one pack is told of anew.
  store.fault = (call, name) =>
    call === 'get' && name.startsWith('index/') ? new HoldfastError('store-unreachable', 'no route') : undefined
  store.calls.length = 0
  const blind = await repairRepository({ ...options, repository: await openRepository({ store, keys: keys.write.structure }) })
  expect(blind).toMatchObject({ packsIndexed: 0, replaced: 0, indexFilesWritten: 0 })
  expect(store.calls.filter((call) => /^(?:put|remove)/.test(call))).toEqual([])
})
