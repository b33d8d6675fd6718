// `holdfast prune`: collects what no snapshot that counts needs, in steps that days lie between. Backups go on beside it.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Command } from 'commander'
import { prune, type PruneReport } from '../../collection/prune.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { parseSize, parseWhole } from '../format.ts'
import { withRepository } from '../open.ts'
import { sayNoSnapshot } from '../loss-report.ts'
import { sayUnopened } from '../unopened.ts'

type PruneFlags = {
  readonly window?: string
  readonly acceptDamage?: boolean
  readonly maxMove?: string
  readonly acceptAgentForgets?: boolean
}
const DAY_MS = 86_400_000

export function define(command: Command, start: Start): void {
  command
    .description(
      'Condemns what no snapshot needs any more, and deletes what was condemned long enough ago. Takes no lock; backups run beside it. Run it after `holdfast forget`, or every day.',
    )
    .option('--window <days>', 'how long what is forgotten can be taken back (default 14, at least 1)')
    .option('--max-move <size>', 'at most so much is moved out of packs that are mostly dead in one run (default 1G)')
    .option('--accept-damage', 'collect although blobs that snapshots need are missing or damaged; what can be reached is kept')
    .option(
      '--accept-agent-forgets',
      'with the root: let go, too, what appliances have forgotten by themselves, by a policy or because somebody has their keys',
    )
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast prune -n                what would be condemned, what waits, what would go
  $ holdfast prune
  $ holdfast undelete                what can still be taken back

What is condemned today is deleted by a run after the window, once nothing needs it and every backup that began before has ended. It may be
interrupted at any time. On an enrolled appliance it condemns, and the control server's job deletes.
Before a pack goes, a copy that stays of all that snapshots need of it is opened and compared with its id. Exit code 4: one did not open, a list or
record did not, or something else does not add up; what it is about was not deleted, and the message says what to do.`,
    )
    .action((flags: PruneFlags) => start('prune', (context) => runPrune(context, flags)))
}

async function runPrune(context: Context, flags: PruneFlags): Promise<Outcome> {
  const days = flags.window === undefined ? undefined : parseWhole(flags.window, '--window', 1, 3650)
  const moveBytesMax = flags.maxMove === undefined ? undefined : parseSize(flags.maxMove, '--max-move')
  return withRepository(context, 'write', async ({ repository, holder }) => {
    const { report, clock, random, signal, dryRun } = context
    const done = await prune({
      repository,
      keys: holder.write,
      readKeys: holder.kind === 'root' ? holder.root.read : undefined,
      clock,
      random,
      mayDelete: holder.kind === 'root',
      dryRun,
      acceptDamage: flags.acceptDamage === true,
      acceptAgentForgets: flags.acceptAgentForgets === true,
      ...(days === undefined ? {} : { windowMs: days * DAY_MS }),
      ...(moveBytesMax === undefined ? {} : { moveBytesMax }),
      signal,
      onProgress: ({ phase, done: files, total }) =>
        report.progress({
          phase: `collecting: ${phase}`,
          files,
          ...(total > 0 ? { totalFiles: total } : {}),
          bytes: 0,
          problems: 0,
          unit: phase === 'marking' ? 'snapshots' : 'objects',
        }),
    })
    sayUnopened(context, done.unreadable)
    for (const pack of done.spoilt)
      report.say({
        event: 'problem',
        path: `pack ${pack}`,
        code: 'damaged',
        message:
          "has a copy of what snapshots need that does not open; other copies of it were kept. 'holdfast check --content' tells more",
      })
    for (const { name, bytes, until } of done.deleted.locked)
      report.say({ event: 'locked', object: name, bytes, ...(until === undefined ? {} : { until: isoTime(until) }) })
    sayNoSnapshot(context, { ...done, stored: done.storedBytes })
    return {
      result: done.spoilt.length + done.unreadable.length > 0 ? 'damaged' : done.deleted.locked.length > 0 ? 'incomplete' : 'done',
      repository: repository.store.location,
      domainId: repository.description.domainId.toString('hex'),
      counts: countsOf(done),
      details: {
        mayDelete: holder.kind === 'root',
        ...(done.waiting.until === undefined ? {} : { nextDeletionAt: isoTime(done.waiting.until) }),
      },
    }
  })
}

function countsOf(done: PruneReport): Record<string, number> {
  return {
    snapshots: done.snapshots,
    forgotten: done.forgotten,
    forgottenByAgentsKept: done.heldBy === 'agents' ? done.heldForgotten : 0,
    forgottenInDoubtKept: done.heldBy === 'unread' ? done.heldForgotten : 0,
    storedBytes: done.storedBytes,
    liveBytes: done.liveBytes,
    packsCondemned: done.condemned.packs,
    bytesCondemned: done.condemned.bytes,
    packsForReuse: done.condemned.forReuse,
    packsRevived: done.revived,
    packsSpoilt: done.spoilt.length,
    snapshotsGivenUp: done.givenUp,
    segmentsMoved: done.moved.segments,
    bytesMoved: done.moved.bytes,
    packsWaiting: done.waiting.packs,
    bytesWaiting: done.waiting.bytes,
    packsWaitingForWriters: done.waitingForWriters.packs,
    bytesWaitingForWriters: done.waitingForWriters.bytes,
    packsHeldBySessions: done.heldBySessions.packs,
    bytesHeldBySessions: done.heldBySessions.bytes,
    sessionsAtWork: done.heldBySessions.sessions,
    objectsNamed: done.named.objects,
    packsNamed: done.named.packs,
    objectsDeleted: done.deleted.objects,
    packsDeleted: done.deleted.packs,
    bytesDeleted: done.deleted.bytes,
    objectsLocked: done.deleted.locked.length,
    bytesLocked: done.deleted.locked.reduce((sum, { bytes }) => sum + bytes, 0),
    unreadable: done.unreadable.length,
  }
}
