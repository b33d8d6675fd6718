// The decision about a deletion list: is every name on it explained by the policies' retention, or by the controller's approval, and does nothing
// that stays need it? Pure: the list, what the store shows and the server's books go in, one answer comes out. Promise: a pack that a kept
// snapshot needs by its statement is never explained, whatever the list says and whoever approves.
import type { CollectionList, DeletableKind, DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { refKey, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { LOCAL_SOURCE } from '@holdfast/shared/protocol/common.ts'
import type { DeletionCode } from '@holdfast/shared/protocol/deletions.ts'
import { DELETION_CODES } from '@holdfast/shared/protocol/deletions.ts'
import { stillSatisfied, TIMES_DISAGREE_MS, type RetainedSnapshot, type RetentionRules } from '@holdfast/shared/retention.ts'
import type { KnownAgent, KnownSnapshot, NeedInterval } from '../records/records.ts'
import type { DeletionReason } from '../records/rows.ts'
import { goneSnapshots } from './gone.ts'

/** A list as the store holds it. `isTrusted`: signed by an active agent of the store's controller. */
export type StoredList = { readonly list: CollectionList; readonly storedAt: number; readonly isTrusted: boolean }
export type DeletionStored = StoredList & { readonly list: Extract<CollectionList, { kind: 'deletion' }> }

export type StoreFacts = {
  /** By the store's clock. */
  readonly now: number
  /** All collection lists that are there, by `refKey`. */
  readonly lists: ReadonlyMap<string, StoredList>
  /** Lists that are there and cannot be read. */
  readonly unreadable: readonly string[]
  /** Snapshot objects that are there: session and storage time by the random part of the name. */
  readonly snapshots: ReadonlyMap<string, { readonly session: string; readonly storedAt: number }>
  /** Objects of the kinds that the list names beside packs and snapshots, by `kind refKey`: all that are there. */
  readonly others: ReadonlyMap<string, OtherObject>
  /** How many packs there are; 0 where the list names no index file and no condemned list. */
  readonly packs: number
  /** Those packs that are there and that a condemned list among the names condemned, by `refKey`. */
  readonly condemnedThere: ReadonlySet<string>
}
export type OtherObject = { readonly storedAt: number; readonly bytes: number }

/** `stepMs`: the longest time between two runs that the policy makes due. */
export type SourceRules = { readonly retention: RetentionRules; readonly stepMs: number }

export type Books = {
  readonly snapshots: readonly KnownSnapshot[]
  /** Written and replaced before anybody was told, and the agents that say so. */
  readonly replaced: ReadonlyMap<string, ReadonlySet<string>>
  /** Those of them that the controller, by an approval, let count as replaced whoever may have made them. */
  readonly settled: ReadonlySet<string>
  /** All agents of the store's controller. */
  readonly agents: readonly KnownAgent[]
  /** What was stated about the packs that the list names, and about all of the sessions that it names. */
  readonly needs: readonly NeedInterval[]
  /** How many packs the last snapshot needs that was stated of each series; nothing where the list names no index file. */
  readonly stands: readonly { readonly snapshotId: string; readonly packs: number }[]
  /** The retention in force for a source of an agent in this store; undefined where everything stays. */
  readonly rulesOf: (agentId: string, source: string) => SourceRules | undefined
  /** Since when an agent tells that it forgot a snapshot, and when it told so last, by this server's clock: `agent snapshot`. */
  readonly forgotten: ReadonlyMap<string, { readonly since: number; readonly heardAt: number }>
  /** Since when the store was seen without a snapshot at every look, by this server's clock. */
  readonly absent: ReadonlyMap<string, number>
}

export type Explanation =
  /** `settled`: told of as replaced, perhaps made by another agent, there when the list came; the approval lets them count as replaced from now on. */
  | { readonly kind: 'explained'; readonly why: 'retention' | 'approval'; readonly settled: readonly string[] }
  | { readonly kind: 'held'; readonly reasons: readonly DeletionReason[] }
  /** Nothing but the undelete window is in the way, until then by the store's clock. */
  | { readonly kind: 'waiting'; readonly until: number; readonly reasons: readonly DeletionReason[] }

/** What carries no data, such as replaced index files, waits so long: until nobody is at work with a listing that lacks its successor. */
export const WAIT_MS = 86_400_000
/** What an index file says of a pack at least: its name and size, one segment, one blob. */
const INDEX_BYTES_PER_PACK = 144
/** How far the clocks of store, server and agent may be apart. */
export const SLACK_MS = 2 * 3_600_000
const SAMPLES = 5

/** The key of `StoreFacts.others`. */
export function otherKey(kind: DeletableKind, ref: { session: string; random: string }): string {
  return `${kind} ${refKey(ref)}`
}

export function explainDeletion(
  asked: DeletionStored,
  store: StoreFacts,
  books: Books,
  options: {
    readonly undeleteMs: number
    readonly isApproved: boolean
    /** It was explained before, and a snapshot that it names and that is not there is one that was deleted by it. */
    readonly hasBegun: boolean
    /** By the server's clock. */
    readonly now: number
  },
): Explanation {
  const found = new Map<DeletionCode, { count: number; samples: string[] }>()
  const say = (code: DeletionCode, sample: string): void => {
    const known = found.get(code) ?? { count: 0, samples: [] }
    found.set(code, known)
    known.count += 1
    if (known.samples.length < SAMPLES) known.samples.push(sample)
  }
  let until = 0
  const wait = (since: number, sample: string, waitMs = options.undeleteMs, now = store.now): void => {
    if (since + waitMs <= now) return
    until = Math.max(until, since + waitMs)
    say('too-early', sample)
  }
  const names = byKind(asked.list.names)

  // What agents told is counted by the server's clock, everything else by the store's. In hours, so that a look that sees the same tells it once.
  const apart = options.now - store.now
  if (Math.abs(apart) > SLACK_MS) say('clocks-disagree', `${Math.round(apart / 3_600_000)} h`)
  for (const name of store.unreadable) say('unreadable', name)
  if (!asked.isTrusted) say('signer', refKey(asked.list.ref))
  const relied = reliedLists(asked, store, say, wait)
  // By the random part alone it would be another one for whoever took it back.
  for (const { session, random } of names.snapshot)
    if ((store.snapshots.get(random)?.session ?? session) !== session) say('in-use', refKey({ session, random }))
  for (const name of takenBackFrom(asked, store)) say('revived', name)
  for (const name of takenBackSnapshots(names.snapshot, store, books, options.undeleteMs)) say('revived', name)
  explainForgotten(names.snapshot, store, books, options, say, wait)
  const unknown = explainUnknown(names, store, books, say)
  const kept = explainSnapshots(names.snapshot, store, books, options, say, wait)
  explainPacks(names.pack, relied, store, say)
  explainNeeds(names, kept, store, books, say)
  explainOthers(asked, names, kept, store, books, say, (since, sample, waitMs) =>
    wait(since, sample, Math.min(waitMs ?? Infinity, options.undeleteMs)),
  )

  const reasons = [...found].map(([code, { count, samples }]) => ({ code, count, samples }))
  const open = reasons.filter(({ code }) => !(options.isApproved && DELETION_CODES[code].settled))
  if (open.length === 0) {
    const settled = unknown.filter((id) => books.replaced.has(id) && store.snapshots.get(id)!.storedAt <= asked.storedAt)
    return { kind: 'explained', why: reasons.length === 0 ? 'retention' : 'approval', settled }
  }
  if (open.every(({ code }) => code === 'too-early')) return { kind: 'waiting', until, reasons: open }
  return { kind: 'held', reasons: open }
}

type Say = (code: DeletionCode, sample: string) => void
type Wait = (since: number, sample: string, waitMs?: number, now?: number) => void
type Condemned = Extract<CollectionList, { kind: 'condemned' }>
type Relied = { readonly list: Condemned; readonly storedAt: number }
type Names = Readonly<Record<DeletableKind, readonly DeletableName[]>>

function byKind(all: readonly DeletableName[]): Names {
  const names: Record<DeletableKind, DeletableName[]> = { session: [], pack: [], index: [], snapshot: [], list: [], forget: [], end: [] }
  for (const name of all) names[name.kind].push(name)
  return names
}

/** The lists that condemned what is named: there, signed by somebody to be trusted, and older than the undelete window. */
function reliedLists(asked: DeletionStored, store: StoreFacts, say: Say, wait: Wait): readonly Relied[] {
  return asked.list.lists.flatMap((ref) => {
    const stored = store.lists.get(refKey(ref))
    if (stored?.list.kind !== 'condemned') {
      say('list-missing', refKey(ref))
      return []
    }
    if (!stored.isTrusted) say('signer', refKey(ref))
    wait(stored.storedAt, refKey(ref))
    return [{ list: stored.list, storedAt: stored.storedAt }]
  })
}

/**
 * Each snapshot named was forgotten before the undelete window began: its agent told so, or, where that is not known (the agent was revoked, the books are
 * a copy), a list that condemned did not count it any more and none after it did. Else a thief could end the window of whatever retention lets go today,
 * and what was forgotten, taken back and forgotten again would have no window of its own.
 */
function explainForgotten(
  names: readonly DeletableName[],
  store: StoreFacts,
  books: Books,
  { undeleteMs, now }: { readonly undeleteMs: number; readonly now: number },
  say: Say,
  wait: Wait,
): void {
  const owner = new Map(books.snapshots.map(({ id, agentId }) => [id, agentId]))
  const condemning = [...store.lists.values()].flatMap(({ list, storedAt, isTrusted }) =>
    list.kind === 'condemned' && isTrusted ? [{ storedAt, kept: new Set(list.kept.map(({ random }) => random)) }] : [],
  )
  for (const { random: id } of names) {
    const object = store.snapshots.get(id)
    if (object === undefined) continue
    const counted = Math.max(-1, ...condemning.flatMap(({ storedAt, kept }) => (kept.has(id) ? [storedAt] : [])))
    const told = books.forgotten.get(`${owner.get(id) ?? ''} ${id}`)
    if (told !== undefined) {
      // This server's clock may have stood in the past when it was told: what a later list still counts is not forgotten before that.
      wait(Math.max(told.since, counted - SLACK_MS), id, undeleteMs, now)
      continue
    }
    const since = Math.min(
      ...condemning.flatMap(({ storedAt, kept }) => (storedAt >= object.storedAt && storedAt > counted && !kept.has(id) ? [storedAt] : [])),
    )
    if (since === Infinity) say('not-forgotten', id)
    else wait(since, id)
  }
}

/** Each snapshot named must be one that retention lets go. The answer is what stays. */
function explainSnapshots(
  names: readonly DeletableName[],
  store: StoreFacts,
  books: Books,
  { undeleteMs, hasBegun, now }: { readonly undeleteMs: number; readonly hasBegun: boolean; readonly now: number },
  say: Say,
  wait: Wait,
): readonly KnownSnapshot[] {
  const named = new Set(names.map(({ random }) => random))
  const isThere = (id: string): boolean => store.snapshots.has(id)
  const gone = goneSnapshots(books, { isThere, before: now - Math.max(undeleteMs, WAIT_MS) })
  const living = books.snapshots.filter((one) => !one.deleted && !gone.has(one))
  for (const id of new Set(living.flatMap((one) => (one.contested && named.has(one.id) ? [one.id] : [])))) say('contested', id)
  const bySeries = new Map<string, KnownSnapshot[]>()
  for (const snapshot of living) {
    const key = `${snapshot.agentId} ${snapshot.series}`
    const members = bySeries.get(key)
    if (members === undefined) bySeries.set(key, [snapshot])
    else members.push(snapshot)
  }
  for (const members of bySeries.values()) {
    const going = members.filter(({ id }) => named.has(id) && (store.snapshots.has(id) || !hasBegun))
    if (going.length === 0) continue
    const rules = rulesOfSeries(members, books)
    if (rules === undefined) for (const { id } of going) say('no-retention', id)
    const dated = members.map(({ id, witnessedAt, claimedAt }) => ({ id, at: store.snapshots.get(id)?.storedAt ?? witnessedAt, claimedAt }))
    for (const { id, at, claimedAt } of dated)
      if (named.has(id) && claimedAt !== null && Math.abs(at - claimedAt) > TIMES_DISAGREE_MS) say('times-disagree', id)
    // What is not in the store keeps no promise, whatever was reported.
    const staying = new Set(members.flatMap(({ id }) => (named.has(id) || !store.snapshots.has(id) ? [] : [id])))
    if (staying.size === 0) say('last-one', members[0]!.series ?? '')
    else if (rules !== undefined) {
      const all = dated.map(({ id, at }) => ({ id, at }))
      const { ok, missing } = stillSatisfied(all, staying, rules.retention, store.now, SLACK_MS)
      for (const promise of missing) say('retention', promise)
      if (ok) wait(letGoAt(all, staying, rules.retention, store.now - undeleteMs, store.now) - SLACK_MS, going.at(-1)!.id)
      explainCrowding(all, named, staying, rules, say, wait)
    }
  }
  return living.filter(({ id }) => !named.has(id))
}

/**
 * Since when retention lets go what does not stay, `from` at the earliest. A thief may tell early what is forgotten and condemn what it needs; the window
 * begins all the same with what takes its place in the rules.
 */
function letGoAt(
  all: readonly RetainedSnapshot[],
  staying: ReadonlySet<string>,
  retention: RetentionRules,
  from: number,
  now: number,
): number {
  const isLetGo = (at: number): boolean => {
    const there = all.filter((one) => one.at <= at)
    return stillSatisfied(there, staying, retention, at, SLACK_MS).ok
  }
  // The slack of the clocks is the agent's that selected by its own.
  const start = from + SLACK_MS
  if (isLetGo(start)) return start
  const ends = (retention.withinDays ?? 0) > 0 ? all.map(({ at }) => at + retention.withinDays! * 86_400_000 + SLACK_MS + 1) : []
  const times = [...all.map(({ at }) => at), ...ends].filter((at) => at > start && at < now).sort((a, b) => a - b)
  let [low, high] = [0, times.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isLetGo(times[middle]!)) high = middle
    else low = middle + 1
  }
  return times[low] ?? now
}

/**
 * A snapshot in the store that no books know needs nobody knows what: nothing that may be its is taken. That is the snapshot itself, its session, and any
 * pack. A list of other snapshots takes nothing of it. The answer is those that stand in the way.
 */
function explainUnknown(names: Names, store: StoreFacts, books: Books, say: Say): readonly string[] {
  const known = new Set(books.snapshots.map(({ id }) => id))
  const named = new Set(names.snapshot.map(({ random }) => random))
  const sessions = new Set([...names.session, ...names.end].map(({ session }) => session))
  const found: string[] = []
  for (const [id, { storedAt, session }] of store.snapshots) {
    if (known.has(id) || isReplaced(id, storedAt, books)) continue
    if (names.pack.length === 0 && !named.has(id) && !sessions.has(session)) continue
    say('unknown-snapshot', id)
    found.push(id)
  }
  return found
}

/**
 * Whether an agent says that it replaced this one, and no other can have made it: each was heard from a day after it was stored, which is time enough to
 * tell of it, or had been revoked before. One that lies in a drawer, or was revoked later, may have made it, and only a person can know: what the
 * controller let go once is not asked about again.
 */
function isReplaced(id: string, storedAt: number, { replaced, settled, agents }: Books): boolean {
  const by = replaced.get(id)
  if (by === undefined) return false
  if (settled.has(id)) return true
  return agents.every(
    (agent) =>
      by.has(agent.id) || agent.heardAt >= storedAt + WAIT_MS || (agent.revokedAt !== null && agent.revokedAt + SLACK_MS <= storedAt),
  )
}

/**
 * `last` counts snapshots, and a thief of an appliance may add any number in a minute. So one that goes must have as many newer ones that stay as
 * `last` says, half a step of the policy apart at least, and the undelete window begins with the one that filled the last place: what came faster
 * takes nothing from what was there that time would not have taken.
 */
function explainCrowding(
  all: readonly RetainedSnapshot[],
  named: ReadonlySet<string>,
  staying: ReadonlySet<string>,
  { retention: { last = 0 }, stepMs }: SourceRules,
  say: Say,
  wait: Wait,
): void {
  if (last === 0) return
  const newestFirst = all.filter(({ id }) => staying.has(id)).sort((a, b) => b.at - a.at)
  for (const { id, at } of all.filter((one) => named.has(one.id))) {
    const places: number[] = []
    for (const newer of newestFirst.filter((one) => one.at >= at).reverse())
      if (places.length < last && newer.at >= (places.at(-1) ?? -Infinity) + stepMs / 2) places.push(newer.at)
    if (places.length < last) say('crowded-out', id)
    else wait(places.at(-1)!, id)
  }
}

/**
 * One series is one source of one agent; a snapshot whose report was lost has its source from another one, and so has what a person backed up by hand
 * before the source had its name. Where two are named somebody lies, and no rules say what goes.
 */
function rulesOfSeries(members: readonly KnownSnapshot[], books: Books): SourceRules | undefined {
  const named = new Set(members.flatMap(({ source }) => (source === null ? [] : [source])))
  if (named.size > 1) named.delete(LOCAL_SOURCE)
  const [source] = named
  return source === undefined || named.size > 1 ? undefined : books.rulesOf(members[0]!.agentId, source)
}

/** What was taken back from the list itself after it was stored, whoever signed the list that takes back. */
function takenBackFrom({ list: { ref, names } }: DeletionStored, { lists }: StoreFacts): string[] {
  const back = new Set<string>()
  for (const { list } of lists.values())
    if (list.kind === 'revived')
      for (const { list: from, packs } of list.from) if (refKey(from) === refKey(ref)) for (const name of packs) back.add(refKey(name))
  return names.flatMap((name) => (back.has(refKey(name)) ? [refKey(name)] : []))
}

/**
 * Snapshots that count again by the word of whoever took them back, and of which no agent has told since then that they are forgotten. That word has the
 * time of the store, the agent's the server's: what was told first within the slack of it counts as told later only where it is told still a day after,
 * when an agent that forgot it before has seen that it was taken back. What is told still a whole window and a day after was taken back in vain: whoever
 * did so died before the snapshot counted again, or had no say in it.
 */
function takenBackSnapshots(names: readonly DeletableName[], { lists }: StoreFacts, books: Books, undeleteMs: number): string[] {
  const backAt = new Map<string, number>()
  for (const { list, storedAt } of lists.values())
    if (list.kind === 'revived')
      for (const { list: snapshot } of list.from) backAt.set(refKey(snapshot), Math.max(storedAt, backAt.get(refKey(snapshot)) ?? 0))
  const owner = new Map(books.snapshots.map(({ id, agentId }) => [id, agentId]))
  return names.flatMap((name) => {
    const at = backAt.get(refKey(name))
    const told = books.forgotten.get(`${owner.get(name.random) ?? ''} ${name.random}`)
    if (at === undefined) return []
    const isLater = told !== undefined && told.since > at + (told.heardAt > at + WAIT_MS ? -SLACK_MS : SLACK_MS)
    const isInVain = told !== undefined && told.heardAt > at + undeleteMs + WAIT_MS
    return isLater || isInVain ? [] : [refKey(name)]
  })
}

/** Each pack named must be condemned by a list relied on, and not taken back from it, whoever signed the list that takes back. */
function explainPacks(names: readonly DeletableName[], relied: readonly Relied[], store: StoreFacts, say: Say): void {
  const revived = new Map<string, Set<string>>()
  for (const { list } of store.lists.values()) {
    if (list.kind !== 'revived') continue
    for (const { list: from, packs } of list.from) {
      const known = revived.get(refKey(from)) ?? new Set()
      revived.set(refKey(from), known)
      for (const pack of packs) known.add(refKey(pack))
    }
  }
  const isCondemned = new Map<string, boolean>()
  for (const { list } of relied) {
    const back = revived.get(refKey(list.ref))
    for (const pack of list.packs) {
      const key = refKey(pack)
      if (back?.has(key) !== true) isCondemned.set(key, true)
      else if (!isCondemned.has(key)) isCondemned.set(key, false)
    }
  }
  for (const name of names) {
    const state = isCondemned.get(refKey(name))
    if (state !== true) say(state === undefined ? 'not-condemned' : 'revived', refKey(name))
  }
}

/** What stays must need none of the packs named, and nothing of the sessions named, by what its agents stated. */
function explainNeeds(names: Names, kept: readonly KnownSnapshot[], store: StoreFacts, books: Books, say: Say): void {
  if (names.pack.length > 0) for (const { id, sequence } of kept) if (sequence === null) say('unstated', id)
  const isNeeded = neededBy(kept)
  const packs = new Set(names.pack.map(refKey))
  const sessions = new Set([...names.session, ...names.end].map(({ session }) => session))
  const told = new Set<string>()
  for (const interval of books.needs) {
    const key = `${interval.pack.slice(0, 32)}-${interval.pack.slice(32)}`
    if (told.has(key) || !(packs.has(key) || sessions.has(interval.pack.slice(0, 32))) || !isNeeded(interval)) continue
    told.add(key)
    say(packs.has(key) ? 'needed' : 'in-use', key)
  }
  const staying = new Set(kept.map(({ id }) => id))
  for (const [id, { session }] of store.snapshots) if (staying.has(id) && sessions.has(session)) say('in-use', session)
}

/** Whether one of the snapshots needs the pack of an interval, by what was stated of its series. */
export function neededBy(kept: readonly KnownSnapshot[]): (interval: NeedInterval) => boolean {
  const sequences = new Map<string, number[]>()
  for (const { series, sequence } of kept) {
    if (series === null || sequence === null) continue
    const known = sequences.get(series)
    if (known === undefined) sequences.set(series, [sequence])
    else known.push(sequence)
  }
  for (const known of sequences.values()) known.sort((a, b) => a - b)
  return ({ series, first, last }) => {
    const next = firstFrom(sequences.get(series) ?? [], first)
    return next !== undefined && (last === null || next <= last)
  }
}

/** The first of the ascending `numbers` that is at least `from`. */
function firstFrom(numbers: readonly number[], from: number): number | undefined {
  let [low, high] = [0, numbers.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (numbers[middle]! < from) low = middle + 1
    else high = middle
  }
  return numbers[low]
}

/**
 * Index files, sessions, lists and the like: older than a day, and nothing that stays rests on them. Whose they are and what they say, the server cannot
 * see; so what a newer one must say too before it may go has a newer one that stays, and records of what was forgotten go only after a whole undelete
 * window since the list that names them came.
 */
function explainOthers(
  asked: DeletionStored,
  names: Names,
  kept: readonly KnownSnapshot[],
  store: StoreFacts,
  books: Books,
  say: Say,
  wait: Wait,
): void {
  for (const kind of ['session', 'index', 'list', 'forget', 'end'] as const)
    for (const name of names[kind]) {
      const stored = store.others.get(otherKey(kind, name))
      if (stored === undefined) continue
      const sample = `${kind} ${refKey(name)}`
      if (kind === 'forget') wait(Math.max(asked.storedAt, stored.storedAt), sample)
      else wait(stored.storedAt, sample, WAIT_MS)
    }
  for (const kind of ['index', 'forget'] as const) {
    const going = new Set(names[kind].map((name) => otherKey(kind, name)))
    const staying = [...store.others].flatMap(([key, { storedAt }]) => (key.startsWith(`${kind} `) && !going.has(key) ? [storedAt] : []))
    const newest = Math.max(-Infinity, ...staying)
    for (const key of going) {
      const stored = store.others.get(key)
      if (stored !== undefined && stored.storedAt > newest && (kind === 'forget' || kept.length > 0)) say('in-use', key)
    }
  }
  if (names.index.length > 0 && kept.length > 0) {
    const going = new Set(names.index.map((name) => otherKey('index', name)))
    const left = [...store.others].reduce((sum, [key, { bytes }]) => (key.startsWith('index ') && !going.has(key) ? sum + bytes : sum), 0)
    const stay = new Set(kept.flatMap(({ id }) => (store.snapshots.has(id) ? [id] : [])))
    const needed = Math.max(0, ...books.stands.flatMap(({ snapshotId, packs }) => (stay.has(snapshotId) ? [packs] : [])))
    // They can be made again from the packs, but until then a restore would have to read all of their footers.
    if (left < Math.min(needed, store.packs) * INDEX_BYTES_PER_PACK) say('in-use', `${going.size} index files`)
  }
  const going = new Set(names.list.map(refKey))
  for (const name of names.list) {
    const list = store.lists.get(refKey(name))?.list
    // A list that takes back protects as long as what it takes back from is there: a list, or the snapshot itself.
    const isThere = (from: ObjectRef): boolean =>
      (store.lists.has(refKey(from)) && !going.has(refKey(from))) || store.snapshots.get(from.random)?.session === from.session
    if (list?.kind === 'revived' && list.from.some(({ list: from }) => isThere(from))) say('in-use', refKey(name))
    // One that condemns keeps writers from what may go at any time.
    if (list?.kind === 'condemned' && list.packs.some((pack) => store.condemnedThere.has(refKey(pack)))) say('in-use', refKey(name))
  }
}
