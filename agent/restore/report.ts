// What a restore did, as it is told to people, records and exit codes. Exit 0 means that every selected entry is there byte by byte and with
// all of its metadata; everything else is named here (reference bug B31).
import type { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Entry } from '../repository/tree.ts'
import { contentBytes } from './decide.ts'
import type { MetadataProblem } from './metadata.ts'

/**
 * damaged: not readable from any copy · unread: the store holds it and does not give it · refused: the file system did not allow it · differs: kept with the right content but other metadata ·
 * in-the-way: something that is no directory is kept where one was, and nothing below is restored · link: restored as a file of its own · not-in-snapshot: selected, but not there · owner, attribute, mode, times, flags: could not be set.
 */
export type RestoreProblemCode =
  | 'damaged'
  | 'unread'
  | 'refused'
  | 'differs'
  | 'in-the-way'
  | 'link'
  | 'not-in-snapshot'
  | MetadataProblem['code']
export type RestoreProblem = {
  /** As it was when it was backed up; a token where a token was selected. */
  readonly path: Buffer
  readonly code: RestoreProblemCode
  /** Name of the system's error, or a sentence for damage. */
  readonly errno?: string
}

export type RestoreReport = {
  /** Written under their names or beside: files, links and special files. */
  readonly files: number
  /** Directories made. */
  readonly directories: number
  /** Content of the files written. */
  readonly bytes: number
  /** Found with the same content and kept; with `never`, everything that was found. */
  readonly kept: number
  /** Of `kept`, those that are known to be something else, by kind or size: only with `never`, which reads nothing of them. */
  readonly keptOther: number
  /** Of `files` and `directories`, those that landed beside what was there. */
  readonly beside: number
  /** The first 1,000 of them: the path as it was backed up, and the name that it has now. A dry run gives no names. */
  readonly besideNames: readonly { readonly path: Buffer; readonly name: Buffer | undefined }[]
  /** Entries that are not there now; each is in `problems`, or below a directory that is. */
  readonly failed: number
  /** The first 10,000 of each kind: what was lost, what else could not be restored, what could not be set as it was. None hides one of another kind. */
  readonly problems: readonly RestoreProblem[]
  readonly problemCount: number
  /** Of those, named or not. */
  readonly damaged: number
  readonly unread: number
}

export type RestoreProgress = {
  readonly files: number
  readonly bytes: number
  /** Undefined where only a part is selected: nobody knows before the walk ends. */
  readonly totalFiles: number | undefined
  readonly totalBytes: number | undefined
}

/** One entry that is no directory, when its fate is decided: for recovery records. */
export type RestoredEntry = { readonly path: Buffer; readonly entry: Entry; readonly outcome: 'written' | 'beside' | 'kept' | 'failed' }

/** Of each kind. */
const PROBLEMS_HELD = 10_000
/** What is not to be had from any copy, for now or for ever. */
export const LOST: ReadonlySet<RestoreProblemCode> = new Set(['damaged', 'unread'])
const OF_METADATA: ReadonlySet<RestoreProblemCode> = new Set<MetadataProblem['code']>(['owner', 'attribute', 'mode', 'times', 'flags'])

/** What an error that says that content is not to be had makes of an entry. */
export function lostCode(error: HoldfastError): 'damaged' | 'unread' {
  return error.code === 'unread' ? 'unread' : 'damaged'
}
export const BESIDE_HELD = 1_000

export class ReportBuilder {
  readonly #problems = { lost: new Array<RestoreProblem>(), entries: new Array<RestoreProblem>(), metadata: new Array<RestoreProblem>() }
  readonly #onEntry: ((entry: RestoredEntry) => void) | undefined
  readonly #onProgress: ((progress: RestoreProgress) => void) | undefined
  readonly #totals: { files: number | undefined; bytes: number | undefined }
  #files = 0
  #directories = 0
  #bytes = 0
  #kept = 0
  #keptBytes = 0
  #keptOther = 0
  #beside = 0
  readonly #besideNames: { path: Buffer; name: Buffer }[] = []
  #failed = 0
  #problemCount = 0
  #damaged = 0
  #unread = 0

  constructor(options: {
    onEntry?: ((entry: RestoredEntry) => void) | undefined
    onProgress?: ((progress: RestoreProgress) => void) | undefined
    totals: { files: number | undefined; bytes: number | undefined }
  }) {
    this.#onEntry = options.onEntry
    this.#onProgress = options.onProgress
    this.#totals = options.totals
  }

  /** `beside`: the name that it got instead of its own. */
  written(path: Buffer, entry: Entry, beside: Buffer | undefined): void {
    this.#files += 1
    this.#bytes += contentBytes(entry)
    this.#landed(path, beside)
    this.#onEntry?.({ path, entry, outcome: beside === undefined ? 'written' : 'beside' })
  }

  #landed(path: Buffer, beside: Buffer | undefined): void {
    if (beside === undefined) return
    this.#beside += 1
    if (this.#besideNames.length < BESIDE_HELD) this.#besideNames.push({ path, name: beside })
  }

  /** `other`: it is known to be something else. */
  kept(path: Buffer, entry: Entry, other: boolean): void {
    this.#kept += 1
    if (other) this.#keptOther += 1
    this.#keptBytes += contentBytes(entry)
    if (entry.kind !== 'directory') this.#onEntry?.({ path, entry, outcome: 'kept' })
  }

  failed(path: Buffer, entry: Entry): void {
    this.#failed += 1
    this.#onEntry?.({ path, entry, outcome: 'failed' })
  }

  directory(path: Buffer, beside: Buffer | undefined): void {
    this.#directories += 1
    this.#landed(path, beside)
  }

  problem(path: Buffer, code: RestoreProblemCode, errno?: string): void {
    this.#problemCount += 1
    if (code === 'damaged') this.#damaged += 1
    if (code === 'unread') this.#unread += 1
    const held = this.#problems[LOST.has(code) ? 'lost' : OF_METADATA.has(code) ? 'metadata' : 'entries']
    if (held.length < PROBLEMS_HELD) held.push({ path, code, ...(errno === undefined ? {} : { errno }) })
  }

  metadata(path: Buffer, problems: readonly MetadataProblem[]): void {
    for (const { code, errno } of problems) this.problem(path, code, errno)
  }

  get unread(): number {
    return this.#unread
  }

  progress(): void {
    this.#onProgress?.({
      files: this.#files + this.#kept,
      bytes: this.#bytes + this.#keptBytes,
      totalFiles: this.#totals.files,
      totalBytes: this.#totals.bytes,
    })
  }

  finish(): RestoreReport {
    this.progress()
    return {
      files: this.#files,
      directories: this.#directories,
      bytes: this.#bytes,
      kept: this.#kept,
      keptOther: this.#keptOther,
      beside: this.#beside,
      besideNames: this.#besideNames,
      failed: this.#failed,
      problems: [...this.#problems.lost, ...this.#problems.entries, ...this.#problems.metadata],
      problemCount: this.#problemCount,
      damaged: this.#damaged,
      unread: this.#unread,
    }
  }
}
