// When collection lists and forget records themselves go: once nothing depends on them, and never so that something else is forgotten or found again
// by it (design section 7).
import { describe, expect, test } from 'vitest'
import { type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { LISTS_STAY_MS } from '../../../agent/collection/prune-plan.ts'
import type { LoadedForget } from '../../../agent/repository/collection-state.ts'
import { condemned, entry, forget, indexFile, listed, listOf, plan, ref, NOW, WRITER, type Given } from './_support/plan-fixture.ts'

describe('lists and records', () => {
  const pack = ref(1)
  const list = ref(90)
  const over = NOW - LISTS_STAY_MS
  const names = (given: Given, lacking: ObjectRef[] = []): string[] =>
    plan(given, [], { lacking }).deletions.map(({ kind, random: name }) => `${kind} ${Number.parseInt(name, 16)}`)

  test('that condemned stay for thirty days, and while one of their packs is there or named by any index file', () => {
    const lists = (at: number) => ({
      lists: [
        condemned(at, list, [
          [pack, 'dead'],
          [ref(2), 'dead'],
        ]),
      ],
    })
    expect(names(lists(over))).toEqual(['list 90'])
    expect(names(lists(over + 1))).toEqual([])
    expect(names({ ...lists(over), packs: [listed(pack)] })).toEqual([])
    expect(names(lists(over), [ref(2)])).toEqual([])
    expect(names(lists(over), [ref(3)])).toEqual(['list 90'])
    expect(names({ ...lists(over), files: [indexFile(ref(21), [ref(2)])] })).toEqual([])
    expect(names({ ...lists(over), files: [indexFile(ref(21), [ref(3)])] })).toEqual(['list 90'])
    // A replaced file that is still there may name a pack of it.
    const replaced = [indexFile(ref(21), [ref(3)]), indexFile(ref(22), [ref(3)], [ref(21)])]
    expect(names({ ...lists(over), files: replaced, indexFiles: replaced.map((file) => listed(file.ref, NOW)) })).toEqual([])
  })

  test('that took back go after thirty days with the last list that they took from', () => {
    const revived = (at: number, ...from: ObjectRef[]) =>
      listOf(at, ref(91), { kind: 'revived', from: from.map((one) => ({ list: one, packs: [pack] })) })
    expect(names({ lists: [revived(over, list)] })).toEqual(['list 91'])
    expect(names({ lists: [revived(over + 1, list)] })).toEqual([])
    expect(names({ lists: [condemned(over, list, [[pack, 'dead']]), revived(over, list)] })).toEqual(['list 90', 'list 91'])
    expect(names({ lists: [condemned(NOW, list, [[pack, 'dead']]), revived(over, list)] })).toEqual([])
    expect(names({ lists: [condemned(NOW, list, [[pack, 'dead']]), revived(over, ref(95), list)] })).toEqual([])
    expect(names({ lists: [condemned(NOW, list, [[pack, 'dead']]), revived(over, ref(95))] })).toEqual(['list 91'])
  })

  test('that took back from a list that named deletions go with it and after it, not before', () => {
    const deletion = (at: number) => listOf(at, ref(92), { kind: 'deletion', lists: [], names: [{ kind: 'snapshot', ...ref(3) }] })
    const back = listOf(over, ref(91), { kind: 'revived', from: [{ list: ref(92), packs: [ref(3)] }] })
    expect(names({ lists: [back, deletion(over)] })).toEqual(['list 92', 'list 91'])
    expect(names({ lists: [back, deletion(over + 1)] })).toEqual([])
  })

  test('that took a snapshot back stay as long as it is there, for a server, which knows it from nothing else', () => {
    const back = listOf(over, ref(91), { kind: 'revived', from: [{ list: ref(5), packs: [] }] })
    expect(names({ lists: [back], snapshots: [listed(ref(5))] })).toEqual([])
    expect(names({ lists: [back], snapshots: [listed(ref(6))] })).toEqual(['list 91'])
  })

  test('that named deletions go after thirty days', () => {
    const deletion = (at: number) => listOf(at, ref(92), { kind: 'deletion', lists: [], names: [] })
    expect(names({ lists: [deletion(over)] })).toEqual(['list 92'])
    expect(names({ lists: [deletion(over + 1)] })).toEqual([])
  })

  test('that forgot go thirty days after another record took their entries over', () => {
    const [old, merged] = [ref(80), ref(81)]
    expect(names({ forgets: [forget(0, old, [])] })).toEqual([])
    expect(names({ forgets: [forget(0, old, []), forget(over, merged, [], [old])] })).toEqual(['forget 80'])
    expect(names({ forgets: [forget(0, old, []), forget(over + 1, merged, [], [old])] })).toEqual([])
  })

  test('that forgot stay where the other is of another appliance, or does not say all that they said', () => {
    const [old, merged, gone] = [ref(80), ref(81), entry(ref(3))]
    const [agent, other] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)]
    const both = (writerId: Buffer, by: Buffer, entries = [gone], more: LoadedForget[] = []) =>
      names({ forgets: [forget(0, old, [gone], [], { writerId }), forget(over, merged, entries, [old], { writerId: by }), ...more] })
    for (const [writerId, by] of [
      [WRITER, WRITER],
      [agent, agent],
      [agent, WRITER],
    ] as const)
      expect(both(writerId, by)).toEqual(['forget 80'])
    for (const [writerId, by] of [
      [WRITER, agent],
      [agent, other],
    ] as const)
      expect(both(writerId, by)).toEqual([])
    expect(both(WRITER, WRITER, [])).toEqual([])
    expect(both(WRITER, WRITER, [entry(ref(4))])).toEqual([])
    // What was undone need not be said again.
    const undo = forget(0, ref(82), [], [], { undone: [{ record: old, snapshot: ref(3) }] })
    expect(both(WRITER, WRITER, [], [undo])).toEqual(['forget 80'])
  })

  test('that took back stay, also where another record replaces them', () => {
    const [old, undo, merged] = [ref(80), ref(82), ref(83)]
    const undone = [{ record: old, snapshot: ref(3) }]
    const forgets = [forget(0, old, [entry(ref(3))]), forget(0, undo, [], [], { undone }), forget(over, merged, [], [old, undo])]
    expect(names({ forgets })).toEqual(['forget 80'])
    expect(names({ forgets: forgets.slice(1) })).toEqual([])
  })
})
