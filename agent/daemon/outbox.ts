// Reports on runs and snapshots that wait for the server: hints for the console beside the records, kept over restarts, sent in order, and
// bounded: the oldest go first, for the records carry the truth. Other processes of this appliance hand theirs over, each as a file of its own,
// so that nobody but the daemon writes its list.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { done, type RunReport } from '@holdfast/shared/protocol/agent.ts'
import { z } from 'zod'
import { report, stateFile, type Report } from './agent-state.ts'
import { AGENT_ROUTES } from './routes.ts'
import type { ServerClient } from './server-client.ts'
import type { StateDirectory } from './state-directory.ts'

const WAITING_MAX = 1000
const waiting = z.array(report).max(WAITING_MAX)

const HANDED_OVER = /^reports-run_[0-9a-f]{32}\.json$/

/** What a run of another process tells the server; the daemon takes it up the next time that it sends. Throws `local-disk`. */
export function handOver(directory: StateDirectory, runId: string, reports: readonly Report[]): void {
  stateFile(directory, `reports-${runId}.json`, waiting).save([...reports])
}

export type Outbox = {
  readonly run: (report: RunReport) => void
  /** Takes up several, in one; such as are there already are not added again. */
  readonly add: (reports: readonly Report[]) => void
  /** Sends what waits. Rejects as the client does; a report that the server refuses as such is dropped and named by `onRefused`. */
  readonly send: (signal: AbortSignal) => Promise<void>
  readonly waiting: () => number
}

export function outbox(options: { directory: StateDirectory; client: ServerClient; onRefused: (code: string) => void }): Outbox {
  const file = stateFile(options.directory, 'reports.json', waiting)
  let reports: readonly Report[] = file.load() ?? []
  const keep = (next: readonly Report[]): void => {
    reports = next.slice(-WAITING_MAX)
    file.save([...reports])
  }
  const withRun = (known: readonly Report[], report: RunReport): Report[] => [
    // A newer word on a run makes the ones before it superfluous.
    ...known.filter((other) => !('run' in other && other.run.runId === report.runId)),
    { run: report },
  ]
  const withReport = (known: readonly Report[], next: Report): readonly Report[] => {
    if ('run' in next) return withRun(known, next.run)
    const { snapshotId } = next.snapshot
    return [...known.filter((other) => !('snapshot' in other && other.snapshot.snapshotId === snapshotId)), next]
  }
  /** Kept before the file goes: a crash between the two sends a report twice, which changes nothing, and loses none. */
  const takeUp = (): void => {
    for (const name of options.directory.names()) {
      if (!HANDED_OVER.test(name)) continue
      const handed = stateFile(options.directory, name, waiting)
      keep((handed.load() ?? []).reduce(withReport, reports))
      handed.remove()
    }
  }
  const post = (report: Report, signal: AbortSignal) =>
    'run' in report
      ? options.client.call(done, { ...AGENT_ROUTES.runs, json: report.run, signal })
      : options.client.call(done, { ...AGENT_ROUTES.snapshots, json: report.snapshot, signal })
  return {
    run: (report) => keep(withRun(reports, report)),
    add: (added) => keep(added.reduce(withReport, reports)),
    waiting: () => reports.length,
    send: async (signal) => {
      takeUp()
      for (let first = reports[0]; first !== undefined; first = reports[0]) {
        try {
          await post(first, signal)
        } catch (error) {
          if (!isHoldfastError(error, 'unprocessable', 'usage', 'not-found', 'conflict', 'too-large')) throw error
          options.onRefused(error.code)
        }
        keep(reports.filter((other) => other !== first))
      }
    },
  }
}
