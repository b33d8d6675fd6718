// Forget, prune and undelete through the real launcher, on a directory whose files are made older where days would have to pass.
import { randomBytes } from 'node:crypto'
import { chmodSync, cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { only, Workplace } from './_support/cli.ts'

const DAY = 86_400_000
let place: Workplace
let ids: string[]

beforeAll(async () => {
  place = new Workplace()
  mkdirSync(place.path('source'))
  await place.json(['init'])
  for (let run = 0; run < 3; run++) {
    writeFileSync(place.path('source', 'file'), randomBytes(300_000))
    await place.json(['backup', 'source', '--tag', run === 0 ? 'monthly' : 'daily'])
  }
  ids = only((await place.json(['snapshots'])).events, 'snapshot').map(({ id }) => id)
})
afterAll(() => place.close())

/** Everything that is stored becomes so many days older, for the store and for its readers. */
function age(days: number): void {
  for (const name of readdirSync(place.repo, { recursive: true, withFileTypes: true }))
    if (name.isFile()) {
      const at = Date.now() / 1000 - (days * DAY) / 1000
      utimesSync(join(name.parentPath, name.name), at, at)
    }
}

const packs = (): number => readdirSync(join(place.repo, 'packs'), { recursive: true }).filter((name) => String(name).includes('-')).length

test.each([
  [['forget'], 'say what to forget'],
  [['forget', '--keep-last', '0'], '--keep-last is a whole number from 1'],
  [['forget', '--keep-within', '3 days'], '--keep-within is a time such as 14d'],
  [['forget', '--keep-last', '1', '--keep-tag', 'dayly'], "no snapshot has the tag 'dayly'"],
  [['forget', 'latest', '--keep-tag', 'daily'], 'go with rules'],
  [['forget', '--keep-last', '1', '--series', 'zz'], 'is no series here'],
  [['forget', 'latest', '--keep-last', '1'], 'go one at a time'],
  [['forget', '--keep-tag', 'daily', '-n'], '--keep-tag only adds to what a rule keeps'],
  [['forget', '--keep-tag', 'dayly', '-n'], "no snapshot has the tag 'dayly'"],
  [['prune', '--window', '0'], '--window is a whole number from 1 to 3650'],
  [['prune', '--window', '1.5'], '--window is a whole number from 1 to 3650'],
  [['undelete', 'abcd', '--all'], 'or say --all'],
  [['undelete', 'abcd'], 'names no forgotten snapshot'],
])('%j is refused and changes nothing', async (args, message) => {
  const { code, stderr } = await place.run(args)
  expect(code).toBe(2)
  expect(stderr).toContain(message)
  expect((await place.json(['snapshots'])).summary.counts).toMatchObject({ snapshots: 3 })
})

test('naming every snapshot of a series is a mistake unless it is said twice', async () => {
  const refused = await place.run(['forget', ...ids])
  expect(refused).toMatchObject({ code: 2 })
  expect(refused.stderr).toContain('--allow-empty-series')
  expect((await place.json(['forget', '-n', '--allow-empty-series', ...ids])).summary.counts).toMatchObject({ forgotten: 3 })
  expect((await place.json(['snapshots'])).summary.counts).toMatchObject({ snapshots: 3 })
})

test('a dry run or a list writes nothing at all, not even to learn the time', async () => {
  const changes = (): Map<string, bigint> =>
    new Map(
      [place.repo, ...readdirSync(place.repo, { recursive: true }).map((name) => join(place.repo, String(name)))].map((path) => [
        path,
        lstatSync(path, { bigint: true }).ctimeNs,
      ]),
    )
  await place.json(['forget', ids[0]!])
  const before = changes()
  for (const args of [['forget', '--keep-last', '1', '-n'], ['prune', '-n'], ['undelete'], ['undelete', '--all', '-n']])
    expect((await place.json(args)).code, args.join(' ')).toBe(0)
  expect(changes()).toEqual(before)
  await place.json(['undelete', '--all'])
})

test('what could not be put on record is not told as forgotten', async () => {
  const records = join(place.repo, 'lists', 'forgets')
  mkdirSync(records, { recursive: true })
  renameSync(records, place.path('away'))
  writeFileSync(records, 'in the way')
  const { code, events } = await place.json(['forget', '--keep-last', '1'])
  rmSync(records)
  renameSync(place.path('away'), records)
  expect(code).toBe(14)
  expect(only(events, 'retention')).toEqual([])
})

test('what rules do not keep is shown, forgotten, taken back, forgotten again, and gone after the window', async () => {
  const dry = await place.json(['forget', '--keep-last', '1', '--keep-tag', 'monthly', '-n'])
  expect(only(dry.events, 'retention').map(({ id, kept, why }) => [id, kept, why.at(-1)])).toEqual([
    [ids[0], true, 'tag'],
    [ids[1], false, 'retention'],
    [ids[2], true, 'last'],
  ])
  await place.json(['forget', '--keep-last', '1'])
  expect((await place.json(['snapshots'])).summary.counts).toMatchObject({ snapshots: 1 })
  expect(only((await place.json(['undelete'])).events, 'forgotten').map(({ id }) => id)).toEqual(ids.slice(0, 2))
  await place.json(['undelete', ids[0]!.slice(0, 8)])
  expect(only((await place.json(['snapshots'])).events, 'snapshot').map(({ id }) => id)).toEqual([ids[0], ids[2]])
  await place.json(['forget', ids[0]!])

  const first = await place.json(['prune'])
  expect(first.summary).toMatchObject({ result: 'done', counts: { packsCondemned: 2, packsDeleted: 0 } })
  const before = packs()
  const waits = await place.json(['prune'])
  expect(waits.summary.counts).toMatchObject({ packsWaiting: 2, packsDeleted: 0, objectsDeleted: 0 })
  expect(Date.parse(String(waits.summary.details!['nextDeletionAt']))).toBeGreaterThan(Date.now() + 13 * DAY)

  age(15)
  cpSync(place.repo, place.path('before'), { recursive: true, preserveTimestamps: true })
  const gone = await place.run(['prune'])
  expect(gone.stderr).toMatch(/2 packs and .* of it, deleted/)
  expect(packs()).toBe(before - 2)
  const check = await place.json(['check', '--read-data'])
  expect(check.summary).toMatchObject({ result: 'done', counts: { snapshots: 1, damaged: 0 } })
  expect((await place.json(['restore', 'latest', '--target', place.path('back')])).code).toBe(0)
  expect((await place.json(['undelete', '--all'])).summary.counts).toMatchObject({ snapshots: 0 })

  // As if that collection had died once its list stood: what it names is not called to be had back, and is had back by the word that it is over.
  for (const part of ['packs', 'snapshots'])
    cpSync(join(place.path('before'), part), join(place.repo, part), { recursive: true, preserveTimestamps: true, force: false })
  const left = await place.json(['undelete'])
  expect(only(left.events, 'forgotten').map(({ id, beingDeleted }) => [id, beingDeleted])).toEqual(ids.slice(0, 2).map((id) => [id, true]))
  expect(left.summary.counts).toMatchObject({ snapshots: 2, beingDeleted: 2 })
  expect((await place.run(['undelete'])).stderr).toMatch(
    /^0 snapshots can be taken back.*\n2 snapshots are named for deletion by a prune; .*--prune-is-over/m,
  )
  expect((await place.json(['undelete', '--all'])).summary).toMatchObject({ exitCode: 1, code: 'conflict' })
  expect((await place.json(['undelete', ids[0]!, '--prune-is-over', '-n'])).summary.counts).toMatchObject({ snapshots: 1 })
  await place.json(['prune'])
  expect(packs()).toBe(before - 2)
})

test('a list that does not open ends a collection with the code that a check ends with, though what can be done is done', async () => {
  const lists = readdirSync(join(place.repo, 'lists'), { withFileTypes: true }).filter((entry) => entry.isFile())
  expect(lists.length).toBeGreaterThan(1)
  for (const { name, parentPath } of lists) {
    const path = join(parentPath, name)
    const bytes = readFileSync(path)
    bytes[bytes.length - 1]! ^= 1
    chmodSync(path, 0o600)
    writeFileSync(path, bytes)
  }
  const check = await place.json(['check'])
  const prune = await place.json(['prune'])
  expect([check.code, prune.code]).toEqual([4, 4])
  expect(prune.summary).toMatchObject({ result: 'damaged', counts: { unreadable: lists.length } })
  const told = only(prune.events, 'problem').map(({ path }) => path)
  expect(told).toEqual(expect.arrayContaining(lists.map(({ name }) => `lists/${name}`)))
  const hint = `'holdfast forget --unreadable ${lists[0]!.name.split('-')[1]!.slice(0, 12)}'`
  const repair = await place.json(['repair', '-n'])
  expect(repair.summary).toMatchObject({ exitCode: 4, counts: { recordsRefused: lists.length } })
  for (const { events } of [check, prune, repair]) expect(only(events, 'problem').some(({ message }) => message.includes(hint))).toBe(true)
})

test('what does not open for good is written off by name, and then nothing is damaged', async () => {
  const all = only((await place.json(['check'])).events, 'problem').map(({ path }) => path)
  const bad = all.filter((name) => name?.startsWith('lists/') === true)
  expect(await place.json(['forget', '--unreadable', 'f'.repeat(12)])).toMatchObject({ code: 2 })
  for (const dry of [['-n'], []])
    for (const name of bad) {
      const { summary } = await place.json(['forget', '--unreadable', name!.split('-').at(-1)!.slice(0, 12), ...dry])
      expect(summary, name).toMatchObject({ exitCode: 0, counts: { writtenOff: 1 } })
    }
  // Packs that were deleted are lacking once the lists that say so are lost: index files that no longer name them put that right.
  expect((await place.json(['repair'])).code).toBe(0)
  const check = await place.json(['check'])
  expect(check.summary).toMatchObject({ exitCode: 0, counts: { writtenOff: bad.length } })
  expect(only(check.events, 'notice').map(({ message }) => message)).toEqual(
    expect.arrayContaining([expect.stringContaining('damaged and written off')]),
  )
  expect((await place.json(['prune'])).code).toBe(0)
})
