// The real file system: the calls of file-system.ts on Linux, bound to libc. Every call names things relative to a descriptor and follows
// no link in the last step unless its purpose says so; a call interrupted by a signal is made again; a short read or write is continued;
// what the kernel refuses becomes a FileError with the kernel's name for it.
import { readNames } from './directory-entries.ts'
import { readAttributes, removeAttribute, setAttribute } from './extended-attributes.ts'
import { CWD, FileError, type Descriptor, type FileKind, type FileStat, type FileSystem, INODE_FLAGS, type OpenFor } from './file-system.ts'
import {
  again,
  AT,
  failure,
  FADVISE_DONTNEED,
  interrupted,
  lastError,
  IOC,
  LOCK,
  libc,
  NameBuffer,
  O,
  RENAME_NOREPLACE,
  SEEK,
  STATX_BASIC_STATS,
  SYS,
} from './libc.ts'

const first = new NameBuffer()
const second = new NameBuffer()
const NO_NAME = Buffer.alloc(0)

const OPEN_FLAGS: Readonly<Record<OpenFor, number>> = {
  read: O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.NOATIME,
  directory: O.RDONLY | O.DIRECTORY | O.NOFOLLOW | O.NOATIME,
  'directory-follow': O.RDONLY | O.DIRECTORY | O.NOATIME,
  create: O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW,
  update: O.RDWR | O.NOFOLLOW,
  append: O.WRONLY | O.CREAT | O.APPEND | O.NOFOLLOW,
  handle: O.PATH | O.NOFOLLOW,
}

function open(at: Descriptor, name: Buffer, purpose: OpenFor): Descriptor {
  const path = first.name('open', name)
  let flags = OPEN_FLAGS[purpose] | O.CLOEXEC
  for (;;) {
    const fd = libc.openat(at, path, flags, 0o600)
    if (fd >= 0) return fd
    if (interrupted()) continue
    // Only the owner may ask for O_NOATIME; for others the access time changes, as with any reader.
    if ((flags & O.NOATIME) === 0 || lastError() !== 'EPERM') throw failure('open')
    flags &= ~O.NOATIME
  }
}

function close(fd: Descriptor): void {
  // Never again after EINTR: Linux has freed the number by then, and another thread may own it.
  if (libc.close(fd) < 0 && !interrupted()) throw failure('close')
}

const KINDS: Readonly<Record<number, FileKind>> = {
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'symlink',
  0o010000: 'fifo',
  0o140000: 'socket',
  0o020000: 'character-device',
  0o060000: 'block-device',
}
const TYPE_BITS: Readonly<Record<FileKind, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
  socket: 0o140000,
  'character-device': 0o020000,
  'block-device': 0o060000,
}

// struct statx, the same on every architecture, in units of 4 and 8 bytes; all fields used here stand at multiples of those.
const statBytes = Buffer.alloc(256)
const stat32 = new Uint32Array(statBytes.buffer, statBytes.byteOffset, 64)
const statSigned64 = new BigInt64Array(statBytes.buffer, statBytes.byteOffset, 32)
const statUnsigned64 = new BigUint64Array(statBytes.buffer, statBytes.byteOffset, 32)
const word = (index: number): number => stat32[index] ?? 0
const number64 = (index: number): number => word(index) + word(index + 1) * 2 ** 32
const nanoseconds = (seconds: number, fraction: number): bigint => (statSigned64[seconds] ?? 0n) * 1_000_000_000n + BigInt(word(fraction))
const KEPT_FLAGS = INODE_FLAGS.compressed | INODE_FLAGS.immutable | INODE_FLAGS.appendOnly | INODE_FLAGS.noDump
let lastDevice = { major: -1, minor: -1, id: 0n }

