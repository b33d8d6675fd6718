// The codec of records: per-file records, commitments, the root over a batch, the signed chain and the delivery frame, to the byte.
// Signature and tree cover commitments only, so that one file record can be erased later while every proof stays valid.
import { hash, timingSafeEqual } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { canonicalBytes, parseCanonical } from './canonical-json.ts'
import type { Json } from './canonical-json.ts'
import { HoldfastError } from './errors.ts'
import { leafHash, treeHashOfHashes } from './merkle.ts'
import { recordHeader } from './protocol/records.ts'
import type { RecordHeader } from './protocol/records.ts'
import { verifySignature } from './signing.ts'
import type { SigningKey } from './signing.ts'

export const FILE_RECORD_BYTES = 64
export const RECORD_HEADER_BYTES_MAX = 16 * 1024
/** 65,536 file records in one entry. */
export const RECORD_BODY_BYTES_MAX = 4 * 1024 * 1024
export const DELIVERY_BYTES_MAX = 8 * 1024 * 1024
export const DELIVERY_RECORDS_MAX = 512
/** What the first entry of a chain names as its previous one. */
export const FIRST_PREVIOUS: Buffer = Buffer.alloc(32)

const FRAME_FIXED_BYTES = 8 + 32 + 64 + 32 + 4 + 4

/** What became of one file. `changed` = it changed while it was read; `kept` = skipped, or already as it should be. */
export const FILE_OUTCOMES = ['ok', 'failed', 'changed', 'kept'] as const
export type FileOutcome = (typeof FILE_OUTCOMES)[number]

export type FileRecord = {
  readonly kind: 'transmission' | 'recovery'
  readonly outcome: FileOutcome
  /** 0, or the errno of what went wrong. */
  readonly code: number
  /** Keyed BLAKE3-256 of the absolute path under the domain's record key. */
  readonly token: Uint8Array
  /** Padmé-rounded bytes. */
  readonly size: number
  /** Padmé-rounded bytes newly stored, or written. */
  readonly bytesNew: number
  /** Milliseconds since 1970 by the agent's clock. */
  readonly time: number
}

/** One journal entry as delivered and kept: what was signed, and what opens the commitments. */
export type RecordFrame = {
  readonly seq: number
  readonly prev: Buffer
  readonly sig: Buffer
  readonly secret: Buffer
  readonly header: Buffer
  readonly body: Buffer
}

/** File records as a body, 64 bytes each. */
export function encodeFileRecords(records: readonly FileRecord[]): Buffer {
  const body = Buffer.alloc(records.length * FILE_RECORD_BYTES)
  let at = 0
  for (const record of records) {
    if (record.token.length !== 32) throw new HoldfastError('unprocessable', 'a token is 32 bytes')
    body.writeUInt8(1, at)
    body.writeUInt8(record.kind === 'transmission' ? 1 : 2, at + 1)
    body.writeUInt8(FILE_OUTCOMES.indexOf(record.outcome), at + 2)
    body.writeUInt32LE(record.code, at + 4)
    body.set(record.token, at + 8)
    body.writeBigUInt64LE(BigInt(record.size), at + 40)
    body.writeBigUInt64LE(BigInt(record.bytesNew), at + 48)
    body.writeBigUInt64LE(BigInt(record.time), at + 56)
    at += FILE_RECORD_BYTES
  }
  return body
}

/** Reads a body strictly; `unprocessable` where a byte is not as the format says. */
export function decodeFileRecords(body: Uint8Array): FileRecord[] {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const records: FileRecord[] = []
  for (let i = 0; i < fileRecordCount(bytes); i++) records.push(decodeFileRecord(bytes, i))
  return records
}

/** How many file records a body holds; `unprocessable` where it is no whole number of them. */
export function fileRecordCount(body: Uint8Array): number {
  if (body.length % FILE_RECORD_BYTES !== 0 || body.length > RECORD_BODY_BYTES_MAX) {
    throw new HoldfastError('unprocessable', `a record's body of ${body.length} bytes is no whole number of file records within the limit`)
  }
  return body.length / FILE_RECORD_BYTES
}

