// A stolen appliance's keys and credentials of the store, used with skill: no earlier snapshot is lost, shortened or read. On a store that refuses a
// second put of a name, and on one that ignores the condition and keeps versions.
import { type CollectionListBody, encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, packName, parseObjectName } from '@holdfast/shared/format/layout.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkRepository } from '../../agent/check/check.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { rosterBody } from '../../agent/keys/roster.ts'
import { encodeForgetRecord, encodeSessionEnd } from '../../agent/repository/forget-record.ts'
import { encodeIndexFile, type PackInIndex } from '../../agent/repository/index-file.ts'
import { packsOf } from '../../agent/repository/index-merge.ts'
import { createPackReader } from '../../agent/repository/pack-reader.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { createSealer, SEGMENT_KIND } from '../../agent/repository/segment.ts'
import { encodeSnapshot } from '../../agent/repository/snapshot.ts'
import { sealBox } from '../../agent/repository/structure-box.ts'
import { loadWholeView } from '../../agent/repository/whole-view.ts'
import { createCompressor } from '../../agent/repository/zstd.ts'
import { restoreSnapshot } from '../../agent/restore/restore.ts'
import { fixtureRandom, makeEngine, treeOf, writeFile } from '../_support/engine-fixture.ts'
import { startFakeS3 } from '../_support/fake-s3.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { simulatedFileSystem } from '../_support/simulated-file-system.ts'
import { soakResult } from '../_support/soak.ts'
import { copyStore, makeTheft, readKeysOf, type Theft } from './_support/theft.ts'

const DAY = 86_400_000
const started = performance.now()
let restores = 0
let violations = 0
afterAll(() =>
  soakResult({
    ...{
      suite: 'hostile',
      figure: 'restores of earlier snapshots after a thief',
      asked: restores,
      value: restores - violations,
      violations,
    },
    ...{ seed: 'fixed', seconds: Math.round((performance.now() - started) / 1000) },
  }),
)

/** Every earlier snapshot comes back to the root bit by bit, and without a word about damage. `forgotten` ones may be among those that no longer count. */
async function expectEarlier(theft: Theft, store: Store, forgotten: readonly string[] = []): Promise<void> {
  const { keys, clock } = theft.victim
  const repository = await openRepository({ store, keys: keys.write.structure })
  const listing = await repository.listSnapshots()
  const { view } = await loadWholeView(repository)
  for (const [id, tree] of theft.earlier) {
    const all = forgotten.includes(id) ? [...listing.snapshots, ...listing.forgotten] : listing.snapshots
    const snapshot = all.find(({ structure }) => structure.ref.random === id)
    if (snapshot === undefined) throw new Error(`snapshot ${id} is not there`)
    const fs = simulatedFileSystem({ clock })
    const options = { repository, view, snapshot, fs, keys: keys.read, target: Buffer.from('/target'), workers: 0, durable: false }
    const report = await restoreSnapshot(options)
    const found: Tree = new Map(
      [...treeOf(fs, ['/target'])].filter(([path]) => path !== '/target').map(([path, text]) => [path.slice(7), text]),
    )
    restores += 1
    violations += 1
    expect({ id, problems: report.problems.map(({ path, errno }) => `${path.toString()} ${errno}`), tree: found }).toEqual({
      id,
      problems: [],
      tree,
    })
    violations -= 1
  }
}

/** Everything that the thief can make out of the structure, which he reads. */
async function whatHeSees(theft: Theft, store: Store) {
  const repository = await openRepository({ store, keys: theft.stolen.structure })
  const { view } = await loadWholeView(repository)
  const { snapshots } = await repository.listSnapshots()
  return { repository, view, snapshots }
}

type Attack = (theft: Theft, store: Store) => Promise<void>

const put = async (store: Store, name: string, bytes: Buffer): Promise<void> => void (await store.put(name, { kind: 'bytes', bytes }))

