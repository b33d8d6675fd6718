// `holdfast repair`: makes index files true again after damage, says exactly what is lost, and removes nothing.
import type { Command } from 'commander'
import { repairRepository, type RepairReport } from '../../repair/repair.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { lossCounts, sayLosses } from '../loss-report.ts'
import { withRepository } from '../open.ts'
import { withReadLog } from '../read-log-place.ts'

type RepairFlags = { readonly readData?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description(
      'Writes index files anew where they are missing, damaged or untrue, so that the next backup stores again what is damaged and a restore finds all that is sound. Says what each snapshot has lost, and with the root which files. Removes nothing, and leaves every snapshot as it is.',
    )
    .option('--read-data', 'read all packs whole, not only their footers and those that a check on this machine found damaged')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast repair -n                what is wrong, what would be done, what is lost; changes nothing
  $ holdfast repair
  $ holdfast backup PATH…             stores again what was lost and is still in the source
  $ holdfast check --read-data

It may be interrupted and run again at any time. An enrolled appliance repairs what it wrote itself; the root repairs everything.
Exit code 0 where every snapshot is whole, 4 where some are not: what remains of them can be restored. 3 where something could not be read.`,
    )
    .action((flags: RepairFlags) => start('repair', (context) => repair(context, flags)))
}

async function repair(context: Context, flags: RepairFlags): Promise<Outcome> {
  return withRepository(context, 'write', ({ repository, holder }) =>
    withReadLog(context, repository.description.domainId, async (readLog) => {
      const { report, signal, clock, random, dryRun } = context
      const done = await repairRepository({
        repository,
        keys: holder.write,
        read: holder.kind === 'root' ? holder.root.read : undefined,
        readData: flags.readData === true ? 'all' : new Set(readLog.damaged()),
        dryRun,
        random,
        now: clock.now(),
        signal,
        onProgress: ({ phase, done: files, total, bytes }) =>
          report.progress({
            phase: `repairing: ${phase}`,
            files,
            totalFiles: total,
            bytes,
            problems: 0,
            unit: phase === 'packs' ? 'packs' : 'objects',
          }),
      })
      sayNotes(context, done)
      sayLosses(context, done.losses)
      const { notes: _, losses, snapshotsRefused, ...counts } = done
      const isUnsure = done.unread > 0 || losses.unsure > 0
      return {
        result: losses.lost > 0 || snapshotsRefused.length > 0 ? 'damaged' : isUnsure || done.leftToOthers > 0 ? 'incomplete' : 'done',
        repository: repository.store.location,
        domainId: repository.description.domainId.toString('hex'),
        counts: {
          ...counts,
          lostBlobs: losses.lost,
          unsureBlobs: losses.unsure,
          snapshotsRefused: snapshotsRefused.length,
          ...lossCounts(losses),
        },
      }
    }),
  )
}

function sayNotes({ report, dryRun }: Context, done: RepairReport): void {
  for (const { object, verdict, code, message } of done.notes)
    if (verdict === 'repaired')
      report.say({
        event: 'notice',
        level: 'note',
        message: `${object}: ${message}; ${dryRun ? 'would be' : 'is'} put right by new index files`,
      })
    else report.say({ event: 'problem', path: object, code: verdict === 'unknown' ? `unknown-${code}` : code, message })
  for (const { name, error } of done.snapshotsRefused)
    report.say({
      event: 'problem',
      path: name,
      code: error.code,
      message: `${error.message}. It is left as it is: other snapshots do not need it`,
    })
}
