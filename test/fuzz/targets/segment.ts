// Sealed segments: what a hostile writer may put into the seal, above all zstd frames that give more than they say. Input: codec, u32 length that is
// claimed, payload.
import { zstdCompressSync } from 'node:zlib'
import { openSegment, SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { sealedSegment, structure } from '../_support/fixture.ts'
import { judged, type Target, violation } from '../_support/target.ts'

const input = (codec: number, plainBytes: number, payload: Buffer): Buffer => {
  const head = Buffer.alloc(5)
  head[0] = codec
  head.writeUInt32LE(plainBytes, 1)
  return Buffer.concat([head, payload])
}

export const segment: Target = {
  name: 'segment',
  about: 'the payload of a segment, sealed: gives exactly the bytes it claims and takes no more memory than that',
  form: 'bytes',
  covers: ['agent/repository/segment.ts', 'agent/repository/zstd.ts'],
  weight: 2,
  bytesMax: 4096,
  seeds: () => {
    const text = Buffer.from('holdfast '.repeat(200))
    const noise = Buffer.from(Array.from({ length: 300 }, (_, n) => (n * 7919) & 255))
    return [
      input(0, 300, noise),
      input(1, text.length, zstdCompressSync(text)),
      input(1, 300, zstdCompressSync(noise)),
      input(1, 2 * text.length, Buffer.concat([zstdCompressSync(text), zstdCompressSync(text)])),
      // A frame that tells no length but what window it needs, 16 MiB: one raw block.
      input(1, 4, Buffer.from('28b52ffd0070210000626c6f62', 'hex')),
      // A bomb: a few hundred bytes that are one MiB.
      input(1, 1 << 20, zstdCompressSync(Buffer.alloc(1 << 20))),
      input(1, 100, zstdCompressSync(Buffer.alloc(1 << 20))),
    ]
  },
  run: (bytes) => {
    const codec = (bytes[0] ?? 0) % 2 === 0 ? 0 : 1
    const plainBytes = bytes.length < 5 ? 0 : bytes.readUInt32LE(1)
    const {
      segment: description,
      sealed,
      key,
    } = sealedSegment(Buffer.from(bytes.subarray(5)), { kind: SEGMENT_KIND.chunk, codec, plainBytes })
    const outcome = judged(() => {
      const plain = openSegment({ domainId: structure.domainId, segment: description, key, sealed, what: 'a segment' })
      if (plain.length !== plainBytes) violation(`a segment of ${plainBytes} bytes gives ${plain.length}`)
      if (codec === 1 && windowBytes(bytes.subarray(5)) > LIMITS.segmentPlainBytes)
        violation('a frame opens that asks for more memory than a segment')
      if (plain.length > LIMITS.segmentPlainBytes) violation('a segment is longer than any can be')
    })
    // Whatever it was, it leaves nothing behind that the next segment is taken for the rest of.
    const next = openSegment({ domainId: structure.domainId, ...HONEST, what: 'the next segment' })
    if (!next.equals(HONEST_PLAIN)) violation('the segment after it opens to something else')
    return outcome
  },
}

const HONEST_PLAIN = Buffer.from('an honest segment '.repeat(20))
const HONEST = sealedSegment(zstdCompressSync(HONEST_PLAIN), { kind: SEGMENT_KIND.chunk, codec: 1, plainBytes: HONEST_PLAIN.length })

/** The memory that a zstd frame asks its reader for (RFC 8878, section 3.1.1.1.2); 0 where it is one segment as long as its content. */
function windowBytes(frame: Buffer): number {
  const [descriptor = 0, window = 0] = frame.subarray(4)
  if (frame.length < 6 || frame.readUInt32LE() !== 0xfd2fb528 || (descriptor & 0x20) !== 0) return 0
  return 2 ** (10 + (window >> 3)) * (1 + (window & 7) / 8)
}
