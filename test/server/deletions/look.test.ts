// The server deletes in a controller's store what a signed list names and retention explains, and no more: with a real database, a simulated bucket
// and an appliance whose credentials cannot delete.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { objectName, packName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import { watch } from 'holdfast-server/jobs.ts'
import { SimulatedCrash, type StoreCall } from '../../_support/simulated-store.ts'
import { DAY, fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

let world: DeletionWorld
beforeEach(async () => {
  world = await makeDeletionWorld()
})
afterEach(() => world.close())

const namesOf = ({ snapshots, packs }: { snapshots: readonly ObjectRef[]; packs: readonly ObjectRef[] }): string[] =>
  [...snapshots.map((ref) => objectName('snapshot', ref)), ...packs.map(packName)].sort()

async function publishGoing(): Promise<Awaited<ReturnType<typeof fiveDays>>> {
  const made = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(made.going.snapshots, made.going.packs) })
  return made
}

describe('a list that retention explains', () => {
  it('is carried out: what it names goes, nothing else, and it stands on record who named it and when', async () => {
    const { going, staying } = await publishGoing()
    const before = world.bucket.names()
    expect(await world.look()).toMatchObject({ done: 1, held: 0, removed: 4 })
    expect(before.filter((name) => !world.bucket.names().includes(name))).toEqual(namesOf(going))
    for (const name of namesOf(staying)) expect(world.bucket.names()).toContain(name)
    const [deletion] = await world.deletions()
    expect(deletion).toMatchObject({
      ...{ state: 'done', agentId: world.agent.id, why: 'retention', removed: 4, removedBytes: 24, decidedBy: null, code: null },
      counts: { snapshots: 2, packs: 2, others: 0 },
    })
    const { items } = (await world.made('GET', '/v1/audit', world.token, undefined)) as unknown as {
      items: { action: string; actor: string }[]
    }
    expect(items.slice(0, 2).map(({ action, actor }) => `${actor} ${action}`)).toEqual(['system deletion.done', 'system deletion.begin'])
    const told = await world.made('GET', `/v1/snapshots/${going.snapshots[0]!.random}`, world.token, undefined)
    expect(told['deletedAt']).not.toBeNull()
    expect(await world.alerts()).toEqual([])
    // A later look has nothing to do, and what was stated about the packs is gone with them.
    expect(await world.look()).toMatchObject({ open: 0, removed: 0 })
    const packs = Buffer.from(going.packs.map(({ session, random }) => session + random).join(''), 'hex')
    expect(await world.server.records.needsOf({ storeId: world.storeId, packs, sessions: [] })).toEqual([])
  })

  it('waits while its window is open, without an alert, and goes by itself afterwards', async () => {
    const { going, staying } = await fiveDays(world)
    const fresh = await world.condemn(going.packs, staying.snapshots)
    await world.publish({ kind: 'deletion', lists: [fresh], names: world.named(going.snapshots, going.packs) })
    const look = await world.look()
    expect(look).toMatchObject({ removed: 0, held: 0 })
    expect((await world.deletions())[0]).toMatchObject({ state: 'waiting', code: 'too-early' })
    expect(await world.alerts()).toEqual([])
    world.days(15)
    expect(await world.look()).toMatchObject({ done: 1, removed: 4 })
  })

  it('is held where a snapshot that it names was taken back from it, of which no pack was condemned', async () => {
    const { going } = await fiveDays(world)
    const list = await world.publish({ kind: 'deletion', lists: [], names: world.named(going.snapshots, []) })
    await world.publish({ kind: 'revived', from: [{ list, packs: going.snapshots.slice(0, 1) }] })
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'revived' })
  })

  it('that was cut off by a crash at any removal is gone on with: each name is removed once', async () => {
    await publishGoing()
    for (const nth of [1, 2, 3, 4]) {
      for (const when of ['before', 'after'] as const) {
        let left = 1
        const crash = (call: StoreCall) =>
          call.operation === 'remove' && world.removed().length >= nth - 1 && left-- > 0 ? [{ kind: 'crash' as const, when }] : []
        world.bucket.setFaults(crash)
        await world.look().catch((error: unknown) => {
          if (!(error instanceof SimulatedCrash)) throw error
        })
      }
    }
    world.bucket.setFaults(() => [])
    await world.look()
    await world.look()
    expect((await world.deletions())[0]).toMatchObject({ state: 'done' })
    const removed = world.bucket.trace
      .filter(({ operation, outcome }) => operation === 'remove' && outcome !== 'absent')
      .map(({ name }) => name)
    // A removal whose answer the crash took counts as a crash in the trace; none is done twice.
    expect(new Set(world.removed()).size).toBe(world.removed().length)
    expect(new Set(removed).size).toBe(4)
  })

  it('two looks at once remove each name once and end with one record', async () => {
    await publishGoing()
    const looks = await Promise.allSettled([world.look(), world.look()])
    expect(looks.some(({ status }) => status === 'fulfilled')).toBe(true)
    await world.look()
    expect(new Set(world.removed()).size).toBe(world.removed().length)
    expect((await world.deletions()).map(({ state }) => state)).toEqual(['done'])
  })

  it('stops at once when something is taken back while it is at work', async () => {
    const shared = await world.writePacks(1)
    const old = await world.writePacks(700)
    for (let day = 0; day < 5; day++) {
      await world.backup(day < 2 ? [...shared, ...old] : shared)
      world.days(1)
    }
    await world.forgotten(world.snapshots.slice(0, 2))
    const list = await world.condemn(old, world.snapshots.slice(2))
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named([], old) })
    // Without the snapshots that need them, the packs are held; with them the server begins.
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(world.snapshots.slice(0, 2), old) })
    let published = false
    world.bucket.setFaults((call) => {
      if (call.operation === 'remove' && call.name.startsWith('packs/') && !published) {
        published = true
        void world.publish({ kind: 'revived', from: [{ list, packs: old.slice(600) }] })
      }
      return []
    })
    const look = await world.look()
    expect(look.removed).toBe(502)
    expect(look.againMs).toBeLessThan(5000)
    await world.look()
    for (const pack of old.slice(600)) expect(world.bucket.names()).toContain(packName(pack))
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'revived' })
  }, 30_000)
})

