// A snapshot's sequence is higher than any that its series ever had, whatever of it is forgotten, collected or hidden: whoever was told of a snapshot knows
// it by that, the server among them.
import { describe, expect, test } from 'vitest'
import { openStateDirectory } from '../../../agent/backup/state-lock.ts'
import { rememberedSequence, rememberSequence } from '../../../agent/backup/series.ts'
import { stateNeeds, type StateNeeds } from '../../../agent/daemon/needs-statement.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'
import { decodeNeeds } from '@holdfast/shared/protocol/needs.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { change, type Engine, fixtureRandom, makeEngine, type Run, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const STATE = Buffer.from('/state')

async function backUp(engine: Engine, text: string, more: object = {}): Promise<NonNullable<Run['snapshot']>> {
  for (let i = 0; i < 4; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`${text} ${i}`).bytes(3000))
  engine.pass()
  return (await engine.backup(more)).snapshot!
}

describe('the sequence of a snapshot', () => {
  test('is not given again when the newest ones are forgotten, still there or gone, nor when they are taken back', async () => {
    // Each run has a new state directory: what the store has is enough.
    let runs = 0
    const engine = await makeEngine({ limits: { packBytes: 6000 } })
    const next = (): Promise<NonNullable<Run['snapshot']>> => backUp(engine, `run ${runs}`, { state: `/state-${++runs}` })
    await next()
    const [second, third] = [await next(), await next()]
    await engine.forget(second.ref.random, third.ref.random)
    const fourth = await next()
    expect(fourth.sequence).toBe(4)
    await engine.undelete(third.ref.random)
    expect((await next()).sequence).toBe(5)
    await engine.forget(fourth.ref.random)
    for (let i = 0; i < 4; i++) {
      engine.clock.advance(15 * DAY)
      await engine.prune()
    }
    expect(engine.bucket.names('snapshots/').some((name) => name.endsWith(fourth.ref.random))).toBe(false)
    expect((await next()).sequence).toBe(6)
  })

  test('is not given again where the store does not show the newest ones, as long as the state directory remembers', async () => {
    const engine = await makeEngine()
    await backUp(engine, 'first')
    const hidden = [await backUp(engine, 'second'), await backUp(engine, 'third')].map(({ ref }) => ref.random)
    for (const name of engine.bucket.names('snapshots/'))
      if (hidden.some((random) => name.endsWith(random))) engine.bucket.tamper(name, () => undefined)
    expect((await backUp(engine, 'fourth')).sequence).toBe(4)
    expect((await backUp(engine, 'fifth', { label: 'another series' })).sequence).toBe(1)
  })

  test.each(['advance', 'stepWallClock'] as const)(
    'of a run that took long is higher than those that a copy of its machine made meanwhile (%s)',
    async (pass) => {
      let beside: (() => Promise<void>) | undefined
      const seam = (store: Store): Store => ({
        ...store,
        location: store.location,
        put: async (name, ...rest) => {
          const work = name.startsWith('packs/') ? beside : undefined
          if (work !== undefined) beside = undefined
          await work?.()
          return store.put(name, ...rest)
        },
      })
      const slow = await makeEngine({ seam })
      await backUp(slow, 'first')
      const copy = await makeEngine({ seed: 'copy', beside: slow })
      let made = 0
      beside = async () => {
        for (; made < 3; made++) {
          slow.clock[pass](DAY / 24)
          await backUp(copy, `meanwhile ${made}`)
        }
      }
      const { sequence } = await backUp(slow, 'long')
      expect(made).toBe(3)
      expect(sequence).toBe(5)
    },
  )

  test('is remembered as it was kept, and not at all where what is kept is damaged or missing', async () => {
    const engine = await makeEngine()
    const state = openStateDirectory(engine.fs, STATE)
    const name = Buffer.from('sequence-1')
    expect(rememberedSequence(engine.fs, state, name)).toBe(0)
    for (const sequence of [7, 2 ** 40, 8]) {
      rememberSequence(engine.fs, state, name, sequence)
      expect(rememberedSequence(engine.fs, state, name)).toBe(sequence)
    }
    const length = engine.fs.stat(state, name).size
    for (let at = 0; at < length; at++) {
      rememberSequence(engine.fs, state, name, 9)
      change(engine, (fs) => {
        const fd = fs.open(state, name, 'update')
        const byte = Buffer.alloc(1)
        fs.read(fd, byte, 0, 1, at)
        fs.write(fd, Buffer.from([byte[0]! ^ 1]), at)
        fs.close(fd)
      })
      expect(rememberedSequence(engine.fs, state, name)).toBe(0)
    }
    rememberSequence(engine.fs, state, name, 2 ** 48)
    expect(rememberedSequence(engine.fs, state, name)).toBe(0)
  })
})

describe('needs', () => {
  /** A server that takes statements as the real one does, in short. */
  function serverOf() {
    const stated: { id: string; sequence: number; base: string | undefined }[] = []
    const call = async (_: unknown, { bytes }: { bytes?: { body: Buffer } }) => {
      if (bytes !== undefined) {
        const { snapshotId: id, sequence, base } = decodeNeeds(bytes.body)
        if (stated.every((one) => one.id !== id)) stated.push({ id, sequence, base })
      }
      return { sequence: stated.at(-1)?.sequence ?? 0, snapshotId: stated.at(-1)?.id ?? null, serverTime: '' }
    }
    return { stated, client: { call } as unknown as StateNeeds['client'] }
  }

  test('are stated of each of two snapshots with one sequence, once, and what follows goes on from the last', async () => {
    const engine = await makeEngine()
    for (const text of ['a', 'b', 'c', 'd']) await backUp(engine, text)
    const { snapshots } = await (await openRepository({ store: engine.store(), keys: engine.keys.write.structure })).listSnapshots()
    // As they were made before sequences were never given again.
    const [first, second, twin, last] = snapshots.map((one, i): OpenedSnapshot => {
      return { ...one, structure: { ...one.structure, sequence: [1, 2, 2, 3][i]! } }
    })
    const files = new Map<string, Buffer>()
    const { stated, client } = serverOf()
    const state = (...all: (OpenedSnapshot | undefined)[]): Promise<number> =>
      stateNeeds({
        client,
        directory: {
          read: (name: string) => files.get(name),
          write: (name: string, bytes: Buffer) => void files.set(name, bytes),
        } as unknown as StateNeeds['directory'],
        storeId: `store_${'1'.repeat(32)}`,
        snapshots: all.filter((one) => one !== undefined),
        replaced: [],
        packsOf: async () => [],
        signal: new AbortController().signal,
      })
    expect(await state(first, second)).toBe(2)
    expect(await state(first, second)).toBe(0)
    // The second is forgotten, or comes back: the other one is stated all the same, and nothing twice.
    expect(await state(first, twin)).toBe(1)
    expect(await state(first, second, twin)).toBe(0)
    expect(await state(first, second, twin, last)).toBe(1)
    const [a, b, c, d] = [first, second, twin, last].map((one) => one!.structure.ref.random)
    expect(stated).toEqual([
      { id: a, sequence: 1, base: undefined },
      { id: b, sequence: 2, base: a },
      { id: c, sequence: 2, base: b },
      { id: d, sequence: 3, base: c },
    ])
  })
})
