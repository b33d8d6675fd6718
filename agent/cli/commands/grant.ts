// `holdfast grant`: the controller's key holder lets one restore happen. What the server says of a request is only a proposal: the agent's key is
// checked against the roster, the tokens are turned back into names and shown, and the grant opens exactly that.
import { isoTime, parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { isId } from '@holdfast/shared/ids.ts'
import { time } from '@holdfast/shared/protocol/common.ts'
import { instruction as instructionResource } from '@holdfast/shared/protocol/resources.ts'
import { restore as restoreResource, type Restore } from '@holdfast/shared/protocol/restores.ts'
import { restoreKeyBytes } from '@holdfast/shared/protocol/signatures.ts'
import { verifySignature } from '@holdfast/shared/signing.ts'
import { type Command, Option } from 'commander'
import type { RootKeys } from '../../keys/domain.ts'
import { makeGrant, selectionHash } from '../../keys/grant.ts'
import type { RosterEntry } from '../../keys/roster.ts'
import { openRepository, type Repository } from '../../repository/repository.ts'
import type { OpenedSnapshot } from '../../repository/snapshot.ts'
import { pathFields, shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { parseWhole } from '../format.ts'
import { collectGrantKeys, type GrantKeys } from '../grant-keys.ts'
import { rootOf, withRepository } from '../open.ts'
import { collect } from '../options.ts'
import { activeEntry } from '../roster-store.ts'
import { type ServerApi, withServer } from '../server-api.ts'
import { chooseSnapshot } from '../snapshot-choice.ts'
import { loadWholeView } from '../../repository/whole-view.ts'

type GrantFlags = {
  readonly watch?: boolean
  readonly hours?: string
  readonly instruction?: readonly string[]
  readonly agent?: readonly string[]
  readonly to?: readonly string[]
  readonly conflict?: readonly string[]
  readonly every?: string
  readonly only?: string
  readonly until?: string
}

/** What a watch grants without asking: named here, on the controller's side, because the server could say anything. */
type StandingConsent = {
  readonly instructions: ReadonlySet<string>
  readonly agents: ReadonlySet<string> | undefined
  readonly roots: ReadonlySet<string> | undefined
  readonly conflicts: ReadonlySet<string>
  readonly purposes: ReadonlySet<string> | undefined
  /** Milliseconds since 1970: nothing is granted from then on, and no grant holds longer. */
  readonly until: number
}

/** Neither changes a file that is there. */
const HARMLESS_CONFLICTS = ['beside', 'never'] as const
const HOUR_MS = 3_600_000

export function define(command: Command, start: Start): void {
  command
    .description(
      "Lets one requested restore happen: gives the agent, for this request alone, the keys of what it is to restore. Needs the domain's root.",
    )
    .argument('[request]', 'the id of the restore, rst_…')
    .option('--hours <n>', 'how long the grant holds (24, and never longer than the request)')
    .option('--watch', 'stay, and grant what the options below cover')
    .option('--instruction <id>', 'with --watch: requests under this standing instruction (again for more; needed)', collect)
    .option('--agent <id>', 'with --watch: only to this agent (again for more)', collect)
    .option('--to <label>', 'with --watch: only to this restore root (again for more)', collect)
    .option('--conflict <rule>', 'with --watch: also this conflict rule (else beside and never)', collect)
    .addOption(new Option('--only <purpose>', 'with --watch: only for this purpose (needs --to)').choices(['restore', 'restore-test']))
    .option('--until <date>', 'with --watch: until then, such as 2027-01-31 or 2027-01-31T18:00:00Z; then it ends')
    .option('--every <seconds>', 'with --watch: how often to look (5)')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast grant rst_… --dry-run        show what it would open, in names, and stop
  $ holdfast grant rst_…
  $ holdfast grant --watch --instruction ins_… --to desk
  $ holdfast grant --watch --only restore-test --to drill --instruction ins_… --until 2027-01-31

A grant opens the segments that the selected files stand in, nothing else, for one request of one agent, to one
restore root under one conflict rule. The server relays it and cannot open it. What --watch may grant is said here
and not by the server, whose word alone grants nothing.`,
    )
    .action((request: string | undefined, flags: GrantFlags) => start('grant', (context) => grant(context, request, flags)))
}

async function grant(context: Context, request: string | undefined, flags: GrantFlags): Promise<Outcome> {
  const hours = flags.hours === undefined ? 24 : parseWhole(flags.hours, '--hours', 1, 24 * 31)
  const consent = flags.watch === true ? consentOf(flags, context.clock.now()) : undefined
  if (consent === undefined && (flags.only !== undefined || flags.until !== undefined))
    throw new HoldfastError('usage', '--only and --until are for --watch')
  if (consent === undefined && (request === undefined || !isId('restore', request)))
    throw new HoldfastError(
      'usage',
      request === undefined
        ? 'name the request to grant, or use --watch'
        : `'${shownText(request)}' is no request: its id is rst_ and 32 hex digits`,
    )
  if (consent !== undefined && request !== undefined) throw new HoldfastError('usage', 'name one request, or use --watch; not both')
  return withServer(context, (api) =>
    withRepository(context, 'read', async ({ repository, holder }) => {
      const granter: Granter = { context, api, keys: rootOf(holder), hours, until: consent?.until ?? Number.POSITIVE_INFINITY }
      if (consent !== undefined) return watch(granter, repository, consent, flags)
      const restore = await api.get(restoreResource, `/v1/restores/${request}`)
      await grantOne(granter, repository, restore, { unattended: false })
      return { result: 'done', repository: repository.store.location, restoreId: restore.id, agentId: restore.agentId }
    }),
  )
}

type Granter = {
  readonly context: Context
  readonly api: ServerApi
  readonly keys: RootKeys
  readonly hours: number
  readonly until: number
}

async function grantOne(granter: Granter, repository: Repository, restore: Restore, how: { unattended: boolean }): Promise<void> {
  const { context, api, keys, hours, until } = granter
  const { report, signal, clock, random } = context
  if (restore.state !== 'awaiting_grant' || restore.key === null)
    throw new HoldfastError(
      'conflict',
      `request ${restore.id} takes no grant now: it is ${restore.state}${restore.waitingFor === null ? '' : ` (waits for ${shownText(restore.waitingFor)})`}`,
    )
  const entry = activeEntry(repository.roster, restore.agentId)
  const publicKey = requireAgentsKey(restore, entry)
  const snapshot = await snapshotOf(context, repository, restore)
  await requireProvenWriter(context, repository, entry, how)
  const { view } = await loadWholeView(repository, signal)
  const { selection } = restore
  const found = await collectGrantKeys({ repository, view, keys, snapshot, selection, signal })
  if (found.selected.length === 0)
    throw new HoldfastError(
      'unprocessable',
      `nothing that request ${restore.id} selects is in snapshot ${snapshot.structure.ref.random.slice(0, 8)}; it was not granted`,
    )
  if (found.unmatched > 0)
    report.say({ event: 'notice', level: 'warning', message: `${found.unmatched} of the selected names are not in this snapshot` })
  const now = clock.now()
  const expiresAt = Math.min(parseTime(restore.expiresAt), now + hours * HOUR_MS, until)
  report.say(await termsEvent(context, repository, restore, entry, snapshot, found, expiresAt))
  if (context.dryRun) return
  const object = makeGrant({
    signing: keys.signing,
    domainId: repository.description.domainId,
    requestPublicKey: publicKey,
    restoreId: restore.id,
    agentId: restore.agentId,
    snapshotId: snapshot.structure.ref.random,
    root: snapshot.structure.root,
    selection: selectionHash(selection),
    restoreRoot: restore.restoreRoot,
    conflict: restore.conflict,
    issuedAt: now,
    expiresAt,
    sessionKeys: found.sessionKeys,
    segmentKeys: found.segmentKeys,
    random,
  })
  await api.putBytes(restoreResource, `/v1/restores/${restore.id}/grant`, object)
}

/** The fresh key of the request, signed by the agent as the roster knows it. Without this the server could have itself granted anything. */
function requireAgentsKey({ id, agentId, key }: Restore, entry: RosterEntry): Buffer {
  const publicKey = Buffer.from(key!.publicKey, 'base64url')
  if (!verifySignature(entry.publicKey, restoreKeyBytes(id, publicKey), Buffer.from(key!.signature, 'base64url')))
    throw new HoldfastError(
      'server-untrusted',
      `the key of request ${id} is not signed by agent ${agentId}: nothing was granted. Somebody between tried to put another key there`,
    )
  return publicKey
}

async function snapshotOf(context: Context, repository: Repository, restore: Restore): Promise<OpenedSnapshot> {
  if (restore.snapshotId === null)
    throw new HoldfastError('conflict', `request ${restore.id} names no snapshot yet; try again when the server has chosen one`)
  return chooseSnapshot(context, repository, restore.snapshotId)
}

/**
 * A person compared both keys on the roster, the signing key too. That the agent opened its bundle, which is sealed to the other one, and stored
 * a snapshot shows beside it that the appliance that a person saw is the one that asks; before that, a person should look once more.
 */
async function requireProvenWriter(
  context: Context,
  repository: Repository,
  entry: RosterEntry,
  how: { unattended: boolean },
): Promise<void> {
  const { snapshots } = await repository.listSnapshots(context.signal)
  if (snapshots.some(({ writerKey }) => writerKey.equals(entry.publicKey))) return
  const message = `agent ${shownText(entry.label)} has not stored a snapshot yet, so it has not shown that its keys work: compare its fingerprint at the appliance before you grant`
  if (how.unattended) throw new HoldfastError('policy', `${message}; grant this one by its id`)
  context.report.say({ event: 'notice', level: 'warning', message })
}

async function termsEvent(
  context: Context,
  repository: Repository,
  restore: Restore,
  entry: RosterEntry,
  snapshot: OpenedSnapshot,
  found: GrantKeys,
  expiresAt: number,
): Promise<Parameters<Context['report']['say']>[0]> {
  const granted = new Set(found.sessionKeys.map(({ sessionId }) => sessionId.toString('hex')))
  const { snapshots } = granted.size === 0 ? { snapshots: [] } : await repository.listSnapshots(context.signal)
  return {
    event: 'grant-terms',
    restoreId: restore.id,
    agentId: restore.agentId,
    agentLabel: entry.label,
    snapshotId: snapshot.structure.ref.random,
    restoreRoot: restore.restoreRoot,
    conflict: restore.conflict,
    purpose: restore.purpose,
    instructionId: restore.instructionId,
    requestedBy: restore.requestedBy,
    whole: 'whole' in restore.selection,
    selected: found.selected.map(pathFields),
    files: found.files,
    bytes: found.bytes,
    segments: found.segmentKeys.length,
    sessions: found.sessionKeys.length,
    alsoOpens: snapshots
      .filter(
        ({ structure }) =>
          structure.ref.random !== snapshot.structure.ref.random && granted.has(structure.session.sessionId.toString('hex')),
      )
      .map(({ structure }) => structure.ref.random),
    expiresAt: isoTime(expiresAt),
  }
}

async function watch(granter: Granter, opened: Repository, consent: StandingConsent, flags: GrantFlags): Promise<Outcome> {
  const { context, api } = granter
  const { report, clock, signal } = context
  const everyMs = (flags.every === undefined ? 5 : parseWhole(flags.every, '--every', 1, 3600)) * 1000
  // A request is looked at once: what was refused stays refused until this is started anew.
  const seen = new Set<string>()
  let granted = 0
  report.say({ event: 'notice', level: 'note', message: 'watching for requests; stop with Ctrl-C' })
  try {
    while (clock.now() < consent.until) {
      for (const restore of await waiting(api, report)) {
        if (seen.has(restore.id) || clock.now() >= consent.until) continue
        seen.add(restore.id)
        try {
          await requireConsent(granter, restore, consent)
          // Opened anew, for snapshots and roster change while this runs.
          const repository = await openRepository({ store: opened.store, keys: opened.keys, signal })
          await grantOne(granter, repository, restore, { unattended: true })
          granted += 1
          report.say({ event: 'notice', level: 'note', message: `${context.dryRun ? 'would grant' : 'granted'} ${restore.id}` })
        } catch (error) {
          if (signal.aborted || !isHoldfastError(error)) throw error
          if (error.retryable) seen.delete(restore.id)
          report.say({ event: 'problem', path: restore.id, code: error.code, message: `not granted: ${messageOf(error)}` })
        }
      }
      await clock.sleep(Math.min(everyMs, Math.max(1, consent.until - clock.now())), signal)
    }
    report.say({ event: 'notice', level: 'note', message: 'the time named with --until has come; nothing more is granted' })
    return { result: 'done', repository: opened.store.location, counts: { granted } }
  } catch (error) {
    // To be stopped is how a watch ends.
    if (!signal.aborted) throw error
    return { result: 'done', repository: opened.store.location, counts: { granted } }
  }
}

async function waiting(api: ServerApi, report: Context['report']): Promise<Restore[]> {
  const found: Restore[] = []
  try {
    for await (const restore of api.list(restoreResource, '/v1/restores', { state: 'awaiting_grant' })) found.push(restore)
  } catch (error) {
    if (!isHoldfastError(error, 'server-unreachable', 'too-many')) throw error
    report.say({ event: 'notice', level: 'warning', message: messageOf(error) })
  }
  return found
}

async function requireConsent({ context, api }: Granter, restore: Restore, consent: StandingConsent): Promise<void> {
  const refuse = (why: string): HoldfastError => new HoldfastError('policy', `${why}; grant it by its id if it is right`)
  if (!consent.instructions.has(restore.instructionId))
    throw refuse(`instruction ${restore.instructionId} is not one that this watch covers`)
  if (consent.agents?.has(restore.agentId) === false) throw refuse(`agent ${restore.agentId} is not one that this watch covers`)
  if (consent.roots?.has(restore.restoreRoot) === false)
    throw refuse(`restore root ${restore.restoreRoot} is not one that this watch covers`)
  if (consent.purposes?.has(restore.purpose) === false) throw refuse(`the purpose ${restore.purpose} is not one that this watch covers`)
  if (!consent.conflicts.has(restore.conflict)) throw refuse(`the conflict rule '${restore.conflict}' is not one that this watch covers`)
  const instruction = await api.get(instructionResource, `/v1/instructions/${restore.instructionId}`)
  const now = isoTime(context.clock.now())
  if (instruction.kind !== 'standing') throw refuse(`instruction ${instruction.id} is for one request, not a standing one`)
  if (!instruction.purposes.includes(restore.purpose))
    throw refuse(`instruction ${instruction.id} does not cover the purpose ${restore.purpose}`)
  if (now < instruction.validFrom || (instruction.validTo !== null && now >= instruction.validTo))
    throw refuse(`instruction ${instruction.id} is not in force now`)
  const { agentIds } = instruction.scope
  if (agentIds.length > 0 && !agentIds.includes(restore.agentId))
    throw refuse(`instruction ${instruction.id} does not cover agent ${restore.agentId}`)
}

function consentOf(flags: GrantFlags, now: number): StandingConsent {
  const instructions = flags.instruction ?? []
  if (instructions.length === 0)
    throw new HoldfastError('usage', '--watch needs --instruction ID: which standing instructions may be granted without asking')
  for (const id of instructions)
    if (!isId('instruction', id)) throw new HoldfastError('usage', `'${shownText(id)}' is no instruction: its id is ins_ and 32 hex digits`)
  for (const rule of flags.conflict ?? [])
    if (!['beside', 'changed', 'always', 'never'].includes(rule))
      throw new HoldfastError('usage', `--conflict is beside, changed, always or never, not '${shownText(rule)}'`)
  // The purpose is the server's word; that a root is for drills is the agent's own configuration, which refuses anything else there.
  if (flags.only !== undefined && flags.to === undefined)
    throw new HoldfastError('usage', '--only needs --to: which restore root, on the side of the agent, is for that purpose')
  return {
    instructions: new Set(instructions),
    agents: flags.agent === undefined ? undefined : new Set(flags.agent),
    roots: flags.to === undefined ? undefined : new Set(flags.to),
    conflicts: new Set([...HARMLESS_CONFLICTS, ...(flags.conflict ?? [])]),
    purposes: flags.only === undefined ? undefined : new Set([flags.only]),
    until: flags.until === undefined ? Number.POSITIVE_INFINITY : untilOf(flags.until, now),
  }
}

/** A day, which begins at midnight UTC, or a moment in UTC. Throws `usage` for anything else, and for what is over. */
function untilOf(text: string, now: number): number {
  const match = /^(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)Z)?$/.exec(text)
  const whole = `${match?.[1] ?? ''}T${match?.[2] ?? '00:00:00'}.000Z`
  const at = time.safeParse(whole).success ? parseTime(whole) : Number.NaN
  // A day that no month has is carried over into the next one when it is parsed.
  if (!Number.isFinite(at) || isoTime(at) !== whole)
    throw new HoldfastError('usage', `--until is a date in UTC, such as 2027-01-31 or 2027-01-31T18:00:00Z, not '${shownText(text)}'`)
  if (at <= now) throw new HoldfastError('usage', `--until ${shownText(text)} is over`)
  return at
}
