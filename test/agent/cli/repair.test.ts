// Damage at night, by the commands that a person has: check says what is lost, repair says what it would do and does it, the next backup makes everything
// whole again, also what is older.
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seededRandom } from '../../_support/seeded-random.ts'
import { only, Workplace } from './_support/cli.ts'

let place: Workplace
const noise = (length: number, seed: string): Buffer => seededRandom(seed).bytes(length)

beforeAll(async () => {
  place = new Workplace()
  mkdirSync(place.path('source', 'letters'), { recursive: true })
  writeFileSync(place.path('source', 'large.bin'), noise(3_000_000, 'large'))
  for (let i = 0; i < 5; i++) writeFileSync(place.path('source', 'letters', `letter-${i}.txt`), noise(20_000, `letter ${i}`))
  await place.json(['init'])
  await place.json(['backup', 'source'])
  writeFileSync(place.path('source', 'letters', 'new.txt'), noise(9000, 'new'))
  await place.json(['backup', 'source'])
})
afterAll(() => place.close())

function objects(under: string): string[] {
  return readdirSync(join(place.repo, under), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** Everything in the repository, to see that nothing changes. */
const state = (): Map<string, string> =>
  new Map(
    ['packs', 'index', 'snapshots', 'sessions'].flatMap((under) =>
      objects(under).map((path) => [path, readFileSync(path).toString('hex')]),
    ),
  )

describe('damage', () => {
  it('is not there at first: structure, data by rotation, and content are sound', async () => {
    expect((await place.json(['check'])).summary).toMatchObject({ result: 'done', exitCode: 0, counts: { damaged: 0, packsRead: 0 } })
    const day = await place.json(['check', '--read-data=1d'])
    expect(day.summary.counts!['packsRead']).toBe(day.summary.counts!['packs'])
    const opened = await place.json(['check', '--content'])
    expect(opened.summary).toMatchObject({ result: 'done', details: { opened: true } })
    const none = await place.json(['check', '--read-data=0d'])
    expect(none.summary).toMatchObject({ result: 'failed', exitCode: 2, code: 'usage' })
  })

  it('in a pack is found, and told by snapshot and by path', async () => {
    const largest = objects('packs').sort((a, b) => readFileSync(b).length - readFileSync(a).length)[0]!
    const bytes = readFileSync(largest)
    for (const at of [1000, 900_000]) bytes[at]! ^= 32
    chmodSync(largest, 0o600)
    writeFileSync(largest, bytes)
    rmSync(objects('index')[0]!)
    const before = state()
    const { code, events, summary } = await place.json(['check', '--read-data'])
    expect(code).toBe(4)
    expect(summary).toMatchObject({ result: 'damaged', counts: { snapshotsAffected: 2 } })
    expect(only(events, 'affected-snapshot')).toHaveLength(2)
    const paths = only(events, 'affected-path')
    expect(paths.map(({ verdict }) => verdict)).toContain('lost')
    expect(paths.every(({ path, snapshotIds }) => path.startsWith(place.path('source')) && snapshotIds.length >= 1)).toBe(true)
    expect(state()).toEqual(before)
    const text = await place.run(['check', '--read-data'])
    expect(text.stderr).toContain('Next: holdfast repair -n')
    expect(text.text).toMatch(/lost {6}\S+\/source\/\S+ {2}\(/)
    // On this machine a check that reads no other data goes on telling of it.
    const plain = await place.json(['check'])
    expect(plain.code).toBe(4)
    expect(only(plain.events, 'problem').map(({ path }) => path?.slice(-32))).toContain(largest.slice(-32))
    expect(plain.summary.counts).toMatchObject({ packsRead: 1, snapshotsAffected: 2 })
  })

  it('is put right by a repair, which says first what it would do, and removes nothing', async () => {
    const before = state()
    const dry = await place.json(['repair', '-n'])
    expect(dry.summary).toMatchObject({ exitCode: 4, dryRun: true, counts: { indexFilesWritten: 0 } })
    expect(state()).toEqual(before)
    const done = await place.json(['repair'])
    expect(done.summary.counts).toMatchObject({
      lostBlobs: dry.summary.counts!['lostBlobs'],
      packsIndexed: dry.summary.counts!['packsIndexed'],
    })
    expect(only(done.events, 'affected-path')).toEqual(only(dry.events, 'affected-path'))
    const after = state()
    for (const [path, hex] of before) expect(after.get(path)).toBe(hex)
    const again = await place.json(['repair'])
    expect(again.summary.counts).toMatchObject({ replaced: 0, packsIndexed: 0, indexFilesWritten: 0 })
    expect(state()).toEqual(after)
  })

  it('is gone with the next backup, for the older snapshots too', async () => {
    const run = await place.json(['backup', 'source'])
    expect(run.code).toBe(0)
    expect((await place.json(['repair'])).summary).toMatchObject({ result: 'done', exitCode: 0, counts: { lostBlobs: 0 } })
    expect((await place.json(['check', '--content'])).summary).toMatchObject({ result: 'done', exitCode: 0, counts: { writtenOff: 1 } })
    const first = only((await place.json(['snapshots'])).events, 'snapshot')[0]!.id
    expect((await place.run(['restore', first, '--target', 'back'])).code).toBe(0)
    const back = join(place.path('back'), place.path('source'))
    expect(readFileSync(join(back, 'large.bin')).equals(readFileSync(place.path('source', 'large.bin')))).toBe(true)
  })

  it('that cannot be remembered is found all the same: the record of what was read is worth nothing', async () => {
    writeFileSync(place.path('no-directory'), '')
    const { code, events } = await place.json(['check', '--read-data=2d'], { env: { XDG_STATE_HOME: place.path('no-directory') } })
    expect(code).toBe(0)
    expect(
      only(events, 'notice')
        .map(({ message }) => message)
        .join(),
    ).toContain('not remembered')
  })

  it('to a snapshot, and a snapshot that is gone, are told by check and repair, and neither calls all of them whole', async () => {
    await place.json(['backup', 'source'])
    const names = objects('snapshots')
    expect(names).toHaveLength(4)
    const ids = only((await place.json(['snapshots'])).events, 'snapshot').map(({ id }) => id)
    const pathOf = (id: string): string => names.find((name) => name.endsWith(id))!
    const bytes = readFileSync(pathOf(ids[0]!))
    bytes[100]! ^= 1
    chmodSync(pathOf(ids[0]!), 0o600)
    writeFileSync(pathOf(ids[0]!), bytes)
    const one = await place.run(['repair'])
    expect(one.code).toBe(4)
    expect(one.stderr).toContain('1 snapshot does not open')
    expect(one.stderr.trimEnd().split('\n').at(-1)).toContain('every other one can be restored whole')

    rmSync(pathOf(ids[2]!))
    const check = await place.json(['check'])
    expect(check).toMatchObject({ code: 4, summary: { result: 'damaged', counts: { snapshotsMissing: 2 } } })
    const repair = await place.run(['repair', '-n'])
    expect(repair.code).toBe(4)
    expect(repair.stderr).toContain(`the one before ${ids[3]!.slice(0, 12)}, is gone without a record of it`)
    expect(repair.stderr).toContain('holdfast forget --missing')
    expect(repair.stderr).not.toContain('\nevery snapshot can be restored whole')
  })
})
