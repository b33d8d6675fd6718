// Makes index files true again. Footers are the truth about what a pack holds, and reading a pack says which of its segments are still what was
// stored; where index files say something else, or do not open, new ones are written that say what is so and replace them. From then on writers take
// what is damaged for absent, so that the next backup stores it again from its source, and readers no longer meet it first.
//
// What it promises: it removes nothing, changes no object, and touches no snapshot; what could be restored before can be restored after, and at every
// moment between (a replaced index file stays a reader's last resort); what could not be read changes nothing; run again after any interruption it
// goes on. New index files come first, and the last one of them alone replaces: until it stands, all that was said before still counts.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { newSession, storeSession } from '../backup/session.ts'
import { IndexClaims } from '../check/claims.ts'
import { isGapless } from '../check/examine-pack.ts'
import { Holdings, knownSegments } from '../check/holdings.ts'
import { type MissingSnapshot, missingSnapshots } from '../check/history.ts'
import { findLosses, type Losses } from '../check/loss.ts'
import type { ReadKeys, WriteKeys } from '../keys/keys.ts'
import { type RefusedObject, requireKnownFormat } from '../repository/collection-state.ts'
import { sessionWriter } from '../repository/given-up.ts'
import { readFooter, viewFromFooters } from '../repository/footer-reader.ts'
import { encodeIndexFile, INDEX_MAX_BLOBS, type IndexFile, type PackInIndex } from '../repository/index-file.ts'
import { deletedOnRecord, unopenedRecords } from '../collection/deletion.ts'
import { isUnfinished, reliedOn } from '../collection/unfinished.ts'
import { LIMITS, objectName, type ObjectRef, packName, refKey } from '@holdfast/shared/format/layout.ts'
import type { FooterSegment } from '../repository/pack.ts'
import { listRefs, mapBounded, type Repository } from '../repository/repository.ts'
import { createView, type View, withoutForeignReplaces } from '../repository/view.ts'
import { type IndexPlan, planIndex, type RefusedIndex, type RepairNote } from './index-plan.ts'
import { deletedLook, goneLook, lookAtPack, type LookOptions, type PackLook, type PackRef, unreadLook } from './pack-look.ts'
import { requireRosters } from './writers.ts'

export type { RepairNote } from './index-plan.ts'

export type RepairReport = {
  /** What was found, and what was done about it. */
  readonly notes: readonly RepairNote[]
  readonly packs: number
  readonly bytesRead: number
  /** Index files that say more than there is, or do not open, and are replaced. */
  readonly replaced: number
  /** Packs of which the new index files tell. */
  readonly packsIndexed: number
  readonly indexFilesWritten: number
  /** Segments that no index file names any more because they are damaged or gone. */
  readonly segmentsWrittenOff: number
  /** Packs and index files that could not be looked at: for them nothing was changed. */
  readonly unread: number
  /** What only another writer or the root can put right. */
  readonly leftToOthers: number
  readonly snapshots: number
  /** Snapshots that no longer count and are still there. */
  readonly forgotten: number
  /** Collection lists and forget records that do not open. */
  readonly recordsRefused: readonly RefusedObject[]
  /** Snapshot objects that do not open. */
  readonly snapshotsRefused: readonly { readonly name: string; readonly error: HoldfastError }[]
  /** Snapshots that are gone without a record of it, or of which that could not be told. */
  readonly snapshotsMissing: readonly MissingSnapshot[]
  /** What the snapshots lose, with the index as it is now. */
  readonly losses: Losses
}

export type RepairProgress = {
  readonly phase: 'packs' | 'index' | 'snapshots'
  readonly done: number
  readonly total: number
  readonly bytes: number
}

export type RepairOptions = {
  readonly repository: Repository
  readonly keys: WriteKeys
  /** The root's: names what is lost, and looks into packs whose footer is gone. With them everybody's index files are put right, without them only
   * one's own: what a writer signs it trusts later. */
  readonly read?: ReadKeys | undefined
  /** Packs that are read whole: all, or those whose random parts are named because a check found them damaged. Every footer is read in any case. */
  readonly readData: 'all' | ReadonlySet<string>
  /** Says all of it and writes nothing. */
  readonly dryRun: boolean
  readonly random: Random
  /** Milliseconds since 1970. */
  readonly now: number
  readonly signal: AbortSignal
  readonly onProgress?: (progress: RepairProgress) => void
}

