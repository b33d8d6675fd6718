// Fills the table of known ids from the view. Chunks count whoever in the domain stored them; tree nodes only from index files that this writer
// signed, because a hostile agent of the same domain could store rubbish under a valid id (design section 4).
import { INDEX_BLOB_BYTES } from '../repository/index-file.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import { createView, type View } from '../repository/view.ts'
import { DURABLE, type KnownIds } from './known-ids.ts'

/** `absent` packs and `tainted` nodes are as if the view did not have them. */
export function fillKnownIds(
  known: KnownIds,
  view: View,
  writerKey: Buffer,
  absent: ReadonlySet<string>,
  tainted: ReadonlySet<string> = new Set(),
): void {
  const mine = createView(view.files.filter((file) => file.writerKey.equals(writerKey)))
  for (const file of view.files) {
    const own = file.writerKey.equals(writerKey)
    const kinds = new Uint8Array(file.segmentCount)
    for (let i = 0; i < file.segmentCount; i++) {
      const segment = file.segment(i)
      // What an index file claims of a pack that is not there, or condemned, does not count: it is stored again (B1).
      kinds[i] = absent.has(file.packs[segment.pack]?.random ?? '') ? 0 : segment.kind
    }
    let at = 0
    for (let row = 0; row < file.blobCount; row++, at += INDEX_BLOB_BYTES) {
      const kind = kinds[file.blobs.readUInt32LE(at + 32)]
      const id = file.blobs.subarray(at, at + 32)
      // A node needs both of its parts; the private part stands for it once a reference part of one's own is seen to exist too.
      const counts =
        kind === SEGMENT_KIND.chunk ||
        (kind === SEGMENT_KIND.private &&
          own &&
          !(tainted.size > 0 && tainted.has(id.toString('hex'))) &&
          mine.locate(id.toString('hex'), 'references').some(({ pack }) => !absent.has(pack.random)))
      if (counts) known.claim(id, DURABLE)
    }
  }
}
