// The real engines behind the daemon's seams: agent/backup and agent/restore, and stores by the appliance's configuration.
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { runBackup } from '../backup/run.ts'
import { compareRestored } from '../drill/comparison.ts'
import { isDamage, problemsOf, verdictOf } from '../drill/drill.ts'
import { contentBytes } from '../restore/decide.ts'
import { requireAllRead, restoreSnapshot, type RestoredEntry } from '../restore/restore.ts'
import { runCollection } from './collection-task.ts'
import { storeOpener, type Engines, type RestoreOutcome, type RestoreWork } from './parts.ts'
import type { FileAct } from './recorder.ts'

/** Files that are told together; each telling costs one fsync of the journal. */
const FILES_AT_ONCE = 1000

export function realEngines(seams: { clock: Clock; random: Random }): Engines {
  return { backup: runBackup, restore: restoreWith, collect: runCollection, openStore: storeOpener(seams.clock, seams.random) }
}

async function restoreWith({ onFiles, onProgress, compare, ...work }: RestoreWork): Promise<RestoreOutcome> {
  const batch = batched(onFiles)
  try {
    const report = await restoreSnapshot({
      ...work,
      onEntry: (entry) => batch.add(fileActOf(entry)),
      onProgress: ({ files, bytes, totalFiles = files, totalBytes = bytes }) =>
        onProgress({ done: { files, bytes }, total: { files: Math.max(files, totalFiles), bytes: Math.max(bytes, totalBytes) } }),
    })
    requireAllRead(report)
    const { files, bytes, kept, failed, problemCount } = report
    const counts = { files, bytes, kept, failed }
    if (!compare) return { outcome: problemCount > 0 ? 'incomplete' : 'done', ...counts }
    const { differences } = await compareRestored(work)
    const told = new Set<string>()
    for (const { path, code, bytes: size = 0 } of differences) {
      if (!isDamage(code) || told.has(path.toString('latin1'))) continue
      told.add(path.toString('latin1'))
      batch.add({ path, size, newBytes: 0, outcome: 'failed' })
    }
    const verdict = verdictOf(problemsOf(report, differences))
    const outcome = verdict === 'restored' && problemCount === 0 ? 'done' : verdict === 'damaged' ? 'damaged' : 'incomplete'
    return { outcome, ...counts, failed: failed + told.size }
  } finally {
    batch.flush()
  }
}

/** Collects files and hands them on a thousand at a time; the rest with `flush`. */
export function batched(onFiles: (files: readonly FileAct[]) => void): { add: (file: FileAct) => void; flush: () => void } {
  let waiting: FileAct[] = []
  const flush = (): void => {
    if (waiting.length === 0) return
    const files = waiting
    waiting = []
    onFiles(files)
  }
  return {
    add: (file) => {
      waiting.push(file)
      if (waiting.length >= FILES_AT_ONCE) flush()
    },
    flush,
  }
}

/** A restored entry as a record tells of it. */
export function fileActOf({ path, entry, outcome }: RestoredEntry): FileAct {
  const size = contentBytes(entry)
  if (outcome === 'failed') return { path, size, newBytes: 0, outcome: 'failed' }
  return outcome === 'kept' ? { path, size, newBytes: 0, outcome: 'kept' } : { path, size, newBytes: size, outcome: 'ok' }
}
