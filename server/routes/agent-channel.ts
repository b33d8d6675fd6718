// The agent's own channel: enrolment, the long poll, deliveries of records, reports, policies, bundle and roster. Answers are signed.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as wire from '@holdfast/shared/protocol/agent.ts'
import type { SignedCommand } from '@holdfast/shared/protocol/commands.ts'
import { RECORDS_CONTENT_TYPE, recordsAccepted } from '@holdfast/shared/protocol/records.ts'
import { commandBytes, enrolmentSecretHash } from '@holdfast/shared/protocol/signatures.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import { decodeDelivery, DELIVERY_BYTES_MAX, FIRST_PREVIOUS, openRecord } from '@holdfast/shared/record.ts'
import { verifyingKey } from '@holdfast/shared/signing.ts'
import type { App, Context } from '../context.ts'
import { enqueue } from '../dispatch.ts'
import { checkSignature, Nonces, readSignedHeaders } from '../identify.ts'
import type { AgentRow, CommandRow, PolicyRow, RecordDelivered } from '../records/rows.ts'
import { stepRestore } from '../restores.ts'
import { agentsOnly, nothing, opaque, problems, sendBytes } from './wire.ts'

const schema = { tags: ['agent'], security: agentsOnly }
/** A command that was delivered and not acknowledged is delivered again after this. */
const AGAIN_MS = 30_000
const RETRY_AFTER_SECONDS = 5
const SIGNATURES_A_STEP = 64

