// Reading blobs: every copy is tried, what could not be read is not called damaged, and a store sees whole blocks only.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { viewFromFooters } from '../../../agent/repository/footer-reader.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { BLOCK_BYTES, createPackReader, planReads } from '../../../agent/repository/pack-reader.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file, openBuilt, RepositoryBuilder } from '../../_support/repository-fixture.ts'
import { expectCode } from '../../contract/store-contract.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const noise = (length: number, seed = 'noise'): Buffer => seededRandom(seed).bytes(length)
const reader = (built: BuiltRepository) =>
  createPackReader({ store: built.store, structure: built.repository.keys, view: built.view, keys: built.keys.read })

describe('planned reads', () => {
  test('cover every segment, begin and end on blocks, and read no byte of a pack twice', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3_000_000), fc.integer({ min: 17, max: 900_000 })), { maxLength: 40 }),
        fc.nat(100_000),
        (gaps, tail) => {
          let offset = 0
          const segments = gaps.map(([gap, sealedBytes]) => {
            const at = { offset: offset + gap, sealedBytes }
            offset = at.offset + sealedBytes
            return at
          })
          const packBytes = offset + tail
          const reads = planReads(segments, packBytes)
          expect(reads.flatMap((read) => [...read.members]).sort((a, b) => a - b)).toEqual(segments.map((_, i) => i))
          for (const read of reads) {
            expect(read.offset % BLOCK_BYTES).toBe(0)
            const end = read.offset + read.length
            expect(end % BLOCK_BYTES === 0 || end === packBytes).toBe(true)
            for (const member of read.members) {
              expect(segments[member]!.offset).toBeGreaterThanOrEqual(read.offset)
              expect(segments[member]!.offset + segments[member]!.sealedBytes).toBeLessThanOrEqual(end)
            }
          }
        },
      ),
    )
  })
})

