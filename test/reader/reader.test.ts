// The single-file reader restores what a second, tiny writer made from the same document, and refuses what the document says it must.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runReader, runReaderArchive, runReaderList } from './reader-support.ts'
import { type Agent, TinyWriter, bytes, cat, u16, varint } from './tiny-writer.ts'

let base = ''
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'reader-'))
})
afterEach(() => rmSync(base, { recursive: true }))

function code(secret: Buffer): string {
  const check = createHash('sha256').update('holdfast/1 recovery code').update(secret).digest().subarray(0, 3)
  const bits = [...secret, ...check].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return Array.from({ length: 36 }, (_, i) => '0123456789abcdefghjkmnpqrstvwxyz'[Number.parseInt(bits.slice(i * 5, i * 5 + 5), 2)]).join('')
}

const ids = cat(varint(process.getuid?.() ?? 0), varint(process.getgid?.() ?? 0))
function entry(name: Buffer | string, kind: number, flags: number, mode: number, rest: Buffer): Buffer {
  return cat(bytes(name), kind, u16(flags), u16(mode), ids, varint(1600000000n << 1n), varint(123456789), rest)
}

/** One directory with something of every kind that needs no privilege. */
function everything(writer: TinyWriter): Buffer {
  const one = Buffer.alloc(70000, 'one')
  const two = Buffer.alloc(3000, 'two')
  const [a, b] = [writer.chunk(one), writer.chunk(two)]
  const list = writer.node(4, cat(varint(2), varint(73000), varint(70000)), [
    [
      1,
      writer.node(3, varint(73000), [
        [0, a],
        [0, b],
      ]),
    ],
    [1, writer.node(3, varint(70000), [[0, a]])],
  ])
  const pages = writer.node(2, cat(varint(2), bytes('p'), varint(1), bytes('q'), varint(1)), [
    [1, writer.node(1, cat(varint(1), entry('p', 1, 8, 0o600, cat(varint(1), bytes('p')))), [])],
    [1, writer.node(1, cat(varint(1), entry('q', 1, 8, 0o600, cat(varint(1), bytes('q')))), [])],
  ])
  const linked = cat(varint(7), varint(2n ** 64n - 1n))
  const entries = [
    entry('d', 2, 64, 0o711, Buffer.alloc(0)),
    entry('empty', 1, 0, 0o644, cat(varint(0), varint(0))),
    entry('f1', 1, 1, 0o4750, cat(varint(73000), linked, varint(2))),
    entry('f2', 1, 1, 0o4750, cat(varint(73000), linked, varint(2))),
    entry('fifo', 4, 0, 0o620, Buffer.alloc(0)),
    entry('holes', 1, 4 | 8, 0o444, cat(varint(100000), varint(2), varint(10), varint(3), varint(50000), varint(2), bytes('abcde'))),
    entry('link', 3, 0, 0o777, bytes('../nowhere')),
    entry('paged', 1, 16, 0o600, varint(143000)),
    entry(
      Buffer.from([0xff, 0x0a]),
      1,
      2 | 8,
      0o600,
      cat(varint(2), varint(1), bytes('user.a=b'), bytes(Buffer.from([0, 255])), bytes('hi')),
    ),
  ]
  return writer.node(1, cat(varint(entries.length), ...entries), [
    [1, pages],
    [0, a],
    [0, b],
    [0, a],
    [0, b],
    [1, list],
  ])
}

/** Files (each link counts), directories with the root, and bytes of `everything`. */
const COUNTED = [8, 2, 389004] as const

function make(): {
  readonly directory: string
  readonly recoveryCode: string
  readonly pack: string
  readonly index: string
  readonly snapshot: string
} {
  const writer = new TinyWriter()
  const directory = join(base, 'repository')
  return { directory, recoveryCode: code(writer.recoveryCode), ...writer.write(directory, everything(writer), COUNTED) }
}

