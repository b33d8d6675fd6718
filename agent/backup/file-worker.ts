// The CPU work on file content: read, cut, hash, look up, share segments, compress, seal, open again and compare. Synchronous and on its
// own memory; runs in a worker thread (worker-thread.ts) or in place. It never touches the store.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { createChunker } from 'chunking-stream'
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { blake3 } from '../repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import type { Chunking } from '../repository/repository.ts'
import { createSealer, requireOpens, SEGMENT_KIND, type SegmentSealer } from '../repository/segment.ts'
import type { Attribute, Extent } from '../repository/tree.ts'
import { createCompressor } from '../repository/zstd.ts'
import { decodeTasks, type FileResult, type FileTask, writeResult } from './batches.ts'
import { DURABLE, FIRST_SEGMENT, type KnownIds, UNKNOWN } from './known-ids.ts'
import { dataExtents, firstBytes } from './data-extents.ts'
import { readAttributesWithin } from './entry-attributes.ts'
import { type FinishedSegment, finishSegment } from './finished-segment.ts'

const OPEN_OWNERS = 4
/** Segment numbers of one worker; the worker's number stands above. */
export const SEGMENTS_PER_WORKER = 2 ** 26

export type FileWorkerSetup = {
  readonly domainId: Buffer
  readonly idKey: Buffer
  readonly chunkerKey: Buffer
  readonly chunking: Chunking
  readonly sessionKey: Buffer
  readonly contentEpoch: number
  readonly compressionLevel: number
  /** Small files share segments of about this size; chunks of this size and more have their own. */
  readonly segmentBytes: number
  /** 0 to 29; makes segment numbers unique in the run. */
  readonly worker: number
  readonly dryRun: boolean
}

export type FileWorker = {
  /** Handles a batch and gives its results. Segments go to `onSegment` as they fill up. */
  readonly process: (batch: Uint8Array) => Uint8Array
  /** Seals what is still open. */
  readonly flush: () => void
}

type OpenSegment = { readonly number: number; readonly buffer: Buffer; length: number; readonly ids: string[]; readonly lengths: number[] }
type Content = { inline: Buffer | undefined; extents: Extent[] | undefined; bytes: number }
type Found = { ids: string[]; lengths: number[]; segments: Set<number>; newBytes: number }

const EMPTY = Buffer.alloc(0)

