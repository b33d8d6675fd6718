// Runs the program as a person does: the real launcher in a process of its own, with an environment that holds nothing but what the test says.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { cliEvent, type CliEvent } from '../../../../agent/cli/events.ts'

const LAUNCHER = join(import.meta.dirname, '../../../../node_modules/.bin/holdfast')

export type Ran = {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: Buffer
  readonly stderr: string
  readonly text: string
}

export class Workplace {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'holdfast-cli-'))
  readonly repo: string = join(this.folder, 'repo')
  readonly #running = new Set<ChildProcessWithoutNullStreams>()
  env: Record<string, string>

  constructor() {
    mkdirSync(join(this.folder, 'home'))
    this.env = {
      PATH: process.env['PATH'] ?? '',
      HOME: join(this.folder, 'home'),
      TZ: 'UTC',
      HOLDFAST_REPO: this.repo,
      HOLDFAST_PASSWORD: 'correct horse',
      // One cache for all processes of the test, which would each fill their own.
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? join(tmpdir(), 'holdfast-test-compile'),
    }
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts)
  }

  /** Runs a script with the launcher as `$0` and `args` as `$1` and so on. */
  async shell(script: string, args: readonly string[]): Promise<Ran> {
    const child = spawn('/bin/sh', ['-c', script, LAUNCHER, ...args], {
      env: this.env as NodeJS.ProcessEnv,
      cwd: this.folder,
      detached: true,
    })
    return this.#finished(child, '')
  }

  start(
    args: readonly (string | Buffer)[],
    options: { env?: Record<string, string | undefined>; cwd?: string } = {},
  ): ChildProcessWithoutNullStreams {
    const env = Object.fromEntries(Object.entries({ ...this.env, ...options.env }).filter(([, value]) => value !== undefined))
    // A session of its own has no terminal to ask on.
    const child = spawn(LAUNCHER, args as string[], { env: env as NodeJS.ProcessEnv, cwd: options.cwd ?? this.folder, detached: true })
    this.#running.add(child)
    child.once('close', () => this.#running.delete(child))
    return child
  }

  async run(
    args: readonly string[],
    options: { env?: Record<string, string | undefined>; cwd?: string; input?: string | Buffer } = {},
  ): Promise<Ran> {
    return this.#finished(this.start(args, options), options.input ?? '')
  }

  async #finished(child: ChildProcessWithoutNullStreams, input: string | Buffer): Promise<Ran> {
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (part: Buffer) => out.push(part))
    child.stderr.on('data', (part: Buffer) => err.push(part))
    // A program that does not read its input may be gone before it was written.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
    const stdout = Buffer.concat(out)
    return { code, signal, stdout, stderr: Buffer.concat(err).toString('utf8'), text: stdout.toString('utf8') }
  }

  /** Runs with `--json` and gives the events, each checked against the schema, the one summary last. */
  async json(
    args: readonly string[],
    options: Parameters<Workplace['run']>[1] = {},
  ): Promise<{ code: number | null; events: CliEvent[]; summary: Summary }> {
    const ran = await this.run([...args, '--json'], options)
    const events = eventsOf(ran.text)
    const summaries = events.filter((event) => event.event === 'summary')
    const summary = events.at(-1)
    if (summaries.length !== 1 || summary?.event !== 'summary') throw new Error(`not exactly one summary last:\n${ran.text}\n${ran.stderr}`)
    if (summary.exitCode !== ran.code) throw new Error(`the summary says ${summary.exitCode}, the process ended with ${ran.code}`)
    return { code: ran.code, events, summary }
  }

  close(): void {
    for (const child of this.#running) child.kill('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export type Summary = Extract<CliEvent, { event: 'summary' }>

export function eventsOf(text: string): CliEvent[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => cliEvent.parse(JSON.parse(line)))
}

export function only<N extends CliEvent['event']>(events: readonly CliEvent[], name: N): Extract<CliEvent, { event: N }>[] {
  return events.filter((event): event is Extract<CliEvent, { event: N }> => event.event === name)
}

/** Lines of a stream as they come; the test waits for what it needs by reading on. */
export function linesOf(stream: NodeJS.ReadableStream): AsyncIterableIterator<string> {
  return createInterface({ input: stream, crlfDelay: Infinity })[Symbol.asyncIterator]()
}
