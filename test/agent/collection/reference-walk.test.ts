// The walk that tells which nodes of a tree can be relied on, held against the definition on trees of every form (design section 7).
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { unsoundNodes } from '../../../agent/collection/reference-walk.ts'
import type { Reference } from '../../../agent/repository/tree.ts'
import type { BlobPart } from '../../../agent/repository/view.ts'

const id = (number: number): string => (number + 1).toString(16).padStart(2, '0').repeat(32)
const chunkId = (number: number): string => (number + 101).toString(16).repeat(32)

type Node = {
  /** Nodes with a greater number only, so that it is a tree with shared branches and no circle. */
  readonly children: readonly number[]
  readonly chunks: readonly number[]
  readonly fault: 'private' | 'references' | 'damaged' | 'not-found' | undefined
}
type Forest = { readonly nodes: readonly Node[]; readonly missing: ReadonlySet<number> }

const forests: fc.Arbitrary<Forest> = fc
  .array(
    fc.record({
      children: fc.array(fc.nat(11), { maxLength: 4 }),
      chunks: fc.array(fc.nat(8), { maxLength: 3 }),
      fault: fc.option(fc.constantFrom('private', 'references', 'damaged', 'not-found'), { nil: undefined, freq: 6 }),
    }),
    { minLength: 12, maxLength: 12 },
  )
  .chain((nodes) =>
    fc.subarray([0, 1, 2, 3, 4, 5, 6, 7, 8], { maxLength: 2 }).map((missing) => ({
      nodes: nodes.map((node, number) => ({ ...node, children: node.children.filter((child) => child > number) })),
      missing: new Set(missing),
    })),
  )

/** As the sentence says it: a part of it is not there, or something that it reaches is not. */
function definition({ nodes, missing }: Forest): Set<string> {
  const isUnsound = (number: number): boolean => {
    const { fault, chunks, children } = nodes[number]!
    return fault !== undefined || chunks.some((chunk) => missing.has(chunk)) || children.some(isUnsound)
  }
  const reached = new Set<number>()
  const reach = (number: number): void => {
    reached.add(number)
    if (nodes[number]!.fault === undefined) nodes[number]!.children.forEach(reach)
  }
  reach(0)
  return new Set([...reached].filter(isUnsound).map(id))
}

function walk({ nodes, missing }: Forest, more: { untilFirst?: boolean; fail?: unknown } = {}) {
  const read: string[] = []
  const numbers = new Map(nodes.map((_, number) => [id(number), number]))
  const chunks = new Map(Array.from({ length: 9 }, (_, number) => [chunkId(number), number]))
  const found = unsoundNodes({
    root: id(0),
    ...(more.untilFirst === undefined ? {} : { untilFirst: more.untilFirst }),
    isThere: (name: string, part: BlobPart) =>
      part === 'chunk' ? !missing.has(chunks.get(name)!) : nodes[numbers.get(name)!]!.fault !== part,
    reader: {
      readReferences: async (name) => {
        read.push(name)
        const node = nodes[numbers.get(name)!]!
        if (more.fail !== undefined) throw more.fail
        if (node.fault === 'damaged' || node.fault === 'not-found') throw new HoldfastError(node.fault, 'this node does not open')
        const references: Reference[] = [
          ...node.children.map((child) => ({ what: 'node', id: id(child) }) as Reference),
          ...node.chunks.map((chunk) => ({ what: 'chunk', id: chunkId(chunk) }) as Reference),
        ]
        return { references } as never
      },
    },
  })
  return { found, read }
}

const node = (children: number[] = [], chunks: number[] = [], fault?: Node['fault']): Node => ({ children, chunks, fault })

describe('a walk of references', () => {
  test('finds exactly the nodes that cannot be relied on, and reads each node once', async () => {
    await fc.assert(
      fc.asyncProperty(forests, async (forest) => {
        const { found, read } = walk(forest)
        expect(await found).toEqual(definition(forest))
        expect(new Set(read).size).toBe(read.length)
      }),
      { numRuns: 300 },
    )
  })

  test('until the first ends with at least one of them, or with none where there is none', async () => {
    await fc.assert(
      fc.asyncProperty(forests, async (forest) => {
        const all = definition(forest)
        const some = await walk(forest, { untilFirst: true }).found
        expect(some.size > 0).toBe(all.size > 0)
        for (const one of some) expect(all).toContain(one)
      }),
      { numRuns: 300 },
    )
  })

  test('until the first reads nothing more once something is not there', async () => {
    const lacksChunk: Forest = { nodes: [node([1, 2]), node([], [0]), node()], missing: new Set([0]) }
    const early = walk(lacksChunk, { untilFirst: true })
    expect(await early.found).toEqual(new Set([id(1)]))
    expect(early.read).toEqual([id(0), id(1)])
    const lacksNode: Forest = { nodes: [node([1, 2]), node([], [], 'private'), node()], missing: new Set() }
    const other = walk(lacksNode, { untilFirst: true })
    expect(await other.found).toEqual(new Set([id(0), id(1)]))
    expect(other.read).toEqual([id(0)])
    const whole = walk(lacksChunk)
    expect(await whole.found).toEqual(new Set([id(0), id(1)]))
    expect(whole.read).toEqual([id(0), id(1), id(2)])
    expect(walk(lacksChunk, { untilFirst: false }).read).toEqual([id(0)])
  })

  test('of a root that is not there reads nothing', async () => {
    const { found, read } = walk({ nodes: [node([], [], 'references')], missing: new Set() })
    expect(await found).toEqual(new Set([id(0)]))
    expect(read).toEqual([])
  })

  test('throws what the store says where it does not answer', async () => {
    const fail = new HoldfastError('store-unreachable', 'the store does not answer')
    await expect(walk({ nodes: [node()], missing: new Set() }, { fail }).found).rejects.toBe(fail)
  })
})
