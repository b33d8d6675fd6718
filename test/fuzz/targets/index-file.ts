// Index files: the body, sealed; what is taken is put into a view and every blob in it looked up.
import { decodeIndexFile, encodeIndexFile, INDEX_BLOB_BYTES } from '../../../agent/repository/index-file.ts'
import { openBox, sealBox } from '../../../agent/repository/structure-box.ts'
import { createView } from '../../../agent/repository/view.ts'
import { fixedEntry, ref, refOf, structure, writer } from '../_support/fixture.ts'
import { accepted, type Target, violation } from '../_support/target.ts'
import { footer, footerSegment } from './pack.ts'

export const indexFile: Target = {
  name: 'index-file',
  about: 'the body of an index file, sealed: what is taken leads to no place outside of a pack or segment',
  form: 'bytes',
  covers: ['agent/repository/index-file.ts', 'agent/repository/view.ts', 'shared/format/bytes.ts'],
  weight: 1,
  bytesMax: 8192,
  seeds: () => {
    const other = {
      ...footer,
      sessions: [fixedEntry('third')],
      segments: [footerSegment(2, [1, 2, 3], 0)],
      ref: { ...ref, random: '7'.repeat(32) },
    }
    return [
      [],
      [{ footer, bytes: 131_072 }],
      [
        { footer, bytes: 131_072 },
        { footer: other, bytes: 262_144 },
      ],
    ].map((packs) => {
      const object = encodeIndexFile({ ref, replaces: packs.length === 0 ? [] : [ref], packs }, structure, writer)
      return Buffer.from(openBox({ type: 'index', keys: structure, object, what: 'seed' }).body)
    })
  },
  run: (body) => {
    const object = sealBox({ type: 'index', keys: structure, writer, body })
    const decoded = accepted(() => decodeIndexFile(object, refOf(body), structure))
    if (decoded === undefined) return 'refused'
    const { file } = decoded
    const view = createView([file, { ...file, replaces: [], ref: { session: '0'.repeat(32), random: '1'.repeat(32) } }])
    for (let row = 0; row < Math.min(file.blobCount, 64); row++) {
      const id = file.blobs.toString('hex', row * INDEX_BLOB_BYTES, row * INDEX_BLOB_BYTES + 32)
      const places = (['chunk', 'references', 'private'] as const).flatMap((part) => view.locate(id, part))
      if (places.length === 0) violation('a blob of an index file is not found in its view')
      for (const { pack, segment, session, offset, bytes } of places) {
        if (segment.offset + segment.sealedBytes > pack.bytes) violation('a segment stands outside of its pack')
        if (offset + bytes > segment.plainBytes) violation('a blob stands outside of its segment')
        if (segment.kind !== 3 && session === undefined) violation('a segment has no session')
      }
    }
    return 'taken'
  },
}
