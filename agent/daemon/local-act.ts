// Acts at an enrolled appliance's own command line (local-run.ts, local-recovery.ts), done by a process of their own beside the daemon: kept before their
// beginning is journalled, with their end before that is, as current-act.ts does for the daemon's. So whatever cuts such a process off, the daemon
// brings the act to its one end in the journal, and no report of it is lost.
import { actEnd, stateFile, type Report, type StateFile } from './agent-state.ts'
import { endOf } from './current-act.ts'
import { handOver } from './outbox.ts'
import { INTERRUPTED, NO_TOTALS, startedHeader, type Act, type Ending, type Recorder } from './recorder.ts'
import type { StateDirectory } from './state-directory.ts'

/** What a process says of the act that it is at; `after` as `Recorder.prepare` gives it. */
type Mark = ReturnType<Recorder['prepare']>

const MARK = /^local-(run_[0-9a-f]{32})\.json$/
const MARK_BYTES_MAX = 64 * 1024

export type LocalAct = {
  /** Journals how it ended and hands the reports to the daemon. Throws `journal-full`, `local-disk`: then the daemon does the rest when it starts. */
  readonly end: (ending: Ending, reports: readonly Report[]) => void
}

/**
 * Journals that an act of this process begins, and says before which it is; the kernel lets go of the lock with the process, and so a daemon sees that
 * it died. Throws as `Recorder.prepare` does; then it did not begin.
 */
export function beginLocalAct(directory: StateDirectory, records: Recorder, act: Act): LocalAct {
  const { fileSystem } = directory
  const mark: Mark = records.prepare(act)
  const { runId } = act
  const name = `local-${runId}.json`
  const fd = fileSystem.open(directory.fd, Buffer.from(name), 'create')
  fileSystem.lock?.(fd, true)
  fileSystem.write(fd, Buffer.from(JSON.stringify(mark)), 0)
  fileSystem.sync(fd)
  fileSystem.sync(directory.fd)
  records.started(mark.header)
  return {
    end: (ending, reports) => {
      try {
        const kept = endFile(directory, runId)
        kept.save(endOf(ending, reports))
        records.ended(mark.header, ending)
        if (reports.length > 0) handOver(directory, runId, reports)
        kept.remove()
        directory.remove(name)
      } finally {
        fileSystem.close(fd)
      }
    },
  }
}

/** Brings local acts whose processes died to their end: to the one that was known, or to that of an interrupted one. Called when the daemon starts. */
export function endDeadLocalActs(directory: StateDirectory, records: Recorder): void {
  const { fileSystem } = directory
  for (const name of directory.names()) {
    const runId = MARK.exec(name)?.[1]
    if (runId === undefined) continue
    const fd = fileSystem.open(directory.fd, Buffer.from(name), 'update')
    try {
      const isAlive = fileSystem.lock?.(fd, false) === false
      const bytes = directory.read(name, MARK_BYTES_MAX)
      // Empty: its process is just about to write it, or died before anything began.
      if (isAlive || bytes === undefined || bytes.length === 0) continue
      const mark = parseOrNothing(bytes)
      const kept = endFile(directory, runId)
      bringToItsEnd(directory, records, mark, kept)
      kept.remove()
      directory.remove(name)
    } finally {
      fileSystem.close(fd)
    }
  }
}

function bringToItsEnd(directory: StateDirectory, records: Recorder, mark: Partial<Mark> | undefined, kept: EndFile): void {
  const header = startedHeader(mark?.header)
  if (header === undefined) return
  const stand = records.standOf(header, Number(mark?.after))
  if (stand === 'not-begun') return
  const { reports, ...ending } = kept.load() ?? { ...INTERRUPTED, totals: NO_TOTALS, reports: [] }
  // The reports first, which need room for a file of their own: without it the record would not help.
  if (reports.length > 0) handOver(directory, header.runId, reports)
  if (stand === 'begun') records.ended(header, ending)
}

type EndFile = StateFile<ReturnType<typeof endOf>>

function endFile(directory: StateDirectory, runId: string): EndFile {
  return stateFile(directory, `end-${runId}.json`, actEnd)
}

/** A mark that a crash tore says nothing: it was written before anything began. */
function parseOrNothing(bytes: Buffer): Partial<Mark> | undefined {
  try {
    return JSON.parse(bytes.toString('utf8')) as Partial<Mark>
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
