// Reads back a sample of what a run stored, while the run still holds its session key (design section 4): a store may say "durable" and keep something
// else. Segments of the run's packs, the end of its newest pack, and its index files and snapshot as they stand in the store. A pack that does not come
// back as it was stored is named, marked in the spool so that no later run relies on it, and no snapshot is reported good.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { Descriptor, FileSystem } from '../file-system/file-system.ts'
import { segmentKeyOf } from '../keys/domain.ts'
import { blake3 } from '../repository/blake3.ts'
import { decodeFooter, decodeTrailer, type FooterSegment, type PackFooter, type PackTrailer, TRAILER_BYTES } from '../repository/pack.ts'
import { release } from '../repository/release.ts'
import { openSegment, SEGMENT_KIND } from '../repository/segment.ts'
import { decodeReferences, nodeHasher } from '../repository/tree.ts'
import type { BackupOptions } from './backup-types.ts'
import type { Session } from './session.ts'
import { isAbsent, writeDurably } from '../file-system/small-file.ts'
import { footerName } from './uploader.ts'

const PACKS_MAX = 8
const SEGMENTS_MAX = 8
const SEGMENTS_PER_PACK = 2
const BYTES_MAX = 8 * 2 ** 20
/** Packs up to this are read whole, in one request: that is what small runs make. */
const SMALL_BYTES = 2 ** 20
const OBJECT_PIECE_BYTES = 2 ** 20

export type StoredPack = { readonly ref: ObjectRef; readonly bytes: number; readonly footerObject: Buffer }

export type ReadBack = {
  readonly segments: number
  /** Bytes that came from the store. */
  readonly bytes: number
}

type ReadBackOptions = {
  readonly backup: Pick<BackupOptions, 'repository' | 'keys' | 'random' | 'fileSystem' | 'signal'>
  readonly session: Session
  /** Durable packs in the order they became so; the last is the newest. */
  readonly packs: readonly StoredPack[]
  /** The spool. */
  readonly directory: Descriptor
  /** Whether a collection took what the run relies on while it slept: then a pack that is gone is no damage of the store. */
  readonly isOvertaken: () => Promise<boolean>
  /** Does what may fail on the local disk without hiding the damage. */
  readonly attempt: (step: () => void) => void
}

/**
 * Reads back at most eight packs, the newest among them: small ones whole, of others the end of the newest and at most two segments each, eight in all
 * and about 8 MiB. Compares what comes with what was sealed: by the hashes of the sealed bytes; what this run sealed is also opened and its blobs held
 * against their ids. Throws `damaged` naming the pack, or what the store says; undefined where a collection overtook the run.
 */
export async function readBackPacks(options: ReadBackOptions): Promise<ReadBack | undefined> {
  const { packs } = options
  const { random, keys } = options.backup
  const done = { segments: 0, bytes: 0 }
  const newest = packs.at(-1)
  if (newest === undefined) return done
  for (const pack of [newest, ...drawn(packs.slice(0, -1), PACKS_MAX - 1, random)]) {
    if (pack !== newest && done.bytes >= BYTES_MAX) break
    const { footer } = decodeFooter(pack.footerObject, pack.ref, undefined, keys.structure)
    try {
      if (pack.bytes <= SMALL_BYTES) await readSmall(options, pack, footer, done)
      else {
        if (pack === newest) await readEnd(options, pack, footer, done)
        await readSegments(options, footer, done)
      }
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not-found', 'newer-format', 'wrong-key')) throw error
      if (isHoldfastError(error, 'not-found') && (await options.isOvertaken())) return undefined
      options.attempt(() => markSpoilt(options, pack.ref))
      throw new HoldfastError(
        'damaged',
        `the store did not give back pack ${pack.ref.random} as it was stored a moment ago (${error.message}); no snapshot was made. The next run stores its content anew; check the store's disks, and 'holdfast check --read-data' for what else it may have spoilt`,
        { cause: error },
      )
    }
  }
  return done
}

type Done = { segments: number; bytes: number }

async function fetchRange(
  { backup }: ReadBackOptions,
  ref: ObjectRef,
  range: { offset: number; length: number },
  done: Done,
): Promise<Buffer> {
  const bytes = await backup.repository.store.getRange(packName(ref), range, { signal: backup.signal })
  done.bytes += bytes.length
  return bytes
}

async function readSmall(options: ReadBackOptions, pack: StoredPack, footer: PackFooter, done: Done): Promise<void> {
  const whole = await fetchRange(options, pack.ref, { offset: 0, length: pack.bytes }, done)
  const trailer = requireEnd(options, pack, footer, whole.subarray(endOfSegments(footer)))
  if (blake3.plain().hex(whole.subarray(0, whole.length - TRAILER_BYTES)) !== trailer.hash.toString('hex'))
    throw new HoldfastError('damaged', 'its bytes are not those that its trailer names')
  for (const segment of footer.segments) {
    requireSegment(options, footer, segment, whole.subarray(segment.offset, segment.offset + segment.sealedBytes))
    done.segments += 1
  }
  release(whole)
}

async function readEnd(options: ReadBackOptions, pack: StoredPack, footer: PackFooter, done: Done): Promise<void> {
  const offset = endOfSegments(footer)
  const end = await fetchRange(options, pack.ref, { offset, length: pack.bytes - offset }, done)
  requireEnd(options, pack, footer, end)
  release(end)
}

