// What main thread and workers tell each other about files, as flat bytes: one buffer a batch, so that a small file costs no message and no
// object. The layouts live only in this process.
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import type { Attribute, Extent } from '../repository/tree.ts'
import type { Descriptor, FileStat } from '../file-system/file-system.ts'

/** Words of the shared memory between a worker and the main thread: segments under way, and whether the run has ended. */
export const WAITING = 0
export const STOPPING = 1

export type FileTask = {
  /** The directory's descriptor and the name in it, or the descriptor of an open stream and an empty name. */
  readonly directory: Descriptor
  readonly name: Buffer
  readonly stat: FileStat | undefined
}

export type FileResult =
  | {
      readonly outcome: 'read'
      readonly inline: Buffer | undefined
      readonly ids: readonly string[]
      /** Bytes of each id's chunk, for paging long lists. */
      readonly lengths: readonly number[]
      readonly extents: readonly Extent[] | undefined
      /** Undefined where they could not be read. */
      readonly attributes: readonly Attribute[] | undefined
      /** Set where the file is no longer as the walk saw it. */
      readonly stat: FileStat | undefined
      readonly changed: boolean
      readonly bytesRead: number
      readonly newBytes: number
      /** Segments of this run that must be durable before the file is. */
      readonly segments: readonly number[]
    }
  | { readonly outcome: 'failed'; readonly code: string }

const KINDS = ['file', 'directory', 'symlink', 'fifo', 'socket', 'character-device', 'block-device'] as const

function writeStat(out: ByteWriter, stat: FileStat): void {
  out.u8(KINDS.indexOf(stat.kind)).u16(stat.mode).u32(stat.uid).u32(stat.gid).u64(stat.size).u64(stat.blocks)
  // Nanoseconds after 2262 take more than 64 bits: the rest of them stands apart.
  out.u64(BigInt.asUintN(64, stat.mtimeNs)).u64(BigInt.asUintN(64, stat.mtimeNs >> 64n))
  out.u64(BigInt.asUintN(64, stat.ctimeNs)).u64(stat.inode).u64(stat.deviceId).u32(stat.links)
}

function readStat(reader: ByteReader): FileStat {
  const kind = KINDS[reader.u8()]
  if (kind === undefined) throw reader.refuse('an unknown kind')
  const [mode, uid, gid, size, blocks] = [reader.u16(), reader.u32(), reader.u32(), reader.u64(), reader.u64()]
  const numbers = reader.raw(40)
  return {
    kind,
    mode,
    uid,
    gid,
    size,
    blocks,
    mtimeNs: numbers.readBigUInt64LE(0) | (numbers.readBigInt64LE(8) << 64n),
    ctimeNs: numbers.readBigInt64LE(16),
    inode: numbers.readBigUInt64LE(24),
    deviceId: numbers.readBigUInt64LE(32),
    links: reader.u32(),
    rdevMajor: 0,
    rdevMinor: 0,
  }
}

export function encodeTasks(tasks: readonly FileTask[]): Uint8Array {
  const out = new ByteWriter(tasks.length * 160)
  out.u32(tasks.length)
  for (const task of tasks) {
    out
      .u32(task.directory)
      .bytes(task.name)
      .u8(task.stat === undefined ? 0 : 1)
    if (task.stat !== undefined) writeStat(out, task.stat)
  }
  return out.finish()
}

export function decodeTasks(bytes: Uint8Array): FileTask[] {
  const reader = new ByteReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), 'a batch')
  return Array.from({ length: reader.u32() }, () => ({
    directory: reader.u32(),
    name: reader.bytes(255),
    stat: reader.u8() === 1 ? readStat(reader) : undefined,
  }))
}

/** Appends one result; a worker keeps one writer for a whole batch. */
export function writeResult(out: ByteWriter, result: FileResult): void {
  if (result.outcome === 'failed') {
    out.u8(0).bytes(Buffer.from(result.code))
    return
  }
  out
    .u8(1)
    .u8(
      (result.inline === undefined ? 0 : 1) |
        (result.extents === undefined ? 0 : 2) |
        (result.stat === undefined ? 0 : 4) |
        (result.changed ? 8 : 0) |
        (result.attributes === undefined ? 32 : result.attributes.length === 0 ? 0 : 16),
    )
  out.varint(result.bytesRead).varint(result.newBytes).varint(result.ids.length)
  for (const id of result.ids) out.hex(id)
  for (const length of result.lengths) out.varint(length)
  out.varint(result.segments.length)
  for (const segment of result.segments) out.varint(segment)
  if (result.inline !== undefined) out.bytes(result.inline)
  if (result.extents !== undefined) {
    out.varint(result.extents.length)
    for (const extent of result.extents) out.varint(extent.offset).varint(extent.bytes)
  }
  if (result.stat !== undefined) writeStat(out, result.stat)
  if (result.attributes !== undefined && result.attributes.length > 0) {
    out.varint(result.attributes.length)
    for (const attribute of result.attributes) out.bytes(attribute.name).bytes(attribute.value)
  }
}

export function decodeResults(bytes: Uint8Array, count: number): FileResult[] {
  const reader = new ByteReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), 'a result')
  return Array.from({ length: count }, () => readResult(reader))
}

function readResult(reader: ByteReader): FileResult {
  if (reader.u8() === 0) return { outcome: 'failed', code: reader.bytes(64).toString() }
  const flags = reader.u8()
  const bytesRead = reader.varint()
  const newBytes = reader.varint()
  const count = reader.varint()
  const ids = Array.from({ length: count }, () => reader.hex(32))
  const lengths = Array.from({ length: count }, () => reader.varint())
  const segments = Array.from({ length: reader.varint() }, () => reader.varint())
  const inline = (flags & 1) === 0 ? undefined : Buffer.from(reader.bytes(256))
  const extents =
    (flags & 2) === 0 ? undefined : Array.from({ length: reader.varint() }, () => ({ offset: reader.varint(), bytes: reader.varint() }))
  const stat = (flags & 4) === 0 ? undefined : readStat(reader)
  const attributes =
    (flags & 32) !== 0
      ? undefined
      : (flags & 16) === 0
        ? []
        : Array.from({ length: reader.varint() }, () => ({
            name: Buffer.from(reader.bytes(255)),
            value: Buffer.from(reader.bytes(65_536)),
          }))
  return { outcome: 'read', inline, ids, lengths, extents, attributes, stat, changed: (flags & 8) !== 0, bytesRead, newBytes, segments }
}
