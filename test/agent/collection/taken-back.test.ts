// What was taken back stays taken back: through merged records, collections that sleep or die, other writers' records, and deletion lists that stand
// already (design section 7).
import { describe, expect, test } from 'vitest'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { agentWriter, ROOT_WRITER_ID } from '../../../agent/keys/domain.ts'
import { encodeForgetRecord, type ForgetRecord } from '../../../agent/repository/forget-record.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { encodeRoster } from '../backup/roster-object.ts'
import { makeTheft } from '../../hostile/_support/theft.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

const repositoryOf = (engine: Engine): Promise<Repository> =>
  openRepository({ store: engine.bucket.store('looker'), keys: engine.keys.write.structure })
const counts = async (engine: Engine, id: string): Promise<boolean> =>
  (await (await repositoryOf(engine)).listSnapshots()).snapshots.some(({ structure }) => structure.ref.random === id)
const isThere = (engine: Engine, id: string): boolean => engine.bucket.names('snapshots/').some((name) => name.endsWith(id))
const records = (engine: Engine): string[] => engine.bucket.names('lists/forgets/')

/** Snapshots of a source that changes, by their ids. */
async function snapshots(engine: Engine, count: number): Promise<string[]> {
  const made: string[] = []
  for (let i = 0; i < count; i++) {
    writeFile(engine, '/src/a', fixtureRandom(`content ${i}`).bytes(3000))
    engine.pass()
    made.push((await engine.backup()).snapshot!.ref.random)
  }
  return made
}

/** A collector beside `engine`, who sleeps before the first call that `before` says yes to while `meanwhile` is done. */
function sleeper(
  engine: Engine,
  before: (operation: 'put' | 'remove', name: string) => boolean,
  meanwhile: () => Promise<void>,
  seed = 'sleeper',
): Promise<Engine> {
  let sleeps = true
  const wake = async (operation: 'put' | 'remove', name: string): Promise<void> => {
    if (!sleeps || !before(operation, name)) return
    sleeps = false
    await meanwhile()
  }
  const seam = (inner: Store): Store => ({
    ...inner,
    put: async (name, body, more) => (await wake('put', name), inner.put(name, body, more)),
    remove: async (name, more) => (await wake('remove', name), inner.remove(name, more)),
  })
  return makeEngine({ seed, beside: engine, seam })
}

describe('a snapshot that was taken back still counts', () => {
  test('wherever a collection dies while it removes the records that it has merged', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const made = await snapshots(engine, 20)
    await engine.forget(made[0]!)
    await engine.undelete(made[0]!)
    for (const id of made.slice(1, 18)) await engine.forget(id)
    engine.clock.advance(DAY)
    await engine.prune()
    engine.clock.advance(31 * DAY)
    let removed = 1
    for (let dies = 1; removed > 0; dies++) {
      const one = await makeEngine({ seed: `${dies}`, bucket: engine.bucket, startMs: engine.clock.now(), limits: LIMITS })
      const before = records(one).length
      let calls = 0
      one.setStoreFaults((call) =>
        call.operation === 'remove' && call.name.startsWith('lists/forgets/') && ++calls === dies
          ? [{ kind: 'crash', when: 'before' }]
          : [],
      )
      await one.prune().then(
        () => (removed = 0),
        () => undefined,
      )
      one.reboot()
      await one.prune()
      expect([dies, await counts(one, made[0]!), isThere(one, made[0]!)]).toEqual([dies, true, true])
      expect(records(one).length).toBeLessThan(before)
    }
  })

  test('where a collection merges records by a look from before that', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    const made = await snapshots(engine, 19)
    for (const id of made.slice(0, 17)) await engine.forget(id)
    engine.clock.advance(DAY)
    const collector = await sleeper(
      engine,
      (operation, name) => operation === 'put' && name.startsWith('lists/forgets/'),
      async () => void (await engine.undelete(made[3]!)),
    )
    await collector.prune()
    expect(await counts(engine, made[3]!)).toBe(true)
    for (let i = 0; i < 4; i++) {
      engine.clock.advance(15 * DAY)
      await collector.prune()
      expect(await counts(engine, made[3]!)).toBe(true)
    }
    // What was merged is gone, and is said by the merged record still.
    expect(records(engine).length).toBeLessThan(6)
    expect(await counts(engine, made[18]!)).toBe(true)
    // It can be forgotten again, and goes for good then.
    await engine.forget(made[3]!)
    for (let i = 0; i < 4; i++) {
      engine.clock.advance(15 * DAY)
      await collector.prune()
    }
    expect([await counts(engine, made[3]!), isThere(engine, made[3]!), isThere(engine, made[18]!)]).toEqual([false, false, true])
  })

  test('by the word of the root, however many records of the root become one while that of the appliance is there', async () => {
    const { victim, other, victims } = await makeTheft()
    const root = await makeEngine({ seed: 'root', beside: victim })
    await victim.forget(victims[0]!)
    await root.undelete(victims[0]!)
    let last: string | undefined
    for (let i = 0; i < 18; i++) {
      writeFile(other, '/src/own', fixtureRandom(`own ${i}`).bytes(3000))
      other.pass()
      const { snapshot } = await other.backup()
      if (last !== undefined) await root.forget(last)
      last = snapshot!.ref.random
      victim.clock.advance(DAY)
    }
    for (let i = 0; i < 3; i++) {
      await root.prune()
      victim.clock.advance(31 * DAY)
    }
    expect(records(victim).length).toBeLessThan(6)
    expect(await counts(victim, victims[0]!)).toBe(true)
    await victim.prune({ mayDelete: true })
    expect([await counts(victim, victims[0]!), isThere(victim, victims[0]!)]).toEqual([true, true])
  })
})

