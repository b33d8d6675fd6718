// Records reach the server at least once and in order, whatever is lost on the way; nothing is forgotten early; two versions of one record stop
// delivery and nothing else (O4).
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { decodeDelivery, encodeFileRecords, FIRST_PREVIOUS, openRecord } from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { NEW_LINK, type Link } from '../../../agent/daemon/agent-state.ts'
import { alarms } from '../../../agent/daemon/alarms.ts'
import { delivery } from '../../../agent/daemon/delivery.ts'
import { openJournal, type ChainEnd } from '../../../agent/daemon/journal.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { SAMPLE, transmissionHeader } from '../../_support/record-headers.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'
import { problemAnswer, testServerSide, type Answer } from './_support/test-server-side.ts'

const random = seededRandom('delivery')
const key = signingKey(random.bytes(32))
const { signal } = new AbortController()

/** A server that keeps chains as the real one does. */
function ledger() {
  let held: ChainEnd[] = [{ seq: 0, hash: FIRST_PREVIOUS }]
  const end = (): ChainEnd => held.at(-1)!
  return {
    end,
    /** As a server that was restored from an older copy. */
    rollBack: (seq: number) => void (held = held.slice(0, seq + 1)),
    add: (hash: Buffer) => void held.push({ seq: end().seq + 1, hash }),
    answer: (body: Buffer): Answer => {
      for (const frame of decodeDelivery(body)) {
        const { hash } = openRecord(SAMPLE.agentId, key.publicKey, frame)
        if (frame.seq > end().seq + 1)
          return problemAnswer(409, 'conflict', { expectedSeq: end().seq + 1, expectedHash: end().hash.toString('hex') })
        if (frame.seq <= end().seq) {
          if (held[frame.seq]!.hash.equals(hash)) continue
          return problemAnswer(409, 'conflict')
        }
        if (!frame.prev.equals(end().hash)) return problemAnswer(409, 'conflict')
        held.push({ seq: frame.seq, hash })
      }
      return { json: { acceptedThrough: end().seq, acceptedHash: end().hash.toString('hex'), serverTime: isoTime(1_800_000_000_000) } }
    },
  }
}

function setUp(fileSystem = crashFileSystem(), link: Link = NEW_LINK) {
  const clock = simulatedClock({ autoMs: 59_000 })
  const directory = openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true }).below('journal')
  const journal = openJournal({ directory, agentId: SAMPLE.agentId, key, random, segmentBytes: 2000 })
  const side = testServerSide(clock)
  const client = serverClient({ transport: side, agentId: SAMPLE.agentId, key, serverKey: side.key.publicKey, clock, random })
  const raised = alarms(clock, () => undefined)
  const notes: string[] = []
  let known = link
  const work = delivery({
    ...{ journal, client, clock, alarms: raised },
    link: { get: () => known, save: (change) => void (known = { ...known, ...change }) },
    note: (code, amount) => void notes.push(`${code} ${amount}`),
  })
  const append = (count: number): void => {
    for (let i = 0; i < count; i++)
      journal.append((secret) => {
        const body = encodeFileRecords([])
        return { header: transmissionHeader(body, secret), body }
      })
  }
  const heard = (end: ChainEnd, recordedThrough: number, serverTime = isoTime(1_900_000_000_000)): void =>
    work.heard({ acceptedThrough: end.seq, acceptedHash: end.hash.toString('hex'), recordedThrough, serverTime })
  return { fileSystem, journal, side, work, notes, append, heard, link: () => known, alarms: () => raised.list().map(({ code }) => code) }
}

let server: ReturnType<typeof ledger>
beforeEach(() => {
  server = ledger()
})

