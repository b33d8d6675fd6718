// Where a page sends somebody who is not logged in, and back again afterwards. Only addresses of this very site are ever followed.
import type { FastifyRequest } from 'fastify'

/** The log-in page, which leads back to what was asked for. `ended` where the browser had a session once. */
export function logInAddress(request: FastifyRequest): string {
  const query = new URLSearchParams()
  const next = safeNext(request.method === 'GET' ? request.url : undefined)
  if (next !== '/') query.set('next', next)
  if (Object.keys(request.cookies).some((name) => name === 'holdfast' || name === '__Host-holdfast')) query.set('why', 'ended')
  const text = query.toString()
  return text === '' ? '/log-in' : `/log-in?${text}`
}

/** A path of this site, or the first page. */
export function safeNext(next: string | undefined): string {
  return next !== undefined && next.length <= 500 && /^\/(?![/\\])[A-Za-z0-9/_?=&.:%+-]*$/.test(next) && !next.startsWith('/log-')
    ? next
    : '/'
}
