// Forgetting: what rules choose in each series, who may speak of what, and what stands on record afterwards; no series is emptied by mistake (O17, B19).
import { describe, expect, test } from 'vitest'
import {
  chooseByRules,
  forgetByRetention,
  forgetMissing,
  forgetSnapshots,
  forgetUnreadable,
  listSeries,
  requireSomethingLeft,
  type SeriesSnapshots,
} from '../../../agent/collection/forget.ts'
import { agentWriter, ROOT_WRITER_ID } from '../../../agent/keys/domain.ts'
import type { WriteKeys } from '../../../agent/keys/keys.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const NOW = 100 * DAY
const hex = (number: number): string => number.toString(16).padStart(32, '0')
const TAG = Buffer.alloc(32, 7)

/** A series `name` with snapshots received so many days ago, the first two of `tagged` with a tag. */
function series(name: number, days: readonly number[], tagged: readonly number[] = []): SeriesSnapshots {
  const snapshots = days.map((day) => ({
    at: NOW - day * DAY,
    structure: {
      ref: { session: hex(name), random: hex(name * 1000 + day) },
      endedAt: NOW - day * DAY,
      tags: tagged.includes(day) ? [Buffer.alloc(32, 1), TAG] : [Buffer.alloc(32, 1)],
    },
  }))
  return {
    series: Buffer.alloc(32, name),
    writerId: Buffer.alloc(16, name),
    snapshots: snapshots as unknown as SeriesSnapshots['snapshots'],
  }
}
const daysOf = (name: number, ids: Iterable<string>): number[] => [...ids].map((id) => Number.parseInt(id, 16) - name * 1000)

describe('rules', () => {
  test('choose in each series by itself, and say why each snapshot stays', () => {
    const [first, second] = chooseByRules([series(1, [3, 2, 1, 0]), series(2, [9])], { last: 2 }, NOW)
    expect(daysOf(1, first!.kept.keys()).toSorted()).toEqual([0, 1])
    expect(first!.kept.get(hex(1000))).toEqual(['newest', 'last'])
    expect(
      daysOf(
        1,
        first!.forgotten.map(({ structure }) => structure.ref.random),
      ),
    ).toEqual([3, 2])
    expect(second).toMatchObject({ series: { series: Buffer.alloc(32, 2) }, forgotten: [] })
  })

  test('let snapshots with a tag that is to be kept stay, beside other reasons', () => {
    const all = [series(1, [3, 2, 1, 0], [3, 0])]
    const [choice] = chooseByRules(all, { last: 1 }, NOW, [Buffer.alloc(32, 9), TAG])
    expect(choice!.kept.get(hex(1003))).toEqual(['tag'])
    expect(choice!.kept.get(hex(1000))).toEqual(['newest', 'last', 'tag'])
    expect(
      daysOf(
        1,
        choice!.forgotten.map(({ structure }) => structure.ref.random),
      ),
    ).toEqual([2, 1])
    for (const tags of [[], [Buffer.alloc(32, 9)]]) expect(chooseByRules(all, { last: 1 }, NOW, tags)[0]!.forgotten).toHaveLength(3)
  })

  test('do not forget one that claims another time than the store has', () => {
    const [one] = [series(1, [5, 0])]
    const claims = {
      ...one!,
      snapshots: one!.snapshots.map((snapshot) => ({ ...snapshot, structure: { ...snapshot.structure, endedAt: NOW } })),
    }
    expect(chooseByRules([claims], { last: 1 }, NOW)[0]!.kept.get(hex(1005))).toEqual(['times disagree'])
  })

  test('never empty a series unless that is asked for', () => {
    const all = [series(1, [1, 0]), series(2, [5])]
    const [a, b] = all as [SeriesSnapshots, SeriesSnapshots]
    const ask =
      (chosen: SeriesSnapshots['snapshots'], allow = false) =>
      () =>
        requireSomethingLeft(all, chosen, allow)
    expect(ask([])).not.toThrow()
    expect(ask(a.snapshots.slice(1))).not.toThrow()
    expect(ask(b.snapshots)).toThrow(/every snapshot of a series \(with 000000000000, the newest\).*--allow-empty-series/)
    expect(ask([...a.snapshots, ...b.snapshots])).toThrow(/every snapshot of 2 series/)
    expect(ask(b.snapshots, true)).not.toThrow()
    expect(ask(b.snapshots)).toThrow(expect.objectContaining({ code: 'usage' }))
  })

  test('do not take one that may be unfinished for what is left of a series', () => {
    const [one] = [series(1, [2, 1, 0])]
    const [first, second, newest] = one!.snapshots.map((snapshot, i) => ({ ...snapshot, doubtful: i !== 0 }))
    const ask = (left: SeriesSnapshots['snapshots'], chosen: SeriesSnapshots['snapshots']) => () =>
      requireSomethingLeft([{ ...one!, snapshots: left }], chosen, false)
    expect(ask([first!, second!, newest!], [first!])).toThrow(/every snapshot of a series/)
    expect(ask([first!, second!, newest!], [second!, newest!])).not.toThrow()
    expect(ask([second!, newest!], [second!])).not.toThrow()
    expect(ask([second!, newest!], [second!, newest!])).toThrow(/every snapshot of a series/)
  })
})

