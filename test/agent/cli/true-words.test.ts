// What a person is told of a first backup, and of a directory that is no place for a repository, is so.
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { seededRandom } from '../../_support/seeded-random.ts'
import { only, Workplace } from './_support/cli.ts'

let place: Workplace
beforeAll(async () => {
  place = new Workplace()
  await place.json(['init'])
})
afterAll(() => place.close())

const said = async (args: readonly string[]): Promise<string> => (await place.run(args)).stderr
const added = async (source: string): Promise<string> =>
  (await said(['backup', source])).split('\n').find((line) => line.startsWith('Added to the repository'))!

it('a first backup of small files says that they stand in the tree, and calls nothing known', async () => {
  mkdirSync(place.path('small'))
  for (let i = 0; i < 4; i++) writeFileSync(place.path('small', `note-${i}`), `note ${i}`.padEnd(100, '.'))
  expect(await added('small')).toMatch(
    /^Added to the repository: 0 B of chunks \(.* stored\); 400 B in small files stand in the tree itself$/,
  )
})

it('a first backup calls no hole known, and a second one only what it read', async () => {
  mkdirSync(place.path('sparse'))
  writeFileSync(place.path('sparse', 'image'), seededRandom('image').bytes(65_536))
  truncateSync(place.path('sparse', 'image'), 64 * 2 ** 20)
  expect(await added('sparse')).toMatch(
    /^Added to the repository: 64\.00 KiB of chunks \(.* stored\), 0 % of the 64\.00 KiB read was known$/,
  )
  expect(await added('sparse')).toMatch(
    /^Added to the repository: 0 B of chunks \(.* stored\)(?:, 100 % of the 64\.00 KiB read was known)?$/,
  )
  expect(await said(['backup', '--force', 'sparse'])).toContain('100 % of the 64.00 KiB read was known')
})

it('a backup says that no file has changed only where there is a last snapshot with just these files', async () => {
  mkdirSync(place.path('inbox'))
  expect((await place.json(['backup', 'inbox'])).summary.result).toBe('done')
  for (const name of ['one', 'two']) writeFileSync(place.path('inbox', name), name)
  await place.json(['backup', 'inbox'])
  rmSync(place.path('inbox', 'two'))
  expect(await said(['backup', 'inbox'])).not.toContain('has changed since the last one')
})

it('a snapshot that no backup makes whole again is told with the way out, and that way ends it', async () => {
  const own = new Workplace()
  onTestFinished(() => own.close())
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), seededRandom('what was').bytes(200_000))
  const first = (await own.json(['backup', 'source'])).summary.snapshotId!
  rmSync(`${own.repo}/packs`, { recursive: true })
  mkdirSync(`${own.repo}/packs`)
  writeFileSync(own.path('source', 'file'), seededRandom('what is').bytes(200_000))
  const repaired = await own.run(['repair'])
  await own.json(['backup', 'source'])
  const checked = await own.run(['check'])
  for (const { stderr } of [repaired, checked]) expect(stderr).toContain('until holdfast forget ID lets it go')
  expect(checked.code).toBe(4)
  expect((await own.json(['forget', first])).code).toBe(0)
  expect((await own.json(['check'])).code).toBe(0)
})

it('a check does not send to a repair that leaves the pack as it is', async () => {
  const own = new Workplace()
  onTestFinished(() => own.close())
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), seededRandom('cut').bytes(200_000))
  await own.json(['backup', 'source'])
  const pack = readdirSync(`${own.repo}/packs`, { recursive: true, encoding: 'utf8' }).find((name) => name.includes('-'))!
  const bytes = readFileSync(`${own.repo}/packs/${pack}`)
  bytes[bytes.length - 40]! ^= 1
  chmodSync(`${own.repo}/packs/${pack}`, 0o600)
  writeFileSync(`${own.repo}/packs/${pack}`, bytes)
  await own.run(['check', '--content'])
  await own.run(['repair'])
  const { code, stderr } = await own.run(['check', '--content'])
  expect(code).toBe(4)
  expect(stderr).toContain('No repair mends it')
  expect(stderr).toContain('Next: each message above says what to do')
})

