// What a store shows about deletions: its collection lists, and the listings that the decision needs. The server reads with the credentials that
// may delete there and has no key of the domain: lists stand open, everything else counts by its name and its time.
import { decodeCollectionList, type DeletableKind, type DeletableName } from '@holdfast/shared/format/collection-list.ts'
import {
  endName,
  LIMITS,
  LISTS_PREFIX,
  objectName,
  packName,
  parseObjectName,
  parseSessionName,
  readHeader,
  refKey,
  sessionName,
  type ObjectRef,
} from '@holdfast/shared/format/layout.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo, ObjectName, Store } from '@holdfast/shared/store/store.ts'
import type { AgentRow } from '../records/rows.ts'
import { otherKey, type DeletionStored, type OtherObject, type StoredList, type StoreFacts } from './explain.ts'

export const FORGETS_PREFIX = `${LISTS_PREFIX}forgets/`

/** A list that was read: also who signed it, where that is an agent of the controller. */
export type ReadList = StoredList & { readonly agentId: string | null }

/** The names of the collection lists that are there, without forget records, which only the domain's own can read. */
export async function listNames(store: Store, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
  return (await listed(store, LISTS_PREFIX, signal)).filter(
    ({ name }) => !name.startsWith(FORGETS_PREFIX) && parseObjectName(name) !== undefined,
  )
}

/** Reads one list; undefined where it cannot be read. Rejects where the store does not answer. */
export async function readList(
  store: Store,
  info: ObjectInfo,
  agents: readonly AgentRow[],
  signal?: AbortSignal,
): Promise<ReadList | undefined> {
  const ref = parseObjectName(info.name)
  if (ref === undefined) throw new HoldfastError('failed', `${info.name} is no collection list`)
  try {
    const object = await store.get(info.name, { limitBytes: LIMITS.listBytes, signal })
    // The domain is whose the signing agent is; a list of another domain is signed by none of this controller's.
    const { domainId } = readHeader(object, { type: 'list', what: `collection list ${ref.random}` })
    const { list, writerKey } = decodeCollectionList(object, ref, domainId)
    const agent = agents.find(({ id }) => id === `ag_${list.writerId.toString('hex')}`)
    const isAgents = agent !== undefined && agent.publicKey.equals(writerKey)
    return { list, storedAt: info.storedAt, isTrusted: isAgents && agent.state === 'active', agentId: isAgents ? agent.id : null }
  } catch (error) {
    if (isHoldfastError(error, 'damaged', 'newer-format', 'too-large')) return undefined
    // Whether it is gone or only hidden cannot be told, and it may take packs back: look again later.
    if (isHoldfastError(error, 'not-found'))
      throw new HoldfastError('store-unreachable', `${info.name} was listed and is not there; trying again later`, { cause: error })
    throw error
  }
}

export type ReadLists = {
  readonly lists: ReadonlyMap<string, ReadList>
  readonly unreadable: readonly string[]
  readonly names: ReadonlySet<string>
}

/** All lists that are there, and the names of those that cannot be read. */
export async function readLists(store: Store, agents: readonly AgentRow[], signal?: AbortSignal): Promise<ReadLists> {
  const lists = new Map<string, ReadList>()
  const unreadable: string[] = []
  const infos = await listNames(store, signal)
  for (const info of infos) {
    const read = await readList(store, info, agents, signal)
    if (read !== undefined) lists.set(refKey(read.list.ref), read)
    else unreadable.push(info.name)
  }
  return { lists, unreadable, names: new Set(infos.map(({ name }) => name)) }
}

/** What the decision about `asked` needs to see. Rejects with `store-unsuitable` where the store does not tell its time. */
export async function storeFacts(store: Store, asked: DeletionStored, read: ReadLists, signal?: AbortSignal): Promise<StoreFacts> {
  const now = await store.diagnostics?.now({ signal })
  if (now === undefined)
    throw new HoldfastError(
      'store-unsuitable',
      `${store.location} does not tell its time, so no wait can be measured; nothing is deleted there`,
    )
  const snapshots = new Map<string, { session: string; storedAt: number }>()
  for (const { name, storedAt } of await listed(store, 'snapshots/', signal)) {
    const ref = parseObjectName(name)
    // Whoever stores another object of the same random part later changes neither whose session nor which time the first has.
    if (ref !== undefined && storedAt < (snapshots.get(ref.random)?.storedAt ?? Infinity))
      snapshots.set(ref.random, { session: ref.session, storedAt })
  }
  const others = new Map<string, OtherObject>()
  const kinds = new Set<DeletableKind>(asked.list.names.map(({ kind }) => kind))
  for (const [kind, prefix] of OTHERS) {
    if (!kinds.has(kind)) continue
    for (const { name, storedAt, bytes } of await listed(store, prefix, signal)) {
      const ref = refOf(kind, name)
      if (ref !== undefined) others.set(otherKey(kind, ref), { storedAt, bytes })
    }
  }
  const condemned = new Set<string>()
  for (const name of asked.list.names) {
    const list = name.kind === 'list' ? read.lists.get(refKey(name))?.list : undefined
    if (list?.kind === 'condemned') for (const pack of list.packs) condemned.add(refKey(pack))
  }
  const condemnedThere = new Set<string>()
  let packs = 0
  if (condemned.size > 0 || kinds.has('index'))
    for await (const page of store.list('packs/', { signal }))
      for (const { name } of page) {
        const ref = parseObjectName(name)
        if (ref === undefined) continue
        packs += 1
        if (condemned.has(refKey(ref))) condemnedThere.add(refKey(ref))
      }
  return { now, lists: read.lists, unreadable: read.unreadable, snapshots, others, packs, condemnedThere }
}

const OTHERS = [
  ['session', 'sessions/'],
  ['index', 'index/'],
  ['end', 'ends/'],
  ['list', LISTS_PREFIX],
  ['forget', FORGETS_PREFIX],
] as const satisfies readonly (readonly [DeletableKind, string])[]

const NO_RANDOM = '0'.repeat(32)

function refOf(kind: DeletableKind, name: ObjectName): ObjectRef | undefined {
  if (kind === 'session' || kind === 'end') {
    const session = parseSessionName(name)
    return session === undefined ? undefined : { session, random: NO_RANDOM }
  }
  return kind === 'list' && name.startsWith(FORGETS_PREFIX) ? undefined : parseObjectName(name)
}

/** The object that a deletion names. */
export function nameOf({ kind, session, random }: DeletableName): ObjectName {
  if (kind === 'session') return sessionName(session)
  if (kind === 'end') return endName(session)
  return kind === 'pack' ? packName({ session, random }) : objectName(kind, { session, random })
}

async function listed(store: Store, prefix: string, signal: AbortSignal | undefined): Promise<ObjectInfo[]> {
  const all: ObjectInfo[] = []
  for await (const page of store.list(prefix, { signal })) all.push(...page)
  return all
}
