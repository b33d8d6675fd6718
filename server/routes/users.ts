// People of the processor: added by an administrator with a role, a password and a one-time secret of their own; ended, never removed (O19).
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { addUser } from '../init.ts'
import { hashPassword, otpauthUri } from '../passwords.ts'
import type { UserRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['users'], security: people }

export function userRoutes(app: App, { records, clock, random, keys }: Context): void {
  app.post(
    '/v1/users',
    {
      config: { access: 'administer' },
      schema: {
        ...schema,
        summary: 'Adds a person; one-time secret and recovery codes are shown in this answer only',
        body: wire.userBody,
        response: { 201: wire.userMade, ...problems },
      },
    },
    async (request, reply) => {
      const { userName, role, password } = request.body
      const passwordHash = await hashPassword(password, random)
      const audit = auditOf(request, clock.now(), 'user.add', userName, null)
      const { row, totpSecret, recoveryCodes } = await addUser(records, { keys, clock, random, userName, passwordHash, role, audit })
      return reply.status(201).send({ ...wireUser(row), otpauth: otpauthUri(totpSecret, userName), recoveryCodes })
    },
  )

  app.get(
    '/v1/users',
    {
      config: { access: 'administer' },
      schema: { ...schema, summary: 'Lists people', querystring: c.pageQuery, response: { 200: c.page(wire.user), ...problems } },
    },
    async (request) => wirePage(await records.list({ table: 'users', where: {}, ...pageInput(request.query) }), wireUser),
  )

  app.delete(
    '/v1/users/:id',
    {
      config: { access: 'administer' },
      schema: {
        ...schema,
        summary: 'Ends the log-in of a person',
        params: z.strictObject({ id: c.userId }),
        response: { 200: wire.user, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params
      // An administrator always remains: nobody ends their own log-in.
      if (request.principal?.id === id) throw new HoldfastError('conflict', 'nobody ends their own log-in; another administrator can')
      const row = await records.update(
        { table: 'users', id, patch: { disabled: true } },
        auditOf(request, clock.now(), 'user.end', id, null),
      )
      if (row === undefined) throw new HoldfastError('not-found', 'no such user; check the id')
      return wireUser(row)
    },
  )
}

function wireUser({ id, userName, role, disabled, createdAt }: UserRow) {
  return { id, userName, role, disabled, createdAt: wireTime(createdAt) }
}