async function threeSnapshots(): Promise<{ engine: Engine; ids: string[] }> {
  const engine = await makeEngine()
  const ids: string[] = []
  for (let day = 0; day < 3; day++) {
    writeFile(engine, '/src/file', `day ${day}`)
    engine.clock.advance(DAY)
    ids.push((await engine.backup()).snapshot!.ref.random)
  }
  return { engine, ids }
}

async function optionsOf(engine: Engine, keys: WriteKeys = engine.keys.write) {
  return {
    repository: await openRepository({ store: engine.store(), keys: keys.structure }),
    keys,
    clock: engine.clock,
    random: engine.random,
  }
}
const records = (engine: Engine): string[] => engine.bucket.names().filter((name) => name.includes('forgets/'))
const names = (engine: Engine): string[] => engine.reader().snapshots.map(({ structure }) => structure.ref.random)

describe('what is put on record', () => {
  test('are the snapshots that the rules do not keep of one series, and the ids of them are given', async () => {
    const { engine, ids } = await threeSnapshots()
    const options = await optionsOf(engine)
    const all = await listSeries(options.repository)
    expect(all).toHaveLength(1)
    const [{ series: name, snapshots }] = all as [SeriesSnapshots]
    expect(snapshots.map(({ structure }) => structure.ref.random)).toEqual(ids)
    for (const [i, { at }] of snapshots.entries()) expect(engine.clock.now() - at).toBe((2 - i) * DAY)
    expect(await forgetByRetention(options, Buffer.alloc(32, 1), { last: 1 })).toEqual([])
    expect(names(engine)).toEqual(ids)
    expect(await forgetByRetention(options, name, { last: 2 })).toEqual([ids[0]])
    expect(names(engine)).toEqual(ids.slice(1))
    const { forgotten } = await options.repository.loadCollection()
    expect([...forgotten.values()].flat()).toMatchObject([{ why: 'retention', sequence: snapshots[0]!.structure.sequence, series: name }])
    expect(await forgetByRetention(options, name, { last: 2 })).toEqual([])
    expect(records(engine)).toHaveLength(1)
  })

  test('by an agent are its own snapshots; those of others are refused, whoever is first in the list', async () => {
    const { engine, ids } = await threeSnapshots()
    const agent = { ...engine.keys.write, writer: agentWriter(Buffer.alloc(32, 4), Buffer.alloc(16, 4)) }
    const options = await optionsOf(engine, agent)
    const [{ snapshots, series: name }] = (await listSeries(options.repository)) as [SeriesSnapshots]
    const own = { ...snapshots[0]!, structure: { ...snapshots[0]!.structure, writerId: agent.writer.id } }
    expect(await codeOf(forgetSnapshots(options, [own, snapshots[1]!], 'asked'))).toBe('forbidden')
    expect(await codeOf(forgetSnapshots(options, [snapshots[1]!], 'asked'))).toBe('forbidden')
    expect(await forgetByRetention(options, name, { last: 1 })).toEqual([])
    expect(records(engine)).toEqual([])
    expect(names(engine)).toEqual(ids)
    await forgetSnapshots(options, [own], 'asked')
    expect(records(engine)).toHaveLength(1)
    expect(engine.keys.write.writer.id).toEqual(ROOT_WRITER_ID)
    expect(await codeOf(forgetSnapshots(await optionsOf(engine), [own, snapshots[1]!], 'asked'))).toBe('no error')
  })

  test('is nothing where nothing is chosen', async () => {
    const { engine } = await threeSnapshots()
    expect(await forgetSnapshots(await optionsOf(engine), [], 'asked')).toBeUndefined()
    expect(records(engine)).toEqual([])
  })

  test('is a snapshot that does not open, by its name', async () => {
    const { engine, ids } = await threeSnapshots()
    engine.bucket.tamper(
      engine.bucket.names('snapshots/').find((name) => name.endsWith(ids[1]!))!,
      (bytes) => bytes.subarray(0, 99),
    )
    const options = await optionsOf(engine)
    const { refused } = await options.repository.listSnapshots()
    expect(refused).toHaveLength(1)
    const [session, random] = refused[0]!.name.split('/').at(-1)!.split('-').slice(-2) as [string, string]
    expect(await forgetUnreadable(options, { session, random })).toMatchObject({ session: expect.stringMatching(/^[0-9a-f]{32}$/) })
    const { forgotten } = await options.repository.loadCollection()
    expect([...forgotten.values()].flat()).toMatchObject([{ why: 'unreadable', snapshot: { session, random }, sequence: 0 }])
    expect((await options.repository.listSnapshots()).refused).toEqual([])
  })

  test('are snapshots that history lacks, so that collection goes on; a dry run counts them alone', async () => {
    const { engine, ids } = await threeSnapshots()
    const nameOf = (id: string) => engine.bucket.names('snapshots/').find((name) => name.endsWith(id))!
    // Counted by a collection that condemned something, and in the middle of the series.
    await engine.forget(ids[0]!)
    await engine.prune()
    engine.bucket.tamper(nameOf(ids[1]!), () => undefined)
    expect(await codeOf(engine.prune())).toBe('damaged')
    const options = await optionsOf(engine)
    const before = engine.bucket.names()
    const count = await forgetMissing(options, true)
    expect(count).toBeGreaterThan(0)
    expect(engine.bucket.names()).toEqual(before)
    expect(await forgetMissing(options, false)).toBe(count)
    expect(engine.bucket.names().length).toBe(before.length + 1)
    const entries = [...(await options.repository.loadCollection()).forgotten.values()].flat().filter(({ why }) => why === 'missing')
    expect(entries).toHaveLength(count)
    for (const { snapshot } of entries)
      expect([snapshot.session, snapshot.random]).toEqual([
        expect.stringMatching(/^[0-9a-f]{32}$/),
        expect.stringMatching(/^[0-9a-f]{32}$/),
      ])
    expect(await forgetMissing(options, false)).toBe(0)
    expect(await codeOf(engine.prune())).toBe('no error')
  })

  test('are not those that a listing lacks and the store has', async () => {
    const { engine, ids } = await threeSnapshots()
    await engine.forget(ids[0]!)
    // A list that counted the others.
    await engine.prune()
    const before = engine.bucket.names()
    const options = await optionsOf(engine)
    for (const which of [0, 1]) {
      let listings = 0
      engine.setStoreFaults((call) =>
        call.operation === 'list' && call.name === 'snapshots/' && (which === 0 || ++listings === 1)
          ? [{ kind: 'short-list', drop: 1 }]
          : [],
      )
      expect([which, await codeOf(forgetMissing(options, false))]).toEqual([which, 'store-unreachable'])
    }
    engine.setStoreFaults(() => [])
    expect(engine.bucket.names()).toEqual(before)
    expect(await forgetMissing(options, false)).toBe(0)
  })
})
