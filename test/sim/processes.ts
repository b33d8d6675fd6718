// Processes of many machines under one seed: each call that leaves a process (to the store, to the server, to the database) waits for its turn, each
// timer for its time, and a seed decides whose turn is next, who is suspended, and when time leaps over hours in which everybody only waits. A process
// that has ended never hears of what it waits for, so nothing of it runs on. Nothing else waits for anything, so a seed replays a whole history.
import { createHash } from 'node:crypto'
import type { Clock } from '@holdfast/shared/clock.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'

export type Process = {
  readonly name: string
  readonly isOver: () => boolean
  /** From now on nothing that it waits for comes. */
  readonly end: () => void
}

export type Processes = {
  /** The true time, which no machine knows. */
  readonly clock: Clock
  readonly start: (name: string) => Process
  /** The clock of a process, `offset` milliseconds from the true one. Its timers end with the process. */
  readonly clockOf: (process: Process, offset: () => number) => Clock
  /** Waits for a turn; `what` goes into the trace. */
  readonly turn: (process: Process, what: string) => Promise<void>
  /** Lets so much time pass for somebody of the story. Time leaps from one such moment to the next. */
  readonly pause: (process: Process, ms: number) => Promise<void>
  /** A process that is suspended is so as a whole, with all its calls and timers. */
  readonly suspend: (process: Process, ms: number) => void
  /** Work beside the others; what it throws ends the history. */
  readonly spawn: (work: () => Promise<void>) => void
  /** Runs until all spawned work is done. */
  readonly run: () => Promise<void>
  readonly note: (line: string) => void
  /** Over all turns and notes so far. */
  readonly hash: () => string
  readonly turns: () => number
}

type Waiting = {
  readonly process: Process
  readonly what: string
  readonly notBefore: number
  readonly kind: 'call' | 'timer' | 'story'
  readonly go: () => void
}

/** A history has some ten thousand turns; one of so many goes round in a circle. */
const TURNS_MAX = 1_000_000
const START_MS = 1_800_000_000_000

export function createProcesses(options: {
  readonly random: Random
  /** Timers that pass, on average, before time leaps to the next moment of the story. */
  readonly patience: number
  readonly log?: ((line: string) => void) | undefined
}): Processes {
  const { random, patience } = options
  const waiting = new Set<Waiting>()
  const suspended = new Map<Process, number>()
  const hash = createHash('sha256')
  let now = 0
  let turns = 0
  let alive = 0
  let failure: { error: unknown } | undefined

  const clock: Clock = {
    now: () => START_MS + now,
    monotonicMs: () => now,
    sleep: () => Promise.reject(new Error('the true clock is nobody’s to wait by')),
  }
  const note = (line: string): void => {
    hash.update(`${now} ${line}\n`)
    options.log?.(`${(now / 3_600_000).toFixed(4)} ${line}`)
  }
  const wait = (process: Process, what: string, kind: Waiting['kind'], notBefore: number): Promise<void> =>
    new Promise((go) => {
      if (!process.isOver()) waiting.add({ process, what, kind, notBefore, go })
    })
  const dueAt = ({ process, notBefore }: Waiting): number => Math.max(notBefore, suspended.get(process) ?? 0)
  const earliest = (among: Iterable<Waiting>): number => {
    let least = Number.POSITIVE_INFINITY
    for (const one of among) least = Math.min(least, dueAt(one))
    return least
  }

  const start = (name: string): Process => {
    let isOver = false
    const process: Process = {
      name,
      isOver: () => isOver,
      end: () => {
        isOver = true
        suspended.delete(process)
        for (const one of waiting) if (one.process === process) waiting.delete(one)
      },
    }
    return process
  }

  const sleepOf = (process: Process, ms: number, signal: AbortSignal | undefined): Promise<void> =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason)
      // No time is no wait: only a turn of the event loop.
      if (ms <= 0) {
        setImmediate(() => {
          if (!process.isOver()) resolve()
        })
        return
      }
      if (process.isOver()) return
      const cancel = (): void => {
        if (waiting.delete(entry)) reject(signal?.reason)
      }
      const go = (): void => {
        signal?.removeEventListener('abort', cancel)
        resolve()
      }
      const entry: Waiting = { process, what: 'timer', kind: 'timer', notBefore: now + ms, go }
      signal?.addEventListener('abort', cancel, { once: true })
      waiting.add(entry)
    })

  const passTime = (): void => {
    const next = earliest(waiting)
    if (next === Number.POSITIVE_INFINITY) throw new Error('everybody waits for something that nobody does')
    // Where only timers wait, time may leap to what happens next.
    const leaps = randomBelow(random, patience) === 0
    const target = leaps ? earliest([...waiting].filter(({ kind }) => kind !== 'timer')) : next
    now = Math.max(now, target === Number.POSITIVE_INFINITY ? next : target)
  }

  return {
    clock,
    start,
    clockOf: (process, offset) => ({
      now: () => Math.floor(START_MS + now + offset()),
      monotonicMs: () => now,
      sleep: (ms, signal) => sleepOf(process, ms, signal),
    }),
    turn: (process, what) => wait(process, what, 'call', now),
    pause: (process, ms) => wait(process, 'story', 'story', now + ms),
    suspend: (process, ms) => {
      note(`${process.name} is suspended for ${ms} ms`)
      suspended.set(process, Math.max(suspended.get(process) ?? 0, now + ms))
    },
    spawn: (work) => {
      alive += 1
      work()
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => {
          alive -= 1
        })
    },
    run: async () => {
      for (;;) {
        await settled()
        if (failure !== undefined) throw failure.error
        if (alive === 0) return
        const ready = [...waiting].filter((one) => dueAt(one) <= now)
        if (ready.length === 0) {
          passTime()
          continue
        }
        const next = ready[randomBelow(random, ready.length)]!
        waiting.delete(next)
        turns += 1
        if (turns > TURNS_MAX)
          throw new Error(
            `no end after ${turns} turns; waiting: ${[...waiting].map(({ process, what }) => `${process.name} ${what}`).join(', ')}`,
          )
        note(`${next.process.name} ${next.what}`)
        now += next.kind === 'call' ? 1 + randomBelow(random, 60) : 0
        next.go()
      }
    },
    note,
    hash: () => hash.copy().digest('hex'),
    turns: () => turns,
  }
}

/** Everything that can go on without a turn has gone on. A request inside the server's framework takes a few turns of the event loop. */
async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
}
