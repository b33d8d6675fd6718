// The fields that every layout is made of: what is written is read back, numbers have one form, and nothing reads past the end.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'

const damaged = (why: string) => expect.objectContaining({ code: 'damaged', message: `this object is damaged: ${why}` })
const reader = (bytes: Uint8Array): ByteReader => new ByteReader(Buffer.from(bytes), 'this object')
const U64 = (1n << 64n) - 1n

type Field =
  | { kind: 'u8' | 'u16' | 'u32' | 'u64' | 'varint' | 'zeros'; value: number }
  | { kind: 'varintBig' | 'svarint'; value: bigint }
  | { kind: 'raw' | 'bytes' | 'hex'; value: Uint8Array }
const number = (kind: 'u8' | 'u16' | 'u32' | 'u64' | 'varint' | 'zeros', value: fc.Arbitrary<number>): fc.Arbitrary<Field> =>
  value.map((made) => ({ kind, value: made }))
const big = (kind: 'varintBig' | 'svarint', min: bigint, max: bigint): fc.Arbitrary<Field> =>
  fc.bigInt({ min, max }).map((value) => ({ kind, value }))
const fields = fc.array(
  fc.oneof(
    number('u8', fc.nat(0xff)),
    number('u16', fc.nat(0xffff)),
    number('u32', fc.nat(0xffffffff)),
    number('u64', fc.maxSafeNat()),
    number('varint', fc.maxSafeNat()),
    number('varint', fc.nat(20_000)),
    number('zeros', fc.nat(40)),
    big('varintBig', 0n, U64),
    big('svarint', -(1n << 63n), (1n << 63n) - 1n),
    ...(['raw', 'bytes', 'hex'] as const).map((kind) => fc.uint8Array({ maxLength: 300 }).map((value): Field => ({ kind, value }))),
  ),
  { maxLength: 30 },
)

function write(out: ByteWriter, field: Field): void {
  switch (field.kind) {
    case 'varintBig':
      return void out.varint(field.value)
    case 'svarint':
      return void out.svarint(field.value)
    case 'hex':
      return void out.hex(Buffer.from(field.value).toString('hex'))
    case 'raw':
    case 'bytes':
      return void out[field.kind](field.value)
    default:
      return void out[field.kind](field.value)
  }
}

function read(from: ByteReader, field: Field): unknown {
  switch (field.kind) {
    case 'raw':
      return Uint8Array.from(from.raw(field.value.length))
    case 'bytes':
      return Uint8Array.from(from.bytes(300))
    case 'hex':
      return Uint8Array.from(Buffer.from(from.hex(field.value.length), 'hex'))
    case 'zeros':
      return (from.zeros(field.value), field.value)
    default:
      return from[field.kind]()
  }
}

describe('what is written field by field', () => {
  test('is read back, whatever room there was at first, and ends exactly there', () => {
    fc.assert(
      fc.property(fields, fc.nat(64), (all, capacity) => {
        const out = new ByteWriter(capacity)
        for (const field of all) write(out, field)
        const bytes = out.finish()
        expect(out.length).toBe(bytes.length)
        expect(out.view().equals(bytes)).toBe(true)
        const from = reader(bytes)
        for (const field of all) expect(read(from, field)).toEqual(field.value)
        expect(from.left).toBe(0)
        expect(from.position).toBe(bytes.length)
        expect(() => from.end()).not.toThrow()
        if (bytes.length > 0) expect(() => reader(bytes).end()).toThrow(damaged(`${bytes.length} bytes too many`))
      }),
      { numRuns: 200 },
    )
  })

  test('stands in the order of FORMAT.md, the least byte first', () => {
    const out = new ByteWriter(0)
      .u8(1)
      .u16(0x0203)
      .u32(0x04050607)
      .u64(0x08n)
      .varint(300)
      .varint(300n)
      .svarint(-1n)
      .svarint(1n)
      .hex('ff')
      .bytes(Buffer.of(9))
      .zeros(2)
    expect(out.finish().toString('hex')).toBe('010302070605040800000000000000ac02ac020102ff01090000')
  })

  test('is a copy of its own once it is finished, and begins anew where it is reset', () => {
    const out = new ByteWriter(4).u32(1)
    const first = out.finish()
    expect(first.buffer.byteLength).toBe(4)
    out.reset()
    expect(out.length).toBe(0)
    expect(out.u32(2).zeros(1).finish()).toEqual(Buffer.of(2, 0, 0, 0, 0))
    expect(first).toEqual(Buffer.of(1, 0, 0, 0))
    // Where a longer one stood before, zeros are zeros.
    const used = new ByteWriter(8).raw(Buffer.alloc(8, 0xff))
    used.reset()
    expect(used.zeros(3).u8(7).finish()).toEqual(Buffer.of(0, 0, 0, 7))
  })

  test('is refused where a number has no form', () => {
    for (const value of [-1, 0.5, Number.NaN, 2 ** 53, -1n, 1n << 64n])
      expect(() => new ByteWriter().varint(value)).toThrow(new RangeError(`varint out of range: ${value}`))
    expect(new ByteWriter().varint(U64).length).toBe(10)
    expect(new ByteWriter().varint(Number.MAX_SAFE_INTEGER).length).toBe(8)
  })
})

