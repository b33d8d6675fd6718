// The lies and failures that a simulated store can tell, and plans that choose when. A plan is a function of the call
// alone (and of its own seed), so that a seed replays any run.
import type { ErrorCode } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { randomBelow } from '@holdfast/shared/random.ts'
import type { ObjectName } from '@holdfast/shared/store/store.ts'

export type StoreOperation = 'put' | 'get' | 'getRange' | 'head' | 'list' | 'remove' | 'overwrite'

/** One call, as a plan sees it. `index` counts all calls of the bucket from 1, `nth` those of this operation. */
export type StoreCall = {
  readonly index: number
  readonly nth: number
  readonly actor: string
  readonly operation: StoreOperation
  /** The object, or the prefix of a listing. */
  readonly name: string
}

export type Fault =
  /** The call rejects, with its effect done (`after`, "error after success") or not. */
  | { readonly kind: 'fail'; readonly when: 'before' | 'after'; readonly code: ErrorCode }
  /** The actor's process ends here: this call and all later ones of that handle reject with SimulatedCrash. */
  | { readonly kind: 'crash'; readonly when: 'before' | 'after' }
  /** Only the first `keepBytes` are stored; the put reports success or fails. */
  | { readonly kind: 'torn'; readonly keepBytes: number; readonly reported: 'success' | 'failure' }
  /** The put is acknowledged and forgotten. */
  | { readonly kind: 'lost' }
  /** The put is durable, but reads and listings do not show it before `ms` have passed. */
  | { readonly kind: 'late'; readonly ms: number }
  /** The read or listing answers as things stood `ms` ago. */
  | { readonly kind: 'stale'; readonly ms: number }
  /** The listing lacks its last `drop` names and says that it is complete. */
  | { readonly kind: 'short-list'; readonly drop: number }
  /** The listing names what is not there. */
  | { readonly kind: 'ghost'; readonly name: ObjectName; readonly bytes: number }
  /** The read answers with another object: an older one under a newer name, or any by mistake. */
  | { readonly kind: 'misdirected'; readonly name: ObjectName }
  /** What is read has one bit wrong; the object itself is sound. */
  | { readonly kind: 'flipped'; readonly bit: number }
  /** The removal is acknowledged and does not happen. */
  | { readonly kind: 'undead' }
  /** The answer takes `ms` of the clock's time. */
  | { readonly kind: 'latency'; readonly ms: number }

export type FaultPlan = (call: StoreCall) => readonly Fault[]

/** What is thrown into a process that the simulation kills; no code of the product may catch it as one of its errors. */
export class SimulatedCrash extends Error {
  override readonly name = 'SimulatedCrash'
}

export const noFaults: FaultPlan = () => []

/** The fault at call number `index` of all calls: the loop "fail the Nth call" runs a scenario for N = 1, 2, 3, … */
export function atCall(index: number, fault: Fault): FaultPlan {
  return (call) => (call.index === index ? [fault] : [])
}

/** The fault at the nth call of one operation, or at each where `nth` is not given. */
export function atOperation(operation: StoreOperation, fault: Fault, nth?: number): FaultPlan {
  return (call) => (call.operation === operation && (nth === undefined || call.nth === nth) ? [fault] : [])
}

/** The plan for calls whose name starts with `prefix`. */
export function onNames(prefix: string, plan: FaultPlan): FaultPlan {
  return (call) => (call.name.startsWith(prefix) ? plan(call) : [])
}

export function allOf(...plans: FaultPlan[]): FaultPlan {
  return (call) => plans.flatMap((plan) => plan(call))
}

/** Each fault with a chance of so many in 1000, drawn from `random` in order of the calls. */
export function seededFaults(
  random: Random,
  chances: readonly { readonly perMille: number; readonly operations: readonly StoreOperation[]; readonly fault: Fault }[],
): FaultPlan {
  return (call) =>
    chances.filter((c) => c.operations.includes(call.operation) && randomBelow(random, 1000) < c.perMille).map((c) => c.fault)
}
