// What goes into a snapshot comes out of it: contents of every awkward size, holes, links, attributes, names as bytes.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, SMALL_CHUNKS, writeFile } from '../../_support/engine-fixture.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')

describe('a backup', () => {
  test('gives back files of every size around the limits of the format', async () => {
    const engine = await makeEngine()
    const random = fixtureRandom('sizes')
    const { min, mean, max } = SMALL_CHUNKS
    for (const around of [1, 256, min, mean, max, max * 2, 65_536])
      for (const size of [around - 1, around, around + 1]) {
        writeFile(engine, `/src/random-${size}`, random.bytes(size))
        writeFile(engine, `/src/zeros-${size}`, Buffer.alloc(size))
        writeFile(engine, `/src/same-${size}`, Buffer.alloc(size, 'a'))
      }
    writeFile(engine, '/src/runs', Buffer.concat([random.bytes(50_000), Buffer.alloc(100_000), random.bytes(3000), Buffer.alloc(17)]))
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })

  test('gives back a file of more chunks than an entry holds, through chunk lists and pages of them', async () => {
    const engine = await makeEngine({ chunking: { mode: 'gear', min: 64, mean: 320, max: 512 } })
    writeFile(engine, '/src/long', fixtureRandom('long').bytes(2_000_000))
    await engine.backup()
    expect(engine.newest()).toEqual(engine.source())
  })

  test('cuts into fixed sizes where the repository says so', async () => {
    const engine = await makeEngine({ chunking: { mode: 'fixed', min: 262_144, mean: 262_144, max: 262_144 } })
    writeFile(engine, '/src/image', fixtureRandom('image').bytes(600_000))
    await engine.backup()
    expect(engine.newest()).toEqual(engine.source())
    const reader = engine.reader()
    const image = reader.entries(reader.snapshots[0]!).get('/src/image')!
    expect(reader.chunkIds(image)).toHaveLength(3)
  })

  test('gives back a directory of many thousand names, page by page', async () => {
    const engine = await makeEngine()
    change(engine, (fs) => {
      for (let i = 0; i < 6000; i++) fs.makeSymlink(CWD, b(`/src/${'name'.repeat(10)}-${i}`), b(`target ${i}`))
    })
    await engine.backup()
    expect(engine.newest()).toEqual(engine.source())
  })

  test('keeps links, holes, attributes, owners, times, devices and names that are not text', async () => {
    const engine = await makeEngine()
    awkward(engine)
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(run.problems).toEqual([])
    expect(engine.newest()).toEqual(engine.source())
    expect(run.notices).toEqual([expect.stringMatching(/^left out \/.*: it is a socket/)])
  })

  test('gives back any tree, after any further changes, and all its snapshots stay as they were', async () => {
    const names = fc.constantFrom('a', 'b', 'c', 'dir/a', 'dir/b', 'dir/deep/er/c', 'other/\xff\xfe', 'other/x y')
    const contents = fc.oneof(
      fc.nat(600).map((size) => Buffer.alloc(size, size)),
      fc.tuple(fc.nat(40_000), fc.nat(20)).map(([size, seed]) => fixtureRandom(`content ${seed}`).bytes(size)),
    )
    const act = fc.oneof(
      { weight: 5, arbitrary: fc.record({ act: fc.constant('write' as const), name: names, content: contents }) },
      fc.record({ act: fc.constant('remove' as const), name: names }),
      fc.record({ act: fc.constant('patch' as const), name: names, at: fc.nat(30_000) }),
      fc.record({ act: fc.constant('rename' as const), name: names, to: names }),
      fc.record({ act: fc.constant('touch' as const), name: names, time: fc.bigInt(-(2n ** 61n), 2n ** 62n) }),
    )
    const rounds = fc.array(fc.record({ acts: fc.array(act, { maxLength: 8 }), passes: fc.boolean() }), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(rounds, async (list) => {
        const engine = await makeEngine()
        writeFile(engine, '/src/always', 'here')
        const wanted: Map<string, string>[] = []
        for (const { acts, passes } of list) {
          for (const one of acts) {
            const path = `/src/${one.name}`
            if (one.act === 'write') writeFile(engine, path, one.content)
            else attempt(engine, one)
          }
          if (passes) engine.pass()
          const run = await engine.backup()
          expect(run.outcome).toBe('done')
          wanted.push(engine.source())
        }
        const reader = engine.reader()
        expect(reader.snapshots.map(reader.tree)).toEqual(wanted)
        expect(engine.fs.openDescriptors()).toBe(0)
      }),
      { numRuns: 60 },
    )
  })
})

