// The secret of the chunker: 256 pseudo-random 64-bit numbers made of a 32-byte key. Fixed for ever by golden vectors:
//   attempt n = 0, 1, 2, ...: HKDF-SHA256 (RFC 5869), no salt, info = "chunking-stream/1 gear" || 0x00 || n as u32 big-endian,
//   2048 bytes; entry T[i] is bytes 8i to 8i+7 as u64 big-endian. The first attempt without a cutting constant run is the table.
import { hkdfSync } from 'node:crypto'

export const KEY_BYTES = 32
export const TABLE_ENTRIES = 256

const LABEL = 'chunking-stream/1 gear'
// With the least spread of 256 an attempt succeeds with probability (1 - 1/256)^256 = 0.37; this many fail together with 2^-660.
const ATTEMPTS = 1000

/**
 * The table of `key` for a threshold. A run of one byte b leaves the state -T[b] mod 2^64 for ever (the sum of T[b] * 2^k, k from 0
 * to 63); where that is a candidate, a run of b would be cut into chunks of `min` bytes, so such a table is passed over.
 * Throws TypeError for a key that is no Uint8Array, RangeError for one that is not 32 bytes.
 */
export function deriveTable(key: Uint8Array, threshold: bigint): BigUint64Array {
  if (!(key instanceof Uint8Array)) throw new TypeError('key must be a Uint8Array')
  if (key.length !== KEY_BYTES) throw new RangeError(`key must be ${KEY_BYTES} bytes, not ${key.length}`)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const table = attemptTable(key, attempt)
    if (findConstantRun(table, threshold) === -1) return table
  }
  throw new RangeError(`no table of this key fits the threshold ${threshold}`)
}

/** The least byte whose constant run is a candidate under `threshold`, or -1. */
export function findConstantRun(table: BigUint64Array, threshold: bigint): number {
  return table.findIndex((entry) => BigInt.asUintN(64, -entry) < threshold)
}

function attemptTable(key: Uint8Array, attempt: number): BigUint64Array {
  const info = Buffer.alloc(LABEL.length + 5)
  info.write(LABEL, 'latin1')
  info.writeUInt32BE(attempt, LABEL.length + 1)
  const bytes = new DataView(hkdfSync('sha256', key, new Uint8Array(0), info, TABLE_ENTRIES * 8))
  return BigUint64Array.from({ length: TABLE_ENTRIES }, (_, i) => bytes.getBigUint64(i * 8))
}
