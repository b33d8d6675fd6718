// Bodies of requests as streams, so that every 256 KiB that leave are seen: files are read into three buffers that are
// used again and again (a 32 MiB body costs 768 KiB), bytes in memory are sent in slices.
import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { callbackify } from 'node:util'
import { openLocal } from './directory-files.ts'
import { localFileError } from './directory-errors.ts'
import type { PutBody } from './store.ts'

export const SPOOL_BUFFER_BYTES = 256 * 1024
const BUFFERS = 3

export type SpoolOptions = {
  /** Waits until that many bytes may be sent, and says how many to send at once. */
  readonly pace?: { chunkBytes(most: number): number; take(bytes: number, signal: AbortSignal | undefined): Promise<void> } | undefined
  readonly signal: AbortSignal
  /** Told of bytes as they are handed to the connection. */
  readonly moved: (bytes: number) => void
  /** Told of a failure: a piped source's error does not reach the request by itself. */
  readonly failed: (error: unknown) => void
}

/** Sets of buffers that no connection holds any more. */
export class SpoolBuffers {
  readonly #free: Buffer[][] = []

  take(): Buffer[] {
    return this.#free.pop() ?? Array.from({ length: BUFFERS }, () => Buffer.allocUnsafeSlow(SPOOL_BUFFER_BYTES))
  }

  /** Only after the store confirmed the whole body: until then a connection may still be sending from them. */
  give(buffers: Buffer[]): void {
    this.#free.push(buffers)
  }
}

/**
 * Opens the body for one try. Rejects with `local-disk` where the file is missing or not as long as declared.
 * Why three: one buffer is with the connection until it drains, one waits in the stream (whose high-water mark is below one
 * buffer, so that it never holds a second), one is being filled.
 */
export async function openSpool(body: PutBody & { kind: 'file' }, buffers: Buffer[], options: SpoolOptions): Promise<Readable> {
  const file = await openLocal(body)
  const size = options.pace?.chunkBytes(SPOOL_BUFFER_BYTES) ?? SPOOL_BUFFER_BYTES
  let at = 0
  let turn = 0
  const stream = new Readable({
    highWaterMark: 1,
    read() {
      if (at >= body.bytes) this.push(null)
      else advance(this).catch((error: unknown) => this.destroy(error instanceof Error ? error : new Error(String(error))))
    },
    destroy(error, done) {
      callbackify(() => file.close())((failure) => done(error ?? failure))
    },
  })
  async function advance(into: Readable): Promise<void> {
    const buffer = buffers[turn++ % buffers.length] ?? Buffer.alloc(0)
    const chunk = await fill(file, buffer, Math.min(size, body.bytes - at), at, body, options)
    at += chunk.length
    options.moved(chunk.length)
    into.push(chunk)
  }
  stream.on('error', options.failed)
  return stream
}

async function fill(
  file: FileHandle,
  buffer: Buffer,
  length: number,
  at: number,
  body: PutBody & { kind: 'file' },
  options: SpoolOptions,
): Promise<Buffer> {
  let read: number
  try {
    read = (await file.read(buffer, 0, length, at)).bytesRead
  } catch (error) {
    throw localFileError(error, body.path)
  }
  if (read === 0) throw localFileError(undefined, body.path)
  await options.pace?.take(read, options.signal)
  // A connection takes several small chunks before it asks for a pause, so only full buffers may come from the ring.
  return read === SPOOL_BUFFER_BYTES ? buffer : Buffer.from(buffer.subarray(0, read))
}

/** Bytes in memory as a stream of slices, so that a long index file on a slow line is not taken for a stalled one. */
export function streamBytes(bytes: Uint8Array, options: SpoolOptions): Readable {
  const size = options.pace?.chunkBytes(SPOOL_BUFFER_BYTES) ?? SPOOL_BUFFER_BYTES
  let at = 0
  const stream = new Readable({
    highWaterMark: 1,
    read() {
      if (at >= bytes.length) this.push(null)
      else advance(this).catch((error: unknown) => this.destroy(error instanceof Error ? error : new Error(String(error))))
    },
  })
  async function advance(into: Readable): Promise<void> {
    const chunk = bytes.subarray(at, at + size)
    await options.pace?.take(chunk.length, options.signal)
    at += chunk.length
    options.moved(chunk.length)
    into.push(chunk)
  }
  stream.on('error', options.failed)
  return stream
}
