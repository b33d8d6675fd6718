// What the agent says to its control server: every request signed with the agent's key, every answer believed only with the pinned server's
// signature over it and the request's nonce, read strictly and bounded. Promise: nothing an unsigned reply says has any effect.
import type { KeyObject } from 'node:crypto'
import { parseTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isErrorCode, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { problem, type Problem } from '@holdfast/shared/protocol/common.ts'
import { HEADER, signRequest, verifyResponse } from '@holdfast/shared/protocol/signatures.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { verifyingKey, type SigningKey } from '@holdfast/shared/signing.ts'
import type { z } from 'zod'
import { backoff } from './backoff.ts'
import type { HttpReply, HttpRequest, Transport } from './http-transport.ts'

const REPLY_BYTES_MAX = 4 * 1024 * 1024
const TIMEOUT_MS = 60_000
/** Smaller differences are the way there and back. */
const OFFSET_TOLERANCE_MS = 5_000
const RETRY_AFTER_MS_MAX = 15 * 60_000

export type Call = {
  readonly method: HttpRequest['method']
  readonly path: string
  readonly json?: unknown
  readonly bytes?: { readonly contentType: string; readonly body: Buffer }
  readonly limitBytes?: number
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
  /** How often a call that may succeed later is made before its error is passed on. Default 1. */
  readonly attempts?: number
}

export type ServerClient = {
  /** The reply as `schema` reads it; undefined for 204. Rejects with the problem's code, `server-unreachable` or `server-untrusted`. */
  readonly call: <T>(schema: z.ZodType<T>, call: Call) => Promise<T | undefined>
  /** The reply's bytes as they are. */
  readonly fetch: (call: Call) => Promise<Buffer>
  /** How far the server's clock is ahead of this one, as signed answers said. */
  readonly offsetMs: () => number
  /** This agent's best knowledge of the server's time. */
  readonly serverNow: () => number
  /** To be told of the server's time in a signed reply. */
  readonly heardTime: (serverTime: string) => void
  readonly close: () => Promise<void>
}

export type ServerClientOptions = {
  readonly transport: Transport
  /** `new` while enrolling. */
  readonly agentId: string
  readonly key: SigningKey
  /** Raw Ed25519 key of the pinned server; undefined while enrolling, when the reply itself brings it and `enroll.ts` checks it. */
  readonly serverKey: Uint8Array
  readonly clock: Clock
  readonly random: Random
  readonly offsetMs?: number
}

export function serverClient(options: ServerClientOptions): ServerClient {
  const { clock, random, transport } = options
  const serverKey = verifyingKey(options.serverKey)
  let offset = options.offsetMs ?? 0

  const once = async (call: Call): Promise<HttpReply> => {
    const body = bodyOf(call)
    const timeMs = Math.max(0, clock.now() + offset)
    const { headers, nonce } = signRequest(options.key, options.agentId, random, { method: call.method, path: call.path, timeMs, body })
    const reply = await sendWithin(transport, clock, call.timeoutMs ?? TIMEOUT_MS, call.signal, {
      method: call.method,
      path: call.path,
      headers: { ...headers, ...contentTypeOf(call), accept: 'application/json' },
      body,
      limitBytes: call.limitBytes ?? REPLY_BYTES_MAX,
    })
    requireSigned(serverKey, reply, nonce)
    return reply
  }

  const correctClock = (reply: HttpReply): boolean => {
    const told = reply.status === 401 ? readProblem(reply)?.serverTime : undefined
    return told !== undefined && heardTime(told)
  }

  /** True where the offset changed. */
  const heardTime = (serverTime: string): boolean => {
    const heard = Math.round(parseTime(serverTime) - clock.now())
    if (!Number.isSafeInteger(heard) || Math.abs(heard - offset) <= OFFSET_TOLERANCE_MS) return false
    offset = heard
    return true
  }

  const answered = async (call: Call): Promise<HttpReply> => {
    let reply = await once(call)
    // The server said, signed, what time it is: ask again in its time, once.
    if (correctClock(reply)) reply = await once(call)
    if (reply.status >= 200 && reply.status < 300) return reply
    throw problemError(reply)
  }

  const withRetries = async (call: Call): Promise<HttpReply> => {
    const wait = backoff(random, { firstMs: 1000, mostMs: 60_000 })
    for (let attempt = 1; ; attempt++) {
      try {
        return await answered(call)
      } catch (error) {
        if (!isHoldfastError(error) || !error.retryable || attempt >= (call.attempts ?? 1)) throw error
        await clock.sleep(wait.next(retryAfterMs(error)), call.signal)
      }
    }
  }

  return {
    call: async (schema, call) => {
      const reply = await withRetries(call)
      return reply.status === 204 ? undefined : parseReply(schema, reply.body, call.path)
    },
    fetch: async (call) => (await withRetries(call)).body,
    offsetMs: () => offset,
    serverNow: () => clock.now() + offset,
    heardTime: (serverTime) => void heardTime(serverTime),
    close: () => transport.close(),
  }
}

/** Milliseconds that the server asked to wait with this error, where it did. */
export function retryAfterMs(error: unknown): number | undefined {
  const asked = isHoldfastError(error) ? error.fields['retryAfterMs'] : undefined
  return typeof asked === 'number' ? asked : undefined
}

/** One request within a time limit by the Clock. Rejects with `server-unreachable` when it is over, with the signal's reason when it aborts. */
export async function sendWithin(
  transport: Transport,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  request: Omit<HttpRequest, 'signal'>,
): Promise<HttpReply> {
  signal?.throwIfAborted()
  const limit = new AbortController()
  const finished = new AbortController()
  const abort = (): void => limit.abort(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  const late = clock.sleep(timeoutMs, finished.signal).then(
    () =>
      limit.abort(
        new HoldfastError('server-unreachable', `the server did not answer within ${Math.round(timeoutMs / 1000)} s; trying again later`),
      ),
    // The wait was ended because the answer came.
    () => undefined,
  )
  try {
    return await transport.send({ ...request, signal: limit.signal })
  } catch (error) {
    throw limit.signal.aborted ? limit.signal.reason : error
  } finally {
    signal?.removeEventListener('abort', abort)
    finished.abort()
    await late
  }
}

function bodyOf(call: Call): Buffer {
  if (call.bytes !== undefined) return call.bytes.body
  return call.json === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(call.json), 'utf8')
}

function contentTypeOf(call: Call): Record<string, string> {
  if (call.bytes !== undefined) return { 'content-type': call.bytes.contentType }
  return call.json === undefined ? {} : { 'content-type': 'application/json' }
}

function requireSigned(serverKey: KeyObject, reply: HttpReply, nonce: string): void {
  const signature = reply.headers[HEADER.serverSignature]
  if (verifyResponse(serverKey, { status: reply.status, requestNonce: nonce, body: reply.body, signature })) return
  // A proxy in front of a server that is down answers by itself; that is an absence, not an answer.
  if ([429, 502, 503, 504].includes(reply.status))
    throw new HoldfastError('server-unreachable', `something before the server answered ${reply.status}; trying again later`, {
      fields: { status: reply.status, ...retryAfterField(reply) },
    })
  throw new HoldfastError(
    'server-untrusted',
    `the answer (${reply.status}) does not carry the signature of the server that this agent is enrolled with; nothing of it was used. Check the address, and who stands between`,
    { fields: { status: reply.status } },
  )
}

/** Reads the body of a signed reply strictly. Throws `server-untrusted`. */
export function parseReply<T>(schema: z.ZodType<T>, body: Uint8Array, path: string): T {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    throw new HoldfastError('server-untrusted', `the server's answer to ${path} is not JSON`, { cause })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const field = printable(parsed.error.issues[0]?.path.map(String).join('.') ?? '')
  throw new HoldfastError('server-untrusted', `the server's answer to ${path} is not as the protocol says${field ? `, at ${field}` : ''}`, {
    cause: parsed.error,
  })
}

function readProblem(reply: HttpReply): Problem | undefined {
  try {
    const parsed = problem.safeParse(JSON.parse(reply.body.toString('utf8')))
    return parsed.success ? parsed.data : undefined
  } catch (error) {
    // Not JSON: an answer without a problem; its status says enough.
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

function problemError(reply: HttpReply): HoldfastError {
  const told = readProblem(reply)
  const detail = told === undefined ? `the server answered ${reply.status}` : printable(told.detail).slice(0, 500)
  const fields = {
    status: reply.status,
    ...retryAfterField(reply),
    ...(told?.expectedSeq === undefined ? {} : { expectedSeq: told.expectedSeq }),
    ...(told?.expectedHash === undefined ? {} : { expectedHash: told.expectedHash }),
    ...(told === undefined ? {} : { requestId: printable(told.requestId).slice(0, 64) }),
  }
  // Whatever went wrong inside the server may be right again later.
  if (reply.status >= 500) return new HoldfastError('server-unreachable', `the server could not answer: ${detail}`, { fields })
  const code = told !== undefined && isErrorCode(told.code) ? told.code : reply.status === 401 ? 'unauthenticated' : 'failed'
  return new HoldfastError(code, `the server says: ${detail}`, { fields })
}

function retryAfterField(reply: HttpReply): { retryAfterMs?: number } {
  const text = reply.headers['retry-after']
  if (text === undefined || !/^\d{1,6}$/.test(text)) return {}
  return { retryAfterMs: Math.min(RETRY_AFTER_MS_MAX, Number(text) * 1000) }
}
