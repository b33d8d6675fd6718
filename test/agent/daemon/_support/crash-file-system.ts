// A file system in memory for the daemon's state: a crash at the Nth call loses what was not synced, whole or in part; single calls can fail.
// It has what the state needs and refuses everything else.
import { CWD, FileError, type Descriptor, type FileStat, type FileSystem } from '../../../../agent/file-system/file-system.ts'

export class SimulatedCrash extends Error {}

type FileNode = { kind: 'file'; data: Buffer; synced: Buffer; mode: number }
type DirectoryNode = { kind: 'directory'; entries: Map<string, Node>; synced: Map<string, Node>; mode: number }
type Node = FileNode | DirectoryNode

export type CrashFileSystem = FileSystem & {
  /** Calls that change something, so far. */
  readonly steps: () => number
  /** Crashes at the change with this number (1 is the next one). */
  readonly crashAt: (step: number) => void
  /** What stands after the power came back: of what was not synced, `keep` (0 to 1) of a file's bytes, and names if `keepNames`. */
  readonly reboot: (keep: number, keepNames: boolean) => void
  /** The next `count` calls of this name fail, once `after` of them have done well. */
  readonly fail: (call: string, errno: string, count: number, after?: number) => void
  readonly dataOf: (path: string) => Buffer
  readonly setData: (path: string, data: Buffer) => void
  /** Everything that stands on the disk, joined. */
  readonly allBytes: () => Buffer
}

export function crashFileSystem(): CrashFileSystem {
  const root: DirectoryNode = directory(0o700)
  let handles = new Map<Descriptor, Node>()
  let nextHandle = 10
  let steps = 0
  let crashStep = Number.POSITIVE_INFINITY
  let crashed = false
  const failures = new Map<string, { errno: string; count: number; after: number }>()

  const step = (call: string): void => {
    if (crashed) throw new SimulatedCrash('the machine is off')
    const failure = failures.get(call)
    if (failure !== undefined && failure.after-- <= 0 && failure.count > 0) {
      failure.count--
      throw new FileError(call, failure.errno)
    }
    if (++steps >= crashStep) {
      crashed = true
      throw new SimulatedCrash(`crash at ${call}`)
    }
  }
  const node = (fd: Descriptor): Node => {
    if (crashed) throw new SimulatedCrash('the machine is off')
    const found = fd === CWD ? root : handles.get(fd)
    if (found === undefined) throw new FileError('handle', 'EBADF')
    return found
  }
  const directoryOf = (fd: Descriptor, call: string): DirectoryNode => {
    const found = node(fd)
    if (found.kind !== 'directory') throw new FileError(call, 'ENOTDIR')
    return found
  }
  const walk = (at: Descriptor, name: Buffer, call: string): { parent: DirectoryNode; last: string; found: Node | undefined } => {
    const parts = name
      .toString('latin1')
      .split('/')
      .filter((part) => part !== '')
    let parent = name[0] === 0x2f ? root : directoryOf(at, call)
    for (const part of parts.slice(0, -1)) {
      const next = parent.entries.get(part)
      if (next?.kind !== 'directory') throw new FileError(call, 'ENOENT')
      parent = next
    }
    const last = parts.at(-1)
    return last === undefined ? { parent, last: '', found: parent } : { parent, last, found: parent.entries.get(last) }
  }
  const fileOf = (fd: Descriptor, call: string): FileNode => {
    const found = node(fd)
    if (found.kind !== 'file') throw new FileError(call, 'EISDIR')
    return found
  }
  const at = (path: string): FileNode => {
    const { found } = walk(CWD, Buffer.from(path), 'test')
    if (found?.kind !== 'file') throw new Error(`no file ${path}`)
    return found
  }

  return {
    steps: () => steps,
    crashAt: (n) => {
      crashStep = steps + n
    },
    reboot: (keep, keepNames) => {
      crashed = false
      crashStep = Number.POSITIVE_INFINITY
      handles = new Map()
      recover(root, keep, keepNames)
    },
    fail: (call, errno, count, after = 0) => {
      failures.set(call, { errno, count, after })
    },
    dataOf: (path) => Buffer.from(at(path).data),
    setData: (path, data) => {
      const file = at(path)
      file.data = Buffer.from(data)
      file.synced = file.data
    },
    allBytes: () => Buffer.concat([...allFiles(root)]),
    open: (fd, name, purpose) => {
      const { parent, last, found } = walk(fd, name, 'open')
      let target = found
      if (purpose === 'create' && target !== undefined) throw new FileError('open', 'EEXIST')
      if (target === undefined && (purpose === 'create' || purpose === 'append')) {
        step('open')
        target = { kind: 'file', data: Buffer.alloc(0), synced: Buffer.alloc(0), mode: 0o600 }
        parent.entries.set(last, target)
      }
      if (target === undefined) throw new FileError('open', 'ENOENT')
      const handle = nextHandle++
      handles.set(handle, target)
      return handle
    },
    close: (fd) => {
      handles.delete(fd)
    },
    stat: (fd, name) => {
      const found = name.length === 0 ? node(fd) : walk(fd, name, 'stat').found
      if (found === undefined) throw new FileError('stat', 'ENOENT')
      return statOf(found)
    },
    readDirectory: (fd) => [...directoryOf(fd, 'readdir').entries.keys()].sort().map((name) => Buffer.from(name, 'latin1')),
    read: (fd, into, offset, length, position) => {
      const { data } = fileOf(fd, 'read')
      const from = position ?? 0
      const part = data.subarray(from, from + length)
      into.set(part, offset)
      return part.length
    },
    write: (fd, bytes, position) => {
      const file = fileOf(fd, 'write')
      const from = position ?? file.data.length
      const put = (length: number): void => {
        const data = Buffer.alloc(Math.max(file.data.length, from + length))
        file.data.copy(data)
        data.set(bytes.subarray(0, length), from)
        file.data = data
      }
      try {
        step('write')
      } catch (error) {
        put(Math.floor(bytes.length / 2))
        throw error
      }
      put(bytes.length)
    },
    truncate: (fd, size) => {
      step('truncate')
      const file = fileOf(fd, 'truncate')
      const data = Buffer.alloc(size)
      file.data.copy(data)
      file.data = data
    },
    sync: (fd) => {
      step('fsync')
      const found = node(fd)
      if (found.kind === 'file') found.synced = found.data
      else found.synced = new Map(found.entries)
    },
    makeDirectory: (fd, name, mode) => {
      const { parent, last, found } = walk(fd, name, 'mkdir')
      if (found !== undefined) throw new FileError('mkdir', 'EEXIST')
      step('mkdir')
      parent.entries.set(last, directory(mode))
    },
    rename: (fromAt, from, toAt, to) => {
      const source = walk(fromAt, from, 'rename')
      if (source.found === undefined) throw new FileError('rename', 'ENOENT')
      step('rename')
      source.parent.entries.delete(source.last)
      const target = walk(toAt, to, 'rename')
      target.parent.entries.set(target.last, source.found)
    },
    remove: (fd, name) => {
      const { parent, last, found } = walk(fd, name, 'unlink')
      if (found === undefined) throw new FileError('unlink', 'ENOENT')
      step('unlink')
      parent.entries.delete(last)
    },
    forget: () => undefined,
    syncFileSystem: () => undefined,
    freeBytes: () => 1e12,
    fileSystemType: () => 0xef53,
    nextData: refuse,
    nextHole: refuse,
    makeSymlink: refuse,
    readSymlink: refuse,
    makeHardLink: refuse,
    makeNode: refuse,
    setOwner: refuse,
    setMode: refuse,
    setTimes: refuse,
    readAttributes: refuse,
    setAttribute: refuse,
    removeAttribute: refuse,
  }
}

