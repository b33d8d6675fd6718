// What exactly is lost: by snapshot with the structure keys alone (how many chunks and tree nodes, in which packs they were), by path with the
// root's. Each node is looked at once over all snapshots; then only nodes below which something is missing are walked again, for each snapshot that
// has them. Memory: 16 bytes a node, and one entry for each node that leads to damage.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { createPackReader, isVerdict, type PackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { DecodedReferences, Entry } from '../repository/tree.ts'
import { readDirectory } from '../restore/tree-reader.ts'
import type { Holdings, Presence } from './holdings.ts'
import { SeenIds } from '../repository/seen-ids.ts'

export type SnapshotLoss = {
  readonly snapshot: OpenedSnapshot
  /** Different blobs of this snapshot that no place has. */
  readonly lostChunks: number
  readonly lostNodes: number
  /** Different blobs of which it could not be told. */
  readonly unsure: number
  /** Lost blobs by the random part of the name of each pack that should have them. */
  readonly packs: ReadonlyMap<string, number>
}

/** A path that cannot be restored as it was, and the snapshots in which that is so. */
export type PathLoss = {
  readonly path: Buffer
  /** A directory of which some or all cannot be read, so that nobody knows what else was in it. */
  readonly below: boolean
  readonly verdict: 'lost' | 'unsure'
  /** Ids, oldest first. */
  readonly snapshots: string[]
}

export type Losses = {
  readonly snapshots: readonly SnapshotLoss[]
  /** With the root's keys: every path, sorted; without them none. */
  readonly paths: readonly PathLoss[]
  /** Paths beyond those that are held. */
  readonly pathsLeftOut: number
  readonly nodes: number
  readonly references: number
  /** Different blobs over all snapshots. */
  readonly lost: number
  readonly unsure: number
  /** Snapshots that `isUnfinished` explains. They are in no other figure but how much was looked at. */
  readonly unfinished: readonly OpenedSnapshot[]
}

export type LossOptions = {
  readonly repository: Repository
  readonly snapshots: readonly OpenedSnapshot[]
  readonly holdings: Holdings
  readonly keys?: ReadKeys | undefined
  /** Of the packs that should have a lost blob, those that the snapshot relied on; all of them where this is absent. */
  readonly reliedOn?: (snapshot: OpenedSnapshot) => (packs: readonly string[]) => readonly string[]
  /** Whether a snapshot that lacks something of these packs was never reported good. */
  readonly isUnfinished?: (snapshot: OpenedSnapshot, packs: Iterable<string>) => boolean
  /** Called when a blob is in no place that is known of, before it is called lost: the footers may know one. */
  readonly widen?: () => Promise<void>
  /** Told each time that a blob is where footers alone say. */
  readonly onFound?: () => void
  /** Told of nodes that are not where index files say, and were found by footers. */
  readonly onMisplaced?: (id: string) => void
  /** Told of blobs that could not be looked at. */
  readonly onUnsure?: (id: string, error: HoldfastError) => void
  readonly onProgress?: (done: number, total: number) => void
  readonly signal?: AbortSignal | undefined
}

const PATHS_HELD = 100_000

/** Throws `cancelled` alone. */
export async function findLosses(options: LossOptions): Promise<Losses> {
  const all = await lossesOf(options)
  const isExplained = ({ snapshot, unsure, packs }: SnapshotLoss): boolean =>
    unsure === 0 && options.isUnfinished?.(snapshot, packs.keys()) === true
  const unfinished = all.snapshots.filter(isExplained).map(({ snapshot }) => snapshot)
  if (unfinished.length === 0) return all
  // Once more without them: what others lack too is told of those alone. What could not be looked at was told the first time.
  const { onUnsure: _told, onProgress: _seen, ...quietly } = options
  const { nodes, references } = all
  const snapshots = options.snapshots.filter((snapshot) => !unfinished.includes(snapshot))
  return { ...(await lossesOf({ ...quietly, snapshots })), nodes, references, unfinished }
}

async function lossesOf(options: LossOptions): Promise<Losses> {
  const walk = new LossWalk(options)
  const { snapshots } = options
  for (const [i, { structure }] of snapshots.entries()) {
    await walk.taint(structure.root, () => options.onProgress?.(i, snapshots.length))
    options.onProgress?.(i + 1, snapshots.length)
  }
  const affected: SnapshotLoss[] = []
  for (const snapshot of snapshots) {
    if (!walk.isTainted(snapshot.structure.root)) continue
    affected.push(await walk.countOf(snapshot))
    if (options.keys !== undefined) await walk.namesOf(snapshot)
  }
  return walk.losses(affected)
}

