// What a store loses behind the back of the index: packs that are gone are stored again, packs that no index file names count by their footers.
import { expect, test } from 'vitest'
import { checkRepository } from '../../../agent/check/check.ts'
import { repairRepository } from '../../../agent/repair/repair.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

async function backedUp() {
  const engine = await makeEngine()
  for (let i = 0; i < 20; i++) writeFile(engine, `/src/file-${i}`, fixtureRandom(`file ${i}`).bytes(5000))
  engine.pass()
  await engine.backup()
  engine.pass()
  return engine
}

test.each(['gone', 'cut'])('a run after which packs were %s stores their content again, and its snapshot reads back whole', async (how) => {
  const engine = await backedUp()
  for (const name of engine.bucket.names().filter((one) => one.startsWith('packs/')))
    engine.bucket.tamper(name, (bytes) => (how === 'gone' ? undefined : bytes?.subarray(0, 100_000)))
  const before = engine.bucket.names().filter((one) => one.startsWith('index/'))
  const run = await engine.backup()
  expect(run.notices.join()).toMatch(/packs? (?:is|are) gone/)
  // All that the new snapshot needs was stored again: it reads back without what the index said before.
  for (const name of before) engine.bucket.tamper(name, () => undefined)
  expect(engine.newest()).toEqual(engine.source('/src'))
  // Healed: the next run has nothing to do.
  engine.pass()
  expect((await engine.backup()).summary.chunksNew).toBe(0)
})

test('a run after which all index files were lost uploads nothing twice and indexes the packs again', async () => {
  const engine = await backedUp()
  for (const name of engine.bucket.names().filter((one) => one.startsWith('index/'))) engine.bucket.tamper(name, () => undefined)
  const run = await engine.backup({ force: true })
  expect(run.summary.chunksNew).toBe(0)
  expect(engine.bucket.names().some((name) => name.startsWith('index/'))).toBe(true)
  expect(engine.newest()).toEqual(engine.source('/src'))
})

test.each(['damaged', 'lost with its index file'])(
  'pages of a large directory that were %s are stored again, though the directory is as before',
  async (how) => {
    const engine = await makeEngine()
    // So small that they stand in the pages themselves.
    for (let i = 0; i < 700; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`small ${i}`).bytes(240))
    engine.pass()
    await engine.backup()
    const [index, pack] = [engine.bucket.names('index/')[0]!, engine.bucket.names('packs/')[0]!]
    // The directory's own node stands elsewhere then, with the page that changed.
    writeFile(engine, '/src/7', 'changed')
    engine.pass()
    await engine.backup()
    engine.pass()
    if (how === 'damaged') {
      engine.bucket.tamper(pack, (bytes) => bytes?.fill(0, 1000, 100_000))
      const { keys, random, clock } = engine
      const repository = await openRepository({ store: engine.store(), keys: keys.write.structure })
      const { signal } = new AbortController()
      await repairRepository({ repository, keys: keys.write, readData: 'all', dryRun: false, random, now: clock.now(), signal })
    } else for (const name of [index, pack]) engine.bucket.tamper(name, () => undefined)
    await engine.backup()
    if (how !== 'damaged') expect(engine.newest()).toEqual(engine.source('/src'))
    const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
    const { affected } = await checkRepository({ repository, readData: 'all', keys: engine.keys.read })
    // The page that has changed since is gone with the first.
    expect(affected.map(({ snapshot }) => snapshot.structure.sequence)).toEqual([1])
  },
)

test('standard input that is suddenly empty makes no snapshot', async () => {
  const engine = await makeEngine()
  writeFile(engine, '/in', 'a dump')
  writeFile(engine, '/none', '')
  const stdin = (path: string) => ({ stdin: { name: Buffer.from('dump'), fd: engine.fs.open(-100, Buffer.from(path), 'read') } })
  await engine.backup({ source: stdin('/in') })
  await expect(engine.backup({ source: stdin('/none') })).rejects.toMatchObject({ code: 'source-empty' })
  expect(engine.reader().snapshots).toHaveLength(1)
})
