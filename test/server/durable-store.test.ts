// The contract of the durable store, run on every implementation: durable before it answers, all or nothing, append-only where it says so.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Records } from 'holdfast-server/records/records.ts'
import type { AgentRow, CommandRow, RecordDelivered, RestoreRow } from 'holdfast-server/records/rows.ts'
import { MIGRATIONS } from 'holdfast-server/records/sqlite/migrations.ts'
import { openSqliteRecords } from 'holdfast-server/records/sqlite-records.ts'
import { encodeFileRecords, FIRST_PREVIOUS, openRecord, signRecord } from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { fileRecord } from '../_support/fake-agent.ts'
import { SAMPLE, transmissionHeader } from '../_support/record-headers.ts'
import { seededRandom } from '../_support/seeded-random.ts'

const IMPLEMENTATIONS = [['SQLite', openSqliteRecords]] as const
const random = seededRandom('durable store')
const seed = random.bytes(32)
const key = signingKey(seed)
const { agentId, controllerId } = SAMPLE
let folder: string
let path: string
let records: Records

describe.each(IMPLEMENTATIONS)('%s', (_, open) => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-records-'))
    path = join(folder, 'holdfast.db')
    records = await open(path)
    await fill()
  })
  afterEach(async () => {
    await records.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('keeps everything over a close and an open', async () => {
    const before = await records.get({ table: 'agents', id: agentId })
    await records.close()
    records = await open(path)
    expect(await records.get({ table: 'agents', id: agentId })).toEqual(before)
  })

  it('refuses a second row of one id and a row that refers to nothing, without harm to what is committed with it', async () => {
    const site = (n: number, controller = controllerId) => ({
      id: `site_${String(n).padStart(32, '0')}`,
      createdAt: n,
      controllerId: controller,
      name: 'S',
      region: 'CA',
    })
    const results = await Promise.allSettled([
      ...Array.from({ length: 600 }, (_unused, n) => records.insert({ table: 'sites', row: site(n + 10) })),
      records.insert({ table: 'sites', row: site(10) }),
      records.insert({ table: 'sites', row: site(9999, `ctl_${'9'.repeat(32)}`) }),
    ])
    expect(results.slice(0, 600).every((result) => result.status === 'fulfilled')).toBe(true)
    expect(results.slice(600)).toMatchObject([{ reason: { code: 'already-exists' } }, { reason: { code: 'not-found' } }])
    expect((await records.list({ table: 'sites', where: {}, limit: 1000 })).items).toHaveLength(601)
  })

  it('writes an audit line with the act, and none with an act that failed', async () => {
    const audit = { id: 'req_1', at: 5, actor: 'user:x', action: 'site.add', target: 't', controllerId }
    const row = { id: `site_${'5'.repeat(32)}`, createdAt: 1, controllerId, name: 'S', region: 'CA' }
    await records.insert({ table: 'sites', row }, audit)
    await expect(records.insert({ table: 'sites', row }, audit)).rejects.toMatchObject({ code: 'already-exists' })
    expect((await records.list({ table: 'audit', where: {}, limit: 10 })).items).toEqual([
      { id: 'req_1', createdAt: 5, actor: 'user:x', action: 'site.add', target: 't', controllerId },
    ])
  })

  it('changes a row only where the condition still holds', async () => {
    expect(await records.update({ table: 'agents', id: agentId, patch: { host: 'b' }, where: { host: 'other' } })).toBeUndefined()
    expect(await records.update({ table: 'agents', id: agentId, patch: { host: 'b' }, where: { host: ['a', 'c'] } })).toMatchObject({
      host: 'b',
    })
  })

  it('pages newest first without loss or repetition while rows are added', async () => {
    for (let n = 0; n < 5; n++)
      await records.insert({
        table: 'sites',
        row: { id: `site_${String(n).repeat(32)}`, createdAt: n, controllerId, name: String(n), region: 'CA' },
      })
    const first = await records.list({ table: 'sites', where: { controllerId }, limit: 2 })
    await records.insert({ table: 'sites', row: { id: `site_${'9'.repeat(32)}`, createdAt: 9, controllerId, name: '9', region: 'CA' } })
    const second = await records.list({ table: 'sites', where: { controllerId }, limit: 10, after: first.next! })
    expect([...first.items, ...second.items].map((row) => row.name)).toEqual(['4', '3', '2', '1', '0', 'S'])
    expect(second.next).toBeNull()
  })

  it('continues a chain, passes what it has, tells of gaps and keeps forks', async () => {
    const [one, two, three] = chain(3)
    expect(await records.acceptRecords({ agentId, at: 1, records: [one!, two!] })).toMatchObject({
      kind: 'accepted',
      through: 2,
      hash: two!.entryHash,
    })
    expect(await records.acceptRecords({ agentId, at: 1, records: [one!, two!, three!] })).toMatchObject({ kind: 'accepted', through: 3 })
    const [, , , , five] = chain(5)
    expect(await records.acceptRecords({ agentId, at: 1, records: [five!] })).toMatchObject({ kind: 'gap', expectedSeq: 4 })
    const [other] = chain(1)
    expect(await records.acceptRecords({ agentId, at: 1, records: [other!] })).toMatchObject({ kind: 'fork', seq: 1, through: 3 })
    expect(await records.listForks({ agentId })).toMatchObject([{ seq: 1, entryHash: other!.entryHash }])
  })

  it('gives records back byte by byte', async () => {
    const [one] = chain(1, [fileRecord(random.bytes(32))])
    await records.acceptRecords({ agentId, at: 7, records: [one!] })
    const { opened: __, ...bytes } = one!
    expect(await records.getRecord({ agentId, seq: 1 })).toMatchObject({
      ...bytes,
      controllerId,
      kind: 'transmission',
      files: 1,
      receivedAt: 7,
      recordedAt: null,
    })
  })

  it('delivers a command until it is acknowledged, and a restore command under one lease', async () => {
    await records.createRestore({ row: restoreRow(), owner: 'o', key: 'k', bodyHash: 'h' })
    await records.moveRestore({ id: restoreRow().id, from: ['requested'], patch: { state: 'granted' }, command: commandRow() })
    const claim = (at: number, leaseId: string) => records.claimCommands({ agentId, at, again: at - 30, leaseId, leaseUntil: at + 90 })
    expect(await claim(100, 'first')).toMatchObject([{ body: { leaseId: 'first', leaseUntil: 190 } }])
    expect(await claim(110, 'second')).toEqual([])
    expect(await claim(130, 'third')).toMatchObject([{ body: { leaseId: 'first', leaseUntil: 220 } }])
    const beat = {
      id: restoreRow().id,
      agentId,
      progress: { done: { files: 0, bytes: 0 }, total: { files: 1, bytes: 1 }, at: 140 },
      leaseUntil: 230,
    }
    expect(await records.beatRestore({ ...beat, leaseId: 'third' })).toBeUndefined()
    expect(await records.beatRestore({ ...beat, leaseId: 'first' })).toMatchObject({ state: 'running', leaseUntil: 230 })
    expect(await claim(200, 'fourth')).toEqual([])
  })

  it('gives the same restore for the same key and body only', async () => {
    expect(await records.createRestore({ row: restoreRow(), owner: 'o', key: 'k', bodyHash: 'h' })).toMatchObject({ created: true })
    const again = { ...restoreRow(), id: `rst_${'2'.repeat(32)}` }
    expect(await records.createRestore({ row: again, owner: 'o', key: 'k', bodyHash: 'h' })).toMatchObject({
      created: false,
      restore: { id: restoreRow().id },
    })
    await expect(records.createRestore({ row: again, owner: 'o', key: 'k', bodyHash: 'other' })).rejects.toMatchObject({
      code: 'unprocessable',
    })
    expect(await records.createRestore({ row: again, owner: 'another', key: 'k', bodyHash: 'h' })).toMatchObject({ created: true })
  })

  it('moves a restore once, whoever comes second, and closes its job at the end', async () => {
    await records.createRestore({ row: restoreRow(), owner: 'o', key: 'k', bodyHash: 'h' })
    const { id } = restoreRow()
    const both = await Promise.all(
      ['cancelled', 'preparing'].map((state) =>
        records.moveRestore({ id, from: ['requested'], patch: { state: state as 'cancelled', updatedAt: 2 } }),
      ),
    )
    expect(both.filter((moved) => moved !== undefined)).toHaveLength(1)
    expect((await records.openJobs({ limit: 10 })).items).toEqual([])
  })

  it('copies itself while it is written to, and the copy is sound', async () => {
    const writes = Promise.all(Array.from({ length: 200 }, (_unused, n) => records.initSetting({ name: `n${n}`, value: 'v' })))
    const copy = join(folder, 'copy.db')
    await records.backup(copy)
    await writes
    const opened = await open(copy)
    expect(await opened.get({ table: 'agents', id: agentId })).toMatchObject({ id: agentId })
    await opened.close()
  })

  it('answers with an error, and not never, after it was closed', async () => {
    await records.close()
    await expect(records.ping({})).rejects.toMatchObject({ name: 'HoldfastError' })
  })
})

