// Log-in and log-out of people. The session is one strictly necessary cookie (obligation O9).
import * as wire from '@holdfast/shared/protocol/resources.ts'
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { App, Context } from '../context.ts'
import { cookieName } from '../identify.ts'
import type { LoggedIn, LogIn } from '../log-in.ts'
import { auditOf, problems, wireTime } from './wire.ts'

const schema = { tags: ['log-in'] }

export function logInRoutes(app: App, context: Context, logIn: (attempt: LogIn) => Promise<LoggedIn>): void {
  const { records, config, clock } = context
  const cookie = { httpOnly: true, sameSite: 'strict', path: '/', secure: config.secure } as const

  app.post(
    '/v1/log-in',
    {
      config: { access: 'public' },
      bodyLimit: 8 * 1024,
      schema: {
        ...schema,
        summary: 'Logs a person in with password and one-time code',
        body: wire.logInBody,
        response: { 200: wire.session, ...problems },
      },
    },
    async (request, reply) => {
      const { user, session, secret } = await logIn({ ...request.body, address: request.ip, requestId: request.id })
      void reply.setCookie(cookieName(config.secure), secret, cookie)
      return { userId: user.id, userName: user.userName, role: user.role, expiresAt: wireTime(session.expiresAt) }
    },
  )

  app.post(
    '/v1/log-out',
    {
      config: { access: 'session' },
      schema: { ...schema, summary: 'Ends this session', security: [{ session: [] }], response: { 200: z.strictObject({}), ...problems } },
    },
    async (request, reply) => {
      if (request.principal?.kind === 'user') {
        await records.removeSession(
          { id: request.principal.sessionId },
          auditOf(request, clock.now(), 'log-out', request.principal.id, null),
        )
      }
      void reply.clearCookie(cookieName(config.secure), cookie)
      return {}
    },
  )

  app.get(
    '/v1/session',
    {
      config: { access: 'session' },
      schema: { ...schema, summary: 'Shows who is logged in', security: [{ session: [] }], response: { 200: wire.session, ...problems } },
    },
    async (request) => {
      const { principal } = request
      const session = principal?.kind === 'user' ? await records.get({ table: 'sessions', id: principal.sessionId }) : undefined
      if (principal?.kind !== 'user' || session === undefined)
        throw new HoldfastError('unauthenticated', 'this session has ended; log in again')
      return { userId: principal.id, userName: principal.userName, role: principal.role, expiresAt: wireTime(session.expiresAt) }
    },
  )
}