const AT_ONCE = 4
const PACKS_PER_FILE = 4096
const NO_HASH = Buffer.alloc(32)

/**
 * Throws what the store says where it cannot be listed or written to, `cancelled`, and `damaged` where a roster does not open. Two repairs at once are
 * harmless: each says what is so.
 */
export async function repairRepository(options: RepairOptions): Promise<RepairReport> {
  const { repository, signal, keys, read } = options
  const before = await repository.loadCollection(signal)
  requireRosters(repository, before)
  requireKnownFormat(before)
  const index = await openIndex(options)
  let bytesRead = 0
  const view = createView(index.files)
  const doubts = new Holdings(view)
  const looks = await lookAtPacks(options, () => bytesRead, {
    repository,
    view,
    doubted: (random) => doubts.isDoubted(random),
    claims: view.files.map((file) => new IndexClaims(file)),
    read,
    signal,
    onRead: (bytes) => {
      bytesRead += bytes
    },
  })
  const plan = planIndex({
    looks,
    refused: index.refused,
    mayReplace: (file) => read !== undefined || file.writerKey.equals(keys.writer.publicKey),
    mayIndex: (writerId) => read !== undefined || writerId.equals(keys.writer.id),
    complete: index.unread.length === 0,
  })
  const indexFilesWritten = plan.work && !options.dryRun ? await writeIndex(options, plan) : 0
  const collection = await repository.loadCollection(signal)
  const { snapshots, forgotten, refused } = await repository.listSnapshots(signal, collection)
  const storedAt = new Map((await listRefs(repository.store, 'snapshots/', signal)).map((ref) => [refKey(ref), ref.info.storedAt]))
  const listed = new Set(storedAt.keys())
  return {
    notes: [...index.unread, ...plan.notes],
    packs: looks.filter(({ state }) => state !== 'gone').length,
    bytesRead,
    replaced: plan.replaces.length,
    packsIndexed: plan.packs.length,
    indexFilesWritten,
    segmentsWrittenOff: plan.segmentsWrittenOff,
    unread: index.unread.length + looks.filter(({ state }) => state === 'unread').length,
    leftToOthers: plan.leftToOthers,
    snapshots: snapshots.length + refused.length,
    forgotten: forgotten.length,
    recordsRefused: unopenedRecords(collection),
    snapshotsRefused: refused,
    snapshotsMissing: await missingSnapshots(repository, { state: collection, present: [...snapshots, ...forgotten], listed }, signal),
    losses: await findLosses({
      repository,
      snapshots,
      ...(await holdingsOf(options, view, looks)),
      reliedOn: (snapshot) => reliedOn(collection, snapshot),
      isUnfinished: (snapshot, lacking) => isUnfinished(collection, snapshot, storedAt.get(refKey(snapshot.structure.ref)) ?? 0, lacking),
      keys: read,
      signal,
      onProgress: (done, total) => options.onProgress?.({ phase: 'snapshots', done, total, bytes: bytesRead }),
    }),
  }
}

type OpenedIndex = {
  readonly files: readonly IndexFile[]
  readonly refused: readonly RefusedIndex[]
  readonly unread: readonly RepairNote[]
}

async function openIndex({ repository, read, keys, signal }: RepairOptions): Promise<OpenedIndex> {
  const opened: IndexFile[] = []
  const bad: { ref: ObjectRef; error: HoldfastError }[] = []
  const unread: RepairNote[] = []
  await mapBounded(await listRefs(repository.store, 'index/', signal), AT_ONCE, async (ref) => {
    const open = (): Promise<{ file: IndexFile }> => repository.loadIndexFile(ref, signal)
    try {
      // Twice before it is called damaged: a bit that flips on the way is no damage.
      const { file } = await open().catch((error: unknown) => {
        if (!isHoldfastError(error, 'damaged')) throw error
        return open()
      })
      opened.push(file)
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      const { code, message } = error
      if (code === 'damaged' || code === 'too-large') bad.push({ ref, error })
      else unread.push({ object: ref.info.name, verdict: 'unknown', code, message })
    }
  })
  const files = withoutForeignReplaces(opened, repository.keys.rootWriterKey)
  const replaced = new Set(createView(files).files.flatMap((file) => file.replaces.map((ref) => objectName('index', ref))))
  const refused: RefusedIndex[] = []
  for (const { ref, error } of bad) {
    if (replaced.has(objectName('index', ref))) continue
    // An appliance replaces what was its own; whose a file was that does not open, its session tells.
    const isMine = read !== undefined || (await sessionWriter(repository, ref.session, signal))?.equals(keys.writer.id) === true
    refused.push({ ref, error, mayReplace: isMine })
  }
  return { files, refused, unread }
}

