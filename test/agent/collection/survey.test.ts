// What a collection looks at before it does anything: when it looks again, what stops it and in which words, and whose word it takes for what is forgotten.
import { describe, expect, test } from 'vitest'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Mark } from '../../../agent/collection/mark.ts'
import {
  forgottenByAgents,
  hasChanged,
  markForgotten,
  markSurvey,
  onSurvey,
  requireSound,
  type Survey,
  surveyRepository,
  unfinishedOf,
} from '../../../agent/collection/survey.ts'
import { listForgotten, undelete } from '../../../agent/collection/undelete.ts'
import { agentWriter, ROOT_WRITER_ID } from '../../../agent/keys/domain.ts'
import { collectionState, forgottenEntries, type LoadedForget, type LoadedList } from '../../../agent/repository/collection-state.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const now = (): number => 0

async function snapshots(count: number): Promise<{ engine: Engine; ids: string[]; repository: Repository }> {
  const engine = await makeEngine({ limits: { packBytes: 6000 } })
  const ids: string[] = []
  for (let i = 0; i < count; i++) {
    writeFile(engine, '/src/kept', fixtureRandom('kept').bytes(4000))
    writeFile(engine, '/src/changing', fixtureRandom(`changing ${i}`).bytes(9000))
    engine.clock.advance(DAY)
    ids.push((await engine.backup()).snapshot!.ref.random)
  }
  return { engine, ids, repository: await openRepository({ store: engine.store(), keys: engine.keys.write.structure }) }
}
const randoms = (all: readonly OpenedSnapshot[]): string[] => all.map(({ structure }) => structure.ref.random)
const snapshotName = (engine: Engine, id: string): string => engine.bucket.names('snapshots/').find((name) => name.endsWith(id))!
const failure = async (work: Promise<unknown>): Promise<{ code: string; message: string }> =>
  work.then(
    () => ({ code: 'none', message: '' }),
    (error: unknown) => (isHoldfastError(error) ? { code: error.code, message: error.message } : { code: String(error), message: '' }),
  )

