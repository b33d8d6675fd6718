// The bytes of one journal segment: a header that names where the chain stands, then entries, each a delivery frame with its SHA-256.
// Pure. Promise: what a crash cut off is told apart from damage in the middle, which is never skipped.
import { createHash } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { decodeFrame, encodeFrame, entryHash, type RecordFrame } from '@holdfast/shared/record.ts'

const MAGIC = Buffer.from('HFJRNL1\n')
export const SEGMENT_HEADER_BYTES = MAGIC.length + 8 + 32 + 32
const CHECK_BYTES = 32

/** The end of a chain: the last entry's number and hash; 0 and zeros before the first. */
export type ChainEnd = { readonly seq: number; readonly hash: Buffer }

export type JournalEntry = { readonly frame: RecordFrame; readonly hash: Buffer; readonly offset: number; readonly next: number }

/** Names sort as the numbers do. */
export function segmentName(firstSeq: number): string {
  return `segment-${String(firstSeq).padStart(16, '0')}`
}

export function parseSegmentName(name: string): number | undefined {
  const match = /^segment-(\d{16})$/.exec(name)
  return match === null ? undefined : Number(match[1])
}

/** What a segment begins with: the end of the chain before it. */
export function encodeSegmentHeader(before: ChainEnd): Buffer {
  const head = Buffer.concat([MAGIC, Buffer.alloc(8), before.hash])
  head.writeBigUInt64LE(BigInt(before.seq), MAGIC.length)
  return Buffer.concat([head, sha256(head)])
}

/** Undefined where the header is not whole. */
export function decodeSegmentHeader(bytes: Buffer): ChainEnd | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined
  const head = bytes.subarray(0, SEGMENT_HEADER_BYTES - 32)
  if (!head.subarray(0, MAGIC.length).equals(MAGIC) || !sha256(head).equals(bytes.subarray(head.length, SEGMENT_HEADER_BYTES)))
    return undefined
  return { seq: Number(head.readBigUInt64LE(MAGIC.length)), hash: Buffer.from(head.subarray(MAGIC.length + 8)) }
}

export function encodeEntry(frame: RecordFrame): Buffer {
  const bytes = encodeFrame(frame)
  return Buffer.concat([bytes, sha256(bytes)])
}

/** The entry at `offset` if it is whole, intact and the one that follows `before`; undefined otherwise. */
export function entryAt(bytes: Buffer, offset: number, before: ChainEnd, agentId: string): JournalEntry | undefined {
  const found = intactFrame(bytes, offset)
  if (found === undefined || found.frame.seq !== before.seq + 1 || !found.frame.prev.equals(before.hash)) return undefined
  return { ...found, hash: entryHash(agentId, found.frame), offset }
}

/** Walks a segment from its header to its last whole entry. Throws `damaged` where something whole stands behind what is not. */
export function scanSegment(
  bytes: Buffer,
  agentId: string,
  what: string,
): { before: ChainEnd; end: ChainEnd; entries: number; validBytes: number } | undefined {
  const before = decodeSegmentHeader(bytes)
  if (before === undefined) return undefined
  let end = before
  let entries = 0
  let offset = SEGMENT_HEADER_BYTES
  for (let entry = entryAt(bytes, offset, end, agentId); entry !== undefined; entry = entryAt(bytes, offset, end, agentId)) {
    end = { seq: entry.frame.seq, hash: entry.hash }
    offset = entry.next
    entries++
  }
  if (hasWholeEntryAfter(bytes, offset))
    throw new HoldfastError(
      'damaged',
      `${what} is damaged behind record ${end.seq}, with records after the damage; keep the file and ask for help, nothing was changed`,
      { fields: { seq: end.seq } },
    )
  return { before, end, entries, validBytes: offset }
}

function intactFrame(bytes: Buffer, offset: number): { frame: RecordFrame; next: number } | undefined {
  let decoded: ReturnType<typeof decodeFrame>
  try {
    decoded = decodeFrame(bytes, offset)
  } catch (error) {
    // Bytes that no writer makes; the caller decides whether they are a torn tail.
    if (error instanceof HoldfastError) return undefined
    throw error
  }
  if (decoded === undefined || bytes.length < decoded.next + CHECK_BYTES) return undefined
  const check = bytes.subarray(decoded.next, decoded.next + CHECK_BYTES)
  if (!sha256(bytes.subarray(offset, decoded.next)).equals(check)) return undefined
  return { frame: decoded.frame, next: decoded.next + CHECK_BYTES }
}

/** Of a frame, before its header: length, number, previous hash, signature, secret. */
const HEADER_LENGTH_AT = 4 + 8 + 32 + 64 + 32

/**
 * True where an intact entry stands anywhere behind `offset`. Every entry is synced before the next is written, so a crash cannot leave that:
 * it is damage, and records stand behind it.
 */
function hasWholeEntryAfter(bytes: Buffer, offset: number): boolean {
  for (let at = offset + 1; at + HEADER_LENGTH_AT + 8 + CHECK_BYTES <= bytes.length; at++) {
    const next = at + 4 + bytes.readUInt32LE(at)
    if (next + CHECK_BYTES > bytes.length) continue
    // Lengths that agree with each other are rare enough in anything else that the hash is hardly ever computed in vain.
    const bodyLengthAt = at + HEADER_LENGTH_AT + 4 + bytes.readUInt32LE(at + HEADER_LENGTH_AT)
    if (bodyLengthAt + 4 > next || bodyLengthAt + 4 + bytes.readUInt32LE(bodyLengthAt) !== next) continue
    if (intactFrame(bytes, at) !== undefined) return true
  }
  return false
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
