// What only the real file system can be asked: agreement with Node and GNU tools, full disks, other users, worker threads, old kernels.
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { posixFileSystem as fs, renameExclusivelyInSteps, setModeThroughHandle } from '../../../agent/file-system/posix-file-system.ts'
import { buildAwkwardTree } from '../../_support/awkward-tree.ts'
import { treeManifest } from '../../_support/tree-manifest.ts'
import { errnoOf } from '../../contract/file-system-contract.ts'

const asRoot = process.getuid?.() === 0
const b = (text: string): Buffer => Buffer.from(text)
const NO_NAME = Buffer.alloc(0)
const MIB = 1024 * 1024
let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'posix-file-system-'))
})
afterAll(() => {
  // Directories without write permission are part of the tree, and only root removes what is in them as they are.
  execFileSync('chmod', ['-R', 'u+rwX', directory])
  rmSync(directory, { recursive: true, force: true })
})

describe('the real file system', () => {
  test('sees an awkward tree exactly as find and getfattr do', async () => {
    const top = join(directory, 'awkward')
    mkdirSync(top)
    buildAwkwardTree(top, { ordinary: 50, hugeHoleBytes: 128 * MIB })
    // Until its data is on the disk, a file's count of blocks changes between two looks.
    execFileSync('sync', ['-f', top])
    const manifest = await treeManifest(top)
    const kinds = { f: 'file', d: 'directory', l: 'symlink', p: 'fifo', s: 'socket', c: 'character-device', b: 'block-device' }
    const seen = new Set<string>()
    const walk = (at: number, path: string): void => {
      for (const name of fs.readDirectory(at)) {
        const below = path === '' ? name.toString('latin1') : `${path}/${name.toString('latin1')}`
        const expected = manifest.get(below)
        if (expected === undefined) throw new Error(`find does not know ${JSON.stringify(below)}`)
        seen.add(below)
        const stat = fs.stat(at, name)
        expect(stat.kind).toBe(kinds[expected.kind as keyof typeof kinds])
        expect(`${stat.mode.toString(8)} ${stat.uid}:${stat.gid} ${stat.blocks}`).toBe(
          `${expected.mode} ${expected.owner} ${expected.blocks}`,
        )
        if (stat.kind === 'file') expect(stat.size).toBe(expected.size)
        if (stat.kind === 'symlink') expect(fs.readSymlink(at, name).toString('latin1')).toBe(expected.linkTarget)
        if (stat.kind.endsWith('device')) expect(`${stat.rdevMajor.toString(16)}:${stat.rdevMinor.toString(16)}`).toBe(expected.rdev)
        expect(
          fs
            .readAttributes(at, name)
            .map((found) => found.value.toString('hex'))
            .sort(),
        ).toEqual(expected.attributes.map((line) => line.replace(/^.*=(0x)?/, '')).sort())
        if (stat.kind !== 'directory') continue
        const inside = fs.open(at, name, 'directory')
        walk(inside, below)
        fs.close(inside)
      }
    }
    const at = fs.open(CWD, Buffer.from(top), 'directory')
    walk(at, '')
    fs.close(at)
    expect(seen.size).toBe(manifest.size - 1)
  })

  test('agrees with lstat in every field, on this disk, /proc, /sys and /dev', () => {
    for (const path of [directory, '/proc/self/status', '/sys', '/dev/null', '/etc/passwd', '/']) {
      const [ours, theirs] = [fs.stat(CWD, b(path)), lstatSync(path, { bigint: true })]
      expect([ours.inode, ours.deviceId, BigInt(ours.mode), BigInt(ours.uid), BigInt(ours.gid), BigInt(ours.links)]).toEqual([
        theirs.ino,
        theirs.dev,
        theirs.mode & 0o7777n,
        theirs.uid,
        theirs.gid,
        theirs.nlink,
      ])
      expect([BigInt(ours.size), BigInt(ours.blocks)]).toEqual([theirs.size, theirs.blocks])
      if (!path.startsWith('/proc') && path !== '/') expect([ours.mtimeNs, ours.ctimeNs]).toEqual([theirs.mtimeNs, theirs.ctimeNs])
    }
  })

  test('sets nanoseconds that stat and find print', () => {
    writeFileSync(join(directory, 'times'), '')
    fs.setTimes(CWD, b(join(directory, 'times')), 4_294_967_296_123_456_789n)
    expect(execFileSync('stat', ['-c', '%.9Y %.9X', join(directory, 'times')]).toString()).toBe(
      '4294967296.123456789 4294967296.123456789\n',
    )
  })

  test('reads from a place and a file whose name leads through it, also where the directory was renamed meanwhile', () => {
    mkdirSync(join(directory, 'before'))
    writeFileSync(join(directory, 'before', 'file'), 'x')
    const at = fs.open(CWD, b(join(directory, 'before')), 'directory')
    fs.rename(CWD, b(join(directory, 'before')), CWD, b(join(directory, 'after')), true)
    mkdirSync(join(directory, 'before'))
    fs.setAttribute(at, b('file'), b('user.place'), b('right'))
    fs.setMode(at, b('file'), 0o604)
    expect(fs.readAttributes(CWD, b(join(directory, 'after', 'file')))).toEqual([{ name: b('user.place'), value: b('right') }])
    expect(lstatSync(join(directory, 'after', 'file')).mode & 0o777).toBe(0o604)
    fs.close(at)
  })

  test('a value of 64 KiB and a list of many names are read whole', () => {
    const on = mkdtempSync('/dev/shm/attributes-')
    try {
      writeFileSync(join(on, 'file'), '')
      const fd = fs.open(CWD, b(join(on, 'file')), 'read')
      const large = Buffer.alloc(65_536, 0xab)
      fs.setAttribute(fd, NO_NAME, b('user.large'), large)
      for (let i = 0; i < 100; i++) fs.setAttribute(fd, NO_NAME, b(`user.${'n'.repeat(40)}-${i}`), b(String(i)))
      const found = fs.readAttributes(fd, NO_NAME)
      expect(found).toHaveLength(101)
      expect(found[0]).toEqual({ name: b('user.large'), value: large })
      expect(errnoOf(() => fs.setAttribute(fd, NO_NAME, b('user.larger'), Buffer.alloc(65_537)))).toBe('E2BIG')
      expect(errnoOf(() => fs.setAttribute(fd, NO_NAME, b(`user.${'n'.repeat(300)}`), NO_NAME))).toBe('ERANGE')
      fs.close(fd)
    } finally {
      rmSync(on, { recursive: true })
    }
  })

  test('a read of /proc, which gives as little as it likes, is continued to the end', () => {
    const fd = fs.open(CWD, b('/proc/kallsyms'), 'read')
    const into = Buffer.alloc(200_000)
    expect(fs.read(fd, into, 0, into.length, 0)).toBe(into.length)
    fs.close(fd)
  })

  test('a rename without replacing, in steps for kernels that cannot do it in one', () => {
    const at = fs.open(CWD, b(directory), 'directory')
    writeFileSync(join(directory, 'r1'), '1')
    writeFileSync(join(directory, 'r2'), '2')
    expect(errnoOf(() => renameExclusivelyInSteps(at, b('r1'), at, b('r2')))).toBe('EEXIST')
    renameExclusivelyInSteps(at, b('r1'), at, b('r3'))
    expect(readFileSync(join(directory, 'r3'), 'latin1')).toBe('1')
    expect(errnoOf(() => fs.stat(at, b('r1')))).toBe('ENOENT')
    mkdirSync(join(directory, 'rd', 'full'), { recursive: true })
    mkdirSync(join(directory, 're'))
    expect(errnoOf(() => renameExclusivelyInSteps(at, b('rd'), at, b('re')))).toBe('EEXIST')
    renameExclusivelyInSteps(at, b('rd'), at, b('rf'))
    expect(fs.stat(at, b('rf/full')).kind).toBe('directory')
    // Into itself: refused, and nothing is left behind.
    expect(errnoOf(() => renameExclusivelyInSteps(at, b('rf'), at, b('rf/full/rf')))).toBe('EINVAL')
    expect(errnoOf(() => fs.stat(at, b('rf/full/rf')))).toBe('ENOENT')
    fs.close(at)
  })

  test('a mode is set through a handle on kernels without fchmodat2, never on what a link leads to', () => {
    const at = fs.open(CWD, b(directory), 'directory')
    writeFileSync(join(directory, 'mode'), '', { mode: 0o600 })
    fs.makeSymlink(at, b('mode-link'), b('mode'))
    setModeThroughHandle(at, b('mode'), 0o4750)
    expect(fs.stat(at, b('mode')).mode).toBe(0o4750)
    expect(errnoOf(() => setModeThroughHandle(at, b('mode-link'), 0o777))).toBe('ENOTSUP')
    expect(fs.stat(at, b('mode')).mode).toBe(0o4750)
    fs.close(at)
  })

  test('descriptors are shared by all threads and do not end with the thread that opened them', async () => {
    writeFileSync(join(directory, 'shared'), 'from another thread')
    const module = new URL('../../../agent/file-system/posix-file-system.ts', import.meta.url).href
    const source = `import { parentPort, workerData } from 'node:worker_threads'
      const { posixFileSystem: fs } = await import(workerData.module)
      parentPort.postMessage(fs.open(-100, Buffer.from(workerData.path), 'read'))`
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { module, path: join(directory, 'shared') },
      trackUnmanagedFds: false,
    })
    const fd = await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    await worker.terminate()
    const into = Buffer.alloc(19)
    expect(fs.read(fd, into, 0, 19, 0)).toBe(19)
    expect(into.toString()).toBe('from another thread')
    fs.close(fd)
  })

  test('descriptors are closed on exec', () => {
    const fd = fs.open(CWD, b('/etc/passwd'), 'read')
    const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? ''
    expect(Number.parseInt(flags, 8) & 0o2000000).not.toBe(0)
    fs.close(fd)
  })

  test('a read leaves the time of last access alone where that is allowed', () => {
    const path = join(directory, 'atime')
    writeFileSync(path, 'x')
    fs.setTimes(CWD, b(path), 1_000_000_000n)
    const fd = fs.open(CWD, b(path), 'read')
    fs.read(fd, Buffer.alloc(1), 0, 1, 0)
    fs.close(fd)
    expect(lstatSync(path, { bigint: true }).atimeNs).toBe(1_000_000_000n)
  })
})

