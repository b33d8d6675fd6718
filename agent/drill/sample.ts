// Which files a drill restores: a share of the snapshot that moves on from drill to drill. Every path has a place on a ring, the beginning of its
// token; a drill takes what comes next after where the last one ended, so all files are taken once before any is taken again.
import { type PackReader } from '../repository/pack-reader.ts'
import { createTokens, type OpenedSnapshot } from '../repository/snapshot.ts'
import { contentBytes } from '../restore/decide.ts'
import { lostCode } from '../restore/report.ts'
import { entryPath, walkTree } from '../restore/tree-reader.ts'

/** Places on the ring. */
export const RING = 2 ** 48

export type SampleLimits = { readonly files: number; readonly bytes: number }

export type Sample = {
  /** Entries that are no directories, in order of the ring. */
  readonly paths: readonly Buffer[]
  readonly bytes: number
  /** Where it began, and where the next drill begins. */
  readonly from: number
  readonly next: number
  /** Entries of the snapshot that are no directories, and how many bytes of content they have. */
  readonly ofFiles: number
  readonly ofBytes: number
  /** Files that came next and that are larger than there is room: they were passed over. */
  readonly tooLarge: readonly Buffer[]
  /** Directories that cannot be read, with why: what is below them is in nobody's sample. */
  readonly unreadable: readonly { readonly path: Buffer; readonly code: 'damaged' | 'unread'; readonly why: string }[]
}

type Candidate = { readonly path: Buffer; readonly bytes: number; readonly distance: number; readonly token: string }

/**
 * Walks the whole tree, in memory bounded by the sample, and takes at most `limits.files` entries with at most `limits.bytes` of content, but one at
 * least. `roomBytes`: what a single file may need. Rejects with what the store says, and `grant-required`.
 */
export async function chooseSample(options: {
  reader: PackReader
  recordKey: Buffer
  snapshot: OpenedSnapshot
  from: number
  limits: SampleLimits
  roomBytes: number
  signal?: AbortSignal | undefined
}): Promise<Sample> {
  const { reader, snapshot, from, limits, roomBytes, signal } = options
  const tokens = createTokens(options.recordKey)
  const totals = { files: 0, bytes: 0 }
  const tooLarge: Candidate[] = []
  const unreadable: { path: Buffer; code: 'damaged' | 'unread'; why: string }[] = []
  let candidates: Candidate[] = []
  const cut = (): void => {
    candidates.sort((a, b) => a.distance - b.distance || (a.token < b.token ? -1 : 1))
    candidates.length = Math.min(candidates.length, limits.files)
  }
  for await (const step of walkTree({ reader, root: snapshot.structure.root, bounds: snapshot.structure, signal })) {
    if (step.step === 'failed') unreadable.push({ path: step.directory.path, code: lostCode(step.error), why: step.error.message })
    if (step.step !== 'entries') continue
    for (const entry of step.entries) {
      const path = entryPath(step.directory, entry.name)
      const token = tokens.path(path)
      const distance = (placeOf(token) - from + RING) % RING
      const candidate = { path, bytes: contentBytes(entry), distance, token }
      totals.files += 1
      totals.bytes += candidate.bytes
      if (candidate.bytes > roomBytes) tooLarge.push(candidate)
      else candidates.push(candidate)
    }
    if (candidates.length > 4 * limits.files) cut()
  }
  cut()
  const taken: Candidate[] = []
  let bytes = 0
  for (const candidate of candidates) {
    if (taken.length > 0 && bytes + candidate.bytes > limits.bytes) break
    taken.push(candidate)
    bytes += candidate.bytes
  }
  const isAll = taken.length + tooLarge.length === totals.files
  const last = taken.at(-1)
  const reached = isAll || last === undefined ? RING : last.distance
  return {
    paths: taken.map(({ path }) => path),
    bytes,
    from,
    next: isAll || last === undefined ? from : (placeOf(last.token) + 1) % RING,
    ofFiles: totals.files,
    ofBytes: totals.bytes,
    tooLarge: tooLarge.filter(({ distance }) => distance <= reached).map(({ path }) => path),
    unreadable,
  }
}

function placeOf(token: string): number {
  return Number.parseInt(token.slice(0, 12), 16)
}
