// The local record of which packs were read when (rotation.ts). A file of 24 bytes a pack in the state directory of the domain; one that is missing or
// does not parse is an empty one. It decides only what is read, never what is called good.
import { blake3Hash } from '../repository/blake3.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { writeDurably } from '../file-system/small-file.ts'
import type { PackMemory } from './rotation.ts'

export type ReadLog = {
  /** By the random part of the pack's name. */
  readonly of: (random: string) => PackMemory | undefined
  readonly note: (random: string, memory: PackMemory) => void
  /** Drops packs that are in no listing any more. */
  readonly keepOnly: (randoms: ReadonlySet<string>) => void
  /** Packs that were damaged when they were last read. */
  readonly damaged: () => string[]
  /** Makes what was noted durable. False where the local disk refuses: then the next run reads some packs again. */
  readonly save: () => boolean
}

const MAGIC = Buffer.from('HFREADS1')
const ROW_BYTES = 24
const NAME = Buffer.from('reads')
const FLAG = { read: 1, damaged: 2 } as const

/** One that lasts as long as the process. */
export function memoryReadLog(): ReadLog {
  return logOf(new Map(), () => true)
}

/** The record in an open directory of this user's. */
export function openReadLog(fileSystem: FileSystem, directory: Descriptor): ReadLog {
  const rows = parse(readWhole(fileSystem, directory))
  return logOf(rows, () => {
    try {
      writeDurably(fileSystem, directory, NAME, encode(rows))
      return true
    } catch (error) {
      if (error instanceof FileError) return false
      throw error
    }
  })
}

function logOf(rows: Map<string, PackMemory>, save: () => boolean): ReadLog {
  return {
    of: (random) => rows.get(random),
    note: (random, memory) => void rows.set(random, memory),
    keepOnly: (randoms) => {
      for (const random of rows.keys()) if (!randoms.has(random)) rows.delete(random)
    },
    damaged: () => [...rows].filter(([, { damaged }]) => damaged).map(([random]) => random),
    save,
  }
}

function encode(rows: ReadonlyMap<string, PackMemory>): Buffer {
  const out = Buffer.alloc(MAGIC.length + rows.size * ROW_BYTES + 32)
  MAGIC.copy(out)
  let at = MAGIC.length
  for (const [random, { day, read, damaged }] of rows) {
    out.write(random, at, 'hex')
    out.writeUInt32LE(day, at + 16)
    out.writeUInt32LE((read ? FLAG.read : 0) | (damaged ? FLAG.damaged : 0), at + 20)
    at += ROW_BYTES
  }
  blake3Hash(out.subarray(0, at)).copy(out, at)
  return out
}

function parse(bytes: Buffer | undefined): Map<string, PackMemory> {
  const rows = new Map<string, PackMemory>()
  const end = (bytes?.length ?? 0) - 32
  if (bytes === undefined || end < MAGIC.length || (end - MAGIC.length) % ROW_BYTES !== 0) return rows
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || !blake3Hash(bytes.subarray(0, end)).equals(bytes.subarray(end))) return rows
  for (let at = MAGIC.length; at < end; at += ROW_BYTES) {
    const flags = bytes.readUInt32LE(at + 20)
    rows.set(bytes.toString('hex', at, at + 16), {
      day: bytes.readUInt32LE(at + 16),
      read: (flags & FLAG.read) !== 0,
      damaged: (flags & FLAG.damaged) !== 0,
    })
  }
  return rows
}

function readWhole(fileSystem: FileSystem, directory: Descriptor): Buffer | undefined {
  try {
    const fd = fileSystem.open(directory, NAME, 'read')
    try {
      const bytes = Buffer.allocUnsafeSlow(fileSystem.stat(fd, Buffer.alloc(0)).size)
      for (let done = 0; done < bytes.length;) {
        const read = fileSystem.read(fd, bytes, done, bytes.length - done, done)
        if (read === 0) return undefined
        done += read
      }
      return bytes
    } finally {
      fileSystem.close(fd)
    }
  } catch (error) {
    if (error instanceof FileError) return undefined
    throw error
  }
}
