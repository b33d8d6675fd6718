// The client believes nothing that the pinned server did not sign for this very request, and waits as it is asked to.
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { done } from '@holdfast/shared/protocol/agent.ts'
import { HEADER } from '@holdfast/shared/protocol/signatures.ts'
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import { backoff } from '../../../agent/daemon/backoff.ts'
import { httpTransport, parseServerUrl } from '../../../agent/daemon/http-transport.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { problemAnswer, testServerSide, timeAnswer } from './_support/test-server-side.ts'

const random = seededRandom('client')
const agentKey = makeSigningKey(random)
const stranger = makeSigningKey(random)
const agentId = `ag_${'a'.repeat(32)}`
const PATH = '/v1/agent/runs'

function setUp() {
  // Backoffs pass by themselves; the time limit of a request does not.
  const clock = simulatedClock({ autoMs: 59_000 })
  const server = testServerSide(clock, () => agentKey.publicKey)
  const client = serverClient({ transport: server, agentId, key: agentKey, serverKey: server.key.publicKey, clock, random })
  return { clock, server, client, call: (attempts = 1) => client.call(done, { method: 'POST', path: PATH, json: { a: 1 }, attempts }) }
}

describe('an answer', () => {
  it('signed by the pinned server is read; the request was signed by the agent', async () => {
    const { clock, server, call } = setUp()
    server.on(PATH, timeAnswer(clock))
    expect(await call()).toEqual({ serverTime: isoTime(clock.now()) })
    expect(server.requests[0]!.headers).toMatchObject({ [HEADER.agent]: agentId, 'content-type': 'application/json' })
  })

  it.each([
    ['no signature', { signedBy: null }],
    ["another server's signature", { signedBy: stranger }],
    ['a signature over another status', { signedStatus: 201 }],
  ])('with %s has no effect, whatever it says', async (_, lie) => {
    const { clock, server, client, call } = setUp()
    server.on(PATH, { ...timeAnswer(clock), ...lie })
    await expect(call()).rejects.toMatchObject({ code: 'server-untrusted', exitCode: 15 })
    server.on(PATH, { ...problemAnswer(401, 'unauthenticated', { serverTime: isoTime(clock.now() + 9e8) }), ...lie, signedStatus: 200 })
    await expect(call()).rejects.toMatchObject({ code: 'server-untrusted' })
    expect(client.offsetMs()).toBe(0)
  })

  it('replayed from an earlier request is refused: its nonce is another', async () => {
    const { clock, server, call } = setUp()
    server.on(PATH, timeAnswer(clock))
    await call()
    const first = server.requests[0]!
    const kept = await server.send({ ...first, signal: new AbortController().signal })
    const replay = serverClient({
      transport: { send: () => Promise.resolve(kept), close: () => Promise.resolve() },
      ...{ agentId, key: agentKey, serverKey: server.key.publicKey, clock, random },
    })
    await expect(replay.call(done, { method: 'POST', path: PATH })).rejects.toMatchObject({ code: 'server-untrusted' })
  })

  it.each([
    ['is no JSON', { body: Buffer.from('<html>') }],
    ['is not UTF-8', { body: Buffer.from([0x7b, 0xff, 0x7d]) }],
    ['has a field more', { json: { serverTime: '2027-01-01T00:00:00.000Z', hook: 'rm' } }],
    ['lacks a field', { json: {} }],
  ])('that %s is refused, also when it is signed', async (_, answer) => {
    const { server, call } = setUp()
    server.on(PATH, answer)
    await expect(call()).rejects.toMatchObject({ code: 'server-untrusted' })
  })

  it('of a proxy whose server is down is an absence, and is tried again', async () => {
    const { clock, server, call } = setUp()
    server.on(PATH, { status: 502, body: Buffer.from('bad gateway'), signedBy: null }, timeAnswer(clock))
    await expect(call()).rejects.toMatchObject({ code: 'server-unreachable', retryable: true })
    expect(await call(2)).toBeDefined()
  })

  it('with a problem becomes its code, with control characters made visible', async () => {
    const { server, call } = setUp()
    server.on(PATH, problemAnswer(403, 'policy', { detail: 'no\u001b[31m' }))
    await expect(call()).rejects.toMatchObject({ code: 'policy', message: 'the server says: no\\u001b[31m' })
    server.on(PATH, problemAnswer(418, 'what-is-this'))
    await expect(call()).rejects.toMatchObject({ code: 'failed' })
    server.on(PATH, problemAnswer(500, 'failed'))
    await expect(call()).rejects.toMatchObject({ code: 'server-unreachable', retryable: true })
  })

  it('that takes too long is given up', async () => {
    const { clock, server, call } = setUp()
    server.on(PATH, ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))))
    const waiting = call()
    while (clock.sleepers === 0) await Promise.resolve()
    clock.advance(60_000)
    await expect(waiting).rejects.toMatchObject({ code: 'server-unreachable', message: expect.stringContaining('within 60 s') as string })
  })
})

