// A server that dies at any call of a look for deletions, of the store or of its database, before it or after: what comes then goes on from there.
import { afterAll, afterEach, expect, it } from 'vitest'
import { objectName, packName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { Records } from 'holdfast-server/records/records.ts'
import { SimulatedCrash } from '../../_support/simulated-store.ts'
import { rotatingSeed, soak, soakResult } from '../../_support/soak.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { fiveDays, makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

const begun = performance.now()
let points = 0
let violations = 0
let world: DeletionWorld
afterEach(() => world.close())
afterAll(() =>
  soakResult({
    suite: 'simulation',
    figure: "crash points of the server's look for deletions",
    asked: 0,
    value: points,
    violations,
    seed: soak ? 'all' : rotatingSeed(),
    seconds: Math.round((performance.now() - begun) / 1000),
  }),
)

type Crash = { readonly nth: number; readonly when: 'before' | 'after' }
async function ready(): ReturnType<typeof fiveDays> {
  world = await makeDeletionWorld()
  const made = await fiveDays(world)
  await world.publish({ kind: 'deletion', lists: [made.list], names: world.named(made.going.snapshots, made.going.packs) })
  return made
}

/** One look that ends at the nth call; gives how many there were, at most up to it. */
async function lookUntil(crash: Crash | undefined): Promise<number> {
  let calls = 0
  let isOver = false
  const at = (when: Crash['when']): void => {
    if (when === 'before') calls += 1
    if (crash !== undefined && calls === crash.nth && when === crash.when) isOver = true
    if (isOver) throw new SimulatedCrash()
  }
  const watched = <T extends object>(target: T): T =>
    new Proxy(target, {
      get: (_, key) => {
        const found: unknown = Reflect.get(target, key)
        if (key === 'diagnostics') return watched(found as object)
        if (typeof found !== 'function' || key === 'close') return typeof found === 'function' ? found.bind(target) : found
        if (key === 'list' && !('moveDeletion' in target))
          return async function* (...input: unknown[]) {
            at('before')
            yield* found.apply(target, input) as AsyncIterable<unknown>
            at('after')
          }
        return async (...input: unknown[]) => {
          at('before')
          const value: unknown = await found.apply(target, input)
          at('after')
          return value
        }
      },
    })
  const { context } = world.server
  await world
    .look({ records: watched<Records>(context.records), openStore: async (...of) => watched(await context.openStore(...of)) })
    .catch((error: unknown) => {
      if (!(error instanceof SimulatedCrash)) throw error
    })
  return calls
}

const namesOf = ({ snapshots, packs }: { snapshots: readonly ObjectRef[]; packs: readonly ObjectRef[] }): string[] => [
  ...snapshots.map((ref) => objectName('snapshot', ref)),
  ...packs.map(packName),
]
const there = (names: readonly string[]): string[] => names.filter((name) => world.bucket.names().includes(name))

async function deletedInBooks(): Promise<string[]> {
  const { snapshots } = await world.server.records.booksOf({ storeId: world.storeId })
  return snapshots.flatMap(({ id, deleted }) => (deleted ? [id] : []))
}

const SHARE = 32

/** Every call before and after under the soak, else those of the day. */
async function crashes(): Promise<readonly Crash[]> {
  await ready()
  const calls = await lookUntil(undefined)
  await world.close()
  const all = Array.from({ length: 2 * calls }, (_, at): Crash => ({ nth: (at >> 1) + 1, when: at % 2 === 0 ? 'before' : 'after' }))
  const first = seededRandom(rotatingSeed()).bytes(1)[0]! % SHARE
  return soak ? all : all.filter((_, at) => at % SHARE === first)
}

/** Looks again after it, where retention `isKept` longer by then, and compares store and books with what has to be there. */
async function endsWell(crash: Crash, isKept: boolean): Promise<void> {
  const how = `${JSON.stringify(crash)} ${isKept}`
  const made = await ready()
  await lookUntil(crash)
  if (isKept) await world.made('PATCH', `/v1/policies/${world.policyId}`, await world.administrator(), { retention: { daily: 9 } })
  const left = there(namesOf(made.going))
  await world.look()
  await world.look()
  const { id, state } = (await world.deletions())[0]!
  expect(there(namesOf(made.staying)), how).toEqual(namesOf(made.staying))
  expect(['done', isKept ? 'held' : 'done'], how).toContain(state)
  expect(there(namesOf(made.going)), how).toEqual(state === 'done' ? [] : left)
  if (state === 'held') await world.made('POST', `/v1/deletions/${id}/refuse`, world.token, undefined)
  else expect((await deletedInBooks()).sort(), how).toEqual(made.going.snapshots.map(({ random }) => random).sort())
  await world.close()
}

it(`is gone on with, or held and refused where retention keeps more by then, and the books say what is there (HOLDFAST_SEED=${rotatingSeed()})`, async () => {
  const all = await crashes()
  expect(all.length).toBeGreaterThan(1)
  for (const crash of all)
    for (const isKept of [false, true]) {
      points += 1
      violations += 1
      await endsWell(crash, isKept)
      violations -= 1
    }
  await ready()
}, 600_000)
