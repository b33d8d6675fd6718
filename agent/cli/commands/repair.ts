// `holdfast repair`: makes index files true again after damage, says exactly what is lost, and removes nothing.
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import type { Command } from 'commander'
import { repairRepository, type RepairReport } from '../../repair/repair.ts'
import { commonChunkBytes } from '../../repository/lost-description.ts'
import {
  type Chunking,
  createRepository,
  DEFAULT_CHUNKING,
  lostError,
  REPOSITORY_OBJECT,
  type Repository,
} from '../../repository/repository.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { formatBytes } from '../format.ts'
import { lossCounts, sayLosses, sayNoSnapshot } from '../loss-report.ts'
import { type Holder, withRepository } from '../open.ts'
import { withReadLog } from '../read-log-place.ts'
import { howToGoOn, sayUnopened } from '../unopened.ts'

type RepairFlags = { readonly readData?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description(
      'Writes index files anew where they are missing, damaged or untrue, so that the next backup stores again what is damaged and a restore finds all that is sound. Writes the object `repository` anew where it is missing. Says what each snapshot has lost, and with the root which files. Removes nothing, and leaves every snapshot as it is.',
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
  return withRepository(context, { need: 'write', lost: 'own words' }, ({ repository, holder }) =>
    withReadLog(context, repository, async (readLog) => {
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
      const description = await repairDescription(context, repository, holder)
      sayLosses(context, done.losses, done.losses.unfinished.length)
      sayNoSnapshot(context, { ...done, stored: done.packs })
      const { notes: _, losses, recordsRefused, snapshotsRefused, snapshotsMissing, ...counts } = done
      const missing = snapshotsMissing.filter(({ error }) => error.code === 'not-found').length
      const isDamaged = losses.lost > 0 || recordsRefused.length + snapshotsRefused.length > 0 || missing > 0 || description === 'damaged'
      const isUnsure = done.unread > 0 || losses.unsure > 0 || snapshotsMissing.length > missing
      return {
        result: isDamaged ? 'damaged' : isUnsure || done.leftToOthers > 0 || description === 'left' ? 'incomplete' : 'done',
        repository: repository.store.location,
        domainId: repository.description.domainId.toString('hex'),
        counts: {
          ...counts,
          lostBlobs: losses.lost,
          unsureBlobs: losses.unsure,
          unfinished: losses.unfinished.length,
          recordsRefused: recordsRefused.length,
          snapshotsRefused: snapshotsRefused.length,
          snapshotsMissing: missing,
          snapshotsUntold: snapshotsMissing.length - missing,
          ...lossCounts(losses),
        },
      }
    }),
  )
}

/** Writes the description anew where it is missing. It is signed by the domain: only the root can, and it takes nobody's place. */
async function repairDescription(
  context: Context,
  repository: Repository,
  holder: Holder,
): Promise<'sound' | 'repaired' | 'left' | 'damaged'> {
  const { report, dryRun, signal } = context
  const { store, description } = repository
  const { trouble } = description
  if (trouble === undefined) return 'sound'
  if (holder.kind !== 'root' || trouble.code !== 'not-found') {
    report.say({ event: 'problem', path: REPOSITORY_OBJECT, code: trouble.code, message: lostError(store, trouble).message })
    return trouble.code === 'not-found' ? 'left' : 'damaged'
  }
  const size = commonChunkBytes((await repository.loadView(signal)).view)
  const chunking: Chunking = size === undefined ? DEFAULT_CHUNKING : { mode: 'fixed', min: size, mean: size, max: size }
  if (!dryRun)
    await createRepository({
      store,
      keys: holder.write,
      signer: holder.root.signing,
      chunking,
      enrolled: description.enrolled,
      now: Math.floor(context.clock.now()),
    })
  const assumed =
    size === undefined
      ? 'chunks by content, of the sizes that init takes by default'
      : `chunks of ${formatBytes(size)} each, as nearly all that are stored`
  report.say({
    event: 'notice',
    level: 'warning',
    message: `the object '${REPOSITORY_OBJECT}' is missing; it ${dryRun ? 'would be' : 'is'} written anew. Assumed are ${assumed}: if init was given others, backups store some of what is there once more`,
  })
  return 'repaired'
}

/** What goes on without a snapshot that does not open. */
function hint(name: string): string {
  const ref = parseObjectName(name)
  return ref === undefined ? '' : `. ${howToGoOn(ref.random)}`
}

function sayNotes(context: Context, done: RepairReport): void {
  const { report, dryRun } = context
  for (const { object, verdict, code, message } of done.notes)
    if (verdict === 'repaired')
      report.say({
        event: 'notice',
        level: 'note',
        message: `${object}: ${message}; ${dryRun ? 'would be' : 'is'} put right by new index files`,
      })
    else report.say({ event: 'problem', path: object, code: verdict === 'unknown' ? `unknown-${code}` : code, message })
  sayUnopened(context, done.recordsRefused)
  for (const { name, error } of done.snapshotsRefused)
    report.say({
      event: 'problem',
      path: name,
      code: error.code,
      message: `${error.message}. It is left as it is: other snapshots do not need it${hint(name)}`,
    })
  for (const { object, error } of done.snapshotsMissing)
    report.say({
      event: 'problem',
      path: object,
      code: error.code === 'not-found' ? error.code : `unknown-${error.code}`,
      message: error.message,
    })
}
