// Which snapshots of a server's books the store has lost for good. Nobody tells the server of what the root removes, or of what a server removed that died
// over it or whose database is an older copy: counted for ever, they would hold for good what is to go.
import type { KnownSnapshot } from '../records/records.ts'

/** A listing may be short once, and there are looks only while lists are open: what is absent was seen so at least as often as this. */
export const LOOKS_GAP_MS = 5 * 86_400_000

/** Since when a store is seen without snapshots; without those that were seen so too long ago to know of the time between. */
export function absentSince(
  absent: readonly { readonly id: string; readonly since: number; readonly seenAt: number }[],
  now: number,
): ReadonlyMap<string, number> {
  return new Map(absent.flatMap(({ id, since, seenAt }) => (seenAt + LOOKS_GAP_MS < now ? [] : [[id, since] as const])))
}

/**
 * Snapshots that the store has been seen without since `before`: somebody else removed them who may, or a server that died over it, and nobody tells of it.
 * Only where a later one of the series is there, or was until this server deleted it, and none has the same place in it: else a store may hide one that no
 * run and no collection ever saw. Where two agents say that they made one, each word counts by itself.
 */
export function goneSnapshots(
  { snapshots, absent }: { readonly snapshots: readonly KnownSnapshot[]; readonly absent: ReadonlyMap<string, number> },
  { isThere, before }: { readonly isThere: (id: string) => boolean; readonly before: number },
): ReadonlySet<KnownSnapshot> {
  const places = new Map<string, number>()
  const newest = new Map<string, number>()
  const seriesOf = ({ agentId, series }: KnownSnapshot): string => `${agentId} ${series}`
  for (const one of snapshots) {
    const place = `${seriesOf(one)} ${one.sequence}`
    places.set(place, (places.get(place) ?? 0) + 1)
    if (one.deleted || isThere(one.id)) newest.set(seriesOf(one), Math.max(one.sequence ?? 0, newest.get(seriesOf(one)) ?? 0))
  }
  const isGone = (one: KnownSnapshot): boolean =>
    !isThere(one.id) &&
    (absent.get(one.id) ?? Infinity) <= before &&
    one.sequence !== null &&
    one.sequence < (newest.get(seriesOf(one)) ?? 0) &&
    places.get(`${seriesOf(one)} ${one.sequence}`) === 1
  return new Set(snapshots.filter(isGone))
}