type Frame = { readonly id: string; readonly children: string[]; worst: Presence }

class LossWalk {
  readonly #options: LossOptions
  readonly #clean = new SeenIds()
  readonly #tainted = new Map<string, 'lost' | 'unsure'>()
  readonly #lost = new SeenIds()
  readonly #unsure = new SeenIds()
  readonly #paths = new Map<string, PathLoss>()
  #reader: PackReader | undefined
  #readerView: unknown
  #pathsLeftOut = 0
  #nodes = 0
  #references = 0

  constructor(options: LossOptions) {
    this.#options = options
  }

  losses(snapshots: readonly SnapshotLoss[]): Losses {
    return {
      snapshots,
      paths: [...this.#paths.values()].sort((a, b) => Buffer.compare(a.path, b.path)),
      pathsLeftOut: this.#pathsLeftOut,
      nodes: this.#nodes,
      references: this.#references,
      lost: this.#lost.size,
      unsure: this.#unsure.size,
      unfinished: [],
    }
  }

  isTainted(id: string): boolean {
    return this.#tainted.has(id)
  }

  /** The reader over what is known now: footers may have been read since it was asked for last. */
  #read(): PackReader {
    const { repository, holdings, keys } = this.#options
    if (this.#reader === undefined || this.#readerView !== holdings.view) {
      this.#readerView = holdings.view
      this.#reader = createPackReader({ store: repository.store, structure: repository.keys, view: holdings.view, keys })
    }
    return this.#reader
  }

