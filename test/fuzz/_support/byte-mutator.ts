// Changes inputs as bytes: flips, numbers that parsers stumble over, pieces cut, doubled, moved and taken from other inputs, and words of the
// modules under test.
import type { Numbers } from './numbers.ts'

const NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 64, 96, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096, 32_767, 32_768, 65_535]
const LARGE = [65_536, 0xff_ffff, 0x100_0000, 0x400_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]
const HUGE = [2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]

export type ByteMutator = (input: Buffer, other: Buffer) => Buffer

/** A mutator that makes inputs of at most `bytesMax` bytes. */
export function byteMutator(numbers: Numbers, bytesMax: number, words: readonly Buffer[]): ByteMutator {
  const { below, oneIn, pick } = numbers
  const changes: readonly ((bytes: Buffer, other: Buffer) => Buffer)[] = [
    (bytes) => {
      const at = below(bytes.length)
      bytes[at]! ^= 1 << below(8)
      return bytes
    },
    (bytes) => {
      bytes[below(bytes.length)] = below(256)
      return bytes
    },
    (bytes) => {
      bytes[below(bytes.length)] = pick(NUMBERS)
      return bytes
    },
    (bytes) => {
      const at = below(bytes.length)
      bytes[at] = bytes[at]! + below(33) - 16
      return bytes
    },
    (bytes) => {
      const width = pick([2, 4])
      if (bytes.length < width) return bytes
      const at = below(bytes.length - width + 1)
      const value = oneIn(2) ? bytes.readUIntLE(at, width) + below(9) - 4 : pick(oneIn(2) ? NUMBERS : LARGE)
      const bounded = value < 0 ? value + 2 ** (8 * width) : value % 2 ** (8 * width)
      bytes.writeUIntLE(bounded, at, width)
      return bytes
    },
    (bytes) => {
      if (bytes.length < 8) return bytes
      bytes.writeBigUInt64LE(oneIn(2) ? pick(HUGE) : BigInt(pick(LARGE)), below(bytes.length - 7))
      return bytes
    },
    // A number as varint over the one that stands there, or before it.
    (bytes) => {
      const at = below(bytes.length)
      let end = at
      while (end < bytes.length - 1 && bytes[end]! > 127 && end - at < 9) end++
      return splice(bytes, at, oneIn(4) ? at : end + 1, varint(oneIn(3) ? pick(HUGE) : BigInt(pick(oneIn(2) ? NUMBERS : LARGE))))
    },
    (bytes) => {
      const [at, length] = range(bytes)
      return splice(bytes, at, at + length, Buffer.alloc(0))
    },
    (bytes) => {
      const [at, length] = range(bytes)
      return splice(bytes, below(bytes.length + 1), undefined, bytes.subarray(at, at + length))
    },
    (bytes) => {
      const [from, length] = range(bytes)
      bytes.copyWithin(below(bytes.length), from, from + length)
      return bytes
    },
    (bytes) => {
      const [at, length] = range(bytes)
      bytes.fill(oneIn(2) ? pick([0, 0xff, 0x80, 0x20, 0x2f, 0x2e]) : below(256), at, at + length)
      return bytes
    },
    (bytes) => splice(bytes, below(bytes.length + 1), undefined, Buffer.alloc(1 + below(oneIn(8) ? 600 : 8), below(256))),
    (bytes) => bytes.subarray(0, below(bytes.length + 1)),
    (bytes, other) => {
      const [at, length] = range(other)
      const piece = other.subarray(at, at + length)
      const into = below(bytes.length + 1)
      return splice(bytes, into, oneIn(2) ? into : Math.min(bytes.length, into + length), piece)
    },
    (bytes, other) => Buffer.concat([bytes.subarray(0, below(bytes.length + 1)), other.subarray(below(other.length + 1))]),
    (bytes) => {
      if (words.length === 0) return bytes
      const word = pick(words)
      const at = below(bytes.length + 1)
      return splice(bytes, at, oneIn(2) ? at : Math.min(bytes.length, at + word.length), word)
    },
  ]
  /** Where a piece stands and how long it is; mostly short, sometimes to the end. */
  const range = (bytes: Buffer): [number, number] => {
    if (bytes.length === 0) return [0, 0]
    const at = below(bytes.length)
    const room = bytes.length - at
    return [at, 1 + below(Math.min(room, pick([2, 4, 16, 64, 512, 4096])))]
  }
  return (input, other) => {
    let bytes: Buffer = Buffer.from(input)
    for (let n = 1 << below(1 + below(5)); n > 0; n--) {
      if (bytes.length === 0) bytes = Buffer.from([below(256)])
      bytes = pick(changes)(bytes, other)
      if (bytes.length > bytesMax) bytes = bytes.subarray(0, bytesMax)
    }
    return bytes
  }
}

function splice(bytes: Buffer, from: number, to: number | undefined, piece: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, from), piece, bytes.subarray(to ?? from)])
}

export function varint(value: bigint): Buffer {
  const out: number[] = []
  let rest = value
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  out.push(Number(rest))
  return Buffer.from(out)
}
