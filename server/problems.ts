// Errors as RFC 9457 problem details. Only words of HoldfastError leave the server; anything else is logged and answered without detail.
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { Problem } from '@holdfast/shared/protocol/common.ts'

/** What an agent or a browser gets for `error`, with extra members that the code defines. */
export function problemOf(error: HoldfastError, requestId: string, now: number): Problem {
  const { expectedSeq, expectedHash, field } = error.fields
  return {
    type: `urn:holdfast:error:${error.code}`,
    title: error.code.replaceAll('-', ' '),
    status: error.httpStatus,
    code: error.code,
    detail: error.code === 'failed' ? 'the server failed; look for the request id in its log' : error.message,
    requestId,
    ...(error.retryable ? { retryable: true } : {}),
    ...(typeof expectedSeq === 'number' ? { expectedSeq } : {}),
    ...(typeof expectedHash === 'string' ? { expectedHash } : {}),
    ...(typeof field === 'string' ? { field } : {}),
    ...(error.code === 'unauthenticated' ? { serverTime: isoTime(now) } : {}),
  }
}

/** The one error handler. */
export function makeErrorHandler(log: Log, clock: Clock) {
  return (thrown: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void => {
    const error = toHoldfastError(thrown)
    if (error.httpStatus >= 500) {
      const cause = error.cause instanceof Error ? error.cause : error
      log.error('request-failed', { requestId: request.id, route: request.routeOptions.url, code: error.code, stack: cause.stack })
    }
    const problem = problemOf(error, request.id, clock.now())
    const status = 'statusCode' in thrown && thrown.statusCode === 415 ? 415 : problem.status
    if (error.code === 'too-many') reply.header('retry-after', String(error.fields['retryAfter'] ?? 5))
    void reply
      .status(status)
      .type('application/problem+json')
      .send(JSON.stringify({ ...problem, status }))
  }
}

function toHoldfastError(thrown: FastifyError | Error): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown
  switch ('code' in thrown ? thrown.code : undefined) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new HoldfastError('too-large', 'this body is over the limit of this route; send less at a time', { cause: thrown })
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new HoldfastError('usage', 'this route does not read this content type; see /openapi.json', { cause: thrown })
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_BAD_URL':
      return new HoldfastError('usage', 'this request is malformed; send what /openapi.json describes', { cause: thrown })
    default:
      return new HoldfastError('failed', 'unexpected error', { cause: thrown })
  }
}

/** A body, query or parameter that does not fit its schema: the field is named, its value never repeated. */
export function invalid(error: z.ZodError, part: string): HoldfastError {
  const { path, message } = firstIssue(error.issues)
  const field = path.filter((key) => typeof key === 'number' || /^[a-zA-Z][a-zA-Z0-9_-]{0,39}$/.test(String(key))).join('.')
  return new HoldfastError('unprocessable', `${part}${field ? `, field ${field}` : ''}: ${message}`, { fields: field ? { field } : {} })
}

function firstIssue(issues: readonly z.core.$ZodIssue[]): { path: readonly PropertyKey[]; message: string } {
  const issue = issues[0]
  if (issue === undefined) return { path: [], message: 'does not fit; see /openapi.json' }
  if (issue.code === 'invalid_union') {
    // The branch with the fewest faults is the one that was meant.
    const meant = [...issue.errors].sort((a, b) => a.length - b.length)[0]
    if (meant === undefined || meant.length === 0) return { path: issue.path, message: 'does not fit; see /openapi.json' }
    const inner = firstIssue(meant)
    return { path: [...issue.path, ...inner.path], message: inner.message }
  }
  if (issue.code === 'unrecognized_keys') {
    return { path: [...issue.path, issue.keys[0] ?? ''], message: 'unknown here; it would be ignored, so it is refused. See /openapi.json' }
  }
  if (issue.code === 'invalid_type') return { path: issue.path, message: `must be ${issue.expected}` }
  if (issue.code === 'invalid_value') return { path: issue.path, message: `must be one of ${issue.values.map(String).join(', ')}` }
  return { path: issue.path, message: issue.message }
}
