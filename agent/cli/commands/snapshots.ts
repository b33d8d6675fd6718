// `holdfast snapshots`: what is in the repository, oldest first. An enrolled agent sees times and sizes; names need the root.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Command } from 'commander'
import type { ReadKeys } from '../../keys/keys.ts'
import { createTokens, type OpenedSnapshot } from '../../repository/snapshot.ts'
import { pathFields } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { collect } from '../options.ts'
import type { Said } from '../events.ts'
import { withRepository } from '../open.ts'
import { sayRefused } from '../snapshot-choice.ts'

type SnapshotsFlags = { readonly tag?: readonly string[]; readonly host?: string }

export function define(command: Command, start: Start): void {
  command
    .description('Lists the snapshots of the repository, oldest first.')
    .option('--tag <tag>', 'only those with this tag (again: with all of them)', collect)
    .option('--host <name>', 'only those of this host')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast snapshots --tag daily
  $ holdfast snapshots --json | jq -r 'select(.event == "snapshot") | .id'`,
    )
    .action((flags: SnapshotsFlags) => start('snapshots', (context) => snapshots(context, flags)))
}

async function snapshots(context: Context, flags: SnapshotsFlags): Promise<Outcome> {
  return withRepository(context, { need: 'write', lost: 'notice' }, async ({ repository, holder }) => {
    const listing = await repository.listSnapshots(context.signal)
    sayRefused(context, listing)
    const tokens = createTokens(holder.structure.recordKey)
    const wanted = (flags.tag ?? []).map(tokens.tag)
    const read = holder.kind === 'root' ? holder.root.read : undefined
    let shown = 0
    for (const snapshot of listing.snapshots) {
      if (!wanted.every((tag) => snapshot.structure.tags.some((other) => other.equals(tag)))) continue
      const event = snapshotEvent(snapshot, read)
      if (flags.host !== undefined && event.host !== flags.host) continue
      context.report.say(event)
      shown += 1
      if (context.report.isClosed()) break
    }
    return {
      result: listing.refused.length > 0 ? 'damaged' : 'done',
      repository: repository.store.location,
      domainId: repository.description.domainId.toString('hex'),
      counts: { snapshots: shown, refused: listing.refused.length },
    }
  })
}

function snapshotEvent({ structure, openPrivate }: OpenedSnapshot, read: ReadKeys | undefined): Said<'snapshot'> {
  const opened = read === undefined ? undefined : openPrivate(read)
  return {
    event: 'snapshot',
    id: structure.ref.random,
    startedAt: isoTime(structure.startedAt),
    endedAt: isoTime(structure.endedAt),
    series: structure.series.toString('hex'),
    sequence: structure.sequence,
    writerId: structure.writerId.toString('hex'),
    files: structure.files,
    directories: structure.directories,
    bytes: structure.bytes,
    opened: opened !== undefined,
    ...(opened === undefined
      ? {}
      : { host: opened.host, source: opened.source, paths: opened.paths.map(pathFields), tags: [...opened.tags] }),
  }
}