describe('a number of variable length', () => {
  test('takes seven bits a byte, in the shortest form alone', () => {
    for (let bits = 0n; bits < 64n; bits++)
      for (const value of [(1n << bits) - 1n, 1n << bits]) {
        const bytes = new ByteWriter().varint(value).finish()
        expect(bytes.length).toBe(Math.max(1, Math.ceil(value.toString(2).length / 7)))
        if (value <= BigInt(Number.MAX_SAFE_INTEGER)) expect(new ByteWriter().varint(Number(value)).finish()).toEqual(bytes)
        expect(reader(bytes).varintBig()).toBe(value)
        if (value < 1n << 63n)
          expect(new ByteWriter().svarint(-value - 1n).finish()).toEqual(
            new ByteWriter().varint(BigInt.asUintN(64, value * 2n + 1n)).finish(),
          )
      }
  })

  test('is refused in a longer form, over 64 bits, and where it does not end', () => {
    const wrong = damaged('a number is not in its shortest form')
    const top = Buffer.alloc(9, 0xff)
    for (const bytes of [
      Buffer.of(0x80, 0),
      Buffer.of(0xff, 0x80, 0),
      Buffer.concat([top, Buffer.of(2)]),
      Buffer.concat([top, Buffer.of(0x81, 0)]),
      Buffer.alloc(12, 0x80),
    ]) {
      expect(() => reader(bytes).varintBig()).toThrow(wrong)
      expect(() => reader(bytes).varint()).toThrow(wrong)
      expect(() => reader(bytes).svarint()).toThrow(wrong)
    }
    expect(reader(Buffer.concat([top, Buffer.of(1)])).varintBig()).toBe(U64)
    expect(reader(Buffer.of(0)).varintBig()).toBe(0n)
    for (const bytes of [Buffer.of(), Buffer.of(0x80)]) expect(() => reader(bytes).varint()).toThrow(damaged('it ends 1 bytes too early'))
  })

  test('is held against what can be counted with and against its limit', () => {
    const largest = new ByteWriter().varint(Number.MAX_SAFE_INTEGER).finish()
    expect(reader(largest).varint()).toBe(Number.MAX_SAFE_INTEGER)
    expect(() => reader(new ByteWriter().varint(2n ** 53n).finish()).varint()).toThrow(damaged('a number is out of range'))
    for (const limit of [5, 500]) {
      expect(reader(new ByteWriter().varint(limit).finish()).varint(limit)).toBe(limit)
      expect(() => reader(new ByteWriter().varint(limit + 1).finish()).varint(limit)).toThrow(
        damaged(`${limit + 1} is over the limit of ${limit}`),
      )
    }
    expect(reader(new ByteWriter().u64(Number.MAX_SAFE_INTEGER).finish()).u64()).toBe(Number.MAX_SAFE_INTEGER)
    expect(() => reader(new ByteWriter().u64(2n ** 53n).finish()).u64()).toThrow(damaged('a number is out of range'))
  })
})

describe('a reader', () => {
  test('gives no byte that is not there, and says how many are lacking', () => {
    const takes: [number, (from: ByteReader) => unknown][] = [
      [1, (from) => from.u8()],
      [2, (from) => from.u16()],
      [4, (from) => from.u32()],
      [8, (from) => from.u64()],
      [9, (from) => from.raw(9)],
      [9, (from) => from.hex(9)],
      [9, (from) => from.zeros(9)],
    ]
    for (const [length, take] of takes) {
      expect(() => take(reader(Buffer.alloc(length)))).not.toThrow()
      expect(() => take(reader(Buffer.alloc(length - 1)))).toThrow(damaged('it ends 1 bytes too early'))
    }
    expect(() => reader(Buffer.of(5, 1, 2)).bytes(9)).toThrow(damaged('it ends 3 bytes too early'))
    expect(() => reader(Buffer.of(5, 1, 2)).bytes(4)).toThrow(damaged('5 is over the limit of 4'))
  })

  test('believes no count of more than there is room for', () => {
    expect(reader(Buffer.of(2, 1, 1, 1, 1)).count(9, 2)).toBe(2)
    expect(() => reader(Buffer.of(2, 1, 1, 1)).count(9, 2)).toThrow(damaged('it claims 2 entries, more than it can hold'))
    expect(() => reader(Buffer.of(2, 1, 1, 1, 1)).count(1, 2)).toThrow(damaged('2 is over the limit of 1'))
    const count32 = (count: number, bytes: number) => reader(new ByteWriter().u32(count).zeros(bytes).finish())
    expect(count32(2, 4).count32(2, 2)).toBe(2)
    expect(() => count32(2, 3).count32(2, 2)).toThrow(damaged('it claims 2 entries, more than it can hold'))
    expect(() => count32(2, 4).count32(1, 2)).toThrow(damaged('2 is over the limit of 1'))
  })

  test('refuses reserved bytes that are not zero', () => {
    expect(() => reader(Buffer.of(0, 1)).zeros(2)).toThrow(damaged('reserved bytes are not zero'))
    expect(() => reader(Buffer.of(0, 1)).zeros(1)).not.toThrow()
  })
})
