// `holdfast request`: asks the server for a restore. Names are turned into tokens here; the server never sees one (O14).
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { SELECTION_TOKENS_MAX } from '@holdfast/shared/protocol/commands.ts'
import { restore as restoreResource, restoreBody } from '@holdfast/shared/protocol/restores.ts'
import { type Command, Option } from 'commander'
import { createPackReader } from '../../repository/pack-reader.ts'
import type { Repository } from '../../repository/repository.ts'
import { createTokens, type OpenedSnapshot } from '../../repository/snapshot.ts'
import type { ReadKeys } from '../../keys/keys.ts'
import { createSelector } from '../../restore/selection.ts'
import { walkTree } from '../../restore/tree-reader.ts'
import { bytesOfText, shownBytes } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { rootOf, withRepository } from '../open.ts'
import { collect } from '../options.ts'
import { absolutePath } from '../paths.ts'
import { requireAgentId } from '../roster-store.ts'
import { withServer } from '../server-api.ts'
import { chooseSnapshot } from '../snapshot-choice.ts'
import { loadWholeView } from '../../repository/whole-view.ts'

type RequestFlags = {
  readonly agent: string
  readonly path?: readonly string[]
  readonly to: string
  readonly instruction: string
  readonly purpose: string
  readonly conflict: string
  readonly key?: string
}

export function define(command: Command, start: Start): void {
  command
    .description('Asks the control server for a restore by an agent. File names are turned into tokens first; the server never sees them.')
    .argument('<snapshot>', "an id, the beginning of one, or 'latest'")
    .requiredOption('--agent <id>', 'the agent that restores')
    .option('--path <path>', 'a file or directory (again for more); without any, the whole snapshot', collect)
    .requiredOption('--to <label>', "the agent's restore root, a label of its own configuration")
    .requiredOption('--instruction <id>', 'the instruction that this restore is done on')
    .addOption(new Option('--purpose <purpose>', 'why').choices(['restore', 'restore-test']).default('restore'))
    .addOption(
      new Option('--conflict <rule>', 'what happens to files that are there')
        .choices(['beside', 'changed', 'always', 'never'])
        .default('beside'),
    )
    .option('--key <text>', 'idempotency key: the same key and request again is the same restore')
    .addHelpText(
      'after',
      `
Example:
  $ holdfast request latest --agent ag_… --path /srv/docs/plan.odt --to desk --instruction ins_…

The answer names the restore, rst_…; 'holdfast grant rst_…' lets it happen.`,
    )
    .action((snapshot: string, flags: RequestFlags) => start('request', (context) => request(context, snapshot, flags)))
}

async function request(context: Context, name: string, flags: RequestFlags): Promise<Outcome> {
  const agentId = requireAgentId(flags.agent)
  const paths = (flags.path ?? []).map((path) => absolutePath(context.cwd, bytesOfText(path)))
  if (paths.length > SELECTION_TOKENS_MAX) throw new HoldfastError('usage', `at most ${SELECTION_TOKENS_MAX} paths can be named`)
  return withServer(context, (api) =>
    withRepository(context, 'read', async ({ repository, holder }) => {
      const snapshot = await chooseSnapshot(context, repository, name)
      await requireInSnapshot(context, repository, rootOf(holder).read, snapshot, paths)
      const tokens = createTokens(repository.keys.recordKey)
      const parsed = restoreBody.safeParse({
        agentId,
        snapshotId: snapshot.structure.ref.random,
        selection: paths.length === 0 ? { whole: true } : { tokens: [...new Set(paths.map(tokens.path))] },
        restoreRoot: flags.to,
        conflict: flags.conflict,
        purpose: flags.purpose,
        instructionId: flags.instruction,
      })
      if (!parsed.success) throw new HoldfastError('usage', `this cannot be requested: ${wrongOption(parsed.error.issues[0]?.path[0])}`)
      const key = flags.key ?? context.random.bytes(16).toString('hex')
      const outcome: Outcome = { result: 'done', repository: repository.store.location, snapshotId: snapshot.structure.ref.random, agentId }
      if (context.dryRun) return outcome
      const made = await api.post(restoreResource, '/v1/restores', parsed.data, { 'idempotency-key': key })
      return { ...outcome, restoreId: made.id, state: made.state, details: { idempotencyKey: key, expiresAt: made.expiresAt } }
    }),
  )
}

function wrongOption(member: PropertyKey | undefined): string {
  if (member === 'restoreRoot') return '--to is a label, 1 to 64 of a-z 0-9 . _ -, not a path'
  return '--instruction is ins_ and 32 hex digits'
}

/** A mistyped path is said here, before anybody approves or grants it. */
async function requireInSnapshot(
  context: Context,
  repository: Repository,
  keys: ReadKeys,
  snapshot: OpenedSnapshot,
  paths: readonly Buffer[],
): Promise<void> {
  if (paths.length === 0) return
  const { view } = await loadWholeView(repository, context.signal)
  const reader = createPackReader({ store: repository.store, structure: repository.keys, view, keys })
  const selector = createSelector({ kind: 'paths', paths }, repository.keys.recordKey)
  const look = (path: Buffer, isDirectory: boolean): ReturnType<typeof selector.choose> => {
    // Nothing below a selected directory needs to be read to know that it is there.
    const choice = selector.choose(path, isDirectory)
    return choice === 'take' ? 'skip' : choice
  }
  const walk = walkTree({ reader, root: snapshot.structure.root, bounds: snapshot.structure, choose: look, signal: context.signal })
  while ((await walk.next()).done !== true) continue
  const missing = selector.unmatched()
  if (missing.length > 0)
    throw new HoldfastError(
      'not-found',
      `${missing.slice(0, 5).map(shownBytes).join(', ')}${missing.length > 5 ? ` and ${missing.length - 5} more` : ''} is not in snapshot ${snapshot.structure.ref.random.slice(0, 8)}; nothing was requested`,
    )
}
