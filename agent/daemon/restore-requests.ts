// Restores that the server asks for, before and after the work: a fresh key pair for each, kept while it is needed and no longer; the checks
// that a command must pass; and the result, told until the server has heard it. A repeated command changes nothing.
import { canonicalJson, type Json } from '@holdfast/shared/canonical-json.ts'
import { isoTime, parseTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { done, type RestoreResult } from '@holdfast/shared/protocol/agent.ts'
import type { Command } from '@holdfast/shared/protocol/commands.ts'
import { actor } from '@holdfast/shared/protocol/records.ts'
import { restoreKeyBytes } from '@holdfast/shared/protocol/signatures.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { xwingKeyPair, type XWingKeyPair } from '../keys/xwing.ts'
import { ownValue, type AgentConfig } from './agent-config.ts'
import type { Agent, AgentState, PreparedRestore } from './agent-state.ts'
import { restoreRoutes } from './routes.ts'
import type { ServerClient } from './server-client.ts'

export type RestoreBody = PreparedRestore['body']
export type RestoreCommandBody = Extract<Command, { kind: 'restore' }>['body']

/** A request whose end nobody told us of is given up, and its key with it. */
const ABANDONED_MS = 31 * 24 * 3_600_000

export type RestoreRequests = {
  /** Makes and keeps the key pair of a request. Throws `policy` or `conflict` where it cannot be carried out here. */
  readonly prepare: (body: RestoreBody) => void
  /** Checks a `restore` command against what was prepared. Throws `wrong-key` where there is no key for it, `conflict` where it differs. */
  readonly accept: (body: RestoreCommandBody) => { readonly keyPair: XWingKeyPair } | { readonly ended: true }
  /** Whether it ended, perhaps under another lease; its result is told under this one then. */
  readonly hasEnded: (body: RestoreCommandBody) => boolean
  /** Keeps the result and destroys the key. */
  readonly finish: (restoreId: string, result: RestoreResult) => void
  /** Destroys everything of a request. */
  readonly drop: (restoreId: string) => void
  /** Sends keys and results that the server has not got. Rejects as the client does. */
  readonly send: (signal: AbortSignal) => Promise<void>
}

export function restoreRequests(options: {
  agent: Agent
  state: AgentState
  config: AgentConfig
  client: ServerClient
  clock: Clock
  random: Random
}): RestoreRequests {
  const { agent, state, config, client, clock, random } = options

  const requireAllowed = (body: RestoreBody): void => {
    const refuse = (what: string): HoldfastError =>
      new HoldfastError('policy', `restore ${body.restoreId} cannot be carried out here: ${what}; correct agent.json or the request`)
    if (ownValue(config.restoreRoots, body.restoreRoot) === undefined)
      throw refuse(`this appliance has no restore root ${body.restoreRoot}`)
    if (config.drillRoots.includes(body.restoreRoot) && body.purpose !== 'restore-test')
      throw refuse(`restore root ${body.restoreRoot} is for drills (purpose restore-test), and what is restored there is removed again`)
    if (ownValue(config.stores, body.storeId) === undefined) throw refuse(`this appliance does not know store ${body.storeId}`)
    for (const person of [body.requestedBy, body.approvedBy])
      if (person !== null && !actor.safeParse(person).success) throw refuse('it does not say who asked or approved as the protocol does')
  }

  const sendKey = async (prepared: PreparedRestore, signal: AbortSignal): Promise<void> => {
    if (prepared.seed === undefined) return
    const { restoreId } = prepared.body
    const { publicKey } = xwingKeyPair(Buffer.from(prepared.seed, 'base64url'))
    const json = {
      publicKey: publicKey.toString('base64url'),
      signature: agent.key.sign(restoreKeyBytes(restoreId, publicKey)).toString('base64url'),
    }
    await client.call(done, { ...restoreRoutes(restoreId).key, json, signal })
    // It may have been cancelled meanwhile.
    if (state.restore(restoreId).load() !== undefined) state.restore(restoreId).save({ ...prepared, keySent: true })
  }

  const sendResult = async ({ body, result }: PreparedRestore, signal: AbortSignal): Promise<void> => {
    try {
      await client.call(done, { ...restoreRoutes(body.restoreId).result, json: result, signal })
    } catch (error) {
      // Given out anew: the command that brings the next lease is answered with this result.
      if (isHoldfastError(error, 'lease-lost')) return
      throw error
    }
    state.restore(body.restoreId).remove()
  }

  const hasEnded = ({ restoreId, leaseId }: RestoreCommandBody): boolean => {
    const file = state.restore(restoreId)
    const known = file.load()
    if (known?.result === undefined) return false
    file.save({ ...known, result: { ...known.result, leaseId } })
    return true
  }

  return {
    prepare: (body) => {
      const known = state.restore(body.restoreId).load()
      if (known !== undefined) {
        if (!sameRequest(known.body, body))
          throw new HoldfastError('conflict', `restore ${body.restoreId} was prepared with other terms; this command was not obeyed`)
        // Asked again: the key that was sent did not arrive.
        if (known.seed !== undefined) state.restore(body.restoreId).save({ ...known, keySent: false })
        return
      }
      requireAllowed(body)
      const seed = random.bytes(32).toString('base64url')
      state.restore(body.restoreId).save({ body, seed, preparedAt: isoTime(clock.now()), keySent: false })
    },
    accept: (asked) => {
      const { leaseId: _, leaseUntil: __, ...body } = asked
      const known = state.restore(body.restoreId).load()
      if (known === undefined)
        throw new HoldfastError('wrong-key', `this agent has no key for restore ${body.restoreId}; ask for the restore again`)
      if (!sameRequest(known.body, body))
        throw new HoldfastError('conflict', `restore ${body.restoreId} was prepared with other terms; it was not carried out`)
      requireAllowed(body)
      if (hasEnded(asked)) return { ended: true }
      if (known.seed === undefined)
        throw new HoldfastError('wrong-key', `the key of restore ${body.restoreId} is destroyed; ask for it again`)
      return { keyPair: xwingKeyPair(Buffer.from(known.seed, 'base64url')) }
    },
    hasEnded,
    finish: (restoreId, result) => {
      const known = state.restore(restoreId).load()
      if (known === undefined) return
      const { seed: _, ...kept } = known
      state.restore(restoreId).save({ ...kept, result })
    },
    drop: (restoreId) => state.restore(restoreId).remove(),
    send: async (signal) => {
      for (const restoreId of state.restoreIds()) {
        const prepared = state.restore(restoreId).load()
        if (prepared === undefined) continue
        if (parseTime(prepared.preparedAt) < clock.now() - ABANDONED_MS) {
          state.restore(restoreId).remove()
          continue
        }
        try {
          if (prepared.result !== undefined) await sendResult(prepared, signal)
          else if (!prepared.keySent) await sendKey(prepared, signal)
        } catch (error) {
          // The server knows of no such restore, or it has ended: nobody will ever need this key.
          if (!isHoldfastError(error, 'not-found', 'conflict')) throw error
          state.restore(restoreId).remove()
        }
      }
    },
  }
}

/** Approval may be noted after the key was asked for; everything else must be the same. */
function sameRequest(a: RestoreBody, b: RestoreBody): boolean {
  const terms = (body: RestoreBody): string => canonicalJson({ ...body, approvedBy: null } as Json)
  return terms(a) === terms(b)
}
