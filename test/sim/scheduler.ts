// Many actors on one bucket and one clock, one store call at a time: each call waits for its turn, and a seed decides whose comes next, who sleeps for
// how long, and what befalls the call. Nothing else in the simulation waits for anything, so a seed replays a whole history.
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { SimulatedClock } from '../_support/simulated-clock.ts'

type Waiting = { readonly actor: string; readonly go: () => void; notBefore: number }

export type Scheduler = {
  /** The store with every call waiting for its turn. */
  readonly scheduled: (actor: string, store: Store) => Store
  /** Lets time pass for this actor alone. */
  readonly sleep: (actor: string, ms: number) => Promise<void>
  /** An actor: it runs until its work is over. */
  readonly spawn: (actor: string, work: () => Promise<void>) => void
  /** Runs until all actors are over; throws what the first one threw. */
  readonly run: () => Promise<void>
  /** Calls that had their turn. */
  readonly turns: () => number
}

export type SchedulerOptions = {
  readonly clock: SimulatedClock
  readonly random: Random
  /** Asked before a call is put in line: for how long this actor is suspended here, in milliseconds. */
  readonly suspend: (actor: string) => number
}

/** A history has a few thousand calls; one of so many goes round in a circle. */
const TURNS_MAX = 100_000

export function createScheduler({ clock, random, suspend }: SchedulerOptions): Scheduler {
  const waiting: Waiting[] = []
  /** An actor that is suspended is so as a whole, with all its calls. */
  const suspended = new Map<string, number>()
  let alive = 0
  let turns = 0
  let failure: { error: unknown } | undefined

  const turn = (actor: string, notBefore = 0): Promise<void> => new Promise((go) => waiting.push({ actor, go, notBefore }))
  const called = async (actor: string): Promise<void> => {
    const ms = suspend(actor)
    if (ms > 0) suspended.set(actor, Math.max(suspended.get(actor) ?? 0, clock.now() + ms))
    await turn(actor)
  }
  const dueAt = ({ actor, notBefore }: Waiting): number => Math.max(notBefore, suspended.get(actor) ?? 0)

  return {
    scheduled: (actor, store) => ({
      location: store.location,
      ...(store.diagnostics === undefined ? {} : { diagnostics: store.diagnostics }),
      put: async (name, body, more) => (await called(actor), store.put(name, body, more)),
      get: async (name, more) => (await called(actor), store.get(name, more)),
      getRange: async (name, range, more) => (await called(actor), store.getRange(name, range, more)),
      head: async (name, more) => (await called(actor), store.head(name, more)),
      async *list(prefix, more) {
        const pages = store.list(prefix, more)[Symbol.asyncIterator]()
        for (;;) {
          await called(actor)
          const page = await pages.next()
          if (page.done === true) return
          yield page.value
        }
      },
      remove: async (name, more) => (await called(actor), store.remove(name, more)),
      close: () => store.close(),
    }),
    sleep: (actor, ms) => turn(actor, clock.now() + ms),
    spawn: (_, work) => {
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
        if (waiting.length === 0) throw new Error('every actor waits for something that nobody does')
        const now = clock.now()
        const ready = waiting.filter((one) => dueAt(one) <= now)
        if (ready.length === 0) {
          clock.advance(Math.min(...waiting.map(dueAt)) - now)
          continue
        }
        const next = ready[randomBelow(random, ready.length)]!
        waiting.splice(waiting.indexOf(next), 1)
        turns += 1
        if (turns > TURNS_MAX) throw new Error(`no end after ${turns} calls; waiting: ${waiting.map(({ actor }) => actor).join(' ')}`)
        clock.advance(1 + randomBelow(random, 400))
        next.go()
      }
    },
    turns: () => turns,
  }
}

/** Everything that can go on without a turn has gone on: the product waits for nothing but its store and its clock. */
async function settled(): Promise<void> {
  for (let i = 0; i < 2; i++) await new Promise((resolve) => setImmediate(resolve))
}
