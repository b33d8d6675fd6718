// Index files over packs that are nowhere but in their words: for tests of what files say and what a view over them finds.
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import { agentWriter, rootKeys, sessionEntry } from '../../../../agent/keys/domain.ts'
import { decodeIndexFile, encodeIndexFile, type IndexFile, type PackInIndex } from '../../../../agent/repository/index-file.ts'
import type { FooterSegment } from '../../../../agent/repository/pack.ts'
import { fixtureRandom } from '../../../_support/engine-fixture.ts'

const random = fixtureRandom('index files')
export const root = rootKeys({ root: random.bytes(32), domainId: random.bytes(16) })
export const keys = root.write.structure
export const writer = agentWriter(random.bytes(32), random.bytes(16))
export const entries = [1, 2, 3].map(() => sessionEntry(random.bytes(32), random.bytes(16), root.write, random))
export const hex = (number: number): string => number.toString(16).padStart(32, '0')
export const ref = (number: number): ObjectRef => ({ session: hex(1), random: hex(number) })
/** Ids whose first bytes are alike in fours, so that a search has to look at all of them. */
export const id = (number: number): string =>
  `${Math.floor(number / 4)
    .toString(16)
    .padStart(8, '0')}${number.toString(16).padStart(56, '0')}`

/** A pack with a segment for each list of blobs; `number` names pack and segments. */
export function pack(
  number: number,
  ...segments: { kind?: 1 | 2 | 3; session?: number; blobs: readonly (readonly [number, number])[] }[]
): PackInIndex {
  let offset = 0
  const made = segments.map(({ kind = 1, session = 0, blobs }, i): FooterSegment => {
    const plainBytes = blobs.reduce((sum, [, bytes]) => sum + bytes, 0)
    const segment: FooterSegment = {
      kind,
      codec: (number + i) % 2 === 0 ? 0 : 1,
      session,
      epoch: 1 + i,
      segmentId: Buffer.alloc(32, number + i),
      sealedBytes: plainBytes + 16,
      plainBytes,
      sealedHash: Buffer.alloc(32),
      blobs: blobs.map(([blob, bytes]) => ({ id: id(blob), bytes })),
      offset,
    }
    offset += segment.sealedBytes
    return segment
  })
  return { bytes: offset + 1000, footer: { ref: ref(number), writerId: Buffer.alloc(16), sessions: entries.slice(0, 2), segments: made } }
}
export const file = (name: number, packs: readonly PackInIndex[], replaces: readonly ObjectRef[] = [], by = writer): IndexFile =>
  decodeIndexFile(encodeIndexFile({ ref: ref(name), replaces, packs }, keys, by), ref(name), keys).file

export const twoBlobs = [
  [1, 5],
  [2, 6],
] as const
export const withSegments = ({ bytes, footer }: PackInIndex, change: Partial<FooterSegment>): PackInIndex => ({
  bytes,
  footer: { ...footer, segments: footer.segments.map((segment) => ({ ...segment, ...change })) },
})
