// What changes between two looks, or within one: the list itself, what a lock holds, what counts as deleted, who told what too soon. With a real
// database, a simulated bucket and an appliance whose credentials cannot delete.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, packName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { SimulatedCrash, type StoreCall } from '../../_support/simulated-store.ts'
import { DAY, DOMAIN, fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

let world: DeletionWorld
beforeEach(async () => {
  world = await makeDeletionWorld()
})
afterEach(() => world.close())

const there = (...names: string[]): boolean => names.every((name) => world.bucket.names().includes(name))
const snapshotNames = (refs: readonly ObjectRef[]): string[] => refs.map((ref) => objectName('snapshot', ref))

describe('a list that was read before', () => {
  it('is not carried out on an approval once another one stands in its place', async () => {
    const { staying } = await fiveDays(world)
    const all = world.snapshots
    await world.forgotten(all)
    // Something small that is held, and not due yet.
    const fresh = await world.condemn(await world.writePacks(1), [])
    const small = await world.publish({ kind: 'deletion', lists: [fresh], names: world.named(staying.snapshots.slice(0, 1), []) })
    await world.look()
    const [deletion] = await world.deletions()
    await world.made('POST', `/v1/deletions/${deletion!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ removed: 0, held: 0 })
    // A second list has the first one deleted, which makes room for another one of its name.
    world.days(2)
    await world.publish({ kind: 'deletion', lists: [], names: [{ kind: 'list', ...small }] })
    expect(await world.look()).toMatchObject({ removed: 1 })
    const writer = { id: Buffer.from(world.agent.id.slice(3), 'hex'), publicKey: world.agent.key.publicKey, sign: world.agent.key.sign }
    const body = { kind: 'deletion' as const, lists: [], names: world.named(all, []), ref: small, madeAt: world.clock.now() }
    await world.put(objectName('list', small), encodeCollectionList(body, DOMAIN, writer))
    world.days(15)
    expect(await world.look()).toMatchObject({ removed: 0 })
    expect(there(...snapshotNames(all))).toBe(true)
    expect(await world.look()).toMatchObject({ open: 0, removed: 0 })
  })

  it('stops nothing when what could not be read turns out to be a list of another kind', async () => {
    const { going, staying } = await fiveDays(world)
    let spoils = true
    world.bucket.setFaults((call) =>
      spoils && call.operation === 'get' && call.name.startsWith('lists/') ? [{ kind: 'flipped', bit: 900 }] : [],
    )
    expect(await world.look()).toMatchObject({ held: 1 })
    spoils = false
    expect(await world.look()).toMatchObject({ held: 0 })
    expect(await world.alerts()).toEqual([])
    const list = await world.condemn(going.packs, staying.snapshots)
    world.days(15)
    spoils = true
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
    expect(await world.look()).toMatchObject({ held: 2, removed: 0 })
    spoils = false
    expect(await world.look()).toMatchObject({ done: 1, removed: 4 })
    const done = (await world.deletions()).find(({ state }) => state === 'done')
    expect(done).toMatchObject({ agentId: world.agent.id, counts: { snapshots: 2, packs: 2, others: 0 } })
  })
})

describe('a deletion under way', () => {
  it.each(['the right to delete is taken', 'its signer is revoked'])('ends with the names at which it is once %s', async (what) => {
    const made = await fiveDays(world)
    const old = await world.writePacks(600)
    const list = await world.condemn(old, made.staying.snapshots)
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named([], old) })
    const { records } = world.server
    const at = world.clock.now()
    const change = (): Promise<unknown> =>
      what.startsWith('its')
        ? records.revokeAgent({ agentId: world.agent.id, at })
        : records.setDeleteCredentials({ storeId: world.storeId, credentials: null, at })
    let told: Promise<unknown> | undefined
    world.bucket.setFaults(({ operation }) => {
      if (operation === 'remove') told ??= change()
      return []
    })
    expect(await world.look()).toMatchObject({ removed: 500, done: 0 })
    await told
    expect(await world.look()).toMatchObject({ removed: 0, done: 0 })
    expect(world.bucket.names().filter((name) => old.map(packName).includes(name))).toHaveLength(100)
  })
})

describe('a snapshot that stays after its deletion began', () => {
  it('keeps what it needs where a lock holds it alone', async () => {
    const { going, list } = await fiveDays(world)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
    const [locked] = snapshotNames(going.snapshots)
    world.bucket.setFaults((call) =>
      call.operation === 'remove' && call.name === locked ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : [],
    )
    expect(await world.look()).toMatchObject({ held: 1, removed: 1 })
    expect(there(locked!, ...going.packs.map(packName))).toBe(true)
    const told = async (n: number) =>
      (await world.made('GET', `/v1/snapshots/${going.snapshots[n]!.random}`, world.token, undefined))['deletedAt']
    expect([await told(0), await told(1)]).toEqual([null, expect.any(String)])
    // It is tried again, and told of once.
    const alerts = await world.alerts()
    world.days(1)
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(await world.alerts()).toEqual(alerts)
    world.bucket.setFaults(() => [])
    expect(await world.look()).toMatchObject({ done: 1, removed: 3 })
    expect(await told(0)).not.toBeNull()
  })

  it('counts for other lists, and for who restores, where it was taken back before it was removed', async () => {
    const { going, staying, list } = await fiveDays(world)
    const asked = await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, []) })
    let left = 1
    world.bucket.setFaults((call: StoreCall) => (call.operation === 'remove' && left-- > 0 ? [{ kind: 'crash', when: 'before' }] : []))
    await world.look().catch((error: unknown) => {
      if (!(error instanceof SimulatedCrash)) throw error
    })
    world.bucket.setFaults(() => [])
    await world.publish({
      kind: 'revived',
      from: [{ list: asked, packs: going.snapshots }, ...going.snapshots.map((ref) => ({ list: ref, packs: [] }))],
    })
    await world.forgotten([])
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    const [deletion] = await world.deletions()
    await world.made('POST', `/v1/deletions/${deletion!.id}/refuse`, world.token, undefined)
    const shown = await world.made('GET', `/v1/snapshots/${going.snapshots[0]!.random}`, world.token, undefined)
    expect(shown['deletedAt']).toBeNull()
    // Somebody with the appliance's key condemns what they need.
    const again = await world.condemn(going.packs, staying.snapshots)
    world.days(15)
    await world.publish({ kind: 'deletion', lists: [again], names: world.named([], going.packs) })
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(there(...snapshotNames(going.snapshots), ...going.packs.map(packName))).toBe(true)
  })
})

describe('the undelete window of what retention lets go', () => {
  it('begins no sooner than retention lets it go, whatever was told before', async () => {
    const good = await world.writePacks(1)
    for (let day = 0; day < 5; day++) {
      await world.backup(good)
      world.days(1)
    }
    const earlier = [...world.snapshots]
    const list = await world.condemn(good, [])
    const rubbish = await world.writePacks(1)
    for (let day = 0; day < 15; day++) {
      await world.forgotten(earlier)
      await world.backup(rubbish)
      world.days(1)
    }
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(earlier, good) })
    // The last good one is let go by the third day of rubbish, seventeen days after the appliance was stolen it may go.
    expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
    const [deletion] = await world.deletions()
    expect(deletion).toMatchObject({ state: 'waiting', code: 'too-early' })
    expect(there(...snapshotNames(earlier), ...good.map(packName))).toBe(true)
    world.days((Date.parse(deletion!.waitUntil!) - world.clock.now()) / DAY)
    expect(await world.look()).toMatchObject({ done: 1, removed: 6 })
  })

  it('begins no sooner than the days are over that retention keeps all of', async () => {
    await world.close()
    world = await makeDeletionWorld({ retention: { withinDays: 20 } })
    for (let day = 0; day < 2; day++) {
      await world.backup(await world.writePacks(1))
      world.days(1)
    }
    const [old] = world.snapshots
    await world.forgotten([old!])
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [], names: world.named([old!], []) })
    expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
    expect(Date.parse((await world.deletions())[0]!.waitUntil!)).toBeGreaterThan(world.clock.now() + 11 * DAY)
    world.days(13)
    expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
  })

  it('begins anew with what takes a snapshot back, which stays in the store as long as the snapshot', async () => {
    const { going } = await fiveDays(world)
    const back = await world.publish({ kind: 'revived', from: going.snapshots.map((ref) => ({ list: ref, packs: [] })) })
    world.days(2)
    await world.publish({ kind: 'deletion', lists: [], names: [{ kind: 'list', ...back }] })
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    await world.publish({ kind: 'deletion', lists: [], names: world.named(going.snapshots, []) })
    expect(await world.look()).toMatchObject({ held: 2, removed: 0 })
    expect(there(objectName('list', back), ...snapshotNames(going.snapshots))).toBe(true)
    // An appliance that tells all the same for a whole window after it has not seen it taken back: whoever did so died over it.
    world.days(12)
    await world.forgotten(going.snapshots)
    expect(await world.look()).toMatchObject({ removed: 0 })
    world.days(2)
    await world.forgotten(going.snapshots)
    await world.look()
    expect(await world.look()).toMatchObject({ held: 0 })
    expect(there(objectName('list', back))).toBe(false)
    expect(world.bucket.names().filter((name) => snapshotNames(going.snapshots).includes(name))).toEqual([])
  })
})

it('a server that was stopped for an hour among its removals looks first whether something was taken back', async () => {
  const old = await world.writePacks(200)
  for (let day = 0; day < 5; day++) {
    await world.backup(day < 2 ? old : await world.writePacks(1))
    world.days(1)
  }
  const going = world.snapshots.slice(0, 2)
  await world.forgotten(going)
  const list = await world.condemn(old, world.snapshots.slice(2))
  world.days(20)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going, old) })
  let isStopped = false
  world.bucket.setFaults(({ operation, name }) => {
    if (operation === 'remove' && name.startsWith('packs/') && !isStopped) {
      isStopped = true
      world.days(1 / 24)
      void world.publish({ kind: 'revived', from: [{ list, packs: old.slice(50) }] })
    }
    return []
  })
  const { removed } = await world.look()
  expect(removed).toBeLessThan(2 + 50)
  await world.look()
  expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'revived' })
  expect(there(...old.slice(50).map(packName))).toBe(true)
})
