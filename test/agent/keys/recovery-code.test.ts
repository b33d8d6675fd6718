// The recovery code: what is printed can be typed again, and typing errors are found and placed.
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import { makeRecoveryCode, parseRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'

const refused = (pattern: RegExp) => expect.objectContaining({ code: 'wrong-passphrase', message: expect.stringMatching(pattern) })

describe('a recovery code', () => {
  it('is nine groups of four and comes back as it was, in any case, with any hyphens', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), (bytes) => {
        const code = Buffer.from(bytes)
        const text = printRecoveryCode(code)
        expect(text).toMatch(/^([0-9a-hjkmnp-tv-z]{4}-){8}[0-9a-hjkmnp-tv-z]{4}$/)
        expect(parseRecoveryCode(text)).toEqual(code)
        expect(parseRecoveryCode(text.toUpperCase().replaceAll('-', ' '))).toEqual(code)
        expect(parseRecoveryCode(text.replaceAll('-', '').replaceAll('1', 'l').replaceAll('0', 'O'))).toEqual(code)
        expect(parseRecoveryCode(` ${text.replaceAll('-', '–').replaceAll('1', 'I')}\n`)).toEqual(code)
      }),
      { numRuns: 50 },
    )
  })

  it('has 160 random bits', () => {
    expect(makeRecoveryCode(systemRandom).length).toBe(20)
    expect(makeRecoveryCode(systemRandom)).not.toEqual(makeRecoveryCode(systemRandom))
  })

  it('is written first bit first', () => {
    const code = Buffer.alloc(20)
    code[0] = 0b00001_000
    code[1] = 0b10_00011_0
    expect(printRecoveryCode(code)).toMatch(/^1230-0000-/)
  })

  it('with one wrong character is refused, naming its group', () => {
    const text = printRecoveryCode(Buffer.from('holdfast recovery co'))
    for (let at = 0; at < text.length; at++) {
      if (text[at] === '-') continue
      const wrong = text.slice(0, at) + (text[at] === '7' ? '8' : '7') + text.slice(at + 1)
      expect(() => parseRecoveryCode(wrong)).toThrow(refused(new RegExp(`group ${Math.floor(at / 5) + 1}\\.`)))
    }
  })

  it('with a character that no code has, or of another length, is refused saying so', () => {
    const text = printRecoveryCode(Buffer.alloc(20, 3))
    expect(() => parseRecoveryCode(text.slice(0, 12) + 'u' + text.slice(13))).toThrow(refused(/“u” in group 3/))
    expect(() => parseRecoveryCode(text.slice(0, -1))).toThrow(refused(/35 characters instead of 36/))
    expect(() => parseRecoveryCode(`${text}0`)).toThrow(refused(/37 characters/))
    expect(() => parseRecoveryCode('')).toThrow(refused(/0 characters/))
    expect(() => parseRecoveryCode(`${text.slice(0, -1)}\u001b`)).toThrow(refused(/\\u001b/))
  })

  it('with two groups swapped is refused, and the message repeats nothing of it', () => {
    const text = printRecoveryCode(Buffer.from('holdfast recovery co'))
    const groups = text.split('-')
    const swapped = [groups[1], groups[0], ...groups.slice(2)].join('-')
    expect(() => parseRecoveryCode(swapped)).toThrow(refused(/check characters/))
    expect(() => parseRecoveryCode(swapped)).not.toThrow(refused(new RegExp(groups[0] ?? '')))
  })
})
