// Reports for the server: what a backup at the appliance's own command line hands over is sent by the daemon, also after a crash or an outage.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isoTime } from '@holdfast/shared/clock.ts'
import { runReport, snapshotReport } from '@holdfast/shared/protocol/agent.ts'
import { decodeDelivery, verifyRecord } from '@holdfast/shared/record.ts'
import type { BackupResult } from '../../../agent/backup/backup-types.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentOf, agentState } from '../../../agent/daemon/agent-state.ts'
import { openJournal } from '../../../agent/daemon/journal.ts'
import { endDeadLocalActs } from '../../../agent/daemon/local-act.ts'
import { journalLocalRun } from '../../../agent/daemon/local-run.ts'
import { handOver, outbox } from '../../../agent/daemon/outbox.ts'
import { recorder } from '../../../agent/daemon/recorder.ts'
import { AGENT_ROUTES } from '../../../agent/daemon/routes.ts'
import { serverClient } from '../../../agent/daemon/server-client.ts'
import { openStateDirectory, type StateDirectory } from '../../../agent/daemon/state-directory.ts'
import type { FileSystem } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem, SimulatedCrash } from './_support/crash-file-system.ts'
import { problemAnswer, testServerSide, timeAnswer } from './_support/test-server-side.ts'

const random = seededRandom('outbox')
const NOW = 1_800_000_000_000
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const STORE = id('store', 'e')
const RUN = id('run', '1')
const paths = { runs: AGENT_ROUTES.runs.path, snapshots: AGENT_ROUTES.snapshots.path }
const clock = simulatedClock({ startMs: NOW, autoMs: 59_000 })
const signal = new AbortController().signal
const side = testServerSide(clock)
const identity = {
  v: 1 as const,
  agentId: id('ag', 'a'),
  controllerId: id('ctl', 'c'),
  siteId: id('site', 'd'),
  processorId: id('prc', '8'),
  region: 'CA-QC',
  host: 'appliance-1',
  seed: random.bytes(32).toString('base64url'),
  enrolmentSeed: random.bytes(32).toString('base64url'),
  serverUrl: 'https://backup.example',
  serverPublicKey: side.key.publicKey.toString('base64url'),
  enrolledAt: isoTime(NOW),
}
const { agentId, key } = agentOf(identity)
const client = serverClient({ transport: side, agentId, key, serverKey: side.key.publicKey, clock, random })
const run = { runId: RUN, kind: 'backup' as const, state: 'ok' as const, startedAt: isoTime(NOW) }
const snapshot = {
  ...{ snapshotId: '5'.repeat(32), runId: RUN, storeId: STORE, series: '3'.repeat(64), source: 'documents', at: isoTime(NOW) },
  ...{ files: 2, bytes: 3000, storedBytes: 2500, tags: [] },
}

const result: BackupResult = {
  outcome: 'done',
  hasFilesOfLast: false,
  problems: [],
  summary: {
    ...{
      files: 2,
      directories: 1,
      others: 0,
      bytes: 3000,
      filesNew: 2,
      filesChanged: 0,
      filesUnchanged: 0,
      bytesRead: 3000,
      bytesInline: 0,
    },
    ...{
      chunksNew: 2,
      chunksReused: 0,
      bytesNew: 3000,
      bytesStored: 2500,
      packs: 1,
      packsResumed: 0,
      segmentsReadBack: 0,
      bytesReadBack: 0,
      problems: 0,
      durationMs: 5,
    },
  },
  snapshot: {
    ref: { random: '5'.repeat(32), session: '6'.repeat(32) },
    writerId: Buffer.alloc(16, 1),
    session: { sessionId: Buffer.alloc(16, 6), contentEpoch: 1, sealedKey: Buffer.alloc(0), commitment: Buffer.alloc(32) },
    ...{ series: Buffer.alloc(32, 0x33), sequence: 1, previous: Buffer.alloc(32), root: '7'.repeat(64) },
    ...{ startedAt: NOW, endedAt: NOW + 1000, files: 2, directories: 1, bytes: 3000 },
    ...{ tags: [Buffer.alloc(32, 9)], lists: [], indexFiles: [] },
  },
}

const told = () => side.requests.map(({ path, json }) => [path, json()])
const openOutbox = (directory: StateDirectory, refused: string[] = []) =>
  outbox({ directory, client, onRefused: (code) => refused.push(code) })

beforeEach(() => {
  side.requests.length = 0
  side.on(paths.runs, timeAnswer(clock))
  side.on(paths.snapshots, timeAnswer(clock))
})

