// Every byte of a small repository flipped, every object cut at every length, objects of a kind swapped, removed and doubled: no restore ever gives a
// wrong byte or silently less, every change is noticed, and the next backup is right or refuses. By default a share that rotates with the day; all of
// it in the soak. HOLDFAST_SEED replays a share.
import { createHash } from 'node:crypto'
import { randomBelow } from '@holdfast/shared/random.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import { beforeAll, describe, expect, test } from 'vitest'
import { readFooter } from '../../agent/repository/footer-reader.ts'
import { createPackReader, type PackReader } from '../../agent/repository/pack-reader.ts'
import type { FooterSegment } from '../../agent/repository/pack.ts'
import { openRepository, type Repository } from '../../agent/repository/repository.ts'
import { SEGMENT_KIND } from '../../agent/repository/segment.ts'
import type { View } from '../../agent/repository/view.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { lookByBackup, lookByCheck, lookByPackCheck, lookByRestore, lookByUnlock, sizesKept } from './_support/oracle.ts'
import { type Kind, KINDS, makeSmallRepository, type SmallRepository } from './_support/small-repository.ts'

const seed = rotatingSeed()
/** Of the bytes of small objects, of those of packs (mostly padding): one in so many. */
const SHARE = soak ? 1 : 160
const PACK_SHARE = soak ? 1 : 211
/** Of the cases that were looked at: one in so many is also restored in full, one in so many is followed by a backup. */
const RESTORED = 16
const FOLLOWED = 64
const HOURS = 3_600_000

/** What a check need not notice, each with its reason: these changes take nothing away that is not elsewhere, or that anybody could miss. */
function meansNothing(kind: Kind, change: Change, name: string): boolean {
  switch (kind) {
    // A roster does not say under which name it stands; the one with the highest number counts, and an older one says nothing that it does not.
    case 'rosters':
      return change === 'doubled' || change === 'exchanged' || ((change === 'removed' || change === 'replaced') && name !== newestRoster())
    // A session's entry, all that is read of it, stands in its packs, index files and snapshots too.
    case 'sessions':
    // What an index file says stands in the footers of its packs.
    case 'index':
    // Nobody who has nothing but the store can miss the newest of a series; a gap before it takes none of the others away.
    case 'snapshots':
    // How many keys there should be nobody knows, nor whether somebody took something back.
    case 'keys':
    case 'lists':
      return change === 'removed'
    case 'repository':
    case 'packs':
      return false
  }
}
const newestRoster = (): string => small.objects.rosters.at(-1)!

let small: SmallRepository
let original: SimulatedBucket
let sound: Repository
let view: View
const segments = new Map<string, readonly FooterSegment[]>()
beforeAll(async () => {
  small = await makeSmallRepository()
  original = small.engine.bucket
  sound = await openRepository({ store: original.store('looker'), keys: small.engine.keys.write.structure })
  view = (await sound.loadView()).view
  for (const name of small.objects.packs) {
    const { footer } = await readFooter(sound, parseObjectName(name)!, original.content(name)!.length)
    segments.set(name, footer.segments)
  }
  expect(await lookByCheck(small, original)).toBeUndefined()
  expect(await lookByRestore(small, original)).toEqual([])
  expect(await lookByBackup(small, original, false, 'sound')).toEqual([])
}, 60_000)

type Change = 'changed' | 'exchanged' | 'replaced' | 'removed' | 'doubled'
type Tally = { cases: number; restores: number; backups: number; wrong: string[]; missed: string[]; started: number }
const begin = (): Tally => ({ cases: 0, restores: 0, backups: 0, wrong: [], missed: [], started: performance.now() })

/** All looks at one change of objects that are no packs, or of several objects. */
async function look(
  tally: Tally,
  kind: Kind,
  what: string,
  bucket: SimulatedBucket,
  options: { all: boolean; change?: Change; of?: string },
): Promise<void> {
  const nth = tally.cases++
  const noticed = await lookByCheck(small, bucket)
  if (noticed === undefined && !meansNothing(kind, options.change ?? 'changed', options.of ?? '')) tally.missed.push(what)
  if (options.all || nth % RESTORED === 0) {
    tally.restores += 1
    tally.wrong.push(...(await lookByRestore(small, bucket)).map((wrong) => `${what}: ${wrong}`))
  }
  if (options.all || nth % FOLLOWED === 0) {
    tally.backups += 1
    const hidden = kind === 'packs' && sizesKept(original, bucket)
    tally.wrong.push(...(await lookByBackup(small, bucket, hidden, what)).map((wrong) => `${what}: ${wrong}`))
  }
}

