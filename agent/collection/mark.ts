// Marking: which places of which packs the snapshots that count need. A bit for each row of each index file, so that fifty million blobs cost six
// megabytes; nodes are walked once for each writer. Needs the structure key alone.
import { counted, HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { INDEX_BLOB_BYTES, type PackRow } from '../repository/index-file.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import type { Repository } from '../repository/repository.ts'
import { SeenIds } from '../repository/seen-ids.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { BlobPart, BlobRow, View } from '../repository/view.ts'

export type PackUse = {
  readonly pack: PackRow
  /** Bytes of all blobs in the pack, before compression, and of those that are needed. */
  readonly bytes: number
  readonly liveBytes: number
}

/** A blob that a snapshot needs and that is in no pack that is there. */
export type MissingBlob = { readonly id: string; readonly part: BlobPart; readonly snapshot: string }

export type Mark = {
  /** Adds what a snapshot needs. Throws what the store says. */
  readonly add: (snapshot: OpenedSnapshot, signal?: AbortSignal) => Promise<void>
  /** What is missing so far: the first thousand, how many, and by the snapshot's id which packs should have it (`unknown` where none is known). */
  readonly missing: () => {
    readonly first: readonly MissingBlob[]
    readonly count: number
    readonly packs: ReadonlyMap<string, ReadonlySet<string>>
  }
  /** Every pack of the view by the random part of its name. */
  readonly uses: () => Map<string, PackUse>
  /** True where a row of an index file is needed. */
  readonly isLive: (file: number, row: number) => boolean
}

const MISSING_HELD = 1000

/**
 * Begins to mark over a view. Of several places of a blob one is needed: in a pack that is there, rather one that is not condemned, rather one that the
 * snapshot's own writer indexed (another agent could have stored rubbish under a valid id), rather one that is needed already; one that is known not to
 * hold it only where there is no other.
 */
export function createMark(options: {
  repository: Repository
  view: View
  /** By the random part of a pack's name. */
  isGone: (pack: string) => boolean
  isCondemned: (pack: string) => boolean
  isSpoilt?: ((id: string, part: BlobPart, pack: string) => boolean) | undefined
  /** Of the packs that should have a blob that is missing, those that the snapshot relied on; all of them where this is absent. */
  reliedOn?: (snapshot: OpenedSnapshot) => (packs: readonly string[]) => readonly string[]
}): Mark {
  const { repository, view } = options
  const { keys, store } = repository
  const reader = createPackReader({ store, structure: keys, view })
  const files = [...view.files, ...view.lastResort]
  const bits = files.map((file) => new Uint8Array(Math.ceil(file.blobCount / 8)))
  const isLive = (file: number, row: number): boolean => (bits[file]![row >> 3]! & (1 << (row & 7))) !== 0
  const seenOf = new Map<string, SeenIds>()
  const first: MissingBlob[] = []
  let count = 0
  const packsOf = new Map<string, Set<string>>()
  const reliedBy = new Map<string, (packs: readonly string[]) => readonly string[]>()
  const lacks = (id: string, part: BlobPart, snapshot: OpenedSnapshot): void => {
    count += 1
    const { random } = snapshot.structure.ref
    if (first.length < MISSING_HELD) first.push({ id, part, snapshot: random })
    const packs = packsOf.get(random) ?? new Set()
    packsOf.set(random, packs)
    const rows = view.rows(id, part)
    const named = rows.map(({ pack }) => pack.random)
    const relied = reliedBy.get(random) ?? options.reliedOn?.(snapshot) ?? ((all: readonly string[]) => all)
    reliedBy.set(random, relied)
    for (const pack of relied(named)) packs.add(pack)
    if (rows.length === 0) packs.add('unknown')
  }

  const choose = (id: string, part: BlobPart, writerKey: Buffer): BlobRow | undefined => {
    let best: BlobRow | undefined
    let bestRank = Infinity
    for (const row of view.rows(id, part)) {
      if (options.isGone(row.pack.random)) continue
      const own = files[row.file]!.writerKey.equals(writerKey)
      const isLastResort = row.file >= view.files.length
      const rank =
        (options.isSpoilt?.(id, part, row.pack.random) === true ? 16 : 0) +
        (isLastResort ? 8 : 0) +
        (options.isCondemned(row.pack.random) ? 4 : 0) +
        (own ? 0 : 2) +
        (isLive(row.file, row.row) ? 0 : 1)
      if (rank < bestRank) [best, bestRank] = [row, rank]
    }
    return best
  }

  const need = (id: string, part: BlobPart, snapshot: OpenedSnapshot): boolean => {
    const chosen = choose(id, part, snapshot.writerKey)
    if (chosen === undefined) {
      lacks(id, part, snapshot)
      return false
    }
    bits[chosen.file]![chosen.row >> 3]! |= 1 << (chosen.row & 7)
    return true
  }

  return {
    isLive,
    missing: () => ({ first, count, packs: packsOf }),
    add: async (snapshot, signal) => {
      const writer = snapshot.writerKey.toString('latin1')
      const seen = seenOf.get(writer) ?? new SeenIds()
      seenOf.set(writer, seen)
      const pending = [snapshot.structure.root]
      while (pending.length > 0) {
        const id = pending.pop()!
        if (!seen.add(id)) continue
        signal?.throwIfAborted()
        const whole = [need(id, 'private', snapshot), need(id, 'references', snapshot)].every(Boolean)
        if (!whole) continue
        try {
          const { references } = await reader.readReferences(id, signal)
          for (const reference of references) {
            if (reference.what === 'node') pending.push(reference.id)
            else need(reference.id, 'chunk', snapshot)
          }
        } catch (error) {
          if (!isHoldfastError(error, 'damaged', 'not-found')) throw error
          lacks(id, 'references', snapshot)
        }
      }
    },
    uses: () => {
      const uses = new Map<string, PackUse>()
      for (const [number, file] of files.entries()) {
        const bytes = new Float64Array(file.packs.length)
        const live = new Float64Array(file.packs.length)
        const packOf = new Uint32Array(file.segmentCount)
        for (let i = 0; i < file.segmentCount; i++) packOf[i] = file.segment(i).pack
        for (let row = 0, at = 0; row < file.blobCount; row++, at += INDEX_BLOB_BYTES) {
          const pack = packOf[file.blobs.readUInt32LE(at + 32)]!
          const length = file.blobs.readUInt32LE(at + 40)
          bytes[pack]! += length
          if (isLive(number, row)) live[pack]! += length
        }
        for (const [i, pack] of file.packs.entries()) {
          // Two mergers at once list a pack twice; places are taken from the file that comes first, so the other adds nothing. Where a repair found
          // damage its file says less of the pack than the one that it replaces, and what is needed may stand in that alone.
          const known = uses.get(pack.random)
          if (known === undefined) uses.set(pack.random, { pack, bytes: bytes[i]!, liveBytes: live[i]! })
          else if (live[i]! > 0)
            uses.set(pack.random, { pack: known.pack, bytes: Math.max(known.bytes, bytes[i]!), liveBytes: known.liveBytes + live[i]! })
        }
      }
      return uses
    },
  }
}

/** The packs that one snapshot needs, by the random part of their names, sorted. Throws `damaged` where something that it needs is not there. */
export async function packsNeeded(options: {
  repository: Repository
  view: View
  snapshot: OpenedSnapshot
  isGone: (pack: string) => boolean
  isCondemned: (pack: string) => boolean
  signal?: AbortSignal | undefined
}): Promise<string[]> {
  const mark = createMark(options)
  await mark.add(options.snapshot, options.signal)
  const { first, count } = mark.missing()
  if (count > 0)
    throw new HoldfastError(
      'damaged',
      `snapshot ${first[0]!.snapshot.slice(0, 16)} needs ${counted(count, 'blob that is', 'blobs that are')} in no pack: run 'holdfast check'`,
    )
  return [...mark.uses()]
    .filter(([, use]) => use.liveBytes > 0)
    .map(([random]) => random)
    .sort()
}
