// A hostile control server against the daemon that customers run: everything that it can say, forged, replayed, substituted, cut, huge and slow. The
// agent's state stays as it was, byte for byte but for what is named here; nothing is written where restores go; no run begins.
import { readdir } from 'node:fs/promises'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { isoTime, systemClock } from '@holdfast/shared/clock.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import type { PollReply, PollRequest } from '@holdfast/shared/protocol/agent.ts'
import { commandBytes } from '@holdfast/shared/protocol/signatures.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { makeSigningKey, type SigningKey } from '@holdfast/shared/signing.ts'
import { parseAgentConfig } from '../../agent/daemon/agent-config.ts'
import { agentState, loadAgent, NEW_LINK, saveBundle } from '../../agent/daemon/agent-state.ts'
import { runDaemon } from '../../agent/daemon/daemon.ts'
import { realEngines } from '../../agent/daemon/engines.ts'
import { saveRoster } from '../../agent/daemon/roster-relay.ts'
import { openStateDirectory } from '../../agent/daemon/state-directory.ts'
import { posixFileSystem } from '../../agent/file-system/posix-file-system.ts'
import { domainFingerprint, makeBundle, writerIdOf } from '../../agent/keys/bundle.ts'
import { newDomainRoot, rootKeys, type RootKeys } from '../../agent/keys/domain.ts'
import { rosterBody, rosterWriter } from '../../agent/keys/roster.ts'
import { sealBox } from '../../agent/repository/structure-box.ts'
import { crashFileSystem } from '../agent/daemon/_support/crash-file-system.ts'
import { makeCustomer } from '../agent/daemon/_support/appliance.ts'
import { type Answer, testServerSide } from '../agent/daemon/_support/test-server-side.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { soakResult } from '../_support/soak.ts'

const NOW = 1_800_000_000_000
const POLL = '/v1/agent/poll'
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const STORE = id('store', 'e')
const POLICY = id('pol', '4')
const started = performance.now()
let said = 0
afterAll(() =>
  soakResult({
    ...{ suite: 'hostile', figure: 'things that a hostile server said', asked: said, value: said, violations: 0, seed: 'fixed' },
    seconds: Math.round((performance.now() - started) / 1000),
  }),
)

const settle = async (): Promise<void> => {
  for (let i = 0; i < 400; i++) await Promise.resolve()
}

function domainOf(seed: string): { keys: RootKeys; domainId: Buffer } {
  const domain = newDomainRoot(seededRandom(seed))
  return { keys: rootKeys(domain), domainId: domain.domainId }
}

