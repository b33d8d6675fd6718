// The control server's API as the controller's client uses it: a token, bounded and strictly read answers, errors with the server's own code.
// What the server says is never trusted with keys: whoever uses an answer checks it against the roster and the repository.
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isErrorCode, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { page, problem } from '@holdfast/shared/protocol/common.ts'
import type { z } from 'zod'
import { type HttpReply, httpTransport, parseServerUrl } from '../daemon/http-transport.ts'
import { parseReply, sendWithin } from '../daemon/server-client.ts'
import { readSecretVariable } from '../keys/secret-source.ts'
import type { Context } from './context.ts'

const TIMEOUT_MS = 60_000
const UPLOAD_TIMEOUT_MS = 10 * 60_000
const REPLY_BYTES_MAX = 16 * 2 ** 20
const ATTEMPTS = 4
const PAUSE_MS = 1_000
const RETRY_AFTER_MS_MAX = 60_000

export type ServerApi = {
  readonly get: <T>(schema: z.ZodType<T>, path: string) => Promise<T>
  readonly post: <T>(schema: z.ZodType<T>, path: string, json: unknown, headers?: Readonly<Record<string, string>>) => Promise<T>
  readonly putBytes: <T>(schema: z.ZodType<T>, path: string, bytes: Buffer) => Promise<T>
  readonly getBytes: (path: string, limitBytes: number) => Promise<Buffer>
  /** All items of a list, a page at a time. `path` has no query but what `query` gives. */
  readonly list: <T>(item: z.ZodType<T>, path: string, query?: Readonly<Record<string, string>>) => AsyncGenerator<T>
}

/** Opens the API with HOLDFAST_SERVER and HOLDFAST_TOKEN, gives it to `work`, and closes it. */
export async function withServer<T>(context: Context, work: (api: ServerApi) => Promise<T>): Promise<T> {
  const { settings } = context
  if (settings.server === undefined)
    throw new HoldfastError('usage', 'which control server? Set HOLDFAST_SERVER, such as https://backup.example:8443')
  const url = parseServerUrl(settings.server)
  const token = await readSecretVariable('HOLDFAST_TOKEN', context.env)
  if (token === undefined)
    throw new HoldfastError(
      'usage',
      'the control server asks for an API token: set HOLDFAST_TOKEN, HOLDFAST_TOKEN_FILE or HOLDFAST_TOKEN_COMMAND',
    )
  if (!/^[\x21-\x7e]{1,512}$/.test(token))
    throw new HoldfastError('usage', 'what HOLDFAST_TOKEN gives cannot be an API token; copy it whole')
  const transport = httpTransport({ url, caFile: settings.serverCaFile })
  try {
    return await work(serverApi(context, transport.send, token))
  } finally {
    await transport.close()
  }
}

type Send = ReturnType<typeof httpTransport>['send']
type Call = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly body?: Buffer
  readonly headers?: Readonly<Record<string, string>>
  readonly limitBytes?: number
  readonly timeoutMs?: number
}

function serverApi(context: Pick<Context, 'clock' | 'signal'>, send: Send, token: string): ServerApi {
  const { clock, signal } = context
  const once = async (call: Call): Promise<Buffer> => {
    const reply = await sendWithin({ send, close: async () => undefined }, clock, call.timeoutMs ?? TIMEOUT_MS, signal, {
      method: call.method,
      path: call.path,
      headers: { authorization: `Bearer ${token}`, accept: 'application/json', ...call.headers },
      body: call.body ?? Buffer.alloc(0),
      limitBytes: call.limitBytes ?? REPLY_BYTES_MAX,
    })
    if (reply.status >= 200 && reply.status < 300) return reply.body
    throw refusalOf(reply)
  }
  const repeated = (call: Call): Promise<Buffer> => withRetries(clock, signal, () => once(call))
  const get: ServerApi['get'] = async (schema, path) => parseReply(schema, await repeated({ method: 'GET', path }), path)
  return {
    get,
    getBytes: (path, limitBytes) => repeated({ method: 'GET', path, limitBytes, timeoutMs: UPLOAD_TIMEOUT_MS }),
    // Every POST of this client carries an idempotency key, so that asking again cannot do it twice.
    post: async (schema, path, json, headers = {}) =>
      parseReply(
        schema,
        await repeated({
          method: 'POST',
          path,
          body: Buffer.from(JSON.stringify(json)),
          headers: { 'content-type': 'application/json', ...headers },
        }),
        path,
      ),
    putBytes: async (schema, path, bytes) =>
      parseReply(
        schema,
        await repeated({
          method: 'PUT',
          path,
          body: bytes,
          headers: { 'content-type': 'application/octet-stream' },
          timeoutMs: UPLOAD_TIMEOUT_MS,
        }),
        path,
      ),
    list: async function* (item, path, query = {}) {
      let cursor: string | null = null
      do {
        const search: URLSearchParams = new URLSearchParams({ ...query, ...(cursor === null ? {} : { cursor }) })
        const text = search.toString()
        const found: { items: z.output<typeof item>[]; next: string | null } = await get(page(item), text === '' ? path : `${path}?${text}`)
        yield* found.items
        cursor = found.next
      } while (cursor !== null)
    },
  }
}

async function withRetries<T>(clock: Clock, signal: AbortSignal, act: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act()
    } catch (error) {
      if (!isHoldfastError(error) || !error.retryable || attempt === ATTEMPTS) throw error
      const asked = error.fields['retryAfterMs']
      await clock.sleep(typeof asked === 'number' ? asked : PAUSE_MS * 2 ** (attempt - 1), signal)
    }
  }
}

function refusalOf(reply: HttpReply): HoldfastError {
  const told = problemOf(reply)
  const detail = told === undefined ? `it answered ${reply.status}` : printable(told.detail).slice(0, 500)
  const after = reply.headers['retry-after']
  const fields = {
    status: reply.status,
    ...(after === undefined || !/^\d{1,6}$/.test(after) ? {} : { retryAfterMs: Math.min(RETRY_AFTER_MS_MAX, Number(after) * 1000) }),
    ...(told === undefined ? {} : { requestId: printable(told.requestId).slice(0, 64) }),
  }
  const code = told !== undefined && isErrorCode(told.code) ? told.code : undefined
  if (reply.status >= 500 && code !== 'failed')
    return new HoldfastError('server-unreachable', `the server could not answer: ${detail}`, { fields })
  return new HoldfastError(code ?? (reply.status === 401 ? 'unauthenticated' : 'failed'), `the server says: ${detail}`, { fields })
}

function problemOf(reply: HttpReply): z.infer<typeof problem> | undefined {
  try {
    const parsed = problem.safeParse(JSON.parse(reply.body.toString('utf8')))
    return parsed.success ? parsed.data : undefined
  } catch (error) {
    // Not JSON: an answer of something in between; its status says enough.
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
