// With the root a check opens what it reads and walks trees as a restore does: it finds what an untrue writer stored, of which every hash is right.
import { expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository, type CheckReport } from '../../../agent/check/check.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { createPackReader } from '../../../agent/repository/pack-reader.ts'
import { INDEX_BLOB_BYTES } from '../../../agent/repository/index-file.ts'
import type { DecodedNode } from '../../../agent/repository/tree.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { restorable } from '../../_support/restorable.ts'
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

test('a page of a large directory that is lost hides no other page: what stands in them is restored, and what is lost is told as the directory', async () => {
  const names = Array.from({ length: 30 }, (_, i) => `f${String(i).padStart(2, '0')}`)
  const children = Object.fromEntries(names.map((name) => [name, file(noise(300, name))]))
  const store = memoryStore()
  const builder = new RepositoryBuilder({ store, segmentBytes: 10, packBytes: 10 })
  await builder.begin()
  await builder.finish(await builder.directory(directory({ d: directory(children, { pageEntries: 10 }) })))
  const built = await openBuilt(store, builder)
  const whole = await restorable(store, built.keys)
  // The page with the names of the middle: its node is the one that refers to their chunks.
  const middle = await nodeWith(built, async (node) => node.type === 'directory' && node.entries[0]?.name.toString() === 'f10')
  for (const { pack } of built.view.locate(middle, 'private')) store.objects.delete(packName(pack))
  const left = await restorable(store, built.keys)
  const kept = [...whole.files.keys()].filter((path) => !/f1\d$/.test(path))
  expect([...left.files.keys()].sort()).toEqual(kept.sort())
  expect([...left.failed].map((path) => path.split(' ')[1])).toEqual(['/d'])
  const report = await checkRepository({ repository: built.repository, keys: built.keys.read })
  expect(report.paths.map(({ path, below, verdict }) => ({ path: path.toString(), below, verdict }))).toEqual([
    { path: '/d', below: true, verdict: 'lost' },
  ])
})

async function nodeWith({ repository, view, keys }: BuiltRepository, fits: (node: DecodedNode) => Promise<boolean>): Promise<string> {
  const reader = createPackReader({ store: repository.store, structure: repository.keys, view, keys: keys.read })
  for (const file of view.files)
    for (let at = 0; at < file.blobs.length; at += INDEX_BLOB_BYTES) {
      const id = file.blobs.toString('hex', at, at + 32)
      if (file.segment(file.blobs.readUInt32LE(at + 32)).kind === SEGMENT_KIND.private && (await fits(await reader.readNode(id)))) return id
    }
  throw new Error('there is no such node')
}