function expectEverything(target: string): void {
  expect(readFileSync(join(target, 'f1')).equals(cat(Buffer.alloc(70000, 'one'), Buffer.alloc(3000, 'two')))).toBe(true)
  expect(lstatSync(join(target, 'f2')).ino).toBe(lstatSync(join(target, 'f1')).ino)
  expect(lstatSync(join(target, 'f1')).mode & 0o7777).toBe(0o4750)
  expect(lstatSync(join(target, 'fifo')).isFIFO()).toBe(true)
  const holes = Buffer.alloc(100000)
  holes.write('abc', 10)
  holes.write('de', 50013)
  expect(readFileSync(join(target, 'holes')).equals(holes)).toBe(true)
  expect(readlinkSync(join(target, 'link'))).toBe('../nowhere')
  expect(lstatSync(join(target, 'paged')).size).toBe(143000)
  expect(lstatSync(join(target, 'empty')).size).toBe(0)
  expect(readFileSync(join(target, 'd/q'), 'latin1')).toBe('q')
  expect(lstatSync(join(target, 'd')).mode & 0o7777).toBe(0o711)
  expect(readFileSync(Buffer.concat([Buffer.from(target), Buffer.from([0x2f, 0xff, 0x0a])]), 'latin1')).toBe('hi')
  expect(lstatSync(join(target, 'd')).mtimeMs).toBeCloseTo(1600000000123.456, 2)
}

test('a snapshot with every kind of entry is restored, times to the nanosecond', async () => {
  const { directory, recoveryCode } = make()
  const target = join(base, 'target')
  expect(await runReader(directory, 'latest', target, { recoveryCode })).toMatchObject({ code: 0, stderr: '' })
  expectEverything(target)
  for (const name of ['d', 'f1', 'link']) expect(lstatSync(join(target, name), { bigint: true }).mtimeNs).toBe(1600000000123456789n)
  const list = await runReaderList(directory, { recoveryCode })
  expect(list).toMatchObject({ code: 0, stdout: expect.stringContaining('1970-01-01T00:00:00.010Z') })
})

test('index files are not needed: packs say what they hold', async () => {
  const { directory, recoveryCode, index } = make()
  rmSync(join(directory, index))
  expect(await runReader(directory, '1a1a', join(base, 'target'), { recoveryCode })).toMatchObject({ code: 0, stderr: '' })
  expectEverything(join(base, 'target'))
})

test('the archive has no need of options: a tar that is told nothing restores it', async () => {
  const { directory, recoveryCode } = make()
  const run = await runReaderArchive(directory, 'latest', { recoveryCode })
  expect(run).toMatchObject({ code: 0, stderr: '' })
  const target = join(base, 'target')
  mkdirSync(target)
  const tar = spawnSync('tar', ['-xp', '--warning=no-unknown-keyword', '-C', target], { input: run.archive })
  expect(tar.stderr.toString()).toBe('')
  expectEverything(target)
})

test('a tree with more in it than its snapshot says ends the reading', async () => {
  const writer = new TinyWriter()
  const directory = join(base, 'repository')
  writer.write(directory, everything(writer), [7, 2, 389004])
  const run = await runReader(directory, 'latest', join(base, 'target'), { recoveryCode: code(writer.recoveryCode) })
  expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('more in it than its snapshot says') })
})

test('a key object may stand outside of the repository, beside other files', async () => {
  const { directory, recoveryCode } = make()
  const keysDir = join(base, 'beside')
  expect(await runReader(directory, 'latest', join(base, 'one'), { recoveryCode })).toMatchObject({ code: 0 })
  renameSync(join(directory, 'keys'), keysDir)
  writeFileSync(join(keysDir, 'notes'), 'where the code is kept')
  expect(await runReader(directory, 'latest', join(base, 'two'), { recoveryCode })).toMatchObject({ code: 1 })
  expect(await runReader(directory, 'latest', join(base, 'three'), { recoveryCode, keysDir })).toMatchObject({ code: 0, stderr: '' })
})

/** Changes a byte of the chunks' segment, which stands first. */
function damage(path: string): void {
  const damaged = readFileSync(path)
  damaged[5] = (damaged[5] ?? 0) ^ 1
  writeFileSync(path, damaged)
}

