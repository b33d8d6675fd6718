// Deletions: the signed lists that name what is to be deleted, what became of them, and the controller's word on those that are held.
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { deletion, DELETION_CODES, deletionState } from '@holdfast/shared/protocol/deletions.ts'
import type { App, Context } from '../context.ts'
import { enqueue } from '../dispatch.ts'
import { actorOf, boundController, visible } from '../principal.ts'
import type { DeletionRow } from '../records/rows.ts'
import { auditOf, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['deletions'], security: people }
const params = z.strictObject({ id: c.deletionId })

export function deletionRoutes(app: App, context: Context): void {
  const { records, clock } = context

  app.get(
    '/v1/deletions',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists deletions',
        querystring: c.pageQuery.extend({ state: deletionState.optional(), storeId: c.storeId.optional(), agentId: c.agentId.optional() }),
        response: { 200: c.page(deletion), ...problems },
      },
    },
    async (request) => {
      const { state, storeId, agentId } = request.query
      const where = { controllerId: boundController(request.principal), state, storeId, agentId }
      return wirePage(await records.list({ table: 'deletions', where, ...pageInput(request.query) }), wireDeletion)
    },
  )

  app.get(
    '/v1/deletions/:id',
    { config: { access: 'read' }, schema: { ...schema, summary: 'Shows a deletion', params, response: { 200: deletion, ...problems } } },
    async (request) => wireDeletion(await found(request)),
  )

  app.post(
    '/v1/deletions/:id/approve',
    {
      config: { access: 'controller' },
      schema: {
        ...schema,
        summary: 'Approves a held deletion, as the controller',
        description:
          "The controller's own token alone may: it is its documented order to delete. It settles what retention does not explain; what a snapshot that stays needs is not deleted all the same.",
        params,
        response: { 200: deletion, ...problems },
      },
    },
    async (request) => {
      const row = await found(request)
      const stays = row.reasons.find(({ code }) => !DELETION_CODES[code].settled && code !== 'too-early')
      if (stays !== undefined)
        throw new HoldfastError(
          'conflict',
          `no approval settles this: ${DELETION_CODES[stays.code].words}; refuse it, or mend what is wrong first`,
        )
      return decide(request, row, ['held'], 'approved', 'deletion.approve')
    },
  )

  app.post(
    '/v1/deletions/:id/refuse',
    {
      config: { access: 'dispose' },
      schema: {
        ...schema,
        summary: 'Refuses a deletion for good',
        description: 'Nothing is deleted on this list, ever. One that cannot be read stands in the way of others until it is refused.',
        params,
        response: { 200: deletion, ...problems },
      },
    },
    async (request) => decide(request, await found(request), ['waiting', 'held', 'approved'], 'refused', 'deletion.refuse'),
  )

  type Asked = Parameters<typeof auditOf>[0]

  async function found(request: Asked): Promise<DeletionRow> {
    const { id } = request.params as z.infer<typeof params>
    return visible(request.principal, await records.get({ table: 'deletions', id }), 'deletion')
  }

  async function decide(
    request: Asked,
    row: DeletionRow,
    from: readonly DeletionRow['state'][],
    state: 'approved' | 'refused',
    action: string,
  ): Promise<z.infer<typeof deletion>> {
    const { principal } = request
    if (principal === undefined) throw new HoldfastError('unauthenticated', 'this needs a log-in or an API token')
    const at = clock.now()
    const patch = { state, decidedBy: actorOf(principal), decidedAt: at, updatedAt: at, ...(state === 'refused' ? { endedAt: at } : {}) }
    const moved = await records.moveDeletion({ id: row.id, from, patch }, auditOf(request, at, action, row.id, row.controllerId))
    if (moved === undefined)
      throw new HoldfastError('conflict', `this deletion is ${row.state}, so it cannot be ${state}; look at it again`)
    const job = { queue: 'deletions', jobId: `deletions-${row.storeId}`, data: { storeId: row.storeId } } as const
    // The parked job looks now; where the queue is away, it looks by itself later.
    if (state === 'approved' && (await enqueue(context, [job])))
      await context.queue.promote('deletions', job.jobId).catch((error: unknown) => {
        context.log.warn('queue-away', { code: error instanceof HoldfastError ? error.code : 'failed' })
      })
    return wireDeletion(moved)
  }
}

export function wireDeletion(row: DeletionRow): z.infer<typeof deletion> {
  const { session, random, listedAt, waitUntil, decidedAt, updatedAt, endedAt, createdAt, reasons, ...rest } = row
  return {
    ...rest,
    list: objectName('list', { session, random }),
    listedAt: wireTime(listedAt),
    reasons: reasons.map(({ code, count, samples }) => ({ code, count, detail: DELETION_CODES[code].words, samples: [...samples] })),
    waitUntil: wireTimeOrNull(waitUntil),
    decidedAt: wireTimeOrNull(decidedAt),
    updatedAt: wireTime(updatedAt),
    endedAt: wireTimeOrNull(endedAt),
    createdAt: wireTime(createdAt),
  }
}