  async #presence(id: string, part: 'chunk' | 'references' | 'private'): Promise<Presence> {
    const { holdings, widen, onFound } = this.#options
    const first = holdings.presence(id, part)
    if (first === 'there' || widen === undefined) return first
    await widen()
    const then = holdings.presence(id, part)
    if (then === 'there') onFound?.()
    return then
  }

  #note(id: string, presence: Presence): Presence {
    if (presence === 'lost') this.#lost.add(id)
    else if (presence === 'unsure') this.#unsure.add(id)
    return presence
  }

  /** The node itself: both parts there, and its references where they can be read. */
  async #node(id: string): Promise<{ self: Presence; references: readonly { what: 'chunk' | 'node'; id: string }[] }> {
    const parts = [await this.#presence(id, 'private'), await this.#presence(id, 'references')]
    // A part of which it could not be told may still open: references need no key that is missing here.
    if (parts.includes('lost')) return { self: 'lost', references: [] }
    const unsure = parts[0] === 'unsure'
    try {
      const { references } = await this.#readReferences(id)
      return { self: unsure ? 'unsure' : 'there', references }
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      if (isHoldfastError(error, 'damaged', 'not-found') && !this.#options.holdings.unreadable) return { self: 'lost', references: [] }
      this.#options.onUnsure?.(id, error)
      return { self: 'unsure', references: [] }
    }
  }

  async #readReferences(id: string): Promise<DecodedReferences> {
    const { holdings, widen, onMisplaced, signal } = this.#options
    try {
      return await this.#read().readReferences(id, signal)
    } catch (error) {
      const before = holdings.view
      if (!isHoldfastError(error, 'damaged') || widen === undefined) throw error
      await widen()
      if (holdings.view === before) throw error
      const references = await this.#read().readReferences(id, signal)
      onMisplaced?.(id)
      return references
    }
  }

  async #open(id: string): Promise<Frame> {
    this.#nodes += 1
    const { self, references } = await this.#node(id)
    const frame: Frame = { id, children: [], worst: this.#note(id, self) }
    this.#references += references.length
    for (const reference of references) {
      if (reference.what === 'node') frame.children.push(reference.id)
      else worsen(frame, this.#note(reference.id, await this.#presence(reference.id, 'chunk')))
    }
    return frame
  }

  /** Finds out of every node below `root` whether something is missing below it; each node once, whatever snapshots share it. */
  async taint(root: string, onProgress: () => void): Promise<void> {
    const known = (id: string): Presence | undefined => (this.#clean.has(id) ? 'there' : this.#tainted.get(id))
    if (known(root) !== undefined) return
    const frames = [await this.#open(root)]
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const child = frame.children.pop()
      if (child !== undefined) {
        const before = known(child)
        if (before === undefined) frames.push(await this.#open(child))
        else worsen(frame, before)
        if (this.#nodes % 256 === 0) onProgress()
        continue
      }
      frames.pop()
      if (frame.worst === 'there') this.#clean.add(frame.id)
      else this.#tainted.set(frame.id, frame.worst)
      const above = frames.at(-1)
      if (above !== undefined) worsen(above, frame.worst)
      if (this.#options.signal?.aborted === true) throw new HoldfastError('cancelled', 'the check was cancelled')
    }
  }

  /** What one snapshot lacks, each blob once. */
  async countOf(snapshot: OpenedSnapshot): Promise<SnapshotLoss> {
    const { holdings } = this.#options
    const packs = new Map<string, number>()
    const relied = this.#options.reliedOn?.(snapshot) ?? ((all: readonly string[]) => all)
    const seen = new SeenIds()
    const counts = { lostChunks: 0, lostNodes: 0, unsure: 0 }
    const lost = (id: string, part: 'chunk' | 'references' | 'private'): void => {
      for (const pack of relied(holdings.packsOf(id, part))) packs.set(pack, (packs.get(pack) ?? 0) + 1)
    }
    const pending = [snapshot.structure.root]
    for (let id = pending.pop(); id !== undefined; id = pending.pop()) {
      if (!this.#tainted.has(id) || !seen.add(id)) continue
      const { self, references } = await this.#node(id)
      if (self === 'unsure') counts.unsure += 1
      if (self === 'lost') {
        counts.lostNodes += 1
        lost(id, (await this.#presence(id, 'private')) === 'lost' ? 'private' : 'references')
      }
      for (const reference of references) {
        if (reference.what === 'node') pending.push(reference.id)
        else {
          const presence = holdings.presence(reference.id, 'chunk')
          if (presence === 'there' || !seen.add(reference.id)) continue
          if (presence === 'unsure') counts.unsure += 1
          else {
            counts.lostChunks += 1
            lost(reference.id, 'chunk')
          }
        }
      }
    }
    return { snapshot, ...counts, packs }
  }

  /** The paths of one snapshot that a restore would not give back as they were. */
  async namesOf(snapshot: OpenedSnapshot): Promise<void> {
    const { signal } = this.#options
    const id = snapshot.structure.ref.random
    const pending = [{ path: Buffer.alloc(0), node: snapshot.structure.root }]
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      const { path, node } = directory
      try {
        for await (const page of readDirectory(this.#read(), node, signal))
          for (const entry of page) {
            const below = Buffer.concat([path, Buffer.from('/'), entry.name])
            if (entry.kind === 'directory') {
              if (this.#tainted.has(entry.node!)) pending.push({ path: below, node: entry.node! })
            } else {
              const presence = this.#contentOf(entry)
              if (presence !== 'there') this.#name(below, false, presence, id)
            }
          }
      } catch (error) {
        if (!isHoldfastError(error) || error.code === 'cancelled') throw error
        this.#name(path.length === 0 ? Buffer.from('/') : path, true, isVerdict(error) ? 'lost' : 'unsure', id)
      }
    }
  }

  #contentOf({ content }: Entry): Presence {
    if (content?.kind === 'list') return this.#tainted.get(content.id) ?? 'there'
    if (content?.kind !== 'chunks') return 'there'
    const all = content.ids.map((id) => this.#options.holdings.presence(id, 'chunk'))
    return all.includes('lost') ? 'lost' : all.includes('unsure') ? 'unsure' : 'there'
  }

  #name(path: Buffer, below: boolean, verdict: 'lost' | 'unsure', snapshot: string): void {
    const key = `${verdict} ${below ? 'd' : 'f'} ${path.toString('latin1')}`
    const known = this.#paths.get(key)
    if (known !== undefined) known.snapshots.push(snapshot)
    else if (this.#paths.size < PATHS_HELD) this.#paths.set(key, { path, below, verdict, snapshots: [snapshot] })
    else this.#pathsLeftOut += 1
  }
}

function worsen(frame: Frame, presence: Presence): void {
  if (presence === 'lost' || frame.worst === 'there') frame.worst = presence
}
