// One backup run, in the order of design sections 5 and 7: register the session, take over what an interrupted run left, read the source, packs, index
// files, snapshot; each durable before the next is begun. Nothing here opens what another run sealed.
import { counted, HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { type Descriptor, FileError } from '../file-system/file-system.ts'
import { blake3, blake3Hash } from '../repository/blake3.ts'
import { decodeFooter, type PackFooter } from '../repository/pack.ts'
import { type ObjectRef, objectName } from '@holdfast/shared/format/layout.ts'
import { createTokens, encodeSnapshot, type OpenedSnapshot, type SnapshotStructure } from '../repository/snapshot.ts'
import { SEGMENT_KIND } from '../repository/segment.ts'
import { createCompressor } from '../repository/zstd.ts'
import { isStillSaid } from '../repository/view.ts'
import { loadWholeView } from '../repository/whole-view.ts'
import { type AtEnd, createAtEnd } from './at-end.ts'
import type { BackupLimits, BackupOptions, BackupResult, BackupSummary } from './backup-types.ts'
import { type DurablePack, storeIndexFiles } from './index-files.ts'
import { createKnownIds, FIRST_SEGMENT, type KnownIds } from './known-ids.ts'
import { release } from '../repository/release.ts'
import { SEGMENTS_PER_WORKER } from './file-worker.ts'
import { createListWatch, endWithoutSnapshot, lookAtLists } from './list-watch.ts'
import { createLongRun } from './long-run.ts'
import { readLeftovers, wholeNodes } from './leftovers.ts'
import { type ClosedPack, countBlobs, createPackSpool } from './pack-spool.ts'
import { readBackObject, readBackPacks, spoiltPacks } from './read-back.ts'
import { type ReadSource, readSource } from './read-source.ts'
import { createProgress } from './run-progress.ts'
import { lookAtSeries, rememberedSequence, rememberSequence } from './series.ts'
import { newSession, type Session, storeSession } from './session.ts'
import { lockState, openStateDirectory } from './state-lock.ts'
import { createTransmissions } from './transmissions.ts'
import { createTreeSegments } from './tree-segments.ts'
import { type CacheReader, createCache, namesHasher, openCache } from './unchanged-cache.ts'
import { isAbsent } from '../file-system/small-file.ts'
import { createUploader, footerName } from './uploader.ts'
import { fillKnownIds } from './view-ids.ts'
import { inPlacePool, threadPool, type WorkerPool } from './worker-pool.ts'

export const DEFAULT_LIMITS: BackupLimits = {
  workers: 2,
  uploadsAtOnce: 2,
  compressionLevel: 3,
  packBytes: 16 * 1024 * 1024,
  segmentBytes: 1024 * 1024,
  spoolBytes: 512 * 1024 * 1024,
}
const NO_HASH = Buffer.alloc(32)
/** More often in a row no collection can get in the way of one run. */
const ATTEMPTS_MAX = 8
/** A machine that slept for weeks may do so once more; where it goes on, a clock is wrong. */
const LATE_MAX = 3
/** A run shorter than this does not look at its series twice. */
const SHORT_MS = 60_000
/** The worker number under which segments of packs that no index file names are numbered. */
const FOUND = 28

/**
 * Backs up a source. Throws before anything is committed when the store fails, the source is missing or suddenly empty, the signal aborts, or the state
 * directory cannot be used; what was uploaded by then is taken over by the next run. Files that could not be read make the outcome `incomplete`.
 */
export async function runBackup(options: BackupOptions): Promise<BackupResult> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  let late = 0
  const earlier: Session[] = []
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const result = await attemptBackup(options, limits, earlier)
    if (result !== 'late' && result !== 'overtaken') return result
    if (result === 'late' && ++late === LATE_MAX)
      throw new HoldfastError(
        'failed',
        `this run did not come to look at the lists of collections for nearly as long as they stay (thirty days) by its own clock or the store's, ${LATE_MAX} times over, so it may have missed what was deleted meanwhile; no snapshot was made. Check whether this machine sleeps for weeks, and whether its clock or the store's jumps, and run it again`,
      )
    options.onNotice?.(
      result === 'late'
        ? "by its own clock or the store's this run slept for weeks, and what it relied on may have been deleted meanwhile: it begins anew"
        : 'a collection condemned what this run relied on: it stores that again from the source',
    )
  }
  throw new HoldfastError(
    'failed',
    `a collection condemned what this run relied on, ${ATTEMPTS_MAX} times over; no snapshot was made. Run it again, and collect less often than a backup takes`,
  )
}