/** Index files that say of the packs of others what `lie` makes of it, in the place of all that there are. */
function forgedIndex(replaces: boolean, lie: (pack: PackInIndex, random: ReturnType<typeof fixtureRandom>) => PackInIndex): Attack {
  return async (theft, store) => {
    const { view } = await whatHeSees(theft, store)
    const random = fixtureRandom('lies')
    const packs = view.files.flatMap(packsOf).map((pack) => lie(pack, random))
    const ref = theft.ref()
    const names = replaces ? view.files.map((file) => file.ref) : []
    await put(
      store,
      objectName('index', ref),
      encodeIndexFile({ ref, replaces: names, packs }, theft.stolen.structure, theft.stolen.writer),
    )
  }
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  'puts other bytes under every name': async (theft, store) => {
    for (const name of theft.victim.bucket.names()) {
      await store.put(name, { kind: 'bytes', bytes: Buffer.from('rubbish') })
      await store.diagnostics!.overwrite(name, Buffer.from('rubbish'))
    }
  },
  'deletes every name': async (theft, store) => {
    for (const name of theft.victim.bucket.names()) {
      const refused = await store.remove(name).then(
        () => 'deleted',
        (error: unknown) => (isHoldfastError(error) ? error.code : String(error)),
      )
      expect([name, refused]).toEqual([name, 'store-refused'])
    }
  },
  'replaces all index files by one that names every pack and nothing in it': forgedIndex(true, (pack) => ({
    ...pack,
    footer: { ...pack.footer, segments: [] },
  })),
  'replaces all index files by one that names as many blobs as there are, and no true one': forgedIndex(true, (pack, random) => ({
    ...pack,
    footer: {
      ...pack.footer,
      segments: pack.footer.segments.map((segment) => ({
        ...segment,
        blobs: segment.blobs.map(({ bytes }) => ({ id: random.bytes(32).toString('hex'), bytes })),
      })),
    },
  })),
  'says that every blob stands where other bytes stand': forgedIndex(false, (pack) => ({
    ...pack,
    footer: { ...pack.footer, segments: pack.footer.segments.map((segment) => ({ ...segment, offset: segment.offset + 1 })) },
  })),
  'says that every blob is sealed under a session that is none': forgedIndex(false, (pack, random) => ({
    ...pack,
    footer: {
      ...pack.footer,
      sessions: pack.footer.sessions.map((session) => ({ ...session, sealedKey: random.bytes(1168), commitment: random.bytes(32) })),
      segments: pack.footer.segments.map((segment) => ({
        ...segment,
        epoch: segment.kind === SEGMENT_KIND.references ? 77 : segment.epoch,
      })),
    },
  })),
  'says that every blob stands in a pack that is not there, and that packs have other sizes': forgedIndex(false, (pack, random) => ({
    footer: { ...pack.footer, ref: { ...pack.footer.ref, random: random.bytes(1)[0]! > 127 ? pack.footer.ref.random : '9'.repeat(32) } },
    bytes: pack.bytes * 2,
  })),
  'stores packs of rubbish and torn ones': async (theft, store) => {
    const random = fixtureRandom('rubbish packs')
    for (let i = 0; i < 4; i++) await put(store, packName(theft.ref()), random.bytes(131_072 + i))
    for (const name of theft.victim.bucket.names('packs/').slice(0, 2)) {
      const ref = { ...parseObjectName(name)!, random: theft.ref().random }
      await put(store, packName(ref), theft.victim.bucket.content(name)!)
    }
  },
  'stores sessions, snapshots and a roster of his own making': async (theft, store) => {
    const { stolen, ref } = theft
    const { snapshots } = await whatHeSees(theft, store)
    const random = fixtureRandom('forged')
    const sealer = createSealer({
      ...{ domainId: stolen.structure.domainId, baseKey: random.bytes(32), epoch: 1, compressor: createCompressor(1) },
    })
    for (const { structure } of snapshots) {
      const name = ref()
      const session = { ...structure.session, sessionId: Buffer.from(name.session, 'hex') }
      // The series goes on as if all before had been rolled back, under his own name and under that of whose it is.
      for (const writerId of [stolen.writer.id, structure.writerId]) {
        const forged = {
          ...structure,
          ref: { ...name, random: random.bytes(16).toString('hex') },
          session,
          writerId,
          sequence: 9_000_000,
          files: 0,
        }
        const about = { host: 'h', source: 's', paths: [], tags: [], program: 'p', summary: {}, problems: [], root: undefined }
        const object = encodeSnapshot({ structure: forged, private: about }, { structure: stolen.structure, writer: stolen.writer, sealer })
        await put(store, objectName('snapshot', forged.ref), object)
      }
      await put(store, objectName('snapshot', ref()), random.bytes(3000))
      await put(store, `sessions/${ref().session}`, random.bytes(1500))
    }
    const entries = [2, 3].map((digit) => ({
      ...{
        writerId: Buffer.alloc(16, digit),
        publicKey: random.bytes(32),
        fingerprint: Buffer.alloc(20),
        state: 'revoked' as const,
        since: 1,
        label: 'x',
      },
    }))
    const body = rosterBody({ number: 99, madeAt: 1, entries })
    await put(store, objectName('roster', ref()), sealBox({ type: 'roster', keys: stolen.structure, writer: stolen.writer, body }))
  },
  'condemns every pack, forgets every snapshot, names all for deletion and ends every session': async (theft, store) => {
    const { stolen, ref } = theft
    const { view, snapshots } = await whatHeSees(theft, store)
    const { domainId } = stolen.structure
    const packs = [...view.packs()].map((pack) => ({ session: pack.session, random: pack.random, bytes: pack.bytes, why: 'dead' as const }))
    const list = async (body: CollectionListBody) => {
      const name = ref()
      await put(store, objectName('list', name), encodeCollectionList({ ...body, ref: name, madeAt: 1 }, domainId, stolen.writer))
      return name
    }
    const condemned = await list({ kind: 'condemned', kept: [], packs })
    await list({
      kind: 'deletion',
      lists: [condemned],
      names: packs.map((pack) => ({ kind: 'pack' as const, session: pack.session, random: pack.random })),
    })
    const entries = snapshots.map(({ structure, hash }) => ({
      ...{ snapshot: structure.ref, series: structure.series, sequence: structure.sequence, hash, why: 'asked' as const },
    }))
    const record = { ref: ref(), madeAt: 1, replaces: [], entries, undone: [] }
    await put(store, objectName('forget', record.ref), encodeForgetRecord(record, stolen.structure, stolen.writer))
    for (const { structure } of snapshots) {
      const object = encodeSessionEnd({ sessionId: structure.session.sessionId, endedAt: 1 }, stolen.structure, stolen.writer)
      await put(store, `ends/${structure.session.sessionId.toString('hex')}`, object)
    }
  },
}

