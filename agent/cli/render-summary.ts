// The last words of a command, for people. They are made from the same summary that `--json` prints, so that the two never tell different numbers.
import { shownText } from './byte-text.ts'
import type { Summary } from './events.ts'
import { formatBytes, formatCount, formatDuration, formatMany } from './format.ts'
import { COLLECTION_LINES } from './render-collection.ts'
import { statusLines } from './render-status.ts'
import { type Rendered, type RenderOptions, shownPath } from './render.ts'

type Counts = Readonly<Record<string, number>>

/** Undefined where the command has said everything already. */
export function renderSummary(summary: Summary, { quiet, style }: RenderOptions): Rendered {
  // With a code it ended with an error, which said it: its numbers are of something that did not come about.
  if (summary.code !== undefined || summary.result === 'failed' || summary.result === 'interrupted') return undefined
  const lines =
    summary.command === 'status'
      ? statusLines(summary, style.stdout)
      : (LINES[summary.command] ?? (() => []))(summary, summary.counts ?? {})
  if (lines.length === 0) return undefined
  const isAnswer = ANSWERS.has(summary.command)
  const text = `${lines.join('\n')}\n`
  if (isAnswer) return { stdout: text }
  if (quiet) return undefined
  const paint = summary.result === 'incomplete' ? style.stderr.warn : summary.result === 'damaged' ? style.stderr.bad : (t: string) => t
  return {
    stderr: `${lines
      .slice(0, -1)
      .map((line) => `${line}\n`)
      .join('')}${paint(lines.at(-1) ?? '')}\n`,
  }
}

/** Their summary is what was asked for, so it goes to standard output and is there with --quiet too. */
const ANSWERS = new Set(['init', 'enroll', 'status', 'domain fingerprint', 'request'])

const of = (counts: Counts, name: string): number => counts[name] ?? 0
const short = (id: string | undefined): string => (id ?? '').slice(0, 8)

/** After a loss: what may come back with a backup, and the way out for what does not, as a snapshot that lacks something is told of as long as it counts. */
const AFTER_LOSS =
  'holdfast backup stores again what the source still has; a snapshot that lacks something even then is told of until holdfast forget ID lets it go'

/** What was found, and what to do next: a repair where objects are damaged, a backup where one has seen to them. */
function damageLine(counts: Counts): string {
  const lost = of(counts, 'lostBlobs')
  const missing = of(counts, 'snapshotsMissing')
  const objects = of(counts, 'damaged') - lost - missing
  const forRepair = objects - of(counts, 'damagedBesideRepair')
  const what = [
    ...(objects === 0 ? [] : [formatMany(objects, 'damaged object')]),
    ...(missing === 0 ? [] : [`history lacks ${formatMany(missing, 'snapshot')}`]),
    ...(lost === 0 ? [] : [`${formatMany(lost, 'blob')} of snapshots lost`]),
  ]
  const next =
    forRepair > 0
      ? 'holdfast repair -n says what can be put right'
      : lost > 0
        ? AFTER_LOSS
        : objects > 0
          ? 'each message above says what to do'
          : 'bring the store back to what it was, or holdfast forget --missing where they are known to be lost'
  return `damage found: ${what.join(', ')}. Next: ${next}`
}

/** What a repair can say of the snapshots: never that all of them are whole where one does not open or is gone. */
function wholeLine(counts: Counts): string {
  const [refused, missing, affected] = [of(counts, 'snapshotsRefused'), of(counts, 'snapshotsMissing'), of(counts, 'snapshotsAffected')]
  const isLost = of(counts, 'lostBlobs') > 0
  const what = [
    ...(refused === 0 ? [] : [formatMany(refused, 'snapshot does not open', 'snapshots do not open')]),
    ...(missing === 0 ? [] : [`history lacks ${formatMany(missing, 'snapshot')}`]),
    ...(isLost
      ? [`${formatMany(affected, 'snapshot is', 'snapshots are')} not whole; the rest of them can be restored. Next: ${AFTER_LOSS}`]
      : []),
  ]
  if (isLost) return what.join(', ')
  if (of(counts, 'unsureBlobs') + of(counts, 'snapshotsUntold') > 0)
    return [...what, 'whether every snapshot can be restored whole could not be told'].join('; ')
  if (of(counts, 'snapshots') === 0) return ['no snapshot counts here', ...what].join(', ')
  return what.length === 0 ? 'every snapshot can be restored whole' : `${what.join(', ')}; every other one can be restored whole`
}

