// A control server that can die: the real application and the real jobs on a database that outlives it, reached by requests that are lost on their way,
// answered into nothing, sent twice and replayed. All that it does outside its process goes by turns.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { makeLog } from '@holdfast/shared/log.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { buildApp } from 'holdfast-server/app.ts'
import type { App, Context, ServerSettings } from 'holdfast-server/context.ts'
import { dispatchJobs } from 'holdfast-server/dispatch.ts'
import { makeServerKeys } from 'holdfast-server/keys.ts'
import { Waker } from 'holdfast-server/waker.ts'
import { simulatedDatabase, type SimulatedDatabase } from '../_support/simulated-records.ts'
import type { Process, Processes } from './processes.ts'
import { simulatedQueue, type SimulatedQueue } from './simulated-queue.ts'

/** Chances in 10,000 requests, acts or jobs. */
export type ServerChances = {
  readonly lostRequest: number
  readonly lostReply: number
  readonly silence: number
  readonly twice: number
  readonly replay: number
  readonly delay: number
  readonly death: number
  readonly jobTwice: number
}
export const NO_CHANCES: ServerChances = { lostRequest: 0, lostReply: 0, silence: 0, twice: 0, replay: 0, delay: 0, death: 0, jobTwice: 0 }

export type Asked = {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly signal?: AbortSignal | undefined
}
export type Answered = { readonly status: number; readonly headers: Readonly<Record<string, string | undefined>>; readonly body: Buffer }

export type SimulatedServer = {
  readonly database: SimulatedDatabase
  readonly queue: SimulatedQueue
  readonly settings: ServerSettings
  /** Starts it, on what the one before left. */
  readonly boot: () => Promise<void>
  readonly die: () => void
  readonly isUp: () => boolean
  /** One request of a process over a network that loses; rejects with `server-unreachable`, or the signal's reason. */
  readonly ask: (from: Process, request: Asked) => Promise<Answered>
  readonly stepClock: (ms: number) => void
  /** What the server logged as warning or error, newest last. */
  readonly logged: readonly string[]
}

type Incarnation = { readonly process: Process; readonly app: App; readonly inFlight: Set<(error: HoldfastError) => void> }

