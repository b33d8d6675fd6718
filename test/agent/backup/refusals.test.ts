// What ends a run without a snapshot, and what of a run changes nothing: a store error is never a file's problem (B2), and nothing is reported
// good that is not there (B16).
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { encodeHeader } from '@holdfast/shared/format/layout.ts'
import { change, type Engine, fixtureRandom, makeEngine, readFile, type RunOptions, writeFile } from '../../_support/engine-fixture.ts'
import { atOperation, onNames } from '../../_support/simulated-store.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')

async function codeOf(run: Promise<unknown>): Promise<string> {
  try {
    await run
  } catch (error) {
    if (isHoldfastError(error)) return error.code
    throw error
  }
  return 'no error'
}

async function withSource(options: Parameters<typeof makeEngine>[0] = {}): Promise<Engine> {
  const engine = await makeEngine(options)
  const random = fixtureRandom('refusals')
  for (let i = 0; i < 6; i++) {
    writeFile(engine, `/src/file-${i}`, random.bytes(5000))
    change(engine, (fs) => fs.setOwner(CWD, b(`/src/file-${i}`), i, i))
  }
  engine.pass()
  return engine
}

function snapshots(engine: Engine): number {
  return engine.bucket.names('snapshots/').length
}

describe('a run makes no snapshot', () => {
  test('when any put fails, whichever it is and whatever the store says', async () => {
    const counted = await withSource({ limits: { packBytes: 3000 } })
    await counted.backup()
    const puts = counted.bucket.trace.filter(({ operation }) => operation === 'put').length - 1
    expect(puts).toBeGreaterThan(5)
    for (const code of ['store-full', 'store-refused', 'store-unreachable'] as const)
      for (let nth = 1; nth <= puts; nth++) {
        const engine = await withSource({ limits: { packBytes: 3000 } })
        // The first put made the repository.
        engine.setStoreFaults(atOperation('put', { kind: 'fail', when: 'before', code }, nth + 1))
        expect(await codeOf(engine.backup()), `put ${nth}`).toBe(code)
        expect(snapshots(engine)).toBe(0)
        engine.setStoreFaults(() => [])
        expect((await engine.backup()).outcome).toBe('done')
        expect(engine.newest()).toEqual(engine.source())
      }
  })

  test('when the local disk is full, which is no problem of any file', async () => {
    const engine = await withSource()
    for (const place of ['.part', '.footer.tmp']) {
      engine.fs.setFaults((call) => (call.operation === 'write' && call.path.endsWith(place) ? 'ENOSPC' : undefined))
      expect(await codeOf(engine.backup()), place).toBe('local-disk')
      expect(snapshots(engine)).toBe(0)
      expect(engine.fs.openDescriptors()).toBe(0)
    }
    engine.fs.setFaults(() => undefined)
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })

  test('when the local disk fills up after the commit it is good all the same, and says what it could not keep', async () => {
    const engine = await withSource()
    engine.fs.setFaults((call) => (call.operation === 'write' && call.path.endsWith('.new') ? 'ENOSPC' : undefined))
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(run.notices.join()).toContain('ENOSPC')
    expect(engine.newest()).toEqual(engine.source())
    expect(engine.fs.openDescriptors()).toBe(0)
  })

  test('when the state directory cannot be made', async () => {
    const engine = await withSource()
    engine.fs.setFaults((call) => (call.operation === 'makeDirectory' ? 'EROFS' : undefined))
    expect(await codeOf(engine.backup())).toBe('local-disk')
    expect(engine.fs.openDescriptors()).toBe(0)
  })

  test.each([
    ['is missing', ['/not/there'], undefined],
    ['is one of two and missing', ['/src', '/missing'], undefined],
    ['is below a file', ['/src/file-1/below'], undefined],
    ['cannot be listed', ['/src'], 'EIO'],
  ] as const)('when the source %s', async (_, paths, errno) => {
    const engine = await withSource()
    if (errno !== undefined) engine.fs.setFaults((call) => (call.operation === 'readDirectory' && call.path === '/src' ? errno : undefined))
    expect(await codeOf(engine.backup({ paths: [...paths] }))).toBe('source-missing')
    expect(snapshots(engine)).toBe(0)
    expect(engine.fs.openDescriptors()).toBe(0)
  })

  test('when a source that had files has none, as when its mount is gone', async () => {
    const engine = await withSource()
    await engine.backup()
    change(engine, (fs) => {
      for (let i = 0; i < 6; i++) fs.remove(CWD, b(`/src/file-${i}`), 'file')
    })
    expect(await codeOf(engine.backup())).toBe('source-empty')
    expect(snapshots(engine)).toBe(1)
    expect((await engine.backup({ label: 'another' })).outcome).toBe('done')
  })

  test('when it is cancelled, also before it begins', async () => {
    for (const after of [0, 1, 5, 20]) {
      const engine = await withSource({ limits: { packBytes: 3000 } })
      const controller = new AbortController()
      let calls = 0
      if (after === 0) controller.abort()
      engine.fs.setFaults((call) => {
        if (call.path.startsWith('/src') && ++calls === after) controller.abort()
        return undefined
      })
      expect(await codeOf(engine.backup({ signal: controller.signal }))).toBe('cancelled')
      expect(snapshots(engine)).toBe(0)
      engine.fs.setFaults(() => undefined)
      expect((await engine.backup()).outcome).toBe('done')
      expect(engine.newest()).toEqual(engine.source())
    }
  })

  test('when those who must be told of a transmission cannot take it', async () => {
    const engine = await withSource({ limits: { packBytes: 3000 } })
    const refuse: RunOptions = {
      onTransmitted: () => {
        throw new Error('the journal is full')
      },
    }
    await expect(engine.backup(refuse)).rejects.toThrow('the journal is full')
    expect(snapshots(engine)).toBe(0)
    const told = await engine.backup()
    expect(new Set(told.transmitted.map(({ path }) => path.toString())).size).toBe(6)
  })

  test('when an upload went nowhere although the store said that it went well', async () => {
    const engine = await withSource({ limits: { packBytes: 3000 } })
    // The pool hands out a segment whose pack never comes: here by a spool that loses the pack before it is sent.
    let lost = false
    engine.setStoreFaults(onNames('packs/', atOperation('put', { kind: 'fail', when: 'after', code: 'store-unreachable' }, 4)))
    expect(await codeOf(engine.backup())).toBe('store-unreachable')
    engine.setStoreFaults(() => [])
    // The pack of that put is in the store; somebody removes it before the next run looks.
    const [pack] = engine.bucket.names('packs/')
    engine.bucket.tamper(pack!, () => {
      lost = true
      return undefined
    })
    expect(lost).toBe(true)
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })
})

