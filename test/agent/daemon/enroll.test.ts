// Enrolment against a server that lies: nothing is kept unless the key that the code pins answered.
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { enrollRequest } from '@holdfast/shared/protocol/agent.ts'
import { HEADER, makeEnrolmentCode, requestBytes } from '@holdfast/shared/protocol/signatures.ts'
import { makeSigningKey, verifySignature } from '@holdfast/shared/signing.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentState, holdAlone, loadAgent } from '../../../agent/daemon/agent-state.ts'
import { enroll, agentFingerprintOf } from '../../../agent/daemon/enroll.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem, SimulatedCrash } from './_support/crash-file-system.ts'
import { problemAnswer, testServerSide } from './_support/test-server-side.ts'
import { mkdtemp, rm, chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PATH = '/v1/agent/enroll'
const random = seededRandom('enroll')
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const config = parseAgentConfig(
  JSON.stringify({ host: 'appliance-1', sources: { documents: { paths: ['/srv'] } }, restoreRoots: { desk: '/r' } }),
  'agent.json',
)

function setUp() {
  const clock = simulatedClock({ autoMs: 59_000 })
  const fileSystem = crashFileSystem()
  const side = testServerSide(clock)
  const open = () => agentState(openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true }))
  const { code } = makeEnrolmentCode(random, side.key.publicKey)
  const good = {
    status: 201,
    json: {
      ...{ agentId: id('ag', 'a'), controllerId: id('ctl', 'b'), siteId: id('site', 'c'), processorId: id('prc', 'd'), region: 'CA-QC' },
      serverPublicKey: side.key.publicKey.toString('base64url'),
      serverTime: isoTime(clock.now()),
    },
  }
  const run = (more: Partial<Parameters<typeof enroll>[0]> = {}) =>
    enroll({
      state: open(),
      config,
      code,
      serverUrl: 'https://backup.example',
      agentVersion: '0.1.0',
      transport: side,
      clock,
      random,
      ...more,
    })
  return { clock, fileSystem, side, open, code, good, run }
}

describe('enrolment', () => {
  it('proves that the agent holds the key that it enrols, and keeps what the pinned server answered', async () => {
    const { side, open, good, run } = setUp()
    side.on(PATH, good)
    const { agent, fingerprint } = await run()
    const request = side.requests[0]!
    const body = enrollRequest.parse(request.json())
    expect(body).toMatchObject({ host: 'appliance-1', sources: ['documents'], restoreRoots: ['desk'] })
    const { time, nonce, signature } = HEADER
    const { headers, method, path } = request
    const signed = requestBytes({ method, path, timeMs: Number(headers[time]), nonce: headers[nonce]!, body: request.body })
    expect(verifySignature(Buffer.from(body.publicKey, 'base64url'), signed, Buffer.from(headers[signature]!, 'base64url'))).toBe(true)
    expect(headers[HEADER.agent]).toBe('new')
    expect(loadAgent(open())).toMatchObject({ agentId: agent.agentId, region: 'CA-QC', serverUrl: 'https://backup.example' })
    expect(agentFingerprintOf(loadAgent(open()))).toBe(fingerprint)
    expect(fingerprint).toMatch(/^([a-z2-7]{4}-){7}[a-z2-7]{4}$/)
    // Nothing of the appliance's paths went out.
    expect(request.body.includes('/srv')).toBe(false)
  })

  it.each(['another key answers', 'the key is right but did not sign', 'a field more', 'no JSON'])(
    'keeps nothing where %s',
    async (lie) => {
      const { side, open, good, run } = setUp()
      const other = makeSigningKey(random)
      const answers = {
        'another key answers': { ...good, json: { ...good.json, serverPublicKey: other.publicKey.toString('base64url') }, signedBy: other },
        'the key is right but did not sign': { ...good, signedBy: other },
        'a field more': { ...good, json: { ...good.json, hook: 'rm' } },
        'no JSON': { status: 201, body: Buffer.from('<html>') },
      }
      side.on(PATH, answers[lie as keyof typeof answers])
      await expect(run()).rejects.toMatchObject({ code: 'server-untrusted' })
      expect(open().identity.load()).toBeUndefined()
    },
  )

  it.each([
    [403, 'forbidden', 'forbidden'],
    [410, 'not-found', 'forbidden'],
    [503, 'server-unreachable', 'server-unreachable'],
  ])('that the server answers with %d is refused in one line', async (status, told, code) => {
    const { side, open, run } = setUp()
    side.on(PATH, { ...problemAnswer(status, told), signedBy: null })
    await expect(run()).rejects.toMatchObject({ code, message: expect.stringContaining(`because ${told}`) as string })
    expect(open().identity.load()).toBeUndefined()
  })

  it('asks nobody with a code that is none, to an address that is none, or twice', async () => {
    const { side, good, run } = setUp()
    await expect(run({ code: 'hf1-short' })).rejects.toMatchObject({ code: 'usage' })
    await expect(run({ serverUrl: 'http://backup.example' })).rejects.toMatchObject({ code: 'usage' })
    expect(side.requests).toHaveLength(0)
    side.on(PATH, good)
    await run()
    await expect(run()).rejects.toMatchObject({ code: 'already-exists' })
    expect(side.requests).toHaveLength(1)
  })

  it('cut off by a crash leaves an appliance that is enrolled or is not, never half', async () => {
    for (let step = 1; step < 12; step++) {
      const { side, fileSystem, open, good, run } = setUp()
      side.on(PATH, good)
      open()
      fileSystem.crashAt(step)
      const ended = await run().then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof SimulatedCrash)) throw error
          return false
        },
      )
      fileSystem.reboot(0, false)
      const kept = open().identity.load()
      if (ended) expect(kept).toBeDefined()
      expect(
        open()
          .directory.names()
          .filter((name) => name.startsWith('tmp-')),
      ).toEqual([])
    }
  })
})