/** Looks at every pack that is listed or named by an index file that counts. */
async function lookAtPacks(options: RepairOptions, bytesRead: () => number, look: LookOptions): Promise<readonly PackLook[]> {
  const { repository, signal, readData } = options
  const refs = new Map<string, PackRef>()
  for (const ref of await listRefs(repository.store, 'packs/', signal)) refs.set(ref.random, { ...ref, bytes: ref.info.bytes })
  const looks: PackLook[] = []
  const naming = (random: string): readonly IndexClaims[] => look.claims.filter((claims) => claims.names(random))
  for (const row of look.view.packs()) {
    if (refs.has(row.random)) continue
    // A listing is a hint: what it lacks is asked for by name before it is called gone.
    try {
      const info = await repository.store.head(packName(row), { signal })
      if (info === undefined) looks.push(goneLook(row, naming(row.random)))
      else refs.set(row.random, { session: row.session, random: row.random, bytes: info.bytes, info })
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      looks.push(unreadLook(row, naming(row.random), error))
    }
  }
  let done = 0
  const all = await mapBounded([...refs.values()], AT_ONCE, async (ref) => {
    const seen = await lookAtPack(look, ref, readData === 'all' || readData.has(ref.random))
    options.onProgress?.({ phase: 'packs', done: (done += 1), total: refs.size, bytes: bytesRead() })
    return seen
  })
  return withDeleted(repository, [...looks, ...all], signal)
}

/** Tells the packs that a collection deleted from those that are missing. Asked last: what was deleted before somebody looked was on record by then. */
async function withDeleted(repository: Repository, looks: readonly PackLook[], signal: AbortSignal): Promise<readonly PackLook[]> {
  if (looks.every(({ state }) => state !== 'gone')) return looks
  const collection = await repository.loadCollection(signal)
  const deleted = deletedOnRecord(collection)
  // One that was taken back and went all the same is missing: writers would count on it.
  const revived = new Set(
    collection.revivedLists.flatMap(({ list }) => list.from.flatMap(({ packs }) => packs.map(({ random }) => random))),
  )
  const isOnRecord = ({ ref }: PackLook): boolean =>
    collection.condemned.has(ref.random) || (deleted.has(packName(ref)) && !revived.has(ref.random))
  return looks.map((look) => (look.state === 'gone' && isOnRecord(look) ? deletedLook(look) : look))
}

/** Writes the index files of a plan, and gives their number. */
async function writeIndex(options: RepairOptions, plan: IndexPlan): Promise<number> {
  const { repository, keys, random, signal } = options
  const session = newSession(keys, random, Math.floor(options.now))
  await storeSession(repository.store, session, keys, signal)
  let written = 0
  const write = async (packs: readonly PackInIndex[], replaces: readonly ObjectRef[]): Promise<ObjectRef> => {
    const ref = { session: session.id, random: random.bytes(16).toString('hex') }
    const object = encodeIndexFile({ ref, replaces, packs }, keys.structure, keys.writer)
    const name = objectName('index', ref)
    await repository.store.put(name, { kind: 'bytes', bytes: object }, { signal })
    // Read back before anything is replaced: a store that loses what it has confirmed must not lose the index with it.
    const stored = await repository.store.get(name, { limitBytes: LIMITS.indexBytes, signal })
    if (!stored.equals(object))
      throw new HoldfastError(
        'store-unsuitable',
        `the store does not give back index file ${name} as it was put; nothing was replaced: 'holdfast doctor' tries the store out`,
      )
    written += 1
    options.onProgress?.({ phase: 'index', done: written, total: written, bytes: 0 })
    return ref
  }
  /** Writes all that fits in as many files as it takes, but the last one, which is given back. */
  const writeAll = async (
    looks: readonly PackLook[],
    tell: (look: PackLook) => Promise<PackInIndex[]>,
  ): Promise<[PackInIndex[], ObjectRef[]]> => {
    const toldOf = async (look: PackLook): Promise<PackInIndex[]> => {
      try {
        return await tell(look)
      } catch (error) {
        // A collection may have deleted it since it was looked at; then there is nothing to tell.
        if (!isHoldfastError(error, 'not-found')) throw error
        if (!deletedOnRecord(await repository.loadCollection(signal)).has(packName(look.ref))) throw error
        return []
      }
    }
    const refs: ObjectRef[] = []
    let group: PackInIndex[] = []
    let blobs = 0
    for (const look of looks)
      for (const pack of await toldOf(look)) {
        const more = pack.footer.segments.reduce((sum, segment) => sum + segment.blobs.length, 0)
        if (group.length >= PACKS_PER_FILE || (group.length > 0 && blobs + more > INDEX_MAX_BLOBS)) {
          refs.push(await write(group, []))
          group = []
          blobs = 0
        }
        group.push(pack)
        blobs += more
      }
    return [group, refs]
  }
  const [hints, hintRefs] = await writeAll(plan.hints, async ({ ref }) => [await readFooter(repository, ref, ref.bytes, signal)])
  if (hints.length > 0) hintRefs.push(await write(hints, []))
  const [last] = await writeAll(plan.packs, (look) => packsInIndex(options, plan, look))
  await write(last, [...plan.replaces, ...hintRefs])
  return written
}

