// What a footer may say of its segments (FORMAT.md section 6): what no reader could open is refused with the footer, not only when it is read.
import { expect, test } from 'vitest'
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import { rootKeys } from '../../../agent/keys/domain.ts'
import type { SessionEntry } from '../../../agent/keys/keys.ts'
import { decodeFooter, encodeFooter, type FooterSegment } from '../../../agent/repository/pack.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const random = seededRandom('footers')
const { structure, writer } = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) }).write
const session: SessionEntry = { sessionId: random.bytes(16), contentEpoch: 3, sealedKey: random.bytes(1168), commitment: random.bytes(32) }
const ref: ObjectRef = { session: session.sessionId.toString('hex'), random: random.bytes(16).toString('hex') }

const chunks: FooterSegment = {
  kind: 1,
  codec: 0,
  session: 0,
  epoch: session.contentEpoch,
  offset: 0,
  sealedBytes: 1016,
  plainBytes: 1000,
  segmentId: random.bytes(32),
  sealedHash: random.bytes(32),
  blobs: [
    { id: 'a'.repeat(64), bytes: 400 },
    { id: 'b'.repeat(64), bytes: 600 },
  ],
}

/** What is read of a footer with one segment that an honest key has signed. */
function decoded(segment: FooterSegment): readonly FooterSegment[] {
  const object = encodeFooter({ ref, writerId: writer.id, sessions: [session], segments: [segment] }, structure, writer)
  return decodeFooter(object, ref, segment.sealedBytes, structure).footer.segments
}

test.each<[string, Partial<FooterSegment>]>([
  ['chunks that are not compressed', {}],
  ['chunks that are compressed, of whatever length', { codec: 1, sealedBytes: 700 }],
  ['private parts under the key of the session', { kind: 2 }],
  ['references under any structure key', { kind: 3, epoch: 1 }],
  ['references that were moved from under an older key', { kind: 3, epoch: 9 }],
])('%s are taken', (_, change) => {
  expect(decoded({ ...chunks, ...change })).toEqual([{ ...chunks, ...change }])
})

test.each<[string, Partial<FooterSegment>, RegExp]>([
  ['one byte less than its plaintext and seal', { sealedBytes: 1015 }, /is not compressed has 1015 bytes sealed and 1000 plain/],
  ['one byte more', { sealedBytes: 1017 }, /is not compressed has 1017 bytes sealed and 1000 plain/],
  ['another epoch than its session', { epoch: 2 }, /is of epoch 2, which its key is not/],
  ['another epoch than its session, of private parts', { kind: 2, epoch: 4 }, /is of epoch 4/],
  ['no epoch, of references', { kind: 3, epoch: 0 }, /is of epoch 0/],
])('a segment with %s makes the footer damaged', (_, change, why) => {
  expect(() => decoded({ ...chunks, ...change })).toThrow(expect.objectContaining({ code: 'damaged', message: expect.stringMatching(why) }))
})
