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

  test('that is cut off between two blocks is refused though it gives all it should, and so is what follows a whole one', () => {
    const decompressor = createDecompressor()
    const text = Buffer.from('a block ')
    const block = (isLast: boolean): Buffer => Buffer.concat([Buffer.of((text.length << 3) | (isLast ? 1 : 0), 0, 0), text])
    const head = Buffer.from('28b52ffd0050', 'hex')
    const whole = Buffer.concat([head, block(false), block(true)])
    const into = (frame: Buffer, length: number): string => {
      const plain = Buffer.alloc(length)
      try {
        decompressor.decompress(frame, plain, 'a segment')
      } catch (error) {
        if (isHoldfastError(error, 'damaged')) return 'damaged'
        throw error
      }
      return plain.toString()
    }
    expect(into(whole, 16)).toBe('a block a block ')
    expect(into(Buffer.concat([head, block(false)]), 8)).toBe('damaged')
    // The one after it is not taken for its continuation.
    expect(into(whole, 16)).toBe('a block a block ')
    expect(into(Buffer.concat([whole, whole]), 32)).toBe('damaged')
    expect(into(Buffer.concat([whole, Buffer.from('502a4d1800000000', 'hex')]), 16)).toBe('damaged')
    expect(into(whole, 15)).toBe('damaged')
    expect(into(whole, 17)).toBe('damaged')
    expect(into(whole, 16)).toBe('a block a block ')
  })
})
