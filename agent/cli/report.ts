// Where events go: NDJSON on standard output with `--json`, or text for people. One of the two is made per call of the program; commands only
// know this interface. Progress is rated and thinned here, so that engine code can report as often as it likes.
import type { Clock } from '@holdfast/shared/clock.ts'
import { EVENT_VERSION, type Said, type Status } from './events.ts'
import { liveLine, plainStatus } from './progress-line.ts'
import { renderEvent } from './render.ts'
import type { Style } from './style.ts'

/** Where text goes. A writer whose reader has gone away says so and swallows the rest. */
export type Writer = {
  readonly write: (text: string) => void
  readonly isTerminal: boolean
  readonly columns: () => number
  readonly isClosed: () => boolean
}

export type Progress = Omit<Status, 'event' | 'elapsedMs' | 'bytesPerSecond' | 'secondsLeft'>

export type Reporter = {
  readonly say: (event: Said) => void
  readonly progress: (progress: Progress) => void
  /** A line of progress at once, as SIGUSR1 asks for. */
  readonly showProgress: () => void
  /** True once nobody reads what is listed. */
  readonly isClosed: () => boolean
  /** Takes the live line away; nothing is drawn afterwards. */
  readonly close: () => void
}

export type ReporterOptions = {
  readonly json: boolean
  readonly quiet: boolean
  readonly stdout: Writer
  readonly stderr: Writer
  readonly style: { readonly stdout: Style; readonly stderr: Style }
  readonly clock: Clock
}

const LIVE_MS = 100
const JSON_STATUS_MS = 1000
const PLAIN_STATUS_MS = 60_000
/** Redrawn in between, so that a line does not stand still while a slow store takes its time. */
const TICK_MS = 500

export function createReporter(options: ReporterOptions): Reporter {
  return options.json ? jsonReporter(options) : humanReporter(options)
}

function jsonReporter({ stdout, clock, quiet }: ReporterOptions): Reporter {
  const say = (event: Said): void => stdout.write(`${JSON.stringify({ v: EVENT_VERSION, ...event })}\n`)
  const rate = createRate(clock)
  let last: Status | undefined
  let shownAt = 0
  let shownPhase = ''
  return {
    say,
    progress: (progress) => {
      last = rate(progress)
      if (quiet || (progress.phase === shownPhase && last.elapsedMs - shownAt < JSON_STATUS_MS)) return
      shownAt = last.elapsedMs
      shownPhase = progress.phase
      say(last)
    },
    showProgress: () => {
      if (last !== undefined) say(last)
    },
    isClosed: stdout.isClosed,
    close: () => undefined,
  }
}

function humanReporter({ stdout, stderr, style, quiet, clock }: ReporterOptions): Reporter {
  const rate = createRate(clock)
  const isLive = stderr.isTerminal && !quiet
  let last: Status | undefined
  let drawn = false
  let shownAt = -Infinity
  let shownPhase = ''
  let ticking: AbortController | undefined

  const clear = (): void => {
    if (drawn) stderr.write('\r\u001b[K')
    drawn = false
  }
  const draw = (status: Status): void => {
    // The end of the line is cleared after it is written, so that nothing flickers.
    stderr.write(`\r${liveLine(status, stderr.columns(), style.stderr)}\u001b[K`)
    drawn = true
    shownAt = clock.monotonicMs()
  }
  const tick = async (signal: AbortSignal): Promise<void> => {
    try {
      for (;;) {
        await clock.sleep(TICK_MS, signal)
        if (last !== undefined && drawn && clock.monotonicMs() - shownAt >= TICK_MS) draw((last = rate(last)))
      }
    } catch (error) {
      // The only way out of the loop is the end of the reporter.
      if (!signal.aborted) throw error
    }
  }

  return {
    say: (event) => {
      const rendered = renderEvent(event, { quiet, style })
      if (rendered === undefined) return
      clear()
      if (rendered.stdout !== undefined) stdout.write(rendered.stdout)
      if (rendered.stderr !== undefined) stderr.write(rendered.stderr)
      if (last !== undefined && isLive && ticking !== undefined && event.event !== 'summary') draw(last)
    },
    progress: (progress) => {
      last = rate(progress)
      if (quiet) return
      const now = clock.monotonicMs()
      if (isLive) {
        if (ticking === undefined) {
          ticking = new AbortController()
          void tick(ticking.signal)
        }
        if (now - shownAt >= LIVE_MS || progress.phase !== shownPhase) draw(last)
      } else if (shownPhase === '') {
        shownAt = now
      } else if (now - shownAt >= PLAIN_STATUS_MS) {
        stderr.write(`${plainStatus(last)}\n`)
        shownAt = now
      }
      shownPhase = progress.phase
    },
    showProgress: () => {
      clear()
      stderr.write(`${last === undefined ? 'starting' : plainStatus(last)}\n`)
    },
    isClosed: stdout.isClosed,
    close: () => {
      clear()
      ticking?.abort()
      ticking = undefined
      last = undefined
    },
  }
}

/** Adds elapsed time, the rate over the last ten seconds or so, and the time left where the total is known. */
function createRate(clock: Clock): (progress: Progress) => Status {
  const startedMs = clock.monotonicMs()
  let at = startedMs
  let bytesThen = 0
  let perSecond = 0
  return (progress) => {
    const now = clock.monotonicMs()
    const elapsedMs = Math.round(now - startedMs)
    const step = (now - at) / 1000
    if (step >= 0.5) {
      const current = Math.max(0, progress.bytes - bytesThen) / step
      // An average that forgets with a time constant of five seconds: steady to look at, and not stuck at the start's speed.
      const weight = perSecond === 0 ? 1 : 1 - Math.exp(-step / 5)
      perSecond += (current - perSecond) * weight
      at = now
      bytesThen = progress.bytes
    }
    const bytesPerSecond = Math.round(perSecond === 0 && elapsedMs > 0 ? progress.bytes / (elapsedMs / 1000) : perSecond)
    const left = progress.totalBytes === undefined ? undefined : Math.max(0, progress.totalBytes - progress.bytes)
    const { phase, unit, files, bytes, newBytes, uploadedBytes, problems, totalFiles, totalBytes } = progress
    return {
      event: 'status',
      phase,
      ...(unit === undefined ? {} : { unit }),
      files,
      bytes,
      ...(newBytes === undefined ? {} : { newBytes }),
      ...(uploadedBytes === undefined ? {} : { uploadedBytes }),
      problems,
      ...(totalFiles === undefined ? {} : { totalFiles }),
      ...(totalBytes === undefined ? {} : { totalBytes }),
      elapsedMs,
      bytesPerSecond,
      ...(left === undefined || bytesPerSecond === 0 || elapsedMs < 2000 ? {} : { secondsLeft: Math.round(left / bytesPerSecond) }),
    }
  }
}
