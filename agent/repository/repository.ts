// An open repository: its description, who may write, its snapshots and its view. Reads and creates whole objects by name; what is in packs
// is for pack-reader.ts, what a run writes for agent/backup.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { signBody, verifyBody } from '@holdfast/shared/format/signed-body.ts'
import { ROOT_WRITER_ID } from '../keys/domain.ts'
import type { StructureKeys, WriteKeys, Writer } from '../keys/keys.ts'
import { acceptsWriter, entryOf, latestRoster, parseRosterBody, type Roster } from '../keys/roster.ts'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { decodeIndexFile, type IndexFile } from './index-file.ts'
import {
  encodeHeader,
  LIMITS,
  LISTS_PREFIX,
  refKey,
  OBJECT_TYPE,
  type ObjectRef,
  objectName,
  parseObjectName,
  readHeader,
} from '@holdfast/shared/format/layout.ts'
import { decodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import {
  type CollectionState,
  collectionState,
  forgottenEntry,
  type Forgotten,
  type LoadedForget,
  type LoadedList,
  type RefusedObject,
} from './collection-state.ts'
import { readObject } from './read-object.ts'
import { decodeForgetRecord } from './forget-record.ts'
import { entriesOfUnopened } from './given-up.ts'
import { findLost, type LostDescription } from './lost-description.ts'
import { decodeSnapshot, inOrder, type OpenedSnapshot } from './snapshot.ts'
import { openBox } from './structure-box.ts'
import type { ObjectCache } from './object-cache.ts'
import { createView, type View, withoutForeignReplaces } from './view.ts'

export const REPOSITORY_OBJECT = 'repository'
const DESCRIPTION_READ_MAX = 4096
const DESCRIPTION_BYTES = 32 + 8 + 1 + 12 + 1 + 32 + 64

export type Chunking = { readonly mode: 'gear' | 'fixed'; readonly min: number; readonly mean: number; readonly max: number }
export const DEFAULT_CHUNKING: Chunking = { mode: 'gear', min: 512 * 1024, mean: 1024 * 1024, max: 4 * 1024 * 1024 }

export type Description = {
  readonly domainId: Buffer
  readonly createdAt: number
  readonly chunking: Chunking
  /** The keys of an enrolled domain are with the controller, not in the store. */
  readonly enrolled: boolean
  readonly signPublicKey: Buffer
  /** Set where the object is missing (`not-found`) or damaged, and this is what is assumed in its place: enough to read with, not to write. */
  readonly trouble?: HoldfastError
}

export function encodeDescription(description: Description, signer: Pick<Writer, 'sign'>): Buffer {
  const { chunking } = description
  const out = new ByteWriter().raw(encodeHeader('repository', description.domainId, 0)).u64(description.createdAt)
  out
    .u8(chunking.mode === 'gear' ? 1 : 2)
    .u32(chunking.min)
    .u32(chunking.mean)
    .u32(chunking.max)
  out.u8(description.enrolled ? 1 : 0).raw(description.signPublicKey)
  return Buffer.concat([out.view(), signBody(signer, OBJECT_TYPE.repository, description.domainId, out.view())])
}

/** Parses a description and checks that whoever holds the key in it signed it. That the key is the right one is for `openRepository`. */
export function decodeDescription(object: Buffer): Description & { readonly trouble?: undefined } {
  const what = 'the repository description'
  const { domainId } = readHeader(object, { type: 'repository', what })
  const reader = new ByteReader(object, what)
  if (object.length !== DESCRIPTION_BYTES) throw reader.refuse('it has the wrong length')
  reader.raw(32)
  const createdAt = reader.u64()
  const mode = reader.u8()
  if (mode !== 1 && mode !== 2) throw reader.refuse(`chunking ${mode} does not exist`)
  const [min, mean, max] = [reader.u32(), reader.u32(), reader.u32()]
  if (min === 0 || min > mean || mean > max || max > LIMITS.chunkBytes || (mode === 2 && min !== max))
    throw reader.refuse('its chunk sizes cannot be')
  const flags = reader.u8()
  if (flags > 1) throw reader.refuse('it has flags that do not exist')
  const signPublicKey = reader.raw(32)
  const signature = reader.raw(64)
  reader.end()
  if (!verifyBody(signPublicKey, OBJECT_TYPE.repository, domainId, object.subarray(0, DESCRIPTION_BYTES - 64), signature))
    throw reader.refuse('its signature does not fit')
  return { domainId, createdAt, chunking: { mode: mode === 1 ? 'gear' : 'fixed', min, mean, max }, enrolled: flags === 1, signPublicKey }
}

/**
 * Reads the description without any key: what `init` refuses on and what unlocking starts from. Throws `no-repository`, and `damaged` where there is
 * one whose description is missing or damaged.
 */
export async function readDescription(store: Store, signal?: AbortSignal): Promise<Description> {
  const found = await findDescription(store, signal)
  if (found.trouble !== undefined) throw lostError(store, found.trouble)
  return found
}

/** The description, or what the other objects say where it is missing or damaged. Throws `no-repository` where there is nothing to read. */
export async function findDescription(
  store: Store,
  signal?: AbortSignal,
): Promise<(Description & { readonly trouble?: undefined }) | LostDescription> {
  try {
    return decodeDescription(await store.get(REPOSITORY_OBJECT, { limitBytes: DESCRIPTION_READ_MAX, signal }))
  } catch (error) {
    if (!isHoldfastError(error, 'not-found', 'damaged', 'too-large')) throw error
    const lost = await findLost(store, error, signal)
    if (lost !== undefined) return lost
    if (error.code !== 'not-found') throw error
    throw new HoldfastError(
      'no-repository',
      `there is no repository at ${store.location}: check the location, or make one with 'holdfast init'`,
      { cause: error },
    )
  }
}

/** What is said of a repository whose description is missing or damaged, to whoever needs it. */
export function lostError({ location }: Store, trouble: HoldfastError): HoldfastError {
  const message =
    trouble.code === 'not-found'
      ? `the object 'repository' is missing at ${location}; all else can be read without it, and 'holdfast repair' with the root writes it anew`
      : `the object 'repository' at ${location} is damaged; all else can be read without it. Move it away, and 'holdfast repair' with the root writes it anew`
  return new HoldfastError('damaged', message, { cause: trouble })
}

/** What is assumed in place of a lost description. The chunk sizes are those of `init`: they cost deduplication where they are others. */
export function assumedDescription(lost: LostDescription, keys: StructureKeys): Description {
  return { ...lost, createdAt: 0, chunking: DEFAULT_CHUNKING, signPublicKey: keys.signPublicKey }
}

export type SnapshotListing = {
  /** Those that count, oldest first. */
  readonly snapshots: readonly OpenedSnapshot[]
  /** Those that are still there and no longer count, by a forget record; their bytes may be gone. */
  readonly forgotten: readonly OpenedSnapshot[]
  /** Objects that are listed but damaged or signed by nobody we know: named, never taken for absent. */
  readonly refused: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Those that do not open and no longer count either, by the entries of who may speak of them. */
  readonly givenUp: readonly (ObjectRef & { readonly entries: readonly Forgotten[] })[]
}

export type Repository = {
  readonly store: Store
  readonly description: Description
  readonly keys: StructureKeys
  /** Throws `damaged` where `writerKey` is not a writer of this domain; a revoked one counts for what the store had before, at `storedAt`.
   * `writerId` is the one that the object names: it must be the key's. */
  readonly requireWriter: (writerKey: Buffer, what: string, storedAt?: number, writerId?: Buffer) => void
  readonly roster: Roster | undefined
  /** Rosters that do not open. Whom they name is named by another, or what those wrote is refused: nobody reads less for want of them unnoticed. */
  readonly refusedRosters: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Keeps a copy of an object that this run has just stored, so that the next one need not fetch it. */
  readonly remember: (name: string, object: Buffer) => void
  /** Index files that count, opened and checked; one that does not open is in `refused`. */
  readonly loadView: (signal?: AbortSignal) => Promise<{ view: View; refused: { name: string; error: HoldfastError }[] }>
  readonly loadIndexFile: (ref: ObjectRef & { info?: ObjectInfo }, signal?: AbortSignal) => Promise<{ file: IndexFile; writerKey: Buffer }>
  /** Snapshots that count, and those that do not; `collection` is what was loaded before, or it is loaded now. */
  readonly listSnapshots: (signal?: AbortSignal, collection?: CollectionState) => Promise<SnapshotListing>
  /**
   * Collection lists and forget records, by one listing. One that does not open is in `refused` and says nothing. `onTime` is told of the store's clock
   * with each page of the listing.
   */
  readonly loadCollection: (signal?: AbortSignal, onTime?: (storeMs: number) => void) => Promise<CollectionState>
}

/** All objects under a prefix whose names this product made. */
export async function listRefs(
  store: Pick<Store, 'list'>,
  prefix: string,
  signal?: AbortSignal,
  onTime?: (storeMs: number) => void,
): Promise<(ObjectRef & { info: ObjectInfo })[]> {
  const refs: (ObjectRef & { info: ObjectInfo })[] = []
  for await (const page of store.list(prefix, { signal, onTime }))
    for (const info of page) {
      const ref = parseObjectName(info.name)
      if (ref !== undefined) refs.push({ ...ref, info })
    }
  return refs
}

/** Runs `work` over `items`, at most `width` at a time, results in the order of the items. */
export async function mapBounded<T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = Array.from({ length: items.length })
  let next = 0
  const lane = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!)
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane))
  return results
}

