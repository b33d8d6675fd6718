// Needs statements: what an agent states of its snapshots is what the server later knows, first statements count, and nobody speaks for another.
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeNeeds, encodeNeededQuestion, encodeNeeds, type NeedsStand, type NeedsStatement } from '@holdfast/shared/protocol/needs.ts'
import { sha256Hex } from '@holdfast/shared/protocol/signatures.ts'
import { neededBy } from 'holdfast-server/deletions/explain.ts'
import { migrate } from 'holdfast-server/records/sqlite/migrations.ts'
import { BOOKS_QUERY } from 'holdfast-server/records/sqlite/needs.ts'
import { rotatingSeed } from '../../_support/soak.ts'
import { startTestServer } from '../../_support/test-server.ts'
import type { TestServer } from '../../_support/test-server.ts'

let server: TestServer
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>
let other: typeof one
beforeAll(async () => {
  server = await startTestServer()
  const administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
  other = await server.makeControllerWithAgent(administrator)
})
afterAll(() => server.close())

const pack = (n: number): Buffer => Buffer.alloc(32, n)
const snapshot = (n: number): string => n.toString(16).padStart(32, '0')
let made = 0
const newSeries = (): string => (++made).toString(16).padStart(64, '0')
const newSnapshot = (): string => snapshot(1_000_000 + ++made)

const statement = (changes: Partial<NeedsStatement>): NeedsStatement => ({
  ...{ storeId: one.storeId, series: 'a'.repeat(64), sequence: 1, snapshotId: snapshot(1) },
  ...{ base: undefined, added: [], dropped: [], replaced: [], ...changes },
})
const state = (agent: typeof one.agent, changes: Partial<NeedsStatement>) =>
  agent.request('POST', '/v1/agent/needs', encodeNeeds(statement(changes)), 'application/octet-stream')

/** What the books say that a kept sequence of a series needs, pack by pack. */
async function neededAt(series: string, sequence: number): Promise<number[]> {
  const needs = await server.records.needsOf({
    storeId: one.storeId,
    packs: Buffer.concat(Array.from({ length: 256 }, (_, n) => pack(n))),
    sessions: [],
  })
  const base = { id: '', agentId: '', source: null, claimedAt: null, witnessedAt: 0, deleted: false, contested: false }
  return needs
    .filter(neededBy([{ ...base, series, sequence }]))
    .map((need) => Number.parseInt(need.pack.slice(0, 2), 16))
    .sort((a, b) => a - b)
}