function decodeFileRecord(body: Buffer, index: number): FileRecord {
  const at = index * FILE_RECORD_BYTES
  const kind = body[at + 1]
  const outcome = FILE_OUTCOMES[body[at + 2]!]
  if (body[at] !== 1) throw new HoldfastError('newer-format', `file record ${index} has version ${body[at]}; this program reads version 1`)
  if ((kind !== 1 && kind !== 2) || outcome === undefined || body[at + 3] !== 0) {
    throw new HoldfastError('unprocessable', `file record ${index} holds a kind, outcome or reserved byte that version 1 does not know`)
  }
  const numbers = [40, 48, 56].map((offset) => body.readBigUInt64LE(at + offset))
  if (numbers.some((n) => n > BigInt(Number.MAX_SAFE_INTEGER)))
    throw new HoldfastError('unprocessable', `file record ${index} holds a number over 2^53`)
  return {
    kind: kind === 1 ? 'transmission' : 'recovery',
    outcome,
    code: body.readUInt32LE(at + 4),
    token: body.subarray(at + 8, at + 40),
    size: Number(numbers[0]),
    bytesNew: Number(numbers[1]),
    time: Number(numbers[2]),
  }
}

/** HMAC-SHA256(HMAC-SHA256(secret, "holdfast/1 header"), header bytes): what the signature covers of the header. */
export function headerCommitment(secret: Uint8Array, header: Uint8Array): Buffer {
  return hmac(hmac(secret, HEADER_LABEL), header)
}

/** The salt of file record `index` alone: enough to open that one commitment, useless for any other. */
export function fileSalt(secret: Uint8Array, index: number): Buffer {
  const input = Buffer.allocUnsafe(FILE_LABEL.length + 4)
  FILE_LABEL.copy(input)
  input.writeUInt32LE(index, FILE_LABEL.length)
  return hmac(secret, input)
}

/** The commitment to one file record (64 bytes) under its salt. */
export function fileCommitment(salt: Uint8Array, fileRecord: Uint8Array): Buffer {
  return hmac(salt, fileRecord)
}

/** Leaf hashes over a body, in order: what the root and every inclusion path are made of. */
export function fileLeafHashes(secret: Uint8Array, body: Uint8Array): Buffer[] {
  return Array.from({ length: fileRecordCount(body) }, (_, index) => fileLeafHash(secret, body, index))
}

function fileLeafHash(secret: Uint8Array, body: Uint8Array, index: number): Buffer {
  return leafHash(fileCommitment(fileSalt(secret, index), body.subarray(index * FILE_RECORD_BYTES, (index + 1) * FILE_RECORD_BYTES)))
}

/** The Merkle root over the commitments of a body's file records (RFC 6962). */
export function filesRoot(secret: Uint8Array, body: Uint8Array): Buffer {
  return treeHashOfHashes(fileLeafHashes(secret, body))
}

/** The bytes that an agent signs for one entry; with the signature behind them, the leaf of the coming ledger. */
export function signedBytes(agentId: string, seq: number, prev: Uint8Array, commitment: Uint8Array): Buffer {
  if (!Number.isSafeInteger(seq) || seq < 1 || prev.length !== 32 || commitment.length !== 32) {
    throw new HoldfastError('unprocessable', 'a record needs a sequence number from 1, a previous hash and a commitment of 32 bytes each')
  }
  const number = Buffer.alloc(8)
  number.writeBigUInt64LE(BigInt(seq))
  return Buffer.concat([Buffer.from(`holdfast/1 record\n${agentId}\n`, 'utf8'), number, prev, commitment])
}

/** SHA-256(signed bytes || signature): what the next entry names as its previous one. */
export function entryHash(agentId: string, frame: Pick<RecordFrame, 'seq' | 'prev' | 'sig' | 'secret' | 'header'>): Buffer {
  const signed = signedBytes(agentId, frame.seq, frame.prev, headerCommitment(frame.secret, frame.header))
  return hash('sha256', Buffer.concat([signed, frame.sig]), 'buffer')
}

/** Makes the next entry of an agent's chain. The header's `filesRoot` and `files.count` must match the body (`filesRoot()`). */
export function signRecord(entry: {
  header: RecordHeader
  body: Uint8Array
  seq: number
  prev: Uint8Array
  secret: Uint8Array
  key: SigningKey
}): RecordFrame & { readonly hash: Buffer } {
  const header = canonicalBytes(entry.header as Json)
  if (header.length > RECORD_HEADER_BYTES_MAX) throw new HoldfastError('too-large', 'this record header is over 16 KiB')
  fileRecordCount(entry.body)
  if (entry.secret.length !== 32) throw new HoldfastError('unprocessable', "a record's secret is 32 bytes")
  const signed = signedBytes(entry.header.agentId, entry.seq, entry.prev, headerCommitment(entry.secret, header))
  const sig = entry.key.sign(signed)
  return {
    seq: entry.seq,
    prev: Buffer.from(entry.prev),
    sig,
    secret: Buffer.from(entry.secret),
    header,
    body: Buffer.from(entry.body),
    hash: hash('sha256', Buffer.concat([signed, sig]), 'buffer'),
  }
}