describe('a survey', () => {
  test('sees what counts, what is forgotten, what does not open, and every object, by the clock of the store', async () => {
    const { engine, ids, repository } = await snapshots(3)
    await engine.forget(ids[0]!)
    engine.bucket.tamper(snapshotName(engine, ids[1]!), (bytes) => bytes.subarray(0, 99))
    const survey = await surveyRepository(repository, now)
    expect(survey.now).toBe(engine.clock.now())
    expect([randoms(survey.snapshots), randoms(survey.forgotten)]).toEqual([[ids[2]], [ids[0]]])
    expect(survey.refused.map(({ name }) => name)).toEqual([snapshotName(engine, ids[1]!)])
    expect([...survey.listed.keys()].toSorted()).toEqual(engine.bucket.names('snapshots/').map((name) => name.slice(10)))
    expect(survey.packs.size).toBe(engine.bucket.names('packs/').length)
    expect(survey.indexFiles).toHaveLength(engine.bucket.names('index/').length)
    expect(survey.sessions.names).toHaveLength(3)
    // Whoever made a snapshot has ended, also where it was forgotten or does not open.
    for (const { session } of survey.sessions.names) expect(survey.sessions.isLive(session)).toBe(false)
    expect(survey.sessions.all.get(survey.sessions.names[0]!.session)).toMatchObject({ ended: true })
  })

  test('goes by its own clock where the store tells none', async () => {
    const { engine } = await snapshots(1)
    const { diagnostics: _, ...store } = engine.store()
    const repository = await openRepository({ store, keys: engine.keys.write.structure })
    expect((await surveyRepository(repository, () => 77)).now).toBe(77)
    const silent = await openRepository({
      store: { ...store, diagnostics: { now: async () => undefined } as never },
      keys: engine.keys.write.structure,
    })
    expect((await surveyRepository(silent, () => 78)).now).toBe(78)
  })

  test('takes a snapshot that came while it looked for the next look, and stops where one went', async () => {
    const { engine, ids, repository } = await snapshots(2)
    let state: (() => Promise<unknown>) | undefined
    const slow = {
      ...repository,
      listSnapshots: async (...given: Parameters<Repository['listSnapshots']>) => (await state?.(), repository.listSnapshots(...given)),
    }
    state = async () => {
      state = undefined
      writeFile(engine, '/src/new', 'new')
      await engine.backup()
    }
    expect(randoms((await surveyRepository(slow, now)).snapshots)).toEqual(ids)
    state = async () => engine.bucket.tamper(snapshotName(engine, ids[1]!), () => undefined)
    expect(await failure(surveyRepository(slow, now))).toEqual({
      code: 'store-unreachable',
      message: `two listings of snapshots differ (${ids[1]!.slice(0, 16)} is in one of them): nothing was condemned or deleted; run this again`,
    })
  })

  test('that finds damage is made again where somebody collected meanwhile, three times at most, and only then', async () => {
    const { engine, ids, repository } = await snapshots(3)
    const damage = new HoldfastError('damaged', 'something is not there')
    const run = async (error: unknown, meanwhile: (attempt: number) => Promise<unknown>): Promise<number> => {
      let attempts = 0
      const work = async (): Promise<never> => {
        attempts += 1
        await meanwhile(attempts)
        throw error
      }
      await expect(onSurvey(repository, now, work)).rejects.toBe(error)
      return attempts
    }
    expect(await onSurvey(repository, now, async (survey) => survey.snapshots.length)).toBe(3)
    expect(await run(damage, async () => undefined)).toBe(1)
    expect(await run(damage, async (attempt) => engine.forget(ids[attempt - 1]!))).toBe(3)
    expect(await run(new HoldfastError('store-unreachable', 'down'), async () => engine.undelete())).toBe(1)
    expect(await run(damage, async (attempt) => (attempt === 1 ? engine.forget(ids[0]!) : undefined))).toBe(2)
    expect(await run(damage, async (attempt) => (attempt === 1 ? engine.prune() : undefined))).toBe(2)
  })

  test('is outdated by a new snapshot, by one that counts again, and by packs that another took back', async () => {
    const { engine, ids, repository } = await snapshots(2)
    await engine.forget(ids[0]!)
    const survey = await surveyRepository(repository, now)
    const ask = (collector = 'f'.repeat(32)) => hasChanged(repository, survey, collector)
    expect(await ask()).toBe(false)
    await engine.prune()
    expect(await ask()).toBe(false)
    const other = await surveyRepository(repository, now)
    await engine.undelete()
    expect(await ask()).toBe(true)
    const state = await repository.loadCollection()
    const [revived] = state.revivedLists
    expect(await hasChanged(repository, { ...other, state: { ...other.state, forgotten: new Map() } }, 'f'.repeat(32))).toBe(true)
    expect(await hasChanged(repository, { ...other, state: { ...other.state, forgotten: new Map() } }, revived!.list.ref.session)).toBe(
      false,
    )
    const third = await surveyRepository(repository, now)
    expect(await hasChanged(repository, third, 'f'.repeat(32))).toBe(false)
    await engine.backup()
    expect(await hasChanged(repository, third, 'f'.repeat(32))).toBe(true)
  })

  test('marks what counts, telling of each snapshot, and what was forgotten while it can come back', async () => {
    const { engine, ids, repository } = await snapshots(3)
    await engine.forget(ids[0]!)
    engine.clock.advance(5 * DAY)
    await engine.forget(ids[1]!)
    const survey = await surveyRepository(repository, now)
    const told: string[] = []
    const live = (mark: Mark): number => [...mark.uses().values()].reduce((sum, { liveBytes }) => sum + liveBytes, 0)
    const mark = await markSurvey(repository, survey, (done, total) => told.push(`${done}/${total}`))
    expect(told).toEqual(['1/1'])
    expect(live(mark)).toBeGreaterThan(0)
    const one = live(await markForgotten(repository, survey, DAY, new Set()))
    expect(one).toBeGreaterThan(0)
    expect(live(await markForgotten(repository, survey, 0, new Set()))).toBe(0)
    expect(live(await markForgotten(repository, survey, 5 * DAY, new Set()))).toBe(one)
    const both = live(await markForgotten(repository, survey, 5 * DAY + 1, new Set()))
    expect(both).toBeGreaterThan(one)
    const first = survey.forgotten.find(({ structure }) => structure.ref.random === ids[0])!
    expect(live(await markForgotten(repository, survey, 0, new Set([refKey(first.structure.ref)])))).toBeGreaterThan(0)
    // The earliest record counts, and one that another has replaced never comes back.
    await engine.prune()
    const entries = new Map(
      [...survey.state.forgotten].map(([name, all]) => [name, all.map((entry) => ({ ...entry, why: 'replaced' as const }))]),
    )
    expect(live(await markForgotten(repository, { ...survey, state: { ...survey.state, forgotten: entries } }, 9 * DAY, new Set()))).toBe(0)
    const twice = new Map([...survey.state.forgotten].map(([name, all]) => [name, [...all, { ...all[0]!, since: survey.now }]]))
    expect(live(await markForgotten(repository, { ...survey, state: { ...survey.state, forgotten: twice } }, 5 * DAY, new Set()))).toBe(one)
    const partly = new Map([...survey.state.forgotten].map(([name, all]) => [name, [...all, { ...all[0]!, why: 'replaced' as const }]]))
    expect(live(await markForgotten(repository, { ...survey, state: { ...survey.state, forgotten: partly } }, 9 * DAY, new Set()))).toBe(0)
  })

  test('counts as not there what is gone, and what no listing shows', async () => {
    const { repository } = await snapshots(1)
    const survey = await surveyRepository(repository, now)
    const missing = async (more: Partial<Survey>): Promise<number> =>
      (await markSurvey(repository, { ...survey, ...more }, () => undefined)).missing().count
    const [pack] = [...survey.packs.keys()] as [string]
    expect(await missing({})).toBe(0)
    expect(await missing({ packs: new Map([...survey.packs].filter(([random]) => random !== pack)) })).toBeGreaterThan(0)
    expect(await missing({ whole: { ...survey.whole, gone: new Set([pack]) } })).toBeGreaterThan(0)
  })
})