async function readSegments(options: ReadBackOptions, footer: PackFooter, done: Done): Promise<void> {
  for (const segment of drawn(footer.segments, SEGMENTS_PER_PACK, options.backup.random)) {
    const isOver = done.segments >= SEGMENTS_MAX || done.bytes + segment.sealedBytes > BYTES_MAX
    if (isOver && done.segments > 0) return
    const sealed = await fetchRange(options, footer.ref, { offset: segment.offset, length: segment.sealedBytes }, done)
    requireSegment(options, footer, segment, sealed)
    done.segments += 1
    release(sealed)
  }
}

function endOfSegments({ segments }: PackFooter): number {
  const last = segments.at(-1)
  return last === undefined ? 0 : last.offset + last.sealedBytes
}

/** Footer, padding and trailer: where a torn upload shows. */
function requireEnd({ backup }: ReadBackOptions, pack: StoredPack, footer: PackFooter, end: Buffer): PackTrailer {
  const trailer = decodeTrailer(end.subarray(end.length - TRAILER_BYTES), pack.ref, pack.bytes, backup.keys.structure)
  const stored = end.subarray(0, pack.footerObject.length)
  if (!stored.equals(pack.footerObject) || trailer.footerOffset !== endOfSegments(footer) || trailer.footerBytes !== stored.length)
    throw new HoldfastError('damaged', 'its footer is another one')
  return trailer
}

function requireSegment(options: ReadBackOptions, footer: PackFooter, segment: FooterSegment, sealed: Buffer): void {
  const keys = options.backup.keys.structure
  // The bytes that were opened and compared before the upload: this holds for packs taken over from earlier runs too, whose keys are gone.
  if (blake3.plain().hex(sealed) !== segment.sealedHash.toString('hex'))
    throw new HoldfastError(
      'damaged',
      `segment ${footer.segments.indexOf(segment) + 1} of ${footer.segments.length} is not the one that was stored`,
    )
  const base = baseKey(options, footer, segment)
  if (base === undefined) return
  const what = `pack ${footer.ref.random}`
  const plain = openSegment({ domainId: keys.domainId, segment, key: segmentKeyOf(base, segment.segmentId), sealed, what })
  const chunks = blake3.keyed(keys.idKey)
  const nodes = nodeHasher(keys.treeIdKey)
  let at = 0
  for (const { id, bytes } of segment.blobs) {
    const blob = plain.subarray(at, at + bytes)
    at += bytes
    if (segment.kind === SEGMENT_KIND.chunk && chunks.hex(blob) !== id)
      throw new HoldfastError('damaged', `chunk ${id.slice(0, 16)} holds other bytes`)
    // The id of a node is the hash of its references, which hold that of its private part.
    if (segment.kind === SEGMENT_KIND.references) decodeReferences(id, blob, nodes)
  }
}

/** Reference parts are under the structure key, all else under the key of its session: only this run's is at hand. */
function baseKey({ backup, session }: ReadBackOptions, footer: PackFooter, segment: FooterSegment): Buffer | undefined {
  if (segment.kind === SEGMENT_KIND.references) return backup.keys.structure.structureKey(segment.epoch)
  return footer.sessions[segment.session]?.sessionId.toString('hex') === session.id ? session.key : undefined
}

/**
 * Reads back an index file or snapshot that was just put: whole, or its end and a piece of it where it is large. Throws `damaged` naming it, or what
 * the store says.
 */
export async function readBackObject(
  { repository, random, signal }: ReadBackOptions['backup'],
  name: string,
  object: Buffer,
): Promise<void> {
  const { store } = repository
  const { length } = object
  try {
    const isWhole = length <= 2 * OBJECT_PIECE_BYTES
    for (const offset of isWhole ? [0] : [length - OBJECT_PIECE_BYTES, randomBelow(random, length - OBJECT_PIECE_BYTES)]) {
      const wanted = isWhole ? object : object.subarray(offset, offset + OBJECT_PIECE_BYTES)
      // The end is asked for as such, so that an object of another length shows.
      const range = { offset: offset + wanted.length === length ? -wanted.length : offset, length: wanted.length }
      const stored = isWhole ? await store.get(name, { limitBytes: length, signal }) : await store.getRange(name, range, { signal })
      if (!stored.equals(wanted)) throw new HoldfastError('damaged', 'it holds other bytes')
    }
  } catch (error) {
    if (!isHoldfastError(error, 'damaged', 'not-found', 'too-large')) throw error
    throw new HoldfastError(
      'damaged',
      `the store did not give back ${name} as it was stored a moment ago (${error.message}); this run's snapshot is not good. Back up again; check the store's disks, and 'holdfast check' for what else it may have spoilt`,
      { cause: error },
    )
  }
}

const SPOILT = /^[0-9a-f]{32}-([0-9a-f]{32})\.spoilt$/

/** Random parts of the names of packs that did not come back as they were stored: nothing of them counts, whatever a footer or an index file says. */
export function spoiltPacks(fileSystem: FileSystem, directory: Descriptor): ReadonlySet<string> {
  const matches = fileSystem.readDirectory(directory).map((name) => SPOILT.exec(name.toString('latin1')))
  return new Set(matches.flatMap((match) => (match === null ? [] : [match[1]!])))
}

/** The mark before the footer goes: a crash in between leaves both, and the mark wins. */
function markSpoilt({ backup: { fileSystem }, directory }: ReadBackOptions, ref: ObjectRef): void {
  writeDurably(fileSystem, directory, Buffer.from(`${ref.session}-${ref.random}.spoilt`), Buffer.alloc(0))
  try {
    fileSystem.remove(directory, footerName(ref), 'file')
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}

/** At most `count` of `items`, drawn without putting back. */
function drawn<T>(items: readonly T[], count: number, random: Random): T[] {
  const left = [...items]
  const taken: T[] = []
  while (taken.length < count && left.length > 0) taken.push(...left.splice(randomBelow(random, left.length), 1))
  return taken
}
