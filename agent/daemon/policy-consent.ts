// Policies that come from the server never narrow protection by themselves: what would is held until a person at the appliance agrees. Pure.
import { canonicalJson, type Json } from '@holdfast/shared/canonical-json.ts'
import { parseTime } from '@holdfast/shared/clock.ts'
import type { AgentPolicy, PoliciesReply } from '@holdfast/shared/protocol/agent.ts'
import { keepsLess } from '@holdfast/shared/protocol/retention.ts'
import { stepMs } from '@holdfast/shared/protocol/schedule.ts'
import type { AgentConfig } from './agent-config.ts'
import { ownValue } from './agent-config.ts'
import { HELD_MAX, NAMED_MAX, POLICIES_MAX, type Policies } from './agent-state.ts'

export type Held = { readonly policyId: string; readonly reason: string }

/** Policies of these purposes are carried out as backups; of a policy of another purpose nothing is kept. */
const BACKUPS: readonly AgentPolicy['purpose'][] = ['backup', 'archive']
const isBackup = ({ purpose }: AgentPolicy): boolean => BACKUPS.includes(purpose)

/** Why the change from `before` to `after` narrows protection; empty where it does not. */
export function narrowings(before: AgentPolicy, after: AgentPolicy | undefined): string[] {
  // What is kept counts also while a policy rests: its snapshots are there.
  const reasons = after === undefined ? [] : keepsLess(before.retention, after.retention)
  if (!before.enabled) return reasons
  if (after === undefined) return ['it was removed']
  if (!after.enabled) reasons.push('it was disabled')
  if (isBackup(before) && !isBackup(after)) reasons.push('its purpose was changed to one that makes no backups')
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
  const named = namedBy([...(before?.named ?? []), ...placesOf(before?.inForce ?? []), ...placesOf(received)])
  const shell = { version: versionOf(before, reply), received, stores: [...reply.stores], named }
  if (before === undefined || (accepted === reply.version && accepted === shell.version)) return { ...shell, inForce: received, held: [] }
  const held: Held[] = []
  const inForce = new Map(received.map((policy) => [policy.policyId, policy]))
  for (const old of before.inForce) {
    const next = inForce.get(old.policyId)
    const reasons = narrowings(old, next)
    for (const reason of reasons) held.push({ policyId: old.policyId, reason })
    // Backups are never what waits: one that rested and is enabled runs, and what it would forget waits.
    if (reasons.length > 0) inForce.set(old.policyId, isWoken(old, next) ? keepsAll(next) : old)
    // A later beginning is no way to put off a first run.
    else if (next !== undefined && parseTime(next.since) > parseTime(old.since)) inForce.set(old.policyId, { ...next, since: old.since })
  }
  held.push(...keepAsMuch(before, inForce))
  // What the state cannot hold beside those that stay as they were waits: a state that is too long would not be read again.
  const old = new Set(before.inForce.map(({ policyId }) => policyId))
  const fresh = [...inForce.keys()].filter((policyId) => !old.has(policyId))
  for (const policyId of fresh.slice(Math.max(0, fresh.length - Math.max(0, inForce.size - POLICIES_MAX)))) {
    inForce.delete(policyId)
    held.unshift({ policyId, reason: 'there is no room for it beside those that are held' })
  }
  // A store that only a held policy names is still needed for its records.
  const stores = [...shell.stores, ...before.stores.filter((old) => !shell.stores.some((store) => store.storeId === old.storeId))].slice(
    0,
    100,
  )
  return { ...shell, stores, inForce: [...inForce.values()], held: held.slice(0, HELD_MAX) }
}

/**
 * The version that a person here agrees to: that of the server, and a higher one where it gave others under one that it had given before. So no consent is
 * for anything but what was held under its version.
 */
function versionOf(before: Policies | undefined, { version, policies }: PoliciesReply): number {
  if (before === undefined) return version
  const isSame = canonicalJson(before.received as Json) === canonicalJson(policies as Json)
  return Math.max(version, isSame ? before.version : before.version + 1)
}

/** Whether a policy that rested makes backups now. */
function isWoken(old: AgentPolicy, next: AgentPolicy | undefined): next is AgentPolicy {
  return !old.enabled && next !== undefined && next.enabled && isBackup(next)
}

function keepsAll({ retention: _, ...policy }: AgentPolicy): AgentPolicy {
  return policy
}

type Place = NonNullable<Policies['named']>[number]

/** Snapshots of one source in one store go by all policies that name the two. */
const placeKey = ({ source, storeId }: Place): string => `${storeId} ${source}`

function placesOf(policies: readonly AgentPolicy[]): Place[] {
  return policies.filter(isBackup).map(({ source, storeId }) => ({ source, storeId }))
}

