// The command line as a whole: global options, the verbs, help that teaches, and what happens around every command: settings, reporter, the one
// summary, the exit code. A verb's module is loaded when it is called, so that `snapshots` does not pay for the daemon.
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { Command, CommanderError, Option } from 'commander'
import { readSettings, type VariableGroup, VARIABLES } from '../config.ts'
import type { Context, GlobalOptions, Outcome, Start, Surroundings } from './context.ts'
import type { CommandOutcome, Summary } from './events.ts'
import { EXIT_CODES, EXIT_OF } from './exit-codes.ts'
import { createReporter, type Reporter } from './report.ts'
import { styleFor } from './style.ts'
import { VERBS } from './verbs.ts'
import { VERSION } from './version.ts'

const GROUP_TITLES: Readonly<Record<VariableGroup, string>> = {
  repository: 'Repository',
  secrets: 'Secrets (never as arguments; one of each kind)',
  server: 'Control server',
  places: 'Places',
}

type Planned = { readonly name: string; readonly work: (context: Context) => Promise<Outcome> }

/** Runs one command line and gives the exit code. Never throws. */
export async function runCommandLine(surroundings: Surroundings): Promise<number> {
  const { argv, env, stdout, stderr, clock } = surroundings
  const startedMs = clock.monotonicMs()
  const flags = beforeTheEnd(argv)
  // Known before anything is parsed, so that a parse error is told in the form that was asked for.
  const json = flags.includes('--json')
  const quiet = flags.includes('--quiet') || flags.includes('-q')
  const style = { stdout: styleFor(stdout, env), stderr: styleFor(stderr, env) }
  const report = createReporter({ json, quiet, stdout, stderr, style, clock })
  surroundings.onShowProgress(report.showProgress)
  let command = verbOf(argv) ?? 'holdfast'
  let dryRun = false
  const summarise = (result: CommandOutcome, exitCode: number, members: Partial<Summary> = {}): number => {
    report.close()
    const elapsedMs = Math.round(clock.monotonicMs() - startedMs)
    report.say({ event: 'summary', command, result, exitCode, elapsedMs, dryRun, ...members })
    return exitCode
  }
  try {
    const planned = await plan(surroundings, report)
    if ('outcome' in planned) {
      command = 'help'
      return summarise('done', 0, planned.outcome)
    }
    command = planned.name
    const { options } = planned
    dryRun = options.dryRun === true
    const context = makeContext(surroundings, report, options)
    const { result, ...members } = await Promise.race([planned.work(context), surroundings.crashed])
    return summarise(result, EXIT_OF[result], members)
  } catch (error) {
    report.close()
    const known = asHoldfastError(error, surroundings.signal)
    const { code, exitCode, retryable, fields } = known
    report.say({ event: 'error', code, message: messageOf(known), exitCode, retryable, fields: { ...fields } })
    const result = code === 'cancelled' ? 'interrupted' : code === 'damaged' ? 'damaged' : 'failed'
    return summarise(result, exitCode, { code })
  }
}

function makeContext(surroundings: Surroundings, report: Reporter, options: GlobalOptions): Context {
  const { env, home, cwd, hostName, uid, signal, clock, random, stdout, stderr } = surroundings
  const settings = readSettings(env, home)
  return {
    env,
    settings,
    options,
    dryRun: options.dryRun === true,
    cwd,
    hostName,
    uid,
    signal,
    clock,
    random,
    report,
    terminal: () => surroundings.terminal((text) => stderr.write(text)),
    writeBytes: stdout.writeBytes,
    writeLog: stderr.write,
  }
}