/** The cheap half of the check, made at the door: signature by `key`, a strict header, of this agent. Rejects with `unprocessable`. */
export function openRecord(agentId: string, key: Uint8Array | KeyObject, frame: RecordFrame): { header: RecordHeader; hash: Buffer } {
  const commitment = headerCommitment(frame.secret, frame.header)
  const signed = signedBytes(agentId, frame.seq, frame.prev, commitment)
  if (!verifySignature(key, signed, frame.sig)) {
    throw new HoldfastError('unprocessable', `record ${frame.seq} is not signed by its agent; the journal or its delivery is damaged`)
  }
  const header = parseHeader(frame.header)
  if (header.agentId !== agentId)
    throw new HoldfastError('unprocessable', `record ${frame.seq} names another agent than the one that signed it`)
  const files = fileRecordCount(frame.body)
  if ('files' in header ? header.files.count !== files : files !== 0) {
    throw new HoldfastError('unprocessable', `record ${frame.seq} states another number of files than its body holds`)
  }
  return { header, hash: hash('sha256', Buffer.concat([signed, frame.sig]), 'buffer') }
}

export type VerifiedRecord = { readonly header: RecordHeader; readonly hash: Buffer; readonly files: FileRecord[] }

/** The whole check of one entry: `openRecord`, then every file record and the root over them. Rejects with `unprocessable` or `damaged`. */
export function verifyRecord(agentId: string, key: Uint8Array | KeyObject, frame: RecordFrame): VerifiedRecord {
  const check = checkRecord(agentId, key, frame)
  for (;;) {
    const step = check.next()
    if (step.done) return step.value
  }
}

/** The same, pausing after every 2,048 file records (some 20 ms of work), for a process that must go on answering meanwhile. */
export async function verifyRecordInSteps(
  agentId: string,
  key: Uint8Array | KeyObject,
  frame: RecordFrame,
  pause: () => Promise<void>,
): Promise<VerifiedRecord> {
  const check = checkRecord(agentId, key, frame)
  for (;;) {
    const step = check.next()
    if (step.done) return step.value
    await pause()
  }
}

const STEP_FILES = 2048

function* checkRecord(agentId: string, key: Uint8Array | KeyObject, frame: RecordFrame): Generator<undefined, VerifiedRecord> {
  const { header, hash: entry } = openRecord(agentId, key, frame)
  const files = decodeFileRecords(frame.body)
  const kind = header.kind === 'recovery' ? 'recovery' : 'transmission'
  if (files.some((file) => file.kind !== kind)) {
    throw new HoldfastError('damaged', `record ${frame.seq} holds file records of another kind than its header`)
  }
  if ('filesRoot' in header) {
    const leaves: Buffer[] = []
    for (let from = 0; from < files.length; from += STEP_FILES) {
      if (from > 0) yield undefined
      for (let i = from; i < Math.min(files.length, from + STEP_FILES); i++) leaves.push(fileLeafHash(frame.secret, frame.body, i))
    }
    if (!timingSafeEqual(Buffer.from(header.filesRoot, 'hex'), treeHashOfHashes(leaves))) {
      throw new HoldfastError(
        'damaged',
        `record ${frame.seq}: the root that its agent signed is not the root of the file records that came with it`,
      )
    }
  }
  return { header, hash: entry, files }
}

/** A header from its canonical bytes, strictly. */
export function parseHeader(bytes: Uint8Array): RecordHeader {
  const parsed = recordHeader.safeParse(parseCanonical(bytes, RECORD_HEADER_BYTES_MAX))
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? ''
    throw new HoldfastError('unprocessable', `a record header is not as version 1 says${field ? `, at ${field}` : ''}`, {
      cause: parsed.error,
    })
  }
  return parsed.data
}

