// Sites: where a controller's appliances stand; their region goes into every record.
import { z } from 'zod'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { SiteRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['sites'], security: people }

export function siteRoutes(app: App, { records, clock, random }: Context): void {
  app.post(
    '/v1/sites',
    {
      config: { access: 'operate' },
      schema: { ...schema, summary: 'Adds a site', body: wire.siteBody, response: { 201: wire.site, ...problems } },
    },
    async (request, reply) => {
      const row: SiteRow = { id: makeId(random, 'site'), createdAt: clock.now(), ...request.body }
      await records.insert({ table: 'sites', row }, auditOf(request, row.createdAt, 'site.add', row.id, row.controllerId))
      return reply.status(201).send(wireSite(row))
    },
  )

  app.get(
    '/v1/sites',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Lists sites', querystring: c.pageQuery, response: { 200: c.page(wire.site), ...problems } },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal) }
      return wirePage(await records.list({ table: 'sites', where, ...pageInput(request.query) }), wireSite)
    },
  )

  app.get(
    '/v1/sites/:id',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Shows a site', params: z.strictObject({ id: c.siteId }), response: { 200: wire.site, ...problems } },
    },
    async (request) => wireSite(visible(request.principal, await records.get({ table: 'sites', id: request.params.id }), 'site')),
  )
}

function wireSite({ createdAt, ...row }: SiteRow) {
  return { ...row, createdAt: wireTime(createdAt) }
}
