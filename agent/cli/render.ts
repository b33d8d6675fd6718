// Events as text for people. Answers (lists, contents of snapshots, codes) go to standard output, everything about the run to standard error;
// every name goes through an escape, so that no file name can steer a terminal.
import { parseTime } from '@holdfast/shared/clock.ts'
import { printable } from '@holdfast/shared/errors.ts'
import { shownBytes, shownText } from './byte-text.ts'
import type { Said } from './events.ts'
import { formatBytes, formatCount, formatMany, formatTime } from './format.ts'
import { collectionText } from './render-collection.ts'
import { renderSummary } from './render-summary.ts'
import type { Style } from './style.ts'

export type Rendered = { readonly stdout?: string; readonly stderr?: string } | undefined
export type RenderOptions = { readonly quiet: boolean; readonly style: { readonly stdout: Style; readonly stderr: Style } }

const KIND_LETTER: Readonly<Record<string, string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
}

export function renderEvent(event: Said, options: RenderOptions): Rendered {
  const { quiet, style } = options
  switch (event.event) {
    case 'status':
      return undefined
    case 'notice':
      if (quiet && event.level === 'note') return undefined
      return { stderr: `${event.level === 'warning' ? style.stderr.warn('warning:') : 'note:'} ${shownText(event.message)}\n` }
    case 'problem': {
      const name = event.path === undefined ? '' : `${shownPath({ ...event, path: event.path })}: `
      return { stderr: `${style.stderr.warn('problem:')} ${name}${shownText(event.message)}\n` }
    }
    case 'entry':
      return { stdout: `${entryLine(event)}\n` }
    case 'snapshot':
      return { stdout: `${snapshotLine(event, style.stdout)}\n` }
    case 'key': {
      const made = event.createdAt === undefined ? '' : `  ${formatTime(parseTime(event.createdAt))}`
      const label = event.label === undefined || event.label === '' ? '' : `  ${shownText(event.label)}`
      const mark = event.usable ? '' : `  ${style.stdout.bad('cannot be read')}`
      return { stdout: `${event.name}  ${event.kind.padEnd(13)}  ${shownText(event.place)}${made}${label}${mark}\n` }
    }
    case 'agent':
      return {
        stdout: `${event.agentId}  ${event.state === 'active' ? event.state : style.stdout.warn(event.state)}  since ${formatTime(parseTime(event.since))}  ${shownText(event.label)}\n  fingerprint ${event.fingerprint}\n`,
      }
    case 'finding': {
      const word = { ok: style.stdout.good('ok    '), warn: style.stdout.warn('warn  '), refuse: style.stdout.bad('REFUSE') }[event.level]
      return quiet && event.level === 'ok' ? undefined : { stdout: `${word}  ${shownText(event.message)}\n` }
    }
    case 'record':
      return { stdout: `${recordLine(event)}\n` }
    case 'exported-record':
      return { stdout: `${JSON.stringify(event.record)}\n` }
    case 'grant-terms':
      return { stderr: quiet ? '' : grantText(event, style.stderr) }
    case 'affected-snapshot':
      return { stdout: `${affectedSnapshotLine(event, style.stdout)}\n` }
    case 'affected-path': {
      const { snapshotIds } = event
      const where =
        snapshotIds.length === 1
          ? `snapshot ${snapshotIds[0]!.slice(0, 8)}`
          : `${formatMany(snapshotIds.length, 'snapshot')}, the last ${snapshotIds.at(-1)!.slice(0, 8)}`
      const word = event.verdict === 'lost' ? style.stdout.bad('lost    ') : style.stdout.warn('unsure  ')
      return {
        stdout: `${word}  ${shownPath(event)}${event.below ? `${event.path === '/' ? '' : '/'} and what was in it and cannot be named` : ''}  (${where})\n`,
      }
    }
    case 'retention':
    case 'forgotten':
    case 'locked':
      return collectionText(event, options)
    case 'drill':
      return drillText(event, options)
    case 'recovery-code':
      return { stdout: recoveryText(event.code, style.stdout) }
    case 'help':
      return { stdout: event.text }
    case 'error':
      return { stderr: `${style.stderr.bad('holdfast:')} ${shownText(event.message)}\n` }
    case 'summary':
      return renderSummary(event, options)
  }
}

/** A path of an event: its exact bytes where there are any. */
export function shownPath(path: { readonly path: string; readonly pathBase64?: string | undefined }): string {
  return path.pathBase64 === undefined ? printable(path.path) : shownBytes(Buffer.from(path.pathBase64, 'base64'))
}

