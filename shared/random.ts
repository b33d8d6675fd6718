// Randomness as a seam. This is the only module that draws random bytes; the simulation passes a seeded one.
import { randomFillSync } from 'node:crypto'

export interface Random {
  /** `length` fresh bytes, suitable for keys. */
  bytes(length: number): Buffer
}

export const systemRandom: Random = { bytes: (length) => randomFillSync(Buffer.allocUnsafeSlow(length)) }

/** A uniform integer from 0 up to, not including, `limit` (at most 2^32). */
export function randomBelow(random: Random, limit: number): number {
  const ceiling = 2 ** 32 - (2 ** 32 % limit)
  for (;;) {
    const value = random.bytes(4).readUInt32LE(0)
    if (value < ceiling) return value % limit
  }
}