describe.each(['a store that refuses a second put of a name', 'a store that ignores conditions and keeps versions'])('on %s', (kind) => {
  let theft: Theft
  /** With the rights of the thief, and with the controller's, who reads. */
  let open: () => Promise<{ thief: Store; controller: Store }>
  const stops: (() => Promise<unknown>)[] = []
  beforeAll(async () => {
    theft = await makeTheft()
    open = async () => {
      if (kind === 'a store that refuses a second put of a name') {
        const bucket = theft.victim.bucket.clone()
        return { thief: bucket.store('thief', { remove: false, overwrite: false }), controller: bucket.store('controller') }
      }
      const server = await startFakeS3({
        now: () => theft.victim.clock.now(),
        conditional: 'ignored',
        versioning: 'Enabled',
        denyDelete: true,
      })
      const credentials = { accessKeyId: 'k', secretAccessKey: 's' }
      const seams = { clock: simulatedClock({ startMs: theft.victim.clock.now(), autoMs: 60_000 }), random: fixtureRandom('s3') }
      const store = await openS3Store({ endpoint: server.endpoint, bucket: server.bucket, credentials, prefix: 'r' }, seams)
      stops.push(() => store.close().then(() => server.stop()))
      await copyStore(theft.victim, store)
      return { thief: store, controller: store }
    }
  })
  afterAll(() => Promise.all(stops.map((stop) => stop())))

  test.each(Object.keys(ATTACKS))('a thief who %s takes no earlier snapshot away', async (name) => {
    const { thief, controller } = await open()
    await ATTACKS[name]!(theft, thief)
    await expectEarlier(theft, controller, name.startsWith('condemns') ? theft.victims : [])
  })

  test('a thief who does all of it, one after the other, takes no earlier snapshot away, and a check comes to its end', async () => {
    const { thief, controller } = await open()
    for (const attack of Object.values(ATTACKS)) await attack(theft, thief)
    await expectEarlier(theft, controller, theft.victims)
    const repository = await openRepository({ store: controller, keys: theft.victim.keys.write.structure })
    expect((await checkRepository({ repository, readData: 'all' })).damaged).toBeGreaterThan(0)
  })
})

