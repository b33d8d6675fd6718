// `holdfast domain`: the controller's side of enrolment. The roster says which agents belong to the domain; a bundle gives one of them what it
// needs to write. Both go by the fingerprint that a person carried from the appliance, never by the server's word.
import { writeFileSync } from 'node:fs'
import { HoldfastError, messageOf, printable } from '@holdfast/shared/errors.ts'
import { agent as agentResource } from '@holdfast/shared/protocol/resources.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import type { Command } from 'commander'
import { z } from 'zod'
import { domainFingerprint, isSameFingerprint, makeBundle, writerIdOf } from '../../keys/bundle.ts'
import type { RosterEntry } from '../../keys/roster.ts'
import { agentFingerprint, type AgentPublicKeys } from '@holdfast/shared/agent-fingerprint.ts'
import { shownFingerprint } from '@holdfast/shared/base32.ts'
import { type Repository, readDescription } from '../../repository/repository.ts'
import { bytesOfText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { rootOf, withRepository, withStore } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { activeEntry, latestRosterObject, requireAgentId, rosterEvent, storeRoster } from '../roster-store.ts'
import { type ServerApi, withServer } from '../server-api.ts'

type BundleFlags = { readonly fingerprint?: string; readonly out?: string; readonly location?: string }
type AddFlags = { readonly fingerprint: string; readonly label?: string }

const version = z.strictObject({ version: c.count })

export function define(command: Command, start: Start): void {
  command.description("The controller's side of enrolment: which agents belong to the domain, and what they are given.").addHelpText(
    'after',
    `
To take up an appliance that ran 'holdfast enroll' and showed its fingerprint:
  $ holdfast domain roster add ag_… --fingerprint abcd-efgh-…    compare, list and publish it
  $ holdfast domain bundle ag_…                                  seal its keys to it, through the server

HOLDFAST_SERVER and HOLDFAST_TOKEN name the server and the controller's token; HOLDFAST_REPO the repository.`,
  )
  command
    .command('fingerprint')
    .description('Prints the fingerprint of the domain, which is given to the appliance (enroll --domain).')
    .action(() => start('domain fingerprint', fingerprint))
  command
    .command('bundle')
    .description('Seals what an agent needs to write, and nothing that reads, to its enrolment key.')
    .argument('<agent>', "the agent's id")
    .option('--fingerprint <fp>', 'of the agent, as the appliance showed it (else as it stands on the roster)')
    .option('--out <file>', 'write the bundle to a file instead of sending it through the server')
    .option('--location <location>', 'where the agent reaches the repository, if not as --repo says')
    .action((agent: string, flags: BundleFlags) => start('domain bundle', (context) => bundle(context, agent, flags)))
  const roster = command.command('roster').description('The signed list of the agents of the domain.')
  roster
    .command('add')
    .description('Adds an agent, after the fingerprint of its keys was compared, and publishes the roster.')
    .argument('<agent>', "the agent's id")
    .requiredOption('--fingerprint <fp>', 'of the agent, as the appliance showed it')
    .option('--label <text>', 'a name to know it by (else its host)')
    .action((agent: string, flags: AddFlags) => start('domain roster add', (context) => rosterAdd(context, agent, flags)))
  roster
    .command('revoke')
    .description('Revokes an agent: what it stores from now on does not count. Publishes the roster.')
    .argument('<agent>', "the agent's id")
    .action((agent: string) => start('domain roster revoke', (context) => rosterRevoke(context, agent)))
  roster
    .command('list')
    .description('Lists the agents on the roster.')
    .action(() => start('domain roster list', rosterList))
  roster
    .command('publish')
    .description('Gives the roster to the server once more, which relays it to the agents.')
    .action(() => start('domain roster publish', rosterPublish))
}

async function fingerprint(context: Context): Promise<Outcome> {
  return withStore(context, {}, async (store) => {
    const { domainId, signPublicKey } = await readDescription(store, context.signal)
    const shown = domainFingerprint(domainId, signPublicKey)
    return { result: 'done', repository: store.location, domainId: domainId.toString('hex'), domainFingerprint: shown }
  })
}

type FetchedAgent = z.infer<typeof agentResource> & { readonly keys: AgentPublicKeys & { publicKey: Buffer; enrolmentKey: Buffer } }

/** What the server says of an agent, both of whose keys are held against the fingerprint that a person carried. */
async function fetchAgent(api: ServerApi, agentId: string, expected: string): Promise<FetchedAgent> {
  const agent = await api.get(agentResource, `/v1/agents/${agentId}`)
  const keys = { publicKey: Buffer.from(agent.publicKey, 'base64url'), enrolmentKey: Buffer.from(agent.enrolmentKey, 'base64url') }
  const found = shownFingerprint(agentFingerprint(keys))
  if (agent.id !== agentId || !isSameFingerprint(found, expected))
    throw new HoldfastError(
      'wrong-key',
      `the server shows other keys for ${agentId} (${found}) than the appliance (${printable(expected)}): nothing was listed or sealed. Read it at the appliance again ('holdfast status'); if it stays, do not trust this server`,
    )
  if (agent.state !== 'active') throw new HoldfastError('conflict', `agent ${agentId} is revoked at the server; enrol the appliance anew`)
  return { ...agent, keys }
}

async function rosterAdd(context: Context, text: string, flags: AddFlags): Promise<Outcome> {
  const agentId = requireAgentId(text)
  return withServer(context, (api) =>
    withRepository(context, 'read', async ({ repository, holder }) => {
      const keys = rootOf(holder)
      const agent = await fetchAgent(api, agentId, flags.fingerprint)
      const now = Math.floor(context.clock.now())
      const entry: RosterEntry = {
        writerId: writerIdOf(agentId),
        publicKey: agent.keys.publicKey,
        fingerprint: agentFingerprint(agent.keys),
        state: 'active',
        since: now,
        label: flags.label ?? agent.host,
      }
      const before = repository.roster?.entries ?? []
      const same = before.find((other) => other.writerId.equals(entry.writerId) && other.state === 'active')
      if (same !== undefined && same.fingerprint.equals(entry.fingerprint)) {
        if (!context.dryRun) await publish(context, api, repository, agent.controllerId)
        return { result: 'unchanged', repository: repository.store.location, agentId, counts: { number: repository.roster?.number ?? 0 } }
      }
      if (same !== undefined)
        throw new HoldfastError(
          'conflict',
          `agent ${agentId} is on the roster with another key; revoke that one first if the appliance was enrolled anew`,
        )
      return change(context, api, { repository, agentId, controllerId: agent.controllerId, entries: [...before, entry], keys, now })
    }),
  )
}

async function rosterRevoke(context: Context, text: string): Promise<Outcome> {
  const agentId = requireAgentId(text)
  return withRepository(context, 'read', async ({ repository, holder }) => {
    const keys = rootOf(holder)
    const found = activeEntry(repository.roster, agentId)
    const now = Math.floor(context.clock.now())
    const entries = (repository.roster?.entries ?? []).map((entry) =>
      entry === found ? { ...entry, state: 'revoked' as const, since: now } : entry,
    )
    // Without a server the roster in the repository counts all the same; agents read it there.
    if (context.settings.server === undefined)
      return change(context, undefined, { repository, agentId, controllerId: undefined, entries, keys, now })
    return withServer(context, async (api) => {
      const { controllerId } = await api.get(agentResource, `/v1/agents/${agentId}`)
      return change(context, api, { repository, agentId, controllerId, entries, keys, now })
    })
  })
}

async function change(
  context: Context,
  api: ServerApi | undefined,
  next: {
    repository: Repository
    agentId: string
    controllerId: string | undefined
    entries: readonly RosterEntry[]
    keys: Parameters<typeof storeRoster>[1]
    now: number
  },
): Promise<Outcome> {
  const { repository, agentId, controllerId, entries, keys, now } = next
  const outcome: Outcome = { result: 'done', repository: repository.store.location, agentId }
  if (context.dryRun) return { ...outcome, counts: { number: (repository.roster?.number ?? 0) + 1 } }
  const { number, object } = await storeRoster(repository, keys, entries, now)
  if (api !== undefined && controllerId !== undefined) await api.putBytes(version, `/v1/controllers/${controllerId}/roster`, object)
  return { ...outcome, counts: { number } }
}

async function publish(context: Context, api: ServerApi, repository: Repository, controllerId: string): Promise<number> {
  const latest = await latestRosterObject(repository, context.signal)
  if (latest === undefined) throw new HoldfastError('not-found', "there is no roster yet; 'holdfast domain roster add' makes one")
  await api.putBytes(version, `/v1/controllers/${controllerId}/roster`, latest.object)
  return latest.number
}

async function rosterList(context: Context): Promise<Outcome> {
  return withRepository(context, 'write', async ({ repository }) => {
    const { roster } = repository
    for (const entry of roster?.entries ?? []) context.report.say(rosterEvent(entry))
    return {
      result: 'done',
      repository: repository.store.location,
      counts: { number: roster?.number ?? 0, agents: roster?.entries.length ?? 0 },
    }
  })
}

async function rosterPublish(context: Context): Promise<Outcome> {
  return withServer(context, (api) =>
    withRepository(context, 'write', async ({ repository }) => {
      const entry = repository.roster?.entries.find(({ state }) => state === 'active')
      if (entry === undefined)
        throw new HoldfastError('not-found', "there is no agent on the roster; 'holdfast domain roster add' adds one")
      const { controllerId } = await api.get(agentResource, `/v1/agents/ag_${entry.writerId.toString('hex')}`)
      const number = context.dryRun ? (repository.roster?.number ?? 0) : await publish(context, api, repository, controllerId)
      return { result: 'done', repository: repository.store.location, counts: { number } }
    }),
  )
}

async function bundle(context: Context, text: string, flags: BundleFlags): Promise<Outcome> {
  const agentId = requireAgentId(text)
  return withServer(context, (api) =>
    withRepository(context, 'read', async ({ repository, holder }) => {
      const keys = rootOf(holder)
      const entry = activeEntry(repository.roster, agentId)
      const { fingerprint: compared } = rosterEvent(entry)
      if (flags.fingerprint !== undefined && !isSameFingerprint(flags.fingerprint, compared))
        throw new HoldfastError('wrong-key', `the roster has other keys for ${agentId} (${compared}); revoke it and add the agent anew`)
      const agent = await fetchAgent(api, agentId, compared)
      // The roster's keys, not the server's: what a person compared is what the bundle is made for.
      const object = makeBundle({
        keys,
        agentId,
        agentKey: entry.publicKey,
        enrolmentPublicKey: agent.keys.enrolmentKey,
        repository: flags.location ?? repository.store.location,
        madeAt: context.clock.now(),
        random: context.random,
      })
      const place = flags.out === undefined ? 'sent through the server' : printable(flags.out)
      if (!context.dryRun) {
        if (flags.out === undefined) await api.putBytes(version, `/v1/agents/${agentId}/bundle`, object)
        else writeNew(absolutePath(context.cwd, bytesOfText(flags.out)), object)
      }
      const { domainId, signPublicKey } = keys.write.structure
      return {
        result: 'done',
        repository: repository.store.location,
        agentId,
        place,
        domainFingerprint: domainFingerprint(domainId, signPublicKey),
      }
    }),
  )
}

function writeNew(path: Buffer, bytes: Buffer): void {
  try {
    writeFileSync(path, bytes, { flag: 'wx', mode: 0o600 })
  } catch (cause) {
    throw new HoldfastError('local-disk', `the bundle cannot be written (${messageOf(cause)}); name a new file`, { cause })
  }
}
