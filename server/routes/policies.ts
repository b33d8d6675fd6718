// Policies: which source of which agent, when, to which store, on whose instruction. Every field is carried out; one that is not yet
// carried out is refused by name, never ignored.
import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import { firstDue, nextDue } from '@holdfast/shared/protocol/schedule.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { PolicyRow } from '../records/rows.ts'
import { requireInstruction } from './instructions.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['policies'], security: people }
const params = z.strictObject({ id: c.policyId })

export function policyRoutes(app: App, { records, clock, random, waker }: Context): void {
  app.post(
    '/v1/policies',
    {
      config: { access: 'operate' },
      preValidation: refuseFieldsToCome,
      schema: { ...schema, summary: 'Adds a policy', body: wire.policyBody, response: { 201: wire.policy, ...problems } },
    },
    async (request, reply) => {
      const { body } = request
      const now = clock.now()
      const agent = visible(request.principal, await records.get({ table: 'agents', id: body.agentId }), 'agent')
      if (agent.state !== 'active') throw new HoldfastError('conflict', 'this agent is revoked; enroll it anew first')
      if (!agent.sources.includes(body.source)) {
        throw new HoldfastError(
          'unprocessable',
          "body, field source: the agent's own configuration has no such source; add it there first",
          { fields: { field: 'source' } },
        )
      }
      await requireStore(body.storeId, agent.controllerId)
      requireInstruction(await records.get({ table: 'instructions', id: body.instructionId }), {
        ...body,
        controllerId: agent.controllerId,
        now,
      })
      const row: PolicyRow = {
        id: makeId(random, 'policy'),
        createdAt: now,
        version: 1,
        controllerId: agent.controllerId,
        ...body,
        retention: body.retention ?? null,
        lastRunAt: null,
        lastGoodAt: null,
        nextDueAt: firstDue(body.schedule, now),
      }
      await records.savePolicy({ row }, auditOf(request, now, 'policy.add', row.id, row.controllerId))
      waker.wake(agent.id)
      return reply.status(201).send(wirePolicy(row))
    },
  )

  app.get(
    '/v1/policies',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists policies',
        querystring: c.pageQuery.extend({ agentId: c.agentId.optional() }),
        response: { 200: c.page(wire.policy), ...problems },
      },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal), agentId: request.query.agentId }
      return wirePage(await records.list({ table: 'policies', where, ...pageInput(request.query) }), wirePolicy)
    },
  )

  app.get(
    '/v1/policies/:id',
    { config: { access: 'read' }, schema: { ...schema, summary: 'Shows a policy', params, response: { 200: wire.policy, ...problems } } },
    async (request) => wirePolicy(visible(request.principal, await records.get({ table: 'policies', id: request.params.id }), 'policy')),
  )

  app.patch(
    '/v1/policies/:id',
    {
      config: { access: 'operate' },
      preValidation: refuseFieldsToCome,
      schema: { ...schema, summary: 'Changes a policy', params, body: wire.policyPatch, response: { 200: wire.policy, ...problems } },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'policies', id: request.params.id }), 'policy')
      const now = clock.now()
      const { schedule, storeId, instructionId, tags, excludes, retention, enabled } = request.body
      if (storeId !== undefined) await requireStore(storeId, found.controllerId)
      requireInstruction(await records.get({ table: 'instructions', id: instructionId ?? found.instructionId }), { ...found, now })
      const patch: Partial<PolicyRow> = {
        ...(schedule === undefined ? {} : { schedule, nextDueAt: nextDue(schedule, now) }),
        ...(storeId === undefined ? {} : { storeId }),
        ...(instructionId === undefined ? {} : { instructionId }),
        ...(tags === undefined ? {} : { tags }),
        ...(excludes === undefined ? {} : { excludes }),
        ...(retention === undefined ? {} : { retention }),
        ...(enabled === undefined ? {} : { enabled, nextDueAt: nextDue(schedule ?? found.schedule, now) }),
      }
      const row = await records.savePolicy({ id: found.id, patch }, auditOf(request, now, 'policy.change', found.id, found.controllerId))
      waker.wake(found.agentId)
      return wirePolicy(row ?? found)
    },
  )

  /** The store is the controller's own, in a country that its rule allows. */
  async function requireStore(storeId: string, controllerId: string): Promise<void> {
    const store = await records.get({ table: 'stores', id: storeId })
    if (store === undefined || store.controllerId !== controllerId)
      throw new HoldfastError('not-found', 'this controller has no such store; check storeId')
    const controller = await records.get({ table: 'controllers', id: controllerId })
    if (controller !== undefined && controller.countries.length > 0 && !controller.countries.includes(store.country)) {
      throw new HoldfastError('policy', 'this store lies outside the countries that the controller allows; choose another')
    }
  }
}

async function refuseFieldsToCome(request: FastifyRequest): Promise<void> {
  const { body } = request
  if (body === null || typeof body !== 'object') return
  const field = wire.POLICY_FIELDS_TO_COME.find((name) => Object.hasOwn(body, name))
  if (field !== undefined) {
    throw new HoldfastError(
      'unprocessable',
      `body, field ${field}: not carried out yet, so it is refused rather than ignored; leave it out`,
      { fields: { field } },
    )
  }
}

export function wirePolicy({ createdAt, lastRunAt, lastGoodAt, nextDueAt, tags, excludes, ...row }: PolicyRow) {
  return {
    ...row,
    tags: [...tags],
    excludes: [...excludes],
    lastRunAt: wireTimeOrNull(lastRunAt),
    lastGoodAt: wireTimeOrNull(lastGoodAt),
    nextDueAt: wireTimeOrNull(nextDueAt),
    createdAt: wireTime(createdAt),
  }
}
