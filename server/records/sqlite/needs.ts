// Needs statements in SQLite: per series, from which sequence to which a pack is needed. A statement is never changed once it is there.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { PACK_REF_BYTES } from '@holdfast/shared/protocol/needs.ts'
import type { Acts, NeedInterval } from '../records.ts'
import { noteContest } from './claims.ts'
import { findRow } from './table.ts'
import type { Db } from './table.ts'

type Act<K extends keyof Acts> = (db: Db, input: Parameters<Acts[K]>[0]) => ReturnType<Acts[K]>

type SeriesStand = { readonly n: number; readonly agentId: string; readonly sequence: number; readonly snapshotId: string }

function seriesOf(db: Db, storeId: string, series: string): SeriesStand | undefined {
  const row = db.sql('SELECT n, agent_id, sequence, snapshot_id FROM need_series WHERE store_id = ? AND series = ?').get(storeId, series)
  if (row === undefined) return undefined
  const { n, agent_id: agentId, sequence, snapshot_id: snapshotId } = row
  return { n: Number(n), agentId: String(agentId), sequence: Number(sequence), snapshotId: String(snapshotId) }
}

export const needsStand: Act<'needsStand'> = (db, { agentId, storeId, series }) => {
  const stand = seriesOf(db, storeId, series)
  return stand === undefined || stand.agentId !== agentId ? undefined : { sequence: stand.sequence, snapshotId: stand.snapshotId }
}

export const stateNeeds: Act<'stateNeeds'> = (db, { agentId, at, statement }) => {
  const { storeId, series, sequence, snapshotId, base, added, dropped, replaced } = statement
  const agent = findRow(db, 'agents', { id: agentId })
  const store = findRow(db, 'stores', { id: storeId })
  if (agent === undefined || store === undefined || store.controllerId !== agent.controllerId)
    throw new HoldfastError('not-found', 'this controller has no such store; correct the store in agent.json')
  // What was told of as replaced may be stated after all, which protects it; never the other way round.
  const note = db.sql(
    `INSERT INTO need_statements (store_id, snapshot_id, agent_id, series_n, sequence, at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET series_n = excluded.series_n, sequence = excluded.sequence, at = excluded.at WHERE series_n IS NULL`,
  )
  for (const id of replaced) note.run(storeId, id, agentId, null, null, at)
  let stand = seriesOf(db, storeId, series)
  if (stand !== undefined && stand.agentId !== agentId)
    throw new HoldfastError('conflict', 'this series is another agent’s; nothing was taken')
  const stated = db
    .sql('SELECT 1 FROM need_statements WHERE store_id = ? AND snapshot_id = ? AND agent_id = ? AND series_n IS NOT NULL')
    .get(storeId, snapshotId, agentId)
  // The first statement counts for ever: a second one is answered and changes nothing.
  if (stated !== undefined) return { sequence: stand?.sequence ?? 0, snapshotId: stand?.snapshotId ?? null }
  if (base !== undefined && base !== stand?.snapshotId)
    throw new HoldfastError('conflict', 'this statement goes on from one that is not the last of its series; state the whole')
  // One sequence twice: a run that did not see the snapshot before it, which was forgotten or hidden. Both are protected.
  if (stand !== undefined && sequence < stand.sequence)
    throw new HoldfastError('conflict', `needs up to sequence ${stand.sequence} of this series are stated; earlier ones cannot be added`)
  if (stand === undefined) {
    db.sql('INSERT INTO need_series (store_id, series, agent_id, sequence, snapshot_id) VALUES (?, ?, ?, 0, ?)').run(
      storeId,
      series,
      agentId,
      snapshotId,
    )
    stand = seriesOf(db, storeId, series)
    if (stand === undefined) throw new HoldfastError('failed', 'the series that was just added is not there')
  }
  const { n, sequence: before } = stand
  const close = db.sql('UPDATE need_intervals SET last = ? WHERE pack = ? AND series_n = ? AND last IS NULL')
  if (base === undefined) {
    const stay = new Set(added.map((pack) => pack.toString('latin1')))
    for (const { pack } of db.sql('SELECT pack FROM need_intervals WHERE series_n = ? AND last IS NULL').all(n))
      if (!stay.has(Buffer.from(pack as Uint8Array).toString('latin1'))) close.run(before, pack as Uint8Array, n)
  }
  for (const pack of dropped) close.run(before, pack, n)
  const add = db.sql(
    `INSERT INTO need_intervals (pack, series_n, first) SELECT ?1, ?2, ?3
     WHERE NOT EXISTS (SELECT 1 FROM need_intervals WHERE pack = ?1 AND series_n = ?2 AND last IS NULL)
     ON CONFLICT DO UPDATE SET last = NULL`,
  )
  // In the order of the table, so that its pages are written in runs.
  for (const pack of [...added].sort((a, b) => a.compare(b))) add.run(pack, n, sequence)
  note.run(storeId, snapshotId, agentId, n, sequence, at)
  noteContest(db, { storeId, snapshotId, agentId, at })
  db.sql('UPDATE need_series SET sequence = ?, snapshot_id = ? WHERE n = ?').run(sequence, snapshotId, n)
  return { sequence, snapshotId }
}

