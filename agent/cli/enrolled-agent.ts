// The enrolled agent on this machine: its state directory, identity, and the keys that its domain bundle gives it. Loaded only where there is one.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { type Agent, agentState, type AgentState, loadAgent, loadBundle } from '../daemon/agent-state.ts'
import { openStateDirectory, type StateDirectory } from '../daemon/state-directory.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { AgentIdentity } from './agent-identity.ts'
import { agentDirectoryPath } from './agent-identity.ts'
import type { Context } from './context.ts'

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
export function openEnrolledAgent(context: Context, domainId: Buffer): AgentIdentity | undefined {
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
  return { directory, agent: found, keys: opened.keys }
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
