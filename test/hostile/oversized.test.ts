// One object that is longer than its kind may be, or of a later format, which anybody with put-only credentials can store: it is told, and keeps nobody from
// what is sound.
import { expect, test } from 'vitest'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { checkRepository } from '../../agent/check/check.ts'
import { openRepository, type Repository } from '../../agent/repository/repository.ts'
import { codeOf } from '../_support/error-code.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../_support/engine-fixture.ts'

const REF = `${'a'.repeat(32)}-${'b'.repeat(32)}`

async function backedUp(): Promise<Engine> {
  const engine = await makeEngine()
  writeFile(engine, '/src/a', fixtureRandom('a').bytes(3000))
  engine.pass()
  await engine.backup()
  return engine
}

const opened = (engine: Engine): Promise<Repository> =>
  openRepository({ store: engine.bucket.store('looker'), keys: engine.keys.write.structure })

test.each([
  ['lists/', REF, LIMITS.listBytes, 'no error'],
  ['lists/forgets/', REF, LIMITS.forgetBytes, 'no error'],
  ['snapshots/', REF, LIMITS.snapshotBytes, 'damaged'],
  ['index/', REF, LIMITS.indexBytes, 'no error'],
  ['rosters/', REF, LIMITS.objectBytes, 'no error'],
  ['sessions/', 'a'.repeat(32), LIMITS.objectBytes, 'no error'],
  ['keys/', 'a'.repeat(32), LIMITS.objectBytes, 'no error'],
] as const)('too long, below %s', { timeout: 60_000 }, async (prefix, name, limit, pruned) => {
  const engine = await backedUp()
  await engine.bucket.store('somebody').put(`${prefix}${name}`, { kind: 'bytes', bytes: Buffer.alloc(limit + 1) })
  expect((await (await opened(engine)).listSnapshots()).snapshots).toHaveLength(1)
  expect(await checkRepository({ repository: await opened(engine) })).toMatchObject({
    unknown: 0,
    findings: [{ object: `${prefix}${name}`, verdict: 'damaged' }],
  })
  engine.pass()
  expect(await codeOf(engine.backup())).toBe('no error')
  expect(await codeOf(engine.prune())).toBe(pruned)
})

test.each([
  ['rosters/', REF],
  ['sessions/', 'a'.repeat(32)],
  ['index/', REF],
  ['snapshots/', REF],
] as const)('of a later format, below %s', async (prefix, name) => {
  const engine = await backedUp()
  const junk = Buffer.from(engine.bucket.content(engine.bucket.names('snapshots/')[0]!)!)
  junk[8] = 2
  await engine.bucket.store('somebody').put(`${prefix}${name}`, { kind: 'bytes', bytes: junk })
  expect((await (await opened(engine)).listSnapshots()).snapshots).toHaveLength(1)
  expect((await checkRepository({ repository: await opened(engine) })).findings).toMatchObject([
    { object: `${prefix}${name}`, code: 'newer-format' },
  ])
  expect(await codeOf(engine.backup())).toBe('no error')
})
