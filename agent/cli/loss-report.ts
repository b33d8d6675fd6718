// What damage costs, said alike by `check` and `repair`: by snapshot, and by path where the keys to read are.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Losses } from '../check/loss.ts'
import { pathFields } from './byte-text.ts'
import type { Context } from './context.ts'

export type SaidLosses = Pick<Losses, 'snapshots' | 'paths' | 'pathsLeftOut'>

export function sayLosses({ report }: Context, losses: SaidLosses, unfinished: number): void {
  for (const { snapshot, lostChunks, lostNodes, unsure, packs } of losses.snapshots) {
    const { structure } = snapshot
    report.say({
      event: 'affected-snapshot',
      id: structure.ref.random,
      startedAt: isoTime(structure.startedAt),
      series: structure.series.toString('hex'),
      lostChunks,
      lostNodes,
      unsure,
      packs: [...packs].map(([pack, blobs]) => ({ pack, blobs })),
    })
  }
  for (const { path, below, verdict, snapshots } of losses.paths)
    report.say({ event: 'affected-path', ...pathFields(path), below, verdict, snapshotIds: snapshots })
  if (losses.pathsLeftOut > 0)
    report.say({ event: 'notice', level: 'warning', message: `${losses.pathsLeftOut} more paths are affected and not named here` })
  if (unfinished > 0)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${unfinished === 1 ? '1 snapshot is' : `${unfinished} snapshots are`} unfinished: a collection overtook the run before it was reported good; not damage. 'holdfast forget ID' lets them go`,
    })
}

/**
 * Data without a snapshot is no damage that can be proved, as a first backup that was interrupted leaves the same; but nobody may take it for all being
 * well. `stored`: packs or bytes of them.
 */
export function sayNoSnapshot(
  { report }: Context,
  { snapshots, forgotten, stored }: Record<'snapshots' | 'forgotten' | 'stored', number>,
): void {
  if (snapshots + forgotten > 0 || stored === 0) return
  report.say({
    event: 'notice',
    level: 'warning',
    message:
      'data is there, and no snapshot: no backup was finished yet, all were forgotten and are deleted, or the store has lost them or does not show them. Where there should be some, bring them back from a copy before the next prune: it lets go what no snapshot needs',
  })
}

export function lossCounts(losses: SaidLosses): Record<string, number> {
  return {
    snapshotsAffected: losses.snapshots.length,
    pathsLost: losses.paths.filter(({ verdict }) => verdict === 'lost').length,
    pathsUnsure: losses.paths.filter(({ verdict }) => verdict === 'unsure').length,
    pathsLeftOut: losses.pathsLeftOut,
  }
}
