// The walk over a source: depth first, in byte order of names, relative to descriptors, never through a symlink. A generator of plain steps;
// errors about single files are steps too, because they must not stop the run. `/` is the root of every walk: what only leads to a source is
// entered as a passage.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { CWD, type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { type Excludes, isCacheTag } from './excludes.ts'

export type WalkStep =
  /** A directory begins. `fd` stays open until `release` is called for it, which the consumer must do once. */
  | {
      readonly step: 'enter'
      readonly path: Buffer
      readonly name: Buffer
      readonly stat: FileStat
      readonly fd: Descriptor
      readonly passage: boolean
    }
  | { readonly step: 'entry'; readonly path: Buffer; readonly name: Buffer; readonly stat: FileStat }
  | { readonly step: 'leave'; readonly path: Buffer }
  | { readonly step: 'problem'; readonly path: Buffer; readonly code: string }

const SLASH = Buffer.from('/')
const EMPTY = Buffer.alloc(0)

export function joinPath(directory: Buffer, name: Buffer): Buffer {
  return directory.length === 1 ? Buffer.concat([SLASH, name]) : Buffer.concat([directory, SLASH, name])
}

/** The components of an absolute path without `.`, empty ones and trailing slashes; `..` is refused. */
export function pathComponents(path: Buffer): Buffer[] {
  if (path[0] !== 0x2f || path.includes(0)) throw new HoldfastError('usage', `'${printable(path.toString())}' is not an absolute path`)
  const parts: Buffer[] = []
  for (let at = 1; at <= path.length;) {
    const slash = path.indexOf(0x2f, at)
    const end = slash === -1 ? path.length : slash
    const part = path.subarray(at, end)
    if (part.length > 0 && !(part.length === 1 && part[0] === 0x2e)) parts.push(part)
    at = end + 1
  }
  if (parts.some((part) => part.toString('latin1') === '..'))
    throw new HoldfastError('usage', `'${printable(path.toString())}' has '..' in it: give the path as it stands in the tree`)
  return parts
}

/** Sources as a tree of names: a node with no children is a source, others are passages. */
type SourceTree = { readonly children: Map<string, SourceTree>; source: boolean }

function sourceTree(paths: readonly Buffer[]): SourceTree {
  const root: SourceTree = { children: new Map(), source: false }
  for (const path of paths) {
    let node = root
    for (const part of pathComponents(path)) {
      const key = part.toString('latin1')
      const child = node.children.get(key) ?? { children: new Map(), source: false }
      node.children.set(key, child)
      node = child
    }
    node.source = true
  }
  return root
}

/**
 * Walks the sources. Throws `source-missing` where a named path does not exist or cannot be entered; everything below is reported as a step.
 * Symlinks within a named path are refused: restored under that path they would lead elsewhere; a symlink that is itself named is an entry.
 */
export function* walk(options: {
  fileSystem: FileSystem
  paths: readonly Buffer[]
  excludes: Excludes
  oneFileSystem: boolean
}): Generator<WalkStep, void, void> {
  const root = sourceTree(options.paths)
  const stat = statSource(options, CWD, SLASH, SLASH)
  const fd = openSource(options, CWD, SLASH, SLASH, root)
  yield { step: 'enter', path: SLASH, name: EMPTY, stat, fd, passage: !root.source }
  if (root.source) yield* walkSource(options, fd, SLASH, stat.deviceId)
  else yield* walkPassage(options, fd, SLASH, root)
  yield { step: 'leave', path: SLASH }
}

type WalkOptions = Parameters<typeof walk>[0]

function leadsToDirectory({ fileSystem }: WalkOptions, fd: Descriptor, name: Buffer): boolean {
  try {
    fileSystem.close(fileSystem.open(fd, name, 'directory-follow'))
    return true
  } catch (error) {
    if (error instanceof FileError) return false
    throw error
  }
}

function* walkPassage(options: WalkOptions, fd: Descriptor, path: Buffer, tree: SourceTree): Generator<WalkStep, void, void> {
  const names = [...tree.children.keys()].map((key) => Buffer.from(key, 'latin1')).sort(Buffer.compare)
  for (const name of names) {
    const child = tree.children.get(name.toString('latin1'))!
    const childPath = joinPath(path, name)
    const stat = statSource(options, fd, name, childPath)
    if (stat.kind !== 'directory') {
      if (child.children.size > 0 || !child.source)
        throw new HoldfastError(
          'source-missing',
          `'${printable(childPath.toString())}' is not a directory, so what is named below it does not exist`,
        )
      if (stat.kind === 'symlink' && leadsToDirectory(options, fd, name))
        throw new HoldfastError(
          'source-missing',
          `the source '${printable(childPath.toString())}' is a link to a directory, and a link alone is no backup of it: name the directory itself. No snapshot was made`,
        )
      yield { step: 'entry', path: childPath, name, stat }
      continue
    }
    const childFd = openSource(options, fd, name, childPath, child)
    yield { step: 'enter', path: childPath, name, stat, fd: childFd, passage: !child.source }
    if (child.source) yield* walkSource(options, childFd, childPath, stat.deviceId)
    else yield* walkPassage(options, childFd, childPath, child)
    yield { step: 'leave', path: childPath }
  }
}

