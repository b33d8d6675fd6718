// With the root a check opens what it reads and walks trees as a restore does: it finds what an untrue writer stored, of which every hash is right.
import { expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository, type CheckReport } from '../../../agent/check/check.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import {
  type BuiltRepository,
  directory,
  file,
  openBuilt,
  RepositoryBuilder,
  type FixtureDirectory,
} from '../../_support/repository-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const noise = (length: number, seed: string): Buffer => seededRandom(seed).bytes(length)

async function build(tree: FixtureDirectory, first?: (builder: RepositoryBuilder) => Promise<void>): Promise<BuiltRepository> {
  const store = memoryStore()
  const builder = new RepositoryBuilder({ store, segmentBytes: 20_000 })
  await builder.begin()
  await first?.(builder)
  await builder.finish(await builder.directory(tree))
  return openBuilt(store, builder)
}

const look = ({ repository, keys }: BuiltRepository, content = true): Promise<CheckReport> =>
  checkRepository({ repository, content, readData: 'all', keys: keys.read })

const told = ({ findings, paths, damaged, unknown }: CheckReport) => ({
  objects: findings.map(({ object }) => object).filter((object) => !object.startsWith('packs/')),
  paths: paths.map(({ path }) => path.toString()),
  damaged: damaged > 0,
  unknown,
})

test('of a sound repository it finds nothing, and opens everything', async () => {
  const built = await build(directory({ a: file(noise(30_000, 'a'), { chunkBytes: 4000, listPage: 3 }), d: directory({ b: file('b') }) }))
  expect(await look(built)).toMatchObject({ damaged: 0, unknown: 0, findings: [], opened: true })
})

test('a chunk that is not what its id says is damage, and the file that has it is named; hashes alone do not tell', async () => {
  const id = 'ab'.repeat(32)
  const built = await build(
    directory({ good: file(noise(9000, 'good')), d: directory({ bad: file('', { ids: [id], size: 5000 }) }) }),
    (builder) => builder.blob(SEGMENT_KIND.chunk, id, noise(5000, 'other')),
  )
  expect(told(await look(built, false))).toEqual({ objects: [], paths: [], damaged: false, unknown: 0 })
  const report = await look(built)
  expect(told(report)).toEqual({ objects: [], paths: ['/d/bad', '/good'], damaged: true, unknown: 0 })
})

test('a private part that is not the one of its node is damage, told by the path', async () => {
  const built = await build(
    directory({ d: directory({ sub: directory({ one: file(noise(500, 'one')) }) }), e: file('e') }),
    async (builder) => {
      // Whoever is first to store a part under an id has it.
      const probe = await build(directory({ one: file(noise(500, 'one')) }))
      await builder.blob(SEGMENT_KIND.private, probe.snapshot.structure.root, Buffer.from('something else'))
    },
  )
  expect(told(await look(built, false))).toMatchObject({ damaged: false })
  expect(told(await look(built))).toEqual({ objects: ['/d/sub'], paths: [], damaged: true, unknown: 0 })
})

test('chunks that do not add up to the length of their file are damage', async () => {
  const built = await build(directory({ short: file(noise(5000, 'short'), { size: 5001 }), whole: file(noise(400, 'w')) }))
  expect(told(await look(built))).toEqual({ objects: ['/short'], paths: [], damaged: true, unknown: 0 })
})

test('without the root nothing is opened: it is asked for', async () => {
  const { repository } = await build(directory({ a: file(noise(300, 'a')) }))
  const error = await checkRepository({ repository, content: true, readData: 'all' }).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(HoldfastError)
  expect(error).toMatchObject({ code: 'grant-required' })
})
