// The whole way of an enrolled appliance by commands alone: a domain, a roster, a bundle, write-only backups, a request by tokens, a grant, records.
import { EventEmitter, once } from 'node:events'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { systemClock } from '@holdfast/shared/clock.ts'
import type { Job } from 'holdfast-server/queue.ts'
import type { Plugin } from 'holdfast-server/app.ts'
import { MemoryQueue } from '../../_support/memory-queue.ts'
import { startTestServer, type TestServer } from '../../_support/test-server.ts'
import type { CliEvent } from '../../../agent/cli/events.ts'
import { eventsOf, linesOf, only, Workplace } from './_support/cli.ts'

/** Carries out jobs as soon as they come. */
class PromptQueue extends MemoryQueue {
  server: TestServer | undefined
  #again = Promise.resolve()
  override async enqueue(jobs: readonly Job[]): Promise<void> {
    await super.enqueue(jobs)
    this.#work()
  }
  override async promote(): Promise<void> {
    this.#work()
  }
  #work(): void {
    this.#again = this.#again.then(async () => {
      await this.drain(this.server!.context)
      happened.emit('something')
    })
  }
}

/** Told whenever the server has answered somebody or a job has ended: the moments at which what a test waits for can have come true. */
const happened = new EventEmitter()
const tellActivity: Plugin = (app) => {
  app.addHook('onResponse', async () => void happened.emit('something'))
}

/** Set while the server lies about an agent: members that it puts in place of those of its record. */
let lie: Record<string, string> | undefined
const lieAboutAgents: Plugin = (app) => {
  app.addHook('onSend', async ({ url, method }, _reply, payload) =>
    lie !== undefined && method === 'GET' && url.startsWith('/v1/agents/') && typeof payload === 'string'
      ? JSON.stringify({ ...(JSON.parse(payload) as object), ...lie })
      : payload,
  )
}
const otherKeys = () => [
  { publicKey: makeSigningKey(systemRandom).publicKey.toString('base64url') },
  { enrolmentKey: systemRandom.bytes(1216).toString('base64url') },
]

let place: Workplace
let server: TestServer
let url: string
let ids: {
  controllerId: string
  siteId: string
  storeId: string
  instructionId: string
  code: string
  token: string
  administrator: string
}
let domain: { fingerprint: string; env: Record<string, string | undefined> }
let agent: { id: string; fingerprint: string; env: Record<string, string | undefined> }
/** Of the backup that a person at the appliance made, which no policy asked for. */
let ownSnapshotId: string
const queue = new PromptQueue()

beforeAll(async () => {
  place = new Workplace()
  server = await startTestServer({ clock: systemClock, queue, secure: false, plugins: [tellActivity, lieAboutAgents] })
  queue.server = server
  await server.app.listen({ host: '127.0.0.1', port: 0 })
  url = `http://127.0.0.1:${(server.app.server.address() as AddressInfo).port}`
  const administrator = await server.makeUser('administrator').then((cookie) => cookie.replace('__Host-', ''))
  const made = async (path: string, body: unknown): Promise<Record<string, unknown> & { id: string }> => {
    const reply = await server.call('POST', path, administrator, body)
    if (reply.status !== 201) throw new Error(reply.text)
    return reply.json()
  }
  const { id: controllerId } = await made('/v1/controllers', { name: 'Clinic' })
  const { id: siteId } = await made('/v1/sites', { controllerId, name: 'Main street', region: 'CA-QC' })
  const { id: storeId } = await made('/v1/stores', { controllerId, name: 'Store', kind: 'directory', region: 'CA-ON', country: 'CA' })
  const { id: instructionId } = await made('/v1/instructions', {
    controllerId,
    kind: 'standing',
    author: 'Office manager',
    channel: 'contract',
    scope: {},
    purposes: ['backup', 'restore', 'restore-test'],
    textHash: 'a'.repeat(64),
  })
  const { code } = await made('/v1/enrolment-codes', { controllerId, siteId })
  const token = await server.makeToken({ controllerId }, administrator)
  ids = { controllerId, siteId, storeId, instructionId, code: String(code), token, administrator }

  mkdirSync(place.path('agent'), { mode: 0o700 })
  mkdirSync(place.path('desk'))
  mkdirSync(place.path('source', 'plans'), { recursive: true })
  writeFileSync(place.path('source', 'plans', 'first.txt'), 'the first plan\n'.repeat(1000))
  writeFileSync(place.path('source', 'second.txt'), 'something else\n'.repeat(1000))
  const config = {
    host: 'appliance-1',
    sources: { documents: { paths: [place.path('source')] } },
    restoreRoots: { desk: place.path('desk') },
    stores: { [storeId]: { location: place.repo } },
  }
  writeFileSync(place.path('agent', 'agent.json'), JSON.stringify(config))
  chmodSync(place.path('agent', 'agent.json'), 0o600)
}, 30_000)

