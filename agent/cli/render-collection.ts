// What forget, prune and undelete say, for people.
import { parseTime } from '@holdfast/shared/clock.ts'
import { shownText } from './byte-text.ts'
import type { Said, Summary } from './events.ts'
import { formatBytes, formatMany, formatTime } from './format.ts'
import type { RenderOptions } from './render.ts'

type Counts = Readonly<Record<string, number>>
const of = (counts: Counts, name: string): number => counts[name] ?? 0

/** One line for a snapshot that rules judged, that is forgotten, or for an object that the store does not let go. */
export function collectionText(
  event: Said<'retention'> | Said<'forgotten'> | Said<'locked'>,
  { style }: RenderOptions,
): { readonly stdout: string } {
  if (event.event === 'locked') {
    const until = event.until === undefined ? 'the store refused to remove it' : `locked until ${formatTime(parseTime(event.until))}`
    return { stdout: `${style.stdout.warn('held')}    ${shownText(event.object)}  ${formatBytes(event.bytes)}  ${until}\n` }
  }
  const id = style.stdout.bold(event.id.slice(0, 8))
  if (event.event === 'forgotten') {
    const from = event.goneFrom === undefined ? '' : `, may be gone from ${formatTime(parseTime(event.goneFrom))} on`
    const gone = event.beingDeleted ? ', is being deleted' : from
    return {
      stdout: `${id}  ${formatTime(parseTime(event.startedAt))}  series ${event.series.slice(0, 8)}  forgotten ${formatTime(parseTime(event.since))} (${event.why})${gone}\n`,
    }
  }
  const word = event.kept ? style.stdout.good('keep  ') : style.stdout.warn('forget')
  return {
    stdout: `${word}  ${id}  ${formatTime(parseTime(event.at))}  series ${event.series.slice(0, 8)}  ${event.why.join(', ')}\n`,
  }
}

