// The seam to the local file system: synchronous, descriptor-relative, names as bytes. Reading sources, writing restored files and
// the agent's own state all go through it, so that the simulation can crash, tear and fail each single call.
// Real: posix-file-system.ts (bound to libc). Simulated: test/sim. Every call is synchronous and safe to use in worker threads;
// descriptors are shared by all threads of the process.

export type FileKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character-device' | 'block-device'

export type FileStat = {
  readonly kind: FileKind
  /** Permission bits with set-uid, set-gid and sticky: 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** 512-byte blocks in use; fewer than `size` needs means holes. */
  readonly blocks: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  /** 64-bit inode and device as given by the kernel; `deviceId` is of the file system, `rdev*` of a device node. */
  readonly inode: bigint
  readonly deviceId: bigint
  readonly links: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  /** Those of `INODE_FLAGS` that are set; absent where the file system cannot tell. */
  readonly inodeFlags?: number | undefined
}

/** Flags that `chattr` sets and that a backup keeps, with the bits that Linux gives them (FS_IOC_GETFLAGS and stx_attributes agree). */
export const INODE_FLAGS = { compressed: 0x04, immutable: 0x10, appendOnly: 0x20, noDump: 0x40 } as const
/** With one of these nothing else about an inode can be changed. */
export const PROTECTING_FLAGS: number = INODE_FLAGS.immutable | INODE_FLAGS.appendOnly

/** A failed call: `errno` is the name (`ENOENT`), never to be matched by message. */
export class FileError extends Error {
  override readonly name = 'FileError'
  readonly errno: string
  readonly call: string
  constructor(call: string, errno: string) {
    super(`${call}: ${errno}`)
    this.call = call
    this.errno = errno
  }
}

/** A descriptor number; `CWD` stands for the working directory and goes with absolute paths. */
export type Descriptor = number
export const CWD: Descriptor = -100

export type OpenFor =
  /** O_RDONLY|O_NOFOLLOW|O_NONBLOCK|O_NOATIME (without O_NOATIME where refused): never blocks on a FIFO, never follows a link. */
  | 'read'
  /** O_DIRECTORY|O_NOFOLLOW for listing and as a base for other calls. */
  | 'directory'
  /** Like `directory`, following links: only for a path that a person named. */
  | 'directory-follow'
  /** O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW with mode 0600. */
  | 'create'
  /** O_RDWR|O_NOFOLLOW on an existing file. */
  | 'update'
  /** O_WRONLY|O_CREAT|O_APPEND|O_NOFOLLOW with mode 0600. */
  | 'append'
  /** O_PATH|O_NOFOLLOW: a handle to whatever stands there. */
  | 'handle'

export interface FileSystem {
  open(at: Descriptor, name: Buffer, purpose: OpenFor): Descriptor
  close(fd: Descriptor): void
  /** lstat relative to `at`; an empty name is `at` itself. */
  stat(at: Descriptor, name: Buffer): FileStat
  /** All names in a directory except `.` and `..`, sorted by bytes. Kinds as readdir gives them may be unknown, so none are given. */
  readDirectory(fd: Descriptor): Buffer[]
  /**
   * Reads into `into` from `position`; 0 at the end of the file. A null position reads where the descriptor stands and waits for bytes, as from a
   * pipe.
   */
  read(fd: Descriptor, into: Uint8Array, offset: number, length: number, position: number | null): number
  /** Writes all bytes at `position` (a null position writes where the descriptor stands, or at the end when appending). */
  write(fd: Descriptor, bytes: Uint8Array, position: number | null): void
  truncate(fd: Descriptor, size: number): void
  /** Reserves nothing; asks where data begins at or after `offset` (SEEK_DATA); undefined where only a hole follows. */
  nextData(fd: Descriptor, offset: number): number | undefined
  /** Where the data that stands at `offset` ends (SEEK_HOLE). */
  nextHole(fd: Descriptor, offset: number): number
  sync(fd: Descriptor): void
  /** Makes everything written to the file system that `fd` is on durable (syncfs); errors of earlier writes are reported where the kernel does. */
  syncFileSystem(fd: Descriptor): void
  /**
   * Takes the one exclusive lock of the file that `fd` is open on (flock); it is free again when `fd` is closed or the process dies. With
   * `wait` false answers false where another holds it. Absent in a simulation that has one process only.
   */
  readonly lock?: (fd: Descriptor, wait: boolean) => boolean
  /** Frees the page cache of a file that was read once, where the kernel offers it; never fails. */
  forget(fd: Descriptor): void
  makeDirectory(at: Descriptor, name: Buffer, mode: number): void
  makeSymlink(at: Descriptor, name: Buffer, target: Buffer): void
  readSymlink(at: Descriptor, name: Buffer): Buffer
  /** Links `fromAt/from` to `toAt/to` without following a link at `from`. */
  makeHardLink(fromAt: Descriptor, from: Buffer, toAt: Descriptor, to: Buffer): void
  makeNode(
    at: Descriptor,
    name: Buffer,
    node: { kind: 'fifo' | 'character-device' | 'block-device' | 'socket'; mode: number; major: number; minor: number },
  ): void
  /** Atomically renames; with `exclusive` fails with EEXIST where the target exists. */
  rename(fromAt: Descriptor, from: Buffer, toAt: Descriptor, to: Buffer, exclusive: boolean): void
  remove(at: Descriptor, name: Buffer, kind: 'file' | 'directory'): void
  /** chown without following links. */
  setOwner(at: Descriptor, name: Buffer, uid: number, gid: number): void
  /** chmod of what `fd` is open on, or of `name` under `at` without following links (never called for a symlink). */
  setMode(at: Descriptor, name: Buffer, mode: number): void
  /** mtime to the nanosecond, before 1970 and after 2038 too, without following links; atime is set to the same. */
  setTimes(at: Descriptor, name: Buffer, mtimeNs: bigint): void
  /** Extended attributes of `name` under `at` without following links, sorted by name, ACLs and security.* included. */
  readAttributes(at: Descriptor, name: Buffer): { name: Buffer; value: Buffer }[]
  setAttribute(at: Descriptor, name: Buffer, attribute: Buffer, value: Buffer): void
  removeAttribute(at: Descriptor, name: Buffer, attribute: Buffer): void
  /**
   * Sets these of `INODE_FLAGS` beside those that are set, on the file or directory that `fd` is open on (no handle). Absent in a simulation that
   * has none.
   */
  readonly addInodeFlags?: (fd: Descriptor, flags: number) => void
  /** Bytes free for this user on the file system that `fd` is on. */
  freeBytes(fd: Descriptor): number
  /** Magic number of the file system (statfs f_type), e.g. 0xff534d42 for CIFS. */
  fileSystemType(fd: Descriptor): number
}
