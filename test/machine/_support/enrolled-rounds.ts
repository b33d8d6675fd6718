// Rounds of enrolled runs with faults in them: what changes in the source before each, and what must be on record, in the chain and in the store after.
import { existsSync, mkdirSync, rmSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import type { Workplace } from '../../agent/cli/_support/cli.ts'
import { requireWholeChain, tokensOfSource, transmissionsOf } from '../../e2e/_support/exported-records.ts'
import type { Installation, RunSeen } from '../../e2e/_support/installation.ts'
import { until } from '../../e2e/_support/until.ts'
import { compareTrees } from '../../_support/tree-manifest.ts'
import { changesIn } from './kill-moment.ts'

/** A source of forty small files below the place of an installation. */
export function makeSource(place: Workplace, next: () => number): string {
  const source = place.path('source')
  mkdirSync(source)
  for (let i = 0; i < 40; i++) write(join(source, `file-${i}`), next)
  return source
}

function write(path: string, next: () => number): void {
  const bytes = Buffer.alloc(next() % 300_000)
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(next(), at)
  // Never twice the same, not even where it is short.
  writeFileSync(path, Buffer.concat([bytes, Buffer.from(`${next()} ${next()}`)]))
}

/** Some files change; their paths. */
export function change(one: Installation, next: () => number): Set<string> {
  const changed = new Set<string>()
  for (let i = 3 + (next() % 10); i > 0; i--) {
    const path = join(one.source, `file-${next() % 60}`)
    write(path, next)
    changed.add(path)
  }
  return changed
}

/** Asks for a backup and lets it make a number of changes to what it works on; resolves early where the run is over before. */
export async function momentOfRun(one: Installation, next: () => number): Promise<void> {
  const engine = one.place.path('agent', 'engine')
  const repository = ['tmp', 'packs', 'index', 'snapshots', 'sessions'].map((name) => join(one.store, name))
  const said = one.log('agent').length
  const over = new AbortController()
  const log = watch(one.place.path('agent.log'), () => one.log('agent').slice(said).includes('"event":"run-ended"') && over.abort())
  // What was asked may get lost on a bad line.
  const waiting = systemClock.sleep(15_000, over.signal).then(
    () => over.abort(),
    () => undefined,
  )
  const moment = changesIn(
    [engine, join(engine, 'spool'), ...repository].filter((path) => existsSync(path)),
    1 + (next() % 24),
    over.signal,
  )
  await one.askForBackup()
  await moment
  log.close()
  over.abort()
  await waiting
}

/** The runs that began since, once none of them is under way and all are on record. */
export function settledRuns(one: Installation, before: ReadonlySet<string>, told: string): Promise<RunSeen[]> {
  return until(
    `the run is over: ${told}`,
    async () => {
      const runs = (await one.runs()).filter(({ id, kind }) => kind === 'backup' && !before.has(id))
      return runs.length > 0 && runs.every(({ state, recorded }) => state !== 'running' && recorded) && runs
    },
    { everyMs: 200, withinMs: 120_000 },
  )
}

/** Every file that changed was told of by a run since, none by one that did not transmit it, and none twice in a run. */
export async function requireOnRecord(
  one: Installation,
  before: ReadonlySet<string>,
  changed: ReadonlySet<string>,
  told: string,
): Promise<void> {
  expect([...(await filesOnRecord(one, before, told))].sort(), told).toEqual([...changed].sort())
}

/** The paths of which backups that are not among `before` told that they were transmitted; none tells of one twice. */
export async function filesOnRecord(one: Installation, before: ReadonlySet<string>, told: string): Promise<Set<string>> {
  const names = await tokensOfSource(one)
  const onRecord = new Set<string>()
  for (const { id, kind } of await one.runs()) {
    if (kind !== 'backup' || before.has(id)) continue
    const tokens = await transmissionsOf(one, id)
    expect(new Set(tokens).size, told).toBe(tokens.length)
    for (const token of tokens) onRecord.add(names.get(token) ?? `a token of no file: ${token}`)
  }
  return onRecord
}

/** The chain is whole; the controller, who has the root, reads the last snapshot back and checks everything. */
export async function requireAllThere(one: Installation): Promise<void> {
  await requireWholeChain(one)
  const target = one.place.path('restored')
  const snapshotId = (await one.runs()).find(({ state, snapshotId: id }) => state === 'ok' && id !== null)?.snapshotId ?? ''
  await one.controller(['restore', snapshotId, '--target', target])
  expect(await compareTrees(one.source, join(target, one.source))).toEqual([])
  rmSync(target, { recursive: true })
  await one.controller(['check', '--read-data'])
}
