// Carries out one granted restore under a lease: opens the grant, journals the recovery before the first byte, restores into the root that the
// appliance's own configuration names, and says how it ended. Heartbeats keep the lease; a lost lease or a cancel stops the writing.
import { parseTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { GRANT_BYTES_MAX, HEARTBEAT_MS, restoreProgressReply, type RestoreResult } from '@holdfast/shared/protocol/agent.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { RunTotals } from '@holdfast/shared/protocol/records.ts'
import { inDrillDirectory } from '../drill/scratch.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import { openGrant, selectionHash, type OpenedGrant } from '../keys/grant.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { XWingKeyPair } from '../keys/xwing.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { ownValue, type AgentConfig } from './agent-config.ts'
import type { Agent, AgentState, Policies } from './agent-state.ts'
import { newRunId, type TaskEnd } from './backup-task.ts'
import { beginAct, endAct } from './current-act.ts'
import type { Outbox } from './outbox.ts'
import { isRequestedCancel, requestedCancel, withRepository, type Engines, type RestoreOutcome, type RestoreStand } from './parts.ts'
import { NO_TOTALS, requireInstruction, storePlace, type FileAct, type Recorder, type RecoveryAct } from './recorder.ts'
import type { RestoreCommandBody } from './restore-requests.ts'
import { restoreRoutes } from './routes.ts'
import type { ServerClient } from './server-client.ts'
import { wholeViewPast } from '../restore/read-past.ts'

const PROGRESS_MS = 1000
const GRANT_TIMEOUT_MS = 10 * 60_000

export type RestoreTaskParts = {
  readonly agent: Agent
  readonly state: AgentState
  readonly config: AgentConfig
  readonly policies: Policies | undefined
  readonly keys: WriteKeys
  readonly engines: Engines
  readonly recorder: Recorder
  readonly outbox: Outbox
  readonly client: ServerClient
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
}

/** `result` is undefined where the restore has not ended for good: the lease was lost or the agent stops, and the server gives it out anew. */
export type RestoreEnd = TaskEnd & { readonly result: RestoreResult | undefined }

export type Lease = {
  /** Aborts when the lease is lost, the server cancels, or the agent stops. */
  readonly signal: AbortSignal
  readonly stand: (stand: RestoreStand) => void
  readonly release: () => Promise<void>
}

/** Keeps a lease by telling progress, at most once a second and at least every 30 s, from the moment the command was taken. */
export function holdLease(options: { client: ServerClient; clock: Clock; body: RestoreCommandBody; signal: AbortSignal }): Lease {
  const { client, clock, body } = options
  const nothing = { files: 0, bytes: 0 }
  const controller = new AbortController()
  const stopped = new AbortController()
  let stand: RestoreStand = { done: nothing, total: nothing }
  let leaseUntil = parseTime(body.leaseUntil)
  const lost = (): HoldfastError =>
    new HoldfastError('lease-lost', `the lease of restore ${body.restoreId} was lost; it will be given out anew`)
  const stop = (): void => controller.abort(options.signal.reason)
  if (options.signal.aborted) stop()
  options.signal.addEventListener('abort', stop, { once: true })

  const beat = async (): Promise<void> => {
    try {
      const json = { leaseId: body.leaseId, ...stand }
      const reply = await client.call(restoreProgressReply, {
        ...restoreRoutes(body.restoreId).progress,
        json,
        signal: stopped.signal,
        timeoutMs: HEARTBEAT_MS,
      })
      if (reply === undefined) return
      if (reply.cancel) controller.abort(requestedCancel(`restore ${body.restoreId}`))
      leaseUntil = parseTime(reply.leaseUntil)
    } catch (error) {
      if (stopped.signal.aborted) return
      if (isHoldfastError(error, 'lease-lost', 'not-found')) controller.abort(lost())
      // Any other silence is borne until the server must take the lease for ended.
      else if (!(client.serverNow() < leaseUntil)) controller.abort(lost())
    }
  }
  const loop = async (): Promise<void> => {
    let told: RestoreStand | undefined
    let toldAt = Number.NEGATIVE_INFINITY
    while (!controller.signal.aborted && !stopped.signal.aborted) {
      if (told !== stand || clock.monotonicMs() - toldAt >= HEARTBEAT_MS) {
        told = stand
        toldAt = clock.monotonicMs()
        await beat()
      }
      await clock.sleep(PROGRESS_MS, stopped.signal).catch((error: unknown) => {
        if (!stopped.signal.aborted) throw error
      })
    }
  }
  const ended = loop()
  return {
    signal: controller.signal,
    stand: (next) => {
      stand = next
    },
    release: async () => {
      stopped.abort(new HoldfastError('cancelled', 'the restore has ended'))
      options.signal.removeEventListener('abort', stop)
      await ended
    },
  }
}

/** Carries out a restore whose command was accepted. Throws only where not even its beginning could be journalled. */
export async function runRestore(
  parts: RestoreTaskParts,
  body: RestoreCommandBody,
  keyPair: XWingKeyPair,
  lease: Lease,
): Promise<RestoreEnd> {
  const runId = newRunId(parts.random)
  const tally = tallyFiles()
  let failed = 0
  let errors: string | undefined
  const finished = (outcome: RestoreResult['outcome'], code?: string, message?: string): RestoreEnd => {
    // What was restored before an error is told too.
    const totals = tally.totals(failed)
    const result: RestoreResult = { leaseId: body.leaseId, outcome, totals, ...(code === undefined ? {} : { code }) }
    const ended = ({ completed: 'ok', completed_with_errors: 'incomplete', failed: 'failed', cancelled: 'cancelled' } as const)[outcome]
    return { runId, outcome: ended, code, message, result }
  }
  try {
    await withRepository(
      { engines: parts.engines, config: parts.config, storeId: body.storeId, keys: parts.keys, signal: lease.signal },
      async (repository) => {
        const snapshot = await findSnapshot(repository, body, lease.signal)
        const grant = await takeGrant(parts, body, keyPair, snapshot, lease.signal)
        try {
          ;({ failed, errors } = await recover(parts, body, { repository, snapshot, grant, runId, lease, tally }))
        } finally {
          grant.forget()
        }
      },
    )
    return errors === undefined ? finished('completed') : finished('completed_with_errors', errors)
  } catch (error) {
    if (isHoldfastError(error, 'journal-full', 'local-disk')) return finished('failed', error.code, error.message)
    const reason: unknown = lease.signal.aborted ? lease.signal.reason : error
    if (isRequestedCancel(reason)) return finished('cancelled', 'cancelled', messageOf(reason))
    // Lease lost, or this process was told to stop: not the end of the restore.
    if (lease.signal.aborted) return { runId, outcome: 'failed', code: codeOf(reason), message: messageOf(reason), result: undefined }
    return finished('failed', codeOf(reason), messageOf(reason))
  }
}

type Recovery = {
  readonly repository: Repository
  readonly snapshot: OpenedSnapshot
  readonly grant: OpenedGrant
  readonly runId: string
  readonly lease: Lease
  readonly tally: Tally
}

async function recover(
  parts: RestoreTaskParts,
  body: RestoreCommandBody,
  work: Recovery,
): Promise<{ failed: number; errors: string | undefined }> {
  const { agent, config, recorder, keys, fileSystem } = parts
  const { repository, snapshot, grant, runId, lease, tally } = work
  const root = ownValue(config.restoreRoots, body.restoreRoot)
  if (root === undefined) throw new HoldfastError('policy', `this appliance has no restore root ${body.restoreRoot}`)
  const isDrill = config.drillRoots.includes(body.restoreRoot)
  const home = { region: agent.region }
  const act: RecoveryAct = {
    kind: 'recovery',
    runId,
    restoreId: body.restoreId,
    snapshotId: snapshot.structure.ref.random,
    series: snapshot.structure.series.toString('hex'),
    restoreRoot: body.restoreRoot,
    actor: body.requestedBy,
    instructionId: requireInstruction(body.instructionId),
    purpose: body.purpose,
    requestedBy: body.requestedBy,
    approvedBy: body.approvedBy ?? undefined,
    from: storePlace(parts.policies, body.storeId, home),
    to: home,
  }
  const { view } = await wholeViewPast(repository, lease.signal)
  lease.signal.throwIfAborted()
  const begun = beginAct(parts, act)
  let report: RestoreOutcome
  try {
    const restoreTo = (target: Buffer): Promise<RestoreOutcome> =>
      parts.engines.restore({
        repository,
        view,
        keys: grant.readKeys,
        snapshot,
        target,
        selection: 'whole' in body.selection ? { kind: 'whole' } : { kind: 'tokens', tokens: new Set(body.selection.tokens) },
        overwrite: body.conflict,
        fs: fileSystem,
        compare: isDrill,
        signal: lease.signal,
        onProgress: lease.stand,
        onFiles: (files) => {
          recorder.files(act, files, keys.structure.recordKey)
          tally.add(files)
        },
      })
    report = isDrill ? await inDrillDirectory(fileSystem, root, body.restoreId, restoreTo) : await restoreTo(root)
  } catch (error) {
    const reason: unknown = lease.signal.aborted ? lease.signal.reason : error
    const isCancelled = isRequestedCancel(reason)
    endAct(parts, begun, { outcome: isCancelled ? 'cancelled' : 'failed', code: codeOf(reason), totals: tally.totals() })
    throw error
  }
  const errors = report.outcome === 'done' ? undefined : report.outcome
  endAct(parts, begun, { outcome: errors === undefined ? 'ok' : 'incomplete', code: errors, totals: tally.totals(report.failed) })
  return { failed: report.failed, errors }
}

/** The snapshot that a request names: by id, or the newest of a series that was begun at or before a time. */
async function findSnapshot(repository: Repository, body: RestoreCommandBody, signal: AbortSignal): Promise<OpenedSnapshot> {
  const { snapshots } = await repository.listSnapshots(signal)
  const choice = body.snapshot
  const found =
    'snapshotId' in choice
      ? snapshots.find(({ structure }) => structure.ref.random === choice.snapshotId)
      : snapshots.findLast(
          ({ structure }) => structure.series.toString('hex') === choice.series && structure.startedAt <= parseTime(choice.at),
        )
  if (found !== undefined) return found
  throw new HoldfastError('not-found', `the snapshot that restore ${body.restoreId} asks for is not in ${repository.store.location}`)
}

async function takeGrant(
  { agent, client, keys, clock }: RestoreTaskParts,
  body: RestoreCommandBody,
  keyPair: XWingKeyPair,
  snapshot: OpenedSnapshot,
  signal: AbortSignal,
): Promise<OpenedGrant> {
  const { restoreId, selection, restoreRoot, conflict } = body
  const object = await client.fetch({
    ...restoreRoutes(restoreId).grant,
    limitBytes: GRANT_BYTES_MAX,
    timeoutMs: GRANT_TIMEOUT_MS,
    attempts: 3,
    signal,
  })
  const snapshotId = snapshot.structure.ref.random
  const expect = {
    restoreId,
    agentId: agent.agentId,
    snapshotId,
    selectionHash: selectionHash(selection),
    restoreRoot,
    conflict,
    // The later of the two: a server that turns its time back must not keep a grant alive that the controller limited.
    now: Math.max(client.serverNow(), clock.now()),
  }
  const grant = openGrant({ object, keyPair, structure: keys.structure, expect })
  if (grant.terms.root === snapshot.structure.root) return grant
  grant.forget()
  throw new HoldfastError('grant-refused', `the grant for restore ${restoreId} is for another tree than its snapshot has; ask for it again`)
}

/** What was told of files so far; at least `failed` failed. */
export type Tally = { readonly add: (files: readonly FileAct[]) => void; readonly totals: (failed?: number) => RunTotals }

/** Sums what was told of files, for the closing record. */
export function tallyFiles(): Tally {
  let totals: RunTotals = NO_TOTALS
  return {
    add: (files) => {
      for (const { outcome, size, newBytes } of files)
        totals = {
          ...totals,
          files: totals.files + 1,
          bytes: totals.bytes + size,
          newBytes: totals.newBytes + newBytes,
          reusedBytes: totals.reusedBytes + (outcome === 'kept' ? size : 0),
          unchanged: totals.unchanged + (outcome === 'kept' ? 1 : 0),
          failed: totals.failed + (outcome === 'failed' ? 1 : 0),
        }
    },
    totals: (failed = 0) => ({ ...totals, failed: Math.max(totals.failed, failed) }),
  }
}

/** A reason that is none of ours is the daemon being stopped. */
function codeOf(error: unknown): string {
  return isHoldfastError(error) ? error.code : error instanceof DOMException ? 'interrupted' : 'failed'
}
