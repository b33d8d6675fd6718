// Disks that are full: small file systems of the test's own, of which a ballast leaves a random rest, below the store, the state directory, the
// restore target and the home directory. A command then ends with the code of what is full or is done all the same; nothing is reported good
// that is not, and once there is room everything goes on.
import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { Workplace } from '../agent/cli/_support/cli.ts'
import { type Mounted, mountEmpty } from '../_support/mounted-file-system.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { fillBut } from './_support/ballast.ts'
import { KilledRepository, type Victim, VICTIMS } from './_support/killed-repository.ts'

const MIB = 1024 * 1024
const DISK_MIB = 160
const ROUNDS = soak ? 40 : 4
const asRoot = process.getuid?.() === 0

type Place = {
  readonly what: string
  readonly kind: 'tmpfs' | 'ext4'
  readonly path: (work: Workplace) => string
  readonly victims: readonly string[]
  /** How a command may end for want of room there, with the error's code. */
  readonly ends: Readonly<Record<number, readonly (string | undefined)[]>>
}

const PLACES: readonly Place[] = [
  {
    what: 'the store',
    kind: 'ext4',
    path: (work) => work.repo,
    victims: ['backup', 'forget', 'prune', 'repair', 'check'],
    ends: { 14: ['store-full'] },
  },
  {
    what: 'the state directory',
    kind: 'ext4',
    path: (work) => work.path('state'),
    victims: ['backup'],
    ends: { 1: ['local-disk'] },
  },
  {
    what: 'the restore target',
    kind: 'tmpfs',
    path: (work) => work.path('targets'),
    victims: ['restore'],
    ends: { 1: ['local-disk'] },
  },
  {
    what: 'the home directory',
    kind: 'tmpfs',
    path: (work) => work.path('home'),
    victims: ['backup', 'check', 'restore', 'drill', 'repair', 'prune'],
    // A drill passes over what its scratch place has no room for, and says so.
    ends: { 1: ['local-disk'], 3: [undefined] },
  },
]
/** By default the place of the day. */
const SHARE = soak ? PLACES : PLACES.filter((_, i) => i === createHash('sha256').update(rotatingSeed()).digest()[0]! % PLACES.length)

describe.skipIf(!asRoot)('a disk that is full below (needs root and mounts)', () => {
  let at: KilledRepository | undefined
  let mounted: Mounted | undefined
  afterEach(async () => {
    await at?.store.close()
    await mounted?.unmount()
    await at?.close()
    at = mounted = undefined
  })

  it.each(SHARE)(
    '$what: the code of what is full, nothing reported that does not restore, and all goes on after room is made',
    async ({ what, kind, path, victims, ends }) => {
      const seed = rotatingSeed()
      const replay = `HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}`
      const started = systemClock.monotonicMs()
      const work = new Workplace()
      const place = path(work)
      const disk = await mountEmpty(kind, place, work.path('disk.img'), DISK_MIB)
      if (typeof disk === 'string') throw new Error(`no file system could be mounted: ${disk}`)
      mounted = disk
      at = await KilledRepository.inDirectory(replay, createHash('sha256').update(`${seed}/${what}`).digest().readUInt32LE(), work)
      let refused = 0
      for (let round = 0; round < ROUNDS; round++) {
        const victim = VICTIMS.find(({ name }) => name === victims[round % victims.length])!
        await at.change()
        // Most often so little that not even a directory entry fits, sometimes so much that packs do and the last object does not.
        const free = round === 0 ? 0 : Math.floor(MIB * 8 * 2 ** -((at.next() % 1400) / 100))
        refused += await underBallast(at, place, free, victim, ends)
        if (round % 4 === 3) await at.rest()
      }
      expect(await at.compareAll()).toBeGreaterThan(0)
      if (what !== 'the home directory') expect(refused, `nothing was refused for want of room: ${replay}`).toBeGreaterThan(0)
      soakResult({
        suite: 'full disks',
        figure: `commands on a full disk below ${what}, ${refused} of them refused`,
        asked: ROUNDS,
        value: ROUNDS,
        violations: 0,
        seed,
        seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
      })
    },
    soak ? 1_800_000 : 180_000,
  )
})

/** Runs a command while `free` bytes are left; 1 where it was refused for want of room. */
async function underBallast(at: KilledRepository, place: string, free: number, victim: Victim, ends: Place['ends']): Promise<number> {
  const ballast = join(place, 'ballast')
  fillBut(ballast, free)
  try {
    const fault = `with ${free} bytes left below ${place}`
    const ended = await at.run(victim, fault, [0, ...Object.keys(ends).map(Number)])
    if (ended.exitCode === 0) return 0
    expect(ends[ended.exitCode ?? -1], `${victim.name} ${fault}: ${ended.said}`).toContain(ended.code)
    expect(ended.said).toMatch(/space|room|full|ENOSPC/)
    return 1
  } finally {
    rmSync(ballast, { force: true })
    // A restore goes on where it stopped.
    await victim.after?.(at)
  }
}
