// Open packs of a run. Segments go to a random one of those open, as ciphertext, straight to files: object sizes then tell little about
// chunk sizes, and memory holds none of it. Closing adds footer, padding and trailer; only then has the file the name of a whole pack.
import { createHash, type Hash } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { Descriptor, FileSystem } from '../file-system/file-system.ts'
import type { SessionEntry, StructureKeys, Writer } from '../keys/keys.ts'
import { blake3, type RunningHash } from '../repository/blake3.ts'
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import { encodeFooter, encodeTrailer, type FooterSegment, type PackFooter, paddingBytes, TRAILER_BYTES } from '../repository/pack.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import { blobsOf, type FinishedSegment } from './finished-segment.ts'

/** A pack that is complete in the spool. */
export type ClosedPack = {
  readonly ref: ObjectRef
  readonly name: Buffer
  readonly bytes: number
  readonly sha256: string
  /** How many blobs are in it, and how many of them are chunks. */
  readonly blobs: number
  readonly chunks: number
  /** Header and box of the footer, as in the pack. */
  readonly footerObject: Buffer
  /** Numbers of the segments in it. */
  readonly segments: readonly number[]
  /** Left by an interrupted run, which may have uploaded it. */
  readonly resumed: boolean
}

export type PackClass = 'data' | 'tree'

type OpenPack = {
  readonly ref: ObjectRef
  readonly part: Buffer
  readonly fd: Descriptor
  readonly hash: RunningHash
  readonly sha256: Hash
  readonly segments: FooterSegment[]
  readonly numbers: number[]
  bytes: number
}

const OPEN: Record<PackClass, number> = { data: 2, tree: 1 }

export type PackSpool = {
  readonly add: (packClass: PackClass, segment: FinishedSegment) => void
  /** Closes all; what is small goes together. */
  readonly finish: () => void
  /** Bytes in packs that are still open. */
  readonly openBytes: () => number
  /** Gives up what is open, also what was being closed when the disk failed; the files go. Each step is done through `attempt`. */
  readonly abandon: (attempt: (step: () => void) => void) => void
}

export function countBlobs({ segments }: Pick<PackFooter, 'segments'>): number {
  return segments.reduce((sum, segment) => sum + segment.blobs.length, 0)
}

export function partName(ref: ObjectRef): Buffer {
  return Buffer.from(`${ref.session}-${ref.random}.part`)
}

export function wholeName(ref: ObjectRef): Buffer {
  return Buffer.from(`${ref.session}-${ref.random}.pack`)
}

