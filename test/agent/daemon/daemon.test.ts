// The daemon against the real server application, with real engines on real files: backs up by policy, records it, restores what was granted and
// nothing else, and goes on after every kind of interruption (O4, O6, O14).
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { recordHeader } from '@holdfast/shared/protocol/records.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { openJournal } from '../../../agent/daemon/journal.ts'
import { parseSegmentName } from '../../../agent/daemon/journal-format.ts'
import { acceptPolicy } from '../../../agent/daemon/status.ts'
import type { Engines } from '../../../agent/daemon/parts.ts'
import { FileError, type Descriptor, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { makeCustomer, type Customer } from './_support/appliance.ts'

const SECRET_NAME = 'payroll-of-the-clinic.txt'
/** Long enough not to stand in the tree itself. */
const SECRET_TEXT = 'nobody may read this on the way; '.repeat(20)
let customer: Customer
let daemon: ReturnType<Customer['start']> | undefined

beforeEach(async () => {
  customer = await makeCustomer({ [SECRET_NAME]: SECRET_TEXT, 'letter.txt': 'dear reader, '.repeat(40) })
  daemon = undefined
})
afterEach(async () => {
  await daemon?.stop()
  await customer.close()
})

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 45_000, interval: 20 })
const recordKinds = async (): Promise<string[]> => {
  await customer.drain()
  const reply = await customer.server.call('GET', `/v1/records?agentId=${customer.ids.agentId}&limit=500`, customer.token)
  const items = reply.json()['items'] as { kind: string; recordedAt: string | null }[]
  return items
    .filter(({ recordedAt }) => recordedAt !== null)
    .map(({ kind }) => kind)
    .reverse()
}
const snapshots = async (): Promise<{ id: string; series: string }[]> => {
  const reply = await customer.server.call('GET', `/v1/snapshots?agentId=${customer.ids.agentId}`, customer.token)
  return reply.json()['items'] as { id: string; series: string }[]
}
const restoreState = async (id: string): Promise<{ state: string; code: string | null; totals: unknown }> => {
  await customer.drain()
  return (await customer.server.call('GET', `/v1/restores/${id}`, customer.token)).json() as never
}
const backedUp = async (runs = 1): Promise<string> => {
  await customer.collect()
  const { id: policyId } = await customer.makePolicy()
  await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
  daemon ??= customer.start()
  await until(async () => expect(await snapshots()).toHaveLength(runs))
  await until(async () => expect(await recordKinds()).toContain('run-ended'))
  return policyId
}

