// The files of a restore: small ones are collected into batches, large ones cut into parts; what they need is fetched beside the walk and
// written by whoever executes batches. What a batch cannot bring (a damaged copy, a segment that could not be had) is read again copy by copy.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import type { Entry } from '../repository/tree.ts'
import type { BlobLocation } from '../repository/view.ts'
import { BatchWriter, type Outcome, type Piece, type SealedInBatch } from './batch.ts'
import { contentBytes, temporaryName } from './decide.ts'
import type { Executor } from './executor.ts'
import type { MetadataProblem } from './metadata.ts'
import type { TargetDirectory, TargetTree } from './target-tree.ts'
import type { Tasks } from './tasks.ts'
import { readChunkIds } from './tree-reader.ts'
import { createTemporary, finishFile, type Place, removeTemporary, writeContent, writeFile, writeSpecial } from './write-file.ts'

/** A file of more content than this is written in parts by all threads. */
const LARGE_BYTES = 2 * 2 ** 20
/**
 * Content of a batch of small files. Neighbouring batches open the segments between them twice: at 2 MiB 1.8 times the content was opened on 79,000
 * files.
 */
const BATCH_BYTES = 4 * 2 ** 20
const BATCH_FILES = 512
/** What the segments of a batch may come to opened, where each gives only a little. */
const BATCH_PLAIN_BYTES = 2 * BATCH_BYTES
/** Directories whose descriptors a batch keeps open. */
const BATCH_DIRECTORIES = 48
export const BATCHES_IN_FLIGHT = 3

/** An entry on its way to a name. */
export type Item = {
  readonly directory: TargetDirectory
  readonly entry: Entry
  readonly name: Buffer
  /** Replaces what stands there. */
  readonly replace: boolean
  readonly beside: boolean
  readonly ids: readonly string[]
}
type Located = { readonly item: Item; readonly pieces: readonly Piece[] }

class WrongLength extends HoldfastError {
  constructor() {
    super('damaged', 'its chunks do not have the length of the file')
  }
}

class OpenBatch {
  readonly files: Located[] = []
  readonly unlocated: Item[] = []
  readonly places: BlobLocation[] = []
  readonly directories = new Set<TargetDirectory>()
  readonly #ordinals = new Map<string, number>()
  bytes = 0
  plainBytes = 0

  /** The piece that holds a chunk; of several copies one in a segment that is needed anyway. Undefined where the view has none. */
  piece(reader: PackReader, id: string): Piece | undefined {
    const places = reader.locate(id, 'chunk')
    const key = (place: BlobLocation): string => `${place.pack.random}${place.segment.offset}`
    const place = places.find((candidate) => this.#ordinals.has(key(candidate))) ?? places[0]
    if (place === undefined) return undefined
    let segment = this.#ordinals.get(key(place))
    if (segment === undefined) {
      segment = this.places.push(place) - 1
      this.#ordinals.set(key(place), segment)
      this.plainBytes += place.segment.plainBytes
    }
    return { segment, offset: place.offset, bytes: place.bytes, id }
  }
}

export type PipelineOptions = {
  readonly fs: FileSystem
  readonly reader: PackReader
  readonly executor: Executor
  readonly tree: TargetTree
  readonly tasks: Tasks
  readonly signal?: AbortSignal | undefined
  /** The item stands under its name. */
  readonly onSettled: (item: Item, problems: readonly MetadataProblem[]) => void
  /** It does not; throws what ends the restore. */
  readonly onRefused: (item: Item, error: unknown) => void
  readonly onProgress: () => void
}

export class FilePipeline {
  readonly #options: PipelineOptions
  readonly #fs: FileSystem
  readonly #tree: TargetTree
  readonly #tasks: Tasks
  #batch = new OpenBatch()

  constructor(options: PipelineOptions) {
    this.#options = options
    this.#fs = options.fs
    this.#tree = options.tree
    this.#tasks = options.tasks
  }

  /** True where nothing waits to be sent. */
  get empty(): boolean {
    return this.#batch.files.length + this.#batch.unlocated.length === 0
  }

  /**
   * Brings an entry that is no directory on its way. A promise only where there is something to wait for: for most of a hundred thousand small
   * files there is not, and a promise costs more than what is done here.
   */
  write(item: Item): Promise<void> | undefined {
    const { directory, entry } = item
    if (entry.kind !== 'file') {
      const at = this.#tree.hold(directory)
      try {
        this.#options.onSettled(item, writeSpecial(this.#fs, placeOf(item, at), entry))
      } catch (error) {
        this.#options.onRefused(item, error)
      } finally {
        this.#tree.release(directory)
      }
      return undefined
    }
    if (contentBytes(entry) > LARGE_BYTES) return this.#writeLarge(item)
    if (entry.content?.kind === 'list') return this.#writeListed(item)
    const ids = entry.content?.kind === 'chunks' ? entry.content.ids : []
    if (ids.length > contentBytes(entry)) {
      this.#options.onRefused(item, new WrongLength())
      return undefined
    }
    return this.#enqueue(ids.length === 0 ? item : { ...item, ids })
  }