/**
 * Opens a repository with the structure keys of its domain. Throws `no-repository`, `newer-format`, and `wrong-key` where the description is of
 * another domain or signed by another key.
 */
export async function openRepository(options: {
  store: Store
  keys: StructureKeys
  cache?: ObjectCache | undefined
  description?: Description
  signal?: AbortSignal | undefined
}): Promise<Repository> {
  const { store, keys, cache } = options
  const description = options.description ?? (await readDescription(store, options.signal))
  if (!description.domainId.equals(keys.domainId) || !description.signPublicKey.equals(keys.signPublicKey))
    throw new HoldfastError('wrong-key', `the repository at ${store.location} belongs to another domain than the keys at hand`)
  const { roster, refused: refusedRosters } = await loadRosters(store, keys, options.signal)

  const requireWriter = (writerKey: Buffer, what: string, storedAt?: number, writerId?: Buffer): void => {
    const id = writerKey.equals(keys.rootWriterKey) ? ROOT_WRITER_ID : entryOf(roster, writerKey)?.writerId
    if (writerId !== undefined && id !== undefined && !id.equals(writerId))
      throw new HoldfastError('damaged', `${what} names another writer than the one that signed it; it is not used`)
    if (!acceptsWriter(roster, keys.rootWriterKey, writerKey, storedAt))
      throw new HoldfastError('damaged', `${what} is signed by a writer that is not on the domain's roster; it is not used`)
  }

  /** A copy that opens serves as well as the object; one that does not is as if it were not there. */
  const load = async <T>(
    name: string,
    info: ObjectInfo | undefined,
    limitBytes: number,
    open: (object: Buffer) => T,
    signal?: AbortSignal,
  ): Promise<T> => {
    const copy = info === undefined ? undefined : cache?.get(name, info.bytes)
    if (copy !== undefined) {
      try {
        return open(copy)
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'newer-format')) throw error
      }
    }
    const object = await readObject(store, name, limitBytes, signal)
    const opened = open(object)
    cache?.put(name, object)
    return opened
  }

  const loadIndexFile = (ref: ObjectRef & { info?: ObjectInfo }, signal?: AbortSignal): Promise<{ file: IndexFile; writerKey: Buffer }> => {
    const open = (object: Buffer): { file: IndexFile; writerKey: Buffer } => {
      const opened = decodeIndexFile(object, ref, keys)
      requireWriter(opened.writerKey, `index file ${ref.random}`, ref.info?.storedAt)
      return opened
    }
    return load(objectName('index', ref), ref.info, LIMITS.indexBytes, open, signal)
  }

  const loadCollection = async (signal?: AbortSignal, onTime?: (storeMs: number) => void): Promise<CollectionState> => {
    const refs = await listRefs(store, LISTS_PREFIX, signal, onTime)
    cache?.keep(LISTS_PREFIX, new Set(refs.map(({ info }) => info.name)))
    const refused: RefusedObject[] = []
    const lists: LoadedList[] = []
    const forgets: LoadedForget[] = []
    await mapBounded(refs, 4, async (ref) => {
      const { name, storedAt } = ref.info
      const kind = name === objectName('forget', ref) ? 'forget' : 'list'
      let isForeign = false
      try {
        if (kind === 'forget') {
          const open = (object: Buffer): LoadedForget => {
            const { record, writerKey } = decodeForgetRecord(object, ref, keys)
            isForeign = true
            requireWriter(writerKey, name, storedAt, record.writerId)
            return { record, storedAt }
          }
          forgets.push(await loadTwice(name, ref.info, LIMITS.forgetBytes, open, signal))
        } else {
          const open = (object: Buffer): LoadedList => {
            const { list, writerKey } = decodeCollectionList(object, ref, keys.domainId)
            isForeign = true
            requireWriter(writerKey, name, storedAt, list.writerId)
            return { list, storedAt }
          }
          lists.push(await loadTwice(name, ref.info, LIMITS.listBytes, open, signal))
        }
      } catch (error) {
        if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
        refused.push({ kind, ref: { session: ref.session, random: ref.random }, name, error, isForeign })
      }
    })
    // In one order, whichever answer came first.
    lists.sort((a, b) => (refKey(a.list.ref) < refKey(b.list.ref) ? -1 : 1))
    forgets.sort((a, b) => (refKey(a.record.ref) < refKey(b.record.ref) ? -1 : 1))
    return collectionState({ lists, forgets, refused })
  }

  /** Asks again before a list is called damaged: what a writer does not know to be condemned it would rely on. */
  const loadTwice = async <T>(
    name: string,
    info: ObjectInfo,
    limitBytes: number,
    open: (object: Buffer) => T,
    signal?: AbortSignal,
  ): Promise<T> => {
    try {
      return await load(name, info, limitBytes, open, signal)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged')) throw error
      return load(name, info, limitBytes, open, signal)
    }
  }

  return {
    store,
    description,
    keys,
    roster,
    refusedRosters,
    requireWriter,
    loadIndexFile,
    loadCollection,
    remember: (name, object) => cache?.put(name, object),
    loadView: async (signal) => {
      const refs = await listRefs(store, 'index/', signal)
      cache?.keep('index/', new Set(refs.map((ref) => objectName('index', ref))))
      const refused: { name: string; error: HoldfastError }[] = []
      const files = await mapBounded(refs, 4, async (ref) => {
        try {
          return (await loadIndexFile(ref, signal)).file
        } catch (error) {
          // An index file is a cache of footers: a bad one is reported and passed over, never taken for an empty repository.
          if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
          refused.push({ name: ref.info.name, error })
          return undefined
        }
      })
      const opened = files.filter((file) => file !== undefined)
      const view = createView(withoutForeignReplaces(opened, keys.rootWriterKey))
      // One that a repair replaced has been told of, and nothing rests on it any more.
      const replaced = new Set(view.files.flatMap((file) => file.replaces.map((ref) => objectName('index', ref))))
      return { view, refused: refused.filter(({ name }) => !replaced.has(name)) }
    },
    listSnapshots: async (signal, collection) => {
      const state = collection ?? (await loadCollection(signal))
      const refs = await listRefs(store, 'snapshots/', signal)
      cache?.keep('snapshots/', new Set(refs.map((ref) => objectName('snapshot', ref))))
      const unopened: { ref: ObjectRef; name: string; error: HoldfastError }[] = []
      const snapshots = await mapBounded(refs, 8, async (ref) => {
        try {
          const open = (object: Buffer): OpenedSnapshot => {
            const snapshot = decodeSnapshot(object, ref, keys)
            requireWriter(snapshot.writerKey, `snapshot ${ref.random.slice(0, 16)}`, ref.info.storedAt, snapshot.structure.writerId)
            return snapshot
          }
          return await load(objectName('snapshot', ref), ref.info, LIMITS.snapshotBytes, open, signal)
        } catch (error) {
          if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
          unopened.push({ ref, name: ref.info.name, error })
          return undefined
        }
      })
      const opened = inOrder(snapshots.filter((snapshot) => snapshot !== undefined))
      const isForgotten = ({ structure }: OpenedSnapshot): boolean => forgottenEntry(state, structure.ref, structure.writerId) !== undefined
      const refused: { name: string; error: HoldfastError }[] = []
      const givenUp: (ObjectRef & { entries: readonly Forgotten[] })[] = []
      for (const { ref, name, error } of unopened) {
        const { entries, writerId } = await entriesOfUnopened({ store, keys, requireWriter }, state, ref, signal)
        // One that was forgotten is no news, nor one that was deleted on record since the listing, with its session.
        if (entries.length > 0) givenUp.push({ session: ref.session, random: ref.random, entries })
        else if (writerId !== undefined || !state.forgotten.has(refKey(ref)) || error.code !== 'not-found') refused.push({ name, error })
      }
      return { snapshots: opened.filter((one) => !isForgotten(one)), forgotten: opened.filter(isForgotten), refused, givenUp }
    },
  }
}