describe('SQLite alone', () => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-records-'))
    path = join(folder, 'holdfast.db')
    records = await openSqliteRecords(path)
    await fill()
  })
  afterEach(async () => {
    await records.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('refuses to change or remove what was signed, even past this program', async () => {
    await records.acceptRecords({ agentId, at: 1, records: chain(1) })
    await records.insert(
      { table: 'sites', row: { id: `site_${'5'.repeat(32)}`, createdAt: 1, controllerId, name: 'S', region: 'CA' } },
      { id: 'r', at: 1, actor: 'a', action: 'b', target: 'c', controllerId },
    )
    const raw = new DatabaseSync(path)
    for (const column of ['seq', 'prev', 'sig', 'entry_hash', 'secret', 'header', 'body', 'agent_id', 'received_at']) {
      expect(() => raw.exec(`UPDATE record_frames SET ${column} = x'00'`), column).toThrow('append-only')
    }
    for (const sql of ['DELETE FROM record_frames', 'DELETE FROM audit', "UPDATE audit SET actor = 'x'"])
      expect(() => raw.exec(sql), sql).toThrow('append-only')
    raw.exec('UPDATE record_frames SET recorded_at = 1')
    expect(() => raw.exec('UPDATE record_frames SET recorded_at = NULL')).toThrow('append-only')
    raw.close()
  })

  it('says of agents that were revoked before that was kept when it was, by the audit, or that it was before now', async () => {
    const old = join(folder, 'old.db')
    const raw = new DatabaseSync(old)
    raw.exec(MIGRATIONS.slice(0, 3).join(''))
    raw.exec('PRAGMA user_version = 3; PRAGMA foreign_keys = OFF')
    const columns = raw.prepare("SELECT name FROM pragma_table_info('agents') WHERE name NOT IN ('n', 'revoked_at', 'incident')").all()
    const names = columns.map(({ name }) => String(name))
    const [audited, unaudited, active] = ['1', '2', '3'].map((n) => `ag_${n.repeat(32)}`)
    for (const id of [audited, unaudited, active]) {
      const known: Record<string, string | number> = {
        id: id!,
        state: id === active ? 'active' : 'revoked',
        sources: '[]',
        restore_roots: '[]',
      }
      const values = names.map((name) => known[name] ?? (name === 'public_key' ? id! : 1))
      raw.prepare(`INSERT INTO agents (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`).run(...values)
    }
    for (const at of [70, 90])
      raw
        .prepare("INSERT INTO audit (id, created_at, actor, action, target) VALUES ('req', ?, 'user', 'agent.revoke', ?)")
        .run(at, audited!)
    raw.close()
    const opened = await openSqliteRecords(old)
    const revokedAt = async (id: string) => (await opened.get({ table: 'agents', id }))?.revokedAt
    expect(await revokedAt(audited!)).toBe(70)
    // Later is safe: what was stored before may be its.
    expect(await revokedAt(unaudited!)).toBeGreaterThan(1_700_000_000_000)
    expect(await revokedAt(active!)).toBe(null)
    await opened.close()
  })

  it('refuses a database of a newer program, and a file that is none', async () => {
    const newer = join(folder, 'newer.db')
    const raw = new DatabaseSync(newer)
    raw.exec('PRAGMA user_version = 99')
    raw.close()
    await expect(openSqliteRecords(newer)).rejects.toMatchObject({ code: 'newer-format' })
    writeFileSync(join(folder, 'rubbish.db'), Buffer.alloc(8192, 7))
    await expect(openSqliteRecords(join(folder, 'rubbish.db'))).rejects.toMatchObject({ code: 'damaged' })
    await expect(openSqliteRecords(join(folder, 'nowhere', 'x.db'))).rejects.toMatchObject({ code: 'local-disk' })
  })

  it('loses no record that it answered for when its process is killed, and the chain goes on', async () => {
    await records.close()
    for (let round = 0; round < 3; round++) {
      const told = await killedWriter(20 + round * 7)
      records = await openSqliteRecords(path)
      const agent = (await records.get({ table: 'agents', id: agentId }))!
      expect(agent.lastSeq).toBeGreaterThanOrEqual(told)
      const all = (await records.listRecords({ agentId, limit: 10_000 })).items.toReversed()
      let prev = FIRST_PREVIOUS
      for (const [index, record] of all.entries()) {
        expect([record.seq, record.prev]).toEqual([index + 1, prev])
        prev = openRecord(agentId, key.publicKey, record).hash
      }
      expect([all.length, prev]).toEqual([agent.lastSeq, agent.lastHash])
      expect((await records.openJobs({ limit: 10_000 })).items).toHaveLength(agent.lastSeq)
      if (round < 2) await records.close()
    }
  })
})