/** An enrolled appliance with bundle, roster, one policy in force and one restore that waits for its grant; its server says what a test wants. */
function appliance() {
  const random = seededRandom('appliance')
  const clock = simulatedClock({ startMs: NOW })
  const fileSystem = crashFileSystem()
  const side = testServerSide(clock)
  const directory = openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
  const state = agentState(directory)
  const agentId = id('ag', 'a')
  const own = domainOf('own domain')
  state.identity.save({
    ...{ v: 1, agentId, controllerId: id('ctl', 'c'), siteId: id('site', 'd'), processorId: id('prc', '8'), region: 'CA-QC', host: 'a' },
    seed: random.bytes(32).toString('base64url'),
    enrolmentSeed: random.bytes(32).toString('base64url'),
    serverUrl: 'https://backup.example',
    serverPublicKey: side.key.publicKey.toString('base64url'),
    domainFingerprint: domainFingerprint(own.domainId, own.keys.signing.publicKey),
    enrolledAt: isoTime(NOW),
  })
  const agent = loadAgent(state)
  const bundleOf = (keys: RootKeys, changes: Partial<Parameters<typeof makeBundle>[0]> = {}): Buffer =>
    makeBundle({
      ...{
        keys,
        agentId,
        agentKey: agent.key.publicKey,
        enrolmentPublicKey: agent.enrolmentKeyPair.publicKey,
        repository: '/s',
        madeAt: NOW,
      },
      ...{ random, ...changes },
    })
  const rosterOf = (keys: RootKeys, number: number, signer = keys.signing): Buffer => {
    const entry = {
      ...{
        writerId: writerIdOf(agentId),
        publicKey: agent.key.publicKey,
        fingerprint: Buffer.alloc(20),
        state: 'active' as const,
        since: NOW,
      },
      label: 'a',
    }
    const body = rosterBody({ number, madeAt: NOW, entries: [entry] })
    return sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(signer), body })
  }
  saveBundle(state, bundleOf(own.keys))
  saveRoster(state, rosterOf(own.keys, 5), own.keys.write.structure)
  const policy = {
    ...{ policyId: POLICY, version: 3, source: 'documents', schedule: { dailyAt: '02:30', timeZone: 'UTC' }, storeId: STORE },
    ...{
      instructionId: id('ins', 'f'),
      purpose: 'backup' as const,
      tags: ['daily'],
      excludes: [],
      enabled: true,
      since: isoTime(NOW - 1000),
    },
  }
  const stores = [{ storeId: STORE, kind: 'directory' as const, region: 'CA-ON', country: 'CA' }]
  state.policies.save({ version: 3, received: [policy], stores, inForce: [policy], held: [] })
  state.link.save({ ...NEW_LINK, policiesVersion: 3 })
  state.runs.save({ [POLICY]: { lastStartMs: NOW - 1000, lastEndMs: NOW - 500, lastOutcome: 'ok', lastGoodMs: NOW - 1000, failures: 0 } })
  const body = {
    ...{
      restoreId: id('rst', '1'),
      snapshot: { snapshotId: '5'.repeat(32) },
      selection: { tokens: ['6'.repeat(64)] },
      restoreRoot: 'desk',
    },
    ...{ conflict: 'beside' as const, purpose: 'restore' as const, instructionId: id('ins', 'f'), storeId: STORE },
    ...{ requestedBy: `user:${id('usr', '2')}`, approvedBy: null },
  }
  state.restore(body.restoreId).save({ body, seed: random.bytes(32).toString('base64url'), preparedAt: isoTime(NOW), keySent: true })

  const begun: string[] = []
  const never = (what: string) => (): Promise<never> => {
    begun.push(what)
    return Promise.reject(new Error(`${what} began`))
  }
  /** All that stands in the state directory, but how things stand with the server, and the journal. */
  const files = (): Record<string, string> =>
    Object.fromEntries(
      directory
        .names()
        .filter((name) => !['status.json', 'link.json', 'journal', 'daemon.lock'].includes(name))
        .map((name) => [name, directory.read(name, 1 << 20)?.toString('base64') ?? '']),
    )
  const stopping = new AbortController()
  let running: Promise<void> | undefined
  const start = (): void => {
    running = runDaemon({
      ...{ fileSystem, clock, random, transport: side, agentVersion: '0.1.0', signal: stopping.signal },
      stateDirectory: Buffer.from('/state'),
      config: parseAgentConfig(
        JSON.stringify({
          host: 'a',
          sources: { documents: { paths: ['/d'] } },
          restoreRoots: { desk: '/r' },
          stores: { [STORE]: { location: '/s' } },
        }),
        'agent.json',
      ),
      engines: { backup: never('backup'), restore: never('restore'), collect: never('collect'), openStore: never('store') },
    })
    running.catch(() => undefined)
  }
  const stop = async (): Promise<void> => {
    stopping.abort()
    await running
  }
  return { clock, side, directory, state, fileSystem, own, bundleOf, rosterOf, policy, stores, body, begun, files, start, stop }
}

type Appliance = ReturnType<typeof appliance>
let stop: (() => Promise<unknown>) | undefined
afterEach(async () => {
  await stop?.()
  stop = undefined
})

const hang = (request: { signal: AbortSignal }): Promise<never> =>
  new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)))
const replied = (changes: Partial<Record<keyof PollReply, unknown>> = {}): Answer => ({
  json: {
    ...{
      serverTime: isoTime(NOW),
      acceptedThrough: 0,
      acceptedHash: '0'.repeat(64),
      recordedThrough: 0,
      policiesVersion: 3,
      bundleVersion: 0,
    },
    ...{ rosterVersion: 0, commands: [], ...changes },
  },
})

