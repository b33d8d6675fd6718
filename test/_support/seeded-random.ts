// Random bytes from a seed, for tests that must give the same bytes every time. Not for keys of anything real.
import { createHash } from 'node:crypto'
import type { Random } from '@holdfast/shared/random.ts'

/** A source of bytes that depends on `seed` alone. */
export function seededRandom(seed: string): Random {
  let counter = 0
  return {
    bytes: (length) => {
      const parts: Buffer[] = []
      for (let made = 0; made < length; made += 32) parts.push(createHash('sha256').update(`${seed}/${counter++}`).digest())
      return Buffer.concat(parts).subarray(0, length)
    },
  }
}
