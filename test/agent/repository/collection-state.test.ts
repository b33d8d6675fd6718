// What lists and records say together, and the view held against what the store has: packs that are gone, cut, or in no index file.
import { describe, expect, test } from 'vitest'
import { type ObjectRef, packName, refKey } from '@holdfast/shared/format/layout.ts'
import { ROOT_WRITER_ID } from '../../../agent/keys/domain.ts'
import {
  collectionState,
  forgottenEntries,
  forgottenEntry,
  type LoadedForget,
  type LoadedList,
  maySpeakOf,
} from '../../../agent/repository/collection-state.ts'
import { footersOf, readFooter, readFooters, viewFromFooters } from '../../../agent/repository/footer-reader.ts'
import { listRefs, openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const hex = (number: number): string => number.toString(16).padStart(32, '0')
const ref = (number: number): ObjectRef => ({ session: hex(1), random: hex(number) })
const AGENT = Buffer.alloc(16, 1)
const OTHER = Buffer.alloc(16, 2)
const list = (number: number, storedAt: number, body: object): LoadedList => ({
  storedAt,
  list: { ...body, ref: ref(number), writerId: AGENT, madeAt: 0 } as LoadedList['list'],
})
const condemned = (number: number, storedAt: number, packs: readonly number[], why = 'dead'): LoadedList =>
  list(number, storedAt, { kind: 'condemned', kept: [], packs: packs.map((pack) => ({ ...ref(pack), bytes: pack, why })) })
const revived = (number: number, from: number, packs: readonly number[]): LoadedList =>
  list(number, 0, { kind: 'revived', from: [{ list: ref(from), packs: packs.map(ref) }] })
const forget = (
  number: number,
  storedAt: number,
  entries: readonly number[],
  more: { writerId?: Buffer; undone?: [number, number][]; replaces?: number[] } = {},
): LoadedForget => ({
  storedAt,
  record: {
    ref: ref(number),
    writerId: more.writerId ?? AGENT,
    madeAt: 0,
    replaces: (more.replaces ?? []).map(ref),
    entries: entries.map((entry) => ({
      snapshot: ref(entry),
      series: Buffer.alloc(32),
      sequence: entry,
      hash: Buffer.alloc(32),
      why: 'asked' as const,
    })),
    undone: (more.undone ?? []).map(([record, snapshot]) => ({ record: ref(record), snapshot: ref(snapshot) })),
  },
})
const stateOf = (lists: LoadedList[], forgets: LoadedForget[] = []) => collectionState({ lists, forgets, refused: [] })
const numbers = (names: Iterable<string>): number[] =>
  [...names].map((name) => Number.parseInt(name.slice(-32), 16)).toSorted((a, b) => a - b)

describe('what lists say together', () => {
  test('condemns every pack that is not taken back, by the earliest list that says so', () => {
    const lists = [condemned(91, 20, [2, 3], 'reuse'), condemned(90, 10, [1, 2]), list(92, 5, { kind: 'deletion', lists: [], names: [] })]
    const state = stateOf(lists)
    expect(numbers(state.condemned.keys())).toEqual([1, 2, 3])
    expect(state.condemned.get(hex(2))).toEqual({ pack: ref(2), bytes: 2, why: 'dead', list: ref(90), since: 10 })
    expect(state.condemned.get(hex(3))).toEqual({ pack: ref(3), bytes: 3, why: 'reuse', list: ref(91), since: 20 })
    expect([state.condemnedLists, state.revivedLists, state.deletionLists].map((all) => all.length)).toEqual([2, 0, 1])
  })

  test('takes back under the list that is named, and under no other', () => {
    const lists = [condemned(90, 10, [1, 2]), condemned(91, 20, [1])]
    expect(numbers(stateOf([...lists, revived(93, 90, [2])]).condemned.keys())).toEqual([1])
    expect(stateOf([...lists, revived(93, 90, [1])]).condemned.get(hex(1))).toMatchObject({ list: ref(91), since: 20 })
    expect(numbers(stateOf([...lists, revived(93, 90, [1]), revived(94, 91, [1])]).condemned.keys())).toEqual([2])
    expect(stateOf([...lists, revived(93, 90, [1])]).revivedLists).toHaveLength(1)
  })
})

describe('what records say together', () => {
  test('forgets what they name, the earliest first, but for what was undone in that record', () => {
    const state = stateOf(
      [],
      [
        forget(81, 20, [1, 2]),
        forget(80, 10, [1]),
        forget(82, 30, [], {
          undone: [
            [81, 2],
            [81, 9],
            [80, 2],
          ],
        }),
      ],
    )
    expect(numbers(state.forgotten.keys())).toEqual([1])
    expect(state.forgotten.get(refKey(ref(1)))!.map(({ record, since }) => [record, since])).toEqual([
      [ref(80), 10],
      [ref(81), 20],
    ])
    const half = stateOf(
      [],
      [forget(81, 20, [1]), forget(80, 10, [1]), forget(82, 30, [], { undone: [[80, 1]] }), forget(83, 40, [], { undone: [[80, 7]] })],
    )
    expect(half.forgotten.get(refKey(ref(1)))!.map(({ record }) => record)).toEqual([ref(81)])
  })

  test('is undone by who said it or by the root, and by nobody else', () => {
    const left = (by: Buffer, undoneBy: Buffer) => {
      const forgets = [forget(80, 10, [1], { writerId: by }), forget(82, 30, [], { writerId: undoneBy, undone: [[80, 1]] })]
      return stateOf([], forgets).forgotten.size
    }
    expect([left(AGENT, AGENT), left(AGENT, ROOT_WRITER_ID), left(ROOT_WRITER_ID, ROOT_WRITER_ID)]).toEqual([0, 0, 0])
    expect([left(ROOT_WRITER_ID, AGENT), left(AGENT, OTHER)]).toEqual([1, 1])
  })

  test('is undone in the record that it was merged into too, also where the first is gone, but not in one that says it anew', () => {
    const records = (undoneBy: Buffer, ...forgets: LoadedForget[]) =>
      stateOf([], [...forgets, forget(85, 50, [], { writerId: undoneBy, undone: [[80, 1]] })])
        .forgotten.get(refKey(ref(1)))
        ?.map(({ record }) => record)
    const first = forget(80, 10, [1])
    const merged = forget(81, 20, [1, 2], { replaces: [79, 80] })
    for (const by of [AGENT, ROOT_WRITER_ID]) {
      expect(records(by, first, merged)).toBeUndefined()
      expect(records(by, merged)).toBeUndefined()
      expect(records(by, first, forget(81, 20, [1, 2], { replaces: [79] }))).toEqual([ref(81)])
      expect(records(by, first, merged, forget(83, 60, [1]))).toEqual([ref(83)])
    }
    expect(records(OTHER, first, merged)).toEqual([ref(80), ref(81)])
  })

  test('counts where its writer may speak of the snapshot: its own, or any where it is the root', () => {
    expect([maySpeakOf(AGENT, AGENT), maySpeakOf(AGENT, OTHER), maySpeakOf(ROOT_WRITER_ID, OTHER)]).toEqual([true, false, true])
    const state = stateOf([], [forget(80, 10, [1]), forget(81, 20, [1], { writerId: ROOT_WRITER_ID })])
    expect(forgottenEntry(state, ref(1), AGENT)!.record).toEqual(ref(80))
    expect(forgottenEntry(state, ref(1), OTHER)!.record).toEqual(ref(81))
    expect(forgottenEntry(state, ref(2), AGENT)).toBeUndefined()
    expect(forgottenEntry(stateOf([], [forget(80, 10, [1])]), ref(1), OTHER)).toBeUndefined()
    expect(forgottenEntries(state, ref(1), AGENT).map(({ since }) => since)).toEqual([10, 20])
    expect(forgottenEntries(state, ref(1), OTHER).map(({ since }) => since)).toEqual([20])
  })
})

async function stored(): Promise<{ engine: Engine; repository: Repository; names: string[] }> {
  const engine = await makeEngine({ limits: { packBytes: 6000 } })
  for (let i = 0; i < 4; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`content ${i}`).bytes(4000))
  await engine.backup()
  return {
    engine,
    repository: await openRepository({ store: engine.store(), keys: engine.keys.write.structure }),
    names: engine.bucket.names('packs/'),
  }
}

