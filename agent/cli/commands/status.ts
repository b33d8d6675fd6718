// `holdfast status`: how this appliance stands, from what its daemon wrote last: is it protected, is the server in reach, what is wrong.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { agentFingerprintOf } from '../../daemon/enroll.ts'
import { readStatus } from '../../daemon/status.ts'
import { requireAgent } from '../enrolled-agent.ts'
import type { Context, Outcome, Start } from '../context.ts'

export function define(command: Command, start: Start): void {
  command
    .description('Shows how this enrolled appliance stands: last good backups, what is due, the server, the journal, and what is wrong.')
    .addHelpText('after', '\nWith --json the whole status is in details.status of the summary.')
    .action(() => start('status', status))
}

async function status(context: Context): Promise<Outcome> {
  const { directory, agent } = requireAgent(context)
  try {
    const fingerprint = agentFingerprintOf(agent)
    const base = {
      result: 'done',
      agentId: agent.agentId,
      fingerprint,
      ...(agent.domainFingerprint === undefined ? {} : { domainFingerprint: agent.domainFingerprint }),
    } as const
    try {
      const found = readStatus(directory)
      return { ...base, state: found.state, details: { status: found, now: context.clock.now() } }
    } catch (error) {
      if (!isHoldfastError(error, 'not-found')) throw error
      return { ...base, state: 'never-run', details: { now: context.clock.now() } }
    }
  } finally {
    directory.close()
  }
}