/**
 * What was reported, with what was stated of it, then what was only stated. Two parts and no outer join of both sides: SQLite would go through all
 * statements for every snapshot. Every row of the store is met once, the others by their keys.
 */
export const BOOKS_QUERY = `
SELECT p.id AS id, p.agent_id AS agent_id, p.series AS series, p.source AS source, p.at AS claimed_at, p.created_at AS witnessed_at,
  coalesce(p.deleted_at, t.deleted_at) AS deleted_at, CASE WHEN p.series = s.series THEN t.sequence END AS sequence
FROM (SELECT id, agent_id, series, source, at, created_at, deleted_at FROM snapshots WHERE store_id = ?1
  UNION ALL SELECT id, agent_id, series, source, at, created_at, deleted_at FROM snapshot_claims WHERE store_id = ?1) p
LEFT JOIN need_statements t ON t.store_id = ?1 AND t.snapshot_id = p.id AND t.agent_id = p.agent_id
LEFT JOIN need_series s ON s.n = t.series_n
UNION ALL
SELECT t.snapshot_id, t.agent_id, s.series, NULL, NULL, t.at, t.deleted_at, t.sequence
FROM need_statements t LEFT JOIN need_series s ON s.n = t.series_n
WHERE t.store_id = ?1
  AND NOT EXISTS (SELECT 1 FROM snapshots p WHERE p.id = t.snapshot_id AND p.agent_id = t.agent_id AND p.store_id = ?1)
  AND NOT EXISTS (SELECT 1 FROM snapshot_claims c WHERE c.id = t.snapshot_id AND c.agent_id = t.agent_id AND c.store_id = ?1)`

export const booksOf: Act<'booksOf'> = (db, { storeId }) => {
  const text = (value: unknown): string | null => (value === null || value === undefined ? null : String(value))
  const rows = db.sql(BOOKS_QUERY).all({ 1: storeId })
  const agents = new Map(
    db
      .sql('SELECT a.id, a.last_seen_at, a.revoked_at FROM agents a JOIN stores s ON s.controller_id = a.controller_id WHERE s.id = ?')
      .all(storeId)
      .map((row) => [String(row['id']), { heardAt: Number(row['last_seen_at'] ?? 0), revokedAt: row['revoked_at'] as number | null }]),
  )
  const said = rows.flatMap((row) => {
    const known = {
      id: String(row['id']),
      agentId: String(row['agent_id']),
      series: text(row['series']),
      source: text(row['source']),
      claimedAt: row['claimed_at'] === null ? null : Number(row['claimed_at']),
      witnessedAt: Number(row['witnessed_at']),
      deleted: row['deleted_at'] !== null,
      sequence: row['sequence'] === null ? null : Number(row['sequence']),
    }
    const agent = agents.get(known.agentId)
    // Of another controller: nobody here.
    if (agent === undefined) return []
    agent.heardAt = Math.max(agent.heardAt, known.witnessedAt)
    return [known]
  })
  const claims = new Map<string, number>()
  for (const { id, series } of said) if (series !== null) claims.set(id, (claims.get(id) ?? 0) + 1)
  // What was replaced before it was reported belongs to no series; what anybody claims was not replaced.
  return {
    snapshots: said.filter(({ series }) => series !== null).map((one) => ({ ...one, contested: claims.get(one.id)! > 1 })),
    replaced: said.flatMap(({ id, agentId }) => (claims.has(id) ? [] : [{ id, agentId }])),
    settled: db
      .sql('SELECT snapshot_id FROM settled_snapshots WHERE store_id = ?')
      .all(storeId)
      .map((row) => String(row['snapshot_id'])),
    agents: [...agents].map(([id, agent]) => ({ id, ...agent })),
    forgotten: db
      .sql('SELECT snapshot_id, agent_id, at, heard_at FROM forgotten_snapshots WHERE store_id = ?')
      .all(storeId)
      .map((row) => ({
        id: String(row['snapshot_id']),
        agentId: String(row['agent_id']),
        at: Number(row['at']),
        heardAt: Number(row['heard_at']),
      })),
    absent: db
      .sql('SELECT snapshot_id, since, seen_at FROM absent_snapshots WHERE store_id = ?')
      .all(storeId)
      .map((row) => ({ id: String(row['snapshot_id']), since: Number(row['since']), seenAt: Number(row['seen_at']) })),
  }
}

