// Agents as people see them: list, revoke, back up now, and the domain bundle that the controller seals to one agent.
import { z } from 'zod'
import { shownAgentFingerprint } from '@holdfast/shared/agent-fingerprint.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { BUNDLE_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { AgentRow, CommandRow } from '../records/rows.ts'
import { requireInstruction } from './instructions.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['agents'], security: people }
const params = z.strictObject({ id: c.agentId })
const COMMAND_MS = 3_600_000

export function agentRoutes(app: App, { records, clock, random, waker }: Context): void {
  app.get(
    '/v1/agents',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists agents',
        querystring: c.pageQuery.extend({ controllerId: c.controllerId.optional(), state: z.enum(['active', 'revoked']).optional() }),
        response: { 200: c.page(wire.agent), ...problems },
      },
    },
    async (request) => {
      const { controllerId, state } = request.query
      const where = { controllerId: boundController(request.principal) ?? controllerId, state }
      return wirePage(await records.list({ table: 'agents', where, ...pageInput(request.query) }), wireAgent)
    },
  )

  app.get(
    '/v1/agents/:id',
    { config: { access: 'read' }, schema: { ...schema, summary: 'Shows an agent', params, response: { 200: wire.agent, ...problems } } },
    async (request) => wireAgent(visible(request.principal, await records.get({ table: 'agents', id: request.params.id }), 'agent')),
  )

  app.post(
    '/v1/agents/:id/revoke',
    {
      config: { access: 'operate' },
      schema: {
        ...schema,
        summary: 'Revokes an agent for good',
        description:
          'Its requests are refused from now on; its open commands and restores end. A snapshot that it and another agent said they made stays contested: it goes only once the controller approves that.',
        params,
        response: { 200: wire.agent, ...problems },
      },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'agents', id: request.params.id }), 'agent')
      const at = clock.now()
      const revoked = await records.revokeAgent(
        { agentId: found.id, at },
        auditOf(request, at, 'agent.revoke', found.id, found.controllerId),
      )
      waker.wake(found.id)
      return wireAgent(revoked ?? found)
    },
  )

  app.post(
    '/v1/agents/:id/backup-now',
    {
      config: { access: 'request' },
      schema: {
        ...schema,
        summary: 'Asks an agent to carry out a policy now',
        params,
        body: z.strictObject({ policyId: c.policyId }),
        response: { 202: z.strictObject({ commandId: c.commandId }), ...problems },
      },
    },
    async (request, reply) => {
      const agent = visible(request.principal, await records.get({ table: 'agents', id: request.params.id }), 'agent')
      const policy = await records.get({ table: 'policies', id: request.body.policyId })
      if (policy === undefined || policy.agentId !== agent.id)
        throw new HoldfastError('not-found', 'this agent has no such policy; check policyId')
      if (agent.state !== 'active') throw new HoldfastError('conflict', 'this agent is revoked; enroll it anew first')
      const now = clock.now()
      const instruction = await records.get({ table: 'instructions', id: policy.instructionId })
      requireInstruction(instruction, {
        controllerId: agent.controllerId,
        purpose: policy.purpose,
        agentId: agent.id,
        source: policy.source,
        now,
      })
      const row: CommandRow = {
        id: makeId(random, 'command'),
        createdAt: now,
        agentId: agent.id,
        kind: 'backup-now',
        body: { policyId: policy.id },
        restoreId: null,
        state: 'queued',
        code: null,
        deliveredAt: null,
        expiresAt: now + COMMAND_MS,
      }
      await records.insert({ table: 'commands', row }, auditOf(request, now, 'agent.backup-now', policy.id, agent.controllerId))
      waker.wake(agent.id)
      return reply.status(202).send({ commandId: row.id })
    },
  )

  app.put(
    '/v1/agents/:id/bundle',
    {
      config: { access: 'controller' },
      bodyLimit: BUNDLE_BYTES_MAX,
      schema: {
        ...schema,
        summary: 'Relays the domain bundle to one agent',
        description: "Opaque bytes sealed to the agent's enrolment key on the side of the controller; the server cannot open them.",
        consumes: ['application/octet-stream'],
        params,
        response: { 200: z.strictObject({ version: c.count }), ...problems },
      },
    },
    async (request) => {
      const agent = visible(request.principal, await records.get({ table: 'agents', id: request.params.id }), 'agent')
      if (request.rawBody.length === 0)
        throw new HoldfastError('unprocessable', 'a bundle is not empty; send the file that holdfast domain bundle made')
      const at = clock.now()
      const version = await records.putBlob(
        { kind: 'bundle', ownerId: agent.id, bytes: request.rawBody, at },
        auditOf(request, at, 'bundle.put', agent.id, agent.controllerId),
      )
      waker.wake(agent.id)
      return { version }
    },
  )
}

function wireAgent(row: AgentRow) {
  return {
    id: row.id,
    controllerId: row.controllerId,
    siteId: row.siteId,
    host: row.host,
    state: row.state,
    region: row.region,
    publicKey: row.publicKey.toString('base64url'),
    enrolmentKey: row.enrolmentKey.toString('base64url'),
    fingerprint: shownAgentFingerprint(row),
    agentVersion: row.agentVersion,
    sources: [...row.sources],
    restoreRoots: [...row.restoreRoots],
    lastSeenAt: wireTimeOrNull(row.lastSeenAt),
    acceptedThrough: row.lastSeq,
    recordedThrough: row.recordedThrough,
    journalPending: row.journalPending,
    journalBytes: row.journalBytes,
    bundleVersion: row.bundleVersion,
    incident: row.incident,
    createdAt: wireTime(row.createdAt),
  }
}
