// Reading and writing rows by table and column, with names and kinds of columns checked against one declaration. Values are always bound.
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Page, PageInput, Where } from '../records.ts'
import type { Rows, TableName } from '../rows.ts'

/** Columns that are not plain text, number or bytes. */
const JSON_COLUMNS: { readonly [T in TableName]?: readonly (keyof Rows[T])[] } = {
  controllers: ['countries'],
  instructions: ['scope', 'purposes'],
  agents: ['sources', 'restoreRoots'],
  policies: ['schedule', 'tags', 'excludes', 'retention'],
  deletions: ['reasons', 'counts'],
  runs: ['totals'],
  snapshots: ['tags'],
  restores: ['selection', 'progress', 'totals'],
  commands: ['body'],
  users: ['recoveryHashes'],
}
const BOOLEAN_COLUMNS: { readonly [T in TableName]?: readonly (keyof Rows[T])[] } = {
  instructions: ['enteredByProcessor'],
  policies: ['enabled'],
  runs: ['recorded'],
  snapshots: ['contested'],
  users: ['disabled'],
}

type Values = { readonly [column: string]: unknown }

/** A database with its prepared statements, kept by their text. */
export class Db {
  readonly raw: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(raw: DatabaseSync) {
    this.raw = raw
  }

  sql(text: string): StatementSync {
    let statement = this.#statements.get(text)
    if (statement === undefined) {
      statement = this.raw.prepare(text)
      this.#statements.set(text, statement)
    }
    return statement
  }
}

export function insertRow<T extends TableName>(db: Db, table: T, row: Rows[T]): void {
  const columns = Object.keys(row)
  const text = `INSERT INTO ${snake(table)} (${columns.map(snake).join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`
  try {
    db.sql(text).run(...columns.map((column) => toSql(table, column, (row as Values)[column])))
  } catch (error) {
    if (isConstraint(error, 'UNIQUE'))
      throw new HoldfastError('already-exists', `this is there already; ${snake(table)} keeps one of its kind`, { cause: error })
    if (isConstraint(error, 'FOREIGN KEY'))
      throw new HoldfastError('not-found', `what this refers to is not there; check the ids`, { cause: error })
    throw error
  }
}

export function updateRow<T extends TableName>(
  db: Db,
  table: T,
  id: string,
  patch: Partial<Rows[T]>,
  where: Where<T> = {},
): Rows[T] | undefined {
  const columns = Object.keys(patch).filter((column) => (patch as Values)[column] !== undefined)
  const condition = whereSql(table, { ...where, id } as Where<T>)
  if (columns.length === 0) return findRow(db, table, { ...where, id } as Where<T>)
  const text = `UPDATE ${snake(table)} SET ${columns.map((column) => `${snake(column)} = ?`).join(', ')} WHERE ${condition.text} RETURNING *`
  const row = db.sql(text).get(...columns.map((column) => toSql(table, column, (patch as Values)[column])), ...condition.values)
  return row === undefined ? undefined : fromSql(table, row)
}

export function findRow<T extends TableName>(db: Db, table: T, where: Where<T>): Rows[T] | undefined {
  const condition = whereSql(table, where)
  const row = db.sql(`SELECT * FROM ${snake(table)} WHERE ${condition.text} LIMIT 1`).get(...condition.values)
  return row === undefined ? undefined : fromSql(table, row)
}

export function listRows<T extends TableName>(db: Db, table: T, where: Where<T>, page: PageInput): Page<Rows[T]> {
  const condition = whereSql(table, where)
  const text = `SELECT * FROM ${snake(table)} WHERE ${condition.text} AND n < ? ORDER BY n DESC LIMIT ?`
  const rows = db.sql(text).all(...condition.values, page.after ?? Number.MAX_SAFE_INTEGER, page.limit + 1)
  return toPage(rows, page.limit, (row) => fromSql(table, row))
}

/** A page from rows that were asked for one over the limit, each with its `n`. */
export function toPage<T>(
  rows: readonly Record<string, SQLOutputValue>[],
  limit: number,
  read: (row: Record<string, SQLOutputValue>) => T,
): Page<T> {
  const shown = rows.slice(0, limit)
  return { items: shown.map(read), next: rows.length > limit ? Number(shown.at(-1)?.['n']) : null }
}

function whereSql<T extends TableName>(table: T, where: Where<T>): { text: string; values: SQLInputValue[] } {
  const parts: string[] = []
  const values: SQLInputValue[] = []
  for (const [column, value] of Object.entries(where as Values)) {
    if (value === undefined) continue
    if (value === null) parts.push(`${snake(column)} IS NULL`)
    else if (Array.isArray(value)) {
      parts.push(`${snake(column)} IN (${value.map(() => '?').join(', ')})`)
      values.push(...value.map((one: unknown) => toSql(table, column, one)))
    } else {
      parts.push(`${snake(column)} = ?`)
      values.push(toSql(table, column, value))
    }
  }
  return { text: parts.length === 0 ? '1 = 1' : parts.join(' AND '), values }
}

function toSql(table: TableName, column: string, value: unknown): SQLInputValue {
  if (value === null || value === undefined) return null
  if ((JSON_COLUMNS[table] as readonly string[] | undefined)?.includes(column)) return JSON.stringify(value)
  if (typeof value === 'boolean') return value ? 1 : 0
  return value as SQLInputValue
}

function fromSql<T extends TableName>(table: T, row: Record<string, SQLOutputValue>): Rows[T] {
  const out: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(row)) {
    if (name === 'n') continue
    const column = camel(name)
    if (value instanceof Uint8Array) out[column] = Buffer.from(value)
    else if (value !== null && (JSON_COLUMNS[table] as readonly string[] | undefined)?.includes(column))
      out[column] = JSON.parse(String(value))
    else if ((BOOLEAN_COLUMNS[table] as readonly string[] | undefined)?.includes(column)) out[column] = value === 1
    else out[column] = value
  }
  return out as Rows[T]
}

/** SQLite's extended result codes stand in `errcode`; the text names the constraint's kind. */
function isConstraint(error: unknown, kind: 'UNIQUE' | 'FOREIGN KEY'): boolean {
  if (!(error instanceof Error) || !('errcode' in error)) return false
  const codes = kind === 'UNIQUE' ? [1555, 2067] : [787]
  return codes.includes(Number(error.errcode))
}

function snake(name: string): string {
  if (!/^[a-zA-Z]+$/.test(name)) throw new HoldfastError('failed', 'a column name holds what no column has')
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}
