// A restore on the agent's side: its fresh key, the grant, progress under a lease, and the result. A stale lease is fenced out.
import { z } from 'zod'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import * as wire from '@holdfast/shared/protocol/agent.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { restoreKeyBytes } from '@holdfast/shared/protocol/signatures.ts'
import { verifySignature } from '@holdfast/shared/signing.ts'
import type { App, Context } from '../context.ts'
import type { AgentRow, RestoreRow } from '../records/rows.ts'
import { isEnd } from '../restore-states.ts'
import type { RestoreEvent } from '../restore-states.ts'
import { stepRestore } from '../restores.ts'
import { agentOf } from './agent-channel.ts'
import { agentsOnly, opaque, problems, sendBytes } from './wire.ts'

const schema = { tags: ['agent'], security: agentsOnly }
const params = z.strictObject({ id: c.restoreId })
const EVENT_OF: { readonly [O in wire.RestoreResult['outcome']]: RestoreEvent } = {
  completed: 'completed',
  completed_with_errors: 'completed-with-errors',
  failed: 'failed',
  cancelled: 'cancel',
}

export function agentRestoreRoutes(app: App, context: Context): void {
  const { records, clock } = context

  app.put(
    '/v1/agent/restores/:id/key',
    {
      config: { access: 'agent' },
      schema: {
        ...schema,
        summary: 'Gives the fresh public key that a grant is sealed to',
        params,
        body: wire.restoreKey,
        response: { 200: wire.done, ...problems },
      },
    },
    async (request) => {
      const agent = agentOf(request)
      const restore = await find(agent, request.params.id)
      const publicKey = Buffer.from(request.body.publicKey, 'base64url')
      const signature = Buffer.from(request.body.signature, 'base64url')
      if (!verifySignature(agent.publicKey, restoreKeyBytes(restore.id, publicKey), signature)) {
        throw new HoldfastError('unprocessable', 'body, field signature: is not by this agent over this key and restore', {
          fields: { field: 'signature' },
        })
      }
      if (restore.state === 'awaiting_grant' && restore.publicKey?.equals(publicKey)) return { serverTime: isoTime(clock.now()) }
      const moved = await stepRestore(context, restore, 'key-received', { patch: { publicKey, publicKeySignature: signature } })
      if (moved === undefined) throw new HoldfastError('conflict', `this restore is ${restore.state} and takes no key now`)
      return { serverTime: isoTime(clock.now()) }
    },
  )

  app.get(
    '/v1/agent/restores/:id/grant',
    {
      config: { access: 'agent' },
      schema: {
        ...schema,
        summary: 'Gives the grant',
        params,
        produces: ['application/octet-stream'],
        response: { 200: opaque, ...problems },
      },
    },
    async (request, reply) => {
      const restore = await find(agentOf(request), request.params.id)
      if (restore.state !== 'granted' && restore.state !== 'running')
        throw new HoldfastError('grant-required', `this restore is ${restore.state}; there is no grant to take`)
      const grant = await records.getBlob({ kind: 'grant', ownerId: restore.id })
      if (grant === undefined) throw new HoldfastError('grant-required', 'no grant was made for this restore yet')
      return sendBytes(reply, grant.bytes)
    },
  )

  app.post(
    '/v1/agent/restores/:id/progress',
    {
      config: { access: 'agent' },
      schema: {
        ...schema,
        summary: 'Tells progress and keeps the lease',
        params,
        body: wire.restoreProgress,
        response: { 200: wire.restoreProgressReply, ...problems },
      },
    },
    async (request) => {
      const agent = agentOf(request)
      const { leaseId, done, total } = request.body
      const at = clock.now()
      const leaseUntil = at + wire.LEASE_MS
      const beaten = await records.beatRestore({
        id: request.params.id,
        agentId: agent.id,
        leaseId,
        progress: { done, total, at },
        leaseUntil,
      })
      if (beaten !== undefined) return { leaseUntil: isoTime(leaseUntil), cancel: false, serverTime: isoTime(at) }
      const restore = await find(agent, request.params.id)
      // An ended restore needs no lease to be stopped.
      if (isEnd(restore.state)) return { leaseUntil: isoTime(at), cancel: true, serverTime: isoTime(at) }
      throw leaseLost()
    },
  )

  app.post(
    '/v1/agent/restores/:id/result',
    {
      config: { access: 'agent' },
      schema: { ...schema, summary: 'Ends a restore', params, body: wire.restoreResult, response: { 200: wire.done, ...problems } },
    },
    async (request) => {
      const agent = agentOf(request)
      const { leaseId, outcome, code, totals } = request.body
      let restore = await find(agent, request.params.id)
      // Told twice, or after it was cancelled: nothing more to do.
      if (isEnd(restore.state)) return { serverTime: isoTime(clock.now()) }
      if (restore.leaseId !== leaseId) throw leaseLost()
      if (restore.state === 'granted') restore = (await stepRestore(context, restore, 'started', { leaseId })) ?? restore
      const patch: Partial<RestoreRow> = { totals, code: code ?? (outcome === 'cancelled' ? 'cancelled' : null) }
      const moved = await stepRestore(context, restore, EVENT_OF[outcome], { patch, leaseId })
      if (moved === undefined && !isEnd((await find(agent, restore.id)).state)) throw leaseLost()
      return { serverTime: isoTime(clock.now()) }
    },
  )

  /** The agent's own restore; others are not there for it. */
  async function find(agent: AgentRow, id: string): Promise<RestoreRow> {
    const restore = await records.get({ table: 'restores', id })
    if (restore === undefined || restore.agentId !== agent.id) throw new HoldfastError('not-found', 'this agent has no such restore')
    return restore
  }
}

function leaseLost(): HoldfastError {
  return new HoldfastError('lease-lost', 'this lease has ended and the restore was given out anew; stop, and take the next command')
}
