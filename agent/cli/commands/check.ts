// `holdfast check`: is the repository sound? The structure needs no content key; --read-data also reads packs and verifies every byte of them, and
// --content opens what was sealed, where the root is.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { parseObjectName, parseSessionName } from '@holdfast/shared/format/layout.ts'
import type { Command } from 'commander'
import { checkRepository, type CheckReport, type Finding, type ObjectKind, type ReadData } from '../../check/check.ts'
import { NO_REPAIR_MENDS, NO_REPAIR_READS } from '../../check/check-types.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { lossCounts, sayLosses, sayNoSnapshot } from '../loss-report.ts'
import { withRepository } from '../open.ts'
import { withReadLog } from '../read-log-place.ts'
import { howToGoOn } from '../unopened.ts'

type CheckFlags = { readonly readData?: string | true; readonly content?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description(
      'Looks whether everything that the snapshots need is there; with --read-data whether it is what was stored, and with --content whether it opens. Says what each snapshot loses by damage, and with the root which files.',
    )
    .option(
      '--read-data [what]',
      'read packs and verify every byte: all of them; 3/30, the third of thirty parts; or 30d, as many as are due so that each is read within 30 days',
    )
    .option('--content', 'open what is read and compare every blob with its id, and walk all trees as a restore does; needs the root')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast check                        minutes: objects, signatures, references
  $ holdfast check --read-data=30d        run daily: every pack is read within 30 days, days that were missed are made up for
  $ holdfast check --read-data=3/30       a thirtieth of all data; thirty runs read everything
  $ holdfast check --read-data --content  everything, opened: as sure as a restore of all snapshots

Exit code 4 where damage was found; 3 where something could not be looked at, which is not the same. Nothing in the store is changed.
Without the root data is compared with the hashes in the packs' footers: intact, not opened.`,
    )
    .action((flags: CheckFlags) => start('check', (context) => check(context, flags)))
}

async function check(context: Context, flags: CheckFlags): Promise<Outcome> {
  const content = flags.content === true
  const readData = parseReadData(flags.readData) ?? (content ? 'all' : undefined)
  return withRepository(context, { need: content ? 'read' : 'write', lost: 'own words' }, ({ repository, holder }) =>
    withReadLog(context, repository, async (readLog) => {
      const { report, signal, clock } = context
      const done = await checkRepository({
        repository,
        readData,
        content,
        keys: holder.kind === 'root' ? holder.root.read : undefined,
        readLog,
        now: clock.now(),
        signal,
        onProgress: (progress) =>
          report.progress({
            phase: `checking ${progress.phase}`,
            files: progress.done,
            totalFiles: progress.total,
            bytes: progress.bytes,
            problems: 0,
            unit: progress.phase === 'data' ? 'packs' : progress.phase === 'objects' ? 'objects' : 'snapshots',
          }),
      })
      sayFindings(context, done)
      sayLosses(context, { ...done, snapshots: done.affected }, done.unfinished)
      sayNoSnapshot(context, { ...done, stored: done.packs })
      const { findings: _, affected, paths, pathsLeftOut, usedFooters, opened, snapshots, ...counts } = done
      return {
        result: done.damaged > 0 ? 'damaged' : done.unknown > 0 ? 'incomplete' : 'done',
        repository: repository.store.location,
        domainId: repository.description.domainId.toString('hex'),
        counts: {
          ...counts,
          snapshots,
          ...lossCounts({ snapshots: affected, paths, pathsLeftOut }),
          problems: done.damaged + done.unknown,
          damagedBesideRepair: done.findings.filter(
            (finding) => isBesideRepair(finding) || [NO_REPAIR_MENDS, NO_REPAIR_READS].some((words) => finding.message.endsWith(words)),
          ).length,
        },
        details: { usedFooters, opened },
      }
    }),
  )
}

/** What no repair mends; each finding of these says by itself what to do. Snapshots that are gone are counted apart. */
const BESIDE_REPAIR: ReadonlySet<ObjectKind> = new Set<ObjectKind>(['key', 'list', 'roster', 'session', 'snapshot'])

function isBesideRepair({ kind, verdict, code }: Finding): boolean {
  return verdict === 'damaged' && BESIDE_REPAIR.has(kind) && !(kind === 'snapshot' && code === 'not-found')
}

function sayFindings({ report }: Context, done: CheckReport): void {
  for (const finding of done.findings) {
    const { object, code, verdict, message } = finding
    // One of a later format may be a stranger's, whom no update helps.
    const isLater = BESIDE_REPAIR.has(finding.kind) && code === 'newer-format'
    const id = isBesideRepair(finding) || isLater ? (parseObjectName(object)?.random ?? parseSessionName(object)) : undefined
    const found = verdict === 'unknown' ? `could not be looked at: ${message}` : message
    report.say({
      event: 'problem',
      path: object,
      code: verdict === 'unknown' ? `unknown-${code}` : code,
      message: id === undefined ? found : `${found}. ${howToGoOn(id)}`,
    })
  }
  if (done.usedFooters)
    report.say({
      event: 'notice',
      level: 'warning',
      message: `index files are missing, bad or untrue; what they should say was found in the packs themselves. 'holdfast repair' writes true ones`,
    })
  if (done.unindexedPacks > 0)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${done.unindexedPacks === 1 ? '1 pack is' : `${done.unindexedPacks} packs are`} in no index file: ${done.usedFooters ? 'its index file is lost' : 'left by an interrupted run, not damage'}`,
    })
  if (done.sessionsGone > 0)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${done.sessionsGone === 1 ? '1 session object is' : `${done.sessionsGone} session objects are`} gone from the store, where packs of theirs are there; nothing is lost by it: what they say stands in the packs too`,
    })
  if (done.writtenOff > 0)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${done.writtenOff === 1 ? '1 object is' : `${done.writtenOff} objects are`} damaged and written off: nothing rests on what is damaged`,
    })
}

function parseReadData(text: string | true | undefined): ReadData | undefined {
  if (text === undefined) return undefined
  if (text === true) return 'all'
  const days = /^(\d{1,4})d$/.exec(text)
  if (days !== null && Number(days[1]) >= 1) return { days: Number(days[1]) }
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text)
  const [n, t] = match === null ? [0, 0] : [Number(match[1]), Number(match[2])]
  if (!(n >= 1 && n <= t))
    throw new HoldfastError('usage', `--read-data is n/t with n from 1 to t, such as 3/30, or days such as 30d, not '${shownText(text)}'`)
  return { share: { n, t } }
}
