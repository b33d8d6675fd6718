// Canonical JSON has exactly one byte form per value, and its reader takes that form only.
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalBytes, canonicalJson, parseCanonical } from '@holdfast/shared/canonical-json.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'

describe('canonical JSON', () => {
  it('sorts keys by UTF-16 code unit and escapes as RFC 8785 does', () => {
    expect(canonicalJson({ '\u20ac': 1, '\r': 2, '1': 3, '\u{1f600}': 4, '\ufb33': 5, a: '\u000f\n"\\é' })).toBe(
      '{"\\r":2,"1":3,"a":"\\u000f\\n\\"\\\\é","€":1,"\u{1f600}":4,"\ufb33":5}',
    )
  })

  it('refuses fractions, unsafe integers, lone surrogates and endless nesting', () => {
    let deep: Json = 1
    for (let i = 0; i < 40; i++) deep = [deep]
    for (const value of [1.5, 2 ** 53, Number.NaN, '\ud800', deep])
      expect(() => canonicalJson(value)).toThrow(expect.objectContaining({ code: 'unprocessable' }))
  })

  it('leaves out undefined properties', () => {
    expect(canonicalJson({ a: undefined, b: null })).toBe('{"b":null}')
  })

  it('reads back what it wrote, whatever the order of keys', () => {
    const scalar = fc.oneof(fc.string({ unit: 'grapheme' }), fc.maxSafeInteger(), fc.boolean(), fc.constant(null))
    const json = fc.letrec((tie) => ({
      node: fc.oneof(
        { depthSize: 'small' },
        scalar,
        fc.array(tie('node')),
        fc.dictionary(fc.string({ unit: 'grapheme' }), tie('node'), { noNullPrototype: true }),
      ),
    })).node as fc.Arbitrary<Json>
    fc.assert(
      fc.property(json, (value) => {
        const bytes = canonicalBytes(value)
        expect(canonicalBytes(parseCanonical(bytes, 1e6))).toEqual(bytes)
      }),
    )
  })

  it.each(['{"b":1,"a":2}', '{ "a":1}', '{"a":1,"a":1}', '1.0', '-0', '"\\u0041"', '\ufeff1', '1 '])(
    'refuses %j, which is not canonical',
    (text) => {
      expect(() => parseCanonical(Buffer.from(text), 1000)).toThrow(expect.objectContaining({ code: 'unprocessable' }))
    },
  )

  it('refuses bytes that are not UTF-8, and more than the limit', () => {
    expect(() => parseCanonical(Buffer.from([0x22, 0xff, 0x22]), 1000)).toThrow(expect.objectContaining({ code: 'unprocessable' }))
    expect(() => parseCanonical(Buffer.from('"aaaa"'), 5)).toThrow(expect.objectContaining({ code: 'too-large' }))
  })
})
