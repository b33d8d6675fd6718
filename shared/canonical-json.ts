// One byte form for every JSON value that is signed or hashed: the strict subset of JCS (RFC 8785) that Holdfast needs.
// Strings, safe integers, booleans, null, arrays and objects; keys sorted by UTF-16 code unit; no floats, no lone surrogates.
import { HoldfastError } from './errors.ts'

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined }

/** Deeper values are refused on both sides, so that no input can exhaust the stack. */
const DEPTH_MAX = 32

/** The canonical text of `value`; properties that are undefined are left out. Rejects what has no canonical form with `unprocessable`. */
export function canonicalJson(value: Json): string {
  return write(value, 0)
}

/** The canonical text as UTF-8 bytes. */
export function canonicalBytes(value: Json): Buffer {
  return Buffer.from(canonicalJson(value), 'utf8')
}

/** Reads canonical bytes and nothing else: a value that would be written differently is refused with `unprocessable`. */
export function parseCanonical(bytes: Uint8Array, limitBytes: number): Json {
  if (bytes.length > limitBytes)
    throw new HoldfastError('too-large', `canonical JSON of ${bytes.length} bytes is over the limit of ${limitBytes}`)
  let value: Json
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) as Json
  } catch (cause) {
    throw new HoldfastError('unprocessable', 'this is not JSON in UTF-8; send canonical JSON', { cause })
  }
  if (!canonicalBytes(value).equals(bytes)) {
    throw new HoldfastError('unprocessable', 'this JSON is not in canonical form; sort keys, drop white space and repeated keys')
  }
  return value
}

function write(value: Json, depth: number): string {
  if (depth > DEPTH_MAX) throw new HoldfastError('unprocessable', `this value nests deeper than ${DEPTH_MAX} levels`)
  if (value === null || value === true || value === false) return String(value)
  if (typeof value === 'string') return writeString(value)
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new HoldfastError('unprocessable', 'canonical JSON holds safe integers only, no fractions')
    return String(value === 0 ? 0 : value)
  }
  if (Array.isArray(value)) return `[${value.map((item: Json) => write(item, depth + 1)).join(',')}]`
  if (typeof value !== 'object') throw new HoldfastError('unprocessable', `a ${typeof value} has no canonical form`)
  const object = value as { readonly [key: string]: Json | undefined }
  const parts: string[] = []
  for (const key of Object.keys(object).sort()) {
    const item = object[key]
    if (item !== undefined) parts.push(`${writeString(key)}:${write(item, depth + 1)}`)
  }
  return `{${parts.join(',')}}`
}

function writeString(text: string): string {
  if (!text.isWellFormed()) throw new HoldfastError('unprocessable', 'a string holds a lone surrogate, which UTF-8 cannot carry')
  return JSON.stringify(text)
}
