// Records in SQLite: the append-only chain of each agent, the work of a record's job, and finding records again.
import type { SQLOutputValue } from 'node:sqlite'
import { parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { FILE_RECORD_BYTES, parseHeader } from '@holdfast/shared/record.ts'
import type { RecordHeader, RecordKind } from '@holdfast/shared/protocol/records.ts'
import { nextDue } from '@holdfast/shared/protocol/schedule.ts'
import type { AcceptResult, Acts } from '../records.ts'
import type { AgentRow, RecordDelivered, RecordRow, RunRow } from '../rows.ts'
import { claimSnapshot } from './claims.ts'
import { closeJob, openJob } from './jobs.ts'
import { findRow, insertRow, toPage, updateRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

/** The id of a record's job. */
export function recordJobId(agentId: string, seq: number): string {
  return `record-${agentId}-${seq}`
}

export const acceptRecords: Act<'acceptRecords'> = (db, { agentId, at, records }) => {
  const agent = findRow(db, 'agents', { id: agentId })
  if (agent === undefined) throw new HoldfastError('not-found', `no agent ${agentId}`)
  let { lastSeq, lastHash } = agent
  for (const record of records) {
    if (record.seq > lastSeq + 1) return { kind: 'gap', expectedSeq: lastSeq + 1, hash: lastHash }
    if (record.seq <= lastSeq) {
      const known = db.sql('SELECT entry_hash FROM record_frames WHERE agent_id = ? AND seq = ?').get(agentId, record.seq)
      if (known !== undefined && record.entryHash.equals(known['entry_hash'] as Uint8Array)) continue
      return fork(db, agent, record, at, lastSeq, lastHash)
    }
    if (!record.prev.equals(lastHash)) return fork(db, agent, record, at, lastSeq, lastHash)
    append(db, agent, record, at)
    lastSeq = record.seq
    lastHash = record.entryHash
    updateRow(db, 'agents', agentId, { lastSeq, lastHash })
  }
  return { kind: 'accepted', through: lastSeq, hash: lastHash }
}

function append(db: Db, agent: AgentRow, record: RecordDelivered, at: number): void {
  const header = record.opened
  const text = `INSERT INTO record_frames (agent_id, seq, controller_id, prev, sig, entry_hash, secret, header, body, kind, run_id, restore_id, at, files,
    received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
  db.sql(text).run(
    agent.id,
    record.seq,
    agent.controllerId,
    record.prev,
    record.sig,
    record.entryHash,
    record.secret,
    record.header,
    record.body,
    header.kind,
    header.runId ?? null,
    ('restoreId' in header ? header.restoreId : undefined) ?? null,
    parseTime(header.at),
    record.body.length / FILE_RECORD_BYTES,
    at,
  )
  const queue = header.kind.startsWith('recovery') ? 'recoveries' : 'transmissions'
  openJob(db, { queue, jobId: recordJobId(agent.id, record.seq), data: { agentId: agent.id, seq: record.seq }, createdAt: at })
}

function fork(db: Db, agent: AgentRow, record: RecordDelivered, at: number, through: number, hash: Buffer): AcceptResult {
  db.sql(
    'INSERT OR IGNORE INTO record_forks (agent_id, seq, entry_hash, prev, sig, secret, header, body, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
  ).run(agent.id, record.seq, record.entryHash, record.prev, record.sig, record.secret, record.header, record.body, at)
  updateRow(db, 'agents', agent.id, { incident: `two versions of record ${record.seq}` })
  return { kind: 'fork', seq: record.seq, through, hash }
}

export const listForks: Act<'listForks'> = (db, { agentId }) =>
  db
    .sql('SELECT seq, entry_hash, at FROM record_forks WHERE agent_id = ? ORDER BY n')
    .all(agentId)
    .map((row) => ({ seq: Number(row['seq']), entryHash: Buffer.from(row['entry_hash'] as Uint8Array), at: Number(row['at']) }))

export const getRecord: Act<'getRecord'> = (db, { agentId, seq, withBody }) => {
  const columns = withBody === false ? COLUMNS_WITHOUT_BODY : '*'
  const row = db.sql(`SELECT ${columns} FROM record_frames WHERE agent_id = ? AND seq = ?`).get(agentId, seq)
  return row === undefined ? undefined : readRecord(row)
}

export const listRecords: Act<'listRecords'> = (db, input) => {
  const parts = ['n < ?']
  const values: (string | number)[] = [input.after ?? Number.MAX_SAFE_INTEGER]
  const conditions = [
    ['controller_id = ?', input.controllerId],
    ['agent_id = ?', input.agentId],
    ['run_id = ?', input.runId],
    ['restore_id = ?', input.restoreId],
    ['kind = ?', input.kind],
    ['at >= ?', input.from],
    ['at < ?', input.to],
  ] as const
  for (const [text, value] of conditions) {
    if (value === undefined) continue
    parts.push(text)
    values.push(value)
  }
  const columns = input.withBody ? '*' : COLUMNS_WITHOUT_BODY
  const rows = db
    .sql(`SELECT ${columns} FROM record_frames WHERE ${parts.join(' AND ')} ORDER BY n DESC LIMIT ?`)
    .all(...values, input.limit + 1)
  return toPage(rows, input.limit, readRecord)
}

const COLUMNS_WITHOUT_BODY = `n, agent_id, seq, controller_id, prev, sig, entry_hash, secret, header, x'' AS body, kind, run_id, restore_id, at, files,
  received_at, recorded_at, refused_code`

export const findToken: Act<'findToken'> = (db, input) => {
  const own = input.controllerId === undefined ? '' : 'AND f.controller_id = ?'
  // One record may name a token more than once; the key of a page is the record, so a page never splits one.
  const frames = db
    .sql(
      `SELECT DISTINCT f.n AS n FROM file_tokens t JOIN record_frames f ON f.n = t.frame WHERE t.token = ? ${own} AND f.n < ? ORDER BY f.n DESC LIMIT ?`,
    )
    .all(
      input.token,
      ...(input.controllerId === undefined ? [] : [input.controllerId]),
      input.after ?? Number.MAX_SAFE_INTEGER,
      input.limit + 1,
    )
  const page = toPage(frames, input.limit, (row) => Number(row['n']))
  const items = page.items.flatMap((n) => {
    const row = db.sql('SELECT * FROM record_frames WHERE n = ?').get(n)
    if (row === undefined) return []
    const record = readRecord(row)
    const places = db.sql('SELECT place FROM file_tokens WHERE token = ? AND frame = ? ORDER BY place').all(input.token, n)
    return places.map((place) => ({ record, index: Number(place['place']) }))
  })
  return { items, next: page.next }
}

export const markRecorded: Act<'markRecorded'> = (db, { agentId, seq, at }) => {
  const row = db.sql('SELECT * FROM record_frames WHERE agent_id = ? AND seq = ?').get(agentId, seq)
  if (row === undefined) throw new HoldfastError('not-found', `no record ${seq} of agent ${agentId}`)
  const record = readRecord(row)
  const agent = findRow(db, 'agents', { id: agentId })
  if (agent === undefined) throw new HoldfastError('not-found', `no agent ${agentId}`)
  if (record.recordedAt !== null) return { recordedThrough: agent.recordedThrough }
  addTokens(db, Number(row['n']), record.body)
  applyHeader(db, agent, parseHeader(record.header), record, at)
  db.sql('UPDATE record_frames SET recorded_at = ?, refused_code = NULL WHERE agent_id = ? AND seq = ?').run(at, agentId, seq)
  closeJob(db, { jobId: recordJobId(agentId, seq), at })
  const open = db.sql('SELECT min(seq) AS seq FROM record_frames WHERE agent_id = ? AND recorded_at IS NULL').get(agentId)?.['seq']
  const recordedThrough = typeof open === 'number' ? open - 1 : agent.lastSeq
  updateRow(db, 'agents', agentId, { recordedThrough })
  return { recordedThrough }
}

export const refuseRecord: Act<'refuseRecord'> = (db, { agentId, seq, code, at }) => {
  db.sql('UPDATE record_frames SET refused_code = ? WHERE agent_id = ? AND seq = ? AND recorded_at IS NULL').run(code, agentId, seq)
  updateRow(db, 'agents', agentId, { incident: `record ${seq} does not hold (${code})` })
  closeJob(db, { jobId: recordJobId(agentId, seq), at })
}

/** Tokens go in sorted, so that the index is written in runs and not page by page at random. */
function addTokens(db: Db, frame: number, body: Buffer): void {
  const places: { token: Buffer; place: number }[] = []
  for (let at = 0, place = 0; at < body.length; at += FILE_RECORD_BYTES, place++)
    places.push({ token: body.subarray(at + 8, at + 40), place })
  places.sort((a, b) => a.token.compare(b.token) || a.place - b.place)
  const statement = db.sql('INSERT OR IGNORE INTO file_tokens (token, frame, place) VALUES (?, ?, ?)')
  for (const { token, place } of places) statement.run(token, frame, place)
}

/** What a record says about its run, its policy and its snapshot. */
function applyHeader(db: Db, agent: AgentRow, header: RecordHeader, record: RecordRow, at: number): void {
  if (header.kind === 'agent-note') return
  const known = findRow(db, 'runs', { id: header.runId })
  if (known !== undefined && known.agentId !== agent.id)
    throw new HoldfastError('conflict', `record ${record.seq} names a run of another agent`)
  const kind = header.kind.startsWith('recovery') ? 'recovery' : 'backup'
  const before: RunRow = known ?? {
    id: header.runId,
    createdAt: at,
    agentId: agent.id,
    controllerId: agent.controllerId,
    policyId: null,
    restoreId: null,
    kind,
    source: null,
    state: 'running',
    code: null,
    startedAt: record.at,
    endedAt: null,
    totals: null,
    snapshotId: null,
    recordedFiles: 0,
    recordedBytes: 0,
    recorded: false,
  }
  if (known === undefined) insertRow(db, 'runs', before)
  const files = 'files' in header ? header.files : undefined
  const ended = header.kind === 'run-ended' || header.kind === 'recovery-ended' ? header : undefined
  updateRow(db, 'runs', before.id, {
    kind,
    policyId: ('policyId' in header ? header.policyId : undefined) ?? before.policyId,
    restoreId: ('restoreId' in header ? header.restoreId : undefined) ?? before.restoreId,
    source: header.source ?? before.source,
    startedAt: Math.min(before.startedAt, record.at),
    recordedFiles: before.recordedFiles + (files?.count ?? 0),
    recordedBytes: before.recordedBytes + (files?.bytes ?? 0),
    snapshotId: header.kind === 'run-ended' ? (header.snapshotId ?? before.snapshotId) : before.snapshotId,
    // An agent whose state is of long ago ends a run that had ended: what came first stands.
    ...(ended === undefined || (before.recorded && before.endedAt !== null && before.endedAt <= record.at)
      ? {}
      : { state: ended.outcome, code: ended.code ?? null, endedAt: record.at, totals: ended.totals, recorded: true }),
  })
  if (header.kind === 'run-ended') noteSnapshot(db, agent, header, record, at)
  if (header.kind === 'run-ended' && header.policyId !== undefined) {
    notePolicy(db, agent, header.policyId, before.startedAt, record.at, header.outcome === 'ok' || header.outcome === 'incomplete')
  }
}

/** The record of a run's end tells of its snapshot too, so that it can be asked back even where the agent's report was lost. */
function noteSnapshot(db: Db, agent: AgentRow, header: Extract<RecordHeader, { kind: 'run-ended' }>, record: RecordRow, at: number): void {
  const { snapshotId, series, to, totals } = header
  if (snapshotId === undefined || series === undefined || to.storeId === undefined) return
  claimSnapshot(db, {
    id: snapshotId,
    createdAt: at,
    agentId: agent.id,
    controllerId: agent.controllerId,
    runId: header.runId,
    storeId: to.storeId,
    series,
    source: header.source,
    at: record.at,
    files: totals.files,
    bytes: totals.bytes,
    storedBytes: totals.storedBytes,
    tags: [],
    deletedAt: null,
  })
}

/** A run that made a snapshot is a good one; the next due time counts from its start. */
function notePolicy(db: Db, agent: AgentRow, policyId: string, startedAt: number, endedAt: number, good: boolean): void {
  const policy = findRow(db, 'policies', { id: policyId, agentId: agent.id })
  if (policy === undefined) return
  const newest = policy.lastGoodAt === null || endedAt >= policy.lastGoodAt
  updateRow(db, 'policies', policyId, {
    lastRunAt: Math.max(policy.lastRunAt ?? 0, endedAt),
    ...(good && newest ? { lastGoodAt: endedAt, nextDueAt: nextDue(policy.schedule, startedAt) } : {}),
  })
}

function readRecord(row: Record<string, SQLOutputValue>): RecordRow {
  const bytes = (name: string): Buffer => Buffer.from(row[name] as Uint8Array)
  const text = (name: string): string | null => (row[name] === null ? null : String(row[name]))
  return {
    agentId: String(row['agent_id']),
    seq: Number(row['seq']),
    controllerId: String(row['controller_id']),
    prev: bytes('prev'),
    sig: bytes('sig'),
    secret: bytes('secret'),
    header: bytes('header'),
    body: bytes('body'),
    entryHash: bytes('entry_hash'),
    kind: String(row['kind']) as RecordKind,
    runId: text('run_id'),
    restoreId: text('restore_id'),
    at: Number(row['at']),
    files: Number(row['files']),
    receivedAt: Number(row['received_at']),
    recordedAt: row['recorded_at'] === null ? null : Number(row['recorded_at']),
    refusedCode: text('refused_code'),
  }
}
