// More to condemn or delete than one list names: the next run goes on.
import { describe, expect, test } from 'vitest'
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { NAMES_AT_ONCE } from '../../../agent/collection/prune-plan.ts'
import { condemned, entry, forget, keys, listed, plan, ref, use } from './_support/plan-fixture.ts'

describe('what one list cannot name', () => {
  const many = Array.from({ length: NAMES_AT_ONCE + 2 }, (_, i) => ref(i + 1000, 7))

  test('is condemned by the next run', () => {
    const { condemn, sparse } = plan(
      { packs: many.map((one) => listed(one)) },
      many.map((one) => use(one, 10)),
    )
    expect([condemn.length, sparse.length]).toEqual([NAMES_AT_ONCE, NAMES_AT_ONCE])
  })

  test('is deleted by the next run, and nothing before what names it', () => {
    const snapshot = ref(1, 5)
    const { deletions } = plan(
      {
        snapshots: [listed(snapshot)],
        opened: [snapshot],
        forgets: [forget(0, ref(80), [entry(snapshot)])],
        packs: many.map((one) => listed(one)),
        lists: [
          condemned(
            0,
            ref(90, 9),
            many.map((one) => [one, 'dead'] as const),
          ),
        ],
      },
      many.map((one) => use(one, 0)),
    )
    expect([deletions.length, deletions[0]?.kind]).toEqual([NAMES_AT_ONCE, 'snapshot'])
    expect(new Set(deletions.slice(1).map(({ kind }) => kind))).toEqual(new Set(['pack']))
  })

  test('makes no list that no reader would take', () => {
    const names = Array.from({ length: 1_000_001 }, () => ref(1))
    const { domainId } = keys.write.structure
    const made = (): Buffer =>
      encodeCollectionList({ kind: 'condemned', kept: names, packs: [], ref: ref(1), madeAt: 0 }, domainId, keys.write.writer)
    expect(made).toThrow('cannot be made; nothing was stored')
  })
})