function refuse(): never {
  throw new FileError('not simulated', 'ENOSYS')
}

function directory(mode: number): DirectoryNode {
  return { kind: 'directory', entries: new Map(), synced: new Map(), mode }
}

function recover(of: DirectoryNode, keep: number, keepNames: boolean): void {
  if (!keepNames) of.entries = new Map(of.synced)
  of.synced = new Map(of.entries)
  for (const entry of of.entries.values()) {
    if (entry.kind === 'directory') recover(entry, keep, keepNames)
    else {
      const added = Math.max(0, entry.data.length - entry.synced.length)
      const length = entry.synced.length + Math.floor(added * keep)
      const data = Buffer.alloc(length)
      // Of a part that was overwritten but not synced the old bytes come back; of what was added, a prefix.
      entry.data.copy(data, 0, 0, length)
      entry.synced.copy(data, 0, 0, Math.min(length, entry.synced.length))
      entry.data = data
      entry.synced = data
    }
  }
}

function* allFiles(of: DirectoryNode): Generator<Buffer> {
  for (const entry of of.entries.values()) {
    if (entry.kind === 'directory') yield* allFiles(entry)
    else yield entry.data
  }
}

function statOf(of: Node): FileStat {
  const size = of.kind === 'file' ? of.data.length : 0
  return {
    kind: of.kind,
    mode: of.mode,
    uid: 0,
    gid: 0,
    size,
    blocks: 0,
    mtimeNs: 0n,
    ctimeNs: 0n,
    inode: 1n,
    deviceId: 1n,
    links: 1,
    rdevMajor: 0,
    rdevMinor: 0,
  }
}
