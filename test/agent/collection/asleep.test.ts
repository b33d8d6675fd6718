// A machine that sleeps at any one call of a collection, a backup, a check or a repair while another forgets, condemns and deletes for weeks: whatever it read before is old
// by then. It ends well, or asks to be run again; it never takes what was deleted on record for damage, and nothing that counts is lost.
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { repairRepository } from '../../../agent/repair/repair.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { type Engine, fixtureRandom, makeEngine, type Run, writeFile } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'
import { restoresTo } from '../../sim/invariants.ts'

const DAY = 86_400_000
const LIMITS = { packBytes: 6000, uploadsAtOnce: 2 }

/** A store that does `work` right before its call number `at`, counted from 1. */
function pausing(inner: Store, at: number, work: () => Promise<void>): { store: Store; calls: () => number } {
  let calls = 0
  const count = async (): Promise<void> => {
    calls += 1
    if (calls === at) await work()
  }
  const store: Store = {
    ...inner,
    put: async (...given) => (await count(), inner.put(...given)),
    get: async (...given) => (await count(), inner.get(...given)),
    getRange: async (...given) => (await count(), inner.getRange(...given)),
    head: async (...given) => (await count(), inner.head(...given)),
    async *list(...given) {
      await count()
      yield* inner.list(...given)
    },
    remove: async (...given) => (await count(), inner.remove(...given)),
    close: () => inner.close(),
  }
  return { store, calls: () => calls }
}

/**
 * Two machines on one bucket; the first sleeps at call `at` of what `act` does, and meanwhile the second forgets a snapshot, unless that is forgotten
 * already, collects until its packs are gone, and stores another.
 */
async function sleepsAt(
  at: number,
  isForgotten: boolean,
  act: (engine: Engine) => Promise<Run | void>,
): Promise<{ calls: number; error: unknown }> {
  const second = await makeEngine({ seed: 'second', limits: LIMITS })
  for (let i = 0; i < 6; i++) writeFile(second, `/src/${i}`, fixtureRandom(`first ${i}`).bytes(3000))
  second.pass()
  const gone = (await second.backup()).snapshot!.ref.random
  // Of the first packs some are dead then and some sparse.
  for (const i of [0, 1, 2, 4, 5]) writeFile(second, `/src/${i}`, fixtureRandom(`later ${i}`).bytes(3000))
  second.pass()
  const promised = new Map<string, Tree>()
  const backUp = async (engine: Engine): Promise<void> => keep(engine, await engine.backup())
  const keep = (engine: Engine, run: Run): void => void promised.set(run.snapshot!.ref.random, engine.source())
  await backUp(second)
  await second.prune()
  if (isForgotten) await second.forget(gone)
  let pause: ReturnType<typeof pausing> | undefined
  let asleep = false
  const first = await makeEngine({
    seed: 'first',
    limits: LIMITS,
    beside: second,
    seam: (store) => {
      if (!asleep) return store
      pause = pausing(store, at, async () => {
        asleep = false
        if (!isForgotten) await second.forget(gone)
        await second.prune()
        writeFile(second, '/src/0', fixtureRandom('meanwhile').bytes(3000))
        second.pass()
        await backUp(second)
        second.clock.advance(15 * DAY)
        await second.prune()
      })
      return pause.store
    },
  })
  for (let i = 0; i < 6; i++) writeFile(first, `/src/${i}`, fixtureRandom(`first ${i}`).bytes(3000))
  first.pass()
  asleep = true
  const error = await act(first).then(
    (run) => void (run === undefined || keep(first, run)),
    (thrown: unknown) => thrown,
  )
  asleep = false
  // Whatever it did with what was old: everything that counts restores, before and after two more collections.
  for (let more = 0; more < 3; more++) {
    for (const [id, tree] of promised) await restoresTo(second, tree, `asleep at call ${at}, ${more} collections later`, id)
    second.clock.advance(15 * DAY)
    await first.prune()
  }
  return { calls: pause?.calls() ?? 0, error }
}

const opened = async (engine: Engine) => ({
  repository: await openRepository({ store: engine.store(), keys: engine.keys.write.structure }),
})
const repairing = ({ keys, random, clock }: Engine) => ({
  keys: keys.write,
  read: keys.read,
  ...{ dryRun: false, random, now: clock.now(), signal: new AbortController().signal, readData: 'all' as const },
})

describe('asleep at one call while another forgets, condemns and deletes', () => {
  const acts: readonly (readonly [string, (engine: Engine) => Promise<Run | void>])[] = [
    ['a collection', async (engine) => void (await engine.prune())],
    ['a backup', (engine) => engine.backup()],
    ['a check', async (engine) => void expect(await checkRepository(await opened(engine))).toMatchObject({ damaged: 0, unknown: 0 })],
    ['a repair', async (engine) => void (await repairRepository({ ...(await opened(engine)), ...repairing(engine) }))],
  ]
  test.each(acts)('%s ends well or asks to be run again', async (_, act) => {
    for (const isForgotten of [false, true]) {
      const { calls } = await sleepsAt(0, isForgotten, act)
      expect(calls).toBeGreaterThan(12)
      for (let at = 1; at <= calls; at++) {
        const { error } = await sleepsAt(at, isForgotten, act)
        if (error !== undefined)
          expect(isHoldfastError(error, 'store-unreachable', 'conflict'), `asleep at call ${at}: ${String(error)}`).toBe(true)
      }
    }
  })
})
