// The real transport over a real socket: bounded replies, no redirects, and a server that is not there.
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { httpTransport, parseServerUrl, type Transport } from '../../../agent/daemon/http-transport.ts'

let server: Server | undefined
let transport: Transport | undefined
afterEach(async () => {
  await transport?.close()
  server?.closeAllConnections()
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)))
  server = undefined
})

async function listen(handle: Parameters<typeof createServer>[1]): Promise<string> {
  server = createServer(handle ?? (() => undefined))
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
const request = { method: 'POST', path: '/v1/agent/poll?x=1', headers: { 'x-a': 'b' }, limitBytes: 1000 } as const

describe('the transport', () => {
  it('sends method, path, headers and body as they are, and gives status, headers and body back', async () => {
    const base = await listen((incoming, reply) => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.on('end', () =>
        reply.writeHead(409, { 'X-B': 'c' }).end(`${incoming.method} ${incoming.url} ${incoming.headers['x-a']} ${Buffer.concat(chunks)}`),
      )
    })
    transport = httpTransport({ url: parseServerUrl(base) })
    const { signal } = new AbortController()
    const reply = await transport.send({ ...request, body: Buffer.from('hello'), signal })
    expect(reply).toMatchObject({ status: 409, headers: { 'x-b': 'c' }, body: Buffer.from('POST /v1/agent/poll?x=1 b hello') })
  })

  it('reads no more than it was allowed to', async () => {
    const base = await listen((_, reply) => reply.end(Buffer.alloc(5000)))
    transport = httpTransport({ url: parseServerUrl(base) })
    await expect(transport.send({ ...request, body: Buffer.alloc(0), signal: new AbortController().signal })).rejects.toMatchObject({
      code: 'server-untrusted',
    })
  })

  it('follows no redirect', async () => {
    const base = await listen((_, reply) => reply.writeHead(302, { location: 'http://127.0.0.1:1/' }).end())
    transport = httpTransport({ url: parseServerUrl(base) })
    expect((await transport.send({ ...request, body: Buffer.alloc(0), signal: new AbortController().signal })).status).toBe(302)
  })

  it('says that nobody is there, and lets go when it is told to', async () => {
    transport = httpTransport({ url: parseServerUrl('http://127.0.0.1:1') })
    await expect(transport.send({ ...request, body: Buffer.alloc(0), signal: new AbortController().signal })).rejects.toMatchObject({
      code: 'server-unreachable',
    })
    await transport.close()
    const stopping = new AbortController()
    const base = await listen(() => stopping.abort(new Error('stop')))
    transport = httpTransport({ url: parseServerUrl(base) })
    await expect(transport.send({ ...request, body: Buffer.alloc(0), signal: stopping.signal })).rejects.toThrow('stop')
  })
})
