// `holdfast check`: is the repository sound? The structure needs no content key; --read-data also reads packs and verifies every byte of them.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { checkRepository, type ReadData } from '../../check/check.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { withRepository } from '../open.ts'

type CheckFlags = { readonly readData?: string | true }

export function define(command: Command, start: Start): void {
  command
    .description('Looks whether everything that the snapshots need is there, and with --read-data whether it is what was stored.')
    .option('--read-data [n/t]', 'read all packs, or the n-th of t parts of them, and verify every byte')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast check                        minutes: objects, signatures, references
  $ holdfast check --read-data=3/30       a thirtieth of all data; thirty runs read everything
  $ holdfast check --read-data

Exit code 4 where damage was found; 3 where something could not be looked at, which is not the same.`,
    )
    .action((flags: CheckFlags) => start('check', (context) => check(context, flags)))
}

async function check(context: Context, flags: CheckFlags): Promise<Outcome> {
  const readData = parseReadData(flags.readData)
  return withRepository(context, 'write', async ({ repository }) => {
    const { report, signal } = context
    const done = await checkRepository({
      repository,
      readData,
      signal,
      onProgress: (progress) =>
        report.progress({
          phase: `checking ${progress.phase}`,
          files: progress.done,
          totalFiles: progress.total,
          bytes: progress.bytes,
          problems: 0,
          unit: 'objects',
        }),
    })
    for (const { object, code, verdict, message } of done.findings)
      report.say({ event: 'problem', path: object, code: verdict === 'unknown' ? `unknown-${code}` : code, message })
    if (done.usedFooters)
      report.say({
        event: 'notice',
        level: 'warning',
        message: 'index files are missing or bad; what they should say was found in the packs themselves',
      })
    if (done.unindexedPacks > 0)
      report.say({
        event: 'notice',
        level: 'note',
        message: `${done.unindexedPacks} packs are in no index file: left by an interrupted run, not damage`,
      })
    const { findings: _, usedFooters, ...counts } = done
    return {
      result: done.damaged > 0 ? 'damaged' : done.unknown > 0 ? 'incomplete' : 'done',
      repository: repository.store.location,
      domainId: repository.description.domainId.toString('hex'),
      counts: { ...counts, problems: done.damaged + done.unknown },
      details: { usedFooters },
    }
  })
}

function parseReadData(text: string | true | undefined): ReadData | undefined {
  if (text === undefined) return undefined
  if (text === true) return 'all'
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text)
  const [n, t] = match === null ? [0, 0] : [Number(match[1]), Number(match[2])]
  if (!(n >= 1 && n <= t)) throw new HoldfastError('usage', `--read-data is n/t with n from 1 to t, such as 3/30, not '${shownText(text)}'`)
  return { share: { n, t } }
}
