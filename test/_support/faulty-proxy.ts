// A TCP proxy on loopback that harms what passes through it: it delays, throttles to a few bytes, cuts at a byte, closes one side, resets, or
// swallows everything. Which connection meets which fault is the test's choice, so that a seed can make it.
import { connect, createServer, type Socket } from 'node:net'
import { systemClock } from '@holdfast/shared/clock.ts'

/** What happens to one connection. Counts are of bytes from the client to the server, or back where `answers` is set. */
export type Fault =
  | { readonly kind: 'none' }
  /** Every piece waits for so long. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** At most `bytes` are passed on every `everyMs`. */
  | { readonly kind: 'throttle'; readonly bytes: number; readonly everyMs: number; readonly answers: boolean }
  /** Both sides are closed in an orderly way after so many bytes, as when a server ends. */
  | { readonly kind: 'cut'; readonly atByte: number; readonly answers: boolean }
  /** Both sides are reset. */
  | { readonly kind: 'reset'; readonly atByte: number; readonly answers: boolean }
  /** That direction ends; the other goes on. */
  | { readonly kind: 'half-close'; readonly atByte: number; readonly answers: boolean }
  /** Nothing passes any more, in both directions, and nobody is told. */
  | { readonly kind: 'black-hole'; readonly atByte: number; readonly answers: boolean }

export type FaultyProxy = {
  readonly url: string
  /** How many connections were harmed, by kind. */
  readonly harmed: ReadonlyMap<Fault['kind'], number>
  readonly close: () => Promise<void>
}

/** Listens on a port, a free one where none is given; the connection number `n` (from 0) to `target()` meets `faultOf(n)`. */
export async function startFaultyProxy(target: () => number, faultOf: (n: number) => Fault, port = 0): Promise<FaultyProxy> {
  const sockets = new Set<Socket>()
  const harmed = new Map<Fault['kind'], number>()
  const closing = new AbortController()
  let count = 0
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: '127.0.0.1', port: target(), allowHalfOpen: true })
    const pair = new HarmedPair(client, upstream, faultOf(count++), closing.signal, (kind) => harmed.set(kind, (harmed.get(kind) ?? 0) + 1))
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    }
    pair.start()
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    harmed,
    close: () =>
      new Promise((resolve) => {
        closing.abort()
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}

/** One connection through the proxy. */
class HarmedPair {
  readonly #client: Socket
  readonly #upstream: Socket
  readonly #fault: Fault
  readonly #closing: AbortSignal
  readonly #harmed: (kind: Fault['kind']) => void
  #isSwallowed = false

  constructor(client: Socket, upstream: Socket, fault: Fault, closing: AbortSignal, harmed: (kind: Fault['kind']) => void) {
    this.#client = client
    this.#upstream = upstream
    this.#fault = fault
    this.#closing = closing
    this.#harmed = harmed
  }

  start(): void {
    const answers = 'answers' in this.#fault && this.#fault.answers
    if (this.#fault.kind === 'delay') this.#harmed('delay')
    this.#pass(this.#client, this.#upstream, !answers).catch((error: unknown) => this.#breakOff(error))
    this.#pass(this.#upstream, this.#client, answers).catch((error: unknown) => this.#breakOff(error))
  }

  /** An error of one side is an error of the other, as without a proxy. */
  #breakOff(error: unknown): void {
    if (!(error instanceof Error)) throw error
    for (const socket of [this.#client, this.#upstream]) socket.destroy()
  }

  /** Passes on what comes until it ends, with the fault where it is of this direction. */
  async #pass(from: Socket, to: Socket, isFaulty: boolean): Promise<void> {
    // Told to the reader of the stream below; a listener keeps it from ending the process.
    to.on('error', () => from.destroy())
    const fault: Fault = isFaulty || this.#fault.kind === 'delay' ? this.#fault : { kind: 'none' }
    let passed = 0
    let isClosed = false
    for await (const piece of from as AsyncIterable<Buffer>) {
      if (this.#isSwallowed || isClosed) continue
      if ('atByte' in fault && passed + piece.length >= fault.atByte) {
        await write(to, piece.subarray(0, fault.atByte - passed))
        this.#harmed(fault.kind)
        if (fault.kind === 'black-hole') this.#isSwallowed = true
        else if (fault.kind === 'half-close') {
          isClosed = true
          to.end()
        } else {
          for (const socket of [from, to])
            if (fault.kind === 'reset') socket.resetAndDestroy()
            else socket.destroySoon()
          return
        }
        continue
      }
      if (fault.kind === 'delay') await systemClock.sleep(fault.ms, this.#closing)
      if (fault.kind === 'throttle') await this.#trickle(to, piece, fault)
      else await write(to, piece)
      passed += piece.length
    }
    if (!this.#isSwallowed && !isClosed) to.end()
  }

  async #trickle(to: Socket, piece: Buffer, { bytes, everyMs }: Fault & { kind: 'throttle' }): Promise<void> {
    this.#harmed('throttle')
    for (let at = 0; at < piece.length && !to.destroyed; at += bytes) {
      await write(to, piece.subarray(at, at + bytes))
      await systemClock.sleep(everyMs, this.#closing)
    }
  }
}

/** Resolves when the bytes are taken; where the other side is gone there is nobody to take them. */
function write(to: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    if (to.destroyed || to.writableEnded || bytes.length === 0) resolve()
    else {
      to.once('close', resolve)
      to.write(bytes, () => {
        to.off('close', resolve)
        resolve()
      })
    }
  })
}
