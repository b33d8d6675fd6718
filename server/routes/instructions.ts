// Instructions: the controller's documented orders. Without one in force the server refuses policies and restores (obligation O6).
import { z } from 'zod'
import { parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { Purpose } from '@holdfast/shared/protocol/common.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { InstructionRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['instructions'], security: people }
const params = z.strictObject({ id: c.instructionId })

export function instructionRoutes(app: App, { records, clock, random }: Context): void {
  app.post(
    '/v1/instructions',
    {
      config: { access: 'request' },
      schema: {
        ...schema,
        summary: "Enters the controller's documented order",
        description:
          'Entered by a token of the controller it counts as given by the controller; by anyone else it is shown as entered by the processor.',
        body: wire.instructionBody,
        response: { 201: wire.instruction, ...problems },
      },
    },
    async (request, reply) => {
      const { validFrom, validTo, ...body } = request.body
      const bound = boundController(request.principal)
      if (bound !== undefined && bound !== body.controllerId)
        throw new HoldfastError('forbidden', 'this token may enter instructions for its own controller only')
      const now = clock.now()
      const row: InstructionRow = {
        id: makeId(random, 'instruction'),
        createdAt: now,
        ...body,
        validFrom: validFrom === undefined ? now : parseTime(validFrom),
        validTo: validTo === undefined ? null : parseTime(validTo),
        enteredByProcessor: bound === undefined,
      }
      if (row.validTo !== null && row.validTo <= row.validFrom)
        throw new HoldfastError('unprocessable', 'body, field validTo: must lie after validFrom')
      await records.insert({ table: 'instructions', row }, auditOf(request, now, 'instruction.add', row.id, row.controllerId))
      return reply.status(201).send(wireInstruction(row))
    },
  )

  app.get(
    '/v1/instructions',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists instructions',
        querystring: c.pageQuery,
        response: { 200: c.page(wire.instruction), ...problems },
      },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal) }
      return wirePage(await records.list({ table: 'instructions', where, ...pageInput(request.query) }), wireInstruction)
    },
  )

  app.get(
    '/v1/instructions/:id',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Shows an instruction', params, response: { 200: wire.instruction, ...problems } },
    },
    async (request) =>
      wireInstruction(visible(request.principal, await records.get({ table: 'instructions', id: request.params.id }), 'instruction')),
  )

  app.post(
    '/v1/instructions/:id/withdraw',
    {
      config: { access: 'request' },
      schema: { ...schema, summary: 'Ends an instruction now', params, response: { 200: wire.instruction, ...problems } },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'instructions', id: request.params.id }), 'instruction')
      const now = clock.now()
      if (found.validTo !== null && found.validTo <= now) return wireInstruction(found)
      const row = await records.update(
        { table: 'instructions', id: found.id, patch: { validTo: now } },
        auditOf(request, now, 'instruction.withdraw', found.id, found.controllerId),
      )
      return wireInstruction(row ?? found)
    },
  )
}

type InstructedAct = { controllerId: string; purpose: Purpose; agentId: string; source?: string | undefined; now: number }

/** Passes where the instruction is the controller's, in force, and covers this purpose, agent and source; rejects with `policy`. */
export function requireInstruction(instruction: InstructionRow | undefined, act: InstructedAct): asserts instruction is InstructionRow {
  const why = whyNotCovered(instruction, act)
  if (why !== undefined) throw new HoldfastError('policy', `${why}; enter or name an instruction of the controller that covers this`)
}

/** True where `requireInstruction` passes. */
export function isInForce(instruction: InstructionRow | undefined, act: InstructedAct): boolean {
  return whyNotCovered(instruction, act) === undefined
}

function whyNotCovered(instruction: InstructionRow | undefined, act: InstructedAct): string | undefined {
  if (instruction === undefined || instruction.controllerId !== act.controllerId) return 'there is no such instruction of this controller'
  if (instruction.validFrom > act.now || (instruction.validTo !== null && instruction.validTo <= act.now))
    return 'this instruction is not in force'
  if (!instruction.purposes.includes(act.purpose)) return `this instruction does not cover the purpose ${act.purpose}`
  const { agentIds, sources } = instruction.scope
  if (agentIds.length > 0 && !agentIds.includes(act.agentId)) return 'this instruction does not cover this agent'
  if (sources.length > 0 && act.source !== undefined && !sources.includes(act.source)) return 'this instruction does not cover this source'
  return undefined
}

function wireInstruction({ createdAt, validFrom, validTo, scope, purposes, ...row }: InstructionRow) {
  return {
    ...row,
    scope: { agentIds: [...scope.agentIds], sources: [...scope.sources] },
    purposes: [...purposes],
    validFrom: wireTime(validFrom),
    validTo: wireTimeOrNull(validTo),
    createdAt: wireTime(createdAt),
  }
}