function stat(at: Descriptor, name: Buffer): FileStat {
  const path = first.name('stat', name)
  const flags = AT.SYMLINK_NOFOLLOW | AT.NO_AUTOMOUNT | (name.length === 0 ? AT.EMPTY_PATH : 0)
  while (libc.statx(at, path, flags, STATX_BASIC_STATS, statBytes) < 0) if (!interrupted()) throw failure('stat')
  const typeAndMode = word(7) & 0xffff
  const kind = KINDS[typeAndMode & 0o170000]
  if (kind === undefined) throw new FileError('stat', 'EUCLEAN')
  const major = word(34)
  const minor = word(35)
  if (lastDevice.major !== major || lastDevice.minor !== minor) lastDevice = { major, minor, id: deviceNumber(major, minor) }
  return {
    kind,
    mode: typeAndMode & 0o7777,
    uid: word(5),
    gid: word(6),
    size: number64(10),
    blocks: number64(12),
    mtimeNs: nanoseconds(14, 30),
    ctimeNs: nanoseconds(12, 26),
    inode: statUnsigned64[4] ?? 0n,
    deviceId: lastDevice.id,
    links: word(4),
    rdevMajor: word(32),
    rdevMinor: word(33),
    // stx_attributes; no system call of its own is needed for what it tells.
    inodeFlags: word(2) & KEPT_FLAGS,
  }
}

const flagBytes = Buffer.alloc(8)

function addInodeFlags(fd: Descriptor, flags: number): void {
  if (again(() => libc.ioctl(fd, IOC.GETFLAGS, flagBytes)) < 0) throw failure('getflags')
  const there = flagBytes.readUInt32LE(0)
  const wanted = (there | flags) >>> 0
  if (wanted === there) return
  flagBytes.writeUInt32LE(wanted, 0)
  if (again(() => libc.ioctl(fd, IOC.SETFLAGS, flagBytes)) < 0) throw failure('setflags')
}

/** Device number as libc's makedev puts it together. */
function deviceNumber(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)]
  return ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn)
}

const POLLIN = 1
/** Waits until a descriptor that does not block has something to read, or has ended. */
function awaitReadable(fd: Descriptor): void {
  const poll = Buffer.alloc(8)
  poll.writeInt32LE(fd, 0)
  poll.writeInt16LE(POLLIN, 4)
  while (libc.poll(poll, 1, -1) < 0) if (!interrupted()) throw failure('poll')
}

function read(fd: Descriptor, into: Uint8Array, offset: number, length: number, position: number | null): number {
  if (!(offset >= 0 && length >= 0 && offset + length <= into.length)) throw new FileError('read', 'EFAULT')
  let done = 0
  while (done < length) {
    const target = offset + done === 0 ? into : into.subarray(offset + done)
    const count = position === null ? libc.read(fd, target, length - done) : libc.pread(fd, target, length - done, position + done)
    if (count > 0) done += count
    else if (count === 0) break
    else if (position === null && lastError() === 'EAGAIN') awaitReadable(fd)
    else if (!interrupted()) throw failure('read')
  }
  return done
}

function write(fd: Descriptor, bytes: Uint8Array, position: number | null): void {
  let done = 0
  while (done < bytes.length) {
    const rest = done === 0 ? bytes : bytes.subarray(done)
    const count = position === null ? libc.write(fd, rest, rest.length) : libc.pwrite(fd, rest, rest.length, position + done)
    if (count > 0) done += count
    else if (count === 0) throw new FileError('write', 'EIO')
    else if (!interrupted()) throw failure('write')
  }
}

function seek(fd: Descriptor, offset: number, whence: number): number {
  return again(() => Number(libc.lseek(fd, offset, whence)))
}

function nextData(fd: Descriptor, offset: number): number | undefined {
  const found = seek(fd, offset, SEEK.DATA)
  if (found >= 0) return found
  const error = lastError()
  if (error === 'ENXIO') return undefined
  // A file system that cannot tell: everything is data.
  if (error === 'EINVAL') return offset < stat(fd, NO_NAME).size ? offset : undefined
  throw new FileError('lseek', error)
}

function nextHole(fd: Descriptor, offset: number): number {
  const found = seek(fd, offset, SEEK.HOLE)
  if (found >= 0) return found
  const error = lastError()
  if (error !== 'EINVAL') throw new FileError('lseek', error)
  const { size } = stat(fd, NO_NAME)
  if (offset >= size) throw new FileError('lseek', 'ENXIO')
  return size
}

function sync(fd: Descriptor): void {
  while (libc.fsync(fd) < 0) {
    if (interrupted()) continue
    const error = lastError()
    // Some network file systems have nothing to sync for a directory and say so with EINVAL.
    if (error === 'EINVAL' && stat(fd, NO_NAME).kind === 'directory') return
    throw new FileError('fsync', error)
  }
}

