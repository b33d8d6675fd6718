// The one module that binds libc. It declares each call with the types it has on 64-bit Linux (x64 and arm64, glibc and musl) and keeps
// what both need: constants, error names, NUL-ended name buffers. Promise: no pointer is ever made up here; every buffer that the kernel
// writes to is a live Uint8Array whose length is passed along, because one that is too small would overwrite foreign memory.
import { constants } from 'node:fs'
import { constants as osConstants } from 'node:os'
import koffi from 'koffi'
import { FileError } from './file-system.ts'

if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
  throw new FileError(`libc on ${process.platform}-${process.arch}`, 'ENOSYS')
}

// Values that Node knows differ between architectures (O_DIRECTORY, O_NOFOLLOW) and come from Node; the others are the same on both.
export const O = {
  RDONLY: constants.O_RDONLY,
  WRONLY: constants.O_WRONLY,
  RDWR: constants.O_RDWR,
  CREAT: constants.O_CREAT,
  EXCL: constants.O_EXCL,
  APPEND: constants.O_APPEND,
  NONBLOCK: constants.O_NONBLOCK,
  NOFOLLOW: constants.O_NOFOLLOW,
  DIRECTORY: constants.O_DIRECTORY,
  NOATIME: constants.O_NOATIME,
  PATH: 0o10000000,
  CLOEXEC: 0o2000000,
} as const
export const AT = { SYMLINK_NOFOLLOW: 0x100, REMOVEDIR: 0x200, NO_AUTOMOUNT: 0x800, EMPTY_PATH: 0x1000 } as const
export const SEEK = { SET: 0, DATA: 3, HOLE: 4 } as const
export const RENAME_NOREPLACE = 1
export const LOCK = { EXCLUSIVE: 2, NOT_WAITING: 4 } as const
export const FADVISE_DONTNEED = 4
export const STATX_BASIC_STATS = 0x7ff
/** FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, the same on both architectures. Whatever their numbers say, the kernel reads and writes an int. */
export const IOC = { GETFLAGS: 0x80086601, SETFLAGS: 0x40086602 } as const
/** Numbers of system calls that older libcs do not wrap. */
export const SYS =
  process.arch === 'x64' ? { getdents64: 217, renameat2: 316, fchmodat2: 452 } : { getdents64: 61, renameat2: 276, fchmodat2: 452 }

const lib = koffi.load(null)
type Bytes = Uint8Array
type Int64 = number | bigint

function bind<F>(symbol: string, result: string, parameters: readonly string[]): F {
  return lib.func(symbol, result, [...parameters]) as F
}

