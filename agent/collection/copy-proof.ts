// Before a pack goes: is what snapshots need of it really somewhere else? An index file says so, and so does a footer, but both are the word of whoever
// wrote the other copy, and bytes go bad. So the copy that stays is opened as a restore would open it, and its content is compared with its id. What
// costs reading is only what stands twice: what was moved or stored again out of packs that are mostly dead (decision 0013).
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { INDEX_BLOB_BYTES } from '../repository/index-file.ts'
import { createPackReader, isVerdict, type PackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import { SEGMENT_KIND, type SegmentKind } from '../repository/segment.ts'
import type { BlobPart, View } from '../repository/view.ts'
import type { Mark } from './mark.ts'

/** A place of a blob that does not hold it, whatever index files say. */
export type SpoiltCopy = { readonly id: string; readonly part: BlobPart; readonly pack: string }

const PART: Record<SegmentKind, BlobPart | undefined> = {
  [SEGMENT_KIND.chunk]: 'chunk',
  [SEGMENT_KIND.references]: 'references',
  [SEGMENT_KIND.private]: 'private',
  [SEGMENT_KIND.snapshot]: undefined,
}

type Doubted = { readonly id: string; readonly part: BlobPart; readonly pack: string; readonly offset: number }

/**
 * Opens a copy that stays of everything in the packs `going` that one of `marks` needs. The answer names all copies that stay of what could be opened
 * from none of them; without `readKeys` that is what those keys would open. Throws what the store says where it cannot be read.
 */
export async function spoiltCopies(options: {
  readonly repository: Repository
  readonly readKeys: ReadKeys | undefined
  readonly view: View
  readonly marks: readonly Mark[]
  /** Packs by the random part of their names. */
  readonly going: ReadonlySet<string>
  readonly signal?: AbortSignal | undefined
  readonly onBlob?: ((done: number, total: number) => void) | undefined
}): Promise<SpoiltCopy[]> {
  const { repository, view, going, signal } = options
  const staying: View = { ...view, locate: (id, part) => view.locate(id, part).filter(({ pack }) => !going.has(pack.random)) }
  const reader = createPackReader({ store: repository.store, structure: repository.keys, view: staying, keys: options.readKeys })
  const doubted = inOrderOfReading(doubtedOf(view, options.marks, going, staying))
  const spoilt: SpoiltCopy[] = []
  for (const [i, { id, part }] of doubted.entries()) {
    try {
      await open(reader, id, part, signal)
    } catch (error) {
      if (!isHoldfastError(error) || !isVerdict(error)) throw error
      for (const { pack } of staying.locate(id, part)) spoilt.push({ id, part, pack: pack.random })
    }
    options.onBlob?.(i + 1, doubted.length)
  }
  return spoilt
}

/** Everything in packs that go which is needed, each once, with the first place that stays. */
function doubtedOf(view: View, marks: readonly Mark[], going: ReadonlySet<string>, staying: View): Doubted[] {
  const found = new Map<string, Doubted>()
  for (const file of [...view.files, ...view.lastResort]) {
    const isGoing = file.packs.map(({ random }) => going.has(random))
    if (!isGoing.includes(true)) continue
    const segments = Array.from({ length: file.segmentCount }, (_, ordinal) => file.segment(ordinal))
    for (let row = 0, at = 0; row < file.blobCount; row++, at += INDEX_BLOB_BYTES) {
      const segment = segments[file.blobs.readUInt32LE(at + 32)]!
      const part = PART[segment.kind]
      if (part === undefined || isGoing[segment.pack] !== true) continue
      const id = file.blobs.toString('hex', at, at + 32)
      const key = `${part} ${id}`
      if (found.has(key) || !isNeeded(view, marks, id, part)) continue
      const place = staying.locate(id, part)[0]
      found.set(key, { id, part, pack: place?.pack.random ?? '', offset: place?.segment.offset ?? 0 })
    }
  }
  return [...found.values()]
}

function isNeeded(view: View, marks: readonly Mark[], id: string, part: BlobPart): boolean {
  return view.rows(id, part).some(({ file, row }) => marks.some((mark) => mark.isLive(file, row)))
}

function inOrderOfReading(doubted: readonly Doubted[]): Doubted[] {
  return doubted.toSorted((a, b) => (a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1))
}

async function open(reader: PackReader, id: string, part: BlobPart, signal: AbortSignal | undefined): Promise<void> {
  if (part === 'chunk') await reader.readChunk(id, signal)
  else if (part === 'references') await reader.readReferences(id, signal)
  else await reader.readNode(id, signal)
}
