// Policies that come from the server never narrow protection by themselves: what would is held until a person at the appliance agrees. Pure.
import { parseTime } from '@holdfast/shared/clock.ts'
import type { AgentPolicy, PoliciesReply } from '@holdfast/shared/protocol/agent.ts'
import { keepsLess } from '@holdfast/shared/protocol/retention.ts'
import { stepMs } from '@holdfast/shared/protocol/schedule.ts'
import type { AgentConfig } from './agent-config.ts'
import { ownValue } from './agent-config.ts'
import type { Policies } from './agent-state.ts'

export type Held = { readonly policyId: string; readonly reason: string }

/** Why the change from `before` to `after` narrows protection; empty where it does not. */
export function narrowings(before: AgentPolicy, after: AgentPolicy | undefined): string[] {
  // What is kept counts also while a policy rests: its snapshots are there.
  const reasons = after === undefined ? [] : keepsLess(before.retention, after.retention)
  if (!before.enabled) return reasons
  if (after === undefined) return ['it was removed']
  if (!after.enabled) reasons.push('it was disabled')
  if (after.source !== before.source) reasons.push('its source was changed to another')
  if (after.storeId !== before.storeId) reasons.push('its store was changed to another')
  if (stepMs(after.schedule) > stepMs(before.schedule)) reasons.push('the time between its runs was made longer')
  if (after.excludes.some((list) => !before.excludes.includes(list))) reasons.push('it leaves out more')
  return reasons
}

/**
 * Takes in what the server sent. Policies in force that it would narrow stay as they were and are named in `held`; everything else holds at
 * once. With `accepted` equal to the version that came, all of it does.
 */
export function takeIn(before: Policies | undefined, reply: PoliciesReply, accepted: number | undefined): Policies {
  const received = [...reply.policies]
  const shell = { version: reply.version, received, stores: [...reply.stores] }
  if (before === undefined || accepted === reply.version) return { ...shell, inForce: received, held: [] }
  const held: Held[] = []
  const inForce = new Map(received.map((policy) => [policy.policyId, policy]))
  for (const old of before.inForce) {
    const next = inForce.get(old.policyId)
    const reasons = narrowings(old, next)
    for (const reason of reasons) held.push({ policyId: old.policyId, reason })
    if (reasons.length > 0) inForce.set(old.policyId, old)
    // A later beginning is no way to put off a first run.
    else if (next !== undefined && parseTime(next.since) > parseTime(old.since)) inForce.set(old.policyId, { ...next, since: old.since })
  }
  // A store that only a held policy names is still needed for its records.
  const stores = [...shell.stores, ...before.stores.filter((old) => !shell.stores.some((store) => store.storeId === old.storeId))].slice(
    0,
    100,
  )
  return { ...shell, stores, inForce: [...inForce.values()], held }
}

/** What a person is told about held policies. */
export function heldMessage(policies: Policies): string {
  const what = policies.held.map(({ policyId, reason }) => `${policyId}: ${reason}`).join('; ')
  return `policy narrowed (${what}); run 'holdfast status' to see it, 'holdfast run --accept-policy ${policies.version}' to agree`
}

/** Why this appliance cannot carry out a policy as it stands; undefined where it can. A policy is obeyed whole or refused whole. */
export function whyRefused(config: AgentConfig, policy: AgentPolicy, stores: Policies['stores']): string | undefined {
  if (ownValue(config.sources, policy.source) === undefined) return `unknown-source`
  if (policy.excludes.some((list) => ownValue(config.excludes, list) === undefined)) return 'unknown-exclude-list'
  if (ownValue(config.stores, policy.storeId) === undefined) return 'unknown-store'
  if (!stores.some((store) => store.storeId === policy.storeId)) return 'undescribed-store'
  if (policy.purpose !== 'backup' && policy.purpose !== 'archive') return 'purpose-not-carried-out'
  return undefined
}
