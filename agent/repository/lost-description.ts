// A repository whose `repository` object is missing or damaged (FORMAT.md section 4): what the other objects still say of it, so that it can be read,
// and what a new one may say of chunking.
import { type HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { HEADER_BYTES, type ObjectType, readHeader } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { INDEX_BLOB_BYTES } from './index-file.ts'
import { SEGMENT_KIND } from './segment.ts'
import type { View } from './view.ts'

export type LostDescription = {
  readonly domainId: Buffer
  /** No key stands beside the data, and the roster names agents. */
  readonly enrolled: boolean
  /** Why the object is not used: `not-found` or `damaged`. */
  readonly trouble: HoldfastError
}

const DATA: readonly (readonly [string, ObjectType | undefined])[] = [
  ['sessions/', 'session'],
  ['snapshots/', 'snapshot'],
  ['index/', 'index'],
  // A pack has its header at its end; that there is one is enough.
  ['packs/', undefined],
]
/** One object under a foreign header must not lead elsewhere; what most of these say counts. */
const HEADERS_READ = 16

/** What is there without its description; undefined where nothing but keys is, which an interrupted `init` leaves. */
export async function findLost(store: Store, trouble: HoldfastError, signal?: AbortSignal): Promise<LostDescription | undefined> {
  const data = await domainsUnder(store, DATA, signal)
  if (data.objects === 0) return undefined
  const keys = await domainsUnder(store, [['keys/', 'key']], signal)
  const domainId = mostFrequent(data.domains.length > 0 ? data.domains : keys.domains)
  if (domainId === undefined) return undefined
  const rosters = keys.objects > 0 ? undefined : await domainsUnder(store, [['rosters/', 'roster']], signal)
  return { domainId, enrolled: rosters !== undefined && rosters.objects > 0, trouble }
}

async function domainsUnder(
  store: Store,
  prefixes: readonly (readonly [string, ObjectType | undefined])[],
  signal?: AbortSignal,
): Promise<{ objects: number; domains: Buffer[] }> {
  let objects = 0
  const domains: Buffer[] = []
  for (const [prefix, type] of prefixes) {
    for await (const page of store.list(prefix, { signal })) {
      objects += page.length
      for (const { name } of type === undefined ? [] : page.slice(0, HEADERS_READ - domains.length))
        try {
          const header = await store.getRange(name, { offset: 0, length: HEADER_BYTES }, { signal })
          domains.push(readHeader(header, { type: type!, what: name }).domainId)
        } catch (error) {
          // Another object may say it.
          if (!isHoldfastError(error, 'damaged', 'not-found', 'newer-format')) throw error
        }
      if (page.length > 0) break
    }
    if (domains.length >= HEADERS_READ) break
  }
  return { objects, domains }
}

function mostFrequent(domains: readonly Buffer[]): Buffer | undefined {
  const count = (domain: Buffer): number => domains.filter((other) => other.equals(domain)).length
  return domains.toSorted((a, b) => count(b) - count(a))[0]
}

const CHUNKS_COUNTED = 1_000_000
const FIXED_SIZES = { least: 256 * 1024, most: 2 ** 20 }
const FIXED_CHUNKS_MIN = 8
const FIXED_SHARE = 0.9

/** The one size that nearly all chunks have, in bytes, where they are so many that `fixed` chunking made them; undefined otherwise. */
export function commonChunkBytes(view: View): number | undefined {
  let chunks = 0
  let largest = 0
  let ofLargest = 0
  for (const file of view.files)
    for (let row = 0; row < file.blobCount && chunks < CHUNKS_COUNTED; row++) {
      const at = row * INDEX_BLOB_BYTES
      if (file.segment(file.blobs.readUInt32LE(at + 32)).kind !== SEGMENT_KIND.chunk) continue
      const bytes = file.blobs.readUInt32LE(at + 40)
      chunks += 1
      if (bytes > largest) [largest, ofLargest] = [bytes, 0]
      if (bytes === largest) ofLargest += 1
    }
  const isFixed = largest >= FIXED_SIZES.least && largest <= FIXED_SIZES.most
  return isFixed && ofLargest >= FIXED_CHUNKS_MIN && ofLargest >= FIXED_SHARE * chunks ? largest : undefined
}