describe('statements', () => {
  it('as differences or wholes, in any mixture, say of each snapshot exactly what it needs', async () => {
    const packs = fc.uniqueArray(fc.integer({ min: 0, max: 20 }), { maxLength: 10 })
    const histories = fc.array(fc.record({ needs: packs, whole: fc.boolean(), skip: fc.integer({ min: 1, max: 3 }) }), {
      minLength: 1,
      maxLength: 8,
    })
    await fc.assert(
      fc.asyncProperty(histories, async (history) => {
        const series = newSeries()
        let base: string | undefined
        let before = new Set<number>()
        let sequence = 0
        const stated: { sequence: number; needs: readonly number[] }[] = []
        for (const { needs, whole, skip } of history) {
          sequence += skip
          const now = new Set(needs)
          const difference = whole || base === undefined ? undefined : base
          const added = [...now].filter((n) => difference === undefined || !before.has(n)).map(pack)
          const dropped = difference === undefined ? [] : [...before].filter((n) => !now.has(n)).map(pack)
          const snapshotId = newSnapshot()
          const reply = await state(one.agent, { series, sequence, snapshotId, base: difference, added, dropped })
          expect(reply.json()).toMatchObject({ sequence, snapshotId })
          stated.push({ sequence, needs: [...needs].sort((a, b) => a - b) })
          ;[base, before] = [snapshotId, now]
        }
        for (const { sequence: at, needs } of stated) expect(await neededAt(series, at)).toEqual(needs)
      }),
      { numRuns: 40, seed: Number.parseInt(sha256Hex(Buffer.from(rotatingSeed())).slice(0, 7), 16) },
    )
  })

  it('count once: a second one about a snapshot changes nothing, whatever it says', async () => {
    const series = newSeries()
    const snapshotId = newSnapshot()
    await state(one.agent, { series, snapshotId, added: [pack(1), pack(2)] })
    expect((await state(one.agent, { series, snapshotId, added: [] })).status).toBe(200)
    expect((await state(one.agent, { series, snapshotId, sequence: 9, added: [pack(7)] })).status).toBe(200)
    expect(await neededAt(series, 1)).toEqual([1, 2])
    const stand = (await one.agent.request('GET', `/v1/agent/needs/${one.storeId}/${series}`)).json() as NeedsStand
    expect(stand).toMatchObject({ sequence: 1, snapshotId })
  })

  it('that go on from another than the last, or go back, are conflicts and change nothing', async () => {
    const series = newSeries()
    const first = newSnapshot()
    await state(one.agent, { series, sequence: 5, snapshotId: first, added: [pack(1)] })
    expect((await state(one.agent, { series, sequence: 6, snapshotId: newSnapshot(), base: newSnapshot(), added: [] })).status).toBe(409)
    expect((await state(one.agent, { series, sequence: 4, snapshotId: newSnapshot(), added: [] })).status).toBe(409)
    expect((await state(one.agent, { series, sequence: 4, snapshotId: newSnapshot(), base: first, dropped: [pack(1)] })).status).toBe(409)
    expect(await neededAt(series, 5)).toEqual([1])
  })

  it('of three snapshots with one sequence are taken whatever each leaves out, and protect all', async () => {
    const series = newSeries()
    for (const added of [[pack(1)], [pack(2)], [pack(1)]]) {
      const snapshotId = newSnapshot()
      const reply = await state(one.agent, { series, sequence: 5, snapshotId, added })
      expect(reply.json()).toMatchObject({ sequence: 5, snapshotId })
    }
    expect(await neededAt(series, 5)).toEqual([1, 2])
    await state(one.agent, { series, sequence: 6, snapshotId: newSnapshot(), added: [pack(3)] })
    expect(await neededAt(series, 5)).toEqual([1, 2])
    expect(await neededAt(series, 6)).toEqual([3])
  })

  it('of two snapshots with one sequence protect both', async () => {
    for (const isWhole of [true, false]) {
      const series = newSeries()
      const [first, second, third] = [newSnapshot(), newSnapshot(), newSnapshot()]
      await state(one.agent, { series, sequence: 5, snapshotId: first, added: [pack(1), pack(2)] })
      const base = isWhole ? undefined : first
      const added = isWhole ? [pack(2), pack(3)] : [pack(3)]
      const reply = await state(one.agent, { series, sequence: 5, snapshotId: second, base, added, dropped: isWhole ? [] : [pack(1)] })
      expect(reply.json()).toMatchObject({ sequence: 5, snapshotId: second })
      expect(await neededAt(series, 5)).toEqual([1, 2, 3])
      // The one before it is stated already, and changes nothing; who says so learns which is the last.
      expect((await state(one.agent, { series, sequence: 5, snapshotId: first, added: [] })).json()).toMatchObject({ snapshotId: second })
      await state(one.agent, { series, sequence: 6, snapshotId: third, base: second, dropped: [pack(2)] })
      expect(await neededAt(series, 6)).toEqual([3])
    }
  })

  it('about the store, series or snapshot of another are refused', async () => {
    const series = newSeries()
    const snapshotId = newSnapshot()
    await state(one.agent, { series, snapshotId, added: [pack(1)] })
    expect((await state(other.agent, { series, snapshotId })).status).toBe(404)
    expect((await other.agent.request('PUT', `/v1/agent/forgotten/${one.storeId}`, { snapshotIds: [snapshotId] })).status).toBe(404)
    const question = encodeNeededQuestion({ storeId: one.storeId, snapshotIds: [], packs: [pack(1)] })
    expect((await other.agent.request('POST', '/v1/agent/needed', question, 'application/octet-stream')).status).toBe(404)
  })

  it('that are cut, padded or made up are refused whole', async () => {
    const good = encodeNeeds(statement({ added: [pack(1), pack(2)], replaced: [snapshot(4)] }))
    expect(decodeNeeds(good)).toEqual(statement({ added: [pack(1), pack(2)], replaced: [snapshot(4)] }))
    for (let length = 0; length < good.length; length++) expect(() => decodeNeeds(good.subarray(0, length))).toThrow(/needs statement/)
    for (const bad of [Buffer.concat([good, Buffer.of(0)]), Buffer.from('{}'), Buffer.alloc(200, 0xff)])
      expect((await one.agent.request('POST', '/v1/agent/needs', bad, 'application/octet-stream')).status).toBe(422)
  })
})

