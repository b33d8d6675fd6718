// No pack goes before another copy of what is needed of it has been opened: not because an index file says that there is one, nor a footer, nor because a
// run stored it again.
import { describe, expect, test } from 'vitest'
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, packName } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { blake3Hash } from '../../../agent/repository/blake3.ts'
import { readFooter } from '../../../agent/repository/footer-reader.ts'
import { encodeIndexFile } from '../../../agent/repository/index-file.ts'
import { encodeFooter, encodeTrailer, type FooterSegment, paddingBytes } from '../../../agent/repository/pack.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import type { SessionEntry } from '../../../agent/keys/keys.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'
import { makeTheft, type Theft } from '../../hostile/_support/theft.ts'
import { pausedStore } from '../../planted/_support/paused-bucket.ts'
import { restoresTo } from '../../sim/invariants.ts'
import { prune } from '../../../agent/collection/prune.ts'

const DAY = 86_400_000

/** One well-formed pack of a thief: what he can open is true in it, everything else is random bytes under the ids of all that there is. */
async function storeRubbish({ stolen, victim, ref: newRef }: Theft, thief: Store): Promise<void> {
  const random = fixtureRandom('rubbish under every id')
  const repository = await openRepository({ store: thief, keys: stolen.structure })
  const { view } = await loadWholeView(repository)
  const ref = { session: '0'.repeat(32), random: newRef().random }
  const segments: FooterSegment[] = []
  const sessions: SessionEntry[] = []
  const parts: Buffer[] = []
  let offset = 0
  for (const pack of view.packs()) {
    const { footer } = await readFooter(repository, pack, pack.bytes)
    const first = sessions.length
    sessions.push(...footer.sessions)
    for (const segment of footer.segments) {
      const isReferences = segment.kind === 3
      const range = { offset: segment.offset, length: segment.sealedBytes }
      const bytes = isReferences ? await thief.getRange(packName(pack), range) : random.bytes(segment.sealedBytes)
      segments.push({ ...segment, session: isReferences ? 0 : first + segment.session, offset, sealedHash: blake3Hash(bytes) })
      parts.push(bytes)
      offset += bytes.length
    }
  }
  const footer = { ref, writerId: stolen.writer.id, sessions, segments }
  const footerObject = encodeFooter(footer, stolen.structure, stolen.writer)
  const content = Buffer.concat([...parts, footerObject])
  const padded = Buffer.concat([content, random.bytes(paddingBytes(content.length))])
  const trailer = encodeTrailer(stolen.structure, blake3Hash(padded), { offset, bytes: footerObject.length })
  const object = Buffer.concat([padded, trailer])
  await thief.put(packName(ref), { kind: 'bytes', bytes: object })
  const index = encodeIndexFile({ ref, replaces: [], packs: [{ footer, bytes: object.length }] }, stolen.structure, stolen.writer)
  await thief.put(objectName('index', ref), { kind: 'bytes', bytes: index })
  expect(victim.bucket.names('packs/')).toContain(packName(ref))
}

async function condemnEverything({ stolen, victim, ref: newRef }: Theft, thief: Store): Promise<void> {
  const ref = newRef()
  const { view } = await loadWholeView(await openRepository({ store: thief, keys: stolen.structure }))
  const packs = [...view.packs()].map(({ session, random, bytes }) => ({ session, random, bytes, why: 'dead' as const }))
  const list = encodeCollectionList(
    { kind: 'condemned', kept: [], packs, ref, madeAt: victim.clock.now() },
    stolen.structure.domainId,
    stolen.writer,
  )
  await thief.put(objectName('list', ref), { kind: 'bytes', bytes: list })
}

