// Whether this machine is an enrolled agent of a domain. Most calls of the command line are not one, and pay for one look at the disk.
import { existsSync } from 'node:fs'
import type { Agent } from '../daemon/agent-state.ts'
import type { StateDirectory } from '../daemon/state-directory.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { Context } from './context.ts'

const SYSTEM_DIRECTORY = '/var/lib/holdfast'

export type AgentIdentity = {
  /** Open; whoever takes the identity closes it. */
  readonly directory: StateDirectory
  readonly agent: Agent
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

/** The agent of this machine with its bundle, or undefined where there is none for the domain. */
export async function findAgent(context: Context, domainId: Buffer): Promise<AgentIdentity | undefined> {
  if (!existsSync(`${agentDirectoryPath(context)}/identity.json`)) return undefined
  const { openEnrolledAgent } = await import('./enrolled-agent.ts')
  return openEnrolledAgent(context, domainId)
}