/** The daemon is told `answers` in a row and then nothing more; gives the state before and after, and what it acknowledged. */
async function listen(to: Appliance, answers: readonly Answer[]) {
  said += answers.length
  const told: PollRequest[] = []
  let before: Record<string, string> | undefined
  to.side.on(POLL, ...answers.map((answer) => () => ((before ??= to.files()), answer)), (request) => {
    told.push(JSON.parse(request.body.toString()) as PollRequest)
    return hang(request)
  })
  to.side.on('/v1/agent/records', hang)
  to.start()
  stop = to.stop
  for (let minutes = 0; told.length === 0 && minutes < 40 * (answers.length + 1); minutes++) {
    await settle()
    if (told.length === 0) to.clock.advance(60_000)
  }
  await settle()
  expect(told.length, 'the daemon asks again').toBeGreaterThan(0)
  return { before: before!, after: to.files(), acknowledged: told.flatMap((request) => request.acknowledged) }
}

function commands(to: Appliance) {
  const common = { agentId: id('ag', 'a'), issuedAt: isoTime(NOW - 1000), expiresAt: isoTime(NOW + 86_400_000) }
  const lease = { leaseId: id('lea', '3'), leaseUntil: isoTime(NOW + 90_000) }
  return {
    backup: { ...common, id: id('cmd', '1'), kind: 'backup-now', body: { policyId: POLICY } },
    prepare: { ...common, id: id('cmd', '2'), kind: 'prepare-restore', body: { ...to.body, restoreId: id('rst', '9') } },
    restore: { ...common, id: id('cmd', '3'), kind: 'restore', body: { ...to.body, ...lease } },
    cancel: { ...common, id: id('cmd', '4'), kind: 'cancel', body: { restoreId: to.body.restoreId } },
    policies: { ...common, id: id('cmd', '5'), kind: 'update-policies', body: { version: 4 } },
  }
}
const sign = (command: unknown, key: SigningKey): unknown => ({
  command,
  signature: key.sign(commandBytes(command as Json)).toString('base64url'),
})

/** Every value inside, changed in every way. */
function* mutants(value: unknown, path: readonly string[] = []): Generator<(root: unknown) => unknown> {
  const put = (root: unknown, next: unknown): unknown => {
    if (path.length === 0) return next
    const copy = structuredClone(root) as Record<string, unknown>
    let at = copy
    for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>
    if (next === undefined) delete at[path.at(-1)!]
    else at[path.at(-1)!] = next
    return copy
  }
  for (const next of [undefined, null, '', '/etc/shadow', 7, -1, 1e300, true, [], {}, { hook: 'rm -rf /' }, 'x'.repeat(5000)])
    if (path.length > 0 && !Object.is(next, value)) yield (root) => put(root, next)
  if (value !== null && typeof value === 'object') {
    for (const more of ['paths', 'url', 'hook', 'script', '__proto__x'])
      yield (root) => put(root, { ...(value as object), [more]: ['/etc'] })
    for (const [key, item] of Object.entries(value)) yield* mutants(item, [...path, key])
  }
}

