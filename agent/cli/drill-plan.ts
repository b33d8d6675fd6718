// What a drill works with and how it is told of, whether this process restores or an agent does.
import { isoTime } from '@holdfast/shared/clock.ts'
import { anyPlace, type DrillPlan, planDrill } from '../drill/drill.ts'
import type { SampleLimits } from '../drill/sample.ts'
import type { RootKeys } from '../keys/domain.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { View } from '../repository/view.ts'
import type { Context } from './context.ts'
import type { DrillState } from './drill-state.ts'

export type DrillWork = {
  readonly context: Context
  readonly repository: Repository
  readonly view: View
  readonly keys: RootKeys
  readonly limits: SampleLimits | 'whole'
  readonly snapshots: readonly OpenedSnapshot[]
}

/** One drill that ended, or that was planned or asked for. */
export type DrillDone = {
  readonly outcome: 'planned' | 'asked' | 'restored' | 'incomplete' | 'damaged' | 'failed' | 'cancelled'
  readonly files: number
  readonly bytes: number
  readonly problems: number
}

/** The sample of the next drill of a snapshot's series. */
export function planOf(
  { repository, view, keys, limits, context }: DrillWork,
  state: DrillState,
  snapshot: OpenedSnapshot,
  roomBytes: number,
): Promise<DrillPlan> {
  const from = state.placeOf(snapshot.structure.series.toString('hex')) ?? anyPlace(context.random)
  return planDrill({ repository, view, keys: keys.read, snapshot, limits, from, roomBytes, signal: context.signal })
}

export function sayPlanned({ context, repository }: DrillWork, snapshot: OpenedSnapshot, plan: DrillPlan): DrillDone {
  const { files, bytes, sample } = plan
  const done = { outcome: 'planned', files, bytes, problems: sample.tooLarge.length } as const
  context.report.say({ event: 'drill', at: isoTime(context.clock.now()), ...aboutPlan(repository, snapshot, plan), ...done })
  return done
}

export function aboutPlan(repository: Repository, snapshot: OpenedSnapshot, plan: DrillPlan) {
  return {
    repository: repository.store.location,
    snapshotId: snapshot.structure.ref.random,
    series: snapshot.structure.series.toString('hex'),
    whole: plan.selection.kind === 'whole',
    ofFiles: plan.sample.ofFiles,
    ofBytes: plan.sample.ofBytes,
    drillsForAll: plan.drillsForAll,
    sampleHash: plan.sampleHash,
  }
}