function lossLines(counts: Counts): string[] {
  if (of(counts, 'snapshotsAffected') === 0) return []
  const named = of(counts, 'pathsLost') + of(counts, 'pathsUnsure')
  const paths =
    named === 0
      ? ''
      : `, ${formatMany(of(counts, 'pathsLost'), 'path')} lost${of(counts, 'pathsUnsure') === 0 ? '' : `, ${of(counts, 'pathsUnsure')} unsure`}`
  return [`affected: ${formatMany(of(counts, 'snapshotsAffected'), 'snapshot')}${paths}`]
}

const LINES: Readonly<Record<string, (summary: Summary, counts: Counts) => string[]>> = {
  init: (summary) => [
    `${summary.dryRun ? 'Would create a repository' : `Created repository ${short(summary.domainId)}`} at ${shownText(summary.repository ?? '')}`,
    ...(summary.place === undefined ? [] : [`  keys         ${shownText(summary.place)}`]),
    ...(summary.dryRun ? [] : [`  fingerprint  ${summary.domainFingerprint ?? ''}`]),
    ...(summary.dryRun ? [] : ['', summary.details?.['enrolled'] === true ? NEXT_DOMAIN : 'Next: holdfast backup PATH…']),
  ],
  backup: (summary, counts) => {
    const seconds = of(counts, 'durationMs') / 1000
    const rate = seconds > 0 && of(counts, 'bytesRead') > 0 ? `, ${formatBytes(of(counts, 'bytesRead') / seconds)}/s read` : ''
    // Holes and what nobody had to read were neither added nor known.
    const [inline, chunked] = [of(counts, 'bytesInline'), of(counts, 'bytesRead') - of(counts, 'bytesInline')]
    const share = Math.max(0, Math.round((1 - of(counts, 'bytesNew') / chunked) * 1000) / 10)
    const known = chunked > 0 ? `, ${share} % of the ${formatBytes(chunked)} read was known` : ''
    const small = inline > 0 ? `; ${formatBytes(inline)} in small files stand in the tree itself` : ''
    const resumed = of(counts, 'packsResumed')
    return [
      '',
      `Files:  ${formatCount(of(counts, 'filesNew'))} new, ${formatCount(of(counts, 'filesChanged'))} changed, ${formatCount(of(counts, 'filesUnchanged'))} unchanged`,
      `Tree:   ${formatMany(of(counts, 'directories'), 'directory', 'directories')}, ${formatMany(of(counts, 'others'), 'other entry', 'other entries')}`,
      `Added to the repository: ${formatBytes(of(counts, 'bytesNew'))} of chunks (${formatBytes(of(counts, 'bytesStored'))} stored)${known}${small}`,
      ...(of(counts, 'segmentsReadBack') === 0
        ? []
        : [
            `Read back from the store and compared: ${formatMany(of(counts, 'segmentsReadBack'), 'segment')}, ${formatBytes(of(counts, 'bytesReadBack'))}`,
          ]),
      ...(resumed === 0 ? [] : [`Took over ${formatMany(resumed, 'pack')} of a run that was interrupted`]),
      '',
      `processed ${formatMany(of(counts, 'files'), 'file')}, ${formatBytes(of(counts, 'bytes'))} in ${formatDuration(of(counts, 'durationMs'))}${rate}`,
      summary.dryRun
        ? 'dry run: nothing was stored'
        : `snapshot ${short(summary.snapshotId)} saved${summary.result === 'unchanged' ? '; no file has changed since the last one' : ''}${summary.result === 'incomplete' ? `, but ${formatMany(of(counts, 'problems'), 'file is', 'files are')} not in it as they should be` : ''}`,
    ]
  },
  restore: (summary, counts) => {
    const where = summary.target === undefined ? '' : ` to ${shownPath(summary.target)}`
    const known = of(counts, 'keptOther')
    const other = known === 0 ? '' : ` (${formatCount(known)} of another size or kind)`
    const extra = [
      ['kept', 'already there'],
      ['beside', 'put beside'],
      ['replaced', 'replaced'],
      ['failed', 'not restored'],
    ].flatMap(([name, words]) =>
      of(counts, name!) === 0 ? [] : [`${formatCount(of(counts, name!))} ${words}${name === 'kept' ? other : ''}`],
    )
    return [
      '',
      `${summary.dryRun ? 'would restore' : 'restored'} ${formatMany(of(counts, 'files'), 'file')}, ${formatBytes(of(counts, 'bytes'))} of snapshot ${short(summary.snapshotId)}${where} in ${formatDuration(summary.elapsedMs)}`,
      ...(extra.length === 0 ? [] : [extra.join(', ')]),
      ...(summary.result === 'incomplete' ? [`${formatMany(of(counts, 'problems'), 'problem')}: not everything is as it was`] : []),
    ]
  },
  ...COLLECTION_LINES,
  snapshots: (_, counts) => [formatMany(of(counts, 'snapshots'), 'snapshot')],
  dump: () => [],
  check: (summary, counts) => {
    const read =
      of(counts, 'bytesRead') > 0 ? `, ${formatMany(of(counts, 'packsRead'), 'pack')} read (${formatBytes(of(counts, 'bytesRead'))})` : ''
    const how = of(counts, 'bytesRead') === 0 ? '' : summary.details?.['opened'] === true ? ', opened and compared' : ': intact, not opened'
    return [
      '',
      `checked ${formatMany(of(counts, 'snapshots'), 'snapshot')}, ${formatMany(of(counts, 'indexFiles'), 'index file')}, ${formatMany(of(counts, 'packs'), 'pack')}${read} in ${formatDuration(summary.elapsedMs)}`,
      ...lossLines(counts),
      summary.result === 'damaged'
        ? damageLine(counts)
        : summary.result === 'incomplete'
          ? `no damage found, but ${formatMany(of(counts, 'unknown'), 'object')} could not be looked at: run it again`
          : `no damage found${how}`,
    ]
  },
  repair: (summary, counts) => [
    '',
    `looked at ${formatMany(of(counts, 'packs'), 'pack')} and ${formatMany(of(counts, 'snapshots'), 'snapshot')} in ${formatDuration(summary.elapsedMs)}`,
    of(counts, 'replaced') + of(counts, 'packsIndexed') === 0
      ? 'index files say what is so: nothing to repair'
      : summary.dryRun
        ? `would replace ${formatMany(of(counts, 'replaced'), 'index file')} and tell of ${formatMany(of(counts, 'packsIndexed'), 'pack')} anew; dry run: nothing was changed`
        : `replaced ${formatMany(of(counts, 'replaced'), 'index file')}, ${formatMany(of(counts, 'packsIndexed'), 'pack')} told of anew; nothing was removed`,
    ...lossLines(counts),
    ...(of(counts, 'unread') === 0
      ? []
      : [`${formatMany(of(counts, 'unread'), 'object')} could not be read and stayed as they were: run it again`]),
    ...(of(counts, 'leftToOthers') === 0
      ? []
      : [`${formatMany(of(counts, 'leftToOthers'), 'object')} can only be repaired by another writer or where the root is`]),
    ...(of(counts, 'recordsRefused') === 0
      ? []
      : [
          `${formatMany(of(counts, 'recordsRefused'), 'list or record does', 'lists and records do')} not open: only bringing it back or writing it off helps`,
        ]),
    wholeLine(counts),
  ],
  drill: (summary, counts) => {
    if (summary.details?.['history'] === true)
      return [`${formatMany(of(counts, 'drills'), 'drill')}, ${formatCount(of(counts, 'restored'))} of them restored all they took`]
    const what = `${formatMany(of(counts, 'files'), 'file')}, ${formatBytes(of(counts, 'bytes'))} of ${formatMany(of(counts, 'drills'), 'snapshot')}`
    if (summary.dryRun) return ['', `dry run: ${what} would be restored, compared and removed`]
    if (summary.state === 'asked') return ['', `asked for drills of ${what}; how they end is in the agent's records`]
    const problems = formatMany(of(counts, 'problems'), 'problem')
    return [
      '',
      `drilled ${what} in ${formatDuration(summary.elapsedMs)}`,
      summary.result === 'damaged'
        ? `damage found: ${problems}; holdfast check --read-data tells where`
        : summary.result === 'incomplete'
          ? `${problems}: not everything came back as it was backed up, or could be looked at`
          : 'everything came back as it was backed up',
    ]
  },
  'key add': (summary) => [`key ${short(summary.keyName)} added (${shownText(summary.place ?? '')})`],
  'key remove': (summary) => [`key ${short(summary.keyName)} removed`],
  'key passwd': (summary) => [`passphrase changed: key ${short(summary.keyName)} (${shownText(summary.place ?? '')})`],
  'domain fingerprint': (summary) => [summary.domainFingerprint ?? ''],
  'domain bundle': (summary) => [
    `bundle for ${summary.agentId ?? ''} made: ${shownText(summary.place ?? '')}`,
    `  the agent is told this domain: --domain ${summary.domainFingerprint ?? ''}`,
  ],
  'domain roster add': (summary) => [`agent ${summary.agentId ?? ''} is on roster ${String(summary.counts?.['number'] ?? '')}`],
  'domain roster revoke': (summary) => [`agent ${summary.agentId ?? ''} is revoked on roster ${String(summary.counts?.['number'] ?? '')}`],
  'domain roster publish': (summary) => [`roster ${String(summary.counts?.['number'] ?? '')} is with the server`],
  grant: (summary) => [
    summary.dryRun
      ? 'dry run: nothing was granted'
      : summary.restoreId === undefined
        ? `granted ${formatMany(of(summary.counts ?? {}, 'granted'), 'request')}`
        : `granted ${summary.restoreId}`,
  ],
  request: (summary) => [
    `${summary.dryRun ? 'would request' : 'requested'} ${summary.restoreId ?? ''}${summary.state === undefined ? '' : ` (${summary.state})`}`,
  ],
  records: (_, counts) => [formatMany(of(counts, 'records'), 'record')],
  'key list': (_, counts) => [formatMany(of(counts, 'keys'), 'key')],
  ls: (_, counts) => [`${formatMany(of(counts, 'entries'), 'entry', 'entries')}, ${formatBytes(of(counts, 'bytes'))}`],
  'domain roster list': (_, counts) => [`roster ${of(counts, 'number')}: ${formatMany(of(counts, 'agents'), 'agent')}`],
  run: (summary) => [summary.state === 'accepted' ? 'agreed; the daemon takes it up within a minute' : 'stopped'],
  doctor: (summary) => [summary.result === 'done' ? 'this store can hold a repository' : 'this store cannot hold a repository as it is'],
  enroll: (summary) => [
    `Enrolled as ${summary.agentId ?? ''}`,
    `  fingerprint    ${summary.fingerprint ?? ''}`,
    ...(summary.state === 'complete' ? [`  domain         ${summary.domainFingerprint ?? ''}`] : ['', NEXT_ENROLLED]),
  ],
}

const NEXT_DOMAIN = 'Next: enrol an agent, then holdfast domain roster add AGENT and holdfast domain bundle AGENT'
const NEXT_ENROLLED = 'Next: the controller compares the fingerprint and sends the domain bundle (holdfast domain bundle).'
