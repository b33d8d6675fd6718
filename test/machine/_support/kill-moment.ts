// Ends a real process with SIGKILL at a seeded moment that its own progress chooses: after so many changes to the directories that it works in,
// or within the time that the same command took before. What it did up to then is what it leaves.
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { existsSync, type FSWatcher, watch } from 'node:fs'
import { systemClock } from '@holdfast/shared/clock.ts'

/** What one command was seen to do when nothing ended it, so that moments can be chosen within it. */
export type Pace = { changes: number; untilFirstMs: number; afterFirstMs: number }

export type Killed = {
  /** False where it ended by itself before its moment came. */
  readonly killed: boolean
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** The moment, in words. */
  readonly moment: string
}

type Moment = { readonly words: string; readonly changes?: number; readonly afterStartMs?: number; readonly afterFirstMs?: number }

/** Chooses where in a command it dies; most often among its changes, sometimes before the first or at any time after it. */
function chooseMoment(pace: Pace, next: () => number): Moment {
  const share = (next() % 1000) / 1000
  const kind = next() % 10
  if (pace.changes > 1 && kind < 6) {
    const changes = 1 + Math.floor(share * pace.changes)
    return { words: `after change ${changes} of about ${pace.changes}`, changes }
  }
  if (kind < 9) {
    const afterFirstMs = share * pace.afterFirstMs
    return { words: `${afterFirstMs.toFixed(1)} ms after its first change`, afterFirstMs }
  }
  const afterStartMs = share * pace.untilFirstMs
  return { words: `${afterStartMs.toFixed(1)} ms after its start`, afterStartMs }
}

/**
 * Lets `child` run until its moment and kills it. `directories` are those whose changes count as its progress; one that is not there yet does
 * not count. A run that ends by itself corrects `pace`, which the next moments are chosen from.
 */
export async function killAtMoment(
  child: ChildProcessWithoutNullStreams,
  directories: readonly string[],
  pace: Pace,
  next: () => number,
): Promise<Killed> {
  const moment = chooseMoment(pace, next)
  const started = systemClock.monotonicMs()
  let [out, err] = ['', '']
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (err += data.toString()))
  child.stdin.on('error', () => undefined)
  child.stdin.end()
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const over = new AbortController()
  let [changes, firstAt] = [0, 0]
  const kill = (): void => void child.kill('SIGKILL')
  const killAfter = (ms: number): void => {
    // Ended early means that the process is gone already.
    systemClock.sleep(ms, over.signal).then(kill, () => undefined)
  }
  const onChange = (): void => {
    changes += 1
    if (changes === 1) {
      firstAt = systemClock.monotonicMs()
      if (moment.afterFirstMs !== undefined) killAfter(moment.afterFirstMs)
    }
    if (changes === moment.changes) kill()
  }
  const watchers = directories.filter((path) => existsSync(path)).map((path) => watched(path, onChange))
  if (watchers.length === 0) onChange()
  if (moment.afterStartMs !== undefined) killAfter(moment.afterStartMs)
  await ended
  over.abort()
  for (const watcher of watchers) watcher.close()
  const killed = child.signalCode === 'SIGKILL'
  if (!killed) {
    const now = systemClock.monotonicMs()
    pace.changes = changes
    pace.untilFirstMs = (firstAt === 0 ? now : firstAt) - started
    pace.afterFirstMs = firstAt === 0 ? 0 : now - firstAt
  }
  return { killed, code: child.exitCode, stdout: out, stderr: err, moment: moment.words }
}

/** Resolves after so many changes in these directories, or when `signal` aborts: with how many there were. */
export async function changesIn(directories: readonly string[], count: number, signal: AbortSignal): Promise<number> {
  let changes = 0
  const reached = new AbortController()
  const watchers = directories.map((path) => watched(path, () => ++changes >= count && reached.abort()))
  const either = AbortSignal.any([signal, reached.signal])
  if (!either.aborted) await new Promise((resolve) => either.addEventListener('abort', resolve, { once: true }))
  for (const watcher of watchers) watcher.close()
  return changes
}

function watched(path: string, onChange: () => void): FSWatcher {
  const watcher = watch(path, onChange)
  // A directory that goes away while it is watched has no more changes to tell of.
  watcher.on('error', () => watcher.close())
  return watcher
}
