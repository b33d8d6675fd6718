// A backup that is killed again and again, at moments that its own progress chooses, and then completed: it restores identically, uploads no
// complete pack twice and leaves one snapshot. Through the real launcher, with the directory store and with a real S3 server.
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { openStore, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import { LazyS3Client } from '@holdfast/shared/store/s3-client.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { S3Server } from '../../demo/s3-server.ts'
import { only, Workplace } from '../agent/cli/_support/cli.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { type RecordingProxy, startRecordingProxy } from './_support/recording-proxy.ts'
import { lookIntoSpool, type SpoolSeen } from './_support/spool.ts'
import { until } from './_support/until.ts'

const MIB = 1024 * 1024
const LARGE_FILES = 11
const LARGE_BYTES = 13 * MIB
const SMALL_FILES = 400

type Stored = { readonly packs: () => Promise<ReadonlySet<string>>; readonly sessions: () => Promise<ReadonlySet<string>> }
type Before = SpoolSeen & { readonly packs: ReadonlySet<string>; readonly sessions: ReadonlySet<string> }
type Moment = { readonly what: string; readonly reached: (spool: SpoolSeen, stored: Stored, before: Before) => boolean | Promise<boolean> }

const hasNew = (now: ReadonlySet<string>, before: ReadonlySet<string>): boolean => [...now].some((name) => !before.has(name))

const MOMENTS = {
  session: { what: 'its session is stored', reached: async (_, stored, before) => hasNew(await stored.sessions(), before.sessions) },
  open: {
    what: 'it has a pack half written',
    reached: ({ open }, _, before) => [...open].some(([name, bytes]) => bytes > 8 * MIB && !before.open.has(name)),
  },
  whole: { what: 'a new whole pack is in the spool', reached: ({ whole }, _, before) => hasNew(whole, before.whole) },
  stored: { what: 'a new pack is in the store', reached: async (_, stored, before) => hasNew(await stored.packs(), before.packs) },
  footer: { what: 'a pack is newly known to be durable', reached: ({ footers }, _, before) => hasNew(footers, before.footers) },
} as const satisfies Record<string, Moment>
/** Eight kills in a row. The first let nothing become durable, so that for the others there is always more to come. */
const KILLS: readonly Moment[] = [
  MOMENTS.session,
  MOMENTS.open,
  MOMENTS.open,
  MOMENTS.whole,
  MOMENTS.stored,
  MOMENTS.footer,
  MOMENTS.stored,
  MOMENTS.stored,
]

type Place = {
  readonly work: Workplace
  readonly store: Store
  /** What a store can say of an object that was not written again: it stays the same. */
  readonly identities: () => Promise<ReadonlyMap<string, string>>
}

describe.each(['the directory store', 'a real S3 server'])('a backup to %s that is killed eight times', (kind) => {
  let place: Place
  let s3: S3Server | undefined
  let proxy: RecordingProxy | undefined
  let uploads: string[][] | undefined

  afterAll(async () => {
    await place?.store.close()
    place?.work.close()
    await proxy?.close()
    await s3?.stop()
  })

  it('completes, restores identically, stores no complete pack twice and leaves one snapshot', async () => {
    if (kind === 'a real S3 server') {
      s3 = await startRadosgw()
      const port = Number(new URL(s3.endpoint).port)
      proxy = await startRecordingProxy(() => port)
      place = await placeInS3(s3, proxy)
    } else place = await placeInDirectory()
    const { work, store } = place
    const source = work.path('source')
    makeSource(source)
    const next = seededNumbers(20)
    const state = work.path('state')
    const command = ['backup', source, '--state', state]
    /** Packs that were durable at a kill: what each was then, and how many connections to the store there had been. */
    const durable = new Map<string, { identity: string; connections: number }>()
    const spooled = new Set<string>()

    for (const moment of KILLS) {
      const stored: Stored = { packs: () => namesOf(store, 'packs/'), sessions: () => namesOf(store, 'sessions/') }
      const before = { ...lookIntoSpool(state), packs: await stored.packs(), sessions: await stored.sessions() }
      const child = work.start(command)
      let output = ''
      child.stderr.on('data', (data: Buffer) => (output += data.toString()))
      child.stdout.resume()
      const ended = new Promise((resolve) => child.once('close', resolve))
      const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null
      await until(moment.what, async () => isOver() || (await moment.reached(lookIntoSpool(state), stored, before)), { everyMs: 4 })
      // Not always at the very step, but a little behind it, the same little in every run of this test.
      for (let more = next() % 12; more > 0 && !isOver(); more--) await systemClock.sleep(1)
      child.kill('SIGKILL')
      await ended
      expect(child.signalCode, `the run ended by itself before ${moment.what}: ${output}`).toBe('SIGKILL')
      const [packs, identities] = [await stored.packs(), await place.identities()]
      const connections = proxy?.recorded().sent.length ?? 0
      for (const name of packs) if (!durable.has(name)) durable.set(name, { identity: identities.get(name) ?? 'not listed', connections })
      for (const name of lookIntoSpool(state).whole) spooled.add(name)
    }
    expect(durable.size).toBeGreaterThanOrEqual(3)

    const last = await work.json(command)
    expect(last.summary).toMatchObject({ exitCode: 0, result: 'done', counts: { problems: 0 } })
    expect(last.summary.counts?.['packsResumed']).toBeGreaterThan(0)

    const identities = await place.identities()
    for (const [name, { identity, connections }] of durable) {
      expect(identities.get(name), name).toBe(identity)
      expect(uploadsAfter(connections), name).not.toContain(name)
    }
    // What was whole in the spool went up under its own name.
    for (const name of spooled) expect(identities.has(name), name).toBe(true)
    if (proxy !== undefined) expect(new Set(uploadsAfter(0))).toEqual(new Set(identities.keys()))
    const stored = await sizesOf(store)
    expect(stored).toBeLessThan(LARGE_FILES * LARGE_BYTES * 1.06 + 4 * MIB)

    const listed = await work.json(['snapshots'])
    expect(only(listed.events, 'snapshot')).toMatchObject([{ id: last.summary.snapshotId, files: LARGE_FILES + SMALL_FILES }])
    expect((await work.json(['check', '--read-data'])).summary).toMatchObject({ exitCode: 0 })
    const target = work.path('restored')
    expect((await work.json(['restore', 'latest', '--target', target])).summary).toMatchObject({ exitCode: 0 })
    expect(await compareTrees(source, join(target, source))).toEqual([])
  }, 180_000)

  /** The packs whose upload was begun on a connection after the first `connections`. */
  function uploadsAfter(connections: number): string[] {
    uploads ??= (proxy?.recorded().sent ?? []).map(uploadsIn)
    return uploads.slice(connections).flat()
  }
})

/** The packs whose upload was begun on one connection. */
function uploadsIn(sent: Buffer): string[] {
  const found: string[] = []
  for (let at = sent.indexOf('PUT /'); at >= 0; at = sent.indexOf('PUT /', at + 1)) {
    const match = /^PUT \/\S*packs\/\S*?([0-9a-f]{32})(?:\?\S*)? HTTP/.exec(sent.toString('latin1', at, at + 400))
    if (match !== null) found.push(match[1]!)
  }
  return found
}

function makeSource(source: string): void {
  mkdirSync(join(source, 'small'), { recursive: true })
  const next = seededNumbers(5)
  for (let i = 0; i < LARGE_FILES; i++) {
    const bytes = Buffer.allocUnsafe(LARGE_BYTES)
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(next(), at)
    writeFileSync(join(source, `large-${i}`), bytes)
  }
  for (let i = 0; i < SMALL_FILES; i++) writeFileSync(join(source, 'small', `file-${i}`), `words of file ${i}\n`.repeat(next() % 400))
}

async function placeInDirectory(): Promise<Place> {
  const work = new Workplace()
  const { summary } = await work.json(['init'])
  if (summary.exitCode !== 0) throw new Error('no repository')
  const store = await openStore(work.repo, {}, { clock: systemClock, random: systemRandom, create: false })
  const identities = async (): Promise<Map<string, string>> =>
    new Map(
      (existsSync(join(work.repo, 'packs')) ? readdirSync(join(work.repo, 'packs'), { recursive: true, withFileTypes: true }) : [])
        .filter((entry) => entry.isFile())
        .map(({ name, parentPath }) => {
          const { ino, mtimeNs, size } = statSync(join(parentPath, name), { bigint: true })
          return [name.slice(-32), `${ino} ${mtimeNs} ${size}`]
        }),
    )
  return { work, store, identities }
}

/** A bucket that keeps every version: an object that was put twice would show two. */
async function placeInS3(s3: S3Server, proxy: RecordingProxy): Promise<Place> {
  const bucket = 'kills'
  await s3.createBucket(bucket, { versioning: true })
  const work = new Workplace()
  const access = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }
  work.env = { ...work.env, ...access, HOLDFAST_REPO: `s3:${proxy.url}/${bucket}/one` }
  const { summary } = await work.json(['init'])
  if (summary.exitCode !== 0) throw new Error('no repository')
  const location = `s3:${s3.endpoint}/${bucket}/one`
  const store = await openStore(location, storeConfigFromEnv(access), { clock: systemClock, random: systemRandom, create: false })
  const credentials = { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey }
  const identities = async (): Promise<Map<string, string>> => {
    const lazy = new LazyS3Client({ endpoint: s3.endpoint, bucket, credentials })
    try {
      const { sdk, client } = await lazy.load()
      const { Versions = [], IsTruncated } = await client.send(new sdk.ListObjectVersionsCommand({ Bucket: bucket, Prefix: 'one/packs/' }))
      expect(IsTruncated).toBe(false)
      const found = new Map<string, string>()
      for (const { Key = '', VersionId } of Versions) {
        expect(found.has(Key.slice(-32)), `two versions of ${Key}`).toBe(false)
        found.set(Key.slice(-32), String(VersionId))
      }
      return found
    } finally {
      await lazy.destroy()
    }
  }
  return { work, store, identities }
}

/** The random parts of the names of stored objects. */
async function namesOf(store: Store, prefix: 'packs/' | 'sessions/'): Promise<Set<string>> {
  const found = new Set<string>()
  for await (const page of store.list(prefix)) for (const { name } of page) found.add(name.slice(-32))
  return found
}

async function sizesOf(store: Store): Promise<number> {
  let sum = 0
  for await (const page of store.list('packs/')) for (const { bytes } of page) sum += bytes
  return sum
}
