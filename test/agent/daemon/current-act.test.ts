// The act under way over crashes: cut off at any change of the disk, and once more while that is put right, the journal tells of one beginning and one
// end of it, in the end that was known; and what it made is reported.
import { expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { decodeDelivery, parseHeader } from '@holdfast/shared/record.ts'
import { agentOf, agentState, type Report } from '../../../agent/daemon/agent-state.ts'
import { beginAct, endAct, takeCutOff } from '../../../agent/daemon/current-act.ts'
import { openJournal } from '../../../agent/daemon/journal.ts'
import { outbox as makeOutbox } from '../../../agent/daemon/outbox.ts'
import { NO_TOTALS, recorder as makeRecorder, type RunAct } from '../../../agent/daemon/recorder.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem, SimulatedCrash, type CrashFileSystem } from './_support/crash-file-system.ts'
import { testServerSide } from './_support/test-server-side.ts'

const NOW = 1_800_000_000_000
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const STORE = id('store', 'e')
const random = seededRandom('current act')
const clock = simulatedClock({ startMs: NOW })
const side = testServerSide(clock)
const agent = agentOf({
  ...{ v: 1, agentId: id('ag', 'a'), controllerId: id('ctl', 'c'), siteId: id('site', 'd'), processorId: id('prc', '8'), region: 'CA-QC' },
  ...{
    host: 'a',
    serverUrl: 'https://backup.example',
    serverPublicKey: side.key.publicKey.toString('base64url'),
    enrolledAt: isoTime(NOW),
  },
  seed: random.bytes(32).toString('base64url'),
  enrolmentSeed: random.bytes(32).toString('base64url'),
})
const act: RunAct = {
  ...{ kind: 'run', runId: id('run', '1'), policyId: id('pol', '2'), actor: `policy:${id('pol', '2')}`, instructionId: id('ins', 'f') },
  ...{ purpose: 'backup', source: 'documents', series: '3'.repeat(64), from: { region: 'CA-QC' }, to: { region: 'CA-ON' } },
}
const snapshotId = '5'.repeat(32)
const startedAt = isoTime(NOW)
const reports: Report[] = [
  {
    snapshot: {
      ...{ snapshotId, runId: act.runId, storeId: STORE, series: act.series, source: 'documents', at: startedAt, files: 1, bytes: 1 },
      ...{ storedBytes: 1, tags: [] },
    },
  },
  { run: { runId: act.runId, kind: 'backup', source: 'documents', startedAt, state: 'ok', endedAt: startedAt, totals: NO_TOTALS } },
]

/** What a process that starts now has at hand. */
function open(fileSystem: CrashFileSystem) {
  const directory = openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true, clean: true })
  const state = agentState(directory)
  const journal = openJournal({ directory: directory.below('journal'), agentId: agent.agentId, key: agent.key, random })
  const client = serverClient({ transport: side, agentId: agent.agentId, key: agent.key, serverKey: agent.serverKey, clock, random })
  const outbox = makeOutbox({ directory, client, onRefused: () => undefined })
  return { directory, state, journal, clock, outbox, recorder: makeRecorder({ journal, agent, clock }) }
}

function carryOut(fileSystem: CrashFileSystem): void {
  const parts = open(fileSystem)
  const begun = beginAct(parts, act)
  endAct(parts, begun, { outcome: 'ok', snapshotId, totals: NO_TOTALS }, reports)
}

/** As the daemon does when it starts. */
function putRight(fileSystem: CrashFileSystem): void {
  takeCutOff(open(fileSystem))?.drop()
}

function crashing(act_: () => void): boolean {
  try {
    act_()
    return false
  } catch (error) {
    if (!(error instanceof SimulatedCrash)) throw error
    return true
  }
}

function told(fileSystem: CrashFileSystem) {
  const { journal, directory, state } = open(fileSystem)
  const frames = journal.end.seq === 0 ? [] : decodeDelivery(journal.read(0)!.bytes)
  const headers = frames.map(({ header }) => parseHeader(header))
  const waiting = JSON.parse((directory.read('reports.json', 100_000) ?? Buffer.from('[]')).toString()) as Report[]
  expect(state.current.load()).toBeUndefined()
  return { headers, waiting }
}

it.each([
  [0, false],
  [0.5, true],
  [1, true],
])('begins once and ends once, wherever it is cut off (keeping %f of what was not synced)', (keep, keepNames) => {
  const outcomes = new Set<string>()
  for (let first = 1; ; first++) {
    let isThrough = true
    for (let second = 0; ; second++) {
      const fileSystem = crashFileSystem()
      open(fileSystem)
      fileSystem.crashAt(first)
      isThrough = !crashing(() => carryOut(fileSystem))
      fileSystem.reboot(keep, keepNames)
      let wasSecond = false
      if (second > 0) {
        fileSystem.crashAt(second)
        wasSecond = crashing(() => putRight(fileSystem))
        fileSystem.reboot(keep, keepNames)
      }
      putRight(fileSystem)
      const { headers, waiting } = told(fileSystem)
      const where = `cut off at ${first}, then at ${second}`
      expect([[], ['run-started', 'run-ended']], where).toContainEqual(headers.map(({ kind }) => kind))
      const end = headers[1]
      const outcome = end !== undefined && 'outcome' in end ? String(end.outcome) : 'nothing'
      outcomes.add(outcome)
      const snapshots = waiting.filter((one) => 'snapshot' in one).length
      expect(snapshots, where).toBe(outcome === 'ok' ? 1 : 0)
      if (isThrough) expect(outcome).toBe('ok')
      if (!wasSecond && second > 0) break
    }
    if (isThrough) break
  }
  expect([...outcomes].sort()).toEqual(['failed', 'nothing', 'ok'])
})
