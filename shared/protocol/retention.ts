// How a policy says which snapshots of its series stay (obligation O17); what the numbers mean stands in ../retention.ts. Without rules all stay.
import { z } from 'zod'
import { keepsSomething, type RetentionRules } from '../retention.ts'

const most = z.int().min(0).max(100_000)

export const retentionRules = z
  .strictObject({
    last: most.optional(),
    hourly: most.optional(),
    daily: most.optional(),
    weekly: most.optional(),
    monthly: most.optional(),
    yearly: most.optional(),
    /** All snapshots of so many days. */
    withinDays: most.optional(),
  })
  .refine(keepsSomething, 'must keep something: at least one number above zero; leave it out to keep everything')

/** In what `after` keeps less than `before`, in words; absent rules keep everything. */
export function keepsLess(before: RetentionRules | undefined, after: RetentionRules | undefined): string[] {
  if (after === undefined) return []
  if (before === undefined) return ['it forgets snapshots, and kept all before']
  const names = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly', 'withinDays'] as const
  const fewer = names.filter((name) => (after[name] ?? 0) < (before[name] ?? 0))
  return fewer.length === 0 ? [] : [`it keeps fewer snapshots (${fewer.join(', ')})`]
}
