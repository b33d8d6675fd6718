// A restore's lease and its request: beaten in time, lost when it must be, and a command that differs from what was prepared is refused.
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { restoreKey } from '@holdfast/shared/protocol/agent.ts'
import { restoreKeyBytes } from '@holdfast/shared/protocol/signatures.ts'
import { makeSigningKey, verifySignature } from '@holdfast/shared/signing.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentOf, agentState } from '../../../agent/daemon/agent-state.ts'
import { NO_TOTALS } from '../../../agent/daemon/recorder.ts'
import { isRequestedCancel } from '../../../agent/daemon/parts.ts'
import { restoreRequests, type RestoreBody, type RestoreCommandBody } from '../../../agent/daemon/restore-requests.ts'
import { holdLease } from '../../../agent/daemon/restore-task.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock, type SimulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'
import { problemAnswer, testServerSide, timeAnswer, type Answer } from './_support/test-server-side.ts'

const random = seededRandom('lease')
const NOW = 1_800_000_000_000
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const restoreId = id('rst', '1')
const STORE = id('store', 'e')
const body: RestoreBody = {
  restoreId,
  snapshot: { snapshotId: '5'.repeat(32) },
  selection: { tokens: ['6'.repeat(64)] },
  restoreRoot: 'desk',
  conflict: 'beside',
  purpose: 'restore',
  instructionId: id('ins', 'f'),
  storeId: STORE,
  requestedBy: `user:${id('usr', '2')}`,
  approvedBy: null,
}
const command = (more: Partial<RestoreCommandBody> = {}): RestoreCommandBody => ({
  ...body,
  leaseId: id('lea', '3'),
  leaseUntil: isoTime(NOW + 90_000),
  ...more,
})
const PROGRESS = `/v1/agent/restores/${restoreId}/progress`
const agent = agentOf({
  ...{
    v: 1,
    agentId: id('ag', 'a'),
    controllerId: id('ctl', 'c'),
    siteId: id('site', 'd'),
    processorId: id('prc', '8'),
    region: 'CA-QC',
    host: 'appliance-1',
  },
  seed: random.bytes(32).toString('base64url'),
  enrolmentSeed: random.bytes(32).toString('base64url'),
  serverUrl: 'https://backup.example',
  serverPublicKey: makeSigningKey(random).publicKey.toString('base64url'),
  enrolledAt: isoTime(NOW),
})
const config = parseAgentConfig(
  JSON.stringify({
    host: 'appliance-1',
    restoreRoots: { desk: '/r', drill: '/d' },
    drillRoots: ['drill'],
    stores: { [STORE]: { location: '/s' } },
  }),
  'agent.json',
)

