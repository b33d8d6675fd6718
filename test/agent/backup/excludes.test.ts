// What a source leaves out: gitignore patterns over bytes, cache directories, other file systems, large files.
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { change, type Engine, makeEngine, type RunOptions, writeFile } from '../../_support/engine-fixture.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')

async function tree(...paths: string[]): Promise<Engine> {
  const engine = await makeEngine()
  for (const path of paths) writeFile(engine, `/src/${path}`, path)
  engine.pass()
  return engine
}

async function kept(engine: Engine, excludes: NonNullable<RunOptions['excludes']>): Promise<string[]> {
  await engine.backup({ excludes })
  return [...engine.newest().keys()].filter((path) => path !== '/src').map((path) => path.slice('/src/'.length))
}

describe('excludes', () => {
  test('are patterns as in gitignore: names anywhere, paths from the root, directories, and what is taken back', async () => {
    const engine = await tree(
      'a.tmp',
      'b.txt',
      'cache/x',
      'deep/cache/y',
      'deep/keep.tmp',
      'deep/z',
      'logs/1.log',
      'logs/important.log',
      'only/cache',
    )
    expect(await kept(engine, { patterns: ['*.tmp', '!keep.tmp', 'cache/', '/src/logs/*', '!/src/logs/important.log'] })).toEqual([
      'b.txt',
      'deep',
      'deep/keep.tmp',
      'deep/z',
      'logs',
      'logs/important.log',
      'only',
      'only/cache',
    ])
  })

  test('cannot take back what is below a directory that is left out, as in gitignore', async () => {
    const engine = await tree('out/in', 'other')
    expect(await kept(engine, { patterns: ['out/', '!out/in'] })).toEqual(['other'])
  })

  test('tell upper from lower case and match names of any bytes', async () => {
    const engine = await tree('Name', 'name', 'caf\xc3\xa9', 'latin\xe9', '\xff\xfe.tmp', 'x.tmp\n')
    expect(await kept(engine, { patterns: ['name', 'café', '*.tmp'] })).toEqual(['Name', 'latin\xe9', 'x.tmp\n'])
  })

  test('count entries that are left out as no files, and notice when the rules change', async () => {
    const engine = await tree('a.tmp', 'b')
    expect(await kept(engine, { patterns: ['*.tmp'] })).toEqual(['b'])
    engine.pass()
    expect(await kept(engine, { patterns: [] })).toEqual(['a.tmp', 'b'])
    engine.pass()
    const run = await engine.backup({ excludes: { patterns: ['*.tmp'] } })
    expect(run.summary.files).toBe(1)
    expect([...engine.newest().keys()]).toEqual(['/src', '/src/b'])
  })

  test.each(['', '   ', 'a\0b', 'x'.repeat(5000)])('refuse a pattern that cannot be one (%#)', async (pattern) => {
    const engine = await tree('a')
    const error: unknown = await engine.backup({ excludes: { patterns: [pattern] } }).catch((thrown: unknown) => thrown)
    expect(isHoldfastError(error, 'usage')).toBe(true)
    expect(engine.fs.openDescriptors()).toBe(0)
  })

  test('leave out what a valid CACHEDIR.TAG marks, and keep the tag', async () => {
    const engine = await tree('real/content', 'fake/content')
    writeFile(engine, '/src/real/CACHEDIR.TAG', 'Signature: 8a477f597d28d172789f06886806bc55\nmade by a test')
    writeFile(engine, '/src/fake/CACHEDIR.TAG', 'no signature')
    expect(await kept(engine, { cacheDirectories: true })).toEqual([
      'fake',
      'fake/CACHEDIR.TAG',
      'fake/content',
      'real',
      'real/CACHEDIR.TAG',
    ])
    expect(await kept(engine, {})).toContain('real/content')
  })

  test('leave out files over a size, and no directories', async () => {
    const engine = await tree('directory/small')
    writeFile(engine, '/src/at', Buffer.alloc(10_000, 1))
    writeFile(engine, '/src/over', Buffer.alloc(10_001, 1))
    expect(await kept(engine, { largerThanBytes: 10_000 })).toEqual(['at', 'directory', 'directory/small'])
  })

  test('of other file systems keep the place where one is mounted, and nothing in it', async () => {
    const engine = await tree('here/file')
    change(engine, (fs) => fs.makeDirectory(CWD, b('/src/mounted'), 0o755))
    engine.fs.mount('/src/mounted', 0x01021994)
    writeFile(engine, '/src/mounted/file', 'on another file system')
    expect(await kept(engine, { oneFileSystem: true })).toEqual(['here', 'here/file', 'mounted'])
    expect(await kept(engine, {})).toContain('mounted/file')
  })

  test('of other file systems do not leave out a source that is itself the root of one', async () => {
    const engine = await tree('other')
    change(engine, (fs) => fs.makeDirectory(CWD, b('/src/mounted'), 0o755))
    engine.fs.mount('/src/mounted', 0x01021994)
    writeFile(engine, '/src/mounted/file', 'inside')
    await engine.backup({ paths: ['/src/mounted'], excludes: { oneFileSystem: true } })
    expect([...engine.newest().keys()]).toEqual(['/src/mounted', '/src/mounted/file'])
  })
})

describe('sources', () => {
  test('of several paths share their way, and one inside another is not taken twice', async () => {
    const engine = await tree('a/b/c', 'a/d', 'e')
    await engine.backup({ paths: ['/src/a/b', '/src/e', '/src//a/./b/c', '/src/a/b/'] })
    expect([...engine.newest().keys()]).toEqual(['/src/a/b', '/src/a/b/c', '/src/e'])
  })

  test('may be the root itself, whose own mode and time are kept', async () => {
    const engine = await tree('file')
    change(engine, (fs) => fs.setMode(CWD, b('/'), 0o750))
    await engine.backup({ paths: ['/'], excludes: { patterns: ['/state'] } })
    expect([...engine.newest().keys()]).toEqual(['/src', '/src/file'])
    const [snapshot] = engine.reader().snapshots
    expect(snapshot!.openPrivate(engine.keys.read)?.root).toMatchObject({ kind: 'directory', mode: 0o750 })
  })

  test.each(['relative', '/src/../etc', '/a\0b'])('are absolute paths without steps upwards (%#)', async (path) => {
    const engine = await tree('file')
    const error: unknown = await engine.backup({ paths: [path] }).catch((thrown: unknown) => thrown)
    expect(isHoldfastError(error, 'usage')).toBe(true)
  })
})
