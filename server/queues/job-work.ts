// One job of any queue: its data read strictly, its work called, and its failure put in one line for whoever looks at the dashboard:
// stable code, agent, what happened, what to do next. Nothing here can hold a name, token or key (obligation O14).
import { z } from 'zod'
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { ErrorCode } from '@holdfast/shared/errors.ts'
import { isId } from '@holdfast/shared/ids.ts'
import { agentId, restoreId, sequence, storeId } from '@holdfast/shared/protocol/common.ts'
import { lookForDeletions } from '../deletions/look.ts'
import { advanceRestore, processRecovery, processTransmission, watch } from '../jobs.ts'
import type { JobDeps } from '../jobs.ts'
import type { QueueName } from '../queue.ts'

const recordRef = z.strictObject({ agentId, seq: sequence })
const restoreRef = z.strictObject({ restoreId })
const storeRef = z.strictObject({ storeId })
const nothing = z.strictObject({})

export type JobDone = {
  /** What the dashboard shows of a completed job: numbers and state words. */
  readonly result: Readonly<Record<string, string | number>>
  /** Where set, the job is parked and looks again after so many milliseconds. */
  readonly againMs: number | undefined
}

/** Does the work of one job. Repeating it, at once or later, changes nothing more. Rejects with `unprocessable` for data that is no job's. */
export async function workJob(deps: JobDeps, queue: QueueName, data: unknown): Promise<JobDone> {
  switch (queue) {
    case 'transmissions':
      return { result: await processTransmission(deps, read(recordRef, data)), againMs: undefined }
    case 'recoveries':
      return { result: await processRecovery(deps, read(recordRef, data)), againMs: undefined }
    case 'restores': {
      const { state, againMs } = await advanceRestore(deps, read(restoreRef, data).restoreId)
      return { result: { state }, againMs }
    }
    case 'deletions': {
      const { againMs, ...result } = await lookForDeletions(deps, read(storeRef, data).storeId)
      return { result, againMs }
    }
    case 'watch': {
      read(nothing, data)
      return { result: { ...(await watch(deps)) }, againMs: undefined }
    }
  }
}

function read<T extends z.ZodType>(schema: T, data: unknown): z.output<T> {
  const parsed = schema.safeParse(data)
  if (!parsed.success)
    throw new HoldfastError('unprocessable', 'the data of this job is not what its queue works on; the server makes jobs by itself')
  return parsed.data
}

export type JobFailure = {
  readonly code: ErrorCode
  /** For the dashboard. */
  readonly line: string
  /** True where trying again changes nothing until a person did something. */
  readonly permanent: boolean
}

const PERMANENT: ReadonlySet<ErrorCode> = new Set(['damaged', 'unprocessable', 'newer-format', 'not-found', 'bad-config'])
const LINE_MAX = 600

/** What to do next, by code. All are tried again by themselves as long as their work is open. */
const NEXT: { readonly [C in ErrorCode]?: string } = {
  damaged: 'open the agent in the console and look; the record is kept as evidence. Retry checks it again and is safe',
  unprocessable:
    'open the agent in the console and look; a record is kept as evidence. Removing this job is safe: open work is added again by itself',
  'newer-format': 'update this server, then Retry',
  'not-found': 'where this belongs to another database, remove this job; else it is tried again by itself',
  'bad-config': 'correct that in the configuration of this server and start it again; it is tried again by itself',
  'store-refused':
    'check the delete credentials of this store and what they may do, set them again with PUT /v1/stores/ID/delete-credentials; it is tried again by itself',
  'store-unsuitable': 'open the store in the console and look at what it is; nothing is deleted there until then',
  'wrong-key': "put back the sealing key that belongs to this database, or set the store's delete credentials anew",
  'local-disk': "free space on the server's disk; it is tried again by itself and Retry is safe",
}
const NEXT_ELSE = "find this job's id in the server's log; it is tried again by itself and Retry is safe"

/** The failure of a job as people see it. Only the family's own words are shown; anything else stays in the server's log. */
export function failureOf(error: unknown, agent: string | undefined): JobFailure {
  const code = isHoldfastError(error) ? error.code : 'failed'
  const what = isHoldfastError(error) ? error.message : 'the work ended with an unexpected error'
  const about = agent === undefined ? '' : `, agent ${agent}`
  const line = printable(`${code}${about}: ${what}. Next: ${NEXT[code] ?? NEXT_ELSE}`).slice(0, LINE_MAX)
  return { code, line, permanent: PERMANENT.has(code) }
}

/** The agent that a job is about, where its data or its restore says so. */
export async function agentOfJob({ records }: Pick<JobDeps, 'records'>, data: unknown): Promise<string | undefined> {
  const { agentId: agent, restoreId: restore } = (data ?? {}) as { agentId?: unknown; restoreId?: unknown }
  if (typeof agent === 'string' && isId('agent', agent)) return agent
  if (typeof restore !== 'string' || !isId('restore', restore)) return undefined
  return (await records.get({ table: 'restores', id: restore }))?.agentId
}
