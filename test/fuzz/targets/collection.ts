// What collection writes and the server reads with no key of the domain: lists, signed with the right key whatever they say. Input: everything between
// the header and the writer's key, with the epoch of the header before it.
import { type CollectionListBody, decodeCollectionList, encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { encodeHeader, HEADER_BYTES, OBJECT_TYPE, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { signBody } from '@holdfast/shared/format/signed-body.ts'
import {
  decodeNeededQuestion,
  decodeNeeds,
  encodeNeededQuestion,
  encodeNeeds,
  type NeedsStatement,
} from '@holdfast/shared/protocol/needs.ts'
import { ref, refOf, structure, writer } from '../_support/fixture.ts'
import { accepted, judged, requireSame, type Target, violation } from '../_support/target.ts'

const { domainId } = structure
const EPOCH_AT = 12
const TAIL_BYTES = 32 + 64

function objectOf(input: Buffer): Buffer {
  const header = encodeHeader('list', domainId, 0)
  input.copy(header, EPOCH_AT, 0, 4)
  const signed = Buffer.concat([header, input.subarray(4), writer.publicKey])
  return Buffer.concat([signed, signBody(writer, OBJECT_TYPE.list, domainId, signed)])
}

const other = (digit: string): ObjectRef => ({ session: digit.repeat(32), random: '9'.repeat(32) })
const BODIES: readonly CollectionListBody[] = [
  {
    kind: 'condemned',
    kept: [other('1')],
    packs: [
      { ...other('2'), bytes: 131_072, why: 'dead' },
      { ...other('3'), bytes: 2 ** 26, why: 'reuse' },
    ],
  },
  { kind: 'revived', from: [{ list: other('4'), packs: [other('5'), other('6')] }] },
  {
    kind: 'deletion',
    lists: [other('4')],
    names: (['session', 'pack', 'index', 'snapshot', 'list', 'forget', 'end'] as const).map((kind) => ({
      kind,
      session: '7'.repeat(32),
      random: kind === 'session' || kind === 'end' ? '0'.repeat(32) : '8'.repeat(32),
    })),
  },
]

export const collectionList: Target = {
  name: 'collection-list',
  about: 'a collection list, signed: what is taken is written again as the same bytes, and names nothing that collection may not delete',
  form: 'bytes',
  covers: ['shared/format/collection-list.ts', 'shared/format/bytes.ts'],
  weight: 1,
  bytesMax: 2048,
  seeds: () =>
    BODIES.map((body) => {
      const object = encodeCollectionList({ ...body, ref, madeAt: 1_700_000_000_000 }, domainId, writer)
      return Buffer.concat([Buffer.alloc(4), object.subarray(HEADER_BYTES, object.length - TAIL_BYTES)])
    }),
  run: (input) => {
    const object = objectOf(input)
    const decoded = accepted(() => decodeCollectionList(object, refOf(input.subarray(4)), domainId))
    if (decoded === undefined) return 'refused'
    const { list, writerKey } = decoded
    if (!writerKey.equals(writer.publicKey)) violation('a list has another writer than the one that signed it')
    requireSame(object, encodeCollectionList(list, domainId, { ...writer, id: list.writerId }), 'a collection list')
    if (list.kind === 'deletion')
      for (const { kind, random } of list.names)
        if ((kind === 'session' || kind === 'end') && random !== '0'.repeat(32)) violation(`a ${kind} has a second part in its name`)
    return 'taken'
  },
}

const PACK = Buffer.alloc(32, 5)
const FIRST: NeedsStatement = {
  storeId: `store_${'1'.repeat(32)}`,
  series: '2'.repeat(64),
  sequence: 1,
  snapshotId: '3'.repeat(32),
  base: undefined,
  added: [PACK, Buffer.alloc(32, 6)],
  dropped: [],
  replaced: [],
}
const QUESTION = { storeId: FIRST.storeId, snapshotIds: [FIRST.snapshotId], packs: [PACK] }

export const needsStatement: Target = {
  name: 'needs-statement',
  about: 'what an agent states and asks about packs that are needed: what is taken is written again as the same bytes',
  form: 'bytes',
  covers: ['shared/protocol/needs.ts', 'shared/format/bytes.ts'],
  weight: 2,
  bytesMax: 1024,
  seeds: () => [
    encodeNeeds(FIRST),
    encodeNeeds({ ...FIRST, sequence: 300, base: '4'.repeat(32), dropped: [PACK], replaced: ['5'.repeat(32)] }),
    encodeNeededQuestion(QUESTION),
  ],
  run: (input) =>
    judged(() =>
      input.includes('?')
        ? requireSame(input, encodeNeededQuestion(decodeNeededQuestion(input)), 'a question about needs')
        : requireSame(input, encodeNeeds(decodeNeeds(input)), 'a needs statement'),
    ),
}