const hex = (number: number): string => number.toString(16).padStart(32, '0')
const ref = (number: number): ObjectRef => ({ session: hex(1), random: hex(number) })
const AGENT = Buffer.alloc(16, 5)
const snapshot = (number: number): OpenedSnapshot =>
  ({
    structure: { ref: ref(number), series: Buffer.alloc(32), sequence: number, previous: Buffer.alloc(32), lists: [] },
    hash: Buffer.alloc(32, number),
  }) as unknown as OpenedSnapshot

describe('before anything is condemned', () => {
  function made(more: Partial<Omit<Survey, 'state'>> & { lists?: LoadedList[]; forgets?: LoadedForget[] } = {}): Survey {
    const all = [...(more.snapshots ?? []), ...(more.forgotten ?? [])]
    return {
      state: collectionState({ lists: more.lists ?? [], forgets: more.forgets ?? [], refused: [] }),
      snapshots: [],
      forgotten: [],
      refused: [],
      givenUp: new Map(),
      listed: new Map(all.map(({ structure }) => [refKey(structure.ref), { ...structure.ref, info: { storedAt: 9 } }])),
      ...more,
    } as unknown as Survey
  }
  const lacking = (packs: Record<number, string[]>, count = 1, part = 'chunk'): Mark =>
    ({
      missing: () => ({
        count,
        first: [{ id: 'd'.repeat(64), part, snapshot: hex(1) }],
        packs: new Map(Object.entries(packs).map(([number, all]) => [hex(Number(number)), new Set(all)])),
      }),
    }) as unknown as Mark
  const nothing = lacking({}, 0)
  const said = (survey: Survey, mark: Mark, accept = false): string => {
    try {
      requireSound(survey, mark, accept)
      return 'sound'
    } catch (error) {
      if (!isHoldfastError(error, 'damaged')) throw error
      return error.message
    }
  }
  const list = (kept: ObjectRef[], packs: string[]): LoadedList => ({
    storedAt: 1,
    list: {
      kind: 'condemned',
      kept,
      packs: packs.map((random) => ({ session: hex(1), random, bytes: 1, why: 'dead' })),
      ref: ref(90),
      writerId: AGENT,
      madeAt: 0,
    },
  })

  test('a snapshot that does not open stops it, with the words that put it on record', () => {
    const refused = [{ name: `snapshots/${hex(1)}-${'ab'.repeat(16)}`, error: new HoldfastError('damaged', 'it is cut') }]
    expect(said(made({ refused }), nothing)).toBe(
      `1 snapshot does not open, so what they need is not known (it is cut); nothing was condemned or deleted. If they are worth nothing, 'holdfast forget --unreadable abababababab' says so on record; then run this again`,
    )
  })

  test('a gap in history stops it, with the name of what is lacking', () => {
    expect(said(made({ snapshots: [snapshot(1)], lists: [list([ref(1)], [])] }), nothing)).toBe('sound')
    expect(said(made({ snapshots: [snapshot(1)], lists: [list([ref(1), ref(0xabc)], [])] }), nothing)).toMatch(
      /^1 snapshot is gone without a record of it \(0{12}\); nothing was condemned or deleted\. Either .*'holdfast forget --missing'/,
    )
    const after = {
      ...snapshot(3),
      structure: { ...snapshot(3).structure, ref: { session: hex(1), random: 'cd'.repeat(16) }, previous: Buffer.alloc(32, 2) },
    }
    expect(said(made({ snapshots: [after] }), nothing)).toMatch(/\(the one before cdcdcdcdcdcd\)/)
    expect(said(made({ snapshots: [after], forgotten: [snapshot(2)] }), nothing)).toBe('sound')
  })

  test('what snapshots lack stops it, unless damage is accepted or none of them was ever finished', () => {
    const two = made({ snapshots: [snapshot(1), snapshot(2)] })
    expect(said(two, nothing)).toBe('sound')
    expect(said(two, lacking({ 1: ['p'] }, 7))).toMatch(
      /^7 blobs that snapshots need are in no pack \(first: chunk d{16} of snapshot 0{12}\); nothing was condemned or deleted\. 'holdfast check'/,
    )
    expect(said(two, lacking({ 1: ['p'] }, 1, 'private'))).toMatch(/first: tree node d{16}/)
    expect(said(two, lacking({ 1: ['p'] }), true)).toBe('sound')
    const overtaken = made({ snapshots: [snapshot(1), snapshot(2)], lists: [list([], ['p'])] })
    expect(said(overtaken, lacking({ 1: ['p'] }))).toBe('sound')
    expect(said(overtaken, lacking({ 1: ['p'], 2: ['q'] }))).toMatch(/in no pack/)
    expect(unfinishedOf(overtaken, lacking({ 1: ['p'], 2: ['q'] })).map(({ structure }) => structure.ref)).toEqual([ref(1)])
    expect(unfinishedOf(overtaken, nothing)).toEqual([])
    const before = made({ snapshots: [snapshot(1)], lists: [{ ...list([], ['p']), storedAt: 10 }] })
    expect(said(before, lacking({ 1: ['p'] }))).toMatch(/in no pack/)
  })

  test('whoever holds the root is told what agents alone have forgotten', () => {
    const forgets = (writerId: Buffer, ...numbers: number[]): LoadedForget => ({
      storedAt: 0,
      record: {
        ref: ref(80 + numbers[0]!),
        writerId,
        madeAt: 0,
        replaces: [],
        undone: [],
        entries: numbers.map((number) => ({
          snapshot: ref(number),
          series: Buffer.alloc(32),
          sequence: 0,
          hash: Buffer.alloc(32),
          why: 'asked' as const,
        })),
      },
    })
    const survey = made({
      forgotten: [snapshot(1), snapshot(2), snapshot(3)],
      forgets: [forgets(AGENT, 1, 2), forgets(ROOT_WRITER_ID, 2, 3)],
    })
    expect(forgottenByAgents(survey, ROOT_WRITER_ID)).toEqual(new Set([refKey(ref(1))]))
    expect(forgottenByAgents(survey, AGENT)).toEqual(new Set())
    expect(forgottenByAgents(made({ forgotten: [snapshot(4)] }), ROOT_WRITER_ID)).toEqual(new Set([refKey(ref(4))]))
    // Those that do not open too.
    const unopened = new Map([1, 3].map((number) => [refKey(ref(number)), survey.state.forgotten.get(refKey(ref(number)))!]))
    expect(forgottenByAgents({ ...survey, forgotten: [], givenUp: unopened }, ROOT_WRITER_ID)).toEqual(new Set([refKey(ref(1))]))
  })
})

