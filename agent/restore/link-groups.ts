// Hard links of one snapshot: which name of a file was restored first, and which other names wait for it. Holds one small record per file
// that has several names, for as long as the restore runs: every later name must be able to find it.
import type { Entry } from '../repository/tree.ts'

export type Leader<D> = {
  readonly directory: D
  readonly name: Buffer
  readonly inode: bigint
  readonly deviceId: bigint
  readonly entry: Pick<Entry, 'kind' | 'size'>
}
export type Follower<D> = { readonly directory: D; readonly entry: Entry }
type Group<D> = { readonly state: 'pending'; readonly waiting: Follower<D>[] } | { readonly state: 'ready'; readonly leader: Leader<D> }
type Link = NonNullable<Entry['link']>

const keyOf = (link: Link): string => `${link.volume}:${link.inode}`

export class LinkGroups<D> {
  readonly #groups = new Map<string, Group<D>>()

  /** The group as it was found; `first` for the name that found none and now leads it. */
  join(link: Link): Group<D> | { readonly state: 'first' } {
    const group = this.#groups.get(keyOf(link))
    if (group !== undefined) return group
    this.#groups.set(keyOf(link), { state: 'pending', waiting: [] })
    return { state: 'first' }
  }

  /** The first name stands. Gives those that waited for it. */
  ready(link: Link, leader: Leader<D>): Follower<D>[] {
    const group = this.#groups.get(keyOf(link))
    this.#groups.set(keyOf(link), { state: 'ready', leader })
    return group?.state === 'pending' ? group.waiting : []
  }

  /** The first name cannot be used. Gives the name that now leads the group; without one the next to join leads. */
  promote(link: Link): Follower<D> | undefined {
    const group = this.#groups.get(keyOf(link))
    if (group?.state !== 'pending') return undefined
    const next = group.waiting.shift()
    if (next === undefined) this.#groups.delete(keyOf(link))
    return next
  }
}
