// A restore that is ended at any call of the file system, by a killed process or by a power cut that loses, tears or keeps what was not synced, and
// is then run again, gives the tree that an undisturbed one gives: nothing beside, nothing missing, no temporary name, no mark.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CWD } from '../../agent/file-system/file-system.ts'
import { restoreSnapshot, type RestoreReport } from '../../agent/restore/restore.ts'
import { fixtureRandom, treeOf } from '../_support/engine-fixture.ts'
import { memoryStore } from '../_support/memory-store.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { type BuiltRepository, buildRepository, directory, file, symlink } from '../_support/repository-fixture.ts'
import { simulatedClock } from '../_support/simulated-clock.ts'
import { atFileCall, simulatedFileSystem, type SimulatedFileSystem } from '../_support/simulated-file-system.ts'

const TARGET = Buffer.from('/restored')
let built: BuiltRepository
let expected: Tree
let calls: number
const left: string[] = []

beforeAll(async () => {
  const content = fixtureRandom('content').bytes(9000)
  built = await buildRepository({
    store: memoryStore(),
    segmentBytes: 4096,
    tree: directory(
      {
        srv: directory(
          {
            data: directory(
              {
                chunked: file(content, { chunkBytes: 2000, mode: 0o4750, uid: 7, gid: 8 }),
                empty: file(''),
                inline: file('short', { attributes: [{ name: Buffer.from('user.note'), value: Buffer.from('kept') }] }),
                linked: file('linked'.repeat(100), { link: { volume: 1, inode: 9n } }),
                sparse: file('xyz', {
                  size: 40_000,
                  extents: [
                    { offset: 4096, bytes: 1 },
                    { offset: 30_000, bytes: 2 },
                  ],
                }),
              },
              { mode: 0o2755, uid: 7, gid: 8 },
            ),
            other: directory({ linked: file('linked'.repeat(100), { link: { volume: 1, inode: 9n } }), pipe: { kind: 'fifo' } }),
            sym: symlink('data/chunked', { mode: 0o777, uid: 7 }),
          },
          { passage: true, mode: 0o711 },
        ),
      },
      { passage: true, mode: 0o711 },
    ),
  })
  const fs = machine()
  expect(await restore(fs)).toMatchObject({ problems: [], beside: 0 })
  calls = fs.calls.length
  expected = treeAt(fs)
})
afterAll(() => expect(left).toEqual([]))

function machine(): SimulatedFileSystem {
  return simulatedFileSystem({ clock: simulatedClock({ autoMs: Infinity }) })
}

function restore(fs: SimulatedFileSystem): Promise<RestoreReport> {
  const { repository, view, snapshot } = built
  return restoreSnapshot({ repository, view, snapshot, keys: built.keys.read, target: TARGET, workers: 0, fs })
}

function treeAt(fs: SimulatedFileSystem): Tree {
  // The target itself was made by nobody's order and has the time of its last change.
  const tree = fs.quietly(() => treeOf(fs, [TARGET.toString()]))
  tree.delete(TARGET.toString())
  return tree
}

test.each([
  ['a killed process, where all that was written stays', undefined, false],
  ['a killed process, into a folder that was there', undefined, true],
  ['a power cut, first way of losing', 'one', false],
  ['a power cut, second way of losing', 'two', false],
  ['a power cut, third way of losing', 'three', true],
])(
  'ended at every single call by %s',
  async (_, seed, there) => {
    expect(calls).toBeGreaterThan(100)
    for (let call = 1; call <= calls; call++) {
      const fs = machine()
      if (there) fs.quietly(() => fs.makeDirectory(CWD, TARGET, 0o755))
      fs.syncAll()
      fs.setFaults(atFileCall(call, 'crash'))
      await restore(fs).catch((error: unknown) => expect(error).toBeInstanceOf(Error))
      // A folder that is there already takes a call less.
      if (!fs.crashed()) break
      fs.reboot(seed === undefined ? undefined : fixtureRandom(`${seed} ${call}`))
      fs.setFaults(() => undefined)
      const report = await restore(fs)
      const tree = treeAt(fs)
      expect({ call, beside: report.beside, problems: report.problems, names: [...tree.keys()].sort() }).toEqual({
        call,
        beside: 0,
        problems: [],
        names: [...expected.keys()].sort(),
      })
      expect(tree, `call ${call}`).toEqual(expected)
      if (fs.openDescriptors() > 0) left.push(`call ${call}: ${fs.openDescriptors()} descriptors`)
      expect(fs.quietly(() => fs.stat(CWD, TARGET).kind)).toBe('directory')
    }
  },
  60_000,
)

test('a power cut right after the end takes nothing back, not even the end', async () => {
  for (let seed = 0; seed < 20; seed++) {
    const fs = machine()
    await restore(fs)
    fs.crash()
    fs.reboot(fixtureRandom(`after the end ${seed}`))
    expect(treeAt(fs), `seed ${seed}`).toEqual(expected)
  }
})
