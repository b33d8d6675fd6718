// What an interrupted run left in the spool (design section 5): whole packs go up as they are, footers of packs that are durable but in no index
// file are taken over, parts of packs are dropped. Nothing durable is uploaded twice.
import { createHash } from 'node:crypto'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import type { StructureKeys, WriteKeys } from '../keys/keys.ts'
import { blake3 } from '../repository/blake3.ts'
import { LIMITS, type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { decodeFooter, decodeTrailer, packBytes, type PackFooter, TRAILER_BYTES } from '../repository/pack.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { SEGMENTS_PER_WORKER } from './file-worker.ts'
import { type ClosedPack, countBlobs, wholeName } from './pack-spool.ts'
import { footerName } from './uploader.ts'

export type LeftoverPack = Pick<ClosedPack, 'ref' | 'bytes' | 'blobs' | 'footerObject' | 'segments'> & { readonly footer: PackFooter }

export type Leftovers = {
  /** Whole in the spool, perhaps uploaded, perhaps not. */
  readonly packs: readonly ClosedPack[]
  /** Durable in the store, in no index file yet as far as the spool knows. */
  readonly durable: readonly LeftoverPack[]
}

const NAME = /^([0-9a-f]{32})-([0-9a-f]{32})\.(part|pack|footer|footer\.tmp)$/
const EMPTY = Buffer.alloc(0)
/** The worker number under which segments of an interrupted run are numbered. */
const RESUMED = 29

/** Reads the spool and drops what is worth nothing. A pack that is not exactly what its trailer says is dropped as well: it was never durable. */
export async function readLeftovers(options: {
  fileSystem: FileSystem
  directory: Descriptor
  store: Store
  keys: WriteKeys
  onNotice: (text: string) => void
  /** Drops nothing from the spool: a dry run looks and changes nothing. */
  keep: boolean
  /** Packs that did not come back from the store as they were, or that are condemned: none of them counts. */
  unusable: ReadonlySet<string>
  signal: AbortSignal
}): Promise<Leftovers> {
  const { fileSystem, directory, store, keys } = options
  const packs: ClosedPack[] = []
  const drop = (name: Buffer): void => {
    if (!options.keep) fileSystem.remove(directory, name, 'file')
  }
  let nextNumber = RESUMED * SEGMENTS_PER_WORKER
  const durable: LeftoverPack[] = []
  for (const name of fileSystem.readDirectory(directory)) {
    const match = NAME.exec(name.toString('latin1'))
    if (match === null) continue
    const ref = { session: match[1]!, random: match[2]! }
    const kind = match[3]!
    try {
      if (options.unusable.has(ref.random)) drop(name)
      else if (kind === 'pack') {
        const pack = readPack(fileSystem, directory, ref, keys.structure)
        packs.push({ ...pack.closed, segments: pack.footer.segments.map(() => nextNumber++) })
      } else if (kind === 'footer') {
        const footerObject = readWhole(fileSystem, directory, footerName(ref), LIMITS.packBytes)
        const { footer } = decodeFooter(footerObject, ref, undefined, keys.structure)
        const info = await store.head(packName(ref), { signal: options.signal })
        // The footer says durable, the store says gone: somebody deleted it, so its blobs are stored again from the source.
        if (info === undefined) throw new HoldfastError('damaged', `the store lost pack ${ref.random}`)
        // An index file takes the store's word for the length of a pack: of one that is cut by now it would say that it is whole.
        if (info.bytes !== packBytes(footer, footerObject.length))
          throw new HoldfastError('damaged', `the store has ${info.bytes} bytes of pack ${ref.random}, which is not all of it`)
        const segments = footer.segments.map(() => nextNumber++)
        durable.push({ ref, bytes: info.bytes, footer, footerObject, blobs: countBlobs(footer), segments })
      } else drop(name)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'wrong-key', 'newer-format')) throw error
      options.onNotice(`dropped ${name.toString('latin1')} of an interrupted run: ${error.message}`)
      drop(name)
    }
  }
  return { packs, durable }
}

/**
 * Tells which tree nodes have both their parts in these packs. The other part of a node may have stood in a pack that was never finished: taken for
 * known, such a node would be missing from the snapshot that relies on it.
 */
export function wholeNodes(footers: readonly PackFooter[]): (id: string) => boolean {
  const references = new Set<string>()
  for (const { segments } of footers)
    for (const segment of segments) if (segment.kind === SEGMENT_KIND.references) for (const { id } of segment.blobs) references.add(id)
  return (id) => references.has(id)
}

function readWhole(fileSystem: FileSystem, directory: Descriptor, name: Buffer, limit: number): Buffer {
  let fd: Descriptor | undefined
  try {
    fd = fileSystem.open(directory, name, 'read')
    const { size } = fileSystem.stat(fd, EMPTY)
    if (size > limit) throw new HoldfastError('damaged', `${name.toString('latin1')} is longer than a pack can be`)
    const bytes = Buffer.allocUnsafeSlow(size)
    for (let done = 0; done < size;) {
      const read = fileSystem.read(fd, bytes, done, size - done, done)
      if (read === 0) throw new HoldfastError('damaged', `${name.toString('latin1')} is cut off`)
      done += read
    }
    return bytes
  } catch (error) {
    // What cannot be read of a spool is worth as little as what is damaged: its blobs are stored again, and the run goes on.
    if (error instanceof FileError)
      throw new HoldfastError('damaged', `${name.toString('latin1')} cannot be read (${error.message})`, { cause: error })
    throw error
  } finally {
    if (fd !== undefined) fileSystem.close(fd)
  }
}

function readPack(
  fileSystem: FileSystem,
  directory: Descriptor,
  ref: ObjectRef,
  keys: StructureKeys,
): { closed: ClosedPack; footer: PackFooter } {
  const name = wholeName(ref)
  const bytes = readWhole(fileSystem, directory, name, LIMITS.packBytes)
  const trailer = decodeTrailer(bytes.subarray(Math.max(0, bytes.length - TRAILER_BYTES)), ref, bytes.length, keys)
  const hash = blake3.running()
  hash.update(bytes.subarray(0, bytes.length - TRAILER_BYTES))
  if (!hash.digest().equals(trailer.hash)) throw new HoldfastError('damaged', `${name.toString('latin1')} was not written to its end`)
  const footerObject = Buffer.from(bytes.subarray(trailer.footerOffset, trailer.footerOffset + trailer.footerBytes))
  const { footer } = decodeFooter(footerObject, ref, trailer.footerOffset, keys)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const closed = { ref, name, bytes: bytes.length, sha256, footerObject, blobs: countBlobs(footer), chunks: 0, segments: [], resumed: true }
  return { closed, footer }
}
