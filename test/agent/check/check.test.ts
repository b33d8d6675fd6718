// A check tells good, damaged and "could not tell" apart, needs no content key, and changes nothing.
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { memoryReadLog } from '../../../agent/check/read-log.ts'
import { shareOf } from '../../../agent/check/rotation.ts'
import { SeenIds } from '../../../agent/repository/seen-ids.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { type MemoryStore, memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const noise = (length: number, seed: string): Buffer => seededRandom(seed).bytes(length)
const tree = () =>
  directory({
    a: file(noise(300_000, 'a')),
    b: directory({ c: file(noise(5000, 'c')), listed: file(noise(50_000, 'l'), { chunkBytes: 5000, listPage: 3 }) }),
    small: file('small'),
  })
const build = async (): Promise<BuiltRepository & { store: MemoryStore }> => {
  const store = memoryStore()
  return { ...(await buildRepository({ store, tree: tree(), segmentBytes: 100_000, packBytes: 200_000 })), store }
}

describe('a check', () => {
  test('of a sound repository finds nothing, reads every byte where asked, and writes and removes nothing', async () => {
    const { store, repository } = await build()
    store.calls.length = 0
    const report = await checkRepository({ repository, readData: 'all' })
    expect(report).toMatchObject({
      damaged: 0,
      unknown: 0,
      findings: [],
      sessions: 1,
      indexFiles: 1,
      snapshots: 1,
      unindexedPacks: 0,
      usedFooters: false,
    })
    expect(report.nodes).toBeGreaterThan(3)
    expect(report.packsRead).toBe(report.packs)
    expect(report.bytesRead).toBeGreaterThan(350_000)
    expect(store.calls.filter((call) => call.startsWith('put') || call.startsWith('remove'))).toEqual([])
  })

  test('names a pack that is gone, and everything that was in it alone', async () => {
    const { store, repository, view, snapshot } = await build()
    const pack = packName(view.locate(snapshot.structure.root, 'references')[0]!.pack)
    store.objects.delete(pack)
    const report = await checkRepository({ repository })
    expect(report.findings).toContainEqual(expect.objectContaining({ kind: 'pack', object: pack, verdict: 'damaged', code: 'not-found' }))
    expect(report.affected).toMatchObject([{ snapshot: { structure: { root: snapshot.structure.root } }, lostNodes: 1, unsure: 0 }])
  })

  test('finds one flipped bit anywhere in any object', async () => {
    const { store, repository } = await build()
    for (const [name, object] of store.objects) {
      if (name === 'repository') continue
      for (const at of [0, 9, Math.floor(object.length / 3), object.length - 200, object.length - 1]) {
        object[at]! ^= 4
        const report = await checkRepository({ repository, readData: 'all' })
        // Without its footer a pack is damaged, and without the keys to read nobody can tell what in it is not.
        expect({ name, at, damaged: report.damaged > 0, unknown: report.unknown - report.unsureBlobs }).toEqual({
          name,
          at,
          damaged: true,
          unknown: 0,
        })
        object[at]! ^= 4
      }
    }
    expect((await checkRepository({ repository, readData: 'all' })).damaged).toBe(0)
  })

  test('tells of a footer that went bad also where the root opens all that is in the pack: a reader without index files has lost it', async () => {
    const { store, keys, repository, snapshot, view } = await build()
    const pack = packName(view.locate(snapshot.structure.root, 'references')[0]!.pack)
    const object = store.objects.get(pack)!
    object[object.length - 10]! ^= 4
    const report = await checkRepository({ repository, readData: 'all', keys: keys.read })
    expect(report).toMatchObject({ damaged: 1, unknown: 0, writtenOff: 0, lostBlobs: 0, affected: [] })
    expect(report.findings[0]).toMatchObject({ object: pack, message: expect.stringMatching(/nothing is lost by it while index files/) })
  })

  test('says of a pack that no index file names that a run left it, but not where it is damaged', async () => {
    const { store, repository, view, snapshot } = await build()
    for (const name of store.objects.keys()) if (name.startsWith('index/')) store.objects.delete(name)
    const { unindexedPacks, packs } = await checkRepository({ repository })
    expect(unindexedPacks).toBe(packs)
    const pack = packName(view.locate(snapshot.structure.root, 'references')[0]!.pack)
    const object = store.objects.get(pack)!
    object[object.length - 10]! ^= 4
    for (const readData of [undefined, 'all'] as const) {
      const report = await checkRepository({ repository, readData })
      expect([report.findings.map(({ object: name }) => name), report.unindexedPacks]).toEqual([[pack], packs - 1])
    }
  })

  test('finds cut and swapped packs', async () => {
    const { store, repository, builder } = await build()
    const [first, second] = builder.packs.map(({ ref }) => packName(ref))
    const [one, two] = [store.objects.get(first!)!, store.objects.get(second!)!]
    store.objects.set(first!, one.subarray(0, one.length - 1))
    // Once: by its size, and not again where it is read too.
    for (const readData of [undefined, 'all'] as const) {
      const { damaged, lostBlobs, findings: cut } = await checkRepository({ repository, readData })
      expect([cut.map(({ object }) => object), damaged - lostBlobs]).toEqual([[first], 1])
    }
    store.objects.set(first!, two)
    store.objects.set(second!, one)
    const { findings } = await checkRepository({ repository, readData: 'all' })
    expect(findings.map(({ object }) => object)).toEqual(expect.arrayContaining([first, second]))
  })

  test('says it could not tell where the store does not answer, never that something is damaged', async () => {
    const { store, repository } = await build()
    let calls = 0
    for (;;) {
      let failed = false
      const nth = (calls += 1)
      let n = 0
      store.fault = (call) => {
        if (call === 'list') return undefined
        n += 1
        if (n !== nth) return undefined
        failed = true
        return new HoldfastError('store-unreachable', 'no route to the store')
      }
      const report = await checkRepository({ repository, readData: 'all' })
      if (!failed) break
      expect({ nth, damaged: report.damaged, told: report.unknown > 0 }).toEqual({ nth, damaged: 0, told: true })
    }
    expect(calls).toBeGreaterThan(5)
    store.fault = (call) => (call === 'list' ? undefined : new HoldfastError('store-unreachable', 'no route to the store'))
    expect(await checkRepository({ repository, readData: 'all' })).toMatchObject({ damaged: 0, good: 0 })
  })

  test('falls back on footers where index files are gone', async () => {
    const { store, repository } = await build()
    for (const name of store.objects.keys()) if (name.startsWith('index/')) store.objects.delete(name)
    const report = await checkRepository({ repository })
    expect(report).toMatchObject({ damaged: 0, unknown: 0, usedFooters: true })
    expect(report.unindexedPacks).toBe(report.packs)
  })

  test('without reading data tells of the damage that the last reading found, until it is mended, and reads nothing else', async () => {
    const { store, repository, builder } = await build()
    const readLog = memoryReadLog()
    const name = packName(builder.packs[0]!.ref)
    const [sound, bytes] = [Buffer.from(store.objects.get(name)!), store.objects.get(name)!]
    bytes[40]! ^= 4
    expect(await checkRepository({ repository, readLog })).toMatchObject({ damaged: 0, packsRead: 0 })
    const found = await checkRepository({ repository, readLog, readData: 'all' })
    expect(found.damaged).toBeGreaterThan(0)
    const told = await checkRepository({ repository, readLog })
    expect(told).toMatchObject({ damaged: found.damaged, packsRead: 1, findings: [{ object: name, verdict: 'damaged' }] })
    expect(told.affected).toHaveLength(1)
    store.objects.set(name, sound)
    expect(await checkRepository({ repository, readLog })).toMatchObject({ damaged: 0, packsRead: 1 })
    expect(await checkRepository({ repository, readLog })).toMatchObject({ damaged: 0, packsRead: 0 })
  })

  test('tells of session objects that are gone, which is no damage: all that they say stands in the packs', async () => {
    const { store, repository, keys } = await build()
    expect(await checkRepository({ repository })).toMatchObject({ sessionsGone: 0 })
    for (const name of store.objects.keys()) if (name.startsWith('sessions/')) store.objects.delete(name)
    expect(await checkRepository({ repository, readData: 'all', content: true, keys: keys.read })).toMatchObject({
      ...{ sessions: 0, sessionsGone: 1 },
      ...{ damaged: 0, unknown: 0 },
    })
  })

  test('reads every pack exactly once over all shares', async () => {
    const { repository, builder } = await build()
    let read = 0
    for (const n of [1, 2, 3]) read += (await checkRepository({ repository, readData: { share: { n, t: 3 } } })).packsRead
    expect(read).toBe(builder.packs.length)
    expect(shareOf('f'.repeat(32), 1)).toBe(1)
  })
})

test('the set of seen ids is a set', () => {
  const seen = new SeenIds()
  const ids = Array.from({ length: 10_000 }, (_, i) => noise(32, `id ${i}`).toString('hex'))
  expect(ids.every((id) => seen.add(id))).toBe(true)
  expect(ids.some((id) => seen.add(id))).toBe(false)
  expect(seen.size).toBe(10_000)
})
