// A control server for tests: the real application on a real SQLite file, with a queue in memory and a clock that the test moves.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeLog } from '@holdfast/shared/log.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { buildApp } from 'holdfast-server/app.ts'
import type { Plugin } from 'holdfast-server/app.ts'
import type { App, Context } from 'holdfast-server/context.ts'
import { deletingStores, type OpenDeletingStore } from 'holdfast-server/deletions/store-access.ts'
import { makeServerKeys } from 'holdfast-server/keys.ts'
import { secretHash } from 'holdfast-server/passwords.ts'
import type { Queue } from 'holdfast-server/queue.ts'
import { openSqliteRecords } from 'holdfast-server/records/sqlite-records.ts'
import type { UserRow } from 'holdfast-server/records/rows.ts'
import { Waker } from 'holdfast-server/waker.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { FakeAgent, injectTransport } from './fake-agent.ts'
import { MemoryQueue } from './memory-queue.ts'
import { TestClock } from './test-clock.ts'

export type TestServer = Awaited<ReturnType<typeof startTestServer>>

/** Builds the application; `close` also removes its database. */
export async function startTestServer(
  options: {
    clock?: Clock
    folder?: string
    queue?: Queue
    plugins?: readonly Plugin[]
    secure?: boolean
    openStore?: OpenDeletingStore
  } = {},
) {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'holdfast-server-'))
  const databasePath = join(folder, 'holdfast.db')
  const records = await openSqliteRecords(databasePath)
  const clock = new TestClock()
  const queue = new MemoryQueue()
  const waker = new Waker()
  const logged: string[] = []
  const random = systemRandom
  const keys = makeServerKeys({ signingSeed: random.bytes(32), sealingKey: random.bytes(32) }, random)
  const config = {
    processorId: makeId(random, 'processor'),
    secure: options.secure ?? true,
    restoreTtlMs: 72 * 3_600_000,
    graceMs: 3_600_000,
    silentMs: 3_600_000,
    undeleteMs: 14 * 86_400_000,
    deletionsEveryMs: 600_000,
  }
  const openStore = options.openStore ?? deletingStores(options.clock ?? clock, random)
  const log = makeLog({ program: 'test', clock, write: (line) => logged.push(line) })
  const context: Context = {
    records,
    queue: options.queue ?? queue,
    clock: options.clock ?? clock,
    random,
    keys,
    config,
    log,
    waker,
    openStore,
  }
  const app: App = await buildApp({ ...context, plugins: options.plugins ?? [] })

  /** One request of a person or program; `as` is a token, or a session's cookie. */
  async function call(method: string, url: string, as: string | undefined, body?: unknown, headers: Record<string, string> = {}) {
    const identity: Record<string, string> =
      as === undefined ? {} : as.startsWith('tok_') ? { authorization: `Bearer ${as}` } : { cookie: as, 'holdfast-request': '1' }
    const payload = body === undefined ? {} : Buffer.isBuffer(body) ? { payload: body } : { payload: JSON.stringify(body) }
    const type = body === undefined ? {} : { 'content-type': Buffer.isBuffer(body) ? 'application/octet-stream' : 'application/json' }
    const reply = await app.inject({ method: method as 'GET', url, headers: { ...identity, ...type, ...headers }, ...payload })
    return {
      status: reply.statusCode,
      headers: reply.headers,
      text: reply.payload,
      json: () => JSON.parse(reply.payload) as Record<string, unknown> & { id: string },
    }
  }

  async function makeUser(role: UserRow['role']): Promise<string> {
    const id = makeId(random, 'user')
    const row: UserRow = {
      id,
      createdAt: clock.now(),
      userName: `${role}-${id.slice(4, 12)}`,
      role,
      passwordHash: '$argon2id$',
      totpSecret: Buffer.alloc(1),
      totpStep: 0,
      recoveryHashes: [],
      failedLogIns: 0,
      lockedUntil: 0,
      disabled: false,
    }
    await records.insert({ table: 'users', row })
    const secret = random.bytes(32).toString('base64url')
    const now = context.clock.now()
    await records.insert({
      table: 'sessions',
      row: { id: secretHash(secret), createdAt: now, userId: id, lastUsedAt: now, expiresAt: now + 8 * 3_600_000 },
    })
    return `__Host-holdfast=${secret}`
  }

  async function makeToken(scope: { controllerId: string } | { fleet: 'operator' | 'auditor' }, as: string): Promise<string> {
    const reply = await call('POST', '/v1/api-tokens', as, { name: 'test', scope })
    if (reply.status !== 201) throw new Error(reply.text)
    return String(reply.json()['token'])
  }

  function makeAgent(): FakeAgent {
    return new FakeAgent({ transport: injectTransport(app), now: () => context.clock.now() })
  }

  /** A controller with a site, a store, a standing instruction, its own token, and an enrolled agent with a policy. */
  async function makeControllerWithAgent(administrator: string) {
    const made = async (url: string, body: unknown): Promise<Record<string, unknown> & { id: string }> => {
      const reply = await call('POST', url, administrator, body)
      if (reply.status !== 201) throw new Error(`${url}: ${reply.text}\n${logged.at(-2) ?? ''}`)
      return reply.json()
    }
    const controller = await made('/v1/controllers', { name: 'Clinic' })
    const controllerId = controller.id
    const site = await made('/v1/sites', { controllerId, name: 'Main street', region: 'CA-QC' })
    const store = await made('/v1/stores', { controllerId, name: 'Store', kind: 'directory', region: 'CA-ON', country: 'CA' })
    const instruction = await made('/v1/instructions', {
      controllerId,
      kind: 'standing',
      author: 'Office manager',
      channel: 'contract',
      scope: {},
      purposes: ['backup', 'restore', 'restore-test'],
      textHash: 'a'.repeat(64),
    })
    const code = await made('/v1/enrolment-codes', { controllerId, siteId: site.id })
    const agent = makeAgent()
    const enrolled = await agent.enroll(String(code['code']))
    if (enrolled.status !== 201) throw new Error(enrolled.body.toString('utf8'))
    const policy = await made('/v1/policies', {
      agentId: agent.id,
      source: 'documents',
      schedule: { every: '6h' },
      storeId: store.id,
      instructionId: instruction.id,
    })
    const token = await makeToken({ controllerId }, administrator)
    return {
      controllerId,
      siteId: site.id,
      storeId: store.id,
      instructionId: instruction.id,
      policyId: policy.id,
      agent,
      token,
      code: String(code['code']),
    }
  }

  return {
    app,
    context,
    records,
    queue,
    clock,
    waker,
    logged,
    folder,
    databasePath,
    call,
    makeUser,
    makeToken,
    makeAgent,
    makeControllerWithAgent,
    close: async () => {
      await app.close()
      await records.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