  /** A small file whose chunk ids stand in a list of their own. */
  async #writeListed(item: Item): Promise<void> {
    const { entry } = item
    const ids: string[] = []
    try {
      for await (const page of readChunkIds(this.#options.reader, entry, this.#options.signal)) ids.push(...page)
    } catch (error) {
      return this.#options.onRefused(item, error)
    }
    await this.#enqueue({ ...item, ids })
  }

  #enqueue(item: Item): Promise<void> | undefined {
    this.#tree.hold(item.directory)
    const batch = this.#batch
    const pieces: Piece[] = []
    let missing = false
    for (const id of item.ids) {
      const piece = batch.piece(this.#options.reader, id)
      if (piece === undefined) missing = true
      else pieces.push(piece)
    }
    if (missing || sum(pieces) + inlineBytes(item.entry) !== contentBytes(item.entry)) batch.unlocated.push(item)
    else batch.files.push({ item, pieces })
    batch.bytes += contentBytes(item.entry)
    batch.directories.add(item.directory)
    if (
      batch.bytes >= BATCH_BYTES ||
      batch.plainBytes >= BATCH_PLAIN_BYTES ||
      batch.files.length >= BATCH_FILES ||
      batch.directories.size >= BATCH_DIRECTORIES
    )
      return this.flush()
    return undefined
  }

  /** Sends what was collected. */
  async flush(): Promise<void> {
    const batch = this.#batch
    if (batch.files.length + batch.unlocated.length === 0) return
    this.#batch = new OpenBatch()
    await this.#tasks.begin(() => this.#runBatch(batch))
  }

  /** Sealed segments with their keys. A segment that could not be had is left out, and those that need it are read copy by copy later. */
  async #fetch(places: readonly BlobLocation[]): Promise<{ segments: SealedInBatch[]; ordinals: Map<number, number> }> {
    const { reader, signal } = this.#options
    const sealed = await reader.fetchSealed(places, signal)
    const segments: SealedInBatch[] = []
    const ordinals = new Map<number, number>()
    for (const [i, place] of places.entries()) {
      const bytes = sealed[i]!
      if (bytes instanceof HoldfastError) continue
      const { kind, codec, epoch, segmentId, sealedBytes, plainBytes } = place.segment
      const key = keyOf(reader, place)
      if (key === undefined) continue
      ordinals.set(
        i,
        segments.push({
          kind,
          codec,
          epoch,
          sealedBytes,
          plainBytes,
          key,
          segmentId: Buffer.from(segmentId),
          sealed: bytes,
        }) - 1,
      )
    }
    return { segments, ordinals }
  }

  async #runBatch(batch: OpenBatch): Promise<void> {
    const { segments, ordinals } = await this.#fetch(batch.places)
    const writer = new BatchWriter()
    const sent: Located[] = []
    const alone = [...batch.unlocated]
    for (const located of batch.files) {
      const pieces = located.pieces.map((piece) => ({ ...piece, segment: ordinals.get(piece.segment) ?? -1 }))
      if (pieces.some((piece) => piece.segment < 0)) alone.push(located.item)
      else {
        writer.add({ place: placeOf(located.item, located.item.directory.fd!), entry: located.item.entry, pieces })
        sent.push(located)
      }
    }
    const result = await this.#options.executor.run({ segments, files: writer.finish(), parts: [] }, batch.bytes)
    for (const [i, { item }] of sent.entries()) {
      const outcome = result.files[i]!
      if (outcome.result === 'written') this.#options.onSettled(item, outcome.problems ?? [])
      else if (outcome.result === 'damaged') alone.push(item)
      else this.#options.onRefused(item, errorOf(outcome))
      if (outcome.result !== 'damaged') this.#tree.release(item.directory)
    }
    for (const item of alone) {
      await this.#writeAlone(item)
      this.#tree.release(item.directory)
    }
    this.#options.onProgress()
  }

