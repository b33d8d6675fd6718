// Looks whether a repository is sound. The structure check needs the structure keys alone: every object opens, every pack that an index file
// names is there with its size, and everything that a snapshot refers to is somewhere. Reading the data adds, still without any content key,
// that the bytes of packs and segments are the ones that were stored ("intact, not opened"); with the root's keys the content can be opened as a
// restore would. Three answers for each object: good, damaged, could not tell; the last is never taken for the second (reference bug B21). What is
// lost by damage is told by snapshot, and by path where the keys allow. Writes and removes nothing in the store.
import type { CheckOptions, CheckProgress, CheckReport, Finding, ObjectKind, ReadData } from './check-types.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { viewFromFooters } from '../repository/footer-reader.ts'
import type { IndexFile } from '../repository/index-file.ts'
import {
  LIMITS,
  objectName,
  packName,
  parseObjectName,
  parseSessionName,
  type ObjectRef,
  refKey,
  sessionName,
} from '@holdfast/shared/format/layout.ts'
import { readObject } from '../repository/read-object.ts'
import { createPackReader } from '../repository/pack-reader.ts'
import { listRefs, lostError, mapBounded, REPOSITORY_OBJECT, type Repository } from '../repository/repository.ts'
import { decodeSnapshot, inOrder, type OpenedSnapshot } from '../repository/snapshot.ts'
import { createView, type View, withoutForeignReplaces } from '../repository/view.ts'
import { deletedOnRecord, unopenedRecords, wasCollected } from '../collection/deletion.ts'
import { isUnfinished, reliedOn } from '../collection/unfinished.ts'
import { collectionState, forgottenEntry, hasNewRecords } from '../repository/collection-state.ts'
import { isGivenUp } from '../repository/given-up.ts'
import { IndexClaims } from './claims.ts'
import { ContentWalk } from './content.ts'
import { Holdings, knownSegments } from './holdings.ts'
import { missingSnapshots } from './history.ts'
import { findLosses, type Losses } from './loss.ts'
import { damageWithWhatOpens, examinePack, type Examined, isSeenTo } from './examine-pack.ts'
import { memoryReadLog, type ReadLog } from './read-log.ts'
import { segmentOpener } from './read-pack.ts'
import { dayOf, isDue, shareOf } from './rotation.ts'
import { isWrittenOff, listSessions, lookAtKeys, openSession, type SmallObjectRef } from './small-objects.ts'

export type { CheckOptions, CheckProgress, CheckReport, Finding, ObjectKind, ReadData } from './check-types.ts'

const FINDINGS_HELD = 10_000
const AT_ONCE = 8
const PACKS_AT_ONCE = 2
const PACKS_PER_SAVE = 64

/**
 * Rejects with `cancelled` alone, and with what the store says where it cannot even be listed. Where something is amiss and somebody has collected or
 * forgotten meanwhile, it is all looked at once more: what was read before is old then.
 */
export async function checkRepository(options: CheckOptions): Promise<CheckReport> {
  const check = await checkOnce(options)
  const report = check.report()
  return report.damaged > 0 && (await check.isOutdated()) ? (await checkOnce(options)).report() : report
}

async function checkOnce(options: CheckOptions): Promise<Check> {
  const { repository, signal, readLog } = options
  const check = new Check(options)
  try {
    await check.collection()
    check.openedBefore()
    const packs = await check.listPacks()
    await check.sessions(packs)
    await check.keys()
    await check.indexFiles(packs)
    const snapshots = await check.openSnapshots()
    await check.data(packs, options.readData)
    await check.writtenOff(packs)
    await check.losses(snapshots, packs)
    if (options.content === true) await check.content(snapshots)
  } finally {
    if (check.hasRead()) readLog?.save()
  }
  if (signal?.aborted === true) throw new HoldfastError('cancelled', `the check of ${repository.store.location} was cancelled`)
  return check
}

