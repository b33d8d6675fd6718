// The enrolled agent on this machine, if there is one: its state directory, identity, and the keys that its domain bundle gives it.
import { existsSync } from 'node:fs'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Agent, agentState, type AgentState, loadAgent, loadBundle } from '../daemon/agent-state.ts'
import { openStateDirectory, type StateDirectory } from '../daemon/state-directory.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { Bundle } from '../keys/bundle.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { Context } from './context.ts'

const SYSTEM_DIRECTORY = '/var/lib/holdfast'

export type AgentIdentity = {
  readonly directory: StateDirectory
  readonly state: AgentState
  readonly agent: Agent
  readonly bundle: Bundle
  readonly keys: WriteKeys
}

/** Where the agent's state is: HOLDFAST_AGENT_DIR, the system's place where it is there, else below the user's state. */
export function agentDirectoryPath(context: Context): string {
  const { settings } = context
  if (settings.agentDirectory !== undefined) return settings.agentDirectory
  return existsSync(`${SYSTEM_DIRECTORY}/identity.json`) || (context.uid === 0 && existsSync(SYSTEM_DIRECTORY))
    ? SYSTEM_DIRECTORY
    : `${settings.stateHome}/holdfast/agent`
}

export function openAgentDirectory(context: Context, create: boolean): StateDirectory {
  return openStateDirectory({
    fileSystem: posixFileSystem,
    path: Buffer.from(agentDirectoryPath(context)),
    random: context.random,
    create,
    ...(context.uid === undefined ? {} : { uid: context.uid }),
  })
}

/** The agent of this machine with its bundle, or undefined where there is none for the domain. */
export function findAgent(context: Context, domainId: Buffer): AgentIdentity | undefined {
  let directory: StateDirectory
  try {
    directory = openAgentDirectory(context, false)
  } catch (error) {
    if (isHoldfastError(error, 'not-found')) return undefined
    // Somebody else's agent (a service's, seen by a user): not ours to act as, unless it was named.
    if (isHoldfastError(error, 'bad-config', 'local-disk') && context.settings.agentDirectory === undefined) return undefined
    throw error
  }
  const state = agentState(directory)
  const found = state.identity.load() === undefined ? undefined : loadAgent(state)
  const opened = found === undefined ? undefined : loadBundle(state, found)
  if (found === undefined || opened === undefined || !opened.bundle.domainId.equals(domainId)) {
    directory.close()
    return undefined
  }
  return { directory, state, agent: found, ...opened }
}

/** The enrolled agent of this machine. Throws `not-found` where it is not enrolled. */
export function requireAgent(context: Context): { directory: StateDirectory; state: AgentState; agent: Agent } {
  const directory = openAgentDirectory(context, false)
  const state = agentState(directory)
  try {
    return { directory, state, agent: loadAgent(state) }
  } catch (error) {
    directory.close()
    throw error instanceof HoldfastError ? error : new HoldfastError('failed', 'the agent state cannot be read', { cause: error })
  }
}
