// Enrolment codes: one use, short-lived, bound to controller and site; only the hash of the secret is kept.
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import { enrolmentSecretHash, makeEnrolmentCode } from '@holdfast/shared/protocol/signatures.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { EnrolmentCodeRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['enrolment codes'], security: people }

export function enrolmentCodeRoutes(app: App, { records, clock, random, keys }: Context): void {
  app.post(
    '/v1/enrolment-codes',
    {
      config: { access: 'operate' },
      schema: {
        ...schema,
        summary: 'Makes a one-time enrolment code',
        description: 'The code is shown in this answer only. It pins the key of this server at the agent.',
        body: wire.enrolmentCodeBody,
        response: { 201: wire.enrolmentCodeMade, ...problems },
      },
    },
    async (request, reply) => {
      const { controllerId, siteId, ttlSeconds } = request.body
      const site = await records.get({ table: 'sites', id: siteId })
      if (site === undefined || site.controllerId !== controllerId)
        throw new HoldfastError('not-found', 'this controller has no such site; check siteId')
      const { code, secret } = makeEnrolmentCode(random, keys.signing.publicKey)
      const now = clock.now()
      const row: EnrolmentCodeRow = {
        id: makeId(random, 'enrolmentCode'),
        createdAt: now,
        controllerId,
        siteId,
        secretHash: enrolmentSecretHash(secret),
        expiresAt: now + ttlSeconds * 1000,
        usedAt: null,
        agentId: null,
      }
      await records.insert({ table: 'enrolmentCodes', row }, auditOf(request, now, 'enrolment-code.make', row.id, controllerId))
      return reply.status(201).send({ ...wireCode(row), code })
    },
  )

  app.get(
    '/v1/enrolment-codes',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists enrolment codes, without the codes',
        querystring: c.pageQuery,
        response: { 200: c.page(wire.enrolmentCode), ...problems },
      },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal) }
      return wirePage(await records.list({ table: 'enrolmentCodes', where, ...pageInput(request.query) }), wireCode)
    },
  )

  app.delete(
    '/v1/enrolment-codes/:id',
    {
      config: { access: 'operate' },
      schema: {
        ...schema,
        summary: 'Ends an enrolment code',
        params: z.strictObject({ id: c.enrolmentCodeId }),
        response: { 200: wire.enrolmentCode, ...problems },
      },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'enrolmentCodes', id: request.params.id }), 'enrolment code')
      const now = clock.now()
      const row = await records.update(
        { table: 'enrolmentCodes', id: found.id, patch: { expiresAt: Math.min(found.expiresAt, now) }, where: { usedAt: null } },
        auditOf(request, now, 'enrolment-code.end', found.id, found.controllerId),
      )
      return wireCode(row ?? found)
    },
  )

  function wireCode({ createdAt, expiresAt, usedAt, secretHash: _, ...row }: EnrolmentCodeRow) {
    const state = usedAt !== null ? ('used' as const) : expiresAt <= clock.now() ? ('expired' as const) : ('open' as const)
    return { ...row, state, expiresAt: wireTime(expiresAt), createdAt: wireTime(createdAt) }
  }
}
