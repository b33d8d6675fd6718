// Takes in what the controller sends by way of the server, which can open neither: the domain bundle, for the domain that a person confirmed, and
// the roster, for those keys. What cannot be accepted is told, and changes nothing.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { BUNDLE_BYTES_MAX, ROSTER_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { openAgentBundle, saveBundle, type Agent, type AgentState } from './agent-state.ts'
import type { Alarms } from './alarms.ts'
import type { LinkKeeper } from './delivery.ts'
import { saveRoster } from './roster-relay.ts'
import { AGENT_ROUTES } from './routes.ts'
import type { ServerClient } from './server-client.ts'

export type DomainKeeper = {
  /** Fetches the bundle of this version. Rejects as the client does, and with `local-disk`. */
  readonly fetchBundle: (version: number) => Promise<void>
  readonly fetchRoster: (version: number) => Promise<void>
}

export function domainKeeper(options: {
  agent: Agent
  state: AgentState
  client: ServerClient
  link: LinkKeeper
  alarms: Alarms
  note: (code: string, amount?: number) => void
  signal: AbortSignal
  keys: () => WriteKeys | undefined
  keep: (keys: WriteKeys) => void
}): DomainKeeper {
  const { agent, state, client, link, alarms, note, signal } = options
  return {
    fetchBundle: async (version) => {
      const object = await client.fetch({ ...AGENT_ROUTES.bundle, limitBytes: BUNDLE_BYTES_MAX, signal })
      const { domainFingerprint } = state.identity.load() ?? agent
      if (domainFingerprint === undefined) {
        const advice = "run 'holdfast enroll --domain FINGERPRINT'"
        alarms.raise('domain-unconfirmed', `the controller's bundle is here, but nobody said which domain is right; ${advice}`)
        return
      }
      try {
        const opened = openAgentBundle(agent, object, domainFingerprint)
        saveBundle(state, object)
        options.keep(opened.keys)
        for (const code of ['bundle-refused', 'domain-unconfirmed', 'no-bundle']) alarms.clear(code)
      } catch (error) {
        if (!isHoldfastError(error, 'wrong-key', 'damaged', 'newer-format')) throw error
        note('bundle-refused', version)
        alarms.raise('bundle-refused', `a domain bundle came that cannot be accepted: ${error.message}`)
      }
      link.save({ bundleVersion: version })
    },
    fetchRoster: async (version) => {
      const keys = options.keys()
      // Without keys no roster can be checked; it is fetched once the bundle is here.
      if (keys === undefined) return
      const object = await client.fetch({ ...AGENT_ROUTES.roster, limitBytes: ROSTER_BYTES_MAX, signal })
      try {
        saveRoster(state, object, keys.structure)
        alarms.clear('roster-refused')
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'wrong-key', 'newer-format', 'conflict')) throw error
        note('roster-refused', version)
        alarms.raise('roster-refused', `a roster came that cannot be accepted: ${error.message}`)
      }
      link.save({ rosterVersion: version })
    },
  }
}