  /** Writes a small file from the first good copy of each chunk. */
  async #writeAlone(item: Item): Promise<void> {
    const { reader, signal } = this.#options
    const { entry, directory } = item
    try {
      const pieces: Buffer[] = []
      for (const id of item.ids) pieces.push(await reader.readChunk(id, signal))
      if (entry.content?.kind === 'inline') pieces.push(entry.content.bytes)
      if (pieces.reduce((total, piece) => total + piece.length, 0) !== contentBytes(entry)) throw new WrongLength()
      this.#options.onSettled(item, writeFile(this.#fs, placeOf(item, directory.fd!), entry, pieces))
    } catch (error) {
      this.#options.onRefused(item, error)
    }
  }

  /** A large file: parts of it are fetched and written side by side into one temporary file. */
  async #writeLarge(item: Item): Promise<void> {
    const { entry, directory } = item
    const at = this.#tree.hold(directory)
    const place = placeOf(item, at)
    let fd: Descriptor | undefined
    try {
      fd = createTemporary(this.#fs, place, entry)
      try {
        await this.#writeParts(fd, entry)
      } catch (error) {
        if (!(error instanceof WrongLength)) throw error
        await this.#writeAgain(fd, entry)
      }
      const whole = fd
      fd = undefined
      this.#options.onSettled(item, finishFile(this.#fs, whole, place, entry))
    } catch (error) {
      if (fd !== undefined) {
        this.#fs.close(fd)
        removeTemporary(this.#fs, at, temporaryName(item.name))
      }
      this.#options.onRefused(item, error)
    } finally {
      this.#tree.release(directory)
    }
    this.#options.onProgress()
  }

  /** When it resolves or rejects nothing is being written any more. Throws `WrongLength` where the lengths that index files say do not fit. */
  async #writeParts(fd: Descriptor, entry: Entry): Promise<void> {
    const { reader, signal } = this.#options
    const parts: Promise<void>[] = []
    const failures: unknown[] = []
    let position = 0
    let run: { id: string; bytes: number }[] = []
    let runBytes = 0
    const send = async (): Promise<void> => {
      if (run.length === 0) return
      const [chunks, from] = [run, position - runBytes]
      run = []
      runBytes = 0
      await this.#tasks.begin(() => {
        const part = this.#writePart(fd, entry, chunks, from).catch((error: unknown) => void failures.push(error))
        parts.push(part)
        return part
      })
    }
    try {
      for await (const page of readChunkIds(reader, entry, signal))
        for (const id of page) {
          if (failures.length > 0) throw failures[0]
          const bytes = reader.locate(id, 'chunk')[0]?.bytes ?? (await reader.readChunk(id, signal)).length
          run.push({ id, bytes })
          position += bytes
          runBytes += bytes
          if (position > contentBytes(entry)) throw new WrongLength()
          if (runBytes >= LARGE_BYTES / 2) await send()
        }
      await send()
    } finally {
      await Promise.all(parts)
    }
    if (failures.length > 0) throw failures[0]
    if (position !== contentBytes(entry)) throw new WrongLength()
  }

  /** Writes the whole file once more, from the beginning, by the lengths that its chunks have and not by those that an index file says. */
  async #writeAgain(fd: Descriptor, entry: Entry): Promise<void> {
    const { reader, signal } = this.#options
    this.#fs.truncate(fd, 0)
    if (entry.extents !== undefined) this.#fs.truncate(fd, entry.size ?? 0)
    let position = 0
    for await (const page of readChunkIds(reader, entry, signal))
      for (const id of page) {
        const bytes = await reader.readChunk(id, signal)
        if (position + bytes.length > contentBytes(entry)) throw new WrongLength()
        writeContent(this.#fs, fd, bytes, position, entry.extents)
        position += bytes.length
      }
    if (position !== contentBytes(entry)) throw new WrongLength()
  }

  async #writePart(fd: Descriptor, entry: Entry, chunks: readonly { id: string; bytes: number }[], position: number): Promise<void> {
    const { reader, signal, executor } = this.#options
    const batch = new OpenBatch()
    const found = chunks.map(({ id }) => batch.piece(reader, id))
    const { segments, ordinals } = await this.#fetch(batch.places)
    const pieces = found.map((piece) => (piece === undefined ? undefined : { ...piece, segment: ordinals.get(piece.segment) ?? -1 }))
    if (pieces.every((piece) => piece !== undefined && piece.segment >= 0)) {
      const part = { fd, extents: entry.extents, position, pieces: pieces as Piece[] }
      const result = await executor.run({ segments, files: new BatchWriter().finish(), parts: [part] }, sum(part.pieces))
      const outcome = result.parts[0]!
      if (outcome.result === 'written') return
      if (outcome.result !== 'damaged') throw errorOf(outcome)
    }
    for (const { id, bytes: said } of chunks) {
      const bytes = await reader.readChunk(id, signal)
      // Where the next one goes was reckoned from what an index file says.
      if (bytes.length !== said) throw new WrongLength()
      writeContent(this.#fs, fd, bytes, position, entry.extents)
      position += bytes.length
    }
  }
}

/** The key of a place; undefined where the session that an index file names for it is none, so that another place has to serve. */
function keyOf(reader: PackReader, place: BlobLocation): Uint8Array<ArrayBuffer> | undefined {
  try {
    return new Uint8Array(reader.keyOf(place))
  } catch (error) {
    if (isHoldfastError(error, 'damaged', 'wrong-key')) return undefined
    throw error
  }
}

function placeOf(item: Item, at: Descriptor): Place {
  return { at, name: item.name, exclusive: !item.replace, existed: item.directory.existed }
}

function errorOf(outcome: Outcome): unknown {
  if (outcome.result === 'exists') return new FileError('rename', 'EEXIST')
  return new FileError('write', outcome.errno ?? 'EIO')
}

function sum(pieces: readonly Piece[]): number {
  return pieces.reduce((total, piece) => total + piece.bytes, 0)
}

function inlineBytes(entry: Entry): number {
  return entry.content?.kind === 'inline' ? entry.content.bytes.length : 0
}
