// How often the daemon asks: at once while there is something to do, never in a circle, ever less while the server is away.
import { afterEach, describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { PollReply, PollRequest } from '@holdfast/shared/protocol/agent.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentState } from '../../../agent/daemon/agent-state.ts'
import { runDaemon } from '../../../agent/daemon/daemon.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { readStatus } from '../../../agent/daemon/status.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'
import { problemAnswer, testServerSide, type Answer } from './_support/test-server-side.ts'

const random = seededRandom('polling')
const NOW = 1_800_000_000_000
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const POLL = '/v1/agent/poll'
const never = (): Promise<never> => Promise.reject(new Error('never'))
let stop: (() => Promise<void>) | undefined
afterEach(async () => {
  await stop?.()
  stop = undefined
})

function start() {
  const clock = simulatedClock({ startMs: NOW })
  const fileSystem = crashFileSystem()
  const side = testServerSide(clock)
  const directory = openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
  agentState(directory).identity.save({
    ...{
      v: 1,
      agentId: id('ag', 'a'),
      controllerId: id('ctl', 'c'),
      siteId: id('site', 'd'),
      processorId: id('prc', '8'),
      region: 'CA-QC',
      host: 'a',
    },
    seed: random.bytes(32).toString('base64url'),
    enrolmentSeed: random.bytes(32).toString('base64url'),
    serverUrl: 'https://backup.example',
    serverPublicKey: side.key.publicKey.toString('base64url'),
    enrolledAt: isoTime(NOW),
  })
  const stopping = new AbortController()
  const run = (): void => {
    const running = runDaemon({
      ...{
        fileSystem,
        clock,
        random,
        transport: side,
        agentVersion: '0.1.0',
        signal: stopping.signal,
        stateDirectory: Buffer.from('/state'),
      },
      config: parseAgentConfig('{"host":"a"}', 'agent.json'),
      engines: { backup: never, collect: never, restore: never, openStore: never },
    })
    stop = async () => {
      stopping.abort()
      await running
    }
  }
  const polls = (): PollRequest[] => side.requests.filter(({ path }) => path === POLL).map((request) => request.json() as PollRequest)
  return { clock, side, directory, run, polls }
}
const reply = (changes: Partial<PollReply> = {}): Answer => ({
  json: {
    ...{
      serverTime: isoTime(NOW),
      acceptedThrough: 0,
      acceptedHash: '0'.repeat(64),
      recordedThrough: 0,
      policiesVersion: 0,
      bundleVersion: 0,
      rosterVersion: 0,
    },
    commands: [],
    ...changes,
  },
})
const settle = async (): Promise<void> => {
  for (let i = 0; i < 300; i++) await Promise.resolve()
}
const hang = (request: { signal: AbortSignal }): Promise<never> =>
  new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)))

describe('the daemon', () => {
  it('asks without waiting first, then waits as long as the server lets it', async () => {
    const { side, run, polls } = start()
    side.on(POLL, reply(), hang)
    run()
    await settle()
    expect(polls().map(({ waitSeconds }) => waitSeconds)).toEqual([0, 45])
  })

  it.each([
    ['a bundle of a domain that nobody confirmed', { bundleVersion: 1 }, '/v1/agent/bundle', 'domain-unconfirmed'],
    ['a roster before the bundle', { rosterVersion: 1 }, '/v1/agent/roster', undefined],
  ] as const)('asks about %s every few seconds, not in a circle', async (_, news, path, alarm) => {
    const { clock, side, directory, run, polls } = start()
    side.on(POLL, reply(news))
    side.on(path, { body: Buffer.alloc(2000) })
    run()
    await settle()
    expect(polls()).toHaveLength(1)
    clock.advance(5000)
    await settle()
    expect(polls()).toHaveLength(2)
    expect(readStatus(directory).alarms.map(({ code }) => code)).toEqual(alarm === undefined ? [] : [alarm])
  })

  it('takes policies that it must refuse once, and does not ask for them again and again', async () => {
    const { side, directory, run, polls } = start()
    side.on(POLL, reply({ policiesVersion: 3 }), hang)
    side.on('/v1/agent/records', hang)
    side.on('/v1/agent/policies', { json: { version: 3, policies: [{ hook: 'rm' }], stores: [] } })
    run()
    await settle()
    expect(polls().map(({ policiesVersion }) => policiesVersion)).toEqual([0, 3])
    expect(readStatus(directory).alarms.map(({ code }) => code)).toEqual(['policy-refused'])
    expect(readStatus(directory).policies).toEqual([])
  })

  it('asks ever less while the server is away, says since when, and at once is well again', async () => {
    const { clock, side, directory, run, polls } = start()
    side.on(POLL, () => {
      throw new HoldfastError('server-unreachable', 'away')
    })
    run()
    const times: number[] = []
    for (let second = 0; second < 3600; second++) {
      await settle()
      while (times.length < polls().length) times.push(second)
      clock.advance(1000)
    }
    expect(times.length).toBeLessThan(40)
    expect(times.at(-1)! - times.at(-2)!).toBeGreaterThan(120)
    expect(readStatus(directory)).toMatchObject({
      server: { error: 'away', lastContactAt: null },
      alarms: [{ code: 'server', since: isoTime(NOW) }],
    })
    side.on(POLL, reply({ serverTime: isoTime(NOW + 4_000_000) }), hang)
    clock.advance(300_000)
    await settle()
    expect(readStatus(directory)).toMatchObject({ server: { error: null }, alarms: [] })
  })

  it('that was revoked goes on and says so', async () => {
    const { clock, side, directory, run } = start()
    side.on(POLL, problemAnswer(401, 'unauthenticated', { serverTime: isoTime(NOW) }))
    run()
    await settle()
    clock.advance(1000)
    await settle()
    expect(readStatus(directory)).toMatchObject({
      state: 'running',
      alarms: [{ code: 'server', message: 'the server says: because unauthenticated' }],
    })
  })

  it('stops cleanly in the middle of a poll, and says that it stopped', async () => {
    const { clock, side, directory, run } = start()
    side.on(POLL, hang)
    run()
    await settle()
    await stop?.()
    stop = undefined
    expect(readStatus(directory).state).toBe('stopped')
    expect(clock.sleepers).toBe(0)
  })
})
