// Turns acts into records: headers with who, why, whence and whither; files as tokens with rounded sizes. Promise: nothing that goes into the
// journal holds a path or a name, and a batch is durable when the call returns (obligations O4, O14).
import { constants } from 'node:os'
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { padme } from '@holdfast/shared/padme.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import type { Outcome, Purpose } from '@holdfast/shared/protocol/common.ts'
import { recordHeader, type RecordHeader, type RunTotals } from '@holdfast/shared/protocol/records.ts'
import { encodeFileRecords, filesRoot, type FileOutcome, type FileRecord } from '@holdfast/shared/record.ts'
import { createTokens } from '../repository/snapshot.ts'
import type { Agent, Policies } from './agent-state.ts'
import type { ChainEnd, Journal } from './journal.ts'

/** Files in one record; 640 kB. */
export const BATCH_FILES = 10_000
const NO_BODY = Buffer.alloc(0)

export type Place = { readonly region: string; readonly country?: string; readonly storeId?: string }

/** One file as it goes into a record. */
export type FileAct = {
  readonly path: Buffer
  readonly size: number
  readonly newBytes: number
  readonly outcome: FileOutcome
  /** The error's name, such as `EACCES`, where the outcome is `failed`. */
  readonly errno?: string | undefined
}

type Common = { readonly actor: string; readonly instructionId: string | null; readonly purpose: Purpose }
export type RunAct = Common & {
  readonly kind: 'run'
  readonly runId: string
  /** Absent where a person at the appliance's own command line asked. */
  readonly policyId?: string | undefined
  readonly source: string
  readonly series: string
  readonly from: Place
  readonly to: Place
}
export type RecoveryAct = Common & {
  readonly kind: 'recovery'
  readonly runId: string
  readonly restoreId?: string | undefined
  readonly snapshotId: string
  readonly source?: string | undefined
  readonly series?: string | undefined
  readonly restoreRoot?: string | undefined
  readonly requestedBy?: string | undefined
  readonly approvedBy?: string | undefined
  readonly from: Place
  readonly to: Place
}
export type Act = RunAct | RecoveryAct

export type Ending = {
  readonly outcome: Outcome
  readonly code?: string | undefined
  readonly snapshotId?: string | undefined
  readonly totals: RunTotals
}

export type StartedHeader = Extract<RecordHeader, { kind: 'run-started' | 'recovery-started' }>

/** The header of a beginning; undefined for anything else. */
export function startedHeader(value: unknown): StartedHeader | undefined {
  const parsed = recordHeader.safeParse(value)
  if (!parsed.success) return undefined
  return parsed.data.kind === 'run-started' || parsed.data.kind === 'recovery-started' ? parsed.data : undefined
}

/** How an act ended that a crash or a kill cut off. */
export const INTERRUPTED = { outcome: 'failed', code: 'interrupted' } as const

export const NO_TOTALS: RunTotals = {
  files: 0,
  bytes: 0,
  newBytes: 0,
  reusedBytes: 0,
  storedBytes: 0,
  unchanged: 0,
  failed: 0,
  changed: 0,
  skipped: 0,
}

export type Recorder = {
  /** What the record of a beginning will say, and the last record before it. Throws `journal-full` before anything is begun. */
  readonly prepare: (act: Act) => { readonly header: StartedHeader; readonly after: number }
  /** Journals a beginning that was prepared. */
  readonly started: (header: StartedHeader) => void
  /** Files that became durable in the store, or were restored, in batches; returns when they are journalled. */
  readonly files: (act: Act, files: readonly FileAct[], recordKey: Buffer) => void
  readonly ended: (started: StartedHeader, ending: Ending) => ChainEnd
  /** How far the journal tells of an act, by its beginning; `after` as `prepare` gave it. */
  readonly standOf: (started: StartedHeader, after: number) => ReturnType<Journal['standOf']>
  readonly note: (code: string, more?: { amount?: number; runId?: string }) => void
}

