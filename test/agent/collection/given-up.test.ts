// Snapshots that are called unreadable: whose word counts, of one that opens and of one that does not, for a collection and for a check (design section 7).
import { describe, expect, test } from 'vitest'
import { objectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { checkRepository, type CheckReport } from '../../../agent/check/check.ts'
import { forgetUnreadable } from '../../../agent/collection/forget.ts'
import { encodeForgetRecord } from '../../../agent/repository/forget-record.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, makeEngine } from '../../_support/engine-fixture.ts'
import { makeTheft, type Theft } from '../../hostile/_support/theft.ts'

const DAY = 86_400_000
const ZEROS = Buffer.alloc(32)

const repositoryOf = (engine: Engine): Promise<Repository> =>
  openRepository({ store: engine.bucket.store('looker'), keys: engine.keys.write.structure })
const check = async (engine: Engine): Promise<CheckReport> => checkRepository({ repository: await repositoryOf(engine), readData: 'all' })
const names = (engine: Engine): string[] => engine.bucket.names('snapshots/')

type World = Theft & { readonly root: Engine; readonly mine: readonly ObjectRef[]; readonly others: readonly ObjectRef[] }

/** Snapshots of the appliance whose keys are used here, and those of the other one; the second of each is its newest, so no other one names it. */
async function world(): Promise<World> {
  const theft = await makeTheft()
  const root = await makeEngine({ seed: 'root', beside: theft.victim })
  const { snapshots } = await (await repositoryOf(theft.victim)).listSnapshots()
  const refs = snapshots.map(({ structure: { ref } }) => ({ session: ref.session, random: ref.random }))
  const isMine = ({ random }: ObjectRef): boolean => theft.victims.includes(random)
  return { ...theft, root, mine: refs.filter(isMine), others: refs.filter((ref) => !isMine(ref)) }
}

/** What the appliance's keys can write, whatever the product would let it. */
async function sayUnreadable({ victim, stolen, ref }: World, snapshots: readonly ObjectRef[]): Promise<void> {
  const entries = snapshots.map((snapshot) => ({ snapshot, series: ZEROS, sequence: 0, hash: ZEROS, why: 'unreadable' as const }))
  const record = { ref: ref(), madeAt: 1, replaces: [], undone: [], entries }
  const object = encodeForgetRecord(record, stolen.structure, stolen.writer)
  await victim.bucket
    .store('thief', { remove: false, overwrite: false })
    .put(objectName('forget', record.ref), { kind: 'bytes', bytes: object })
}

const spoil = ({ victim }: World, ref: ObjectRef): void =>
  victim.bucket.tamper(objectName('snapshot', ref), (bytes) => bytes.subarray(0, 100))
const giveUp = async ({ victim, stolen }: World, ref: ObjectRef, keys = stolen): Promise<unknown> =>
  forgetUnreadable({ repository: await repositoryOf(victim), keys, clock: victim.clock, random: victim.random }, ref)

describe('an appliance that calls the snapshots of another unreadable', () => {
  test('has none of them deleted, nor anything that they need', async () => {
    const at = await world()
    await sayUnreadable(at, at.others)
    const before = at.victim.bucket.names('packs/')
    for (let day = 0; day < 50; day += 8) {
      expect(await at.root.prune()).toMatchObject({ snapshots: 4, heldForgotten: 0, deleted: { objects: 0, packs: 0 } })
      at.victim.clock.advance(8 * DAY)
    }
    expect(names(at.victim)).toHaveLength(4)
    expect(at.victim.bucket.names('packs/')).toEqual(before)
    expect(await check(at.victim)).toMatchObject({ snapshots: 4, damaged: 0, unknown: 0 })
  })

  test('hides no damage of them: a check names it, and a collection stops until the root says so', async () => {
    const at = await world()
    await sayUnreadable(at, at.others)
    spoil(at, at.others[1]!)
    const name = objectName('snapshot', at.others[1]!)
    const report = await check(at.victim)
    expect(report.findings.filter(({ kind }) => kind === 'snapshot')).toMatchObject([{ object: name, verdict: 'damaged' }])
    expect(report).toMatchObject({ snapshots: 4, forgotten: 0 })
    expect((await (await repositoryOf(at.victim)).listSnapshots()).refused.map((one) => one.name)).toEqual([name])
    expect(await codeOf(at.root.prune())).toBe('damaged')
    expect(await codeOf(giveUp(at, at.others[1]!))).toBe('forbidden')
    await giveUp(at, at.others[1]!, at.victim.keys.write)
    expect(await check(at.victim)).toMatchObject({ snapshots: 3, forgotten: 1, damaged: 0 })
    for (const days of [0, 15]) {
      at.victim.clock.advance(days * DAY)
      await at.root.prune()
    }
    expect(names(at.victim)).toHaveLength(3)
    expect(names(at.victim)).not.toContain(name)
  })

  test('is refused before it writes that, and so is one whose session cannot be told', async () => {
    const at = await world()
    const before = at.victim.bucket.names()
    expect(await codeOf(giveUp(at, at.others[0]!))).toBe('forbidden')
    at.victim.bucket.tamper(`sessions/${at.mine[0]!.session}`, (bytes) => bytes.subarray(0, 100))
    expect(await codeOf(giveUp(at, at.mine[0]!))).toBe('forbidden')
    // The session of another under this name says nothing.
    const foreign = at.victim.bucket.content(`sessions/${at.mine[1]!.session}`)!
    at.victim.bucket.tamper(`sessions/${at.others[1]!.session}`, () => foreign)
    expect(await codeOf(giveUp(at, at.others[1]!))).toBe('forbidden')
    expect(at.victim.bucket.names()).toEqual(before)
  })
})

describe('a snapshot that its own appliance has given up', () => {
  test('is no news, and stays where the root collects, unless the root takes the word of appliances or says so itself', async () => {
    for (const how of ['accepted', 'confirmed'] as const) {
      const at = await world()
      const name = objectName('snapshot', at.mine[1]!)
      spoil(at, at.mine[1]!)
      expect(await codeOf(at.root.prune())).toBe('damaged')
      await giveUp(at, at.mine[1]!)
      expect(await check(at.victim)).toMatchObject({ snapshots: 3, forgotten: 1, damaged: 0 })
      for (const days of [0, 15, 15]) {
        at.victim.clock.advance(days * DAY)
        expect(await at.root.prune()).toMatchObject({ snapshots: 3, heldForgotten: 1 })
      }
      expect(names(at.victim)).toContain(name)
      if (how === 'confirmed') {
        const { givenUp } = await (await repositoryOf(at.victim)).listSnapshots()
        expect(givenUp.map(({ random, entries }) => [random, entries.length])).toEqual([[at.mine[1]!.random, 1]])
        await giveUp(at, at.mine[1]!, at.victim.keys.write)
      }
      await at.root.prune({ acceptAgentForgets: how === 'accepted' })
      expect(names(at.victim)).not.toContain(name)
    }
  })

  test('is named for deletion where that appliance collects', async () => {
    const at = await world()
    spoil(at, at.mine[1]!)
    await giveUp(at, at.mine[1]!)
    at.victim.clock.advance(15 * DAY)
    expect((await at.victim.prune({ mayDelete: false })).named.objects).toBeGreaterThan(0)
    const { deletionLists } = await (await repositoryOf(at.victim)).loadCollection()
    expect(deletionLists.flatMap(({ list }) => list.names).filter(({ kind }) => kind === 'snapshot')).toEqual([
      { kind: 'snapshot', ...at.mine[1]! },
    ])
  })

  test('stops a collection where its session is lost: then only the root can say whose it is', async () => {
    const at = await world()
    spoil(at, at.mine[1]!)
    await giveUp(at, at.mine[1]!)
    at.victim.bucket.tamper(`sessions/${at.mine[1]!.session}`, () => undefined)
    expect(await codeOf(at.root.prune())).toBe('damaged')
    expect((await check(at.victim)).findings.map(({ object }) => object)).toContain(objectName('snapshot', at.mine[1]!))
  })
})

test('a short listing is told from a deletion by the name itself, whoever says that the snapshot is forgotten', async () => {
  const at = await world()
  await sayUnreadable(at, at.others)
  let listings = 0
  const hidden = objectName('snapshot', at.others[1]!)
  const blind = await makeEngine({
    seed: 'blind',
    beside: at.victim,
    seam: (inner) => ({
      ...inner,
      async *list(prefix, more) {
        const isShort = prefix === 'snapshots/' && ++listings % 3 === 0
        for await (const page of inner.list(prefix, more)) yield page.filter(({ name }) => !isShort || name !== hidden)
      },
    }),
  })
  expect(await codeOf(blind.prune())).toBe('store-unreachable')
})

test('a snapshot that went bad after it was forgotten is no damage, and goes when its window is over', async () => {
  const at = await world()
  const [ref] = at.mine
  await at.root.forget(ref!.random)
  spoil(at, ref!)
  expect(await check(at.root)).toMatchObject({ damaged: 0, unknown: 0 })
  for (let day = 0; day < 40; day += 10) {
    await at.root.prune()
    at.victim.clock.advance(10 * DAY)
  }
  expect(names(at.victim)).not.toContain(objectName('snapshot', ref!))
  expect(await check(at.root)).toMatchObject({ damaged: 0, unknown: 0 })
})
