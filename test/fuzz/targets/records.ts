// Records: delivery frames and the journal that holds them, and headers under a signature that fits.
import {
  decodeSegmentHeader,
  encodeEntry,
  encodeSegmentHeader,
  entryAt,
  scanSegment,
  SEGMENT_HEADER_BYTES,
} from '../../../agent/daemon/journal-format.ts'
import { canonicalBytes, type Json } from '@holdfast/shared/canonical-json.ts'
import {
  decodeDelivery,
  decodeFileRecords,
  encodeFileRecords,
  encodeFrame,
  FILE_RECORD_BYTES,
  FIRST_PREVIOUS,
  headerCommitment,
  parseHeader,
  type RecordFrame,
  signedBytes,
  signRecord,
  verifyRecord,
} from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { createHash } from 'node:crypto'
import { SAMPLE, transmissionHeader } from '../../_support/record-headers.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { accepted, judged, requireSame, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('records')
const key = signingKey(bytes.bytes(32))
const { agentId } = SAMPLE
const secret = bytes.bytes(32)

const BODY = encodeFileRecords(
  (['ok', 'failed', 'kept'] as const).map((outcome, n) => ({
    kind: 'transmission',
    outcome,
    code: n,
    token: bytes.bytes(32),
    size: 4096,
    bytesNew: n,
    time: 1_700_000_000_000,
  })),
)

function chain(bodies: readonly Buffer[]): RecordFrame[] {
  const frames: RecordFrame[] = []
  let prev = FIRST_PREVIOUS
  for (const [at, body] of bodies.entries()) {
    const frame = signRecord({ header: transmissionHeader(body, secret), body, seq: at + 1, prev, secret, key })
    frames.push(frame)
    prev = frame.hash
  }
  return frames
}
const FRAMES = chain([BODY, Buffer.alloc(0)])

export const recordFrames: Target = {
  name: 'record-frames',
  about: 'a delivery of records: what is taken is written again as the same bytes, and only what the agent signed is a record',
  form: 'bytes',
  covers: ['shared/record.ts'],
  weight: 2,
  bytesMax: 8192,
  seeds: () => [Buffer.concat(FRAMES.map((frame) => encodeFrame(frame))), encodeFrame(FRAMES[0]!)],
  run: (input) => {
    const frames = accepted(() => decodeDelivery(input))
    if (frames === undefined) return 'refused'
    requireSame(input, Buffer.concat(frames.map((frame) => encodeFrame(frame))), 'a delivery')
    for (const frame of frames) {
      const record = accepted(() => verifyRecord(agentId, key.publicKey, frame))
      const honest = FRAMES.find(({ sig }) => sig.equals(frame.sig))
      if (record !== undefined && honest?.header.equals(frame.header) !== true) violation('a record counts that the agent did not sign')
    }
    return 'taken'
  },
}

export const fileRecords: Target = {
  name: 'file-records',
  about: 'the body of a record: what is taken is written again as the same bytes',
  form: 'bytes',
  covers: ['shared/record.ts'],
  weight: 4,
  bytesMax: 1024,
  seeds: () => [BODY, BODY.subarray(0, FILE_RECORD_BYTES)],
  run: (body) => judged(() => requireSame(body, encodeFileRecords(decodeFileRecords(body)), 'file records')),
}

export const recordHeader: Target = {
  name: 'record-header',
  about: 'the header of a record, signed whatever it says: one byte form for one header',
  form: 'json',
  covers: ['shared/record.ts', 'shared/canonical-json.ts', 'shared/protocol/records.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => [
    FRAMES[0]!.header,
    FRAMES[1]!.header,
    canonicalBytes({ ...(JSON.parse(FRAMES[1]!.header.toString()) as { [key: string]: Json }), code: 'policy' }),
  ],
  run: (header) => {
    const parsed = accepted(() => parseHeader(header))
    if (parsed !== undefined) requireSame(header, canonicalBytes(parsed as Json), 'a header')
    const sig = key.sign(signedBytes(agentId, 1, FIRST_PREVIOUS, headerCommitment(secret, header)))
    const record = accepted(() => verifyRecord(agentId, key.publicKey, { seq: 1, prev: FIRST_PREVIOUS, sig, secret, header, body: BODY }))
    if (record !== undefined && (parsed === undefined || parsed.agentId !== agentId)) violation('a record of another agent counts')
    return record === undefined ? 'refused' : 'taken'
  },
}

const CHECK_BYTES = 32
const sha256 = (of: Buffer): Buffer => createHash('sha256').update(of).digest()

/** Input: whether checks are made to fit, then a segment. With them only the chain and the frames' own form can refuse. */
export const journal: Target = {
  name: 'journal',
  about: 'a segment of the journal: the whole entries in it are those that were written, and no damage before one is passed over',
  form: 'bytes',
  covers: ['agent/daemon/journal-format.ts'],
  weight: 2,
  bytesMax: 8192,
  seeds: () => {
    const whole = Buffer.concat([encodeSegmentHeader({ seq: 0, hash: FIRST_PREVIOUS }), ...FRAMES.map((frame) => encodeEntry(frame))])
    return [
      Buffer.concat([Buffer.of(0), whole]),
      Buffer.concat([Buffer.of(1), whole]),
      Buffer.concat([Buffer.of(0), whole.subarray(0, -50)]),
    ]
  },
  run: (input) => {
    const segment = input[0] === 1 ? checked(input.subarray(1)) : Buffer.from(input.subarray(1))
    const scanned = accepted(() => scanSegment(segment, agentId, 'a segment'))
    if (scanned === undefined) return 'refused'
    const { before, end, entries, validBytes } = scanned
    if (decodeSegmentHeader(segment)!.seq !== before.seq || end.seq !== before.seq + entries || validBytes > segment.length)
      violation('a segment is counted wrongly')
    let [at, last] = [SEGMENT_HEADER_BYTES, before]
    for (let n = 0; n < entries; n++) {
      const entry = entryAt(segment, at, last, agentId)!
      requireSame(segment.subarray(at, entry.next), encodeEntry(entry.frame), 'an entry of the journal')
      ;[at, last] = [entry.next, { seq: entry.frame.seq, hash: entry.hash }]
    }
    return 'taken'
  },
}

function checked(segment: Buffer): Buffer {
  const whole = Buffer.from(segment)
  if (whole.length < SEGMENT_HEADER_BYTES) return whole
  sha256(whole.subarray(0, SEGMENT_HEADER_BYTES - CHECK_BYTES)).copy(whole, SEGMENT_HEADER_BYTES - CHECK_BYTES)
  for (let at = SEGMENT_HEADER_BYTES; at + 4 <= whole.length;) {
    const next = at + 4 + whole.readUInt32LE(at)
    if (next + CHECK_BYTES > whole.length) break
    sha256(whole.subarray(at, next)).copy(whole, next)
    at = next + CHECK_BYTES
  }
  return whole
}
