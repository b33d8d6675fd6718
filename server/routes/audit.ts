// The audit trail: every change through the API, by whom and to what, as it was written in the transaction that made it.
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController } from '../principal.ts'
import { pageInput, people, problems, wirePage, wireTime } from './wire.ts'

export function auditRoutes(app: App, { records }: Context): void {
  app.get(
    '/v1/audit',
    {
      config: { access: 'read' },
      schema: {
        tags: ['audit'],
        security: people,
        summary: 'Lists what was done',
        querystring: c.pageQuery,
        response: { 200: c.page(wire.auditLine), ...problems },
      },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal) }
      const page = await records.list({ table: 'audit', where, ...pageInput(request.query) })
      return wirePage(page, ({ id, createdAt, ...line }) => ({ ...line, requestId: id, at: wireTime(createdAt) }))
    },
  )
}