/** Runs the writer until it told of `count` records, then kills it without warning; the last sequence number that it told. */
function killedWriter(count: number): Promise<number> {
  const writer = join(import.meta.dirname, '../_support/record-writer.ts')
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', writer, path, agentId, seed.toString('hex')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (data: Buffer) => {
    text += data.toString()
    if (text.split('\n').length > count) child.kill('SIGKILL')
  })
  return new Promise((resolve) => child.once('close', () => resolve(Number(text.trimEnd().split('\n').at(-1)))))
}

async function fill(): Promise<void> {
  const made = { createdAt: 1 }
  await records.insert({
    table: 'controllers',
    row: { id: controllerId, ...made, name: 'C', countries: ['CA'], approval: 'none', rosterVersion: 0 },
  })
  await records.insert({ table: 'sites', row: { id: `site_${'0'.repeat(31)}1`, ...made, controllerId, name: 'S', region: 'CA-QC' } })
  const scope = { agentIds: [], sources: [] }
  await records.insert({
    table: 'instructions',
    row: {
      id: SAMPLE.instructionId,
      ...made,
      controllerId,
      kind: 'standing',
      author: 'A',
      channel: 'contract',
      scope,
      purposes: ['backup'],
      textHash: 'a'.repeat(64),
      validFrom: 1,
      validTo: null,
      enteredByProcessor: false,
    },
  })
  const agent: AgentRow = {
    id: agentId,
    ...made,
    controllerId,
    siteId: `site_${'0'.repeat(31)}1`,
    host: 'a',
    state: 'active',
    region: 'CA-QC',
    publicKey: key.publicKey,
    enrolmentKey: Buffer.alloc(1216),
    agentVersion: '1',
    sources: ['documents'],
    restoreRoots: [],
    lastSeenAt: null,
    lastSeq: 0,
    lastHash: FIRST_PREVIOUS,
    recordedThrough: 0,
    policiesVersion: 0,
    bundleVersion: 0,
    journalPending: 0,
    revokedAt: null,
    journalBytes: 0,
    incident: null,
  }
  await records.insert({ table: 'agents', row: agent })
}

