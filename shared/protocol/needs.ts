// Needs statements: which packs a snapshot needs, as its agent tells the server before anything is condemned. The first statement about a snapshot
// counts for ever, so an appliance that is stolen later cannot take back what earlier snapshots need. Strict binary, since a first one names every
// pack of a series (decisions/0010-needs-statements.md). Pure codec.
import { z } from 'zod'
import { ByteReader, ByteWriter } from '../format/bytes.ts'
import { HoldfastError } from '../errors.ts'
import * as c from './common.ts'

export const NEEDS_CONTENT_TYPE = 'application/octet-stream'
const MAGIC = 'holdfast/1 needs\n'
const QUESTION = 'holdfast/1 needed?\n'
/** A pack's name as session and random part. */
export const PACK_REF_BYTES = 32
/** About two million packs: 33 TB at 16 MiB each. */
export const NEEDS_BYTES_MAX = 64 * 2 ** 20
const PACKS_MAX = Math.floor(NEEDS_BYTES_MAX / PACK_REF_BYTES)

/** What one snapshot needs, as the difference to the statement before it in its series; without `base` the whole. */
export type NeedsStatement = {
  readonly storeId: string
  /** 64 hex digits. */
  readonly series: string
  readonly sequence: number
  readonly snapshotId: string
  /** The snapshot whose statement this one goes on from: the last of the series that the server has. */
  readonly base: string | undefined
  /** 32 bytes each: session and random part of a pack's name. */
  readonly added: readonly Buffer[]
  readonly dropped: readonly Buffer[]
  /** Snapshots of this agent that were written and replaced before they were reported good: nobody was told of them. */
  readonly replaced: readonly string[]
}

export function encodeNeeds(statement: NeedsStatement): Buffer {
  const { storeId, series, sequence, snapshotId, base, added, dropped, replaced } = statement
  const out = new ByteWriter((added.length + dropped.length) * PACK_REF_BYTES + 1024)
  out.raw(Buffer.from(MAGIC, 'latin1')).hex(storeId.slice('store_'.length)).hex(series).varint(sequence).hex(snapshotId)
  out.u8(base === undefined ? 0 : 1)
  if (base !== undefined) out.hex(base)
  for (const packs of [added, dropped]) {
    out.varint(packs.length)
    for (const pack of packs) out.raw(pack)
  }
  out.varint(replaced.length)
  for (const id of replaced) out.hex(id)
  return out.finish()
}

/** Throws `unprocessable` for anything that `encodeNeeds` would not write. */
export function decodeNeeds(bytes: Buffer): NeedsStatement {
  return strictly(bytes, 'this needs statement', (reader) => {
    if (reader.raw(MAGIC.length).toString('latin1') !== MAGIC) throw reader.refuse('it is none')
    const storeId = `store_${reader.hex(16)}`
    const series = reader.hex(32)
    const sequence = reader.varint()
    if (sequence === 0) throw reader.refuse('sequences begin with 1')
    const snapshotId = reader.hex(16)
    const flag = reader.u8()
    if (flag > 1) throw reader.refuse('its base is neither there nor not')
    const base = flag === 1 ? reader.hex(16) : undefined
    const packs = (): Buffer[] => Array.from({ length: reader.count(PACKS_MAX, PACK_REF_BYTES) }, () => reader.raw(PACK_REF_BYTES))
    const [added, dropped] = [packs(), packs()]
    if (base === undefined && dropped.length > 0) throw reader.refuse('it drops packs from nothing')
    const replaced = Array.from({ length: reader.count(1000, 16) }, () => reader.hex(16))
    return { storeId, series, sequence, snapshotId, base, added, dropped, replaced }
  })
}

/** Asks which packs of a deletion to come the server still counts as needed, once the snapshots named are gone. */
export type NeededQuestion = { readonly storeId: string; readonly snapshotIds: readonly string[]; readonly packs: readonly Buffer[] }

export function encodeNeededQuestion({ storeId, snapshotIds, packs }: NeededQuestion): Buffer {
  const out = new ByteWriter((packs.length + 1) * PACK_REF_BYTES + snapshotIds.length * 16 + 64)
  out.raw(Buffer.from(QUESTION, 'latin1')).hex(storeId.slice('store_'.length)).varint(snapshotIds.length)
  for (const id of snapshotIds) out.hex(id)
  out.varint(packs.length)
  for (const pack of packs) out.raw(pack)
  return out.finish()
}

/** Throws `unprocessable`. */
export function decodeNeededQuestion(bytes: Buffer): NeededQuestion {
  return strictly(bytes, 'this question about needs', (reader) => {
    if (reader.raw(QUESTION.length).toString('latin1') !== QUESTION) throw reader.refuse('it is none')
    const storeId = `store_${reader.hex(16)}`
    const snapshotIds = Array.from({ length: reader.count(PACKS_MAX, 16) }, () => reader.hex(16))
    const packs = Array.from({ length: reader.count(PACKS_MAX, PACK_REF_BYTES) }, () => reader.raw(PACK_REF_BYTES))
    return { storeId, snapshotIds, packs }
  })
}

/** Reads all of `bytes`; what a reader of stored objects calls damaged is a body that does not fit here. */
function strictly<T>(bytes: Buffer, what: string, read: (reader: ByteReader) => T): T {
  const reader = new ByteReader(bytes, what)
  try {
    const value = read(reader)
    reader.end()
    return value
  } catch (error) {
    if (error instanceof HoldfastError) throw new HoldfastError('unprocessable', error.message, { cause: error })
    throw error
  }
}

/** Which of its snapshots in a store an agent has forgotten: all of them. */
export const forgottenReport = z.strictObject({ snapshotIds: z.array(c.snapshotId).max(20_000) })

/** What the server has of a series: where the next statement goes on. */
export const needsStand = z.strictObject({
  /** 0 where nothing was stated. */
  sequence: c.count,
  snapshotId: c.snapshotId.nullable(),
  serverTime: c.time,
})
export type NeedsStand = z.infer<typeof needsStand>
