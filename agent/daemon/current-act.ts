// The act under way: kept before its beginning is journalled, with its end before that is, and dropped when both stand there and its reports wait to be
// sent. So whatever a crash, a kill or a full disk cuts off, the journal tells of one beginning and one end of it, and no report of it is lost.
import { isoTime, parseTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { ActEnd, AgentState, Report } from './agent-state.ts'
import type { Outbox } from './outbox.ts'
import { INTERRUPTED, NO_TOTALS, startedHeader, type Act, type Ending, type Recorder, type StartedHeader } from './recorder.ts'

type Parts = { readonly state: AgentState; readonly recorder: Recorder; readonly outbox: Outbox; readonly clock: Clock }

export type Begun = { readonly header: StartedHeader; readonly after: number; readonly startedAt: string }

/** Journals that an act begins; returns when that is durable. Throws `journal-full` and `local-disk`; then it did not begin. */
export function beginAct({ state, recorder, clock }: Omit<Parts, 'outbox'>, act: Act): Begun {
  const begun = { ...recorder.prepare(act), startedAt: isoTime(clock.now()) }
  state.current.save(begun)
  recorder.started(begun.header)
  return begun
}

/** Journals how it ended and hands the reports over. Where this fails, `takeCutOff` does the rest. */
export function endAct(
  { state, recorder, outbox }: Omit<Parts, 'clock'>,
  begun: Begun,
  ending: Ending,
  reports: readonly Report[] = [],
): void {
  state.current.save({ ...begun, end: endOf(ending, reports) })
  recorder.ended(begun.header, ending)
  if (reports.length > 0) outbox.add(reports)
  state.current.remove()
}

/** What is kept of an ending until the journal has it. */
export function endOf({ outcome, code, snapshotId, totals }: Ending, reports: readonly Report[]): ActEnd {
  const known = { ...(code === undefined ? {} : { code }), ...(snapshotId === undefined ? {} : { snapshotId }) }
  return { outcome, ...known, totals, reports: [...reports] }
}

export type CutOff = { readonly header: StartedHeader; readonly ending: Ending; readonly drop: () => void }

/**
 * Brings the act that is kept to its end in the journal: to the one that was known, or to that of an interrupted one. Undefined where none is kept; else
 * the caller notes how it ended and drops it. Throws `journal-full` and `local-disk`, and then can be called again.
 */
export function takeCutOff({ state, recorder, outbox, clock }: Parts): CutOff | undefined {
  const cut = state.current.load()
  if (cut === undefined) return undefined
  const header = startedHeader(cut.header)
  if (header === undefined) throw new HoldfastError('damaged', 'current.json in the state directory is damaged; move it away')
  const { reports, ...ending } = cut.end ?? {
    ...{ ...INTERRUPTED, totals: NO_TOTALS },
    reports: interruptedReports(header, cut.startedAt, clock),
  }
  const drop = (): void => state.current.remove()
  const stand = recorder.standOf(header, cut.after ?? 0)
  if (stand === 'not-begun') return { header, ending, drop }
  // The reports first, which need room for a file of their own: without it the record would not help.
  if (reports.length > 0) outbox.add(reports)
  if (stand === 'begun') recorder.ended(header, ending)
  return { header, ending, drop }
}

function interruptedReports(header: StartedHeader, startedAt: string, clock: Clock): Report[] {
  if (header.kind !== 'run-started' || header.policyId === undefined) return []
  const { runId, policyId, source } = header
  const endedAt = isoTime(Math.max(Math.round(clock.now()), parseTime(startedAt)))
  return [
    {
      run: { ...{ runId, policyId, source, kind: 'backup', state: 'failed', code: 'interrupted', totals: NO_TOTALS }, startedAt, endedAt },
    },
  ]
}