/** A fresh chain of records, each time with other secrets. */
function chain(length: number, files: Parameters<typeof encodeFileRecords>[0] = []): RecordDelivered[] {
  const made: RecordDelivered[] = []
  for (let seq = 1; seq <= length; seq++) {
    const secret = random.bytes(32)
    const body = encodeFileRecords(files)
    const header = transmissionHeader(body, secret)
    const { hash, ...frame } = signRecord({ header, body, seq, prev: made.at(-1)?.entryHash ?? FIRST_PREVIOUS, secret, key })
    made.push({ ...frame, entryHash: hash, opened: header })
  }
  return made
}

function restoreRow(): RestoreRow {
  return {
    id: `rst_${'1'.repeat(32)}`,
    createdAt: 1,
    state: 'requested',
    agentId,
    controllerId,
    snapshotId: '1'.repeat(32),
    series: null,
    at: null,
    storeId: null,
    selection: { whole: true },
    restoreRoot: 'r',
    conflict: 'beside',
    purpose: 'restore',
    instructionId: SAMPLE.instructionId,
    requestedBy: 'user:x',
    approvedBy: null,
    grantedBy: null,
    publicKey: null,
    publicKeySignature: null,
    leaseId: null,
    leaseUntil: null,
    attempt: 0,
    progress: null,
    totals: null,
    code: null,
    updatedAt: 1,
    expiresAt: 1_000_000,
  }
}

function commandRow(): CommandRow {
  return {
    id: `cmd_${'1'.repeat(32)}`,
    createdAt: 1,
    agentId,
    kind: 'restore',
    body: { a: 1 },
    restoreId: restoreRow().id,
    state: 'queued',
    code: null,
    deliveredAt: null,
    expiresAt: 1_000_000,
  }
}
