// Programs as tests run them: to their end with all they printed, or in the background until the test is done.
// Promises: a program's end is awaited, never slept for, and what was started is ended by its own id.
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'

export type ProgramOptions = {
  readonly cwd?: string
  /** The whole environment; the test's own where none is given. */
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string | Uint8Array
}

export type Ended = {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export type Running = {
  readonly pid: number
  readonly ended: Promise<Ended>
  /** Resolves with the first match in what it has printed or prints; rejects with all of that where it ends before. */
  printed(pattern: RegExp): Promise<RegExpExecArray>
  /** Sends the signal and resolves when the process is gone. */
  stop(signal?: NodeJS.Signals): Promise<Ended>
}

/** Runs a program to its end; any exit code resolves, only a program that cannot be started rejects. */
export function runProgram(command: string, args: readonly string[], options: ProgramOptions = {}): Promise<Ended> {
  return startProgram(command, args, options).ended
}

export function startProgram(command: string, args: readonly string[], options: ProgramOptions = {}): Running {
  const { cwd, env, input } = options
  const child = spawn(command, args, { stdio: 'pipe', ...(cwd === undefined ? {} : { cwd }), ...(env === undefined ? {} : { env }) })
  const texts = { stdout: '', stderr: '' }
  const waiting = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
      for (const look of waiting) look()
    })
  // A program may end without reading its input; how it ended is what a test looks at.
  child.stdin.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') texts.stderr += `\n[input: ${error.message}]\n`
  })
  child.stdin.end(input)
  const ended = end(child, texts)
  // Who only waits for a line never looks at this promise.
  ended.catch(() => undefined)
  return {
    pid: child.pid ?? -1,
    ended,
    printed: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(texts.stdout) ?? pattern.exec(texts.stderr)
          if (match === null) return
          waiting.delete(look)
          resolve(match)
        }
        waiting.add(look)
        look()
        ended.then(
          ({ code, signal }) =>
            reject(new Error(`ended (${signal ?? code}) before it printed ${pattern}:\n${texts.stdout}${texts.stderr}`)),
          reject,
        )
      }),
    stop: (signal = 'SIGTERM') => {
      child.kill(signal)
      return ended
    },
  }
}

function end(child: ChildProcess, texts: Readonly<{ stdout: string; stderr: string }>): Promise<Ended> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, ...texts }))
  })
}