export function recorder(options: { journal: Journal; agent: Agent; clock: Clock; appended?: () => void }): Recorder {
  const { journal, agent, clock } = options
  const who = { v: 1, agentId: agent.agentId, controllerId: agent.controllerId, processorId: agent.processorId } as const
  const at = (): string => isoTime(clock.now())
  const append = (header: RecordHeader, closing: boolean): ChainEnd => {
    const end = journal.append(() => ({ header, body: NO_BODY }), { closing })
    options.appended?.()
    return end
  }

  return {
    prepare: (act) => {
      journal.requireRoom()
      const header = strictly({ ...who, at: at(), ...headerOf(act), kind: act.kind === 'run' ? 'run-started' : 'recovery-started' })
      return { header: startedHeader(header)!, after: journal.end.seq }
    },
    started: (header) => void append(header, false),
    files: (act, files, recordKey) => {
      for (let start = 0; start < files.length; start += BATCH_FILES) {
        const records = fileRecords(act, files.slice(start, start + BATCH_FILES), recordKey, clock.now())
        const body = encodeFileRecords(records)
        journal.append((secret) => ({
          header: strictly({
            ...who,
            at: at(),
            ...headerOf(act),
            kind: act.kind === 'run' ? 'transmission' : 'recovery',
            files: totalsOf(records),
            filesRoot: filesRoot(secret, body).toString('hex'),
            outcome: records.every(({ outcome }) => outcome !== 'failed') ? 'ok' : 'incomplete',
          }),
          body,
        }))
      }
      options.appended?.()
    },
    ended: (started, { outcome, code, snapshotId, totals }) => {
      const more = { outcome, ...(code === undefined ? {} : { code }), totals: rounded(totals) }
      const header =
        started.kind === 'run-started'
          ? { kind: 'run-ended', ...(snapshotId === undefined ? {} : { snapshotId }) }
          : { kind: 'recovery-ended' }
      return append(strictly({ ...started, at: at(), ...header, ...more }), true)
    },
    standOf: ({ runId }, after) => journal.standOf(runId, after),
    note: (code, more = {}) => {
      append(
        strictly({ ...who, at: at(), kind: 'agent-note', actor: 'agent', instructionId: null, purpose: 'backup', code, ...more }),
        true,
      )
    },
  }
}

/** An act of a policy: without an instruction nothing is done (obligation O6), which throws `policy`. */
export function requireInstruction(instructionId: string | null | undefined): string {
  if (instructionId === undefined || instructionId === null || instructionId === '')
    throw new HoldfastError('policy', 'no instruction of the controller stands behind this; nothing was done')
  return instructionId
}

/** Where a store is, as the server described it; without its id where it is not one of the server's. */
export function storePlace(policies: Pick<Policies, 'stores'> | undefined, storeId: string | undefined, otherwise: Place): Place {
  const store = policies?.stores.find((known) => known.storeId === storeId)
  return store === undefined ? otherwise : { region: store.region, country: store.country, storeId: store.storeId }
}

export function actorOfPolicy(policy: Pick<AgentPolicy, 'policyId'>): string {
  return `policy:${policy.policyId}`
}

/** A header exactly as the wire contract has it: what could not be said there, such as a path, cannot get into the journal. */
function strictly(header: Readonly<Record<string, unknown>>): RecordHeader {
  const parsed = recordHeader.safeParse(header)
  if (parsed.success) return parsed.data
  const field = parsed.error.issues[0]?.path.join('.') ?? ''
  throw new HoldfastError('failed', `a record could not be made: its field ${field} is not as the protocol says`, { cause: parsed.error })
}

function headerOf(act: Act): Record<string, unknown> {
  const { kind: _, ...fields } = act
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

function fileRecords(act: Act, files: readonly FileAct[], recordKey: Buffer, time: number): FileRecord[] {
  const tokens = createTokens(recordKey)
  const errnos: Readonly<Record<string, number>> = constants.errno
  return files.map((file) => ({
    kind: act.kind === 'run' ? 'transmission' : 'recovery',
    outcome: file.outcome,
    code: file.outcome === 'failed' ? (errnos[file.errno ?? ''] ?? constants.errno.EIO) : 0,
    token: Buffer.from(tokens.path(file.path), 'hex'),
    size: padme(file.size),
    bytesNew: padme(file.newBytes),
    time,
  }))
}

function totalsOf(records: readonly FileRecord[]) {
  const sum = (of: (record: FileRecord) => number): number =>
    records.reduce((total, record) => Math.min(Number.MAX_SAFE_INTEGER, total + of(record)), 0)
  return {
    count: records.length,
    bytes: sum(({ size }) => size),
    new: sum(({ bytesNew }) => bytesNew),
    reused: sum(({ outcome, size, bytesNew }) => (outcome === 'failed' ? 0 : Math.max(0, size - bytesNew))),
    failed: records.filter(({ outcome }) => outcome === 'failed').length,
  }
}

/** Sizes of a whole run say no more than Padmé lets them. */
function rounded(totals: RunTotals): RunTotals {
  const { bytes, newBytes, reusedBytes, storedBytes } = totals
  return { ...totals, bytes: padme(bytes), newBytes: padme(newBytes), reusedBytes: padme(reusedBytes), storedBytes: padme(storedBytes) }
}
