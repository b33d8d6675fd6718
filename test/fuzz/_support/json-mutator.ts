// Changes inputs as JSON: values of other types, members lost, doubled, swapped and unknown, texts that readers of texts stumble over, depth.
// An input that is no JSON is changed as bytes.
import type { ByteMutator } from './byte-mutator.ts'
import type { Numbers } from './numbers.ts'

type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

const TEXTS = [
  '',
  ' ',
  '.',
  '..',
  '/',
  '../../etc/passwd',
  '/etc/passwd',
  'C:\\',
  '\u0000',
  '\ud800',
  '\u202e',
  '\ufeff',
  '\u212a',
  '\u0130',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'null',
  'NaN',
  '-0',
  '1e999',
  '9007199254740993',
  '0'.repeat(32),
  'f'.repeat(64),
  'A'.repeat(43),
  '=',
  'America/Toronto',
  '31d',
  '5m',
  '02:30',
]
const TIMES = [
  '2026-19-39T29:59:59.999Z',
  '2026-00-10T12:00:00.000Z',
  '2026-02-30T12:00:00.000Z',
  '2026-01-01T24:00:00.000Z',
  '0000-01-01T00:00:00.000Z',
  '9999-12-31T23:59:59.999Z',
  '1969-12-31T23:59:59.999Z',
  '2026-03-08T07:30:00.000Z',
]
const VALUES = [0, -0, 1, -1, 0.5, 65_536, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 53), 1e308, 1e21, 5e-324]

/** A mutator of JSON texts; one change in four is made to the bytes. */
export function jsonMutator(numbers: Numbers, bytesMax: number, words: readonly string[], asBytes: ByteMutator): ByteMutator {
  const { below, oneIn, pick } = numbers

  const text = (old: string): string => {
    const at = below(old.length + 1)
    switch (below(10)) {
      case 8:
        return /^\d{4}-\d\d-/.test(old) ? pick(TIMES) : old.split('').reverse().join('')
      case 9: {
        // A digit for another: times and numbers in texts stay what they look like.
        const digits = [...old.matchAll(/\d/g)].map(({ index }) => index)
        if (digits.length === 0) return old
        const digit = pick(digits)
        return old.slice(0, digit) + String(below(10)) + old.slice(digit + 1)
      }
      case 0:
        return pick(TEXTS)
      case 1:
        return words.length === 0 ? old : pick(words)
      case 2:
        return old.slice(0, at) + pick(TEXTS) + old.slice(at)
      case 3:
        return old.slice(0, at) + old.slice(at + 1 + below(4))
      case 4:
        return old.slice(0, at) + String.fromCharCode(oneIn(4) ? below(65_536) : 32 + below(95)) + old.slice(at + 1)
      case 5:
        return old + old.slice(at)
      case 6:
        return oneIn(8) ? old.repeat(pick([2, 10, 100])).slice(0, 8192) : old.toUpperCase()
      default:
        return old.slice(0, at)
    }
  }
  const fresh = (): Json => {
    switch (below(9)) {
      case 0:
        return null
      case 1:
        return oneIn(2)
      case 2:
        return pick(VALUES)
      case 3:
        return pick(TEXTS)
      case 4:
        return []
      case 5:
        return {}
      case 6: {
        let deep: Json = pick(VALUES)
        for (let depth = pick([2, 8, 40]); depth > 0; depth--) deep = oneIn(2) ? [deep] : { a: deep }
        return deep
      }
      case 7:
        return words.length === 0 ? '' : pick(words)
      default:
        return below(1000) - 100
    }
  }
  /** A value from within `value`, chosen on the way down. */
  const within = (value: Json): Json => {
    let at = value
    while (typeof at === 'object' && at !== null && !oneIn(4)) {
      const below = Object.values(at)
      if (below.length === 0) break
      at = pick(below)
    }
    return at
  }
  const changeAt = (value: Json, other: Json): Json => {
    if (Array.isArray(value)) {
      const array = [...value]
      const at = below(array.length + 1)
      switch (below(5)) {
        case 0:
          array.splice(at, 1)
          break
        case 1:
          array.splice(at, 0, oneIn(2) && array.length > 0 ? structuredClone(pick(array)) : fresh())
          break
        case 2:
          array.splice(at, 0, ...Array.from({ length: pick([2, 33, 65]) }, () => structuredClone(array[0] ?? 0)))
          break
        case 3:
          array.reverse()
          break
        default:
          array.splice(at, 1, structuredClone(within(other)))
      }
      return array
    }
    if (typeof value === 'object' && value !== null) {
      const entries = Object.entries(value)
      const at = below(entries.length + 1)
      switch (below(5)) {
        case 0:
          entries.splice(at, 1)
          break
        case 1:
          entries.splice(at, 0, [oneIn(2) && words.length > 0 ? pick(words) : pick(TEXTS), fresh()])
          break
        case 2:
          if (at < entries.length) entries[at] = [text(entries[at]![0]), entries[at]![1]]
          break
        case 3:
          if (at < entries.length) entries[at] = [entries[at]![0], structuredClone(within(other))]
          break
        default:
          if (at < entries.length) entries[at] = [entries[at]![0], structuredClone(pick(entries)[1])]
      }
      return Object.fromEntries(entries)
    }
    if (typeof value === 'string') return oneIn(6) ? fresh() : text(value)
    if (typeof value === 'number') return oneIn(3) ? pick(VALUES) : value + below(5) - 2
    return fresh()
  }
  /** The same value with one place in it changed, wherever the way down ends. */
  const change = (value: Json, other: Json): Json => {
    if (typeof value !== 'object' || value === null || oneIn(5)) return oneIn(8) ? fresh() : changeAt(value, other)
    const keys = Object.keys(value)
    if (keys.length === 0) return changeAt(value, other)
    const key = pick(keys)
    if (Array.isArray(value)) return value.with(Number(key), change(value[Number(key)]!, other))
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, name === key ? change(item, other) : item]))
  }

  return (input, other) => {
    if (oneIn(4)) return asBytes(input, other)
    const [value, second] = [parsed(input), parsed(other)]
    if (value === undefined) return asBytes(input, other)
    let changed = value
    for (let n = 1 << below(3); n > 0; n--) changed = change(changed, second ?? value)
    const bytes = Buffer.from(JSON.stringify(changed))
    return bytes.length > bytesMax ? bytes.subarray(0, bytesMax) : bytes
  }
}

function parsed(bytes: Buffer): Json | undefined {
  try {
    return JSON.parse(bytes.toString('utf8')) as Json
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
