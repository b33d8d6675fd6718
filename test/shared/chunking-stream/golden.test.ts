// The golden vectors pin tables and cuts for ever, and the committed kernel is what its source compiles to.
import { readFileSync } from 'node:fs'
import { createChunker, deriveTable, thresholdOf } from 'chunking-stream'
import type { Chunker } from 'chunking-stream'
import { describe, expect, it } from 'vitest'
import { compileKernel } from '../../../shared/chunking-stream/tools/build-kernel.ts'
import { inputOf, readVectors, tableDigest } from './vectors.ts'

const vectors = readVectors()
const key = Buffer.from(vectors.key, 'hex')

function cutsOf(chunker: Chunker, input: Uint8Array): number[] {
  chunker.buffer.set(input)
  const cuts: number[] = []
  for (let start = 0; ;) {
    const cut = chunker.nextCut(start, input.length, true)
    if (cut === -1) return cuts
    cuts.push((start = cut))
  }
}

describe('golden vectors', () => {
  it('derive the same table from the same key for ever', () => {
    for (const { spread, sha256, first } of vectors.tables) {
      const table = deriveTable(key, thresholdOf(64, 64 + spread))
      expect(tableDigest(table)).toBe(sha256)
      expect([...table.subarray(0, 2)]).toEqual(first.map((entry) => BigInt(`0x${entry}`)))
    }
    expect(new Set(vectors.tables.map(({ sha256 }) => sha256)).size, 'a vector with a passed-over table is among them').toBe(2)
  })

  it('cut the same inputs at the same places for ever', () => {
    for (const { sizes, input, cuts } of vectors.cases) {
      const bytes = inputOf(input)
      const chunker = createChunker({ key, ...sizes, bufferBytes: Math.max(bytes.length, sizes.max) })
      expect(cutsOf(chunker, bytes), JSON.stringify({ sizes, input })).toEqual(cuts)
    }
  })

  it('cut a constant run of every byte into chunks of the greatest size', () => {
    for (const { sizes, length, cuts } of vectors.runs) {
      expect(cuts).toEqual([sizes.max, 2 * sizes.max, 3 * sizes.max, length])
      const chunker = createChunker({ key, ...sizes, bufferBytes: length })
      for (let byte = 0; byte < 256; byte++) expect(cutsOf(chunker, Buffer.alloc(length, byte)), `byte ${byte}`).toEqual(cuts)
    }
  })

  it('cut disk images at fixed places', () => {
    for (const { size, length, cuts } of vectors.fixed) {
      expect(cutsOf(createChunker({ mode: 'fixed', size, bufferBytes: length }), new Uint8Array(length))).toEqual(cuts)
    }
  })
})

describe('gear.wasm', () => {
  it('is what assembly/gear.ts compiles to, byte for byte', async () => {
    const committed = readFileSync(new URL('../../../shared/chunking-stream/gear.wasm', import.meta.url))
    expect(Buffer.from(await compileKernel()).equals(committed), 'compile again with tools/build-kernel.ts').toBe(true)
  })
})
