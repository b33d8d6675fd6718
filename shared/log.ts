// The log: one JSON line an event, to standard output or wherever the writer leads. Fields come from a closed vocabulary, so that nothing
// that could hold a name, a path, a body or a secret has a place in it (obligations O9, O14).
import type { Clock } from './clock.ts'
import { isoTime } from './clock.ts'
import { printable } from './errors.ts'

export type Level = 'info' | 'warn' | 'error'

/** Everything a line may say besides time, level, program and event. Routes are patterns (`/v1/agents/:id`), never URLs. */
export type LogFields = {
  readonly requestId?: string | undefined
  readonly method?: string | undefined
  readonly route?: string | undefined
  readonly status?: number | undefined
  readonly ms?: number | undefined
  readonly actor?: string | undefined
  readonly controllerId?: string | undefined
  readonly agentId?: string | undefined
  readonly policyId?: string | undefined
  readonly runId?: string | undefined
  readonly restoreId?: string | undefined
  readonly deletionId?: string | undefined
  readonly snapshotId?: string | undefined
  readonly storeId?: string | undefined
  readonly queue?: string | undefined
  readonly jobId?: string | undefined
  readonly seq?: number | undefined
  readonly code?: string | undefined
  readonly count?: number | undefined
  readonly bytes?: number | undefined
  readonly attempt?: number | undefined
  readonly address?: string | undefined
  readonly version?: string | undefined
  /** The program's own words; never text from outside. */
  readonly message?: string | undefined
  /** The stack of an unexpected error. */
  readonly stack?: string | undefined
}

export interface Log {
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields): void
}

/** A log that writes one line an event; `write` gets the line with its line end. */
export function makeLog(options: { program: string; clock: Clock; write: (line: string) => void }): Log {
  const line =
    (level: Level) =>
    (event: string, fields: LogFields = {}): void => {
      const out: Record<string, string | number> = { time: isoTime(options.clock.now()), level, program: options.program, event }
      for (const [key, value] of Object.entries(fields)) {
        if (typeof value === 'number') out[key] = value
        else if (typeof value === 'string') out[key] = redact(printable(value)).slice(0, 4000)
      }
      options.write(`${JSON.stringify(out)}\n`)
    }
  return { info: line('info'), warn: line('warn'), error: line('error') }
}

/** A log that keeps nothing, for tests and tools. */
export const silentLog: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }

/** Credentials that slipped into a message are struck out: API tokens, enrolment codes, bearer values, passwords in URLs. */
export function redact(text: string): string {
  return text
    .replace(/\btok_([0-9a-f]{32})_[A-Za-z0-9_-]+/g, 'tok_$1_[redacted]')
    .replace(/\bhf1-[a-z2-7]{5,}(-[a-z2-7]+)?/gi, 'hf1-[redacted]')
    .replace(/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+/gi, '$1 [redacted]')
    .replace(/\/\/[^/\s:@]*:[^/\s@]+@/g, '//[redacted]@')
    .replace(/((?:password|secret|passphrase)["']?\s*[=:]\s*)[^\s,}]+/gi, '$1[redacted]')
}
