// A file system in memory behind the FileSystem seam, for tests and the simulation: keeps the file-system contract, traces every call, fails
// or ends the process at any of them, and after a crash has lost, torn or kept what was not synced, as a seed says. It runs as root on
// one disk of the size of the memory; a descriptor number is used again as soon as it is free, as kernels do.
import type { Clock } from '@holdfast/shared/clock.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import {
  CWD,
  type Descriptor,
  FileError,
  type FileKind,
  type FileStat,
  type FileSystem,
  type OpenFor,
} from '../../agent/file-system/file-system.ts'
import { SimulatedCrash } from './simulated-faults.ts'
import { CHANGING, type FileCall, type FileFaultPlan, type FileOperation, noFileFaults } from './simulated-file-faults.ts'
import {
  afterCrash,
  copyContent,
  emptyContent,
  type Inode,
  makeDurable,
  type NameChange,
  nextData,
  nextHole,
  readContent,
  touches,
  truncateContent,
  writeContent,
} from './simulated-inodes.ts'

export * from './simulated-file-faults.ts'

export type SimulatedFileSystem = FileSystem & {
  readonly calls: readonly FileCall[]
  readonly setFaults: (plan: FileFaultPlan) => void
  /** Does something behind the back of the process under test: no fault, no trace; also while it is crashed. */
  readonly quietly: <T>(act: () => T) => T
  /** Ends the process: every later call throws SimulatedCrash until `reboot`. */
  readonly crash: () => void
  readonly crashed: () => boolean
  /** Comes up again: descriptors are gone, and of what was not synced the seed decides. Without a seed everything was kept. */
  readonly reboot: (random?: Random) => void
  /** Makes all that stands durable. */
  readonly syncAll: () => void
  /** Open descriptors. */
  readonly openDescriptors: () => number
  /** Makes a directory the root of another file system of this type. */
  readonly mount: (path: string, type: number) => void
  readonly clearCalls: () => void
}

type Handle = { readonly inode: Inode; readonly purpose: OpenFor; readonly path: string; position: number }

