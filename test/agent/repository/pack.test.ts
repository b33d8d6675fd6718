// Packs and the segments in them: footers, trailers and sealed segments are read back as they were written, and whoever makes one that says anything
// impossible, rightly signed and sealed, is refused with the reason (FORMAT.md section 6).
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS, refBytes } from '@holdfast/shared/format/layout.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { agentWriter, encodeSessionEntry, rootKeys, segmentKeyOf, sessionEntry } from '../../../agent/keys/domain.ts'
import {
  decodeFooter,
  decodeTrailer,
  encodeFooter,
  encodeTrailer,
  type FooterSegment,
  paddingBytes,
  readCodec,
  readKind,
  TRAILER_BYTES,
} from '../../../agent/repository/pack.ts'
import { createSealer, openSegment, requireOpens, SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { compressBound, createCompressor } from '../../../agent/repository/zstd.ts'
import { fixtureRandom } from '../../_support/engine-fixture.ts'

const random = fixtureRandom('packs')
const root = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
const keys = root.write.structure
const { domainId } = keys
const writer = agentWriter(random.bytes(32), random.bytes(16))
const entries = [1, 2].map(() => sessionEntry(random.bytes(32), random.bytes(16), root.write, random))
const ref = { session: 'a'.repeat(32), random: 'b'.repeat(32) }
const id = (number: number): string => number.toString(16).padStart(64, '0')
const damaged = (why: RegExp) => expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) })

function segment(more: Partial<FooterSegment> & Pick<FooterSegment, 'offset'>): FooterSegment {
  return {
    kind: 1,
    codec: 0,
    session: 0,
    epoch: 1,
    segmentId: Buffer.alloc(32, 3),
    sealedBytes: 116,
    plainBytes: 100,
    sealedHash: Buffer.alloc(32, 4),
    blobs: [
      { id: id(1), bytes: 40 },
      { id: id(2), bytes: 60 },
    ],
    ...more,
  }
}
const segments = [
  segment({ offset: 0 }),
  segment({ offset: 116, kind: 2, codec: 1, session: 1, sealedBytes: 20, plainBytes: 9, blobs: [{ id: id(3), bytes: 9 }] }),
  segment({ offset: 136, kind: 3, epoch: 7, sealedBytes: 17, plainBytes: 1, blobs: [{ id: id(4), bytes: 1 }] }),
]
const footer = { ref, writerId: writer.id, sessions: entries, segments }