/** What a listing says of a pack, by its random part. */
type ListedPack = ObjectRef & { readonly info: ObjectInfo; readonly bytes: number; indexed: boolean; read: boolean }
type ListedRef = ObjectRef & { readonly info: ObjectInfo }
type Packs = Map<string, ListedPack>

class Check {
  readonly #options: CheckOptions
  readonly #repository: Repository
  readonly #findings: Finding[] = []
  readonly #claims: IndexClaims[] = []
  readonly #readLog: ReadLog
  #holdings = new Holdings(createView([]))
  #good = 0
  #damaged = 0
  #unknown = 0
  #counts = {
    sessions: 0,
    sessionsGone: 0,
    indexFiles: 0,
    packs: 0,
    snapshots: 0,
    snapshotsMissing: 0,
    packsRead: 0,
    bytesRead: 0,
    packsOverdue: 0,
    writtenOff: 0,
    forgotten: 0,
    condemnedPacks: 0,
    deletedPacks: 0,
  }
  #usedFooters = false
  readonly #unindexed = new Set<string>()
  /** When the store received each snapshot, by `refKey`. */
  readonly #storedAt = new Map<string, number>()
  #deleted: ReadonlySet<string> = new Set()
  #collection = collectionState({ lists: [], forgets: [], refused: [] })
  #losses: Losses = { snapshots: [], paths: [], pathsLeftOut: 0, nodes: 0, references: 0, lost: 0, unsure: 0, unfinished: [] }

  constructor(options: CheckOptions) {
    this.#options = options
    this.#repository = options.repository
    this.#readLog = options.readLog ?? memoryReadLog()
  }

  report(): CheckReport {
    const { nodes, references, lost, unsure, snapshots, paths, pathsLeftOut, unfinished } = this.#losses
    return {
      good: this.#good,
      damaged: this.#damaged + lost,
      unknown: this.#unknown + unsure,
      findings: this.#findings,
      ...this.#counts,
      // What is told as damaged is not told as left by an interrupted run besides.
      unindexedPacks: this.#unindexed.difference(new Set(this.#findings.map(({ object }) => object))).size,
      nodes,
      references,
      unfinished: unfinished.length,
      usedFooters: this.#usedFooters,
      opened: this.#options.content === true,
      lostBlobs: lost,
      unsureBlobs: unsure,
      affected: snapshots,
      paths,
      pathsLeftOut,
    }
  }

  /** Runs `look` on one object and notes the answer. */
  async #judge<T>(kind: ObjectKind, object: string, look: () => Promise<T>, ref?: SmallObjectRef): Promise<T | undefined> {
    try {
      const result = await look()
      this.#good += 1
      return result
    } catch (error) {
      if (!isHoldfastError(error, 'not-found') || !this.#deleted.has(object)) this.#bad(kind, object, error, ref)
      return undefined
    }
  }

  /** Whether lists or records have come since they were read. */
  async isOutdated(): Promise<boolean> {
    try {
      return hasNewRecords(this.#collection, await this.#repository.loadCollection(this.#options.signal))
    } catch (error) {
      // Then what was found stands.
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      return false
    }
  }

  #bad(kind: ObjectKind, object: string, error: unknown, ref?: SmallObjectRef): void {
    if (!isHoldfastError(error) || error.code === 'cancelled') throw error
    if (ref !== undefined && isHoldfastError(error, 'damaged', 'newer-format') && isWrittenOff(this.#collection, ref)) {
      this.#counts.writtenOff += 1
      return
    }
    // A key that is missing here says nothing about the bytes.
    const damaged = isHoldfastError(error, 'damaged', 'not-found', 'too-large')
    if (damaged) this.#damaged += 1
    else this.#unknown += 1
    if (this.#findings.length < FINDINGS_HELD)
      this.#findings.push({ kind, object, verdict: damaged ? 'damaged' : 'unknown', code: error.code, message: error.message })
  }

  #progress(phase: CheckProgress['phase'], done: number, total: number): void {
    this.#options.onProgress?.({ phase, done, total, bytes: this.#counts.bytesRead })
  }

  async listPacks(): Promise<Packs> {
    const packs: Packs = new Map()
    for (const { session, random, info } of await listRefs(this.#repository.store, 'packs/', this.#options.signal))
      packs.set(random, { session, random, info, bytes: info.bytes, indexed: false, read: false })
    this.#counts.packs = packs.size
    return packs
  }

  /**
   * A session object that is gone costs no snapshot anything: its entry stands in footers, index files and snapshots, and a run that a collector does not
   * know of looks at the lists itself. What it alone tells, whose an object is that does not open, is left to the root then. So it is counted, not damage.
   */
  async sessions(packs: Packs): Promise<void> {
    const { repository, signal } = this.#options
    const names = await listSessions(repository, signal)
    this.#counts.sessions = names.length
    const listed = new Set<string>(names.map(({ name }) => name))
    const needed = new Set([...packs.values()].map(({ session }) => sessionName(session)))
    this.#counts.sessionsGone = [...needed].filter((name) => !listed.has(name) && !this.#deleted.has(name)).length
    await mapBounded(names, AT_ONCE, (info) =>
      this.#judge('session', info.name, () => openSession(repository, info, signal), { session: parseSessionName(info.name)! }),
    )
  }

  /** The wrapped keys, where the repository holds its own. */
  async keys(): Promise<void> {
    const { repository, signal } = this.#options
    await lookAtKeys(repository, { good: () => (this.#good += 1), bad: (name, error) => this.#bad('key', name, error) }, signal)
  }

  /** Collection lists and forget records: what is condemned and what no longer counts. */
  async collection(): Promise<void> {
    this.#collection = await this.#repository.loadCollection(this.#options.signal)
    this.#deleted = deletedOnRecord(this.#collection)
    this.#counts.writtenOff += this.#collection.writtenOff.length
    for (const { name, error } of unopenedRecords(this.#collection)) this.#bad('list', name, error)
  }

  /** Read when the repository was opened: its description, without which all else was found where it is lost, and rosters. */
  openedBefore(): void {
    const { store, description } = this.#repository
    if (description.trouble !== undefined) this.#bad('repository', REPOSITORY_OBJECT, lostError(store, description.trouble))
    for (const { name, error } of this.#repository.refusedRosters) this.#bad('roster', name, error, parseObjectName(name))
  }

  /** Opens index files and compares what they say of packs with what is there. */
  async indexFiles(packs: Packs): Promise<void> {
    const { store, loadIndexFile } = this.#repository
    const { signal } = this.#options
    const refs = await listRefs(store, 'index/', signal)
    this.#counts.indexFiles = refs.length
    const files: IndexFile[] = []
    const refused: { name: string; error: unknown }[] = []
    let done = 0
    await mapBounded(refs, 4, async (ref) => {
      try {
        files.push((await loadIndexFile(ref, signal)).file)
        this.#good += 1
      } catch (error) {
        if (!isHoldfastError(error, 'not-found') || !this.#deleted.has(ref.info.name)) refused.push({ name: ref.info.name, error })
      }
      this.#progress('objects', (done += 1), refs.length)
    })
    const view = createView(withoutForeignReplaces(files, this.#repository.keys.rootWriterKey))
    const replaced = new Set(view.files.flatMap((file) => file.replaces.map((ref) => objectName('index', ref))))
    for (const { name, error } of refused)
      if (replaced.has(name) && isHoldfastError(error, 'damaged')) this.#counts.writtenOff += 1
      else this.#bad('index', name, error)
    this.#holdings = new Holdings(view)
    if (this.#options.readData !== undefined || this.#readLog.damaged().length > 0)
      this.#claims.push(...view.files.map((file) => new IndexClaims(file)))
    await this.#indexedPacks(view, packs)
    for (const pack of packs.values()) if (!pack.indexed) this.#unindexed.add(packName(pack))
  }

  async #indexedPacks(view: View, packs: Packs): Promise<void> {
    for (const row of view.packs()) {
      const listed = packs.get(row.random)
      if (listed !== undefined) listed.indexed = true
      const isCondemned = this.#collection.condemned.has(row.random)
      if (isCondemned && listed !== undefined) this.#counts.condemnedPacks += 1
      await this.#judge('pack', packName(row), async () => {
        // A listing is a hint: what it lacks is asked for by name before it is called missing.
        const info = listed?.info ?? (await this.#head(row))
        if (info === undefined) {
          this.#holdings.trouble.set(row.random, { kind: 'gone' })
          if (isCondemned || (await wasCollected(this.#repository.store, row, this.#deleted, this.#options.signal))) {
            this.#counts.deletedPacks += 1
            return
          }
          throw new HoldfastError('not-found', `pack ${row.random} is named by an index file and is not in the store`)
        }
        const { bytes } = info
        if (listed === undefined)
          packs.set(row.random, { session: row.session, random: row.random, info, bytes, indexed: true, read: false })
        if (bytes === row.bytes) return
        const { trouble } = await this.#examine(packs.get(row.random)!)
        if (trouble !== undefined)
          throw new HoldfastError('damaged', `pack ${row.random} is damaged: it has ${bytes} bytes instead of ${row.bytes}`)
        // The pack is sound, so an index file is not.
        throw new HoldfastError(
          'damaged',
          `an index file says that pack ${row.random} has ${row.bytes} bytes; the pack is sound with ${bytes}`,
        )
      })
    }
  }

  async #head(row: ObjectRef): Promise<ObjectInfo | undefined> {
    try {
      return await this.#repository.store.head(packName(row), { signal: this.#options.signal })
    } catch (error) {
      if (isHoldfastError(error) && error.code !== 'cancelled') this.#holdings.trouble.set(row.random, { kind: 'unread', error })
      throw error
    }
  }

  async openSnapshots(): Promise<OpenedSnapshot[]> {
    const { store, keys, requireWriter } = this.#repository
    const { signal } = this.#options
    const all = await listRefs(store, 'snapshots/', signal)
    const open = async (ref: ListedRef): Promise<OpenedSnapshot> => {
      const object = await readObject(store, objectName('snapshot', ref), LIMITS.snapshotBytes, signal)
      const snapshot = decodeSnapshot(object, ref, keys)
      requireWriter(snapshot.writerKey, ref.info.name, ref.info.storedAt, snapshot.structure.writerId)
      this.#storedAt.set(refKey(ref), ref.info.storedAt)
      return snapshot
    }
    // One that does not open and was given up for that by who may is no news.
    let givenUp = 0
    const opened = await mapBounded(all, AT_ONCE, async (ref) => {
      if (!(await isGivenUp(this.#repository, this.#collection, ref, () => open(ref), signal)))
        return this.#judge('snapshot', ref.info.name, () => open(ref))
      givenUp += 1
      return undefined
    })
    const present = opened.filter((snapshot) => snapshot !== undefined)
    const counting = present.filter(({ structure }) => forgottenEntry(this.#collection, structure.ref, structure.writerId) === undefined)
    this.#counts.forgotten = givenUp + present.length - counting.length
    this.#counts.snapshots = all.length - this.#counts.forgotten
    const seen = { state: this.#collection, present, listed: new Set(all.map(refKey)) }
    for (const { object, error } of await missingSnapshots(this.#repository, seen, signal)) {
      if (error.code === 'not-found') this.#counts.snapshotsMissing += 1
      this.#bad('snapshot', object, error)
    }
    return inOrder(counting)
  }

  /** Reads one pack whole and keeps what is wrong with it. */
  async #examine(pack: ListedPack): Promise<Examined> {
    const { content, keys, signal } = this.#options
    const examined = await examinePack(this.#repository, pack, this.#holdings.view, {
      open: content === true ? segmentOpener(this.#repository, keys) : undefined,
      keys,
      signal,
      onRead: (bytes) => {
        this.#counts.bytesRead += bytes
      },
    })
    if (examined.trouble !== undefined) this.#holdings.trouble.set(pack.random, examined.trouble)
    else if (examined.opened !== undefined && this.#holdings.isDoubted(pack.random))
      this.#holdings.trouble.set(pack.random, { kind: 'told-wrong', segments: knownSegments(examined.opened.footer) })
    pack.read = true
    return examined
  }

  /** Whether there is something to remember of what was read. */
  hasRead(): boolean {
    return this.#options.readData !== undefined || this.#counts.packsRead > 0
  }

  /** Reads packs whole and compares hashes; where no data is asked for, those that were damaged when they were last read: that is told until it is mended. */
  async data(packs: Packs, readData: ReadData | undefined): Promise<void> {
    const today = dayOf(this.#options.now ?? 0)
    const log = this.#readLog
    if (readData !== undefined) log.keepOnly(new Set(packs.keys()))
    const isChosen = ({ random }: ListedPack): boolean => {
      if (readData === undefined) return log.of(random)?.damaged === true
      if (readData === 'all') return true
      if ('share' in readData) return shareOf(random, readData.share.t) === readData.share.n || log.of(random)?.damaged === true
      return isDue(random, log.of(random), readData.days, today)
    }
    const chosen: ListedPack[] = []
    for (const pack of packs.values()) {
      if (isChosen(pack)) chosen.push(pack)
      if (readData === undefined) continue
      const memory = log.of(pack.random)
      if (memory === undefined || memory.day > today) log.note(pack.random, { day: today, read: false, damaged: memory?.damaged ?? false })
    }
    let done = 0
    await mapBounded(chosen, PACKS_AT_ONCE, async (pack) => {
      const { trouble, damage, opened } = await this.#examine(pack)
      if (trouble?.kind === 'unread') this.#counts.packsOverdue += 1
      else log.note(pack.random, { day: today, read: true, damaged: damage !== undefined })
      if (damage === undefined) this.#good += 1
      else if (isSeenTo(trouble, this.#offsetsNamed(pack))) this.#counts.writtenOff += 1
      // One of another size was told of when its index file was opened.
      else if (!this.#findings.some(({ verdict, object }) => verdict === 'damaged' && object === packName(pack)))
        this.#bad('pack', packName(pack), damageWithWhatOpens(damage, trouble, this.#offsetsNamed(pack)))
      if (opened !== undefined) this.#compareClaims(pack, opened, trouble?.kind === 'bad-segments' ? trouble.bad : undefined)
      this.#counts.packsRead += 1
      this.#progress('data', (done += 1), chosen.length)
      // A check of terabytes may end before its end.
      if (done % PACKS_PER_SAVE === 0) log.save()
    })
  }

  /** Where the segments are that index files which count name in a pack; undefined where none names the pack. */
  #offsetsNamed({ random, indexed }: ListedPack): number[] | undefined {
    if (!indexed) return undefined
    return this.#claims.flatMap((claims) => claims.segmentsOf(random).map((ordinal) => claims.file.segment(ordinal).offset))
  }

  #compareClaims(pack: ListedPack, opened: NonNullable<Examined['opened']>, bad: ReadonlySet<number> | undefined): void {
    for (const claims of this.#claims) {
      if (!claims.names(pack.random)) continue
      // What is damaged in the pack is the pack's fault; what the footer never said is the index file's.
      if (claims.of(opened.footer, pack.bytes, new Set()).isTrue) continue
      const name = objectName('index', claims.file.ref)
      this.#holdings.trouble.set(pack.random, { kind: 'told-wrong', segments: knownSegments(opened.footer, bad) })
      this.#bad(
        'index',
        name,
        new HoldfastError('damaged', `index file ${claims.file.ref.random} says of pack ${pack.random} what is not so`),
      )
    }
  }

  /** Packs of which only replaced index files tell are looked into, so that loss is told exactly. */
  async writtenOff(packs: Packs): Promise<void> {
    for (const row of this.#holdings.writtenOff()) {
      const listed = packs.get(row.random)
      if (listed?.read === true || this.#holdings.trouble.has(row.random)) continue
      if (listed !== undefined) await this.#examine(listed)
      else
        await this.#head(row).then(
          (info) => info === undefined && this.#holdings.trouble.set(row.random, { kind: 'gone' }),
          (error: unknown) => this.#bad('pack', packName(row), error),
        )
    }
  }

  /** What the snapshots refer to and is nowhere. Index files may be missing: footers are the truth, and are read before anything is called missing. */
  async losses(snapshots: readonly OpenedSnapshot[], packs: Packs): Promise<void> {
    const { signal, keys } = this.#options
    let widened = false
    const widen = async (): Promise<void> => {
      if (widened) return
      widened = true
      try {
        const { view, refused } = await viewFromFooters(this.#repository, signal)
        for (const { name, error } of refused) {
          const random = name.slice(-32)
          if (packs.get(random)?.indexed === false && packs.get(random)?.read === false) this.#bad('pack', name, error)
        }
        const before = this.#holdings.view
        this.#holdings.widen(createView([...before.files, ...before.lastResort, ...view.files]))
      } catch (error) {
        // As long as footers cannot be read, nothing that is not in an index file can be called missing.
        this.#bad('pack', 'packs/', error)
        this.#holdings.unreadable = true
      }
    }
    this.#losses = await findLosses({
      repository: this.#repository,
      snapshots,
      ...{ holdings: this.#holdings, keys, widen, signal },
      reliedOn: (snapshot) => reliedOn(this.#collection, snapshot),
      isUnfinished: (snapshot, lacking) => {
        const storedAt = this.#storedAt.get(refKey(snapshot.structure.ref)) ?? 0
        return isUnfinished(this.#collection, snapshot, storedAt, lacking)
      },
      onFound: () => {
        this.#usedFooters = true
      },
      onMisplaced: (id) =>
        this.#bad(
          'index',
          'index/',
          new HoldfastError('damaged', `tree node ${id.slice(0, 16)} is not where index files say; 'holdfast repair' writes true ones`),
        ),
      onUnsure: (id, error) => this.#bad('tree', id, error),
      onProgress: (done, total) => this.#progress('snapshots', done, total),
    })
  }

  /** Walks trees with names and opens the private parts of snapshots. */
  async content(snapshots: readonly OpenedSnapshot[]): Promise<void> {
    const { keys, signal } = this.#options
    if (keys === undefined) throw new HoldfastError('grant-required', 'to open content the root of the domain is needed')
    const { store, keys: structure } = this.#repository
    const walk = new ContentWalk(createPackReader({ store, structure, view: this.#holdings.view, keys }), signal)
    const known = new Set(this.#losses.paths.map(({ path }) => path.toString('latin1')))
    const finished = snapshots.filter((snapshot) => !this.#losses.unfinished.includes(snapshot))
    for (const [i, snapshot] of finished.entries()) {
      const { random } = snapshot.structure.ref
      await this.#judge('snapshot', objectName('snapshot', snapshot.structure.ref), async () => void snapshot.openPrivate(keys))
      await walk.walk(snapshot.structure.root, (path, error) => {
        // What is lost has been told of already.
        if (known.has(Buffer.from(path).toString('latin1'))) return
        this.#bad(
          'tree',
          path,
          new HoldfastError(error.code, `${path} in snapshot ${random.slice(0, 8)}: ${error.message}`, { cause: error }),
        )
      })
      this.#progress('content', i + 1, finished.length)
    }
  }
}
