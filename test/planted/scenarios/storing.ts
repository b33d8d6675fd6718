// What a backup demands: whatever the store, the disk, the codec and the clock do, a run that is reported good restores.
import { setImmediate } from 'node:timers/promises'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { SEGMENT_KIND } from '../../../agent/repository/segment.ts'
import { CWD, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { createKnownIds, FIRST_SEGMENT, UNKNOWN } from '../../../agent/backup/known-ids.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { pausedBucket } from '../_support/paused-bucket.ts'
import { goodRunRestores, severalFiles, SMALL_PACKS } from '../_support/sources.ts'
import { SimulatedCrash } from '../../_support/simulated-store.ts'
import { checkMerges, demand, restored, restoresTo } from '../../sim/invariants.ts'
import { MERGING } from '../../sim/operations.ts'

export async function storeFull(): Promise<void> {
  for (let nth = 1; nth <= 5; nth++) {
    const engine = await severalFiles()
    let packs = 0
    engine.setStoreFaults(({ operation, name }) =>
      operation === 'put' && name.startsWith('packs/') && ++packs === nth ? [{ kind: 'fail', when: 'before', code: 'store-full' }] : [],
    )
    const isGood = await goodRunRestores(engine, engine.backup(), `although the store had no room for pack ${nth}`)
    demand(!isGood, `the store had no room for pack ${nth}, and the run was reported good`)
  }
}

export async function indexMerge(): Promise<void> {
  const { bucket, startMs = 0 } = await MERGING.history!()
  demand(bucket !== undefined, 'the history has a bucket')
  const engine = await makeEngine({ seed: 'merging', bucket, startMs, limits: SMALL_PACKS })
  await MERGING.prepare(engine, [])
  await engine.backup()
  checkMerges(engine)
}

/** The table of known ids against a Map, while it grows. */
export async function knownIdsModel(): Promise<void> {
  const random = fixtureRandom('known ids')
  const known = createKnownIds(10)
  const model = new Map<string, number>()
  for (let step = 0; step < 6000; step++) {
    if (known.count() > known.capacity() - 8) known.grow(500)
    const ids = [...model.keys()]
    const id = step % 3 === 2 ? Buffer.from(ids[step % ids.length]!, 'hex') : random.bytes(16)
    const name = id.toString('hex')
    const said = known.claim(id, FIRST_SEGMENT + step)
    demand(said === (model.get(name) ?? UNKNOWN), `a claim of an id says ${said}, and it was claimed as ${model.get(name) ?? 'nothing'}`)
    if (said === UNKNOWN) model.set(name, FIRST_SEGMENT + step)
  }
  for (const [name, value] of model) {
    const said = known.lookup(Buffer.from(name, 'hex'))
    demand(said === value, `an id that was claimed as ${value} is known as ${said}`)
  }
}

export async function zeroRuns(): Promise<void> {
  const engine = await makeEngine({ seed: 'zeros' })
  const noise = fixtureRandom('zeros').bytes(3000)
  for (const length of [1, 1024, 4095, 4096, 16_383, 16_384, 16_385, 100_000]) {
    const zeros = Buffer.alloc(length)
    writeFile(engine, `/src/all-${length}`, zeros)
    writeFile(engine, `/src/between-${length}`, Buffer.concat([noise, zeros, noise]))
    writeFile(engine, `/src/last-${length}`, Buffer.concat([noise, zeros]))
  }
  engine.pass()
  await engine.backup()
  await restoresTo(engine, engine.source(), 'a source with long runs of zeros')
}

/** As long as before, at the same time on the same clock: nothing but the content tells. */
export async function sameTick(): Promise<void> {
  const engine = await makeEngine({ seed: 'tick' })
  writeFile(engine, '/src/large', fixtureRandom('tick').bytes(50_000))
  await engine.backup()
  writeFile(engine, '/src/large', fixtureRandom('same tick').bytes(50_000))
  engine.pass()
  await engine.backup()
  await restoresTo(engine, engine.source(), 'a file that was changed in the tick in which it was read')
}

export async function tornPut(): Promise<void> {
  for (let nth = 1; nth <= 3; nth++) {
    const engine = await severalFiles()
    let packs = 0
    engine.setStoreFaults(({ operation, name }) =>
      operation === 'put' && name.startsWith('packs/') && ++packs === nth ? [{ kind: 'torn', keepBytes: 500, reported: 'success' }] : [],
    )
    await goodRunRestores(engine, engine.backup(), 'by a store that kept half of a pack')
  }
}

export async function shortReads(): Promise<void> {
  const engine = await severalFiles()
  const short = new Proxy<FileSystem>(engine.fs, {
    get: (target, property: keyof FileSystem) => {
      if (property !== 'read') return target[property]
      const read: FileSystem['read'] = (fd, into, offset, length, position) => target.read(fd, into, offset, Math.min(length, 3), position)
      return read
    },
  })
  await goodRunRestores(engine, engine.backup({ fileSystem: short }), 'on a file system that answers three bytes at a time')
}

/** Cancelled at any call of the store; what the next run takes over is really there. */
export async function cancelled(): Promise<void> {
  for (let call = 8; call < 24; call++) {
    const engine = await severalFiles()
    const controller = new AbortController()
    const first = engine.bucket.trace.length
    engine.setStoreFaults(({ operation, name }) => {
      if (engine.bucket.trace.length - first < call || controller.signal.aborted) return []
      controller.abort()
      return operation === 'put' && name.startsWith('packs/') ? [{ kind: 'fail', when: 'before', code: 'cancelled' }] : []
    })
    await goodRunRestores(engine, engine.backup({ signal: controller.signal }), `cancelled at call ${call}`)
    engine.reboot()
    engine.pass()
    const after = `the run after one that was cancelled at call ${call}`
    const isGood = await goodRunRestores(engine, engine.backup(), `as ${after}`)
    demand(isGood, `${after} fails`)
  }
}

export async function lyingCodec(): Promise<void> {
  const engine = await makeEngine({ seed: 'codec', limits: SMALL_PACKS })
  // What compresses well: the codec has something to do.
  for (let i = 0; i < 30; i++) {
    writeFile(engine, `/src/file-${i}`, fixtureRandom(`codec ${i}`).bytes(4000).toString('hex'))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  engine.pass()
  await goodRunRestores(engine, engine.backup(), 'with a codec that gets some segments wrong')
}

/** One pack takes the store much longer than all else, and the power fails once the snapshot is stored: the snapshot restores. */
export async function snapshotLast(): Promise<void> {
  for (let nth = 1; nth <= 5; nth++) {
    const engine = await severalFiles()
    const isStored = (): boolean => engine.bucket.names('snapshots/').length > 0
    const bucket = pausedBucket(engine.bucket, { operation: 'put', prefix: 'packs/', nth }, async () => {
      for (let turn = 0; turn < 300 && !isStored(); turn++) await setImmediate()
    })
    engine.setStoreFaults(({ operation, name }) =>
      operation === 'put' && name.startsWith('snapshots/') ? [{ kind: 'crash', when: 'after' }] : [],
    )
    try {
      await engine.backup({ bucket })
    } catch (error) {
      if (!(error instanceof SimulatedCrash) && !isHoldfastError(error)) throw error
    }
    engine.reboot()
    demand(isStored(), 'the run came to no snapshot')
    const result = await restored(engine)
    demand('tree' in result, `the snapshot was stored before what it needs: ${'told' in result ? result.told : ''}`)
  }
}

/** Chunks whose index file is gone are found by their footers. */
export async function indexVanishes(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => undefined)
  await restoresTo(engine, engine.source(), 'a repository whose index files are gone')
  await engine.backup()
  demand(engine.reader().has(SEGMENT_KIND.chunk, firstChunk(engine)), 'the index is not made again')
  await restoresTo(engine, engine.source(), 'the run after the index was lost')
}

function firstChunk(engine: Engine): string {
  const reader = engine.reader()
  return [...reader.entries(reader.snapshots.at(-1)!).values()].flatMap((entry) => reader.chunkIds(entry))[0]!
}

export async function emptyIndexFile(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  for (const name of engine.bucket.names('index/')) engine.bucket.tamper(name, () => Buffer.alloc(0))
  await restoresTo(engine, engine.source(), 'a repository with an index file of no bytes')
  writeFile(engine, '/src/more', fixtureRandom('more').bytes(5000))
  engine.pass()
  const isGood = await goodRunRestores(engine, engine.backup(), 'beside an index file of no bytes')
  demand(isGood, 'an index file of no bytes keeps a backup from running')
}