describe('a footer', () => {
  type Row = {
    kind?: number
    codec?: number
    session?: number
    epoch?: number
    sealed?: number
    plain?: number
    blobs?: number[]
    count?: number
    claim?: number
  }
  /** The footer of one segment, rightly signed and sealed. */
  const forged = (
    { kind = 1, codec = 0, session = 0, epoch = 1, sealed = 116, plain = 100, blobs = [100], count = 1, claim = blobs.length }: Row,
    sessions = entries,
    extra = 0,
  ): Buffer => {
    const out = new ByteWriter().raw(refBytes(ref)).raw(writer.id).varint(sessions.length)
    for (const entry of sessions) out.raw(encodeSessionEntry(entry))
    out.varint(count).u8(kind).u8(codec).varint(session).u32(epoch).varint(sealed).varint(plain).zeros(64).varint(claim)
    for (const bytes of blobs) out.hex(id(1)).varint(bytes)
    return sealBox({ type: 'pack', keys, writer, body: out.zeros(extra).view() })
  }
  const read = (object: Buffer, bytesBefore?: number) => decodeFooter(object, ref, bytesBefore, keys)

  test('is read back as it was written, with the offsets that follow from its lengths', () => {
    const object = encodeFooter(footer, keys, writer)
    for (const bytesBefore of [153, undefined]) expect(read(object, bytesBefore)).toEqual({ footer, writerKey: writer.publicKey })
    const none = { ...footer, sessions: [], segments: [] }
    expect(read(encodeFooter(none, keys, writer), 0).footer).toEqual(none)
  })

  test('belongs to one pack, and its segments fill what stands before it', () => {
    const object = encodeFooter(footer, keys, writer)
    for (const name of [
      { ...ref, session: 'c'.repeat(32) },
      { ...ref, random: 'c'.repeat(32) },
    ])
      expect(() => decodeFooter(object, name, 153, keys)).toThrow(damaged(/^pack [bc]+ is damaged: it is another pack under this name/))
    for (const bytesBefore of [0, 152, 154]) expect(() => read(object, bytesBefore)).toThrow(damaged(/its segments do not fill it/))
  })

  test('at its limits is read', () => {
    expect(read(forged({ kind: 3, session: 0 }, []), 116).footer.segments).toMatchObject([{ kind: 3, session: 0 }])
    expect(read(forged({ session: 1 }), 116).footer.segments).toMatchObject([{ session: 1 }])
    expect(read(forged({ sealed: 17, plain: 1, blobs: [1] }), 17).footer.segments).toMatchObject([{ sealedBytes: 17, plainBytes: 1 }])
    expect(
      read(forged({ codec: 1, sealed: LIMITS.packBytes, plain: LIMITS.segmentPlainBytes, blobs: [LIMITS.segmentPlainBytes] })).footer
        .segments,
    ).toHaveLength(1)
  })

  test.each<[string, Row, RegExp]>([
    ['a kind of 0', { kind: 0 }, /segments of kind 0 do not belong here/],
    ['the kind of a snapshot', { kind: 4 }, /segments of kind 4 do not belong here/],
    ['a codec of 2', { codec: 2 }, /codec 2 does not exist/],
    ['a session that is not listed', { session: 2 }, /a segment names no session/],
    ['references with a session', { kind: 3, session: 1 }, /a segment names no session/],
    ['a session over 65535', { session: 65_536 }, /over the limit of 65535/],
    ['an epoch that is not that of its session', { epoch: 2 }, /a segment is of epoch 2, which its key is not/],
    ['references of epoch 0', { kind: 3, epoch: 0 }, /a segment is of epoch 0, which its key is not/],
    ['less sealed than it is long', { sealed: 115 }, /not compressed has 115 bytes sealed and 100 plain/],
    ['more sealed than it is long', { sealed: 117 }, /not compressed has 117 bytes sealed and 100 plain/],
    ['a segment of a seal alone', { sealed: 16 }, /a segment is empty/],
    ['a segment of nothing', { plain: 0, blobs: [] }, /a segment is empty/],
    ['a segment longer than a pack', { sealed: LIMITS.packBytes + 1 }, /over the limit/],
    ['a plaintext longer than a segment', { plain: LIMITS.segmentPlainBytes + 1 }, /over the limit/],
    ['an empty blob', { blobs: [100, 0] }, /a blob in it is empty/],
    ['blobs that are less than the segment', { blobs: [99] }, /the blobs of a segment do not add up/],
    ['blobs that are more than the segment', { blobs: [50, 51] }, /the blobs of a segment do not add up/],
    ['too many blobs', { claim: 65_537 }, /over the limit of 65536/],
    ['more blobs than there is room for', { claim: 65_536 }, /more than it can hold/],
    ['too many segments', { count: 1_000_001 }, /over the limit of 1000000/],
    ['more segments than there is room for', { count: 1_000_000 }, /more than it can hold/],
  ])('with %s is refused', (_, row, why) => {
    expect(() => read(forged(row))).toThrow(damaged(why))
  })

  test('with bytes after its end, or more sessions than there is room for, is refused', () => {
    expect(() => read(forged({}, entries, 1))).toThrow(damaged(/1 bytes too many/))
    const claim = (count: number) =>
      sealBox({ type: 'pack', keys, writer, body: new ByteWriter().raw(refBytes(ref)).raw(writer.id).varint(count).view() })
    expect(() => read(claim(65_537))).toThrow(damaged(/over the limit of 65536/))
    expect(() => read(claim(1))).toThrow(damaged(/more than it can hold/))
  })

  test('has kinds and codecs that there are', () => {
    const of = (byte: number) => new ByteReader(Buffer.of(byte), 'it')
    expect([1, 2, 3].map((kind) => readKind(of(kind)))).toEqual([1, 2, 3])
    expect([0, 1].map((codec) => readCodec(of(codec)))).toEqual([0, 1])
  })
})

