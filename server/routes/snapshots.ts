// Snapshots as agents reported them: what can be asked back. Names and trees stay in the store, sealed.
import { z } from 'zod'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { SnapshotRow } from '../records/rows.ts'
import { pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['snapshots'], security: people }

export function snapshotRoutes(app: App, { records }: Context): void {
  app.get(
    '/v1/snapshots',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists snapshots',
        querystring: c.pageQuery.extend({ agentId: c.agentId.optional(), series: c.hex64.optional(), source: c.label.optional() }),
        response: { 200: c.page(wire.snapshot), ...problems },
      },
    },
    async (request) => {
      const { agentId, series, source } = request.query
      const where = { controllerId: boundController(request.principal), agentId, series, source }
      return wirePage(await records.list({ table: 'snapshots', where, ...pageInput(request.query) }), wireSnapshot)
    },
  )

  app.get(
    '/v1/snapshots/:id',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Shows a snapshot',
        params: z.strictObject({ id: c.snapshotId }),
        response: { 200: wire.snapshot, ...problems },
      },
    },
    async (request) =>
      wireSnapshot(visible(request.principal, await records.get({ table: 'snapshots', id: request.params.id }), 'snapshot')),
  )
}

function wireSnapshot({ createdAt, at, tags, deletedAt, ...row }: SnapshotRow) {
  return { ...row, tags: [...tags], at: wireTime(at), witnessedAt: wireTime(createdAt), deletedAt: wireTimeOrNull(deletedAt) }
}
