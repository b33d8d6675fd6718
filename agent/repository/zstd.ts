// One zstd context for compression per thread, behind one module. `zstdCompressSync` makes a native context for every call that only a major
// garbage collection frees (measured: 250 MiB on 80,000 files), so the handle inside Node's own stream class is driven synchronously and
// reused. That handle is a private interface: it is tried when the module loads, and where it does not behave exactly as expected the
// public function is used instead. Node is pinned exactly for the same reason.
import { constants, createZstdCompress, createZstdDecompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { HoldfastError } from '@holdfast/shared/errors.ts'

/** Compresses into `into` (at least `compressBound(bytes.length)` long); gives the number of bytes. */
export type Compressor = { readonly reuses: boolean; compress(bytes: Uint8Array, into: Uint8Array): number }

/** The most that zstd can make of `bytes` bytes (ZSTD_compressBound). */
export function compressBound(bytes: number): number {
  return bytes + (bytes >>> 8) + (bytes < 128 * 1024 ? (128 * 1024 - bytes) >>> 11 : 0) + 64
}

type Handle = {
  writeSync(
    flush: number,
    input: Uint8Array,
    inOffset: number,
    inLength: number,
    output: Uint8Array,
    outOffset: number,
    outLength: number,
  ): void
  close(): void
}
type StreamWithHandle = { _handle?: Handle; _writeState?: Uint32Array; close(): void; on(event: 'error', listener: () => void): unknown }

function reusingCompressor(level: number): Compressor | undefined {
  let stream: StreamWithHandle | undefined
  const open = (): { handle: Handle; state: Uint32Array } | undefined => {
    stream = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: level } }) as unknown as StreamWithHandle
    const handle = stream._handle
    const state = stream._writeState
    stream.on('error', () => undefined)
    return typeof handle?.writeSync === 'function' && state instanceof Uint32Array && state.length === 2 ? { handle, state } : undefined
  }
  let context = open()
  if (context === undefined) return undefined
  return {
    reuses: true,
    compress: (bytes, into) => {
      context ??= open()
      if (context === undefined) throw new HoldfastError('failed', 'the zstd context of this Node cannot be reopened; restart the run')
      // state is [space left in the output, input left]: both say whether one frame was finished in this call.
      context.handle.writeSync(constants.ZSTD_e_end, bytes, 0, bytes.length, into, 0, into.length)
      const [outLeft = 0, inLeft = 1] = context.state
      if (inLeft !== 0 || outLeft === 0) {
        stream?.close()
        context = undefined
        throw new HoldfastError('failed', `zstd did not finish a frame of ${bytes.length} bytes`)
      }
      return into.length - outLeft
    },
  }
}

function plainCompressor(level: number): Compressor {
  return {
    reuses: false,
    compress: (bytes, into) => {
      const out = zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level } })
      into.set(out)
      return out.length
    },
  }
}

/** A compressor for this thread. Proven on a small input, twice, before it is trusted. */
export function createCompressor(level: number): Compressor {
  try {
    const candidate = reusingCompressor(level)
    if (candidate !== undefined) {
      for (const probe of [Buffer.from('holdfast '.repeat(500)), Buffer.alloc(3000, 7)]) {
        const into = Buffer.alloc(compressBound(probe.length))
        const length = candidate.compress(probe, into)
        if (!zstdDecompressSync(into.subarray(0, length)).equals(probe)) return plainCompressor(level)
      }
      return candidate
    }
  } catch (error) {
    // The private handle is gone or changed in this Node: the public function does the same work with more memory.
    if (!(error instanceof Error)) throw error
  }
  return plainCompressor(level)
}

/** Opens one zstd frame into `into`, whose length must be exactly the plain length. */
export type Decompressor = { readonly reuses: boolean; decompress(frame: Uint8Array, into: Uint8Array, what: string): void }

/** A frame says how much memory its reader needs, up to 128 MiB whatever its length; no segment needs more than it can hold, 16 MiB. */
const DECOMPRESSION = { [constants.ZSTD_d_windowLogMax]: 24 }

function damaged(what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('damaged', `${what} is damaged: its compressed bytes do not give the length they should`, { cause })
}

const MAGIC = 0xfd2fb528
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const