test('a damaged chunk is named and ends the archive without its end marker: what is before it is restored, and the end is 4', async () => {
  const { directory, recoveryCode, pack } = make()
  damage(join(directory, pack))
  const target = join(base, 'target')
  const run = await runReader(directory, 'latest', target, { recoveryCode })
  expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('/f1') })
  expect(run.stderr).toContain('Unexpected EOF in archive')
  expect(readFileSync(join(target, 'd/p'), 'latin1')).toBe('p')
  const { archive } = await runReaderArchive(directory, 'latest', { recoveryCode })
  expect(archive.includes('oneone')).toBe(false)
  expect(archive.subarray(-1024).equals(Buffer.alloc(1024))).toBe(false)
})

test('a damaged directory is named and passed over: all else is restored, and the end is 4', async () => {
  const writer = new TinyWriter()
  const directory = join(base, 'repository')
  const file = (name: string): Buffer => entry(name, 1, 8, 0o600, cat(varint(1), bytes(name)))
  const unsorted = writer.node(1, cat(varint(2), file('b'), file('a')), [])
  const top = writer.node(1, cat(varint(2), entry('d', 2, 0, 0o700, cat()), file('e')), [[1, unsorted]])
  writer.write(directory, top, [3, 2, 3])
  const target = join(base, 'target')
  const run = await runReader(directory, 'latest', target, { recoveryCode: code(writer.recoveryCode) })
  expect(run).toMatchObject({ code: 4, stderr: 'damage: ./d: a directory is not sorted\n' })
  expect(readFileSync(join(target, 'e'), 'latin1')).toBe('e')
})

test('a wrong secret ends with 12, an unknown snapshot with 1, wrong words with 2; --help tells the usage', async () => {
  const { directory, recoveryCode } = make()
  const target = join(base, 'target')
  expect(await runReader(directory, 'latest', target, { recoveryCode: code(Buffer.alloc(20)) })).toMatchObject({ code: 12 })
  expect(await runReader(directory, 'latest', target, { recoveryCode: 'abcd' })).toMatchObject({ code: 12 })
  expect(await runReader(directory, 'latest', target, {})).toMatchObject({ code: 2 })
  expect(await runReader(directory, 'ffff', target, { recoveryCode })).toMatchObject({ code: 1 })
  expect(await runReaderList(directory, { recoveryCode }, 'latest', 'target')).toMatchObject({ code: 2, stdout: '' })
  expect(await runReaderList(directory, { recoveryCode }, '--list')).toMatchObject({ code: 2, stdout: '' })
  const usage = "tar -xp --xattrs --xattrs-include='*' --numeric-owner -C TARGET"
  expect(await runReaderList('--help', {})).toMatchObject({ code: 0, stdout: expect.stringContaining(usage), stderr: '' })
})

test('beside a snapshot that does not open no other one passes for the latest; by its id it comes back', async () => {
  const { directory, recoveryCode } = make()
  writeFileSync(join(directory, 'snapshots', `${'5'.repeat(32)}-${'6'.repeat(32)}`), 'torn')
  const run = await runReaderArchive(directory, 'latest', { recoveryCode })
  expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('name one by id') })
  expect(run.archive).toHaveLength(0)
  expect(await runReader(directory, '1a1a', join(base, 'target'), { recoveryCode })).toMatchObject({ code: 0, stderr: '' })
  expectEverything(join(base, 'target'))
})

test('what this machine cannot make is named, all else is restored, and the end is 3', async () => {
  const writer = new TinyWriter()
  const directory = join(base, 'repository')
  const name = 'long'.repeat(60)
  const file = entry('f', 1, 8, 0o600, cat(varint(1), bytes('f')))
  let node = writer.node(1, cat(varint(1), file), [])
  for (let depth = 0; depth < 20; depth++) node = writer.node(1, cat(varint(2), file, entry(name, 2, 0, 0o700, cat())), [[1, node]])
  writer.write(directory, node, [21, 21, 21])
  const target = join(base, 'target')
  const run = await runReader(directory, 'latest', target, { recoveryCode: code(writer.recoveryCode) })
  expect(run).toMatchObject({ code: 3, stderr: expect.stringContaining('File name too long') })
  expect(readFileSync(join(target, name, name, 'f'), 'latin1')).toBe('f')
})

