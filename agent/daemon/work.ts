// What the daemon does, one thing at a time: granted restores first, then what a person asked for, then what is due. Knows what was running when
// the last process ended, and says so in the journal.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { counted, HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { AgentPolicy } from '@holdfast/shared/protocol/agent.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { FileSystem } from '../file-system/file-system.ts'
import type { WriteKeys } from '../keys/keys.ts'
import type { XWingKeyPair } from '../keys/xwing.ts'
import type { AgentConfig } from './agent-config.ts'
import type { Agent, AgentState, CollectionStates, RunStates } from './agent-state.ts'
import type { Alarms } from './alarms.ts'
import { newRunId, runPolicy, type TaskEnd } from './backup-task.ts'
import { takeCutOff } from './current-act.ts'
import { endDeadLocalActs } from './local-act.ts'
import type { Outbox } from './outbox.ts'
import { withRepository, type Engines } from './parts.ts'
import type { PolicyKeeper } from './policy-keeper.ts'
import type { Recorder } from './recorder.ts'
import type { RestoreCommandBody, RestoreRequests } from './restore-requests.ts'
import { holdLease, runRestore, type Lease } from './restore-task.ts'
import { afterClockStep, runAsked, runBegan, runEnded, schedule } from './schedule.ts'
import type { ServerClient } from './server-client.ts'
import type { AgentStatus } from './status.ts'

/** The longest rest between two looks at the clock, which may have been set meanwhile. */
const REST_MS = 60_000
const DAY_MS = 86_400_000

export type WorkOptions = {
  readonly agent: Agent
  readonly state: AgentState
  readonly config: AgentConfig
  readonly policies: PolicyKeeper
  readonly recorder: Recorder
  readonly outbox: Outbox
  readonly requests: RestoreRequests
  readonly client: ServerClient
  readonly alarms: Alarms
  readonly note: (code: string, amount?: number) => void
  readonly log: Log
  readonly clock: Clock
  readonly random: Random
  readonly fileSystem: FileSystem
  readonly engines: Engines
  readonly program: string
  /** The daemon's end. */
  readonly signal: AbortSignal
  readonly keys: () => WriteKeys | undefined
  readonly changed: () => void
}

export type Work = {
  /** Does what is next, or answers how long nothing is to be done, in milliseconds. */
  readonly step: () => Promise<number>
  /** A person asked for a run of a policy now. Throws `not-found` or `policy` where that cannot be. */
  readonly ask: (policyId: string) => void
  /** A restore whose command was accepted; its lease is kept from now on. */
  readonly restore: (body: RestoreCommandBody, keyPair: XWingKeyPair) => void
  /** Cancels a run or restore, waiting or under way. */
  readonly cancel: (id: string, reason: HoldfastError) => void
  /** Journals the end of what a crash or kill cut off. */
  readonly endInterrupted: () => void
  readonly runs: () => RunStates
  readonly collections: () => CollectionStates
  readonly running: () => AgentStatus['running']
  readonly lastRun: () => AgentStatus['lastRun']
  /** Lets go of the leases of restores that still wait. */
  readonly stopped: () => Promise<void>
}

type WaitingRestore = {
  readonly body: RestoreCommandBody
  readonly keyPair: XWingKeyPair
  readonly lease: Lease
  readonly cancel: AbortController
}

