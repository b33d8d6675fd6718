// O2, de-duplication begins here. The synchronous chunker: it agrees with the reference and with the definition, keeps its limits, and refuses bad options clearly.
import { createChunker, deriveTable, isAnchor, selectCuts, thresholdOf } from 'chunking-stream'
import type { ChunkerOptions } from 'chunking-stream'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planOf } from '../../../shared/chunking-stream/options.ts'
import { referenceCandidates, referenceCuts } from '../../../shared/chunking-stream/reference.ts'
import { findConstantRun } from '../../../shared/chunking-stream/table.ts'
import { seededBytes } from './vectors.ts'

const key = seededBytes('a key for tests', 32)
const sizes = { min: 128, mean: 512, max: 2048 }
const threshold = thresholdOf(sizes.min, sizes.mean)
const table = deriveTable(key, threshold)

/** Random bytes with runs and repeats in between, as files have them. */
const contents = fc
  .array(
    fc.oneof(
      fc.tuple(fc.string({ maxLength: 8 }), fc.nat(3000)).map(([seed, length]) => seededBytes(seed, length)),
      fc.tuple(fc.nat(255), fc.nat(3000)).map(([byte, length]) => Buffer.alloc(length, byte)),
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts))

const anySizes = fc
  .tuple(fc.integer({ min: 64, max: 600 }), fc.integer({ min: 256, max: 1500 }), fc.nat(4000))
  .map(([min, spread, more]) => ({ min, mean: min + spread, max: min + spread + more }))

function cutsOf(bytes: Uint8Array, options: ChunkerOptions, at = 0): number[] {
  const chunker = createChunker({ ...options, bufferBytes: 40_000 })
  chunker.buffer.fill(0xa5)
  chunker.buffer.set(bytes, at)
  const cuts: number[] = []
  for (let start = at; ;) {
    const cut = chunker.nextCut(start, at + bytes.length, true)
    if (cut === -1) return cuts
    cuts.push(cut - at)
    start = cut
  }
}

