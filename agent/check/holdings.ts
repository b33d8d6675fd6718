// Which blobs can be had: the view held against what is known of packs. Three answers, as everywhere in a check: there, lost, unsure. A blob is lost
// only where every place that anything names is known not to have it; a pack that could not be looked at makes it unsure.
import type { HoldfastError } from '@holdfast/shared/errors.ts'
import type { IndexedSegment, PackRow } from '../repository/index-file.ts'
import type { FooterSegment, PackFooter } from '../repository/pack.ts'
import { packsSaidAlone, type BlobLocation, type BlobPart, createView, type View } from '../repository/view.ts'

export type Presence = 'there' | 'lost' | 'unsure'

/** What is wrong with a pack. Packs with no trouble are believed. */
export type Trouble =
  | { readonly kind: 'gone' }
  /** Nobody could look. */
  | { readonly kind: 'unread'; readonly error: HoldfastError }
  /** Its footer opens; segments at these offsets are not what was stored. */
  | { readonly kind: 'bad-segments'; readonly bad: ReadonlySet<number>; readonly segments: KnownSegments }
  /** There, without a footer that opens. `segments`: those that were opened and are sound, where there were keys to open them. */
  | { readonly kind: 'footerless'; readonly bytes: number; readonly segments: KnownSegments | undefined }
  /** Index files say of it what is not so, or replaced ones alone tell of some of it: only these are in it. */
  | { readonly kind: 'told-wrong'; readonly segments: KnownSegments }

/** What is in a pack, by the offset of the segment. */
export type KnownSegments = ReadonlyMap<number, Pick<FooterSegment, 'segmentId' | 'blobs'>>

export function knownSegments(footer: PackFooter, bad?: ReadonlySet<number>): KnownSegments {
  return new Map(footer.segments.filter(({ offset }) => bad?.has(offset) !== true).map((segment) => [segment.offset, segment]))
}

const RANK: Record<Presence, number> = { there: 2, unsure: 1, lost: 0 }

export class Holdings {
  /** By the random part of the pack's name. */
  readonly trouble = new Map<string, Trouble>()
  /** Set where footers could not be read: as long as that is so nothing is called lost. */
  unreadable = false
  #view: View
  #counting: View
  /** Packs of which replaced index files say more than the others: of these alone their word is heard, and held against what is known. */
  readonly #doubted: ReadonlySet<string>

  constructor(view: View) {
    this.#view = view
    this.#counting = createView(view.files)
    this.#doubted = new Set(this.writtenOff().map(({ random }) => random))
  }

  get view(): View {
    return this.#view
  }

  /** Takes a view that knows more, such as one with what footers say. */
  widen(view: View): void {
    this.#view = view
    this.#counting = createView(view.files)
  }

  isDoubted(random: string): boolean {
    return this.#doubted.has(random)
  }

  presence(id: string, part: BlobPart): Presence {
    const counted = this.#best(id, this.#counting.locate(id, part))
    if (counted === 'there' || this.#doubted.size === 0) return counted
    return this.#best(
      id,
      this.#view.locate(id, part).filter(({ pack }) => this.#doubted.has(pack.random)),
      counted,
    )
  }

  #best(id: string, places: readonly BlobLocation[], atLeast: Presence = this.unreadable ? 'unsure' : 'lost'): Presence {
    let best = atLeast
    for (const place of places) {
      const there = this.#at(id, place)
      if (RANK[there] > RANK[best]) best = there
    }
    return best
  }

  /** Packs that should have the blob. */
  packsOf(id: string, part: BlobPart): string[] {
    return [...new Set(this.#view.locate(id, part).map(({ pack }) => pack.random))]
  }

  /** Packs of which only index files that a repair replaced know what is in them: they have to be looked into before anything is said of them. */
  writtenOff(): PackRow[] {
    const { lastResort, files } = this.#view
    if (lastResort.length === 0) return []
    const rows = new Map(lastResort.flatMap((file) => file.packs.map((pack) => [pack.random, pack] as const)))
    const alone = new Set([...packsSaidAlone(lastResort, files).values()].flatMap((packs) => [...packs]))
    return [...alone].flatMap((random) => rows.get(random) ?? [])
  }

  #at(id: string, { pack, segment, offset }: BlobLocation): Presence {
    const trouble = this.trouble.get(pack.random)
    switch (trouble?.kind) {
      case undefined:
        return 'there'
      case 'gone':
        return 'lost'
      case 'unread':
        return 'unsure'
      case 'footerless':
        if (trouble.segments !== undefined) return isIn(trouble.segments, id, segment, offset) ? 'there' : 'lost'
        return segment.offset + segment.sealedBytes > trouble.bytes ? 'lost' : 'unsure'
      case 'bad-segments':
      case 'told-wrong':
        return isIn(trouble.segments, id, segment, offset) ? 'there' : 'lost'
    }
  }
}

function isIn(segments: KnownSegments, id: string, { offset, segmentId }: IndexedSegment, at: number): boolean {
  const known = segments.get(offset)
  if (known === undefined || !known.segmentId.equals(segmentId)) return false
  let next = 0
  for (const blob of known.blobs) {
    if (next === at) return blob.id === id
    next += blob.bytes
  }
  return false
}
