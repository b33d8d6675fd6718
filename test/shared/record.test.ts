// Records: what an agent signs can be checked to the last bit, and a frame is read exactly as it was written or not at all (O4).
import { createHmac } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { verifyInclusion, inclusionPath, leafHash } from '@holdfast/shared/merkle.ts'
import {
  decodeDelivery,
  decodeFileRecords,
  decodeFrame,
  encodeFileRecords,
  encodeFrame,
  entryHash,
  fileCommitment,
  fileLeafHashes,
  fileSalt,
  filesRoot,
  FIRST_PREVIOUS,
  headerCommitment,
  openRecord,
  signRecord,
  verifyRecord,
  verifyRecordInSteps,
} from '@holdfast/shared/record.ts'
import type { FileRecord, RecordFrame } from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { seededRandom } from '../_support/seeded-random.ts'
import { transmissionHeader } from '../_support/record-headers.ts'

const random = seededRandom('record')
const key = signingKey(random.bytes(32))
const secret = random.bytes(32)
const fileRecords = fc.array(
  fc.record({
    kind: fc.constant('transmission' as const),
    outcome: fc.constantFrom('ok' as const, 'failed' as const, 'changed' as const, 'kept' as const),
    code: fc.nat({ max: 2 ** 32 - 1 }),
    token: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    size: fc.maxSafeNat(),
    bytesNew: fc.maxSafeNat(),
    time: fc.maxSafeNat(),
  }),
  { maxLength: 20 },
)

describe('file records', () => {
  it('come back from their 64 bytes as they went in', () => {
    fc.assert(
      fc.property(fileRecords, (records) => {
        expect(decodeFileRecords(encodeFileRecords(records))).toEqual(records)
      }),
    )
  })

  it.each([
    [0, 2, 'newer-format'],
    [1, 3, 'unprocessable'],
    [2, 4, 'unprocessable'],
    [3, 1, 'unprocessable'],
    [47, 255, 'unprocessable'],
  ])('with byte %d set to %d are refused as %s', (at, value, code) => {
    const body = encodeFileRecords([oneFile()])
    body[at] = value
    expect(() => decodeFileRecords(body)).toThrow(expect.objectContaining({ code }))
  })

  it('that are cut are refused', () => {
    expect(() => decodeFileRecords(Buffer.alloc(63))).toThrow(expect.objectContaining({ code: 'unprocessable' }))
  })

  it('have commitments that open one by one, and paths that lead to the root', () => {
    const body = encodeFileRecords([1, 2, 3, 4, 5].map((size) => oneFile(size)))
    const leaves = fileLeafHashes(secret, body)
    const opened = leafHash(fileCommitment(fileSalt(secret, 3), body.subarray(3 * 64, 4 * 64)))
    expect(verifyInclusion({ index: 3, size: 5, leafHash: opened, path: inclusionPath(3, leaves), root: filesRoot(secret, body) })).toBe(
      true,
    )
  })
})

describe('commitments', () => {
  it('are HMAC-SHA256 as the platform computes it', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ maxLength: 300 }),
        fc.nat({ max: 2 ** 32 - 1 }),
        (key, data, index) => {
          const hmac = (k: Uint8Array, ...parts: Uint8Array[]): Buffer =>
            parts.reduce((h, part) => h.update(part), createHmac('sha256', k)).digest()
          const number = Buffer.alloc(4)
          number.writeUInt32LE(index)
          expect(fileCommitment(key, data)).toEqual(hmac(key, data))
          expect(fileSalt(key, index)).toEqual(hmac(key, Buffer.from('holdfast/1 file'), number))
          expect(headerCommitment(key, data)).toEqual(hmac(hmac(key, Buffer.from('holdfast/1 header')), data))
        },
      ),
    )
  })
})