describe('a collection by the root', () => {
  test.each([false, true])('keeps the true copies of what a thief stored rubbish for (he condemns them too: %s)', async (condemns) => {
    const theft = await makeTheft()
    const { victim } = theft
    const root = await makeEngine({ seed: 'root', beside: victim })
    const thief = victim.bucket.store('thief', { remove: false, overwrite: false })
    if (condemns) await condemnEverything(theft, thief)
    await storeRubbish(theft, thief)
    const spoilt = new Set<string>()
    for (let day = 0; day < 60; day += 10) {
      for (const pack of (await root.prune()).spoilt) spoilt.add(pack)
      victim.clock.advance(10 * DAY)
    }
    for (const [id, tree] of theft.earlier) await restoresTo(root, tree, id, id)
    // The rubbish was chosen, looked at, and told of.
    expect(spoilt.size).toBe(1)
  })

  /** Most of a pack is forgotten; what is left of it is stored again by a run whose pack the store spoils, then deleted at the source. */
  async function storedAgain(isSpoilt: boolean): Promise<{ engine: Engine; kept: Map<string, Tree> }> {
    let spoils = false
    const engine = await makeEngine({
      limits: { packBytes: 60_000, segmentBytes: 200_000, uploadsAtOnce: 1 },
      seam: (inner) => ({
        ...inner,
        close: () => inner.close(),
        put: async (name, body, more) => {
          const put = await inner.put(name, body, more)
          if (spoils && name.startsWith('packs/'))
            engine.bucket.tamper(name, (bytes) => {
              const copy = Buffer.from(bytes)
              copy[1000]! ^= 1
              return copy
            })
          return put
        },
      }),
    })
    for (let i = 0; i < 15; i++) writeFile(engine, `/src/gone-${i}`, fixtureRandom(`gone ${i}`).bytes(3000))
    writeFile(engine, '/src/left', fixtureRandom('left').bytes(3000))
    engine.pass()
    const first = (await engine.backup()).snapshot!.ref.random
    for (let i = 0; i < 15; i++) change(engine, (fs) => fs.remove(CWD, Buffer.from(`/src/gone-${i}`), 'file'))
    writeFile(engine, '/src/more', fixtureRandom('more').bytes(3000))
    engine.pass()
    const kept = new Map<string, Tree>()
    const tree = engine.source()
    kept.set((await engine.backup()).snapshot!.ref.random, tree)
    await engine.forget(first)
    expect((await engine.prune({ moveBytesMax: 0 })).condemned).toMatchObject({ forReuse: 1 })
    engine.clock.advance(DAY)
    spoils = isSpoilt
    await engine.backup().then(
      () => expect(isSpoilt).toBe(false),
      () => expect(isSpoilt).toBe(true),
    )
    spoils = false
    change(engine, (fs) => fs.remove(CWD, Buffer.from('/src/left'), 'file'))
    engine.pass()
    await engine.backup()
    return { engine, kept }
  }

  const collect = async (engine: Engine, more: object = {}): Promise<{ deleted: number; spoilt: Set<string> }> => {
    const spoilt = new Set<string>()
    let deleted = 0
    for (let round = 0; round < 4; round++) {
      engine.clock.advance(15 * DAY)
      const report = await engine.prune({ moveBytesMax: 0, ...more })
      deleted += report.deleted.packs
      for (const pack of report.spoilt) spoilt.add(pack)
    }
    return { deleted, spoilt }
  }

  test('deletes a pack once what is left of it was stored again and opens', async () => {
    const { engine, kept } = await storedAgain(false)
    const { deleted, spoilt } = await collect(engine)
    expect([deleted > 0, spoilt.size]).toEqual([true, 0])
    for (const [id, tree] of kept) await restoresTo(engine, tree, id, id)
  })

  test('keeps the good copy where the one that was stored again does not open', async () => {
    const { engine, kept } = await storedAgain(true)
    expect((await collect(engine)).spoilt.size).toBe(1)
    for (const [id, tree] of kept) await restoresTo(engine, tree, id, id)
  })

  test('keeps both where no copy opens, deletes the rest, and ends', async () => {
    const { engine } = await storedAgain(true)
    const repository = await openRepository({ store: engine.bucket.store('look'), keys: engine.keys.write.structure })
    const sparse = (await repository.loadCollection()).condemned
    for (const { pack } of sparse.values())
      engine.bucket.tamper(packName(pack), (bytes) => {
        const copy = Buffer.from(bytes)
        for (let at = 0; at < 60_000; at += 500) copy[at]! ^= 1
        return copy
      })
    const { spoilt } = await collect(engine, { acceptDamage: true })
    expect(spoilt.size).toBeGreaterThan(0)
    for (const { pack } of sparse.values()) expect(engine.bucket.names('packs/')).toContain(packName(pack))
  })

  test('without keys to content lets nothing go of which it would have to open a copy', async () => {
    const { engine, kept } = await storedAgain(false)
    const { deleted } = await collect(engine, { readKeys: undefined })
    expect(deleted).toBe(0)
    for (const [id, tree] of kept) await restoresTo(engine, tree, id, id)
  })

  test('looks again once its deletion list stands: what was taken back before that stays', async () => {
    const engine = await makeEngine({ limits: { packBytes: 6000 } })
    for (let i = 0; i < 6; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`first ${i}`).bytes(3000))
    engine.pass()
    const tree = engine.source()
    const first = (await engine.backup()).snapshot!.ref.random
    for (let i = 0; i < 6; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`second ${i}`).bytes(3000))
    engine.pass()
    await engine.backup()
    await engine.forget(first)
    await engine.prune()
    engine.clock.advance(20 * DAY)
    const { keys, clock, random, bucket } = engine
    const person = await makeEngine({ seed: 'person', beside: engine })
    // The second list that this collection stores is the deletion list, or the only one.
    const store = pausedStore(
      bucket.store('collector'),
      { operation: 'put', prefix: 'lists/' },
      async () => void (await person.undelete(first)),
    )
    const repository = await openRepository({ store, keys: keys.write.structure })
    const report = await prune({ repository, keys: keys.write, readKeys: keys.read, clock, random, mayDelete: true, dryRun: false })
    expect(report.named.packs).toBeGreaterThan(0)
    expect(report.deleted.packs).toBe(0)
    await restoresTo(engine, tree, first, first)
  })
})
