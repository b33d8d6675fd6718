// Where the appliance's own configuration, agent.json, is, and reading it.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { HoldfastError, messageOf, printable } from '@holdfast/shared/errors.ts'
import { AGENT_CONFIG_BYTES_MAX, type AgentConfig, parseAgentConfig } from '../daemon/agent-config.ts'
import { agentDirectoryPath } from './agent-identity.ts'
import type { Context } from './context.ts'

const SYSTEM_FILE = '/etc/holdfast/agent.json'

/** HOLDFAST_AGENT_CONFIG, else agent.json in the agent's state directory, else /etc/holdfast/agent.json. */
export function agentConfigPath(context: Context): string {
  const { agentConfig } = context.settings
  if (agentConfig !== undefined) return agentConfig
  const beside = `${agentDirectoryPath(context)}/agent.json`
  return existsSync(beside) || !existsSync(SYSTEM_FILE) ? beside : SYSTEM_FILE
}

/** Throws `bad-config`, naming the file and all that is wrong in it. */
export function readAgentConfig(context: Context): { config: AgentConfig; path: string } {
  const path = agentConfigPath(context)
  let text: string
  try {
    if (statSync(path).size > AGENT_CONFIG_BYTES_MAX) throw new HoldfastError('bad-config', `${printable(path)} is over 1 MiB; correct it`)
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause
    throw new HoldfastError(
      'bad-config',
      `the appliance's configuration ${printable(path)} cannot be read (${messageOf(cause)}); 'holdfast enroll --help' shows an example`,
      { cause },
    )
  }
  return { config: parseAgentConfig(text, path), path }
}
