// The policies as this agent holds them: fetched when the server says there are others, taken in whole or not at all, narrowed only with
// consent, and kept over restarts.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { policiesReply, type AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import type { AgentConfig } from './agent-config.ts'
import type { AgentState, Policies } from './agent-state.ts'
import type { Alarms } from './alarms.ts'
import { heldMessage, takeIn, whyRefused } from './policy-consent.ts'
import { AGENT_ROUTES } from './routes.ts'
import { parseReply, type ServerClient } from './server-client.ts'

/** Leaves room for those that are counted here. */
const VERSION_MAX = 2 ** 52
const NONE: Policies = { version: 0, received: [], stores: [], inForce: [], held: [] }

export type PolicyKeeper = {
  readonly get: () => Policies
  readonly find: (policyId: string) => AgentPolicy | undefined
  /** Policies in force that this appliance can carry out. */
  readonly carriedOut: () => AgentPolicy[]
  readonly whyRefused: (policy: AgentPolicy) => string | undefined
  /** Fetches and takes in what the server has. Rejects as the client does; what is not understood is refused as a whole and told. */
  readonly receive: (version: number, signal: AbortSignal) => Promise<void>
  /** Takes up a consent that a person gave at the command line. */
  readonly takeConsent: () => void
}

export function policyKeeper(options: {
  state: AgentState
  config: AgentConfig
  client: ServerClient
  alarms: Alarms
  note: (code: string, amount?: number) => void
}): PolicyKeeper {
  const { state, config, client, alarms, note } = options
  const saved = state.policies.load()
  let current = saved ?? NONE

  const tell = (): void => {
    if (current.held.length > 0) alarms.raise('policy-narrowed', heldMessage(current))
    else alarms.clear('policy-narrowed')
    const refused = current.inForce.flatMap((policy) => {
      const why = whyRefused(config, policy, current.stores)
      return why === undefined ? [] : [`${policy.policyId} (source ${policy.source}): ${why}`]
    })
    if (refused.length > 0)
      alarms.raise('policy-not-carried-out', `cannot be carried out here: ${refused.join('; ')}; correct agent.json or the policy`)
    else alarms.clear('policy-not-carried-out')
  }
  const keep = (next: Policies): void => {
    state.policies.save(next)
    current = next
    tell()
  }
  tell()

  return {
    get: () => current,
    find: (policyId) => current.inForce.find((policy) => policy.policyId === policyId),
    carriedOut: () => current.inForce.filter((policy) => whyRefused(config, policy, current.stores) === undefined),
    whyRefused: (policy) => whyRefused(config, policy, current.stores),
    receive: async (version, signal) => {
      const bytes = await client.fetch({ ...AGENT_ROUTES.policies, signal })
      let reply
      try {
        reply = parseReply(policiesReply, bytes, AGENT_ROUTES.policies.path)
      } catch (error) {
        if (!isHoldfastError(error, 'server-untrusted')) throw error
        // A field that this version does not know is not ignored: the whole is refused, the policies in force stay.
        note('policy-refused', version)
        alarms.raise(
          'policy-refused',
          `version ${version} of the policies holds what this agent does not understand; the earlier ones stay. Update the agent, or correct them`,
        )
        return
      }
      const ids = new Set(reply.policies.map(({ policyId }) => policyId))
      if (ids.size !== reply.policies.length)
        throw new HoldfastError('server-untrusted', 'the server gave one policy twice; the earlier policies stay')
      if (reply.version > VERSION_MAX)
        throw new HoldfastError('server-untrusted', 'the server gave a version of policies that cannot be; the earlier policies stay')
      alarms.clear('policy-refused')
      const before = current.version === 0 && current.inForce.length === 0 ? undefined : current
      const next = takeIn(before, reply, undefined)
      keep(next)
      if (next.held.length > 0) note('policy-narrowed', next.version)
      for (const policy of next.inForce)
        if (whyRefused(config, policy, next.stores) !== undefined) note('policy-not-carried-out', policy.version)
    },
    takeConsent: () => {
      const given = state.consent.load()
      if (given === undefined) return
      if (given.version === current.version && current.held.length > 0) {
        const { version, received, stores } = current
        keep(takeIn(current, { version, policies: received, stores }, version))
        note('policy-accepted', version)
      }
      state.consent.remove()
    },
  }
}
