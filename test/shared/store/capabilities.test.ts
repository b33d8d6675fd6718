// `doctor` must find out what a store does by trying it, and refuse what would make write-only credentials worthless.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import type { StoreCapabilities } from '@holdfast/shared/store/capabilities.ts'
import { judgeCapabilities, probeStore, requireSuitable } from '@holdfast/shared/store/capabilities.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { FakeS3Options } from '../../_support/fake-s3.ts'
import { startFakeS3 } from '../../_support/fake-s3.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { atOperation, SimulatedBucket } from '../../_support/simulated-store.ts'
import { expectCode, listAll } from '../../contract/store-contract.ts'

const seams = { random: systemRandom, clock: systemClock }

async function probeFake(options: Partial<FakeS3Options>): Promise<{ caps: StoreCapabilities; objects: number }> {
  const server = await startFakeS3({ now: systemClock.now, ...options })
  const store = await openS3Store({
    endpoint: server.endpoint,
    bucket: server.bucket,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })
  try {
    const caps = await probeStore(store, seams)
    return { caps, objects: server.objects.size }
  } finally {
    await store.close()
    await server.stop()
  }
}

function levels(caps: StoreCapabilities, acceptOverwrite = false): Record<string, string> {
  return Object.fromEntries(judgeCapabilities(caps, { acceptOverwrite }).map((f) => [f.code, f.level]))
}

describe('probing a store', () => {
  test('finds a plain bucket overwritable, and refuses it unless a person accepts that', async () => {
    const { caps, objects } = await probeFake({})
    expect(caps).toMatchObject({
      kind: 's3',
      readAfterWrite: 'yes',
      rangedRead: 'yes',
      conditionalPut: 'honoured',
      overwrite: 'accepted',
      remove: 'allowed',
      listing: 'strong',
      versioning: 'off',
      objectLock: 'off',
      leftBehind: [],
    })
    expect(Math.abs(caps.clockDifferenceMs ?? Infinity)).toBeLessThan(60_000)
    expect(objects).toBe(0)
    expect(levels(caps)).toMatchObject({ overwrite: 'refuse', remove: 'warn' })
    expect(levels(caps, true)).toMatchObject({ overwrite: 'warn' })
    expect(() => requireSuitable(judgeCapabilities(caps, { acceptOverwrite: false }))).toThrow('If-None-Match')
    requireSuitable(judgeCapabilities(caps, { acceptOverwrite: true }))
  })

  test('is content with a bucket whose policy demands the condition and forbids deleting, and names what remains', async () => {
    const { caps, objects } = await probeFake({ demandCondition: true, denyDelete: true })
    expect(caps).toMatchObject({ overwrite: 'refused', remove: 'refused' })
    expect(caps.leftBehind.length).toBe(objects)
    expect(levels(caps)).toMatchObject({ overwrite: 'ok', remove: 'ok', 'left-behind': 'warn' })
  })

  test('is content with versioning, also where conditions are ignored, but not with suspended versioning', async () => {
    const on = await probeFake({ versioning: 'Enabled', conditional: 'ignored', lock: true })
    expect(on.caps).toMatchObject({ conditionalPut: 'ignored', overwrite: 'kept', versioning: 'on', objectLock: 'on' })
    expect(on.objects).toBe(0)
    expect(levels(on.caps)).toMatchObject({ overwrite: 'ok', 'conditional-put': 'warn' })
    const suspended = await probeFake({ versioning: 'Suspended' })
    expect(levels(suspended.caps)).toMatchObject({ overwrite: 'refuse', versioning: 'warn' })
  })

  test('is not content with versions that these credentials cannot list, and says which right is missing', async () => {
    const { caps } = await probeFake({ versioning: 'Enabled', conditional: 'ignored', denyListVersions: true })
    expect(caps).toMatchObject({ versioning: 'on', overwrite: 'accepted' })
    expect(levels(caps)).toMatchObject({ overwrite: 'refuse' })
    expect(() => requireSuitable(judgeCapabilities(caps, { acceptOverwrite: false }))).toThrow('s3:ListBucketVersions')
    const untold = await probeFake({ versioning: 'Enabled', denyVersioning: true, demandCondition: true })
    expect(levels(untold.caps)).toMatchObject({ overwrite: 'ok', versioning: 'warn' })
  })

  test('sees that a clock is wrong', async () => {
    const { caps } = await probeFake({ now: () => systemClock.now() + 600_000 })
    expect(levels(caps)['clock']).toBe('warn')
  })

  test('warns of a directory and leaves nothing in it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-probe-'))
    const store = await openDirectoryStore(folder)
    const caps = await probeStore(store, seams)
    expect(caps).toMatchObject({
      kind: 'directory',
      conditionalPut: 'honoured',
      overwrite: 'accepted',
      remove: 'allowed',
      listing: 'strong',
    })
    expect(judgeCapabilities(caps, { acceptOverwrite: false }).some((f) => f.level === 'refuse')).toBe(false)
    expect(await listAll(store)).toEqual([])
    await store.close()
    await rm(folder, { recursive: true })
  })

  test('sees late listings, stale reads, ranges that are not, and puts that are forgotten', async () => {
    const clock = simulatedClock()
    const bucket = new SimulatedBucket({ clock })
    const probe = (): Promise<StoreCapabilities> => probeStore(bucket.store(), { random: systemRandom, clock })
    bucket.setFaults(atOperation('list', { kind: 'short-list', drop: 1 }))
    expect(levels(await probe())['listing']).toBe('warn')
    bucket.setFaults(atOperation('get', { kind: 'stale', ms: 5 }))
    expect(levels(await probe())['read-after-write']).toBe('refuse')
    bucket.setFaults(atOperation('getRange', { kind: 'flipped', bit: 3 }))
    expect(levels(await probe())['ranged-read']).toBe('refuse')
    bucket.setFaults(atOperation('put', { kind: 'lost' }))
    expect(levels(await probe())['read-after-write']).toBe('refuse')
    bucket.setFaults(atOperation('remove', { kind: 'undead' }))
    expect((await probe()).remove).toBe('refused')
  })

  test('sees what these credentials may not do, and asks nothing more of a store that fails', async () => {
    const clock = simulatedClock()
    const bucket = new SimulatedBucket({ clock, versioned: true, lockMs: 1000 })
    const appliance = bucket.store('appliance', { remove: false, overwrite: false })
    const caps = await probeStore(appliance, { random: systemRandom, clock })
    expect(caps).toMatchObject({ overwrite: 'refused', remove: 'refused', versioning: 'on', objectLock: 'on' })
    const blind = await probeStore(bucket.store('blind', { get: false, getRange: false }), { random: systemRandom, clock })
    expect(levels(blind)['read-after-write']).toBe('refuse')
    const broken = new SimulatedBucket({ clock })
    broken.setFaults(atOperation('list', { kind: 'fail', when: 'before', code: 'store-unreachable' }))
    await expectCode(probeStore(broken.store(), { random: systemRandom, clock }), 'store-unreachable')
    expect(broken.names()).toEqual([])
  })
})