export function simulatedServer(options: {
  readonly processes: Processes
  readonly random: Random
  readonly settings: Omit<ServerSettings, 'processorId'>
  readonly chances: () => ServerChances
  readonly openStore: (process: Process) => Store
  /** It is down; somebody will have to start it. */
  readonly onDeath: () => void
}): SimulatedServer {
  const { processes, random, chances } = options
  const below = (n: number): number => randomBelow(random, n)
  const database = simulatedDatabase()
  const settings: ServerSettings = { ...options.settings, processorId: makeId(random, 'processor') }
  const keys = makeServerKeys({ signingSeed: random.bytes(32), sealingKey: random.bytes(32) }, random)
  const queue = simulatedQueue({ random, twice: () => chances().jobTwice, note: processes.note })
  const logged: string[] = []
  let clockOffset = 0
  let current: Incarnation | undefined

  const die = (): void => {
    if (current === undefined) return
    const { process, inFlight } = current
    processes.note('the server dies')
    current = undefined
    process.end()
    for (const cut of inFlight) cut(new HoldfastError('server-unreachable', 'the connection broke'))
    options.onDeath()
  }

  const boot = async (): Promise<void> => {
    const process = processes.start('server')
    const clock = processes.clockOf(process, () => clockOffset)
    const never = new Promise<never>(() => undefined)
    const records = database.records(async (act, perform) => {
      await processes.turn(process, act)
      const dice = below(10_000)
      const dies = dice < chances().death
      if (dies && dice % 2 === 0) {
        die()
        return never
      }
      const value = perform()
      if (!dies) return value
      die()
      return never
    })
    const log = makeLog({
      program: 'server',
      clock,
      write: (line) => {
        if (/"level":"(warn|error)"/.test(line)) logged.push(line)
      },
    })
    const deps: Context = {
      ...{ records, queue, clock, random, keys, config: settings, log, waker: new Waker() },
      openStore: async () => options.openStore(process),
    }
    const app = await buildApp(deps)
    current = { process, app, inFlight: new Set() }
    processes.note('the server is up')
    endless(async () => {
      await dispatchJobs(deps)
    })
    queue.work(process, deps, endless)
  }
  /** Loops of a server end with it, and are no part of the story. */
  const endless = (work: () => Promise<void>): void => {
    work().catch((error: unknown) => processes.spawn(() => Promise.reject(error)))
  }

  const unreachable = (why: string): HoldfastError => new HoldfastError('server-unreachable', `the server did not answer: ${why}`)

  /** The request at the server. A death of the server breaks the connection. */
  const handle = (request: Asked): Promise<Answered> =>
    new Promise((resolve, reject) => {
      if (current === undefined) return reject(unreachable('it is down'))
      const { app, inFlight } = current
      inFlight.add(reject)
      const { method, path, headers, body } = request
      app
        .inject({ method: method as 'GET', url: path, headers: { ...headers }, ...(body.length > 0 ? { payload: body } : {}) })
        .then(({ statusCode, headers: replied, rawPayload }) => {
          const flat = Object.entries(replied).map(([name, value]) => [name, value === undefined ? undefined : String(value)] as const)
          resolve({ status: statusCode, headers: Object.fromEntries(flat), body: Buffer.from(rawPayload) })
        }, reject)
        .finally(() => inFlight.delete(reject))
    })

  const ask = async (from: Process, request: Asked): Promise<Answered> => {
    const what = `${request.method} ${request.path}`
    await processes.turn(from, what)
    const c = chances()
    let dice = below(10_000)
    const hits = (chance: number): boolean => {
      const hit = dice >= 0 && dice < chance
      dice -= chance
      return hit
    }
    if (hits(c.lostRequest)) throw unreachable('the request was lost')
    if (hits(c.silence) && request.signal !== undefined) return await silence(request.signal)
    const isAnswerLost = hits(c.lostReply)
    const isTwice = hits(c.twice)
    const isReplayed = hits(c.replay)
    if (hits(c.delay)) await processes.clockOf(from, () => 0).sleep(below(10 * 60_000), request.signal)
    const answer = handle(request)
    // Where nobody waits for it any more, its end is nobody's.
    answer.catch(() => undefined)
    // A proxy that got no answer sends it again; the answer to that leads nowhere.
    if (isTwice) handle(request).catch(() => undefined)
    if (isReplayed) replay(request)
    const reply = await until(answer, request.signal)
    await processes.turn(from, `${what} answered ${reply.status}`)
    if (isAnswerLost) throw unreachable('the answer was lost')
    return reply
  }

  /** Somebody recorded the request and sends it again, later. */
  const replay = (request: Asked): void => {
    const somebody = processes.start('somebody')
    const taker = current?.process
    processes
      .clockOf(somebody, () => 0)
      .sleep(1000 + below(20 * 60_000))
      .then(() => handle(request))
      .then(
        (answer) => {
          processes.note(`replayed ${request.method} ${request.path}: ${answer.status}`)
          // One server takes nothing signed a second time, whenever it comes. The next one may, for a few minutes, and it must change nothing.
          if (request.path.startsWith('/v1/agent/') && answer.status !== 401 && taker === current?.process)
            processes.spawn(() => Promise.reject(new Error(`a replayed ${request.method} ${request.path} was answered ${answer.status}`)))
        },
        () => undefined,
      )
  }

  return {
    database,
    queue,
    settings,
    boot,
    die,
    isUp: () => current !== undefined,
    ask,
    stepClock: (ms) => {
      clockOffset += ms
    },
    logged,
  }
}

function silence(signal: AbortSignal): Promise<never> {
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

/** The answer, or the reason of the signal where that comes first; the request is left to itself then. */
function until<T>(answer: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return answer
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
