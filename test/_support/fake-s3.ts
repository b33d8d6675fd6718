// A small S3 server in this process, for what no real server here does on demand: exact conditional puts with 409,
// buckets that ignore or lack them, lost answers, broken and stalled transfers, short listings. Signatures are not
// checked, but every body must match its x-amz-content-sha256. Keys and listings follow the S3 API reference.
import { createHash } from 'node:crypto'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'

export type FakeRequest = {
  readonly index: number
  readonly method: string
  /** `put`, `get`, `head`, `delete`, `list`, `list-versions`, or `bucket` for anything about the bucket itself. */
  readonly operation: string
  readonly key: string
  readonly headers: IncomingMessage['headers']
}

export type FakeFault =
  /** Answers without any effect, after reading the request, or at once where `early`. */
  | { readonly kind: 'answer'; readonly status: number; readonly code?: string; readonly retryAfter?: number; readonly early?: boolean }
  /** Closes the connection after so many bytes of the request's body. */
  | { readonly kind: 'reset'; readonly afterBytes: number }
  /** Does what was asked and closes the connection without an answer. */
  | { readonly kind: 'lost-answer' }
  /** Sends so many bytes of the object and closes the connection. */
  | { readonly kind: 'truncated'; readonly bytes: number }
  /** Stops reading and answering after so many bytes of the request's body. */
  | { readonly kind: 'stalled'; readonly afterBytes: number }
  /** Sends so many bytes of the object and then nothing more. */
  | { readonly kind: 'stalled-answer'; readonly bytes: number }
  /** Lists without the last `drop` names and says that this is all. */
  | { readonly kind: 'short-list'; readonly drop: number }
  /** Ignores the Range header. */
  | { readonly kind: 'no-range' }
  /** Answers a listing with this text. */
  | { readonly kind: 'reply'; readonly text: string }

export type FakeS3Options = {
  readonly bucket?: string
  readonly conditional?: 'honoured' | 'ignored' | 'not-implemented'
  /** Enabled: every put makes a version, a delete without an id only a mark. */
  readonly versioning?: 'Enabled' | 'Suspended'
  /** Whether versions may be listed, and read by their id; and whether it is told that there are any. */
  readonly denyListVersions?: boolean
  readonly denyGetVersion?: boolean
  readonly denyVersioning?: boolean
  /** Names on one page of versions, where not a thousand. */
  readonly versionPage?: number
  readonly lock?: boolean
  /** Refuses puts without a condition, as a bucket policy can. */
  readonly demandCondition?: boolean
  /** Refuses deletes. */
  readonly denyDelete?: boolean
  /** Refuses puts without an x-amz-checksum header, as a bucket with default retention does. */
  readonly wantsChecksum?: boolean
  readonly quotaBytes?: number
  /** The server's clock, in milliseconds since 1970; requests signed further away than 15 minutes are refused. */
  readonly now: () => number
}

export type FakeS3 = {
  readonly endpoint: string
  readonly port: number
  readonly bucket: string
  readonly requests: readonly FakeRequest[]
  readonly objects: ReadonlyMap<string, { readonly bytes: Buffer; readonly at: number }>
  /** From now on the plan decides about each request; no plan, no faults. */
  setFaults(plan?: (request: FakeRequest) => FakeFault | undefined): void
  stop(): Promise<void>
}

/** A version, newest first in its list; without bytes it is a delete marker. */
type FakeVersion = { readonly id: string; readonly bytes: Buffer | undefined; readonly at: number }
type FakeState = {
  readonly objects: Map<string, { bytes: Buffer; at: number }>
  readonly versions: Map<string, FakeVersion[]>
  made: number
}

const noFault = (): undefined => undefined
const SKEW_MS = 15 * 60 * 1000

