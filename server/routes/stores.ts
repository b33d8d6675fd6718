// Stores: where a controller's data may lie. Credentials are sealed on arrival and never leave again; a country outside the controller's
// rule is refused (obligations O3, O13, O16).
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import { sealDeleteCredentials } from '../deletions/store-access.ts'
import { dispatchJobs } from '../dispatch.ts'
import type { StoreRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['stores'], security: people }

export function storeRoutes(app: App, context: Context): void {
  const { records, clock, random, keys } = context

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
        deleteCredentials: null,
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

  app.put(
    '/v1/stores/:id/delete-credentials',
    {
      config: { access: 'dispose' },
      schema: {
        ...schema,
        summary: 'Lets this server delete in a store',
        description:
          'For S3 stores. The server then looks there for lists that its agents sign, and deletes what they name and retention explains. These are other credentials than those of the appliances, which must not be able to delete. They are sealed and never come out; using them is tried here first.',
        params: z.strictObject({ id: c.storeId }),
        body: wire.deleteCredentials,
        response: { 200: wire.store, ...problems },
      },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'stores', id: request.params.id }), 'store')
      if (found.kind !== 's3')
        throw new HoldfastError(
          'unprocessable',
          'this store is a directory, which this server does not reach; run holdfast prune on the appliance',
        )
      // Credentials that do not even list would only show up in a failing job.
      const store = await context.openStore(found, request.body)
      try {
        for await (const page of store.list('lists/')) if (page.length > 0) break
      } finally {
        await store.close()
      }
      const at = clock.now()
      const credentials = sealDeleteCredentials(keys, found.id, request.body)
      const audit = auditOf(request, at, 'store.delete-credentials.set', found.id, found.controllerId)
      const row = await records.setDeleteCredentials({ storeId: found.id, credentials, at }, audit)
      await dispatchJobs(context)
      return wireStore(row)
    },
  )

  app.delete(
    '/v1/stores/:id/delete-credentials',
    {
      config: { access: 'dispose' },
      schema: {
        ...schema,
        summary: 'Takes the right to delete in a store from this server',
        params: z.strictObject({ id: c.storeId }),
        response: { 200: wire.store, ...problems },
      },
    },
    async (request) => {
      const found = visible(request.principal, await records.get({ table: 'stores', id: request.params.id }), 'store')
      const at = clock.now()
      const audit = auditOf(request, at, 'store.delete-credentials.remove', found.id, found.controllerId)
      return wireStore(await records.setDeleteCredentials({ storeId: found.id, credentials: null, at }, audit))
    },
  )
}

function wireStore({ createdAt, credentials, deleteCredentials, ...row }: StoreRow) {
  return {
    ...row,
    hasCredentials: credentials !== null,
    hasDeleteCredentials: deleteCredentials !== null,
    createdAt: wireTime(createdAt),
  }
}
