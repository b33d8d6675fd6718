// Forget records and session ends (FORMAT.md section 13): which snapshots no longer count, and since when nobody waits for a session. Pure codecs.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { type ObjectRef, readRef, refBytes } from '@holdfast/shared/format/layout.ts'
import type { StructureKeys, Writer } from '../keys/keys.ts'
import { openBox, sealBox } from './structure-box.ts'

/** Why a snapshot no longer counts: by the rules, by request, because the same run made another, or because it was lost or does not open. */
export const FORGOTTEN_WHY = { retention: 1, asked: 2, replaced: 3, unreadable: 4, missing: 5 } as const
export type ForgottenWhy = keyof typeof FORGOTTEN_WHY

export type ForgottenSnapshot = {
  readonly snapshot: ObjectRef
  /** Zeros and 0 where the snapshot does not open or is gone. */
  readonly series: Buffer
  readonly sequence: number
  /** BLAKE3 of the snapshot object, which the one after it in its series names. */
  readonly hash: Buffer
  readonly why: ForgottenWhy
}

export type ForgetRecord = {
  readonly ref: ObjectRef
  readonly writerId: Buffer
  readonly madeAt: number
  /** Records whose entries stand in this one too. */
  readonly replaces: readonly ObjectRef[]
  readonly entries: readonly ForgottenSnapshot[]
  /** Entries of earlier records that no longer hold. */
  readonly undone: readonly { readonly record: ObjectRef; readonly snapshot: ObjectRef }[]
}

/** No record has more entries, or more that it undoes. */
export const ENTRIES_MAX = 100_000

/** Throws `failed` where it would be longer than any reader takes. */
export function encodeForgetRecord(record: Omit<ForgetRecord, 'writerId'>, keys: StructureKeys, writer: Writer): Buffer {
  if (Math.max(record.entries.length, record.undone.length, record.replaces.length) > ENTRIES_MAX)
    throw new HoldfastError('failed', `a forget record of more than ${ENTRIES_MAX} entries cannot be made; nothing was stored`)
  const out = new ByteWriter().raw(refBytes(record.ref)).raw(writer.id).u64(record.madeAt).varint(record.replaces.length)
  for (const ref of record.replaces) out.raw(refBytes(ref))
  out.varint(record.entries.length)
  for (const { snapshot, series, sequence, hash, why } of record.entries)
    out.raw(refBytes(snapshot)).raw(series).u64(sequence).raw(hash).u8(FORGOTTEN_WHY[why])
  out.varint(record.undone.length)
  for (const { record: from, snapshot } of record.undone) out.raw(refBytes(from)).raw(refBytes(snapshot))
  return sealBox({ type: 'forget', keys, writer, body: out.view() })
}

/** Opens a record that must be the one named `ref`; whether its writer is to be trusted is for the caller. Throws `damaged`, `newer-format`, `wrong-key`. */
export function decodeForgetRecord(object: Buffer, ref: ObjectRef, keys: StructureKeys): { record: ForgetRecord; writerKey: Buffer } {
  const what = `forget record ${ref.random}`
  const { body, writerKey } = openBox({ type: 'forget', keys, object, what })
  const reader = new ByteReader(body, what)
  const named = readRef(reader)
  if (named.session !== ref.session || named.random !== ref.random) throw reader.refuse('it is another record under this name')
  const writerId = Buffer.from(reader.raw(16))
  const madeAt = reader.u64()
  const replaces = Array.from({ length: reader.count(ENTRIES_MAX, 32) }, () => readRef(reader))
  const entries = Array.from({ length: reader.count(ENTRIES_MAX, 105) }, () => ({
    snapshot: readRef(reader),
    series: Buffer.from(reader.raw(32)),
    sequence: reader.u64(),
    hash: Buffer.from(reader.raw(32)),
    why: readWhy(reader),
  }))
  const undone = Array.from({ length: reader.count(ENTRIES_MAX, 64) }, () => ({ record: readRef(reader), snapshot: readRef(reader) }))
  reader.end()
  return { record: { ref, writerId, madeAt, replaces, entries, undone }, writerKey }
}

function readWhy(reader: ByteReader): ForgottenWhy {
  const number = reader.u8()
  const why = (Object.keys(FORGOTTEN_WHY) as ForgottenWhy[]).find((name) => FORGOTTEN_WHY[name] === number)
  if (why === undefined) throw reader.refuse(`a snapshot is forgotten for a reason that does not exist (${number})`)
  return why
}

/** The object `ends/S`: a session that ended without a snapshot that counts. `endedAt` is in milliseconds by the writer's clock. */
export function encodeSessionEnd(end: { sessionId: Buffer; endedAt: number }, keys: StructureKeys, writer: Writer): Buffer {
  const body = new ByteWriter().raw(end.sessionId).raw(writer.id).u64(end.endedAt).view()
  return sealBox({ type: 'end', keys, writer, body })
}

/** Opens a session's end. Throws `damaged` where it is another session's, `newer-format`, `wrong-key`. */
export function decodeSessionEnd(
  object: Buffer,
  session: string,
  keys: StructureKeys,
): { writerId: Buffer; endedAt: number; writerKey: Buffer } {
  const what = `the end of session ${session}`
  const { body, writerKey } = openBox({ type: 'end', keys, object, what })
  const reader = new ByteReader(body, what)
  if (reader.hex(16) !== session) throw new HoldfastError('damaged', `${what} is damaged: it is another session's under this name`)
  const writerId = Buffer.from(reader.raw(16))
  const endedAt = reader.u64()
  reader.end()
  return { writerId, endedAt, writerKey }
}