/** Why an attempt has to be made again: a collection condemned what it relied on, or did not look for so long that it cannot know. */
type Again = 'overtaken' | 'late'

/** One attempt in a session of its own. `earlier` are the sessions of attempts before it: they end when its snapshot stands, and it adds its own where it has to be made again. */
async function attemptBackup(options: BackupOptions, limits: BackupLimits, earlier: Session[]): Promise<BackupResult | Again> {
  const { fileSystem } = options
  const atEnd = createAtEnd(options.onNotice ?? (() => undefined))
  try {
    const state = openStateDirectory(fileSystem, options.state)
    atEnd.add(() => fileSystem.close(state))
    const spool = openStateDirectory(fileSystem, Buffer.concat([options.state, Buffer.from('/spool')]))
    atEnd.add(() => fileSystem.close(spool))
    const lock = lockState(fileSystem, state)
    atEnd.add(lock.release)
    return await run(options, limits, { state, spool, atEnd, earlier })
  } catch (error) {
    throw ofTheFamily(error, options)
  } finally {
    await atEnd.run()
  }
}

/** Errors of reading the source are handled where they arise, so a FileError that comes this far is one of the state directory. */
function ofTheFamily(error: unknown, { signal, state }: BackupOptions): unknown {
  if (error instanceof FileError)
    return new HoldfastError(
      'local-disk',
      `the state directory '${printable(state.toString())}' failed (${error.message}): check its disk and that it has room, or choose another with --state. No snapshot was made; what is uploaded is kept for the next run`,
      { cause: error },
    )
  if (signal.aborted && error === signal.reason && !isHoldfastError(error))
    return new HoldfastError('cancelled', 'the backup was cancelled; no snapshot was made, and the next run takes over what is uploaded', {
      cause: error,
    })
  return error
}

type StoredSnapshot = { readonly structure: SnapshotStructure; readonly hash: Buffer }
type Local = { readonly state: Descriptor; readonly spool: Descriptor; readonly atEnd: AtEnd; readonly earlier: Session[] }

