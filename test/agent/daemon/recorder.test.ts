// Records say who, why, whence and whither, and cannot say a name; recoveries at the appliance's own command line are recorded like others.
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isoTime } from '@holdfast/shared/clock.ts'
import { decodeDelivery, verifyRecord } from '@holdfast/shared/record.ts'
import { parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { agentOf, agentState } from '../../../agent/daemon/agent-state.ts'
import { openJournal, type Journal } from '../../../agent/daemon/journal.ts'
import { endDeadLocalActs } from '../../../agent/daemon/local-act.ts'
import { journalLocalRecovery } from '../../../agent/daemon/local-recovery.ts'
import {
  INTERRUPTED,
  NO_TOTALS,
  recorder,
  requireInstruction,
  type FileAct,
  type RunAct,
  type StartedHeader,
} from '../../../agent/daemon/recorder.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { createTokens } from '../../../agent/repository/snapshot.ts'
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { crashFileSystem } from './_support/crash-file-system.ts'

const random = seededRandom('recorder')
const NOW = 1_800_000_000_000
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const STORE = id('store', 'e')
const recordKey = random.bytes(32)
const identity = {
  ...{
    v: 1 as const,
    agentId: id('ag', 'a'),
    controllerId: id('ctl', 'c'),
    siteId: id('site', 'd'),
    processorId: id('prc', '8'),
    region: 'CA-QC',
    host: 'appliance-1',
  },
  seed: random.bytes(32).toString('base64url'),
  enrolmentSeed: random.bytes(32).toString('base64url'),
  serverUrl: 'https://backup.example',
  serverPublicKey: makeSigningKey(random).publicKey.toString('base64url'),
  enrolledAt: isoTime(NOW),
}
const agent = agentOf(identity)
const act: RunAct = {
  kind: 'run',
  runId: id('run', '1'),
  policyId: id('pol', '2'),
  actor: `policy:${id('pol', '2')}`,
  instructionId: id('ins', 'f'),
  purpose: 'backup',
  source: 'documents',
  series: '3'.repeat(64),
  from: { region: 'CA-QC' },
  to: { region: 'CA-ON', country: 'CA', storeId: STORE },
}
function setUp(limitBytes?: number) {
  const clock = simulatedClock({ startMs: NOW })
  const fileSystem = crashFileSystem()
  const open = () => openStateDirectory({ fileSystem, path: Buffer.from('/state'), random, create: true })
  const openIts = () =>
    openJournal({
      directory: open().below('journal'),
      agentId: agent.agentId,
      key: agent.key,
      random,
      ...(limitBytes === undefined ? {} : { limitBytes }),
    })
  const journal = openIts()
  const records = recorder({ journal, agent, clock })
  const start = (one: RunAct) => {
    const { header } = records.prepare(one)
    records.started(header)
    return header
  }
  return { clock, fileSystem, open, openIts, journal, records, start }
}
const entries = (journal: Journal, after = 0) =>
  decodeDelivery(journal.read(after)!.bytes).map((frame) => verifyRecord(agent.agentId, agent.key.publicKey, frame))
const file = (path: string, more: Partial<FileAct> = {}): FileAct => ({
  path: Buffer.from(path),
  size: 1000,
  newBytes: 900,
  outcome: 'ok',
  ...more,
})

describe('the recorder', () => {
  it('records a run from its beginning over its files to its end, each durable when the call returns', () => {
    const { records, openIts, start } = setUp()
    const header = start(act)
    expect(entries(openIts()).map(({ header }) => header.kind)).toEqual(['run-started'])
    records.files(
      act,
      [
        file('/srv/a'),
        file('/srv/b', { outcome: 'changed' }),
        file('/srv/c', { outcome: 'failed', errno: 'EACCES', size: 0, newBytes: 0 }),
      ],
      recordKey,
    )
    records.ended(header, {
      outcome: 'incomplete',
      code: 'incomplete',
      snapshotId: '5'.repeat(32),
      totals: { ...NO_TOTALS, files: 3, bytes: 123_457 },
    })
    const [started, files, ended] = entries(openIts())
    const { kind: _, ...said } = act
    expect(started!.header).toMatchObject({
      ...said,
      kind: 'run-started',
      agentId: agent.agentId,
      controllerId: agent.controllerId,
      processorId: agent.processorId,
      at: isoTime(NOW),
    })
    expect(files!.header).toMatchObject({
      kind: 'transmission',
      files: { count: 3, bytes: 2048, new: 1856, reused: 192, failed: 1 },
      outcome: 'incomplete',
    })
    expect(files!.files.map(({ outcome, code }) => [outcome, code])).toEqual([
      ['ok', 0],
      ['changed', 0],
      ['failed', constants.errno.EACCES],
    ])
    expect(Buffer.from(files!.files[0]!.token).toString('hex')).toBe(createTokens(recordKey).path(Buffer.from('/srv/a')))
    // 123,457 is told as Padmé lets it be told.
    expect(ended!.header).toMatchObject({ kind: 'run-ended', snapshotId: '5'.repeat(32), totals: { files: 3, bytes: 124_928 } })
  })

  it('puts ten thousand files into a record, no more', () => {
    const { records, journal } = setUp()
    records.files(
      act,
      Array.from({ length: 20_001 }, (_, i) => file(`/srv/${i}`)),
      recordKey,
    )
    expect(entries(journal).map(({ files }) => files.length)).toEqual([10_000, 10_000, 1])
  })

  it('leaves no name in the journal, whatever is given to it', () => {
    const { records, fileSystem, start } = setUp()
    start(act)
    records.files(act, [file('/srv/payroll of the clinic'), file('/srv/x', { errno: 'payroll', outcome: 'failed' })], recordKey)
    expect(fileSystem.allBytes().includes('payroll')).toBe(false)
    expect(() => start({ ...act, source: '/srv/payroll' })).toThrow(expect.objectContaining({ code: 'failed' }))
    expect(() => start({ ...act, path: '/srv/payroll' } as RunAct)).toThrow(expect.objectContaining({ code: 'failed' }))
    expect(fileSystem.allBytes().includes('payroll')).toBe(false)
  })

  it('begins nothing when the journal is full, and can still say how what began ended', () => {
    const { records, start } = setUp(8 * 1024 * 1024 + 3000)
    const header = start(act)
    expect(() => {
      for (;;) records.files(act, [file('/srv/a')], recordKey)
    }).toThrow(expect.objectContaining({ code: 'journal-full' }))
    records.ended(header, { outcome: 'failed', code: 'journal-full', totals: NO_TOTALS })
    expect(() => start(act)).toThrow(expect.objectContaining({ code: 'journal-full' }))
    records.note('journal-full')
  })

  it('knows of an act whether it was begun and whether it ended', () => {
    const { records } = setUp()
    const { header, after } = records.prepare(act)
    expect(records.standOf(header, after)).toBe('not-begun')
    records.started(header)
    records.note('something-else')
    expect(records.standOf(header, after)).toBe('begun')
    records.ended(header, { ...INTERRUPTED, totals: NO_TOTALS })
    expect(records.standOf(header, after)).toBe('ended')
    expect(records.standOf({ ...header, runId: id('run', '7') }, after)).toBe('not-begun')
  })

  it('takes an act as begun whose beginning the server has recorded and the journal dropped', () => {
    const { records, journal, start } = setUp()
    const header = start(act)
    journal.forget(journal.end.seq)
    expect(records.standOf(header, 0)).toBe('begun')
  })

  it.each([undefined, null, ''])('without an instruction (%j) nothing may be done', (none) => {
    expect(() => requireInstruction(none)).toThrow(expect.objectContaining({ code: 'policy', exitCode: 15 }))
  })
})

describe('a recovery at the command line', () => {
  const config = parseAgentConfig(JSON.stringify({ host: 'appliance-1', stores: { [STORE]: { location: '/mnt/store' } } }), 'agent.json')
  function begin(more: { source?: string; limitBytes?: number } = {}) {
    const it_ = setUp(more.limitBytes)
    const state = agentState(it_.open())
    state.identity.save(identity)
    state.policies.save({
      version: 1,
      received: [],
      inForce: [],
      held: [],
      stores: [{ storeId: STORE, kind: 's3', region: 'CA-ON', country: 'CA' }],
    })
    const { fileSystem, clock } = it_
    const options = {
      fileSystem,
      clock,
      random,
      stateDirectory: Buffer.from('/state'),
      config,
      snapshotId: '5'.repeat(32),
      location: '/mnt/store',
      recordKey,
    }
    return {
      ...it_,
      options,
      recovery: journalLocalRecovery({ ...options, ...(more.source === undefined ? {} : { source: more.source }) }),
    }
  }

  it('is recorded before its first byte, by file, and at its end', () => {
    const { recovery, openIts } = begin({ source: 'documents' })
    expect(entries(openIts()).map(({ header }) => header)).toMatchObject([
      {
        kind: 'recovery-started',
        actor: 'local',
        instructionId: null,
        purpose: 'restore',
        source: 'documents',
        from: { storeId: STORE, region: 'CA-ON' },
        to: { region: 'CA-QC' },
      },
    ])
    recovery.files([file('/srv/a'), file('/srv/b', { outcome: 'kept', newBytes: 0 })])
    recovery.ended('ok')
    const [, batch, ended] = entries(openIts())
    expect(batch!.files.map(({ kind, outcome }) => [kind, outcome])).toEqual([
      ['recovery', 'ok'],
      ['recovery', 'kept'],
    ])
    expect(ended!.header).toMatchObject({ kind: 'recovery-ended', outcome: 'ok', totals: { files: 2, unchanged: 1 } })
  })

  it('says no source that is no label: it could be a path', () => {
    const { openIts } = begin({ source: 'host:/srv/payroll' })
    expect(JSON.stringify(entries(openIts())[0]!.header)).not.toContain('payroll')
  })

  it('whose process died is recorded as interrupted, one that is at work is left alone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-local-'))
    const open = (create: boolean) => openStateDirectory({ fileSystem: posixFileSystem, path: Buffer.from(folder), random, create })
    try {
      await chmod(folder, 0o700)
      agentState(open(true)).identity.save(identity)
      const options = {
        fileSystem: posixFileSystem,
        clock: simulatedClock({ startMs: NOW }),
        random,
        stateDirectory: Buffer.from(folder),
        config,
      }
      const alive = journalLocalRecovery({ ...options, snapshotId: '5'.repeat(32), location: '/mnt/store', recordKey })
      const [name] = open(false)
        .names()
        .filter((file) => file.startsWith('local-'))
      // What a process that was killed leaves: its mark, and nobody who holds it.
      const dead = `local-run_${'9'.repeat(32)}.json`
      const { header } = JSON.parse(await readFile(join(folder, name!), 'utf8')) as { header: StartedHeader }
      const others = { ...header, runId: `run_${'9'.repeat(32)}` }
      await writeFile(join(folder, dead), JSON.stringify({ header: others, after: 0 }))
      // One that died before its beginning was journalled.
      const unbegun = { header: { ...header, runId: `run_${'7'.repeat(32)}` }, after: 0 }
      await writeFile(join(folder, `local-${unbegun.header.runId}.json`), JSON.stringify(unbegun))
      await writeFile(join(folder, `local-run_${'8'.repeat(32)}.json`), '{"torn')
      const directory = open(false)
      const journal = openJournal({ directory: directory.below('journal'), agentId: agent.agentId, key: agent.key, random })
      const records = recorder({ journal, agent, clock: options.clock })
      records.started(others)
      endDeadLocalActs(directory, records)
      expect(entries(journal).map(({ header: said }) => [said.kind, 'runId' in said && said.runId])).toEqual([
        ['recovery-started', header.runId],
        ['recovery-started', others.runId],
        ['recovery-ended', others.runId],
      ])
      expect(directory.names().filter((file) => file.startsWith('local-'))).toEqual([name])
      alive.ended('ok')
      expect(directory.names().filter((file) => file.startsWith('local-'))).toEqual([])
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('on an appliance that is not enrolled is refused before anything is read', () => {
    const { fileSystem, clock } = setUp()
    const options = {
      fileSystem,
      clock,
      random,
      stateDirectory: Buffer.from('/state'),
      config,
      snapshotId: '5'.repeat(32),
      location: '/x',
      recordKey,
    }
    expect(() => journalLocalRecovery(options)).toThrow(expect.objectContaining({ code: 'not-found' }))
  })
})