describe.skipIf(!asRoot)('the real file system, as root', () => {
  test('a full disk ends a write with ENOSPC after all that fits was written', () => {
    const mount = join(directory, 'small')
    mkdirSync(mount)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount])
    expect(mounted.stderr.toString()).toBe('')
    try {
      const fd = fs.open(CWD, b(join(mount, 'file')), 'create')
      expect(errnoOf(() => fs.write(fd, Buffer.alloc(2 * MIB, 1), null))).toBe('ENOSPC')
      // The first part was a short write, which was continued until the disk was full.
      expect(fs.stat(fd, NO_NAME).size).toBe(MIB)
      expect(fs.freeBytes(fd)).toBe(0)
      expect(fs.fileSystemType(fd)).toBe(0x01021994)
      fs.close(fd)
    } finally {
      spawnSync('umount', [mount])
    }
  })

  test('another user, who may not ask for O_NOATIME, reads all the same, and is told EACCES where it may not', () => {
    const open = join(directory, 'others')
    writeFileSync(open, 'for all', { mode: 0o644 })
    writeFileSync(`${open}-secret`, 'for none', { mode: 0o600 })
    execFileSync('chmod', ['755', directory])
    const module = new URL('../../../agent/file-system/posix-file-system.ts', import.meta.url).href
    const source = `const { posixFileSystem: fs } = await import(${JSON.stringify(module)})
      process.setgroups([]); process.setgid(65534); process.setuid(65534)
      const fd = fs.open(-100, Buffer.from(${JSON.stringify(open)}), 'read')
      const into = Buffer.alloc(7)
      fs.read(fd, into, 0, 7, 0)
      const errors = []
      for (const act of [() => fs.open(-100, Buffer.from(${JSON.stringify(`${open}-secret`)}), 'read'),
        () => fs.setMode(-100, Buffer.from(${JSON.stringify(open)}), 0o777), () => fs.setOwner(-100, Buffer.from(${JSON.stringify(open)}), 1, 1)])
        try { act() } catch (error) { errors.push(error.errno) }
      console.log(into.toString(), errors.join())`
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', source], { env: {} })
    expect(ran.stdout.toString(), ran.stderr.toString()).toBe('for all EACCES,EPERM,EPERM\n')
  })

  test('memory and descriptors stay as they are over many calls', () => {
    const before = openSync('/dev/null', 'r')
    closeSync(before)
    const at = fs.open(CWD, b(directory), 'directory')
    for (let i = 0; i < 2000; i++) {
      expect(errnoOf(() => fs.open(at, b('nothing'), 'read'))).toBe('ENOENT')
      fs.close(fs.open(at, b('.'), 'directory'))
    }
    fs.close(at)
    const after = openSync('/dev/null', 'r')
    closeSync(after)
    expect(after).toBe(before)
  })
})