function setUp() {
  const clock = simulatedClock({ startMs: NOW })
  const side = testServerSide(clock, () => agent.key.publicKey)
  const client = serverClient({ transport: side, agentId: agent.agentId, key: agent.key, serverKey: side.key.publicKey, clock, random })
  const fileSystem = crashFileSystem()
  const open = () => agentState(openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true }))
  const requests = () => restoreRequests({ agent, state: open(), config, client, clock, random })
  return { clock, side, client, fileSystem, open, requests }
}
/** Lets everything that can go on without time go on. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 100; i++) await Promise.resolve()
}
const pass = async (clock: SimulatedClock, ms: number): Promise<void> => {
  for (let done = 0; done < ms; done += 1000) {
    clock.advance(1000)
    await settle()
  }
}
const beaten = (clock: SimulatedClock, cancel = false): Answer => ({
  json: { leaseUntil: isoTime(clock.now() + 90_000), cancel, serverTime: isoTime(clock.now()) },
})

describe('a lease', () => {
  it('is beaten at once, every 30 seconds while nothing happens, and at most once a second while much does', async () => {
    const { clock, side, client } = setUp()
    side.on(PROGRESS, () => beaten(clock))
    const lease = holdLease({ client, clock, body: command(), signal: new AbortController().signal })
    await settle()
    expect(side.requests).toHaveLength(1)
    await pass(clock, 90_000)
    expect(side.requests).toHaveLength(4)
    for (let i = 1; i <= 10; i++) {
      for (let j = 0; j < 50; j++) lease.stand({ done: { files: i * j, bytes: 1 }, total: { files: 500, bytes: 1 } })
      await pass(clock, 1000)
    }
    expect(side.requests).toHaveLength(14)
    expect(side.requests.at(-1)!.json()).toMatchObject({ leaseId: id('lea', '3'), done: { files: 490 } })
    expect(lease.signal.aborted).toBe(false)
    await lease.release()
    expect(clock.sleepers).toBe(0)
  })

  it('that the server gave to another is lost at once', async () => {
    const { clock, side, client } = setUp()
    side.on(PROGRESS, problemAnswer(409, 'lease-lost'))
    const lease = holdLease({ client, clock, body: command(), signal: new AbortController().signal })
    await settle()
    expect(lease.signal.reason).toMatchObject({ code: 'lease-lost' })
    expect(isRequestedCancel(lease.signal.reason)).toBe(false)
    const released = lease.release()
    await released
  })

  it('is borne through a silence of the server, until the server must take it for ended', async () => {
    const { clock, side, client } = setUp()
    side.on(
      PROGRESS,
      () => beaten(clock),
      () => {
        throw new HoldfastError('server-unreachable', 'away')
      },
    )
    const lease = holdLease({ client, clock, body: command(), signal: new AbortController().signal })
    await settle()
    await pass(clock, 89_000)
    expect(lease.signal.aborted).toBe(false)
    await pass(clock, 35_000)
    expect(lease.signal.reason).toMatchObject({ code: 'lease-lost' })
    await lease.release()
  })

  it('ends with the restore that was cancelled', async () => {
    const { clock, side, client } = setUp()
    side.on(PROGRESS, () => beaten(clock, true))
    const lease = holdLease({ client, clock, body: command(), signal: new AbortController().signal })
    await settle()
    expect(isRequestedCancel(lease.signal.reason)).toBe(true)
    await lease.release()
  })
})

describe('a restore request', () => {
  it('gets a key pair of its own, signed by the agent, the same after a restart, and sent once', async () => {
    const { clock, side, open, requests } = setUp()
    side.on(`/v1/agent/restores/${restoreId}/key`, timeAnswer(clock))
    const { signal } = new AbortController()
    requests().prepare(body)
    const { seed } = open().restore(restoreId).load()!
    await requests().send(signal)
    await requests().send(signal)
    expect(side.requests).toHaveLength(1)
    const sent = restoreKey.parse(side.requests[0]!.json())
    const publicKey = Buffer.from(sent.publicKey, 'base64url')
    expect(verifySignature(agent.key.publicKey, restoreKeyBytes(restoreId, publicKey), Buffer.from(sent.signature, 'base64url'))).toBe(true)
    // Asked again, because the key did not arrive: the same key goes again.
    requests().prepare(body)
    expect(open().restore(restoreId).load()).toMatchObject({ seed, keySent: false })
    await requests().send(signal)
    expect(side.requests[1]!.json()).toMatchObject({ publicKey: sent.publicKey })
    const accepted = requests().accept(command())
    expect('keyPair' in accepted && accepted.keyPair.publicKey.equals(publicKey)).toBe(true)
  })

  it.each([
    ['other tokens', { selection: { tokens: ['7'.repeat(64)] } }],
    ['everything', { selection: { whole: true as const } }],
    ['another snapshot', { snapshot: { snapshotId: '7'.repeat(32) } }],
    ['another root', { restoreRoot: 'elsewhere' }],
    ['another rule for conflicts', { conflict: 'always' as const }],
    ['another instruction', { instructionId: id('ins', 'a') }],
    ['another requester', { requestedBy: `user:${id('usr', '9')}` }],
  ])('that comes back with %s is refused', (_, change) => {
    const { open, requests } = setUp()
    requests().prepare(body)
    const before = open().restore(restoreId).load()
    expect(() => requests().accept(command(change))).toThrow(expect.objectContaining({ code: 'conflict' }))
    expect(() => requests().prepare({ ...body, ...change })).toThrow(expect.objectContaining({ code: 'conflict' }))
    expect(open().restore(restoreId).load()).toEqual(before)
  })

  it.each([
    ['a root that is not configured', { restoreRoot: 'elsewhere' }],
    ['a root that every object has', { restoreRoot: 'constructor' }],
    ['a store that is not configured', { storeId: id('store', 'd') }],
    ['a requester who is none', { requestedBy: 'somebody' }],
    ['a root for drills, without being one', { restoreRoot: 'drill' }],
  ])('for %s is refused and leaves nothing', (_, change) => {
    const { open, requests } = setUp()
    expect(() => requests().prepare({ ...body, ...change })).toThrow(expect.objectContaining({ code: 'policy' }))
    expect(open().restoreIds()).toEqual([])
  })

  it('for a root for drills is taken where it is one, and not when the command says that it is none', () => {
    const { requests } = setUp()
    const drill = { restoreRoot: 'drill', purpose: 'restore-test' } as const
    requests().prepare({ ...body, ...drill })
    expect(requests().accept(command(drill))).toHaveProperty('keyPair')
    expect(() => requests().accept(command({ restoreRoot: 'drill' }))).toThrow(expect.objectContaining({ code: 'conflict' }))
  })

  it('that was never prepared here is refused', () => {
    expect(() => setUp().requests().accept(command())).toThrow(expect.objectContaining({ code: 'wrong-key' }))
  })

  it('that ended has no key any more; its result is told until the server has it, under whatever lease it asks next', async () => {
    const { clock, side, fileSystem, open, requests } = setUp()
    requests().prepare(body)
    const { seed } = open().restore(restoreId).load()!
    expect(fileSystem.allBytes().includes(seed!)).toBe(true)
    requests().finish(restoreId, { leaseId: id('lea', '3'), outcome: 'completed', totals: NO_TOTALS })
    expect(fileSystem.allBytes().includes(seed!)).toBe(false)
    const path = `/v1/agent/restores/${restoreId}/result`
    const { signal } = new AbortController()
    side.on(path, problemAnswer(409, 'lease-lost'))
    await requests().send(signal)
    expect(requests().accept(command({ leaseId: id('lea', '4') }))).toEqual({ ended: true })
    side.on(path, timeAnswer(clock))
    await requests().send(signal)
    expect(side.requests.map((request) => (request.json() as { leaseId: string }).leaseId)).toEqual([id('lea', '3'), id('lea', '4')])
    expect(open().restoreIds()).toEqual([])
  })

  it('that the server does not know any more is dropped with its key', async () => {
    const { side, open, requests } = setUp()
    requests().prepare(body)
    side.on(`/v1/agent/restores/${restoreId}/key`, problemAnswer(404, 'not-found'))
    await requests().send(new AbortController().signal)
    expect(open().restoreIds()).toEqual([])
  })
})
