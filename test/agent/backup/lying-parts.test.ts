// Parts of the engine that lie, planted one at a time: the run notices before it reports anything good.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type * as packSpool from '../../../agent/backup/pack-spool.ts'
import type * as zstd from '../../../agent/repository/zstd.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const lies = vi.hoisted(() => ({ dropSegment: -1, flipCompressed: -1, segments: 0, compressions: 0 }))

vi.mock('../../../agent/backup/pack-spool.ts', async (original) => {
  const real = await original<typeof packSpool>()
  return {
    ...real,
    createPackSpool: (options: Parameters<typeof real.createPackSpool>[0]): ReturnType<typeof real.createPackSpool> => {
      const spool = real.createPackSpool(options)
      return {
        ...spool,
        add: (packClass, segment) => {
          if (lies.segments++ !== lies.dropSegment) spool.add(packClass, segment)
        },
      }
    },
  }
})
vi.mock('../../../agent/repository/zstd.ts', async (original) => {
  const real = await original<typeof zstd>()
  return {
    ...real,
    createCompressor: (level: number): ReturnType<typeof real.createCompressor> => {
      const compressor = real.createCompressor(level)
      return {
        ...compressor,
        compress: (plain, into) => {
          const length = compressor.compress(plain, into)
          if (lies.compressions++ === lies.flipCompressed) into[length - 1]! ^= 1
          return length
        },
      }
    },
  }
})

afterEach(() => {
  Object.assign(lies, { dropSegment: -1, flipCompressed: -1, segments: 0, compressions: 0 })
})

async function withSource(): Promise<Engine> {
  const engine = await makeEngine({ limits: { packBytes: 3000 } })
  for (let i = 0; i < 6; i++) {
    writeFile(engine, `/src/file-${i}`, Buffer.concat([fixtureRandom(`lies ${i}`).bytes(3000), Buffer.alloc(3000, 'text ')]))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  engine.pass()
  lies.segments = 0
  lies.compressions = 0
  return engine
}

describe('a run refuses to commit', () => {
  test('when any segment that holds a claimed blob never reached a pack', async () => {
    const honest = await withSource()
    await honest.backup()
    const { segments } = lies
    expect(segments).toBeGreaterThan(5)
    for (let lost = 0; lost < segments; lost++) {
      const engine = await withSource()
      lies.dropSegment = lost
      await expect(engine.backup(), `segment ${lost}`).rejects.toMatchObject({ code: 'failed' })
      expect(engine.bucket.names('snapshots/')).toEqual([])
      lies.dropSegment = -1
      expect((await engine.backup()).outcome).toBe('done')
      expect(engine.newest()).toEqual(engine.source())
    }
  })

  test('when the compressor gives bytes that do not open to what went in (B13)', async () => {
    const honest = await withSource()
    await honest.backup()
    const { compressions } = lies
    expect(compressions).toBeGreaterThan(5)
    let refused = 0
    for (let flipped = 0; flipped < compressions; flipped++) {
      const engine = await withSource()
      lies.flipCompressed = flipped
      const error: unknown = await engine.backup().catch((thrown: unknown) => thrown)
      if (isHoldfastError(error)) {
        refused += 1
        expect(engine.bucket.names('snapshots/')).toEqual([])
        continue
      }
      // What was not smaller compressed is stored as it is, so that the lie touched nothing.
      expect(engine.newest()).toEqual(engine.source())
      expect(engine.reader().snapshots[0]!.openPrivate(engine.keys.read)).toMatchObject({ source: 'source' })
    }
    expect(refused).toBeGreaterThan(5)
  })
})
