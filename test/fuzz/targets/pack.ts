// Packs: footer and trailer, as plaintexts that are sealed with the right keys, since a seal would refuse every change.
import { decodeFooter, decodeTrailer, encodeFooter, type FooterSegment, type PackFooter } from '../../../agent/repository/pack.ts'
import { openBox, sealBox } from '../../../agent/repository/structure-box.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { entry, fixedEntry, ref, refOf, sealedTrailer, structure, writer } from '../_support/fixture.ts'
import { accepted, judged, requireSame, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('pack')

export function footerSegment(kind: 1 | 2 | 3, lengths: readonly number[], offset: number): FooterSegment {
  const plainBytes = lengths.reduce((sum, length) => sum + length, 0)
  return {
    kind,
    codec: 0,
    session: 0,
    epoch: 1,
    offset,
    sealedBytes: plainBytes + 16,
    plainBytes,
    segmentId: bytes.bytes(32),
    sealedHash: bytes.bytes(32),
    blobs: lengths.map((length) => ({ id: bytes.bytes(32).toString('hex'), bytes: length })),
  }
}

export const footer: PackFooter = {
  ref,
  writerId: writer.id,
  sessions: [entry, fixedEntry('another')],
  segments: [footerSegment(1, [100, 5000], 0), footerSegment(2, [300], 5116), footerSegment(3, [70, 80, 90], 5432)],
}
const small: PackFooter = { ref, writerId: writer.id, sessions: [], segments: [footerSegment(3, [70], 0)] }
const bodyOf = (of: PackFooter): Buffer =>
  Buffer.from(openBox({ type: 'pack', keys: structure, object: encodeFooter(of, structure, writer), what: 'seed' }).body)

export const packFooter: Target = {
  name: 'pack-footer',
  about: 'the body of a footer, sealed: what is taken is written again as the same bytes',
  form: 'bytes',
  covers: ['agent/repository/pack.ts', 'shared/format/bytes.ts', 'agent/repository/structure-box.ts'],
  weight: 1,
  bytesMax: 8192,
  seeds: () => [bodyOf(footer), bodyOf(small)],
  run: (body) => {
    const object = sealBox({ type: 'pack', keys: structure, writer, body })
    const decoded = accepted(() => decodeFooter(object, refOf(body), undefined, structure))
    if (decoded === undefined) return 'refused'
    requireSame(object, encodeFooter(decoded.footer, structure, writer), 'a footer')
    for (const segment of decoded.footer.segments)
      if (segment.blobs.reduce((sum, blob) => sum + blob.bytes, 0) !== segment.plainBytes)
        violation('the blobs of a segment do not fill it')
    return 'taken'
  },
}

const PLAIN_BYTES = 16
const HASH = seededRandom('trailer').bytes(32)

/** Input: u32 length of the pack, then the 16 bytes in the seal; with more bytes, a whole trailer as it is. */
export const packTrailer: Target = {
  name: 'pack-trailer',
  about: 'the last 96 bytes of a pack: what is taken points inside of it',
  form: 'bytes',
  covers: ['agent/repository/pack.ts', 'shared/format/layout.ts'],
  weight: 2,
  bytesMax: 128,
  seeds: () => {
    const plain = Buffer.alloc(4 + PLAIN_BYTES)
    plain.writeUInt32LE(131_072)
    plain.writeBigUInt64LE(5000n, 4)
    plain.writeBigUInt64LE(2000n, 12)
    return [plain, Buffer.concat([plain.subarray(0, 4), sealedTrailer(plain.subarray(4), HASH)])]
  },
  run: (input) => {
    const packBytes = input.length < 4 ? 0 : input.readUInt32LE()
    const rest = input.subarray(4)
    const trailer = rest.length === PLAIN_BYTES ? sealedTrailer(rest, HASH) : rest
    return judged(() => {
      const { footerOffset, footerBytes } = decodeTrailer(trailer, ref, packBytes, structure)
      if (footerOffset + footerBytes + 96 > packBytes) violation('a trailer points outside of its pack')
    })
  },
}

const TYPES = ['session', 'pack', 'index', 'snapshot', 'roster'] as const

/** Input: which type, then a sealed object as the store gave it. */
export const sealedBox: Target = {
  name: 'sealed-box',
  about: 'header and box of every type, changed in the store: never opened unless it is what was sealed',
  form: 'bytes',
  covers: ['agent/repository/structure-box.ts', 'shared/format/layout.ts'],
  weight: 2,
  bytesMax: 4096,
  seeds: () => boxes.map((box, at) => Buffer.concat([Buffer.of(at), box])),
  run: (input) => {
    const at = (input[0] ?? 0) % TYPES.length
    const object = input.subarray(1)
    return judged(() => {
      openBox({ type: TYPES[at]!, keys: structure, object, what: 'a box' })
      if (!object.equals(boxes[at]!)) violation('a box opens that nobody sealed')
    })
  },
}
const boxes = TYPES.map((type) => sealBox({ type, keys: structure, writer, body: Buffer.from(`the body of a ${type}`) }))