describe('the agent', () => {
  it('corrects its clock by a signed refusal and asks again once', async () => {
    const { clock, server, client, call } = setUp()
    const theirs = clock.now() + 3_600_000
    server.on(PATH, problemAnswer(401, 'unauthenticated', { serverTime: isoTime(theirs) }), timeAnswer(clock))
    await call()
    expect(server.requests.map(({ headers }) => Number(headers[HEADER.time]))).toEqual([theirs - 3_600_000, theirs])
    expect(client.serverNow()).toBe(theirs)
    server.on(PATH, problemAnswer(401, 'unauthenticated', { serverTime: isoTime(theirs) }))
    await expect(call()).rejects.toMatchObject({ code: 'unauthenticated' })
  })

  it('waits at least as long as the server asks, and gives up after the attempts it was given', async () => {
    const { clock, server, call } = setUp()
    server.on(PATH, { ...problemAnswer(429, 'too-many'), headers: { 'retry-after': '50' } })
    const before = clock.now()
    await expect(call(3)).rejects.toMatchObject({ code: 'too-many' })
    expect(server.requests).toHaveLength(3)
    expect(clock.now() - before).toBe(100_000)
  })

  it('does not try again what cannot succeed', async () => {
    const { server, call } = setUp()
    server.on(PATH, problemAnswer(422, 'unprocessable'))
    await expect(call(5)).rejects.toMatchObject({ code: 'unprocessable' })
    expect(server.requests).toHaveLength(1)
  })

  it('stops waiting when it is told to', async () => {
    const { server, client } = setUp()
    server.on(PATH, ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))))
    const stopping = new AbortController()
    const waiting = client.call(done, { method: 'POST', path: PATH, signal: stopping.signal })
    const reason = new HoldfastError('cancelled', 'stop')
    stopping.abort(reason)
    await expect(waiting).rejects.toBe(reason)
  })

  it.each([
    'http://backup.example',
    'ftp://backup.example',
    'https://user:word@backup.example',
    'https://backup.example/path',
    'https://backup.example?x=1',
    'backup.example',
    '',
  ])('refuses the address %j', (text) => {
    expect(() => parseServerUrl(text)).toThrow(expect.objectContaining({ code: 'usage' }))
  })

  it.each(['https://backup.example', 'https://backup.example:8443', 'http://127.0.0.1:1234', 'http://[::1]:1234', 'http://localhost:80'])(
    'takes the address %s',
    (text) => {
      expect(parseServerUrl(text).href).toContain('//')
    },
  )

  it('names an authority file that is none', () => {
    const url = parseServerUrl('https://backup.example')
    expect(() => httpTransport({ url, caFile: '/dev/null' })).toThrow(expect.objectContaining({ code: 'bad-config' }))
  })

  it('waits longer after each failure, with jitter, never past the ceiling, and starts anew after a success', () => {
    const wait = backoff(seededRandom('backoff'), { firstMs: 1000, mostMs: 60_000 })
    const waits = Array.from({ length: 10 }, () => wait.next())
    for (const [i, ms] of waits.entries()) {
      const step = Math.min(60_000, 1000 * 2 ** i)
      expect(ms).toBeGreaterThanOrEqual(step / 2)
      expect(ms).toBeLessThan(step)
    }
    wait.reset()
    expect(wait.next()).toBeLessThan(1000)
    expect(wait.next(10_000)).toBe(10_000)
  })
})