/** The last words of these commands. */
export const COLLECTION_LINES: Readonly<Record<string, (summary: Summary, counts: Counts) => string[]>> = {
  forget: (summary, counts) => {
    const missing = counts['missing']
    if (missing !== undefined)
      return [`${summary.dryRun ? 'would put' : 'put'} on record that ${formatMany(missing, 'snapshot is', 'snapshots are')} gone`]
    if (counts['writtenOff'] !== undefined)
      return [
        `${summary.dryRun ? 'would write' : 'wrote'} off 1 object that does not open`,
        ...(of(counts, 'recordsWrittenOff') === 0
          ? []
          : [
              '  what it forgot counts again, what it took back does not',
              "Next: 'holdfast undelete' lists what is forgotten: take back what should not be; 'holdfast prune' lets the rest go after the undelete window",
            ]),
      ]
    if (counts['kept'] === undefined)
      return [
        `${summary.dryRun ? 'would write' : 'wrote'} off 1 snapshot that does not open; where a whole copy of it is put back before a prune deletes it, 'holdfast undelete' takes it back`,
        "Next: 'holdfast check'; where history lacks it, too, 'holdfast forget --missing' says so on record",
      ]
    const what = formatMany(of(counts, 'forgotten'), 'snapshot')
    if (summary.dryRun) return [`dry run: ${what} would be forgotten, ${of(counts, 'kept')} kept`]
    return [
      `${what} forgotten, ${of(counts, 'kept')} kept`,
      ...(of(counts, 'forgotten') === 0
        ? []
        : ["Next: 'holdfast prune' frees their space after the undelete window; 'holdfast undelete' takes them back"]),
    ]
  },
  undelete: (summary, counts) => {
    if (summary.details?.['list'] === true)
      return [
        `${formatMany(of(counts, 'snapshots') - of(counts, 'beingDeleted'), 'snapshot')} can be taken back: holdfast undelete ID…`,
        ...(of(counts, 'beingDeleted') === 0
          ? []
          : [
              `${formatMany(of(counts, 'beingDeleted'), 'snapshot is', 'snapshots are')} named for deletion by a prune; where none is at work any more, anywhere, --prune-is-over takes back what is left`,
            ]),
      ]
    return [
      `${summary.dryRun ? 'would take back' : 'took back'} ${formatMany(of(counts, 'snapshots'), 'snapshot')}${of(counts, 'packs') === 0 ? '' : ` and ${formatMany(of(counts, 'packs'), 'condemned pack')} (${formatBytes(of(counts, 'bytes'))})`}`,
      ...(of(counts, 'namedForServer') === 0
        ? []
        : [
            `  ${formatMany(of(counts, 'namedForServer'), 'snapshot')} of them stood on a list for the server to delete: it looks for what was taken back before it does; 'holdfast check' tells that they are whole`,
          ]),
    ]
  },
  prune: (summary, counts) => {
    const would = summary.dryRun ? 'would be ' : ''
    const line = (packs: string, bytes: string, words: string): string[] =>
      of(counts, packs) === 0 ? [] : [`  ${formatMany(of(counts, packs), 'pack')} (${formatBytes(of(counts, bytes))}) ${words}`]
    const next = summary.details?.['nextDeletionAt']
    const mayDelete = summary.details?.['mayDelete'] === true
    const gone = summary.dryRun ? of(counts, 'objectsNamed') : of(counts, 'objectsDeleted')
    return [
      '',
      `${formatMany(of(counts, 'snapshots'), 'snapshot')} kept, ${of(counts, 'forgotten')} forgotten and still there; ${formatBytes(of(counts, 'storedBytes'))} in packs, ${formatBytes(of(counts, 'liveBytes'))} of it needed`,
      ...(of(counts, 'forgottenByAgentsKept') === 0
        ? []
        : [
            `  ${formatMany(of(counts, 'forgottenByAgentsKept'), 'snapshot')} forgotten by appliances alone kept, with all that is needed for them; --accept-agent-forgets lets them go`,
          ]),
      ...(of(counts, 'forgottenInDoubtKept') === 0
        ? []
        : [
            `  ${formatMany(of(counts, 'forgottenInDoubtKept'), 'forgotten snapshot')} kept, with all that is needed for them: a forget record that does not open may have taken them back`,
          ]),
      ...(of(counts, 'snapshotsGivenUp') === 0
        ? []
        : [`  ${formatMany(of(counts, 'snapshotsGivenUp'), 'snapshot')} that their runs never finished no longer count`]),
      ...line('packsCondemned', 'bytesCondemned', `${would}condemned now`),
      ...(of(counts, 'segmentsMoved') === 0
        ? []
        : [
            `  ${formatMany(of(counts, 'segmentsMoved'), 'segment')} (${formatBytes(of(counts, 'bytesMoved'))}) moved out of packs that are mostly dead`,
          ]),
      ...(of(counts, 'packsRevived') === 0 ? [] : [`  ${formatMany(of(counts, 'packsRevived'), 'pack')} taken back, needed after all`]),
      ...line('packsWaiting', 'bytesWaiting', `wait${typeof next === 'string' ? `; the first may go ${formatTime(parseTime(next))}` : ''}`),
      ...line(
        'packsWaitingForWriters',
        'bytesWaitingForWriters',
        'are mostly dead and wait until their writers have stored the rest again',
      ),
      ...line(
        'packsHeldBySessions',
        'bytesHeldBySessions',
        `belong to ${formatMany(of(counts, 'sessionsAtWork'), 'run')} that may be at work`,
      ),
      ...(of(counts, 'objectsLocked') === 0
        ? []
        : [
            `  ${formatMany(of(counts, 'objectsLocked'), 'object')} (${formatBytes(of(counts, 'bytesLocked'))}) are held by the store; the next run tries again`,
          ]),
      mayDelete
        ? `${formatMany(gone, 'object')}${of(counts, 'packsDeleted') === 0 ? '' : `, ${formatMany(of(counts, 'packsDeleted'), 'pack')} and ${formatBytes(of(counts, 'bytesDeleted'))} of it,`} ${would}deleted`
        : `${formatMany(of(counts, 'objectsNamed'), 'object')} ${would}named for the server to delete`,
    ]
  },
}