async function run(options: BackupOptions, limits: BackupLimits, { state, spool, atEnd, earlier }: Local): Promise<BackupResult | Again> {
  const { repository, keys, source, clock, random, fileSystem, signal } = options
  const { store } = repository
  const startedAt = clock.now()
  const startedMs = clock.monotonicMs()
  const tokens = createTokens(keys.structure.recordKey)
  const series = tokens.series(keys.writer.id, source.label)
  const look = await lookAtLists(options)
  const { collection } = look
  const { previous, lastSequence } = await lookAtSeries(options, series, collection)
  const { indexed: view, refused, gone, unindexed } = await loadWholeView(repository, signal)
  for (const { error } of refused) options.onNotice?.(error.message)
  const spoilt = spoiltPacks(fileSystem, spool)
  const lists = createListWatch({ options, look, gone, spoilt, view })
  // What is lost may be worth nothing: a run that slept for weeks names packs that were collected meanwhile.
  const lacksNothing = lists.lost === 0 || (previous !== undefined && (await lists.isWhole(previous)))
  if (lists.lost > 0)
    options.onNotice?.(
      `${counted(lists.lost, 'pack is', 'packs are')} gone from the store, cut or spoilt: ${lacksNothing ? "the last snapshot needs none of them; 'holdfast check' tells what does" : 'what was in them is stored again where the source still has it'}`,
    )
  const known = createKnownIds(view.files.reduce((sum, file) => sum + file.blobCount, 0) + 100_000)
  fillKnownIds(known, view, keys.writer.publicKey, lists.absent, await lists.tainted(previous))

  const session = newSession(keys, random, Math.floor(startedAt))
  if (!options.dryRun) await storeSession(store, session, keys, signal)
  const endOf = { store, keys, clock, random, signal }
  // Packs of an attempt that were collected while it slept: its index file names them, and nobody is to take them for lost.
  const collected = new Set(
    (earlier.length === 0 ? [] : [...view.packs()]).filter(({ random }) => gone.has(random)).map((pack) => pack.session),
  )
  for (const one of earlier.filter(({ id }) => collected.has(id))) {
    await endWithoutSnapshot({ ...endOf, session: one })
    earlier.splice(earlier.indexOf(one), 1)
  }
  const meanwhile = createLongRun(options, lists)
  const newPacks: DurablePack[] = []
  const transmissions = createTransmissions((!options.dryRun && options.onTransmitted) || (() => undefined))
  const durableSegments = new Set<number>()
  let bytesStored = 0
  let packsStored = 0
  const uploader = createUploader({
    store,
    fileSystem,
    directory: spool,
    directoryPath: Buffer.concat([options.state, Buffer.from('/spool')]),
    atOnce: limits.uploadsAtOnce,
    signal,
    before: meanwhile.keepUp,
    onDurable: (pack) => {
      const { ref, bytes, blobs, footerObject } = pack
      const durable = { ref, bytes, blobs, chunks: pack.resumed ? 0 : pack.chunks, footerObject }
      newPacks.push(durable)
      meanwhile.relyOn(durable, !pack.resumed)
      for (const segment of pack.segments) durableSegments.add(segment)
      bytesStored += pack.bytes
      packsStored += 1
      transmissions.packDurable(pack)
    },
  })
  atEnd.add(uploader.stop)
  const leftovers = await readLeftovers({
    fileSystem,
    directory: spool,
    store,
    keys,
    onNotice: options.onNotice ?? (() => undefined),
    keep: options.dryRun,
    unusable: lists.unusable,
    signal,
  })
  const resumed = options.dryRun ? [] : leftovers.packs
  const footerOf = (pack: ClosedPack): PackFooter => decodeFooter(pack.footerObject, pack.ref, undefined, keys.structure).footer
  const passed = new Set([...lists.absent, ...[...leftovers.durable, ...leftovers.packs].map(({ ref }) => ref.random)])
  // Packs of this writer that no index file names count, and this run's index file names them.
  const found = unindexed.filter(({ footer }) => footer.writerId.equals(keys.writer.id) && !passed.has(footer.ref.random))
  const isWhole = wholeNodes([...leftovers.durable, ...found].map(({ footer }) => footer).concat(resumed.map(footerOf)))
  let nextFound = FOUND * SEGMENTS_PER_WORKER
  for (const { footer, footerObject, bytes } of found) {
    // Under numbers, as with the spool's: who made them may have ended before it told of a file in them.
    const segments = footer.segments.map(() => nextFound++)
    takeOver(known, footer, isWhole, (segment) => segments[segment]! + FIRST_SEGMENT)
    for (const segment of segments) durableSegments.add(segment)
    transmissions.packDurable({ segments })
    const pack = { ref: footer.ref, bytes, blobs: countBlobs(footer), chunks: 0, footerObject }
    newPacks.push(pack)
    meanwhile.relyOn(pack, false)
  }
  for (const pack of leftovers.durable) {
    // Under numbers too, though durable: the run that made it may have ended before it told of a file in it, so this one tells (again, never nobody).
    takeOver(known, pack.footer, isWhole, (segment) => pack.segments[segment]! + FIRST_SEGMENT)
    for (const segment of pack.segments) durableSegments.add(segment)
    transmissions.packDurable(pack)
    newPacks.push({ ...pack, chunks: 0 })
    meanwhile.relyOn({ ...pack, chunks: 0 }, false)
  }
  if (earlier.length > 0) await meanwhile.letHear()
  for (const pack of resumed) {
    takeOver(known, footerOf(pack), isWhole, (segment) => pack.segments[segment]! + FIRST_SEGMENT)
    uploader.push(pack)
  }
  const packsResumed = leftovers.durable.length + leftovers.packs.length

  const packs = createPackSpool({
    directory: spool,
    fileSystem,
    random,
    keys: keys.structure,
    writer: keys.writer,
    session: session.entry,
    packBytes: limits.packBytes,
    onClosed: (pack: ClosedPack) => uploader.push(pack),
  })
  atEnd.add(() => packs.abandon(atEnd.attempt))
  const handed = new Set<number>()
  const room = async (): Promise<void> => {
    await meanwhile.keepUp()
    await uploader.below(limits.spoolBytes)
  }
  const tree = createTreeSegments({
    keys,
    session,
    known,
    compressor: createCompressor(limits.compressionLevel),
    segmentBytes: limits.segmentBytes,
    onSegment: (segment) => {
      if (options.dryRun) return
      handed.add(segment.number)
      packs.add('tree', segment)
    },
  })
  let pool: WorkerPool | undefined
  const openPool = (): WorkerPool => {
    const make = limits.workers === 0 ? inPlacePool : threadPool
    if (pool !== undefined) return pool
    const made = make({
      setup: {
        domainId: keys.structure.domainId,
        idKey: keys.structure.idKey,
        chunkerKey: keys.chunkerKey,
        chunking: repository.description.chunking,
        sessionKey: session.key,
        contentEpoch: session.entry.contentEpoch,
        compressionLevel: limits.compressionLevel,
        segmentBytes: limits.segmentBytes,
        dryRun: options.dryRun,
      },
      workers: limits.workers,
      known,
      fileSystem,
      onSegment: (segment) => {
        handed.add(segment.number)
        packs.add('data', segment)
        // It is in the spool now; waiting for the collector would let many of these stand.
        release(segment.body)
        if (uploader.waitingBytes() >= limits.spoolBytes) return room()
      },
    })
    atEnd.add(made.close)
    return (pool = made)
  }

  const seriesHex = series.toString('hex')
  const cacheName = Buffer.from(`unchanged-${seriesHex.slice(0, 32)}`)
  const sequenceName = Buffer.from(`sequence-${seriesHex.slice(0, 32)}`)
  const cacheKeys = { recordKey: keys.structure.recordKey, series }
  const cache = openPreviousCache()
  if (cache !== undefined) atEnd.add(cache.close)
  const snapshotId = random.bytes(16).toString('hex')
  const newCacheName = Buffer.concat([cacheName, Buffer.from('.new')])
  if (!options.dryRun) removeIfThere(options, state, newCacheName)
  const newCache = options.dryRun
    ? undefined
    : createCache({ fileSystem, directory: state, name: newCacheName, keys: cacheKeys, snapshotId, random })
  if (newCache !== undefined) atEnd.add(newCache.abandon)
  const progress = createProgress(options, previous, uploader.uploadedBytes)
  progress('preparing')
  const read = await readSource({
    backup: options,
    pool: openPool,
    known,
    treeHasher: blake3.keyed(keys.structure.treeIdKey),
    namesHasher: namesHasher(keys.structure.recordKey),
    cache,
    treeHolds: cache !== undefined && (isStillSaid(view, cache.indexFiles) || (await lists.isWhole(previous!))),
    newCache,
    store: tree.store,
    onFile: transmissions.fileRead,
    room,
    onCounts: (counts, problems) => progress('reading', counts, problems),
  })
  refuseSuddenlyEmpty(read, previous, source.stdin !== undefined)
  await pool?.flush()
  tree.flush()
  if (!options.dryRun) packs.finish()
  progress('finishing', read.counts, read.problems.length)
  await uploader.drained()
  if (!options.dryRun) requireDurable([...handed, ...known.claimedSegments()], durableSegments)
  const startOver = async (snapshot?: StoredSnapshot): Promise<Again> => {
    // What it uploaded may go once its session has ended, and the next attempt is still to take that over.
    if (snapshot === undefined) earlier.push(session)
    else await endWithoutSnapshot({ ...endOf, session, snapshot })
    return lists.isLate() ? 'late' : 'overtaken'
  }
  const isOvertaken = (): Promise<boolean> => lists.isHit(read.rootNode, newPacks)
  const back = await readBackPacks({ backup: options, session, packs: newPacks, directory: spool, isOvertaken, attempt: atEnd.attempt })
  if (back === undefined) return startOver()
  const readBack = back

  const summary = summarise()
  const outcome = read.problems.length > 0 ? 'incomplete' : 'done'
  const hasFilesOfLast = previous?.structure.files === summary.files && previous.structure.bytes === summary.bytes
  if (options.dryRun) return { outcome, hasFilesOfLast, snapshot: undefined, summary, problems: read.problems }
  await meanwhile.keepUp()
  const indexFiles = await storeIndexFiles(options, session, newPacks, view)
  // Safety rests on the look after the snapshot; a run that stored nothing and saw nothing new spares itself this one.
  if ((newPacks.length > 0 || lists.hasNews()) && (await isOvertaken())) return startOver()
  const stored = await storeSnapshot({ read, indexFiles: indexFiles.written, summary })
  const { structure } = stored
  // A list that came while the snapshot went up: the collector may have looked before it was there.
  if (await isOvertaken()) return startOver(stored)
  for (const one of earlier) await endWithoutSnapshot({ ...endOf, session: one })
  // The snapshot stands: what the local disk refuses from here on costs the next run some work, and makes no failure of this one.
  for (const { ref } of newPacks) atEnd.attempt(() => removeIfThere(options, spool, footerName(ref)))
  atEnd.attempt(() => rememberSequence(fileSystem, state, sequenceName, structure.sequence))
  const { rootPlace } = read
  if (rootPlace !== undefined)
    atEnd.attempt(() => {
      newCache?.finish(rootPlace, [
        ...view.files.map(({ ref }) => ref).filter((ref) => !indexFiles.merged.includes(ref)),
        ...indexFiles.written,
      ])
      fileSystem.rename(state, newCacheName, state, cacheName, false)
    })
  return { outcome, hasFilesOfLast, snapshot: structure, summary, problems: read.problems }

  function summarise(): BackupSummary {
    const { counts } = read
    const chunksNew = newPacks.reduce((sum, pack) => sum + pack.chunks, 0)
    return {
      files: counts.files,
      directories: counts.directories,
      others: counts.others,
      bytes: counts.bytes,
      filesNew: counts.filesNew,
      filesChanged: counts.filesChanged,
      filesUnchanged: counts.filesUnchanged,
      bytesRead: counts.bytesRead,
      bytesInline: counts.bytesInline,
      chunksNew,
      chunksReused: counts.chunks - chunksNew,
      bytesNew: counts.bytesNew,
      bytesStored,
      packs: packsStored,
      packsResumed,
      segmentsReadBack: readBack.segments,
      bytesReadBack: readBack.bytes,
      problems: read.problems.length,
      durationMs: Math.round(clock.monotonicMs() - startedMs),
    }
  }

  function openPreviousCache(): CacheReader | undefined {
    if (previous === undefined || options.force || source.stdin !== undefined || !lacksNothing) return undefined
    return openCache({ fileSystem, directory: state, name: cacheName, keys: cacheKeys, snapshotId: previous.structure.ref.random })
  }

  /** A copy of this machine may have gone on with the series: what comes after several of its snapshots is not to say that it came before them. */
  async function sequenceByNow(): Promise<number> {
    // The one does not count a machine's sleep, the other may be turned back.
    if (Math.max(clock.monotonicMs() - startedMs, clock.now() - startedAt) < SHORT_MS) return lastSequence
    const now = await lookAtSeries({ ...options, onNotice: () => undefined }, series, collection)
    return Math.max(lastSequence, now.lastSequence)
  }

  async function storeSnapshot(made: {
    read: ReadSource
    indexFiles: readonly ObjectRef[]
    summary: BackupSummary
  }): Promise<StoredSnapshot> {
    const { read, summary } = made
    const ref = { session: session.id, random: snapshotId }
    const structure: SnapshotStructure = {
      ref,
      writerId: keys.writer.id,
      session: session.entry,
      series,
      sequence: Math.max(await sequenceByNow(), rememberedSequence(fileSystem, state, sequenceName)) + 1,
      previous: previous?.hash ?? NO_HASH,
      root: read.rootNode,
      startedAt: Math.floor(startedAt),
      endedAt: Math.floor(clock.now()),
      files: summary.files,
      directories: summary.directories,
      bytes: summary.bytes,
      tags: [...new Set(options.tags)].map(tokens.tag),
      lists: lists.seen(),
      indexFiles: made.indexFiles,
    }
    const { rootStat } = read
    const object = encodeSnapshot(
      {
        structure,
        private: {
          host: source.host,
          source: source.label,
          paths: source.paths,
          tags: [...new Set(options.tags)],
          program: options.program,
          summary: { ...summary },
          problems: read.problems,
          root:
            rootStat === undefined
              ? undefined
              : {
                  name: Buffer.from('r'),
                  kind: 'directory',
                  mode: rootStat.mode,
                  uid: rootStat.uid,
                  gid: rootStat.gid,
                  mtimeNs: rootStat.mtimeNs,
                },
        },
      },
      { structure: keys.structure, writer: keys.writer, sealer: tree.sealer },
    )
    const name = objectName('snapshot', ref)
    const { created } = await store.put(name, { kind: 'bytes', bytes: object }, { signal })
    if (!created && !(await store.get(name, { limitBytes: object.length, signal })).equals(object))
      throw new HoldfastError('store-unsuitable', `the store holds another object under the new name ${name}: something else writes there`)
    // A run that stored nothing else makes no request more.
    if (newPacks.length > 0) await readBackObject(options, name, object)
    repository.remember(name, object)
    return { structure, hash: blake3Hash(object) }
  }
}