test('a name that would lead out of the target is refused', async () => {
  for (const name of ['..', 'a/b', '.', 'x\0']) {
    const writer = new TinyWriter()
    const directory = join(base, 'bad', Buffer.from(name).toString('hex'))
    const evil = writer.node(1, cat(varint(1), entry(name, 1, 8, 0o600, cat(varint(1), bytes('!')))), [])
    writer.write(directory, evil, [1, 1, 1])
    const run = await runReader(directory, 'latest', join(base, 'target', Buffer.from(name).toString('hex')), {
      recoveryCode: code(writer.recoveryCode),
    })
    expect(run).toMatchObject({ code: 4, stderr: expect.stringContaining('name is no name') })
  }
})

test('an agent writes when the roster lists it; one that no roster lists, or that was revoked before it began, is refused', async () => {
  const restoreOf = async (name: string, state: 0 | 1 | 2, since: number) => {
    const writer = new TinyWriter({ state, since })
    writer.write(join(base, name), everything(writer), COUNTED)
    return runReader(join(base, name), 'latest', join(base, `${name}-target`), { recoveryCode: code(writer.recoveryCode) })
  }
  expect(await restoreOf('active', 1, 3)).toMatchObject({ code: 0, stderr: '' })
  expect(await restoreOf('revoked-later', 2, 10)).toMatchObject({ code: 0 })
  expect(await restoreOf('revoked-before', 2, 9)).toMatchObject({ code: 4, stderr: expect.stringContaining('revoked') })
  expect(await restoreOf('unknown', 0, 3)).toMatchObject({ code: 4, stderr: expect.stringContaining('roster does not list') })
})

test('what its own writer or the root has forgotten is marked and is not the latest; an entry that its writer or the root undid, also where it was merged since, or of another or revoked writer, is nothing', async () => {
  type Act = (writer: TinyWriter, directory: string, snapshot: string) => void
  const seen = async (agent: Agent | undefined, act: Act) => {
    const directory = mkdtempSync(join(base, 'forgotten-'))
    const writer = new TinyWriter(agent)
    act(writer, directory, writer.write(directory, everything(writer), COUNTED).snapshot)
    const secret = { recoveryCode: code(writer.recoveryCode) }
    const [list, latest] = [await runReaderList(directory, secret), await runReaderArchive(directory, 'latest', secret)]
    return [list.stdout.includes('Z forgotten  '), list.code, latest.code]
  }
  const [counts, forgotten] = [
    [false, 0, 0],
    [true, 0, 1],
  ]
  const active: Agent = { state: 1, since: 3 }
  expect(await seen(active, () => undefined)).toEqual(counts)
  expect(await seen(active, (writer, at, snapshot) => writer.forget(at, 'agent', 1, snapshot))).toEqual(forgotten)
  expect(await seen(active, (writer, at, snapshot) => writer.forget(at, 'root', 1, snapshot))).toEqual(forgotten)
  const undone: Act = (writer, at, snapshot) => {
    writer.forget(at, 'agent', 1, snapshot)
    writer.forget(at, 'agent', 2, snapshot, 1)
  }
  expect(await seen(active, undone)).toEqual(counts)
  const undoneBy = (first: 'agent' | 'root', by: 'agent' | 'root', merged?: number): Act => {
    return (writer, at, snapshot) => {
      writer.forget(at, first, 1, snapshot)
      writer.forget(at, by, 2, snapshot, 1)
      if (merged !== undefined) writer.forget(at, first, 3, snapshot, undefined, merged)
    }
  }
  expect(await seen(active, undoneBy('agent', 'root'))).toEqual(counts)
  expect(await seen(active, undoneBy('root', 'agent'))).toEqual(forgotten)
  expect(await seen(active, undoneBy('agent', 'root', 1))).toEqual(counts)
  expect(await seen(active, undoneBy('agent', 'agent', 4))).toEqual(forgotten)
  const again: Act = (writer, at, snapshot) => {
    undone(writer, at, snapshot)
    writer.forget(at, 'root', 3, snapshot)
  }
  expect(await seen(active, again)).toEqual(forgotten)
  expect(await seen({ state: 2, since: 10 }, (writer, at, snapshot) => writer.forget(at, 'agent', 1, snapshot))).toEqual(counts)
  const ofAnother: Act = (writer, at, snapshot) => {
    writer.list(at, active)
    writer.forget(at, 'agent', 1, snapshot)
  }
  expect(await seen(undefined, ofAnother)).toEqual(counts)
})