describe('reports that another process hands over', () => {
  it('are sent in order by a daemon that was running before, and once', async () => {
    const fileSystem = crashFileSystem()
    const open = () => openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
    const box = openOutbox(open())
    handOver(open(), RUN, [{ snapshot }, { run }])
    await box.send(signal)
    await box.send(signal)
    expect(told()).toEqual([
      [paths.snapshots, snapshot],
      [paths.runs, run],
    ])
    expect(
      open()
        .names()
        .filter((name) => name.startsWith('reports-')),
    ).toEqual([])
  })

  it('wait while the server is away, and are sent by the next daemon', async () => {
    const fileSystem = crashFileSystem()
    const open = () => openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
    handOver(open(), RUN, [{ snapshot }, { run }])
    side.on(paths.snapshots, problemAnswer(503, 'unavailable'))
    const first = openOutbox(open())
    await expect(first.send(signal)).rejects.toThrow()
    expect(first.waiting()).toBe(2)
    side.on(paths.snapshots, timeAnswer(clock))
    side.requests.length = 0
    await openOutbox(open()).send(signal)
    expect(told().map(([path]) => path)).toEqual([paths.snapshots, paths.runs])
  })

  it('are not lost to a crash at any step of taking them up', async () => {
    for (let step = 1; step < 30; step++) {
      const fileSystem = crashFileSystem()
      const open = () => openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
      handOver(open(), RUN, [{ snapshot }, { run }])
      side.requests.length = 0
      const box = openOutbox(open())
      fileSystem.crashAt(step)
      await box.send(signal).catch((error: unknown) => {
        if (!(error instanceof SimulatedCrash)) throw error
      })
      fileSystem.reboot(0, false)
      await openOutbox(open()).send(signal)
      expect(told()).toContainEqual([paths.snapshots, snapshot])
      expect(told()).toContainEqual([paths.runs, run])
    }
  })
})

const begin = (location: string, fileSystem: FileSystem, path: string) =>
  journalLocalRun({
    fileSystem,
    clock,
    random,
    stateDirectory: Buffer.from(path),
    config: parseAgentConfig(
      JSON.stringify({
        host: 'appliance-1',
        sources: { documents: { paths: ['/srv/documents'] } },
        stores: { [STORE]: { location: '/mnt/store' } },
      }),
      'agent.json',
    ),
    source: {
      label: 'appliance-1:/srv/documents',
      host: 'appliance-1',
      paths: [Buffer.from('/srv/documents')],
      excludes: { patterns: [], cacheDirectories: false, oneFileSystem: false },
    },
    series: '3'.repeat(64),
    location,
    recordKey: Buffer.alloc(32, 7),
  })

describe('a backup at the command line of an enrolled appliance', () => {
  let folder: string
  const open = (): StateDirectory =>
    openStateDirectory({ fileSystem: posixFileSystem, path: Buffer.from(folder), random: seededRandom(`${folder}`) })

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-outbox-'))
    await chmod(folder, 0o700)
    agentState(open()).identity.save(identity)
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('tells the server of its run and its snapshot through the daemon, without a path or a typed tag', async () => {
    begin('/mnt/store', posixFileSystem, folder).done(result)
    await openOutbox(open()).send(signal)
    const [first, second] = told()
    expect(first?.[0]).toBe(paths.snapshots)
    const sent = snapshotReport.parse(first?.[1])
    expect(sent).toMatchObject({
      snapshotId: '5'.repeat(32),
      storeId: STORE,
      series: '33'.repeat(32),
      source: 'documents',
      files: 2,
      tags: [],
    })
    expect(second?.[0]).toBe(paths.runs)
    expect(runReport.parse(second?.[1])).toMatchObject({ runId: sent.runId, kind: 'backup', state: 'ok', source: 'documents' })
    expect(JSON.stringify(told())).not.toContain('/srv')
  })

  it('into a store that the configuration does not name, and one that failed, tells of the run alone', async () => {
    begin('/mnt/elsewhere', posixFileSystem, folder).done(result)
    begin('/mnt/store', posixFileSystem, folder).failed('failed', 'store-unreachable')
    await openOutbox(open()).send(signal)
    expect(told().map(([path]) => path)).toEqual([paths.runs, paths.runs])
    expect(
      told()
        .map(([, json]) => runReport.parse(json))
        .map(({ state, code }) => [state, code])
        .sort(),
    ).toEqual([
      ['failed', 'store-unreachable'],
      ['ok', undefined],
    ])
  })

  it('is told of as it ended, once in the journal and with all its reports, wherever a crash cuts it off after its beginning', async () => {
    const seen = new Set<string>()
    for (let step = 1; ; step++) {
      const fileSystem = crashFileSystem()
      const opened = () => openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
      agentState(opened()).identity.save(identity)
      const begun = begin('/mnt/store', fileSystem, '/state')
      fileSystem.crashAt(step)
      let isCrashed = false
      try {
        begun.done(result)
      } catch (error) {
        if (!(error instanceof SimulatedCrash)) throw error
        isCrashed = true
      }
      fileSystem.reboot(0, false)
      // The daemon that starts then.
      const directory = opened()
      const journal = openJournal({ directory: directory.below('journal'), agentId, key, random })
      const records = recorder({ journal, agent: agentOf(identity), clock })
      endDeadLocalActs(directory, records)
      side.requests.length = 0
      await openOutbox(directory).send(signal)
      const frames = decodeDelivery(journal.read(0)!.bytes).map((frame) => verifyRecord(agentId, key.publicKey, frame))
      const said = frames.flatMap(({ header }) => (header.kind === 'run-ended' ? [header.outcome] : []))
      expect(said, `crash at ${step}`).toHaveLength(1)
      expect(directory.names().filter((name) => /^(local|end|reports)-/.test(name))).toEqual([])
      // Interrupted is what nothing is told of but the record; any other end is told of as the one that it is.
      if (said[0] === 'ok') expect(told().map(([path]) => path)).toEqual([paths.snapshots, paths.runs])
      else expect(told()).toEqual([])
      seen.add(said[0]!)
      if (!isCrashed) break
    }
    expect(seen).toEqual(new Set(['failed', 'ok']))
  })
})