describe('a collection that is at work already', () => {
  /** Forgotten fifteen days ago and condemned, with all that it alone needs; the second snapshot stays. */
  async function due(): Promise<{ engine: Engine; first: string }> {
    const engine = await makeEngine({ limits: LIMITS })
    const [first] = await snapshots(engine, 2)
    await engine.forget(first!)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    return { engine, first: first! }
  }
  const removesSnapshot = (operation: string, name: string): boolean => operation === 'remove' && name.startsWith('snapshots/')

  test('and was not seen at first makes it too late too: what was taken back is forgotten again', async () => {
    const { engine, first } = await due()
    const [asleep, woken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const collector = await sleeper(engine, removesSnapshot, async () => {
      asleep.resolve()
      await woken.promise
    })
    let work: Promise<unknown> = Promise.resolve()
    const asker = await sleeper(
      engine,
      (operation, name) => operation === 'put' && name.startsWith('lists/forgets/'),
      async () => {
        work = collector.prune()
        await asleep.promise
        engine.clock.advance(1000)
      },
      'asker',
    )
    expect(await codeOf(asker.undelete(first))).toBe('conflict')
    expect(await counts(engine, first)).toBe(false)
    // Nor is it in time now that it was forgotten after the list.
    expect(await codeOf(engine.undelete(first))).toBe('conflict')
    expect(await counts(engine, first)).toBe(false)
    woken.resolve()
    await work
    expect(isThere(engine, first)).toBe(false)
    expect(await codeOf(engine.prune())).toBe('no error')
  })

  /** Takes back while a collection, which begins right before anything is stored, goes on to the end right before the nth listing of packs after that. */
  async function overtaken(listing: number, locked: boolean, takeBack: (asker: Engine, first: string) => Promise<unknown>) {
    const { engine, first } = await due()
    if (locked)
      engine.setStoreFaults((call) =>
        removesSnapshot(call.operation, call.name) ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : [],
      )
    const [asleep, woken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const collector = await sleeper(engine, removesSnapshot, async () => {
      asleep.resolve()
      await woken.promise
    })
    let work: Promise<unknown> | undefined
    let listings = 0
    const asker = await makeEngine({
      seed: 'asker',
      beside: engine,
      seam: (inner) => ({
        ...inner,
        put: async (name, body, more) => {
          if (work === undefined && name.startsWith('lists/')) {
            work = codeOf(collector.prune())
            await asleep.promise
          }
          return inner.put(name, body, more)
        },
        async *list(prefix, more) {
          if (work !== undefined && prefix === 'packs/' && ++listings === listing) {
            woken.resolve()
            await work
          }
          yield* inner.list(prefix, more)
        },
      }),
    })
    const code = await codeOf(takeBack(asker, first))
    woken.resolve()
    await work
    engine.setStoreFaults(() => [])
    return { engine, first, code, listings }
  }

  test('and goes on when everything was looked at once more leaves no gap in history, and nothing that counts and is not whole', async () => {
    for (const locked of [false, true])
      for (let listing = 1, listings = 1; listing <= listings; listing++) {
        const one = await overtaken(listing, locked, (asker, first) => asker.undelete(first))
        listings = Math.max(listings, one.listings)
        expect([locked, listing, one.code === 'no error', await counts(one.engine, one.first)]).toEqual([locked, listing, false, false])
        expect(await codeOf(one.engine.prune())).toBe('no error')
      }
  })

  test('forgets it again itself where who took it back died over it', async () => {
    for (const locked of [false, true]) {
      const { engine, first, code } = await overtaken(0, locked, (asker, id) => {
        asker.setStoreFaults((call) => {
          const isLate = call.actor === 'agent asker' && call.operation === 'list' && records(asker).length > 1
          if (isLate) return [{ kind: 'fail', when: 'before', code: 'store-unreachable' }]
          return locked && removesSnapshot(call.operation, call.name) ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : []
        })
        return asker.undelete(id)
      })
      expect([locked, code, await counts(engine, first)]).toEqual([locked, 'store-unreachable', false])
      expect(await codeOf(engine.prune())).toBe('no error')
    }
  })

  test('makes it too late also for who knew of no other one', async () => {
    const { engine, first, code } = await overtaken(0, false, (asker, id) => asker.undeleteLeft(id))
    expect([code, await counts(engine, first)]).toEqual(['conflict', false])
    expect(await codeOf(engine.prune())).toBe('no error')
  })

  test('makes it too late for two at once: each is told, and none that a listing is short', async () => {
    const { engine, first } = await due()
    const [asleep, woken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const collector = await sleeper(engine, removesSnapshot, async () => {
      asleep.resolve()
      await woken.promise
    })
    let work: Promise<unknown> = Promise.resolve()
    const isRecord = (operation: string, name: string): boolean => operation === 'put' && name.startsWith('lists/forgets/')
    const inner = await sleeper(
      engine,
      isRecord,
      async () => {
        work = collector.prune()
        await asleep.promise
      },
      'inner',
    )
    let told: unknown
    const outer = await sleeper(engine, isRecord, async () => void (told = await codeOf(inner.undelete(first))), 'outer')
    expect([await codeOf(outer.undelete(first)), told]).toEqual(['conflict', 'conflict'])
    woken.resolve()
    await work
    expect([await counts(engine, first), await codeOf(engine.prune())]).toEqual([false, 'no error'])
  })

  test('and died is known to be over by a person alone', async () => {
    const { engine, first } = await due()
    engine.setStoreFaults((call) => (removesSnapshot(call.operation, call.name) ? [{ kind: 'crash', when: 'before' }] : []))
    await engine.prune().catch(() => undefined)
    engine.reboot()
    expect(await codeOf(engine.undelete(first))).toBe('conflict')
    expect(await engine.undeleteLeft(first)).toMatchObject({ snapshots: 1, namedForServer: 0 })
    await engine.prune()
    expect([await counts(engine, first), isThere(engine, first)]).toEqual([true, true])
  })

  test('says what it left: that can be taken back again, now and after it was forgotten anew', async () => {
    const { engine, first } = await due()
    const collector = await sleeper(
      engine,
      (operation, name) => operation === 'put' && name.startsWith('lists/'),
      async () => void (await engine.undelete(first)),
    )
    await collector.prune()
    expect(await counts(engine, first)).toBe(true)
    await engine.forget(first)
    expect(await engine.undelete(first)).toMatchObject({ snapshots: 1 })
    // So does one that the store let remove nothing.
    const locked = await due()
    locked.engine.setStoreFaults((call) => (call.operation === 'remove' ? [{ kind: 'fail', when: 'before', code: 'store-refused' }] : []))
    expect((await locked.engine.prune()).deleted.locked.length).toBeGreaterThan(0)
    expect(await locked.engine.undelete(locked.first)).toMatchObject({ snapshots: 1, namedForServer: 0 })
  })

  test('for an appliance deletes nothing itself: its list is taken back from, for whoever deletes by lists, and it is said that they may have begun', async () => {
    const engine = await makeEngine({ limits: LIMITS })
    // The second snapshot needs all that the first one does, so no pack is condemned.
    writeFile(engine, '/src/a', fixtureRandom('a').bytes(3000))
    engine.pass()
    const first = (await engine.backup()).snapshot!.ref
    writeFile(engine, '/src/b', fixtureRandom('b').bytes(3000))
    engine.pass()
    await engine.backup()
    const agent = agentWriter(Buffer.alloc(32, 4), Buffer.alloc(16, 4))
    await engine.bucket.store('controller').put(...encodeRoster(engine.keys, [agent], engine.clock.now()))
    const appliance = await makeEngine({ seed: 'appliance', beside: engine, writeKeys: (keys) => ({ ...keys.write, writer: agent }) })
    await engine.forget(first.random)
    engine.clock.advance(15 * DAY)
    expect(await appliance.prune({ mayDelete: false })).toMatchObject({ named: { objects: 1, packs: 0 } })
    expect(await engine.undelete(first.random)).toMatchObject({ snapshots: 1, packs: 0, namedForServer: 1 })
    const { deletionLists, revivedLists } = await (await repositoryOf(engine)).loadCollection()
    const [{ list }] = deletionLists as [(typeof deletionLists)[number]]
    expect(revivedLists.map((one) => one.list.from)).toEqual([
      [
        { list: expect.objectContaining({ random: list.ref.random }), packs: [{ session: first.session, random: first.random }] },
        { list: expect.objectContaining({ random: first.random }), packs: [] },
      ],
    ])
  })
})

describe('a record of an appliance', () => {
  async function said(
    theft: Awaited<ReturnType<typeof makeTheft>>,
    more: Partial<Pick<ForgetRecord, 'undone' | 'replaces'>>,
  ): Promise<void> {
    const { victim, stolen } = theft
    const record = { ref: theft.ref(), madeAt: 1, replaces: [], entries: [], undone: [], ...more }
    await victim.bucket
      .store('thief', { remove: false, overwrite: false })
      .put(objectName('forget', record.ref), { kind: 'bytes', bytes: encodeForgetRecord(record, stolen.structure, stolen.writer) })
  }
  const refOf = async (engine: Engine, id: string): Promise<ObjectRef> => {
    const { snapshots, forgotten } = await (await repositoryOf(engine)).listSnapshots()
    return [...snapshots, ...forgotten].find(({ structure }) => structure.ref.random === id)!.structure.ref
  }

  test('takes back nothing that the root has forgotten, and the command says so', async () => {
    const theft = await makeTheft()
    const { victim, victims } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    await root.forget(victims[0]!)
    const snapshot = await refOf(victim, victims[0]!)
    const [entry] = (await (await repositoryOf(victim)).loadCollection()).forgotten.get(refKey(snapshot))!
    expect(entry!.writerId).toEqual(ROOT_WRITER_ID)
    await said(theft, { undone: [{ record: entry!.record, snapshot }] })
    expect(await counts(victim, victims[0]!)).toBe(false)
    // Nor where the appliance has forgotten it too.
    expect(await victim.undelete(victims[0]!)).toMatchObject({ snapshots: 0 })
    await root.undelete(victims[0]!)
    expect(await counts(victim, victims[0]!)).toBe(true)
  })

  test("replaces none of the root's: those stay, and collection goes on", async () => {
    const theft = await makeTheft()
    const { victim, victims } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    await root.forget(victims[0]!)
    const [name] = records(victim)
    const [session, random] = name!.split('/').at(-1)!.split('-') as [string, string]
    await said(theft, { replaces: [{ session, random }] })
    for (let i = 0; i < 4; i++) {
      victim.clock.advance(31 * DAY)
      await root.prune()
    }
    expect(records(victim)).toContain(name)
    expect(isThere(victim, victims[0]!)).toBe(false)
    expect(await codeOf(root.prune())).toBe('no error')
  })
})