function end(tally: Tally, figure: string, asked: number): void {
  soakResult({
    suite: 'bit rot',
    figure,
    asked,
    value: tally.cases,
    violations: tally.wrong.length + tally.missed.length,
    seed,
    seconds: Math.round((performance.now() - tally.started) / 1000),
  })
  expect({ wrong: tally.wrong.slice(0, 20), missed: tally.missed.slice(0, 20) }, `replay with HOLDFAST_SEED=${seed}`).toEqual({
    wrong: [],
    missed: [],
  })
}

/** Positions in an object that this run looks at, spread evenly from a start that the seed chooses. */
function* positions(name: string, count: number, share: number): Generator<number> {
  for (let at = randomBelow(seededRandom(`${seed} ${name}`), share); at < count; at += share) yield at
}

/** Which bit of a byte is flipped: one that seed, object and place choose. */
function bitOf(name: string, at: number): number {
  return createHash('sha256').update(`${seed} ${name} ${at}`).digest()[0]! & 7
}

async function withChange<T>(
  name: string,
  change: (bytes: Buffer) => Buffer | undefined,
  work: (bucket: SimulatedBucket) => Promise<T>,
): Promise<T> {
  const bucket = original.clone()
  bucket.tamper(name, change)
  return work(bucket)
}

const SMALL_KINDS = KINDS.filter((kind) => kind !== 'packs')

/** Reads every blob of a segment from a changed store: whatever comes must have been checked against its id. Undefined where all of them came. */
async function readSegment(reader: PackReader, segment: FooterSegment): Promise<string | undefined> {
  for (const { id } of segment.blobs)
    try {
      if (segment.kind === SEGMENT_KIND.chunk) await reader.readChunk(id)
      else if (segment.kind === SEGMENT_KIND.references) await reader.readReferences(id)
      else await reader.readNode(id)
    } catch (error) {
      return error instanceof Error ? error.message : 'refused'
    }
  return undefined
}

/** Looks at one change of one pack: by the check of that pack, and by reading what the change hits. */
async function lookAtPack(tally: Tally, name: string, what: string, changed: Buffer, from: number): Promise<void> {
  const nth = tally.cases++
  const bucket = original.clone()
  bucket.tamper(name, () => changed)
  const repository: Repository = { ...sound, store: bucket.store('looker') }
  if ((await lookByPackCheck(repository, name, changed.length)) === undefined) tally.missed.push(what)
  const hit = segments.get(name)!.find(({ offset, sealedBytes }) => from < offset + sealedBytes)
  // Another copy in another pack may serve; here each blob stands once.
  if (hit !== undefined) {
    const reader = createPackReader({ store: repository.store, structure: sound.keys, view, keys: small.engine.keys.read })
    if ((await readSegment(reader, hit)) === undefined && from >= hit.offset)
      tally.wrong.push(`${what}: what stood there was read as if it were sound`)
  }
  if (nth % (RESTORED * 16) === 0 || (hit !== undefined && nth % RESTORED === 0)) {
    tally.restores += 1
    tally.wrong.push(...(await lookByRestore(small, bucket)).map((wrong) => `${what}: ${wrong}`))
    if ((await lookByCheck(small, bucket)) === undefined) tally.missed.push(what)
  }
  if (nth % (FOLLOWED * 8) === 0) {
    tally.backups += 1
    const hidden = sizesKept(original, bucket)
    tally.wrong.push(...(await lookByBackup(small, bucket, hidden, what)).map((wrong) => `${what}: ${wrong}`))
  }
}

const total = (kinds: readonly Kind[]): number =>
  kinds.reduce((sum, kind) => sum + small.objects[kind].reduce((bytes, name) => bytes + original.content(name)!.length, 0), 0)

