// From walked directories to stored tree nodes. A directory is encoded when its own walk is over and everything in it is known; one that is
// exactly as the cache says is taken over as it is. Pages keep any directory within the limits of a node.
import { type Descriptor, FileError, type FileStat, type FileSystem } from '../file-system/file-system.ts'
import type { Hasher } from '../repository/blake3.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import {
  type Attribute,
  type Content,
  type DirectoryPage,
  encodeChunkList,
  encodeChunkListPages,
  encodeDirectory,
  encodeDirectoryPages,
  type EncodedNode,
  type Entry,
  type Extent,
  type Reference,
  writeEntry,
} from '../repository/tree.ts'
import type { TransmittedFile } from './backup-types.ts'
import { readAttributesWithin } from './entry-attributes.ts'
import type { CachedDirectory, CacheWriter, RecordPlace } from './unchanged-cache.ts'
import { hashNames } from './unchanged-cache.ts'

/** Files of more chunks than this have chunk lists. */
export const CHUNKS_IN_ENTRY = 64
const PAGE_BYTES_MIN = 16 * 1024
const PAGE_BYTES_MAX = 128 * 1024
const LIST_MIN = 256
const LIST_MAX = 4096

/** An entry of an open directory; what is not known yet is filled in when it is. */
export type PendingEntry = {
  readonly name: Buffer
  stat: FileStat
  /** Left out of the tree: it could not be read. */
  failed: boolean
  content: Content | undefined
  extents: readonly Extent[] | undefined
  attributes: readonly Attribute[] | undefined
  changed: boolean
  /** Touched so recently that the next change might not show. */
  racy: boolean
  node: string | undefined
  place: RecordPlace | undefined
  readonly passage: boolean
  /** A new or changed file whose content stands in the tree: transmitted with the page it is on. */
  told?: TransmittedFile
}

export type OpenDirectory = {
  readonly path: Buffer
  readonly fd: Descriptor
  readonly parent: OpenDirectory | undefined
  /** The entry of this directory in its parent. */
  readonly self: PendingEntry
  readonly entries: PendingEntry[]
  readonly cached: CachedDirectory | undefined
  /** Still as the cache says, entry by entry, so far. */
  identical: boolean
  /** The walk in it plus everything in it that is not known yet. */
  pending: number
  readonly volume: number
  /** The file system keeps inodes and ctimes. */
  readonly stable: boolean
  /** Small files as the cache knows them, whose content has to be read only if the directory is encoded. */
  readonly late: PendingEntry[]
}

export type TreeBuilder = {
  /** Whether the directory is, name by name and entry by entry, what the cache says. */
  readonly isAsBefore: (directory: OpenDirectory) => boolean
  /** To be called when a directory's last pending thing is known: encodes it. */
  readonly complete: (directory: OpenDirectory) => void
  /** Stores the pages of a long list of chunks; gives what stands in the entry. */
  readonly content: (ids: readonly string[], lengths: readonly number[]) => Content
}

const EMPTY = Buffer.alloc(0)

