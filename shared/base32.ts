// Base32 in lower case without padding (RFC 4648 alphabet): what people read aloud and type, for fingerprints and enrolment codes.
import { createHash } from 'node:crypto'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'

/** Every started group of five bits becomes one character. */
export function base32(bytes: Uint8Array): string {
  let text = ''
  let held = 0
  let bits = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += ALPHABET[(held >>> bits) & 31]
      held &= (1 << bits) - 1
    }
  }
  return bits > 0 ? text + ALPHABET[(held << (5 - bits)) & 31] : text
}

/** What a person compares: the first 20 bytes of SHA-256 over a raw public key, in base32, in eight groups of four. */
export function keyFingerprint(rawPublicKey: Uint8Array): string {
  return shownFingerprint(createHash('sha256').update(rawPublicKey).digest().subarray(0, 20))
}

/** The 20 bytes of a fingerprint as people see them: base32 in eight groups of four. */
export function shownFingerprint(bytes: Uint8Array): string {
  const text = base32(bytes)
  return text.match(/.{4}/g)?.join('-') ?? text
}
