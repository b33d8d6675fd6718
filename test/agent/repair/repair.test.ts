// A repair over damage of every kind: it never takes anything from a reader, says exactly what is lost, makes index files say what packs hold, does
// nothing when it is run again, and removes and overwrites nothing. HOLDFAST_SEED replays the share of a day.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { repairRepository, type RepairReport } from '../../../agent/repair/repair.ts'
import { indexFilesFromFooters, readFooter } from '../../../agent/repository/footer-reader.ts'
import { readPack } from '../../../agent/check/read-pack.ts'
import { listRefs, openRepository, type Repository } from '../../../agent/repository/repository.ts'
import { claimsOf, restorable } from '../../_support/restorable.ts'
import { rotatingSeed, soak, soakResult } from '../../_support/soak.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { type Damage, damage, type Damaged, DAMAGES, severalPacks } from './damage.ts'

const open = ({ store, keys }: Damaged): Promise<Repository> => openRepository({ store, keys: keys.write.structure })

async function repair(
  built: Damaged,
  more: { dryRun?: boolean; asRoot?: boolean; readData?: 'all' | ReadonlySet<string> } = {},
): Promise<RepairReport> {
  return repairRepository({
    repository: await open(built),
    keys: built.keys.write,
    read: more.asRoot === false ? undefined : built.keys.read,
    readData: more.readData ?? 'all',
    dryRun: more.dryRun ?? false,
    random: seededRandom(`repair ${built.store.calls.length}`),
    now: 5_000,
    signal: new AbortController().signal,
  })
}

const writes = ({ store }: Damaged): string[] => store.calls.filter((call) => /^(?:put|remove)/.test(call))

/** A report without what differs where nothing is written, and without functions. */
function plain(report: RepairReport): unknown {
  const snapshots = report.losses.snapshots.map(({ snapshot, ...loss }) => ({ ...loss, id: snapshot.structure.ref.random }))
  return { ...report, indexFilesWritten: 0, bytesRead: 0, losses: { ...report.losses, snapshots } }
}

/** What index files should say: all that footers say, less what is damaged. */
async function truth(built: Damaged): Promise<string[]> {
  const repository = await open(built)
  const packs = []
  for (const ref of await listRefs(repository.store, 'packs/')) {
    try {
      const { bad } = await readPack(repository, ref, ref.info.bytes, {})
      const opened = await readFooter(repository, ref, ref.info.bytes)
      const segments = opened.footer.segments.filter(({ offset }) => !bad.has(offset))
      packs.push({ bytes: opened.bytes, footer: { ...opened.footer, segments } })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
    }
  }
  return claimsOf(indexFilesFromFooters(packs))
}

