// The daemon of an enrolled appliance, three loops beside each other: ask the server (poll), do the work (one run at a time, by this agent's own
// clock, also with the server away), deliver the records. It opens no port, runs nothing that the server names, and stops cleanly on its signal.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { silentLog, type Log } from '@holdfast/shared/log.ts'
import { BUNDLE_BYTES_MAX, pollReply, ROSTER_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import type { Command } from '@holdfast/shared/protocol/commands.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { z } from 'zod'
import type { FileSystem } from '../file-system/file-system.ts'
import type { AgentConfig } from './agent-config.ts'
import { agentState, holdAlone, loadAgent, loadBundle, NEW_LINK, openAgentBundle, saveBundle, type Link } from './agent-state.ts'
import { alarms as makeAlarms } from './alarms.ts'
import { backoff } from './backoff.ts'
import { openCommand, rememberCommands } from './commands.ts'
import { delivery as makeDelivery, type LinkKeeper } from './delivery.ts'
import type { Transport } from './http-transport.ts'
import { openJournal } from './journal.ts'
import { outbox as makeOutbox } from './outbox.ts'
import { requestedCancel, type Engines } from './parts.ts'
import { policyKeeper } from './policy-keeper.ts'
import { recorder as makeRecorder } from './recorder.ts'
import { restoreRequests } from './restore-requests.ts'
import { saveRoster } from './roster-relay.ts'
import { AGENT_ROUTES } from './routes.ts'
import { retryAfterMs, serverClient } from './server-client.ts'
import { openStateDirectory } from './state-directory.ts'
import { statusFile } from './status.ts'
import { statusOf } from './status-of.ts'
import { wake } from './wake.ts'
import { makeWork } from './work.ts'

const POLL_SECONDS = 45
const POLL_MARGIN_MS = 30_000
const DELIVER_MS = 15_000
const PAUSE_MS = 5_000
const ACKNOWLEDGED_MAX = 64
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
  const directory = openStateDirectory({ fileSystem, path: options.stateDirectory, random, uid: options.uid })
  const alone = holdAlone(directory)
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
    const journal = openJournal({
      directory: directory.below('journal'),
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
    const taken = rememberCommands(state.taken)
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
      alarms.raise('forked-journal', `the server holds another version of record ${known.fork.seq}; delivery is stopped`)
    if (journal.tornBytes > 0) note('journal-torn-tail', journal.tornBytes)
    work.endInterrupted()

    let acknowledged: { commandId: string; result: 'taken' | 'refused'; code?: string }[] = []

    const act = (command: Command): void => {
      // Whatever needs no memory of its own is done first, so that a crash between the two makes it done again.
      if (command.kind === 'prepare-restore') {
        if (keys === undefined) throw new HoldfastError('policy', 'this agent has no domain bundle yet, so it can restore nothing')
        requests.prepare(command.body)
        news.deliver.now()
      } else if (command.kind === 'backup-now') work.ask(command.body.policyId)
      else if (command.kind === 'cancel') cancel(command.body)
      else if (command.kind === 'restore') {
        const accepted = requests.accept(command.body)
        if ('ended' in accepted) news.deliver.now()
        else work.restore(command.body, accepted.keyPair)
      }
      // `update-policies` needs nothing more: the versions in every reply say what to fetch.
      news.work.now()
    }

    const cancel = (body: Extract<Command, { kind: 'cancel' }>['body']): void => {
      if ('runId' in body) work.cancel(body.runId, requestedCancel(`run ${body.runId}`))
      else {
        work.cancel(body.restoreId, requestedCancel(`restore ${body.restoreId}`))
        requests.drop(body.restoreId)
      }
    }

    const take = (item: unknown): void => {
      let command: Command
      try {
        command = openCommand(item, { agentId: agent.agentId, serverKey: agent.serverKey, nowMs: client.serverNow() })
      } catch (error) {
        // Not acknowledged: only what this server signed for this agent is answered at all.
        if (!isHoldfastError(error)) throw error
        log.warn('command-refused', { agentId: agent.agentId, code: error.code })
        return
      }
      const answer = (result: 'taken' | 'refused', code?: string): void => {
        acknowledged = [
          ...acknowledged.filter(({ commandId }) => commandId !== command.id),
          { commandId: command.id, result, ...(code === undefined ? {} : { code }) },
        ]
      }
      if (taken.has(command)) return answer('taken')
      try {
        taken.requireRoom(client.serverNow())
        act(command)
        taken.take(command, client.serverNow())
        answer('taken')
      } catch (error) {
        if (!isHoldfastError(error) || error.code === 'local-disk') throw error
        log.warn('command-refused', { agentId: agent.agentId, code: error.code, message: error.message })
        answer('refused', error.code)
      }
    }

    const fetchBundle = async (version: number): Promise<void> => {
      const object = await client.fetch({ ...AGENT_ROUTES.bundle, limitBytes: BUNDLE_BYTES_MAX, signal })
      const { domainFingerprint } = state.identity.load() ?? agent
      if (domainFingerprint === undefined) {
        alarms.raise(
          'domain-unconfirmed',
          "the controller's bundle is here, but nobody said which domain is right; run 'holdfast enroll --domain FINGERPRINT'",
        )
        return
      }
      try {
        const opened = openAgentBundle(agent, object, domainFingerprint)
        saveBundle(state, object)
        keys = opened.keys
        for (const code of ['bundle-refused', 'domain-unconfirmed', 'no-bundle']) alarms.clear(code)
      } catch (error) {
        if (!isHoldfastError(error, 'wrong-key', 'damaged', 'newer-format')) throw error
        note('bundle-refused', version)
        alarms.raise('bundle-refused', `a domain bundle came that cannot be accepted: ${error.message}`)
      }
      link.save({ bundleVersion: version })
      news.work.now()
    }

    const fetchRoster = async (version: number): Promise<void> => {
      if (keys === undefined) return
      const object = await client.fetch({ ...AGENT_ROUTES.roster, limitBytes: ROSTER_BYTES_MAX, signal })
      try {
        saveRoster(state, object, keys.structure)
        alarms.clear('roster-refused')
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'wrong-key', 'newer-format', 'conflict')) throw error
        note('roster-refused', version)
        alarms.raise('roster-refused', `a roster came that cannot be accepted: ${error.message}`)
      }
      link.save({ rosterVersion: version })
    }

    /** False where asking again at once would only get the same answer. */
    const poll = async (waitSeconds: number): Promise<boolean> => {
      const answered = acknowledged.slice(0, ACKNOWLEDGED_MAX)
      const { pending, bytes, limitBytes } = { pending: delivery.pending(), ...journal.stats() }
      const json = {
        agentVersion: options.agentVersion,
        sources: Object.keys(config.sources).sort(),
        restoreRoots: Object.keys(config.restoreRoots).sort(),
        policiesVersion: known.policiesVersion,
        bundleVersion: known.bundleVersion,
        // Without keys no roster can be checked; it is fetched once the bundle is here.
        rosterVersion: known.rosterVersion,
        journal: { pending, bytes, limitBytes },
        recordedThrough: known.recordedThrough,
        acknowledged: answered,
        waitSeconds,
      }
      const reply = await client.call(looseReply, { ...AGENT_ROUTES.poll, json, timeoutMs: waitSeconds * 1000 + POLL_MARGIN_MS, signal })
      lastContactAt = isoTime(clock.now())
      acknowledged = acknowledged.filter((answer) => !answered.includes(answer))
      if (reply === undefined) return false
      client.heardTime(reply.serverTime)
      if (client.offsetMs() !== known.offsetMs) link.save({ offsetMs: client.offsetMs() })
      delivery.heard(reply)
      if (reply.policiesVersion !== known.policiesVersion) {
        await policies.receive(reply.policiesVersion, signal)
        link.save({ policiesVersion: reply.policiesVersion })
        news.work.now()
      }
      if (reply.bundleVersion !== known.bundleVersion) await fetchBundle(reply.bundleVersion)
      if (reply.rosterVersion !== known.rosterVersion) await fetchRoster(reply.rosterVersion)
      for (const item of reply.commands) take(item)
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
    directory.close()
    await options.transport.close()
  }
}