/** One delivery frame: u32LE length, then everything of the entry. */
export function encodeFrame(frame: RecordFrame): Buffer {
  const out = Buffer.allocUnsafe(4 + FRAME_FIXED_BYTES + frame.header.length + frame.body.length)
  let at = out.writeUInt32LE(out.length - 4, 0)
  at = out.writeBigUInt64LE(BigInt(frame.seq), at)
  at += frame.prev.copy(out, at)
  at += frame.sig.copy(out, at)
  at += frame.secret.copy(out, at)
  at = out.writeUInt32LE(frame.header.length, at)
  at += frame.header.copy(out, at)
  at = out.writeUInt32LE(frame.body.length, at)
  frame.body.copy(out, at)
  return out
}

/** Reads one frame at `offset`; undefined where the bytes end before it is whole. Rejects what no writer makes with `unprocessable`. */
export function decodeFrame(bytes: Buffer, offset: number): { frame: RecordFrame; next: number } | undefined {
  if (bytes.length - offset < 4) return undefined
  const length = bytes.readUInt32LE(offset)
  if (length < FRAME_FIXED_BYTES || length > FRAME_FIXED_BYTES + RECORD_HEADER_BYTES_MAX + RECORD_BODY_BYTES_MAX) throw notFrames()
  const next = offset + 4 + length
  if (bytes.length < next) return undefined
  let at = offset + 4
  const take = (n: number): Buffer => {
    if (at + n > next) throw notFrames()
    at += n
    return bytes.subarray(at - n, at)
  }
  const seq = take(8).readBigUInt64LE(0)
  if (seq < 1n || seq > BigInt(Number.MAX_SAFE_INTEGER)) throw notFrames()
  const [prev, sig, secret] = [take(32), take(64), take(32)]
  const headerLength = take(4).readUInt32LE(0)
  if (headerLength > RECORD_HEADER_BYTES_MAX) throw notFrames()
  const header = take(headerLength)
  const bodyLength = take(4).readUInt32LE(0)
  if (bodyLength > RECORD_BODY_BYTES_MAX) throw notFrames()
  const body = take(bodyLength)
  if (at !== next) throw notFrames()
  return { frame: { seq: Number(seq), prev, sig, secret, header, body }, next }
}

/** All frames of one delivery: within its limits, whole, in sequence without gaps. */
export function decodeDelivery(bytes: Buffer): RecordFrame[] {
  if (bytes.length > DELIVERY_BYTES_MAX) throw new HoldfastError('too-large', 'a delivery of records is over 8 MiB; send smaller batches')
  const frames: RecordFrame[] = []
  for (let at = 0; at < bytes.length;) {
    const decoded = decodeFrame(bytes, at)
    if (decoded === undefined) throw notFrames()
    if (frames.length === DELIVERY_RECORDS_MAX)
      throw new HoldfastError('too-large', `a delivery holds at most ${DELIVERY_RECORDS_MAX} records; send smaller batches`)
    const last = frames.at(-1)
    if (last !== undefined && decoded.frame.seq !== last.seq + 1)
      throw new HoldfastError('unprocessable', 'the records of one delivery must follow each other without gaps')
    frames.push(decoded.frame)
    at = decoded.next
  }
  if (frames.length === 0) throw new HoldfastError('unprocessable', 'a delivery holds at least one record')
  return frames
}

const HEADER_LABEL = Buffer.from('holdfast/1 header', 'utf8')
const FILE_LABEL = Buffer.from('holdfast/1 file', 'utf8')

/**
 * HMAC-SHA256 (RFC 2104) for keys of at most 64 bytes, on the one-shot hash: a fifth of the cost of an Hmac object for inputs this small,
 * and a server checks two of them for every file of every customer.
 */
function hmac(key: Uint8Array, data: Uint8Array): Buffer {
  const inner = Buffer.alloc(64 + data.length, 0x36)
  const outer = Buffer.alloc(96, 0x5c)
  for (let i = 0; i < key.length; i++) {
    inner[i] = key[i]! ^ 0x36
    outer[i] = key[i]! ^ 0x5c
  }
  inner.set(data, 64)
  outer.set(hash('sha256', inner, 'buffer'), 64)
  return hash('sha256', outer, 'buffer')
}

function notFrames(): HoldfastError {
  return new HoldfastError('unprocessable', 'these bytes are no whole record frames; the delivery is cut or damaged')
}
