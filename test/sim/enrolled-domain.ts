// The people of a simulated domain: who sets the server up and enrols appliances there, who asks for restores and grants them with the root at hand. They
// reach the server over the same network as everybody, and ask again where no answer came.
import { createHash } from 'node:crypto'
import { agentFingerprint } from '@holdfast/shared/agent-fingerprint.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { secretHash } from 'holdfast-server/passwords.ts'
import { agentState, type Agent } from '../../agent/daemon/agent-state.ts'
import { collectBundle, enroll } from '../../agent/daemon/enroll.ts'
import { serverClient } from '../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../agent/daemon/state-directory.ts'
import { domainFingerprint, makeBundle, writerIdOf } from '../../agent/keys/bundle.ts'
import { newDomainRoot, rootKeys, type RootKeys } from '../../agent/keys/domain.ts'
import { makeGrant, selectionHash } from '../../agent/keys/grant.ts'
import { rosterBody, rosterWriter } from '../../agent/keys/roster.ts'
import { createRepository, openRepository } from '../../agent/repository/repository.ts'
import { sealBox } from '../../agent/repository/structure-box.ts'
import { SMALL_CHUNKS } from '../_support/engine-fixture.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import type { Processes } from './processes.ts'
import { STATE, type Appliance } from './simulated-appliance.ts'
import type { SimulatedServer } from './simulated-server.ts'

const MINUTE = 60_000

export type Answer = { readonly status: number; readonly json: Record<string, unknown> & { readonly id: string } }
export type EnrolledDomain = {
  readonly keys: RootKeys
  readonly storeId: string
  readonly instructionId: string
  /** One request of the controller, asked until an answer comes. */
  readonly call: (
    method: 'GET' | 'POST' | 'PUT' | 'PATCH',
    url: string,
    body?: unknown,
    headers?: Record<string, string>,
  ) => Promise<Answer>
  /** As `call`, by the operator of the server. */
  readonly operate: EnrolledDomain['call']
  readonly agentIds: ReadonlyMap<Appliance, string>
  /** Makes a grant for a whole snapshot into one restore root, to the key that the server shows; undefined where the snapshot does not count now. */
  readonly grant: (terms: GrantFor, changes?: Partial<Parameters<typeof makeGrant>[0]>) => Promise<Buffer | undefined>
}
export type GrantFor = {
  readonly restoreId: string
  readonly agentId: string
  readonly snapshotId: string
  readonly restoreRoot: string
  readonly publicKey: string
}

