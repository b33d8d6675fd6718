// Moving what is left in packs that are mostly dead: whole segments, sealed as they are, into packs that every reader opens; and what a collection tells,
// merges and asks for on its way (design section 7).
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { packName } from '@holdfast/shared/format/layout.ts'
import { createMark, type Mark } from '../../../agent/collection/mark.ts'
import { type ListedPack, moveSegments, type MoveOptions } from '../../../agent/collection/move-segments.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import { readFooter } from '../../../agent/repository/footer-reader.ts'
import type { PackRow } from '../../../agent/repository/index-file.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import type { View } from '../../../agent/repository/view.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const GONE = Buffer.alloc(32, 9)

type Made = { engine: Engine; repository: Repository; view: View; ids: string[] }

/** Snapshots of a source of which each changes the files that `changed` names. */
async function made(options: {
  files: number
  changed: readonly (readonly number[])[]
  packBytes?: number
  owners?: boolean
}): Promise<Made> {
  const engine = await makeEngine({ limits: { packBytes: options.packBytes ?? 200_000 } })
  for (let i = 0; i < options.files; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`file ${i}`).bytes(4000))
  // Owners share no segment.
  if (options.owners === true)
    for (let i = 0; i < options.files; i++) change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/${i}`), i, i))
  engine.pass()
  const ids = [(await engine.backup()).snapshot!.ref.random]
  for (const [round, files] of options.changed.entries()) {
    for (const i of files) writeFile(engine, `/src/${i}`, fixtureRandom(`file ${i} round ${round}`).bytes(4000))
    engine.clock.advance(DAY)
    ids.push((await engine.backup()).snapshot!.ref.random)
  }
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  const { view } = await loadWholeView(repository)
  return { engine, repository, view, ids }
}

async function markAll({ repository, view }: Made): Promise<Mark> {
  const mark = createMark({ repository, view, isGone: () => false, isCondemned: () => false })
  for (const snapshot of (await repository.listSnapshots()).snapshots) await mark.add(snapshot)
  return mark
}

const listed = (pack: PackRow): ListedPack => ({ ...pack, info: { name: packName(pack), bytes: pack.bytes, storedAt: 0 } })

async function move(given: Made, more: Partial<MoveOptions> = {}) {
  const { engine, repository, view } = given
  const before = new Set(engine.bucket.names())
  const moved = await moveSegments({
    repository,
    keys: engine.keys.write,
    view,
    mark: more.mark ?? (await markAll(given)),
    packs: [...view.packs()].map(listed),
    bytesMax: 2 ** 30,
    packBytes: 2 ** 24,
    clock: engine.clock,
    random: engine.random,
    ...more,
  })
  return { moved, stored: engine.bucket.names().filter((name) => !before.has(name)) }
}
const kinds = (names: readonly string[]): string[] => names.map((name) => name.slice(0, name.indexOf('/'))).toSorted()

describe('moving segments', () => {
  test('takes every segment that is needed into new packs, from which everything reads when the old ones are gone', async () => {
    const given = await made({ files: 6, changed: [[0]], packBytes: 6000 })
    const { engine, view } = given
    const old = [...view.packs()]
    const segments = view.files.reduce((sum, file) => sum + file.segmentCount, 0)
    const sealed = view.files.flatMap((file) => Array.from({ length: file.segmentCount }, (_, i) => file.segment(i).sealedBytes))
    const { moved, stored } = await move(given)
    expect(moved).toEqual({ segments, bytes: sealed.reduce((sum, bytes) => sum + bytes, 0), packs: 1 })
    expect(kinds(stored)).toEqual(['ends', 'index', 'packs', 'sessions'])
    const tree = engine.newest()
    for (const pack of old) engine.bucket.tamper(packName(pack), () => undefined)
    expect(engine.newest()).toEqual(tree)
    const reader = engine.reader()
    expect(reader.snapshots.map((snapshot) => reader.tree(snapshot).size)).toHaveLength(2)
  })

  test('makes packs of the size that is asked for, and no more than is asked for in one run', async () => {
    const given = await made({ files: 6, changed: [], packBytes: 6000 })
    const mark = await markAll(given)
    const all = await move(given, { mark })
    const single = await move(given, { mark, packBytes: 1 })
    expect(single.moved).toMatchObject({ segments: all.moved.segments, packs: all.moved.segments })
    const exact = await move(given, { mark, packBytes: all.moved.bytes })
    expect(exact.moved.packs).toBe(1)
    expect((await move(given, { mark, packBytes: all.moved.bytes - 1 })).moved.packs).toBe(2)
    expect((await move(given, { mark, bytesMax: 0 })).moved).toEqual({ segments: 0, bytes: 0, packs: 0 })
    const [first, ...rest] = given.view.packs()
    const one = await move(given, { mark, packs: [listed(first!)] })
    const limited = await move(given, { mark, bytesMax: one.moved.bytes })
    expect(limited.moved).toEqual(one.moved)
    expect((await move(given, { mark, bytesMax: one.moved.bytes + 1 })).moved.bytes).toBeGreaterThan(one.moved.bytes)
    expect(rest.length).toBeGreaterThan(0)
  })

  test('leaves what is needed by less than half, what nothing needs, and what stands elsewhere to others', async () => {
    const given = await made({ files: 6, changed: [], packBytes: 6000 })
    const { view, repository } = given
    const [file] = view.files
    const lives = async (isLive: (file: number, row: number) => boolean) =>
      (await move(given, { mark: { ...(await markAll(given)), isLive } })).moved.segments
    expect(await lives(() => false)).toBe(0)
    const all = view.files.reduce((sum, one) => sum + one.segmentCount, 0)
    expect(await lives(() => true)).toBe(all)
    // Row by row: a segment moves from the first row on with which half of its bytes are needed.
    const rows = Array.from({ length: file!.blobCount }, (_, row) => {
      const at = row * 44
      return { row, segment: file!.blobs.readUInt32LE(at + 32), bytes: file!.blobs.readUInt32LE(at + 40) }
    })
    for (const share of [1, 2, 3]) {
      const chosen = new Set<number>()
      let expected = 0
      for (let segment = 0; segment < file!.segmentCount; segment++) {
        const mine = rows.filter((one) => one.segment === segment).slice(0, share)
        for (const { row } of mine) chosen.add(row)
        if (mine.reduce((sum, { bytes }) => sum + bytes, 0) * 2 >= file!.segment(segment).plainBytes) expected += 1
      }
      expect(await lives((number, row) => number === 0 && chosen.has(row)), `${share}`).toBe(expected)
    }
    // A row that is needed in another pack does not count.
    const elsewhere = {
      ...view,
      rows: (...of: Parameters<View['rows']>) => view.rows(...of).map((one) => ({ ...one, pack: { ...one.pack, random: 'e'.repeat(32) } })),
    }
    expect((await move(given, { view: elsewhere })).moved.segments).toBe(0)
    expect(await repository.listSnapshots()).toMatchObject({ refused: [] })
  })

  test('stores nothing where nothing is to be moved, and touches no pack of another writer', async () => {
    const given = await made({ files: 2, changed: [] })
    const none = { moved: { segments: 0, bytes: 0, packs: 0 }, stored: [] }
    expect(await move(given, { packs: [] })).toEqual(none)
    const agent = { ...given.engine.keys.write, writer: agentWriter(GONE, Buffer.alloc(16, 4)) }
    expect(await move(given, { keys: agent })).toEqual(none)
  })

  test('passes over a pack that has gone meanwhile, and stops at one that is damaged or at a store that does not answer', async () => {
    const given = await made({ files: 6, changed: [], packBytes: 6000 })
    const { engine, repository, view } = given
    const mark = await markAll(given)
    const packs = [...view.packs()]
    const all = (await move(given, { mark })).moved.segments
    const { footer } = await readFooter(repository, packs[0]!, packs[0]!.bytes)
    const object = engine.bucket.content(packName(packs[0]!))!
    engine.bucket.tamper(packName(packs[0]!), () => undefined)
    expect((await move(given, { mark })).moved.segments).toBe(all - footer.segments.length)
    await engine.store().put(packName(packs[0]!), { kind: 'bytes', bytes: object })
    engine.bucket.tamper(packName(packs[0]!), (bytes) => {
      bytes[footer.segments[0]!.offset]! ^= 1
      return bytes
    })
    const outcome = async (): Promise<string> =>
      move(given, { mark }).then(
        () => 'done',
        (error: unknown) => (isHoldfastError(error) ? `${error.code}: ${error.message}` : String(error)),
      )
    expect(await outcome()).toBe(
      `damaged: pack ${packs[0]!.random} is damaged: a segment is not what was stored; run 'holdfast check --read-data'. --accept-damage leaves it where it is`,
    )
    expect((await move(given, { mark, acceptDamage: true })).moved.segments).toBe(all - footer.segments.length)
    engine.setStoreFaults((call) => (call.operation === 'getRange' ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : []))
    expect(await outcome()).toMatch(/^store-unreachable/)
  })
})

describe('a collection', () => {
  test('goes on where a pack that it would empty is damaged for good, once it is told to accept that', async () => {
    const given = await made({ files: 6, changed: [[0, 1, 2, 3]], owners: true })
    const { engine, repository, view, ids } = given
    await engine.forget(ids[0]!)
    for (const pack of view.packs()) {
      const { footer } = await readFooter(repository, pack, pack.bytes)
      for (const { offset } of footer.segments)
        engine.bucket.tamper(packName(pack), (bytes) => {
          bytes[offset + 20]! ^= 1
          return bytes
        })
      break
    }
    await expect(engine.prune()).rejects.toMatchObject({ code: 'damaged', message: expect.stringContaining('--accept-damage') })
    const { condemned, moved } = await engine.prune({ acceptDamage: true })
    expect(condemned.forReuse).toBeGreaterThan(0)
    expect(moved.segments).toBe(0)
    // What is needed of it stays, however long that takes.
    engine.clock.advance(60 * DAY)
    expect((await engine.prune({ acceptDamage: true })).deleted.packs).toBe(0)
  })

  test('tells before it does anything exactly what it would do, and afterwards what it did', async () => {
    const given = await made({ files: 6, changed: [[0, 1], [2]], packBytes: 6000 })
    const { engine, ids } = given
    await engine.forget(ids[0]!)
    const told: string[] = []
    const would = await engine.prune({ dryRun: true, onProgress: ({ phase, done, total }) => told.push(`${phase} ${done}/${total}`) })
    expect(told).toEqual(['looking 0/0', 'marking 1/2', 'marking 2/2'])
    const sizes = new Map(engine.bucket.names('packs/').map((name) => [name.slice(-32), engine.bucket.content(name)!.length]))
    expect(would).toMatchObject({
      snapshots: 2,
      forgotten: 1,
      revived: 0,
      moved: { segments: 0 },
      named: { objects: 0, packs: 0 },
      deleted: { objects: 0 },
      unreadable: [],
    })
    expect(would.storedBytes).toBe([...sizes.values()].reduce((sum, bytes) => sum + bytes, 0))
    const uses = [...(await markAll(given)).uses()]
    const live = uses.reduce((sum, [random, { bytes, liveBytes }]) => sum + Math.round((sizes.get(random)! * liveBytes) / bytes), 0)
    expect(would.liveBytes).toBe(live)
    expect(would.liveBytes).toBeLessThan(would.storedBytes)
    const dead = uses.filter(([, { liveBytes }]) => liveBytes === 0)
    const sparse = uses.filter(([, { liveBytes, bytes }]) => liveBytes > 0 && liveBytes * 2 < bytes)
    expect(dead.length).toBeGreaterThan(0)
    expect(would.condemned).toEqual({
      packs: dead.length + sparse.length,
      bytes: [...dead, ...sparse].reduce((sum, [random]) => sum + sizes.get(random)!, 0),
      forReuse: sparse.length,
    })
    expect((await engine.prune()).condemned).toEqual(would.condemned)
    engine.clock.advance(15 * DAY)
    const deletions: string[] = []
    const due = await engine.prune({ dryRun: true })
    expect(due.named.packs).toBeGreaterThan(0)
    expect(due.named.objects).toBeGreaterThan(due.named.packs)
    const did = await engine.prune({ onProgress: ({ phase, done, total }) => phase === 'deleting' && deletions.push(`${done}/${total}`) })
    expect(did.named).toEqual(due.named)
    expect(did.deleted).toMatchObject({ objects: due.named.objects, packs: due.named.packs, locked: [] })
    expect(deletions).toEqual(Array.from({ length: due.named.objects }, (_, i) => `${i + 1}/${due.named.objects}`))
  })

  test('takes back what is needed after all, under the list that condemned it', async () => {
    const { engine, ids, repository } = await made({ files: 4, changed: [[0, 1, 2, 3]], packBytes: 6000 })
    await engine.forget(ids[0]!)
    const { condemned } = await engine.prune()
    expect(condemned.packs).toBeGreaterThan(1)
    await engine.undelete()
    await engine.forget(ids[0]!)
    const again = await engine.prune()
    expect(again.condemned.packs).toBe(condemned.packs)
    expect((await repository.loadCollection()).condemned.size).toBe(condemned.packs)
    // A snapshot from a machine that has not seen the list: the next collection takes back what it needs.
    const state = await repository.loadCollection()
    const [entry] = [...state.forgotten.values()].flat()
    const { snapshots, forgotten } = await repository.listSnapshots()
    expect([snapshots.length, forgotten.length]).toEqual([1, 1])
    expect(entry!.snapshot.random).toBe(ids[0])
    const record = engine.bucket.names('lists/forgets/').at(-1)!
    for (const name of engine.bucket.names('lists/forgets/')) engine.bucket.tamper(name, () => undefined)
    expect(record).toMatch(/^lists\/forgets\//)
    const lists = engine.bucket.names('lists/').length
    const report = await engine.prune()
    expect(report).toMatchObject({ snapshots: 2, revived: condemned.packs, condemned: { packs: 0 } })
    expect(engine.bucket.names('lists/')).toHaveLength(lists + 1)
    expect((await repository.loadCollection()).condemned.size).toBe(0)
    expect((await engine.prune()).revived).toBe(0)
  })

  test('makes one of many forget records, which says all that they said', async () => {
    const { engine, ids, repository } = await made({ files: 1, changed: Array.from({ length: 20 }, () => [0]) })
    for (const id of ids.slice(0, 16)) await engine.forget(id)
    const records = () => engine.bucket.names('lists/forgets/').length
    await engine.prune()
    expect(records()).toBe(16)
    await engine.forget(ids[16]!)
    const before = [...(await repository.loadCollection()).forgotten.keys()].toSorted()
    expect(before).toHaveLength(17)
    await engine.prune()
    expect(records()).toBe(18)
    const state = await repository.loadCollection()
    const merged = state.forgets.find(({ record }) => record.replaces.length > 0)!
    expect(merged.record.replaces).toHaveLength(17)
    expect(merged.record.entries).toHaveLength(17)
    expect(merged.record).toMatchObject({ undone: [], madeAt: engine.clock.now() })
    expect([...state.forgotten.keys()].toSorted()).toEqual(before)
    await engine.prune()
    expect(records()).toBe(18)
    engine.clock.advance(31 * DAY)
    await engine.prune()
    expect(records()).toBe(1)
    expect([...(await repository.loadCollection()).forgotten.keys()].toSorted()).toEqual(before)
  })

  test('where another deletes, asks whoever does what it would hold a list for, and names the rest', async () => {
    const { engine, ids } = await made({ files: 4, changed: [[0, 1, 2, 3]], packBytes: 6000 })
    await engine.forget(ids[0]!)
    const asked: (readonly DeletableName[])[] = []
    const mayName = async (names: readonly DeletableName[]) => (asked.push(names), names.filter(({ kind }) => kind === 'pack'))
    await engine.prune({ mayDelete: false, mayName })
    expect(asked).toEqual([])
    engine.clock.advance(15 * DAY)
    const before = engine.bucket.names('packs/')
    const { named, deleted } = await engine.prune({ mayDelete: false, mayName })
    expect(asked).toHaveLength(1)
    expect(asked[0]!.some(({ kind }) => kind === 'snapshot')).toBe(true)
    expect(named.packs).toBeGreaterThan(0)
    expect(named.objects).toBe(named.packs)
    expect(deleted).toEqual({ objects: 0, packs: 0, bytes: 0, locked: [] })
    expect(engine.bucket.names('packs/')).toEqual(before)
  })

  test('writes its index file anew when what it names is deleted, and names lists that do not open', async () => {
    const { engine, ids, repository } = await made({ files: 6, changed: [[0, 1, 2, 3, 4, 5]], packBytes: 6000 })
    await engine.forget(ids[0]!)
    await engine.prune()
    engine.clock.advance(15 * DAY)
    expect((await engine.prune()).deleted.packs).toBeGreaterThan(0)
    const old = engine.bucket.names('index/')
    await engine.prune()
    const fresh = engine.bucket.names('index/').filter((name) => !old.includes(name))
    expect(fresh).toHaveLength(1)
    const { view } = await repository.loadView()
    const there = new Set(engine.bucket.names('packs/').map((name) => name.slice(-32)))
    for (const { random } of view.packs()) expect(there).toContain(random)
    expect(engine.newest()).toEqual(engine.source())
    const [list] = engine.bucket.names('lists/').filter((name) => !name.includes('forgets'))
    engine.bucket.tamper(list!, (bytes) => bytes.subarray(0, 50))
    expect((await engine.prune({ dryRun: true })).unreadable).toMatchObject([{ name: list }])
  })
})
