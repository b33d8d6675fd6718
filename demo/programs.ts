// Starts the products of this checkout as separate processes, the way a person does: through their launchers, each with an environment of its
// own, and every one ended when the demonstration ends.
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { systemClock } from '@holdfast/shared/clock.ts'
import { cliEvent, type CliEvent } from '../agent/cli/events.ts'

const BIN = resolve(import.meta.dirname, '../node_modules/.bin')
export type Environment = Readonly<Record<string, string>>
export type Summary = Extract<CliEvent, { event: 'summary' }>

const running = new Set<ChildProcess>()

/** What every process gets: no secret of the person who runs the demonstration, and nothing of theirs is found by accident. */
function baseEnvironment(home: string): Environment {
  return {
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    HOME: home,
    LANG: 'C.UTF-8',
    ...(process.env['TZ'] === undefined ? {} : { TZ: process.env['TZ'] }),
  }
}

/** Starts a program that stays; its output goes to `log`. */
export function start(
  program: 'holdfast' | 'holdfast-server',
  args: readonly string[],
  options: { home: string; env: Environment; log: string },
): ChildProcess {
  const child = spawn(`${BIN}/${program}`, args, {
    env: { ...baseEnvironment(options.home), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => appendFileSync(options.log, data))
  running.add(child)
  child.on('exit', () => running.delete(child))
  return child
}

/** Runs a program to its end; rejects with what it printed when it does not end with 0. */
export async function run(
  program: 'holdfast' | 'holdfast-server',
  args: readonly string[],
  options: { home: string; env: Environment },
): Promise<string> {
  const child = spawn(`${BIN}/${program}`, args, {
    env: { ...baseEnvironment(options.home), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let out = ''
  let err = ''
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (err += data.toString()))
  const code = await new Promise<number | null>((done) => child.on('close', done))
  running.delete(child)
  if (code !== 0) throw new Error(`'${program} ${args.join(' ')}' ended with ${code}:\n${out}${err}`)
  return out
}

/** Runs a command of the agent with `--json` and gives its events and the summary that ends them. */
export async function events(
  args: readonly string[],
  options: { home: string; env: Environment },
): Promise<{ events: CliEvent[]; summary: Summary }> {
  const lines = (await run('holdfast', [...args, '--json'], options)).split('\n').filter((line) => line !== '')
  const parsed = lines.map((line) => cliEvent.parse(JSON.parse(line)))
  const summary = parsed.at(-1)
  if (summary?.event !== 'summary') throw new Error(`'holdfast ${args.join(' ')}' printed no summary`)
  return { events: parsed, summary }
}

/** Ends everything that was started, newest first, and waits for it. */
export async function stopAll(): Promise<void> {
  for (const child of [...running].reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    const ended = new Promise((done) => child.once('exit', done))
    child.kill('SIGTERM')
    await Promise.race([ended, systemClock.sleep(10_000)])
    child.kill('SIGKILL')
  }
}