function entryLine(entry: Said<'entry'>): string {
  const target =
    entry.target === undefined
      ? ''
      : ` -> ${entry.targetBase64 === undefined ? printable(entry.target) : shownBytes(Buffer.from(entry.targetBase64, 'base64'))}`
  const slash = entry.kind === 'directory' && entry.path !== '/' ? '/' : ''
  if (!entry.long) return `${shownPath(entry)}${slash}`
  const owner = `${entry.uid}:${entry.gid}`.padEnd(11)
  const size = (entry.size === undefined ? '-' : formatCount(entry.size)).padStart(15)
  return `${KIND_LETTER[entry.kind] ?? '?'}${modeText(entry.mode)}  ${owner} ${size}  ${entry.modifiedAt === undefined ? `${entry.mtimeNs} ns` : formatTime(parseTime(entry.modifiedAt))}  ${shownPath(entry)}${slash}${target}`
}

/** `rwxr-sr-t` of `3755`. */
function modeText(octal: string): string {
  const mode = Number.parseInt(octal, 8)
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = (mode >> shift) & 7
    const runs = (bits & 1) !== 0
    const last = (mode & special) === 0 ? (runs ? 'x' : '-') : runs ? letter : letter.toUpperCase()
    return `${(bits & 4) === 0 ? '-' : 'r'}${(bits & 2) === 0 ? '-' : 'w'}${last}`
  }
  return triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't')
}

function snapshotLine(snapshot: Said<'snapshot'>, style: Style): string {
  const what = snapshot.opened
    ? `${shownText(snapshot.host ?? '')}  ${shownPaths(snapshot.paths ?? []) || shownText(snapshot.source ?? '')}`
    : style.dim(`series ${snapshot.series.slice(0, 8)}, not opened`)
  const tags = (snapshot.tags ?? []).length === 0 ? '' : `  [${(snapshot.tags ?? []).map(shownText).join(', ')}]`
  const files = formatMany(snapshot.files, 'file').padStart(14)
  return `${style.bold(snapshot.id.slice(0, 8))}  ${formatTime(parseTime(snapshot.startedAt))}  ${files}  ${formatBytes(snapshot.bytes).padStart(10)}  ${what}${tags}`
}

function affectedSnapshotLine(event: Said<'affected-snapshot'>, style: Style): string {
  const parts = [
    ...(event.lostChunks === 0 ? [] : [`${formatMany(event.lostChunks, 'chunk')} lost`]),
    ...(event.lostNodes === 0 ? [] : [`${formatMany(event.lostNodes, 'tree node')} lost`]),
    ...(event.unsure === 0 ? [] : [`${formatMany(event.unsure, 'blob')} unsure`]),
  ]
  const packs = event.packs
    .slice(0, 3)
    .map(({ pack }) => pack.slice(0, 8))
    .join(', ')
  const inPacks =
    event.packs.length === 0 ? '' : `  in ${event.packs.length === 1 ? 'pack' : 'packs'} ${packs}${event.packs.length > 3 ? ', …' : ''}`
  return `${style.bold(event.id.slice(0, 8))}  ${formatTime(parseTime(event.startedAt))}  ${parts.join(', ')}${style.dim(inPacks)}`
}

/** The first two; `--json` has them all. */
function shownPaths(paths: readonly { path: string; pathBase64?: string | undefined }[]): string {
  const more = paths.length > 2 ? ` and ${formatMany(paths.length - 2, 'more', 'more')}` : ''
  return paths.slice(0, 2).map(shownPath).join(', ') + more
}

/** What, when and how much in the first line; whence, whither and on whose word in the second. */
function recordLine({ header, ...record }: Said<'record'>): string {
  const word = (name: string): string => (typeof header[name] === 'string' ? printable(header[name]) : '')
  const of = word('snapshotId') === '' ? word('runId') : `snapshot ${word('snapshotId').slice(0, 8)}`
  const root = word('restoreRoot') === '' ? '' : `, restore root '${word('restoreRoot')}'`
  const order = word('instructionId') === '' ? 'without an instruction' : `on instruction ${word('instructionId')}`
  const asked =
    word('requestedBy') === ''
      ? ''
      : `, asked by ${word('requestedBy')}${word('approvedBy') === '' ? '' : `, approved by ${word('approvedBy')}`}`
  return [
    `${formatTime(parseTime(record.at))}  ${record.kind.padEnd(12)}  ${record.outcome.padEnd(7)}  ${formatBytes(record.size).padStart(10)}  ${record.agentId} #${record.seq}.${record.index}  ${of}`,
    `  from ${shownPlace(header['from'])} to ${shownPlace(header['to'])}${root}; ${word('purpose')} ${order}, by ${word('actor')}${asked}`,
  ].join('\n')
}

