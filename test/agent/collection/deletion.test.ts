// Carrying out a deletion list: exactly what it names, whatever the store lets go, and index files in groups that a reader accepts.
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { carryOut, deletableName } from '../../../agent/collection/deletion.ts'
import { inGroups } from '../../../agent/collection/move-segments.ts'
import { INDEX_MAX_BLOBS, type PackInIndex } from '../../../agent/repository/index-file.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { SimulatedBucket } from '../../_support/simulated-store.ts'

const session = 'a'.repeat(32)
const random = 'b'.repeat(32)
const of = (kind: DeletableName['kind']): DeletableName => ({ kind, session, random })
const KINDS = ['snapshot', 'index', 'pack', 'list', 'forget', 'session', 'end'] as const

async function bucketWith(names: readonly DeletableName[]): Promise<SimulatedBucket> {
  const bucket = new SimulatedBucket({ clock: simulatedClock({}) })
  for (const [i, name] of names.entries()) await bucket.store().put(deletableName(name), { kind: 'bytes', bytes: Buffer.alloc(10 + i) })
  return bucket
}

describe('a deletion', () => {
  test('finds each kind of object under its own name', () => {
    expect(KINDS.map((kind) => deletableName(of(kind)))).toEqual([
      expect.stringMatching(/^snapshots\//),
      expect.stringMatching(/^index\//),
      expect.stringMatching(/^packs\//),
      expect.stringMatching(/^lists\//),
      expect.stringMatching(/^lists\/forgets\//),
      `sessions/${session}`,
      `ends/${session}`,
    ])
    expect(new Set(KINDS.map((kind) => deletableName(of(kind)))).size).toBe(KINDS.length)
  })

  test('removes what is named and there in its order, tells of each, and counts', async () => {
    const bucket = await bucketWith(KINDS.map(of))
    const named = [of('pack'), of('snapshot'), { ...of('pack'), random: 'c'.repeat(32) }, of('index')]
    const told: string[] = []
    const report = await carryOut(bucket.store(), named, { onDeleted: (done, total) => told.push(`${done}/${total}`) })
    expect(report).toEqual({ objects: 3, packs: 1, bytes: 12 + 10 + 11, locked: [] })
    expect(told).toEqual(['1/4', '2/4', '3/4', '4/4'])
    expect(bucket.names()).toEqual(
      ['list', 'forget', 'session', 'end'].map((kind) => deletableName(of(kind as DeletableName['kind']))).toSorted(),
    )
    const removed = bucket.trace.filter(({ operation }) => operation === 'remove').map(({ name }) => name)
    expect(removed).toEqual([named[0]!, named[1]!, named[3]!].map(deletableName))
    expect(await carryOut(bucket.store(), named)).toEqual({ objects: 0, packs: 0, bytes: 0, locked: [] })
  })

  test('leaves what a lock holds, says until when, and goes on', async () => {
    const clock = simulatedClock({})
    const bucket = new SimulatedBucket({ clock, lockMs: 5000 })
    for (const kind of ['index', 'pack'] as const) {
      clock.advance(5000)
      await bucket.store().put(deletableName(of(kind)), { kind: 'bytes', bytes: Buffer.alloc(7) })
    }
    expect(await carryOut(bucket.store(), [of('pack'), of('index')])).toEqual({
      objects: 1,
      packs: 0,
      bytes: 7,
      locked: [{ name: deletableName(of('pack')), bytes: 7, until: clock.now() + 5000 }],
    })
  })

  test('ends with what the store says where it does not answer', async () => {
    const bucket = await bucketWith([of('pack')])
    const down = new HoldfastError('store-unreachable', 'the store does not answer')
    const store = { ...bucket.store(), head: bucket.store().head.bind(bucket.store()), remove: async () => Promise.reject(down) }
    await expect(carryOut(store, [of('pack')])).rejects.toBe(down)
    const ended = AbortSignal.abort(new Error('enough'))
    await expect(carryOut(bucket.store(), [of('pack')], { signal: ended })).rejects.toThrow(/cancelled/)
    expect(bucket.names()).toHaveLength(1)
  })
})

describe('packs in index files', () => {
  const pack = (...counts: number[]): PackInIndex =>
    ({ bytes: 1, footer: { segments: counts.map((length) => ({ blobs: { length } })) } }) as unknown as PackInIndex

  test('are grouped in their order, as many as one file may name', () => {
    const half = pack(INDEX_MAX_BLOBS / 2, 1)
    const rest = pack(INDEX_MAX_BLOBS / 2 - 1)
    const one = pack(1)
    const huge = pack(INDEX_MAX_BLOBS, 5)
    expect(inGroups([])).toEqual([])
    expect(inGroups([half, rest])).toEqual([[half, rest]])
    expect(inGroups([half, rest, one])).toEqual([[half, rest], [one]])
    expect(inGroups([one, one, half, rest])).toEqual([[one, one, half], [rest]])
    expect(inGroups([half, half, rest])).toEqual([[half], [half, rest]])
    expect(inGroups([huge, one, one])).toEqual([[huge], [one, one]])
  })
})
