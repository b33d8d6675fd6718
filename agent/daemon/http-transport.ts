// HTTP to the control server, and nothing more: one request, one bounded reply, no redirects, TLS checked (with the operator's own authority
// where one is configured), plain http to this machine only. What is said and who said it is for server-client.ts.
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { Agent, request } from 'undici'

export type HttpRequest = {
  readonly method: 'GET' | 'POST' | 'PUT'
  /** Path with query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** A longer reply is refused with `server-untrusted` before it is held. */
  readonly limitBytes: number
  readonly signal: AbortSignal
}
/** Header names in lower case. */
export type HttpReply = { readonly status: number; readonly headers: Readonly<Record<string, string | undefined>>; readonly body: Buffer }

/** The seam: tests answer requests in the process. Rejects with `server-unreachable`, `server-untrusted`, or the signal's reason. */
export type Transport = { readonly send: (request: HttpRequest) => Promise<HttpReply>; readonly close: () => Promise<void> }

const CONNECT_MS = 30_000
const CA_FILE_BYTES_MAX = 1024 * 1024

/** Reads a server's address: https, or http to this machine. Rejects with `usage`. */
export function parseServerUrl(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch (cause) {
    throw new HoldfastError('usage', "the server's address is none; write https://host[:port]", { cause })
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new HoldfastError('usage', "the server's address must begin with https://")
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '' || url.pathname !== '/')
    throw new HoldfastError('usage', "the server's address is https://host[:port] and no more")
  if (url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new HoldfastError('usage', 'plain http is accepted for addresses of this machine only; use https')
  return url
}

/** The real transport. `caFile` is a PEM file that replaces the system's authorities for this server. Rejects with `bad-config`. */
export function httpTransport(options: { url: URL; caFile?: string | undefined }): Transport {
  const { url, caFile } = options
  const ca = caFile === undefined ? undefined : readAuthority(caFile)
  const agent = new Agent({
    connect: { timeout: CONNECT_MS, ...(ca === undefined ? {} : { ca }) },
    connections: 8,
    pipelining: 1,
    // Time limits are the caller's, by the Clock seam.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  return {
    send: async ({ method, path, headers, body, limitBytes, signal }) => {
      try {
        const reply = await request(new URL(path, url), {
          method,
          headers,
          body: body.length === 0 ? null : body,
          signal,
          dispatcher: agent,
        })
        const chunks: Buffer[] = []
        let length = 0
        for await (const chunk of reply.body) {
          const bytes = Buffer.from(chunk as Uint8Array)
          length += bytes.length
          if (length > limitBytes)
            throw new HoldfastError('server-untrusted', `the server's reply is over ${limitBytes} bytes; it was not read`)
          chunks.push(bytes)
        }
        return { status: reply.statusCode, headers: flat(reply.headers), body: Buffer.concat(chunks) }
      } catch (error) {
        if (signal.aborted || isHoldfastError(error)) throw error
        throw unreachable(error, url)
      }
    },
    close: () => agent.destroy(),
  }
}

function readAuthority(caFile: string): Buffer {
  try {
    const pem = readFileSync(caFile)
    if (pem.length > CA_FILE_BYTES_MAX || !pem.includes('-----BEGIN CERTIFICATE-----')) throw new Error('no certificate in PEM form')
    return pem
  } catch (cause) {
    throw new HoldfastError('bad-config', `the authority's certificate in ${printable(caFile)} cannot be read; name a PEM file`, { cause })
  }
}

function flat(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]))
}

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS|ALTNAME/

function unreachable(error: unknown, url: URL): HoldfastError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = [error, cause].map((e) => (e instanceof Error && 'code' in e ? String(e.code) : '')).find((text) => text !== '') ?? 'unknown'
  const at = `${url.hostname}:${url.port || (url.protocol === 'https:' ? 443 : 80)}`
  return CERTIFICATE.test(code)
    ? new HoldfastError(
        'server-untrusted',
        `the certificate of ${at} does not hold (${printable(code)}); name its authority as server.caFile in agent.json`,
        {
          cause: error,
        },
      )
    : new HoldfastError('server-unreachable', `the server at ${at} cannot be reached (${printable(code)}); check address and network`, {
        cause: error,
      })
}

function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
