// What the last run of a series saw, so that an unchanged file is not read again. A local file that may be lost at any time (the next run then
// reads everything and uploads nothing twice). It is sealed at rest, holds no names, and counts only while the snapshot that it was made for
// is in the store: it may claim less than exists, never more (design section 3, point 7; B1).
//
// One sealed record a directory, children before parents; a parent names where its children's records stand, so that a run reads just the
// records of the directories it visits.
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import type { Random } from '@holdfast/shared/random.ts'
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { hmac } from '../keys/primitives.ts'
import { blake3, type Hasher } from '../repository/blake3.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { type ObjectRef, refBytes } from '@holdfast/shared/format/layout.ts'
import type { Content, Extent } from '../repository/tree.ts'

const VERSION = 2
const MAGIC = Buffer.from('HFCACHE1')
const HEAD_BYTES = 8 + 4 + 16 + 32 + 32
const TAIL_BYTES = 24
const ROW_BYTES = 56
const RECORD_BYTES_MAX = 2 ** 30
const ORDINAL_MAX = 2 ** 48 - 1

/** Where a directory's record stands. */
export type RecordPlace = { readonly offset: number; readonly bytes: number; readonly ordinal: number }

/** What is known of a file's content without reading it. */
export type CachedContent = { readonly content: Content; readonly extents: readonly Extent[] | undefined }

export type CachedDirectory = {
  readonly node: string
  readonly entries: number
  /** Raw rows of 56 bytes in order of names; see `statRow`. */
  readonly rows: Buffer
  readonly namesHash: string
  /** False where something in it was not good enough to be trusted as a whole. */
  readonly whole: boolean
  readonly contentAt: (row: number) => CachedContent | undefined
  readonly child: (name: Buffer) => RecordPlace | undefined
}

/**
 * The part of a stat that says whether an entry is as it was. `stable` is false on file systems that do not keep inodes and ctimes (SMB, NFS, FUSE):
 * these are then left out of the comparison. `racy` makes a row that nothing matches: what was touched within the clock's granularity may
 * change again without a trace (B8).
 */
export function statRow(stat: FileStat, into: Buffer, at: number, stable: boolean, racy: boolean): void {
  // Times after 2262 do not fit and are cut: this row is only ever compared.
  into.writeBigInt64LE(BigInt.asIntN(64, stat.mtimeNs), at)
  into.writeBigInt64LE(stable ? stat.ctimeNs : 0n, at + 8)
  into.writeBigUInt64LE(stable ? stat.inode : 0n, at + 16)
  into.writeDoubleLE(racy ? -1 : stat.size, at + 24)
  into.writeUInt32LE(stat.mode | (KIND_BITS[stat.kind] << 16), at + 32)
  into.writeUInt32LE(stat.uid, at + 36)
  into.writeUInt32LE(stat.gid, at + 40)
  into.writeUInt32LE(stat.links, at + 44)
  into.writeUInt32LE(stat.rdevMajor, at + 48)
  into.writeUInt32LE(stat.rdevMinor, at + 52)
}
const KIND_BITS = { file: 1, directory: 2, symlink: 3, fifo: 4, 'character-device': 5, 'block-device': 6, socket: 7 } as const
export const STAT_ROW_BYTES = ROW_BYTES

type Keys = { readonly recordKey: Buffer; readonly series: Buffer }

function cacheKeys(keys: Keys, salt: Buffer): { seal: KeyObject; names: Hasher } {
  const seal = createSecretKey(hmac(keys.recordKey, 'holdfast/1 cache', salt))
  return { seal, names: blake3.keyed(hmac(keys.recordKey, 'holdfast/1 cache names')) }
}

function nonceOf(ordinal: number): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUIntLE(ordinal, 0, 6)
  return nonce
}

export function namesHasher(recordKey: Buffer): Hasher {
  return cacheKeys({ recordKey, series: Buffer.alloc(0) }, Buffer.alloc(32)).names
}

export type CacheReader = {
  readonly root: RecordPlace
  /** The index files that counted when the cache was made. */
  readonly indexFiles: readonly ObjectRef[]
  readonly directory: (place: RecordPlace) => CachedDirectory | undefined
  readonly close: () => void
}

/**
 * Opens the cache of a series for the snapshot it must belong to. Undefined when there is none, or when it is of another snapshot, version
 * or damaged in any way: all of these mean the same, read everything.
 */
