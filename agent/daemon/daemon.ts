// The daemon of an enrolled appliance, three loops beside each other: ask the server (poll), do the work (one run at a time, by this agent's own
// clock, also with the server away), deliver the records. It opens no port, runs nothing that the server names, and stops cleanly on its signal.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { silentLog, type Log } from '@holdfast/shared/log.ts'
import { pollReply } from '@holdfast/shared/protocol/agent.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { z } from 'zod'
import type { FileSystem } from '../file-system/file-system.ts'
import type { AgentConfig } from './agent-config.ts'
import { agentState, holdAlone, loadAgent, loadBundle, NEW_LINK, type Link } from './agent-state.ts'
import { alarms as makeAlarms } from './alarms.ts'
import { backoff } from './backoff.ts'
import { commandDesk } from './command-desk.ts'
import { rememberCommands } from './commands.ts'
import { delivery as makeDelivery, FORKED, type LinkKeeper } from './delivery.ts'
import { domainKeeper } from './domain-keeper.ts'
import type { Transport } from './http-transport.ts'
import { openJournal } from './journal.ts'
import { outbox as makeOutbox } from './outbox.ts'
import type { Engines } from './parts.ts'
import { policyKeeper } from './policy-keeper.ts'
import { recorder as makeRecorder } from './recorder.ts'
import { restoreRequests } from './restore-requests.ts'
import { AGENT_ROUTES } from './routes.ts'
import { retryAfterMs, serverClient } from './server-client.ts'
import { openStateDirectory, type StateDirectory } from './state-directory.ts'
import { statusFile } from './status.ts'
import { statusOf } from './status-of.ts'
import { wake } from './wake.ts'
import { makeWork } from './work.ts'

const POLL_SECONDS = 45
const POLL_MARGIN_MS = 30_000
const DELIVER_MS = 15_000
const PAUSE_MS = 5_000
const NEARLY_FULL = 0.8

/** Commands are opened one by one, so that one that is not understood does not hide the others. */
const looseReply = pollReply.extend({ commands: z.array(z.unknown()).max(64) })

export type DaemonOptions = {
  readonly fileSystem: FileSystem
  readonly clock: Clock
  readonly random: Random
  readonly stateDirectory: Buffer
  readonly uid?: number | undefined
  readonly config: AgentConfig
  readonly transport: Transport
  readonly engines: Engines
  readonly agentVersion: string
  /** Ends the daemon: a run under way is stopped and taken up again at the next start. */
  readonly signal: AbortSignal
  readonly log?: Log
}

