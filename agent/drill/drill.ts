// One drill of one snapshot: restores a sample to a scratch directory, compares what stands there with what the snapshot says, and removes it again.
// Only what went through this counts as restored (design section 7, obligations O10 and O23).
import { createHash } from 'node:crypto'
import type { FileSystem } from '../file-system/file-system.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import { createTokens, type OpenedSnapshot } from '../repository/snapshot.ts'
import type { View } from '../repository/view.ts'
import { LOST, type RestoredEntry, type RestoreReport } from '../restore/report.ts'
import { readPast } from '../restore/read-past.ts'
import { restoreSnapshot } from '../restore/restore.ts'
import type { Selection } from '../restore/selection.ts'
import { compareRestored, type Comparison, type Difference } from './comparison.ts'
import { chooseSample, RING, type Sample, type SampleLimits } from './sample.ts'
import { inDrillDirectory } from './scratch.ts'

export type DrillOptions = {
  readonly repository: Repository
  readonly view: View
  readonly keys: ReadKeys
  readonly snapshot: OpenedSnapshot
  /** Absolute; holds nothing, and holds nothing again when the drill has ended. */
  readonly scratch: Buffer
  readonly fs: FileSystem
  readonly workers?: number | undefined
  readonly signal: AbortSignal
  readonly onEntry?: ((entry: RestoredEntry) => void) | undefined
  readonly onProgress?: ((progress: { phase: 'restoring' | 'comparing'; files: number; bytes: number }) => void) | undefined
}

/** damaged: not what was backed up, or not readable · incomplete: right as far as could be told, but not all of it · restored: all of it. */
export type Verdict = 'restored' | 'incomplete' | 'damaged'

export type DrillProblem = { readonly path: Buffer; readonly code: string; readonly why?: string }

export type DrillReport = {
  readonly verdict: Verdict
  /** Whether it was the whole snapshot. */
  readonly whole: boolean
  readonly files: number
  readonly bytes: number
  /** Entries and content that were compared after the restore. */
  readonly entriesCompared: number
  readonly bytesCompared: number
  readonly ofFiles: number
  readonly ofBytes: number
  /** After about so many drills every file was in one; more where large files fill samples badly. */
  readonly drillsForAll: number
  readonly next: number
  /** SHA-256 over the sorted tokens of what was selected, as hex; with the snapshot and its keys anyone can make the list again. */
  readonly sampleHash: string
  readonly problems: readonly DrillProblem[]
}

/** What a drill would restore; of a whole snapshot the sample has no list of its files. */
export type DrillPlan = {
  readonly sample: Sample
  readonly selection: Selection
  readonly files: number
  readonly bytes: number
  readonly sampleHash: string
  readonly drillsForAll: number
}

/** Chooses the sample, writing nothing. Rejects with what the store says, and `grant-required`. */
export async function planDrill(
  options: Pick<DrillOptions, 'repository' | 'view' | 'keys' | 'snapshot' | 'signal'> & {
    limits: SampleLimits | 'whole'
    /** Where on the ring the sample begins. */
    from: number
    /** What a single file may need. */
    roomBytes: number
  },
): Promise<DrillPlan> {
  const { repository, view, keys, snapshot, limits, signal, from } = options
  const reader = createPackReader({ ...readPast(repository), structure: repository.keys, view, keys })
  const { recordKey } = repository.keys
  // What is whole needs no list of its files, which could be ten million.
  const bounds = limits === 'whole' ? { limits: { files: 1, bytes: 0 }, roomBytes: Number.MAX_SAFE_INTEGER } : { ...options, limits }
  const sample = await chooseSample({ reader, recordKey, snapshot, from, signal, ...bounds })
  const isWhole = limits === 'whole' || sample.paths.length === sample.ofFiles
  const tokens = createTokens(recordKey)
  const list = isWhole ? ['whole'] : sample.paths.map(tokens.path).sort()
  const shares = limits === 'whole' ? [1] : [sample.ofFiles / limits.files, sample.ofBytes / Math.max(1, limits.bytes)]
  return {
    sample: isWhole ? { ...sample, next: from } : sample,
    selection: isWhole ? { kind: 'whole' } : { kind: 'paths', paths: sample.paths },
    files: isWhole ? sample.ofFiles : sample.paths.length,
    bytes: isWhole ? sample.ofBytes : sample.bytes,
    sampleHash: createHash('sha256').update(list.join('\n')).digest('hex'),
    drillsForAll: isWhole ? 1 : Math.min(sample.ofFiles, Math.ceil(Math.max(...shares))),
  }
}

