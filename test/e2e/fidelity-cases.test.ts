// Every named case of restore fidelity, on file systems of its own: made by Debian's tools, backed up and restored by the real commands as root,
// compared by the independent oracle. In a soak GNU tar, restic and borg take the same trees, and nothing that one of them keeps may be lost.
import { cpSync, mkdirSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Workplace } from '../agent/cli/_support/cli.ts'
import { runReader } from '../reader/reader-support.ts'
import { FIDELITY_CASES, EXCLUDED_SUFFIX, type FileSystemKind } from '../_support/fidelity-cases.ts'
import { differencesByCase, makeCases, type NumberedCase, numbered } from '../_support/fidelity-trees.ts'
import { type Mounted, mountEmpty } from '../_support/mounted-file-system.ts'
import { PEERS, peerRestore } from '../_support/peers.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { type ManifestEntry, treeManifest } from '../_support/tree-manifest.ts'

const asRoot = process.getuid?.() === 0
const ASKED = 150
const KINDS: readonly FileSystemKind[] = soak ? ['ext4', 'tmpfs', 'xfs', 'btrfs'] : ['ext4', 'tmpfs', 'xfs']
const SIZE_GIB = 8
/** By the single-file reader: all in a soak, otherwise one, another every day. */
const READ_ON = KINDS.filter((_, i) => soak || i === Number.parseInt(rotatingSeed().replace(/\D/g, '') || '0', 10) % KINDS.length)
type Tree = 'ordinary' | NonNullable<NumberedCase['tree']>
const TREES: readonly Tree[] = ['ordinary', 'beyond', 'deep', 'large']
const CASES = numbered(FIDELITY_CASES)
const begun = performance.now()
const figures = { cases: 0, violations: 0 }

let work: Workplace
beforeAll(() => {
  work = new Workplace()
})
afterAll(() => {
  work.close()
  const seconds = Math.round((performance.now() - begun) / 1000)
  const { cases, violations } = figures
  const figure = 'restore fidelity cases (ext4, tmpfs, xfs)'
  if (asRoot) soakResult({ suite: 'fidelity', figure, asked: ASKED, value: cases, violations, seed: rotatingSeed(), seconds })
})