describe('a backup by policy', () => {
  it('is followed by what its snapshot needs, told to the server, and by a collection where a policy says what stays', async () => {
    await customer.collect()
    const { id: policyId } = await customer.makePolicy({ retention: { daily: 7 } })
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    daemon = customer.start()
    await until(() => {
      expect(customer.status().collections).toMatchObject([{ storeId: customer.ids.storeId, forgotten: 0, namedObjects: 0 }])
    })
    const { snapshots: known } = await customer.server.records.booksOf({ storeId: customer.ids.storeId })
    expect(known).toMatchObject([{ agentId: customer.ids.agentId, sequence: 1, deleted: false }])
    expect(customer.status().alarms).toEqual([])
  })

  it('whose collection finds a record that does not open raises an alarm that names it', async () => {
    const name = `lists/forgets/${'a'.repeat(32)}-${'b'.repeat(32)}`
    await mkdir(customer.at('store/lists/forgets'), { recursive: true })
    await writeFile(customer.at(`store/${name}`), Buffer.alloc(300, 7))
    await customer.collect()
    const { id: policyId } = await customer.makePolicy({ retention: { daily: 7 } })
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    daemon = customer.start()
    await until(() => {
      expect(customer.status().collections).toMatchObject([{ storeId: customer.ids.storeId, namedObjects: 0 }])
      expect(customer.status().alarms).toMatchObject([{ code: `unopened-${customer.ids.storeId}`, message: expect.stringContaining(name) }])
    })
  })

  it('whose collection is cut off when the daemon is stopped ends the daemon as any stop does', async () => {
    await customer.collect()
    const { id: policyId } = await customer.makePolicy({ retention: { daily: 7 } })
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    const begun = Promise.withResolvers<void>()
    const collect: Engines['collect'] = async ({ signal }) => {
      begun.resolve()
      await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
      throw new Error('it never ends by itself')
    }
    daemon = customer.start({ engines: { collect } })
    await begun.promise
    await daemon.stop()
    expect(customer.status()).toMatchObject({ state: 'stopped', alarms: [] })
  })

  it('is carried out, recorded and reported, and no name or content reaches server or journal', async () => {
    const policyId = await backedUp()
    expect(await recordKinds()).toEqual(['run-started', 'transmission', 'run-ended'])
    await until(() => {
      const status = customer.status()
      expect(status).toMatchObject({ state: 'running', hasBundle: true, lastRun: { outcome: 'ok' }, alarms: [], journal: { pending: 0 } })
      expect(status.policies).toMatchObject([{ policyId, lastOutcome: 'ok', lastCode: null, refused: null }])
      expect(Date.parse(status.policies[0]!.nextDueAt!)).toBeGreaterThan(Date.parse(status.lastGoodAt!))
    })
    await daemon?.stop()
    daemon = undefined
    expect(customer.status().state).toBe('stopped')
    // The roster that the server relayed is where the other readers look for it.
    expect(await readdir(customer.at('store/rosters'))).toHaveLength(1)
    for (const place of ['state/journal', 'store/packs', 'store/snapshots', 'store/index'])
      for (const file of await readdir(customer.at(place), { recursive: true, withFileTypes: true })) {
        if (!file.isFile()) continue
        const bytes = await readFile(join(file.parentPath, file.name))
        for (const secret of [SECRET_NAME, SECRET_TEXT]) expect(bytes.includes(secret), `${place} holds ${secret}`).toBe(false)
      }
    const database = await readFile(customer.server.databasePath)
    const log = await readFile(`${customer.server.databasePath}-wal`).catch(() => Buffer.alloc(0))
    for (const secret of [SECRET_NAME, 'letter.txt', SECRET_TEXT, customer.at('source')])
      expect(Buffer.concat([database, log]).includes(secret)).toBe(false)
  })

  it('leaves the journal empty once the server has recorded everything', async () => {
    await backedUp()
    await until(async () => {
      await customer.drain()
      const { journal } = customer.status()
      expect(journal).toMatchObject({ lastSeq: 3, acceptedThrough: 3, recordedThrough: 3 })
      const [segment] = (await readdir(customer.at('state/journal'))).filter((name) => name.startsWith('segment-'))
      expect(segment).toBe('segment-0000000000000004')
    })
  })

  it('that failed is recorded as failed and tried again, and raises an alarm until it is well', async () => {
    await customer.collect()
    const fail: Engines['backup'] = () => Promise.reject(new HoldfastError('source-empty', 'the source is suddenly empty'))
    const { id: policyId } = await customer.makePolicy()
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    daemon = customer.start({ engines: { backup: fail } })
    await until(() => {
      const { policies, alarms } = customer.status()
      expect(policies.find((policy) => policy.policyId === policyId)).toMatchObject({
        lastOutcome: 'failed',
        lastCode: 'source-empty',
        lastGoodAt: null,
      })
      expect(alarms.map(({ code }) => code)).toContain(`backup-${policyId}`)
    })
    await until(async () => expect(await recordKinds()).toEqual(['run-started', 'run-ended']))
  })

  it('stopped in the middle says so in the journal and is taken up again at the next start', async () => {
    await customer.collect()
    const { id: policyId } = await customer.makePolicy()
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    let began: (() => void) | undefined
    const beginning = new Promise<void>((resolve) => (began = resolve))
    const hang: Engines['backup'] = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        began?.()
      })
    daemon = customer.start({ engines: { backup: hang } })
    await beginning
    await daemon.stop()
    daemon = undefined
    expect(customer.state.runs.load()?.[policyId]).toMatchObject({ lastOutcome: 'failed', lastCode: 'interrupted', failures: 1 })
    expect(customer.state.current.load()).toBeUndefined()
    daemon = customer.start()
    await until(async () => expect(await recordKinds()).toEqual(['run-started', 'run-ended']))
  })

  it("goes on by the agent's own clock while the server is away, and its records catch up", async () => {
    const policyId = await backedUp()
    await daemon?.stop()
    customer.state.runs.save({ [policyId]: { lastStartMs: 1_700_000_000_000, failures: 0 } })
    let isAway = true
    const { transport } = customer
    const away: typeof transport = {
      ...transport,
      send: (request) => (isAway ? Promise.reject(new HoldfastError('server-unreachable', 'the server is away')) : transport.send(request)),
    }
    daemon = customer.start({ transport: away })
    await until(() =>
      expect(customer.status()).toMatchObject({
        lastRun: { outcome: 'ok' },
        journal: { lastSeq: 5, pending: 2 },
        server: { error: 'the server is away' },
      }),
    )
    isAway = false
    // Nothing of the unchanged files was transmitted; the run is recorded all the same.
    await until(async () => expect(await recordKinds()).toEqual(['run-started', 'transmission', 'run-ended', 'run-started', 'run-ended']))
    await until(async () => expect(await snapshots()).toHaveLength(2))
  })

  it('that a kill cut off is recorded as interrupted at the next start, and tried again', async () => {
    const policyId = await backedUp()
    await daemon?.stop()
    const { agentId, controllerId, processorId } = customer.agent()
    const header = {
      ...{
        v: 1,
        kind: 'run-started',
        agentId,
        controllerId,
        processorId,
        policyId,
        actor: `policy:${policyId}`,
        purpose: 'backup',
        source: 'documents',
      },
      instructionId: customer.ids.instructionId,
      at: '2026-01-01T00:00:00.000Z',
      runId: `run_${'7'.repeat(32)}`,
      from: { region: 'CA-QC' },
      to: { region: 'CA-ON' },
    }
    const { key } = customer.agent()
    const journal = openJournal({ directory: customer.directory.below('journal'), agentId, key, random: systemRandom })
    customer.state.current.save({ header, startedAt: header.at, after: journal.end.seq })
    journal.append(() => ({ header: recordHeader.parse(header), body: Buffer.alloc(0) }))
    daemon = customer.start()
    await until(async () => expect(await recordKinds()).toEqual(['run-started', 'transmission', 'run-ended', 'run-started', 'run-ended']))
    expect(customer.state.runs.load()?.[policyId]).toMatchObject({ lastOutcome: 'failed', lastCode: 'interrupted', failures: 1 })
    const run = await customer.server.call('GET', `/v1/runs/${header.runId}`, customer.token)
    expect(run.json()).toMatchObject({ state: 'failed', code: 'interrupted' })
  })

  it('whose end finds no room in the journal is ended there before the next one begins', async () => {
    await customer.collect()
    const { id: policyId } = await customer.makePolicy()
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    const segments = new Set<Descriptor>()
    let isFull = false
    const fileSystem: FileSystem = {
      ...posixFileSystem,
      open: (at, name, how) => {
        const fd = posixFileSystem.open(at, name, how)
        if (how === 'update' && parseSegmentName(name.toString()) !== undefined) segments.add(fd)
        else segments.delete(fd)
        return fd
      },
      write: (fd, bytes, position) => {
        if (isFull && segments.has(fd)) throw new FileError('write', 'ENOSPC')
        return posixFileSystem.write(fd, bytes, position)
      },
    }
    const backup: Engines['backup'] = async () => {
      isFull = customer.state.runs.load()?.[policyId]?.lastEndMs === undefined
      throw new HoldfastError('store-unreachable', 'the store is away')
    }
    daemon = customer.start({ fileSystem, engines: { backup } })
    await until(() => expect(customer.state.runs.load()?.[policyId]).toMatchObject({ failures: 1, lastCode: 'journal-full' }))
    await until(() => expect(customer.status().alarms).toMatchObject([{ code: 'backup-' + policyId }, { code: 'journal-full' }]))
    isFull = false
    await customer.made(`/v1/agents/${customer.ids.agentId}/backup-now`, { policyId })
    await until(async () => expect(await recordKinds()).toEqual(['run-started', 'run-ended', 'run-started', 'run-ended']))
    expect(customer.state.current.load()).toBeUndefined()
    expect(customer.status().alarms).toMatchObject([{ code: 'backup-' + policyId }])
  })

  it('does not happen twice at once: a second daemon on the same state is refused', async () => {
    await customer.collect()
    daemon = customer.start()
    await until(() => expect(customer.status().state).toBe('running'))
    await expect(customer.start().running).rejects.toMatchObject({ code: 'conflict' })
  })
})