describe('a signed record', () => {
  it('verifies, and its hash is what the next one must name', () => {
    const first = sign(1, FIRST_PREVIOUS, [oneFile()])
    expect(verifyRecord(first.header.agentId, key.publicKey, first.frame)).toMatchObject({ hash: first.frame.hash, files: [oneFile()] })
    expect(entryHash(first.header.agentId, first.frame)).toEqual(first.frame.hash)
  })

  it('has the same bytes every time: the vector that the format is held to', () => {
    const vector = signRecord({
      header: transmissionHeader(encodeFileRecords([]), secret),
      body: Buffer.alloc(0),
      seq: 1,
      prev: FIRST_PREVIOUS,
      secret,
      key,
    })
    expect(vector.hash.toString('hex')).toMatchInlineSnapshot(`"6b60b82298d55f25182f0796644732074104353a20c90caed210fe4b86de2277"`)
  })

  it('does not verify after a bit of any byte of it changed', () => {
    const { frame, header } = sign(7, random.bytes(32), [oneFile(), oneFile(9)])
    const bytes = encodeFrame(frame)
    for (let bit = 32; bit < bytes.length * 8; bit += 7) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => {
        const decoded = decodeFrame(flipped, 0)
        if (decoded === undefined) throw new Error('not whole')
        verifyRecord(header.agentId, key.publicKey, decoded.frame)
      }, `bit ${bit}`).toThrow()
    }
  })

  it('of another agent is refused', () => {
    const { frame } = sign(1, FIRST_PREVIOUS, [])
    expect(() => openRecord(`ag_${'f'.repeat(32)}`, key.publicKey, frame)).toThrow(expect.objectContaining({ code: 'unprocessable' }))
  })

  it('whose header counts other files than the body holds is refused at the door', () => {
    const { frame, header } = sign(1, FIRST_PREVIOUS, [oneFile()])
    expect(() => openRecord(header.agentId, key.publicKey, { ...frame, body: Buffer.alloc(128) })).toThrow(
      expect.objectContaining({ code: 'unprocessable' }),
    )
  })

  it('is checked in steps with the same outcome', async () => {
    const files = Array.from({ length: 5000 }, (_, index) => oneFile(index))
    const { frame, header } = sign(1, FIRST_PREVIOUS, files)
    let pauses = 0
    const pause = async (): Promise<void> => {
      pauses++
    }
    expect(await verifyRecordInSteps(header.agentId, key.publicKey, frame, pause)).toEqual(
      verifyRecord(header.agentId, key.publicKey, frame),
    )
    expect(pauses).toBe(2)
    frame.body[64 * 4999 + 40]! ^= 1
    await expect(verifyRecordInSteps(header.agentId, key.publicKey, frame, pause)).rejects.toMatchObject({ code: 'damaged' })
  })

  it('whose body was swapped for one of equal length is damaged', () => {
    const { frame, header } = sign(1, FIRST_PREVIOUS, [oneFile()])
    const body = encodeFileRecords([oneFile(77)])
    expect(() => verifyRecord(header.agentId, key.publicKey, { ...frame, body })).toThrow(expect.objectContaining({ code: 'damaged' }))
  })
})

describe('a delivery', () => {
  it('is read frame by frame as it was written', () => {
    const frames = [
      sign(1, FIRST_PREVIOUS, [oneFile()]).frame,
      sign(2, random.bytes(32), []).frame,
      sign(3, random.bytes(32), [oneFile(), oneFile()]).frame,
    ]
    const decoded = decodeDelivery(Buffer.concat(frames.map(encodeFrame)))
    expect(decoded).toEqual(
      frames.map(({ seq, prev, sig, secret: own, header, body }: RecordFrame) => ({ seq, prev, sig, secret: own, header, body })),
    )
  })

  it('that is empty, cut, gapped or garbage is refused whole', () => {
    const one = encodeFrame(sign(1, FIRST_PREVIOUS, []).frame)
    const three = encodeFrame(sign(3, FIRST_PREVIOUS, []).frame)
    for (const bytes of [
      Buffer.alloc(0),
      one.subarray(0, -1),
      Buffer.concat([one, three]),
      Buffer.concat([one, Buffer.alloc(3)]),
      Buffer.alloc(64, 0xff),
    ]) {
      expect(() => decodeDelivery(bytes)).toThrow(expect.objectContaining({ code: 'unprocessable' }))
    }
  })

  it('never makes the reader fail in any other way, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        try {
          decodeDelivery(Buffer.from(bytes))
        } catch (error) {
          expect(error).toMatchObject({ name: 'HoldfastError' })
        }
      }),
    )
  })
})

function oneFile(size = 1024): FileRecord {
  return { kind: 'transmission', outcome: 'ok', code: 0, token: Buffer.alloc(32, 7), size, bytesNew: size, time: 1_700_000_000_000 }
}

function sign(seq: number, prev: Buffer, files: FileRecord[]) {
  const body = encodeFileRecords(files)
  const header = transmissionHeader(body, secret)
  return { header, frame: signRecord({ header, body, seq, prev, secret, key }) }
}
