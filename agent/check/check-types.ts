// What a check is asked and what it answers, as data.
import type { ReadKeys } from '../keys/keys.ts'
import type { Repository } from '../repository/repository.ts'
import type { PathLoss, SnapshotLoss } from './loss.ts'
import type { ReadLog } from './read-log.ts'

/**
 * Which packs' bytes are read: those of share `n` of `t` (from 1), so that t runs read everything; those whose turn it is, so that every pack is read
 * within `days` days where a check runs at least once a day; or all.
 */
export type ReadData = { readonly share: { readonly n: number; readonly t: number } } | { readonly days: number } | 'all'

/** What the message of damage ends with that a repair leaves as it is, and by which nothing is lost. */
export const NO_REPAIR_MENDS = 'No repair mends it: bring it back from a copy, or let it be'
/** The same of a pack that neither its footer nor an index file tells of, such as one that a power cut tore: it is told of as long as it is there. */
export const NO_REPAIR_READS = 'No index file tells what was in it: bring it back from a copy, or move it away where nothing is lost by it'

export type ObjectKind = 'repository' | 'key' | 'session' | 'list' | 'roster' | 'index' | 'pack' | 'snapshot' | 'tree'
export type Finding = {
  readonly kind: ObjectKind
  /** Name of the object; for a tree the path in the snapshot. */
  readonly object: string
  readonly verdict: 'damaged' | 'unknown'
  readonly code: string
  /** Printable, one line. */
  readonly message: string
}

export type CheckProgress = {
  readonly phase: 'objects' | 'data' | 'snapshots' | 'content'
  readonly done: number
  readonly total: number
  readonly bytes: number
}

export type CheckReport = {
  /** Objects that were looked at. */
  readonly good: number
  /** Objects that are damaged, and blobs of snapshots that are lost. */
  readonly damaged: number
  readonly unknown: number
  /** The first 10,000. */
  readonly findings: readonly Finding[]
  readonly sessions: number
  /** Sessions whose packs are there and whose own object is not: not damage, since the entry stands in the packs too. */
  readonly sessionsGone: number
  readonly indexFiles: number
  readonly packs: number
  readonly snapshots: number
  /** Snapshots that history lacks: gone without a record of it, or among those that do not open. They are among the damaged. */
  readonly snapshotsMissing: number
  /** Tree nodes and chunk references looked up. */
  readonly nodes: number
  readonly references: number
  readonly packsRead: number
  readonly bytesRead: number
  /** Packs that have to be read for the rotation and could not be. */
  readonly packsOverdue: number
  /** Packs that no index file names: left by an interrupted run, not damage. */
  readonly unindexedPacks: number
  /** Damaged packs and index files on which nothing rests any more, because a repair wrote index files without them: not damage any more. */
  readonly writtenOff: number
  /** Snapshots that are there and no longer count, by a forget record. */
  readonly forgotten: number
  /** Snapshots of runs that a collection overtook before they were reported good: not damage. */
  readonly unfinished: number
  /** Packs that a collection condemned: still there, and deleted already though an index file names them. */
  readonly condemnedPacks: number
  readonly deletedPacks: number
  /** Index files were missing or bad, and blobs were found by the packs' footers alone. */
  readonly usedFooters: boolean
  /** Whether segments were opened and trees walked with the keys to read. */
  readonly opened: boolean
  readonly lostBlobs: number
  readonly unsureBlobs: number
  /** What each snapshot that is affected loses. */
  readonly affected: readonly SnapshotLoss[]
  /** With the keys to read: the paths that are affected. */
  readonly paths: readonly PathLoss[]
  readonly pathsLeftOut: number
}

export type CheckOptions = {
  readonly repository: Repository
  /** Without it only packs are read that were damaged when they were last read, by `readLog`. */
  readonly readData?: ReadData | undefined
  /** Opens every segment that is read, and walks the trees of all snapshots as a restore would. Needs `keys`. */
  readonly content?: boolean
  /** The root's: names what is lost. */
  readonly keys?: ReadKeys | undefined
  /** What was read when; without one a rotation goes by the calendar alone. */
  readonly readLog?: ReadLog | undefined
  /** In milliseconds since 1970; for the rotation. */
  readonly now?: number
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: CheckProgress) => void) | undefined
}