describe('the view of what is there', () => {
  test('lacks nothing and adds nothing where index files and packs agree', async () => {
    const { repository, names } = await stored()
    const whole = await loadWholeView(repository)
    expect(whole.view).toBe(whole.indexed)
    expect(whole).toMatchObject({ refused: [], unindexed: [] })
    expect(whole.gone.size).toBe(0)
    expect([...whole.view.packs()]).toHaveLength(names.length)
  })

  test('tells packs that are gone or cut, and reads those that no index file names by their footers', async () => {
    const { engine, repository, names } = await stored()
    engine.bucket.tamper(names[0]!, () => undefined)
    expect((await loadWholeView(repository)).gone).toEqual(new Set([names[0]!.slice(-32)]))
    engine.bucket.tamper(names[1]!, (bytes) => bytes.subarray(0, -1))
    expect((await loadWholeView(repository)).gone).toEqual(new Set(names.slice(0, 2).map((name) => name.slice(-32))))
    const second = await stored()
    const before = (await second.repository.loadView()).view
    for (const name of second.engine.bucket.names('index/')) second.engine.bucket.tamper(name, () => undefined)
    const reopened = await openRepository({ store: second.engine.store(), keys: second.engine.keys.write.structure })
    const whole = await loadWholeView(reopened)
    expect(whole.unindexed.map(({ footer }) => footer.ref.random).toSorted()).toEqual(
      second.names.map((name) => name.slice(-32)).toSorted(),
    )
    expect([...whole.indexed.packs()]).toEqual([])
    const [file] = before.files
    for (let row = 0; row < file!.blobCount; row++) {
      const id = file!.blobs.toString('hex', row * 44, row * 44 + 32)
      for (const part of ['chunk', 'private', 'references'] as const) {
        const told = (all: ReturnType<typeof before.locate>) =>
          all.map(({ pack, segment, offset, bytes }) => [pack.random, segment.offset, offset, bytes])
        expect(told(whole.view.locate(id, part))).toEqual(told(before.locate(id, part)))
      }
    }
    // By footers alone it is the same again, and one that does not open hides no other.
    expect([...(await footersOf(reopened)()).view.packs()]).toHaveLength(second.names.length)
    second.engine.bucket.tamper(second.names[0]!, (bytes) => bytes.fill(0, bytes.length - 20))
    const { view, refused } = await viewFromFooters(reopened)
    expect([...view.packs()]).toHaveLength(second.names.length - 1)
    expect(refused).toMatchObject([{ name: second.names[0]!, error: { code: 'damaged' } }])
    expect((await loadWholeView(reopened)).refused.map(({ name }) => name)).toEqual([second.names[0]!])
  })
})

