// The words that every message of the protocol is made of, as strict zod 4 schemas. Values are bounded; nothing here can hold a path.
import { z } from 'zod'
import { isoTime, parseTime } from '../clock.ts'
import { idSchema } from '../ids.ts'

export const controllerId = idSchema('controller')
export const processorId = idSchema('processor')
export const siteId = idSchema('site')
export const storeId = idSchema('store')
export const instructionId = idSchema('instruction')
export const enrolmentCodeId = idSchema('enrolmentCode')
export const agentId = idSchema('agent')
export const policyId = idSchema('policy')
export const runId = idSchema('run')
export const restoreId = idSchema('restore')
export const deletionId = idSchema('deletion')
export const commandId = idSchema('command')
export const leaseId = idSchema('lease')
export const userId = idSchema('user')
export const apiTokenId = idSchema('apiToken')
export const representativeId = idSchema('representative')

/** 16 bytes in hex: snapshots and domains. */
export const snapshotId = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits')
export const domainId = snapshotId
/** 32 bytes in hex: tokens, commitments, hashes, series. */
export const hex64 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits')
/** A source, restore root, tag or host label: never a path, so no slash, backslash or white space. */
export const label = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must be a label: 1 to 64 of a-z 0-9 . _ -')
/** The source in records and reports of paths that are no source of the appliance's configuration: the paths themselves never get there. */
export const LOCAL_SOURCE = 'local'
/** ISO 3166-1 or 3166-2, such as `CA` or `CA-QC`. */
export const region = z.string().regex(/^[A-Z]{2}(-[A-Z0-9]{1,3})?$/, 'must be an ISO 3166 code such as CA-QC')
export const country = z.string().regex(/^[A-Z]{2}$/, 'must be an ISO 3166-1 code such as CA')
/** ISO 8601 UTC with milliseconds, as `isoTime` writes it, of a day and an hour that there are: who reads one reckons with it. */
export const time = z
  .string()
  .regex(/^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{3}Z$/, 'must be UTC such as 2026-01-31T12:00:00.000Z')
  .refine(isTime, 'must be a time that there is')
/** A whole number from 0 to 2^53 - 1. */
export const count = z.int().min(0)
/** A sequence number: from 1 without gaps. */
export const sequence = z.int().min(1)
/** Text for people: no control, line-break or bidi characters. */
export const text = (max: number): z.ZodString =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]*$/u, 'must not hold control characters')
/** `length` bytes as base64url without padding. */
export const bytes = (length: number): z.ZodString =>
  z.string().regex(new RegExp(`^[A-Za-z0-9_-]{${Math.ceil((length * 4) / 3)}}$`), `must be ${length} bytes in base64url`)

/** Why anything is done: a closed list (obligation O15). */
export const PURPOSES = ['backup', 'archive', 'restore', 'restore-test', 'failover', 'return'] as const
export const purpose = z.enum(PURPOSES)
export type Purpose = z.infer<typeof purpose>

/** How a run or restore ended. */
export const outcome = z.enum(['ok', 'incomplete', 'failed', 'cancelled'])
export type Outcome = z.infer<typeof outcome>

/** A stable error code of the family in errors.ts, or a file error's errno name in lower case. */
export const code = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'must be an error code')

/** An X-Wing public key: ML-KEM-768 encapsulation key (1184 bytes), then X25519 (32 bytes). */
export const xwingPublicKey = bytes(1216)
export const ed25519PublicKey = bytes(32)
export const ed25519Signature = bytes(64)

/** RFC 9457 problem details; `code` is stable, `detail` says what to do. */
export const problem = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  requestId: z.string(),
  retryable: z.boolean().optional(),
  expectedSeq: count.optional(),
  expectedHash: hex64.optional(),
  serverTime: time.optional(),
  field: z.string().optional(),
})
export type Problem = z.infer<typeof problem>

/** The query of every list: newest first, opaque cursor, at most 500 a page. */
export const pageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be a cursor that this server gave')
    .optional(),
})

/** One page of `item`; `next` is the cursor of the following page, null at the end. */
export function page<T extends z.ZodType>(
  item: T,
): z.ZodObject<{ items: z.ZodArray<T>; next: z.ZodNullable<z.ZodString> }, z.core.$strict> {
  return z.strictObject({ items: z.array(item), next: z.string().nullable() })
}

/** `Date` takes the 31st of February for a day of March; written again it is another time. */
function isTime(text: string): boolean {
  const ms = parseTime(text)
  return Number.isSafeInteger(ms) && isoTime(ms) === text
}
