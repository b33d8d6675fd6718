// What a run tells of itself while it goes on.
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { BackupOptions } from './backup-types.ts'
import type { SourceCounts } from './read-source.ts'

/** A teller of progress with what the previous snapshot lets expect. */
export function createProgress(
  { onProgress }: BackupOptions,
  previous: OpenedSnapshot | undefined,
  uploadedBytes: () => number,
): (phase: 'preparing' | 'reading' | 'finishing', counts?: SourceCounts, problems?: number) => void {
  return (phase, counts, problems = 0) =>
    onProgress?.({
      phase,
      files: counts?.files ?? 0,
      bytes: counts?.bytes ?? 0,
      newBytes: counts?.bytesNew ?? 0,
      uploadedBytes: uploadedBytes(),
      problems,
      expectedFiles: previous?.structure.files,
      expectedBytes: previous?.structure.bytes,
    })
}