describe('a policy that narrows protection', () => {
  it('is held and told until a person here agrees to that very version', async () => {
    const policyId = await backedUp()
    const patch = await customer.server.call('PATCH', `/v1/policies/${policyId}`, customer.administrator, { enabled: false })
    expect(patch.status).toBe(200)
    await until(() => expect(customer.status().held).toEqual([{ policyId, reason: 'it was disabled' }]))
    const status = customer.status()
    expect(status.policies).toMatchObject([{ policyId, enabled: true }])
    expect(status.alarms).toMatchObject([
      { code: 'policy-narrowed', message: expect.stringContaining(`--accept-policy ${status.policiesVersion}`) as string },
    ])
    expect(() => acceptPolicy(customer.directory, status.policiesVersion - 1, '2027-01-01T00:00:00.000Z')).toThrow(
      expect.objectContaining({ code: 'conflict' }),
    )
    acceptPolicy(customer.directory, status.policiesVersion, '2027-01-01T00:00:00.000Z')
    await daemon?.stop()
    daemon = customer.start()
    await until(() => expect(customer.status()).toMatchObject({ held: [], policies: [{ policyId, enabled: false }] }))
    await until(async () => expect(await recordKinds()).toContain('agent-note'))
  })
})

describe('a restore through the server', () => {
  it('happens only with a grant, into the configured root, and is recorded before its first byte', async () => {
    await backedUp()
    const [snapshot] = await snapshots()
    const { id } = await customer.askRestore({ snapshotId: snapshot!.id }, 'first-request')
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'awaiting_grant' }))
    expect(await readdir(customer.at('restored'))).toEqual([])
    expect(customer.state.restore(id).load()).toMatchObject({ keySent: true, seed: expect.any(String) as string })
    await customer.put(`/v1/restores/${id}/grant`, await customer.grant(id, snapshot!.id))
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'completed' }))
    expect(await readFile(join(customer.at('restored'), customer.at('source'), SECRET_NAME), 'utf8')).toBe(SECRET_TEXT)
    expect(await restoreState(id)).toMatchObject({ totals: { files: 2, failed: 0 }, code: null })
    await until(async () => expect((await recordKinds()).slice(3)).toEqual(['recovery-started', 'recovery', 'recovery-ended']))
    // The key of the request is gone with it.
    await until(() => expect(customer.state.restore(id).load()).toBeUndefined())
  })

  it.each([
    ['for another agent', { agentId: `ag_${'9'.repeat(32)}` }],
    ['for another tree', { root: '7'.repeat(64) }],
    ['that has expired', { issuedAt: 1_000_000, expiresAt: 2_000_000 }],
  ])('with a grant %s opens nothing and writes nothing', async (_, changes) => {
    await backedUp()
    const [snapshot] = await snapshots()
    const { id } = await customer.askRestore({ snapshotId: snapshot!.id }, 'second-request')
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'awaiting_grant' }))
    await customer.put(`/v1/restores/${id}/grant`, await customer.grant(id, snapshot!.id, changes))
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'failed', code: 'grant-refused' }))
    expect(await readdir(customer.at('restored'))).toEqual([])
    expect(await recordKinds()).toEqual(['run-started', 'transmission', 'run-ended'])
  })

  it('into a root that the appliance does not have is refused', async () => {
    await backedUp()
    const [snapshot] = await snapshots()
    const reply = await customer.server.call(
      'POST',
      '/v1/restores',
      customer.token,
      {
        agentId: customer.ids.agentId,
        snapshotId: snapshot!.id,
        selection: { whole: true },
        restoreRoot: 'elsewhere',
        purpose: 'restore',
        instructionId: customer.ids.instructionId,
      },
      { 'idempotency-key': 'third-request' },
    )
    // The server may know already that there is no such root; the agent refuses on its own where it does not.
    if (reply.status >= 400) return
    await until(async () => expect(await restoreState(reply.json().id)).toMatchObject({ state: 'failed', code: 'policy' }))
  })

  it('that is cancelled while it waits for its grant leaves no key behind', async () => {
    await backedUp()
    const [snapshot] = await snapshots()
    const { id } = await customer.askRestore({ snapshotId: snapshot!.id }, 'fourth-request')
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'awaiting_grant' }))
    const cancelled = await customer.server.call('POST', `/v1/restores/${id}/cancel`, customer.token)
    expect(cancelled.status).toBeLessThan(300)
    await until(() => expect(customer.state.restore(id).load()).toBeUndefined())
  })

  it('that is cancelled while it runs stops writing, and its end is recorded as cancelled', async () => {
    await customer.collect()
    let signal: AbortSignal | undefined
    const hang: Engines['restore'] = (work) =>
      new Promise((_, reject) => {
        signal = work.signal
        work.signal.addEventListener('abort', () => reject(work.signal.reason))
      })
    daemon = customer.start({ engines: { restore: hang } })
    await backedUp()
    const [snapshot] = await snapshots()
    const { id } = await customer.askRestore({ snapshotId: snapshot!.id }, 'fifth-request')
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'awaiting_grant' }))
    await customer.put(`/v1/restores/${id}/grant`, await customer.grant(id, snapshot!.id))
    await until(() => expect(signal).toBeDefined())
    await customer.server.call('POST', `/v1/restores/${id}/cancel`, customer.token)
    await until(() => expect(signal!.aborted).toBe(true))
    await until(async () => expect((await recordKinds()).slice(3)).toEqual(['recovery-started', 'recovery-ended']))
    expect(customer.status().lastRun).toMatchObject({ outcome: 'cancelled' })
  })

  it('that could not read everything from the store tells what it restored, here and in its record', async () => {
    await customer.collect()
    const partly: Engines['restore'] = (work) => {
      const file = { size: 5, newBytes: 5 } as const
      work.onFiles([
        { path: Buffer.from('/there'), ...file, outcome: 'ok' },
        { path: Buffer.from('/unread'), ...file, newBytes: 0, outcome: 'failed' },
      ])
      return Promise.reject(new HoldfastError('unread', 'the store holds it and does not give it'))
    }
    daemon = customer.start({ engines: { restore: partly } })
    await backedUp()
    const [snapshot] = await snapshots()
    const { id } = await customer.askRestore({ snapshotId: snapshot!.id }, 'sixth-request')
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'awaiting_grant' }))
    await customer.put(`/v1/restores/${id}/grant`, await customer.grant(id, snapshot!.id))
    await until(async () => expect(await restoreState(id)).toMatchObject({ state: 'failed', code: 'unread' }))
    expect(await restoreState(id)).toMatchObject({ totals: { files: 2, failed: 1, newBytes: 5 } })
    await until(async () => expect((await recordKinds()).slice(3)).toEqual(['recovery-started', 'recovery', 'recovery-ended']))
  })
})

