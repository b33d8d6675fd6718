// What two appliances say of one snapshot: the server cannot open it, so nothing about it is explained until a person has said more.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { objectName, packName, parseObjectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { encodeNeeds } from '@holdfast/shared/protocol/needs.ts'
import { fiveDays, makeDeletionWorld, SERIES, type DeletionWorld } from './_support/deletion-world.ts'

let world: DeletionWorld
beforeEach(async () => {
  world = await makeDeletionWorld()
})
afterEach(() => world.close())

describe('a snapshot that two appliances say they made', () => {
  type Agent = typeof world.agent
  let other: Agent
  let packs: ObjectRef[]
  let contested: ObjectRef
  const OTHERS = 'd'.repeat(64)
  const report = (by: Agent, ref: ObjectRef) =>
    by.request('POST', '/v1/agent/snapshots', {
      ...{ snapshotId: ref.random, runId: `run_${world.newRef().random}`, storeId: world.storeId, at: isoTime(world.clock.now()) },
      ...(by === other ? { series: OTHERS, source: 'mail' } : { series: SERIES, source: 'documents' }),
      ...{ files: 1, bytes: 1, storedBytes: 1, tags: [] },
    })
  const state = (by: Agent, ref: ObjectRef, sequence: number, needs: readonly ObjectRef[], replaced: readonly ObjectRef[] = []) => {
    const added = needs.map(({ session, random }) => Buffer.from(session + random, 'hex'))
    const of = { storeId: world.storeId, series: by === other ? OTHERS : SERIES, sequence, snapshotId: ref.random }
    const body = encodeNeeds({ ...of, base: undefined, added, dropped: [], replaced: replaced.map(({ random }) => random) })
    return by.request('POST', '/v1/agent/needs', body, 'application/octet-stream')
  }
  const ok = async (...all: readonly Promise<{ status: number; body: Buffer }>[]): Promise<void> => {
    for (const one of all) expect((await one).status).toBeLessThan(300)
  }
  /** The stolen appliance goes on with its own days, so that retention lets go what came before them. */
  const daysOfThief = async (): Promise<void> => {
    for (let day = 0; day < 4; day++) {
      world.days(1)
      const ref = world.newRef()
      await world.put(objectName('snapshot', ref))
      await ok(report(world.agent, ref))
      await ok(state(world.agent, ref, 7 + day, []))
    }
  }
  const codesNow = async (): Promise<string[]> => ((await world.deletions())[0]?.reasons ?? []).map(({ code }) => code)
  const publish = async (): Promise<void> => {
    await world.forgotten([contested])
    const list = await world.condemn(packs, world.snapshots)
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named([contested], packs) })
  }
  const isThere = (): boolean[] =>
    [objectName('snapshot', contested), ...packs.map(packName)].map((name) => world.bucket.names().includes(name))

  beforeEach(async () => {
    await fiveDays(world)
    const admin = await world.administrator()
    const site = await world.made('POST', '/v1/sites', admin, { controllerId: world.controllerId, name: 'Second', region: 'CA-QC' })
    const code = await world.made('POST', '/v1/enrolment-codes', admin, { controllerId: world.controllerId, siteId: site['id'] })
    other = world.server.makeAgent() as Agent
    await ok(other.enroll(String(code['code'])))
    packs = await world.writePacks(2)
    contested = world.newRef()
    await world.put(objectName('snapshot', contested))
  })

  it('is held with its packs, whoever told of it first, and needs what either of them stated', async () => {
    await ok(report(world.agent, contested))
    await ok(state(world.agent, contested, 6, []))
    await ok(report(other, contested))
    await ok(state(other, contested, 1, packs))
    await daysOfThief()
    await publish()
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(await codesNow()).toContain('contested')
    expect(await world.alerts()).toMatchObject([{ kind: 'deletion-held' }, { kind: 'snapshot-contested' }])
    // Its packs alone are needed, though the one who told first needs none of them.
    const [first] = await world.deletions()
    await world.made('POST', `/v1/deletions/${first!.id}/refuse`, world.token, undefined)
    const list = await world.condemn(packs, world.snapshots)
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named([], packs) })
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(await codesNow()).toContain('needed')
    expect(isThere()).toEqual([true, true, true])
  })

  it('and that the store does not show keeps what one of them needs it for, whose newest it is, whatever came after it for the other', async () => {
    await ok(report(other, contested))
    await ok(state(other, contested, 1, packs))
    await ok(report(world.agent, contested))
    await ok(state(world.agent, contested, 6, []))
    await daysOfThief()
    await world.bucket.store('root').remove(objectName('snapshot', contested))
    const list = await world.condemn(packs, world.snapshots)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named([], packs) })
    for (let day = 0; day < 20; day++) {
      expect(await world.look()).toMatchObject({ removed: 0 })
      world.days(1)
    }
    expect(await codesNow()).toContain('needed')
    expect(isThere()).toEqual([false, true, true])
  })

  it.each(['who told last', 'who told first'] as const)(
    'stays everybody’s when one of them is revoked, %s: that says nothing of who lied',
    async (who) => {
      await ok(report(world.agent, contested))
      await ok(state(world.agent, contested, 6, packs))
      await ok(report(other, contested))
      await ok(state(other, contested, 1, []))
      const { id: revoked } = who === 'who told last' ? other : world.agent
      await world.made('POST', `/v1/agents/${revoked}/revoke`, await world.administrator(), undefined)
      const { snapshots } = await world.server.records.booksOf({ storeId: world.storeId })
      expect(snapshots.filter(({ id }) => id === contested.random)).toMatchObject([
        { agentId: world.agent.id, series: SERIES, source: 'documents', sequence: 6, contested: true },
        { agentId: other.id, series: OTHERS, source: 'mail', sequence: 1, contested: true },
      ])
    },
  )

  it('is told of at once: shown as contested, and by one alert for the two of them, that ends when none such is left', async () => {
    const shown = async () => {
      const page = await world.made('GET', '/v1/snapshots', world.token, undefined)
      const items = page['items'] as { id: string; contested: boolean }[]
      const listed = items.filter((one) => one.contested).map(({ id }) => id)
      const one = await world.made('GET', `/v1/snapshots/${contested.random}`, world.token, undefined)
      expect(one['contested']).toBe(listed.includes(contested.random))
      return listed
    }
    await ok(report(world.agent, contested))
    await ok(state(world.agent, contested, 6, packs))
    expect(await shown()).toEqual([])
    expect(await world.alerts()).toEqual([])
    // What it needs is a claim too, with no report of it.
    await ok(state(other, contested, 1, packs))
    expect(await shown()).toEqual([contested.random])
    await ok(report(other, contested))
    await ok(report(other, contested))
    await ok(report(other, world.snapshots[0]!))
    expect(await shown()).toEqual([contested.random, world.snapshots[0]!.random])
    const about = { snapshotId: contested.random, agentId: other.id, otherAgentId: world.agent.id, closedAt: null }
    expect(await world.alerts()).toMatchObject([{ kind: 'snapshot-contested', ...about }])
    await daysOfThief()
    await publish()
    await world.look()
    await world.made('POST', `/v1/deletions/${(await world.deletions())[0]!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1 })
    expect((await world.alerts()).map(({ kind }) => kind)).toEqual(['snapshot-contested'])
    const names = world.named([world.snapshots[0]!], [])
    await world.publish({ kind: 'deletion', lists: [(await world.condemn([], world.snapshots.slice(1)))!], names })
    world.days(20)
    await world.look()
    await world.made('POST', `/v1/deletions/${(await world.deletions())[0]!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1 })
    expect(await world.alerts()).toEqual([])
  })

  it('is not lost to a thief who claims a whole history and waits until its maker is revoked in the ordinary way', async () => {
    const history = [...world.snapshots]
    for (const [n, ref] of history.entries()) {
      await ok(report(other, ref))
      await ok(state(other, ref, n + 1, []))
    }
    await world.made('POST', `/v1/agents/${world.agent.id}/revoke`, await world.administrator(), undefined)
    for (let day = 0; day < 4; day++) {
      world.days(1)
      const ref = world.newRef()
      await world.put(objectName('snapshot', ref))
      await ok(report(other, ref))
      await ok(state(other, ref, 100 + day, []))
    }
    const snapshotIds = history.map(({ random }) => random)
    await ok(other.request('PUT', `/v1/agent/forgotten/${world.storeId}`, { snapshotIds }))
    const before = world.bucket.names().filter((name) => !name.startsWith('lists/'))
    const all = world.bucket.names('packs/').flatMap((name) => parseObjectName(name) ?? [])
    const condemned = all.map((pack) => ({ ...pack, bytes: 6, why: 'dead' as const }))
    const list = await world.publish({ kind: 'condemned', kept: [], packs: condemned }, other.key, other.id)
    world.days(20)
    await world.publish({ kind: 'deletion', lists: [list], names: world.named(history, all) }, other.key, other.id)
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(await codesNow()).toContain('contested')
    expect(world.bucket.names().filter((name) => !name.startsWith('lists/'))).toEqual(before)
    expect((await world.alerts()).map(({ kind }) => kind)).toEqual(['deletion-held', 'snapshot-contested'])
  })

  it('goes where the controller approves, and counts as deleted for both', async () => {
    await ok(report(world.agent, contested))
    await ok(state(world.agent, contested, 6, packs))
    await ok(report(other, contested))
    await ok(state(other, contested, 1, packs))
    await daysOfThief()
    await publish()
    await world.look()
    await world.made('POST', `/v1/deletions/${(await world.deletions())[0]!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1, removed: 3 })
    const { snapshots } = await world.server.records.booksOf({ storeId: world.storeId })
    expect(snapshots.filter(({ id }) => id === contested.random).map(({ deleted }) => deleted)).toEqual([true, true])
  })

  it('or of which one says that it replaced it, stays while the other was not heard from since: it may have made it', async () => {
    const later = world.newRef()
    await world.put(objectName('snapshot', later))
    await ok(report(world.agent, later))
    await ok(state(world.agent, later, 6, [], [contested]))
    await daysOfThief()
    await publish()
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(await codesNow()).toEqual(['unknown-snapshot'])
    // Told of at last, it is that one's, whatever the other says.
    await ok(report(other, contested))
    await ok(state(other, contested, 1, packs))
    expect(await world.look()).toMatchObject({ held: 1, removed: 0 })
    expect(isThere()).toEqual([true, true, true])
  })

  it('or of which one says that it replaced it, while the other lies in a drawer: holds packs alone, and an approval settles it for good', async () => {
    const agreed = async (names: DeletableName[], packsOf: readonly ObjectRef[]) => {
      const list = await world.condemn(packsOf, world.snapshots)
      world.days(20)
      await world.publish({ kind: 'deletion', lists: [list], names })
      return world.look()
    }
    const later = world.newRef()
    await world.put(objectName('snapshot', later))
    await ok(report(world.agent, later))
    await ok(state(world.agent, later, 6, [], [contested]))
    // Revoked after it was stored: it may have made it all the same.
    world.days(3)
    await world.made('POST', `/v1/agents/${other.id}/revoke`, await world.administrator(), undefined)
    await daysOfThief()
    expect(await agreed(world.named(world.snapshots.slice(0, 1), []), [])).toMatchObject({ done: 1, removed: 1, held: 0 })
    expect(await agreed(world.named([], packs.slice(0, 1)), packs.slice(0, 1))).toMatchObject({ held: 1, removed: 0 })
    expect(await codesNow()).toEqual(['unknown-snapshot'])
    await world.made('POST', `/v1/deletions/${(await world.deletions())[0]!.id}/approve`, world.token, undefined)
    expect(await world.look()).toMatchObject({ done: 1, removed: 1 })
    const [, ...rest] = packs
    expect(await agreed(world.named([], rest), rest)).toMatchObject({ done: 1, removed: 1, held: 0 })
    expect(isThere()).toEqual([true, false, false])
  })
})
