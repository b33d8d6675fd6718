// More forgotten snapshots than one record holds: every record that is stored is one that every reader takes, and all that was said stays said.
import { expect, test } from 'vitest'
import { objectName, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import { encodeForgetRecord, ENTRIES_MAX, type ForgottenSnapshot } from '../../../agent/repository/forget-record.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { codeOf } from '../../_support/error-code.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000
const ZEROS = Buffer.alloc(32)

function entries(count: number, from: number): ForgottenSnapshot[] {
  return Array.from({ length: count }, (_, i) => {
    const name = (from + i).toString(16).padStart(32, '0')
    return { snapshot: { session: name, random: name }, series: ZEROS, sequence: 1, hash: ZEROS, why: 'retention' }
  })
}

const newRef = (() => {
  const random = fixtureRandom('refs')
  return (): ObjectRef => ({ session: random.bytes(16).toString('hex'), random: random.bytes(16).toString('hex') })
})()

async function say(engine: Engine, said: readonly ForgottenSnapshot[]): Promise<void> {
  const { structure, writer } = engine.keys.write
  const ref = newRef()
  const bytes = encodeForgetRecord({ ref, madeAt: 1, replaces: [], entries: said, undone: [] }, structure, writer)
  await engine.bucket.store('root').put(objectName('forget', ref), { kind: 'bytes', bytes })
}

test('a hundred thousand and more entries are merged into records that open, and each still counts', { timeout: 60_000 }, async () => {
  const engine = await makeEngine()
  writeFile(engine, '/src/a', 'a')
  engine.pass()
  await engine.backup()
  let total = 0
  for (const count of [...Array.from({ length: 17 }, () => 6500), 60_000]) {
    await say(engine, entries(count, total))
    total += count
  }
  const before = engine.bucket.names('lists/forgets/').length
  for (let month = 0; month < 3; month++) {
    expect(await engine.prune()).toMatchObject({ unreadable: [] })
    engine.clock.advance(31 * DAY)
  }
  const state = await (await openRepository({ store: engine.bucket.store(), keys: engine.keys.write.structure })).loadCollection()
  expect(state.refused).toEqual([])
  expect(state.forgotten.size).toBe(total)
  for (const { record } of state.forgets) expect(record.entries.length).toBeLessThanOrEqual(60_000)
  expect(engine.bucket.names('lists/forgets/').length).toBeLessThan(before)
  expect(new Set(entries(total, 0).map(({ snapshot }) => refKey(snapshot)))).toEqual(new Set(state.forgotten.keys()))
})

test('a record that no reader would take is never made', async () => {
  const engine = await makeEngine()
  expect(await codeOf(say(engine, entries(ENTRIES_MAX + 1, 0)))).toBe('failed')
})
