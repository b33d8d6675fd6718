// The server's side of the agent protocol in miniature: signs its answers with its own key and can be made to lie in every way.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { HEADER, requestBytes, responseBytes } from '@holdfast/shared/protocol/signatures.ts'
import { makeSigningKey, verifySignature, type SigningKey } from '@holdfast/shared/signing.ts'
import type { HttpReply, HttpRequest, Transport } from '../../../../agent/daemon/http-transport.ts'
import { seededRandom } from '../../../_support/seeded-random.ts'

export type Answer = {
  status?: number
  json?: unknown
  body?: Buffer
  headers?: Record<string, string>
  signedBy?: SigningKey | null
  signedStatus?: number
}

export type TestServerSide = Transport & {
  readonly key: SigningKey
  readonly requests: (HttpRequest & { json: () => unknown })[]
  /** What the next requests of a path get; the last answer stays. */
  readonly on: (path: string, ...answers: (Answer | ((request: HttpRequest) => Answer | Promise<Answer>))[]) => void
}

export function testServerSide(clock: Clock, agentKey?: () => Uint8Array | undefined): TestServerSide {
  const key = makeSigningKey(seededRandom('server side'))
  const answers = new Map<string, (Answer | ((request: HttpRequest) => Answer | Promise<Answer>))[]>()
  const requests: TestServerSide['requests'] = []
  return {
    key,
    requests,
    on: (path, ...given) => void answers.set(path, given),
    close: () => Promise.resolve(),
    send: async (request): Promise<HttpReply> => {
      request.signal.throwIfAborted()
      requests.push({ ...request, json: () => JSON.parse(request.body.toString('utf8')) as unknown })
      const queue = answers.get(request.path) ?? []
      const next = queue.length > 1 ? queue.shift() : queue[0]
      if (next === undefined) throw new Error(`no answer for ${request.method} ${request.path}`)
      const answer = typeof next === 'function' ? await next(request) : next
      const status = answer.status ?? 200
      const body = answer.body ?? (answer.json === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(answer.json)))
      const nonce = request.headers[HEADER.nonce] ?? ''
      const known = agentKey?.()
      if (known !== undefined) {
        const bytes = requestBytes({
          method: request.method,
          path: request.path,
          timeMs: Number(request.headers[HEADER.time]),
          nonce,
          body: request.body,
        })
        if (!verifySignature(known, bytes, Buffer.from(request.headers[HEADER.signature] ?? '', 'base64url')))
          throw new Error('the request is not signed by the agent')
      }
      const signer = answer.signedBy === undefined ? key : answer.signedBy
      const signature = signer?.sign(responseBytes(answer.signedStatus ?? status, nonce, body)).toString('base64url')
      return { status, body, headers: { ...answer.headers, ...(signature === undefined ? {} : { [HEADER.serverSignature]: signature }) } }
    },
  }
}

export function problemAnswer(status: number, code: string, more: Record<string, unknown> = {}): Answer {
  return {
    status,
    json: { type: `urn:holdfast:error:${code}`, title: code, status, code, detail: `because ${code}`, requestId: 'req_1', ...more },
  }
}

export function timeAnswer(clock: Clock): Answer {
  return { json: { serverTime: isoTime(clock.now()) } }
}
