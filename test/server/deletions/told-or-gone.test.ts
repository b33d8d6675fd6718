// What the books of a server say and the store does not, or its clock: neither holds deletions for good.
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { objectName, packName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { encodeNeededQuestion } from '@holdfast/shared/protocol/needs.ts'
import { migrate, MIGRATIONS } from 'holdfast-server/records/sqlite/migrations.ts'
import { DAY, fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

let world: DeletionWorld
beforeEach(async () => {
  world = await makeDeletionWorld()
})
afterEach(() => world.close())

describe('a snapshot that somebody else removed from the store', () => {
  it('holds what retention explains for a whole window, and then no longer', async () => {
    const { going, staying } = await fiveDays(world)
    // The one of a day that retention keeps, by the root: another day takes its place.
    await world.bucket.store('root').remove(objectName('snapshot', staying.snapshots[0]!))
    await world.publish({ kind: 'deletion', lists: [], names: world.named(going.snapshots.slice(0, 1), []) })
    for (let day = 0; day < 14; day++) {
      expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
      expect((await world.deletions())[0]).toMatchObject({ code: 'retention' })
      world.days(1)
    }
    expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
  })

  it('keeps its packs as long, for whoever asks before a list is published too, and again once it is back', async () => {
    const { going, staying, list } = await fiveDays(world)
    const own = await world.writePacks(1)
    const lost = await world.backup([...staying.packs, ...own])
    world.days(1)
    await world.backup(staying.packs)
    const remover = world.bucket.store('root')
    await remover.remove(objectName('snapshot', lost))
    await world.forgotten(going.snapshots)
    const condemned = await world.condemn(own, [])
    const question = encodeNeededQuestion({
      storeId: world.storeId,
      snapshotIds: going.snapshots.map(({ random }) => random),
      packs: own.map(({ session, random }) => Buffer.from(session + random, 'hex')),
    })
    const asked = async (): Promise<number> =>
      (await world.agent.request('POST', '/v1/agent/needed', question, 'application/octet-stream')).body.length
    await world.publish({ kind: 'deletion', lists: [list, condemned], names: world.named([], own) })
    await world.look()
    const daysLater = async (days: number): Promise<void> => {
      for (let day = 0; day < days; day++) {
        world.days(1)
        await world.look()
      }
    }
    await daysLater(13)
    expect([await asked(), there(packName(own[0]!))]).toEqual([32, true])
    // It was not to be seen for a while.
    await world.put(objectName('snapshot', lost))
    await world.look()
    expect([await asked(), there(packName(own[0]!))]).toEqual([32, true])
    await remover.remove(objectName('snapshot', lost))
    await world.look()
    // Nobody looked in between: it may have been there.
    world.days(15)
    expect(await asked()).toBe(32)
    await world.look()
    expect([await asked(), there(packName(own[0]!))]).toEqual([32, true])
    await daysLater(14)
    expect(await asked()).toBe(0)
    expect(there(packName(own[0]!))).toBe(false)
  })

  it('keeps them for good where no later one is there, or another has its place: no run may have seen it', async () => {
    const { staying } = await fiveDays(world)
    const own = await world.writePacks(1)
    const hidden = await world.backup([...staying.packs, ...own])
    const remover = world.bucket.store('root')
    await remover.remove(objectName('snapshot', hidden))
    const condemned = await world.condemn(own, [])
    await world.publish({ kind: 'deletion', lists: [condemned], names: world.named([], own) })
    const stays = async (): Promise<void> => {
      for (let day = 0; day < 20; day++) {
        await world.look()
        world.days(1)
      }
      expect([(await world.deletions())[0]!.code, there(packName(own[0]!))]).toEqual(['needed', true])
    }
    await stays()
    // The next run does not see it either and takes its place.
    const next = await world.backup(staying.packs, { state: false })
    await world.stateNeeds(next, 6, staying.packs)
    await world.backup(staying.packs)
    await stays()
  })

  it('is gone for the list as for whoever asked before it, also where what came after it was deleted with an approval since', async () => {
    const { staying } = await fiveDays(world)
    const own = await world.writePacks(1)
    const lost = await world.backup([...staying.packs, ...own])
    const last = await world.backup(staying.packs)
    await world.bucket.store('root').remove(objectName('snapshot', lost))
    await world.forgotten([last])
    await world.publish({ kind: 'deletion', lists: [], names: world.named([last], []) })
    const condemned = await world.condemn(own, [])
    for (let day = 0; day < 15; day++) {
      await world.look()
      world.days(1)
    }
    await world.made('POST', `/v1/deletions/${(await world.deletions())[0]!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
    const packs = own.map(({ session, random }) => Buffer.from(session + random, 'hex'))
    const question = encodeNeededQuestion({ storeId: world.storeId, snapshotIds: [], packs })
    const { body } = await world.agent.request('POST', '/v1/agent/needed', question, 'application/octet-stream')
    expect(body.length).toBe(0)
    await world.publish({ kind: 'deletion', lists: [condemned], names: world.named([], own) })
    expect(await world.look()).toMatchObject({ held: 0, done: 1, removed: 1 })
  })

  const there = (name: string): boolean => world.bucket.names().includes(name)
})

it('what was told of as forgotten while the clock of the server was a year ahead has its window from when that is right again', async () => {
  const { going, list } = await fiveDays(world)
  await world.forgotten([])
  const { clock } = world.server
  const ahead = { ...clock, now: () => clock.now() + 365 * DAY }
  await world.server.records.noteForgotten({
    ...{ agentId: world.agent.id, storeId: world.storeId, at: ahead.now() },
    snapshotIds: going.snapshots.map(({ random }) => random),
  })
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
  expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
  world.days(13)
  expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
  world.days(2)
  expect(await world.look()).toMatchObject({ done: 1, removed: 4 })
})

describe('an approval', () => {
  let kept: ObjectRef
  beforeEach(async () => {
    const { going, staying } = await fiveDays(world)
    kept = staying.snapshots[0]!
    await world.forgotten([...going.snapshots, kept])
    await world.publish({ kind: 'deletion', lists: [], names: world.named([kept], []) })
    await world.look()
    const { id } = (await world.deletions())[0]!
    await world.made('POST', `/v1/deletions/${id}/approve`, world.token, undefined)
    await world.look()
  })

  it('outlasts what passes by itself: clocks that were apart while it waited for its window', async () => {
    const { clock } = world.server
    await world.look({ clock: Object.assign(Object.create(clock) as typeof clock, { now: () => clock.now() + 365 * DAY }) })
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'clocks-disagree' })
    expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
    world.days(15)
    expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
    expect((await world.deletions())[0]).toMatchObject({ why: 'approval' })
  })

  it('ends with what makes the list another question: what it names was taken back, and is forgotten once more', async () => {
    await world.publish({ kind: 'revived', from: [{ list: kept, packs: [] }] })
    await world.look()
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'revived', decidedBy: null })
    world.days(1)
    await world.forgotten([])
    await world.forgotten([kept])
    world.days(15)
    await world.look()
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'retention', removed: 0 })
  })

  it('that ended before this was so does not come back to life in a database of that time', async () => {
    const db = new DatabaseSync(':memory:')
    db.exec(`${MIGRATIONS.slice(0, 4).join('')} PRAGMA user_version = 4; PRAGMA foreign_keys = OFF`)
    const columns = db.prepare("SELECT name FROM pragma_table_info('deletions') WHERE name <> 'n'").all()
    const names = columns.map(({ name }) => String(name))
    const put = (id: string, state: string, why: string | null): void => {
      const known: Record<string, string | null> = { id, state, why, random: id, decided_by: 'user' }
      const values = names.map((name) => (known[name] === undefined ? 1 : known[name]))
      db.prepare(`INSERT INTO deletions (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`).run(...values)
    }
    put('ended', 'held', null)
    put('waits since', 'waiting', null)
    put('stands', 'approved', null)
    put('began', 'held', 'approval')
    migrate(db)
    const by = db.prepare('SELECT id, decided_by AS decidedBy FROM deletions ORDER BY n').all()
    expect(by.map(({ id, decidedBy }) => [id, decidedBy])).toEqual([
      ['ended', null],
      ['waits since', null],
      ['stands', 'user'],
      ['began', 'user'],
    ])
    db.close()
  })
})

it('an approval of what had begun by retention ends as any other with what no approval settles', async () => {
  const { going, list } = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
  world.bucket.setFaults(({ operation, name }) =>
    operation === 'remove' && name.startsWith('packs/') ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : [],
  )
  expect(await world.look()).toMatchObject({ held: 1, removed: 2 })
  await world.put(objectName('snapshot', world.newRef()))
  await world.look()
  const { id, why, code } = (await world.deletions())[0]!
  expect([why, code]).toEqual(['retention', 'unknown-snapshot'])
  await world.made('POST', `/v1/deletions/${id}/approve`, world.token, undefined)
  await world.publish({ kind: 'revived', from: [{ list, packs: going.packs }] })
  await world.look()
  expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'revived', decidedBy: null })
})
