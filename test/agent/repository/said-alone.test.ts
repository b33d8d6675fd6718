// What one of several index files alone says of a pack: that must stay within a reader's reach, whichever file replaces it (FORMAT.md section 7).
import { describe, expect, test } from 'vitest'
import type { PackInIndex } from '../../../agent/repository/index-file.ts'
import { packsSaidAlone } from '../../../agent/repository/view.ts'
import { entries, file, hex, pack, twoBlobs, withSegments } from './_support/index-files.ts'

test.each<[string, PackInIndex, boolean]>([
  [
    'the same',
    pack(1, {
      blobs: twoBlobs,
    }),
    false,
  ],
  [
    'another blob',
    pack(1, {
      blobs: [
        [1, 5],
        [30, 6],
      ],
    }),
    true,
  ],
  [
    'another length',
    pack(1, {
      blobs: [
        [1, 6],
        [2, 5],
      ],
    }),
    true,
  ],
  [
    'a blob whose id begins alike',
    pack(1, {
      blobs: [
        [1, 5],
        [3, 6],
      ],
    }),
    true,
  ],
  ['the same under the key of another session', pack(1, { session: 1, blobs: twoBlobs }), true],
  ['the same in a segment of another id', withSegments(pack(1, { blobs: twoBlobs }), { segmentId: Buffer.alloc(32, 77) }), true],
  ['the same in another coding', withSegments(pack(1, { blobs: twoBlobs }), { codec: 0 }), true],
  ['the same under another epoch', withSegments(pack(1, { blobs: twoBlobs }), { epoch: 9 }), true],
  ['the same in a pack of another length', { ...pack(1, { blobs: twoBlobs }), bytes: 5000 }, true],
  ['a blob less', pack(1, { blobs: [[1, 5]] }), true],
  ['a segment more', { ...pack(1, { blobs: twoBlobs }, { blobs: [[4, 7]] }), bytes: pack(1, { blobs: twoBlobs }).bytes }, false],
  [
    'another order in the segment',
    pack(1, {
      blobs: [
        [2, 6],
        [1, 5],
      ],
    }),
    true,
  ],
  [
    'another segment',
    pack(
      1,
      { blobs: [[9, 1]] },
      {
        blobs: twoBlobs,
      },
    ),
    true,
  ],
  [
    'another kind',
    pack(1, {
      kind: 2,
      blobs: twoBlobs,
    }),
    true,
  ],
  [
    'another pack',
    pack(2, {
      blobs: twoBlobs,
    }),
    true,
  ],
])('knows what a doubted file says alone, where the other says %s', (_, other, isAlone) => {
  const doubted = file(900, [
    pack(1, {
      blobs: twoBlobs,
    }),
  ])
  const alone = packsSaidAlone([doubted], [file(901, [other])]).get(doubted)
  expect([...alone!]).toEqual(isAlone ? [hex(1)] : [])
  expect(packsSaidAlone([doubted], []).get(doubted)).toEqual(new Set([hex(1)]))
  expect(
    packsSaidAlone(
      [doubted],
      [
        file(901, [other]),
        file(902, [
          pack(1, {
            blobs: twoBlobs,
          }),
        ]),
      ],
    ).get(doubted),
  ).toEqual(new Set())
})

describe('of which another file says the same blobs says them alone where', () => {
  const blobs = [{ blobs: twoBlobs }, { session: 1, blobs: [[3, 7]] as const }]
  const truth = pack(1, ...blobs)
  type Entry = (typeof entries)[number]
  const withSession = (change: Partial<Entry>): PackInIndex => ({
    ...truth,
    footer: { ...truth.footer, sessions: truth.footer.sessions.map((session) => ({ ...session, ...change })) },
  })
  const isAlone = (other: PackInIndex, mine = truth): boolean => {
    const doubted = file(900, [pack(4, { blobs: twoBlobs }), mine])
    return packsSaidAlone([doubted], [file(901, [pack(4, { blobs: twoBlobs }), other])])
      .get(doubted)!
      .has(hex(1))
  }
  const first = truth.footer.segments[0]!

  test.each<[string, PackInIndex]>([
    ['the pack has another length', { ...truth, bytes: truth.bytes + 1 }],
    ['a segment begins elsewhere', withSegments(truth, { offset: 3 })],
    ['a segment is longer', withSegments(truth, { sealedBytes: first.sealedBytes + 1 })],
    ['a segment opens to more', withSegments(truth, { plainBytes: first.plainBytes + 100 })],
    ['a segment is of another kind', withSegments(truth, { kind: 2 })],
    ['a segment is compressed in another way', withSegments(truth, { codec: first.codec === 0 ? 1 : 0 })],
    ['a segment is of another epoch', withSegments(truth, { epoch: 9 })],
    ['a segment has another key', withSegments(truth, { segmentId: Buffer.alloc(32, 99) })],
    ['the session is another', withSession({ sessionId: Buffer.alloc(16, 99) })],
    ['the session is of another epoch', withSession({ contentEpoch: 99 })],
    ['the session has another key', withSession({ sealedKey: Buffer.alloc(entries[0]!.sealedKey.length, 99) })],
    ['the session has another commitment', withSession({ commitment: Buffer.alloc(32, 99) })],
    [
      'a blob has another length',
      pack(
        1,
        {
          blobs: [
            [1, 6],
            [2, 5],
          ],
        },
        blobs[1]!,
      ),
    ],
    ['a blob is missing', { ...truth, footer: { ...truth.footer, segments: truth.footer.segments.slice(0, 1) } }],
  ])('%s', (_, other) => {
    expect(isAlone(other)).toBe(true)
    expect(isAlone(other, other)).toBe(false)
  })

  test('not where it says more, or says references under another session, which opens none', () => {
    expect(isAlone({ ...pack(1, ...blobs, { blobs: [[8, 1]] }), bytes: truth.bytes })).toBe(false)
    const references = (change: Partial<Entry>): PackInIndex => withSegments(withSession(change), { kind: 3 })
    expect(isAlone(references({ sessionId: Buffer.alloc(16, 99) }), references({}))).toBe(false)
  })
})