describe('a server that lies', () => {
  test('with any value of any command changed, after it was signed, is not obeyed in anything', async () => {
    const to = appliance()
    const bad: unknown[] = []
    for (const command of Object.values(commands(to))) {
      const signed = sign(command, to.side.key)
      bad.push(sign(command, makeSigningKey(seededRandom('another'))))
      for (const mutate of mutants(command)) bad.push({ ...(signed as object), command: mutate(command) })
      for (const mutate of mutants(signed)) bad.push(mutate(signed))
    }
    expect(bad.length).toBeGreaterThan(500)
    const answers = Array.from({ length: Math.ceil(bad.length / 64) }, (_, i) => replied({ commands: bad.slice(i * 64, i * 64 + 64) }))
    said += bad.length
    const { before, after, acknowledged } = await listen(to, answers)
    expect(after).toEqual(before)
    expect(acknowledged).toEqual([])
    expect(to.begun).toEqual([])
  })

  test('with commands that it signed itself and that are malformed, for another, or out of their time, is not obeyed in anything', async () => {
    const to = appliance()
    const bad: unknown[] = []
    for (const command of Object.values(commands(to))) {
      for (const change of [
        { agentId: id('ag', 'b') },
        { expiresAt: isoTime(NOW - 1) },
        { issuedAt: isoTime(NOW + 3_600_000), expiresAt: isoTime(NOW + 7_200_000) },
        { expiresAt: isoTime(NOW + 400 * 86_400_000) },
        { kind: 'run-script' },
        { paths: ['/etc'] },
        { body: { ...command.body, paths: ['/etc/shadow'] } },
        { body: { ...command.body, hook: 'curl evil' } },
        { body: { ...command.body, target: '/' } },
      ])
        bad.push(sign({ ...command, ...change }, to.side.key))
    }
    said += bad.length
    const { before, after, acknowledged } = await listen(to, [replied({ commands: bad })])
    expect(after).toEqual(before)
    expect(acknowledged).toEqual([])
    expect(to.begun).toEqual([])
  })

  test('with a good signature on a restore that was asked for otherwise, or never, or a root, store or policy that is not here, begins nothing', async () => {
    const to = appliance()
    const { restore, prepare, backup } = commands(to)
    const other = [
      { restoreRoot: 'elsewhere' },
      { conflict: 'always' },
      { selection: { whole: true } },
      { snapshot: { snapshotId: '7'.repeat(32) } },
      { storeId: id('store', '7') },
      { purpose: 'restore-test' },
      { instructionId: id('ins', '7') },
      { requestedBy: `user:${id('usr', '9')}` },
      { restoreId: id('rst', '7') },
    ]
    let digit = 0
    const next = (): string => `cmd_${(digit += 1).toString(16).padStart(32, '0')}`
    const bad = [
      ...other.map((change) => ({ ...restore, id: next(), body: { ...restore.body, ...change } })),
      ...other.slice(0, 1).map((change) => ({ ...prepare, id: next(), body: { ...prepare.body, ...change } })),
      ...other.slice(1, 7).map((change) => ({ ...prepare, id: next(), body: { ...to.body, ...change } })),
      { ...prepare, id: next(), body: { ...prepare.body, storeId: id('store', '7') } },
      { ...prepare, id: next(), body: { ...prepare.body, requestedBy: '../../etc' } },
      { ...backup, id: next(), body: { policyId: id('pol', '7') } },
    ]
    const { before, after, acknowledged } = await listen(to, [replied({ commands: bad.map((command) => sign(command, to.side.key)) })])
    expect(acknowledged.map(({ result }) => result)).toEqual(bad.map(() => 'refused'))
    expect(acknowledged.every(({ code }) => ['conflict', 'policy', 'wrong-key', 'not-found'].includes(code ?? ''))).toBe(true)
    expect(after).toEqual(before)
    expect(to.begun).toEqual([])
  })

  test('with answers that it did not sign, or with another key, or that are cut, huge or nonsense, is as good as away', async () => {
    const other = makeSigningKey(seededRandom('a new key'))
    const good = JSON.stringify(replied({ policiesVersion: 99, bundleVersion: 9, rosterVersion: 9 }).json)
    for (const answer of [
      { ...replied({ policiesVersion: 99, bundleVersion: 9 }), signedBy: null },
      { ...replied({ policiesVersion: 99, bundleVersion: 9 }), signedBy: other },
      { ...replied({ policiesVersion: 99 }), signedStatus: 204 },
      { body: Buffer.from(good.slice(0, -9)) },
      { body: Buffer.from(`${good}{}`) },
      { body: Buffer.concat([Buffer.from(good), Buffer.alloc(10)]) },
      { body: Buffer.from('['.repeat(200_000)) },
      { body: Buffer.from([0xff, 0xfe, 0x00]) },
      { json: null },
      { json: [] },
      replied({ serverTime: 'never' }),
      replied({ acceptedThrough: -1 }),
      replied({ acceptedThrough: 2 ** 60 }),
      replied({ commands: Array.from({ length: 65 }, () => ({})) }),
      replied({ commands: 'all' }),
      { json: { ...(replied().json as object), config: { stores: {} } } },
      { status: 302, headers: { location: 'http://evil.example/' }, json: {} },
      { status: 500, json: {} },
      { status: 401, json: {} },
    ] satisfies Answer[]) {
      const to = appliance()
      const { before, after } = await listen(to, [answer])
      expect({ answer, after }).toEqual({ answer, after: before })
      expect(to.begun).toEqual([])
      expect(to.side.requests.filter(({ path }) => path !== POLL && path !== '/v1/agent/records').map(({ path }) => path)).toEqual([])
      await stop?.()
      stop = undefined
    }
  })

  test('that substitutes bundle or roster, or goes back to an older roster, is told and changes nothing', async () => {
    const foreign = domainOf('foreign domain')
    const cases: (readonly [string, (to: Appliance) => { bundle?: Buffer; roster?: Buffer }])[] = [
      ['a bundle of another domain', (to) => ({ bundle: to.bundleOf(foreign.keys) })],
      [
        'a bundle that another domain signed for this one',
        (to) => ({ bundle: to.bundleOf({ ...to.own.keys, signing: foreign.keys.signing }) }),
      ],
      ['a bundle for another agent', (to) => ({ bundle: to.bundleOf(to.own.keys, { agentKey: foreign.keys.signing.publicKey }) })],
      ['a bundle that is cut', (to) => ({ bundle: to.bundleOf(to.own.keys).subarray(0, 900) })],
      ['a bundle with a bit changed', (to) => ({ bundle: flipped(to.bundleOf(to.own.keys), 1500) })],
      ['a bundle of nothing', () => ({ bundle: Buffer.alloc(60_000) })],
      ['a roster that is older', (to) => ({ roster: to.rosterOf(to.own.keys, 4) })],
      ['a roster of another domain', (to) => ({ roster: to.rosterOf(foreign.keys, 9) })],
      ['a roster signed by the agent itself', (to) => ({ roster: to.rosterOf(to.own.keys, 9, loadAgent(to.state).key) })],
      ['a roster with a bit changed', (to) => ({ roster: flipped(to.rosterOf(to.own.keys, 9), 200) })],
      ['a roster of nothing', () => ({ roster: Buffer.alloc(5000) })],
    ]
    for (const [what, of] of cases) {
      const to = appliance()
      const { bundle, roster } = of(to)
      to.side.on('/v1/agent/bundle', { body: bundle ?? to.bundleOf(to.own.keys) })
      to.side.on('/v1/agent/roster', { body: roster ?? to.rosterOf(to.own.keys, 5) })
      const news = bundle === undefined ? { rosterVersion: 9 } : { bundleVersion: 9 }
      const { before, after } = await listen(to, [replied(news)])
      expect({ what, after }).toEqual({ what, after: before })
      expect(to.side.requests.map(({ path }) => path)).toContain(bundle === undefined ? '/v1/agent/roster' : '/v1/agent/bundle')
      expect(to.begun).toEqual([])
      await stop?.()
      stop = undefined
    }
  })

  test('that narrows a policy, replays an older and narrower one, or adds what the agent does not know, leaves in force what was', async () => {
    const cases: (readonly [string, (policy: Appliance['policy']) => unknown[]])[] = [
      ['none', () => []],
      ['disabled', (policy) => [{ ...policy, version: 4, enabled: false }]],
      ['rarer', (policy) => [{ ...policy, version: 4, schedule: { everyHours: 500 } }]],
      ['more left out', (policy) => [{ ...policy, version: 4, excludes: ['media'] }]],
      ['an older version', (policy) => [{ ...policy, version: 1, enabled: false }]],
      ['a hook', (policy) => [{ ...policy, version: 4, hook: 'rm' }]],
      ['a path for a source', (policy) => [{ ...policy, version: 4, source: '/etc' }]],
      ['twice', (policy) => [policy, policy]],
    ]
    for (const [what, policies] of cases) {
      const to = appliance()
      to.side.on('/v1/agent/policies', { json: { version: 4, policies: policies(to.policy), stores: to.stores } })
      await listen(to, [replied({ policiesVersion: 4 })])
      expect({ what, inForce: to.state.policies.load()?.inForce }).toEqual({ what, inForce: [to.policy] })
      expect(to.begun).toEqual([])
      await stop?.()
      stop = undefined
    }
  })
})

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at % copy.length]! ^= 1
  return copy
}

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 45_000, interval: 20 })

