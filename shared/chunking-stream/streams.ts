// The stream forms for anyone: a web TransformStream and an async generator. Any split of the same input gives the same chunks;
// each chunk is a copy that the receiver owns; held at once are the chunker's buffer and the piece being read.
import { createChunker } from './chunker.ts'
import type { Chunker, ChunkerOptions } from './chunker.ts'

/**
 * A TransformStream from bytes, however split, to chunks. Options are checked at once; a write of anything but a Uint8Array
 * errors the stream with a TypeError. Memory: `bufferBytes`, and the chunks of one written piece.
 */
export function chunkingStream(options: ChunkerOptions): TransformStream<Uint8Array, Uint8Array> {
  const cutter = createCutter(createChunker(options))
  return new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      for (const chunk of cutter.push(piece)) controller.enqueue(chunk)
    },
    flush(controller) {
      for (const chunk of cutter.finish()) controller.enqueue(chunk)
    },
  })
}

/**
 * The chunks of `source`, an iterable or async iterable of Uint8Array (a ReadableStream and a Node stream are such). An error of the
 * source is thrown on; leaving the loop early closes the source. Options are checked at the call, not at the first chunk.
 */
export function chunks(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: ChunkerOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (source instanceof Uint8Array) throw new TypeError('source must be an iterable of Uint8Array; for one piece give [piece]')
  return generate(source, createCutter(createChunker(options)))
}

async function* generate(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  cutter: Cutter,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of source) yield* cutter.push(piece)
  yield* cutter.finish()
}

interface Cutter {
  /** Takes a piece in and gives every chunk that is complete with it. */
  push(piece: Uint8Array): Generator<Uint8Array, void, undefined>
  /** Gives the rest, at most one chunk more than the buffer's bytes hold. */
  finish(): Generator<Uint8Array, void, undefined>
}

function createCutter(chunker: Chunker): Cutter {
  const { buffer } = chunker
  let start = 0
  let end = 0
  let searched = 0

  function* cut(final: boolean): Generator<Uint8Array, void, undefined> {
    for (;;) {
      const next = chunker.nextCut(start, end, final, searched)
      if (next === -1) break
      const chunk = buffer.slice(start, next)
      start = next
      searched = 0
      yield chunk
    }
    searched = end - start
  }

  return {
    *push(piece) {
      if (!(piece instanceof Uint8Array)) throw new TypeError(`a piece must be a Uint8Array, not ${typeof piece}`)
      for (let taken = 0; taken < piece.length;) {
        // Less than `max` bytes remain uncut, so a full buffer always has room once they stand at its front ...
        if (end === buffer.length) {
          buffer.copyWithin(0, start, end)
          end -= start
          start = 0
        }
        const bytes = Math.min(piece.length - taken, buffer.length - end)
        buffer.set(piece.subarray(taken, taken + bytes), end)
        taken += bytes
        end += bytes
        yield* cut(false)
      }
    },
    *finish() {
      yield* cut(true)
    },
  }
}