describe('what is taken back', () => {
  async function condemned() {
    const { engine, ids, repository } = await snapshots(3)
    await engine.forget(ids[0]!, ids[1]!)
    const { condemned: report } = await engine.prune()
    const options = { repository, keys: engine.keys.write, clock: engine.clock, random: engine.random }
    return { engine, ids, options, report, ...(await listForgotten(options)) }
  }

  test('is told before and after with its packs and bytes, and a dry run stores nothing', async () => {
    const { engine, options, report, snapshots: chosen, survey } = await condemned()
    expect(report.packs).toBeGreaterThan(1)
    const before = engine.bucket.names()
    expect(await undelete(options, [], survey, false)).toEqual({ snapshots: 0, packs: 0, bytes: 0, namedForServer: 0 })
    expect(await undelete(options, chosen, survey, true)).toEqual({
      snapshots: 2,
      packs: report.packs,
      bytes: report.bytes,
      namedForServer: 0,
    })
    expect(engine.bucket.names()).toEqual(before)
    expect(await undelete(options, chosen, survey, false)).toEqual({
      snapshots: 2,
      packs: report.packs,
      bytes: report.bytes,
      namedForServer: 0,
    })
    const state = await options.repository.loadCollection()
    expect(state.condemned.size).toBe(0)
    // The snapshots themselves stand there too, without packs.
    expect(state.revivedLists.map(({ list }) => list.from.map(({ packs }) => packs.length))).toEqual([[report.packs, 0, 0]])
    expect(state.revivedLists[0]!.list.madeAt).toBe(engine.clock.now())
    expect((await options.repository.listSnapshots()).snapshots).toHaveLength(3)
  })

  test('takes only the packs that it needs, and says which snapshots count where none is condemned', async () => {
    const { engine, ids, options, report, snapshots: all, survey } = await condemned()
    const chosen = all.filter(({ structure }) => structure.ref.random === ids[0])
    const result = await undelete(options, chosen, survey, false)
    expect(result.packs).toBeGreaterThan(0)
    expect(result.packs).toBeLessThan(report.packs)
    expect((await options.repository.loadCollection()).condemned.size).toBe(report.packs - result.packs)
    await engine.forget(ids[0]!)
    const again = await listForgotten(options)
    const lists = engine.bucket.names('lists/').length
    expect(
      await undelete(
        options,
        again.snapshots.filter(({ structure }) => structure.ref.random === ids[0]),
        again.survey,
        false,
      ),
    ).toEqual({ snapshots: 1, packs: 0, bytes: 0, namedForServer: 0 })
    expect(engine.bucket.names('lists/')).toHaveLength(lists + 2)
  })

  test('by an agent is its own', async () => {
    const { engine, options } = await condemned()
    const agent = { ...engine.keys.write, writer: agentWriter(Buffer.alloc(32, 4), Buffer.alloc(16, 4)) }
    expect((await listForgotten({ ...options, keys: agent })).snapshots).toEqual([])
    expect((await listForgotten(options)).snapshots).toHaveLength(2)
  })

  test('is refused where its bytes are gone, and forgotten again, and said so, where it went meanwhile', async () => {
    const { engine, ids, options, snapshots: chosen, survey } = await condemned()
    const [, { pack }] = [...survey.state.condemned][0]!
    const name = engine.bucket.names('packs/').find((one) => one.endsWith(pack.random))!
    const goes = snapshotName(engine, ids[0]!)
    engine.setStoreFaults((call) => {
      if (call.operation === 'put' && call.name.includes('forgets/') && engine.bucket.names('snapshots/').includes(goes))
        engine.bucket.tamper(goes, () => undefined)
      return []
    })
    expect(await failure(undelete(options, chosen, survey, false))).toEqual({
      code: 'conflict',
      message: `1 of 2 snapshots were deleted while they were taken back (first: ${ids[0]!.slice(0, 12)}): whoever deletes was at it already; those are forgotten as before, the others count again`,
    })
    engine.setStoreFaults(() => [])
    // No gap in history is left of the one, and the other counts.
    const { repository } = options
    const state = await repository.loadCollection()
    expect(
      forgottenEntries(state, chosen.find(({ structure }) => structure.ref.random === ids[0])!.structure.ref, ROOT_WRITER_ID),
    ).toHaveLength(1)
    expect((await repository.listSnapshots()).snapshots.map(({ structure }) => structure.ref.random)).toContain(ids[1])
    expect((await listForgotten(options)).snapshots).toEqual([])
    engine.bucket.tamper(name, () => undefined)
    const late = await condemnedWithout()
    expect(late.code).toBe('damaged')
    expect(late.message).toMatch(
      /^snapshot [0-9a-f]{12} cannot be taken back whole: (?:1 blob that it needs is|\d+ blobs that it needs are) deleted already/,
    )
  })

  async function condemnedWithout(): Promise<{ code: string; message: string }> {
    const { engine, options, snapshots: chosen, survey } = await condemned()
    const [, { pack }] = [...survey.state.condemned][0]!
    engine.bucket.tamper(
      engine.bucket.names('packs/').find((one) => one.endsWith(pack.random))!,
      () => undefined,
    )
    const before = engine.bucket.names()
    const found = await failure(undelete(options, chosen, survey, false))
    expect(engine.bucket.names()).toEqual(before)
    return found
  }
})