describe('the domain bundle', () => {
  it('is accepted only for the domain that a person named', async () => {
    await expect(customer.collect({ domain: 'aaaa-bbbb-cccc' })).rejects.toMatchObject({ code: 'wrong-key' })
    await expect(customer.collect({ domain: undefined })).rejects.toMatchObject({ code: 'policy' })
    await expect(customer.collect({ domain: undefined, confirm: () => Promise.resolve(false) })).rejects.toMatchObject({ code: 'policy' })
    const asked: string[] = []
    const found = await customer.collect({
      domain: undefined,
      confirm: (fingerprint) => {
        asked.push(fingerprint)
        return Promise.resolve(true)
      },
    })
    expect(asked).toEqual([customer.fingerprint])
    expect(found.repository).toBe(customer.at('store'))
  })

  it('is not kept where the store is refused', async () => {
    const examine = (): Promise<void> => Promise.reject(new HoldfastError('store-unsuitable', 'it lets itself be overwritten'))
    await expect(customer.collect({ examine })).rejects.toMatchObject({ code: 'store-unsuitable' })
    expect(customer.directory.names()).not.toContain('bundle')
  })

  it('of another domain, sent later by the server, changes nothing', async () => {
    await customer.collect()
    daemon = customer.start()
    await until(() => expect(customer.status().hasBundle).toBe(true))
    const before = await readFile(customer.at('state/bundle'))
    await customer.put(`/v1/agents/${customer.ids.agentId}/bundle`, Buffer.alloc(3000, 7))
    await until(() => expect(customer.status().alarms.map(({ code }) => code)).toContain('bundle-refused'))
    expect(await readFile(customer.at('state/bundle'))).toEqual(before)
  })
})

describe('an enrolment', () => {
  it('shows the fingerprint that the server shows, and a code is good once', async () => {
    const shown = await customer.server.call('GET', `/v1/agents/${customer.ids.agentId}`, customer.token)
    expect(shown.json()['fingerprint']).toBe(customer.enrolled.fingerprint)
    expect(customer.enrolled.agent.region).toBe('CA-QC')
  })
})
