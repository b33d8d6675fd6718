// What makes a snapshot count no longer, and a session no longer waited for: forget records and session ends. Input: the body, which is signed and
// sealed as an honest writer does it, whatever it says.
import {
  decodeForgetRecord,
  decodeSessionEnd,
  encodeForgetRecord,
  encodeSessionEnd,
  FORGOTTEN_WHY,
  type ForgetRecord,
  type ForgottenWhy,
} from '../../../agent/repository/forget-record.ts'
import { openBox, sealBox } from '../../../agent/repository/structure-box.ts'
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import { entry, ref, refOf, structure, writer } from '../_support/fixture.ts'
import { accepted, requireSame, type Target, violation } from '../_support/target.ts'

const MADE_AT = 1_700_000_000_000
const other = (digit: string): ObjectRef => ({ session: digit.repeat(32), random: '9'.repeat(32) })
const EMPTY: Omit<ForgetRecord, 'writerId'> = { ref, madeAt: MADE_AT, replaces: [], entries: [], undone: [] }
const RECORDS: readonly Omit<ForgetRecord, 'writerId'>[] = [
  EMPTY,
  {
    ...EMPTY,
    entries: (Object.keys(FORGOTTEN_WHY) as ForgottenWhy[]).map((why, at) => ({
      snapshot: other(String(at)),
      series: Buffer.alloc(32, at),
      sequence: at === 0 ? 0 : 2 ** at,
      hash: Buffer.alloc(32, 10 + at),
      why,
    })),
  },
  { ...EMPTY, replaces: [other('1'), other('2')], undone: [{ record: other('3'), snapshot: other('4') }] },
]

const bodyOf = (type: 'forget' | 'end', object: Buffer): Buffer => openBox({ type, keys: structure, object, what: 'a seed' }).body

export const forgetRecord: Target = {
  name: 'forget-record',
  about: 'a forget record: what is taken is written again as the same bytes, and every entry has a reason',
  form: 'bytes',
  covers: ['agent/repository/forget-record.ts', 'shared/format/bytes.ts'],
  weight: 2,
  bytesMax: 2048,
  seeds: () => RECORDS.map((record) => bodyOf('forget', encodeForgetRecord(record, structure, writer))),
  run: (input) => {
    const object = sealBox({ type: 'forget', keys: structure, writer, body: input })
    const decoded = accepted(() => decodeForgetRecord(object, refOf(input), structure))
    if (decoded === undefined) return 'refused'
    const { record, writerKey } = decoded
    if (!writerKey.equals(writer.publicKey)) violation('a forget record has another writer than the one that signed it')
    if (record.entries.some(({ why }) => FORGOTTEN_WHY[why] === undefined)) violation('a snapshot is forgotten for no reason')
    requireSame(object, encodeForgetRecord(record, structure, { ...writer, id: record.writerId }), 'a forget record')
    return 'taken'
  },
}

export const sessionEnd: Target = {
  name: 'session-end',
  about: 'the end of a session: what is taken is written again as the same bytes, and is of the session in its name',
  form: 'bytes',
  covers: ['agent/repository/forget-record.ts', 'shared/format/bytes.ts'],
  weight: 1,
  bytesMax: 256,
  seeds: () => [0, MADE_AT].map((endedAt) => bodyOf('end', encodeSessionEnd({ sessionId: entry.sessionId, endedAt }, structure, writer))),
  run: (input) => {
    const object = sealBox({ type: 'end', keys: structure, writer, body: input })
    const session = input.length < 16 ? ref.session : input.toString('hex', 0, 16)
    const decoded = accepted(() => decodeSessionEnd(object, session, structure))
    if (decoded === undefined) return 'refused'
    const { writerId, endedAt, writerKey } = decoded
    if (!writerKey.equals(writer.publicKey)) violation('the end of a session has another writer than the one that signed it')
    if (accepted(() => decodeSessionEnd(object, '0'.repeat(32), structure)) !== undefined && session !== '0'.repeat(32))
      violation('the end of one session ends another')
    requireSame(
      object,
      encodeSessionEnd({ sessionId: Buffer.from(session, 'hex'), endedAt }, structure, { ...writer, id: writerId }),
      'an end',
    )
    return 'taken'
  },
}
