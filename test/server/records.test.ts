// Deliveries of records: durable before they are accepted, in one unbroken chain, worked on by jobs, found again by token (O4, O5, O14).
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reconcile } from 'holdfast-server/jobs.ts'
import { isoTime, parseTime } from '@holdfast/shared/clock.ts'
import type { RecordHeader } from '@holdfast/shared/protocol/records.ts'
import { encodeFrame, entryHash, parseHeader, verifyRecord } from '@holdfast/shared/record.ts'
import { fileRecord } from '../_support/fake-agent.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
let administrator: string
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>

beforeEach(async () => {
  server = await startTestServer()
  administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
})
afterEach(() => server.close())

describe('a delivery', () => {
  it('is accepted through its last record, worked on by jobs, and then recorded', async () => {
    const { agent, storeId, policyId } = one
    const token = Buffer.alloc(32, 9)
    const reply = await agent.deliver(
      agent.backupRun({ storeId, policyId, files: [fileRecord(Buffer.alloc(32, 1)), fileRecord(token, 4096)] }),
    )
    expect(reply.json()).toMatchObject({ acceptedThrough: 3, acceptedHash: agent.prev.toString('hex') })
    expect((await agent.poll()).recordedThrough).toBe(0)

    expect(await server.queue.drain(server.context)).toEqual([])
    expect((await agent.poll()).recordedThrough).toBe(3)
    const found = await server.call('GET', `/v1/records/by-token/${token.toString('hex')}`, one.token)
    expect(found.json()['items']).toMatchObject([
      { agentId: agent.id, seq: 2, index: 1, size: 4096, outcome: 'ok', header: { purpose: 'backup', controllerId: one.controllerId } },
    ])
    const runs = await server.call('GET', '/v1/runs', one.token)
    expect(runs.json()['items']).toMatchObject([{ state: 'ok', recorded: true, recordedFiles: 2, policyId }])
    const policy = await server.call('GET', `/v1/policies/${policyId}`, one.token)
    expect(policy.json()['lastGoodAt']).not.toBeNull()
  })

  it('that arrives again, whole or in part, is accepted again and changes nothing', async () => {
    const frames = one.agent.backupRun({ storeId: one.storeId, files: [fileRecord(Buffer.alloc(32, 1))] })
    await one.agent.deliver(frames.slice(0, 2))
    expect((await one.agent.deliver(frames)).json()).toMatchObject({ acceptedThrough: 3 })
    expect((await one.agent.deliver(frames)).json()).toMatchObject({ acceptedThrough: 3 })
    await server.queue.drain(server.context)
    const list = await server.call('GET', '/v1/records', one.token)
    expect(list.json()['items']).toHaveLength(3)
  })

  it('that ends a run once more, as of an agent whose state was put back from the middle of it, leaves the run as it ended', async () => {
    const { agent } = one
    const frames = agent.backupRun({ storeId: one.storeId, files: [fileRecord(Buffer.alloc(32, 1))] })
    await agent.deliver(frames)
    const header = parseHeader(frames[2]!.header)
    await agent.deliver([
      agent.journal({ ...header, outcome: 'failed', code: 'interrupted', at: isoTime(parseTime(header.at) + 60_000) } as RecordHeader),
    ])
    await server.queue.drain(server.context)
    const runs = await server.call('GET', '/v1/runs', one.token)
    expect(runs.json()['items']).toMatchObject([{ state: 'ok', code: null, recorded: true, endedAt: header.at }])
  })

  it('with a gap is refused with the sequence number that is expected', async () => {
    const frames = one.agent.backupRun({ storeId: one.storeId })
    const reply = await one.agent.deliver(frames.slice(1))
    expect(reply.status).toBe(409)
    expect(reply.json()).toMatchObject({ code: 'conflict', expectedSeq: 1 })
  })

  it('that differs from an accepted record is kept as evidence, and the agent is flagged', async () => {
    const { agent } = one
    const start = { seq: agent.seq, prev: agent.prev }
    await agent.deliver(agent.backupRun({ storeId: one.storeId }))
    agent.seq = start.seq
    agent.prev = start.prev
    const other = agent.backupRun({ storeId: one.storeId })
    const reply = await agent.deliver(other)
    expect(reply.status).toBe(409)
    expect(reply.json()).not.toHaveProperty('expectedSeq')
    const [evidence] = await server.records.listForks({ agentId: agent.id })
    expect(evidence).toMatchObject({ seq: 1, entryHash: entryHash(agent.id, other[0]!) })
    expect((await server.call('GET', `/v1/agents/${agent.id}`, one.token)).json()['incident']).toBe('two versions of record 1')
  })

  it('whose signature, chain or owner is wrong is refused whole', async () => {
    const { agent } = one
    const frames = agent.backupRun({ storeId: one.storeId })
    const forged = { ...frames[1]!, sig: Buffer.alloc(64) }
    expect((await agent.deliver([frames[0]!, forged])).status).toBe(422)
    const stranger = await server.makeControllerWithAgent(administrator)
    expect((await stranger.agent.deliver(frames)).status).toBe(422)
    expect(
      (await agent.request('POST', '/v1/agent/records', encodeFrame(frames[0]!).subarray(0, -1), 'application/vnd.holdfast.records'))
        .status,
    ).toBe(422)
    expect((await server.records.listRecords({ limit: 10 })).items).toHaveLength(0)
  })

  it('whose body does not match the signed root is accepted as evidence, never recorded, and flags the agent', async () => {
    const { agent } = one
    const frames = agent.backupRun({ storeId: one.storeId, files: [fileRecord(Buffer.alloc(32, 1))] })
    const body = Buffer.from(frames[1]!.body)
    body[8]! ^= 1
    expect((await agent.deliver([frames[0]!, { ...frames[1]!, body }])).status).toBe(200)
    expect(await server.queue.drain(server.context)).toMatchObject([{ code: 'damaged' }])
    expect((await agent.poll()).recordedThrough).toBe(1)
    expect((await server.records.get({ table: 'agents', id: agent.id }))?.incident).toContain('record 2')
  })
})