describe('a trailer', () => {
  const hash = Buffer.alloc(32, 9)
  const made = encodeTrailer(keys, hash, { offset: 1000, bytes: 500 })
  const read = (trailer: Buffer, packBytes = 1596) => decodeTrailer(trailer, ref, packBytes, keys)

  test('tells where the footer is, and the hash of all before it', () => {
    expect(made).toHaveLength(TRAILER_BYTES)
    expect(read(made)).toEqual({ hash, footerOffset: 1000, footerBytes: 500 })
    expect(read(made, LIMITS.packBytes).footerOffset).toBe(1000)
  })

  test('with any byte changed, of another length, or that points outside of its pack is refused', () => {
    for (let at = 0; at < made.length; at++) {
      const changed = Buffer.from(made)
      changed[at]! ^= 0x80
      expect(() => read(changed)).toThrow()
      if (at >= 32) expect(() => read(changed)).toThrow(damaged(/^pack b+ is damaged: its trailer does not open/))
    }
    for (const length of [95, 97]) expect(() => read(Buffer.alloc(length))).toThrow(damaged(/it has the wrong length/))
    expect(() => read(made, LIMITS.packBytes + 1)).toThrow(damaged(/it has the wrong length/))
    expect(() => read(made, 1595)).toThrow(damaged(/its trailer points outside of it/))
    const huge = encodeTrailer(keys, hash, { offset: 2 ** 52, bytes: 1 })
    expect(() => read(huge)).toThrow(damaged(/its trailer points outside of it/))
    const failure = (() => {
      try {
        return read(Buffer.concat([made.subarray(0, 95), Buffer.of(made[95]! ^ 1)]))
      } catch (error) {
        return error
      }
    })()
    expect(failure).toHaveProperty('cause')
  })

  test('of another domain, or under a key that is not at hand, is told so', () => {
    const other = rootKeys({ root: Buffer.alloc(32, 1), domainId: Buffer.alloc(16, 3) }).write.structure
    expect(() => decodeTrailer(made, ref, 1596, other)).toThrow(damaged(/another domain/))
    const without = { ...keys, structureKey: () => undefined }
    expect(() => decodeTrailer(made, ref, 1596, without)).toThrow(
      expect.objectContaining({ code: 'wrong-key', message: `pack ${ref.random} is sealed under structure key 1, which is not at hand` }),
    )
    expect(() => encodeTrailer(without, hash, { offset: 0, bytes: 0 })).toThrow(expect.objectContaining({ code: 'wrong-key' }))
  })

  test('stands at the end of a pack whose length is padded', () => {
    for (const bytes of [0, 1, 100_000, LIMITS.packMinBytes - 96, LIMITS.packMinBytes - 95, 1_234_567]) {
      const total = bytes + paddingBytes(bytes) + 96
      expect(total).toBe(Math.max(padme(bytes + 96), LIMITS.packMinBytes))
    }
    expect(paddingBytes(LIMITS.packMinBytes - 96)).toBe(0)
  })
})