it('a server whose clock is a year ahead ends no undelete window: it tells of it, and goes on by itself once it is right', async () => {
  const shared = await world.writePacks(1)
  for (let day = 0; day < 5; day++) {
    await world.backup(shared)
    world.days(1)
  }
  const going = world.snapshots.slice(0, 1)
  await world.forgotten(going)
  await world.publish({ kind: 'deletion', lists: [], names: world.named(going, []) })
  const ahead = { ...world.clock, now: () => world.clock.now() + 365 * DAY }
  expect(await world.look({ clock: ahead })).toMatchObject({ held: 1, removed: 0 })
  expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'clocks-disagree' })
  expect(await world.alerts()).toMatchObject([{ kind: 'deletion-held' }])
  expect(await world.look()).toMatchObject({ held: 0, removed: 0 })
  expect((await world.deletions())[0]).toMatchObject({ state: 'waiting', code: 'too-early' })
  expect(await world.alerts()).toEqual([])
  world.days(15)
  expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
})

describe('a thief of the appliance deletes nothing', () => {
  type Made = Awaited<ReturnType<typeof fiveDays>>
  const forged: readonly (readonly [string, string, (made: Made) => Promise<unknown>])[] = [
    [
      'signs with another key',
      'signer',
      async ({ list, going }) =>
        world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) }, makeSigningKey(systemRandom)),
    ],
    [
      'names packs of kept snapshots, condemned long ago',
      'needed',
      async ({ going, staying }) => {
        const list = await world.condemn([...going.packs, ...staying.packs], [])
        world.days(20)
        return world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, [...going.packs, staying.packs[0]!]) })
      },
    ],
    [
      'names snapshots that retention keeps',
      'retention',
      async ({ list, going, staying }) => {
        await world.forgotten([...going.snapshots, ...staying.snapshots])
        world.days(20)
        return world.publish({
          kind: 'deletion',
          lists: [list],
          names: world.named([...going.snapshots, staying.snapshots[0]!], going.packs),
        })
      },
    ],
    [
      'names a whole series',
      'last-one',
      async ({ list, going, staying }) => {
        await world.forgotten([...going.snapshots, ...staying.snapshots])
        world.days(20)
        const all = [...going.snapshots, ...staying.snapshots]
        return world.publish({ kind: 'deletion', lists: [list], names: world.named(all, [...going.packs, ...staying.packs]) })
      },
    ],
    [
      'names what was taken back meanwhile',
      'revived',
      async ({ list, going }) => {
        await world.publish({ kind: 'revived', from: [{ list, packs: going.packs.slice(1) }] })
        return world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
      },
    ],
    [
      'names what was taken back, under the name of another session',
      'in-use',
      async ({ going }) => {
        await world.publish({ kind: 'revived', from: going.snapshots.map((ref) => ({ list: ref, packs: [] })) })
        const names = going.snapshots.map(({ random }) => ({ kind: 'snapshot' as const, session: world.newRef().session, random }))
        return world.publish({ kind: 'deletion', lists: [], names })
      },
    ],
    [
      'names packs that nothing condemned',
      'not-condemned',
      async ({ list, going, staying }) =>
        world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, staying.packs) }),
    ],
    [
      'relies on a list that is not there',
      'list-missing',
      async ({ going }) => world.publish({ kind: 'deletion', lists: [world.newRef()], names: world.named(going.snapshots, going.packs) }),
    ],
    [
      'was revoked before',
      'signer',
      async ({ list, going }) => {
        await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, going.packs) })
        return world.made('POST', `/v1/agents/${world.agent.id}/revoke`, await world.administrator(), undefined)
      },
    ],
    ['puts rubbish in the place of a list', 'unreadable', async () => world.put(objectName('list', world.newRef()), Buffer.alloc(300, 7))],
    [
      'states that the kept snapshots need less than they said',
      'needed',
      async ({ staying }) => {
        for (const [n, ref] of staying.snapshots.entries()) await world.stateNeeds(ref, 3 + n, []).catch(() => undefined)
        const list = await world.condemn(staying.packs, [])
        world.days(20)
        return world.publish({ kind: 'deletion', lists: [list], names: world.named([], staying.packs) })
      },
    ],
    [
      'names the list that condemns what is still there',
      'in-use',
      async ({ list, going }) => {
        world.days(2)
        return world.publish({ kind: 'deletion', lists: [], names: [{ kind: 'list', ...list }, ...world.named(going.snapshots, [])] })
      },
    ],
    [
      'names the newest index files',
      'in-use',
      async () => {
        const files = [1, 2, 3].map(() => world.newRef())
        for (const file of files) {
          await world.put(objectName('index', file))
          world.days(1)
        }
        world.days(1)
        return world.publish({ kind: 'deletion', lists: [], names: files.slice(1).map((file) => ({ kind: 'index' as const, ...file })) })
      },
    ],
    [
      'names all index files but one, which cannot name every pack',
      'in-use',
      async ({ staying }) => {
        const files = [1, 2, 3].map(() => world.newRef())
        for (const [n, file] of files.entries())
          await world.put(objectName('index', file), Buffer.alloc(n < 2 ? 5000 : staying.packs.length * 144 - 1))
        world.days(2)
        return world.publish({ kind: 'deletion', lists: [], names: files.slice(0, 2).map((file) => ({ kind: 'index' as const, ...file })) })
      },
    ],
    [
      'names the last record of what was forgotten',
      'in-use',
      async () => {
        const record = world.newRef()
        await world.put(objectName('forget', record))
        return world.publish({ kind: 'deletion', lists: [], names: [{ kind: 'forget', ...record }] })
      },
    ],
    [
      'fills the rules with snapshots of its own that are not in the store',
      'retention',
      async ({ list, staying }) => {
        const appliance = world.agent
        for (let day = 0; day < 4; day++) {
          const report = {
            snapshotId: world.newRef().random,
            runId: `run_${world.newRef().random}`,
            storeId: world.storeId,
            series: 'e'.repeat(64),
          }
          const counts = {
            source: 'documents',
            at: new Date(world.clock.now()).toISOString(),
            files: 1,
            bytes: 1,
            storedBytes: 1,
            tags: [],
          }
          expect((await appliance.request('POST', '/v1/agent/snapshots', { ...report, ...counts })).status).toBe(200)
          world.days(1)
        }
        await world.forgotten(staying.snapshots.slice(0, 2))
        world.days(15)
        return world.publish({ kind: 'deletion', lists: [list], names: world.named(staying.snapshots.slice(0, 2), []) })
      },
    ],
  ]
  it.each(forged)('who %s (%s)', async (_, code, act) => {
    const made = await fiveDays(world)
    await act(made)
    const before = world.bucket.names()
    expect(await world.look()).toMatchObject({ removed: 0, done: 0 })
    world.days(1)
    expect(await world.look()).toMatchObject({ removed: 0, done: 0 })
    expect(world.bucket.names()).toEqual(before)
    const [deletion] = await world.deletions()
    expect(deletion?.state).toBe('held')
    expect(deletion?.reasons.map((reason) => reason.code)).toContain(code)
    for (const { detail, count } of deletion?.reasons ?? []) {
      expect(detail.length).toBeGreaterThan(20)
      expect(count).toBeGreaterThan(0)
    }
    expect(await world.alerts()).toMatchObject([{ kind: 'deletion-held', deletionId: deletion?.id }])
  })

  it('who takes all the places that `last` counts with snapshots made in a minute (crowded-out)', async () => {
    await world.close()
    world = await makeDeletionWorld({ retention: { last: 3 } })
    const good = await world.writePacks(2)
    for (let day = 0; day < 5; day++) {
      await world.backup(good)
      world.days(1)
    }
    const earlier = [...world.snapshots]
    const rubbish = await world.writePacks(1)
    for (let n = 0; n < 4; n++) await world.backup(rubbish)
    await world.forgotten(earlier)
    const list = await world.condemn(good, world.snapshots.slice(5))
    world.days(40)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(earlier, good) })
    const before = world.bucket.names()
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(world.bucket.names()).toEqual(before)
    expect((await world.deletions())[0]?.reasons).toMatchObject([{ code: 'crowded-out', count: 5 }])
  })

  it('and cannot delete with the credentials of the appliance', async () => {
    const { going } = await fiveDays(world)
    await expect(world.appliance.remove(packName(going.packs[0]!))).rejects.toMatchObject({ code: 'store-refused' })
  })
})

