// Restore requests on the wire: asked for with tokens only, approved where the controller wants it, granted by the controller's key holder.
import { z } from 'zod'
import * as c from './common.ts'
import { conflict, restorePurpose, selection } from './commands.ts'
import { runTotals } from './records.ts'

export const RESTORE_STATES = [
  'requested',
  'awaiting_approval',
  'preparing',
  'awaiting_grant',
  'granted',
  'running',
  'completed',
  'completed_with_errors',
  'failed',
  'cancelled',
  'expired',
  'refused',
] as const
export const restoreState = z.enum(RESTORE_STATES)
export type RestoreState = z.infer<typeof restoreState>

/** Names of fields that could carry a plain path; a request with one is refused, and nothing of it is logged or echoed (obligation O14). */
export const PLAIN_NAME_FIELDS = [
  'path',
  'paths',
  'file',
  'files',
  'name',
  'names',
  'pattern',
  'patterns',
  'include',
  'exclude',
  'excludes',
] as const

const common = {
  agentId: c.agentId,
  selection,
  restoreRoot: c.label,
  conflict: conflict.default('beside'),
  purpose: restorePurpose,
  instructionId: c.instructionId,
}
/** `POST /v1/restores`, with an Idempotency-Key header. */
export const restoreBody = z.union([
  z.strictObject({ ...common, snapshotId: c.snapshotId }),
  z.strictObject({ ...common, series: c.hex64, at: c.time }),
])
export type RestoreBody = z.infer<typeof restoreBody>

export const idempotencyKey = z.string().regex(/^[A-Za-z0-9._:-]{8,128}$/, 'must be 8 to 128 of A-Z a-z 0-9 . _ : -')

export const restore = z.strictObject({
  id: c.restoreId,
  state: restoreState,
  agentId: c.agentId,
  controllerId: c.controllerId,
  snapshotId: c.snapshotId.nullable(),
  series: c.hex64.nullable(),
  at: c.time.nullable(),
  /** Where the snapshot stands, as far as the server knows it. */
  storeId: c.storeId.nullable(),
  selection,
  restoreRoot: c.label,
  conflict,
  purpose: restorePurpose,
  instructionId: c.instructionId,
  requestedBy: z.string(),
  approvedBy: z.string().nullable(),
  grantedBy: z.string().nullable(),
  /** The agent's fresh public key for this restore, signed by the agent: what the grant is sealed to. */
  key: z.strictObject({ publicKey: c.xwingPublicKey, signature: c.ed25519Signature }).nullable(),
  /** Whom or what the restore waits for, in words; null when it waits for nobody. */
  waitingFor: z.string().nullable(),
  progress: z
    .strictObject({
      done: z.strictObject({ files: c.count, bytes: c.count }),
      total: z.strictObject({ files: c.count, bytes: c.count }),
      at: c.time,
    })
    .nullable(),
  totals: runTotals.nullable(),
  code: c.code.nullable(),
  attempt: c.count,
  createdAt: c.time,
  updatedAt: c.time,
  expiresAt: c.time,
})
export type Restore = z.infer<typeof restore>
