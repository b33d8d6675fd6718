// SNAPSHOT on a command line: an id, a prefix that no other shares, or `latest`.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Repository, SnapshotListing } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { shownText } from './byte-text.ts'
import type { Context } from './context.ts'

/** Snapshots that are damaged or signed by nobody known are named as problems, never passed over in silence. */
export function sayRefused(context: Context, listing: SnapshotListing): void {
  for (const { name, error } of listing.refused)
    context.report.say({ event: 'problem', path: name, code: error.code, message: error.message })
}

/** Throws `not-found` where none is meant, or one that is forgotten, `usage` where the prefix is of several, `damaged` where a snapshot that may be the latest does not open. */
export async function chooseSnapshot(context: Context, repository: Repository, text: string): Promise<OpenedSnapshot> {
  const wanted = text.toLowerCase()
  if (wanted !== 'latest' && !/^[0-9a-f]{1,32}$/.test(wanted))
    throw new HoldfastError('usage', `'${shownText(text)}' is no snapshot: give an id, the beginning of one, or 'latest'`)
  const listing = await repository.listSnapshots(context.signal)
  const { snapshots } = listing
  if (wanted === 'latest') {
    sayRefused(context, listing)
    // One that does not open may be the latest: an older one in its place would bring old files back as if they were the last.
    const unopened = listing.refused.length
    if (unopened > 0)
      throw new HoldfastError(
        'damaged',
        `which snapshot is the latest cannot be told: ${unopened} of them ${unopened === 1 ? 'does' : 'do'} not open; name one by its id (holdfast snapshots)`,
      )
    const latest = snapshots.at(-1)
    if (latest === undefined)
      throw new HoldfastError(
        'not-found',
        listing.forgotten.length === 0
          ? `there is no snapshot at ${repository.store.location} yet`
          : `no snapshot counts at ${repository.store.location}, as all are forgotten: 'holdfast undelete' lists those that can be taken back`,
      )
    return latest
  }
  const found = snapshots.filter(({ structure }) => structure.ref.random.startsWith(wanted))
  const [first] = found
  if (first === undefined) {
    const damaged = listing.refused.find(({ name }) => name.split('-').at(-1)?.startsWith(wanted) === true)
    if (damaged !== undefined) throw damaged.error
    const forgotten = listing.forgotten.find(({ structure }) => structure.ref.random.startsWith(wanted))
    if (forgotten !== undefined) {
      const id = forgotten.structure.ref.random.slice(0, 12)
      throw new HoldfastError(
        'not-found',
        `snapshot ${id} is forgotten: 'holdfast undelete ${id}' makes it count again, where all of it is still there`,
      )
    }
    throw new HoldfastError('not-found', `there is no snapshot ${wanted} at ${repository.store.location}; 'holdfast snapshots' lists them`)
  }
  if (found.length > 1)
    throw new HoldfastError(
      'usage',
      `${found.length} snapshots begin with ${wanted} (${found
        .slice(0, 4)
        .map(({ structure }) => structure.ref.random.slice(0, 12))
        .join(', ')}${found.length > 4 ? ', …' : ''}); give more of the id`,
    )
  return first
}

/** The newest snapshot of each series, and how many do not open: each of those may be the newest of some series, and is said as a problem. */
export async function newestOfEach(
  context: Context,
  repository: Repository,
): Promise<{ newest: readonly OpenedSnapshot[]; unopened: number }> {
  const listing = await repository.listSnapshots(context.signal)
  sayRefused(context, listing)
  // Listed in order of their beginning.
  const newest = new Map(listing.snapshots.map((snapshot) => [snapshot.structure.series.toString('hex'), snapshot]))
  return { newest: [...newest.values()], unopened: listing.refused.length }
}
