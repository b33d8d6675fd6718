// Walks the tree of a snapshot in order, in memory bounded by its depth, with the root's keys or with a grant's. What it yields has been
// checked against its id; directories that cannot be read are yielded as failures, so that one of them does not hide the others.
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { isVerdict, type PackReader } from '../repository/pack-reader.ts'
import type { Content, DecodedNode, Entry } from '../repository/tree.ts'
import { contentBytes } from './decide.ts'

/** A directory of the walk. `entry` is undefined for `/` alone. */
export type WalkDirectory = {
  readonly parent: WalkDirectory | undefined
  readonly entry: Entry | undefined
  /** Absolute, as it was when it was backed up; `/` for the root. */
  readonly path: Buffer
  readonly depth: number
  /** False where it only leads to what is selected. */
  readonly selected: boolean
  /** What is selected is known to be in it, or below. */
  readonly leads: boolean
}

export type WalkStep =
  | { readonly step: 'enter'; readonly directory: WalkDirectory }
  /** Selected entries that are no directories, in order, one or more. */
  | { readonly step: 'entries'; readonly directory: WalkDirectory; readonly entries: readonly Entry[] }
  /** The directory, or some of its pages, cannot be read. */
  | { readonly step: 'failed'; readonly directory: WalkDirectory; readonly error: HoldfastError }
  | { readonly step: 'leave'; readonly directory: WalkDirectory }

/**
 * What to do with an entry: take it with all below, look whether selected ones are below it, look for one that is named there, or pass it over.
 */
export type Choice = 'take' | 'look' | 'lead' | 'skip'
export type Chooser = (path: Buffer, isDirectory: boolean) => Choice

const SLASH = Buffer.from('/')

/** Deeper than this a directory does not keep its path: of names as long as can be, four thousand paths would fill gigabytes. */
const PATHS_KEPT = 128

/** The path of an entry. */
export function entryPath(directory: WalkDirectory, name: Buffer): Buffer {
  return directory.parent === undefined ? Buffer.concat([SLASH, name]) : Buffer.concat([directory.path, SLASH, name])
}

function walkDirectory(parent: WalkDirectory, entry: Entry, choice: Choice, path: Buffer | undefined): WalkDirectory {
  const depth = parent.depth + 1
  const kept = depth <= PATHS_KEPT ? (path ?? entryPath(parent, entry.name)) : undefined
  const directory = { parent, entry, depth, selected: choice === 'take', leads: choice === 'lead' }
  return kept !== undefined
    ? { ...directory, path: kept }
    : {
        ...directory,
        get path() {
          const parts: Buffer[] = [entry.name]
          let at = parent
          for (; at.depth > PATHS_KEPT; at = at.parent!) parts.push(SLASH, at.entry!.name)
          return Buffer.concat([at.path, SLASH, ...parts.reverse()])
        },
      }
}

/**
 * The entries of a directory in order, one page at a time. A page that cannot be read hides no other: its error is thrown after the last one. Throws
 * `damaged` for a node of another type, names out of order, or pages that do not begin as is said of them: one that is empty, or that is not there,
 * could otherwise stand in billions of places.
 */
export async function* readDirectory(reader: PackReader, id: string, signal?: AbortSignal): AsyncGenerator<readonly Entry[]> {
  const refuse = (why: string): HoldfastError => new HoldfastError('damaged', `tree node ${id.slice(0, 16)} is damaged: ${why}`)
  type Page = { readonly id: string; readonly firstName?: Buffer }
  const levels: Page[][] = [[{ id }]]
  let last: Buffer | undefined
  let missing: HoldfastError | undefined
  while (levels.length > 0) {
    const next = levels.at(-1)!.shift()
    if (next === undefined) {
      levels.pop()
      continue
    }
    // Within a page the codec has checked the order; across pages a second entry of one name could stand in for the first.
    if (last !== undefined && next.firstName !== undefined && Buffer.compare(last, next.firstName) >= 0)
      throw refuse('its names are not in order')
    let node: DecodedNode
    try {
      node = await reader.readNode(next.id, signal)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not-found', 'unread') || levels.length === 1) throw error
      // That nobody could look comes before damage: a restore that is told of damage alone is not run again.
      if (missing === undefined || error.code === 'unread') missing = error
      last = next.firstName
      continue
    }
    const first = node.type === 'directory-pages' ? node.pages[0]?.firstName : node.type === 'directory' ? node.entries[0]?.name : undefined
    if (next.firstName !== undefined && first?.equals(next.firstName) !== true) throw refuse('a page of it is another one')
    if (node.type === 'directory-pages') {
      if (levels.length > LIMITS.pageLevels) throw refuse('it has too many levels of pages')
      levels.push([...node.pages])
    } else if (node.type === 'directory') {
      if (node.entries.length === 0) continue
      last = node.entries.at(-1)!.name
      yield node.entries
    } else throw refuse('it is no directory')
  }
  if (missing !== undefined) throw missing
}

/**
 * The ids of a file's chunks in order, one page at a time; nothing for an inline file. Throws `damaged` for more than its content can have. With
 * `once` a page that was read before, in whatever file, is passed over: for those who want to know which chunks there are.
 */
