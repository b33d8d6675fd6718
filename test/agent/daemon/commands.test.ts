// A command that is not perfectly as it must be changes nothing in the agent's state, whatever was done to it.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { PollRequest } from '@holdfast/shared/protocol/agent.ts'
import type { Command, SignedCommand } from '@holdfast/shared/protocol/commands.ts'
import { commandBytes } from '@holdfast/shared/protocol/signatures.ts'
import { makeSigningKey, type SigningKey } from '@holdfast/shared/signing.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentState } from '../../../agent/daemon/agent-state.ts'
import { COMMAND_LIFE_MS, openCommand, rememberCommands } from '../../../agent/daemon/commands.ts'
import { runDaemon } from '../../../agent/daemon/daemon.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'
import { testServerSide } from './_support/test-server-side.ts'

const random = seededRandom('commands')
const NOW = 1_800_000_000_000
const server = makeSigningKey(random)
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const agentId = id('ag', 'a')
const STORE = id('store', 'e')
const expect_ = { agentId, serverKey: server.publicKey, nowMs: NOW }

const restoreBody = {
  restoreId: id('rst', '1'),
  snapshot: { snapshotId: '5'.repeat(32) },
  selection: { tokens: ['6'.repeat(64)] },
  restoreRoot: 'desk',
  conflict: 'beside' as const,
  purpose: 'restore' as const,
  instructionId: id('ins', 'f'),
  storeId: STORE,
  requestedBy: id('usr', '2'),
  approvedBy: null,
}
const common = { agentId, issuedAt: isoTime(NOW - 1000), expiresAt: isoTime(NOW + 60_000) }
const lease = { leaseId: id('lea', '3'), leaseUntil: isoTime(NOW + 90_000) }
const COMMANDS: readonly Command[] = [
  { ...common, id: id('cmd', '1'), kind: 'backup-now', body: { policyId: id('pol', '4') } },
  { ...common, id: id('cmd', '2'), kind: 'prepare-restore', body: restoreBody },
  { ...common, id: id('cmd', '3'), kind: 'restore', body: { ...restoreBody, ...lease } },
  { ...common, id: id('cmd', '4'), kind: 'cancel', body: { runId: id('run', '5') } },
  { ...common, id: id('cmd', '5'), kind: 'update-policies', body: { version: 3 } },
]
const sign = (command: unknown, key: SigningKey = server): SignedCommand => ({
  command: command as Command,
  signature: key.sign(commandBytes(command as Json)).toString('base64url'),
})
const refused = (item: unknown): string => {
  try {
    openCommand(item, expect_)
  } catch (error) {
    if (isHoldfastError(error)) return error.code
    throw error
  }
  return 'taken'
}

/** Every path to a value inside, so that each can be changed. */
function paths(value: unknown, at: readonly string[] = []): (readonly string[])[] {
  if (value === null || typeof value !== 'object') return [at]
  return [...(at.length > 0 ? [at] : []), ...Object.entries(value).flatMap(([key, item]) => paths(item, [...at, key]))]
}
function changed(value: unknown, path: readonly string[], change: (old: unknown) => unknown): unknown {
  const [first, ...rest] = path
  if (first === undefined) return change(value)
  const copy = structuredClone(value) as Record<string, unknown>
  const next = changed(copy[first], rest, change)
  if (next === undefined) delete copy[first]
  else copy[first] = next
  return copy
}
const CHANGES: Readonly<Record<string, (old: unknown) => unknown>> = {
  gone: () => undefined,
  null: (old) => (old === null ? 'x' : null),
  other: (old) => (typeof old === 'string' ? `${old.slice(0, -1)}${old.endsWith('0') ? '1' : '0'}` : 7),
  'path-like': () => '/etc/shadow',
  nested: (old) => ({ hook: old }),
}

