// Drills by an enrolled agent, asked for where the root is: the sample is chosen here, for only here names are known, and goes to the server as tokens.
// The agent restores it into its drill root under a grant for this request, compares, keeps records, and removes it.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { isId } from '@holdfast/shared/ids.ts'
import { SELECTION_TOKENS_MAX } from '@holdfast/shared/protocol/commands.ts'
import { code as errorCode } from '@holdfast/shared/protocol/common.ts'
import { restore as restoreResource, type Restore, restoreBody } from '@holdfast/shared/protocol/restores.ts'
import { createTokens, type OpenedSnapshot } from '../repository/snapshot.ts'
import type { Repository } from '../repository/repository.ts'
import { shownText } from './byte-text.ts'
import { aboutPlan, type DrillDone, type DrillWork, planOf, sayPlanned } from './drill-plan.ts'
import type { DrillState } from './drill-state.ts'
import { activeEntry, requireAgentId } from './roster-store.ts'
import { type ServerApi, withServer } from './server-api.ts'

const POLL_MS = 1_000
const ENDS = new Set(['completed', 'completed_with_errors', 'failed', 'cancelled', 'expired', 'refused'])

export type AskTerms = {
  readonly agentId: string
  readonly restoreRoot: string
  readonly instructionId: string
  readonly wait: boolean
  /** The agent's key as the roster has it: its snapshots are drilled. */
  readonly writerKey: (repository: Repository) => Buffer
}

export function askTermsOf(named: { agent: string; to: string; instruction: string; wait: boolean }): AskTerms {
  const agentId = requireAgentId(named.agent)
  if (!isId('instruction', named.instruction))
    throw new HoldfastError('usage', `'${shownText(named.instruction)}' is no instruction: its id is ins_ and 32 hex digits`)
  return {
    agentId,
    restoreRoot: named.to,
    instructionId: named.instruction,
    wait: named.wait,
    writerKey: (repository) => activeEntry(repository.roster, agentId).publicKey,
  }
}

/** Asks for one drill of each snapshot and, unless told not to, waits until they have ended. */
export async function askForDrills(work: DrillWork, state: DrillState, terms: AskTerms): Promise<DrillDone[]> {
  const { limits: named } = work
  const limits = named === 'whole' ? named : { ...named, files: Math.min(named.files, SELECTION_TOKENS_MAX) }
  return withServer(work.context, async (api) => {
    const done: DrillDone[] = []
    for (const snapshot of work.snapshots) done.push(await askOne({ ...work, limits }, state, terms, { api, snapshot }))
    return done
  })
}

async function askOne(
  work: DrillWork,
  state: DrillState,
  terms: AskTerms,
  { api, snapshot }: { api: ServerApi; snapshot: OpenedSnapshot },
): Promise<DrillDone> {
  const { context, repository } = work
  const { clock, report, random } = context
  const { agentId, restoreRoot, instructionId } = terms
  const plan = await planOf(work, state, snapshot, Number.MAX_SAFE_INTEGER)
  if (context.dryRun) return sayPlanned(work, snapshot, plan)
  const { selection, sample } = plan
  const tokens = createTokens(repository.keys.recordKey)
  const body = restoreBody.safeParse({
    ...{ agentId, restoreRoot, instructionId, conflict: 'beside', purpose: 'restore-test' },
    snapshotId: snapshot.structure.ref.random,
    selection: selection.kind === 'whole' ? { whole: true } : { tokens: sample.paths.map(tokens.path) },
  })
  if (!body.success) throw new HoldfastError('usage', '--to is a label, 1 to 64 of a-z 0-9 . _ -, not a path')
  const made = await api.post(restoreResource, '/v1/restores', body.data, { 'idempotency-key': random.bytes(16).toString('hex') })
  const asked = { restoreId: made.id, agentId }
  const began = state.began(repository, snapshot, plan, asked)
  const at = isoTime(clock.now())
  const about = { ...aboutPlan(repository, snapshot, plan), ...asked, at }
  // What is asked for counts as taken: the next drill takes others.
  state.keepPlace(about.series, sample.next)
  if (!terms.wait) {
    const done = { outcome: 'asked', files: plan.files, bytes: plan.bytes, problems: 0 } as const
    report.say({ event: 'drill', ...about, ...done })
    return done
  }
  const end = endOf(await ended(work, api, made))
  began.ended({ ...end, problems: [], problemCount: end.problems })
  report.say({ event: 'drill', ...about, ...end, endedAt: isoTime(clock.now()) })
  return end
}

async function ended({ context }: DrillWork, api: ServerApi, made: Restore): Promise<Restore> {
  const { report, clock, signal } = context
  let told: string | null = null
  for (let now = made; ; now = await api.get(restoreResource, `/v1/restores/${made.id}`)) {
    if (ENDS.has(now.state)) return now
    if (now.waitingFor !== null && now.waitingFor !== told)
      report.say({ event: 'notice', level: 'note', message: `${now.id} is ${now.state}: waits for ${shownText(now.waitingFor)}` })
    told = now.waitingFor
    await clock.sleep(POLL_MS, signal)
  }
}

/** What the agent found, as the server tells it; what it says of each file is in the agent's signed records. */
function endOf({
  state,
  code,
  totals,
}: Restore): DrillDone & { code?: string; outcome: 'restored' | 'incomplete' | 'damaged' | 'failed' | 'cancelled' } {
  const said = errorCode.safeParse(code).data
  const outcome =
    state === 'completed'
      ? 'restored'
      : state === 'completed_with_errors'
        ? said === 'damaged'
          ? 'damaged'
          : 'incomplete'
        : state === 'cancelled'
          ? 'cancelled'
          : 'failed'
  return {
    outcome,
    ...(outcome === 'restored' ? {} : { code: said ?? (state === 'expired' || state === 'refused' ? state : outcome) }),
    files: totals?.files ?? 0,
    bytes: totals?.bytes ?? 0,
    problems: totals?.failed ?? 0,
  }
}