describe('a held list', () => {
  async function heldByRetention() {
    const made = await fiveDays(world)
    await world.forgotten(world.snapshots)
    world.days(15)
    const going = [...made.going.snapshots, made.staying.snapshots[0]!]
    await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(going, made.going.packs) })
    await world.look()
    const [deletion] = await world.deletions()
    expect(deletion?.state).toBe('held')
    return { ...made, id: deletion!.id, names: namesOf({ snapshots: going, packs: made.going.packs }) }
  }

  it('is approved by the controller alone, and carried out then', async () => {
    const { id, names } = await heldByRetention()
    const administrator = await world.administrator()
    const operator = await world.server.makeUser('operator')
    for (const as of [administrator, operator, await world.server.makeToken({ fleet: 'operator' }, administrator)])
      expect((await world.server.call('POST', `/v1/deletions/${id}/approve`, as)).status).toBe(403)
    expect((await world.made('POST', `/v1/deletions/${id}/approve`, world.token, undefined))['state']).toBe('approved')
    expect(await world.look()).toMatchObject({ done: 1 })
    for (const name of names) expect(world.bucket.names()).not.toContain(name)
    expect((await world.deletions())[0]).toMatchObject({
      state: 'done',
      why: 'approval',
      decidedBy: expect.stringMatching(/^token:tok_/) as string,
    })
    expect(await world.alerts()).toEqual([])
  })

  it('is refused for good by the controller or an administrator, and never looked at again', async () => {
    const { id, names } = await heldByRetention()
    const operator = await world.server.makeUser('operator')
    expect((await world.server.call('POST', `/v1/deletions/${id}/refuse`, operator)).status).toBe(403)
    await world.made('POST', `/v1/deletions/${id}/refuse`, await world.administrator(), undefined)
    expect((await world.server.call('POST', `/v1/deletions/${id}/approve`, world.token)).status).toBe(409)
    expect(await world.look()).toMatchObject({ open: 0, removed: 0 })
    for (const name of names) expect(world.bucket.names()).toContain(name)
    expect(await world.alerts()).toEqual([])
  })

  it('is not deleted from on an approval where a snapshot that stays needs what it names', async () => {
    const { going, staying } = await fiveDays(world)
    const list = await world.condemn([...going.packs, staying.packs[0]!], [])
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(going.snapshots, [...going.packs, staying.packs[0]!]) })
    await world.look()
    const [deletion] = await world.deletions()
    expect((await world.server.call('POST', `/v1/deletions/${deletion!.id}/approve`, world.token)).json()).toMatchObject({
      status: 409,
      code: 'conflict',
    })
  })

  it('of another controller is not there', async () => {
    const { id } = await heldByRetention()
    const other = await world.server.makeControllerWithAgent(await world.administrator())
    for (const [method, url] of [
      ['GET', ''],
      ['POST', '/approve'],
      ['POST', '/refuse'],
    ] as const)
      expect((await world.server.call(method, `/v1/deletions/${id}${url}`, other.token)).status).toBe(404)
    expect((await world.server.call('GET', '/v1/deletions', other.token)).json()['items']).toEqual([])
  })

  it('goes on by itself once what was missing has come', async () => {
    const shared = await world.writePacks(1)
    const old = await world.writePacks(1)
    const refs: ObjectRef[] = []
    for (let day = 0; day < 5; day++) {
      refs.push(await world.backup(day < 2 ? [...shared, ...old] : shared, { state: day < 4 }))
      world.days(1)
    }
    await world.forgotten(refs.slice(0, 2))
    const list = await world.condemn(old, refs.slice(2))
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(refs.slice(0, 2), old) })
    expect(await world.look()).toMatchObject({ held: 1 })
    expect((await world.deletions())[0]?.code).toBe('unstated')
    await world.stateNeeds(refs[4]!, 5, shared)
    expect(await world.look()).toMatchObject({ done: 1, removed: 3 })
    expect(await world.alerts()).toEqual([])
  })

  it('that cannot be read stands in the way of others until it is refused', async () => {
    await world.put(objectName('list', world.newRef()), Buffer.alloc(300, 7))
    await publishGoing()
    expect(await world.look()).toMatchObject({ removed: 0, held: 2 })
    const unreadable = (await world.deletions()).find(({ agentId }) => agentId === null)
    expect((await world.server.call('POST', `/v1/deletions/${unreadable!.id}/approve`, world.token)).status).toBe(409)
    await world.made('POST', `/v1/deletions/${unreadable!.id}/refuse`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1, removed: 4 })
  })

  it('because the store refuses to delete is tried again, and told of meanwhile', async () => {
    await publishGoing()
    world.bucket.setFaults((call) =>
      call.operation === 'remove' && call.name.startsWith('packs/') ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : [],
    )
    expect(await world.look()).toMatchObject({ held: 1, removed: 2 })
    expect((await world.deletions())[0]).toMatchObject({ state: 'held', code: 'store-refused', removed: 2 })
    world.bucket.setFaults(() => [])
    expect(await world.look()).toMatchObject({ done: 1, removed: 2 })
  })
})

