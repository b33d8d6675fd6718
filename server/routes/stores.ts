// Stores: where a controller's data may lie. Credentials are sealed on arrival and never leave again; a country outside the controller's
// rule is refused (obligations O3, O13, O16).
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { StoreRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['stores'], security: people }

export function storeRoutes(app: App, { records, clock, random, keys }: Context): void {
  app.post(
    '/v1/stores',
    {
      config: { access: 'operate' },
      schema: { ...schema, summary: 'Adds a store', body: wire.storeBody, response: { 201: wire.store, ...problems } },
    },
    async (request, reply) => {
      const { body } = request
      const controller = await records.get({ table: 'controllers', id: body.controllerId })
      if (controller === undefined) throw new HoldfastError('not-found', 'no such controller; check controllerId')
      if (controller.countries.length > 0 && !controller.countries.includes(body.country)) {
        throw new HoldfastError('policy', `this controller's data may lie in ${controller.countries.join(', ')} only; choose a store there`)
      }
      if (body.kind === 's3' && new URL(body.endpoint).username !== '') {
        throw new HoldfastError('unprocessable', 'body, field endpoint: must hold no credentials; send them as credentials', {
          fields: { field: 'endpoint' },
        })
      }
      const id = makeId(random, 'store')
      const s3 = body.kind === 's3' ? body : undefined
      const secret = s3?.credentials
      const row: StoreRow = {
        id,
        createdAt: clock.now(),
        controllerId: body.controllerId,
        name: body.name,
        kind: body.kind,
        region: body.region,
        country: body.country,
        endpoint: s3?.endpoint ?? null,
        bucket: s3?.bucket ?? null,
        prefix: s3?.prefix ?? null,
        credentials: secret === undefined ? null : keys.seal(Buffer.from(JSON.stringify(secret), 'utf8'), `store ${id}`),
      }
      await records.insert({ table: 'stores', row }, auditOf(request, row.createdAt, 'store.add', id, row.controllerId))
      return reply.status(201).send(wireStore(row))
    },
  )

  app.get(
    '/v1/stores',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Lists stores', querystring: c.pageQuery, response: { 200: c.page(wire.store), ...problems } },
    },
    async (request) => {
      const where = { controllerId: boundController(request.principal) }
      return wirePage(await records.list({ table: 'stores', where, ...pageInput(request.query) }), wireStore)
    },
  )

  app.get(
    '/v1/stores/:id',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Shows a store',
        params: z.strictObject({ id: c.storeId }),
        response: { 200: wire.store, ...problems },
      },
    },
    async (request) => wireStore(visible(request.principal, await records.get({ table: 'stores', id: request.params.id }), 'store')),
  )
}

function wireStore({ createdAt, credentials, ...row }: StoreRow) {
  return { ...row, hasCredentials: credentials !== null, createdAt: wireTime(createdAt) }
}