const P = 'void *'
export const libc = {
  openat: bind<(at: number, name: Bytes, flags: number, mode: number) => number>('openat', 'int', ['int', P, 'int', 'uint']),
  close: bind<(fd: number) => number>('close', 'int', ['int']),
  statx: bind<(at: number, name: Bytes, flags: number, mask: number, into: Bytes) => number>('statx', 'int', ['int', P, 'int', 'uint', P]),
  getdents64: bind<(nr: number, fd: number, into: Bytes, length: number) => number>('syscall', 'int64', ['int64', 'int', P, 'size_t']),
  read: bind<(fd: number, into: Bytes, length: number) => number>('read', 'int64', ['int', P, 'size_t']),
  poll: bind<(fds: Bytes, count: number, timeoutMs: number) => number>('poll', 'int', [P, 'uint64', 'int']),
  pread: bind<(fd: number, into: Bytes, length: number, position: Int64) => number>('pread', 'int64', ['int', P, 'size_t', 'int64']),
  pwrite: bind<(fd: number, from: Bytes, length: number, position: Int64) => number>('pwrite', 'int64', ['int', P, 'size_t', 'int64']),
  write: bind<(fd: number, from: Bytes, length: number) => number>('write', 'int64', ['int', P, 'size_t']),
  ftruncate: bind<(fd: number, size: Int64) => number>('ftruncate', 'int', ['int', 'int64']),
  lseek: bind<(fd: number, offset: Int64, whence: number) => Int64>('lseek', 'int64', ['int', 'int64', 'int']),
  fsync: bind<(fd: number) => number>('fsync', 'int', ['int']),
  syncfs: bind<(fd: number) => number>('syncfs', 'int', ['int']),
  flock: bind<(fd: number, operation: number) => number>('flock', 'int', ['int', 'int']),
  posixFadvise: bind<(fd: number, offset: number, length: number, advice: number) => number>('posix_fadvise', 'int', [
    'int',
    'int64',
    'int64',
    'int',
  ]),
  mkdirat: bind<(at: number, name: Bytes, mode: number) => number>('mkdirat', 'int', ['int', P, 'uint']),
  symlinkat: bind<(target: Bytes, at: number, name: Bytes) => number>('symlinkat', 'int', [P, 'int', P]),
  readlinkat: bind<(at: number, name: Bytes, into: Bytes, length: number) => number>('readlinkat', 'int64', ['int', P, P, 'size_t']),
  linkat: bind<(fromAt: number, from: Bytes, toAt: number, to: Bytes, flags: number) => number>('linkat', 'int', [
    'int',
    P,
    'int',
    P,
    'int',
  ]),
  mknodat: bind<(at: number, name: Bytes, mode: number, device: bigint) => number>('mknodat', 'int', ['int', P, 'uint', 'uint64']),
  renameat: bind<(fromAt: number, from: Bytes, toAt: number, to: Bytes) => number>('renameat', 'int', ['int', P, 'int', P]),
  renameat2: bind<(nr: number, fromAt: number, from: Bytes, toAt: number, to: Bytes, flags: number) => number>('syscall', 'int64', [
    'int64',
    'int',
    P,
    'int',
    P,
    'uint',
  ]),
  unlinkat: bind<(at: number, name: Bytes, flags: number) => number>('unlinkat', 'int', ['int', P, 'int']),
  fchownat: bind<(at: number, name: Bytes, uid: number, gid: number, flags: number) => number>('fchownat', 'int', [
    'int',
    P,
    'uint',
    'uint',
    'int',
  ]),
  fchmod: bind<(fd: number, mode: number) => number>('fchmod', 'int', ['int', 'uint']),
  chmod: bind<(path: Bytes, mode: number) => number>('chmod', 'int', [P, 'uint']),
  fchmodat2: bind<(nr: number, at: number, name: Bytes, mode: number, flags: number) => number>('syscall', 'int64', [
    'int64',
    'int',
    P,
    'uint',
    'int',
  ]),
  futimens: bind<(fd: number, times: Bytes) => number>('futimens', 'int', ['int', P]),
  utimensat: bind<(at: number, name: Bytes, times: Bytes, flags: number) => number>('utimensat', 'int', ['int', P, P, 'int']),
  flistxattr: bind<(fd: number, into: Bytes, length: number) => number>('flistxattr', 'int64', ['int', P, 'size_t']),
  listxattr: bind<(path: Bytes, into: Bytes, length: number) => number>('listxattr', 'int64', [P, P, 'size_t']),
  llistxattr: bind<(path: Bytes, into: Bytes, length: number) => number>('llistxattr', 'int64', [P, P, 'size_t']),
  fgetxattr: bind<(fd: number, name: Bytes, into: Bytes, length: number) => number>('fgetxattr', 'int64', ['int', P, P, 'size_t']),
  getxattr: bind<(path: Bytes, name: Bytes, into: Bytes, length: number) => number>('getxattr', 'int64', [P, P, P, 'size_t']),
  lgetxattr: bind<(path: Bytes, name: Bytes, into: Bytes, length: number) => number>('lgetxattr', 'int64', [P, P, P, 'size_t']),
  fsetxattr: bind<(fd: number, name: Bytes, value: Bytes, length: number, flags: number) => number>('fsetxattr', 'int', [
    'int',
    P,
    P,
    'size_t',
    'int',
  ]),
  setxattr: bind<(path: Bytes, name: Bytes, value: Bytes, length: number, flags: number) => number>('setxattr', 'int', [
    P,
    P,
    P,
    'size_t',
    'int',
  ]),
  lsetxattr: bind<(path: Bytes, name: Bytes, value: Bytes, length: number, flags: number) => number>('lsetxattr', 'int', [
    P,
    P,
    P,
    'size_t',
    'int',
  ]),
  fremovexattr: bind<(fd: number, name: Bytes) => number>('fremovexattr', 'int', ['int', P]),
  removexattr: bind<(path: Bytes, name: Bytes) => number>('removexattr', 'int', [P, P]),
  lremovexattr: bind<(path: Bytes, name: Bytes) => number>('lremovexattr', 'int', [P, P]),
  // The third argument of this call is declared as one of any kind; on both architectures it is passed like a named one.
  ioctl: bind<(fd: number, request: number, argument: Bytes) => number>('ioctl', 'int', ['int', 'uint64', P]),
  fstatfs: bind<(fd: number, into: Bytes) => number>('fstatfs', 'int', ['int', P]),
  statfs: bind<(path: Bytes, into: Bytes) => number>('statfs', 'int', [P, P]),
}

