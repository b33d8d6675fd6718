// What all routes share: rows to wire form, cursors, audit lines, and the responses of OpenAPI.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { problem } from '@holdfast/shared/protocol/common.ts'
import type { Audit, Page } from '../records/records.ts'
import { actorOf } from '../principal.ts'

/** A time of a row, on the wire. */
export function wireTime(ms: number): string {
  return isoTime(ms)
}
export function wireTimeOrNull(ms: number | null): string | null {
  return ms === null ? null : isoTime(ms)
}

/** The page of a list as it leaves: items in wire form and an opaque cursor. */
export function wirePage<R, W>(page: Page<R>, wire: (row: R) => W): { items: W[]; next: string | null } {
  return { items: page.items.map(wire), next: page.next === null ? null : Buffer.from(`1:${page.next}`, 'utf8').toString('base64url') }
}

/** What the store needs of a list's query. */
export function pageInput(query: { limit: number; cursor?: string | undefined }): { limit: number; after?: number } {
  if (query.cursor === undefined) return { limit: query.limit }
  const match = /^1:(\d{1,15})$/.exec(Buffer.from(query.cursor, 'base64url').toString('utf8'))
  if (match === null)
    throw new HoldfastError('unprocessable', 'query, field cursor: must be a cursor that this server gave', { fields: { field: 'cursor' } })
  return { limit: query.limit, after: Number(match[1]) }
}

/** The audit line of a mutating request: who did what to what. Ids only. */
export function auditOf(request: FastifyRequest, at: number, action: string, target: string, controllerId: string | null): Audit {
  const principal = request.principal
  return { id: request.id, at, actor: principal === undefined ? 'anyone' : actorOf(principal), action, target, controllerId }
}

/** The error answers that every route can give. */
export const problems = { '4xx': problem, '5xx': problem } as const
export const nothing = z.null().describe('no content')
export const opaque = z.string().describe('opaque bytes')
export const people = [{ session: [] }, { token: [] }]
export const agentsOnly = [{ agent: [] }]

/** Opaque bytes leave as they are; the schema's `string` stands for them in OpenAPI. */
export function sendBytes(reply: FastifyReply, bytes: Buffer): string {
  return reply.type('application/octet-stream').send(bytes) as unknown as string
}