/**
 * How many bytes the zstd frame takes that `bytes` begin with, from its header and those of its blocks (RFC 8878, section 3.1.1); undefined where
 * none begins there or it does not end there.
 */
function frameLength(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < 5 || view.getUint32(0, true) !== MAGIC) return undefined
  const descriptor = bytes[4]!
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >> 6
  const contentSizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeFlag
  let at = 5 + (isSingleSegment ? 0 : 1) + DICTIONARY_ID_BYTES[descriptor & 3]! + contentSizeBytes
  for (let isLast = false; !isLast;) {
    if (at + 3 > bytes.length) return undefined
    const header = view.getUint16(at, true) | (bytes[at + 2]! << 16)
    isLast = (header & 1) !== 0
    // A block of one byte repeated holds that byte alone.
    at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3)
  }
  const end = at + ((descriptor & 4) === 0 ? 0 : 4)
  return end > bytes.length ? undefined : end
}

function reusingDecompressor(): Decompressor | undefined {
  let stream: StreamWithHandle | undefined
  let failed = false
  const open = (): { handle: Handle; state: Uint32Array } | undefined => {
    failed = false
    stream = createZstdDecompress({ params: DECOMPRESSION }) as unknown as StreamWithHandle
    const handle = stream._handle as (Handle & { onerror?: () => void }) | undefined
    const state = stream._writeState
    if (typeof handle?.writeSync !== 'function' || !(state instanceof Uint32Array) || state.length !== 2) return undefined
    handle.onerror = () => {
      failed = true
    }
    return { handle, state }
  }
  let context = open()
  if (context === undefined) return undefined
  return {
    reuses: true,
    decompress: (frame, into, what) => {
      // Cut off where a block ends, a frame can give all it should, and the context would take the next frame for more of this one.
      if (frameLength(frame) !== frame.length) throw damaged(what)
      context ??= open()
      if (context === undefined) throw new HoldfastError('failed', 'the zstd context of this Node cannot be reopened; restart the run')
      context.handle.writeSync(constants.ZSTD_e_continue, frame, 0, frame.length, into, 0, into.length)
      const [outLeft, inLeft] = context.state
      if (failed || inLeft !== 0 || outLeft !== 0) {
        // A context that saw an error or stands in the middle of a frame is never used again.
        stream?.close()
        context = undefined
        throw damaged(what)
      }
    },
  }
}

const plainDecompressor: Decompressor = {
  reuses: false,
  decompress: (frame, into, what) => {
    if (frameLength(frame) !== frame.length) throw damaged(what)
    let out: { buffer: Buffer; engine: { bytesWritten: number } }
    try {
      out = zstdDecompressSync(frame, {
        params: DECOMPRESSION,
        maxOutputLength: Math.max(into.length, 1),
        info: true,
      }) as unknown as typeof out
    } catch (error) {
      throw damaged(what, error)
    }
    if (out.buffer.length !== into.length || out.engine.bytesWritten !== frame.length) throw damaged(what)
    into.set(out.buffer)
  },
}

/** A decompressor for this thread, proven before it is trusted: two frames open, and a frame with a tail, a cut one and a foreign one do not. */
export function createDecompressor(): Decompressor {
  try {
    const candidate = reusingDecompressor()
    if (candidate !== undefined && behaves(candidate)) return candidate
  } catch (error) {
    if (!(error instanceof Error)) throw error
  }
  return plainDecompressor
}

function behaves(candidate: Decompressor): boolean {
  const plain = Buffer.from('holdfast '.repeat(500))
  const frame = zstdCompressSync(plain)
  const opens = (bytes: Uint8Array, length: number): boolean => {
    const into = Buffer.alloc(length)
    try {
      candidate.decompress(bytes, into, 'probe')
    } catch (error) {
      if (error instanceof HoldfastError) return false
      throw error
    }
    return into.equals(plain)
  }
  return (
    opens(frame, plain.length) &&
    opens(frame, plain.length) &&
    !opens(Buffer.concat([frame, Buffer.from([1, 2, 3])]), plain.length) &&
    !opens(frame.subarray(0, frame.length - 1), plain.length) &&
    !opens(frame, plain.length - 1) &&
    !opens(Buffer.alloc(50, 3), plain.length) &&
    opens(frame, plain.length)
  )
}
