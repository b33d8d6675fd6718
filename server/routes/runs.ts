// Runs: backups and recoveries as agents reported them and as their records prove them.
import { z } from 'zod'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { RunRow } from '../records/rows.ts'
import { pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['runs'], security: people }

export function runRoutes(app: App, { records }: Context): void {
  app.get(
    '/v1/runs',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists runs',
        querystring: c.pageQuery.extend({
          agentId: c.agentId.optional(),
          policyId: c.policyId.optional(),
          kind: z.enum(['backup', 'recovery']).optional(),
        }),
        response: { 200: c.page(wire.run), ...problems },
      },
    },
    async (request) => {
      const { agentId, policyId, kind } = request.query
      const where = { controllerId: boundController(request.principal), agentId, policyId, kind }
      return wirePage(await records.list({ table: 'runs', where, ...pageInput(request.query) }), wireRun)
    },
  )

  app.get(
    '/v1/runs/:id',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Shows a run', params: z.strictObject({ id: c.runId }), response: { 200: wire.run, ...problems } },
    },
    async (request) => wireRun(visible(request.principal, await records.get({ table: 'runs', id: request.params.id }), 'run')),
  )
}

function wireRun({ createdAt: _, startedAt, endedAt, ...row }: RunRow) {
  return { ...row, startedAt: wireTime(startedAt), endedAt: wireTimeOrNull(endedAt) }
}