async function loadRosters(
  store: Store,
  keys: StructureKeys,
  signal?: AbortSignal,
): Promise<{ roster: Roster | undefined; refused: { name: string; error: HoldfastError }[] }> {
  const rosters: Roster[] = []
  const refused: { name: string; error: HoldfastError }[] = []
  for (const ref of await listRefs(store, 'rosters/', signal)) {
    const what = `roster ${ref.random}`
    try {
      const object = await readObject(store, objectName('roster', ref), LIMITS.objectBytes, signal)
      rosters.push(parseRosterBody(openBox({ type: 'roster', keys, object, what }), keys, what))
    } catch (error) {
      // A roster that is forged, damaged or of a later format names nobody; the ones that open count. Writers it would have named are refused by name later.
      if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
      refused.push({ name: ref.info.name, error })
    }
  }
  return { roster: latestRoster(rosters), refused }
}

/** Creates the description; throws `already-exists` where there is a repository, changing nothing. */
export async function createRepository(options: {
  store: Store
  keys: WriteKeys
  signer: Pick<Writer, 'sign'>
  chunking: Chunking
  enrolled: boolean
  now: number
}): Promise<Description> {
  const { store, keys, signer } = options
  const existing = await store.head(REPOSITORY_OBJECT)
  const taken = (): HoldfastError =>
    new HoldfastError('already-exists', `there is a repository at ${store.location} already; nothing was changed`)
  if (existing !== undefined) throw taken()
  const description: Description = {
    domainId: keys.structure.domainId,
    createdAt: options.now,
    chunking: options.chunking,
    enrolled: options.enrolled,
    signPublicKey: keys.structure.signPublicKey,
  }
  const object = encodeDescription(description, signer)
  await store.put(REPOSITORY_OBJECT, { kind: 'bytes', bytes: object })
  const stored = await store.get(REPOSITORY_OBJECT, { limitBytes: DESCRIPTION_READ_MAX })
  if (!stored.equals(object)) throw taken()
  return description
}
