// `holdfast undelete`: takes back forgotten snapshots while their bytes are there; without ids it lists them.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { refKey } from '@holdfast/shared/format/layout.ts'
import type { Command } from 'commander'
import { UNDELETE_WINDOW_MS } from '../../collection/prune.ts'
import { beingDeleted, listForgotten, undelete } from '../../collection/undelete.ts'
import { forgottenEntry } from '../../repository/collection-state.ts'
import type { OpenedSnapshot } from '../../repository/snapshot.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { withRepository } from '../open.ts'

type UndeleteFlags = { readonly all?: boolean; readonly pruneIsOver?: boolean; readonly acceptDamage?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description('Makes forgotten snapshots count again, with all that they need. Without an id it lists what can be taken back.')
    .argument('[snapshots...]', 'ids of forgotten snapshots, or beginnings of them')
    .option('--all', 'all that are forgotten')
    .option(
      '--prune-is-over',
      "no 'holdfast prune' of the root is at work any more: also what its list names for deletion and is still there",
    )
    .option('--accept-damage', 'also what has lost something that it needs; the rest of it can be restored then')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast undelete                 forgotten snapshots, and from when on they may be gone
  $ holdfast undelete 1f6c0a2b
  $ holdfast undelete --all -n

It says so, and changes nothing, where something that a snapshot needs is deleted already or lost, or may be being deleted;
--accept-damage takes back what is left of the former. An enrolled appliance takes
back what it has forgotten itself.`,
    )
    .action((ids: readonly string[], flags: UndeleteFlags) => start('undelete', (context) => takeBack(context, ids, flags)))
}

async function takeBack(context: Context, ids: readonly string[], flags: UndeleteFlags): Promise<Outcome> {
  if (ids.length > 0 && flags.all === true) throw new HoldfastError('usage', 'name snapshots, or say --all; nothing was changed')
  return withRepository(context, 'write', async ({ repository, holder }) => {
    const { clock, random, signal, dryRun, report } = context
    let lacking: string | undefined
    const options = {
      ...{ repository, keys: holder.write, clock, random, signal },
      pruneIsOver: flags.pruneIsOver === true,
      acceptDamage: flags.acceptDamage === true,
      onLacking: (text: string) => void (lacking = text),
    }
    const isList = ids.length === 0 && flags.all !== true
    const { survey, snapshots } = await listForgotten(options, isList || dryRun)
    const outcome = (counts: Record<string, number>): Outcome => ({
      result: 'done',
      repository: repository.store.location,
      domainId: repository.description.domainId.toString('hex'),
      counts,
      details: { list: isList },
    })
    if (isList) {
      const named = beingDeleted(survey, snapshots)
      for (const { structure } of snapshots) {
        const entry = forgottenEntry(survey.state, structure.ref, structure.writerId)
        if (entry === undefined) continue
        const { random: id } = structure.ref
        report.say({
          event: 'forgotten',
          id,
          series: structure.series.toString('hex'),
          startedAt: isoTime(structure.startedAt),
          since: isoTime(entry.since),
          why: entry.why,
          goneFrom: isoTime(entry.since + UNDELETE_WINDOW_MS),
          beingDeleted: named.has(refKey(structure.ref)),
        })
      }
      return outcome({ snapshots: snapshots.length, beingDeleted: named.size })
    }
    const chosen = flags.all === true ? snapshots : ids.map((id) => chooseOne(snapshots, id))
    const unique = new Map(chosen.map((snapshot) => [refKey(snapshot.structure.ref), snapshot]))
    const done = await undelete(options, [...unique.values()], survey, dryRun)
    if (lacking !== undefined) report.say({ event: 'notice', level: 'warning', message: lacking })
    return outcome({ ...done })
  })
}

function chooseOne(snapshots: readonly OpenedSnapshot[], id: string): OpenedSnapshot {
  const found = /^[0-9a-f]{1,32}$/i.test(id) ? snapshots.filter(({ structure }) => structure.ref.random.startsWith(id.toLowerCase())) : []
  const [first] = found
  if (first === undefined || found.length > 1)
    throw new HoldfastError(
      'usage',
      `'${shownText(id)}' names ${found.length === 0 ? 'no' : `${found.length}`} forgotten snapshot${found.length > 1 ? 's' : ''}: 'holdfast undelete' lists them; nothing was changed`,
    )
  return first
}