describe('createChunker', () => {
  it('cuts where the reference cuts, whatever the content, the sizes and the place in the buffer', () => {
    fc.assert(
      fc.property(contents, anySizes, fc.nat(5000), (bytes, some, at) => {
        const bound = thresholdOf(some.min, some.mean)
        expect(cutsOf(bytes, { key, ...some }, at)).toEqual(referenceCuts(bytes, deriveTable(key, bound), bound, some))
      }),
      { numRuns: 60 },
    )
  })

  it('finds exactly the offsets whose 64 bytes before them sum to less than the threshold', () => {
    const bytes = seededBytes('definition', 4000)
    const defined: number[] = []
    for (let offset = 64; offset <= bytes.length; offset++) {
      let state = 0n
      for (let age = 0; age < 64; age++) state += (table[bytes[offset - 1 - age] ?? 0] ?? 0n) << BigInt(age)
      if (BigInt.asUintN(64, state) < threshold) defined.push(offset)
    }
    expect(defined.length).toBeGreaterThan(3)
    expect(referenceCandidates(bytes, table, threshold)).toEqual(defined)
    const chunker = createChunker({ table, ...sizes, bufferBytes: 4000 })
    chunker.buffer.set(bytes)
    const found: number[] = []
    for (let p = chunker.nextCandidate(64, 4000); p !== -1; p = p < 4000 ? chunker.nextCandidate(p + 1, 4000) : -1) found.push(p)
    expect(found).toEqual(defined)
  })

  it('keeps every chunk but the last at or above min and none above max', () => {
    fc.assert(
      fc.property(contents, anySizes, (bytes, some) => {
        const cuts = cutsOf(bytes, { key, ...some })
        const lengths = cuts.map((cut, i) => cut - (cuts[i - 1] ?? 0))
        expect(cuts.at(-1) ?? 0).toBe(bytes.length)
        expect(lengths.every((length) => length > 0 && length <= some.max)).toBe(true)
        expect(lengths.slice(0, -1).every((length) => length >= some.min)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('says -1 until it can be sure, and then what it would have said with everything at hand', () => {
    fc.assert(
      fc.property(contents, fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1 }), fc.boolean(), (bytes, steps, remembers) => {
        const chunker = createChunker({ table, ...sizes, bufferBytes: 40_000 })
        chunker.buffer.set(bytes)
        const cuts: number[] = []
        let end = 0
        let start = 0
        let searched = 0
        for (let turn = 0; end < bytes.length; turn++) {
          end = Math.min(bytes.length, end + (steps[turn % steps.length] ?? 1))
          for (;;) {
            const cut = chunker.nextCut(start, end, end === bytes.length, remembers ? searched : 0)
            if (cut === -1) break
            cuts.push((start = cut))
            searched = 0
          }
          searched = end - start
        }
        expect(cuts).toEqual(referenceCuts(bytes, table, threshold, sizes))
      }),
      { numRuns: 60 },
    )
  })

  it('makes one chunk of an input up to min, and none of an empty one', () => {
    expect(cutsOf(seededBytes('short', 1), { table, ...sizes })).toEqual([1])
    expect(cutsOf(seededBytes('short', sizes.min), { table, ...sizes })).toEqual([sizes.min])
    expect(cutsOf(new Uint8Array(0), { table, ...sizes })).toEqual([])
  })

  it('serves one file after another without a trace of the one before', () => {
    const chunker = createChunker({ table, ...sizes })
    chunker.buffer.set(seededBytes('first', 1500))
    expect(chunker.nextCut(0, 100, false)).toBe(-1)
    const bytes = seededBytes('second', 2048)
    chunker.buffer.set(bytes)
    expect(chunker.nextCut(0, 2048, true)).toBe(referenceCuts(bytes, table, threshold, sizes)[0])
  })

  it('keeps its buffer in place', () => {
    const chunker = createChunker({ key })
    const { buffer } = chunker
    expect(buffer.length).toBe(8 * 1024 * 1024)
    buffer[0] = 7
    chunker.nextCut(0, buffer.length, false)
    expect(chunker.buffer).toBe(buffer)
    expect(buffer[0]).toBe(7)
  })

  it('finds its cuts again soon after an insertion near the start', () => {
    const before = seededBytes('resynchronise', 300_000)
    for (const inserted of [1, 63, 64, 1000, 5000]) {
      const after = Buffer.concat([before.subarray(0, 700), seededBytes(`insert ${inserted}`, inserted), before.subarray(700)])
      const old = new Set(referenceCuts(before, table, threshold, sizes))
      const moved = referenceCuts(after, table, threshold, sizes).map((cut) => cut - inserted)
      const agreed = moved.findIndex((cut) => cut > 700 && old.has(cut))
      expect(agreed).toBeGreaterThan(-1)
      expect(moved[agreed]).toBeLessThan(700 + 20 * sizes.mean)
      expect(moved.slice(agreed).every((cut) => old.has(cut))).toBe(true)
    }
  })

  it('has chunks of about the mean size on random data', () => {
    const count = referenceCuts(seededBytes('mean', 2_000_000), table, threshold, sizes).length
    expect(2_000_000 / count).toBeGreaterThan(sizes.mean * 0.93)
    expect(2_000_000 / count).toBeLessThan(sizes.mean * 1.07)
  })

  it('cuts differently under another key', () => {
    const bytes = seededBytes('keyed', 30_000)
    expect(cutsOf(bytes, { key, ...sizes })).not.toEqual(cutsOf(bytes, { key: seededBytes('another key', 32), ...sizes }))
  })

  it('cuts at the last byte that is there, and does not look again where it is told that it has looked', () => {
    const bytes = seededBytes('searched', 4000)
    const chunker = createChunker({ table, ...sizes, bufferBytes: 5000 })
    const candidates = referenceCandidates(bytes, table, threshold).filter((candidate) => candidate >= sizes.min)
    const [first = 0, second = 0] = candidates
    for (const at of [0, 700]) {
      chunker.buffer.set(bytes, at)
      for (const searched of [0, first - 1]) {
        expect(chunker.nextCut(at, at + first, false, searched)).toBe(at + first)
        expect(chunker.nextCut(at, at + first - 1, false, Math.max(0, searched - 1))).toBe(-1)
      }
      expect(chunker.nextCut(at, at + second, false, first)).toBe(at + second)
      expect(chunker.nextCut(at, at + second, false, first - 1)).toBe(at + first)
    }
  })

  it('in fixed mode cuts as soon as a block is there, has no candidates, and leaves the rest for the end', () => {
    const size = 262_144
    const chunker = createChunker({ mode: 'fixed', size })
    expect([chunker.min, chunker.max, chunker.buffer.length]).toEqual([size, size, 2 * size])
    expect(chunker.nextCut(0, size, false)).toBe(size)
    expect(chunker.nextCut(7, size + 7, false)).toBe(size + 7)
    expect(chunker.nextCut(7, size + 6, false)).toBe(-1)
    expect(chunker.nextCut(7, size + 6, true)).toBe(size + 6)
    expect(chunker.nextCut(size, size, true)).toBe(-1)
    expect(chunker.nextCandidate(64, 2 * size)).toBe(-1)
  })

  it.each([
    ['content', createChunker({ table, ...sizes })],
    ['fixed', createChunker({ mode: 'fixed' })],
  ] as const)('in %s mode refuses offsets that are no range of its buffer', (_, chunker) => {
    const { length } = chunker.buffer
    const ranges = [
      [64.5, 100],
      [64, 100.5],
      [Number.NaN, 100],
      [-1, 100],
      [101, 100],
      [64, length + 1],
    ] as const
    for (const [from, to] of ranges) {
      const said = `offsets ${from} to ${to} are not a range of the buffer of ${length} bytes`
      expect(() => chunker.nextCut(from, to, true)).toThrow(new RangeError(said))
      expect(() => chunker.nextCandidate(from, to)).toThrow(new RangeError(said))
    }
    expect(chunker.nextCut(length, length, true)).toBe(-1)
  })

  it('keeps a table of its own, takes the mode by its name, and tells a run that is cut from one that is not to the last bit', () => {
    const given = table.slice()
    const plan = planOf({ mode: 'content', table: given, ...sizes })
    given.fill(0n)
    expect(plan).toEqual({ mode: 'content', ...sizes, threshold, table })
    const runs = table.slice()
    runs[200] = BigInt.asUintN(64, -threshold)
    expect(findConstantRun(runs, threshold)).toBe(-1)
    runs[200] = BigInt.asUintN(64, 1n - threshold)
    expect(findConstantRun(runs, threshold)).toBe(200)
  })

  it.each<[string, () => unknown, new () => Error, RegExp]>([
    ['no options', () => createChunker(null as unknown as ChunkerOptions), TypeError, /options must be an object/],
    ['a key for options', () => createChunker('key' as unknown as ChunkerOptions), TypeError, /options must be an object/],
    ['a size that is no number', () => createChunker({ key, min: '64' as unknown as number }), TypeError, /min must be .* not string/],
    [
      'a key that is no bytes',
      () => createChunker({ key: 'k'.repeat(32) as unknown as Uint8Array }),
      TypeError,
      /key must be a Uint8Array/,
    ],
    ['a table of numbers', () => createChunker({ table: [] as unknown as BigUint64Array }), TypeError, /must be a BigUint64Array/],
    ['a threshold that no table fits', () => deriveTable(key, 1n << 64n), RangeError, /no table of this key fits/],
    ['no key', () => createChunker({}), TypeError, /needs a key of 32 bytes/],
    ['a short key', () => createChunker({ key: new Uint8Array(31) }), RangeError, /key must be 32 bytes, not 31/],
    ['key and table', () => createChunker({ key, table }), TypeError, /not both/],
    ['a short table', () => createChunker({ table: new BigUint64Array(255) }), RangeError, /256 entries, not 255/],
    ['a table that cuts constant runs', () => createChunker({ table: new BigUint64Array(256) }), RangeError, /run of byte 0/],
    ['min under the window', () => createChunker({ key, ...sizes, min: 63 }), RangeError, /min must be an integer from 64/],
    ['a mean too near', () => createChunker({ key, min: 512, mean: 767, max: 4096 }), RangeError, /mean must be an integer from 768/],
    ['max under the mean', () => createChunker({ key, min: 512, mean: 1024, max: 1023 }), RangeError, /max must be an integer from 1024/],
    ['a max that is no integer', () => createChunker({ key, ...sizes, max: 2048.5 }), RangeError, /max .* not 2048\.5/],
    ['NaN', () => createChunker({ key, min: Number.NaN }), RangeError, /min .* not NaN/],
    ['a buffer under max', () => createChunker({ key, ...sizes, bufferBytes: 2047 }), RangeError, /bufferBytes .* 2048/],
    ['a fixed size too small', () => createChunker({ mode: 'fixed', size: 4096 }), RangeError, /size must be an integer from 262144/],
    ['an unknown mode', () => createChunker({ mode: 'rolling' as 'fixed' }), RangeError, /'content' or 'fixed', not "rolling"/],
    ['offsets outside the buffer', () => createChunker({ key, ...sizes }).nextCut(0, 5000, true), RangeError, /0 to 5000/],
    ['offsets in the wrong order', () => createChunker({ key, ...sizes }).nextCut(9, 8, true), RangeError, /9 to 8/],
    [
      'more searched than there is, further on',
      () => createChunker({ key, ...sizes }).nextCut(9, 17, true, 9),
      RangeError,
      /0 to 8, not 9/,
    ],
    ['more searched than there is', () => createChunker({ key, ...sizes }).nextCut(0, 8, true, 9), RangeError, /searched .* 0 to 8, not 9/],
    ['a candidate without a window', () => createChunker({ key, ...sizes }).nextCandidate(63, 100), RangeError, /at least 64, not 63/],
  ])('refuses %s', (_, act, kind, message) => {
    expect(act).toThrow(kind)
    expect(act).toThrow(message)
  })
})

describe('selectCuts', () => {
  it('chooses from all candidates the cuts that a scan finds', () => {
    fc.assert(
      fc.property(contents, anySizes, (bytes, some) => {
        const bound = thresholdOf(some.min, some.mean)
        const candidates = referenceCandidates(bytes, deriveTable(key, bound), bound)
        expect(selectCuts(candidates, bytes.length, some)).toEqual(cutsOf(bytes, { key, ...some }))
      }),
      { numRuns: 60 },
    )
  })

  it('refuses candidates out of order or outside the input', () => {
    expect(() => selectCuts([500, 400], 1000, sizes)).toThrow(RangeError)
    expect(() => selectCuts([0], 1000, sizes)).toThrow(RangeError)
    expect(() => selectCuts([400, 400], 1000, sizes)).toThrow(RangeError)
    expect(() => selectCuts([1001], 1000, sizes)).toThrow(/candidate 1001 after 0/)
    expect(selectCuts([1000], 1000, sizes)).toEqual([1000])
  })
})

describe('isAnchor', () => {
  it('holds from the least distance to the greatest, and not beside them', () => {
    const limits = { min: 100, max: 260 }
    const distances = [99, 100, 101, 159, 160, 161]
    expect(distances.map((distance) => isAnchor(500, 500 + distance, limits))).toEqual([false, true, true, true, true, false])
  })

  it('holds only for candidates that every scan from at or before their predecessor cuts at', () => {
    let anchors = 0
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 2, maxLength: 40 }), fc.nat(), (gaps, some) => {
        const limits = { min: 100, max: 260 }
        const candidates: number[] = []
        for (const gap of gaps) candidates.push((candidates.at(-1) ?? 0) + gap)
        const length = (candidates.at(-1) ?? 0) + 50
        candidates.slice(1).forEach((candidate, i) => {
          const previous = candidates[i] ?? 0
          if (!isAnchor(previous, candidate, limits)) return
          anchors++
          const start = some % (previous + 1)
          const rest = candidates.filter((p) => p > start).map((p) => p - start)
          expect(selectCuts(rest, length - start, limits)).toContain(candidate - start)
        })
      }),
      { numRuns: 500 },
    )
    expect(anchors).toBeGreaterThan(100)
  })
})