afterAll(async () => {
  place.close()
  await server.close()
})

describe('an enrolled appliance, by commands', () => {
  it('begins with a domain whose keys stay on the machine of the controller', async () => {
    const env = { HOLDFAST_DOMAIN_DIR: place.path('domain'), HOLDFAST_SERVER: url, HOLDFAST_TOKEN: ids.token }
    const { code, events, summary } = await place.json(['init', '--domain'], { env })
    expect(code).toBe(0)
    expect(only(events, 'recovery-code')).toHaveLength(1)
    expect(summary.details).toMatchObject({ enrolled: true, keys: 'directory' })
    domain = { fingerprint: summary.domainFingerprint!, env }
    const listed = await place.json(['key', 'list'], { env })
    expect(
      only(listed.events, 'key')
        .map(({ kind }) => kind)
        .sort(),
    ).toEqual(['passphrase', 'recovery-code'])
    // Nothing that opens anything is in the store, and without the directory nothing can be opened.
    const away = await place.json(['ls', 'latest'])
    expect(away.summary).toMatchObject({ exitCode: 15, code: 'grant-required' })
  })

  it('enrols with a one-time code, and shows the key that a person compares', async () => {
    const env = { HOLDFAST_AGENT_DIR: place.path('agent'), HOLDFAST_PASSWORD: undefined }
    const { code, summary } = await place.json(['enroll', ids.code, '--server', url, '--no-wait'], { env })
    expect(code).toBe(0)
    agent = { id: summary.agentId!, fingerprint: summary.fingerprint!, env }
    const again = await place.json(['enroll', ids.code, '--server', url, '--no-wait'], {
      env: { ...env, HOLDFAST_AGENT_DIR: undefined, HOLDFAST_AGENT_CONFIG: place.path('agent', 'agent.json') },
    })
    expect(again.summary).toMatchObject({ exitCode: 15, code: 'forbidden' })
    expect((await place.json(['status'], { env })).summary).toMatchObject({ state: 'never-run', fingerprint: agent.fingerprint })
  })

  it('is not put on the roster while the server reports another signing key or another enrolment key for it', async () => {
    const { env } = domain
    for (const swapped of otherKeys()) {
      lie = swapped
      const refused = await place.json(['domain', 'roster', 'add', agent.id, '--fingerprint', agent.fingerprint], { env })
      expect(refused.summary).toMatchObject({ exitCode: 12, code: 'wrong-key' })
    }
    lie = undefined
    const listed = await place.json(['domain', 'roster', 'list'], { env })
    expect(only(listed.events, 'agent')).toEqual([])
  })

  it('is put on the roster only under the fingerprint that the appliance showed', async () => {
    const { env } = domain
    const other = agent.fingerprint.replace(/^./, (first) => (first === 'a' ? 'b' : 'a'))
    const refused = await place.json(['domain', 'roster', 'add', agent.id, '--fingerprint', other], { env })
    expect(refused.summary).toMatchObject({ exitCode: 12, code: 'wrong-key' })
    const early = await place.json(['domain', 'bundle', agent.id], { env })
    expect(early.summary).toMatchObject({ exitCode: 15, code: 'policy' })
    const added = await place.json(['domain', 'roster', 'add', agent.id, '--fingerprint', agent.fingerprint], { env })
    expect(added.summary).toMatchObject({ exitCode: 0, counts: { number: 1 } })
    const twice = await place.json(['domain', 'roster', 'add', agent.id, '--fingerprint', agent.fingerprint], { env })
    expect(twice.summary).toMatchObject({ exitCode: 0, result: 'unchanged' })
    const listed = await place.json(['domain', 'roster', 'list'], { env })
    expect(only(listed.events, 'agent')).toMatchObject([{ agentId: agent.id, state: 'active', fingerprint: agent.fingerprint }])
  })

  it('gets its bundle sealed only to the keys that are on the roster, whatever the server reports later', async () => {
    const { env } = domain
    for (const swapped of otherKeys()) {
      lie = swapped
      const unsealed = await place.json(['domain', 'bundle', agent.id], { env })
      expect(unsealed.summary).toMatchObject({ exitCode: 12, code: 'wrong-key' })
    }
    lie = undefined
    expect((await place.json(['domain', 'bundle', agent.id], { env })).code).toBe(0)
  })

  it('takes the bundle only of the domain that was named', async () => {
    const wrong = await place.json(['enroll', '--domain', 'aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa'], { env: agent.env })
    expect(wrong.summary).toMatchObject({ exitCode: 12, code: 'wrong-key' })
    const right = await place.json(['enroll', '--domain', domain.fingerprint], { env: agent.env })
    expect(right.summary).toMatchObject({ exitCode: 0, state: 'complete', domainFingerprint: domain.fingerprint })
  })

  it('backs up without any passphrase, sees its snapshots and opens nothing', async () => {
    const { env } = agent
    const { summary } = await place.json(['backup', place.path('source'), '--tag', 'private-word'], { env })
    expect(summary).toMatchObject({ exitCode: 0, counts: { files: 2 } })
    ownSnapshotId = summary.snapshotId!
    const listed = await place.json(['snapshots'], { env })
    expect(only(listed.events, 'snapshot')).toMatchObject([{ opened: false, files: 2 }])
    for (const args of [
      ['ls', 'latest'],
      ['restore', 'latest', '--target', place.path('stolen')],
      ['dump', 'latest', '/x', '-o', place.path('x')],
    ])
      expect((await place.json(args, { env })).summary).toMatchObject({ exitCode: 15, code: 'grant-required' })
    expect((await place.json(['check', '--read-data'], { env })).summary).toMatchObject({ exitCode: 0 })
  })

  it('restores what was requested by tokens and granted by names, and its records say so', async () => {
    const daemon = place.start(['run'], { env: agent.env })
    daemon.stdout.resume()
    daemon.stderr.resume()
    const settled = async (condition: () => Promise<boolean>): Promise<void> => {
      for (let next = once(happened, 'something'); !(await condition()); next = once(happened, 'something')) await next
    }
    // Read from the store itself: asking over HTTP would be one of the answers that wake the wait.
    const { records } = server
    const restoreState = async (id: string): Promise<string> => (await records.get({ table: 'restores', id }))?.state ?? ''
    const snapshots = async () => (await records.list({ table: 'snapshots', where: {}, limit: 10 })).items
    // The daemon tells of the backup that was made by hand, but not of the words that it was tagged with.
    await settled(async () => (await snapshots()).length === 1)
    const [own] = await snapshots()
    expect(own).toMatchObject({ id: ownSnapshotId, agentId: agent.id, storeId: ids.storeId, source: 'documents', files: 2, tags: [] })
    await settled(async () => (await records.get({ table: 'runs', id: own!.runId }))?.state === 'ok')
    const { id: policyId } = (
      await server.call('POST', '/v1/policies', ids.administrator, {
        agentId: agent.id,
        source: 'documents',
        schedule: { every: '6h' },
        storeId: ids.storeId,
        instructionId: ids.instructionId,
      })
    ).json()
    const asked = await server.call('POST', `/v1/agents/${agent.id}/backup-now`, ids.administrator, { policyId })
    expect(asked.status).toBe(202)
    await settled(async () => (await snapshots()).length > 1)
    const snapshotId = ownSnapshotId
    const wanted = place.path('source', 'plans')

    const terms = ['--agent', agent.id, '--to', 'desk', '--instruction', ids.instructionId]
    const missing = await place.json(['request', snapshotId, ...terms, '--path', '/not/there'], { env: domain.env })
    expect(missing.summary).toMatchObject({ exitCode: 1, code: 'not-found' })
    const requested = await place.json(['request', snapshotId, ...terms, '--path', wanted], { env: domain.env })
    expect(requested.summary).toMatchObject({ exitCode: 0 })
    const restoreId = requested.summary.restoreId!
    const state = (): Promise<string> => restoreState(restoreId)
    await settled(async () => (await state()) === 'awaiting_grant')

    const shown = await place.json(['grant', restoreId, '--dry-run'], { env: domain.env })
    expect(only(shown.events, 'grant-terms')).toMatchObject([
      { restoreId, restoreRoot: 'desk', conflict: 'beside', whole: false, selected: [{ path: wanted }], files: 1, sessions: 0 },
    ])
    expect(await state()).toBe('awaiting_grant')
    expect((await place.json(['grant', restoreId], { env: domain.env })).summary).toMatchObject({ exitCode: 0, restoreId })
    await settled(async () => (await state()).startsWith('completed'))
    const restored = join(place.path('desk'), place.path('source'))
    expect(readFileSync(join(restored, 'plans', 'first.txt'))).toEqual(readFileSync(place.path('source', 'plans', 'first.txt')))
    expect(() => readFileSync(join(restored, 'second.txt'))).toThrow()
    expect(await state()).toBe('completed')

    const file = place.path('source', 'plans', 'first.txt')
    // The recovery's record is delivered beside its result.
    await settled(async () =>
      (await records.listRecords({ kind: 'recovery', limit: 1 })).items.some(({ recordedAt }) => recordedAt !== null),
    )
    const found = await place.json(['records', file], { env: domain.env })
    expect(new Set(only(found.events, 'record').map(({ kind }) => kind))).toEqual(new Set(['transmission', 'recovery']))
    const exported = await place.json(['records', file, '--export'], { env: domain.env })
    expect(only(exported.events, 'exported-record').length).toBeGreaterThan(0)
    expect((await place.json(['records', '/nobody/knows'], { env: domain.env })).summary).toMatchObject({ exitCode: 1, code: 'not-found' })
    expect((await place.json(['status'], { env: agent.env })).summary).toMatchObject({ exitCode: 0, state: 'running' })

    // A watch grants what was named here, and nothing else that the server may put before it.
    const watching = place.start(['grant', '--watch', '--instruction', ids.instructionId, '--to', 'desk', '--every', '1', '--json'], {
      env: domain.env,
    })
    const said = linesOf(watching.stdout)
    await said.next()
    const second = place.path('source', 'second.txt')
    const bold = await place.json(['request', 'latest', ...terms, '--path', second, '--conflict', 'always'], { env: domain.env })
    const mild = await place.json(['request', 'latest', ...terms, '--path', second], { env: domain.env })
    await settled(async () => (await restoreState(mild.summary.restoreId!)) === 'completed')
    const heard: CliEvent[] = []
    for await (const line of said) {
      heard.push(...eventsOf(line))
      // Once: a second signal ends it at once, without a summary.
      const isRefused = only(heard, 'problem').some(({ path }) => path === bold.summary.restoreId)
      if (isRefused && !watching.killed) watching.kill('SIGINT')
    }
    expect(only(heard, 'problem')).toMatchObject([{ path: bold.summary.restoreId, code: 'policy' }])
    expect(heard.at(-1)).toMatchObject({ event: 'summary', result: 'done', exitCode: 0, counts: { granted: 1 } })
    expect(await restoreState(bold.summary.restoreId!)).toBe('awaiting_grant')
    expect(readFileSync(join(restored, 'second.txt'))).toEqual(readFileSync(second))

    // Nothing of the names reached the server.
    expect(readFileSync(server.databasePath).includes('first.txt')).toBe(false)

    const ended = new Promise((resolve) => daemon.once('close', resolve))
    daemon.kill('SIGTERM')
    expect(await ended).toBe(0)
  }, 60_000)

  it('that was revoked gets nothing more', async () => {
    expect((await place.json(['domain', 'roster', 'revoke', agent.id], { env: domain.env })).summary).toMatchObject({
      exitCode: 0,
      counts: { number: 2 },
    })
    expect((await place.json(['domain', 'bundle', agent.id], { env: domain.env })).summary).toMatchObject({ exitCode: 15, code: 'policy' })
  })

  it('on whose machine the root is given records a recovery before its first byte', async () => {
    const env = { ...agent.env, HOLDFAST_DOMAIN_DIR: place.path('domain'), HOLDFAST_PASSWORD: 'correct horse' }
    const target = place.path('local')
    const journalBytes = (): number =>
      readdirSync(place.path('agent', 'journal')).reduce((sum, name) => sum + statSync(place.path('agent', 'journal', name)).size, 0)
    const before = journalBytes()
    const { summary } = await place.json(['restore', 'latest', '--target', target, '--path', place.path('source', 'second.txt')], { env })
    expect(summary).toMatchObject({ exitCode: 0, counts: { files: 1 } })
    // Its beginning, its one file and its end.
    expect(journalBytes()).toBeGreaterThan(before + 3 * 200)

    // A drill as well, and it says that it is one: its beginning, its files and its end.
    const tests = (): number =>
      readdirSync(place.path('agent', 'journal')).reduce(
        (sum, name) => sum + readFileSync(place.path('agent', 'journal', name), 'latin1').split('"purpose":"restore-test"').length - 1,
        0,
      )
    const testsBefore = tests()
    const drill = await place.json(['drill', 'latest'], { env })
    expect(drill.summary).toMatchObject({ exitCode: 0, counts: { drills: 1, restored: 1 } })
    expect(tests()).toBe(testsBefore + 3)
  })
}, 120_000)
