// The disks of an enrolled installation are full: the appliance's with its journal, the control server's with the store of record, that of Redis with
// its append-only file. Nothing is taken or begun that could not be kept, it is said why, and all that a person has to do is to make room: then a run
// completes by itself, every file that changed is on record and the chain is whole.
import { createHash } from 'node:crypto'
import { chmodSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseTime, systemClock } from '@holdfast/shared/clock.ts'
import { stopAll } from '../../demo/programs.ts'
import { type Installation, type RunSeen, startInstallation } from '../e2e/_support/installation.ts'
import { until } from '../e2e/_support/until.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { type Mounted, mountEmpty } from '../_support/mounted-file-system.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { fillBut } from './_support/ballast.ts'
import { change, filesOnRecord, makeSource, requireAllThere, requireOnRecord, settledRuns } from './_support/enrolled-rounds.ts'

const ROUNDS = soak ? 12 : 1
const DISK_MIB = 64
const TIMEOUT_MS = soak ? 1_800_000 : 240_000
const asRoot = process.getuid?.() === 0
const seed = rotatingSeed()
const next = seededNumbers(createHash('sha256').update(`disks ${seed}`).digest().readUInt32LE())

describe.skipIf(!asRoot)('full disks of an installation (needs root and mounts)', () => {
  let one: Installation
  let first: RunSeen
  const everChanged = new Set<string>()
  const mounted: Mounted[] = []

  beforeAll(async () => {
    // Both are there before anything of the installation writes to them.
    const disks: Promise<void>[] = []
    one = await startInstallation({
      source: (place) => makeSource(place, next),
      prepared: async (place) => {
        for (const name of ['agent', 'server']) disks.push(mount(place.path(name), place.path(`${name}.img`)))
        await Promise.all(disks)
      },
    })
    // Redis comes back on a disk of its own, as one that lost everything.
    await one.redis.kill()
    await mount(one.redis.folder, one.place.path('redis.img'))
    await one.redis.restart()
    one.startDaemon()
    first = await one.recordedRun(await one.nextRun(new Set()))
    expect(first.state).toBe('ok')
  }, 120_000)

  afterAll(async () => {
    await stopAll()
    await one?.redis.kill()
    for (const disk of mounted) await disk.unmount()
    await one?.close()
  })

  it(
    'the appliance: no run is reported that is not on record, and it goes on by itself after room is made',
    () =>
      rounds("the appliance's disk", async (free, before, told) => {
        const said = one.log('agent').length
        const ballast = join(one.place.path('agent'), 'ballast')
        fillBut(ballast, free)
        await one.askForBackup()
        const isToldOf = (): boolean => /"event":"disk-full"|"code":"(?:journal-full|local-disk)"/.test(one.log('agent').slice(said))
        await until(`the appliance says that its disk is full, or the run is done all the same, ${told}`, async () => {
          return isToldOf() || (await one.runs()).some(({ id, state }) => !before.has(id) && state !== 'running')
        })
        if (free === 0) expect(isToldOf(), told).toBe(true)
        rmSync(ballast)
        expect(one.isDaemonRunning, told).toBe(true)
      }),
    TIMEOUT_MS,
  )

  it(
    'the server: it takes no record that it cannot keep, says so, and has them all after room is made',
    () =>
      rounds("the server's disk", async (free, _before, told) => {
        const ballast = join(one.place.path('server'), 'ballast')
        await one.askForBackup()
        fillBut(ballast, free)
        // What asks to be written now is there, or is refused; where nothing is free it is refused once the room that the database holds is used up.
        const { controllerId } = one.customer
        const write = (): Promise<string> =>
          one.api.post('/v1/sites', { controllerId, name: 'One more', region: 'CA-QC' }).then(() => 'taken', String)
        const answer =
          free > 0 ? await write() : await until(`a request is refused, ${told}`, async () => /^(?!taken$).*/.exec(await write())?.[0])
        expect(answer, told).toMatch(/^taken$|answered 5\d\d.*local-disk/)
        rmSync(ballast)
      }),
    TIMEOUT_MS,
  )

  it(
    'Redis: the server says that its queue is not sound, and no job is lost after room is made',
    () =>
      rounds('the disk of Redis', async (free, before, told) => {
        const ballast = join(one.redis.folder, 'ballast')
        fillBut(ballast, free)
        await one.askForBackup()
        const isReady = async (): Promise<boolean> => (await fetch(`${one.url}/readyz`)).ok
        await until(`the queue is not sound, or the run is done all the same, ${told}`, async () => {
          return !(await isReady()) || (await one.runs()).some(({ id, recorded }) => !before.has(id) && recorded)
        })
        if (free === 0) expect(await isReady(), told).toBe(false)
        rmSync(ballast)
        await until(`the queue is sound again, ${told}`, isReady)
      }),
    TIMEOUT_MS,
  )

  it(
    'after all of it the chain is whole, no record tells of a file that was not transmitted, and the key holder reads everything back',
    async () => {
      await requireOnRecord(one, new Set([first.id]), everChanged, `HOLDFAST_SEED=${seed}`)
      await requireAllThere(one)
    },
    TIMEOUT_MS,
  )

  async function mount(path: string, image: string): Promise<void> {
    const disk = await mountEmpty('ext4', path, image, DISK_MIB)
    if (typeof disk === 'string') throw new Error(`no file system could be mounted: ${disk}`)
    mounted.push(disk)
    chmodSync(path, 0o700)
  }

  /** Changes, a full disk with a rest of the seed's choice, room, a run that completes and all changes on record. */
  async function rounds(what: string, fill: (free: number, before: ReadonlySet<string>, told: string) => Promise<void>): Promise<void> {
    const started = systemClock.monotonicMs()
    for (let round = 0; round < ROUNDS; round++) {
      const told = `round ${round} of ${what}, HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}`
      // A run that is still under way, from what was asked before, may be the one that transmits some of it.
      const before = new Set((await one.runs()).flatMap(({ id, state }) => (state === 'running' ? [] : [id])))
      const changed = change(one, next)
      const changedAt = systemClock.now()
      for (const path of changed) everChanged.add(path)
      await fill(round === 0 ? 0 : Math.floor(2 ** (12 + (next() % 80) / 10)), before, told)
      await one.askForBackup()
      // The server may hear only now of one that began before.
      await until(`a run is done, ${told}`, async () =>
        (await one.runs()).some(({ startedAt, state }) => parseTime(startedAt) >= changedAt && state === 'ok'),
      )
      await settledRuns(one, before, told)
      const onRecord = await filesOnRecord(one, before, told)
      expect(
        [...changed].filter((path) => !onRecord.has(path)),
        told,
      ).toEqual([])
    }
    soakResult({
      suite: 'full disks',
      figure: `full disks of an installation: ${what}`,
      asked: ROUNDS,
      value: ROUNDS,
      violations: 0,
      seed,
      seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
    })
  }
})