describe('a pack reader', () => {
  test('gives chunks and nodes that were stored, and asks a store for whole blocks only', async () => {
    const store = memoryStore()
    const builder = new RepositoryBuilder({ store, packBytes: 1 << 20, segmentBytes: 300_000 })
    await builder.begin()
    const chunks = Array.from({ length: 20 }, (_, i) => noise(100_000 + i, `chunk ${i}`))
    const ids: string[] = []
    for (const chunk of chunks) ids.push(await builder.chunk(chunk))
    const root = await builder.directory(directory({ a: file('a') }))
    await builder.finish(root)
    const built = await openBuilt(store, builder)
    const packs = reader(built)
    store.calls.length = 0
    for (const [i, id] of ids.entries()) expect((await packs.readChunk(id)).equals(chunks[i]!)).toBe(true)
    expect(await packs.readNode(root)).toMatchObject({ type: 'directory', entries: [{ name: Buffer.from('a') }] })
    const ranges = store.calls.filter((call) => call.startsWith('range')).map((call) => call.split(' ').slice(1))
    const sizes = new Map(built.builder.packs.map((pack) => [packName(pack.ref), pack.bytes]))
    for (const [name, offset, length] of ranges) {
      expect(Number(offset) % BLOCK_BYTES).toBe(0)
      expect(Number(length) % BLOCK_BYTES === 0 || Number(offset) + Number(length) === sizes.get(name!)).toBe(true)
    }
    expect(store.calls.every((call) => call.startsWith('range'))).toBe(true)
  })

  test('takes another copy where the first is damaged, and says damaged only when all are', async () => {
    const store = memoryStore()
    const builder = new RepositoryBuilder({ store })
    await builder.begin()
    const content = noise(400_000)
    const id = await builder.chunk(content)
    await builder.seal(1)
    await builder.pack()
    await builder.segment(1, Buffer.concat([noise(10, 'other'), content]), [
      { id: 'f'.repeat(64), bytes: 10 },
      { id, bytes: content.length },
    ])
    await builder.finish(await builder.directory(directory({})))
    const built = await openBuilt(store, builder)
    expect(built.view.locate(id, 'chunk')).toHaveLength(2)
    const [first, second] = built.view.locate(id, 'chunk').map((place) => packName(place.pack))
    const keep = Buffer.from(store.objects.get(second!)!)
    store.objects.get(first!)![1000]! ^= 1
    expect((await reader(built).readChunk(id)).equals(content)).toBe(true)
    store.objects.delete(first!)
    expect((await reader(built).readChunk(id)).equals(content)).toBe(true)
    store.objects.get(second!)![1000]! ^= 1
    await expectCode(reader(built).readChunk(id), 'damaged')
    store.objects.delete(second!)
    await expectCode(reader(built).readChunk(id), 'damaged')
    store.objects.set(second!, keep)
    expect((await reader(built).readChunk(id)).equals(content)).toBe(true)
  })

  test('never calls damaged what it could not read, also where another copy is damaged', async () => {
    const store = memoryStore()
    const built = await buildRepository({ store, tree: directory({ a: file(noise(5000)) }) })
    const root = built.snapshot.structure.root
    store.fault = (call) => (call === 'range' ? new HoldfastError('store-unreachable', 'no route') : undefined)
    await expectCode(reader(built).readNode(root), 'store-unreachable')
    store.fault = undefined
    expect((await reader(built).readNode(root)).type).toBe('directory')
  })

  test('refuses a blob that is not what its id says, swapped packs, and a frame that gives more than it should', async () => {
    const store = memoryStore()
    const builder = new RepositoryBuilder({ store })
    await builder.begin()
    const wrong = '1'.repeat(64)
    await builder.blob(1, wrong, noise(100))
    await builder.seal(1)
    // A bomb: 15 MiB of zeros in a frame whose footer admits to 1,000 bytes.
    await builder.segment(1, Buffer.alloc(15 << 20), [{ id: '2'.repeat(64), bytes: 1000 }], { plainBytes: 1000 })
    await builder.pack()
    const [one, other] = [noise(200_000, 'one'), noise(200_000, 'other')]
    const oneId = await builder.chunk(one)
    await builder.seal(1)
    await builder.pack()
    await builder.chunk(other)
    await builder.seal(1)
    await builder.pack()
    await builder.finish(await builder.directory(directory({})))
    const built = await openBuilt(store, builder)
    await expectCode(reader(built).readChunk(wrong), 'damaged')
    await expectCode(reader(built).readChunk('2'.repeat(64)), 'damaged')
    await expectCode(reader(built).readChunk('3'.repeat(64)), 'not-found')
    const [first, second] = built.builder.packs.slice(1).map(({ ref }) => packName(ref))
    const kept = store.objects.get(first!)!
    store.objects.set(first!, store.objects.get(second!)!)
    store.objects.set(second!, kept)
    await expectCode(reader(built).readChunk(oneId), 'damaged')
    expect((await viewFromFooters(built.repository)).refused.map(({ error }) => error.code)).toEqual(['damaged', 'damaged'])
  })

  test('reads what stands before the end of a pack that was cut short', async () => {
    const store = memoryStore()
    const builder = new RepositoryBuilder({ store, segmentBytes: 100_000 })
    await builder.begin()
    const [early, late] = [noise(90_000, 'early'), noise(90_000, 'late')]
    const [earlyId, lateId] = [await builder.chunk(early), await builder.chunk(late)]
    await builder.finish(await builder.directory(directory({})))
    const built = await openBuilt(store, builder)
    const name = packName(built.view.locate(earlyId, 'chunk')[0]!.pack)
    store.objects.set(name, store.objects.get(name)!.subarray(0, 100_000))
    expect((await reader(built).readChunk(earlyId)).equals(early)).toBe(true)
    await expectCode(reader(built).readChunk(lateId), 'damaged')
  })

  test('without the content key reads references and nothing else', async () => {
    const store = memoryStore()
    const built = await buildRepository({ store, tree: directory({ a: file(noise(5000)) }) })
    const blind = createPackReader({ store, structure: built.repository.keys, view: built.view })
    const { references } = await blind.readReferences(built.snapshot.structure.root)
    expect(references).toHaveLength(1)
    await expectCode(blind.readNode(built.snapshot.structure.root), 'grant-required')
    await expectCode(blind.readChunk(references[0]!.id), 'grant-required')
  })

  test('finds everything through the footers where all index files are gone', async () => {
    const store = memoryStore()
    const content = noise(70_000)
    const built = await buildRepository({ store, tree: directory({ a: file(content) }), packBytes: 10_000, withoutIndex: true })
    expect(built.view.has(built.snapshot.structure.root, 'private')).toBe(false)
    const { view, refused } = await viewFromFooters(built.repository)
    expect(refused).toEqual([])
    const rebuilt = reader({ ...built, view })
    const { references } = await rebuilt.readReferences(built.snapshot.structure.root)
    expect((await rebuilt.readChunk(references[0]!.id)).equals(content)).toBe(true)
    const victim = [...store.objects.keys()].find((name) => name.startsWith('packs/'))!
    store.objects.set(victim, Buffer.alloc(200_000))
    expect((await viewFromFooters(built.repository)).refused.map(({ name }) => name)).toEqual([victim])
  })
})
