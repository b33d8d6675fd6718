// API tokens: `tok_<id>_<secret>`, for one controller or for the processor; only the hash of the secret is kept.
import { z } from 'zod'
import { parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { secretHash } from '../passwords.ts'
import type { ApiTokenRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['API tokens'], security: people }

export function apiTokenRoutes(app: App, { records, clock, random }: Context): void {
  app.post(
    '/v1/api-tokens',
    {
      config: { access: 'administer' },
      schema: {
        ...schema,
        summary: 'Makes an API token; it is shown in this answer only',
        body: wire.apiTokenBody,
        response: { 201: wire.apiTokenMade, ...problems },
      },
    },
    async (request, reply) => {
      const { name, scope, expiresAt } = request.body
      const now = clock.now()
      const secret = random.bytes(32).toString('base64url')
      const row: ApiTokenRow = {
        id: makeId(random, 'apiToken'),
        createdAt: now,
        name,
        secretHash: secretHash(secret),
        controllerId: 'controllerId' in scope ? scope.controllerId : null,
        role: 'fleet' in scope ? scope.fleet : null,
        expiresAt: expiresAt === undefined ? null : parseTime(expiresAt),
        revokedAt: null,
        lastUsedAt: null,
      }
      if (row.expiresAt !== null && row.expiresAt <= now)
        throw new HoldfastError('unprocessable', 'body, field expiresAt: must lie in the future')
      await records.insert({ table: 'apiTokens', row }, auditOf(request, now, 'api-token.make', row.id, row.controllerId))
      return reply.status(201).send({ ...wireToken(row), token: `${row.id}_${secret}` })
    },
  )

  app.get(
    '/v1/api-tokens',
    {
      config: { access: 'administer' },
      schema: {
        ...schema,
        summary: 'Lists API tokens, without the secrets',
        querystring: c.pageQuery,
        response: { 200: c.page(wire.apiToken), ...problems },
      },
    },
    async (request) => wirePage(await records.list({ table: 'apiTokens', where: {}, ...pageInput(request.query) }), wireToken),
  )

  app.delete(
    '/v1/api-tokens/:id',
    {
      config: { access: 'administer' },
      schema: {
        ...schema,
        summary: 'Revokes an API token',
        params: z.strictObject({ id: c.apiTokenId }),
        response: { 200: wire.apiToken, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params
      const now = clock.now()
      const audit = auditOf(request, now, 'api-token.revoke', id, null)
      const row =
        (await records.update({ table: 'apiTokens', id, patch: { revokedAt: now }, where: { revokedAt: null } }, audit)) ??
        (await records.get({ table: 'apiTokens', id }))
      if (row === undefined) throw new HoldfastError('not-found', 'no such API token; check the id')
      return wireToken(row)
    },
  )
}

function wireToken({ createdAt, secretHash: _, controllerId, role, expiresAt, revokedAt, lastUsedAt, ...row }: ApiTokenRow) {
  return {
    ...row,
    scope: controllerId === null ? { fleet: role ?? ('auditor' as const) } : { controllerId },
    expiresAt: wireTimeOrNull(expiresAt),
    revokedAt: wireTimeOrNull(revokedAt),
    lastUsedAt: wireTimeOrNull(lastUsedAt),
    createdAt: wireTime(createdAt),
  }
}
