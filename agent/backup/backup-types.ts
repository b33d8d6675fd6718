// What a backup run is asked and what it answers, as data: shared by the engine, the command line and the daemon.
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { Repository } from '../repository/repository.ts'
import type { Problem, SnapshotStructure } from '../repository/snapshot.ts'

export type ExcludeRules = {
  /** Patterns in gitignore syntax, rooted at `/`. */
  readonly patterns: readonly string[]
  /** Leave out directories that hold a valid CACHEDIR.TAG (their tag file is kept). */
  readonly cacheDirectories: boolean
  /** Do not cross into other file systems. */
  readonly oneFileSystem: boolean
  /** Leave out files larger than this. */
  readonly largerThanBytes?: number | undefined
}

export type BackupSource = {
  /** Names the series: an agent's source label, or `host:paths` on a command line. */
  readonly label: string
  readonly host: string
  /** Absolute paths; a symlink to a directory is refused, any other is an entry itself. */
  readonly paths: readonly Buffer[]
  readonly excludes: ExcludeRules
  /** Instead of paths: one file of this name at `/`, read from the descriptor. */
  readonly stdin?: { readonly name: Buffer; readonly fd: number } | undefined
}

/** A file all of whose new blobs are durable in the store (O4). Unchanged files are no transmission. */
export type TransmittedFile = {
  readonly path: Buffer
  readonly size: number
  /** Bytes of its content that were new to the repository, before compression. */
  readonly newBytes: number
  readonly changed: boolean
}

export type BackupProgress = {
  readonly phase: 'preparing' | 'reading' | 'finishing'
  readonly files: number
  readonly bytes: number
  readonly newBytes: number
  readonly uploadedBytes: number
  readonly problems: number
  /** From the previous run of the series; undefined on a first one. */
  readonly expectedFiles?: number | undefined
  readonly expectedBytes?: number | undefined
}

export type BackupOptions = {
  readonly repository: Repository
  readonly keys: WriteKeys
  readonly source: BackupSource
  readonly tags: readonly string[]
  /** Read every file again, whatever the cache says. */
  readonly force: boolean
  readonly dryRun: boolean
  /** Directory for spool, journal of packs and cache; private to this agent, on a local disk. */
  readonly state: Buffer
  readonly program: string
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
  readonly limits?: Partial<BackupLimits>
  readonly signal: AbortSignal
  readonly onProgress?: (progress: BackupProgress) => void
  /**
   * Told before the run goes on; a throw aborts the run. The daemon journals here, with fsync. `path`s are under no other promise than that
   * their content is durable.
   */
  readonly onTransmitted?: (files: readonly TransmittedFile[]) => void
  /** Told when something is worth a person's attention but does not stop the run; the text is printable. */
  readonly onNotice?: (text: string) => void
}

export type BackupLimits = {
  readonly workers: number
  readonly uploadsAtOnce: number
  readonly compressionLevel: number
  readonly packBytes: number
  /** What small files and tree nodes share is compressed and sealed in pieces of about this size. */
  readonly segmentBytes: number
  readonly spoolBytes: number
}

export type BackupSummary = {
  readonly files: number
  readonly directories: number
  readonly others: number
  readonly bytes: number
  readonly filesNew: number
  readonly filesChanged: number
  readonly filesUnchanged: number
  readonly bytesRead: number
  /** Of `bytesRead`, what is in files so small that they stand in the tree itself: no chunks, neither new nor known. */
  readonly bytesInline: number
  readonly chunksNew: number
  readonly chunksReused: number
  readonly bytesNew: number
  /** Sealed bytes in packs of this run, with padding. */
  readonly bytesStored: number
  readonly packs: number
  readonly packsResumed: number
  /** Segments that were fetched from the store again, opened and compared before the snapshot was made; and all bytes fetched for that. */
  readonly segmentsReadBack: number
  readonly bytesReadBack: number
  readonly problems: number
  readonly durationMs: number
}

export type BackupResult = {
  /** `incomplete`: the snapshot is there but some files are not in it or changed while they were read (exit 3). */
  readonly outcome: 'done' | 'incomplete'
  /** Whether there is a last snapshot of the series, and it has as many files and bytes: else files came or went, however few were read. */
  readonly hasFilesOfLast: boolean
  /** Undefined on a dry run. */
  readonly snapshot: SnapshotStructure | undefined
  readonly summary: BackupSummary
  readonly problems: readonly Problem[]
}
// The entry: `runBackup(options: BackupOptions): Promise<BackupResult>` in run.ts.
