// Restore requests: asked for once per idempotency key, with tokens only; approved, granted by the controller's key holder, cancelled.
import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { canonicalJson } from '@holdfast/shared/canonical-json.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import { parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { GRANT_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { idempotencyKey, PLAIN_NAME_FIELDS, restore, restoreBody, restoreState } from '@holdfast/shared/protocol/restores.ts'
import type { RestoreBody } from '@holdfast/shared/protocol/restores.ts'
import { sha256Hex } from '@holdfast/shared/protocol/signatures.ts'
import type { App, Context } from '../context.ts'
import { dispatchJobs } from '../dispatch.ts'
import { actorOf, boundController, visible } from '../principal.ts'
import type { RestoreRow, SnapshotRow } from '../records/rows.ts'
import { CANCELLABLE, stepRestore, wireRestore } from '../restores.ts'
import { requireInstruction } from './instructions.ts'
import { auditOf, pageInput, people, problems, wirePage } from './wire.ts'

const schema = { tags: ['restores'], security: people }
const params = z.strictObject({ id: c.restoreId })

export function restoreRoutes(app: App, context: Context): void {
  const { records, clock, random, config } = context

  app.post(
    '/v1/restores',
    {
      config: { access: 'request' },
      preValidation: refusePlainNames,
      schema: {
        ...schema,
        summary: 'Asks for a restore',
        description:
          'Names never reach the server: holdfast request turns them into tokens. The same Idempotency-Key and body give the same restore.',
        headers: z.object({ 'idempotency-key': idempotencyKey }),
        body: restoreBody,
        response: { 201: restore, 200: restore, ...problems },
      },
    },
    async (request, reply) => {
      const { body, principal } = request
      if (principal === undefined) throw new HoldfastError('unauthenticated', 'this needs a log-in or an API token')
      const now = clock.now()
      const owner = actorOf(principal)
      const key = request.headers['idempotency-key']
      const bodyHash = sha256Hex(Buffer.from(canonicalJson(body as Json), 'utf8'))
      // A repeated request gets its restore even where a new one would be refused by now.
      const known = await records.restoreOfKey({ owner, key })
      if (known?.bodyHash === bodyHash) return reply.header('location', `/v1/restores/${known.restore.id}`).send(wireRestore(known.restore))
      const agent = visible(principal, await records.get({ table: 'agents', id: body.agentId }), 'agent')
      if (agent.state !== 'active') throw new HoldfastError('conflict', 'this agent is revoked; choose another one of the controller')
      if (!agent.restoreRoots.includes(body.restoreRoot)) {
        throw new HoldfastError(
          'unprocessable',
          "body, field restoreRoot: the agent's own configuration has no such restore root; add it there first",
          {
            fields: { field: 'restoreRoot' },
          },
        )
      }
      const snapshot = await chooseSnapshot(body, agent.controllerId)
      const instruction = await records.get({ table: 'instructions', id: body.instructionId })
      requireInstruction(instruction, {
        controllerId: agent.controllerId,
        purpose: body.purpose,
        agentId: agent.id,
        source: snapshot.source,
        now,
      })
      const row: RestoreRow = {
        id: makeId(random, 'restore'),
        createdAt: now,
        state: 'requested',
        agentId: agent.id,
        controllerId: agent.controllerId,
        snapshotId: snapshot.id,
        series: snapshot.series,
        at: 'at' in body ? parseTime(body.at) : null,
        storeId: snapshot.storeId,
        selection: body.selection,
        restoreRoot: body.restoreRoot,
        conflict: body.conflict,
        purpose: body.purpose,
        instructionId: body.instructionId,
        requestedBy: owner,
        approvedBy: null,
        grantedBy: null,
        publicKey: null,
        publicKeySignature: null,
        leaseId: null,
        leaseUntil: null,
        attempt: 0,
        progress: null,
        totals: null,
        code: null,
        updatedAt: now,
        expiresAt: now + config.restoreTtlMs,
      }
      const { restore: made, created } = await records.createRestore(
        { row, owner, key, bodyHash },
        auditOf(request, now, 'restore.request', row.id, row.controllerId),
      )
      await dispatchJobs(context)
      return reply
        .status(created ? 201 : 200)
        .header('location', `/v1/restores/${made.id}`)
        .send(wireRestore(made))
    },
  )

  app.get(
    '/v1/restores',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists restores',
        querystring: c.pageQuery.extend({ state: restoreState.optional(), agentId: c.agentId.optional() }),
        response: { 200: c.page(restore), ...problems },
      },
    },
    async (request) => {
      const { state, agentId } = request.query
      const where = { controllerId: boundController(request.principal), state, agentId }
      return wirePage(await records.list({ table: 'restores', where, ...pageInput(request.query) }), wireRestore)
    },
  )

  app.get(
    '/v1/restores/:id',
    { config: { access: 'read' }, schema: { ...schema, summary: 'Shows a restore', params, response: { 200: restore, ...problems } } },
    async (request) => wireRestore(await find(request)),
  )

  app.post(
    '/v1/restores/:id/approve',
    {
      config: { access: 'request' },
      schema: { ...schema, summary: 'Approves a restore as the second person', params, response: { 200: restore, ...problems } },
    },
    async (request) => {
      const found = await find(request)
      const approver = actorOf(request.principal!)
      if (approver === found.requestedBy) throw new HoldfastError('policy', 'the second person must be another than the one who asked')
      return move(request, found, 'approve', { approvedBy: approver })
    },
  )

  app.post(
    '/v1/restores/:id/reject',
    {
      config: { access: 'request' },
      schema: {
        ...schema,
        summary: 'Refuses a restore that waits for approval or a grant',
        params,
        response: { 200: restore, ...problems },
      },
    },
    async (request) => move(request, await find(request), 'reject', { code: 'grant-refused' }),
  )

  app.post(
    '/v1/restores/:id/cancel',
    {
      config: { access: 'request' },
      schema: { ...schema, summary: 'Cancels a restore at any step', params, response: { 200: restore, ...problems } },
    },
    async (request) => {
      for (;;) {
        const found = await find(request)
        if (found.state === 'cancelled') return wireRestore(found)
        if (!CANCELLABLE.includes(found.state))
          throw new HoldfastError('conflict', `this restore has ended (${found.state}); there is nothing to cancel`)
        const audit = auditOf(request, clock.now(), 'restore.cancel', found.id, found.controllerId)
        // It may move on between reading and cancelling; then the next look decides.
        const moved = await stepRestore(context, found, 'cancel', { patch: { code: 'cancelled' }, audit })
        if (moved !== undefined) return wireRestore(moved)
      }
    },
  )

  app.put(
    '/v1/restores/:id/grant',
    {
      config: { access: 'controller' },
      bodyLimit: GRANT_BYTES_MAX,
      schema: {
        ...schema,
        summary: "Relays the controller's grant to the agent",
        description: "Opaque bytes sealed to the agent's fresh key for this restore; the server cannot open them. Made by holdfast grant.",
        consumes: ['application/octet-stream'],
        params,
        response: { 200: restore, ...problems },
      },
    },
    async (request) => {
      const found = await find(request)
      if (request.rawBody.length === 0)
        throw new HoldfastError('unprocessable', 'a grant is not empty; send the file that holdfast grant made')
      if (found.state !== 'awaiting_grant') throw new HoldfastError('conflict', `this restore is ${found.state} and takes no grant now`)
      const at = clock.now()
      await records.putBlob(
        { kind: 'grant', ownerId: found.id, bytes: request.rawBody, at },
        auditOf(request, at, 'grant.put', found.id, found.controllerId),
      )
      return move(request, found, 'grant-received', { grantedBy: actorOf(request.principal!) })
    },
  )

  async function find(request: { principal: FastifyRequest['principal']; params: { id: string } }): Promise<RestoreRow> {
    return visible(request.principal, await records.get({ table: 'restores', id: request.params.id }), 'restore')
  }

  async function move(
    request: FastifyRequest,
    found: RestoreRow,
    event: 'approve' | 'reject' | 'grant-received',
    patch: Partial<RestoreRow>,
  ) {
    const audit = auditOf(request, clock.now(), `restore.${event}`, found.id, found.controllerId)
    const moved = await stepRestore(context, found, event, { patch, audit })
    if (moved === undefined) throw new HoldfastError('conflict', `this restore is ${found.state}; that cannot be done to it now`)
    await context.queue.promote('restores', `restore-${found.id}`).catch((error: unknown) => {
      context.log.warn('queue-away', { restoreId: found.id, message: error instanceof Error ? error.name : 'unknown' })
    })
    return wireRestore(moved)
  }

  /** The snapshot that is asked for, resolved once: by id, or the newest of a series at a time. */
  async function chooseSnapshot(body: RestoreBody, controllerId: string): Promise<SnapshotRow> {
    if ('snapshotId' in body) {
      const found = await records.get({ table: 'snapshots', id: body.snapshotId })
      if (found === undefined || found.controllerId !== controllerId)
        throw new HoldfastError('not-found', 'this controller has no such snapshot; list them with GET /v1/snapshots')
      if (found.deletedAt !== null)
        throw new HoldfastError('conflict', 'this snapshot was deleted, as its policy or the controller wanted; choose another')
      return found
    }
    const until = parseTime(body.at)
    let after: number | undefined
    let newest: SnapshotRow | undefined
    const agents = new Set<string>()
    do {
      const page = await records.list({
        table: 'snapshots',
        where: { controllerId, series: body.series, deletedAt: null },
        limit: 500,
        after,
      })
      for (const row of page.items) {
        agents.add(row.agentId)
        if (row.at <= until && (newest === undefined || row.at > newest.at)) newest = row
      }
      after = page.next ?? undefined
    } while (after !== undefined)
    // A series is one appliance's; another that knows its name could put a snapshot of its own in the place of the newest.
    if (agents.size > 1)
      throw new HoldfastError('conflict', 'more than one agent says that it made snapshots of this series; choose one by snapshotId')
    if (newest === undefined) throw new HoldfastError('not-found', 'this series has no snapshot at or before that time')
    return newest
  }
}

/** A field that could carry a plain name is refused before anything else looks at it; nothing of it is kept, logged or echoed (O14). */
async function refusePlainNames(request: FastifyRequest): Promise<void> {
  const fields: readonly string[] = PLAIN_NAME_FIELDS
  const search = (value: unknown, depth: number): boolean => {
    if (value === null || typeof value !== 'object' || depth > 8) return false
    if (Array.isArray(value)) return value.length < 100 && value.some((item) => search(item, depth + 1))
    return Object.entries(value).some(([key, item]) => fields.includes(key.toLowerCase()) || search(item, depth + 1))
  }
  if (search(request.body, 0)) {
    throw new HoldfastError(
      'unprocessable',
      'file names never come to this server; use holdfast request, which turns them into tokens on the side of the controller',
    )
  }
}
