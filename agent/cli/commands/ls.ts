// `holdfast ls SNAPSHOT [PATH]`: what a snapshot holds. Names are content: this needs the root, and is journalled on an enrolled appliance.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { type ListedEntry, listEntries } from '../../restore/list.ts'
import { bytesOfText, pathFields } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import type { Said } from '../events.ts'
import { withRecovery } from '../local-recovery.ts'
import { rootOf, withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { chooseSnapshot } from '../snapshot-choice.ts'
import { wholeViewPast } from '../../restore/read-past.ts'

type LsFlags = { readonly long?: boolean; readonly flat?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description('Lists what a snapshot holds, at a path and below it.')
    .argument('<snapshot>', "an id, the beginning of one, or 'latest'")
    .argument('[path]', 'a file or directory, as it was when it was backed up')
    .option('-l, --long', 'with mode, owner, size and time')
    .option('--flat', 'only what is directly in the directory')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast ls latest
  $ holdfast ls latest /home/me/documents --long
  $ holdfast ls 3f2a /srv --json | jq -r 'select(.event == "entry" and .size > 1e9) | .path'

Control characters in names are shown as escapes. With --json a name that is not UTF-8 is exact in pathBase64.`,
    )
    .action((snapshot: string, path: string | undefined, flags: LsFlags) => start('ls', (context) => ls(context, snapshot, path, flags)))
}

async function ls(context: Context, name: string, path: string | undefined, flags: LsFlags): Promise<Outcome> {
  const at = path === undefined ? undefined : absolutePath(context.cwd, bytesOfText(path))
  return withRepository(context, { need: 'read', lost: 'notice' }, async ({ repository, holder }) => {
    const { report, signal } = context
    const keys = rootOf(holder).read
    const snapshot = await chooseSnapshot(context, repository, name)
    const { view } = await wholeViewPast(repository, signal)
    const list = async (): Promise<Outcome> => {
      const counts = { entries: 0, files: 0, bytes: 0, problems: 0 }
      let unread: HoldfastError | undefined
      for await (const found of listEntries({ repository, view, keys, snapshot, path: at, recursive: flags.flat !== true, signal })) {
        if (report.isClosed()) break
        if (found.error !== undefined) {
          counts.problems += 1
          if (found.error.code === 'unread') unread ??= found.error
          report.say({ event: 'problem', ...pathFields(found.path), code: found.error.code, message: found.error.message })
          continue
        }
        counts.entries += 1
        if (found.entry.kind === 'file') counts.files += 1
        counts.bytes += found.entry.size ?? 0
        report.say(entryEvent(found, flags.long === true))
      }
      if (unread !== undefined)
        throw new HoldfastError(
          'unread',
          `the store holds what tells of some directories and does not give it (first: ${unread.message}). All else is listed`,
        )
      return {
        result: counts.problems > 0 ? 'damaged' : 'done',
        repository: repository.store.location,
        snapshotId: snapshot.structure.ref.random,
        counts,
      }
    }
    return withRecovery(context, { repository, snapshot, dryRun: context.dryRun }, list, ({ result }) => result !== 'done')
  })
}

function entryEvent({ path, entry }: ListedEntry, long: boolean): Said<'entry'> {
  const { target } = entry
  const targetText = target === undefined ? undefined : pathFields(target)
  const ms = Number(entry.mtimeNs / 1_000_000n)
  return {
    event: 'entry',
    ...pathFields(path),
    kind: entry.kind,
    mode: entry.mode.toString(8).padStart(4, '0'),
    uid: entry.uid,
    gid: entry.gid,
    ...(entry.size === undefined ? {} : { size: entry.size }),
    mtimeNs: String(entry.mtimeNs),
    ...(Math.abs(ms) <= TIME_MS_MAX ? { modifiedAt: isoTime(ms) } : {}),
    ...(targetText === undefined ? {} : { target: targetText.path }),
    ...(targetText?.pathBase64 === undefined ? {} : { targetBase64: targetText.pathBase64 }),
    long,
  }
}

/** Years 0 to 9999: what ISO 8601 with four digits can say. */
const TIME_MS_MAX = 62_135_596_800_000