describe('a footer in the store', () => {
  test('is read from the end of its pack, as it stands there', async () => {
    const { engine, repository, names } = await stored()
    for (const one of await listRefs(repository.store, 'packs/')) {
      const object = engine.bucket.content(one.info.name)!
      const { footer, footerObject, trailer, bytes } = await readFooter(repository, one, object.length)
      expect(bytes).toBe(object.length)
      expect(refKey(footer.ref)).toBe(refKey(one))
      expect(footerObject).toEqual(object.subarray(trailer.footerOffset, trailer.footerOffset + trailer.footerBytes))
      expect(packName(one)).toBe(one.info.name)
    }
    expect(names.length).toBeGreaterThan(1)
  })

  test('is none in a pack of a length that no pack has, and what the store says is no damage', async () => {
    const { engine, repository } = await stored()
    const [one] = (await listRefs(repository.store, 'packs/')) as [Awaited<ReturnType<typeof listRefs>>[number]]
    for (const bytes of [0, 127, 64 * 2 ** 20 + 1])
      await expect(readFooter(repository, one, bytes)).rejects.toThrow(/is damaged: no pack is \d+ bytes long/)
    await expect(readFooter(repository, one, 128)).rejects.not.toThrow(/no pack is/)
    engine.setStoreFaults((call) => (call.operation === 'getRange' ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : []))
    await expect(readFooters(repository, [one])).rejects.toMatchObject({ code: 'store-unreachable' })
    engine.setStoreFaults(() => [])
    engine.bucket.tamper(one.info.name, () => undefined)
    expect(await readFooters(repository, [one])).toMatchObject({
      footers: [],
      refused: [{ name: one.info.name, error: { code: 'not-found' } }],
    })
  })
})
