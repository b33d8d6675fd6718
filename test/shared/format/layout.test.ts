// The header that every object begins with: one form for each, so that nothing in it can be changed and go unnoticed where nothing is sealed.
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { encodeHeader, type ObjectType, readHeader } from '@holdfast/shared/format/layout.ts'

const domainId = Buffer.alloc(16, 7)

function read(type: ObjectType, epoch: number): string {
  try {
    return `epoch ${readHeader(encodeHeader(type, domainId, epoch), { type, domainId, what: 'an object' }).epoch}`
  } catch (error) {
    if (isHoldfastError(error)) return error.code
    throw error
  }
}

describe('the header', () => {
  test.each(['repository', 'key', 'bundle', 'grant', 'list'] as const)(
    'of a %s has no epoch, since no key with epochs seals it',
    (type) => {
      expect(read(type, 0)).toBe('epoch 0')
      expect(read(type, 1)).toBe('damaged')
    },
  )

  test.each(['session', 'pack', 'index', 'snapshot', 'roster'] as const)('of a %s names the epoch of its key', (type) => {
    expect(read(type, 3)).toBe('epoch 3')
  })
})
