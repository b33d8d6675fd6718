// The console as a client of the public API: every page asks the same routes, with the visitor's own session, that any program asks. There
// is no other way from a page to the data.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { HoldfastError, isErrorCode } from '@holdfast/shared/errors.ts'
import type * as wire from '@holdfast/shared/protocol/resources.ts'
import type { Restore } from '@holdfast/shared/protocol/restores.ts'
import type { App } from '../context.ts'
import { REQUEST_HEADER } from '../identify.ts'

export type Agent = z.infer<typeof wire.agent>
export type Policy = z.infer<typeof wire.policy>
export type Run = z.infer<typeof wire.run>
export type Snapshot = z.infer<typeof wire.snapshot>
export type RecordSummary = z.infer<typeof wire.recordSummary>
export type FileRecordFound = z.infer<typeof wire.fileRecordFound>
export type Controller = z.infer<typeof wire.controller>
export type Site = z.infer<typeof wire.site>
export type Store = z.infer<typeof wire.store>
export type Instruction = z.infer<typeof wire.instruction>
export type User = z.infer<typeof wire.user>
export type ApiToken = z.infer<typeof wire.apiToken>
export type AuditLine = z.infer<typeof wire.auditLine>
export type { Restore }
export type Page<T> = { readonly items: readonly T[]; readonly next: string | null }
export type Query = Readonly<Record<string, string | number | undefined>>

const PAGE_MAX = 500

export class Api {
  readonly #app: App
  readonly #request: FastifyRequest

  constructor(app: App, request: FastifyRequest) {
    this.#app = app
    this.#request = request
  }

  /** One resource or page. Rejects with the API's own error. */
  async get<T>(path: string, query: Query = {}): Promise<T> {
    const { body } = await this.#call('GET', withQuery(path, query))
    return body as T
  }

  /** Every item of a list, newest first, up to `max`; `more` where there are others. */
  async all<T>(path: string, query: Query = {}, max = 5000): Promise<{ items: T[]; more: boolean }> {
    const items: T[] = []
    let cursor: string | undefined
    do {
      const page: Page<T> = await this.get<Page<T>>(path, { ...query, limit: Math.min(PAGE_MAX, max - items.length), cursor })
      items.push(...page.items)
      cursor = page.next ?? undefined
    } while (cursor !== undefined && items.length < max)
    return { items, more: cursor !== undefined }
  }

  /** A change; what the API says to the browser about its cookie is passed on to `reply`. */
  async post<T>(path: string, body?: object, reply?: FastifyReply): Promise<T> {
    const answer = await this.#call('POST', path, body)
    const cookie = answer.headers['set-cookie']
    if (cookie !== undefined) reply?.header('set-cookie', cookie)
    return answer.body as T
  }

  async #call(
    method: 'GET' | 'POST',
    url: string,
    body?: object,
  ): Promise<{ headers: Record<string, unknown> & { 'set-cookie'?: string | string[] }; body: unknown }> {
    const { cookie, host, 'user-agent': agent } = this.#request.headers
    const answer = await this.#app.inject({
      method,
      url,
      remoteAddress: this.#request.ip,
      headers: {
        [REQUEST_HEADER]: '1',
        ...(host === undefined ? {} : { host }),
        ...(agent === undefined ? {} : { 'user-agent': agent }),
        ...(cookie === undefined ? {} : { cookie }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
    })
    const parsed = parse(answer.payload)
    if (answer.statusCode < 400) return { headers: answer.headers as Record<string, unknown>, body: parsed }
    const { code, detail } = (parsed ?? {}) as { code?: string; detail?: string }
    throw new HoldfastError(code !== undefined && isErrorCode(code) ? code : 'failed', detail ?? 'the server failed; look into its log')
  }
}

function parse(text: string): unknown {
  return text === '' ? undefined : (JSON.parse(text) as unknown)
}

/** A path with its query; what is undefined or empty is left out. */
export function withQuery(path: string, query: Query): string {
  const parts = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== '') parts.set(key, String(value))
  const text = parts.toString()
  return text === '' ? path : `${path}?${text}`
}