/** A source that is there and cannot be listed is no empty one. */
function* walkSource(options: WalkOptions, fd: Descriptor, path: Buffer, device: bigint): Generator<WalkStep, void, void> {
  let names: Buffer[]
  try {
    names = options.fileSystem.readDirectory(fd)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    throw missing(path, error)
  }
  yield* walkInside(options, fd, path, names, device, path.length === 1 ? 0 : path.filter((byte) => byte === 0x2f).length)
}

function statSource({ fileSystem }: WalkOptions, fd: Descriptor, name: Buffer, path: Buffer): FileStat {
  try {
    return fileSystem.stat(fd, name)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    throw missing(path, error)
  }
}

/** What only leads to a source need not be listed: a directory of mode 0711 may be passed through, and its metadata read, without being opened. */
function openSource({ fileSystem }: WalkOptions, fd: Descriptor, name: Buffer, path: Buffer, { source }: SourceTree): Descriptor {
  try {
    try {
      return fileSystem.open(fd, name, 'directory')
    } catch (error) {
      if (source || !(error instanceof FileError) || error.errno !== 'EACCES') throw error
      return fileSystem.open(fd, name, 'handle')
    }
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    throw missing(path, error)
  }
}

function missing(path: Buffer, error: FileError): HoldfastError {
  const why = error.errno === 'ENOENT' ? 'does not exist' : `cannot be read (${error.errno})`
  return new HoldfastError('source-missing', `the source '${printable(path.toString())}' ${why}: is it mounted? No snapshot was made`, {
    cause: error,
  })
}

type Level = { readonly fd: Descriptor; readonly path: Buffer; readonly names: readonly Buffer[]; readonly isCache: boolean; next: number }

/** All below a directory that is entered already. A stack of its own, since a tree may be deeper than the engine's allows. */
function* walkInside(
  options: WalkOptions,
  fd: Descriptor,
  path: Buffer,
  names: readonly Buffer[],
  top: bigint,
  depth: number,
): Generator<WalkStep, void, void> {
  const { fileSystem, excludes, oneFileSystem } = options
  const levels: Level[] = [{ fd, path, names, isCache: excludes.isCache(fd), next: 0 }]
  for (let at = levels.at(-1); at !== undefined; at = levels.at(-1)) {
    const name = at.names[at.next++]
    if (name === undefined) {
      levels.pop()
      // The directory that the caller entered is left by the caller.
      if (levels.length > 0) yield { step: 'leave', path: at.path }
      continue
    }
    if (at.isCache && !isCacheTag(name)) continue
    const childPath = joinPath(at.path, name)
    let stat: FileStat
    try {
      stat = fileSystem.stat(at.fd, name)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      yield { step: 'problem', path: childPath, code: error.errno === 'ENOENT' ? 'vanished' : error.errno }
      continue
    }
    if (excludes.leavesOut(childPath, stat.kind === 'directory', stat.size)) continue
    if (stat.kind !== 'directory') {
      yield { step: 'entry', path: childPath, name, stat }
      continue
    }
    // A reader goes no deeper either.
    if (depth + levels.length > LIMITS.depth) {
      yield { step: 'problem', path: childPath, code: 'too-deep' }
      continue
    }
    let childFd: Descriptor | undefined
    let opened: FileStat
    try {
      childFd = fileSystem.open(at.fd, name, 'directory')
      // The directory may have been replaced between the two calls: what was opened counts.
      opened = fileSystem.stat(childFd, EMPTY)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      if (childFd !== undefined) fileSystem.close(childFd)
      yield { step: 'problem', path: childPath, code: error.errno === 'ENOENT' ? 'vanished' : error.errno }
      continue
    }
    yield { step: 'enter', path: childPath, name, stat: opened, fd: childFd, passage: false }
    let below: readonly Buffer[] = []
    if (!oneFileSystem || opened.deviceId === top) {
      try {
        below = fileSystem.readDirectory(childFd)
      } catch (error) {
        if (!(error instanceof FileError)) throw error
        yield { step: 'problem', path: childPath, code: error.errno }
      }
    }
    levels.push({ fd: childFd, path: childPath, names: below, isCache: below.length > 0 && excludes.isCache(childFd), next: 0 })
  }
}
