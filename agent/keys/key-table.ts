// A list of 48-byte pairs, 16 bytes of id and a 32-byte key, looked up where it lies: a grant may hold a million of them.
import { HoldfastError } from '@holdfast/shared/errors.ts'

export const PAIR_BYTES = 48
const ID_BYTES = 16

export type KeyPairEntry = { readonly id: Buffer; readonly key: Buffer }

/** The pairs by ascending id, of which only the first 16 bytes are kept; a pair that is there twice is kept once. */
export function encodeKeyTable(entries: readonly KeyPairEntry[]): Buffer {
  const pairs = entries.map(({ id, key }) => Buffer.concat([id.subarray(0, ID_BYTES), key], PAIR_BYTES))
  pairs.sort((a, b) => Buffer.compare(a, b))
  return Buffer.concat(pairs.filter((pair, at) => at === 0 || !pairs[at - 1]?.equals(pair)))
}

/** A lookup in the bytes of a table, in whatever order it is; throws `damaged` where an id has two keys. The bytes must not change. */
export function keyTable(bytes: Buffer): (id: Buffer) => Buffer | undefined {
  const count = bytes.length / PAIR_BYTES
  const idAt = (at: number): Buffer => bytes.subarray(at * PAIR_BYTES, at * PAIR_BYTES + ID_BYTES)
  const order = Uint32Array.from({ length: count }, (_, at) => at)
  const isSorted = order.every((at) => at === 0 || idAt(at - 1).compare(idAt(at)) < 0)
  if (!isSorted) {
    order.sort((a, b) => idAt(a).compare(idAt(b)))
    for (let at = 1; at < count; at++) {
      if (idAt(order[at - 1] ?? 0).equals(idAt(order[at] ?? 0))) {
        throw new HoldfastError('damaged', 'a list of keys is damaged: an id stands in it twice')
      }
    }
  }
  return (id) => {
    const wanted = id.subarray(0, ID_BYTES)
    let low = 0
    let high = count - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const at = order[middle] ?? 0
      const way = wanted.compare(idAt(at))
      if (way === 0) return Buffer.from(bytes.subarray(at * PAIR_BYTES + ID_BYTES, (at + 1) * PAIR_BYTES))
      if (way < 0) high = middle - 1
      else low = middle + 1
    }
    return undefined
  }
}