describe('a command', () => {
  it.each(COMMANDS.map((command) => [command.kind, command] as const))('%s is taken as it was signed', (_, command) => {
    expect(openCommand(sign(command), expect_)).toEqual(command)
  })

  it('is refused after any change to any of its values, with the signature it had', () => {
    for (const command of COMMANDS)
      for (const path of paths(command))
        for (const [name, change] of Object.entries(CHANGES)) {
          const mutant = { ...sign(command), command: changed(command, path, change) }
          expect(refused(mutant), `${command.kind} ${path.join('.')} ${name}`).toBe('server-untrusted')
        }
  })

  it('is refused with anything more in it, also where the server signed that', () => {
    for (const command of COMMANDS) {
      for (const more of ['paths', 'hook', 'url', 'script'])
        for (const mutant of [
          { ...command, [more]: '/etc' },
          { ...command, body: { ...command.body, [more]: '/etc' } },
        ])
          expect(refused(sign(mutant))).toBe('server-untrusted')
      expect(refused({ ...sign(command), more: 1 })).toBe('server-untrusted')
      expect(refused(sign({ ...command, kind: 'run-script' }))).toBe('server-untrusted')
    }
  })

  it('is refused with any bit of its signature changed, or by another key', () => {
    fc.assert(
      fc.property(fc.constantFrom(...COMMANDS), fc.nat({ max: 511 }), (command, bit) => {
        const signed = sign(command)
        const bytes = Buffer.from(signed.signature, 'base64url')
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        expect(refused({ ...signed, signature: bytes.toString('base64url') })).toBe('server-untrusted')
      }),
    )
    for (const command of COMMANDS) expect(refused(sign(command, makeSigningKey(random)))).toBe('server-untrusted')
  })

  it.each([
    ['for another agent', { agentId: id('ag', 'b') }],
    ['that has expired', { expiresAt: isoTime(NOW) }],
    ['from the future', { issuedAt: isoTime(NOW + 6 * 60_000), expiresAt: isoTime(NOW + 7 * 60_000) }],
    ['that expires before it was issued', { issuedAt: isoTime(NOW + 70_000) }],
    ['that lives for ever', { expiresAt: isoTime(NOW + COMMAND_LIFE_MS) }],
  ])('%s is refused, also when it is signed', (_, change) => {
    for (const command of COMMANDS) expect(refused(sign({ ...command, ...change }))).toBe('policy')
  })

  it('whose time is none is malformed, also when it is signed', () => {
    for (const command of COMMANDS) expect(refused(sign({ ...command, issuedAt: '2027-19-39T29:59:59.999Z' }))).toBe('server-untrusted')
  })

  it('that is anything at all is refused without a crash', () => {
    fc.assert(
      fc.property(fc.anything(), (item) => {
        expect(refused(item)).toBe('server-untrusted')
      }),
    )
  })

  it('that was taken is known after a restart, until it has expired', () => {
    const fileSystem = crashFileSystem()
    const open = () =>
      rememberCommands(agentState(openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })).taken)
    const [first, second] = COMMANDS
    open().take(first!, NOW)
    expect(open().has(first!)).toBe(true)
    expect(open().has(second!)).toBe(false)
    open().take(second!, NOW + COMMAND_LIFE_MS)
    expect(open().has(first!)).toBe(false)
  })
})

describe('a daemon', () => {
  it('given bad commands changes nothing, answers none of them, and still takes the good one beside them', async () => {
    const clock = simulatedClock({ startMs: NOW })
    const fileSystem = crashFileSystem()
    const side = testServerSide(clock)
    const state = agentState(openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true }))
    state.identity.save({
      ...{
        v: 1,
        agentId,
        controllerId: id('ctl', 'c'),
        siteId: id('site', 'd'),
        processorId: id('prc', '8'),
        region: 'CA-QC',
        host: 'appliance-1',
      },
      seed: random.bytes(32).toString('base64url'),
      enrolmentSeed: random.bytes(32).toString('base64url'),
      serverUrl: 'https://backup.example',
      serverPublicKey: side.key.publicKey.toString('base64url'),
      enrolledAt: isoTime(NOW),
    })
    const reply = (commands: readonly unknown[]) => ({
      json: {
        serverTime: isoTime(NOW),
        acceptedThrough: 0,
        acceptedHash: '0'.repeat(64),
        recordedThrough: 0,
        policiesVersion: 0,
        bundleVersion: 0,
        rosterVersion: 0,
        commands,
      },
    })
    const bad = COMMANDS.flatMap((command) => [
      sign(command),
      { ...sign(command, side.key), more: 1 },
      sign({ ...command, agentId: id('ag', 'b') }, side.key),
      sign({ ...command, expiresAt: isoTime(NOW) }, side.key),
      sign({ ...command, kind: 'run-script' }, side.key),
      sign({ ...command, body: { ...command.body, paths: ['/etc'] } }, side.key),
    ])
    const good = sign(COMMANDS[4], side.key)
    const files = (): string[] => state.directory.names().filter((name) => name !== 'status.json' && name !== 'link.json')
    let before: string[] = []
    let after: string[] = []
    let told: PollRequest | undefined
    const stopping = new AbortController()
    side.on(
      '/v1/agent/poll',
      () => {
        before = files()
        return reply(bad)
      },
      (request) => {
        after = files()
        expect((JSON.parse(request.body.toString()) as PollRequest).acknowledged).toEqual([])
        return reply([good, COMMANDS[0], sign({ ...COMMANDS[2], id: id('cmd', '9') }, side.key), good])
      },
      (request) => {
        told = JSON.parse(request.body.toString()) as PollRequest
        const waiting = new Promise<never>((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)))
        stopping.abort()
        return waiting
      },
    )
    await runDaemon({
      ...{ fileSystem, clock, random, transport: side, agentVersion: '0.1.0', signal: stopping.signal },
      stateDirectory: Buffer.from('/state'),
      config: parseAgentConfig(
        JSON.stringify({ host: 'appliance-1', restoreRoots: { desk: '/r' }, stores: { [STORE]: { location: '/s' } } }),
        'agent.json',
      ),
      engines: {
        backup: () => Promise.reject(new Error('never')),
        collect: () => Promise.reject(new Error('nothing is collected here')),
        restore: () => Promise.reject(new Error('never')),
        openStore: () => Promise.reject(new Error('never')),
      },
    })
    expect(after).toEqual(before)
    // The good one is taken, once; a restore that was never prepared is refused with its code.
    expect(told?.acknowledged).toEqual([
      { commandId: id('cmd', '9'), result: 'refused', code: 'wrong-key' },
      { commandId: COMMANDS[4]!.id, result: 'taken' },
    ])
    expect(files().filter((name) => !before.includes(name))).toEqual(['commands.json'])
  })
})
