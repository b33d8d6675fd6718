// Padmé lengths: values worked out by hand from the paper's definition, and its two promises.
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { padme } from '@holdfast/shared/padme.ts'

it.each([
  [0, 0],
  [1, 1],
  [2, 2],
  [7, 7],
  [8, 8],
  [9, 10],
  [100, 104],
  [1000, 1024],
  [1_048_577, 1_081_344],
  [2 ** 40 + 1, 2 ** 40 + 2 ** 34],
])('rounds %d to %d', (length, padded) => {
  expect(padme(length)).toBe(padded)
})

it('never shrinks, adds at most 12 %, is stable and keeps order', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 50 }), fc.nat({ max: 2 ** 50 }), (a, b) => {
      expect(padme(a)).toBeGreaterThanOrEqual(a)
      expect(padme(a)).toBeLessThanOrEqual(a * 1.12)
      expect(padme(padme(a))).toBe(padme(a))
      if (a <= b) expect(padme(a)).toBeLessThanOrEqual(padme(b))
    }),
  )
})

it.each([-1, 1.5, 2 ** 53])('refuses %d', (length) => {
  expect(() => padme(length)).toThrow()
})