export function makeWork(options: WorkOptions): Work {
  const { state, policies, recorder, outbox, requests, alarms, note, log, clock } = options
  let runs: RunStates = state.runs.load() ?? {}
  let collections: CollectionStates = state.collections.load() ?? {}
  let waiting: readonly WaitingRestore[] = []
  let current: { readonly ids: readonly string[]; readonly cancel: AbortController } | undefined
  let running: AgentStatus['running'] = null
  let lastRun: AgentStatus['lastRun'] = null

  const keepRuns = (next: RunStates): void => {
    state.runs.save(next)
    runs = next
  }
  const ended = (end: TaskEnd): void => {
    running = null
    lastRun = { runId: end.runId, outcome: end.outcome, code: end.code ?? null, endedAt: isoTime(clock.now()) }
    // The message may hold a path; `holdfast status` shows it, on this machine alone.
    log.info('run-ended', { runId: end.runId, code: end.code ?? end.outcome })
    options.changed()
  }

  const backup = async (policy: AgentPolicy): Promise<void> => {
    const keys = options.keys()
    const runId = newRunId(options.random)
    const cancel = new AbortController()
    keepRuns(runBegan(runs, policy.policyId, Math.round(clock.now())))
    current = { ids: [runId], cancel }
    running = { kind: 'backup', runId, source: policy.source, files: 0, bytes: 0, since: isoTime(clock.now()) }
    options.changed()
    let end: TaskEnd
    try {
      if (keys === undefined)
        throw new HoldfastError('policy', 'the controller has not sent the domain bundle yet, so nothing can be backed up')
      end = await runPolicy(
        {
          ...{ ...options, policies: policies.get(), keys },
          onProgress: ({ files, bytes }) => {
            if (running !== null) running = { ...running, files, bytes }
          },
          // Its text may hold a name, and the log holds none.
          onNotice: () => log.info('backup-notice', { runId }),
        },
        policy,
        runId,
        AbortSignal.any([options.signal, cancel.signal]),
      )
    } catch (error) {
      if (!isHoldfastError(error)) throw error
      end = { runId, outcome: 'failed', code: error.code, message: error.message }
    } finally {
      current = undefined
    }
    keepRuns(runEnded(runs, policy.policyId, { nowMs: Math.round(clock.now()), outcome: end.outcome, code: end.code }))
    const alarm = `backup-${policy.policyId}`
    if (end.outcome === 'failed') alarms.raise(alarm, `the last run of source ${policy.source} failed (${end.code}): ${end.message ?? ''}`)
    else alarms.clear(alarm)
    ended(end)
    if (end.outcome === 'ok' || end.outcome === 'incomplete') await collect(policy.storeId)
  }

  /** After a good run; once a day it collects too. What fails is told and tried again after the next run: no backup waits for it. */
  const collect = async (storeId: string): Promise<void> => {
    const keys = options.keys()
    const { engines, config, client, random, signal } = options
    const nowMs = Math.round(clock.now())
    const last = collections[storeId]?.lastMs
    const mayCollect = last === undefined || Math.floor(last / DAY_MS) !== Math.floor(nowMs / DAY_MS)
    const alarm = `collection-${storeId}`
    if (keys === undefined) return
    try {
      const here = policies.carriedOut().filter((policy) => policy.storeId === storeId)
      const copies = { fileSystem: options.fileSystem, path: Buffer.concat([state.directory.path, Buffer.from('/engine/objects')]) }
      const { stated, forgotten, pruned } = await withRepository({ engines, config, storeId, keys, signal, copies }, (repository) =>
        engines.collect({ repository, keys, client, directory: state.directory, clock, random, signal }, storeId, here, mayCollect),
      )
      log.info('needs-stated', { storeId, count: stated })
      alarms.clear(alarm)
      if (pruned === undefined) return
      const { waiting, heldBySessions: held, condemned, named, unreadable } = pruned
      const unopened = `unopened-${storeId}`
      if (unreadable.length === 0) alarms.clear(unopened)
      else
        alarms.raise(
          unopened,
          `${counted(unreadable.length, 'list or record does', 'lists and records do')} not open in store ${storeId} (first: ${unreadable[0]!.name}): what it may concern stays; 'holdfast check' with the root says how to go on`,
        )
      const { until, ...rest } = waiting
      const found = { lastMs: nowMs, forgotten, condemnedPacks: condemned.packs, held, namedObjects: named.objects }
      collections = {
        ...collections,
        [storeId]: { ...found, waiting: { ...rest, ...(until === undefined ? {} : { untilMs: Math.round(until) }) } },
      }
      state.collections.save(collections)
      log.info('collected', { storeId, count: forgotten })
    } catch (error) {
      if (isHoldfastError(error, 'local-disk')) throw error
      // Stopped in the middle of it, with whatever the call under way ends with then.
      if (signal.aborted) return
      if (!isHoldfastError(error)) throw error
      log.warn('collection-failed', { storeId, code: error.code })
      // A server or store that is away is told of elsewhere.
      if (!error.retryable) alarms.raise(alarm, `nothing was collected in store ${storeId} (${error.code}): ${error.message}`)
    } finally {
      options.changed()
    }
  }

  const recover = async ({ body, keyPair, lease, cancel }: WaitingRestore): Promise<void> => {
    // Given out twice, and done meanwhile: its key is destroyed, and what is there now is perhaps no longer as it was restored.
    if (requests.hasEnded(body)) return lease.release()
    const keys = options.keys()
    current = { ids: [body.restoreId], cancel }
    running = { kind: 'recovery', runId: body.restoreId, source: null, files: 0, bytes: 0, since: isoTime(clock.now()) }
    options.changed()
    try {
      if (keys === undefined) throw new HoldfastError('policy', 'this agent has no domain bundle, so it can restore nothing')
      const shown: Lease = {
        ...lease,
        stand: (stand) => {
          if (running !== null) running = { ...running, ...stand.done }
          lease.stand(stand)
        },
      }
      const end = await runRestore({ ...options, policies: policies.get(), keys }, body, keyPair, shown)
      if (end.result !== undefined) requests.finish(body.restoreId, end.result)
      ended(end)
    } finally {
      current = undefined
      running = null
      await lease.release()
    }
  }

  /** Journals the end of the act that `current.json` tells of, which did not get so far itself: it was cut off, or found no room. */
  const endCutOff = (): void => {
    const cut = takeCutOff({ state, recorder, outbox, clock })
    if (cut === undefined) return
    const { header, ending } = cut
    if (header.kind === 'run-started' && header.policyId !== undefined)
      keepRuns(runEnded(runs, header.policyId, { nowMs: Math.round(clock.now()), outcome: ending.outcome, code: ending.code }))
    cut.drop()
  }

  /** False where such an end still finds no room: nothing else begins before it is recorded. */
  const isLastActEnded = (): boolean => {
    try {
      endCutOff()
      return true
    } catch (error) {
      if (!isHoldfastError(error, 'journal-full')) throw error
      alarms.raise('journal-full', error.message)
      return false
    }
  }

  return {
    step: async () => {
      if (!isLastActEnded()) return REST_MS
      alarms.clear('journal-full')
      const nowMs = clock.now()
      const stepped = afterClockStep(runs, nowMs)
      if (stepped !== undefined) {
        keepRuns(stepped)
        note('clock-stepped')
      }
      policies.takeConsent()
      const restore = waiting[0]
      if (restore !== undefined) {
        waiting = waiting.slice(1)
        await recover(restore)
        return 0
      }
      const next = schedule(policies.carriedOut(), runs)[0]
      if (next === undefined) return REST_MS
      if (options.keys() === undefined) {
        alarms.raise('no-bundle', 'a backup is due, but the controller has not sent the domain bundle yet')
        return REST_MS
      }
      if (next.dueMs > nowMs) return Math.min(REST_MS, next.dueMs - nowMs)
      await backup(next.policy)
      return 0
    },
    ask: (policyId) => {
      const policy = policies.find(policyId)
      if (policy === undefined) throw new HoldfastError('not-found', `this agent has no policy ${policyId}`)
      const refused = policies.whyRefused(policy)
      if (refused !== undefined) throw new HoldfastError('policy', `policy ${policyId} cannot be carried out here (${refused})`)
      keepRuns(runAsked(runs, policyId, Math.round(clock.now())))
    },
    restore: (body, keyPair) => {
      const cancel = new AbortController()
      const lease = holdLease({ client: options.client, clock, body, signal: AbortSignal.any([options.signal, cancel.signal]) })
      waiting = [...waiting, { body, keyPair, lease, cancel }]
    },
    cancel: (id, reason) => {
      if (current?.ids.includes(id) === true) current.cancel.abort(reason)
      const cancelled = waiting.filter(({ body }) => body.restoreId === id)
      waiting = waiting.filter(({ body }) => body.restoreId !== id)
      for (const { lease, cancel } of cancelled) {
        cancel.abort(reason)
        void lease.release()
      }
    },
    endInterrupted: () => {
      endDeadLocalActs(state.directory, recorder)
      endCutOff()
    },
    runs: () => runs,
    collections: () => collections,
    running: () => running,
    lastRun: () => lastRun,
    stopped: async () => {
      for (const { lease } of waiting) await lease.release()
      waiting = []
    },
  }
}
