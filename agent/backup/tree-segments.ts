// The main thread's own segments: parts of tree nodes, references apart from private parts, shared like small files.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { createSealer, requireOpens, SEGMENT_KIND, type SegmentSealer } from '../repository/segment.ts'
import type { EncodedNode } from '../repository/tree.ts'
import type { Compressor } from '../repository/zstd.ts'
import { type FinishedSegment, finishSegment } from './finished-segment.ts'
import { SEGMENTS_PER_WORKER } from './file-worker.ts'
import { DURABLE, FIRST_SEGMENT, type KnownIds, UNKNOWN } from './known-ids.ts'
import type { Session } from './session.ts'

/** The worker number under which the main thread numbers its segments. */
const MAIN = 30

export type TreeSegments = {
  /** Stores a node unless it is known. Gives the segment of this run that its private part stands in; undefined where it was there before. */
  readonly store: (node: EncodedNode) => number | undefined
  readonly flush: () => void
  /** Seals under the session key, for the private part of the snapshot. */
  readonly sealer: SegmentSealer
}

type Open = { parts: Buffer[]; bytes: number; ids: string[]; number: number }

export function createTreeSegments(options: {
  keys: WriteKeys
  session: Session
  known: KnownIds
  compressor: Compressor
  segmentBytes: number
  onSegment: (segment: FinishedSegment) => void
}): TreeSegments {
  const { keys, session, known, compressor } = options
  const { structure } = keys
  const structureKey = structure.structureKey(structure.structureEpoch)
  if (structureKey === undefined)
    throw new HoldfastError('wrong-key', 'the current structure key is not at hand: fetch a new domain bundle')
  const privateSealer = createSealer({ domainId: structure.domainId, baseKey: session.key, epoch: session.entry.contentEpoch, compressor })
  const referenceSealer = createSealer({ domainId: structure.domainId, baseKey: structureKey, epoch: structure.structureEpoch, compressor })
  let next = MAIN * SEGMENTS_PER_WORKER
  const fresh = (): Open => ({ parts: [], bytes: 0, ids: [], number: next++ })
  const open = { references: fresh(), private: fresh() }
  const idBytes = Buffer.alloc(32)

  const seal = (part: 'references' | 'private'): void => {
    const segment = open[part]
    if (segment.bytes === 0) return
    open[part] = fresh()
    const plain = Buffer.concat(segment.parts)
    // Ids are random bytes, so compressing reference parts buys nothing.
    const sealed =
      part === 'references' ? referenceSealer(plain, SEGMENT_KIND.references, false) : privateSealer(plain, SEGMENT_KIND.private, true)
    requireOpens(structure.domainId, sealed, plain)
    options.onSegment(
      finishSegment(
        segment.number,
        sealed,
        segment.ids,
        segment.parts.map((blob) => blob.length),
      ),
    )
  }

  const append = (part: 'references' | 'private', id: string, bytes: Buffer): void => {
    const segment = open[part]
    segment.parts.push(bytes)
    segment.ids.push(id)
    segment.bytes += bytes.length
    if (segment.bytes >= options.segmentBytes) seal(part)
  }

  return {
    sealer: privateSealer,
    store: (node) => {
      idBytes.write(node.id, 'hex')
      if (known.count() > known.capacity() - 1024) known.grow(65_536)
      const segment = open.private.number
      const held = known.claim(idBytes, segment + FIRST_SEGMENT)
      if (held !== UNKNOWN) return held > DURABLE ? held - FIRST_SEGMENT : undefined
      append('references', node.id, node.references)
      append('private', node.id, node.private)
      return segment
    },
    flush: () => {
      seal('references')
      seal('private')
    },
  }
}
