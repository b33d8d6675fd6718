// The header that every object begins with: one form for each, so that nothing in it can be changed and go unnoticed where nothing is sealed.
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader } from '@holdfast/shared/format/bytes.ts'
import {
  encodeHeader,
  endName,
  objectName,
  type ObjectType,
  packName,
  parseObjectName,
  parseSessionName,
  readHeader,
  readRef,
  refBytes,
  refKey,
  sessionName,
} from '@holdfast/shared/format/layout.ts'

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

  test.each(['session', 'pack', 'index', 'snapshot', 'roster', 'forget', 'end'] as const)('of a %s is that of no other type', (type) => {
    const others = [
      'repository',
      'key',
      'session',
      'pack',
      'index',
      'snapshot',
      'roster',
      'bundle',
      'grant',
      'list',
      'forget',
      'end',
    ] as const
    for (const other of others.filter((one) => one !== type))
      expect(() => readHeader(encodeHeader(other, domainId, 0), { type, domainId, what: 'an object' })).toThrow(
        /an object of type \d+, not a /,
      )
  })

  test('says of each wrong field what is wrong, and tells a newer format from damage', () => {
    const readChanged = (at: number, value: number, expected: { domainId?: Buffer } = { domainId }) => {
      const header = encodeHeader('pack', domainId, 0x01020304)
      header[at] = value
      return readHeader(header, { type: 'pack', what: 'an object', ...expected })
    }
    expect(readChanged(12, 4)).toEqual({ epoch: 0x01020304, domainId })
    expect(readChanged(16, 9, {})).toMatchObject({ epoch: 0x01020304, domainId: Buffer.concat([Buffer.of(9), domainId.subarray(1)]) })
    for (let at = 0; at < 8; at++) expect(() => readChanged(at, 0)).toThrow(/not a Holdfast object/)
    expect(() => readChanged(8, 2)).toThrow(
      expect.objectContaining({
        code: 'newer-format',
        message: expect.stringMatching(/an object was made by a newer Holdfast \(format 2\)/),
      }),
    )
    expect(() => readChanged(8, 0)).toThrow(/format version 0 does not exist/)
    for (const at of [10, 11]) expect(() => readChanged(at, 1)).toThrow(/reserved bytes are not zero/)
    for (const at of [16, 31]) expect(() => readChanged(at, 9)).toThrow(/it belongs to another domain/)
    expect(() => readHeader(encodeHeader('pack', domainId, 0).subarray(0, 31), { type: 'pack', what: 'an object' })).toThrow(
      /ends 1 bytes too early/,
    )
  })
})

describe('the name of an object', () => {
  const ref = { session: '0123456789abcdef'.repeat(2), random: 'fedcba9876543210'.repeat(2) }
  const both = `${ref.session}-${ref.random}`

  test('is made of its session and its random part, and read back', () => {
    const kinds = ['index', 'snapshot', 'roster', 'list', 'forget'] as const
    const names = [packName(ref), ...kinds.map((kind) => objectName(kind, ref))]
    expect(names).toEqual([
      `packs/fe/${both}`,
      `index/${both}`,
      `snapshots/${both}`,
      `rosters/${both}`,
      `lists/${both}`,
      `lists/forgets/${both}`,
    ])
    for (const name of names) expect(parseObjectName(name)).toEqual(ref)
    expect(refKey(ref)).toBe(both)
    expect(refBytes(ref).toString('hex')).toBe(ref.session + ref.random)
    expect(readRef(new ByteReader(refBytes(ref), 'a name'))).toEqual(ref)
  })

  test('that this product did not make is none', () => {
    const others = [
      both,
      `packs/${both}`,
      `packs/ff/${both}`,
      `pack/fe/${both}`,
      `index/fe/${both}`,
      `other/${both}`,
      `index/${both}x`,
      `index/x${both}`,
      `index/${both.toUpperCase()}`,
      `index/${both.slice(1)}`,
      'index/',
      '',
    ]
    for (const name of others) expect(parseObjectName(name), name).toBeUndefined()
  })

  test('of a session and of its end hold the session alone', () => {
    expect([sessionName(ref.session), endName(ref.session)]).toEqual([`sessions/${ref.session}`, `ends/${ref.session}`])
    for (const name of [sessionName(ref.session), endName(ref.session)]) expect(parseSessionName(name)).toBe(ref.session)
    for (const name of [
      `x/${ref.session}`,
      `xends/${ref.session}`,
      `ends/${ref.session}0`,
      `ends/${ref.session.slice(1)}`,
      `ends/${ref.session.toUpperCase()}`,
      'ends/',
    ])
      expect(parseSessionName(name), name).toBeUndefined()
  })
})