describe('delivery', () => {
  it('brings every record to the server once, although requests and replies are lost at random', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom('ok', 'request lost', 'reply lost', 'not signed'), { maxLength: 12 }), async (fates) => {
        server = ledger()
        const it_ = setUp()
        let call = 0
        it_.side.on('/v1/agent/records', ({ body }) => {
          const fate = fates[call++] ?? 'ok'
          if (fate === 'request lost') throw new HoldfastError('server-unreachable', 'lost')
          const answer = server.answer(body)
          if (fate === 'reply lost') throw new HoldfastError('server-unreachable', 'lost')
          return fate === 'not signed' ? { ...answer, signedBy: null } : answer
        })
        for (let round = 0; round < 20; round++) {
          if (round < 5) it_.append(2)
          await it_.work.deliver(signal).catch((error: unknown) => {
            if (!isHoldfastError(error, 'server-unreachable', 'server-untrusted')) throw error
          })
        }
        expect(server.end()).toEqual(it_.journal.end)
        expect(it_.work.pending()).toBe(0)
        expect(it_.alarms()).toEqual([])
      }),
      { numRuns: 40 },
    )
  })

  it('forgets nothing before it is accepted and recorded', async () => {
    const it_ = setUp()
    it_.append(6)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    it_.heard({ seq: 0, hash: FIRST_PREVIOUS }, 6)
    expect(it_.journal.stats().firstSeq).toBe(1)
    await it_.work.deliver(signal)
    expect(it_.journal.stats().firstSeq).toBe(1)
    it_.heard(server.end(), 3)
    expect(it_.journal.read(3)?.records).toBe(3)
    it_.heard(server.end(), 6)
    expect(it_.journal.stats()).toMatchObject({ firstSeq: 7, lastSeq: 6 })
  })

  it('fills a gap by going back to what the server expects', async () => {
    const it_ = setUp()
    it_.append(5)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    server.rollBack(2)
    it_.append(1)
    await it_.work.deliver(signal)
    expect(server.end()).toEqual(it_.journal.end)
    expect(it_.alarms()).toEqual([])
  })

  it('goes back also when a poll says that the server has less', async () => {
    const it_ = setUp()
    it_.append(5)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    server.rollBack(1)
    it_.heard(server.end(), 0)
    expect(it_.work.pending()).toBe(4)
    await it_.work.deliver(signal)
    expect(server.end()).toEqual(it_.journal.end)
  })

  it('takes no notice of a poll that was answered before the last delivery', async () => {
    const it_ = setUp()
    it_.append(5)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    it_.heard({ seq: 2, hash: it_.journal.hashAt(2)! }, 0, isoTime(1_700_000_000_000))
    expect(it_.work.pending()).toBe(0)
  })

  it('says so where the server lost what was forgotten here', async () => {
    const it_ = setUp()
    it_.append(5)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    it_.heard(server.end(), 5)
    server.rollBack(2)
    it_.append(1)
    await it_.work.deliver(signal)
    expect(it_.alarms()).toEqual(['records-missing'])
    expect(it_.journal.end.seq).toBe(6)
  })

  it('stops at a fork, keeps the evidence, and the journal goes on', async () => {
    const it_ = setUp()
    it_.append(2)
    server.add(Buffer.alloc(32, 9))
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    expect(it_.link().fork).toMatchObject({ seq: 1 })
    expect(it_.alarms()).toEqual(['forked-journal'])
    expect(it_.notes).toEqual(['forked-journal 1'])
    const calls = it_.side.requests.length
    it_.append(3)
    await it_.work.deliver(signal)
    it_.heard(server.end(), 99)
    expect(it_.side.requests).toHaveLength(calls)
    expect(it_.journal.stats()).toMatchObject({ firstSeq: 1, lastSeq: 5 })
  })

  it('sees a fork in a poll too', () => {
    const it_ = setUp()
    it_.append(2)
    it_.heard({ seq: 1, hash: Buffer.alloc(32, 9) }, 0)
    expect(it_.alarms()).toEqual(['forked-journal'])
  })

  it('uses no number twice where the disk lost records that the server has', async () => {
    const lost = setUp()
    lost.append(4)
    lost.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await lost.work.deliver(signal)
    // The same agent with the state of long ago.
    const it_ = setUp()
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    it_.heard(server.end(), 0)
    expect(it_.alarms()).toEqual(['journal-rolled-back'])
    expect(it_.notes).toEqual(['journal-rolled-back 4'])
    it_.append(1)
    await it_.work.deliver(signal)
    expect(server.end()).toEqual(it_.journal.end)
    expect(server.end().seq).toBe(5)
  })

  it('tells what was recorded after the state was put back from long ago, as the server has it from nobody else', async () => {
    const lost = setUp()
    lost.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    lost.append(4)
    await lost.work.deliver(signal)
    const it_ = setUp()
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    it_.append(2)
    const secrets = decodeDelivery(it_.journal.read(0)!.bytes).map(({ secret }) => secret)
    it_.heard(server.end(), 4)
    expect(it_.notes).toEqual(['journal-rolled-back 4'])
    await it_.work.deliver(signal)
    expect(it_.alarms()).toEqual(['journal-rolled-back'])
    expect(server.end()).toEqual(it_.journal.end)
    expect(server.end().seq).toBe(6)
    const sent = it_.side.requests.flatMap(({ body }) => decodeDelivery(body))
    expect(sent.map(({ secret }) => secret)).toEqual(secrets)
  })

  it('sends no more than a delivery may hold', async () => {
    const it_ = setUp()
    it_.append(600)
    it_.side.on('/v1/agent/records', ({ body }) => server.answer(body))
    await it_.work.deliver(signal)
    expect(it_.side.requests.map(({ body }) => decodeDelivery(body).length)).toEqual([512, 88])
  })
})