/** Runs until `signal` aborts. Rejects with `not-found` (not enrolled), `conflict` (another daemon), `damaged` or `local-disk`. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { fileSystem, clock, random, config } = options
  const log = options.log ?? silentLog
  const directory = openStateDirectory({ fileSystem, path: options.stateDirectory, random, uid: options.uid, clean: true })
  const alone = holdAlone(directory)
  let journalDirectory: StateDirectory | undefined
  // Ends the loops when one of them fails for good.
  const ending = new AbortController()
  const stop = (): void => ending.abort(options.signal.reason)
  options.signal.addEventListener('abort', stop, { once: true })
  if (options.signal.aborted) stop()
  const signal = ending.signal
  try {
    const state = agentState(directory)
    const agent = loadAgent(state)
    let known: Link = state.link.load() ?? NEW_LINK
    const link: LinkKeeper = {
      get: () => known,
      save: (change) => {
        known = { ...known, ...change }
        state.link.save(known)
      },
    }
    let keys = loadBundle(state, agent)?.keys
    const news = { poll: wake(clock), work: wake(clock), deliver: wake(clock) }
    const status = statusFile(directory)
    const startedAt = isoTime(clock.now())
    let isWritable = false
    let lastContactAt: string | undefined = known.lastContactAt
    const tellStatus = (runs: 'running' | 'stopped' = 'running'): void => {
      if (!isWritable) return
      const parts = { agent, config, link: known, journal, policies, work, alarms, hasBundle: keys !== undefined, startedAt, lastContactAt }
      status.save(statusOf(parts, runs, clock.now()))
    }
    const alarms = makeAlarms(clock, () => tellStatus())
    const limitBytes = config.journalLimitBytes
    journalDirectory = directory.below('journal')
    const journal = openJournal({
      directory: journalDirectory,
      agentId: agent.agentId,
      key: agent.key,
      random,
      ...(limitBytes === undefined ? {} : { limitBytes }),
    })
    const recorder = makeRecorder({ journal, agent, clock, appended: () => news.deliver.now() })
    /** A full journal must not keep the daemon from saying so by other ways. */
    const note = (code: string, amount?: number): void => {
      log.warn(code, { agentId: agent.agentId, ...(amount === undefined ? {} : { count: amount }) })
      try {
        recorder.note(code, amount === undefined ? {} : { amount })
      } catch (error) {
        if (!isHoldfastError(error, 'journal-full', 'local-disk')) throw error
        alarms.raise(error.code, error.message)
      }
    }
    const client = serverClient({
      transport: options.transport,
      agentId: agent.agentId,
      key: agent.key,
      serverKey: agent.serverKey,
      clock,
      random,
      offsetMs: known.offsetMs,
    })
    const outbox = makeOutbox({ directory, client, onRefused: (code) => log.warn('report-refused', { code }) })
    const requests = restoreRequests({ agent, state, config, client, clock, random })
    const policies = policyKeeper({ state, config, client, alarms, note })
    const delivery = makeDelivery({ journal, client, link, clock, alarms, note })
    const work = makeWork({
      ...{ agent, state, config, policies, recorder, outbox, requests, client, alarms, note, log, clock, random, fileSystem },
      engines: options.engines,
      program: `holdfast ${options.agentVersion}`,
      signal,
      keys: () => keys,
      changed: () => {
        tellStatus()
        news.deliver.now()
      },
    })
    isWritable = true
    if (known.fork !== undefined)
      alarms.raise('forked-journal', `the server holds another version of record ${known.fork.seq} than this journal; ${FORKED}`)
    if (journal.tornBytes > 0) note('journal-torn-tail', journal.tornBytes)
    work.endInterrupted()

    const desk = commandDesk({
      ...{ agent, client, requests, work, log },
      taken: rememberCommands(state.taken),
      canRestore: () => keys !== undefined,
      took: () => {
        news.deliver.now()
        news.work.now()
      },
    })
    const domain = domainKeeper({
      ...{ agent, state, client, link, alarms, note, signal },
      keys: () => keys,
      keep: (next) => {
        keys = next
        news.work.now()
      },
    })

    /** False where asking again at once would only get the same answer. */
    const poll = async (waitSeconds: number): Promise<boolean> => {
      const answered = desk.answers()
      const { pending, bytes, limitBytes } = { pending: delivery.pending(), ...journal.stats() }
      const json = {
        agentVersion: options.agentVersion,
        sources: Object.keys(config.sources).sort(),
        restoreRoots: Object.keys(config.restoreRoots).sort(),
        policiesVersion: known.policiesVersion,
        bundleVersion: known.bundleVersion,
        rosterVersion: known.rosterVersion,
        journal: { pending, bytes, limitBytes },
        recordedThrough: known.recordedThrough,
        acknowledged: answered,
        waitSeconds,
      }
      const reply = await client.call(looseReply, { ...AGENT_ROUTES.poll, json, timeoutMs: waitSeconds * 1000 + POLL_MARGIN_MS, signal })
      lastContactAt = isoTime(clock.now())
      desk.told(answered)
      if (reply === undefined) return false
      client.heardTime(reply.serverTime)
      if (client.offsetMs() !== known.offsetMs) link.save({ offsetMs: client.offsetMs() })
      delivery.heard(reply)
      if (reply.policiesVersion !== known.policiesVersion) {
        await policies.receive(reply.policiesVersion, signal)
        link.save({ policiesVersion: reply.policiesVersion })
        news.work.now()
      }
      if (reply.bundleVersion !== known.bundleVersion) await domain.fetchBundle(reply.bundleVersion)
      if (reply.rosterVersion !== known.rosterVersion) await domain.fetchRoster(reply.rosterVersion)
      for (const item of reply.commands) desk.take(item)
      // News that cannot be used yet would be told at once, again and again.
      return reply.bundleVersion === known.bundleVersion && reply.rosterVersion === known.rosterVersion
    }

    const pollLoop = async (): Promise<void> => {
      const again = backoff(random, { firstMs: 1000, mostMs: 5 * 60_000 })
      let waitSeconds = 0
      while (!signal.aborted) {
        try {
          policies.takeConsent()
          keys ??= loadBundle(state, loadAgent(state))?.keys
          const goesOn = await poll(waitSeconds)
          again.reset()
          alarms.clear('server')
          tellStatus()
          waitSeconds = POLL_SECONDS
          if (!goesOn) await news.poll.wait(PAUSE_MS, signal)
        } catch (error) {
          if (signal.aborted) return
          if (!isHoldfastError(error) || error.code === 'local-disk' || error.code === 'damaged') throw error
          log.warn('poll-failed', { code: error.code, message: error.message })
          alarms.raise('server', messageOf(error))
          await news.poll.wait(again.next(retryAfterMs(error)), signal)
        }
      }
    }

    const tellRoom = (): void => {
      const { bytes, limitBytes: limit } = journal.stats()
      const isNearlyFull = bytes > limit * NEARLY_FULL
      if (isNearlyFull)
        alarms.raise(
          'journal-nearly-full',
          'the journal is nearly full of records that the server has not recorded; when it is, no run begins',
        )
      else alarms.clear('journal-nearly-full')
    }

    const deliverLoop = async (): Promise<void> => {
      const again = backoff(random, { firstMs: 2000, mostMs: 5 * 60_000 })
      while (!signal.aborted) {
        try {
          const { acceptedThrough } = known
          await requests.send(signal)
          await delivery.deliver(signal)
          if (known.acceptedThrough !== acceptedThrough) tellStatus()
          tellRoom()
          await outbox.send(signal)
          again.reset()
          alarms.clear('delivery')
          await news.deliver.wait(DELIVER_MS, signal)
        } catch (error) {
          if (signal.aborted) return
          if (!isHoldfastError(error) || error.code === 'local-disk' || error.code === 'damaged') throw error
          log.warn('delivery-failed', { code: error.code, message: error.message })
          tellRoom()
          if (!error.retryable) alarms.raise('delivery', messageOf(error))
          // Not woken by news: each new record would try a server that is away.
          await clock.sleep(again.next(retryAfterMs(error)), signal).catch((stopped: unknown) => {
            if (!signal.aborted) throw stopped
          })
        }
      }
    }

    const workLoop = async (): Promise<void> => {
      while (!signal.aborted) {
        const restMs = await work.step()
        if (restMs > 0) await news.work.wait(restMs, signal)
      }
    }

    tellStatus()
    log.info('daemon-started', { agentId: agent.agentId })
    const failing = async (loop: Promise<void>): Promise<void> => {
      try {
        await loop
      } catch (error) {
        ending.abort(error)
        throw error
      }
    }
    const loops = await Promise.allSettled([failing(pollLoop()), failing(workLoop()), failing(deliverLoop())])
    await work.stopped()
    tellStatus('stopped')
    log.info('daemon-stopped', { agentId: agent.agentId })
    const failed = loops.find((loop) => loop.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  } finally {
    options.signal.removeEventListener('abort', stop)
    alone.release()
    journalDirectory?.close()
    directory.close()
    await options.transport.close()
  }
}
