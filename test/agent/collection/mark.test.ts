// Marking: which places of which packs a snapshot needs, which of several copies, and what is missing by name (design section 7). And a run beside
// collections: what it may rely on, and when a new list hits it.
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { type ObjectRef, objectName, packName, refKey } from '@holdfast/shared/format/layout.ts'
import { createListWatch, endWithoutSnapshot } from '../../../agent/backup/list-watch.ts'
import type { BackupOptions } from '../../../agent/backup/backup-types.ts'
import { newSession } from '../../../agent/backup/session.ts'
import { createMark, packsNeeded } from '../../../agent/collection/mark.ts'
import { collectionState, type CollectionState, type LoadedList } from '../../../agent/repository/collection-state.ts'
import { decodeForgetRecord, decodeSessionEnd } from '../../../agent/repository/forget-record.ts'
import { INDEX_BLOB_BYTES, type IndexFile } from '../../../agent/repository/index-file.ts'
import { decodeTrailer, TRAILER_BYTES } from '../../../agent/repository/pack.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'
import { createView, type View } from '../../../agent/repository/view.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'

const DAY = 86_400_000
const never = (): boolean => false

type Stored = { engine: Engine; repository: Repository; view: View; file: IndexFile; snapshot: OpenedSnapshot; packs: string[] }

/** One snapshot of one writer in several packs, told of by one index file. */
async function stored(): Promise<Stored> {
  const engine = await makeEngine({ limits: { packBytes: 6000 } })
  for (let i = 0; i < 6; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`content ${i}`).bytes(4000))
  await engine.backup()
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  const { view } = await loadWholeView(repository)
  const { snapshots } = await repository.listSnapshots()
  const packs = [...view.packs()].map(({ random }) => random)
  expect(view.files).toHaveLength(1)
  expect(packs.length).toBeGreaterThan(1)
  return { engine, repository, view, file: view.files[0]!, snapshot: snapshots[0]!, packs }
}

const marked = (uses: ReturnType<ReturnType<typeof createMark>['uses']>): string[] =>
  [...uses].filter(([, use]) => use.liveBytes > 0).map(([random]) => random)
/** The same file under another name, of another writer, or with other packs. */
const copyOf = (
  file: IndexFile,
  more: { name?: string; writerKey?: Buffer; packs?: (random: string) => string; replaces?: ObjectRef[] },
): IndexFile => ({
  ...file,
  ref: { ...file.ref, random: more.name ?? 'e'.repeat(32) },
  replaces: more.replaces ?? [],
  writerKey: more.writerKey ?? file.writerKey,
  packs: file.packs.map((pack) => ({ ...pack, random: more.packs?.(pack.random) ?? pack.random })),
})
const FOREIGN = Buffer.alloc(32, 9)
const elsewhere = (random: string): string => `ee${random.slice(2)}`