describe('what was stolen', () => {
  test('opens no content of any earlier snapshot, nor its names, hosts and paths', async () => {
    const theft = await makeTheft()
    const { repository, view, snapshots } = await whatHeSees(theft, theft.victim.bucket.store('thief'))
    const without = createPackReader({ store: repository.store, structure: theft.stolen.structure, view })
    let tried = 0
    for (const file of view.files)
      for (let row = 0; row < file.blobCount; row++) {
        const id = file.blobs.toString('hex', row * 44, row * 44 + 32)
        const { kind } = file.segment(file.blobs.readUInt32LE(row * 44 + 32))
        if (kind === SEGMENT_KIND.references) continue
        const read = (reader: typeof without) => (kind === SEGMENT_KIND.chunk ? reader.readChunk(id) : reader.readNode(id))
        await expect(read(without)).rejects.toMatchObject({ code: 'grant-required' })
        for (const secret of theft.secrets) {
          const keys = readKeysOf(theft.stolen, () => secret)
          await expect(read(createPackReader({ store: repository.store, structure: keys.structure, view, keys }))).rejects.toMatchObject({
            code: 'damaged',
          })
          tried += 1
        }
        // What stands in the open of the session itself.
        for (const part of ['commitment', 'sealedKey'] as const) {
          const keys = readKeysOf(theft.stolen, (session) => session[part].subarray(0, 32))
          await expect(read(createPackReader({ store: repository.store, structure: keys.structure, view, keys }))).rejects.toMatchObject({
            code: 'damaged',
          })
        }
      }
    expect(tried).toBeGreaterThan(50)
    for (const snapshot of snapshots)
      for (const secret of theft.secrets) expect(() => snapshot.openPrivate(readKeysOf(theft.stolen, () => secret))).toThrow(/damaged/)
  })
})

test('lengths of chunks that a forged index file shifts from one to another put no byte of a large file in another place', async () => {
  const theft = await makeTheft()
  const { other } = theft
  const large = fixtureRandom('large').bytes(5_000_000)
  writeFile(other, '/src/large', large)
  other.pass()
  const { snapshot } = await other.backup()
  const thief = theft.victim.bucket.store('thief', { remove: false, overwrite: false })
  const { view } = await whatHeSees(theft, thief)
  const shifted = view.files.flatMap(packsOf).map((pack) => ({
    ...pack,
    footer: {
      ...pack.footer,
      segments: pack.footer.segments.map((segment) => {
        const [first, last] = [segment.blobs[0]!, segment.blobs.at(-1)!]
        if (segment.kind !== SEGMENT_KIND.chunk || first === last) return segment
        // Parts of a large file end about where segments do: so its last chunk begins the next part, far behind its place.
        const bytes = last.bytes - 1
        const blobs = [{ ...first, bytes: first.bytes + bytes }, ...segment.blobs.slice(1, -1), { ...last, bytes: 1 }]
        return { ...segment, blobs }
      }),
    },
  }))
  // Listed before every other one, so that its places are looked at first.
  const ref = { session: '0'.repeat(32), random: theft.ref().random }
  await put(
    thief,
    objectName('index', ref),
    encodeIndexFile({ ref, replaces: [], packs: shifted }, theft.stolen.structure, theft.stolen.writer),
  )
  const earlier = new Map([[snapshot!.ref.random, other.source()]])
  expect(earlier.get(snapshot!.ref.random)!.size).toBeGreaterThan(4)
  await expectEarlier({ ...theft, earlier }, other.bucket.store('controller'))
})