/** Restores what `planDrill` chose, compares it and removes it. Rejects with `local-disk`, `cancelled`, `grant-required` or what the store says. */
export async function drillSnapshot(options: DrillOptions, plan: DrillPlan): Promise<DrillReport> {
  const { repository, view, keys, snapshot, scratch, fs, signal, onProgress } = options
  const { sample, selection } = plan
  return inDrillDirectory(fs, scratch, snapshot.structure.ref.random, async (target) => {
    const restored = await restoreSnapshot({
      ...{ repository, view, keys, snapshot, target, selection, fs, signal },
      workers: options.workers,
      placeOption: '--scratch, or drill fewer --files or --bytes',
      onEntry: options.onEntry,
      onProgress: ({ files, bytes }) => onProgress?.({ phase: 'restoring', files, bytes }),
    })
    onProgress?.({ phase: 'comparing', files: restored.files, bytes: restored.bytes })
    const compared = await compareRestored({ repository, view, keys, snapshot, target, selection, fs, signal })
    const problems = unique([...problemsOf(restored, compared.differences), ...passedOver(sample)])
    return {
      verdict: verdictOf(problems),
      whole: selection.kind === 'whole',
      files: restored.files,
      bytes: restored.bytes,
      entriesCompared: compared.entries,
      bytesCompared: compared.bytes,
      ofFiles: sample.ofFiles,
      ofBytes: sample.ofBytes,
      drillsForAll: plan.drillsForAll,
      next: sample.next,
      sampleHash: plan.sampleHash,
      problems,
    }
  })
}

/** What the restore said, and what the comparison found beyond that. What the store did not give is named and no damage: the next drill goes on behind it. */
export function problemsOf(
  { problems, unread }: Pick<RestoreReport, 'problems' | 'unread'>,
  differences: Comparison['differences'],
): DrillProblem[] {
  // A report holds some thousands: what is missing may be of what it only counts.
  const isAllTold = unread <= problems.filter(({ code }) => code === 'unread').length
  const told = new Set(problems.map(({ path }) => path.toString('latin1')))
  const lost = new Set(problems.filter(({ code }) => LOST.has(code)).map(({ path }) => path.toString('latin1')))
  return [
    ...problems.map(({ path, code, errno }) => ({ path, code, ...(errno === undefined ? {} : { why: errno }) })),
    ...differences
      .filter((one) => (isAllTold || one.code !== 'missing') && isNews(one, told, lost))
      .map(({ path, code, why }) => ({ path, code, ...(why === undefined ? {} : { why }) })),
  ]
}

/** A difference that the restore has told itself is none more, nor what is missing below a directory that it could not read; other bytes always are. */
function isNews({ path, code }: Difference, told: ReadonlySet<string>, lost: ReadonlySet<string>): boolean {
  if (code === 'content' || code === 'extra') return true
  const text = path.toString('latin1')
  if (told.has(text)) return false
  if (code !== 'missing') return true
  for (let end = text.lastIndexOf('/'); end > 0; end = text.lastIndexOf('/', end - 1)) if (lost.has(text.slice(0, end))) return false
  return !lost.has('/')
}

function passedOver({ tooLarge, unreadable }: Sample): DrillProblem[] {
  return [...tooLarge.map((path) => ({ path, code: 'too-large', why: 'larger than the room in the scratch directory' })), ...unreadable]
}

function unique(problems: readonly DrillProblem[]): DrillProblem[] {
  return [...new Map(problems.map((problem) => [`${problem.code} ${problem.path.toString('latin1')}`, problem])).values()]
}

const DAMAGE = new Set(['damaged', 'content', 'missing', 'extra'])

/** Whether a code says that something is not what was backed up, rather than that it could not be put back or looked at here. */
export function isDamage(code: string): boolean {
  return DAMAGE.has(code)
}

export function verdictOf(problems: readonly Pick<DrillProblem, 'code'>[]): Verdict {
  if (problems.some(({ code }) => isDamage(code))) return 'damaged'
  return problems.length > 0 ? 'incomplete' : 'restored'
}

/** The place on the ring that a drill of which nothing is known begins at. */
export function anyPlace(random: { readonly bytes: (length: number) => Buffer }): number {
  return random.bytes(6).readUIntBE(0, 6) % RING
}
