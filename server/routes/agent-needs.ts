// Needs statements of agents: which packs each snapshot needs, told before anything is condemned. What is stated here is what the server later
// holds deletion lists against.
import { z } from 'zod'
import { isoTime } from '@holdfast/shared/clock.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import {
  decodeNeededQuestion,
  decodeNeeds,
  forgottenReport,
  NEEDS_BYTES_MAX,
  NEEDS_CONTENT_TYPE,
  needsStand,
} from '@holdfast/shared/protocol/needs.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { done } from '@holdfast/shared/protocol/agent.ts'
import type { App, Context } from '../context.ts'
import { statedNeeds } from '../deletions/books.ts'
import { neededBy, WAIT_MS } from '../deletions/explain.ts'
import { absentSince, goneSnapshots } from '../deletions/gone.ts'
import { agentOf } from './agent-channel.ts'
import { agentsOnly, opaque, problems, sendBytes } from './wire.ts'

const schema = { tags: ['agent'], security: agentsOnly }

export function agentNeedsRoutes(app: App, { records, clock, config }: Context): void {
  app.post(
    '/v1/agent/needs',
    {
      config: { access: 'agent' },
      bodyLimit: NEEDS_BYTES_MAX,
      schema: {
        ...schema,
        summary: 'States which packs a snapshot needs',
        description:
          'Binary. Goes on from the last statement of its series, or states the whole; 409 where it does neither. The first statement about a snapshot counts; another is answered and changes nothing.',
        consumes: [NEEDS_CONTENT_TYPE],
        response: { 200: needsStand, ...problems },
      },
    },
    async (request) => {
      const at = clock.now()
      const stand = await records.stateNeeds({ agentId: agentOf(request).id, at, statement: decodeNeeds(request.rawBody) })
      return { ...stand, serverTime: isoTime(at) }
    },
  )

  app.get(
    '/v1/agent/needs/:storeId/:series',
    {
      config: { access: 'agent' },
      schema: {
        ...schema,
        summary: 'Tells up to which snapshot of a series needs are stated',
        params: z.strictObject({ storeId: c.storeId, series: c.hex64 }),
        response: { 200: needsStand, ...problems },
      },
    },
    async (request) => {
      const stand = await records.needsStand({ agentId: agentOf(request).id, ...request.params })
      return { sequence: stand?.sequence ?? 0, snapshotId: stand?.snapshotId ?? null, serverTime: isoTime(clock.now()) }
    },
  )

  app.post(
    '/v1/agent/needed',
    {
      config: { access: 'agent' },
      bodyLimit: NEEDS_BYTES_MAX,
      schema: {
        ...schema,
        summary: 'Tells which packs snapshots that stay still need, by what was stated',
        description:
          'Binary, and so is the answer: 32 bytes a pack. An agent leaves these out of its deletion list, which would be held for them.',
        consumes: [NEEDS_CONTENT_TYPE],
        produces: [NEEDS_CONTENT_TYPE],
        response: { 200: opaque, ...problems },
      },
    },
    async (request, reply) => {
      const { storeId, snapshotIds, packs } = decodeNeededQuestion(request.rawBody)
      await requireOwnStore(storeId, agentOf(request).controllerId)
      const going = new Set(snapshotIds)
      const { snapshots, absent } = await records.booksOf({ storeId })
      // As for the list itself, which is held against what the store shows then.
      const since = absentSince(absent, clock.now())
      const isThere = (id: string): boolean => !since.has(id)
      const gone = goneSnapshots({ snapshots, absent: since }, { isThere, before: clock.now() - Math.max(config.undeleteMs, WAIT_MS) })
      const isNeeded = neededBy(snapshots.filter((one) => !one.deleted && !going.has(one.id) && !gone.has(one)))
      const needs = await statedNeeds(records, storeId, Buffer.concat(packs))
      const needed = new Set(needs.filter(isNeeded).map(({ pack }) => pack))
      return sendBytes(reply, Buffer.from([...needed].join(''), 'hex'))
    },
  )

  app.put(
    '/v1/agent/forgotten/:storeId',
    {
      config: { access: 'agent' },
      schema: {
        ...schema,
        summary: 'Tells which of its snapshots in a store an agent has forgotten',
        description:
          'All of them: one that is missing from a later report was taken back. From the first report on the undelete window counts.',
        params: z.strictObject({ storeId: c.storeId }),
        body: forgottenReport,
        response: { 200: done, ...problems },
      },
    },
    async (request) => {
      const agent = agentOf(request)
      const { storeId } = request.params
      await requireOwnStore(storeId, agent.controllerId)
      const at = clock.now()
      await records.noteForgotten({ agentId: agent.id, storeId, snapshotIds: request.body.snapshotIds, at })
      return { serverTime: isoTime(at) }
    },
  )

  async function requireOwnStore(storeId: string, controllerId: string): Promise<void> {
    const store = await records.get({ table: 'stores', id: storeId })
    if (store === undefined || store.controllerId !== controllerId)
      throw new HoldfastError('not-found', 'this controller has no such store; correct the store in agent.json')
  }
}
