// The durable store on SQLite, in a thread of its own (sqlite/worker.ts): the half that callers hold. Acts are sent as messages and
// resolve after their commit; whatever waits together is committed together.
import { Worker } from 'node:worker_threads'
import { HoldfastError, isErrorCode } from '@holdfast/shared/errors.ts'
import type { ActName, Acts, Audit, Records } from './records.ts'
import { sqliteActs } from './sqlite/acts.ts'
import { revive } from './sqlite/revive.ts'
import type { Answer, Ask, Failure } from './sqlite/worker.ts'

type Waiting = { resolve(value: unknown): void; reject(error: unknown): void }
type Message = Ask extends infer A ? (A extends unknown ? Omit<A, 'id'> : never) : never

/** Opens the database at `path`, made and brought up to date where needed. Rejects with `local-disk`, `damaged` or `newer-format`. */
export async function openSqliteRecords(path: string): Promise<Records> {
  const worker = new Worker(new URL('./sqlite/worker.ts', import.meta.url), { workerData: path })
  const waiting = new Map<number, Waiting>()
  let last = 0
  let ended: unknown

  const end = (error: unknown): void => {
    ended ??= error
    for (const { reject } of waiting.values()) reject(ended)
    waiting.clear()
  }
  worker.on('message', (answer: Answer) => {
    const one = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (answer.failure === undefined) one?.resolve(revive(answer.value))
    else one?.reject(rebuild(answer.failure))
  })
  worker.on('error', (error) => end(startError(path, error)))
  worker.on('exit', () => end(new HoldfastError('failed', 'the database is closed')))

  const send = (ask: Message): Promise<unknown> => {
    if (ended !== undefined) return Promise.reject(ended instanceof Error ? ended : new HoldfastError('failed', 'the database is closed'))
    return new Promise((resolve, reject) => {
      const id = ++last
      waiting.set(id, { resolve, reject })
      worker.postMessage({ ...ask, id })
    })
  }
  await new Promise<unknown>((resolve, reject) => waiting.set(0, { resolve, reject }))

  const acts = Object.fromEntries(
    (Object.keys(sqliteActs) as ActName[]).map((act) => [
      act,
      (input: Parameters<Acts[ActName]>[0], audit?: Audit) => send({ act, input, audit }),
    ]),
  ) as unknown as Omit<Records, 'backup' | 'close'>
  return {
    ...acts,
    backup: async (target) => {
      await send({ act: 'backup', path: target })
    },
    close: async () => {
      if (ended !== undefined) return
      await send({ act: 'close' })
      await worker.terminate()
    },
  }
}

function rebuild(failure: Failure): HoldfastError {
  const code = failure.code !== undefined && isErrorCode(failure.code) ? failure.code : 'failed'
  const message =
    code === 'local-disk'
      ? `the database could not be written (${failure.message}); look at the disk of the data directory`
      : failure.message
  return new HoldfastError(code, message, { fields: failure.fields })
}

function startError(path: string, error: unknown): HoldfastError {
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'string' && isErrorCode(error.code) ? error.code : undefined
  const text = error instanceof Error ? error.message : String(error)
  if (code !== undefined) return new HoldfastError(code, text, { cause: error })
  const damaged = /not a database|malformed/.test(text)
  return new HoldfastError(
    damaged ? 'damaged' : 'local-disk',
    damaged
      ? `${path} is no sound database (${text}); put back the newest copy made by holdfast-server backup`
      : `cannot open the database ${path} (${text})`,
    { cause: error },
  )
}
