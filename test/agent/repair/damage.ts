// Repositories with several packs and index files, and the ways to damage them, drawn from a seed.
import { encodeIndexFile, type PackInIndex } from '../../../agent/repository/index-file.ts'
import { objectName, packName } from '@holdfast/shared/format/layout.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { rootKeys } from '../../../agent/keys/domain.ts'
import { type MemoryStore, memoryStore } from '../../_support/memory-store.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

export type Damaged = BuiltRepository & { readonly store: MemoryStore }

const noise = (length: number, seed: string): Buffer => seededRandom(seed).bytes(length)

/** About ten packs of a few segments each, told of by four index files. */
export async function severalPacks(): Promise<Damaged> {
  const store = memoryStore()
  const children = Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [
      `d${i}`,
      directory({
        one: file(noise(6000, `one ${i}`)),
        two: file(noise(9000, `two ${i}`), { chunkBytes: 3000 }),
        listed: file(noise(8000, `listed ${i}`), { chunkBytes: 2000, listPage: 2 }),
        small: file(`small ${i}`),
      }),
    ]),
  )
  const built = await buildRepository({ store, tree: directory(children), segmentBytes: 8000, packBytes: 40_000 })
  const { builder } = built
  for (const name of [...store.objects.keys()]) if (name.startsWith('index/')) store.objects.delete(name)
  for (let i = 0; i < builder.packs.length; i += 3) putIndex({ ...built, store }, builder.packs.slice(i, i + 3))
  return { ...built, store }
}

function putIndex({ store, builder }: Damaged, packs: readonly PackInIndex[]): void {
  const ref = builder.ref()
  const { structure, writer } = builder.keys.write
  store.objects.set(objectName('index', ref), encodeIndexFile({ ref, replaces: [], packs }, structure, writer))
}

export const DAMAGES = [
  'index lost',
  'index flipped',
  'index cut',
  'index forged',
  'index untrue about a place',
  'index untrue about ids',
  'index untrue about a pack that never was',
  'index says less',
  'pack lost',
  'pack flipped in a segment',
  'pack flipped twice',
  'pack cut',
  'pack longer',
  'footer flipped',
  'trailer flipped',
] as const
export type Damage = { readonly kind: (typeof DAMAGES)[number]; readonly which: number; readonly at: number }

/** Does one damage to the objects, chosen by `which` and `at` (fractions of 1). */
export function damage(built: Damaged, { kind, which, at }: Damage): void {
  const { store, builder } = built
  const choose = <T>(from: readonly T[]): T => from[Math.min(from.length - 1, Math.floor(which * from.length))]!
  const indexNames = [...store.objects.keys()].filter((name) => name.startsWith('index/')).sort()
  const index = choose(indexNames)
  const pack = choose(builder.packs)
  const name = packName(pack.ref)
  const object = store.objects.get(name)
  const segment = pack.footer.segments[Math.floor(at * pack.footer.segments.length)]!
  const flip = (bytes: Buffer | undefined, offset: number): void => {
    if (bytes !== undefined && offset < bytes.length) bytes[offset]! ^= 1 + (offset % 200)
  }
  const footerOffset = pack.footer.segments.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0)
  const lie = (change: (packs: PackInIndex) => PackInIndex): void => {
    if (index !== undefined) store.objects.delete(index)
    putIndex(built, [change(pack), ...builder.packs.filter((other) => other !== pack).slice(0, 2)])
  }
  switch (kind) {
    case 'index lost':
      return void (index !== undefined && store.objects.delete(index))
    case 'index flipped':
      return flip(store.objects.get(index ?? ''), Math.floor(at * (store.objects.get(index ?? '')?.length ?? 0)))
    case 'index cut': {
      const bytes = store.objects.get(index ?? '')
      return void (bytes !== undefined && store.objects.set(index!, bytes.subarray(0, Math.floor(at * bytes.length))))
    }
    case 'index forged': {
      const other = rootKeys({ root: noise(32, 'another'), domainId: builder.keys.write.structure.domainId })
      const ref = builder.ref()
      const forged = encodeIndexFile({ ref, replaces: [], packs: [pack] }, builder.keys.write.structure, other.write.writer)
      return void store.objects.set(objectName('index', ref), forged)
    }
    case 'index untrue about a place':
      return lie(({ footer, bytes }) => ({
        bytes,
        footer: { ...footer, segments: footer.segments.map((one, i, all) => ({ ...one, offset: all[(i + 1) % all.length]!.offset })) },
      }))
    case 'index untrue about ids':
      return lie(({ footer, bytes }) => ({
        bytes,
        footer: {
          ...footer,
          segments: footer.segments.map((one, i) => (i % 2 === 0 ? { ...one, blobs: [...one.blobs].reverse() } : one)),
        },
      }))
    case 'index untrue about a pack that never was':
      return putIndex(built, [{ ...pack, footer: { ...pack.footer, ref: builder.ref() } }])
    case 'index says less':
      return lie(({ footer, bytes }) => ({
        bytes,
        footer: { ...footer, segments: footer.segments.filter(({ kind: k }, i) => k === SEGMENT_KIND.references || i % 2 === 0) },
      }))
    case 'pack lost':
      return void store.objects.delete(name)
    case 'pack flipped in a segment':
      return flip(object, segment.offset + Math.floor(at * segment.sealedBytes))
    case 'pack flipped twice':
      flip(object, Math.floor(at * footerOffset))
      return flip(object, Math.floor(which * footerOffset))
    case 'pack cut':
      return void (object !== undefined && store.objects.set(name, object.subarray(0, Math.max(1, Math.floor(at * object.length)))))
    case 'pack longer':
      return void (object !== undefined && store.objects.set(name, Buffer.concat([object, noise(1 + Math.floor(at * 900), 'longer')])))
    case 'footer flipped':
      return flip(object, footerOffset + 40)
    case 'trailer flipped':
      return flip(object, (object?.length ?? 0) - 1 - Math.floor(at * 96))
  }
}