it('a socket that is left out is named', async () => {
  mkdirSync(place.path('run'))
  writeFileSync(place.path('run', 'file'), 'x')
  const server = createServer().listen(place.path('run', 'control.sock'))
  await once(server, 'listening')
  const { events } = await place.json(['backup', 'run'])
  server.close()
  expect(only(events, 'notice').map(({ message }) => message)).toEqual([
    expect.stringMatching(/left out \/.*\/run\/control\.sock: it is a socket/),
  ])
})

it('a repository is not made among the files of somebody, unless that is said', async () => {
  const home = place.path('home-of-me')
  mkdirSync(home)
  for (const name of ['letter.txt', 'photo.jpg']) writeFileSync(`${home}/${name}`, name)
  for (const dry of [[], ['-n']]) {
    const { events, summary } = await place.json(['init', '--repo', home, ...dry])
    expect(summary).toMatchObject({ exitCode: 1, code: 'conflict' })
    expect(only(events, 'error')[0]!.message).toMatch(/holds other things \('letter\.txt' and 1 more\); nothing was changed.*--among-files/)
  }
  expect(readdirSync(home).sort()).toEqual(['letter.txt', 'photo.jpg'])
  expect((await place.json(['init', '--repo', home, '--among-files'])).code).toBe(0)
  // A disk that was just formatted, and what an interrupted init left, are no foreign files.
  mkdirSync(place.path('disk', 'lost+found'), { recursive: true })
  mkdirSync(place.path('disk', 'tmp'))
  expect((await place.json(['init', '--repo', place.path('disk')])).code).toBe(0)
})

it('a key, a session and a snapshot that went bad are told by check, with what to do, and doing that ends it', async () => {
  const own = new Workplace()
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), 'x')
  await own.json(['backup', 'source'])
  const [session] = readdirSync(`${own.repo}/sessions`)
  const keys = only((await own.json(['key', 'list'])).events, 'key')
  const code = keys.find(({ kind }) => kind === 'recovery-code')!.name
  const [snapshot] = readdirSync(`${own.repo}/snapshots`)
  for (const path of [`${own.repo}/sessions/${session}`, `${own.repo}/keys/${code}`, `${own.repo}/snapshots/${snapshot}`]) {
    const bytes = readFileSync(path)
    bytes[bytes.length - 20]! ^= 1
    chmodSync(path, 0o600)
    writeFileSync(path, bytes)
  }
  const { summary, events } = await own.json(['check'])
  expect(summary).toMatchObject({ exitCode: 4, counts: { damaged: 3, damagedBesideRepair: 3 } })
  const told = only(events, 'problem').map(({ message }) => message)
  expect(told).toContainEqual(expect.stringContaining(`holdfast key remove ${code.slice(0, 12)}`))
  expect((await own.run(['check'])).stderr).toContain('Next: each message above says what to do')
  expect((await own.json(['key', 'add', '--recovery-code'])).code).toBe(0)
  expect((await own.json(['key', 'remove', code.slice(0, 12)])).code).toBe(0)
  for (const id of [session!, snapshot!.split('-')[1]!]) {
    expect(told).toContainEqual(expect.stringContaining(`holdfast forget --unreadable ${id.slice(0, 12)}`))
    expect((await own.json(['forget', '--unreadable', id.slice(0, 12)])).code).toBe(0)
  }
  expect((await own.json(['check'])).summary).toMatchObject({ exitCode: 0, counts: { damaged: 0, writtenOff: 1 } })
  own.close()
})

it('a session or a roster of a later format, which anybody may store, is written off like one that went bad', async () => {
  const own = new Workplace()
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), 'x')
  await own.json(['backup', 'source'])
  const [session] = readdirSync(`${own.repo}/sessions`)
  const later = readFileSync(`${own.repo}/sessions/${session}`)
  later[8] = 2
  mkdirSync(`${own.repo}/rosters`, { recursive: true })
  writeFileSync(`${own.repo}/sessions/${'a'.repeat(32)}`, later)
  writeFileSync(`${own.repo}/rosters/${'b'.repeat(32)}-${'c'.repeat(32)}`, later)
  const { summary, events } = await own.json(['check'])
  expect(summary).toMatchObject({ exitCode: 3, counts: { damaged: 0, unknown: 2 } })
  for (const id of ['a', 'c'].map((digit) => digit.repeat(12))) {
    expect(only(events, 'problem').map(({ message }) => message)).toContainEqual(
      expect.stringContaining(`holdfast forget --unreadable ${id}`),
    )
    expect((await own.json(['forget', '--unreadable', id])).code).toBe(0)
  }
  expect((await own.json(['check'])).summary).toMatchObject({ exitCode: 0, counts: { damaged: 0, unknown: 0, writtenOff: 2 } })
  own.close()
})

