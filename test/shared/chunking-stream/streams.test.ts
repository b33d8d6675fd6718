// The stream forms: the same chunks for any split, owned copies, errors passed on, the source closed.
import { readFile, rm, mkdtemp, writeFile } from 'node:fs/promises'
import { createReadStream } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chunkingStream, chunks, deriveTable, thresholdOf } from 'chunking-stream'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { referenceCuts } from '../../../shared/chunking-stream/reference.ts'
import { seededBytes } from './vectors.ts'

const key = seededBytes('a key for tests', 32)
const sizes = { min: 128, mean: 512, max: 2048 }
const threshold = thresholdOf(sizes.min, sizes.mean)
const table = deriveTable(key, threshold)
const options = { key, ...sizes }

function expected(bytes: Uint8Array): Buffer[] {
  const cuts = referenceCuts(bytes, table, threshold, sizes)
  return cuts.map((cut, i) => Buffer.from(bytes.subarray(cuts[i - 1] ?? 0, cut)))
}

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const all: Buffer[] = []
  for await (const chunk of source) all.push(Buffer.from(chunk))
  return all
}

function* split(bytes: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const length = lengths[turn % lengths.length] ?? 1
    yield bytes.subarray(at, at + length)
    at += length
  }
}

async function* withEmptyPieces(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(0)
  yield seededBytes('async', 5000)
  yield new Uint8Array(0)
}

function* failing(): Generator<Uint8Array> {
  yield seededBytes('before the error', 5000)
  throw new Error('disk gone')
}

const splits = fc.array(fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 9000 })), { minLength: 1, maxLength: 6 })

describe('chunks', () => {
  it('gives the same chunks for any split of the input, and together they are the input', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ maxLength: 6 }),
        fc.nat(20_000),
        splits,
        fc.integer({ min: 2048, max: 9000 }),
        async (seed, length, lengths, bufferBytes) => {
          const bytes = Buffer.concat([seededBytes(seed, length), Buffer.alloc(length % 5000), seededBytes(`${seed}.`, length % 777)])
          const all = await gather(chunks(split(bytes, lengths), { ...options, bufferBytes }))
          expect(all).toEqual(expected(bytes))
          expect(Buffer.concat(all).equals(bytes)).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('takes empty pieces, async sources and no pieces at all', async () => {
    expect(await gather(chunks(withEmptyPieces(), options))).toEqual(expected(seededBytes('async', 5000)))
    expect(await gather(chunks([], options))).toEqual([])
    expect(await gather(chunks([new Uint8Array(0)], options))).toEqual([])
  })

  it('reads a file through a Node stream', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'chunking-'))
    try {
      await writeFile(join(folder, 'file'), seededBytes('file', 100_000))
      const all = await gather(chunks(createReadStream(join(folder, 'file')), options))
      expect(all).toEqual(expected(await readFile(join(folder, 'file'))))
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('gives chunks that later input does not change', async () => {
    const bytes = seededBytes('owned', 60_000)
    const piece = Buffer.from(bytes)
    const kept: Uint8Array[] = []
    for await (const chunk of chunks([piece], { ...options, bufferBytes: 2048 })) kept.push(chunk)
    piece.fill(0)
    expect(Buffer.concat(kept).equals(bytes)).toBe(true)
    expect(kept.every((chunk) => chunk.buffer.byteLength === chunk.length)).toBe(true)
  })

  it('passes an error of the source on, and closes the source when the reader leaves', async () => {
    await expect(gather(chunks(failing(), options))).rejects.toThrow('disk gone')

    let closed = false
    function* endless() {
      try {
        for (;;) yield seededBytes('endless', 5000)
      } finally {
        closed = true
      }
    }
    for await (const chunk of chunks(endless(), options)) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    expect(closed).toBe(true)
  })

  it('refuses pieces that are not bytes, bytes without a list around them, and bad options before the first read', async () => {
    await expect(gather(chunks(['text'] as unknown as Uint8Array[], options))).rejects.toThrow(/must be a Uint8Array, not string/)
    expect(() => chunks(new Uint8Array(9) as unknown as Uint8Array[], options)).toThrow(/give \[piece\]/)
    expect(() => chunks([], { ...options, max: 1 })).toThrow(RangeError)
  })

  it('cuts disk images at fixed places', async () => {
    const bytes = seededBytes('image', 600_000)
    const all = await gather(chunks(split(bytes, [65_536]), { mode: 'fixed', size: 262_144 }))
    expect(all.map((chunk) => chunk.length)).toEqual([262_144, 262_144, 75_712])
    expect(Buffer.concat(all).equals(bytes)).toBe(true)
  })
})

describe('chunkingStream', () => {
  it('gives the same chunks as the reference for any split of the input', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ maxLength: 6 }), fc.nat(20_000), splits, async (seed, length, lengths) => {
        const bytes = seededBytes(seed, length)
        const all = await gather(ReadableStream.from(split(bytes, lengths)).pipeThrough(chunkingStream(options)))
        expect(all).toEqual(expected(bytes))
      }),
      { numRuns: 30 },
    )
  })

  it('passes errors of the source on to the reader', async () => {
    const source = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new Error('disk gone')),
    })
    await expect(gather(source.pipeThrough(chunkingStream(options)))).rejects.toThrow('disk gone')
  })

  it('errors for the writer and the reader when a piece is not bytes', async () => {
    const stream = chunkingStream(options)
    const writer = stream.writable.getWriter()
    const reading = gather(stream.readable)
    await Promise.all([
      expect(writer.write('text' as unknown as Uint8Array)).rejects.toThrow(TypeError),
      expect(reading).rejects.toThrow(/must be a Uint8Array/),
      expect(writer.closed).rejects.toThrow(TypeError),
    ])
  })

  it('makes the source wait for a slow reader', async () => {
    let pulled = 0
    const source = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled++
        controller.enqueue(seededBytes(`piece ${pulled}`, 4096))
      },
    })
    const reader = source.pipeThrough(chunkingStream(options)).getReader()
    await reader.read()
    expect(pulled).toBeLessThan(10)
    await reader.cancel()
  })
})
