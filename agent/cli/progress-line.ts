// Progress in one line: for a terminal, where it is redrawn in place and fits the width, and for logs, as a sentence.
import type { Status } from './events.ts'
import { formatBytes, formatCount, formatDuration, formatMany } from './format.ts'
import type { Style } from './style.ts'

const BAR = 20

/** At most `columns - 1` characters wide: parts that do not fit are left out, the least important first. */
export function liveLine(status: Status, columns: number, style: Style): string {
  const { phase, totalBytes, bytes } = status
  const share = totalBytes === undefined || totalBytes === 0 ? undefined : Math.min(1, bytes / totalBytes)
  // Nothing to count yet: only what is going on, and for how long.
  const elapsed = formatDuration(status.elapsedMs)
  if (status.files === 0 && bytes === 0 && phase.length + elapsed.length + 2 < columns) return `${style.bold(phase)}  ${style.dim(elapsed)}`
  const parts: { text: string; rank: number; paint?: (text: string) => string }[] = [
    { text: phase, rank: 0, paint: style.bold },
    ...(share === undefined ? [] : [{ text: `${bar(share)} ${String(Math.floor(share * 100)).padStart(3)} %`, rank: 3 }]),
    { text: ofTotal(formatCount(status.files), status.totalFiles, formatCount) + ` ${status.unit ?? 'files'}`, rank: 2 },
    { text: ofTotal(formatBytes(bytes), totalBytes, formatBytes), rank: 1 },
    { text: `${formatBytes(status.bytesPerSecond)}/s`, rank: 4 },
    ...dedup(status).map((text) => ({ text, rank: 6 })),
    ...(status.secondsLeft === undefined
      ? [{ text: formatDuration(status.elapsedMs), rank: 5, paint: style.dim }]
      : [{ text: `${formatDuration(status.secondsLeft * 1000)} left`, rank: 5 }]),
    ...(status.problems === 0 ? [] : [{ text: formatMany(status.problems, 'problem'), rank: 2, paint: style.warn }]),
  ]
  let kept = parts
  const width = (list: typeof parts): number => list.reduce((sum, part) => sum + part.text.length + 2, -2)
  while (kept.length > 1 && width(kept) > columns - 1) {
    const worst = Math.max(...kept.map((part) => part.rank))
    kept = kept.filter((part) => part.rank !== worst)
  }
  if (width(kept) > columns - 1) return phase.slice(0, Math.max(0, columns - 1))
  return kept.map(({ text, paint }) => (paint === undefined ? text : paint(text))).join('  ')
}

/** The same for a log: one line, no colour, nothing redrawn. */
export function plainStatus(status: Status): string {
  const left = status.secondsLeft === undefined ? '' : `, ${formatDuration(status.secondsLeft * 1000)} left`
  const known = dedup(status)
  const problems = status.problems === 0 ? '' : `, ${formatMany(status.problems, 'problem')}`
  const files = `${ofTotal(formatCount(status.files), status.totalFiles, formatCount)} ${status.unit ?? 'files'}`
  const bytes = ofTotal(formatBytes(status.bytes), status.totalBytes, formatBytes)
  return `${formatDuration(status.elapsedMs)} ${status.phase}: ${files}, ${bytes}, ${formatBytes(status.bytesPerSecond)}/s${known.length === 0 ? '' : `, ${known[0]}`}${left}${problems}`
}

function ofTotal(done: string, total: number | undefined, format: (value: number) => string): string {
  return total === undefined ? done : `${done} of ${format(total)}`
}

/** How much of what was read the repository had already. */
function dedup({ bytes, newBytes }: Status): string[] {
  if (newBytes === undefined || bytes === 0) return []
  return [`${formatBytes(newBytes)} new (${Math.max(0, Math.round((1 - newBytes / bytes) * 100))} % known)`]
}

function bar(share: number): string {
  const full = Math.round(share * BAR)
  return `[${'#'.repeat(full)}${'-'.repeat(BAR - full)}]`
}
