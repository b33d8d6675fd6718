// Walks the tree of a snapshot in order, in memory bounded by its depth, with the root's keys or with a grant's. What it yields has been
// checked against its id; directories that cannot be read are yielded as failures, so that one of them does not hide the others.
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { isVerdict, type PackReader } from '../repository/pack-reader.ts'
import type { Content, DecodedNode, Entry } from '../repository/tree.ts'

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

/** The path of an entry. */
export function entryPath(directory: WalkDirectory, name: Buffer): Buffer {
  return directory.parent === undefined ? Buffer.concat([SLASH, name]) : Buffer.concat([directory.path, SLASH, name])
}

/**
 * The entries of a directory in order, one page at a time. A page that cannot be read hides no other: its error is thrown after the last one. Throws
 * `damaged` for a node of another type or names out of order.
 */
export async function* readDirectory(reader: PackReader, id: string, signal?: AbortSignal): AsyncGenerator<readonly Entry[]> {
  const refuse = (why: string): HoldfastError => new HoldfastError('damaged', `tree node ${id.slice(0, 16)} is damaged: ${why}`)
  const levels: string[][] = [[id]]
  let last: Buffer | undefined
  let missing: HoldfastError | undefined
  while (levels.length > 0) {
    const next = levels.at(-1)!.shift()
    if (next === undefined) {
      levels.pop()
      continue
    }
    let node: DecodedNode
    try {
      node = await reader.readNode(next, signal)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not-found') || levels.length === 1) throw error
      missing ??= error
      continue
    }
    if (node.type === 'directory-pages') {
      if (levels.length > LIMITS.pageLevels) throw refuse('it has too many levels of pages')
      levels.push(node.pages.map((page) => page.id))
    } else if (node.type === 'directory') {
      const first = node.entries[0]
      if (first === undefined) continue
      // Within a page the codec has checked this; across pages a second entry of one name could stand in for the first.
      if (last !== undefined && Buffer.compare(last, first.name) >= 0) throw refuse('its names are not in order')
      last = node.entries.at(-1)!.name
      yield node.entries
    } else throw refuse('it is no directory')
  }
  if (missing !== undefined) throw missing
}

/** The ids of a file's chunks in order, one page at a time; nothing for an inline file. */
export async function* readChunkIds(
  reader: PackReader,
  content: Content | undefined,
  signal?: AbortSignal,
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
    const node = await reader.readNode(next, signal)
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
 * Walks what `choose` takes below the root node `root`, depth first, names in byte order. Damage is yielded; what the store says is thrown.
 * Without the key of a directory: thrown (`grant-required`) where it is selected or leads there; where it would only have been searched it is passed over.
 */
export async function* walkTree(options: {
  reader: PackReader
  root: string
  choose?: Chooser
  /** Directories at this depth are entered and left without being read; `/` has depth 0. */
  maxDepth?: number
  signal?: AbortSignal | undefined
}): AsyncGenerator<WalkStep> {
  const { reader, root, signal, maxDepth = Number.POSITIVE_INFINITY } = options
  const choose: Chooser = options.choose ?? (() => 'take')
  const rootChoice = choose(SLASH, true)
  if (rootChoice === 'skip') return
  const frames: Frame[] = []
  const enter = (directory: WalkDirectory, id: string): WalkStep => {
    const pages = directory.depth < maxDepth ? readDirectory(reader, id, signal) : noPages()
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
        if (!isVerdict(error)) throw error
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
      const path = directory.selected && entry.kind !== 'directory' ? undefined : entryPath(directory, entry.name)
      const choice = directory.selected ? 'take' : choose(path!, entry.kind === 'directory')
      if (choice === 'skip') continue
      if (entry.kind !== 'directory') run.push(entry)
      else if (directory.depth >= LIMITS.depth) {
        const error = new HoldfastError('damaged', `${printable(directory.path.toString())} is deeper than a directory can be`)
        yield { step: 'failed', directory, error }
      } else
        descend = {
          directory: {
            parent: directory,
            entry,
            path: path!,
            depth: directory.depth + 1,
            selected: choice === 'take',
            leads: choice === 'lead',
          },
          id: entry.node!,
        }
    }
    if (run.length > 0) yield { step: 'entries', directory, entries: run }
    if (descend !== undefined) yield enter(descend.directory, descend.id)
  }
}
