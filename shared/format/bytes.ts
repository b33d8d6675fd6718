// Reading and writing the byte layouts of FORMAT.md. The reader is for hostile input: it never reads past the end, refuses
// long-form varints, and checks every count against what is left before anybody allocates.
import { HoldfastError } from '../errors.ts'

/** Appends fields to a growing buffer. `finish` gives an exact copy; `view` what stands there without copying. */
export class ByteWriter {
  #buffer: Buffer
  #length = 0

  constructor(capacity = 1024) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity)
  }

  get length(): number {
    return this.#length
  }

  reset(): void {
    this.#length = 0
  }

  view(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  /** A copy with memory of its own, so that it can be moved to another thread. */
  finish(): Buffer {
    const copy = Buffer.allocUnsafeSlow(this.#length)
    this.#buffer.copy(copy, 0, 0, this.#length)
    return copy
  }

  /** Room for `bytes`; may replace the buffer, so look at the buffer only afterwards. */
  #reserve(bytes: number): number {
    const at = this.#length
    const needed = at + bytes
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2))
      this.#buffer.copy(grown, 0, 0, at)
      this.#buffer = grown
    }
    this.#length = needed
    return at
  }

  u8(value: number): this {
    const at = this.#reserve(1)
    this.#buffer.writeUInt8(value, at)
    return this
  }

  u16(value: number): this {
    const at = this.#reserve(2)
    this.#buffer.writeUInt16LE(value, at)
    return this
  }

  u32(value: number): this {
    const at = this.#reserve(4)
    this.#buffer.writeUInt32LE(value, at)
    return this
  }

  u64(value: number | bigint): this {
    const at = this.#reserve(8)
    this.#buffer.writeBigUInt64LE(BigInt(value), at)
    return this
  }

  varint(value: number | bigint): this {
    if (typeof value === 'bigint') {
      if (value < 0n || value >= 1n << 64n) throw new RangeError(`varint out of range: ${value}`)
      let rest = value
      while (rest > 0x7fn) {
        this.u8(Number(rest & 0x7fn) | 0x80)
        rest >>= 7n
      }
      return this.u8(Number(rest))
    }
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`varint out of range: ${value}`)
    let at = this.#reserve(8)
    let rest = value
    while (rest > 0x7f) {
      this.#buffer[at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    this.#buffer[at++] = rest
    this.#length = at
    return this
  }

  svarint(value: bigint): this {
    return this.varint(BigInt.asUintN(64, (value << 1n) ^ (value >> 63n)))
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length)
    this.#buffer.set(bytes, at)
    return this
  }

  hex(text: string): this {
    const at = this.#reserve(text.length / 2)
    this.#buffer.write(text, at, 'hex')
    return this
  }

  bytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes)
  }

  zeros(count: number): this {
    const at = this.#reserve(count)
    this.#buffer.fill(0, at, at + count)
    return this
  }
}

/** Takes fields off a buffer. `what` names the object in every refusal (`damaged`). Slices share memory with the input. */
export class ByteReader {
  readonly #buffer: Buffer
  readonly #what: string
  #at = 0

  constructor(buffer: Buffer, what: string) {
    this.#buffer = buffer
    this.#what = what
  }

  get left(): number {
    return this.#buffer.length - this.#at
  }

  get position(): number {
    return this.#at
  }

  /** The refusal every parser of stored bytes throws. */
  refuse(why: string): HoldfastError {
    return new HoldfastError('damaged', `${this.#what} is damaged: ${why}`)
  }

  #take(count: number): number {
    if (count > this.left) throw this.refuse(`it ends ${count - this.left} bytes too early`)
    const at = this.#at
    this.#at += count
    return at
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#take(1))
  }

  u16(): number {
    return this.#buffer.readUInt16LE(this.#take(2))
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#take(4))
  }

  /** A u64 that must fit a safe integer, as every size and time of the format does. */
  u64(): number {
    const value = this.#buffer.readBigUInt64LE(this.#take(8))
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.refuse('a number is out of range')
    return Number(value)
  }

  varintBig(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.u8()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) {
        if ((byte === 0 && shift > 0n) || value >= 1n << 64n) break
        return value
      }
    }
    throw this.refuse('a number is not in its shortest form')
  }

  /** A varint that must fit a safe integer and not exceed `limit`. */
  varint(limit: number = Number.MAX_SAFE_INTEGER): number {
    const first = this.#buffer[this.#at]
    let value: number
    if (first !== undefined && first < 0x80) {
      this.#at += 1
      value = first
    } else {
      const big = this.varintBig()
      if (big > BigInt(Number.MAX_SAFE_INTEGER)) throw this.refuse('a number is out of range')
      value = Number(big)
    }
    if (value > limit) throw this.refuse(`${value} is over the limit of ${limit}`)
    return value
  }

  svarint(): bigint {
    const value = this.varintBig()
    return (value >> 1n) ^ -(value & 1n)
  }

  raw(count: number): Buffer {
    const at = this.#take(count)
    return this.#buffer.subarray(at, at + count)
  }

  hex(count: number): string {
    const at = this.#take(count)
    return this.#buffer.toString('hex', at, at + count)
  }

  bytes(limit: number): Buffer {
    return this.raw(this.varint(limit))
  }

  /** A count of things that take at least `bytesEach`, so that a forged count cannot make anybody allocate. */
  count(limit: number, bytesEach: number): number {
    return this.#checked(this.varint(limit), bytesEach)
  }

  count32(limit: number, bytesEach: number): number {
    const count = this.u32()
    if (count > limit) throw this.refuse(`${count} is over the limit of ${limit}`)
    return this.#checked(count, bytesEach)
  }

  #checked(count: number, bytesEach: number): number {
    if (count * bytesEach > this.left) throw this.refuse(`it claims ${count} entries, more than it can hold`)
    return count
  }

  zeros(count: number): void {
    if (this.raw(count).some((byte) => byte !== 0)) throw this.refuse('reserved bytes are not zero')
  }

  /** Must be called when everything is read. */
  end(): void {
    if (this.left > 0) throw this.refuse(`${this.left} bytes too many`)
  }
}