export async function startFakeS3(options: FakeS3Options): Promise<FakeS3> {
  const bucket = options.bucket ?? 'bucket'
  const objects = new Map<string, { bytes: Buffer; at: number }>()
  const state: FakeState = { objects, versions: new Map(), made: 0 }
  const requests: FakeRequest[] = []
  let plan: (request: FakeRequest) => FakeFault | undefined = noFault
  const server: Server = createServer((incoming, outgoing) => {
    const request = readRequest(incoming, bucket, requests.length + 1)
    requests.push(request)
    const { socket } = incoming
    const exchange = new Exchange(options, state, request, incoming, outgoing, plan(request))
    exchange.run().catch(() => socket.destroy())
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = address === null || typeof address === 'string' ? 0 : address.port
  return {
    endpoint: `http://127.0.0.1:${port}`,
    port,
    bucket,
    requests,
    objects,
    setFaults: (next) => (plan = next ?? noFault),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function readRequest(incoming: IncomingMessage, bucket: string, index: number): FakeRequest {
  const url = new URL(incoming.url ?? '/', 'http://s3')
  const method = incoming.method ?? ''
  const virtual = incoming.headers.host?.startsWith(`${bucket}.`) === true
  const path = decodeURIComponent(url.pathname).slice(1)
  const key = virtual ? path : path.startsWith(`${bucket}/`) ? path.slice(bucket.length + 1) : ''
  const isList = key === '' && method === 'GET' && url.searchParams.get('list-type') === '2'
  const isVersions = key === '' && method === 'GET' && url.searchParams.has('versions')
  const operation = isVersions ? 'list-versions' : isList ? 'list' : key === '' ? 'bucket' : method.toLowerCase()
  return { index, method, operation, key, headers: incoming.headers }
}

/** One request and its answer. */
class Exchange {
  readonly #options: FakeS3Options
  readonly #state: FakeState
  readonly #objects: Map<string, { bytes: Buffer; at: number }>
  readonly #request: FakeRequest
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  readonly #fault: FakeFault | undefined

  constructor(
    options: FakeS3Options,
    state: FakeState,
    request: FakeRequest,
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    fault: FakeFault | undefined,
  ) {
    this.#options = options
    this.#state = state
    this.#objects = state.objects
    this.#request = request
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.#fault = fault
  }

  async run(): Promise<void> {
    const fault = this.#fault
    this.#outgoing.setHeader('date', new Date(this.#options.now()).toUTCString())
    if (fault?.kind === 'answer' && fault.early === true) return this.#answerFault(fault)
    const body = await this.#readBody()
    if (body === undefined) return
    if (fault?.kind === 'answer') return this.#answerFault(fault)
    if (Math.abs(this.#signedAt() - this.#options.now()) > SKEW_MS) return this.#error(403, 'RequestTimeTooSkewed')
    switch (this.#request.operation) {
      case 'put':
        return this.#put(body)
      case 'get':
      case 'head':
        return this.#get()
      case 'delete':
        if (this.#options.denyDelete === true) return this.#error(403, 'AccessDenied')
        this.#delete()
        return this.#end(204)
      case 'list':
        return this.#list()
      case 'list-versions':
        return this.#options.denyListVersions === true ? this.#error(403, 'AccessDenied') : this.#listVersions()
      default:
        return this.#bucket()
    }
  }

  #answerFault(fault: FakeFault & { kind: 'answer' }): void {
    if (fault.retryAfter !== undefined) this.#outgoing.setHeader('retry-after', String(fault.retryAfter))
    this.#error(fault.status, fault.code ?? '')
  }

  /** The body, or undefined where a fault ended the exchange. */
  async #readBody(): Promise<Buffer | undefined> {
    const fault = this.#fault
    const parts: Buffer[] = []
    let bytes = 0
    const limit = fault?.kind === 'reset' || fault?.kind === 'stalled' ? fault.afterBytes : Infinity
    for await (const chunk of this.#incoming.iterator({ destroyOnReturn: false })) {
      if (!Buffer.isBuffer(chunk)) throw new Error('a body comes as bytes')
      parts.push(chunk)
      bytes += chunk.length
      if (bytes >= limit) break
    }
    if (fault?.kind === 'reset') {
      this.#incoming.socket.resetAndDestroy()
      return undefined
    }
    return fault?.kind === 'stalled' ? undefined : Buffer.concat(parts)
  }

  #put(body: Buffer): void {
    const { headers, key } = this.#request
    const options = this.#options
    const declared = headers['x-amz-content-sha256']
    if (declared !== 'UNSIGNED-PAYLOAD' && declared !== createHash('sha256').update(body).digest('hex'))
      return this.#error(400, 'XAmzContentSHA256Mismatch')
    if (options.wantsChecksum === true && headers['x-amz-checksum-sha256'] === undefined)
      return this.#error(
        400,
        'InvalidRequest',
        'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters',
      )
    const condition = headers['if-none-match'] === '*'
    if (condition && options.conditional === 'not-implemented') return this.#error(501, 'NotImplemented')
    if (!condition && options.demandCondition === true) return this.#error(403, 'AccessDenied')
    if (condition && options.conditional !== 'ignored' && this.#objects.has(key)) return this.#error(412, 'PreconditionFailed')
    const used = [...this.#objects.values()].reduce((sum, object) => sum + object.bytes.length, 0)
    if (used + body.length > (options.quotaBytes ?? Infinity)) return this.#error(403, 'QuotaExceeded')
    this.#addVersion(key, body)
    this.#objects.set(key, { bytes: body, at: options.now() })
    if (this.#fault?.kind === 'lost-answer') this.#incoming.socket.destroy()
    else this.#end(200)
  }

  get #query(): URLSearchParams {
    return new URL(this.#incoming.url ?? '/', 'http://s3').searchParams
  }

  #addVersion(key: string, bytes: Buffer | undefined): void {
    if (this.#options.versioning !== 'Enabled') return
    const { versions } = this.#state
    this.#state.made += 1
    versions.set(key, [{ id: `v${this.#state.made}`, bytes, at: this.#options.now() }, ...(versions.get(key) ?? [])])
  }

  #delete(): void {
    const { key } = this.#request
    const id = this.#query.get('versionId')
    if (id === null) {
      this.#addVersion(key, undefined)
      this.#objects.delete(key)
      return
    }
    const left = (this.#state.versions.get(key) ?? []).filter((version) => version.id !== id)
    const newest = left[0]
    if (left.length === 0) this.#state.versions.delete(key)
    else this.#state.versions.set(key, left)
    if (newest?.bytes === undefined) this.#objects.delete(key)
    else this.#objects.set(key, { bytes: newest.bytes, at: newest.at })
  }

  #listVersions(): void {
    if (this.#fault?.kind === 'reply') return this.#xml(200, this.#fault.text)
    const query = this.#query
    const prefix = query.get('prefix') ?? ''
    const all = [...this.#state.versions.keys()]
      .filter((key) => key.startsWith(prefix))
      .sort()
      .flatMap((key) => (this.#state.versions.get(key) ?? []).map((version) => ({ key, version })))
    const marker = all.findIndex(({ key, version }) => key === query.get('key-marker') && version.id === query.get('version-id-marker'))
    const page = all.slice(marker + 1, marker + 1 + (this.#options.versionPage ?? Number(query.get('max-keys') ?? '1000')))
    const entries = page.map(({ key, version }) => {
      const common = `<Key>${escape(key)}</Key><VersionId>${version.id}</VersionId><LastModified>${new Date(version.at).toISOString()}</LastModified>`
      return version.bytes === undefined
        ? `<DeleteMarker>${common}</DeleteMarker>`
        : `<Version>${common}<Size>${version.bytes.length}</Size></Version>`
    })
    const last = page.at(-1)
    const more = last !== undefined && marker + 1 + page.length < all.length
    const next = more
      ? `<NextKeyMarker>${escape(last.key)}</NextKeyMarker><NextVersionIdMarker>${last.version.id}</NextVersionIdMarker>`
      : ''
    this.#xml(200, `<ListVersionsResult><IsTruncated>${more}</IsTruncated>${next}${entries.join('')}</ListVersionsResult>`)
  }

  #get(): void {
    const { headers, key, method } = this.#request
    const id = this.#query.get('versionId')
    if (id !== null && this.#options.denyGetVersion === true) return this.#error(403, 'AccessDenied')
    const version = id === null ? undefined : this.#state.versions.get(key)?.find((each) => each.id === id)
    const object =
      id === null ? this.#objects.get(key) : version?.bytes === undefined ? undefined : { bytes: version.bytes, at: version.at }
    if (object === undefined) return this.#error(404, id === null ? 'NoSuchKey' : 'NoSuchVersion')
    this.#outgoing.setHeader('last-modified', new Date(object.at).toUTCString())
    let { bytes } = object
    const range = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '')
    let status = 200
    if (range !== null && this.#fault?.kind !== 'no-range') {
      const suffix = range[1] === ''
      const from = suffix ? Math.max(0, bytes.length - Number(range[2])) : Number(range[1])
      const to = suffix || range[2] === '' ? bytes.length - 1 : Math.min(Number(range[2]), bytes.length - 1)
      if (from >= bytes.length) return this.#error(416, 'InvalidRange')
      this.#outgoing.setHeader('content-range', `bytes ${from}-${to}/${bytes.length}`)
      bytes = bytes.subarray(from, to + 1)
      status = 206
    }
    this.#outgoing.writeHead(status, { 'content-length': bytes.length })
    if (method === 'HEAD') this.#outgoing.end()
    else if (this.#fault?.kind === 'truncated') this.#outgoing.write(bytes.subarray(0, this.#fault.bytes), () => this.#outgoing.destroy())
    else if (this.#fault?.kind === 'stalled-answer') this.#outgoing.write(bytes.subarray(0, this.#fault.bytes))
    else this.#outgoing.end(bytes)
  }

  #list(): void {
    if (this.#fault?.kind === 'reply') return this.#xml(200, this.#fault.text)
    const query = new URL(this.#incoming.url ?? '/', 'http://s3').searchParams
    const prefix = query.get('prefix') ?? ''
    const after = query.get('continuation-token') ?? ''
    let keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort()
    if (this.#fault?.kind === 'short-list') keys = keys.slice(0, Math.max(0, keys.length - this.#fault.drop))
    const page = keys.slice(0, Math.min(1000, Number(query.get('max-keys') ?? '1000')))
    const more = page.length < keys.length
    const entries = page.map((key) => {
      const object = this.#objects.get(key)
      return `<Contents><Key>${escape(key)}</Key><LastModified>${new Date(object?.at ?? 0).toISOString()}</LastModified><Size>${object?.bytes.length ?? 0}</Size></Contents>`
    })
    const next = more ? `<NextContinuationToken>${escape(page.at(-1) ?? '')}</NextContinuationToken>` : ''
    this.#xml(200, `<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${entries.join('')}</ListBucketResult>`)
  }

  #bucket(): void {
    const query = new URL(this.#incoming.url ?? '/', 'http://s3').searchParams
    const { versioning, lock } = this.#options
    if (query.has('versioning')) {
      if (this.#options.denyVersioning === true) return this.#error(403, 'AccessDenied')
      const status = versioning === undefined ? '' : `<Status>${versioning}</Status>`
      return this.#xml(200, `<VersioningConfiguration>${status}</VersioningConfiguration>`)
    }
    if (query.has('object-lock')) {
      if (lock !== true) return this.#error(404, 'ObjectLockConfigurationNotFoundError')
      return this.#xml(200, '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>')
    }
    this.#end(200)
  }

  /** When the client says it signed the request. */
  #signedAt(): number {
    const text = String(this.#request.headers['x-amz-date'] ?? '')
    return Date.parse(text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  }

  #error(status: number, code: string, message = ''): void {
    // Like radosgw: mostly no message; and no body at all for HEAD or where there is no code.
    if (this.#request.method === 'HEAD' || code === '') this.#end(status)
    else this.#xml(status, `<Error><Code>${code}</Code><Message>${message}</Message></Error>`)
  }

  #xml(status: number, text: string): void {
    this.#outgoing.writeHead(status, { 'content-type': 'application/xml' }).end(`<?xml version="1.0" encoding="UTF-8"?>${text}`)
  }

  #end(status: number): void {
    this.#outgoing.writeHead(status, { 'content-length': 0 }).end()
  }
}

function escape(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
}
