// `holdfast run`: the daemon of an enrolled appliance, in the foreground. Its log goes to standard error as one JSON line an event.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { makeLog } from '@holdfast/shared/log.ts'
import type { Command } from 'commander'
import { runDaemon } from '../../daemon/daemon.ts'
import { realEngines } from '../../daemon/engines.ts'
import { throughFullDisks } from '../../daemon/full-disk.ts'
import { httpTransport, parseServerUrl } from '../../daemon/http-transport.ts'
import { acceptPolicy } from '../../daemon/status.ts'
import { posixFileSystem } from '../../file-system/posix-file-system.ts'
import { readAgentConfig } from '../agent-config-file.ts'
import { requireAgent } from '../enrolled-agent.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { parseWhole } from '../format.ts'
import { VERSION } from '../version.ts'

type RunFlags = { readonly acceptPolicy?: string }

export function define(command: Command, start: Start): void {
  command
    .description(
      'Runs the daemon of an enrolled appliance until it is stopped: its policies by its own clock, records, and granted restores.',
    )
    .option('--accept-policy <version>', 'agree to a change of policy that narrows protection, and end; the running daemon takes it up')
    .addHelpText(
      'after',
      `
It stays in the foreground; a service manager starts and stops it (SIGTERM). Its log is one JSON line an event on
standard error and holds no names. 'holdfast status' shows how it stands. Where the disk of its state is full it begins
nothing, says so ("disk-full"), and goes on by itself once there is room.`,
    )
    .action((flags: RunFlags) => start('run', (context) => run(context, flags)))
}

async function run(context: Context, flags: RunFlags): Promise<Outcome> {
  const { clock, random, signal } = context
  if (context.dryRun) throw new HoldfastError('usage', 'the daemon has no dry run')
  const { directory, agent } = requireAgent(context)
  const stateDirectory = directory.path
  try {
    if (flags.acceptPolicy !== undefined) {
      acceptPolicy(directory, parseWhole(flags.acceptPolicy, '--accept-policy', 0, Number.MAX_SAFE_INTEGER), isoTime(clock.now()))
      return { result: 'done', agentId: agent.agentId, state: 'accepted' }
    }
  } finally {
    directory.close()
  }
  const { config } = readAgentConfig(context)
  const serverUrl = config.server?.url ?? agent.serverUrl
  const log = makeLog({ program: 'holdfast', clock, write: context.writeLog })
  const runOnce = (): Promise<void> =>
    runDaemon({
      fileSystem: posixFileSystem,
      clock,
      random,
      stateDirectory,
      ...(context.uid === undefined ? {} : { uid: context.uid }),
      config,
      // The daemon closes it.
      transport: httpTransport({ url: parseServerUrl(serverUrl), caFile: config.server?.caFile ?? agent.serverCaFile }),
      engines: realEngines({ clock, random }),
      agentVersion: VERSION,
      signal,
      log,
    })
  try {
    await throughFullDisks({ clock, random, log, signal }, runOnce)
    // To be told to stop is how a daemon ends well.
    return { result: 'done', agentId: agent.agentId, state: 'stopped' }
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error
    return { result: 'done', agentId: agent.agentId, state: 'stopped' }
  }
}