export function createFileWorker(
  setup: FileWorkerSetup,
  seams: {
    fileSystem: FileSystem
    known: KnownIds
    onSegment: (segment: FinishedSegment) => void
    /** True once nobody wants the rest: looked at before each file and each filling of the buffer. */
    stopped?: () => boolean
    /** Lets a while pass in which a write that is under way ends. */
    rest?: () => void
  },
): FileWorker {
  const { fileSystem, known } = seams
  const { chunking, segmentBytes } = setup
  const segmentRoom = segmentBytes + Math.floor(segmentBytes / 4)
  const chunker =
    chunking.mode === 'gear'
      ? createChunker({ key: setup.chunkerKey, min: chunking.min, mean: chunking.mean, max: chunking.max })
      : createChunker({ mode: 'fixed', size: chunking.max })
  const buffer = Buffer.from(chunker.buffer.buffer, chunker.buffer.byteOffset, chunker.buffer.length)
  const hasher = blake3.keyed(setup.idKey)
  const seal: SegmentSealer = createSealer({
    domainId: setup.domainId,
    baseKey: setup.sessionKey,
    epoch: setup.contentEpoch,
    compressor: createCompressor(setup.compressionLevel),
  })
  const idBytes = Buffer.alloc(32)
  const opened = Buffer.allocUnsafeSlow(Math.max(segmentRoom, chunker.max))
  const owners = new Map<number, OpenSegment>()
  const spare: Buffer[] = []
  let nextNumber = setup.worker * SEGMENTS_PER_WORKER

  const sealSegment = (number: number, plain: Buffer, ids: readonly string[], lengths: readonly number[]): void => {
    const sealed = seal(plain, SEGMENT_KIND.chunk, true)
    requireOpens(setup.domainId, sealed, plain, opened)
    seams.onSegment(finishSegment(number, sealed, ids, lengths))
  }

  const sealOpen = (uid: number): void => {
    const segment = owners.get(uid)
    owners.delete(uid)
    if (segment === undefined) return
    spare.push(segment.buffer)
    if (segment.length > 0) sealSegment(segment.number, segment.buffer.subarray(0, segment.length), segment.ids, segment.lengths)
  }

  const segmentFor = (uid: number, bytes: number): OpenSegment => {
    const open = owners.get(uid)
    if (open !== undefined && open.length + bytes <= segmentRoom && open.ids.length < LIMITS.blobsPerSegment) return open
    sealOpen(uid)
    // A segment never mixes owners; the one that waited longest makes room.
    if (owners.size >= OPEN_OWNERS) sealOpen(owners.keys().next().value!)
    const segment = { number: nextNumber++, buffer: spare.pop() ?? Buffer.allocUnsafeSlow(segmentRoom), length: 0, ids: [], lengths: [] }
    owners.set(uid, segment)
    return segment
  }

  const keepChunk = (chunk: Buffer, uid: number, found: Found): void => {
    const id = hasher.hex(chunk)
    idBytes.write(id, 'hex')
    found.ids.push(id)
    found.lengths.push(chunk.length)
    const held = known.lookup(idBytes)
    if (held !== UNKNOWN) {
      if (held > DURABLE) found.segments.add(held - FIRST_SEGMENT)
      return
    }
    if (setup.dryRun) {
      if (known.claim(idBytes, DURABLE) === UNKNOWN) found.newBytes += chunk.length
      return
    }
    const alone = chunk.length >= segmentBytes
    const number = alone ? nextNumber++ : segmentFor(uid, chunk.length).number
    const other = known.claim(idBytes, number + FIRST_SEGMENT)
    if (other !== UNKNOWN) {
      if (other > DURABLE) found.segments.add(other - FIRST_SEGMENT)
      return
    }
    found.newBytes += chunk.length
    found.segments.add(number)
    if (alone) return sealSegment(number, chunk, [id], [chunk.length])
    const segment = owners.get(uid)!
    chunk.copy(segment.buffer, segment.length)
    segment.length += chunk.length
    segment.ids.push(id)
    segment.lengths.push(chunk.length)
    if (segment.length >= segmentBytes) sealOpen(uid)
  }

  const requireWanted = (): void => {
    if (seams.stopped?.() === true) throw new HoldfastError('cancelled', 'the run has ended')
  }

  /** Reads at most `size` bytes of a file, holes left out, into chunks. */
  const readContent = (fd: Descriptor, stat: FileStat | undefined, uid: number, found: Found): Content => {
    const size = stat?.size ?? Infinity
    if (size <= LIMITS.inlineBytes && (stat?.blocks !== 0 || size === 0)) {
      const bytes = readFully(fileSystem, fd, buffer, 0, size, 0)
      return { inline: Buffer.from(buffer.subarray(0, bytes)), extents: undefined, bytes }
    }
    const extents = stat !== undefined && stat.blocks * 512 < stat.size ? dataExtents(fileSystem, fd, stat.size) : undefined
    const source = openSource(fileSystem, fd, extents ?? [{ offset: 0, bytes: size }], stat === undefined)
    let start = 0
    let end = 0
    let searched = 0
    let total = 0
    let final = false
    for (;;) {
      requireWanted()
      while (!final && end < buffer.length) {
        const read = source.read(buffer, end, buffer.length - end)
        if (read === 0) final = true
        end += read
        total += read
        if (source.done()) final = true
      }
      for (let cut = chunker.nextCut(start, end, final, searched); cut !== -1; cut = chunker.nextCut(start, end, final)) {
        keepChunk(buffer.subarray(start, cut), uid, found)
        start = cut
        searched = 0
      }
      if (final) return { inline: undefined, extents: extents === undefined ? undefined : firstBytes(extents, total), bytes: total }
      searched = end - start
      buffer.copyWithin(0, start, end)
      end -= start
      start = 0
    }
  }

  /** Undefined where they cannot be had: the content counts all the same, and the main thread names what is missing. */
  const attributesOf = (fd: Descriptor, stat: FileStat): readonly Attribute[] | undefined => {
    try {
      return readAttributesWithin(fileSystem, fd, EMPTY, stat)
    } catch (error) {
      if (error instanceof FileError) return undefined
      throw error
    }
  }

  const readFile = (task: FileTask): FileResult => {
    const stream = task.stat === undefined
    const fd = stream ? task.directory : fileSystem.open(task.directory, task.name, 'read')
    try {
      let before = task.stat
      let isRestless = false
      for (let attempt = 0; ; attempt++) {
        const found: Found = { ids: [], lengths: [], segments: new Set(), newBytes: 0 }
        const uid = before?.uid ?? 0
        const content = readContent(fd, before, uid, found)
        const after = stream ? undefined : fileSystem.stat(fd, EMPTY)
        if (after !== undefined && after.kind !== 'file') return { outcome: 'failed', code: 'replaced' }
        const steady = before === undefined || after === undefined || isSame(before, after)
        if (!steady && attempt === 0) {
          // The kernel sets a file's times when a write begins: one that is under way now would show in no stat taken during or after the next reading.
          seams.rest?.()
          before = fileSystem.stat(fd, EMPTY)
          isRestless = !isSame(after!, before)
          continue
        }
        const attributes = after === undefined ? [] : attributesOf(fd, after)
        const logical = content.extents === undefined ? content.bytes : before!.size
        const stat = steady && attempt === 0 ? undefined : { ...after!, size: logical }
        return {
          outcome: 'read',
          inline: content.inline,
          ids: found.ids,
          lengths: found.lengths,
          extents: content.extents,
          attributes,
          stat,
          changed: !steady || isRestless,
          bytesRead: content.bytes,
          newBytes: found.newBytes,
          segments: [...found.segments],
        }
      }
    } finally {
      if (!stream) fileSystem.close(fd)
    }
  }

  const results = new ByteWriter(64 * 1024)
  return {
    process: (batch) => {
      results.reset()
      for (const task of decodeTasks(batch)) {
        requireWanted()
        let result: FileResult
        try {
          result = readFile(task)
        } catch (error) {
          // Only errors of reading this file are its own; anything else ends the run.
          if (!(error instanceof FileError)) throw error
          result = { outcome: 'failed', code: codeOf(error) }
        }
        writeResult(results, result)
      }
      return results.finish()
    },
    flush: () => {
      for (const uid of [...owners.keys()]) sealOpen(uid)
    },
  }
}