async function demandAll(built: Damaged, label: string): Promise<void> {
  const { store, keys } = built
  const before = await restorable(store, keys)
  const names = new Map([...store.objects].map(([name, object]) => [name, Buffer.from(object)]))
  store.calls.length = 0
  const said = await repair(built, { dryRun: true })
  expect(writes(built), `${label}: a dry run writes nothing`).toEqual([])
  const report = await repair(built)
  expect(
    writes(built).filter((call) => !/^put (?:index|sessions)\//.test(call)),
    `${label}: nothing but index files and a session`,
  ).toEqual([])
  for (const [name, object] of names) expect(store.objects.get(name)?.equals(object), `${label}: ${name} stays as it was`).toBe(true)
  expect(plain(said), `${label}: a dry run says the same`).toEqual(plain(report))

  const after = await restorable(store, keys)
  for (const [path, hash] of before.files) expect(after.files.get(path), `${label}: ${path} can still be restored`).toBe(hash)
  // Exact: what is called lost does not come back, and all that does not come back is called lost.
  const snapshot = built.snapshot.structure.ref.random.slice(0, 8)
  expect(report.losses.paths.map(({ path }) => `${snapshot} ${path.toString()}`).sort(), `${label}: loss is exact`).toEqual(
    [...after.failed].sort(),
  )
  expect(report.losses.unsure, label).toBe(0)

  const { view, refused } = await (await open(built)).loadView()
  expect(refused, `${label}: no index file is in the way`).toEqual([])
  const wanted = await truth(built)
  const said2 = claimsOf(view.files)
  // Of a pack without a footer the root may keep what opens; everything else is as footers say.
  expect(
    said2
      .filter((line) => !wanted.includes(line))
      .every((line) => report.notes.some(({ object, verdict }) => verdict === 'damaged' && object.includes(line.split(' ')[2]!))),
    `${label}: nothing too much`,
  ).toBe(true)
  expect(
    wanted.filter((line) => !said2.includes(line)),
    `${label}: nothing too little`,
  ).toEqual([])

  store.calls.length = 0
  const again = await repair(built)
  expect(writes(built), `${label}: once more does nothing`).toEqual([])
  expect(again).toMatchObject({ replaced: 0, packsIndexed: 0, indexFilesWritten: 0 })
  // A pack without a footer that nothing names is told of until it is collected.
  const named = new Set([...view.packs()].map(({ random }) => random))
  const isUnnamed = (object: string): boolean => object.startsWith('packs/') && !named.has(object.slice(-32))
  const check = await checkRepository({ repository: await open(built), readData: 'all', keys: keys.read })
  expect(
    {
      damaged: check.damaged,
      unknown: check.unknown,
      findings: check.findings.filter(({ message, object }) => !message.includes('nothing is lost') && !isUnnamed(object)),
    },
    `${label}: only loss is left`,
  ).toEqual({
    damaged: report.losses.lost + check.findings.length,
    unknown: 0,
    findings: [],
  })
}

describe('a repair', () => {
  test('of a sound repository writes nothing', async () => {
    const built = await severalPacks()
    built.store.calls.length = 0
    const report = await repair(built)
    expect(report).toMatchObject({
      notes: [],
      replaced: 0,
      packsIndexed: 0,
      indexFilesWritten: 0,
      unread: 0,
      losses: { lost: 0, paths: [] },
    })
    expect(writes(built)).toEqual([])
  })

  test.each(DAMAGES)('keeps its promises: %s', async (kind) => {
    const built = await severalPacks()
    damage(built, { kind, which: 0.45, at: 0.3 })
    await demandAll(built, kind)
  })

  // Found by the property below: a replaced file that was untrue is heard where it says more than the true one, and must not be believed.
  test.each<{ damages: Damage[] }>([
    {
      damages: [
        { kind: 'index untrue about a place', which: 0, at: 0 },
        { kind: 'pack flipped in a segment', which: 0, at: 0 },
      ],
    },
    {
      damages: [
        { kind: 'index untrue about ids', which: 0.8571428571428571, at: 0 },
        { kind: 'trailer flipped', which: 0.8571428571428571, at: 0 },
      ],
    },
    {
      damages: [
        { kind: 'index forged', which: 0, at: 0 },
        { kind: 'pack longer', which: 0, at: 0 },
        { kind: 'index untrue about a place', which: 0, at: 0 },
      ],
    },
  ])('keeps its promises: $damages', async ({ damages }) => {
    const built = await severalPacks()
    for (const one of damages) damage(built, one)
    await demandAll(built, JSON.stringify(damages))
  })

  test('keeps its promises over any damage', { timeout: soak ? 3_600_000 : 600_000 }, async () => {
    const seed = Number.parseInt(seededRandom(rotatingSeed()).bytes(4).toString('hex'), 16) | 0
    const runs = Number(process.env['HOLDFAST_REPAIR_RUNS'] ?? (soak ? 2000 : 25))
    const started = performance.now()
    const fraction = fc.double({ min: 0, max: 0.999, noNaN: true })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ kind: fc.constantFrom(...DAMAGES), which: fraction, at: fraction }), { minLength: 1, maxLength: 6 }),
        async (damages) => {
          const built = await severalPacks()
          for (const one of damages) damage(built, one)
          await demandAll(built, JSON.stringify(damages))
        },
      ),
      { numRuns: runs, seed },
    )
    soakResult({
      suite: 'repair',
      figure: 'damage patterns repaired without loss',
      asked: 2000,
      value: runs,
      violations: 0,
      seed: String(seed),
      seconds: Math.round((performance.now() - started) / 1000),
    })
  })
})