describe('a repository with', () => {
  test(
    'any bit of any byte flipped gives nothing wrong back, and all of it is noticed',
    async () => {
      const tally = begin()
      for (const kind of SMALL_KINDS)
        for (const name of small.objects[kind])
          for (const at of positions(name, original.content(name)!.length, kind === 'keys' && !soak ? 16 : SHARE)) {
            const what = `bit ${bitOf(name, at)} of byte ${at} of ${name}`
            const flip = (bytes: Buffer): Buffer => {
              bytes[at]! ^= 1 << bitOf(name, at)
              return bytes
            }
            await withChange(name, flip, async (bucket) => {
              if (kind !== 'keys') return look(tally, kind, what, bucket, { all: false })
              tally.cases += 1
              if ((await lookByCheck(small, bucket)) === undefined) tally.missed.push(what)
              const { opens, wrong } = await lookByUnlock(small, bucket, name)
              if (wrong) tally.wrong.push(`${what}: another root came out`)
              if (opens) tally.missed.push(what)
            })
          }
      for (const name of small.objects.packs)
        for (const at of positions(name, original.content(name)!.length, PACK_SHARE)) {
          const changed = Buffer.from(original.content(name)!)
          changed[at]! ^= 1 << bitOf(name, at)
          await lookAtPack(tally, name, `bit ${bitOf(name, at)} of byte ${at} of ${name}`, changed, at)
        }
      end(tally, 'bytes flipped', soak ? total(KINDS) : tally.cases)
    },
    4 * HOURS,
  )

  test(
    'any object cut at any length gives nothing wrong back, and all of it is noticed',
    async () => {
      const tally = begin()
      for (const kind of SMALL_KINDS)
        for (const name of small.objects[kind])
          for (const length of positions(`${name} cut`, original.content(name)!.length, kind === 'keys' && !soak ? 16 : SHARE)) {
            const what = `${name} cut to ${length} bytes`
            await withChange(
              name,
              (bytes) => bytes.subarray(0, length),
              async (bucket) => {
                if (kind !== 'keys') return look(tally, kind, what, bucket, { all: false })
                tally.cases += 1
                if ((await lookByCheck(small, bucket)) === undefined || (await lookByUnlock(small, bucket, name)).opens)
                  tally.missed.push(what)
              },
            )
          }
      for (const name of small.objects.packs)
        for (const length of positions(`${name} cut`, original.content(name)!.length, PACK_SHARE))
          await lookAtPack(tally, name, `${name} cut to ${length} bytes`, original.content(name)!.subarray(0, length), length)
      end(tally, 'truncations', soak ? total(KINDS) : tally.cases)
    },
    4 * HOURS,
  )

  test(
    'any two objects of a kind swapped, or one in the place of the other, gives nothing wrong back, and all of it is noticed',
    async () => {
      const tally = begin()
      let pairs = 0
      for (const kind of KINDS)
        for (const [i, a] of small.objects[kind].entries())
          for (const b of small.objects[kind].slice(i + 1)) {
            pairs += 1
            for (const form of ['exchanged', 'first for second', 'second for first'] as const) {
              const bucket = original.clone()
              if (form !== 'second for first') bucket.tamper(b, () => original.content(a)!)
              if (form !== 'first for second') bucket.tamper(a, () => original.content(b)!)
              const change = form === 'exchanged' ? 'exchanged' : 'replaced'
              await look(tally, kind, `${a} and ${b}, ${form}`, bucket, { all: true, change, of: form === 'first for second' ? b : a })
            }
          }
      end(tally, 'pairs swapped', pairs * 3)
    },
    HOURS,
  )

  test(
    'any object gone, or there a second time under another name, gives nothing wrong back, and it is noticed',
    async () => {
      const tally = begin()
      let asked = 0
      for (const kind of KINDS)
        for (const name of small.objects[kind]) {
          asked += 1
          await withChange(
            name,
            () => undefined,
            (bucket) => look(tally, kind, `${name} removed`, bucket, { all: true, change: 'removed', of: name }),
          )
          if (kind === 'repository') continue
          asked += 1
          const bucket = original.clone()
          const copy = name.slice(0, -8) + (name.endsWith('00000000') ? '11111111' : '00000000')
          await bucket.store('intruder').put(copy, { kind: 'bytes', bytes: original.content(name)! })
          await look(tally, kind, `${name} doubled`, bucket, { all: true, change: 'doubled', of: name })
        }
      end(tally, 'objects removed and doubled', asked)
    },
    HOURS,
  )
})