/** What a new index file says of a pack: its good segments by its footer, or what the replaced files say where there is none to read. */
async function packsInIndex({ repository, signal }: RepairOptions, plan: IndexPlan, look: PackLook): Promise<PackInIndex[]> {
  const { ref } = look
  if (look.state === 'sound') {
    const { footer, bytes } = await readFooter(repository, ref, ref.bytes, signal)
    return [{ footer: { ...footer, segments: footer.segments.filter(({ offset }) => !look.bad.has(offset)) }, bytes }]
  }
  // Named with no segment at all, it is known to be worth nothing, and nobody looks for a footer in it again.
  if (look.state === 'footerless') return [{ footer: look.footer, bytes: ref.bytes }]
  const row = { session: ref.session, random: ref.random }
  const done = new Set<number>()
  return look.naming.flatMap(({ claims }): PackInIndex[] => {
    if (!plan.replaced.includes(claims)) return []
    const segments: FooterSegment[] = []
    for (const ordinal of claims.segmentsOf(ref.random)) {
      const segment = claims.file.segment(ordinal)
      const told = claims.blobsOf(ordinal)
      if (done.has(segment.offset) || !isGapless(told, segment.plainBytes)) continue
      done.add(segment.offset)
      segments.push({ ...segment, sealedHash: NO_HASH, blobs: told.map(({ id, bytes }) => ({ id, bytes })) })
    }
    return [{ footer: { ref: row, writerId: Buffer.alloc(16), sessions: claims.file.sessions, segments }, bytes: ref.bytes }]
  })
}

/** What can be had, for the account of what is lost: all that index files and footers tell of, less what was found damaged. */
async function holdingsOf(
  { repository, signal }: RepairOptions,
  view: View,
  looks: readonly PackLook[],
): Promise<{ holdings: Holdings; widen: () => Promise<void> }> {
  const holdings = new Holdings(view)
  for (const look of looks) {
    const { random, bytes } = look.ref
    if (look.state === 'gone') holdings.trouble.set(random, { kind: 'gone' })
    else if (look.state === 'unread') holdings.trouble.set(random, { kind: 'unread', error: look.error })
    else if (look.state === 'footerless')
      holdings.trouble.set(random, { kind: 'footerless', bytes, segments: look.opened ? knownSegments(look.footer) : undefined })
    else if (look.footer !== undefined) holdings.trouble.set(random, { kind: 'told-wrong', segments: knownSegments(look.footer, look.bad) })
  }
  // Every pack that is listed was looked at; of these only replaced index files tell.
  const looked = new Set(looks.map(({ ref }) => ref.random))
  for (const row of holdings.writtenOff()) {
    if (looked.has(row.random)) continue
    try {
      if ((await repository.store.head(packName(row), { signal })) === undefined) holdings.trouble.set(row.random, { kind: 'gone' })
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      holdings.trouble.set(row.random, { kind: 'unread', error })
    }
  }
  let widened = false
  const widen = async (): Promise<void> => {
    if (widened) return
    widened = true
    try {
      const footers = await viewFromFooters(repository, signal)
      holdings.widen(createView([...view.files, ...view.lastResort, ...footers.view.files]))
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      holdings.unreadable = true
    }
  }
  return { holdings, widen }
}
