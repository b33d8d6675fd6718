// Looks whether a repository is sound. The structure check needs the structure keys alone: every object opens, every pack that an index file
// names is there with its size, and everything that a snapshot refers to is somewhere. Reading the data adds, still without any content key,
// that the bytes of packs and segments are the ones that were stored ("intact, not opened"). Three answers for each object: good, damaged,
// could not tell; the last is never taken for the second (reference bug B21). Writes and removes nothing.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { decodeSessionEntry } from '../keys/domain.ts'
import { ByteReader } from '@holdfast/shared/format/bytes.ts'
import { viewFromFooters } from '../repository/footer-reader.ts'
import type { IndexFile } from '../repository/index-file.ts'
import { LIMITS, objectName, packName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { SESSION_ENTRY_BYTES } from '../repository/pack.ts'
import { createPackReader, type PackReader } from '../repository/pack-reader.ts'
import { listRefs, mapBounded, type Repository } from '../repository/repository.ts'
import { decodeSnapshot, type OpenedSnapshot } from '../repository/snapshot.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { openBox } from '../repository/structure-box.ts'
import { createView, type View } from '../repository/view.ts'
import { checkPack } from './check-pack.ts'
import { SeenIds } from './seen-ids.ts'

/** Which packs' bytes are read: those of share `n` of `t` (from 1), so that t runs read everything; or all. */
export type ReadData = { readonly share: { readonly n: number; readonly t: number } } | 'all'

export type ObjectKind = 'roster' | 'session' | 'index' | 'pack' | 'snapshot' | 'blob'
export type Finding = {
  readonly kind: ObjectKind
  /** Name of the object; for a blob its id. */
  readonly object: string
  readonly verdict: 'damaged' | 'unknown'
  readonly code: string
  /** Printable, one line. */
  readonly message: string
}

export type CheckProgress = {
  readonly phase: 'objects' | 'snapshots' | 'data'
  readonly done: number
  readonly total: number
  readonly bytes: number
}

export type CheckReport = {
  readonly good: number
  readonly damaged: number
  readonly unknown: number
  /** The first 10,000. */
  readonly findings: readonly Finding[]
  readonly sessions: number
  readonly indexFiles: number
  readonly packs: number
  readonly snapshots: number
  /** Tree nodes and chunk references looked up. */
  readonly nodes: number
  readonly references: number
  readonly packsRead: number
  readonly bytesRead: number
  /** Packs that no index file names: left by an interrupted run, not damage. */
  readonly unindexedPacks: number
  /** Index files were missing or bad and blobs were looked for in the packs' footers. */
  readonly usedFooters: boolean
}

export type CheckOptions = {
  readonly repository: Repository
  readonly readData?: ReadData | undefined
  /** Only these snapshots' references are walked; default all. */
  readonly snapshots?: readonly OpenedSnapshot[] | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: CheckProgress) => void) | undefined
}

const FINDINGS_HELD = 10_000
const AT_ONCE = 8

/** Rejects with `cancelled` alone, and with what the store says where it cannot even be listed. */
export async function checkRepository(options: CheckOptions): Promise<CheckReport> {
  const { repository, signal } = options
  const check = new Check(options)
  check.rosters()
  const packs = await check.listPacks()
  await check.sessions()
  const view = await check.indexFiles(packs)
  const snapshots = options.snapshots ?? (await check.openSnapshots())
  await check.references(snapshots, view, packs)
  if (options.readData !== undefined) await check.data(packs, options.readData)
  if (signal?.aborted === true) throw new HoldfastError('cancelled', `the check of ${repository.store.location} was cancelled`)
  return check.report()
}

/** What a listing says of a pack, by its random part. */
type Packs = Map<string, ObjectRef & { readonly info: ObjectInfo; readonly bytes: number; indexed: boolean }>

class Check {
  readonly #options: CheckOptions
  readonly #repository: Repository
  readonly #findings: Finding[] = []
  #good = 0
  #damaged = 0
  #unknown = 0
  #counts = { sessions: 0, indexFiles: 0, packs: 0, snapshots: 0, nodes: 0, references: 0, packsRead: 0, bytesRead: 0, unindexedPacks: 0 }
  #usedFooters = false

