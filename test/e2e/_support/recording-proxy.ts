// A TCP proxy on loopback that passes every byte on as it is and keeps a copy, in both directions, for tests of what goes over the wire.
import { createServer, connect, type Socket } from 'node:net'

export type RecordingProxy = {
  readonly port: number
  readonly url: string
  /** What was sent and answered, one buffer for each direction of each connection. */
  readonly recorded: () => { readonly sent: readonly Buffer[]; readonly answered: readonly Buffer[] }
  readonly close: () => Promise<void>
}

/** Listens on a free port and connects each client to `target()`, a port on loopback, as it is at that moment. */
export async function startRecordingProxy(target: () => number): Promise<RecordingProxy> {
  const connections: { readonly sent: Buffer[]; readonly answered: Buffer[] }[] = []
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect({ host: '127.0.0.1', port: target() })
    const kept: { sent: Buffer[]; answered: Buffer[] } = { sent: [], answered: [] }
    connections.push(kept)
    pass(client, upstream, kept.sent)
    pass(upstream, client, kept.answered)
  })
  const pass = (from: Socket, to: Socket, kept: Buffer[]): void => {
    sockets.add(from)
    from.on('data', (data: Buffer) => {
      kept.push(data)
      if (!to.destroyed && !to.write(data)) from.pause()
    })
    to.on('drain', () => from.resume())
    from.on('end', () => to.end())
    // One side that breaks off breaks off the other, as without a proxy.
    from.on('error', () => to.destroy())
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
  }
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return {
    port: address.port,
    url: `http://127.0.0.1:${address.port}`,
    recorded: () => ({
      sent: connections.map(({ sent }) => Buffer.concat(sent)),
      answered: connections.map(({ answered }) => Buffer.concat(answered)),
    }),
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}