it('an agent asks what is still needed once snapshots are gone, and gets the packs that others need', async () => {
  const series = newSeries()
  const [a, b] = [newSnapshot(), newSnapshot()]
  await state(one.agent, { series, snapshotId: a, added: [pack(101), pack(102)] })
  await state(one.agent, { series, sequence: 2, snapshotId: b, base: a, added: [pack(103)], dropped: [pack(101)] })
  const ask = async (snapshotIds: string[]): Promise<string> => {
    const question = encodeNeededQuestion({ storeId: one.storeId, snapshotIds, packs: [101, 102, 103, 104].map(pack) })
    return (await one.agent.request('POST', '/v1/agent/needed', question, 'application/octet-stream')).body.toString('hex')
  }
  const packsOf = (answer: string): number[] =>
    Array.from({ length: answer.length / 64 }, (_, n) => Number.parseInt(answer.slice(n * 64, n * 64 + 2), 16)).sort()
  expect(packsOf(await ask([]))).toEqual([101, 102, 103])
  expect(packsOf(await ask([a]))).toEqual([102, 103])
  expect(packsOf(await ask([a, b]))).toEqual([])
})

it('the books of a store are read by keys alone: each row once, whatever their number', () => {
  const db = new DatabaseSync(':memory:')
  migrate(db)
  const plan = db.prepare(`EXPLAIN QUERY PLAN ${BOOKS_QUERY}`).all()
  const steps = plan.map(({ detail }) => String(detail)).filter((detail) => !/^(COMPOUND|LEFT-MOST|UNION ALL|CORRELATED)/.test(detail))
  expect(steps.length).toBeGreaterThan(0)
  expect(steps.filter((detail) => !/^SEARCH \w+ USING (INDEX \w+|PRIMARY KEY|INTEGER PRIMARY KEY) \(/.test(detail))).toEqual([])
  db.close()
})

it('what an agent says that it forgot has the time of its first word and of its last, and loses both when it says it no more', async () => {
  const snapshotId = newSnapshot()
  const tell = async (snapshotIds: readonly string[]) => {
    server.clock.advance(60_000)
    expect((await one.agent.request('PUT', `/v1/agent/forgotten/${one.storeId}`, { snapshotIds })).status).toBeLessThan(300)
    const { forgotten } = await server.records.booksOf({ storeId: one.storeId })
    return forgotten.filter(({ id }) => id === snapshotId).map(({ at, heardAt }) => [at, heardAt])
  }
  const [[first, heard] = []] = await tell([snapshotId])
  expect(heard).toBe(first)
  const [[since, later] = []] = await tell([snapshotId])
  expect(since).toBe(first)
  expect(later).toBeGreaterThanOrEqual(first! + 60_000)
  expect(await tell([])).toEqual([])
  expect((await tell([snapshotId]))[0]![0]).toBeGreaterThan(later!)
})