it('a torn pack that no index file tells of does not send from check to repair and back: both say what ends it, and that does', async () => {
  const own = new Workplace()
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), 'x')
  await own.json(['backup', 'source'])
  const [session] = readdirSync(`${own.repo}/sessions`)
  const torn = `packs/aa/${session}-${'a'.repeat(32)}`
  mkdirSync(`${own.repo}/packs/aa`, { recursive: true })
  writeFileSync(`${own.repo}/${torn}`, '')
  const check = await own.json(['check', '--read-data'])
  expect(check.summary).toMatchObject({ exitCode: 4, counts: { damaged: 1, damagedBesideRepair: 1, lostBlobs: 0 } })
  expect((await own.run(['check', '--read-data'])).stderr).toContain('Next: each message above says what to do')
  const repair = await own.json(['repair'])
  expect(repair.code).toBe(0)
  for (const { events } of [check, repair])
    expect(only(events, 'problem')).toEqual([
      expect.objectContaining({ path: torn, message: expect.stringContaining('move it away where nothing is lost by it') }),
    ])
  renameSync(`${own.repo}/${torn}`, own.path('torn'))
  expect((await own.json(['check', '--read-data'])).code).toBe(0)
  own.close()
})

it('a snapshot that is forgotten is not called absent, and one that does not open comes with what to do', async () => {
  const own = new Workplace()
  await own.json(['init'])
  mkdirSync(own.path('source'))
  const ids: string[] = []
  for (const content of ['first', 'second']) {
    writeFileSync(own.path('source', 'file'), content)
    ids.push((await own.json(['backup', 'source'])).summary.snapshotId as string)
  }
  const restored = async (wanted: string): Promise<string> => {
    const { code, events } = await own.json(['restore', wanted, '--target', own.path('back')])
    expect(code).toBe(1)
    return only(events, 'error')[0]!.message
  }
  await own.json(['forget', ids[0]!])
  expect(await restored(ids[0]!)).toContain(`'holdfast undelete ${ids[0]!.slice(0, 12)}'`)
  await own.json(['forget', ids[1]!, '--allow-empty-series'])
  expect(await restored('latest')).toMatch(/all are forgotten: 'holdfast undelete'/)
  await own.json(['undelete', ids[1]!])
  const name = readdirSync(`${own.repo}/snapshots`).find((object) => object.endsWith(ids[1]!))!
  chmodSync(`${own.repo}/snapshots/${name}`, 0o600)
  truncateSync(`${own.repo}/snapshots/${name}`, 100)
  const { code, events } = await own.json(['repair'])
  expect(code).toBe(4)
  const problem = only(events, 'problem').find(({ path }) => path === `snapshots/${name}`)
  expect(problem!.message).toContain(`holdfast forget --unreadable ${ids[1]!.slice(0, 12)}`)
  // It cannot be taken back as it is, and the other snapshots are not what this says anything of.
  const { stderr, code: written } = await own.run(['forget', '--unreadable', ids[1]!.slice(0, 12)])
  expect(written).toBe(0)
  expect(stderr).toContain('wrote off 1 snapshot that does not open; where a whole copy of it is put back')
  expect(stderr).not.toContain('kept')
  expect((await own.json(['check'])).code).toBe(0)
  own.close()
})

it('data without any snapshot is not called whole: check, repair and prune say that they may be lost', async () => {
  const own = new Workplace()
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'file'), 'x')
  await own.json(['backup', 'source'])
  const warned = async (command: string): Promise<boolean> =>
    only((await own.json([command, ...(command === 'prune' ? ['-n'] : [])])).events, 'notice').some(({ message }) =>
      message.includes('no snapshot: no backup was finished yet'),
    )
  expect(await Promise.all(['check', 'repair', 'prune'].map(warned))).toEqual([false, false, false])
  rmSync(`${own.repo}/snapshots`, { recursive: true })
  expect(await Promise.all(['check', 'repair', 'prune'].map(warned))).toEqual([true, true, true])
  const { stderr } = await own.run(['repair'])
  expect(stderr).not.toContain('every snapshot can be restored whole')
  own.close()
})

