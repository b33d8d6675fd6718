// `holdfast drill`: restores a share of the newest snapshots to a scratch place, compares it with what they say, and keeps the evidence. Where the root
// is this process restores; with --agent it asks the control server for a restore by an agent, which compares there and keeps records.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { openStateDirectory } from '../../backup/state-lock.ts'
import { type DrillReport, drillSnapshot, type DrillPlan } from '../../drill/drill.ts'
import { requireEmptyScratch } from '../../drill/scratch.ts'
import type { Descriptor } from '../../file-system/file-system.ts'
import { posixFileSystem } from '../../file-system/posix-file-system.ts'
import type { RootKeys } from '../../keys/domain.ts'
import { createTokens, type OpenedSnapshot } from '../../repository/snapshot.ts'
import type { Repository } from '../../repository/repository.ts'
import { wholeViewPast } from '../../restore/read-past.ts'
import { bytesOfText, pathFields } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { aboutPlan, type DrillDone, type DrillWork, planOf, sayPlanned } from '../drill-plan.ts'
import { askForDrills, type AskTerms, askTermsOf } from '../drill-request.ts'
import { drillHistory, withDrillState, type DrillState } from '../drill-state.ts'
import { parseSize, parseWhole } from '../format.ts'
import { withRecovery } from '../local-recovery.ts'
import { rootOf, withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { problemWords } from '../problem-words.ts'
import { chooseSnapshot, newestOfEach } from '../snapshot-choice.ts'

type DrillFlags = {
  readonly files?: string
  readonly bytes?: string
  readonly whole?: boolean
  readonly source?: string
  readonly scratch?: string
  readonly workers?: string
  readonly history?: boolean
  readonly agent?: string
  readonly to?: string
  readonly instruction?: string
  readonly wait: boolean
}

const FILES = 100
const BYTES = '1G'

export function define(command: Command, start: Start): void {
  command
    .description(
      'Restores a share of the newest snapshot of each series to a scratch place, compares every byte and all metadata with the snapshot, removes it, and keeps the evidence.',
    )
    .argument('[snapshot]', "an id, the beginning of one, or 'latest'; without any, the newest of each series")
    .option('--files <n>', `how many files of each snapshot (${FILES})`)
    .option('--bytes <size>', `how much content at most, but one file at least (${BYTES})`)
    .option('--whole', 'everything, whatever its size')
    .option('--source <label>', 'only the series of this source')
    .option('--scratch <directory>', 'where to; must be empty and is empty again afterwards (a private one)')
    .option('--workers <n>', 'threads that open and write')
    .option('--history', 'show the evidence of the drills that this machine did')
    .option('--agent <id>', 'ask for drills of the snapshots of this agent, which restores and compares there')
    .option('--to <label>', "with --agent: the agent's drill root, a label of its own configuration")
    .option('--instruction <id>', 'with --agent: the standing instruction that drills are done on')
    .option('--no-wait', 'with --agent: ask, and do not wait for the end')
    .addHelpText(
      'after',
      `
Each drill takes files that the ones before it did not, until all were in one. What is small is drilled whole.

Examples:
  $ holdfast drill
  $ holdfast drill latest --files 1000 --bytes 20G --scratch /mnt/empty
  $ holdfast drill --history
  $ holdfast drill --agent ag_… --to drill --instruction ins_…

For drills by an agent its agent.json names the drill root, and somebody who holds the root grants them, for example
  $ holdfast grant --watch --only restore-test --to drill --instruction ins_… --until 2027-01-31

Exit code 0 where everything came back as it was backed up; 3 where not all could be restored or looked at;
4 where something is not what was backed up.`,
    )
    .action((snapshot: string | undefined, flags: DrillFlags) => start('drill', (context) => drill(context, snapshot, flags)))
}

async function drill(context: Context, name: string | undefined, flags: DrillFlags): Promise<Outcome> {
  if (flags.history === true) return drillHistory(context)
  const terms = askTerms(flags)
  const limits = flags.whole === true ? 'whole' : limitsOf(flags)
  return withRepository(context, { need: 'read', lost: 'notice' }, async ({ repository, holder }) => {
    const keys = rootOf(holder)
    const { snapshots, unopened } = await choose(context, repository, keys, name, flags, terms)
    const { view, refused } = await wholeViewPast(repository, context.signal)
    for (const { error } of refused) context.report.say({ event: 'notice', level: 'warning', message: error.message })
    const work: DrillWork = { context, repository, view, keys, limits, snapshots }
    return withDrillState(context, repository, async (state) => {
      const done = terms === undefined ? await drillHere(work, state, flags) : await askForDrills(work, state, terms)
      return outcomeOf(repository, done, unopened)
    })
  })
}

async function drillHere(work: DrillWork, state: DrillState, flags: DrillFlags): Promise<DrillDone[]> {
  const { context } = work
  const scratch = flags.scratch === undefined ? state.scratch : absolutePath(context.cwd, bytesOfText(flags.scratch))
  if (flags.scratch !== undefined && !context.dryRun) requireEmptyScratch(posixFileSystem, scratch)
  const workers = flags.workers === undefined ? undefined : parseWhole(flags.workers, '--workers', 1, 64)
  return state.alone(async () => {
    const done: DrillDone[] = []
    for (const snapshot of work.snapshots) {
      const plan = await planOf(work, state, snapshot, context.dryRun ? Number.MAX_SAFE_INTEGER : freeBytes(scratch))
      done.push(context.dryRun ? sayPlanned(work, snapshot, plan) : await drillOne(work, state, { snapshot, plan, scratch, workers }))
    }
    return done
  })
}

function freeBytes(scratch: Buffer): number {
  let fd: Descriptor | undefined
  try {
    fd = openStateDirectory(posixFileSystem, scratch)
    return posixFileSystem.freeBytes(fd)
  } finally {
    if (fd !== undefined) posixFileSystem.close(fd)
  }
}

async function drillOne(
  work: DrillWork,
  state: DrillState,
  one: { snapshot: OpenedSnapshot; plan: DrillPlan; scratch: Buffer; workers: number | undefined },
): Promise<DrillDone> {
  const { context, repository, view, keys } = work
  const { snapshot, plan, scratch, workers } = one
  const { clock, signal, report } = context
  const series = snapshot.structure.series.toString('hex')
  const began = state.began(repository, snapshot, plan)
  const at = isoTime(clock.now())
  let done: DrillReport
  try {
    done = await withRecovery(
      context,
      { repository, snapshot, dryRun: false, purpose: 'restore-test' },
      (recovery) =>
        drillSnapshot(
          {
            ...{ repository, view, keys: keys.read, snapshot, scratch, fs: posixFileSystem, signal, workers },
            onEntry: recovery.entry,
            onProgress: ({ phase, files, bytes }) => report.progress({ phase, files, bytes, problems: 0 }),
          },
          plan,
        ),
      ({ verdict }) => (verdict === 'restored' ? false : verdict),
    )
  } catch (error) {
    const isCancelled = signal.aborted || isHoldfastError(error, 'cancelled')
    const code = isCancelled ? 'cancelled' : error instanceof HoldfastError ? error.code : 'failed'
    began.ended({ outcome: isCancelled ? 'cancelled' : 'failed', code, files: 0, bytes: 0, problems: [], problemCount: 0 })
    throw error
  }
  const tokens = createTokens(repository.keys.recordKey)
  const { verdict, files, bytes, entriesCompared, bytesCompared, problems } = done
  const problemCount = problems.length
  began.ended({
    ...{ outcome: verdict, files, bytes, entriesCompared, bytesCompared, problemCount },
    problems: problems.slice(0, 100).map(({ path, code }) => ({ token: tokens.path(path), code })),
  })
  state.keepPlace(series, done.next)
  for (const { path, code, why } of problems.slice(0, 10_000))
    report.say({ event: 'problem', ...pathFields(path), code, message: `${problemWords(code)}${why === undefined ? '' : ` (${why})`}` })
  report.say({
    event: 'drill',
    ...{ outcome: verdict, at, endedAt: isoTime(clock.now()), ...aboutPlan(repository, snapshot, plan) },
    ...{ files, bytes, entriesCompared, bytesCompared, problems: problemCount },
  })
  return { outcome: verdict, files, bytes, problems: problemCount }
}

function outcomeOf(repository: Repository, done: readonly DrillDone[], unopened: number): Outcome {
  const count = (of: (one: DrillDone) => number): number => done.reduce((sum, one) => sum + of(one), 0)
  const have = (...outcomes: DrillDone['outcome'][]): boolean => done.some(({ outcome }) => outcomes.includes(outcome))
  return {
    result: unopened > 0 || have('damaged') ? 'damaged' : have('incomplete', 'failed', 'cancelled') ? 'incomplete' : 'done',
    repository: repository.store.location,
    domainId: repository.description.domainId.toString('hex'),
    ...(have('asked') ? { state: 'asked' } : {}),
    counts: {
      drills: done.length,
      restored: count(({ outcome }) => (outcome === 'restored' ? 1 : 0)),
      files: count(({ files }) => files),
      bytes: count(({ bytes }) => bytes),
      problems: count(({ problems }) => problems) + unopened,
    },
  }
}

async function choose(
  context: Context,
  repository: Repository,
  keys: RootKeys,
  name: string | undefined,
  flags: DrillFlags,
  terms: AskTerms | undefined,
): Promise<{ snapshots: readonly OpenedSnapshot[]; unopened: number }> {
  if (name !== undefined) {
    if (flags.source !== undefined) throw new HoldfastError('usage', 'name a snapshot, or use --source; not both')
    return { snapshots: [await chooseSnapshot(context, repository, name)], unopened: 0 }
  }
  const { newest, unopened } = await newestOfEach(context, repository)
  const writer = terms === undefined ? undefined : terms.writerKey(repository)
  const snapshots = newest.filter(
    (snapshot) =>
      (writer === undefined || snapshot.writerKey.equals(writer)) &&
      (flags.source === undefined || snapshot.openPrivate(keys.read)?.source === flags.source),
  )
  if (snapshots.length === 0 && unopened === 0)
    throw new HoldfastError(
      'not-found',
      `there is no snapshot to drill at ${repository.store.location}${flags.source === undefined ? '' : ' of that source'} yet`,
    )
  return { snapshots, unopened }
}

function limitsOf({ files, bytes }: DrillFlags): { files: number; bytes: number } {
  return {
    files: files === undefined ? FILES : parseWhole(files, '--files', 1, 1_000_000),
    bytes: parseSize(bytes ?? BYTES, '--bytes'),
  }
}

function askTerms(flags: DrillFlags): AskTerms | undefined {
  const { agent, to, instruction } = flags
  if (agent === undefined && to === undefined && instruction === undefined) return undefined
  if (agent === undefined || to === undefined || instruction === undefined)
    throw new HoldfastError('usage', 'a drill by an agent needs --agent, --to and --instruction')
  if (flags.scratch !== undefined || flags.workers !== undefined)
    throw new HoldfastError(
      'usage',
      '--scratch and --workers are for drills here; with --agent the agent restores to the root that --to names',
    )
  return askTermsOf({ agent, to, instruction, wait: flags.wait })
}