  constructor(options: CheckOptions) {
    this.#options = options
    this.#repository = options.repository
  }

  report(): CheckReport {
    return {
      good: this.#good,
      damaged: this.#damaged,
      unknown: this.#unknown,
      findings: this.#findings,
      ...this.#counts,
      usedFooters: this.#usedFooters,
    }
  }

  /** Runs `look` on one object and notes the answer. */
  async #judge<T>(kind: ObjectKind, object: string, look: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await look()
      this.#good += 1
      return result
    } catch (error) {
      this.#bad(kind, object, error)
      return undefined
    }
  }

  #bad(kind: ObjectKind, object: string, error: unknown): void {
    if (!isHoldfastError(error) || error.code === 'cancelled') throw error
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

  /** Read when the repository was opened; which ones did not open is told here. */
  rosters(): void {
    for (const { name, error } of this.#repository.refusedRosters) this.#bad('roster', name, error)
  }

  async listPacks(): Promise<Packs> {
    const packs: Packs = new Map()
    for (const { session, random, info } of await listRefs(this.#repository.store, 'packs/', this.#options.signal))
      packs.set(random, { session, random, info, bytes: info.bytes, indexed: false })
    this.#counts.packs = packs.size
    return packs
  }

  async sessions(): Promise<void> {
    const { store, keys, requireWriter } = this.#repository
    const names: ObjectInfo[] = []
    for await (const page of store.list('sessions/', { signal: this.#options.signal }))
      for (const info of page) if (/^sessions\/[0-9a-f]{32}$/.test(info.name)) names.push(info)
    this.#counts.sessions = names.length
    await mapBounded(names, AT_ONCE, ({ name, storedAt }) =>
      this.#judge('session', name, async () => {
        const object = await store.get(name, { limitBytes: LIMITS.objectBytes, signal: this.#options.signal })
        const { body, writerKey } = openBox({ type: 'session', keys, object, what: name })
        const reader = new ByteReader(body, name)
        const entry = decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES))
        const writerId = reader.raw(16)
        reader.u64()
        reader.end()
        if (`sessions/${entry.sessionId.toString('hex')}` !== name) throw reader.refuse('it is another session under this name')
        requireWriter(writerKey, name, storedAt, writerId)
      }),
    )
  }

  /** Opens index files and compares what they say of packs with what is there. */
  async indexFiles(packs: Packs): Promise<View> {
    const { store, loadIndexFile } = this.#repository
    const { signal } = this.#options
    const refs = await listRefs(store, 'index/', signal)
    this.#counts.indexFiles = refs.length
    const files: IndexFile[] = []
    let done = 0
    await mapBounded(refs, 4, async (ref) => {
      const opened = await this.#judge('index', ref.info.name, () => loadIndexFile(ref, signal))
      if (opened !== undefined) files.push(opened.file)
      this.#progress('objects', (done += 1), refs.length)
    })
    const view = createView(files)
    for (const row of view.packs()) {
      const listed = packs.get(row.random)
      if (listed !== undefined) listed.indexed = true
      await this.#judge('pack', packName(row), async () => {
        // A listing is a hint: what it lacks is asked for by name before it is called missing.
        const info = listed?.info ?? (await store.head(packName(row), { signal }))
        if (info === undefined) throw new HoldfastError('not-found', `pack ${row.random} is named by an index file and is not in the store`)
        const { bytes } = info
        if (listed === undefined) packs.set(row.random, { session: row.session, random: row.random, info, bytes, indexed: true })
        if (bytes !== row.bytes)
          throw new HoldfastError('damaged', `pack ${row.random} is damaged: it has ${bytes} bytes instead of ${row.bytes}`)
      })
    }
    this.#counts.unindexedPacks = [...packs.values()].filter((pack) => !pack.indexed).length
    return view
  }

  async openSnapshots(): Promise<OpenedSnapshot[]> {
    const { store, keys, requireWriter } = this.#repository
    const { signal } = this.#options
    const refs = await listRefs(store, 'snapshots/', signal)
    this.#counts.snapshots = refs.length
    const opened = await mapBounded(refs, AT_ONCE, (ref) =>
      this.#judge('snapshot', ref.info.name, async () => {
        const object = await store.get(objectName('snapshot', ref), { limitBytes: LIMITS.snapshotBytes, signal })
        const snapshot = decodeSnapshot(object, ref, keys)
        requireWriter(snapshot.writerKey, ref.info.name, ref.info.storedAt, snapshot.structure.writerId)
        return snapshot
      }),
    )
    return opened.filter((snapshot) => snapshot !== undefined)
  }

  /** Walks the reference parts of all snapshots, each node once, and looks every reference up. */
  async references(snapshots: readonly OpenedSnapshot[], indexed: View, packs: Packs): Promise<void> {
    const { store, keys } = this.#repository
    let view = indexed
    let reader = createPackReader({ store, structure: keys, view })
    const seen = new SeenIds()
    let unreadable: HoldfastError | undefined
    const present = (id: string, part: 'chunk' | 'references' | 'private'): boolean =>
      view.locate(id, part).some(({ pack }) => packs.has(pack.random))
    /** Index files may be missing: footers are the truth, and are read once before anything is called missing. */
    const found = async (id: string, part: 'chunk' | 'references' | 'private'): Promise<boolean> => {
      if (present(id, part)) return true
      if (unreadable !== undefined) throw unreadable
      if (this.#usedFooters) return false
      this.#usedFooters = true
      const rebuilt = await viewFromFooters(this.#repository, this.#options.signal).catch((error: unknown) => {
        // As long as footers cannot be read, nothing that is not in an index file can be called missing.
        if (isHoldfastError(error)) unreadable = error
        throw error
      })
      for (const { name, error } of rebuilt.refused) this.#bad('pack', name, error)
      view = createView([...indexed.files, ...rebuilt.view.files])
      reader = createPackReader({ store, structure: keys, view })
      return present(id, part)
    }
    const missing = (id: string, what: string): HoldfastError =>
      new HoldfastError('not-found', `${what} ${id.slice(0, 16)} is referred to and is in no pack`)
    for (const [i, snapshot] of snapshots.entries()) {
      const pending = [snapshot.structure.root]
      while (pending.length > 0) {
        const id = pending.pop()!
        if (!seen.add(id)) continue
        this.#counts.nodes += 1
        if (this.#counts.nodes % 256 === 0) this.#progress('snapshots', i, snapshots.length)
        await this.#judge('blob', id, async () => {
          if (!(await found(id, 'private'))) throw missing(id, 'tree node')
          if (!(await found(id, 'references'))) throw missing(id, 'tree node')
          await this.#children(reader, id, pending, found, missing)
        })
      }
      this.#progress('snapshots', i + 1, snapshots.length)
    }
  }

  async #children(
    reader: PackReader,
    id: string,
    pending: string[],
    found: (id: string, part: 'chunk') => Promise<boolean>,
    missing: (id: string, what: string) => HoldfastError,
  ): Promise<void> {
    const { references } = await reader.readReferences(id, this.#options.signal)
    this.#counts.references += references.length
    for (const reference of references) {
      if (reference.what === 'node') pending.push(reference.id)
      else if (!(await found(reference.id, 'chunk'))) this.#bad('blob', reference.id, missing(reference.id, 'chunk'))
    }
  }

  /** Reads packs whole and compares hashes. */
  async data(packs: Packs, readData: ReadData): Promise<void> {
    const chosen = [...packs.values()].filter((pack) => readData === 'all' || shareOf(pack, readData.share.t) === readData.share.n)
    let done = 0
    await mapBounded(chosen, 2, async (pack) => {
      await this.#judge('pack', packName(pack), async () => {
        await checkPack(this.#repository, pack, pack.bytes, {
          signal: this.#options.signal,
          onRead: (bytes) => {
            this.#counts.bytesRead += bytes
          },
        })
      })
      this.#counts.packsRead += 1
      this.#progress('data', (done += 1), chosen.length)
    })
  }
}

/** Which of `t` shares a pack belongs to, from 1: by its random name, so that shares are even and stay the same. */
export function shareOf(ref: ObjectRef, t: number): number {
  return (Number.parseInt(ref.random.slice(2, 14), 16) % t) + 1
}