it('what was read and drilled of a repository is not taken for read and drilled of a copy of it', async () => {
  const own = new Workplace()
  onTestFinished(() => own.close())
  await own.json(['init'])
  mkdirSync(own.path('source'))
  for (const name of ['one', 'two']) writeFileSync(own.path('source', name), seededRandom(name).bytes(200_000))
  await own.json(['backup', 'source'])
  const copy = own.path('copy')
  cpSync(own.repo, copy, { recursive: true, preserveTimestamps: true })
  const [pack = ''] = readdirSync(`${copy}/packs`, { recursive: true })
    .map(String)
    .filter((name) => name.includes('-'))
  const bytes = readFileSync(`${copy}/packs/${pack}`)
  bytes[100_000]! ^= 1
  chmodSync(`${copy}/packs/${pack}`, 0o600)
  writeFileSync(`${copy}/packs/${pack}`, bytes)
  const daily = ['check', '--read-data=1d']
  expect(await own.json(daily)).toMatchObject({ code: 0, summary: { counts: { packsRead: 1 } } })
  expect(await own.json([...daily, '--repo', copy])).toMatchObject({ code: 4, summary: { counts: { packsRead: 1 } } })
  // What is right is read no sooner than it is due, and what was damaged is told again, each where it lies.
  expect(await own.json(daily)).toMatchObject({ code: 0, summary: { counts: { packsRead: 0 } } })
  expect(await own.json(['check', '--repo', copy])).toMatchObject({ code: 4 })

  const samples = new Set<string | undefined>()
  for (const repo of [own.repo, copy, own.repo]) {
    const { events } = await own.json(['drill', '--files', '1', '--repo', repo])
    if (repo === own.repo) for (const { sampleHash } of only(events, 'drill')) samples.add(sampleHash)
  }
  expect(samples.size).toBe(2)
}, 60_000)
it('a forgotten snapshot that lost a pack can be taken back with the rest of its files, where that is asked for', async () => {
  const own = new Workplace()
  onTestFinished(() => own.close())
  await own.json(['init'])
  mkdirSync(own.path('source'))
  writeFileSync(own.path('source', 'one'), seededRandom('first').bytes(300_000))
  await own.json(['backup', 'source'])
  const packs = (): string[] =>
    readdirSync(`${own.repo}/packs`, { recursive: true })
      .map(String)
      .filter((name) => name.includes('-'))
  const [lost = ''] = packs()
  writeFileSync(own.path('source', 'two'), seededRandom('second').bytes(300_000))
  const id = (await own.json(['backup', 'source'])).summary.snapshotId!
  rmSync(own.path('source', 'one'))
  await own.json(['backup', 'source'])
  await own.json(['forget', id])
  rmSync(`${own.repo}/packs/${lost}`)
  const refused = await own.run(['undelete', id])
  expect(refused.stderr).toMatch(/cannot be taken back whole: .* --accept-damage/s)
  expect(refused.code).toBe(4)
  const taken = await own.run(['undelete', id, '--accept-damage'])
  expect(taken.code).toBe(0)
  expect(taken.stderr).toMatch(/is not whole: 1 blob that it needs is deleted already, or lost/)
  expect((await own.run(['check'])).stderr).toContain('affected: 2 snapshots, 2 paths lost')
  const restored = await own.run(['restore', id, '--target', 'back'])
  expect(restored.stderr).toMatch(/one: is damaged/)
  expect(readFileSync(own.path('back', own.path('source', 'two')))).toEqual(seededRandom('second').bytes(300_000))
}, 60_000)

it('an answer that has no place to go, as on a full disk, is said to be cut; one that nobody reads any more is not', async () => {
  const own = new Workplace()
  await own.json(['init'])
  writeFileSync(own.path('file'), seededRandom('an answer').bytes(300_000))
  await own.json(['backup', own.path('file')])
  const told = 'holdfast: standard output cannot be written (ENOSPC)'
  for (const [args, code] of [
    [['snapshots'], 1],
    [['check', '--json'], 1],
    [['dump', 'latest', own.path('file')], 3],
  ] as const) {
    const full = await own.shell('exec "$0" "$@" > /dev/full', args)
    expect([full.code, full.stderr.split(told).length], args[0]).toEqual([code, 2])
    const left = await own.shell('"$0" "$@" | head -c 1', args)
    expect(left.stderr, args[0]).not.toContain(told)
  }
  own.close()
})