describe('a mark', () => {
  test('finds all of a snapshot needed, byte by byte, and nothing missing', async () => {
    const { repository, view, file, snapshot, packs } = await stored()
    const mark = createMark({ repository, view, isGone: never, isCondemned: never })
    for (const { liveBytes, bytes } of mark.uses().values()) expect([liveBytes, bytes > 0]).toEqual([0, true])
    await mark.add(snapshot)
    const uses = mark.uses()
    expect([...uses.keys()].toSorted()).toEqual(packs.toSorted())
    for (const { liveBytes, bytes } of uses.values()) expect(liveBytes).toBe(bytes)
    const plain = Array.from({ length: file.segmentCount }, (_, i) => file.segment(i).plainBytes).reduce((sum, bytes) => sum + bytes, 0)
    expect([...uses.values()].reduce((sum, { bytes }) => sum + bytes, 0)).toBe(plain)
    for (let row = 0; row < file.blobCount; row++) expect(mark.isLive(0, row)).toBe(true)
    expect(mark.missing()).toEqual({ first: [], count: 0, packs: new Map() })
  })

  test('names what is in no pack, the packs that should have it, and that none is known', async () => {
    const { repository, view, snapshot, packs } = await stored()
    const id = snapshot.structure.ref.random
    const gone = (await packsOfChunks(view))[0]!
    const mark = createMark({ repository, view, isGone: (pack) => pack === gone, isCondemned: never })
    await mark.add(snapshot)
    const { first, count, packs: lacking } = mark.missing()
    expect(count).toBeGreaterThan(0)
    expect(first).toHaveLength(count)
    for (const one of first) expect(one).toMatchObject({ snapshot: id, part: 'chunk' })
    expect(lacking).toEqual(new Map([[id, new Set([gone])]]))
    expect(marked(mark.uses()).toSorted()).toEqual(packs.filter((pack) => pack !== gone).toSorted())

    const nothing = createMark({ repository, view, isGone: never, isCondemned: never })
    await nothing.add({ ...snapshot, structure: { ...snapshot.structure, root: 'f'.repeat(64) } })
    expect(nothing.missing()).toEqual({
      first: ['private', 'references'].map((part) => ({ id: 'f'.repeat(64), part, snapshot: id })),
      count: 2,
      packs: new Map([[id, new Set(['unknown'])]]),
    })
    expect(marked(nothing.uses())).toEqual([])
  })

  test('does not walk on where one part of a node is not there, or where it does not open', async () => {
    const { engine, repository, view, snapshot } = await stored()
    const { root } = snapshot.structure
    const [place] = view.locate(root, 'references')
    const isRoot = { packs: view.rows(root, 'references').map(({ pack }) => pack.random) }
    const lacking = createMark({
      repository,
      view: { ...view, rows: (id, part) => (id === root && part === 'private' ? [] : view.rows(id, part)) },
      isGone: never,
      isCondemned: never,
    })
    await lacking.add(snapshot)
    expect(lacking.missing()).toMatchObject({ count: 1, first: [{ id: root, part: 'private' }] })
    expect(marked(lacking.uses())).toEqual(isRoot.packs)
    engine.bucket.tamper(packName(place!.pack), (bytes) => {
      bytes[place!.segment.offset]! ^= 1
      return bytes
    })
    const damaged = createMark({ repository, view, isGone: never, isCondemned: never })
    await damaged.add(snapshot)
    expect(damaged.missing()).toMatchObject({ count: 1, first: [{ id: root, part: 'references' }] })
  })

  test('throws what the store says, and ends where it is told to', async () => {
    const { engine, repository, view, snapshot } = await stored()
    const mark = (): ReturnType<typeof createMark> => createMark({ repository, view, isGone: never, isCondemned: never })
    await expect(mark().add(snapshot, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
    engine.setStoreFaults((call) => (call.operation === 'getRange' ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : []))
    const outcome = await mark()
      .add(snapshot)
      .then(
        () => 'done',
        (error: unknown) => (error instanceof HoldfastError ? error.code : String(error)),
      )
    expect(outcome).not.toBe('done')
    expect(['damaged', 'not-found']).not.toContain(outcome)
  })

  test('walks the nodes of one writer once, and those of another again', async () => {
    const { engine, repository, view, snapshot } = await stored()
    const mark = createMark({ repository, view, isGone: never, isCondemned: never })
    const reads = async (of: OpenedSnapshot): Promise<number> => {
      const before = engine.bucket.trace.length
      await mark.add(of)
      return engine.bucket.trace.length - before
    }
    expect(await reads(snapshot)).toBeGreaterThan(0)
    const lacking = { ...snapshot, structure: { ...snapshot.structure, root: 'f'.repeat(64) } }
    await mark.add(lacking)
    await mark.add(lacking)
    expect(mark.missing().count).toBe(2)
    await mark.add({ ...lacking, writerKey: FOREIGN })
    expect(mark.missing().count).toBe(4)
  })

  test.each<
    [
      string,
      (given: Stored) => {
        files: IndexFile[]
        chosen: number
        isCondemned?: (pack: string) => boolean
        isGone?: (pack: string) => boolean
        writerKey?: Buffer
      },
    ]
  >([
    ['the first', ({ file }) => ({ files: [file, copyOf(file, {})], chosen: 0 })],
    ['that of its own writer', ({ file }) => ({ files: [copyOf(file, { writerKey: FOREIGN }), file], chosen: 1 })],
    [
      'a foreign one that is not condemned',
      ({ file }) => ({
        files: [file, copyOf(file, { packs: elsewhere, writerKey: FOREIGN })],
        chosen: 1,
        isCondemned: (pack) => !pack.startsWith('ee'),
      }),
    ],
    [
      'its own among condemned ones',
      ({ file }) => ({ files: [copyOf(file, { packs: elsewhere, writerKey: FOREIGN }), file], chosen: 1, isCondemned: () => true }),
    ],
    [
      'one that is there',
      ({ file }) => ({
        files: [file, copyOf(file, { packs: elsewhere, writerKey: FOREIGN })],
        chosen: 1,
        isGone: (pack) => !pack.startsWith('ee'),
      }),
    ],
    [
      'a condemned one rather than a last resort',
      ({ file }) => ({
        files: [copyOf(file, { packs: elsewhere, replaces: [file.ref], writerKey: FOREIGN }), file],
        chosen: 0,
        isCondemned: (pack) => pack.startsWith('ee'),
      }),
    ],
    [
      'a last resort rather than none',
      ({ file }) => ({
        files: [copyOf(file, { packs: elsewhere, replaces: [file.ref] }), file],
        chosen: 1,
        isGone: (pack) => pack.startsWith('ee'),
      }),
    ],
  ])('of several places of a blob needs %s', async (_, make) => {
    const given = await stored()
    const { files, chosen, isCondemned = never, isGone = never } = make(given)
    const view = createView(files)
    expect([...view.files, ...view.lastResort]).toEqual(files)
    const mark = createMark({ repository: given.repository, view, isGone, isCondemned })
    await mark.add(given.snapshot)
    expect(mark.missing().count).toBe(0)
    for (let row = 0; row < given.file.blobCount; row++)
      expect([0, 1].map((number) => mark.isLive(number, row))).toEqual([chosen === 0, chosen === 1])
    // A pack that two files name is used as much as both together say.
    const uses = [...mark.uses().values()].filter(({ liveBytes }) => liveBytes > 0)
    expect(uses.map(({ pack }) => pack.random).toSorted()).toEqual(files[chosen]!.packs.map(({ random }) => random).toSorted())
    for (const { liveBytes, bytes } of uses) expect(liveBytes).toBe(bytes)
  })

  test('never takes more of a pack to be needed than is in it, also where a repair told of less of it than the file that it replaced', async () => {
    const { repository, file, snapshot } = await stored()
    const repaired = copyOf(file, { replaces: [file.ref] })
    const view = createView([{ ...repaired, blobs: file.blobs.subarray(0, INDEX_BLOB_BYTES), blobCount: 1 }, file])
    const mark = createMark({ repository, view, isGone: never, isCondemned: never })
    await mark.add(snapshot)
    for (const { liveBytes, bytes } of mark.uses().values()) expect([liveBytes, liveBytes > 0]).toEqual([bytes, true])
  })

  test('of places that are as good as each other needs the one that is needed already', async () => {
    const { repository, file, snapshot } = await stored()
    const view = createView([
      copyOf(file, { packs: elsewhere, writerKey: FOREIGN }),
      copyOf(file, { name: 'd'.repeat(32), writerKey: FOREIGN }),
    ])
    let condemned = (pack: string): boolean => pack.startsWith('ee')
    const mark = createMark({ repository, view, isGone: never, isCondemned: (pack) => condemned(pack) })
    await mark.add(snapshot)
    condemned = never
    await mark.add({ ...snapshot, writerKey: Buffer.alloc(32, 8) })
    expect(marked(mark.uses()).filter((random) => random.startsWith('ee'))).toEqual([])
  })

  test('gives the packs that one snapshot needs, sorted, and refuses one that lacks something', async () => {
    const { repository, view, file, snapshot, packs } = await stored()
    const both = createView([file, copyOf(file, { packs: elsewhere, writerKey: FOREIGN })])
    const options = { repository, view: both, snapshot, isGone: never, isCondemned: never }
    expect(await packsNeeded(options)).toEqual(packs.toSorted())
    const gone = (await packsOfChunks(view))[0]!
    await expect(packsNeeded({ ...options, view, isGone: (pack) => pack === gone })).rejects.toThrow(
      expect.objectContaining({
        code: 'damaged',
        message: expect.stringMatching(
          new RegExp(
            `^snapshot ${snapshot.structure.ref.random.slice(0, 16)} needs (?:1 blob that is|\\d+ blobs that are) in no pack: run 'holdfast check'$`,
          ),
        ),
      }),
    )
  })
})

/** Packs that hold chunks and no node, so that a tree can be walked without them. */
async function packsOfChunks(view: View): Promise<string[]> {
  const [file] = view.files
  const kinds = new Map<string, Set<number>>()
  for (let i = 0; i < file!.segmentCount; i++) {
    const { pack, kind } = file!.segment(i)
    const { random } = file!.packs[pack]!
    kinds.set(random, (kinds.get(random) ?? new Set()).add(kind))
  }
  return [...kinds].filter(([, all]) => all.size === 1 && all.has(1)).map(([random]) => random)
}

const list = (number: number, packs: readonly string[], storedAt = 0): LoadedList => ({
  storedAt,
  list: {
    kind: 'condemned',
    kept: [],
    packs: packs.map((random) => ({ session: 'a'.repeat(32), random, bytes: 1, why: 'dead' })),
    ref: { session: 'c'.repeat(32), random: `${number}`.repeat(32) },
    writerId: Buffer.alloc(16),
    madeAt: 0,
  },
})
const revived = (number: number, from: LoadedList, packs: readonly string[]): LoadedList => ({
  ...from,
  list: {
    kind: 'revived',
    from: [{ list: from.list.ref, packs: packs.map((random) => ({ session: 'a'.repeat(32), random })) }],
    ref: { session: 'c'.repeat(32), random: `${number}`.repeat(32) },
    writerId: Buffer.alloc(16),
    madeAt: 0,
  },
})
const stateOf = (...lists: LoadedList[]): CollectionState => collectionState({ lists, forgets: [], refused: [] })

describe('a run beside collections', () => {
  function watch(
    { engine, repository, view }: Stored,
    begun: CollectionState,
    more: { gone?: string[]; spoilt?: string[]; view?: View } = {},
  ) {
    const clock = simulatedClock({})
    let state = begun
    let storeTime: number | undefined = 0
    const options = {
      repository: {
        ...repository,
        loadCollection: async (_: AbortSignal, onTime?: (at: number) => void) => {
          if (storeTime !== undefined) onTime?.(storeTime)
          return state
        },
      },
      keys: engine.keys.write,
      clock,
      signal: new AbortController().signal,
    }
    const lists = createListWatch({
      options: options as unknown as BackupOptions,
      look: { collection: begun, storeTime: { from: 0, to: 0 }, ownTime: { wall: clock.now(), monotonic: clock.monotonicMs() } },
      gone: new Set(more.gone),
      spoilt: new Set(more.spoilt),
      view: more.view ?? view,
    })
    const storeAt = (at: number | undefined): void => void (storeTime = at)
    return { lists, clock, storeAt, now: (...all: LoadedList[]) => (state = stateOf(...all)) }
  }

  test('relies on nothing that is gone, spoilt or condemned, and counts what is lost', async () => {
    const given = await stored()
    const { lists } = watch(given, stateOf(list(1, ['p', 'q'])), { gone: ['q', 'r', 's'], spoilt: ['t'] })
    expect(lists.absent).toEqual(new Set(['p', 'q', 'r', 's', 't']))
    expect(lists.unusable).toEqual(new Set(['p', 'q', 't']))
    expect(lists.lost).toBe(2)
    expect(lists.seen().map(refKey)).toEqual([`${'c'.repeat(32)}-${'1'.repeat(32)}`])
  })

  test('takes over no node of the snapshot before that reaches what was condemned since', async () => {
    const given = await stored()
    const { snapshot, packs } = given
    const { root } = snapshot.structure
    const begun = stateOf(list(1, [packs[0]!]))
    const previous = (...seen: ObjectRef[]): OpenedSnapshot => ({ ...snapshot, structure: { ...snapshot.structure, lists: seen } })
    const tainted = async (state: CollectionState, of?: OpenedSnapshot) => watch(given, state).lists.tainted(of)
    expect(await tainted(begun, previous())).toContain(root)
    expect(await tainted(begun, undefined)).toEqual(new Set())
    expect(await tainted(begun, previous(begun.condemnedLists[0]!.list.ref))).toEqual(new Set())
    expect(await tainted(stateOf(), previous())).toEqual(new Set())
    expect(await tainted(stateOf(list(1, ['f'.repeat(32)])), previous())).toEqual(new Set())
    const two = stateOf(list(1, ['f'.repeat(32)]), list(2, [packs[0]!]))
    expect(await tainted(two, previous(two.condemnedLists[0]!.list.ref))).toContain(root)
  })

  test('is hit by a new list that condemns what it relies on, and by no other', async () => {
    const given = await stored()
    const { root } = given.snapshot.structure
    const [pack] = given.packs as [string]
    const { lists, now } = watch(given, stateOf(list(1, ['f'.repeat(32)])))
    expect(await lists.isHit(root, [])).toBe(false)
    now(list(1, ['f'.repeat(32)]), list(2, ['d'.repeat(32)]))
    expect(await lists.isHit(root, [])).toBe(false)
    expect(lists.seen()).toHaveLength(2)
    now(list(1, ['f'.repeat(32)]), list(2, ['d'.repeat(32)]), list(3, [pack]))
    expect(await lists.isHit(root, [])).toBe(true)
    // It has seen the list now.
    expect(await lists.isHit(root, [])).toBe(false)
    now()
    expect(await lists.isHit(root, [])).toBe(false)
    expect(lists.seen()).toEqual([])
  })

  test('may rely on its own new packs, which no index file names yet', async () => {
    const given = await stored()
    const { engine, view, snapshot } = given
    const structure = engine.keys.write.structure
    const durable = [...view.packs()].map((pack) => {
      const object = engine.bucket.content(packName(pack))!
      const { footerOffset, footerBytes } = decodeTrailer(object.subarray(-TRAILER_BYTES), pack, object.length, structure)
      return {
        ref: pack,
        bytes: object.length,
        blobs: 1,
        chunks: 1,
        footerObject: object.subarray(footerOffset, footerOffset + footerBytes),
      }
    })
    const ask = async (packs: typeof durable, condemned = 'f'.repeat(32)) => {
      const { lists, now } = watch(given, stateOf(), { view: createView([]) })
      now(list(1, [condemned]))
      return lists.isHit(snapshot.structure.root, packs)
    }
    expect(await ask(durable)).toBe(false)
    expect(await ask(durable.slice(1))).toBe(true)
    expect(await ask(durable, durable[0]!.ref.random)).toBe(true)
    expect(await ask([])).toBe(true)
  })

  test('looks in between once a day has passed by either of its clocks, and what a list condemned then counts also when the list is gone', async () => {
    const given = await stored()
    const { root } = given.snapshot.structure
    const [pack] = given.packs as [string]
    for (const move of ['advance', 'stepWallClock'] as const) {
      const { lists, clock } = watch(given, stateOf())
      expect(lists.isDue()).toBe(false)
      clock[move](DAY - 1)
      expect(lists.isDue()).toBe(false)
      clock[move](1)
      expect(lists.isDue()).toBe(true)
      await lists.look()
      expect(lists.isDue()).toBe(false)
    }
    const { lists, now } = watch(given, stateOf())
    now(list(1, [pack]))
    await lists.look()
    now()
    await lists.look()
    expect(await lists.isHit(root, [])).toBe(true)
    // One that is gone condemned nothing that counts where it was taken back before.
    const back = watch(given, stateOf())
    const condemned = list(1, [pack])
    back.now(condemned)
    await back.lists.look()
    back.now(condemned, revived(2, condemned, [pack]))
    await back.lists.look()
    back.now()
    expect(await back.lists.isHit(root, [])).toBe(false)
  })

  test('is hit where it did not look for nearly as long as lists stay, by whichever clock, however long it took', async () => {
    const given = await stored()
    const { root } = given.snapshot.structure
    for (const move of ['advance', 'stepWallClock'] as const) {
      const { lists, clock } = watch(given, stateOf())
      for (let looks = 0; looks < 4; looks++) {
        clock[move](20 * DAY)
        await lists.look()
      }
      expect(await lists.isHit(root, [])).toBe(false)
      clock[move](20 * DAY + 1)
      // Seen in between, it is not forgotten by a look that follows at once.
      await lists.look()
      expect(await lists.isHit(root, [])).toBe(true)
      expect(lists.isLate()).toBe(true)
    }
    const { lists, clock } = watch(given, stateOf())
    clock.advance(21 * DAY)
    clock.stepWallClock(-21 * DAY)
    expect(await lists.isHit(root, [])).toBe(true)
    expect(lists.isLate()).toBe(true)
    // Its own clocks stood still.
    const asleep = watch(given, stateOf())
    for (const [days, isLate] of [
      [undefined, false],
      [20, false],
      [undefined, false],
      [-400, false],
      [-380, false],
      [-359.99, true],
    ] as const) {
      asleep.storeAt(days && days * DAY)
      expect(await asleep.lists.isHit(root, [])).toBe(isLate)
      expect(asleep.lists.isLate()).toBe(isLate)
    }
  })

  test('that is made again ends its session, and its snapshot counts no longer', async () => {
    const { engine, snapshot } = await stored()
    const { write } = engine.keys
    const session = newSession(write, engine.random, 0)
    const attempt = {
      store: engine.store(),
      keys: write,
      session,
      clock: engine.clock,
      random: engine.random,
      signal: new AbortController().signal,
    }
    const before = new Set(engine.bucket.names())
    const stored_ = () => engine.bucket.names().filter((name) => !before.has(name))
    await endWithoutSnapshot(attempt)
    expect(stored_()).toEqual([`ends/${session.id}`])
    const end = decodeSessionEnd(engine.bucket.content(`ends/${session.id}`)!, session.id, write.structure)
    expect(end).toEqual({ writerId: write.writer.id, endedAt: engine.clock.now(), writerKey: write.writer.publicKey })
    await endWithoutSnapshot({ ...attempt, snapshot: { structure: snapshot.structure, hash: snapshot.hash } })
    const [name] = stored_().filter((one) => one.includes('forgets/'))
    const [of, random] = name!.split('/').at(-1)!.split('-') as [string, string]
    expect(of).toBe(session.id)
    expect(objectName('forget', { session: of, random })).toBe(name)
    const { record } = decodeForgetRecord(engine.bucket.content(name!)!, { session: of, random }, write.structure)
    expect(record).toMatchObject({
      madeAt: engine.clock.now(),
      replaces: [],
      undone: [],
      entries: [
        {
          snapshot: { session: snapshot.structure.ref.session, random: snapshot.structure.ref.random },
          series: snapshot.structure.series,
          sequence: snapshot.structure.sequence,
          hash: snapshot.hash,
          why: 'replaced',
        },
      ],
    })
  })
})
