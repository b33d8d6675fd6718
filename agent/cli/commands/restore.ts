// `holdfast restore SNAPSHOT --target DIR`: the whole snapshot, or the paths that are named, into a directory that it cannot leave.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { type Command, Option } from 'commander'
import { type Overwrite, requireAllRead, type RestoreReport, restoreSnapshot } from '../../restore/restore.ts'
import { bytesOfText, pathFields, shownBytes } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { formatMany, parseWhole } from '../format.ts'
import { collect } from '../options.ts'
import { type Recovery, withRecovery } from '../local-recovery.ts'
import { rootOf, withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { problemWords } from '../problem-words.ts'
import { chooseSnapshot } from '../snapshot-choice.ts'
import { wholeViewPast } from '../../restore/read-past.ts'

type RestoreFlags = { readonly target: string; readonly path?: readonly string[]; readonly overwrite: Overwrite; readonly workers?: string }

export function define(command: Command, start: Start): void {
  command
    .description('Restores a snapshot, or a part of it, with modes, owners, times, links, attributes and holes, into a directory.')
    .argument('<snapshot>', "an id, the beginning of one, or 'latest'")
    .requiredOption('--target <directory>', 'where to; /srv/data becomes DIRECTORY/srv/data')
    .option('--path <path>', 'only this file or directory, as ls shows it (again for more)', collect)
    .option('--workers <n>', 'threads that open and write')
    .addOption(
      new Option('--overwrite <rule>', 'what happens to files that are there and differ')
        .choices(['beside', 'changed', 'always', 'never'])
        .default('beside'),
    )
    .addHelpText(
      'after',
      `
Rules for --overwrite:
  beside    put the restored file beside the one that is there, under another name (the default)
  changed   replace files whose content differs
  always    replace every file, also those that seem the same
  never     leave everything that is there as it is; a file where the snapshot has a directory is named, as all below is not restored

Examples:
  $ holdfast restore latest --target /tmp/back --path /home/me/documents
  $ holdfast restore 3f2a --target / --path /etc/fstab --overwrite changed
  $ holdfast restore latest --target /mnt/new --dry-run

The same restore twice gives the same tree, and one that was interrupted goes on. What could not be restored as it was
is named and makes the exit code 3; damage makes it 4. What the store holds and does not give, as a bad disk does, makes
it 14: all else is restored, and the same restore again goes on with what is missing.`,
    )
    .action((snapshot: string, flags: RestoreFlags) => start('restore', (context) => restore(context, snapshot, flags)))
}

async function restore(context: Context, name: string, flags: RestoreFlags): Promise<Outcome> {
  const { report, dryRun } = context
  const target = absolutePath(context.cwd, bytesOfText(flags.target))
  const paths = (flags.path ?? []).map((path) => absolutePath(context.cwd, bytesOfText(path)))
  return withRepository(context, { need: 'read', lost: 'notice' }, async ({ repository, holder }) => {
    const keys = rootOf(holder)
    const snapshot = await chooseSnapshot(context, repository, name)
    const { view, refused } = await wholeViewPast(repository, context.signal)
    for (const { error } of refused) report.say({ event: 'notice', level: 'warning', message: error.message })
    const work = (recovery: Recovery): Promise<RestoreReport> =>
      restoreSnapshot({
        repository,
        view,
        keys: keys.read,
        snapshot,
        target,
        selection: paths.length === 0 ? { kind: 'whole' } : { kind: 'paths', paths },
        overwrite: flags.overwrite,
        signal: context.signal,
        dryRun,
        ...(flags.workers === undefined ? {} : { workers: parseWhole(flags.workers, '--workers', 1, 64) }),
        onEntry: recovery.entry,
        onProgress: ({ files, bytes, totalFiles, totalBytes }) =>
          report.progress({
            phase: 'restoring',
            files,
            bytes,
            problems: 0,
            ...(totalFiles === undefined ? {} : { totalFiles }),
            ...(totalBytes === undefined ? {} : { totalBytes }),
          }),
      })
    const done = await withRecovery(context, { repository, snapshot, dryRun }, work, ({ problemCount }) => problemCount > 0)
    refuseNothingFound(done, paths)
    for (const { path, code, errno } of done.problems)
      report.say({
        event: 'problem',
        ...pathFields(path),
        code,
        message: `${problemWords(code)}${errno === undefined ? '' : ` (${errno})`}`,
      })
    const untold = done.problemCount - done.problems.length
    if (untold > 0)
      report.say({
        event: 'notice',
        level: 'warning',
        message: `${formatMany(untold, 'more problem is', 'more problems are')} not named here`,
      })
    sayBeside(context, done)
    requireAllRead(done, dryRun)
    const { files, directories, bytes, kept, keptOther, beside, failed, problemCount } = done
    return {
      result: done.damaged > 0 ? 'damaged' : problemCount > 0 ? 'incomplete' : 'done',
      repository: repository.store.location,
      snapshotId: snapshot.structure.ref.random,
      target: pathFields(target),
      counts: { files, directories, bytes, kept, keptOther, beside, failed, problems: problemCount },
    }
  })
}

/** A person looks for what landed beside: the first of it by name. */
function sayBeside({ report, dryRun }: Context, { beside, besideNames }: RestoreReport): void {
  const named = besideNames.toSorted((a, b) => a.path.compare(b.path)).slice(0, BESIDE_NAMED)
  for (const { path, name } of named)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${shownBytes(path)}: something else is there; the restored one ${dryRun ? 'would stand beside it' : `is beside it as ${shownBytes(name!)}`}`,
    })
  if (beside > named.length && named.length > 0)
    report.say({
      event: 'notice',
      level: 'note',
      message: `${formatMany(beside - named.length, 'other entry is', 'other entries are')} beside in the same way`,
    })
}

const BESIDE_NAMED = 10

/** A path that is in no snapshot is a mistyped one more often than not: that is no success with nothing in it. */
function refuseNothingFound({ files, directories, kept, problems }: RestoreReport, paths: readonly Buffer[]): void {
  if (paths.length === 0 || files + kept > 0 || problems.some(({ code }) => code !== 'not-in-snapshot') || problems.length < paths.length)
    return
  if (directories > 0 && problems.length === 0) return
  throw new HoldfastError('not-found', "nothing that was named is in this snapshot; 'holdfast ls' shows what is")
}
