// Controllers, their representatives, and the roster that only the controller can sign and the server only relays.
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { ROSTER_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController, visible } from '../principal.ts'
import type { ControllerRow, RepresentativeRow } from '../records/rows.ts'
import { auditOf, opaque, pageInput, people, problems, sendBytes, wirePage, wireTime } from './wire.ts'

const schema = { tags: ['controllers'], security: people }
const params = z.strictObject({ id: c.controllerId })

export function controllerRoutes(app: App, { records, clock, random, waker }: Context): void {
  app.post(
    '/v1/controllers',
    {
      config: { access: 'administer' },
      schema: { ...schema, summary: 'Adds a controller', body: wire.controllerBody, response: { 201: wire.controller, ...problems } },
    },
    async (request, reply) => {
      const row: ControllerRow = { id: makeId(random, 'controller'), createdAt: clock.now(), ...request.body, rosterVersion: 0 }
      await records.insert({ table: 'controllers', row }, auditOf(request, row.createdAt, 'controller.add', row.id, row.id))
      return reply.status(201).send(wireController(row))
    },
  )

  app.get(
    '/v1/controllers',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists controllers',
        querystring: c.pageQuery,
        response: { 200: c.page(wire.controller), ...problems },
      },
    },
    async (request) => {
      const page = await records.list({
        table: 'controllers',
        where: { id: boundController(request.principal) },
        ...pageInput(request.query),
      })
      return wirePage(page, wireController)
    },
  )

  app.get(
    '/v1/controllers/:id',
    {
      config: { access: 'read' },
      schema: { ...schema, summary: 'Shows a controller', params, response: { 200: wire.controller, ...problems } },
    },
    async (request) => wireController(await find(request)),
  )

  app.post(
    '/v1/controllers/:id/representatives',
    {
      config: { access: 'operate' },
      schema: {
        ...schema,
        summary: 'Adds a person who acts for the controller',
        params,
        body: wire.representativeBody,
        response: { 201: wire.representative, ...problems },
      },
    },
    async (request, reply) => {
      const controller = await find(request)
      const { title, employer, ...rest } = request.body
      const row: RepresentativeRow = {
        id: makeId(random, 'representative'),
        createdAt: clock.now(),
        controllerId: controller.id,
        ...rest,
        title: title ?? null,
        employer: employer ?? null,
      }
      await records.insert({ table: 'representatives', row }, auditOf(request, row.createdAt, 'representative.add', row.id, controller.id))
      return reply.status(201).send(wireRepresentative(row))
    },
  )

  app.get(
    '/v1/controllers/:id/representatives',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists the persons who act for the controller',
        params,
        querystring: c.pageQuery,
        response: { 200: c.page(wire.representative), ...problems },
      },
    },
    async (request) => {
      const controller = await find(request)
      return wirePage(
        await records.list({ table: 'representatives', where: { controllerId: controller.id }, ...pageInput(request.query) }),
        wireRepresentative,
      )
    },
  )

  app.put(
    '/v1/controllers/:id/roster',
    {
      config: { access: 'controller' },
      bodyLimit: ROSTER_BYTES_MAX,
      schema: {
        ...schema,
        summary: 'Relays the signed list of agents to them',
        description: 'Opaque bytes, signed by the domain key on the side of the controller; the server cannot make or change one.',
        consumes: ['application/octet-stream'],
        params,
        response: { 200: z.strictObject({ version: c.count }), ...problems },
      },
    },
    async (request) => {
      const controller = await find(request)
      if (request.rawBody.length === 0)
        throw new HoldfastError('unprocessable', 'a roster is not empty; send the file that holdfast domain roster made')
      const at = clock.now()
      const version = await records.putBlob(
        { kind: 'roster', ownerId: controller.id, bytes: request.rawBody, at },
        auditOf(request, at, 'roster.put', controller.id, controller.id),
      )
      const agents = await records.list({ table: 'agents', where: { controllerId: controller.id, state: 'active' }, limit: 10_000 })
      for (const agent of agents.items) waker.wake(agent.id)
      return { version }
    },
  )

  app.get(
    '/v1/controllers/:id/roster',
    {
      config: { access: 'controller' },
      schema: {
        ...schema,
        summary: 'Gives the roster that was put last',
        params,
        produces: ['application/octet-stream'],
        response: { 200: opaque, ...problems },
      },
    },
    async (request, reply) => {
      const controller = await find(request)
      const blob = await records.getBlob({ kind: 'roster', ownerId: controller.id })
      if (blob === undefined) throw new HoldfastError('not-found', 'no roster was put yet; make one with holdfast domain roster')
      return sendBytes(reply, blob.bytes)
    },
  )

  async function find(request: { principal: Parameters<typeof visible>[0]; params: { id: string } }): Promise<ControllerRow> {
    const row = await records.get({ table: 'controllers', id: request.params.id })
    visible(request.principal, row === undefined ? undefined : { controllerId: row.id }, 'controller')
    return row as ControllerRow
  }
}

function wireController({ createdAt, ...row }: ControllerRow) {
  return { ...row, countries: [...row.countries], createdAt: wireTime(createdAt) }
}

function wireRepresentative({ createdAt, title, employer, ...row }: RepresentativeRow) {
  return { ...row, ...(title === null ? {} : { title }), ...(employer === null ? {} : { employer }), createdAt: wireTime(createdAt) }
}