/** A change that may find nothing to change. */
function attempt(engine: Engine, one: { act: string; name: string; at?: number; to?: string; time?: bigint }): void {
  const path = b(`/src/${one.name}`)
  change(engine, (fs) => {
    try {
      if (one.act === 'remove') fs.remove(CWD, path, 'file')
      else if (one.act === 'rename') fs.rename(CWD, path, CWD, b(`/src/${one.to!}`), false)
      else if (one.act === 'touch') fs.setTimes(CWD, path, one.time!)
      else {
        const fd = fs.open(CWD, path, 'update')
        fs.write(fd, b('patched'), one.at!)
        fs.close(fd)
      }
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'FileError') throw error
    }
  })
}

function awkward(engine: Engine): void {
  writeFile(engine, '/src/file', 'content of a file')
  writeFile(engine, '/src/large', fixtureRandom('large').bytes(30_000))
  writeFile(engine, '/src/\xff\xfe/\x01 \n', 'not text')
  change(engine, (fs) => {
    const at = (name: string): Buffer => b(`/src/${name}`)
    fs.makeHardLink(CWD, at('large'), CWD, at('large again'))
    fs.makeDirectory(CWD, at('empty'), 0o1777)
    fs.makeSymlink(CWD, at('link'), Buffer.from('ff80', 'hex'))
    fs.makeHardLink(CWD, at('link'), CWD, at('link again'))
    fs.makeNode(CWD, at('fifo'), { kind: 'fifo', mode: 0o644, major: 0, minor: 0 })
    fs.makeNode(CWD, at('socket'), { kind: 'socket', mode: 0o644, major: 0, minor: 0 })
    fs.makeNode(CWD, at('char'), { kind: 'character-device', mode: 0o600, major: 4095, minor: 1_048_575 })
    fs.makeNode(CWD, at('block'), { kind: 'block-device', mode: 0o600, major: 7, minor: 300 })
    for (const [name, size, pieces] of [
      ['all hole', 5_000_000, []],
      ['small hole', 100, []],
      [
        'holes',
        300_001,
        [
          [8192, 5000],
          [200_000, 4096],
        ],
      ],
      ['hole at end', 100_000, [[0, 10]]],
    ] as const) {
      const fd = fs.open(CWD, at(name), 'create')
      for (const [offset, length] of pieces) fs.write(fd, fixtureRandom(name).bytes(length), offset)
      fs.truncate(fd, size)
      fs.close(fd)
    }
    for (const name of ['file', 'large', 'empty', 'link', 'fifo', 'char', 'holes']) {
      fs.setAttribute(CWD, at(name), b('user.\xff'), Buffer.from([0, 255, 1]))
      fs.setAttribute(CWD, at(name), b('security.empty'), Buffer.alloc(0))
      fs.setOwner(CWD, at(name), 4_294_967_294, 1)
    }
    fs.setMode(CWD, at('file'), 0o6751)
    let time = -(2n ** 62n)
    for (const name of ['file', 'large', 'empty', 'link', 'fifo', 'char', 'holes', 'all hole'])
      fs.setTimes(CWD, at(name), (time += 1_000_000_000_000_000_001n))
    fs.setTimes(CWD, b('/src'), -1n)
  })
}
