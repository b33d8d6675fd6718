// One file's content out of a snapshot, in order, to whoever takes it: every chunk is checked before a byte of it is handed on.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { Entry } from '../repository/tree.ts'
import type { View } from '../repository/view.ts'
import { contentBytes } from './decide.ts'
import { readPast } from './read-past.ts'
import { createSelector } from './selection.ts'
import { readChunkIds, walkTree } from './tree-reader.ts'

export type DumpOptions = {
  readonly repository: Repository
  readonly view: View
  readonly keys: ReadKeys
  readonly snapshot: OpenedSnapshot
  /** Absolute path of a file in the snapshot. */
  readonly path: Buffer
  /** Takes the content piece by piece; a returned promise is waited for. A piece is valid until then. */
  readonly write: (bytes: Uint8Array) => void | Promise<void>
  readonly signal?: AbortSignal | undefined
}

const ZEROS = Buffer.alloc(64 * 1024)

/**
 * Writes the content of one file, holes as zeros; gives the number of bytes. Rejects with `not-found`, with `usage` where the path is no file,
 * `damaged` or `unread` (what was written until then is right), `grant-required`, or what the store says.
 */
export async function dumpFile(options: DumpOptions): Promise<number> {
  const { repository, view, keys, path, write, signal } = options
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const entry = await findEntry(options, reader)
  if (entry.kind !== 'file')
    throw new HoldfastError('usage', `'${printable(path.toString())}' is a ${entry.kind}, not a file: use 'holdfast restore'`)

  const size = entry.size ?? 0
  const extents = entry.extents ?? [{ offset: 0, bytes: size }]
  let written = 0
  const zerosTo = async (end: number): Promise<void> => {
    while (written < end) {
      const length = Math.min(ZEROS.length, end - written)
      await write(ZEROS.subarray(0, length))
      written += length
    }
  }
  let extent = 0
  let usedOfExtent = 0
  const content = async (bytes: Buffer): Promise<void> => {
    for (let at = 0; at < bytes.length;) {
      const into = extents[extent]
      if (into === undefined)
        throw new HoldfastError('damaged', `'${printable(path.toString())}' is damaged: it has more content than it should`)
      if (usedOfExtent === 0) await zerosTo(into.offset)
      const length = Math.min(bytes.length - at, into.bytes - usedOfExtent)
      await write(bytes.subarray(at, at + length))
      written += length
      at += length
      usedOfExtent += length
      if (usedOfExtent < into.bytes) continue
      extent += 1
      usedOfExtent = 0
    }
  }
  let total = 0
  if (entry.content?.kind === 'inline') {
    total = entry.content.bytes.length
    await content(entry.content.bytes)
  }
  for await (const ids of readChunkIds(reader, entry, signal))
    for (const id of ids) {
      if (signal?.aborted === true) throw new HoldfastError('cancelled', 'the dump was cancelled')
      const bytes = await reader.readChunk(id, signal)
      total += bytes.length
      await content(bytes)
    }
  if (total !== contentBytes(entry))
    throw new HoldfastError('damaged', `'${printable(path.toString())}' is damaged: it has less content than it should`)
  await zerosTo(size)
  return written
}

async function findEntry(options: DumpOptions, reader: ReturnType<typeof createPackReader>): Promise<Entry> {
  const { repository, snapshot, path, signal } = options
  const selector = createSelector({ kind: 'paths', paths: [path] }, repository.keys.recordKey)
  for await (const step of walkTree({
    reader,
    root: snapshot.structure.root,
    bounds: snapshot.structure,
    choose: selector.choose,
    signal,
  })) {
    if (step.step === 'failed') throw step.error
    if (step.step === 'entries') return step.entries[0]!
    if (step.step === 'enter' && step.directory.selected && step.directory.entry !== undefined) return step.directory.entry
  }
  throw new HoldfastError('not-found', `the snapshot has no '${printable(path.toString())}': 'holdfast ls' shows what it has`)
}
