// Finds out who asks: a session cookie, an API token, or an agent's signature over the whole request. Says nothing about what they may do.
import type { FastifyRequest } from 'fastify'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { isId } from '@holdfast/shared/ids.ts'
import { HEADER, NEW_AGENT, REQUEST_WINDOW_MS, requestBytes } from '@holdfast/shared/protocol/signatures.ts'
import { verifySignature } from '@holdfast/shared/signing.ts'
import type { Context } from './context.ts'
import { sameHash, secretHash } from './passwords.ts'
import type { Principal } from './principal.ts'

export const SESSION_IDLE_MS = 30 * 60_000
export const SESSION_MS = 8 * 3_600_000
/** Browsers send this with a change made by script; a form of another site cannot. Console forms rely on the Origin check alone. */
export const REQUEST_HEADER = 'holdfast-request'
const TOUCH_MS = 60_000
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

export function cookieName(secure: boolean): string {
  return secure ? '__Host-holdfast' : 'holdfast'
}

/** The user or token behind a request; undefined for nobody. Rejects with `unauthenticated` what is expired, revoked or false. */
export async function identify(context: Context, request: FastifyRequest): Promise<Principal | undefined> {
  const authorization = request.headers.authorization
  if (authorization !== undefined) return identifyToken(context, authorization)
  const secret = request.cookies[cookieName(context.config.secure)]
  if (secret === undefined) return undefined
  return identifySession(context, request, secret)
}

async function identifyToken({ records, clock }: Context, authorization: string): Promise<Principal> {
  const match = /^Bearer (tok_[0-9a-f]{32})_([A-Za-z0-9_-]{43})$/.exec(authorization)
  const row = match === null ? undefined : await records.get({ table: 'apiTokens', id: match[1]! })
  const now = clock.now()
  const good =
    row !== undefined &&
    sameHash(row.secretHash, secretHash(match![2]!)) &&
    row.revokedAt === null &&
    (row.expiresAt === null || row.expiresAt > now)
  if (!good) throw new HoldfastError('unauthenticated', 'this API token is unknown, expired or revoked; ask for a new one')
  if ((row.lastUsedAt ?? 0) < now - TOUCH_MS) await records.update({ table: 'apiTokens', id: row.id, patch: { lastUsedAt: now } })
  return {
    kind: 'token',
    id: row.id,
    role: row.controllerId === null ? (row.role ?? 'auditor') : 'controller',
    controllerId: row.controllerId,
  }
}

async function identifySession({ records, clock }: Context, request: FastifyRequest, secret: string): Promise<Principal | undefined> {
  const session = await records.get({ table: 'sessions', id: secretHash(secret) })
  const now = clock.now()
  if (session === undefined || session.expiresAt <= now || session.lastUsedAt + SESSION_IDLE_MS <= now) return undefined
  const user = await records.get({ table: 'users', id: session.userId })
  if (user === undefined || user.disabled) return undefined
  if (!SAFE.has(request.method)) refuseForgery(request)
  if (session.lastUsedAt < now - TOUCH_MS) await records.update({ table: 'sessions', id: session.id, patch: { lastUsedAt: now } })
  return { kind: 'user', id: user.id, userName: user.userName, role: user.role, sessionId: session.id }
}

/** A change by cookie must come from this very site (CSRF): same Origin, or for anything but a form the custom header. */
export function refuseForgery(request: FastifyRequest): void {
  const origin = request.headers.origin
  const form = request.headers['content-type']?.startsWith('application/x-www-form-urlencoded') === true
  const sameOrigin = origin !== undefined && URL.canParse(origin) && new URL(origin).host === request.host
  if (origin !== undefined && !sameOrigin)
    throw new HoldfastError('forbidden', 'this change was asked for by a page of another site; use the console itself')
  // Browsers send Origin with every change, and no page can send another's: the queue dashboard relies on it.
  if (!sameOrigin && (form || request.headers[REQUEST_HEADER] !== '1')) {
    throw new HoldfastError('forbidden', `a change made with a session needs the header ${REQUEST_HEADER}: 1, or a page of this site`)
  }
}

/** Nonces seen in the window in which a request's time is accepted, in two generations. */
export class Nonces {
  #current = new Set<string>()
  #previous = new Set<string>()
  #since = 0

  /** True where the nonce is new; from then on it is not. */
  take(nonce: string, now: number): boolean {
    if (now - this.#since > 2 * REQUEST_WINDOW_MS) {
      this.#previous = this.#current
      this.#current = new Set()
      this.#since = now
    }
    if (this.#current.has(nonce) || this.#previous.has(nonce)) return false
    this.#current.add(nonce)
    return true
  }
}

export type SignedHeaders = { readonly agentId: string; readonly timeMs: number; readonly nonce: string; readonly signature: Buffer }

/** The headers of a signed request, strictly; `unauthenticated` where one is missing, malformed, or the time is too far off. */
export function readSignedHeaders(request: FastifyRequest, now: number): SignedHeaders {
  const header = (name: string): string => {
    const value = request.headers[name]
    return typeof value === 'string' ? value : ''
  }
  const agentId = header(HEADER.agent)
  const time = header(HEADER.time)
  const nonce = header(HEADER.nonce)
  const signature = header(HEADER.signature)
  if (
    !(agentId === NEW_AGENT || isId('agent', agentId)) ||
    !/^\d{1,16}$/.test(time) ||
    !/^[0-9a-f]{32}$/.test(nonce) ||
    !/^[A-Za-z0-9_-]{86}$/.test(signature)
  ) {
    throw new HoldfastError('unauthenticated', 'an agent signs its requests; a holdfast header is missing or malformed')
  }
  if (Math.abs(Number(time) - now) > REQUEST_WINDOW_MS) {
    throw new HoldfastError(
      'unauthenticated',
      "the request's time is more than 5 minutes off this server's clock; correct the agent's clock",
    )
  }
  return { agentId, timeMs: Number(time), nonce, signature: Buffer.from(signature, 'base64url') }
}

/** Checks the signature over the request with this key, then uses up its nonce. */
export function checkSignature(request: FastifyRequest, headers: SignedHeaders, publicKey: Uint8Array, nonces: Nonces, now: number): void {
  const bytes = requestBytes({
    method: request.method,
    path: request.raw.url ?? '',
    timeMs: headers.timeMs,
    nonce: headers.nonce,
    body: request.rawBody,
  })
  if (!verifySignature(publicKey, bytes, headers.signature))
    throw new HoldfastError('unauthenticated', 'this request is not signed by the agent that it names')
  if (!nonces.take(headers.nonce, now)) throw new HoldfastError('unauthenticated', 'this request was received before; sign a fresh one')
}

/** The enrolled, active agent that a request names. */
export async function findAgent(context: Context, agentId: string): Promise<Extract<Principal, { kind: 'agent' }>> {
  const agent = agentId === NEW_AGENT ? undefined : await context.records.get({ table: 'agents', id: agentId })
  if (agent === undefined || agent.state !== 'active') {
    throw new HoldfastError('unauthenticated', 'this agent is not enrolled here or was revoked; enroll it with a fresh code')
  }
  return { kind: 'agent', id: agent.id, role: 'agent', controllerId: agent.controllerId, agent }
}
