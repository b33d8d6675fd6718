// Alerts: what the watch found missing, open ones and past ones.
import { z } from 'zod'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController } from '../principal.ts'
import type { AlertRow } from '../records/rows.ts'
import { pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

export function alertRoutes(app: App, { records }: Context): void {
  app.get(
    '/v1/alerts',
    {
      config: { access: 'read' },
      schema: {
        tags: ['alerts'],
        security: people,
        summary: 'Lists alerts',
        querystring: c.pageQuery.extend({ state: z.enum(['open', 'all']).default('open'), agentId: c.agentId.optional() }),
        response: { 200: c.page(wire.alert), ...problems },
      },
    },
    async (request) => {
      const { state, agentId } = request.query
      const where = { controllerId: boundController(request.principal), agentId, ...(state === 'open' ? { closedAt: null } : {}) }
      return wirePage(await records.list({ table: 'alerts', where, ...pageInput(request.query) }), wireAlert)
    },
  )
}

function wireAlert({ createdAt, closedAt, subject: _, ...row }: AlertRow) {
  return { ...row, openedAt: wireTime(createdAt), closedAt: wireTimeOrNull(closedAt) }
}