const EXT4 = 0xef53
export function simulatedFileSystem(options: { clock: Clock }): SimulatedFileSystem {
  const calls: FileCall[] = []
  const handles = new Map<Descriptor, Handle>()
  const types = new Map<bigint, number>([[1n, EXT4]])
  const inodes = new Set<Inode>()
  let pending: NameChange[] = []
  let nextInode = 1n
  let count = 0
  let plan: FileFaultPlan = noFileFaults
  let isQuiet = false
  let isCrashed = false

  const now = (): bigint => BigInt(Math.floor(options.clock.now())) * 1_000_000n
  const make = (kind: FileKind, mode: number, parent: Inode | undefined): Inode => {
    const inode: Inode = {
      number: ++nextInode,
      kind,
      deviceId: parent?.deviceId ?? 1n,
      mode,
      uid: 0,
      gid: 0,
      mtimeNs: now(),
      ctimeNs: now(),
      links: 0,
      major: 0,
      minor: 0,
      target: Buffer.alloc(0),
      attributes: new Map(),
      content: emptyContent(),
      durable: emptyContent(),
      entries: new Map(),
      durableEntries: new Map(),
      parent,
    }
    inodes.add(inode)
    return inode
  }
  const root = make('directory', 0o755, undefined)
  root.links = 1

  const pathOf = (at: Descriptor, name: Buffer): string => {
    if (name[0] === 0x2f) return name.toString('latin1')
    const base = handles.get(at)?.path ?? ''
    return name.length === 0 ? base : `${base === '/' ? '' : base}/${name.toString('latin1')}`
  }

  /** Counts, traces and judges a call before it does anything. */
  const begin = (operation: FileOperation, at: Descriptor, name: Buffer, creates = false): void => {
    if (isQuiet) return
    if (isCrashed) throw new SimulatedCrash('the machine is off')
    const call = { index: ++count, operation, path: pathOf(at, name), changes: creates || CHANGING.has(operation) }
    calls.push(call)
    const fault = plan(call)
    if (fault === undefined) return
    if (fault === 'crash') {
      isCrashed = true
      throw new SimulatedCrash(`crash at file call ${call.index}, ${operation} ${call.path}`)
    }
    throw new FileError(operation, fault)
  }

  const handle = (call: string, fd: Descriptor): Handle => {
    const found = handles.get(fd)
    if (found === undefined) throw new FileError(call, 'EBADF')
    return found
  }
  const parts = (call: string, name: Buffer): string[] => {
    if (name.includes(0)) throw new FileError(call, 'EINVAL')
    if (name.length >= 4096) throw new FileError(call, 'ENAMETOOLONG')
    const found = name
      .toString('latin1')
      .split('/')
      .filter((part) => part !== '' && part !== '.')
    if (found.some((part) => part.length > 255)) throw new FileError(call, 'ENAMETOOLONG')
    return found
  }
  const base = (call: string, at: Descriptor, name: Buffer): Inode => (name[0] === 0x2f || at === CWD ? root : handle(call, at).inode)

  const step = (call: string, from: Inode, part: string): Inode => {
    if (from.kind !== 'directory') throw new FileError(call, 'ENOTDIR')
    if (part === '..') return from.parent ?? root
    const found = from.entries.get(part)
    if (found === undefined) throw new FileError(call, 'ENOENT')
    return found
  }
  const follow = (call: string, inode: Inode, parent: Inode, depth: number): Inode => {
    if (inode.kind !== 'symlink') return inode
    if (depth > 40) throw new FileError(call, 'ELOOP')
    let at = inode.target[0] === 0x2f ? root : parent
    for (const part of parts(call, inode.target)) {
      const next = step(call, at, part)
      at = follow(call, next, at, depth + 1)
    }
    return at
  }
  /** The directory that a name stands in, its last part, and what stands there. An empty name is the descriptor itself. */
  const look = (call: string, at: Descriptor, name: Buffer): { parent: Inode; last: string; found: Inode | undefined } => {
    const all = parts(call, name)
    let parent = base(call, at, name)
    if (all.length === 0) return { parent, last: '', found: parent }
    for (const part of all.slice(0, -1)) parent = follow(call, step(call, parent, part), parent, 0)
    if (parent.kind !== 'directory') throw new FileError(call, 'ENOTDIR')
    const last = all.at(-1)!
    return { parent, last, found: last === '..' ? (parent.parent ?? root) : parent.entries.get(last) }
  }
  const existing = (call: string, at: Descriptor, name: Buffer): Inode => {
    const { found } = look(call, at, name)
    if (found === undefined) throw new FileError(call, 'ENOENT')
    return found
  }

  const touchDirectory = (directory: Inode): void => {
    directory.mtimeNs = now()
    directory.ctimeNs = now()
  }
  const link = (directory: Inode, name: string, inode: Inode): void => {
    directory.entries.set(name, inode)
    inode.links += 1
    inode.ctimeNs = now()
    if (inode.kind === 'directory') inode.parent = directory
    touchDirectory(directory)
    pending.push({ kind: 'link', directory, name, inode })
  }
  const add = (call: string, at: Descriptor, name: Buffer, inode: (parent: Inode) => Inode): Inode => {
    const { parent, last, found } = look(call, at, name)
    if (found !== undefined) throw new FileError(call, 'EEXIST')
    const made = inode(parent)
    link(parent, last, made)
    return made
  }

  const openable = (call: string, inode: Inode, purpose: OpenFor): void => {
    if (purpose === 'handle') return
    if (purpose === 'directory' || purpose === 'directory-follow') {
      if (inode.kind !== 'directory') throw new FileError(call, 'ENOTDIR')
      return
    }
    if (inode.kind === 'symlink') throw new FileError(call, 'ELOOP')
    if (inode.kind === 'socket') throw new FileError(call, 'ENXIO')
    if (inode.kind === 'directory' && purpose !== 'read') throw new FileError(call, 'EISDIR')
  }

  const inodeForWriting = (call: string, fd: Descriptor): Handle => {
    const found = handle(call, fd)
    if (found.purpose !== 'create' && found.purpose !== 'update' && found.purpose !== 'append') throw new FileError(call, 'EBADF')
    return found
  }
  const inodeForReading = (call: string, fd: Descriptor): Inode => {
    const { inode, purpose } = handle(call, fd)
    if (purpose === 'handle' || purpose === 'create' || purpose === 'append') throw new FileError(call, 'EBADF')
    if (inode.kind === 'directory') throw new FileError(call, 'EISDIR')
    if (inode.kind === 'fifo') throw new FileError(call, 'ESPIPE')
    return inode
  }

  const statOf = (inode: Inode): FileStat => ({
    kind: inode.kind,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    size:
      inode.kind === 'file' ? inode.content.size : inode.kind === 'symlink' ? inode.target.length : inode.kind === 'directory' ? 4096 : 0,
    blocks: inode.content.pages.size * 8,
    mtimeNs: inode.mtimeNs,
    ctimeNs: inode.ctimeNs,
    inode: inode.number,
    deviceId: inode.deviceId,
    links: inode.kind === 'directory' ? 2 + [...inode.entries.values()].filter((entry) => entry.kind === 'directory').length : inode.links,
    rdevMajor: inode.major,
    rdevMinor: inode.minor,
  })

  const fs: SimulatedFileSystem = {
    open(at, name, purpose) {
      begin('open', at, name, purpose === 'create' || purpose === 'append')
      const { parent, last, found } = look('open', at, name)
      let inode = found
      if (inode === undefined) {
        if (purpose !== 'create' && purpose !== 'append') throw new FileError('open', 'ENOENT')
        inode = make('file', 0o600, parent)
        link(parent, last, inode)
      } else {
        if (purpose === 'create') throw new FileError('open', 'EEXIST')
        if (purpose === 'directory-follow') inode = follow('open', inode, parent, 0)
        openable('open', inode, purpose)
      }
      let fd = 3
      while (handles.has(fd)) fd += 1
      handles.set(fd, { inode, purpose, path: pathOf(at, name), position: 0 })
      return fd
    },
    close(fd) {
      // A close that fails has freed the number all the same, as on Linux.
      try {
        begin('close', fd, Buffer.alloc(0))
        handle('close', fd)
      } finally {
        if (!isCrashed) handles.delete(fd)
      }
    },
    stat(at, name) {
      begin('stat', at, name)
      return statOf(existing('stat', at, name))
    },
    readDirectory(fd) {
      begin('readDirectory', fd, Buffer.alloc(0))
      const { inode, purpose } = handle('readdir', fd)
      if (inode.kind !== 'directory') throw new FileError('readdir', 'ENOTDIR')
      if (purpose === 'handle') throw new FileError('readdir', 'EBADF')
      return [...inode.entries.keys()].sort().map((name) => Buffer.from(name, 'latin1'))
    },
    read(fd, into, offset, length, position) {
      begin('read', fd, Buffer.alloc(0))
      if (!(offset >= 0 && length >= 0 && offset + length <= into.length)) throw new FileError('read', 'EFAULT')
      const inode = inodeForReading('read', fd)
      if (inode.kind === 'file') {
        const from = handle('read', fd)
        const count = readContent(inode.content, into, offset, length, position ?? from.position)
        if (position === null) from.position += count
        return count
      }
      into.fill(0, offset, offset + length)
      return length
    },
    write(fd, bytes, position) {
      begin('write', fd, Buffer.alloc(0))
      const found = inodeForWriting('write', fd)
      const { inode } = found
      const at = found.purpose === 'append' ? inode.content.size : (position ?? found.position)
      if (bytes.length === 0) return
      writeContent(inode.content, bytes, at)
      if (position === null) found.position = at + bytes.length
      touchDirectory(inode)
    },
    truncate(fd, size) {
      begin('truncate', fd, Buffer.alloc(0))
      const { inode } = inodeForWriting('truncate', fd)
      truncateContent(inode.content, size)
      touchDirectory(inode)
    },
    nextData(fd, offset) {
      begin('nextData', fd, Buffer.alloc(0))
      return nextData(handle('lseek', fd).inode.content, offset)
    },
    nextHole(fd, offset) {
      begin('nextHole', fd, Buffer.alloc(0))
      const { content } = handle('lseek', fd).inode
      if (offset >= content.size) throw new FileError('lseek', 'ENXIO')
      return nextHole(content, offset)
    },
    sync(fd) {
      begin('sync', fd, Buffer.alloc(0))
      const { inode } = handle('fsync', fd)
      inode.durable = copyContent(inode.content)
      if (inode.kind !== 'directory') return
      for (const change of pending) if (touches(change, inode)) makeDurable(change, true)
      pending = pending.filter((change) => !touches(change, inode))
    },
    syncFileSystem(fd) {
      begin('syncFileSystem', fd, Buffer.alloc(0))
      handle('syncfs', fd)
      fs.syncAll()
    },
    forget: () => undefined,
    makeDirectory(at, name, mode) {
      begin('makeDirectory', at, name)
      add('mkdir', at, name, (parent) => make('directory', mode, parent))
    },
    makeSymlink(at, name, target) {
      begin('makeSymlink', at, name)
      if (target.includes(0)) throw new FileError('symlink', 'EINVAL')
      if (target.length === 0) throw new FileError('symlink', 'ENOENT')
      if (target.length >= 4096) throw new FileError('symlink', 'ENAMETOOLONG')
      add('symlink', at, name, (parent) => make('symlink', 0o777, parent)).target = Buffer.from(target)
    },
    readSymlink(at, name) {
      begin('readSymlink', at, name)
      const inode = existing('readlink', at, name)
      if (inode.kind !== 'symlink') throw new FileError('readlink', 'EINVAL')
      return Buffer.from(inode.target)
    },
    makeHardLink(fromAt, from, toAt, to) {
      begin('makeHardLink', toAt, to)
      const inode = existing('link', fromAt, from)
      if (inode.kind === 'directory') throw new FileError('link', 'EPERM')
      add('link', toAt, to, () => inode)
    },
    makeNode(at, name, node) {
      begin('makeNode', at, name)
      const inode = add('mknod', at, name, (parent) => make(node.kind, node.mode, parent))
      if (node.kind === 'fifo' || node.kind === 'socket') return
      inode.major = node.major
      inode.minor = node.minor
    },
    rename(fromAt, from, toAt, to, exclusive) {
      begin('rename', toAt, to)
      const source = look('rename', fromAt, from)
      const target = look('rename', toAt, to)
      const { found: inode } = source
      if (inode === undefined) throw new FileError('rename', 'ENOENT')
      if (target.found !== undefined && exclusive) throw new FileError('rename', 'EEXIST')
      if (target.found === inode) return
      if (target.found !== undefined) {
        if (target.found.kind === 'directory' && inode.kind !== 'directory') throw new FileError('rename', 'EISDIR')
        if (target.found.kind !== 'directory' && inode.kind === 'directory') throw new FileError('rename', 'ENOTDIR')
        if (target.found.entries.size > 0) throw new FileError('rename', 'ENOTEMPTY')
        target.found.links -= 1
        target.found.ctimeNs = now()
      }
      source.parent.entries.delete(source.last)
      target.parent.entries.set(target.last, inode)
      inode.ctimeNs = now()
      if (inode.kind === 'directory') inode.parent = target.parent
      touchDirectory(source.parent)
      touchDirectory(target.parent)
      pending.push({ kind: 'rename', from: source.parent, fromName: source.last, directory: target.parent, name: target.last, inode })
    },
    remove(at, name, kind) {
      begin('remove', at, name)
      const { parent, last, found } = look('unlink', at, name)
      if (found === undefined) throw new FileError('unlink', 'ENOENT')
      if (kind === 'file' && found.kind === 'directory') throw new FileError('unlink', 'EISDIR')
      if (kind === 'directory' && found.kind !== 'directory') throw new FileError('unlink', 'ENOTDIR')
      if (found.entries.size > 0) throw new FileError('unlink', 'ENOTEMPTY')
      parent.entries.delete(last)
      found.links -= 1
      found.ctimeNs = now()
      touchDirectory(parent)
      pending.push({ kind: 'unlink', directory: parent, name: last })
    },
    setOwner(at, name, uid, gid) {
      begin('setOwner', at, name)
      if (uid >= 0xffffffff || gid >= 0xffffffff) throw new FileError('chown', at !== CWD && !handles.has(at) ? 'EBADF' : 'EINVAL')
      Object.assign(existing('chown', at, name), { uid, gid, ctimeNs: now() })
    },
    setMode(at, name, mode) {
      begin('setMode', at, name)
      const inode = existing('chmod', at, name)
      if (inode.kind === 'symlink') throw new FileError('chmod', 'ENOTSUP')
      Object.assign(inode, { mode, ctimeNs: now() })
    },
    setTimes(at, name, mtimeNs) {
      begin('setTimes', at, name)
      Object.assign(existing('utimens', at, name), { mtimeNs, ctimeNs: now() })
    },
    readAttributes(at, name) {
      begin('readAttributes', at, name)
      const { attributes } = existing('listxattr', at, name)
      return [...attributes.keys()].sort().map((key) => ({ name: Buffer.from(key, 'latin1'), value: Buffer.from(attributes.get(key)!) }))
    },
    setAttribute(at, name, attribute, value) {
      begin('setAttribute', at, name)
      const inode = existing('setxattr', at, name)
      inode.attributes.set(attribute.toString('latin1'), Buffer.from(value))
      inode.ctimeNs = now()
    },
    removeAttribute(at, name, attribute) {
      begin('removeAttribute', at, name)
      const inode = existing('removexattr', at, name)
      if (!inode.attributes.delete(attribute.toString('latin1'))) throw new FileError('removexattr', 'ENODATA')
      inode.ctimeNs = now()
    },
    freeBytes(fd) {
      begin('freeBytes', fd, Buffer.alloc(0))
      handle('statfs', fd)
      return 2 ** 40
    },
    fileSystemType(fd) {
      begin('fileSystemType', fd, Buffer.alloc(0))
      return types.get(handle('statfs', fd).inode.deviceId) ?? EXT4
    },

    calls,
    clearCalls: () => {
      calls.length = 0
      count = 0
    },
    setFaults: (next) => {
      plan = next
    },
    quietly: (act) => {
      const before = isQuiet
      isQuiet = true
      try {
        return act()
      } finally {
        isQuiet = before
      }
    },
    crash: () => {
      isCrashed = true
    },
    crashed: () => isCrashed,
    openDescriptors: () => handles.size,
    reboot: (random) => {
      handles.clear()
      plan = noFileFaults
      isCrashed = false
      if (random === undefined) fs.syncAll()
      else loseUnsynced(random)
    },
    syncAll: () => {
      for (const change of pending) makeDurable(change, true)
      pending = []
      for (const inode of inodes) inode.durable = copyContent(inode.content)
    },
    mount: (path, type) => {
      const inode = existing('mount', CWD, Buffer.from(path))
      inode.deviceId = BigInt(types.size + 1)
      types.set(inode.deviceId, type)
    },
  }

  function loseUnsynced(random: Random): void {
    // Half of the disks keep names in order, as a journal does; the others keep any of them.
    if (randomBelow(random, 2) === 0)
      for (const change of pending.slice(0, randomBelow(random, pending.length + 1))) makeDurable(change, false)
    else for (const change of pending) if (randomBelow(random, 2) === 0) makeDurable(change, false)
    pending = []
    const reached = new Map<Inode, number>([[root, 1]])
    const enter = (directory: Inode): void => {
      directory.entries.clear()
      for (const [name, inode] of directory.durableEntries) {
        directory.entries.set(name, inode)
        const seen = reached.get(inode) ?? 0
        reached.set(inode, seen + 1)
        if (inode.kind !== 'directory' || seen > 0) continue
        inode.parent = directory
        enter(inode)
      }
    }
    enter(root)
    for (const inode of inodes) {
      const links = reached.get(inode)
      if (links === undefined) inodes.delete(inode)
      else {
        inode.links = links
        if (inode.kind === 'file') inode.content = afterCrash(inode, random)
        inode.durable = copyContent(inode.content)
      }
    }
  }

  return fs
}