export async function* readChunkIds(
  reader: PackReader,
  entry: Entry,
  signal?: AbortSignal,
  once?: Set<string>,
): AsyncGenerator<readonly string[]> {
  // Every chunk has at least one byte: more ids than bytes cannot be this file's, and a list that names itself many times has no other end.
  let left = contentBytes(entry)
  for await (const ids of chunkIds(reader, entry.content, signal, once)) {
    left -= ids.length
    if (left < 0) throw new HoldfastError('damaged', 'its chunks do not have the length of the file')
    yield ids
  }
}

async function* chunkIds(
  reader: PackReader,
  content: Content | undefined,
  signal?: AbortSignal,
  once?: Set<string>,
): AsyncGenerator<readonly string[]> {
  if (content === undefined || content.kind === 'inline') return
  if (content.kind === 'chunks') {
    yield content.ids
    return
  }
  const refuse = (why: string): HoldfastError => new HoldfastError('damaged', `chunk list ${content.id.slice(0, 16)} is damaged: ${why}`)
  const levels: string[][] = [[content.id]]
  while (levels.length > 0) {
    const next = levels.at(-1)!.shift()
    if (next === undefined) {
      levels.pop()
      continue
    }
    if (once?.has(next) === true) continue
    const node = await reader.readNode(next, signal)
    once?.add(next)
    if (node.type === 'chunk-list-pages') {
      if (levels.length > LIMITS.pageLevels) throw refuse('it has too many levels of pages')
      levels.push(node.pages.map((page) => page.id))
    } else if (node.type === 'chunk-list') yield node.ids
    else throw refuse('it is no chunk list')
  }
}

// oxlint-disable-next-line require-yield -- a directory that is not looked into has no pages
async function* noPages(): AsyncGenerator<readonly Entry[]> {}

type Frame = { readonly directory: WalkDirectory; readonly pages: AsyncGenerator<readonly Entry[]>; page: readonly Entry[]; at: number }

/**
 * Walks what `choose` takes below the root node `root`, depth first, names in byte order. Damage and what is `unread` are yielded; what the store says is thrown.
 * Without the key of a directory: thrown (`grant-required`) where it is selected or leads there; where it would only have been searched it is passed over.
 */
export async function* walkTree(options: {
  reader: PackReader
  root: string
  choose?: Chooser
  /** What the snapshot says is in the tree; the walk ends with `damaged` where there is more. A node may stand in any number of places. */
  bounds: { readonly files: number; readonly directories: number; readonly bytes: number }
  /** Directories at this depth are entered and left without being read; `/` has depth 0. */
  maxDepth?: number
  signal?: AbortSignal | undefined
}): AsyncGenerator<WalkStep> {
  const { reader, root, signal, maxDepth = Number.POSITIVE_INFINITY } = options
  const choose: Chooser = options.choose ?? (() => 'take')
  const rootChoice = choose(SLASH, true)
  if (rootChoice === 'skip') return
  // The root counts; snapshots of standard input once lacked it.
  const { files, bytes } = options.bounds
  const left = { files, bytes, directories: Math.max(1, options.bounds.directories) }
  const count = (entry: Entry | undefined): void => {
    if (entry === undefined || entry.kind === 'directory') left.directories -= 1
    else if (entry.kind === 'file') {
      left.files -= 1
      left.bytes -= entry.size ?? 0
    } else return
    if (left.files < 0 || left.directories < 0 || left.bytes < 0)
      throw new HoldfastError('damaged', 'the tree has more in it than its snapshot says; nothing more of it is read')
  }
  const frames: Frame[] = []
  const enter = (directory: WalkDirectory, id: string): WalkStep => {
    const pages = directory.depth < maxDepth ? readDirectory(reader, id, signal) : noPages()
    count(directory.entry)
    frames.push({ directory, pages, page: [], at: 0 })
    return { step: 'enter', directory }
  }
  yield enter(
    { parent: undefined, entry: undefined, path: SLASH, depth: 0, selected: rootChoice === 'take', leads: rootChoice === 'lead' },
    root,
  )
  while (frames.length > 0) {
    const frame = frames.at(-1)!
    const { directory } = frame
    if (signal?.aborted === true) throw new HoldfastError('cancelled', 'the walk was cancelled')
    if (frame.at === frame.page.length) {
      try {
        const next = await frame.pages.next()
        if (next.done !== true) {
          frame.page = next.value
          frame.at = 0
          continue
        }
      } catch (error) {
        if (!isVerdict(error) && !isHoldfastError(error, 'unread')) throw error
        if (!isHoldfastError(error, 'grant-required')) yield { step: 'failed', directory, error }
        else if (directory.selected || directory.leads) throw error
      }
      frames.pop()
      yield { step: 'leave', directory }
      continue
    }
    const run: Entry[] = []
    let descend: { directory: WalkDirectory; id: string } | undefined
    while (frame.at < frame.page.length && descend === undefined) {
      const entry = frame.page[frame.at++]!
      const path = directory.selected ? undefined : entryPath(directory, entry.name)
      const choice = directory.selected ? 'take' : choose(path!, entry.kind === 'directory')
      if (choice === 'skip') continue
      if (entry.kind !== 'directory') {
        count(entry)
        run.push(entry)
      } else if (directory.depth >= LIMITS.depth) {
        const error = new HoldfastError('damaged', `${printable(directory.path.toString())} is deeper than a directory can be`)
        yield { step: 'failed', directory, error }
      } else descend = { directory: walkDirectory(directory, entry, choice, path), id: entry.node! }
    }
    if (run.length > 0) yield { step: 'entries', directory, entries: run }
    if (descend !== undefined) yield enter(descend.directory, descend.id)
  }
}