export function openCache(options: {
  fileSystem: FileSystem
  directory: Descriptor
  name: Buffer
  keys: Keys
  snapshotId: string
}): CacheReader | undefined {
  const { fileSystem } = options
  let fd: Descriptor
  try {
    fd = fileSystem.open(options.directory, options.name, 'read')
  } catch (error) {
    if (error instanceof FileError) return undefined
    throw error
  }
  const head = Buffer.alloc(HEAD_BYTES)
  const tail = Buffer.alloc(TAIL_BYTES)
  const size = sizeOf(fileSystem, fd)
  const isOk =
    size >= HEAD_BYTES + TAIL_BYTES &&
    readAt(fileSystem, fd, head, 0) &&
    head.subarray(0, 8).equals(MAGIC) &&
    head.readUInt32LE(8) === VERSION &&
    head.toString('hex', 12, 28) === options.snapshotId &&
    head.subarray(28, 60).equals(options.keys.series) &&
    readAt(fileSystem, fd, tail, size - TAIL_BYTES)
  const names = isOk ? readNames(fileSystem, fd, size - TAIL_BYTES, tail.readUInt32LE(20)) : undefined
  if (names === undefined) {
    fileSystem.close(fd)
    return undefined
  }
  const { seal, names: namesOf } = cacheKeys(options.keys, head.subarray(60, 92))
  const root = { offset: Number(tail.readBigUInt64LE(0)), bytes: tail.readUInt32LE(8), ordinal: Number(tail.readBigUInt64LE(12)) }
  return {
    root,
    indexFiles: names,
    directory: (place) => {
      if (place.bytes < 16 || place.bytes > RECORD_BYTES_MAX || place.offset + place.bytes > size || place.ordinal > ORDINAL_MAX)
        return undefined
      const sealed = Buffer.allocUnsafeSlow(place.bytes)
      if (!readAt(fileSystem, fd, sealed, place.offset)) return undefined
      const plain = open(seal, place.ordinal, sealed)
      return plain === undefined ? undefined : parseRecord(plain, namesOf)
    },
    close: () => fileSystem.close(fd),
  }
}

const NAME_BYTES = 32

/** The names before the tail, or undefined where there is no room for so many. */
function readNames(fileSystem: FileSystem, fd: Descriptor, end: number, count: number): ObjectRef[] | undefined {
  if (HEAD_BYTES + count * NAME_BYTES > end) return undefined
  const bytes = Buffer.allocUnsafeSlow(count * NAME_BYTES)
  if (!readAt(fileSystem, fd, bytes, end - bytes.length)) return undefined
  return Array.from({ length: count }, (_, i) => {
    const at = i * NAME_BYTES
    return { session: bytes.toString('hex', at, at + 16), random: bytes.toString('hex', at + 16, at + 32) }
  })
}

function open(key: KeyObject, ordinal: number, sealed: Buffer): Buffer | undefined {
  const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(ordinal))
  decipher.setAuthTag(sealed.subarray(sealed.length - 16))
  const plain = decipher.update(sealed.subarray(0, sealed.length - 16))
  try {
    decipher.final()
    return plain
  } catch (error) {
    // Damage in a cache is a miss.
    if (error instanceof Error) return undefined
    throw error
  }
}

/** Reads all of `into`; false where the file does not give it, for whatever reason: what cannot be read of a cache is a miss. */
function readAt(fileSystem: FileSystem, fd: Descriptor, into: Buffer, position: number): boolean {
  try {
    for (let done = 0; done < into.length;) {
      const read = fileSystem.read(fd, into, done, into.length - done, position + done)
      if (read === 0) return false
      done += read
    }
    return true
  } catch (error) {
    if (error instanceof FileError) return false
    throw error
  }
}

function sizeOf(fileSystem: FileSystem, fd: Descriptor): number {
  try {
    return fileSystem.stat(fd, Buffer.alloc(0)).size
  } catch (error) {
    if (error instanceof FileError) return 0
    throw error
  }
}

function parseRecord(plain: Buffer, names: Hasher): CachedDirectory {
  const reader = new ByteReader(plain, 'the local cache')
  const node = reader.hex(32)
  const namesHash = reader.hex(32)
  const whole = reader.u8() === 1
  const entries = reader.u32()
  const rows = reader.raw(entries * ROW_BYTES)
  const offsets = reader.raw(entries * 4)
  const children = reader.raw(reader.u32() * 28)
  const contents = reader.raw(reader.left)
  return {
    node,
    entries,
    rows,
    namesHash,
    whole,
    contentAt: (row) => {
      const offset = offsets.readUInt32LE(row * 4)
      return offset === 0 ? undefined : readContent(new ByteReader(contents.subarray(offset), 'the local cache'))
    },
    child: (name) => {
      const wanted = names.hex(name).slice(0, 16)
      for (let at = 0; at < children.length; at += 28)
        if (children.toString('hex', at, at + 8) === wanted)
          return {
            offset: Number(children.readBigUInt64LE(at + 8)),
            bytes: children.readUInt32LE(at + 16),
            ordinal: Number(children.readBigUInt64LE(at + 20)),
          }
      return undefined
    },
  }
}

function readContent(reader: ByteReader): CachedContent {
  const kind = reader.u8()
  const content: Content =
    (kind & 1) === 1
      ? { kind: 'list', id: reader.hex(32) }
      : { kind: 'chunks', ids: Array.from({ length: reader.varint() }, () => reader.hex(32)) }
  const extents =
    (kind & 2) === 0 ? undefined : Array.from({ length: reader.varint() }, () => ({ offset: reader.varint(), bytes: reader.varint() }))
  return { content, extents }
}

