// The order of snapshots, which says what `latest` is: by time, and never against the sequence of a series, whatever a clock did meanwhile.
import { expect, test } from 'vitest'
import { inOrder, type SnapshotStructure } from '../../../agent/repository/snapshot.ts'

type Short = readonly [id: string, series: string, sequence: number, startedAt: number]

function order(shorts: readonly Short[]): string[] {
  const snapshots = shorts.map(([random, series, sequence, startedAt]) => {
    const part = { ref: { session: 's', random }, writerId: Buffer.of(1), series: Buffer.from(series), sequence, startedAt }
    return { structure: part as Partial<SnapshotStructure> as SnapshotStructure }
  })
  return inOrder(snapshots).map(({ structure }) => structure.ref.random)
}

test.each<[string, readonly Short[], readonly string[]]>([
  [
    'of one series by sequence, where the clock was ten years ahead for a while',
    [
      ['b', 'x', 2, 9000],
      ['c', 'x', 3, 120],
      ['a', 'x', 1, 100],
    ],
    ['a', 'b', 'c'],
  ],
  [
    'of one series by sequence, where the clock goes back with every run',
    [
      ['c', 'x', 3, 10],
      ['b', 'x', 2, 20],
      ['a', 'x', 1, 30],
    ],
    ['a', 'b', 'c'],
  ],
  [
    'of several series by time',
    [
      ['b', 'y', 1, 15],
      ['a', 'x', 1, 10],
      ['c', 'x', 2, 20],
    ],
    ['a', 'b', 'c'],
  ],
  [
    'of several series, where one clock was ahead and is right again: its early ones do not come last',
    [
      ['a', 'x', 1, 9000],
      ['b', 'x', 2, 10],
      ['c', 'y', 1, 20],
    ],
    ['a', 'b', 'c'],
  ],
  [
    'of a series that two machines continue, each under the same number, by time',
    [
      ['b', 'x', 2, 30],
      ['a', 'x', 2, 20],
      ['0', 'x', 1, 10],
    ],
    ['0', 'a', 'b'],
  ],
  [
    'begun at the same time by id',
    [
      ['b', 'x', 1, 10],
      ['a', 'x', 1, 10],
    ],
    ['a', 'b'],
  ],
])('%s', (_, snapshots, expected) => {
  expect(order(snapshots)).toEqual(expected)
  expect(order(snapshots.toReversed())).toEqual(expected)
})
