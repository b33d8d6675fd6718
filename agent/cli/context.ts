// What a command is given, and what it answers. Only main.ts touches the process; everything arrives here.
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { Environment, Settings } from '../config.ts'
import type { Terminal } from '../keys/terminal.ts'
import type { CommandOutcome, Summary } from './events.ts'
import type { Reporter, Writer } from './report.ts'

/** The process as the program sees it. Texts that can hold names are byte texts (byte-text.ts). */
export type Surroundings = {
  /** After the name of the program. */
  readonly argv: readonly string[]
  readonly env: Environment
  readonly cwd: Buffer
  readonly home: string
  readonly hostName: string
  readonly uid: number | undefined
  readonly stdout: Writer & { readonly writeBytes: (bytes: Uint8Array) => Promise<void> }
  readonly stderr: Writer
  /** Aborts with the error to end with, at SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal
  /** Rejects where something throws that nobody waits for; then the program ends, but not without its summary. */
  readonly crashed: Promise<never>
  readonly onShowProgress: (show: () => void) => void
  readonly terminal: (show: (text: string) => void) => Terminal | undefined
  readonly clock: Clock
  readonly random: Random
}

/** Options that every command takes, before or after its name. */
export type GlobalOptions = {
  readonly repo?: string
  readonly json?: boolean
  readonly quiet?: boolean
  readonly dryRun?: boolean
  readonly domainDir?: string
}

export type Context = {
  readonly env: Environment
  readonly settings: Settings
  readonly options: GlobalOptions
  readonly dryRun: boolean
  readonly cwd: Buffer
  readonly hostName: string
  readonly uid: number | undefined
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly random: Random
  readonly report: Reporter
  /** Undefined where nobody can be asked. */
  readonly terminal: () => Terminal | undefined
  readonly writeBytes: (bytes: Uint8Array) => Promise<void>
  /** A line of the daemon's log. */
  readonly writeLog: (line: string) => void
}

/** How a command ended well, and what its summary says; what ends badly is thrown. */
export type Outcome = Omit<Summary, 'event' | 'command' | 'result' | 'exitCode' | 'elapsedMs' | 'dryRun' | 'code'> & {
  readonly result: Exclude<CommandOutcome, 'failed' | 'interrupted'>
}

/** What a command module hands to the program once its arguments are known. */
export type Start = (name: string, work: (context: Context) => Promise<Outcome>) => void