describe('a segment', () => {
  const baseKey = Buffer.alloc(32, 5)
  const compressor = createCompressor(3)
  const seal = createSealer({ domainId, baseKey, epoch: 6, compressor })
  const text = Buffer.from('the same words again and again, '.repeat(300))
  const noise = random.bytes(5000)
  const copy = (made: ReturnType<typeof seal>) => ({ ...made, sealed: Buffer.concat([made.body, made.tag]) })
  const open = (made: ReturnType<typeof copy>, more: Partial<Parameters<typeof openSegment>[0]> = {}) =>
    openSegment({ domainId, segment: made, key: made.key, what: 'this pack', sealed: made.sealed, ...more })

  test('opens to what was sealed, compressed only where that makes it a thirty-third shorter', () => {
    const cases = [
      [text, true, 1],
      [text, false, 0],
      [noise, true, 0],
      [noise, false, 0],
      [Buffer.of(1), true, 0],
    ] as const
    for (const [plain, compress, codec] of cases)
      for (const kind of [1, 2, 3, 4] as const) {
        const made = copy(seal(plain, kind, compress))
        expect(made).toMatchObject({ kind, codec, epoch: 6, plainBytes: plain.length, sealedBytes: made.sealed.length })
        expect(made.key).toEqual(segmentKeyOf(baseKey, made.segmentId))
        expect(open(made)).toEqual(plain)
        requireOpens(domainId, made, plain)
      }
    expect(copy(seal(text, 1, true)).sealed.length).toBeLessThan(text.length / 10)
    // The least that is worth it: n - n/33.
    const lengthened = (length: number) =>
      createSealer({ domainId, baseKey, epoch: 6, compressor: { reuses: true, compress: () => length } })(noise, 1, true).codec
    const least = noise.length - noise.length / 33
    expect([Math.ceil(least) - 1, Math.ceil(least)].map(lengthened)).toEqual([1, 0])
  })

  test('is the same for the same content, and another for another kind, codec, key or domain', () => {
    const one = copy(seal(text, 1, true))
    expect(copy(seal(text, 1, true))).toEqual(one)
    const others = [
      seal(text, 2, true),
      seal(text, 1, false),
      createSealer({ domainId, baseKey: Buffer.alloc(32, 6), epoch: 6, compressor })(text, 1, true),
    ]
    const ids = [one, ...others].map((made) => made.segmentId.toString('hex'))
    expect(new Set(ids).size).toBe(4)
  })

  test('holds at least a byte and at most what a segment may hold, in scratch memory that grows', () => {
    expect(() => seal(Buffer.of(), 1, true)).toThrow(new RangeError('a segment cannot hold 0 bytes'))
    expect(() => seal(Buffer.allocUnsafe(LIMITS.segmentPlainBytes + 1), 1, true)).toThrow(RangeError)
    const most = copy(seal(Buffer.alloc(LIMITS.segmentPlainBytes), 1, true))
    expect(open(most)).toHaveLength(LIMITS.segmentPlainBytes)
    const bounds: number[] = []
    const watched = createSealer({
      domainId,
      baseKey,
      epoch: 6,
      compressor: { reuses: true, compress: (plain, into) => (bounds.push(into.length), compressor.compress(plain, into)) },
    })
    for (const length of [100, 5000, 10]) watched(text.subarray(0, length), 1, true)
    expect(bounds).toEqual([100, 5000, 5000].map(compressBound))
  })

  test('described in another way, changed or cut does not open', () => {
    const made = copy(seal(text, 1, true))
    const wrongSeal = damaged(/^this pack is damaged: the seal of a segment does not open/)
    const other = { kind: 2, codec: 0, epoch: 7, segmentId: Buffer.alloc(32, 1) } as const
    for (const name of ['kind', 'codec', 'epoch', 'segmentId'] as const)
      expect(() => open(made, { segment: { ...made, [name]: other[name] } })).toThrow(wrongSeal)
    expect(() => open(made, { domainId: Buffer.alloc(16, 9) })).toThrow(wrongSeal)
    expect(() => open(made, { key: Buffer.alloc(32, 9) })).toThrow(wrongSeal)
    for (const at of [0, made.sealed.length - 1]) {
      const sealed = Buffer.from(made.sealed)
      sealed[at]! ^= 1
      expect(() => open(made, { sealed })).toThrow(wrongSeal)
    }
    const wrongLength = damaged(/a segment has the wrong length/)
    expect(() => open(made, { sealed: made.sealed.subarray(1) })).toThrow(wrongLength)
    expect(() => open(made, { sealed: Buffer.alloc(15), segment: { ...made, sealedBytes: 15 } })).toThrow(wrongLength)
    expect(() => open(made, { sealed: Buffer.alloc(16), segment: { ...made, sealedBytes: 16 } })).toThrow(wrongSeal)
    expect(() => open(made, { segment: { ...made, plainBytes: LIMITS.segmentPlainBytes + 1 } })).toThrow(wrongLength)
    const stored = copy(seal(noise, 1, false))
    for (const plainBytes of [4999, 5001]) expect(() => open(stored, { segment: { ...stored, plainBytes } })).toThrow(wrongLength)
    for (const plainBytes of [text.length - 1, text.length + 1])
      expect(() => open(made, { segment: { ...made, plainBytes } })).toThrow(damaged(/this pack/))
  })

  test('opens into memory that is there where it is long enough', () => {
    const made = copy(seal(text, 1, true))
    for (const more of [0, 10]) {
      const into = Buffer.alloc(text.length + more)
      const plain = open(made, { into })
      expect(plain).toEqual(text)
      expect(plain.buffer).toBe(into.buffer)
      expect(into.subarray(0, text.length)).toEqual(text)
    }
    const short = Buffer.alloc(text.length - 1)
    expect(open(made, { into: short })).toEqual(text)
    expect(short.some((byte) => byte !== 0)).toBe(false)
  })

  test('that does not open to what went in is never taken for stored', () => {
    const made = seal(text, 1, true)
    const lied = Buffer.from(text)
    lied[77]! ^= 1
    expect(() => requireOpens(domainId, made, lied)).toThrow(
      expect.objectContaining({
        code: 'failed',
        message: expect.stringMatching(/memory of this machine may be faulty; nothing was committed/),
      }),
    )
    const into = Buffer.alloc(text.length)
    requireOpens(domainId, made, text, into)
    expect(into).toEqual(text)
  })

  test('has a frame of another codec refused, also where its seal is right', () => {
    const made = seal(noise, SEGMENT_KIND.chunk, false)
    const segmentId = made.segmentId
    const aad = Buffer.concat([Buffer.of(1), domainId, Buffer.of(1, 1), Buffer.of(6, 0, 0, 0), segmentId])
    const cipher = createCipheriv('aes-256-gcm', made.key, Buffer.alloc(12))
    cipher.setAAD(aad)
    const body = Buffer.concat([cipher.update(noise), cipher.final()])
    const sealed = Buffer.concat([body, cipher.getAuthTag()])
    const lying = { ...made, codec: 1 as const, sealedBytes: sealed.length }
    expect(() => openSegment({ domainId, segment: lying, key: made.key, what: 'this pack', sealed })).toThrow(damaged(/this pack/))
  })
})