test('a restore that is given out twice, under two leases, is carried out once', async () => {
  const to = appliance()
  const { restore } = commands(to)
  const again = { ...restore, id: id('cmd', '7'), body: { ...restore.body, leaseId: id('lea', '7') } }
  for (const route of ['progress', 'result']) to.side.on(`/v1/agent/restores/${to.body.restoreId}/${route}`, hang)
  await listen(to, [replied({ commands: [restore, again].map((one) => sign(one, to.side.key)) })])
  for (let minutes = 0; minutes < 5; minutes++) {
    await settle()
    to.clock.advance(60_000)
  }
  expect(to.begun).toEqual(['store'])
  // Told under the lease that the server knows of.
  expect(to.state.restore(to.body.restoreId).load()).toMatchObject({ result: { outcome: 'failed', leaseId: id('lea', '7') } })
})

describe('a grant on the real way', () => {
  const changes = {
    'for another request': { restoreId: id('rst', '9') },
    'for another snapshot': { snapshotId: '8'.repeat(32) },
    'for another selection': { selection: '8'.repeat(64), sessionKeys: [] },
    'for another root': { restoreRoot: 'elsewhere' },
    'with another conflict rule': { conflict: 'always' as const },
    'to another key': {},
    'that expired while the server turned its time back': {},
  }
  test.each(Object.entries(changes))('%s opens nothing and writes nothing', async (name, change) => {
    said += 1
    const customer = await makeCustomer({ 'letter.txt': 'content of the letter' })
    stop = () => customer.close()
    await customer.collect()
    const { id: policyId } = await customer.makePolicy()
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    const stopping = new AbortController()
    const isLate = name.startsWith('that expired')
    // The appliance's own clock, two days ahead of what the server says; everything else goes by the server's.
    const ahead = { ...systemClock, now: () => systemClock.now() + 2 * 86_400_000 }
    const running = runDaemon({
      ...{ clock: isLate ? ahead : systemClock, random: systemRandom, fileSystem: posixFileSystem, config: customer.config },
      ...{
        stateDirectory: Buffer.from(customer.at('state')),
        transport: customer.transport,
        agentVersion: '0.1.0',
        signal: stopping.signal,
      },
      engines: realEngines({ clock: systemClock, random: systemRandom }),
    })
    stop = async () => {
      stopping.abort()
      await running
      await customer.close()
    }
    const listed = async (): Promise<{ id: string }[]> =>
      (await customer.server.call('GET', `/v1/snapshots?agentId=${customer.ids.agentId}`, customer.token)).json()['items'] as {
        id: string
      }[]
    await until(async () => expect(await listed()).toHaveLength(1))
    const [snapshot] = await listed()
    const { id: restoreId } = await customer.askRestore({ snapshotId: snapshot!.id }, 'a-request')
    const stateOf = async () => {
      await customer.drain()
      return (await customer.server.call('GET', `/v1/restores/${restoreId}`, customer.token)).json()
    }
    await until(async () => expect(await stateOf()).toMatchObject({ state: 'awaiting_grant' }))
    const other = name === 'to another key' ? { requestPublicKey: loadAgent(customer.state).enrolmentKeyPair.publicKey } : change
    await customer.put(`/v1/restores/${restoreId}/grant`, await customer.grant(String(restoreId), snapshot!.id, other))
    await until(async () =>
      expect(await stateOf()).toMatchObject({ state: 'failed', code: expect.stringMatching(/^(grant-refused|wrong-key)$/) }),
    )
    expect(await readdir(customer.at('restored'))).toEqual([])
  })
})
