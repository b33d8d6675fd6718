// The oracle itself is tested: a faithful copy by GNU cp differs in nothing, and every kind of planted difference is found.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildAwkwardTree } from './awkward-tree.ts'
import { compareManifests, compareTrees, seesAttributes, treeManifest } from './tree-manifest.ts'

const asRoot = process.getuid?.() === 0
const MIB = 1024 * 1024
let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tree-manifest-'))
})
afterAll(() => {
  execFileSync('chmod', ['-R', 'u+rwX', directory])
  rmSync(directory, { recursive: true, force: true })
})

function sh(script: string): void {
  execFileSync('sh', ['-ec', script], { cwd: directory })
}

test.skipIf(!asRoot)(
  'a faithful copy of the awkward tree has no difference, and each planted one is found',
  async () => {
    mkdirSync(join(directory, 'a'))
    const made = buildAwkwardTree(join(directory, 'a'), { ordinary: 60, hugeHoleBytes: 128 * MIB })
    expect(made.leftOut).toEqual([])
    expect((await treeManifest(join(directory, 'a'))).size).toBe(made.entries + 1)
    sh('cp -a a b')
    const options = { holesWithinBlocks: 16, top: true }
    expect(await compareTrees(join(directory, 'a'), join(directory, 'b'), options)).toEqual([])

    // Each line changes one thing and keeps the time of what it touches, or changes that alone.
    const planted = [
      ['content', 'f=b/ordinary/directory-0/file-0.txt; touch -r $f t; printf X | dd of=$f bs=1 conv=notrunc status=none; touch -r t $f'],
      ['size', 'f=b/sizes/random-4096; touch -r $f t; truncate -s 4095 $f; touch -r t $f'],
      ['mode', 'chmod 601 b/modes/file-600'],
      ['owner', 'chown -h 77 b/links/symlink-loop'],
      ['mtime', 'touch -h -d @1.000000002 b/times/symlink-1'],
      ['link target', 'touch -h -r b/links/symlink-up t; ln -sfn ../.. b/links/symlink-up; touch -h -r t b/links/symlink-up'],
      ['hard-link group', 'cp -a b/links/linked-3 t3; mv -f t3 b/links/linked-3'],
      ['device number', 'touch -r b/nodes/null t; rm b/nodes/null; mknod -m 640 b/nodes/null c 1 5; touch -r t b/nodes/null'],
      ['kind', 'touch -r b/nodes/fifo t; rm b/nodes/fifo; : >b/nodes/fifo; chmod 640 b/nodes/fifo; touch -r t b/nodes/fifo'],
      ['missing', 'rm "$(printf \'b/names/b\\377\')"'],
      ['blocks', 'f=b/holes/all-small; g=b/holes/middle; touch -r $g t; cp --sparse=never $g $g-x; cat $g-x >$g; rm $g-x; touch -r t $g'],
      ['flags', 'chattr +d b/modes/file-600'],
      ['not in the first tree', "touch 'b/empty\nnew'"],
      ...(seesAttributes
        ? [
            ['attributes', 'setfattr -x user.empty b/attributes/with-user'],
            ['attributes', 'setfattr -h -n trusted.kept -v other b/attributes/symlink'],
          ]
        : []),
    ]
    const original = await treeManifest(join(directory, 'a'))
    let before: string[] = []
    for (const [what, script] of planted) {
      sh(script ?? '')
      const after = compareManifests(original, await treeManifest(join(directory, 'b')), options)
      expect(after.filter((line) => !before.includes(line)).join('\n'), script).toContain(what)
      before = after
    }
  },
  120_000,
)

test('the same seed makes the same tree', async () => {
  for (const name of ['c', 'd']) {
    mkdirSync(join(directory, name))
    buildAwkwardTree(join(directory, name), { seed: 7, ordinary: 20, hugeHoleBytes: 128 * MIB })
  }
  const differences = await compareTrees(join(directory, 'c'), join(directory, 'd'))
  expect(differences.filter((line) => !line.includes('mtime'))).toEqual([])
})

test.skipIf(!asRoot)('paths that no tool can be given whole are read too', async () => {
  mkdirSync(join(directory, 'deep'))
  buildAwkwardTree(join(directory, 'deep'), { ordinary: 0, hugeHoleBytes: 128 * MIB, deepestPathBytes: 9000, allNameBytes: false })
  const manifest = await treeManifest(join(directory, 'deep', 'deep'))
  expect(Math.max(...[...manifest.keys()].map((path) => path.length))).toBeGreaterThan(8800)
  const bottom = [...manifest.values()].find((entry) => entry.path.endsWith('/bottom'))
  expect(bottom?.content).toBe(createHash('sha256').update('far down').digest('hex'))
  expect(bottom?.attributes).toEqual(seesAttributes ? ['user.bottom=0x64656570'] : [])
})
