// Which files are told as transmitted (O4): those whose new content is durable, at any moment, and no others.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import type { TransmittedFile } from '../../../agent/backup/backup-types.ts'
import { packName, parseObjectName } from '@holdfast/shared/format/layout.ts'
import { decodeFooter, decodeTrailer, TRAILER_BYTES } from '../../../agent/repository/pack.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const FILES = 9

async function withSource(): Promise<Engine> {
  const engine = await makeEngine({ limits: { packBytes: 4000, uploadsAtOnce: 2 } })
  const random = fixtureRandom('transmissions')
  for (let i = 0; i < FILES; i++) {
    writeFile(engine, `/src/file-${i}`, random.bytes(2000 + 3000 * (i % 4)))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  engine.pass()
  return engine
}

/** Ids of all blobs in packs that are in the store now, by the packs' own footers. */
function durableIds(engine: Engine): Set<string> {
  const { structure } = engine.keys.write
  const ids = new Set<string>()
  for (const name of engine.bucket.names('packs/')) {
    const ref = parseObjectName(name)!
    const pack = engine.bucket.content(packName(ref))!
    const trailer = decodeTrailer(pack.subarray(pack.length - TRAILER_BYTES), ref, pack.length, structure)
    const footer = pack.subarray(trailer.footerOffset, trailer.footerOffset + trailer.footerBytes)
    for (const segment of decodeFooter(footer, ref, trailer.footerOffset, structure).footer.segments)
      for (const blob of segment.blobs) ids.add(blob.id)
  }
  return ids
}

const pathsOf = (told: readonly TransmittedFile[]): string[] => told.map(({ path }) => path.toString()).sort()

describe('files are told as transmitted', () => {
  test('exactly those whose new blobs are durable, wherever the run is killed', async () => {
    const whole = await withSource()
    await whole.backup()
    const reader = whole.reader()
    const files = [...reader.entries(reader.snapshots[0]!)].filter(([, entry]) => entry.kind === 'file')
    const puts = whole.bucket.trace.filter(({ operation, name }) => operation === 'put' && name.startsWith('packs/')).length
    expect(puts).toBeGreaterThan(4)
    const partly = new Set<number>()
    for (let nth = 1; nth <= puts; nth++)
      for (const when of ['before', 'after'] as const) {
        const engine = await withSource()
        let seen = 0
        engine.setStoreFaults(({ operation, name }) =>
          operation === 'put' && name.startsWith('packs/') && ++seen === nth ? [{ kind: 'crash', when }] : [],
        )
        const told: TransmittedFile[] = []
        await expect(engine.backup({ transmitted: told })).rejects.toThrow()
        const ids = durableIds(engine)
        // Nobody is told of what is not there.
        const durable = files.filter(([, entry]) => reader.chunkIds(entry).every((id) => ids.has(id))).map(([path]) => path)
        for (const path of pathsOf(told)) expect(durable).toContain(path)
        partly.add(told.length)
        // What became durable and was told to nobody before the crash, the next run tells.
        engine.reboot()
        await engine.backup({ transmitted: told })
        expect([...new Set(pathsOf(told))]).toEqual(files.map(([path]) => path))
        expect(engine.newest()).toEqual(engine.source())
      }
    expect(partly.size).toBeGreaterThan(2)
  })

  test('once each in a run that nothing interrupts, with the bytes that were new', async () => {
    const engine = await withSource()
    writeFile(engine, '/src/small', 'in the tree')
    writeFile(engine, '/src/empty', '')
    writeFile(engine, '/src/twin', fixtureRandom('twin').bytes(3000))
    writeFile(engine, '/src/twin too', fixtureRandom('twin').bytes(3000))
    engine.pass()
    const run = await engine.backup()
    // Of two files of one content both are transmitted, the bytes once; an empty file has nothing to transmit.
    expect(pathsOf(run.transmitted)).toEqual([...engine.source().keys()].filter((path) => path !== '/src' && path !== '/src/empty').sort())
    const bytes = run.transmitted.reduce((sum, { newBytes }) => sum + newBytes, 0)
    expect(bytes).toBe(run.summary.bytesNew + 'in the tree'.length)
    engine.pass()
    writeFile(engine, '/src/small', 'changed')
    engine.pass()
    expect(pathsOf((await engine.backup()).transmitted)).toEqual(['/src/small'])
  })

  test('never for content that was there before, under whatever name', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(FILES - 1), fc.nat(20)), { maxLength: 6 }), async (copies) => {
        const engine = await withSource()
        await engine.backup()
        const random = fixtureRandom('transmissions')
        const contents = Array.from({ length: FILES }, (_, i) => random.bytes(2000 + 3000 * (i % 4)))
        for (const [from, to] of copies) writeFile(engine, `/src/copy-${to}`, contents[from]!)
        engine.pass()
        expect((await engine.backup()).transmitted).toEqual([])
      }),
      { numRuns: 10 },
    )
  })
})
