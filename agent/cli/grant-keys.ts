// Which keys one restore needs, found by walking the snapshot as the agent will: the nodes on the way, the nodes and chunks of what is selected.
// Promise: of single files no session key and no segment beside the ones that their blobs stand in.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { RootKeys } from '../keys/domain.ts'
import type { SegmentKey, SessionKey } from '../keys/grant.ts'
import type { ReadKeys, SessionEntry } from '../keys/keys.ts'
import { createPackReader, type PackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { BlobPart, View } from '../repository/view.ts'
import { createSelector, type Selection } from '../restore/selection.ts'
import { readChunkIds, walkTree } from '../restore/tree-reader.ts'

/** 48 bytes each under the limit of a grant; a whole snapshot with more gets session keys. */
const SEGMENT_KEYS_MAX = 1_000_000

export type GrantKeys = {
  readonly segmentKeys: readonly SegmentKey[]
  readonly sessionKeys: readonly SessionKey[]
  readonly sessions: readonly SessionEntry[]
  /** What the selection matched: files, or directories with all that is below. */
  readonly selected: readonly Buffer[]
  /** Tokens that match nothing in the snapshot. */
  readonly unmatched: number
  readonly files: number
  readonly bytes: number
}

export async function collectGrantKeys(options: {
  repository: Repository
  view: View
  keys: RootKeys
  snapshot: OpenedSnapshot
  selection: { readonly whole: true } | { readonly tokens: readonly string[] }
  signal: AbortSignal
}): Promise<GrantKeys> {
  const { repository, view, keys, snapshot, signal } = options
  const needed = new NeededSegments(view, keys.read)
  const reader = createPackReader({ store: repository.store, structure: repository.keys, view, keys: keys.read })
  const isWhole = 'whole' in options.selection
  const found = isWhole ? { selected: [Buffer.from('/')], unmatched: 0 } : await resolveTokens(options, reader)
  const selection: Selection = isWhole ? { kind: 'whole' } : { kind: 'paths', paths: found.selected }
  const counts = { files: 0, bytes: 0 }
  if (found.selected.length > 0) {
    const recording: PackReader = {
      ...reader,
      readNode: (id, abort) => {
        needed.add(id, 'private')
        return reader.readNode(id, abort)
      },
    }
    const lists = new Set<string>()
    const { choose } = createSelector(selection, repository.keys.recordKey)
    for await (const step of walkTree({ reader: recording, root: snapshot.structure.root, bounds: snapshot.structure, choose, signal })) {
      // What cannot be read here cannot be read there either; the restore will name it.
      if (step.step !== 'entries') continue
      for (const entry of step.entries) {
        if (entry.kind !== 'file') continue
        counts.files += 1
        counts.bytes += entry.size ?? 0
        for await (const ids of readChunkIds(recording, entry, signal, lists)) for (const id of ids) needed.add(id, 'chunk')
      }
    }
  }
  // The private part of the snapshot itself holds the metadata of `/`, which only a whole restore sets.
  if (isWhole) snapshot.openPrivate(needed.recordingKeys(repository.keys))
  const useSessions = isWhole && needed.segments.size > SEGMENT_KEYS_MAX
  if (!isWhole && needed.segments.size > SEGMENT_KEYS_MAX)
    throw new HoldfastError(
      'too-large',
      'this selection needs more keys than one grant can hold; restore the whole snapshot, or in several parts',
    )
  const sessions = [...needed.sessions.values()]
  return {
    segmentKeys: useSessions ? [] : [...needed.segments.values()],
    sessionKeys: useSessions ? sessions.map((entry) => ({ sessionId: entry.sessionId, key: keys.sessionKey(entry) })) : [],
    sessions,
    ...found,
    ...counts,
  }
}

/** The paths that tokens stand for: the one place where they become names again, and it is the controller's. */
async function resolveTokens(
  { repository, snapshot, selection, signal }: Parameters<typeof collectGrantKeys>[0],
  reader: PackReader,
): Promise<{ selected: Buffer[]; unmatched: number }> {
  const tokens = 'tokens' in selection ? selection.tokens : []
  const { choose, unmatched } = createSelector({ kind: 'tokens', tokens: new Set(tokens) }, repository.keys.recordKey)
  const selected: Buffer[] = []
  const search = (path: Buffer, isDirectory: boolean): ReturnType<typeof choose> => {
    const choice = choose(path, isDirectory)
    if (choice !== 'take') return choice
    selected.push(Buffer.from(path))
    // Also below a selected directory others may be named; they must not count as missing.
    return isDirectory ? 'look' : 'skip'
  }
  const walk = walkTree({ reader, root: snapshot.structure.root, bounds: snapshot.structure, choose: search, signal })
  while ((await walk.next()).done !== true) continue
  return { selected, unmatched: unmatched().length }
}

/** Segments, each once, with the keys that open them. */
class NeededSegments {
  readonly segments = new Map<string, SegmentKey>()
  readonly sessions = new Map<string, SessionEntry>()
  readonly #view: View
  readonly #read: ReadKeys
  readonly #seen = new Set<string>()

  constructor(view: View, read: ReadKeys) {
    this.#view = view
    this.#read = read
  }

  /** All copies of a blob: a restore tries every one. */
  add(id: string, part: BlobPart): void {
    if (this.#seen.has(id)) return
    this.#seen.add(id)
    for (const { segment, session } of this.#view.locate(id, part)) if (session !== undefined) this.#segment(session, segment.segmentId)
  }

  #segment(session: SessionEntry, segmentId: Buffer): Buffer | undefined {
    const name = segmentId.toString('latin1')
    const known = this.segments.get(name)
    if (known !== undefined) return known.key
    const key = this.#read.segmentKey(session, segmentId)
    if (key === undefined) return undefined
    this.segments.set(name, { segmentId: Buffer.from(segmentId), key })
    this.sessions.set(session.sessionId.toString('latin1'), session)
    return key
  }

  recordingKeys(structure: ReadKeys['structure']): ReadKeys {
    return { structure, segmentKey: (session, segmentId) => this.#segment(session, segmentId) }
  }
}