describe('delete credentials', () => {
  it('never come out, are sealed in the database, and stop the looks when they are taken back', async () => {
    const shown = await world.server.call('GET', `/v1/stores/${world.storeId}`, world.token)
    expect(shown.json()).toMatchObject({ hasDeleteCredentials: true })
    expect(shown.text).not.toContain('deleter')
    const row = await world.server.records.get({ table: 'stores', id: world.storeId })
    expect(row?.deleteCredentials?.toString('latin1')).not.toContain('secret of the deleter')
    expect((await world.server.records.openJobs({ limit: 10 })).items).toMatchObject([
      { queue: 'deletions', data: { storeId: world.storeId } },
    ])
    await publishGoing()
    await world.made('DELETE', `/v1/stores/${world.storeId}/delete-credentials`, world.token, undefined)
    expect(await world.look()).toMatchObject({ removed: 0, againMs: undefined })
    expect((await world.server.records.openJobs({ limit: 10 })).items).toEqual([])
  })

  it('are refused for a directory, which the server does not reach, and for an operator', async () => {
    const place = { controllerId: world.controllerId, name: 'D', kind: 'directory', region: 'CA-ON', country: 'CA' }
    const { id } = await world.made('POST', '/v1/stores', await world.administrator(), place)
    const body = { accessKeyId: 'a', secretAccessKey: 'b' }
    const reply = await world.server.call('PUT', `/v1/stores/${id}/delete-credentials`, world.token, body)
    expect(reply.json()).toMatchObject({ status: 422, detail: expect.stringContaining('holdfast prune') as string })
    const operator = await world.server.makeUser('operator')
    expect((await world.server.call('PUT', `/v1/stores/${world.storeId}/delete-credentials`, operator, body)).status).toBe(403)
  })
})

it('an alert of a held deletion survives a watch, which closes only its own', async () => {
  await world.put(objectName('list', world.newRef()), Buffer.alloc(300, 7))
  await world.look()
  await watch(world.server.context)
  expect((await world.alerts()).filter(({ kind }) => kind === 'deletion-held')).toHaveLength(1)
})