export const noteForgotten: Act<'noteForgotten'> = (db, { agentId, storeId, snapshotIds, at }) => {
  db.sql('DELETE FROM forgotten_snapshots WHERE store_id = ? AND agent_id = ? AND snapshot_id NOT IN (SELECT value FROM json_each(?))').run(
    storeId,
    agentId,
    JSON.stringify(snapshotIds),
  )
  const note = db.sql(
    `INSERT INTO forgotten_snapshots (store_id, agent_id, snapshot_id, at, heard_at) VALUES (?1, ?2, ?3, ?4, ?4)
     ON CONFLICT DO UPDATE SET heard_at = excluded.heard_at`,
  )
  for (const id of snapshotIds) note.run({ 1: storeId, 2: agentId, 3: id, 4: at })
}

export const noteLooked: Act<'noteLooked'> = (db, { storeId, absent, at, gapMs }) => {
  db.sql('DELETE FROM absent_snapshots WHERE store_id = ? AND snapshot_id NOT IN (SELECT value FROM json_each(?))').run(
    storeId,
    JSON.stringify(absent),
  )
  const note = db.sql(
    `INSERT INTO absent_snapshots (store_id, snapshot_id, since, seen_at) VALUES (?1, ?2, ?3, ?3)
     ON CONFLICT DO UPDATE SET since = CASE WHEN since > ?3 OR seen_at + ?4 < ?3 THEN ?3 ELSE since END, seen_at = ?3`,
  )
  for (const id of absent) note.run({ 1: storeId, 2: id, 3: at, 4: gapMs })
  db.sql(
    'UPDATE forgotten_snapshots SET at = min(at, ?2), heard_at = min(heard_at, ?2) WHERE store_id = ?1 AND (at > ?2 OR heard_at > ?2)',
  ).run({ 1: storeId, 2: at })
}

export const needsOf: Act<'needsOf'> = (db, { storeId, packs, sessions }) => {
  const found: NeedInterval[] = []
  const take = (rows: readonly Record<string, unknown>[]): void => {
    for (const { pack, series, first, last } of rows)
      found.push({
        pack: Buffer.from(pack as Uint8Array).toString('hex'),
        series: String(series),
        first: Number(first),
        last: last === null ? null : Number(last),
      })
  }
  const columns = 'i.pack AS pack, s.series AS series, i.first AS first, i.last AS last'
  const from = 'FROM need_intervals i JOIN need_series s ON s.n = i.series_n WHERE s.store_id = ?'
  for (let at = 0; at < packs.length; at += PACK_REF_BYTES)
    take(db.sql(`SELECT ${columns} ${from} AND i.pack = ?`).all(storeId, packs.subarray(at, at + PACK_REF_BYTES)))
  for (const session of sessions) {
    const [low, high] = ['00', 'ff'].map((byte) => Buffer.from(session + byte.repeat(16), 'hex'))
    take(db.sql(`SELECT ${columns} ${from} AND i.pack BETWEEN ? AND ?`).all(storeId, low!, high!))
  }
  return found
}

export const needStands: Act<'needStands'> = (db, { storeId }) =>
  db
    .sql(
      `SELECT s.snapshot_id AS snapshot_id, (SELECT count(*) FROM need_intervals i WHERE i.series_n = s.n AND i.last IS NULL) AS packs
       FROM need_series s WHERE s.store_id = ?`,
    )
    .all(storeId)
    .map((row) => ({ snapshotId: String(row['snapshot_id']), packs: Number(row['packs']) }))

export const dropNeeds: Act<'dropNeeds'> = (db, { storeId, packs }) => {
  const drop = db.sql('DELETE FROM need_intervals WHERE pack = ? AND series_n IN (SELECT n FROM need_series WHERE store_id = ?)')
  for (let at = 0; at < packs.length; at += PACK_REF_BYTES) drop.run(packs.subarray(at, at + PACK_REF_BYTES), storeId)
}
