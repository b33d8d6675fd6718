// zstd frames: what a compressor of any level makes opens, and no frame takes more memory than the largest segment.
import { createZstdCompress, constants } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { compressBound, createCompressor, createDecompressor } from '../../../agent/repository/zstd.ts'

/** A frame of a few bytes whose reader must keep a window of 2^windowLog bytes, as a stream of unknown length asks for. */
async function frameWithWindow(plain: Buffer, windowLog: number): Promise<Buffer> {
  const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } })
  const parts: Buffer[] = []
  stream.on('data', (part: Buffer) => parts.push(part))
  const ended = new Promise((resolve) => stream.on('end', resolve))
  stream.write(plain.subarray(0, 10))
  await new Promise<void>((resolve) => stream.flush(() => resolve()))
  stream.end(plain.subarray(10))
  await ended
  return Buffer.concat(parts)
}

function opens(frame: Buffer, plain: Buffer): boolean {
  const into = Buffer.alloc(plain.length)
  try {
    createDecompressor().decompress(frame, into, 'a segment')
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) return false
    throw error
  }
  return into.equals(plain)
}

describe('a frame', () => {
  test.each([1, 3, 9, 19])('of level %i opens, also of the longest segment', (level) => {
    const plain = Buffer.alloc(LIMITS.segmentPlainBytes, 'holdfast')
    const into = Buffer.alloc(compressBound(plain.length))
    const length = createCompressor(level).compress(plain, into)
    expect(opens(into.subarray(0, length), plain)).toBe(true)
  })

  test('that asks for more memory than the longest segment is refused, however short it is', async () => {
    const plain = Buffer.from('a few bytes, and no more than these')
    expect(opens(await frameWithWindow(plain, 24), plain)).toBe(true)
    for (const windowLog of [25, 27]) expect(opens(await frameWithWindow(plain, windowLog), plain)).toBe(false)
  })
})