export type CacheEntry = {
  readonly name: Buffer
  readonly stat: FileStat
  readonly racy: boolean
  readonly content: Content | undefined
  readonly extents: readonly Extent[] | undefined
  /** Directories: where their record stands. */
  readonly place: RecordPlace | undefined
}

export type CacheRecord = {
  readonly node: string
  readonly whole: boolean
  readonly stable: boolean
  readonly namesHash: string
  readonly entries: readonly CacheEntry[]
}

export type CacheWriter = {
  readonly directory: (record: CacheRecord) => RecordPlace
  /** Ends the file with its root and the index files that count now. Only then may it get its name, and only after the snapshot is durable. */
  readonly finish: (root: RecordPlace, indexFiles: readonly ObjectRef[]) => void
  /** Gives the file up, unless it is finished. */
  readonly abandon: () => void
}

/** Starts a cache file in `directory` under a temporary name. */
export function createCache(options: {
  fileSystem: FileSystem
  directory: Descriptor
  name: Buffer
  keys: Keys
  snapshotId: string
  random: Random
}): CacheWriter {
  const { fileSystem } = options
  const fd = fileSystem.open(options.directory, options.name, 'create')
  const salt = options.random.bytes(32)
  const { seal, names } = cacheKeys(options.keys, salt)
  const pending = new ByteWriter(1024 * 1024)
  let written = 0
  let ordinal = 0
  let ended = false
  const version = Buffer.alloc(4)
  version.writeUInt32LE(VERSION)
  pending.raw(MAGIC).raw(version).hex(options.snapshotId).raw(options.keys.series).raw(salt)
  const flush = (): void => {
    fileSystem.write(fd, pending.view(), written)
    written += pending.length
    pending.reset()
  }
  return {
    directory: (record) => {
      const plain = encodeRecord(record, names)
      const cipher = createCipheriv('aes-256-gcm', seal, nonceOf(ordinal))
      const place = { offset: written + pending.length, bytes: plain.length + 16, ordinal }
      pending.raw(cipher.update(plain)).raw(cipher.final()).raw(cipher.getAuthTag())
      ordinal += 1
      if (pending.length > 1024 * 1024) flush()
      return place
    },
    finish: (root, indexFiles) => {
      for (const ref of indexFiles) pending.raw(refBytes(ref))
      pending.u64(root.offset).u32(root.bytes).u64(root.ordinal).u32(indexFiles.length)
      flush()
      fileSystem.sync(fd)
      ended = true
      fileSystem.close(fd)
    },
    abandon: () => {
      if (ended) return
      ended = true
      fileSystem.close(fd)
      fileSystem.remove(options.directory, options.name, 'file')
    },
  }
}

function encodeRecord(record: CacheRecord, names: Hasher): Buffer {
  const { entries } = record
  const rows = Buffer.alloc(entries.length * ROW_BYTES)
  const offsets = Buffer.alloc(entries.length * 4)
  const children = new ByteWriter()
  // Offset 0 says "nothing known", so contents begin with one byte of nothing.
  const contents = new ByteWriter().u8(0)
  let childCount = 0
  for (const [i, entry] of entries.entries()) {
    statRow(entry.stat, rows, i * ROW_BYTES, record.stable, entry.racy)
    if (entry.place !== undefined) {
      children.hex(names.hex(entry.name).slice(0, 16)).u64(entry.place.offset).u32(entry.place.bytes).u64(entry.place.ordinal)
      childCount += 1
    }
    if (entry.content === undefined || entry.content.kind === 'inline') continue
    offsets.writeUInt32LE(contents.length, i * 4)
    contents.u8((entry.content.kind === 'list' ? 1 : 0) | (entry.extents === undefined ? 0 : 2))
    if (entry.content.kind === 'list') contents.hex(entry.content.id)
    else {
      contents.varint(entry.content.ids.length)
      for (const id of entry.content.ids) contents.hex(id)
    }
    if (entry.extents === undefined) continue
    contents.varint(entry.extents.length)
    for (const extent of entry.extents) contents.varint(extent.offset).varint(extent.bytes)
  }
  const out = new ByteWriter(rows.length + offsets.length + children.length + contents.length + 80)
  out
    .hex(record.node)
    .hex(record.namesHash)
    .u8(record.whole ? 1 : 0)
    .u32(entries.length)
    .raw(rows)
    .raw(offsets)
  return out.u32(childCount).raw(children.view()).raw(contents.view()).view()
}

/** One hash over the names of a directory, so that a renamed entry is noticed without keeping its name. */
export function hashNames(hasher: Hasher, names: readonly Buffer[]): string {
  const out = new ByteWriter(names.length * 24 + 16)
  for (const name of names) out.bytes(name)
  return hasher.hex(out.view())
}