it('a snapshot is known from the records alone, and the report adds its tags', async () => {
  const { agent, storeId } = one
  const snapshotId = '7'.repeat(32)
  const series = '8'.repeat(64)
  await agent.deliver(agent.backupRun({ storeId, snapshotId, series, files: [fileRecord(Buffer.alloc(32, 1))] }))
  await server.queue.drain(server.context)
  const shown = (await server.call('GET', `/v1/snapshots/${snapshotId}`, one.token)).json()
  expect(shown).toMatchObject({ series, storeId, source: 'documents', files: 1, tags: [] })
  const { runId, source, at, files, bytes, storedBytes } = shown
  const report = { snapshotId, runId, storeId, series, source, at, files, bytes, storedBytes, tags: ['monthly'] }
  expect((await agent.request('POST', '/v1/agent/snapshots', report)).status).toBe(200)
  expect((await server.call('GET', `/v1/snapshots/${snapshotId}`, one.token)).json()['tags']).toEqual(['monthly'])
})

describe('jobs', () => {
  it('can be repeated and reordered without changing the outcome', async () => {
    const { agent } = one
    await agent.deliver(agent.backupRun({ storeId: one.storeId, files: [fileRecord(Buffer.alloc(32, 1))] }))
    const jobs = [...server.queue.jobs.values()].reverse()
    for (let round = 0; round < 2; round++) {
      server.queue.jobs.clear()
      for (const job of jobs) server.queue.jobs.set(job.jobId, job)
      expect(await server.queue.drain(server.context)).toEqual([])
    }
    expect((await agent.poll()).recordedThrough).toBe(3)
    expect((await server.call('GET', '/v1/runs', one.token)).json()['items']).toMatchObject([{ recordedFiles: 1, state: 'ok' }])
  })

  it('are all made again from the rows after the queue lost everything', async () => {
    const { agent } = one
    server.queue.away = true
    expect((await agent.deliver(agent.backupRun({ storeId: one.storeId }))).status).toBe(200)
    expect(server.queue.jobs.size).toBe(0)
    server.queue.away = false
    for await (const jobs of reconcile(server.context, 2)) await server.queue.enqueue(jobs)
    await server.queue.drain(server.context)
    expect((await agent.poll()).recordedThrough).toBe(3)
    const left: unknown[] = []
    for await (const jobs of reconcile(server.context)) left.push(...jobs)
    expect(left).toEqual([])
  })
})

describe('what is kept', () => {
  it('leaves with the export exactly as the agent signed it', async () => {
    const { agent } = one
    await agent.deliver(agent.backupRun({ storeId: one.storeId, files: [fileRecord(Buffer.alloc(32, 1))] }))
    const lines = (await server.call('GET', '/v1/records/export', one.token)).text.trim().split('\n')
    expect(lines).toHaveLength(3)
    for (const line of lines) {
      const { seq, entryHash: hash, ...rest } = JSON.parse(line) as Record<string, string> & { seq: number }
      const bytes = (name: string): Buffer => Buffer.from(rest[name]!, 'base64url')
      const frame = { seq, prev: bytes('prev'), sig: bytes('sig'), secret: bytes('secret'), header: bytes('header'), body: bytes('body') }
      expect(verifyRecord(agent.id, agent.key.publicKey, frame).hash.toString('hex')).toBe(hash)
    }
  })

  it('is found page by page, newest first, each record once', async () => {
    const { agent } = one
    for (let i = 0; i < 3; i++) await agent.deliver(agent.backupRun({ storeId: one.storeId }))
    const seqs: number[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: { items: { seq: number }[]; next: string | null } = (
        await server.call('GET', `/v1/records?limit=4${cursor ? `&cursor=${cursor}` : ''}`, one.token)
      ).json() as never
      seqs.push(...page.items.map((item) => item.seq))
      cursor = page.next
    }
    expect(seqs).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1])
  })

  it('is not seen by another controller, by list, token or export', async () => {
    const { agent } = one
    const token = Buffer.alloc(32, 5)
    await agent.deliver(agent.backupRun({ storeId: one.storeId, files: [fileRecord(token)] }))
    await server.queue.drain(server.context)
    const other = await server.makeControllerWithAgent(administrator)
    for (const url of [
      '/v1/records',
      `/v1/records?controllerId=${one.controllerId}`,
      `/v1/records/by-token/${token.toString('hex')}`,
      '/v1/runs',
    ]) {
      expect((await server.call('GET', url, other.token)).json()['items']).toEqual([])
    }
    expect((await server.call('GET', `/v1/records/export?agentId=${agent.id}`, other.token)).text).toBe('')
  })
})