describe('a collection after a theft', () => {
  test('by the root keeps what the appliance alone has forgotten: it counts again once the thief is revoked, however late', async () => {
    const theft = await makeTheft()
    const { victim } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    const stolenAt = victim.clock.now()
    victim.clock.advance(60_000)
    // The one whose traces look as if everything were in order.
    await ATTACKS['condemns every pack, forgets every snapshot, names all for deletion and ends every session']!(
      theft,
      victim.bucket.store('thief', { remove: false, overwrite: false }),
    )
    for (let days = 0; days < 60; days += 10) {
      expect(await root.prune()).toMatchObject({ heldForgotten: theft.victims.length })
      victim.clock.advance(10 * DAY)
    }
    expect((await root.prune({ dryRun: true, acceptAgentForgets: true })).named.objects).toBeGreaterThan(0)
    const [name, bytes] = theft.roster(2, stolenAt)
    await put(victim.bucket.store('controller'), name, bytes)
    await expectEarlier(theft, victim.bucket.store('controller'))
  })

  test('by the root that accepts what appliances forget deletes nothing of anybody else, whatever the thief condemned, forgot and named', async () => {
    const theft = await makeTheft()
    const { victim } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    for (const attack of Object.values(ATTACKS)) await attack(theft, victim.bucket.store('thief', { remove: false, overwrite: false }))
    const others = new Map([...theft.earlier].filter(([id]) => !theft.victims.includes(id)))
    for (let days = 0; days < 40; days += 10) {
      // A forged snapshot can stop a collection, which then deletes nothing; it can never make it delete what others need.
      await root.prune({ acceptDamage: true, acceptAgentForgets: true }).catch((error: unknown) => {
        if (!isHoldfastError(error)) throw error
      })
      victim.clock.advance(10 * DAY)
      await expectEarlier({ ...theft, earlier: others }, victim.bucket.store('controller'))
    }
  })

  test('by which the thief is revoked from the time of the theft deletes nothing at all that stood before', async () => {
    const theft = await makeTheft()
    const { victim } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    const stolenAt = victim.clock.now()
    victim.clock.advance(60_000)
    for (const attack of Object.values(ATTACKS)) await attack(theft, victim.bucket.store('thief', { remove: false, overwrite: false }))
    const [name, bytes] = theft.roster(2, stolenAt)
    await put(victim.bucket.store('controller'), name, bytes)
    for (let days = 0; days < 40; days += 10) {
      await root.prune({ acceptDamage: true }).catch((error: unknown) => {
        if (!isHoldfastError(error)) throw error
      })
      victim.clock.advance(10 * DAY)
    }
    await expectEarlier(theft, victim.bucket.store('controller'))
  })

  test('goes on where the revoked appliance left packs of which little is needed: what it stored before that counts', async () => {
    const theft = await makeTheft()
    const { victim } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    const names = Array.from({ length: 12 }, (_, i) => `/src/small-${i}`)
    for (const name of names) writeFile(victim, name, fixtureRandom(name).bytes(1000))
    victim.pass()
    const large = (await victim.backup()).snapshot!.ref.random
    for (const name of names.slice(1)) victim.fs.quietly(() => victim.fs.remove(CWD, Buffer.from(name), 'file'))
    victim.pass()
    const kept = (await victim.backup()).snapshot!.ref.random
    const tree = victim.source()
    victim.clock.advance(60_000)
    const [name, bytes] = theft.roster(2, victim.clock.now())
    await put(victim.bucket.store('controller'), name, bytes)
    await root.forget(large)
    expect((await root.prune()).condemned.forReuse).toBeGreaterThan(0)
    await expectEarlier({ ...theft, earlier: new Map([...theft.earlier, [kept, tree]]) }, victim.bucket.store('controller'))
  })
})

test('the other appliance goes on after all of it: its next backup is right', async () => {
  const theft = await makeTheft()
  for (const attack of Object.values(ATTACKS)) await attack(theft, theft.victim.bucket.store('thief', { remove: false, overwrite: false }))
  const { other } = theft
  writeFile(other, '/src/new', fixtureRandom('after').bytes(5000))
  other.fs.quietly(() => other.fs.setMode(CWD, Buffer.from('/src/own'), 0o640))
  other.pass()
  const { snapshot, outcome } = await other.backup()
  expect(outcome).toBe('done')
  await expectEarlier(
    { ...theft, earlier: new Map([...theft.earlier, [snapshot!.ref.random, other.source()]]) },
    other.bucket.store(),
    theft.victims,
  )
})
