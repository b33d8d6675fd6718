// Liveness, readiness and the API's own description.
import { z } from 'zod'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { App, Context } from '../context.ts'

const status = z.strictObject({ status: z.enum(['ok', 'not-ready']), what: z.string().optional() })

export function healthRoutes(app: App, { records, queue }: Context): void {
  app.get(
    '/healthz',
    { config: { access: 'public' }, schema: { summary: 'The process answers', tags: ['health'], response: { 200: status } } },
    () => ({ status: 'ok' as const }),
  )

  app.get(
    '/readyz',
    {
      config: { access: 'public' },
      schema: { summary: 'Database and queue are sound', tags: ['health'], response: { 200: status, 503: status } },
    },
    async (_request, reply) => {
      try {
        await records.ping({})
        await queue.check()
        return { status: 'ok' as const }
      } catch (error) {
        // Which half it is, and no more: this answer is public.
        const what = isHoldfastError(error, 'local-disk', 'damaged') ? 'database' : 'queue'
        return reply.status(503).send({ status: 'not-ready' as const, what })
      }
    },
  )

  app.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, (_request, reply) => reply.send(app.swagger()))
}
