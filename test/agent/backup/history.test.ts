// Many runs, several writers, interrupted ones: the chain of snapshots, index files that stay few, chunks that are shared, nodes that are not.
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import { encodeRoster } from './roster-object.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { atOperation, onNames } from '../../_support/simulated-store.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')

describe('a series', () => {
  test('is a chain: sequence from 1, each snapshot naming the one before by its hash', async () => {
    const engine = await makeEngine()
    for (let i = 0; i < 4; i++) {
      writeFile(engine, '/src/file', `state ${i}`)
      engine.pass()
      await engine.backup({ tags: ['daily', 'daily', `n-${i}`] })
      await engine.backup({ label: 'other' })
    }
    const { snapshots } = engine.reader()
    const series = new Set(snapshots.map(({ structure }) => structure.series.toString('hex')))
    expect(series.size).toBe(2)
    for (const one of series) {
      const chain = snapshots
        .filter(({ structure }) => structure.series.toString('hex') === one)
        .sort((x, y) => x.structure.sequence - y.structure.sequence)
      expect(chain.map(({ structure }) => structure.sequence)).toEqual([1, 2, 3, 4])
      expect(chain[0]!.structure.previous).toEqual(Buffer.alloc(32))
      for (let i = 1; i < chain.length; i++) expect(chain[i]!.structure.previous).toEqual(chain[i - 1]!.hash)
    }
    // Both series have a snapshot of that moment.
    const part = snapshots.map((one) => one.openPrivate(engine.keys.read)).findLast((one) => one?.source === 'source')
    expect(part).toMatchObject({ host: 'host', source: 'source', tags: ['daily', 'n-3'], program: 'test', problems: [] })
    expect(part?.paths).toEqual([b('/src')])
  })

  test('of many runs keeps few index files, and everything still reads back', async () => {
    const engine = await makeEngine()
    const wanted: Map<string, string>[] = []
    let most = 0
    for (let i = 0; i < 40; i++) {
      writeFile(engine, `/src/file-${i % 7}`, fixtureRandom(`run ${i}`).bytes(3000 + i))
      engine.pass()
      await engine.backup()
      wanted.push(engine.source())
      if (i % 5 !== 4) continue
      const files = engine.reader().indexFiles
      const replaced = new Set(files.flatMap((file) => file.replaces.map((ref) => ref.random)))
      most = Math.max(most, files.filter((file) => !replaced.has(file.ref.random)).length)
    }
    expect(most).toBeLessThanOrEqual(20)
    const reader = engine.reader()
    expect(reader.snapshots.map(reader.tree)).toEqual(wanted)
    // What a merged file replaces may go: nothing rests on it.
    const replaced = new Set(reader.indexFiles.flatMap((file) => file.replaces.map((ref) => ref.random)))
    expect(replaced.size).toBeGreaterThan(16)
    for (const name of engine.bucket.names('index/')) if (replaced.has(name.split('-')[1]!)) engine.bucket.tamper(name, () => undefined)
    const without = engine.reader()
    expect(without.snapshots.map(without.tree)).toEqual(wanted)
    engine.pass()
    const run = await engine.backup()
    expect(run.summary).toMatchObject({ chunksNew: 0, packs: 0 })
  })

  test('goes on after an index file was damaged: it is named, and what it alone told of is found by the footers and indexed again', async () => {
    const engine = await makeEngine()
    writeFile(engine, '/src/file', fixtureRandom('index').bytes(20_000))
    engine.pass()
    await engine.backup()
    const [name] = engine.bucket.names('index/')
    engine.bucket.tamper(name!, (bytes) => {
      bytes[100]! ^= 1
      return bytes
    })
    engine.pass()
    const run = await engine.backup()
    expect(run.notices.join()).toContain('damaged')
    expect(run.summary.chunksNew).toBe(0)
    engine.bucket.tamper(name!, () => undefined)
    const reader = engine.reader()
    expect(reader.tree(reader.snapshots[1]!)).toEqual(engine.source())
  })
})