/** Each place once; the earliest of them where there are more than the state takes, so that no flood of new ones drives them out. */
function namedBy(places: readonly Place[]): Place[] {
  return [...new Map(places.map((place) => [placeKey(place), place])).values()].slice(0, NAMED_MAX)
}

/**
 * Changes `inForce` so that no source keeps less in a store than by the policies before, taken together: a snapshot goes only where all policies of
 * its source let it go, so one more may let nothing go sooner, and one less may not leave the word to others. No backup waits for that: one that is new
 * or rested runs without its retention, which lets all of its source stay. Answers what is held.
 */
function keepAsMuch(before: Policies, inForce: Map<string, AgentPolicy>): Held[] {
  const held: Held[] = []
  const old = new Map(before.inForce.map((policy) => [policy.policyId, policy]))
  const named = new Set([...(before.named ?? []), ...placesOf(before.inForce)].map(placeKey))
  const wasAt = byPlace(before.inForce)
  const restore = (policyId: string, reason: string): void => {
    const was = old.get(policyId)
    if (was === undefined) inForce.delete(policyId)
    else inForce.set(policyId, was)
    held.push({ policyId, reason })
  }
  const forgetNothing = (policy: AgentPolicy, reason: string): void => {
    inForce.set(policy.policyId, keepsAll(policy))
    held.push({ policyId: policy.policyId, reason })
  }
  // What stays as it was here may have been meant for another place, so all are looked at until nothing changes.
  for (let count = -1; count !== held.length;) {
    count = held.length
    for (const [place, found] of byPlace(inForce.values())) {
      const was = wasAt.get(place) ?? []
      // No policy names it any more, by consent, so what is there stays; one that names it again does not begin by letting that go.
      if (was.length === 0 && named.has(place))
        for (const policy of found)
          if (policy.retention !== undefined && inForce.get(policy.policyId) === policy)
            forgetNothing(policy, 'it forgets snapshots, and kept all before')
      if (lessAt(was, found, true).length === 0) continue
      const { source, storeId } = found[0]!
      const now = (): AgentPolicy[] =>
        [...inForce.values()].filter((policy) => policy.source === source && policy.storeId === storeId && isBackup(policy))
      for (const policy of lessAt(was, now(), false)) {
        // One that rested here and runs elsewhere now goes on running there.
        if (!isWoken(policy, inForce.get(policy.policyId))) restore(policy.policyId, 'others would keep less of its source')
        else
          for (const other of now()) if (other.retention !== undefined) forgetNothing(other, 'it would keep less of its source than before')
      }
      // The same retention beside runs that come faster reaches back less far by `last`.
      for (const policy of now()) {
        const same = old.get(policy.policyId)
        const isFaster = same === undefined || !was.includes(same) || stepMs(policy.schedule) < stepMs(same.schedule)
        if (!isFaster || lessAt(was, now(), true).length === 0) continue
        const reason = 'its runs come so often that the last snapshots which are kept reach back less far'
        if (!policy.enabled || (same?.enabled === true && isBackup(same))) restore(policy.policyId, reason)
        else forgetNothing(policy, reason)
      }
    }
  }
  return held
}

function byPlace(policies: Iterable<AgentPolicy>): Map<string, AgentPolicy[]> {
  const all = new Map<string, AgentPolicy[]>()
  for (const policy of policies) {
    if (!isBackup(policy)) continue
    const known = all.get(placeKey(policy))
    if (known === undefined) all.set(placeKey(policy), [policy])
    else known.push(policy)
  }
  return all
}

/** Those of `was` of whose snapshots `now` keeps less, each of the two taken together; with the pace at which new ones take the places of `last`, or without. */
function lessAt(was: readonly AgentPolicy[], now: readonly AgentPolicy[], withPace: boolean): AgentPolicy[] {
  if (now.length === 0 || now.some(({ retention }) => retention === undefined)) return []
  const reach = ({ retention }: AgentPolicy, all: readonly AgentPolicy[]): number => (retention?.last ?? 0) / runsPerMs(all)
  const covers = (one: AgentPolicy, other: AgentPolicy): boolean =>
    keepsLess(other.retention, one.retention).length === 0 && (!withPace || reach(one, now) >= reach(other, was) * (1 - 1e-9))
  return was.filter((policy) => !now.some((one) => covers(one, policy)))
}

/** Those that rest count too: they may be woken at any time. */
function runsPerMs(policies: readonly AgentPolicy[]): number {
  return policies.reduce((sum, { schedule }) => sum + 1 / stepMs(schedule), 0)
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
  if (!isBackup(policy)) return 'purpose-not-carried-out'
  return undefined
}
