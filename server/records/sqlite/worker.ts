// The thread that owns the database. Everything that waits when it turns to its port goes into one transaction (group commit: at most 256
// acts), each act under its own savepoint; answers leave only after the commit is on disk.
import { backup, DatabaseSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { HoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import type { ActName, Audit } from '../records.ts'
import { openDatabase, performAct } from './perform.ts'

export type Ask =
  | { readonly id: number; readonly act: ActName; readonly input: unknown; readonly audit: Audit | undefined }
  | { readonly id: number; readonly act: 'backup'; readonly path: string }
  | { readonly id: number; readonly act: 'close' }
export type Failure = {
  readonly code: string | undefined
  readonly message: string
  readonly fields: Record<string, string | number | boolean>
}
export type Answer = { readonly id: number; readonly value?: unknown; readonly failure?: Failure }

const BATCH_MAX = 256

const port = parentPort
if (port === null) throw new HoldfastError('failed', 'this module runs as a worker thread only')
const db = openDatabase(String(workerData))
port.postMessage({ id: 0 } satisfies Answer)

port.on('message', (first: Ask) => {
  const asks: Ask[] = [first]
  while (asks.length < BATCH_MAX) {
    const more = receiveMessageOnPort(port)
    if (more === undefined) break
    asks.push(more.message as Ask)
  }
  const acts: Extract<Ask, { input: unknown }>[] = []
  const others: Exclude<Ask, { input: unknown }>[] = []
  for (const ask of asks) {
    if ('input' in ask) acts.push(ask)
    else others.push(ask)
  }
  if (acts.length > 0) commitTogether(acts)
  for (const ask of others) void other(ask)
})

function commitTogether(asks: readonly Extract<Ask, { input: unknown }>[]): void {
  const answers: Answer[] = []
  try {
    db.raw.exec('BEGIN IMMEDIATE')
    for (const ask of asks) answers.push(perform(ask))
    db.raw.exec('COMMIT')
  } catch (error) {
    if (db.raw.isTransaction) db.raw.exec('ROLLBACK')
    const failure = describe(error, 'local-disk')
    for (const ask of asks) port?.postMessage({ id: ask.id, failure } satisfies Answer)
    return
  }
  for (const answer of answers) port?.postMessage(answer)
}

function perform(ask: Extract<Ask, { input: unknown }>): Answer {
  try {
    return { id: ask.id, value: performAct(db, ask.act, ask.input, ask.audit) }
  } catch (error) {
    // The transaction is gone with what came before in it: nothing of this batch may be answered as done.
    if (!db.raw.isTransaction) throw error
    return { id: ask.id, failure: describe(error, undefined) }
  }
}

async function other(ask: Exclude<Ask, { input: unknown }>): Promise<void> {
  try {
    if (ask.act === 'close') {
      db.raw.close()
      port?.postMessage({ id: ask.id } satisfies Answer)
      port?.close()
      return
    }
    // In one step: a step is a consistent read, and further steps begin anew whenever another process has written.
    await backup(db.raw, ask.path, { rate: 1_000_000_000 })
    const copy = new DatabaseSync(ask.path)
    try {
      const result = copy.prepare('PRAGMA integrity_check').get()?.['integrity_check']
      if (result !== 'ok')
        throw new HoldfastError(
          'damaged',
          'the copy of the database does not pass its integrity check; keep the older one and look at the disk',
        )
      copy.exec('PRAGMA journal_mode = DELETE')
    } finally {
      copy.close()
    }
    port?.postMessage({ id: ask.id } satisfies Answer)
  } catch (error) {
    port?.postMessage({ id: ask.id, failure: describe(error, 'local-disk') } satisfies Answer)
  }
}

function describe(error: unknown, otherwise: string | undefined): Failure {
  if (error instanceof HoldfastError) return { code: error.code, message: error.message, fields: { ...error.fields } }
  return { code: otherwise, message: messageOf(error), fields: {} }
}
