// One customer for tests of the daemon: the real server application, a domain whose root the test holds (the controller's side), a directory
// store with its repository, and an appliance with real engines, keys and files.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { agentFingerprint } from '@holdfast/shared/agent-fingerprint.ts'
import { systemClock, type Clock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { parseAgentConfig, type AgentConfig } from '../../../../agent/daemon/agent-config.ts'
import { agentState, loadAgent, type AgentState } from '../../../../agent/daemon/agent-state.ts'
import { runDaemon } from '../../../../agent/daemon/daemon.ts'
import { realEngines } from '../../../../agent/daemon/engines.ts'
import { collectBundle, enroll } from '../../../../agent/daemon/enroll.ts'
import type { Transport } from '../../../../agent/daemon/http-transport.ts'
import type { Engines } from '../../../../agent/daemon/parts.ts'
import { serverClient } from '../../../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../../../agent/daemon/state-directory.ts'
import { readStatus, type AgentStatus } from '../../../../agent/daemon/status.ts'
import type { FileSystem } from '../../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../../agent/file-system/posix-file-system.ts'
import { domainFingerprint, makeBundle, writerIdOf } from '../../../../agent/keys/bundle.ts'
import { newDomainRoot, rootKeys, type RootKeys } from '../../../../agent/keys/domain.ts'
import { makeGrant, selectionHash } from '../../../../agent/keys/grant.ts'
import type { SessionEntry } from '../../../../agent/keys/keys.ts'
import { hkdf } from '../../../../agent/keys/primitives.ts'
import { rosterBody, rosterWriter } from '../../../../agent/keys/roster.ts'
import { openSealed, xwingKeyPair } from '../../../../agent/keys/xwing.ts'
import { createRepository, DEFAULT_CHUNKING, openRepository } from '../../../../agent/repository/repository.ts'
import { sealBox } from '../../../../agent/repository/structure-box.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import type { SimulatedBucket } from '../../../_support/simulated-store.ts'
import { startTestServer } from '../../../_support/test-server.ts'

export type Customer = Awaited<ReturnType<typeof makeCustomer>>

/** Everything up to an enrolled appliance whose bundle and roster came; nothing runs yet. */
export async function makeCustomer(
  files: Readonly<Record<string, string>>,
  options: { readonly clock?: Clock; /** In place of a directory. */ readonly bucket?: SimulatedBucket } = {},
) {
  const { clock = systemClock, bucket } = options
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-daemon-'))
  const at = (name: string): string => join(folder, name)
  await mkdir(at('source'))
  await mkdir(at('restored'))
  for (const [name, content] of Object.entries(files)) await writeFile(join(at('source'), name), content)

  const server = await startTestServer({ clock, ...(bucket === undefined ? {} : { openStore: async () => bucket.store('server') }) })
  const administrator = await server.makeUser('administrator')
  const made = async (url: string, body: unknown, as = administrator, headers: Record<string, string> = {}) => {
    const reply = await server.call('POST', url, as, body, headers)
    if (reply.status >= 300) throw new Error(`${url}: ${reply.status} ${reply.text}`)
    return reply.json()
  }
  const { id: controllerId } = await made('/v1/controllers', { name: 'Clinic' })
  const { id: siteId } = await made('/v1/sites', { controllerId, name: 'Main street', region: 'CA-QC' })
  const place = bucket === undefined ? { kind: 'directory' } : { kind: 's3', endpoint: 'https://objects.example', bucket: 'backup' }
  const { id: storeId } = await made('/v1/stores', { controllerId, name: 'Store', region: 'CA-ON', country: 'CA', ...place })
  const purposes = ['backup', 'restore', 'restore-test']
  const order = {
    controllerId,
    kind: 'standing',
    author: 'Office manager',
    channel: 'contract',
    scope: {},
    purposes,
    textHash: 'a'.repeat(64),
  }
  const { id: instructionId } = await made('/v1/instructions', order)
  const token = await server.makeToken({ controllerId }, administrator)
  const { code } = await made('/v1/enrolment-codes', { controllerId, siteId })

  const domain = newDomainRoot(systemRandom)
  const keys: RootKeys = rootKeys(domain)
  const store =
    bucket === undefined ? await openDirectoryStore(at('store'), { create: true }) : bucket.store('appliance', { remove: false })
  await createRepository({
    store,
    keys: keys.write,
    signer: keys.signing,
    chunking: DEFAULT_CHUNKING,
    enrolled: true,
    now: clock.now(),
  })

  const config: AgentConfig = parseAgentConfig(
    JSON.stringify({
      host: 'appliance-1',
      sources: { documents: { paths: [at('source')] } },
      excludes: { media: ['*.mkv'] },
      restoreRoots: { desk: at('restored') },
      stores: { [storeId]: { location: bucket === undefined ? at('store') : 's3:https://objects.example/backup' } },
      limits: { workers: 1 },
    }),
    'agent.json',
  )
  const directory = openStateDirectory({ fileSystem: posixFileSystem, path: Buffer.from(at('state')), random: systemRandom, create: true })
  const state: AgentState = agentState(directory)
  const transport = appTransport(server.app)
  const seams = { clock, random: systemRandom }
  const enrolled = await enroll({
    ...seams,
    state,
    config,
    code: String(code),
    serverUrl: 'https://backup.example',
    agentVersion: '0.1.0',
    transport,
  })
  const { agent } = enrolled

  const bundle = makeBundle({
    keys,
    agentId: agent.agentId,
    agentKey: agent.key.publicKey,
    enrolmentPublicKey: agent.enrolmentKeyPair.publicKey,
    repository: at('store'),
    madeAt: clock.now(),
    random: systemRandom,
  })
  const entry = {
    writerId: writerIdOf(agent.agentId),
    publicKey: agent.key.publicKey,
    fingerprint: agentFingerprint({ publicKey: agent.key.publicKey, enrolmentKey: agent.enrolmentKeyPair.publicKey }),
    state: 'active' as const,
    since: clock.now(),
    label: 'appliance-1',
  }
  const body = rosterBody({ number: 1, madeAt: clock.now(), entries: [entry] })
  const roster = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
  const put = async (url: string, bytes: Buffer): Promise<void> => {
    const reply = await server.call('PUT', url, token, bytes)
    if (reply.status >= 300) throw new Error(`${url}: ${reply.status} ${reply.text}`)
  }
  await put(`/v1/agents/${agent.agentId}/bundle`, bundle)
  await put(`/v1/controllers/${controllerId}/roster`, roster)
  const fingerprint = domainFingerprint(domain.domainId, keys.signing.publicKey)
  const client = serverClient({ ...seams, transport, agentId: agent.agentId, key: agent.key, serverKey: agent.serverKey })

  /** The key of a session, opened with the root as the controller's side does. */
  const sessionKey = ({ contentEpoch, sessionId, sealedKey }: SessionEntry): Buffer => {
    const epoch = Buffer.alloc(4)
    epoch.writeUInt32LE(contentEpoch)
    const pair = xwingKeyPair(hkdf(domain.root, domain.domainId, Buffer.concat([Buffer.from('holdfast/1 content'), epoch])))
    return openSealed(pair, 'session', Buffer.concat([domain.domainId, sessionId]), sealedKey)
  }

  return {
    folder,
    at,
    store,
    server,
    administrator,
    token,
    made,
    put,
    ids: { controllerId, siteId, storeId, instructionId, agentId: agent.agentId },
    keys,
    config,
    state,
    directory,
    agent: () => loadAgent(state),
    fingerprint,
    enrolled,
    client,
    transport,
    collect: (more: Partial<Parameters<typeof collectBundle>[0]> = {}) =>
      collectBundle({ state, client, clock, domain: fingerprint, wait: false, ...more }),
    makePolicy: (changes: Record<string, unknown> = {}) =>
      made('/v1/policies', {
        agentId: agent.agentId,
        source: 'documents',
        schedule: { dailyAt: '02:30', timeZone: 'UTC' },
        storeId,
        instructionId,
        ...changes,
      }),
    askRestore: (changes: Record<string, unknown>, key: string) =>
      made(
        '/v1/restores',
        {
          agentId: agent.agentId,
          selection: { whole: true },
          restoreRoot: 'desk',
          conflict: 'beside',
          purpose: 'restore',
          instructionId,
          ...changes,
        },
        token,
        { 'idempotency-key': key },
      ),
    /** A grant for a whole snapshot, as the controller's key holder makes it. */
    grant: async (restoreId: string, snapshotId: string, changes: Partial<Parameters<typeof makeGrant>[0]> = {}): Promise<Buffer> => {
      const repository = await openRepository({ store, keys: keys.write.structure })
      const { snapshots } = await repository.listSnapshots()
      const snapshot = snapshots.find(({ structure }) => structure.ref.random === snapshotId)
      if (snapshot === undefined) throw new Error(`no snapshot ${snapshotId}`)
      const { view } = await repository.loadView()
      const sessions = new Map([[snapshot.structure.session.sessionId.toString('hex'), snapshot.structure.session]])
      for (const file of view.files) for (const session of file.sessions) sessions.set(session.sessionId.toString('hex'), session)
      const shown = await server.call('GET', `/v1/restores/${restoreId}`, token)
      const key = shown.json()['key'] as { publicKey: string }
      return makeGrant({
        signing: keys.signing,
        domainId: domain.domainId,
        requestPublicKey: Buffer.from(key.publicKey, 'base64url'),
        restoreId,
        agentId: agent.agentId,
        snapshotId,
        root: snapshot.structure.root,
        selection: selectionHash({ whole: true }),
        restoreRoot: 'desk',
        conflict: 'beside',
        issuedAt: clock.now(),
        expiresAt: clock.now() + 3_600_000,
        sessionKeys: [...sessions.values()].map((session) => ({ sessionId: session.sessionId, key: sessionKey(session) })),
        segmentKeys: [],
        random: systemRandom,
        ...changes,
      })
    },
    /** Starts the daemon; `stop` ends it and passes on its error. */
    start: (more: { engines?: Partial<Engines>; transport?: Transport; fileSystem?: FileSystem } = {}) => {
      const stopping = new AbortController()
      const running = runDaemon({
        ...seams,
        fileSystem: more.fileSystem ?? posixFileSystem,
        stateDirectory: Buffer.from(at('state')),
        config,
        transport: more.transport ?? transport,
        engines: { ...realEngines(seams), ...more.engines },
        agentVersion: '0.1.0',
        signal: stopping.signal,
      })
      running.catch(() => undefined)
      return {
        running,
        stop: async () => {
          stopping.abort()
          await running
        },
      }
    },
    status: (): AgentStatus => readStatus(directory),
    /** Lets the server's jobs run. */
    drain: () => server.queue.drain(server.context),
    close: async () => {
      directory.close()
      await store.close()
      // What an abort left behind is still at work in the application.
      server.waker.stop()
      await transport.settled()
      await server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

type Injectable = Parameters<typeof startTestServer>[0] extends unknown ? Awaited<ReturnType<typeof startTestServer>>['app'] : never

/** Requests of the agent straight into the application. An abort leaves the request to itself and rejects. */
export function appTransport(app: Injectable): Transport & { readonly settled: () => Promise<unknown> } {
  const underway = new Set<Promise<unknown>>()
  return {
    settled: () => Promise.allSettled([...underway]),
    send: ({ method, path, headers, body, signal }) =>
      new Promise((resolve, reject) => {
        const abort = (): void => reject(signal.reason)
        signal.addEventListener('abort', abort, { once: true })
        const answer = app.inject({ method, url: path, headers: { ...headers }, ...(body.length > 0 ? { payload: body } : {}) })
        underway.add(answer)
        answer
          .then(({ statusCode, headers: replied, rawPayload }) => {
            const flat = Object.fromEntries(
              Object.entries(replied).map(([name, value]) => [name, value === undefined ? undefined : String(value)]),
            )
            resolve({ status: statusCode, headers: flat, body: rawPayload })
          }, reject)
          .finally(() => {
            underway.delete(answer)
            signal.removeEventListener('abort', abort)
          })
      }),
    close: async () => undefined,
  }
}
