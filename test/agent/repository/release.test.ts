// Memory is given back by hand in a restore: what is released is gone at once, what somebody still holds never is.
import { expect, test } from 'vitest'
import { ByteCache } from '../../../agent/repository/byte-cache.ts'
import { createPackReader } from '../../../agent/repository/pack-reader.ts'
import { release } from '../../../agent/repository/release.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { directory, openBuilt, RepositoryBuilder } from '../../_support/repository-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

test('a buffer that owns its memory is empty afterwards; a part of another’s is left as it is', () => {
  const whole = Buffer.allocUnsafeSlow(1 << 20)
  release(whole)
  expect([whole.length, whole.buffer.byteLength]).toEqual([0, 0])
  const owner = Buffer.alloc(100, 7)
  const part = owner.subarray(10, 20)
  release(part)
  expect([part.length, part[0], owner[99]]).toEqual([10, 7, 7])
  release(Buffer.alloc(0))
})

test('a cache tells of each value once, when it is dropped, replaced, removed, or too large to be kept', () => {
  const dropped: string[] = []
  const cache = new ByteCache<string>(10, (value) => void dropped.push(value))
  cache.set('a', 'one', 6)
  cache.set('a', 'two', 4)
  cache.set('b', 'three', 7)
  cache.set('c', 'four', 11)
  cache.delete('b')
  cache.delete('b')
  expect(dropped).toEqual(['one', 'two', 'four', 'three'])
})

test('sealed bytes that were fetched are the caller’s: reading on releases none of them, and releasing them changes no later read', async () => {
  const store = memoryStore()
  const builder = new RepositoryBuilder({ store, packBytes: 1 << 20, segmentBytes: 200_000, compress: false })
  await builder.begin()
  const ids: string[] = []
  for (let i = 0; i < 80; i++) ids.push(await builder.chunk(seededRandom(`chunk ${i}`).bytes(200_000)))
  await builder.finish(await builder.directory(directory({})))
  const built = await openBuilt(store, builder)
  const packs = createPackReader({ store, structure: built.repository.keys, view: built.view, keys: built.keys.read })
  const places = ids.map((id) => packs.locate(id, 'chunk')[0]!)
  // 16 MB through windows that hold half of it, all at the same time.
  const fetched = await Promise.all(places.map(async (place) => (await packs.fetchSealed([place]))[0]))
  const lengths = fetched.map((bytes) => (Buffer.isBuffer(bytes) ? bytes.length : 0))
  expect(lengths).toEqual(places.map((place) => place.segment.sealedBytes))
  const copies = fetched.map((bytes) => Buffer.from(bytes as Buffer))
  for (const bytes of fetched) release(bytes as Buffer)
  const again = await packs.fetchSealed(places)
  expect(again.every((bytes, i) => Buffer.isBuffer(bytes) && bytes.equals(copies[i]!))).toBe(true)
  for (const id of ids) expect((await packs.readChunk(id)).length).toBe(200_000)
})