describe('a repository of a newer Holdfast', () => {
  test('is not written to where a collection list of a newer format stands, before and after the run', async () => {
    const engine = await withSource()
    const list = `lists/${'1'.repeat(32)}-${'2'.repeat(32)}`
    const object = encodeHeader('list', engine.keys.write.structure.domainId, 0)
    object.writeUInt8(2, 8)
    const put = (): Promise<unknown> => engine.bucket.store().put(list, { kind: 'bytes', bytes: object })
    let stored: Promise<unknown> | undefined
    engine.setStoreFaults((call) => {
      if (call.operation === 'put' && call.name.startsWith('snapshots/')) stored ??= put()
      return []
    })
    expect(await codeOf(engine.backup())).toBe('newer-format')
    await stored
    engine.setStoreFaults(() => [])
    const puts = engine.bucket.trace.filter(({ operation }) => operation === 'put').length
    expect(await codeOf(engine.backup())).toBe('newer-format')
    expect(engine.bucket.trace.filter(({ operation }) => operation === 'put').length).toBe(puts)
  })
})

describe('a dry run', () => {
  test('counts what a run would store and changes nothing, in the store or the state', async () => {
    const engine = await withSource({ limits: { packBytes: 3000 } })
    await engine.backup()
    writeFile(engine, '/src/new', fixtureRandom('dry').bytes(20_000))
    engine.pass()
    const before = [...contents(engine)]
    const names = engine.bucket.names()
    engine.fs.clearCalls()
    const run = await engine.backup({ dryRun: true })
    expect(run).toMatchObject({ outcome: 'done', snapshot: undefined, summary: { filesNew: 1, bytesNew: 20_000, files: 7 } })
    expect(run.transmitted).toEqual([])
    expect(engine.bucket.names()).toEqual(names)
    expect([...contents(engine)]).toEqual(before)
    expect(engine.fs.calls.filter(({ changes, path }) => changes && path !== '/state/run.lock')).toEqual([])
  })

  test('leaves the spool of an interrupted run as it is', async () => {
    const engine = await withSource({ limits: { packBytes: 3000 } })
    engine.setStoreFaults(onNames('packs/', (call) => (call.operation === 'put' ? [{ kind: 'crash', when: 'before' }] : [])))
    await expect(engine.backup()).rejects.toThrow()
    engine.reboot()
    const before = [...contents(engine)]
    expect(before.length).toBeGreaterThan(2)
    await engine.backup({ dryRun: true })
    expect([...contents(engine)]).toEqual(before)
    expect((await engine.backup()).outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })
})

/** Every file under /state by its path. */
function contents(engine: Engine): Map<string, string> {
  const found = new Map<string, string>()
  engine.fs.quietly(() => {
    for (const directory of ['/state', '/state/spool']) {
      const fd = engine.fs.open(CWD, b(directory), 'directory')
      for (const name of engine.fs.readDirectory(fd)) {
        const path = `${directory}/${name.toString('latin1')}`
        if (engine.fs.stat(CWD, b(path)).kind === 'file') found.set(path, readFile(engine.fs, path)!.toString('base64'))
      }
      engine.fs.close(fd)
    }
  })
  return found
}
