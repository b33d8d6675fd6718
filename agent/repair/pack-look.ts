// What a repair finds out about one pack: what is true of it, and which index files say so. Small, so that a repository of any size can be looked at
// before anything is decided; what has to be written is read again then.
import { type HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import type { IndexClaims, PackClaims } from '../check/claims.ts'
import { examinePack } from '../check/examine-pack.ts'
import type { ReadKeys } from '../keys/keys.ts'
import { type OpenedFooter, readFooter } from '../repository/footer-reader.ts'
import type { ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { PackFooter } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'
import type { View } from '../repository/view.ts'

export type PackRef = ObjectRef & { readonly bytes: number; readonly info?: ObjectInfo }

/** An index file that counts and names the pack, and what it says of it. */
export type Naming = PackClaims & { readonly claims: IndexClaims }

export type PackLook = { readonly ref: PackRef; readonly naming: readonly Naming[] } & (
  | {
      readonly state: 'sound'
      readonly writerId: Buffer
      /** Offsets of all its segments, and of those that are damaged. */
      readonly offsets: readonly number[]
      readonly bad: ReadonlySet<number>
      readonly damage: HoldfastError | undefined
      /** Kept where something is damaged, or index files say of the pack what is not so. */
      readonly footer?: PackFooter
    }
  /** There, without a footer that opens; `footer` tells of the segments that were opened with the root's keys, of none where they are not at hand. */
  | { readonly state: 'footerless'; readonly footer: PackFooter; readonly opened: boolean; readonly damage: HoldfastError }
  /** `onRecord`: a collection deleted it, and says so. */
  | { readonly state: 'gone'; readonly onRecord: boolean }
  /** Nobody could look, so that nothing that is said of it changes. */
  | { readonly state: 'unread'; readonly error: HoldfastError }
)

export type LookOptions = {
  readonly repository: Repository
  readonly view: View
  /** Packs of which a replaced index file says more than those that count. */
  readonly doubted: (random: string) => boolean
  /** Of all index files that count. */
  readonly claims: readonly IndexClaims[]
  readonly read?: ReadKeys | undefined
  readonly signal: AbortSignal
  readonly onRead: (bytes: number) => void
}

const NONE: ReadonlySet<number> = new Set()

/** Reads the footer; all of the pack where `whole`, where the footer does not open, or where index files say less than the footer. Throws `cancelled` alone. */
export async function lookAtPack(options: LookOptions, ref: PackRef, whole: boolean): Promise<PackLook> {
  const { repository, signal } = options
  const naming = options.claims.filter((claims) => claims.names(ref.random))
  const keep = options.doubted(ref.random)
  if (!whole) {
    try {
      const opened = await readFooter(repository, ref, ref.bytes, signal)
      const look = soundLook(ref, opened, NONE, undefined, naming, keep)
      // An index file that says less may be the one by which an earlier repair wrote a damaged segment off: that must not be undone unread.
      if (naming.length === 0 || look.naming.some(({ named }) => named.size === look.offsets.length)) return look
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      if (error.code !== 'damaged') return unreadLook(ref, naming, error)
    }
  }
  const { trouble, damage, opened, found } = await examinePack(repository, ref, options.view, {
    keys: options.read,
    signal,
    onRead: options.onRead,
  })
  if (trouble?.kind === 'gone') return goneLook(ref, naming)
  if (trouble?.kind === 'unread') return unreadLook(ref, naming, trouble.error)
  if (trouble?.kind !== 'footerless')
    return soundLook(ref, opened!, trouble?.kind === 'bad-segments' ? trouble.bad : NONE, damage, naming, keep)
  const footer = found ?? { ref: { session: ref.session, random: ref.random }, writerId: Buffer.alloc(16), sessions: [], segments: [] }
  return {
    state: 'footerless',
    ref,
    footer,
    opened: found !== undefined,
    damage: damage!,
    naming: naming.map((claims) => ({ claims, ...claims.of(footer, ref.bytes, NONE) })),
  }
}

function soundLook(
  ref: PackRef,
  opened: OpenedFooter,
  bad: ReadonlySet<number>,
  damage: HoldfastError | undefined,
  naming: readonly IndexClaims[],
  keep: boolean,
): Extract<PackLook, { state: 'sound' }> {
  const { footer, bytes } = opened
  const named = naming.map((claims) => ({ claims, ...claims.of(footer, bytes, bad) }))
  return {
    state: 'sound',
    ref,
    writerId: footer.writerId,
    offsets: footer.segments.map(({ offset }) => offset),
    bad,
    damage,
    naming: named,
    ...(bad.size === 0 && !keep && named.every(({ isTrue }) => isTrue) ? {} : { footer }),
  }
}

export function goneLook(ref: PackRef, naming: readonly IndexClaims[]): Extract<PackLook, { state: 'gone' }> {
  return { state: 'gone', onRecord: false, ref, naming: naming.map((claims) => ({ claims, isTrue: false, named: NONE })) }
}

/** The same pack where a collection deleted it on record: an index file that still names it says what is so, and is the next collection's to tidy. */
export function deletedLook({ ref, naming }: Extract<PackLook, { state: 'gone' }>): PackLook {
  return { state: 'gone', onRecord: true, ref, naming: naming.map((one) => ({ ...one, isTrue: true })) }
}

export function unreadLook(ref: PackRef, naming: readonly IndexClaims[], error: HoldfastError): PackLook {
  return { state: 'unread', ref, error, naming: naming.map((claims) => ({ claims, isTrue: true, named: NONE })) }
}