export function agentChannelRoutes(app: App, context: Context): void {
  const { records, clock, random, keys, waker, config } = context
  const enrolmentNonces = new Nonces()

  app.post(
    '/v1/agent/enroll',
    {
      config: { access: 'public' },
      bodyLimit: 64 * 1024,
      schema: {
        tags: ['agent'],
        summary: 'Enrols an agent with a one-time code',
        description: 'Signed by the key that it enrols, with holdfast-agent: new.',
        body: wire.enrollRequest,
        response: { 201: wire.enrollReply, ...problems },
      },
    },
    async (request, reply) => {
      const { body } = request
      const at = clock.now()
      const publicKey = Buffer.from(body.publicKey, 'base64url')
      const headers = readSignedHeaders(request, at)
      if (headers.agentId !== 'new') throw new HoldfastError('unauthenticated', 'an enrolment names its agent as new')
      checkSignature(request, headers, publicKey, enrolmentNonces, at)
      const id = makeId(random, 'agent')
      const agent = await records.enroll(
        {
          secretHash: enrolmentSecretHash(body.secret),
          at,
          agent: {
            id,
            createdAt: at,
            host: body.host,
            state: 'active',
            publicKey,
            enrolmentKey: Buffer.from(body.enrolmentKey, 'base64url'),
            agentVersion: body.agentVersion,
            sources: body.sources,
            restoreRoots: body.restoreRoots,
            lastSeenAt: at,
            lastSeq: 0,
            lastHash: FIRST_PREVIOUS,
            recordedThrough: 0,
            policiesVersion: 0,
            bundleVersion: 0,
            journalPending: 0,
            revokedAt: null,
            journalBytes: 0,
            incident: null,
          },
        },
        { id: request.id, at, actor: `agent:${id}`, action: 'agent.enroll', target: id, controllerId: null },
      )
      return reply.status(201).send({
        agentId: id,
        controllerId: agent.controllerId,
        siteId: agent.siteId,
        processorId: config.processorId,
        region: agent.region,
        serverPublicKey: keys.signing.publicKey.toString('base64url'),
        serverTime: isoTime(at),
      })
    },
  )

  app.post(
    '/v1/agent/poll',
    {
      config: { access: 'agent' },
      bodyLimit: 256 * 1024,
      schema: {
        ...schema,
        summary: 'Waits for commands and news',
        description:
          'Answers at once where there is something, else waits as long as asked. 204 with Retry-After when the server stops or a newer poll came.',
        body: wire.pollRequest,
        response: { 200: wire.pollReply, 204: nothing, ...problems },
      },
    },
    async (request, reply) => {
      const { body } = request
      const agentId = agentOf(request).id
      const { agentVersion, sources, restoreRoots, journal, acknowledged } = body
      const seen = { agentVersion, sources, restoreRoots, journalPending: journal.pending, journalBytes: journal.bytes }
      await records.noteSeen({ agentId, at: clock.now(), seen })
      if (acknowledged.length > 0) await acknowledge(agentId, acknowledged)
      const until = clock.monotonicMs() + body.waitSeconds * 1000
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      for (;;) {
        const wakes = waker.wakes(agentId)
        const left = until - clock.monotonicMs()
        const answer = await look(agentId, body, left <= 0)
        if (answer !== undefined) return answer
        const reason = await waker.park(agentId, wakes, (signal) => clock.sleep(Math.min(left, AGAIN_MS), signal), gone.signal)
        if (reason === 'stopping' || reason === 'superseded' || reason === 'gone') return nothingNow(reply)
      }
    },
  )

  app.post(
    '/v1/agent/records',
    {
      config: { access: 'agent' },
      bodyLimit: DELIVERY_BYTES_MAX,
      schema: {
        ...schema,
        summary: 'Delivers records',
        description:
          'Binary frames. Answered after they are durable; 409 with expectedSeq on a gap; a differing second version of a record is kept as evidence and is a conflict.',
        consumes: [RECORDS_CONTENT_TYPE],
        response: { 200: recordsAccepted, ...problems },
      },
    },
    async (request) => {
      const agent = agentOf(request)
      const key = verifyingKey(agent.publicKey)
      const delivered: RecordDelivered[] = []
      for (const frame of decodeDelivery(request.rawBody)) {
        const { header, hash } = openRecord(agent.id, key, frame)
        if (header.controllerId !== agent.controllerId || header.processorId !== config.processorId) {
          throw new HoldfastError('unprocessable', `record ${frame.seq} names another controller or processor than this agent has`)
        }
        delivered.push({ ...frame, entryHash: hash, opened: header })
        // A full delivery is 512 signatures to check; others are answered in between.
        if (delivered.length % SIGNATURES_A_STEP === 0) await clock.sleep(0)
      }
      const at = clock.now()
      const result = await records.acceptRecords({ agentId: agent.id, at, records: delivered })
      if (result.kind === 'gap') {
        throw new HoldfastError('conflict', `records before these are missing; deliver from ${result.expectedSeq} on`, {
          fields: { expectedSeq: result.expectedSeq, expectedHash: result.hash.toString('hex') },
        })
      }
      if (result.kind === 'fork') {
        context.log.error('record-fork', { agentId: agent.id, seq: result.seq })
        throw new HoldfastError(
          'conflict',
          `record ${result.seq} differs from the one that this server has; both are kept and a person is told. Keep the journal as it is`,
        )
      }
      const jobs = delivered.map(({ seq, opened }) => ({
        queue: opened.kind.startsWith('recovery') ? ('recoveries' as const) : ('transmissions' as const),
        jobId: `record-${agent.id}-${seq}`,
        data: { agentId: agent.id, seq },
      }))
      await enqueue(context, jobs)
      return { acceptedThrough: result.through, acceptedHash: result.hash.toString('hex'), serverTime: isoTime(at) }
    },
  )

  app.post(
    '/v1/agent/runs',
    {
      config: { access: 'agent' },
      schema: { ...schema, summary: 'Tells how a run stands', body: wire.runReport, response: { 200: wire.done, ...problems } },
    },
    async (request) => {
      const agent = agentOf(request)
      const at = clock.now()
      await records.reportRun({ agentId: agent.id, controllerId: agent.controllerId, report: request.body, at })
      return { serverTime: isoTime(at) }
    },
  )

  app.post(
    '/v1/agent/snapshots',
    {
      config: { access: 'agent' },
      schema: { ...schema, summary: 'Tells of a snapshot', body: wire.snapshotReport, response: { 200: wire.done, ...problems } },
    },
    async (request) => {
      const agent = agentOf(request)
      const at = clock.now()
      await records.reportSnapshot({ agentId: agent.id, controllerId: agent.controllerId, report: request.body, at })
      return { serverTime: isoTime(at) }
    },
  )

  app.get(
    '/v1/agent/policies',
    {
      config: { access: 'agent' },
      schema: { ...schema, summary: 'Gives the policies of this agent', response: { 200: wire.policiesReply, ...problems } },
    },
    async (request) => {
      const agent = agentOf(request)
      const policies = (await records.list({ table: 'policies', where: { agentId: agent.id }, limit: 1000 })).items
      const ids = new Set(policies.map((policy) => policy.storeId))
      const stores = (await records.list({ table: 'stores', where: { controllerId: agent.controllerId, id: [...ids] }, limit: 100 })).items
      return {
        version: agent.policiesVersion,
        policies: policies.map(wirePolicy),
        stores: stores.map(({ id, kind, region, country }) => ({ storeId: id, kind, region, country })),
      }
    },
  )

  for (const kind of ['bundle', 'roster'] as const) {
    app.get(
      `/v1/agent/${kind}`,
      {
        config: { access: 'agent' },
        schema: {
          ...schema,
          summary: `Gives the ${kind} that the controller put last`,
          produces: ['application/octet-stream'],
          response: { 200: opaque, ...problems },
        },
      },
      async (request, reply) => {
        const agent = agentOf(request)
        const blob = await records.getBlob({ kind, ownerId: kind === 'bundle' ? agent.id : agent.controllerId })
        if (blob === undefined)
          throw new HoldfastError('not-found', `the controller has put no ${kind} yet; ask for holdfast domain ${kind}`)
        return sendBytes(reply, blob.bytes)
      },
    )
  }

  /** The answer to a poll, where there is news or the time is over; undefined to go on waiting. */
  async function look(agentId: string, known: wire.PollRequest, timeOver: boolean): Promise<wire.PollReply | undefined> {
    const at = clock.now()
    const agent = await records.get({ table: 'agents', id: agentId })
    if (agent === undefined || agent.state !== 'active')
      throw new HoldfastError('unauthenticated', 'this agent was revoked; enroll it with a fresh code')
    const controller = await records.get({ table: 'controllers', id: agent.controllerId })
    const commands = await records.claimCommands({
      agentId,
      at,
      again: at - AGAIN_MS,
      leaseId: makeId(random, 'lease'),
      leaseUntil: at + wire.LEASE_MS,
    })
    const rosterVersion = controller?.rosterVersion ?? 0
    const news =
      commands.length > 0 ||
      agent.recordedThrough > known.recordedThrough ||
      agent.policiesVersion !== known.policiesVersion ||
      agent.bundleVersion !== known.bundleVersion ||
      rosterVersion !== known.rosterVersion
    if (!news && !timeOver) return undefined
    return {
      serverTime: isoTime(at),
      acceptedThrough: agent.lastSeq,
      acceptedHash: agent.lastHash.toString('hex'),
      recordedThrough: agent.recordedThrough,
      policiesVersion: agent.policiesVersion,
      bundleVersion: agent.bundleVersion,
      rosterVersion,
      commands: commands.map(signCommand),
    }
  }

  function signCommand(row: CommandRow): SignedCommand {
    const { leaseUntil, ...body } = row.body
    const command = {
      id: row.id,
      agentId: row.agentId,
      kind: row.kind,
      issuedAt: isoTime(row.createdAt),
      expiresAt: isoTime(row.expiresAt),
      body: typeof leaseUntil === 'number' ? { ...body, leaseUntil: isoTime(leaseUntil) } : body,
    } as SignedCommand['command']
    return { command, signature: keys.signing.sign(commandBytes(command as Json)).toString('base64url') }
  }

  /** A restore whose command the agent refused ends as failed, with the agent's code. */
  async function acknowledge(agentId: string, acknowledged: wire.PollRequest['acknowledged']): Promise<void> {
    for (const { restoreId, code } of await records.acknowledgeCommands({ agentId, acknowledged })) {
      const restore = await records.get({ table: 'restores', id: restoreId })
      if (restore !== undefined) await stepRestore(context, restore, 'failed', { patch: { code } })
    }
  }
}

function nothingNow(reply: FastifyReply): never {
  return reply.header('retry-after', String(RETRY_AFTER_SECONDS)).status(204).send() as never
}

/** The agent behind a request that passed `authorize`. */
export function agentOf(request: FastifyRequest): AgentRow {
  if (request.principal?.kind !== 'agent') throw new HoldfastError('unauthenticated', 'this route is for agents')
  return request.principal.agent
}

function wirePolicy(row: PolicyRow): wire.AgentPolicy {
  return {
    policyId: row.id,
    version: row.version,
    source: row.source,
    schedule: row.schedule,
    storeId: row.storeId,
    instructionId: row.instructionId,
    purpose: row.purpose,
    tags: [...row.tags],
    excludes: [...row.excludes],
    ...(row.retention === null ? {} : { retention: row.retention }),
    enabled: row.enabled,
    since: isoTime(row.createdAt),
  }
}
