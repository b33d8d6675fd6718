// Copies of index files and snapshots: a daily run fetches nothing that it fetched before, and a copy is never believed against the store.
import { describe, expect, test } from 'vitest'
import { openStateDirectory } from '../../../agent/backup/state-lock.ts'
import { directoryObjectCache } from '../../../agent/repository/object-cache.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { type Engine, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

async function openWithCopies(engine: Engine): Promise<Repository> {
  const cache = directoryObjectCache(engine.fs, openStateDirectory(engine.fs, Buffer.from('/copies')))
  return openRepository({ store: engine.store(), keys: engine.keys.write.structure, cache })
}

const copies = (engine: Engine): string[] =>
  engine.fs.readDirectory(openStateDirectory(engine.fs, Buffer.from('/copies'))).map((name) => name.toString('latin1'))

async function engineWithRuns(): Promise<Engine> {
  const engine = await makeEngine()
  for (let i = 0; i < 3; i++) {
    writeFile(engine, `/src/file-${i}`, `state ${i} `.repeat(500))
    engine.pass()
    await engine.backup({ repository: await openWithCopies(engine) })
  }
  return engine
}

describe('a run with copies', () => {
  test('that finds nothing changed makes two puts and seven other requests, however long the history', async () => {
    const engine = await engineWithRuns()
    engine.pass()
    await engine.backup({ repository: await openWithCopies(engine) })
    engine.bucket.trace.length = 0
    await engine.backup({ repository: await openWithCopies(engine) })
    const puts = engine.bucket.trace.filter(({ operation }) => operation === 'put')
    const others = engine.bucket.trace.filter(({ operation }) => operation !== 'put')
    expect(puts).toHaveLength(2)
    // The fixture opens the repository once more for itself.
    const own = ['get repository', 'list rosters/']
    const run = ['list lists/', 'list snapshots/', 'list index/', 'list packs/', 'list lists/']
    expect(others.map(({ operation, name }) => `${operation} ${name}`)).toEqual([...own, ...own, ...run])
  })

  test('takes no copy for what is no longer listed, and drops it', async () => {
    const engine = await engineWithRuns()
    const [name] = engine.bucket.names().filter((one) => one.startsWith('snapshots/'))
    expect(copies(engine)).toContain(name!.replaceAll('/', '_'))
    engine.bucket.tamper(name!, () => undefined)
    const listed = await (await openWithCopies(engine)).listSnapshots()
    expect(listed.snapshots.map(({ structure }) => `snapshots/${structure.ref.session}-${structure.ref.random}`)).not.toContain(name)
    expect(copies(engine)).not.toContain(name!.replaceAll('/', '_'))
  })

  test('fetches anew what was damaged on the local disk', async () => {
    const engine = await engineWithRuns()
    for (const name of copies(engine)) {
      const file = `/copies/${name}`
      const content = Buffer.alloc(engine.fs.stat(-100, Buffer.from(file)).size, 7)
      writeFile(engine, file, content)
    }
    const repository = await openWithCopies(engine)
    expect((await repository.listSnapshots()).snapshots).toHaveLength(3)
    expect((await repository.loadView()).refused).toEqual([])
  })
})