export function createTreeBuilder(options: {
  fileSystem: FileSystem
  hasher: Hasher
  namesHasher: Hasher
  cache: CacheWriter | undefined
  /** Takes a node to be stored; one that is known already is passed over there. */
  store: (node: EncodedNode) => number | undefined
  /** Told of files in the tree itself and the segment that their page stands in. */
  onInline: (file: TransmittedFile, segment: number) => void
  onProblem: (path: Buffer, code: string) => void
  /** Told of each directory that is done, with the descriptor that is no longer needed. */
  onComplete: (directory: OpenDirectory) => void
}): TreeBuilder {
  const { fileSystem, hasher, store } = options

  const attributesOf = (directory: OpenDirectory, entry: PendingEntry): readonly Attribute[] => {
    if (entry.attributes !== undefined) return entry.attributes
    try {
      return readAttributesWithin(fileSystem, directory.fd, entry.name, entry.stat)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      // The entry itself was read; what is missing of it is named, and looked for again by the next run.
      entry.racy = true
      options.onProblem(
        Buffer.concat([directory.path, Buffer.from('/'), entry.name]),
        error.errno === 'ENOENT' ? 'vanished' : `attributes-${error.errno}`,
      )
      return []
    }
  }

  const toEntry = (directory: OpenDirectory, pending: PendingEntry): Entry | undefined => {
    const { stat } = pending
    if (stat.kind === 'socket') return undefined
    const attributes = attributesOf(directory, pending)
    const linked = stat.kind !== 'directory' && stat.links > 1
    return {
      name: pending.name,
      kind: stat.kind,
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      mtimeNs: stat.mtimeNs,
      link: linked ? { volume: directory.volume, inode: stat.inode } : undefined,
      attributes: attributes.length > 0 ? attributes : undefined,
      size: stat.kind === 'file' ? stat.size : undefined,
      content: pending.content,
      extents: pending.extents,
      changed: pending.changed ? true : undefined,
      node: pending.node,
      passage: pending.passage ? true : undefined,
      target: stat.kind === 'symlink' ? fileSystem.readSymlink(directory.fd, pending.name) : undefined,
      device:
        stat.kind === 'character-device' || stat.kind === 'block-device' ? { major: stat.rdevMajor, minor: stat.rdevMinor } : undefined,
    }
  }

  const safeEntry = (directory: OpenDirectory, pending: PendingEntry): Entry | undefined => {
    try {
      return toEntry(directory, pending)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      // Not as before, or an unchanged directory would be taken over without the entry, in silence.
      pending.failed = true
      options.onProblem(
        Buffer.concat([directory.path, Buffer.from('/'), pending.name]),
        error.errno === 'ENOENT' ? 'vanished' : error.errno,
      )
      return undefined
    }
  }

  const encode = (directory: OpenDirectory): string => {
    const pages: DirectoryPage[] = []
    const bytes = new ByteWriter(4096)
    let references: Reference[] = []
    let count = 0
    let firstName: Buffer = EMPTY
    let told: TransmittedFile[] = []
    const endPage = (): void => {
      const node = encodeDirectory(count, bytes.view(), references, hasher)
      const segment = store(node)
      if (segment !== undefined) for (const file of told) options.onInline(file, segment)
      told = []
      pages.push({ firstName, entries: count, id: node.id })
      bytes.reset()
      references = []
      count = 0
    }
    for (const pending of directory.entries) {
      if (pending.failed) continue
      const entry = safeEntry(directory, pending)
      if (entry === undefined) continue
      if (count === 0) firstName = entry.name
      writeEntry(bytes, entry, references)
      if (pending.told !== undefined) told.push(pending.told)
      count += 1
      const full = bytes.length >= PAGE_BYTES_MAX || references.length >= LIMITS.referencesPerNode - CHUNKS_IN_ENTRY * 2
      if (full || (bytes.length >= PAGE_BYTES_MIN && endsPage(entry.name))) endPage()
    }
    if (count > 0 || pages.length === 0) endPage()
    return joinPages(pages)
  }

  /** Pages of pages until one node is left; a level groups by the names again, so that an insertion moves few pages. */
  const joinPages = (pages: readonly DirectoryPage[]): string => {
    let level = pages
    while (level.length > 1) {
      const above: DirectoryPage[] = []
      for (const group of groupBy(level, (page) => endsPage(page.firstName), 64, 1024)) {
        const node = encodeDirectoryPages(group, hasher)
        store(node)
        above.push({ firstName: group[0]!.firstName, entries: group.reduce((sum, page) => sum + page.entries, 0), id: node.id })
      }
      level = above
    }
    return level[0]!.id
  }

  const content = (ids: readonly string[], lengths: readonly number[]): Content => {
    if (ids.length <= CHUNKS_IN_ENTRY) return { kind: 'chunks', ids }
    const rows = ids.map((id, i) => ({ id, bytes: lengths[i]! }))
    let level = groupBy(rows, endsList, LIST_MIN, LIST_MAX).map((group) => {
      const bytes = group.reduce((sum, row) => sum + row.bytes, 0)
      const node = encodeChunkList(
        group.map((row) => row.id),
        bytes,
        hasher,
      )
      store(node)
      return { id: node.id, bytes }
    })
    while (level.length > 1) {
      level = groupBy(level, endsList, LIST_MIN, LIST_MAX).map((group) => {
        const node = encodeChunkListPages(group, hasher)
        store(node)
        return { id: node.id, bytes: group.reduce((sum, row) => sum + row.bytes, 0) }
      })
    }
    return { kind: 'list', id: level[0]!.id }
  }

  const namesOf = (directory: OpenDirectory): string =>
    hashNames(
      options.namesHasher,
      directory.entries.map((entry) => entry.name),
    )
  const isAsBefore = ({ identical, cached, entries }: OpenDirectory, named: string): boolean =>
    identical && cached !== undefined && cached.whole && cached.entries === entries.length && cached.namesHash === named

  return {
    content,
    isAsBefore: (directory) => directory.identical && isAsBefore(directory, namesOf(directory)),
    complete: (directory) => {
      const { self } = directory
      const named = namesOf(directory)
      self.node = isAsBefore(directory, named) ? directory.cached!.node : encode(directory)
      const whole = directory.entries.every((entry) => !entry.failed && !entry.racy && !entry.changed)
      self.place = options.cache?.directory({
        node: self.node,
        whole,
        stable: directory.stable,
        namesHash: named,
        entries: directory.entries,
      })
      options.onComplete(directory)
    },
  }
}

/** FNV-1a: only spreads page ends; nothing rests on it. */
function endsPage(name: Buffer): boolean {
  let hash = 0x811c9dc5
  for (const byte of name) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return ((hash >>> 8) & 0x3f) === 0
}

function endsList(row: { id: string }): boolean {
  return Number.parseInt(row.id.slice(0, 4), 16) < 65536 / 512
}

/** Groups of `min` to `max` items that end where `ends` says. */
function groupBy<T>(items: readonly T[], ends: (item: T) => boolean, min: number, max: number): T[][] {
  const groups: T[][] = []
  let group: T[] = []
  for (const item of items) {
    group.push(item)
    if (group.length >= max || (group.length >= min && ends(item))) {
      groups.push(group)
      group = []
    }
  }
  if (group.length > 0) groups.push(group)
  return groups
}
