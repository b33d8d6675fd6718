// What a run knows of its series before it adds to it: the snapshot before, and the highest sequence that there ever was, so that none is given twice.
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import { blake3Hash } from '../repository/blake3.ts'
import { type CollectionState, maySpeakOf } from '../repository/collection-state.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { BackupOptions } from './backup-types.ts'
import { writeDurably } from '../file-system/small-file.ts'

const MAGIC = 'holdfast/1 sequence\n'
const HASH_BYTES = 32
const BYTES = MAGIC.length + 8 + HASH_BYTES
/** No series has so many snapshots: what is higher is a mistake or malice, and numbers must stay whole. */
const SEQUENCE_MAX = 2 ** 48

export type Series = {
  /** The newest snapshot that counts. */
  readonly previous: OpenedSnapshot | undefined
  /** Of all its snapshots that are there or were forgotten; 0 where there was none. */
  readonly lastSequence: number
}

/** Looks at the snapshots of the series. Damaged ones are told of, not taken for absent. */
export async function lookAtSeries(options: BackupOptions, series: Buffer, collection: CollectionState): Promise<Series> {
  const { writer } = options.keys
  const { snapshots, forgotten, refused } = await options.repository.listSnapshots(options.signal, collection)
  for (const { error } of refused) options.onNotice?.(error.message)
  const isMine = ({ structure, writerKey }: OpenedSnapshot): boolean =>
    structure.series.equals(series) && writerKey.equals(writer.publicKey)
  const newestFirst = snapshots.filter(isMine).sort((a, b) => b.structure.sequence - a.structure.sequence)
  // A forgotten one may come back, and whoever was told of it knows it by its sequence.
  const recorded = collection.forgets
    .filter(({ record }) => maySpeakOf(record.writerId, writer.id))
    .flatMap(({ record }) => record.entries.filter((entry) => entry.series.equals(series)))
  const sequences = [...newestFirst, ...forgotten.filter(isMine)].map(({ structure }) => structure.sequence)
  const lastSequence = [...sequences, ...recorded.map(({ sequence }) => sequence)]
    .filter((one) => one < SEQUENCE_MAX)
    .reduce((a, b) => Math.max(a, b), 0)
  return { previous: newestFirst[0], lastSequence }
}

function encodeSequence(sequence: number): Buffer {
  const bytes = new ByteWriter().raw(Buffer.from(MAGIC, 'latin1')).u64(sequence).finish()
  return Buffer.concat([bytes, blake3Hash(bytes)])
}

/** The last sequence that this state directory remembers; 0 where it remembers none, or what it has is damaged. */
export function rememberedSequence(fileSystem: FileSystem, state: Descriptor, name: Buffer): number {
  let fd: Descriptor | undefined
  try {
    fd = fileSystem.open(state, name, 'read')
    const bytes = Buffer.alloc(BYTES)
    if (fileSystem.read(fd, bytes, 0, BYTES, 0) !== BYTES) return 0
    const sequence = new ByteReader(bytes.subarray(MAGIC.length), 'the sequence that is remembered').u64()
    return sequence < SEQUENCE_MAX && encodeSequence(sequence).equals(bytes) ? sequence : 0
  } catch (error) {
    if (error instanceof FileError || isHoldfastError(error, 'damaged')) return 0
    throw error
  } finally {
    if (fd !== undefined) fileSystem.close(fd)
  }
}

/** Keeps the sequence of a snapshot that stands, in case the store should not show it to the next run. Throws what the local disk says. */
export function rememberSequence(fileSystem: FileSystem, state: Descriptor, name: Buffer, sequence: number): void {
  writeDurably(fileSystem, state, name, encodeSequence(sequence))
}