export function createPackSpool(options: {
  directory: Descriptor
  fileSystem: FileSystem
  random: Random
  keys: StructureKeys
  writer: Writer
  session: SessionEntry
  packBytes: number
  onClosed: (pack: ClosedPack) => void
}): PackSpool {
  const { directory, fileSystem, random, keys, writer, session } = options
  const sessionHex = session.sessionId.toString('hex')
  const open: Record<PackClass, OpenPack[]> = { data: [], tree: [] }
  /** All that have a descriptor. */
  const live = new Set<OpenPack>()

  const openPack = (): OpenPack => {
    const ref = { session: sessionHex, random: random.bytes(16).toString('hex') }
    const part = partName(ref)
    const fd = fileSystem.open(directory, part, 'create')
    const pack = { ref, part, fd, hash: blake3.running(), sha256: createHash('sha256'), segments: [], numbers: [], bytes: 0 }
    live.add(pack)
    return pack
  }

  const append = (pack: OpenPack, bytes: Uint8Array): void => {
    fileSystem.write(pack.fd, bytes, pack.bytes)
    pack.hash.update(bytes)
    pack.sha256.update(bytes)
    pack.bytes += bytes.length
  }

  const addTo = (pack: OpenPack, segment: Omit<FooterSegment, 'offset'>, parts: readonly Uint8Array[], number: number): void => {
    pack.segments.push({ ...segment, offset: pack.bytes })
    pack.numbers.push(number)
    for (const part of parts) append(pack, part)
  }

  const close = (pack: OpenPack): void => {
    const footer: PackFooter = { ref: pack.ref, writerId: writer.id, sessions: [session], segments: pack.segments }
    const footerObject = encodeFooter(footer, keys, writer)
    const offset = pack.bytes
    append(pack, footerObject)
    append(pack, random.bytes(paddingBytes(pack.bytes)))
    const trailer = encodeTrailer(keys, pack.hash.digest(), { offset, bytes: footerObject.length })
    fileSystem.write(pack.fd, trailer, pack.bytes)
    pack.sha256.update(trailer)
    live.delete(pack)
    fileSystem.close(pack.fd)
    const name = wholeName(pack.ref)
    fileSystem.rename(directory, pack.part, directory, name, true)
    options.onClosed({
      ref: pack.ref,
      name,
      bytes: pack.bytes + TRAILER_BYTES,
      sha256: pack.sha256.digest('hex'),
      blobs: countBlobs(footer),
      chunks: countBlobs({ segments: footer.segments.filter((segment) => segment.kind === SEGMENT_KIND.chunk) }),
      footerObject,
      segments: pack.numbers,
      resumed: false,
    })
  }

  /** Moves the segments of a small pack into another one, sealed as they are. */
  const merge = (from: OpenPack, into: OpenPack): void => {
    const fd = fileSystem.open(directory, from.part, 'read')
    try {
      for (const [i, segment] of from.segments.entries()) {
        const bytes = Buffer.allocUnsafeSlow(segment.sealedBytes)
        for (let done = 0; done < bytes.length;) {
          const read = fileSystem.read(fd, bytes, done, bytes.length - done, segment.offset + done)
          if (read === 0)
            throw new HoldfastError(
              'local-disk',
              'an open pack in the spool is shorter than what was written to it: check the disk of the state directory',
            )
          done += read
        }
        // It was opened and compared before it went to the disk; of what came back the other pack's hash would say that it is what was sealed.
        if (blake3.plain().hex(bytes) !== segment.sealedHash.toString('hex'))
          throw new HoldfastError(
            'local-disk',
            'an open pack in the spool is not what was written to it: check the disk of the state directory. No snapshot was made',
          )
        addTo(into, segment, [bytes], from.numbers[i]!)
      }
    } finally {
      fileSystem.close(fd)
    }
    discard(from)
  }

  const discard = (pack: OpenPack): void => {
    live.delete(pack)
    fileSystem.close(pack.fd)
    fileSystem.remove(directory, pack.part, 'file')
  }

  return {
    add: (packClass, segment) => {
      const packs = open[packClass]
      if (packs.length < OPEN[packClass]) packs.push(openPack())
      const at = randomBelow(random, packs.length)
      const pack = packs[at]!
      const { kind, codec, epoch, plainBytes } = segment
      const segmentId = Buffer.from(segment.segmentId)
      const sealedHash = Buffer.from(segment.sealedHash)
      const blobs = blobsOf(segment)
      addTo(
        pack,
        { kind, codec, epoch, plainBytes, segmentId, sealedHash, blobs, session: 0, sealedBytes: segment.body.length + segment.tag.length },
        [segment.body, segment.tag],
        segment.number,
      )
      if (pack.bytes >= options.packBytes) {
        packs.splice(at, 1)
        close(pack)
      }
    },
    finish: () => {
      const rest = [...open.data.splice(0), ...open.tree.splice(0)].sort((a, b) => b.bytes - a.bytes)
      const [largest, ...others] = rest
      if (largest === undefined) return
      // Every object costs a request, so tails share a pack where that stays within the usual size.
      for (const pack of others) {
        if (largest.bytes + pack.bytes <= options.packBytes) merge(pack, largest)
        else close(pack)
      }
      close(largest)
    },
    openBytes: () => [...open.data, ...open.tree].reduce((sum, pack) => sum + pack.bytes, 0),
    abandon: (attempt) => {
      for (const pack of [...live]) attempt(() => discard(pack))
    },
  }
}