function codeOf(error: FileError): string {
  if (error.errno === 'ENOENT') return 'vanished'
  // A link, a socket, a FIFO or a directory stands where the walk saw a file.
  if (['ELOOP', 'ENXIO', 'ESPIPE', 'EISDIR'].includes(error.errno)) return 'replaced'
  return error.errno
}

/** The same file with the same content, as far as the kernel tells. */
export function isSame(a: FileStat, b: FileStat): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.inode === b.inode && a.kind === b.kind
}

function readFully(fileSystem: FileSystem, fd: Descriptor, into: Buffer, at: number, length: number, position: number): number {
  let done = 0
  while (done < length) {
    const read = fileSystem.read(fd, into, at + done, length - done, position + done)
    if (read === 0) break
    done += read
  }
  return done
}

function openSource(fileSystem: FileSystem, fd: Descriptor, extents: readonly Extent[], stream: boolean) {
  let index = 0
  let within = 0
  return {
    read: (into: Buffer, at: number, room: number): number => {
      const extent = extents[index]
      if (extent === undefined) return 0
      const read = stream
        ? fileSystem.read(fd, into, at, room, null)
        : fileSystem.read(fd, into, at, Math.min(room, extent.bytes - within), extent.offset + within)
      within += read
      if (within === extent.bytes) {
        index += 1
        within = 0
      }
      return read
    },
    done: () => index >= extents.length,
  }
}
