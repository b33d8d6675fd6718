// What `holdfast status` shows: one file, replaced atomically by the daemon whenever something changes, read by anyone who may read the state.
// Labels, times, counts and codes only.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { z } from 'zod'
import { agentState, stateFile, type AgentState, type StateFile } from './agent-state.ts'
import type { StateDirectory } from './state-directory.ts'

export const agentStatus = z.strictObject({
  v: z.literal(1),
  agentId: c.agentId,
  controllerId: c.controllerId,
  host: c.label,
  state: z.enum(['running', 'stopped']),
  startedAt: c.time,
  updatedAt: c.time,
  server: z.strictObject({ url: z.string(), lastContactAt: c.time.nullable(), error: z.string().nullable(), clockOffsetMs: z.int() }),
  /** False until the controller's bundle came: nothing can be backed up before. */
  hasBundle: z.boolean(),
  journal: z.strictObject({
    pending: c.count,
    lastSeq: c.count,
    acceptedThrough: c.count,
    recordedThrough: c.count,
    bytes: c.count,
    limitBytes: c.count,
  }),
  policiesVersion: c.count,
  policies: z.array(
    z.strictObject({
      policyId: c.policyId,
      source: c.label,
      enabled: z.boolean(),
      lastRunAt: c.time.nullable(),
      lastOutcome: c.outcome.nullable(),
      lastCode: z.string().nullable(),
      lastGoodAt: c.time.nullable(),
      nextDueAt: c.time.nullable(),
      /** Why it cannot be carried out here. */
      refused: z.string().nullable(),
    }),
  ),
  /** Changes that wait for `holdfast run --accept-policy VERSION`. */
  held: z.array(z.strictObject({ policyId: c.policyId, reason: z.string() })),
  running: z
    .strictObject({
      kind: z.enum(['backup', 'recovery']),
      runId: z.string(),
      source: z.string().nullable(),
      files: c.count,
      bytes: c.count,
      since: c.time,
    })
    .nullable(),
  lastRun: z.strictObject({ runId: c.runId, outcome: c.outcome, code: z.string().nullable(), endedAt: c.time }).nullable(),
  /** What the last collection in each store found, where policies say which snapshots stay. */
  collections: z
    .array(
      z.strictObject({
        storeId: c.storeId,
        at: c.time,
        forgotten: c.count,
        condemnedPacks: c.count,
        waiting: z.strictObject({ packs: c.count, bytes: c.count, until: c.time.nullable() }),
        held: z.strictObject({ packs: c.count, bytes: c.count, sessions: c.count }),
        namedObjects: c.count,
      }),
    )
    .default([]),
  /** The newest of all policies' last good backups. */
  lastGoodAt: c.time.nullable(),
  alarms: z.array(z.strictObject({ code: z.string(), since: c.time, message: z.string() })),
})
export type AgentStatus = z.infer<typeof agentStatus>

export function statusFile(directory: StateDirectory): StateFile<AgentStatus> {
  return stateFile(directory, 'status.json', agentStatus)
}

/** The status as the daemon wrote it last. Throws `not-found` where no daemon ever ran here. */
export function readStatus(directory: StateDirectory): AgentStatus {
  const found = statusFile(directory).load()
  if (found === undefined)
    throw new HoldfastError('not-found', "no daemon has run with this state directory yet; start it with 'holdfast run'")
  return found
}

/**
 * Agrees to a policy version that narrows protection; the daemon takes it up within a minute. Throws `conflict` where that version is not the one
 * that waits, so that nobody agrees to what they did not see.
 */
export function acceptPolicy(directory: StateDirectory, version: number, at: string): AgentState['consent'] {
  const state = agentState(directory)
  const waiting = state.policies.load()
  if (waiting === undefined || waiting.held.length === 0) throw new HoldfastError('conflict', 'no change of policy waits for consent')
  if (waiting.version !== version)
    throw new HoldfastError(
      'conflict',
      `version ${waiting.version} of the policies waits for consent, not ${version}; look at 'holdfast status' first`,
    )
  state.consent.save({ version, at })
  return state.consent
}
