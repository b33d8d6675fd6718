// The closed set of commands that the server may give an agent. They carry ids, labels, tokens and options, never paths, hooks or URLs;
// each is signed by the server (signatures.ts) and expires.
import { z } from 'zod'
import * as c from './common.ts'

/** Where a restored file lands when something stands there already. */
export const conflict = z.enum(['beside', 'changed', 'always', 'never'])
export const restorePurpose = z.enum(['restore', 'restore-test'])
export const SELECTION_TOKENS_MAX = 10_000

/** Everything, or the files and directories whose tokens are listed. */
export const selection = z.union([
  z.strictObject({ whole: z.literal(true) }),
  z.strictObject({ tokens: z.array(c.hex64).min(1).max(SELECTION_TOKENS_MAX) }),
])
export type Selection = z.infer<typeof selection>

/** A snapshot by its id, or the newest of a series at a time. */
export const snapshotChoice = z.union([z.strictObject({ snapshotId: c.snapshotId }), z.strictObject({ series: c.hex64, at: c.time })])

const restoreBody = {
  restoreId: c.restoreId,
  snapshot: snapshotChoice,
  selection,
  restoreRoot: c.label,
  conflict,
  purpose: restorePurpose,
  instructionId: c.instructionId,
  storeId: c.storeId,
  /** `user:ID` or `token:ID`, for the agent's records. */
  requestedBy: z.string().max(64),
  approvedBy: z.string().max(64).nullable(),
}

const common = { id: c.commandId, agentId: c.agentId, issuedAt: c.time, expiresAt: c.time }

export const backupNow = z.strictObject({ ...common, kind: z.literal('backup-now'), body: z.strictObject({ policyId: c.policyId }) })
export const prepareRestore = z.strictObject({ ...common, kind: z.literal('prepare-restore'), body: z.strictObject(restoreBody) })
export const restoreCommand = z.strictObject({
  ...common,
  kind: z.literal('restore'),
  body: z.strictObject({ ...restoreBody, leaseId: c.leaseId, leaseUntil: c.time }),
})
export const cancelCommand = z.strictObject({
  ...common,
  kind: z.literal('cancel'),
  body: z.union([z.strictObject({ runId: c.runId }), z.strictObject({ restoreId: c.restoreId })]),
})
export const updatePolicies = z.strictObject({ ...common, kind: z.literal('update-policies'), body: z.strictObject({ version: c.count }) })

export const command = z.discriminatedUnion('kind', [backupNow, prepareRestore, restoreCommand, cancelCommand, updatePolicies])
export type Command = z.infer<typeof command>
export const COMMAND_KINDS = ['backup-now', 'prepare-restore', 'restore', 'cancel', 'update-policies'] as const
export type CommandKind = (typeof COMMAND_KINDS)[number]

/** A command with the server's Ed25519 signature over `commandBytes(command)`. */
export const signedCommand = z.strictObject({ command, signature: c.ed25519Signature })
export type SignedCommand = z.infer<typeof signedCommand>
