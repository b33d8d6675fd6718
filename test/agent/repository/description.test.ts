// The description of a repository is read as strictly as it is written: one byte form for each, and every field one that a writer makes.
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { signBody } from '@holdfast/shared/format/signed-body.ts'
import { newDomainRoot, rootKeys } from '../../../agent/keys/domain.ts'
import { DEFAULT_CHUNKING, decodeDescription, encodeDescription } from '../../../agent/repository/repository.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const { write, signing } = rootKeys(newDomainRoot(seededRandom('description')))
const { domainId, signPublicKey } = write.structure
const description = { domainId, chunking: DEFAULT_CHUNKING, enrolled: false, createdAt: 1_000, signPublicKey }
const fixed = { ...description, chunking: { mode: 'fixed', min: 65_536, mean: 65_536, max: 65_536 } } as const
const EPOCH_AT = 12
const MAX_AT = 32 + 8 + 1 + 8

/** The description with one number changed, and signed again. */
function forged(object: Buffer, at: number, value: number): Buffer {
  const body = Buffer.from(object.subarray(0, -64))
  body.writeUInt32LE(value, at)
  return Buffer.concat([body, signBody(signing, 1, domainId, body)])
}

function codeOf(object: Buffer): string {
  try {
    decodeDescription(object)
    return 'read'
  } catch (error) {
    if (isHoldfastError(error)) return error.code
    throw error
  }
}

describe('a description', () => {
  test.each([description, fixed])('is read as it was written', (written) => {
    expect(decodeDescription(encodeDescription(written, signing))).toEqual(written)
  })

  test('with an epoch in its header is refused, since nothing in it is sealed', () => {
    expect(codeOf(forged(encodeDescription(description, signing), EPOCH_AT, 12))).toBe('damaged')
  })

  test('of chunks of one size that names two sizes is refused', () => {
    expect(codeOf(forged(encodeDescription(fixed, signing), MAX_AT, 65_537))).toBe('damaged')
    expect(codeOf(forged(encodeDescription(description, signing), MAX_AT, 8 << 20))).toBe('read')
  })
})