// Errors of Linux that Node has no name for; the numbers are the same on both architectures.
const MORE_ERRORS = {
  ENOTBLK: 15,
  EUCLEAN: 117,
  EREMOTEIO: 121,
  ENOMEDIUM: 123,
  EMEDIUMTYPE: 124,
  ENOKEY: 126,
  ESHUTDOWN: 108,
  EHOSTDOWN: 112,
}
const errorNames = new Map<number, string>()
for (const [name, number] of [...Object.entries(MORE_ERRORS), ...Object.entries(osConstants.errno)]) errorNames.set(number, name)
// Two names, one number: these are the ones we use.
errorNames.set(osConstants.errno.EAGAIN, 'EAGAIN')
errorNames.set(osConstants.errno.ENOTSUP, 'ENOTSUP')

/** The error of the call just made by this thread, by name; `ENOTSUP` also stands for EOPNOTSUPP, `EAGAIN` for EWOULDBLOCK. */
export function lastError(): string {
  const number = koffi.errno()
  return errorNames.get(number) ?? `ERRNO${number}`
}

/** True where the call just made was interrupted by a signal and is to be made again. */
export function interrupted(): boolean {
  return koffi.errno() === osConstants.errno.EINTR
}

/** Makes a call, again as long as signals interrupt it (which network and user-space file systems let happen to any call). */
export function again(call: () => number): number {
  for (;;) {
    const result = call()
    if (result >= 0 || !interrupted()) return result
  }
}

export function failure(call: string): FileError {
  return new FileError(call, lastError())
}

const PATH_MAX = 4096
const PROC_FD = Buffer.from('/proc/self/fd/')

/** A reused buffer for a NUL-ended name or path. Valid until the same buffer is filled again, so never across two calls of the file system. */
export class NameBuffer {
  readonly #bytes = Buffer.alloc(PATH_MAX + PROC_FD.length + 32)

  /** The name, NUL-ended. Throws EINVAL where it holds a NUL byte itself (it would be cut there), ENAMETOOLONG beyond 4095 bytes. */
  name(call: string, name: Uint8Array): Uint8Array {
    this.#put(call, name, 0)
    return this.#bytes
  }

  /** The path under /proc that stands for `name` under the descriptor `at`, or for what `at` is open on where the name is empty. */
  underProc(call: string, at: number, name: Uint8Array): Uint8Array {
    let end = PROC_FD.copy(this.#bytes)
    end += this.#bytes.write(String(at), end, 'latin1')
    if (name.length > 0) {
      this.#bytes[end] = 0x2f
      end++
    }
    this.#put(call, name, end)
    return this.#bytes
  }

  #put(call: string, name: Uint8Array, at: number): void {
    const length = name.length
    if (length >= PATH_MAX) throw new FileError(call, 'ENAMETOOLONG')
    const bytes = this.#bytes
    for (let i = 0; i < length; i++) {
      const byte = name[i] ?? 0
      if (byte === 0) throw new FileError(call, 'EINVAL')
      bytes[at + i] = byte
    }
    bytes[at + length] = 0
  }
}