/** Sets all up: server rows, repository, enrolled appliances with bundles and roster. Nothing runs yet but the server. */
export async function enrolDomain(options: {
  readonly processes: Processes
  readonly random: Random
  readonly server: SimulatedServer
  readonly bucket: SimulatedBucket
  readonly appliances: readonly Appliance[]
  /** Told once it is known: the appliances' configuration names it. */
  readonly setStoreId: (storeId: string) => void
}): Promise<EnrolledDomain> {
  const { processes, random, server, bucket, appliances } = options
  const { clock } = processes
  const people = processes.start('people')

  const callAs =
    (token: string): EnrolledDomain['call'] =>
    async (method, url, body, headers = {}) => {
      const bytes = body === undefined ? Buffer.alloc(0) : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
      const type = body === undefined ? {} : { 'content-type': Buffer.isBuffer(body) ? 'application/octet-stream' : 'application/json' }
      const identity: Record<string, string> = token.startsWith('tok_')
        ? { authorization: `Bearer ${token}` }
        : { cookie: token, 'holdfast-request': '1' }
      for (;;) {
        try {
          const reply = await server.ask(people, { method, path: url, headers: { ...identity, ...type, ...headers }, body: bytes })
          if (reply.status < 500) {
            const text = reply.body.toString('utf8')
            return { status: reply.status, json: (text.startsWith('{') ? JSON.parse(text) : {}) as Answer['json'] }
          }
        } catch (error) {
          if (!isHoldfastError(error, 'server-unreachable')) throw error
        }
        await processes.pause(people, 120 * MINUTE)
      }
    }
  const must = async (answer: Promise<Answer>): Promise<Answer['json']> => {
    const { status, json } = await answer
    if (status >= 300) throw new Error(`setting up was refused: ${status} ${JSON.stringify(json)}`)
    return json
  }

  const asAdministrator = callAs(administrator(server, random, clock.now()))
  const controllerId = (await must(asAdministrator('POST', '/v1/controllers', { name: 'Clinic' }))).id
  const siteId = (await must(asAdministrator('POST', '/v1/sites', { controllerId, name: 'Main street', region: 'CA-QC' }))).id
  const place = { kind: 's3', endpoint: 'https://objects.example', bucket: 'backup' }
  const store = { controllerId, name: 'Store', region: 'CA-ON', country: 'CA', ...place }
  const storeId = (await must(asAdministrator('POST', '/v1/stores', store))).id
  options.setStoreId(storeId)
  const order = {
    ...{ controllerId, kind: 'standing', author: 'Office manager', channel: 'contract', scope: {}, textHash: 'a'.repeat(64) },
    purposes: ['backup', 'restore', 'restore-test'],
  }
  const instructionId = (await must(asAdministrator('POST', '/v1/instructions', order))).id
  const token = async (scope: unknown): Promise<string> =>
    String((await must(asAdministrator('POST', '/v1/api-tokens', { name: 'simulated', scope })))['token'])
  const call = callAs(await token({ controllerId }))
  const operate = callAs(await token({ fleet: 'operator' }))

  const domain = newDomainRoot(random)
  const keys = rootKeys(domain)
  const setUp = bucket.store('people')
  await createRepository({ store: setUp, keys: keys.write, signer: keys.signing, chunking: SMALL_CHUNKS, enrolled: true, now: clock.now() })
  const credentials = { accessKeyId: 'deleter', secretAccessKey: 'secret' }
  await must(call('PUT', `/v1/stores/${storeId}/delete-credentials`, credentials))

  const agentIds = new Map<Appliance, string>()
  const agents: Agent[] = []
  const fingerprint = domainFingerprint(domain.domainId, keys.signing.publicKey)
  for (const appliance of appliances) {
    const { code } = await must(asAdministrator('POST', '/v1/enrolment-codes', { controllerId, siteId }))
    const agent = await enrolOne(appliance, String(code))
    agentIds.set(appliance, agent.agentId)
    agents.push(agent)
  }
  const entries = agents.map((agent) => ({
    writerId: writerIdOf(agent.agentId),
    publicKey: agent.key.publicKey,
    fingerprint: agentFingerprint({ publicKey: agent.key.publicKey, enrolmentKey: agent.enrolmentKeyPair.publicKey }),
    state: 'active' as const,
    since: clock.now(),
    label: agent.host,
  }))
  const body = rosterBody({ number: 1, madeAt: clock.now(), entries })
  const roster = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
  const name = createHash('sha256').update(roster).digest('hex')
  const rosterName = objectName('roster', { session: name.slice(0, 32), random: name.slice(32) })
  await setUp.put(rosterName, { kind: 'bytes', bytes: roster })
  await must(call('PUT', `/v1/controllers/${controllerId}/roster`, roster))
  for (const agent of agents) {
    const bundle = makeBundle({
      ...{ keys, agentId: agent.agentId, agentKey: agent.key.publicKey, enrolmentPublicKey: agent.enrolmentKeyPair.publicKey },
      ...{ repository: 's3:https://objects.example/backup', madeAt: clock.now(), random },
    })
    await must(call('PUT', `/v1/agents/${agent.agentId}/bundle`, bundle))
  }
  for (const appliance of appliances) {
    const { process, clock: own, fileSystem, transport } = appliance.process()
    const state = agentState(openStateDirectory({ fileSystem, path: STATE, random: appliance.random }))
    const agent = agents[appliances.indexOf(appliance)]!
    const named = { agentId: agent.agentId, key: agent.key, serverKey: agent.serverKey }
    const client = serverClient({ transport, clock: own, random: appliance.random, ...named })
    await collectBundle({ state, client, clock: own, domain: fingerprint, wait: false })
    state.directory.close()
    process.end()
  }

  async function enrolOne(appliance: Appliance, code: string): Promise<Agent> {
    const { process, clock: own, fileSystem, transport } = appliance.process()
    const directory = openStateDirectory({ fileSystem, path: STATE, random: appliance.random, create: true })
    const { agent } = await enroll({
      ...{ state: agentState(directory), config: appliance.config(), code, serverUrl: 'https://backup.example', agentVersion: '0.1.0' },
      ...{ transport, clock: own, random: appliance.random },
    })
    directory.close()
    process.end()
    return agent
  }

  const grant: EnrolledDomain['grant'] = async ({ restoreId, agentId, snapshotId, restoreRoot, publicKey }, changes = {}) => {
    const repository = await openRepository({ store: bucket.store('people'), keys: keys.write.structure })
    const { snapshots } = await repository.listSnapshots()
    const snapshot = snapshots.find(({ structure }) => structure.ref.random === snapshotId)
    if (snapshot === undefined) return undefined
    const { view } = await repository.loadView()
    const sessions = [snapshot.structure.session, ...view.files.flatMap((file) => file.sessions)]
    const distinct = new Map(sessions.map((session) => [session.sessionId.toString('hex'), session]))
    return makeGrant({
      ...{ signing: keys.signing, domainId: domain.domainId, requestPublicKey: Buffer.from(publicKey, 'base64url'), random },
      ...{ restoreId, agentId, snapshotId, restoreRoot, root: snapshot.structure.root, selection: selectionHash({ whole: true }) },
      ...{ conflict: 'beside', issuedAt: clock.now(), expiresAt: clock.now() + 72 * 60 * MINUTE, segmentKeys: [] },
      sessionKeys: [...distinct.values()].map((session) => ({ sessionId: session.sessionId, key: keys.sessionKey(session) })),
      ...changes,
    })
  }
  return { keys, storeId, instructionId, call, operate, agentIds, grant }
}

/** A person who may set up everything, logged in; gives the cookie. */
function administrator(server: SimulatedServer, random: Random, now: number): string {
  const { look } = server.database
  const userId = makeId(random, 'user')
  const secrets = { passwordHash: '$argon2id$', totpSecret: Buffer.alloc(1), totpStep: 0, recoveryHashes: [] }
  const row = { id: userId, createdAt: now, userName: 'administrator', role: 'administrator' as const, ...secrets }
  look('insert', { table: 'users', row: { ...row, failedLogIns: 0, lockedUntil: 0, disabled: false } })
  const secret = random.bytes(32).toString('base64url')
  const session = { id: secretHash(secret), createdAt: now, userId, lastUsedAt: now, expiresAt: now + 480 * MINUTE }
  look('insert', { table: 'sessions', row: session })
  return `__Host-holdfast=${secret}`
}