function readSymlink(at: Descriptor, name: Buffer): Buffer {
  const path = first.name('readlink', name)
  for (let room = 4096; ; room *= 2) {
    const into = Buffer.allocUnsafe(room)
    const length = again(() => libc.readlinkat(at, path, into, room))
    if (length < 0) throw failure('readlink')
    if (length < room) return Buffer.from(into.subarray(0, length))
    if (room >= 1024 * 1024) throw new FileError('readlink', 'ENAMETOOLONG')
  }
}

function rename(fromAt: Descriptor, from: Buffer, toAt: Descriptor, to: Buffer, exclusive: boolean): void {
  const [source, target] = [first.name('rename', from), second.name('rename', to)]
  if (!exclusive) {
    if (again(() => libc.renameat(fromAt, source, toAt, target)) < 0) throw failure('rename')
    return
  }
  if (again(() => libc.renameat2(SYS.renameat2, fromAt, source, toAt, target, RENAME_NOREPLACE)) >= 0) return
  const error = lastError()
  // EINVAL and ENOSYS: this file system or kernel does not know the flag.
  if (error !== 'EINVAL' && error !== 'ENOSYS') throw new FileError('rename', error)
  renameExclusivelyInSteps(fromAt, from, toAt, to)
}

/**
 * Exclusive rename where the kernel offers none: a second link, then the first is taken away; a directory replaces an empty one that was
 * made for it. Never replaces anything; a crash in between leaves both links, or an empty directory.
 */
export function renameExclusivelyInSteps(fromAt: Descriptor, from: Buffer, toAt: Descriptor, to: Buffer): void {
  const isDirectory = stat(fromAt, from).kind === 'directory'
  const [source, target] = [first.name('rename', from), second.name('rename', to)]
  if (!isDirectory) {
    if (again(() => libc.linkat(fromAt, source, toAt, target, 0)) < 0) throw failure('rename')
    if (again(() => libc.unlinkat(fromAt, source, 0)) < 0) throw failure('rename')
    return
  }
  if (again(() => libc.mkdirat(toAt, target, 0o700)) < 0) throw failure('rename')
  if (again(() => libc.renameat(fromAt, source, toAt, target)) >= 0) return
  const error = lastError()
  libc.unlinkat(toAt, target, AT.REMOVEDIR)
  throw new FileError('rename', error)
}

function setOwner(at: Descriptor, name: Buffer, uid: number, gid: number): void {
  // The kernel reads 2^32-1 as "leave as it is", which nobody asks for here.
  if (uid >= 0xffffffff || gid >= 0xffffffff) throw new FileError('chown', 'EINVAL')
  const flags = AT.SYMLINK_NOFOLLOW | (name.length === 0 ? AT.EMPTY_PATH : 0)
  if (again(() => libc.fchownat(at, first.name('chown', name), uid, gid, flags)) < 0) throw failure('chown')
}

function setMode(at: Descriptor, name: Buffer, mode: number): void {
  if (name.length === 0) {
    if (again(() => libc.fchmod(at, mode)) >= 0) return
    if (lastError() !== 'EBADF' || at < 0) throw failure('chmod')
    // A handle, or no descriptor at all.
    return setModeOfHandle(at, mode)
  }
  if (again(() => libc.fchmodat2(SYS.fchmodat2, at, first.name('chmod', name), mode, AT.SYMLINK_NOFOLLOW)) >= 0) return
  const error = lastError()
  // Linux before 6.6 lacks the call; some container profiles answer EPERM for calls that they do not know.
  if (error !== 'ENOSYS' && error !== 'EPERM') throw new FileError('chmod', error)
  setModeThroughHandle(at, name, mode)
}

/** chmod without following links for kernels before 6.6: the handle is to the thing itself, whatever the name leads to afterwards. */
export function setModeThroughHandle(at: Descriptor, name: Buffer, mode: number): void {
  const handle = open(at, name, 'handle')
  try {
    // Older kernels change the mode of a link through its handle and then report an error; refuse before.
    if (stat(handle, NO_NAME).kind === 'symlink') throw new FileError('chmod', 'ENOTSUP')
    setModeOfHandle(handle, mode)
  } finally {
    close(handle)
  }
}

function setModeOfHandle(handle: Descriptor, mode: number): void {
  if (again(() => libc.chmod(first.underProc('chmod', handle, NO_NAME), mode)) >= 0) return
  const error = lastError()
  throw new FileError('chmod', error === 'ENOENT' ? 'EBADF' : error)
}

