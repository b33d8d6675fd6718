// The recovery code: 20 random bytes that open a domain root, as 36 characters a person can write down and type (FORMAT.md section 3).
// Promise: a typing error is told apart from a wrong code, and where one character explains it, the group that holds it is named.
import type { Random } from '@holdfast/shared/random.ts'
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { sha256 } from './primitives.ts'

/** Digits and lower-case letters without i, l, o and u (the alphabet of Crockford's base 32). */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const CODE_BYTES = 20
const CODE_CHARACTERS = 32
const CHECK_CHARACTERS = 4
const GROUP = 4
const GROUPS = (CODE_CHARACTERS + CHECK_CHARACTERS) / GROUP

/** 20 fresh bytes. */
export function makeRecoveryCode(random: Random): Buffer {
  return random.bytes(CODE_BYTES)
}

/** The form to print: nine groups of four characters, joined by hyphens. */
export function printRecoveryCode(code: Buffer): string {
  const values = [...toValues(code, CODE_CHARACTERS), ...checkValues(code)]
  const text = values.map((value) => ALPHABET[value]).join('')
  return (text.match(/.{4}/g) ?? []).join('-')
}

/**
 * The 20 bytes of a typed code. Case, hyphens and spaces do not matter; `i` and `l` are read as 1, `o` as 0. Throws `wrong-passphrase` for a
 * code that cannot be right, naming what is wrong where that can be told. The message never repeats the code.
 */
export function parseRecoveryCode(text: string): Buffer {
  // Word processors and telephones turn hyphens into dashes.
  const typed = [...text.toLowerCase().replace(/[\s\-\u2010-\u2015\u2212]/g, '')]
  const values: number[] = []
  for (const [at, character] of typed.entries()) {
    const value = ALPHABET.indexOf({ i: '1', l: '1', o: '0' }[character] ?? character)
    if (value < 0) {
      throw refuse(`it has “${printable(character)}” in group ${groupOf(at)}, which no recovery code has`)
    }
    values.push(value)
  }
  const expected = CODE_CHARACTERS + CHECK_CHARACTERS
  if (values.length !== expected) throw refuse(`it has ${values.length} characters instead of ${expected}`)
  const code = fromValues(values.slice(0, CODE_CHARACTERS))
  if (isConsistent(values)) return code
  const group = likelyWrongGroup(values)
  throw refuse(group === undefined ? 'its check characters do not match' : `one character is wrong, most likely in group ${group}`)
}

function refuse(why: string): HoldfastError {
  return new HoldfastError(
    'wrong-passphrase',
    `This recovery code was not typed as it was printed: ${why}. Compare it with the paper, group by group.`,
  )
}

function groupOf(at: number): number {
  return Math.min(GROUPS, Math.floor(at / GROUP) + 1)
}

/**
 * The group in which changing one character makes the code consistent, or undefined where none or several do. Of about 1,100 codes one
 * character away, a wrong one passes the 20-bit check by chance once in a thousand typing errors.
 */
function likelyWrongGroup(values: readonly number[]): number | undefined {
  const groups = new Set<number>()
  for (let at = 0; at < values.length; at++) {
    for (let value = 0; value < ALPHABET.length; value++) {
      const changed = values.with(at, value)
      if (isConsistent(changed)) groups.add(groupOf(at))
    }
  }
  const [only] = groups
  return groups.size === 1 ? only : undefined
}

function isConsistent(values: readonly number[]): boolean {
  const check = checkValues(fromValues(values.slice(0, CODE_CHARACTERS)))
  return check.every((value, at) => value === values[CODE_CHARACTERS + at])
}

function checkValues(code: Buffer): number[] {
  return toValues(sha256('holdfast/1 recovery code', code), CHECK_CHARACTERS)
}

/** The first `count` groups of five bits, first bit first. */
function toValues(bytes: Buffer, count: number): number[] {
  return Array.from({ length: count }, (_, at) => {
    const bit = at * 5
    const pair = ((bytes[bit >> 3] ?? 0) << 8) | (bytes[(bit >> 3) + 1] ?? 0)
    return (pair >> (11 - (bit & 7))) & 31
  })
}

function fromValues(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc((values.length * 5) >> 3)
  let held = 0
  let bits = 0
  let at = 0
  for (const value of values) {
    held = ((held << 5) | value) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes[at++] = (held >> bits) & 0xff
    }
  }
  return bytes
}