describe('two writers of one domain', () => {
  async function twoAgents(): Promise<[Engine, Engine]> {
    const random = fixtureRandom('agents')
    const writers = [1, 2].map((n) => agentWriter(random.bytes(32), Buffer.alloc(16, n)))
    const first = await makeEngine({ seed: 'first', writeKeys: (keys) => ({ ...keys.write, writer: writers[0]! }) })
    const second = await makeEngine({ seed: 'second', beside: first, writeKeys: (keys) => ({ ...keys.write, writer: writers[1]! }) })
    await first.bucket.store().put(...encodeRoster(first.keys, writers, first.clock.now()))
    return [first, second]
  }

  test('at once make two snapshots that both read back', async () => {
    const [first, second] = await twoAgents()
    for (const engine of [first, second]) {
      writeFile(engine, '/src/shared', fixtureRandom('shared').bytes(50_000))
      writeFile(engine, `/src/own`, fixtureRandom(engine === first ? 'one' : 'two').bytes(9000))
      engine.pass()
    }
    await Promise.all([first.backup(), second.backup()])
    const reader = first.reader()
    expect(reader.snapshots).toHaveLength(2)
    const trees = reader.snapshots.map(reader.tree)
    expect(trees).toContainEqual(first.source())
    expect(trees).toContainEqual(second.source())
  })

  test('share chunks, and never take over a tree node of the other', async () => {
    const [first, second] = await twoAgents()
    for (const engine of [first, second]) {
      for (let i = 0; i < 5; i++) writeFile(engine, `/src/directory/file-${i}`, fixtureRandom(`same ${i}`).bytes(4000))
      change(engine, (fs) => fs.setTimes(CWD, b('/src/directory'), 1n))
    }
    first.pass()
    await first.backup()
    first.pass()
    const run = await second.backup()
    expect(run.summary).toMatchObject({ chunksNew: 0, bytesNew: 0 })
    expect(run.summary.packs).toBe(1)
    // The second writer's nodes stand in index files that it signed itself, as if there were no other.
    const reader = second.reader()
    const files = reader.indexFiles.filter((file) => file.writerKey.equals(reader.snapshots[1]!.writerKey))
    const own = new Set(
      files.flatMap((file) =>
        Array.from({ length: file.blobCount }, (_, row) => {
          const { kind } = file.segment(file.blobs.readUInt32LE(row * 44 + 32))
          return `${kind} ${file.blobs.toString('hex', row * 44, row * 44 + 32)}`
        }),
      ),
    )
    const entries = reader.entries(reader.snapshots[1]!)
    const nodes = [reader.snapshots[1]!.structure.root, ...[...entries.values()].flatMap(({ node }) => (node === undefined ? [] : [node]))]
    for (const node of nodes) {
      expect(own.has(`${SEGMENT_KIND.private} ${node}`)).toBe(true)
      expect(own.has(`${SEGMENT_KIND.references} ${node}`)).toBe(true)
    }
    expect(reader.tree(reader.snapshots[1]!)).toEqual(second.source())
  })
})

describe('after a run was killed', () => {
  test('nodes of which one part only became durable are stored again', async () => {
    // Private parts of nodes fill their segment long before reference parts do theirs, so a pack closes between the two.
    const engine = await makeEngine({ limits: { packBytes: 200_000, uploadsAtOnce: 1 } })
    change(engine, (fs) => {
      for (let i = 0; i < 12; i++) {
        fs.makeDirectory(CWD, b(`/src/directory-${i}`), 0o755)
        for (let j = 0; j < 400; j++)
          fs.makeSymlink(CWD, b(`/src/directory-${i}/link-${j}`), b(fixtureRandom(`${i} ${j}`).bytes(200).toString('hex')))
      }
    })
    engine.pass()
    let packs = 0
    engine.setStoreFaults(
      onNames('packs/', ({ operation }) => (operation === 'put' && ++packs === 2 ? [{ kind: 'crash', when: 'before' }] : [])),
    )
    await expect(engine.backup()).rejects.toThrow()
    expect(engine.bucket.names('packs/')).toHaveLength(1)
    // What was not finished is gone, and so is what the disk had not been told to keep.
    engine.reboot()
    change(engine, (fs) => {
      const fd = fs.open(CWD, b('/state/spool'), 'directory')
      for (const name of fs.readDirectory(fd)) if (/\.(pack|part)$/.test(name.toString())) fs.remove(fd, name, 'file')
      fs.close(fd)
    })
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(run.summary.packsResumed).toBe(1)
    expect(engine.newest()).toEqual(engine.source())
  })

  test('whole packs in the spool go up as they are, once, and the run needs no second reading of them to be good', async () => {
    const engine = await makeEngine({ limits: { packBytes: 5000 } })
    for (let i = 0; i < 8; i++) {
      writeFile(engine, `/src/file-${i}`, fixtureRandom(`killed ${i}`).bytes(6000))
      change(engine, (fs) => fs.setOwner(CWD, b(`/src/file-${i}`), i, i))
    }
    engine.pass()
    engine.setStoreFaults(
      onNames('packs/', ({ operation, nth }) => (operation === 'put' && nth > 4 ? [{ kind: 'crash', when: 'after' }] : [])),
    )
    await expect(engine.backup()).rejects.toThrow()
    engine.reboot()
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(run.summary.packsResumed).toBeGreaterThan(1)
    const names = engine.bucket.trace
      .filter(({ operation, name, outcome }) => operation === 'put' && name.startsWith('packs/') && outcome !== 'taken')
      .map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(engine.newest()).toEqual(engine.source())
  })

  test('a store that kept half of an upload costs one more run, not all to come', async () => {
    const engine = await makeEngine()
    writeFile(engine, '/src/file', fixtureRandom('torn').bytes(50_000))
    engine.pass()
    engine.setStoreFaults(onNames('packs/', atOperation('put', { kind: 'torn', keepBytes: 1000, reported: 'failure' })))
    await expect(engine.backup()).rejects.toMatchObject({ code: 'store-unreachable' })
    engine.setStoreFaults(() => [])
    await expect(engine.backup()).rejects.toMatchObject({ code: 'store-unsuitable' })
    expect(engine.bucket.names('snapshots/')).toEqual([])
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })
})