/** Parses the arguments. What is not a command (help, version) is answered here. */
async function plan(
  { argv, stdout }: Surroundings,
  report: Reporter,
): Promise<(Planned & { options: GlobalOptions }) | { outcome: Partial<Summary> }> {
  let text = ''
  let planned: Planned | undefined
  const program = new Command('holdfast')
  program
    .description('Back up to S3-compatible storage or a directory: de-duplicated, sealed before it leaves this machine, and provable.')
    .configureOutput({
      writeOut: (part) => void (text += part),
      writeErr: () => undefined,
      getOutHelpWidth: () => Math.min(100, stdout.isTerminal ? stdout.columns() : 100),
      getErrHelpWidth: () => 100,
    })
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .exitOverride()
    .addOption(new Option('--repo <location>', 'the repository: a directory, or s3:https://host[:port]/bucket[/prefix] (HOLDFAST_REPO)'))
    .option('--json', 'events as NDJSON on standard output, exactly one summary last')
    .option('-q, --quiet', 'answers, problems and errors only')
    .option('-n, --dry-run', 'say what would be done and change nothing')
    .option('--domain-dir <directory>', 'the directory of the domain and its key files (HOLDFAST_DOMAIN_DIR)')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain the program or a command')
    .addHelpText('after', GENERAL_HELP)
  const start: Start = (name, work) => {
    planned = { name, work }
  }
  const wanted = wantedVerbs(argv)
  for (const verb of VERBS) {
    const command = program
      .command(verb.name, { hidden: verb.hidden === true })
      .summary(verb.summary)
      .description(verb.summary)
    if (wanted.has(verb.name)) (await verb.load()).define(command, start)
  }
  try {
    await program.parseAsync([...argv], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.code === 'commander.helpDisplayed' || (error.code === 'commander.help' && error.exitCode === 0)) {
      report.say({ event: 'help', text })
      return { outcome: {} }
    }
    if (error.code === 'commander.version') {
      report.say({ event: 'help', text: `holdfast ${VERSION}\n` })
      return { outcome: { version: VERSION } }
    }
    throw usageError(error, argv)
  }
  if (planned === undefined)
    throw new HoldfastError('usage', "say what to do, for example 'holdfast backup PATH'; 'holdfast --help' lists the commands")
  return { ...planned, options: program.opts<GlobalOptions>() }
}

function usageError(error: CommanderError, argv: readonly string[]): HoldfastError {
  const verb = verbOf(argv)
  const known = VERBS.some(({ name }) => name === verb)
  const help = `'holdfast ${known ? `${verb} ` : ''}--help' explains`
  if (error.code === 'commander.help')
    return new HoldfastError(
      'usage',
      verb === undefined ? `say what to do, for example 'holdfast backup PATH'; ${help}` : `'${verb}' needs a word more: ${help}`,
    )
  const what = error.message
    .replace(/^error: /, '')
    .replace(/\n\(/g, ' (')
    .replace(/\.?$/, '')
  return new HoldfastError('usage', `${what}; ${help}`)
}

function asHoldfastError(error: unknown, signal: AbortSignal): HoldfastError {
  // Whatever an abort tore down on its way, the reason is the abort.
  if (signal.aborted && isHoldfastError(signal.reason)) return signal.reason
  if (isHoldfastError(error)) return error
  const where = error instanceof Error ? (error.stack?.split('\n')[1]?.trim() ?? '') : ''
  return new HoldfastError('failed', `something went wrong that Holdfast does not know: ${messageOf(error)} ${where}. Please report it.`, {
    cause: error,
  })
}

function beforeTheEnd(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--')
  return end < 0 ? argv : argv.slice(0, end)
}

const WITH_VALUE = new Set(['--repo', '--domain-dir'])

/** The first word that is no option, which is the verb. */
function verbOf(argv: readonly string[]): string | undefined {
  return words(argv)[0]
}

/** Modules to load: the verb's, and with `help VERB` that one's. */
function wantedVerbs(argv: readonly string[]): ReadonlySet<string> {
  const [first, second] = words(argv)
  return new Set([first, first === 'help' ? second : undefined].filter((word) => word !== undefined))
}

function words(argv: readonly string[]): string[] {
  const found: string[] = []
  for (let at = 0; at < argv.length && found.length < 2; at++) {
    const word = argv[at]!
    if (word === '--') break
    if (WITH_VALUE.has(word)) at += 1
    else if (!word.startsWith('-')) found.push(word)
  }
  return found
}

const GENERAL_HELP = `
Examples:
  $ export HOLDFAST_REPO=/mnt/backup HOLDFAST_PASSWORD_FILE=~/.holdfast-passphrase
  $ holdfast init                          make the repository, note the recovery code
  $ holdfast backup ~/documents --tag daily
  $ holdfast snapshots
  $ holdfast ls latest /home/me/documents
  $ holdfast restore latest --target /tmp/back --path /home/me/documents
  $ holdfast check --read-data=1/10        read a tenth of all data and verify it

SNAPSHOT is an id, a prefix of one that no other snapshot shares, or 'latest'.

Environment:
${(Object.keys(GROUP_TITLES) as VariableGroup[])
  .map(
    (group) =>
      `  ${GROUP_TITLES[group]}\n${Object.entries(VARIABLES)
        .filter(([, variable]) => variable.group === group)
        .map(([name, { meaning }]) => `    ${name.padEnd(29)}  ${meaning}`)
        .join('\n')}`,
  )
  .join('\n')}
  S3 credentials are looked for where the AWS tools do: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN),
  AWS_PROFILE, the shared files. Other variables that begin with HOLDFAST_ are refused. NO_COLOR switches colour off.

Exit codes, the same with --json:
${EXIT_CODES.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join('\n')}

SIGUSR1 prints a line of progress. SIGINT ends a run cleanly, a second one at once.
`
