// A list that could be read once and went bad where it lies: it never stands in the way of others without somebody being able to set it aside.
import { afterEach, beforeEach, expect, it } from 'vitest'
import { objectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

let world: DeletionWorld
beforeEach(async () => {
  world = await makeDeletionWorld()
})
afterEach(() => world.close())

const rot = (list: ObjectRef): void =>
  world.bucket.tamper(objectName('list', list), (bytes) => {
    bytes[bytes.length >> 1]! ^= 1
    return bytes
  })
const refuse = async (list: ObjectRef): Promise<void> => {
  const row = (await world.deletions()).find((one) => one.list === objectName('list', list))
  await world.made('POST', `/v1/deletions/${row!.id}/refuse`, world.token, undefined)
}

async function publishGoing(): Promise<ObjectRef> {
  const { list, going } = await fiveDays(world)
  return world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
}

it('one that was refused while it could be read stays refused', async () => {
  const { list, going, staying } = await fiveDays(world)
  const refused = await world.publish({ kind: 'deletion', lists: [list], names: world.named([], staying.packs) })
  expect(await world.look()).toMatchObject({ held: 1 })
  await refuse(refused)
  rot(refused)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
  expect(await world.look()).toMatchObject({ held: 0, done: 1, removed: 4 })
})

it('one that was carried out holds nothing', async () => {
  const carriedOut = await publishGoing()
  expect(await world.look()).toMatchObject({ done: 1 })
  rot(carriedOut)
  const session = { session: world.newRef().session, random: '0'.repeat(32) }
  await world.publish({ kind: 'deletion', lists: [], names: [{ kind: 'session', ...session }] })
  expect(await world.look()).toMatchObject({ held: 0, done: 1 })
})

it('one that may take something back holds the others, and a person may refuse it', async () => {
  const packs = await world.writePacks(1)
  const condemned = await world.condemn(packs, [])
  const revived = await world.publish({ kind: 'revived', from: [{ list: condemned, packs }] })
  await publishGoing()
  // By what this look has read it is no deletion.
  world.bucket.setFaults((call) => (call.operation === 'remove' ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : []))
  await expect(world.look()).rejects.toMatchObject({ code: 'store-unreachable' })
  world.bucket.setFaults(() => [])
  rot(revived)
  expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
  expect(await world.look()).toMatchObject({ held: 2, removed: 0 })
  await refuse(revived)
  expect(await world.look()).toMatchObject({ held: 0, done: 1, removed: 4 })
})

it('one that could be read for a while, and no longer, can be refused', async () => {
  const { list, going } = await fiveDays(world)
  const packs = await world.writePacks(1)
  const revived = await world.publish({ kind: 'revived', from: [{ list, packs }] })
  rot(revived)
  expect(await world.look()).toMatchObject({ held: 1 })
  rot(revived)
  expect(await world.look()).toMatchObject({ held: 0 })
  rot(revived)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
  expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
  expect(await world.look()).toMatchObject({ held: 2, removed: 0 })
  await refuse(revived)
  expect(await world.look()).toMatchObject({ done: 1, removed: 4 })
})
