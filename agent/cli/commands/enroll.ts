// `holdfast enroll CODE`: both halves of taking up an appliance. The code pins the server; the domain bundle is accepted only for the domain whose
// fingerprint was given; and before anything is kept, the store is tried out with the appliance's own credentials.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { AGENT_CONFIG_EXAMPLE, type AgentConfig } from '../../daemon/agent-config.ts'
import { agentState, loadAgent } from '../../daemon/agent-state.ts'
import { collectBundle, enroll, agentFingerprintOf } from '../../daemon/enroll.ts'
import { httpTransport, parseServerUrl } from '../../daemon/http-transport.ts'
import { storeOpener } from '../../daemon/parts.ts'
import { serverClient } from '../../daemon/server-client.ts'
import { judgeCapabilities, probeStore, requireSuitable } from '@holdfast/shared/store/capabilities.ts'
import { readAgentConfig } from '../agent-config-file.ts'
import { openAgentDirectory } from '../enrolled-agent.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { VERSION } from '../version.ts'

type EnrollFlags = { readonly server?: string; readonly domain?: string; readonly wait: boolean; readonly acceptOverwrite?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description(
      'Enrols this appliance with a one-time code, then waits for the bundle of its domain. Run again without a code to go on waiting.',
    )
    .argument('[code]', 'the one-time code that the control server made')
    .option('--server <url>', 'the control server, https://host[:port] (HOLDFAST_SERVER, or agent.json)')
    .option('--domain <fingerprint>', "the domain's fingerprint, as the controller shows it (holdfast domain fingerprint)")
    .option('--no-wait', 'do not wait for the bundle; run again without a code to fetch it')
    .option('--accept-overwrite', 'accept store credentials that can overwrite what is there')
    .addHelpText(
      'after',
      `
The appliance's own configuration says what may be backed up and where restores may go. It is agent.json in
HOLDFAST_AGENT_DIR, or /etc/holdfast/agent.json, or where HOLDFAST_AGENT_CONFIG says. The agent's directory must
belong to this user alone (chmod 700). For example:
${AGENT_CONFIG_EXAMPLE.replace(/^/gm, '  ')}
Example:
  $ holdfast enroll hf1-… --server https://backup.example:8443 --domain abcd-efgh-…`,
    )
    .action((code: string | undefined, flags: EnrollFlags) => start('enroll', (context) => run(context, code, flags)))
}

async function run(context: Context, code: string | undefined, flags: EnrollFlags): Promise<Outcome> {
  const { report, clock, random, signal } = context
  if (context.dryRun) throw new HoldfastError('usage', 'enrolment uses up the code, so there is no dry run of it')
  if (flags.domain !== undefined) requireFingerprint(flags.domain)
  const { config } = readAgentConfig(context)
  const directory = openAgentDirectory(context, code !== undefined)
  try {
    const state = agentState(directory)
    const known = state.identity.load()
    const serverUrl = known?.serverUrl ?? flags.server ?? context.settings.server ?? config.server?.url
    if (serverUrl === undefined) throw new HoldfastError('usage', 'which control server? Name it with --server https://host[:port]')
    const serverCaFile = known?.serverCaFile ?? context.settings.serverCaFile ?? config.server?.caFile
    const transport = httpTransport({ url: parseServerUrl(serverUrl), caFile: serverCaFile })
    try {
      if (code !== undefined)
        await enroll({ state, config, code, serverUrl, serverCaFile, agentVersion: VERSION, transport, clock, random, signal })
      const agent = loadAgent(state)
      const fingerprint = agentFingerprintOf(agent)
      const enrolled = { result: 'done', agentId: agent.agentId, fingerprint } as const
      if (!flags.wait && code !== undefined) return { ...enrolled, state: 'waiting' }
      if (code !== undefined)
        report.say({
          event: 'notice',
          level: 'note',
          message: `enrolled as ${agent.agentId}; fingerprint ${fingerprint}. Waiting for the domain bundle`,
        })
      const client = serverClient({ transport, agentId: agent.agentId, key: agent.key, serverKey: agent.serverKey, clock, random })
      const bundle = await collectBundle({
        state,
        client,
        clock,
        domain: flags.domain,
        wait: flags.wait,
        signal,
        examine: ({ repository }) => examine(context, config, repository, flags.acceptOverwrite === true),
      })
      return { ...enrolled, state: 'complete', domainFingerprint: bundle.fingerprint, repository: bundle.repository }
    } finally {
      await transport.close()
    }
  } finally {
    directory.close()
  }
}

/** Before the code is used up: a fingerprint that can be none would leave an appliance that waits for a domain which is not. */
function requireFingerprint(text: string): void {
  if (!/^[a-z2-7]{4}(?:[\s-]?[a-z2-7]{4}){7}$/i.test(text.trim()))
    throw new HoldfastError(
      'usage',
      `--domain '${printable(text.slice(0, 80))}' is no fingerprint: it has eight groups of four letters a-z or digits 2-7 (holdfast domain fingerprint)`,
    )
}

/** The stores of the configuration, tried out as a thief of its credentials would. */
async function examine(context: Context, config: AgentConfig, repository: string, acceptOverwrite: boolean): Promise<void> {
  const { report, clock, random } = context
  const stores = Object.values(config.stores)
  if (stores.length === 0)
    report.say({
      event: 'notice',
      level: 'warning',
      message: `agent.json names no store yet; add the one at ${repository} before the first run`,
    })
  for (const access of stores) {
    const store = await storeOpener(clock, random)(access)
    try {
      const findings = judgeCapabilities(await probeStore(store, context), { acceptOverwrite })
      for (const { level, text } of findings)
        if (level === 'warn') report.say({ event: 'notice', level: 'warning', message: `${store.location}: ${text}` })
      requireSuitable(findings)
    } finally {
      await store.close()
    }
  }
}
