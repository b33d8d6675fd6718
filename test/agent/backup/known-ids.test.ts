// The table of known ids against a Map (B4): look-ups, claims, growth, and the same memories seen by another thread.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createKnownIds, DURABLE, FIRST_SEGMENT, openKnownIds, UNKNOWN } from '../../../agent/backup/known-ids.ts'

/** Ids that collide often: few first words, so that probing and wrapping around are met. */
const id = fc.tuple(fc.nat(3), fc.nat(400)).map(([slot, rest]) => {
  const bytes = Buffer.alloc(32)
  bytes.writeUInt32LE(slot === 3 ? 0xffffffff : slot * 1021, 0)
  bytes.writeUInt32LE(rest, 12)
  return bytes
})

describe('the table of known ids', () => {
  test('is a map, whatever is claimed and however it grows', () => {
    const act = fc.oneof(
      {
        weight: 10,
        arbitrary: fc.record({ act: fc.constant('claim' as const), id, value: fc.integer({ min: DURABLE, max: 2 ** 31 - 1 }) }),
      },
      { weight: 5, arbitrary: fc.record({ act: fc.constant('lookup' as const), id }) },
      fc.record({ act: fc.constant('grow' as const), more: fc.nat(3000) }),
    )
    fc.assert(
      fc.property(fc.array(act, { maxLength: 600 }), (acts) => {
        const table = createKnownIds(10)
        const other = openKnownIds(table.memory())
        const model = new Map<string, number>()
        for (const one of acts) {
          if (one.act === 'grow') {
            table.grow(one.more)
            other.adopt(table.memory())
            continue
          }
          const key = one.id.toString('hex', 0, 16)
          const held = model.get(key) ?? UNKNOWN
          if (one.act === 'lookup') {
            expect(table.lookup(one.id)).toBe(held)
            expect(other.lookup(one.id)).toBe(held)
          } else {
            expect((model.size % 2 === 0 ? table : other).claim(one.id, one.value)).toBe(held)
            if (held === UNKNOWN) model.set(key, one.value)
          }
        }
        expect(table.count()).toBe(model.size)
        expect(table.claimedSegments()).toEqual(
          new Set([...model.values()].filter((value) => value > DURABLE).map((value) => value - FIRST_SEGMENT)),
        )
      }),
      { numRuns: 60 },
    )
  })

  test('refuses to be filled to the brim, where a look-up would never end', () => {
    const table = createKnownIds(1)
    const bytes = Buffer.alloc(16)
    const fill = (): void => {
      for (let i = 0; ; i++) {
        bytes.writeUInt32LE((i * 2_654_435_761) % 2 ** 32, 0)
        table.claim(bytes, DURABLE)
      }
    }
    expect(fill).toThrow(RangeError)
    expect(table.count()).toBeLessThanOrEqual(table.capacity() + 1)
    bytes.fill(0xee)
    expect(table.lookup(bytes)).toBe(UNKNOWN)
    table.grow(10)
    expect(table.claim(bytes, DURABLE)).toBe(UNKNOWN)
  })
})