/** One end of a transfer in a record's header. */
function shownPlace(place: unknown): string {
  if (place === null || typeof place !== 'object') return '?'
  const { region, storeId } = place as { region?: unknown; storeId?: unknown }
  return `${printable(String(region))}${typeof storeId === 'string' ? ` (${printable(storeId)})` : ''}`
}

function grantText(terms: Said<'grant-terms'>, style: Style): string {
  const lines = [
    `${style.bold('Request')} ${terms.restoreId} (${terms.purpose}, instruction ${terms.instructionId}, asked by ${shownText(terms.requestedBy)})`,
    `  restores  ${formatMany(terms.files, 'file')}, ${formatBytes(terms.bytes)}, of snapshot ${terms.snapshotId.slice(0, 8)}${terms.whole ? ': all of it' : ''}`,
    ...terms.selected.slice(0, 20).map((path) => `            ${shownPath(path)}`),
    ...(terms.selected.length > 20 ? [`            and ${formatMany(terms.selected.length - 20, 'more', 'more')}`] : []),
    `  on        ${shownText(terms.agentLabel)} (${terms.agentId}), to its restore root '${shownText(terms.restoreRoot)}', conflicts: ${terms.conflict}`,
    `  opens     ${terms.sessions > 0 ? formatMany(terms.sessions, 'session key') : formatMany(terms.segments, 'segment key')}, until ${formatTime(parseTime(terms.expiresAt))}`,
    ...(terms.alsoOpens.length === 0
      ? []
      : [
          `  ${style.warn('also')}      these keys open parts of ${formatMany(terms.alsoOpens.length, 'other snapshot')}: ${terms.alsoOpens
            .slice(0, 10)
            .map((id) => id.slice(0, 8))
            .join(', ')}${terms.alsoOpens.length > 10 ? ', …' : ''}`,
        ]),
  ]
  return `${lines.join('\n')}\n`
}

const DRILL_WORDS: Readonly<Record<Said<'drill'>['outcome'], string>> = {
  planned: 'would drill',
  asked: 'asked of an agent',
  began: 'began; it was interrupted, or is under way',
  restored: 'restored',
  incomplete: 'INCOMPLETE',
  damaged: 'DAMAGED',
  failed: 'FAILED',
  cancelled: 'cancelled',
}

/** When, which snapshot and how it ended in the first line, how much of it in the second. */
function drillText(drill: Said<'drill'>, { style }: RenderOptions): { stdout: string } {
  const { good, warn, bad } = style.stdout
  const paint = { restored: good, damaged: bad, failed: bad, incomplete: warn, began: warn } as const
  const word = (paint[drill.outcome as keyof typeof paint] ?? ((text: string) => text))(
    DRILL_WORDS[drill.outcome === 'began' && drill.agentId !== undefined ? 'asked' : drill.outcome],
  )
  const of = drill.ofFiles === undefined || drill.whole ? '' : ` of ${formatCount(drill.ofFiles)}`
  const share = drill.whole ? 'all: ' : ''
  const parts = [
    ...(drill.outcome === 'began' ? [] : [`${share}${formatCount(drill.files)}${of} files, ${formatBytes(drill.bytes)}`]),
    ...(drill.bytesCompared === undefined ? [] : [`${formatBytes(drill.bytesCompared)} read again and compared`]),
    ...(drill.drillsForAll === undefined || drill.drillsForAll === 1 ? [] : [`all in about ${formatMany(drill.drillsForAll, 'drill')}`]),
    ...(drill.problems === 0 ? [] : [formatMany(drill.problems, 'problem')]),
    ...(drill.agentId === undefined ? [] : [`by ${drill.agentId} (${drill.restoreId ?? ''})`]),
    ...(drill.outcome === 'began' && drill.agentId !== undefined ? ["how it ended is in the agent's records"] : []),
  ]
  const why = drill.code === undefined || drill.code === drill.outcome ? '' : ` (${printable(drill.code)})`
  return {
    stdout: `${formatTime(parseTime(drill.at))}  ${style.stdout.bold(drill.snapshotId.slice(0, 8))}  ${word}${why}\n${parts.length === 0 ? '' : `  ${parts.join('; ')}\n`}`,
  }
}

function recoveryText(code: string, style: Style): string {
  return [
    '',
    style.bold('Recovery code'),
    '',
    `    ${style.bold(code)}`,
    '',
    '  It opens everything when the passphrase is lost. Write it on paper and keep it away',
    '  from this machine. It is shown this once and stored nowhere.',
    '',
    '',
  ].join('\n')
}
