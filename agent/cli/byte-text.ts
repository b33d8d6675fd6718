// Names are bytes, but an argument parser, an environment and JSON hold text. Text made here carries bytes that are not UTF-8 as lone
// surrogates (U+DC80 to U+DCFF, as Python's `surrogateescape` does), so that every byte string has exactly one text and comes back unchanged.
import { isUtf8 } from 'node:buffer'
import { printable } from '@holdfast/shared/errors.ts'

const ESCAPE_BASE = 0xdc00

/** The text of bytes; `bytesOfText` gives the same bytes back. */
export function textOfBytes(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  let text = ''
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at)
    text += length === 0 ? String.fromCharCode(ESCAPE_BASE + bytes[at]!) : bytes.toString('utf8', at, at + length)
    at += Math.max(1, length)
  }
  return text
}

/** The bytes that `text` stands for. */
export function bytesOfText(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8')
  // Lone ones only: the same units are the second half of ordinary pairs.
  const parts = text.split(/((?<![\ud800-\udbff])[\udc80-\udcff])/)
  return Buffer.concat(
    parts.map((part) => (/^[\udc80-\udcff]$/.test(part) ? Buffer.from([part.charCodeAt(0) - ESCAPE_BASE]) : Buffer.from(part, 'utf8'))),
  )
}

/** How a name is shown to a person: control characters and bytes that are not UTF-8 become escapes that no terminal obeys. */
export function shownBytes(bytes: Buffer): string {
  return isUtf8(bytes) ? printable(bytes.toString('utf8')) : shownText(textOfBytes(bytes))
}

export function shownText(text: string): string {
  return printable(text).replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, (unit) => {
    const code = unit.charCodeAt(0)
    return code >= 0xdc80 && code <= 0xdcff ? `\\x${(code - ESCAPE_BASE).toString(16)}` : '\ufffd'
  })
}

/** A name in an event: the text for people, and the exact bytes where the text cannot say them. */
export function pathFields(bytes: Buffer): { path: string; pathBase64?: string } {
  return isUtf8(bytes) ? { path: bytes.toString('utf8') } : { path: bytes.toString('utf8'), pathBase64: bytes.toString('base64') }
}

/** Bytes of the well-formed UTF-8 sequence at `at`, 0 where there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at]!
  const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0
  return length > 0 && at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0
}