const times = new BigInt64Array(4)
const timesBytes = new Uint8Array(times.buffer)

function setTimes(at: Descriptor, name: Buffer, mtimeNs: bigint): void {
  const fraction = ((mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  times[0] = (mtimeNs - fraction) / 1_000_000_000n
  times[1] = fraction
  times[2] = times[0]
  times[3] = fraction
  if (name.length > 0) {
    if (again(() => libc.utimensat(at, first.name('utimens', name), timesBytes, AT.SYMLINK_NOFOLLOW)) < 0) throw failure('utimens')
    return
  }
  if (again(() => libc.futimens(at, timesBytes)) >= 0) return
  if (lastError() !== 'EBADF' || at < 0) throw failure('utimens')
  if (again(() => libc.utimensat(CWD, first.underProc('utimens', at, NO_NAME), timesBytes, 0)) >= 0) return
  const error = lastError()
  throw new FileError('utimens', error === 'ENOENT' ? 'EBADF' : error)
}

// struct statfs of 64-bit Linux: type, block size, blocks, free, available at 8 bytes each; fragment size at 72; 120 bytes in all.
const fsBytes = Buffer.alloc(256)
function fileSystemFigures(fd: Descriptor): Buffer {
  const ask = fd === CWD ? () => libc.statfs(first.name('statfs', Buffer.from('.')), fsBytes) : () => libc.fstatfs(fd, fsBytes)
  if (again(ask) < 0) throw failure('statfs')
  return fsBytes
}

/** The file system of this machine. Stateless: every thread may use its own import of it, on the same descriptors. */
export const posixFileSystem: FileSystem = {
  open,
  close,
  stat,
  readDirectory: readNames,
  read,
  write,
  truncate: (fd, size) => {
    if (again(() => libc.ftruncate(fd, size)) < 0) throw failure('truncate')
  },
  nextData,
  nextHole,
  sync,
  syncFileSystem: (fd) => {
    if (again(() => libc.syncfs(fd)) < 0) throw failure('syncfs')
  },
  lock: (fd, wait) => {
    while (libc.flock(fd, wait ? LOCK.EXCLUSIVE : LOCK.EXCLUSIVE | LOCK.NOT_WAITING) < 0) {
      if (['EAGAIN', 'EWOULDBLOCK'].includes(lastError())) return false
      if (!interrupted()) throw failure('flock')
    }
    return true
  },
  forget: (fd) => {
    // Advice: what it answers is of no consequence.
    libc.posixFadvise(fd, 0, 0, FADVISE_DONTNEED)
  },
  makeDirectory: (at, name, mode) => {
    if (again(() => libc.mkdirat(at, first.name('mkdir', name), mode)) < 0) throw failure('mkdir')
  },
  makeSymlink: (at, name, target) => {
    if (again(() => libc.symlinkat(second.name('symlink', target), at, first.name('symlink', name))) < 0) throw failure('symlink')
  },
  readSymlink,
  makeHardLink: (fromAt, from, toAt, to) => {
    if (again(() => libc.linkat(fromAt, first.name('link', from), toAt, second.name('link', to), 0)) < 0) throw failure('link')
  },
  makeNode: (at, name, node) => {
    const device = node.kind === 'fifo' || node.kind === 'socket' ? 0n : deviceNumber(node.major, node.minor)
    if (again(() => libc.mknodat(at, first.name('mknod', name), TYPE_BITS[node.kind] | node.mode, device)) < 0) throw failure('mknod')
  },
  rename,
  remove: (at, name, kind) => {
    if (again(() => libc.unlinkat(at, first.name('unlink', name), kind === 'directory' ? AT.REMOVEDIR : 0)) < 0) throw failure('unlink')
  },
  setOwner,
  setMode,
  setTimes,
  readAttributes,
  setAttribute,
  removeAttribute,
  addInodeFlags,
  freeBytes: (fd) => {
    const figures = fileSystemFigures(fd)
    const unit = figures.readBigInt64LE(72) || figures.readBigInt64LE(8)
    return Number(figures.readBigUInt64LE(32) * unit)
  },
  fileSystemType: (fd) => fileSystemFigures(fd).readUInt32LE(0),
}