describe.skipIf(!asRoot).each(KINDS)('on %s', (kind) => {
  const cases = CASES.filter(({ notOn }) => notOn?.includes(kind) !== true)
  const of: Readonly<Record<Tree, readonly NumberedCase[]>> = {
    ordinary: cases.filter(({ tree }) => tree === undefined),
    beyond: cases.filter(({ tree }) => tree === 'beyond'),
    deep: cases.filter(({ tree }) => tree === 'deep'),
    large: cases.filter(({ tree }) => tree === 'large'),
  }
  let place: string
  let mounted: Mounted | string = 'not tried'
  let repo: string
  const manifests = new Map<Tree, Map<string, ManifestEntry>>()
  const manifestOf = (tree: Tree): Map<string, ManifestEntry> => manifests.get(tree) ?? new Map()
  const differences = new Map<NumberedCase, string[]>()
  const snapshots = new Map<Tree, string>()
  const said: string[] = []

  const run = async (args: readonly string[]): Promise<Awaited<ReturnType<Workplace['json']>>['summary']> =>
    (await work.json(args, { env: { HOLDFAST_REPO: repo } })).summary

  beforeAll(async () => {
    place = work.path(kind)
    repo = work.path(`repository of ${kind}`)
    mounted = await mountEmpty(kind, place, work.path(`${kind}.img`), SIZE_GIB * 1024)
    if (typeof mounted === 'string') return
    expect((await run(['init'])).exitCode).toBe(0)
    for (const tree of TREES) {
      const source = join(place, tree)
      mkdirSync(source)
      await makeCases(source, join(place, 'outside'), of[tree])
      manifests.set(tree, await treeManifest(source, { dataMaps: true }))
      const backup = await run(['backup', source, '--exclude', `*${EXCLUDED_SUFFIX}`])
      if (backup.exitCode !== 0) said.push(`backup of ${tree}: ${JSON.stringify(backup)}`)
      snapshots.set(tree, backup.snapshotId ?? '')
      const target = join(place, `restored ${tree}`)
      const restore = await run(['restore', backup.snapshotId ?? '', '--target', target])
      if (restore.exitCode !== 0) said.push(`restore of ${tree}: ${JSON.stringify(restore)}`)
      const after = await treeManifest(join(target, source), { dataMaps: true })
      for (const [one, lines] of differencesByCase(of[tree], manifestOf(tree), after)) differences.set(one, lines)
    }
    figures.cases = figures.cases === 0 ? cases.length : Math.min(figures.cases, cases.length)
    figures.violations += [...differences.values()].filter((lines) => lines.length > 0).length
  }, 300_000)

  afterAll(async () => {
    if (typeof mounted !== 'string') await mounted.unmount()
  })

  /** A test of this file system; where it could not be mounted, it is named with the reason. */
  const onIt = (name: string, test: () => void | Promise<void>, timeout = 60_000): void => {
    it(
      name,
      async (context) => {
        if (typeof mounted === 'string') return context.skip(`no ${kind} here: ${mounted}`)
        await test()
      },
      timeout,
    )
  }

  onIt(`holds at least ${ASKED} cases, and no command names a problem`, () => {
    expect(cases.length).toBeGreaterThanOrEqual(ASKED)
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
    expect(said).toEqual([])
  })

  for (const one of cases) onIt(`comes back: ${one.name}`, () => expect(differences.get(one)).toEqual([]))

  onIt('a second restore into the same place finds everything as it should be', async () => {
    const again = await run(['restore', snapshots.get('ordinary') ?? '', '--target', join(place, 'restored ordinary')])
    expect(again).toMatchObject({ exitCode: 0 })
  })

  if (READ_ON.includes(kind))
    onIt(
      'the single-file reader brings back all but flags and holes, and names the flags',
      async () => {
        const copy = work.path(`objects of ${kind}`)
        cpSync(repo, copy, { recursive: true })
        const target = join(place, 'read')
        const ran = await runReader(copy, snapshots.get('ordinary') ?? '', target, { password: work.env['HOLDFAST_PASSWORD'] ?? '' })
        const lines = ran.stderr.split('\n').filter((line) => line !== '' && !line.includes("'holdfast.flags'"))
        expect(lines).toEqual([])
        const after = await treeManifest(join(target, place, 'ordinary'))
        const found = differencesByCase(of.ordinary, manifestOf('ordinary'), after, { flags: false, dataMaps: false })
        expect(shownByName(found)).toEqual({})
      },
      120_000,
    )

  if (soak)
    onIt(
      'loses nothing that GNU tar, restic or borg keeps',
      async () => {
        const lost = new Map<string, Map<NumberedCase, string[]>>([['holdfast', differences]])
        for (const peer of PEERS) {
          const found = new Map<NumberedCase, string[]>()
          for (const tree of ['ordinary', 'beyond', 'deep'] as const) {
            const source = join(place, tree)
            const restored = await peerRestore(peer, source, join(place, `${peer} ${tree}`), work.path(`${peer} of ${kind} ${tree}`))
            // Ended without having saved anything: that a peer fails at the ordinary cases is a fault of this test.
            if (restored === undefined) {
              expect(tree).toBe('deep')
              for (const one of of[tree]) found.set(one, [`${peer} failed as a whole`])
              continue
            }
            const after = await treeManifest(restored, { dataMaps: true })
            for (const [one, lines] of differencesByCase(of[tree], manifestOf(tree), after)) found.set(one, lines)
          }
          lost.set(peer, found)
        }
        // What a peer lost for lack of room would say nothing of it.
        const { bavail, bsize } = statfsSync(place)
        expect(bavail * bsize).toBeGreaterThan(2 ** 30)
        writeSync(1, tableOf(kind, lost))
        const worse = cases.filter(
          (one) => differences.get(one)?.length !== 0 && PEERS.some((peer) => lost.get(peer)?.get(one)?.length === 0),
        )
        expect(worse.map(({ name }) => name)).toEqual([])
      },
      600_000,
    )
})

function shownByName(found: ReadonlyMap<NumberedCase, readonly string[]>): Record<string, readonly string[]> {
  return Object.fromEntries([...found].filter(([, lines]) => lines.length > 0).map(([{ name }, lines]) => [name, lines.slice(0, 5)]))
}

function tableOf(kind: string, lost: ReadonlyMap<string, ReadonlyMap<NumberedCase, readonly string[]>>): string {
  const lines = [...lost].flatMap(([tool, found]) => {
    const losing = [...found].filter(([, differing]) => differing.length > 0)
    return [`${kind}: ${tool}: ${losing.length} of ${found.size} cases lost`, ...losing.map(([one, [first]]) => `  ${one.name}: ${first}`)]
  })
  return `${lines.join('\n')}\n`
}
