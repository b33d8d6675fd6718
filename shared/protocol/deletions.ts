// Deletions under /v1/deletions: what signed lists in a store name, whether it is explained, and what became of it. Why something is held has one
// code of a closed list; the words for people stand beside it.
import { z } from 'zod'
import * as c from './common.ts'

/**
 * `waiting` for the undelete window; `held` for the controller; `approved` by it, to be carried out at the next look; `deleting`; `done`;
 * `refused` for good.
 */
export const DELETION_STATES = ['waiting', 'held', 'approved', 'deleting', 'done', 'refused'] as const
export const deletionState = z.enum(DELETION_STATES)
export type DeletionState = z.infer<typeof deletionState>

/** Why a list is not carried out as it stands, and whether the controller's approval settles it. What a kept snapshot needs, nothing settles. */
export const DELETION_CODES = {
  unreadable: { settled: false, words: 'a collection list cannot be read, and it may take back what this one names' },
  needed: { settled: false, words: 'a snapshot that stays needs a pack that is named' },
  revived: { settled: false, words: 'a snapshot or pack that is named was taken back' },
  'not-condemned': { settled: false, words: 'a pack that is named was never condemned by the lists that this one relies on' },
  'list-missing': { settled: false, words: 'a list that this one relies on is not there, or is none that condemns' },
  'in-use': { settled: false, words: 'an object that is named belongs to something that stays' },
  signer: { settled: true, words: 'the list, or one that it relies on, is not signed by an active agent of this controller' },
  retention: { settled: true, words: 'a snapshot that is named is one that the retention of its policy keeps' },
  'no-retention': { settled: true, words: 'a snapshot that is named has no policy with retention and an instruction in force' },
  'not-forgotten': {
    settled: true,
    words: 'a snapshot that is named was not forgotten before, as far as its agent told and the lists say',
  },
  'times-disagree': { settled: true, words: 'a snapshot that is named says another time than the store, so no rule forgets it' },
  'crowded-out': {
    settled: true,
    words: 'a snapshot that is named makes room for newer ones that came faster than its policy is due',
  },
  'last-one': { settled: true, words: 'it would leave a series without any snapshot' },
  contested: {
    settled: true,
    words:
      'a snapshot that is named is one that two agents say they made: approve if it may go whosever it is; to revoke one of them gives it to nobody',
  },
  'unknown-snapshot': {
    settled: true,
    words:
      'what is named may be of a snapshot in the store that was never reported to this server, or only as replaced, while another agent that may have made it has not been heard from since; an approval settles one that was told of as replaced for good',
  },
  unstated: { settled: true, words: 'no agent has stated which packs a snapshot needs that stays' },
  'store-refused': {
    settled: false,
    words: 'the store refuses to delete an object that is named: a lock holds it, or the credentials may not',
  },
  'clocks-disagree': { settled: false, words: 'the clocks of this server and of the store are hours apart, so no window can be measured' },
  'too-early': { settled: false, words: 'the undelete window is not over' },
} as const satisfies Record<string, { settled: boolean; words: string }>
export type DeletionCode = keyof typeof DELETION_CODES
export const deletionCode = z.enum(Object.keys(DELETION_CODES) as [DeletionCode, ...DeletionCode[]])

export const deletion = z.strictObject({
  id: c.deletionId,
  storeId: c.storeId,
  controllerId: c.controllerId,
  /** Null where no enrolled agent signed it. */
  agentId: c.agentId.nullable(),
  /** The list's name in the store. */
  list: z.string(),
  /** By the store's clock. */
  listedAt: c.time,
  state: deletionState,
  code: deletionCode.nullable(),
  reasons: z.array(z.strictObject({ code: deletionCode, count: c.count, detail: z.string(), samples: z.array(z.string()) })),
  counts: z.strictObject({ snapshots: c.count, packs: c.count, others: c.count }),
  waitUntil: c.time.nullable(),
  why: z.enum(['retention', 'approval']).nullable(),
  decidedBy: z.string().nullable(),
  decidedAt: c.time.nullable(),
  removed: c.count,
  removedBytes: c.count,
  updatedAt: c.time,
  endedAt: c.time.nullable(),
  createdAt: c.time,
})
export type Deletion = z.infer<typeof deletion>
