// Reports on runs and snapshots that wait for the server: hints for the console beside the records, kept over restarts, sent in order, and
// bounded: the oldest go first, for the records carry the truth.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { done, runReport, snapshotReport, type RunReport, type SnapshotReport } from '@holdfast/shared/protocol/agent.ts'
import { z } from 'zod'
import { stateFile } from './agent-state.ts'
import { AGENT_ROUTES } from './routes.ts'
import type { ServerClient } from './server-client.ts'
import type { StateDirectory } from './state-directory.ts'

const WAITING_MAX = 1000
const waiting = z.array(z.union([z.strictObject({ run: runReport }), z.strictObject({ snapshot: snapshotReport })])).max(WAITING_MAX)
type Report = z.infer<typeof waiting>[number]

export type Outbox = {
  readonly run: (report: RunReport) => void
  readonly snapshot: (report: SnapshotReport) => void
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
  const post = (report: Report, signal: AbortSignal) =>
    'run' in report
      ? options.client.call(done, { ...AGENT_ROUTES.runs, json: report.run, signal })
      : options.client.call(done, { ...AGENT_ROUTES.snapshots, json: report.snapshot, signal })
  return {
    // A newer word on a run makes the ones before it superfluous.
    run: (report) => keep([...reports.filter((other) => !('run' in other && other.run.runId === report.runId)), { run: report }]),
    snapshot: (report) => keep([...reports, { snapshot: report }]),
    waiting: () => reports.length,
    send: async (signal) => {
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
