// Policies from the server are taken whole or not at all, and kept over restarts.
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentState } from '../../../agent/daemon/agent-state.ts'
import { alarms } from '../../../agent/daemon/alarms.ts'
import { policyKeeper } from '../../../agent/daemon/policy-keeper.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { acceptPolicy } from '../../../agent/daemon/status.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'
import { testServerSide } from './_support/test-server-side.ts'

const random = seededRandom('keeper')
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const STORE = id('store', 'e')
const policy = {
  ...{
    policyId: id('pol', '1'),
    version: 1,
    source: 'documents',
    schedule: { every: '6h' },
    storeId: STORE,
    instructionId: id('ins', 'f'),
  },
  ...{ purpose: 'backup', tags: [], excludes: [], enabled: true, since: isoTime(1_800_000_000_000) },
}
const stores = [{ storeId: STORE, kind: 's3', region: 'CA-QC', country: 'CA' }]
const config = parseAgentConfig(
  JSON.stringify({ host: 'a', sources: { documents: { paths: ['/srv'] } }, stores: { [STORE]: { location: '/s' } } }),
  'agent.json',
)
const { signal } = new AbortController()

function setUp() {
  const clock = simulatedClock()
  const fileSystem = crashFileSystem()
  const side = testServerSide(clock)
  const key = makeSigningKey(random)
  const client = serverClient({ transport: side, agentId: id('ag', 'a'), key, serverKey: side.key.publicKey, clock, random })
  const notes: string[] = []
  const open = () => {
    const directory = openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
    const raised = alarms(clock, () => undefined)
    const keeper = policyKeeper({
      state: agentState(directory),
      config,
      client,
      alarms: raised,
      note: (code, amount) => void notes.push(`${code} ${amount}`),
    })
    return { keeper, directory, codes: () => raised.list().map(({ code }) => code) }
  }
  const send = (version: number, ...policies: unknown[]): void => side.on('/v1/agent/policies', { json: { version, policies, stores } })
  return { side, open, send, notes }
}

describe('policies', () => {
  it('hold over a restart', async () => {
    const { open, send } = setUp()
    send(1, policy)
    await open().keeper.receive(1, signal)
    const { keeper, codes } = open()
    expect(keeper.carriedOut()).toEqual([policy])
    expect(keeper.find(policy.policyId)).toEqual(policy)
    expect(codes()).toEqual([])
  })

  it.each([
    ['a field that this version does not know', { retention: '30d' }],
    ['a hook', { hooks: ['rm'] }],
    ['a schedule that is none', { schedule: { every: '6 hours' } }],
    ['a path for a source', { source: '/srv/documents' }],
    ['no instruction', { instructionId: undefined }],
  ])('with %s are refused as a whole, told, and the earlier ones stay', async (_, change) => {
    const { open, send, notes } = setUp()
    const { keeper, codes } = open()
    send(1, policy)
    await keeper.receive(1, signal)
    send(2, { ...policy, policyId: id('pol', '2'), source: 'mail' }, { ...policy, ...change })
    await keeper.receive(2, signal)
    expect(keeper.get()).toMatchObject({ version: 1, inForce: [policy] })
    expect(notes).toEqual(['policy-refused 2'])
    expect(codes()).toEqual(['policy-refused'])
    send(3, policy)
    await keeper.receive(3, signal)
    expect(codes()).toEqual([])
  })

  it('with one policy twice are refused', async () => {
    const { open, send } = setUp()
    send(1, policy, policy)
    await expect(open().keeper.receive(1, signal)).rejects.toMatchObject({ code: 'server-untrusted' })
  })

  it('that cannot be carried out here raise an alarm and are not run', async () => {
    const { open, send, notes } = setUp()
    const { keeper, codes } = open()
    send(1, policy, { ...policy, policyId: id('pol', '2'), source: 'mail' })
    await keeper.receive(1, signal)
    expect(keeper.carriedOut()).toEqual([policy])
    expect(codes()).toEqual(['policy-not-carried-out'])
    expect(notes).toEqual(['policy-not-carried-out 1'])
  })

  it('that are others under a version that was given before are nothing that anybody agreed to', async () => {
    const { open, send } = setUp()
    const { keeper, directory } = open()
    send(1, policy, { ...policy, policyId: id('pol', '2') })
    await keeper.receive(1, signal)
    send(2, policy)
    await keeper.receive(2, signal)
    const shown = keeper.get().version
    // What a person looked at is agreed to here, and another thing there, before and after the word is given.
    for (const isGiven of [false, true]) {
      if (isGiven) acceptPolicy(directory, keeper.get().version, isoTime(0))
      for (const version of [3, 2]) {
        send(version, ...(version === 2 ? [] : [policy]))
        await keeper.receive(version, signal)
      }
      if (!isGiven) expect(() => acceptPolicy(directory, shown, isoTime(0))).toThrow(expect.objectContaining({ code: 'conflict' }))
      keeper.takeConsent()
      expect(keeper.carriedOut()).toHaveLength(2)
    }
    acceptPolicy(directory, keeper.get().version, isoTime(0))
    keeper.takeConsent()
    expect(keeper.carriedOut()).toEqual([])
    send(2 ** 53 - 1, policy)
    await expect(keeper.receive(2 ** 53 - 1, signal)).rejects.toMatchObject({ code: 'server-untrusted' })
  })

  it('that narrow wait for consent to that version, over restarts; consent to another changes nothing', async () => {
    const { open, send, notes } = setUp()
    send(1, policy)
    await open().keeper.receive(1, signal)
    send(2)
    await open().keeper.receive(2, signal)
    const { keeper, directory, codes } = open()
    expect(codes()).toEqual(['policy-narrowed'])
    expect(() => acceptPolicy(directory, 1, isoTime(0))).toThrow(expect.objectContaining({ code: 'conflict' }))
    agentState(directory).consent.save({ version: 1, at: isoTime(0) })
    keeper.takeConsent()
    expect(keeper.carriedOut()).toEqual([policy])
    acceptPolicy(directory, 2, isoTime(0))
    keeper.takeConsent()
    expect(keeper.get()).toMatchObject({ version: 2, inForce: [], held: [] })
    expect(codes()).toEqual([])
    expect(notes).toEqual(['policy-narrowed 2', 'policy-accepted 2'])
    expect(() => acceptPolicy(directory, 2, isoTime(0))).toThrow(expect.objectContaining({ code: 'conflict' }))
  })
})
