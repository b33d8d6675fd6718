// Wrote test/vectors/chunking.json, from the reference alone. It refuses to write over it: a change there would orphan every
// stored chunk. Kept so that a reader can see how each value came about.
import { writeFileSync } from 'node:fs'
import { deriveTable, selectCuts, thresholdOf } from 'chunking-stream'
import { referenceCuts } from '../../../shared/chunking-stream/reference.ts'
import { inputOf, tableDigest, VECTORS_FILE } from './vectors.ts'
import type { Part, Sizes, Vectors } from './vectors.ts'

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
const KIB = 1024
const defaults: Sizes = { min: 512 * KIB, mean: 1024 * KIB, max: 4096 * KIB }
const least: Sizes = { min: 64, mean: 320, max: 1024 }
const odd: Sizes = { min: 1000, mean: 3333, max: 9999 }
const flat: Sizes = { min: 256, mean: 1024, max: 1024 }
const medium: Sizes = { min: 4096, mean: 12288, max: 65536 }

const tableFor = ({ min, mean }: { min: number; mean: number }) => deriveTable(key, thresholdOf(min, mean))

function cutsOf(sizes: Sizes, input: readonly Part[]): number[] {
  return referenceCuts(inputOf(input), tableFor(sizes), thresholdOf(sizes.min, sizes.mean), sizes)
}

const inputs: { sizes: Sizes; input: Part[] }[] = []
for (const sizes of [least, odd, flat, medium, defaults]) {
  const lengths = new Set([0, 1, 63, 64, 65, sizes.min - 1, sizes.min, sizes.min + 1, sizes.max - 1, sizes.max, sizes.max + 1])
  for (const length of lengths) inputs.push({ sizes, input: [{ seed: 'edge', length }] })
  inputs.push({ sizes, input: [{ seed: 'long', length: Math.max(3 * sizes.max, 40_000) }] })
  inputs.push({ sizes, input: [{ byte: 0, length: 2 * sizes.max + sizes.min + 1 }] })
  inputs.push({
    sizes,
    input: [
      { seed: 'before', length: sizes.mean + 17 },
      { byte: 0, length: sizes.max + sizes.min + 5 },
      { seed: 'after', length: 2 * sizes.mean + 3 },
      { byte: 255, length: sizes.min },
    ],
  })
}
inputs.push({ sizes: defaults, input: [{ seed: 'many chunks', length: 24 * 1024 * KIB }] })

const vectors: Vectors = {
  key: key.toString('hex'),
  tables: [256, 257, 768, 1000, 2333, 8192, 512 * KIB, 1024 * KIB].map((spread) => {
    const table = tableFor({ min: 64, mean: 64 + spread })
    return { spread, sha256: tableDigest(table), first: [...table.subarray(0, 2)].map((entry) => entry.toString(16).padStart(16, '0')) }
  }),
  cases: inputs.map(({ sizes, input }) => ({ sizes, input, cuts: cutsOf(sizes, input) })),
  runs: [least, odd, flat].map((sizes) => {
    const length = 3 * sizes.max + sizes.min + 1
    return { sizes, length, cuts: selectCuts([], length, sizes) }
  }),
  fixed: [256 * KIB, 1024 * KIB].map((size) => ({ size, length: 2 * size + 1, cuts: [size, 2 * size, 2 * size + 1] })),
}

const lines = Object.entries(vectors).map(([name, value]) => {
  const text = Array.isArray(value) ? `[\n    ${value.map((item) => JSON.stringify(item)).join(',\n    ')}\n  ]` : JSON.stringify(value)
  return `  ${JSON.stringify(name)}: ${text}`
})
writeFileSync(VECTORS_FILE, `{\n${lines.join(',\n')}\n}\n`, { flag: 'wx' })