describe('the state directory', () => {
  it('of others, or open to others, is not used', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-state-'))
    try {
      const path = Buffer.from(join(folder, 'deep/state'))
      const open = (more = {}) => openStateDirectory({ fileSystem: posixFileSystem, path, random, ...more })
      expect(() => open()).toThrow(expect.objectContaining({ code: 'not-found' }))
      const directory = open({ create: true })
      expect(posixFileSystem.stat(directory.fd, Buffer.alloc(0)).mode).toBe(0o700)
      directory.write('one.json', Buffer.from('{}'))
      // A command must not take away what a running daemon is about to rename; the daemon clears up at its own start.
      posixFileSystem.close(posixFileSystem.open(directory.fd, Buffer.from('tmp-0011223344556677'), 'create'))
      open().close()
      expect(directory.names()).toContain('tmp-0011223344556677')
      open({ clean: true }).close()
      expect(directory.names()).not.toContain('tmp-0011223344556677')
      expect(posixFileSystem.stat(directory.fd, Buffer.from('one.json')).mode).toBe(0o600)
      expect(() => open({ uid: 4_000_000 })).toThrow(expect.objectContaining({ code: 'bad-config' }))
      await chmod(path, 0o750)
      expect(() => open()).toThrow(expect.objectContaining({ code: 'bad-config' }))
      directory.close()
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('is held by one daemon at a time', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-state-'))
    try {
      const open = () => openStateDirectory({ fileSystem: posixFileSystem, path: Buffer.from(join(folder, 's')), random, create: true })
      const [one, two] = [open(), open()]
      const held = holdAlone(one)
      expect(() => holdAlone(two)).toThrow(expect.objectContaining({ code: 'conflict' }))
      held.release()
      holdAlone(two).release()
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('with a damaged file says which, and does not take it for a missing one', () => {
    const { fileSystem, open } = setUp()
    open().link.save({
      offsetMs: 0,
      acceptedThrough: 0,
      acceptedHash: '0'.repeat(64),
      recordedThrough: 0,
      bundleVersion: 0,
      rosterVersion: 0,
      policiesVersion: 0,
    })
    for (const bytes of ['{', '{}', '', 'null', '{"offsetMs":0,"more":1}']) {
      fileSystem.setData('/state/link.json', Buffer.from(bytes))
      expect(() => open().link.load()).toThrow(
        expect.objectContaining({ code: 'damaged', message: expect.stringContaining('link.json') as string }),
      )
    }
  })
})