/** Blobs of a pack that an interrupted run left: durable, or about to be. */
function takeOver(known: KnownIds, footer: PackFooter, isWhole: (id: string) => boolean, valueOf: (segment: number) => number): void {
  for (const [i, segment] of footer.segments.entries())
    for (const blob of segment.blobs) {
      // A node stands under the number of its private part, as in the run that makes it.
      if (segment.kind === SEGMENT_KIND.references || (segment.kind === SEGMENT_KIND.private && !isWhole(blob.id))) continue
      if (known.count() > known.capacity() - 1024) known.grow(65_536)
      known.claim(Buffer.from(blob.id, 'hex'), valueOf(i))
    }
}

/** A mount that is gone looks like an empty directory: that is no state to keep. */
function refuseSuddenlyEmpty(read: ReadSource, previous: OpenedSnapshot | undefined, stream: boolean): void {
  if (previous === undefined) return
  if (stream) {
    if (read.counts.bytes > 0 || previous.structure.bytes === 0) return
    throw new HoldfastError(
      'source-empty',
      'standard input was empty but had content in the last snapshot: did the program that writes it fail? No snapshot was made',
    )
  }
  if (read.counts.files > 0 || previous.structure.files === 0) return
  throw new HoldfastError(
    'source-empty',
    `the source has no files now but had ${previous.structure.files} in the last snapshot: is it mounted? No snapshot was made. If it is really empty, back it up under another label`,
  )
}

/** Design section 5: before the commit, every id that was claimed in this run must stand in a durable pack, whoever claimed it. */
function requireDurable(segments: Iterable<number>, durable: ReadonlySet<number>): void {
  for (const segment of segments)
    if (!durable.has(segment))
      throw new HoldfastError('failed', 'a blob of this run did not reach the store although every upload ended well; no snapshot was made')
}

function removeIfThere({ fileSystem }: BackupOptions, directory: Descriptor, name: Buffer): void {
  try {
    fileSystem.remove(directory, name, 'file')
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}
