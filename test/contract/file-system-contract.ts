// What every implementation of the FileSystem seam must do, as one suite: the real one and, with fewer capabilities, the simulated one.
import { describe, expect, test } from 'vitest'
import { CWD, FileError, type Descriptor, type FileSystem, INODE_FLAGS } from '../../agent/file-system/file-system.ts'
import { AWKWARD_TIMES, posixAcl } from '../_support/awkward-tree.ts'

export type FileSystemUnderTest = {
  readonly fs: FileSystem
  /** Absolute path of a directory that exists; each test makes one of its own below it. */
  readonly root: Buffer
  readonly can: {
    /** Foreign owners, devices, trusted.* attributes. */
    readonly root: boolean
    readonly attributes: boolean
    readonly acls: boolean
    readonly holes: boolean
  }
}

// The type library for browsers, which declares this, is not part of the project.
declare const WebAssembly: { Memory: new (limits: { initial: number }) => { buffer: ArrayBuffer } }

const b = (text: string): Buffer => Buffer.from(text)
const NO_NAME = Buffer.alloc(0)

/** The errno of what `act` throws; anything else than a FileError fails the test. */
export function errnoOf(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (error instanceof FileError) return error.errno
    throw error
  }
  return 'no error'
}

export function fileSystemContract(name: string, make: () => FileSystemUnderTest): void {
  describe(`file system contract: ${name}`, () => {
    const { fs, root, can } = make()
    let made = 0

    function inFreshDirectory(act: (at: Descriptor) => void): void {
      const path = Buffer.concat([root, b(`/case-${made++}`)])
      fs.makeDirectory(CWD, path, 0o700)
      const at = fs.open(CWD, path, 'directory')
      try {
        act(at)
      } finally {
        fs.close(at)
      }
    }
    function file(at: Descriptor, name: Buffer | string, content: Uint8Array | string = ''): Buffer {
      const bytes = Buffer.from(name)
      const fd = fs.open(at, bytes, 'create')
      fs.write(fd, Buffer.from(content), null)
      fs.close(fd)
      return bytes
    }
    function content(at: Descriptor, name: Buffer | string): Buffer {
      const fd = fs.open(at, Buffer.from(name), 'read')
      const into = Buffer.alloc(fs.stat(fd, NO_NAME).size)
      expect(fs.read(fd, into, 0, into.length, 0)).toBe(into.length)
      fs.close(fd)
      return into
    }
    const names = (at: Descriptor): string[] => fs.readDirectory(at).map((name) => name.toString('latin1'))
    const check = (text: string, act: (at: Descriptor) => void): void => test(text, () => inFreshDirectory(act))
    const checkIf = (possible: boolean, text: string, act: (at: Descriptor) => void): void =>
      test.skipIf(!possible)(text, () => inFreshDirectory(act))

    check('a name may hold every byte but NUL and slash, and comes back as it was, in byte order', (at) => {
      const wanted: Buffer[] = []
      for (let byte = 1; byte < 256; byte++) if (byte !== 0x2f && byte !== 0x2e) wanted.push(Buffer.from([byte]))
      wanted.push(Buffer.alloc(255, 0xfe), b('x'.repeat(255)), b('a'), b('ab'), b('aa\n'), b('...'), b('..a'))
      const unique = [...new Map(wanted.map((name) => [name.toString('latin1'), name])).values()]
      for (const name of unique) file(at, name, name)
      expect(fs.readDirectory(at)).toEqual(unique.sort((x, y) => x.compare(y)))
      for (const name of unique) expect(content(at, name)).toEqual(name)
    })

    check('a directory is listed from its beginning each time, and stays readable while names are removed', (at) => {
      for (let i = 0; i < 3000; i++) file(at, `file-${i}`)
      const listed = fs.readDirectory(at)
      expect(listed).toHaveLength(3000)
      expect(fs.readDirectory(at)).toEqual(listed)
      for (const name of listed) fs.remove(at, name, 'file')
      expect(names(at)).toEqual([])
    })

    check('a name with a NUL byte or of more than 255 bytes is refused', (at) => {
      expect(errnoOf(() => fs.open(at, b('a\0b'), 'create'))).toBe('EINVAL')
      expect(errnoOf(() => fs.stat(at, b('a\0b')))).toBe('EINVAL')
      expect(errnoOf(() => fs.makeSymlink(at, b('link'), b('a\0b')))).toBe('EINVAL')
      expect(errnoOf(() => fs.open(at, b('x'.repeat(256)), 'create'))).toBe('ENAMETOOLONG')
      expect(errnoOf(() => fs.open(at, b('x'.repeat(5000)), 'create'))).toBe('ENAMETOOLONG')
      expect(names(at)).toEqual([])
    })

    check('paths far beyond 4,096 bytes are reached step by step', (at) => {
      const step = b('d'.repeat(200))
      const chain = [at]
      for (let depth = 0; depth < 60; depth++) {
        const here = chain[depth] ?? at
        fs.makeDirectory(here, step, 0o700)
        chain.push(fs.open(here, step, 'directory'))
      }
      const bottom = chain.at(-1) ?? at
      file(bottom, 'bottom', '12,000 bytes down')
      fs.setTimes(bottom, b('bottom'), -5n)
      if (can.attributes) fs.setAttribute(bottom, b('bottom'), b('user.deep'), b('yes'))
      expect(content(bottom, 'bottom').toString()).toBe('12,000 bytes down')
      expect(fs.stat(bottom, b('bottom')).mtimeNs).toBe(-5n)
      fs.remove(bottom, b('bottom'), 'file')
      for (const [index, here] of chain.slice(0, -1).entries()) expect(names(here), `depth ${index}`).toEqual([step.toString()])
      for (const here of chain.slice(0, -1).reverse()) {
        fs.close(chain.pop() ?? here)
        fs.remove(here, step, 'directory')
      }
    })

    check('times keep their nanoseconds before 1970 and after 2038 and 2106, for files, directories and links', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      fs.makeSymlink(at, b('link'), b('file'))
      const handle = fs.open(at, b('link'), 'handle')
      const open = fs.open(at, b('file'), 'read')
      for (const time of AWKWARD_TIMES) {
        for (const name of ['file', 'directory', 'link']) {
          fs.setTimes(at, b(name), time)
          expect(fs.stat(at, b(name)).mtimeNs).toBe(time)
        }
        fs.setTimes(handle, NO_NAME, time + 1n)
        fs.setTimes(open, NO_NAME, time - 1n)
        expect(fs.stat(at, b('link')).mtimeNs).toBe(time + 1n)
        expect(fs.stat(at, b('file')).mtimeNs).toBe(time - 1n)
      }
      fs.close(handle)
      fs.close(open)
    })

    check('a read gives all that was asked for up to the end, into any part of any memory', (at) => {
      const bytes = Buffer.from(Array.from({ length: 10_000 }, (_, i) => (i * 31) & 0xff))
      file(at, 'file', bytes)
      const fd = fs.open(at, b('file'), 'read')
      const memories = [
        Buffer.alloc(20_000),
        new Uint8Array(new SharedArrayBuffer(30_000), 8000, 20_000),
        new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 3, 20_000),
      ]
      for (const into of memories) {
        expect(fs.read(fd, into, 0, 20_000, 0)).toBe(10_000)
        expect(bytes.equals(into.slice(0, 10_000))).toBe(true)
        expect(fs.read(fd, into, 19_990, 10, 500)).toBe(10)
        expect(bytes.subarray(500, 510).equals(into.slice(19_990))).toBe(true)
        expect(fs.read(fd, into, 0, 10, 10_000)).toBe(0)
        expect(fs.read(fd, into, 0, 0, 0)).toBe(0)
        expect(fs.read(fd, into, 0, 10, 9_995)).toBe(5)
      }
      expect(errnoOf(() => fs.read(fd, Buffer.alloc(10), 5, 6, 0))).toBe('EFAULT')
      fs.forget(fd)
      fs.close(fd)
    })

    check('a read without a position goes on where the one before ended', (at) => {
      file(at, 'file', 'one two three')
      const fd = fs.open(at, b('file'), 'read')
      const into = Buffer.alloc(8)
      expect(fs.read(fd, into, 0, 4, null)).toBe(4)
      expect(fs.read(fd, into, 4, 4, null)).toBe(4)
      expect(into.toString()).toBe('one two ')
      expect(fs.read(fd, into, 0, 3, 0)).toBe(3)
      expect(fs.read(fd, into, 0, 8, null)).toBe(5)
      expect(into.toString('utf8', 0, 5)).toBe('three')
      expect(fs.read(fd, into, 0, 8, null)).toBe(0)
      fs.close(fd)
    })

    check('writes go where they are told: in order, at a position, at the end when appending', (at) => {
      const created = fs.open(at, b('file'), 'create')
      fs.write(created, b('hello'), null)
      fs.write(created, b(' world'), null)
      fs.write(created, b('J'), 0)
      fs.write(created, NO_NAME, null)
      fs.sync(created)
      fs.close(created)
      const appended = fs.open(at, b('file'), 'append')
      fs.write(appended, b('!'), null)
      fs.close(appended)
      const updated = fs.open(at, b('file'), 'update')
      fs.write(updated, b('?'), 11)
      fs.truncate(updated, 14)
      fs.close(updated)
      fs.sync(at)
      expect(content(at, 'file').toString()).toBe('Jello world?\0\0')
      expect(fs.stat(at, b('file'))).toMatchObject({ kind: 'file', mode: 0o600, size: 14, links: 1 })
      expect(errnoOf(() => fs.open(at, b('file'), 'create'))).toBe('EEXIST')
      expect(errnoOf(() => fs.open(at, b('other'), 'update'))).toBe('ENOENT')
    })

    check('an open never follows a link in its last step, unless a person named the path', (at) => {
      file(at, 'file', 'kept')
      fs.makeDirectory(at, b('directory'), 0o700)
      fs.makeSymlink(at, b('to-file'), b('file'))
      fs.makeSymlink(at, b('to-directory'), b('directory'))
      fs.makeSymlink(at, b('dangling'), b('nothing'))
      for (const purpose of ['read', 'update', 'append'] as const) expect(errnoOf(() => fs.open(at, b('to-file'), purpose))).toBe('ELOOP')
      expect(['ELOOP', 'ENOTDIR']).toContain(errnoOf(() => fs.open(at, b('to-directory'), 'directory')))
      expect(errnoOf(() => fs.open(at, b('dangling'), 'create'))).toBe('EEXIST')
      expect(errnoOf(() => fs.open(at, b('file'), 'directory'))).toBe('ENOTDIR')
      const followed = fs.open(at, b('to-directory'), 'directory-follow')
      expect(fs.stat(followed, NO_NAME).inode).toBe(fs.stat(at, b('directory')).inode)
      fs.close(followed)
      const handle = fs.open(at, b('to-file'), 'handle')
      expect(fs.stat(handle, NO_NAME).kind).toBe('symlink')
      fs.close(handle)
      expect(names(at)).not.toContain('nothing')
    })

    check('setMode, setTimes and setOwner leave the target of a link alone', (at) => {
      file(at, 'file')
      fs.setMode(at, b('file'), 0o640)
      fs.setTimes(at, b('file'), 1n)
      fs.makeSymlink(at, b('link'), b('file'))
      expect(errnoOf(() => fs.setMode(at, b('link'), 0o777))).toBe('ENOTSUP')
      fs.setTimes(at, b('link'), 2n)
      fs.setOwner(at, b('link'), fs.stat(at, b('link')).uid, fs.stat(at, b('link')).gid)
      expect(fs.stat(at, b('file'))).toMatchObject({ mode: 0o640, mtimeNs: 1n })
      expect(fs.stat(at, b('link')).mtimeNs).toBe(2n)
    })

    check('modes are set whole: set-uid, set-gid, sticky, and none at all', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      const open = fs.open(at, b('file'), 'read')
      for (const mode of [0o4755, 0o2711, 0o6777, 0o1644, 0o7777, 0o000, 0o200]) {
        fs.setMode(at, b('file'), mode)
        expect(fs.stat(at, b('file')).mode).toBe(mode)
        fs.setMode(open, NO_NAME, mode ^ 0o111)
        expect(fs.stat(open, NO_NAME).mode).toBe(mode ^ 0o111)
        fs.setMode(at, b('directory'), mode)
        expect(fs.stat(at, b('directory')).mode).toBe(mode)
      }
      fs.close(open)
      fs.setMode(at, b('directory'), 0o700)
    })

    check('symbolic links keep their bytes and may share one inode', (at) => {
      const targets = [b('plain'), Buffer.from('ff80eb', 'hex'), b('a\nb'), b('../'.repeat(1000)), b('/')]
      for (const [index, target] of targets.entries()) {
        fs.makeSymlink(at, b(`link-${index}`), target)
        expect(fs.readSymlink(at, b(`link-${index}`))).toEqual(target)
      }
      fs.makeHardLink(at, b('link-1'), at, b('again'))
      expect(fs.stat(at, b('again'))).toMatchObject({ kind: 'symlink', links: 2, inode: fs.stat(at, b('link-1')).inode })
      expect(fs.readSymlink(at, b('again'))).toEqual(targets[1])
      file(at, 'file')
      expect(errnoOf(() => fs.readSymlink(at, b('file')))).toBe('EINVAL')
      expect(errnoOf(() => fs.makeSymlink(at, b('file'), b('x')))).toBe('EEXIST')
    })

    check('hard links share content and count their names', (at) => {
      file(at, 'one', 'shared')
      fs.makeHardLink(at, b('one'), at, b('two'))
      expect(fs.stat(at, b('two'))).toEqual(fs.stat(at, b('one')))
      expect(fs.stat(at, b('two')).links).toBe(2)
      expect(errnoOf(() => fs.makeHardLink(at, b('one'), at, b('two')))).toBe('EEXIST')
      fs.remove(at, b('one'), 'file')
      expect(content(at, 'two').toString()).toBe('shared')
      expect(fs.stat(at, b('two')).links).toBe(1)
    })

    check('a rename replaces, and with exclusive it does not', (at) => {
      file(at, 'a', 'a')
      file(at, 'b', 'b')
      expect(errnoOf(() => fs.rename(at, b('a'), at, b('b'), true))).toBe('EEXIST')
      expect(content(at, 'b').toString()).toBe('b')
      fs.rename(at, b('a'), at, b('b'), false)
      expect(content(at, 'b').toString()).toBe('a')
      fs.rename(at, b('b'), at, b('c'), true)
      fs.makeDirectory(at, b('d'), 0o700)
      fs.rename(at, b('d'), at, b('e'), true)
      expect(names(at)).toEqual(['c', 'e'])
      expect(errnoOf(() => fs.rename(at, b('nothing'), at, b('f'), true))).toBe('ENOENT')
      expect(errnoOf(() => fs.rename(at, b('nothing'), at, b('f'), false))).toBe('ENOENT')
    })

    check('removing tells files from directories, and full from empty ones', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      const inside = fs.open(at, b('directory'), 'directory')
      file(inside, 'file')
      expect(errnoOf(() => fs.remove(at, b('directory'), 'directory'))).toBe('ENOTEMPTY')
      expect(errnoOf(() => fs.remove(at, b('directory'), 'file'))).toBe('EISDIR')
      expect(errnoOf(() => fs.remove(at, b('file'), 'directory'))).toBe('ENOTDIR')
      expect(errnoOf(() => fs.makeDirectory(at, b('directory'), 0o700))).toBe('EEXIST')
      fs.remove(inside, b('file'), 'file')
      fs.close(inside)
      fs.remove(at, b('directory'), 'directory')
      expect(errnoOf(() => fs.stat(at, b('directory')))).toBe('ENOENT')
    })

    check('fifos and sockets are made, seen, and never block an open', (at) => {
      fs.makeNode(at, b('fifo'), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })
      fs.makeNode(at, b('socket'), { kind: 'socket', mode: 0o600, major: 0, minor: 0 })
      expect(fs.stat(at, b('fifo'))).toMatchObject({ kind: 'fifo', mode: 0o600 })
      expect(fs.stat(at, b('socket')).kind).toBe('socket')
      fs.close(fs.open(at, b('fifo'), 'read'))
      expect(errnoOf(() => fs.open(at, b('socket'), 'read'))).toBe('ENXIO')
      expect(errnoOf(() => fs.makeNode(at, b('fifo'), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 }))).toBe('EEXIST')
    })

    checkIf(can.root, 'devices keep both their numbers, up to the largest', (at) => {
      const numbers = [
        [1, 3],
        [7, 300],
        [4095, 1_048_575],
        [0, 0],
        [259, 256],
      ] as const
      for (const [index, [major, minor]] of numbers.entries()) {
        for (const kind of ['character-device', 'block-device'] as const) {
          const name = b(`${kind}-${index}`)
          fs.makeNode(at, name, { kind, mode: 0o600, major, minor })
          expect(fs.stat(at, name)).toMatchObject({ kind, rdevMajor: major, rdevMinor: minor })
        }
      }
    })

    checkIf(can.root, 'owners are set on anything, up to the largest number', (at) => {
      file(at, 'file')
      fs.makeSymlink(at, b('link'), b('file'))
      for (const [uid, gid] of [
        [1, 2],
        [65534, 65535],
        [0xfffffffe, 0xfffffffd],
      ] as const) {
        fs.setOwner(at, b('link'), uid, gid)
        expect(fs.stat(at, b('link'))).toMatchObject({ uid, gid })
      }
      expect(fs.stat(at, b('file')).uid).toBe(0)
      const handle = fs.open(at, b('link'), 'handle')
      fs.setOwner(handle, NO_NAME, 5, 6)
      fs.close(handle)
      expect(fs.stat(at, b('link'))).toMatchObject({ uid: 5, gid: 6 })
      expect(errnoOf(() => fs.setOwner(at, b('file'), 0xffffffff, 0))).toBe('EINVAL')
    })

    checkIf(can.attributes, 'attributes of files and directories come back sorted, with any bytes, and can be removed', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
      for (const name of ['file', 'directory']) {
        expect(fs.readAttributes(at, b(name))).toEqual([])
        fs.setAttribute(at, b(name), b('user.b'), every)
        fs.setAttribute(at, b(name), b('user.a'), NO_NAME)
        fs.setAttribute(at, b(name), Buffer.from('757365722eff', 'hex'), Buffer.alloc(1500, 7))
        fs.setAttribute(at, b(name), b('user.a'), NO_NAME)
        const wanted = [
          { name: b('user.a'), value: NO_NAME },
          { name: b('user.b'), value: every },
          { name: Buffer.from('757365722eff', 'hex'), value: Buffer.alloc(1500, 7) },
        ]
        expect(fs.readAttributes(at, b(name))).toEqual(wanted)
        const fd = fs.open(at, b(name), name === 'file' ? 'read' : 'directory')
        const handle = fs.open(at, b(name), 'handle')
        expect(fs.readAttributes(fd, NO_NAME)).toEqual(wanted)
        expect(fs.readAttributes(handle, NO_NAME)).toEqual(wanted)
        fs.removeAttribute(fd, NO_NAME, b('user.b'))
        fs.removeAttribute(handle, NO_NAME, Buffer.from('757365722eff', 'hex'))
        fs.removeAttribute(at, b(name), b('user.a'))
        fs.close(fd)
        fs.close(handle)
        expect(fs.readAttributes(at, b(name))).toEqual([])
        expect(errnoOf(() => fs.removeAttribute(at, b(name), b('user.a')))).toBe('ENODATA')
      }
      expect(errnoOf(() => fs.readAttributes(at, b('nothing')))).toBe('ENOENT')
    })

    checkIf(can.root && fs.addInodeFlags !== undefined, 'inode flags are added to those there, and told by stat', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      for (const name of ['file', 'directory']) {
        expect(fs.stat(at, b(name)).inodeFlags).toBe(0)
        const fd = fs.open(at, b(name), 'read')
        fs.addInodeFlags?.(fd, INODE_FLAGS.noDump)
        fs.addInodeFlags?.(fd, 0)
        fs.close(fd)
        expect(fs.stat(at, b(name)).inodeFlags).toBe(INODE_FLAGS.noDump)
      }
      const handle = fs.open(at, b('file'), 'handle')
      expect(errnoOf(() => fs.addInodeFlags?.(handle, INODE_FLAGS.noDump))).toBe('EBADF')
      fs.close(handle)
    })

    checkIf(can.attributes && can.root, 'attributes of links, fifos and devices are theirs, not those of a target', (at) => {
      file(at, 'file')
      fs.makeSymlink(at, b('link'), b('file'))
      fs.makeNode(at, b('fifo'), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })
      fs.makeNode(at, b('device'), { kind: 'character-device', mode: 0o600, major: 1, minor: 3 })
      for (const name of ['link', 'fifo', 'device']) {
        fs.setAttribute(at, b(name), b('trusted.by-name'), b(name))
        const handle = fs.open(at, b(name), 'handle')
        fs.setAttribute(handle, NO_NAME, b('security.by-handle'), b(name))
        fs.close(handle)
        expect(fs.readAttributes(at, b(name)).map((found) => `${String(found.name)}=${String(found.value)}`)).toEqual([
          `security.by-handle=${name}`,
          `trusted.by-name=${name}`,
        ])
      }
      expect(fs.readAttributes(at, b('file'))).toEqual([])
    })

    checkIf(can.acls, 'access and default ACLs are attributes like any other', (at) => {
      file(at, 'file')
      fs.makeDirectory(at, b('directory'), 0o700)
      const access = posixAcl([1, 6], [2, 4, 1001], [4, 4], [16, 6], [32, 0])
      fs.setAttribute(at, b('file'), b('system.posix_acl_access'), access)
      fs.setAttribute(at, b('directory'), b('system.posix_acl_default'), access)
      expect(fs.readAttributes(at, b('file'))).toEqual([{ name: b('system.posix_acl_access'), value: access }])
      expect(fs.readAttributes(at, b('directory'))).toEqual([{ name: b('system.posix_acl_default'), value: access }])
      expect(fs.stat(at, b('file')).mode).toBe(0o660)
    })

    check('the ends of data and holes are found, and nothing but a hole is told as such', (at) => {
      const MIB = 1024 * 1024
      const fd = fs.open(at, b('sparse'), 'create')
      fs.write(fd, Buffer.alloc(MIB, 1), 2 * MIB)
      fs.write(fd, Buffer.alloc(MIB, 1), 5 * MIB)
      fs.truncate(fd, 9 * MIB)
      fs.sync(fd)
      expect(fs.stat(fd, NO_NAME).size).toBe(9 * MIB)
      if (can.holes) {
        expect(fs.nextData(fd, 0)).toBe(2 * MIB)
        expect(fs.nextHole(fd, 2 * MIB)).toBe(3 * MIB)
        expect(fs.nextData(fd, 3 * MIB)).toBe(5 * MIB)
        expect(fs.nextHole(fd, 5 * MIB + 7)).toBe(6 * MIB)
        expect(fs.nextData(fd, 6 * MIB)).toBeUndefined()
        expect(fs.stat(fd, NO_NAME).blocks).toBeLessThan(5 * 2048)
      } else {
        expect(fs.nextData(fd, 0)).toBe(0)
        expect(fs.nextHole(fd, 0)).toBe(9 * MIB)
      }
      expect(fs.nextData(fd, 9 * MIB)).toBeUndefined()
      expect(errnoOf(() => fs.nextHole(fd, 9 * MIB))).toBe('ENXIO')
      fs.close(fd)
      const empty = fs.open(at, file(at, 'empty'), 'read')
      expect(fs.nextData(empty, 0)).toBeUndefined()
      fs.close(empty)
    })

    checkIf(can.holes, 'files beyond 2^32 and 2^41 bytes are read and written at their ends', (at) => {
      for (const size of [2 ** 32 + 8192, 2 ** 41 + 8192]) {
        const fd = fs.open(at, b(`size-${size}`), 'create')
        fs.truncate(fd, size)
        fs.write(fd, b('end'), size - 4096)
        fs.close(fd)
        const again = fs.open(at, b(`size-${size}`), 'read')
        const into = Buffer.alloc(3)
        expect(fs.stat(again, NO_NAME).size).toBe(size)
        expect(fs.nextData(again, 0)).toBe(size - 4096)
        expect(fs.read(again, into, 0, 3, size - 4096)).toBe(3)
        expect(into.toString()).toBe('end')
        fs.close(again)
      }
    })

    check('a closed descriptor is EBADF everywhere', (at) => {
      const closed = fs.open(at, b('file'), 'create')
      fs.close(closed)
      const acts: (() => unknown)[] = [
        () => fs.close(closed),
        () => fs.stat(closed, NO_NAME),
        () => fs.read(closed, Buffer.alloc(1), 0, 1, 0),
        () => fs.write(closed, b('x'), null),
        () => fs.sync(closed),
        () => fs.readDirectory(closed),
        () => fs.open(closed, b('x'), 'create'),
        () => fs.setMode(closed, NO_NAME, 0o600),
        () => fs.setTimes(closed, NO_NAME, 0n),
        () => fs.setOwner(closed, NO_NAME, 0, 0),
        () => fs.readAttributes(closed, NO_NAME),
        () => fs.freeBytes(closed),
      ]
      for (const [index, act] of acts.entries()) expect(errnoOf(act), `call ${index}`).toBe('EBADF')
      fs.forget(closed)
    })

    check('the file system tells its type and its free bytes', (at) => {
      expect(fs.freeBytes(at)).toBeGreaterThan(0)
      expect(fs.fileSystemType(at)).toBeGreaterThan(0)
    })
  })
}
