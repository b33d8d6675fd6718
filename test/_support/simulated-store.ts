// A bucket in memory that can lie and fail, for tests and the simulation: many actors' stores on one bucket, every call
// traced, all effects atomic in one synchronous step, time from a Clock. Without faults it keeps the store contract.
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { type Clock, isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import {
  checkLimit,
  checkRange,
  endsBefore,
  notFound,
  requireObjectName,
  requirePrefix,
  throwIfAborted,
  tooLarge,
} from '@holdfast/shared/store/checks.ts'
import { localFileError } from '@holdfast/shared/store/directory-errors.ts'
import type { ListOptions, ObjectInfo, ObjectName, PutBody, Store, StoreDiagnostics } from '@holdfast/shared/store/store.ts'
import type { Fault, FaultPlan, StoreCall, StoreOperation } from './simulated-faults.ts'
import { noFaults, SimulatedCrash } from './simulated-faults.ts'

export * from './simulated-faults.ts'

const PAGE_OBJECTS = 1000

export type BucketOptions = {
  readonly clock: Clock
  /** Whether a second put of a name is refused. Default true. */
  readonly conditional?: boolean
  /** Keeps what puts and removals replace. Default false. */
  readonly versioned?: boolean
  /** Objects refuse removal and, unless versioned, overwriting for so long after they were stored. Default 0. */
  readonly lockMs?: number
  /** Beyond it puts fail with `store-full`. */
  readonly capacityBytes?: number
  /** The store's wall clock against ours. */
  readonly clockOffsetMs?: number
}

/** What an actor's credentials allow; everything by default. */
export type Permissions = Partial<Record<StoreOperation, boolean>>

export type TraceEntry = StoreCall & {
  /** `ok`, `taken`, `absent`, `crash`, or the code of the error. */
  readonly outcome: string
  readonly faults: readonly Fault['kind'][]
  /** When it ended, by the clock of the bucket. */
  readonly at: number
  /** Bytes sent or received. */
  readonly bytes: number
}

/** One state of a name: bytes, or undefined after a removal. `visibleAt` is later than `at` for a put that shows late. */
type Version = { readonly bytes: Buffer | undefined; readonly at: number; readonly visibleAt: number; readonly storedAt: number }

export class SimulatedBucket {
  readonly trace: TraceEntry[] = []
  readonly #options: BucketOptions
  readonly #versions: Map<ObjectName, Version[]>
  readonly #counts = new Map<StoreOperation, number>()
  /** Names held under a lock of their own, and until when. */
  readonly #holds = new Map<ObjectName, number>()
  #calls = 0
  #plan: FaultPlan = noFaults

  constructor(options: BucketOptions, from?: SimulatedBucket) {
    this.#options = options
    this.#versions = new Map((from === undefined ? [] : [...from.#versions]).map(([name, versions]) => [name, [...versions]]))
    for (const [name, until] of from === undefined ? [] : from.#holds) this.#holds.set(name, until)
  }

  /** A bucket with the same content and an empty trace: what a new process finds after a crash. */
  clone(options: Partial<BucketOptions> = {}): SimulatedBucket {
    return new SimulatedBucket({ ...this.#options, ...options }, this)
  }

  /** From now on the plan decides; `noFaults` ends all faults. */
  setFaults(plan: FaultPlan): void {
    this.#plan = plan
  }

  /** The store as one actor sees it, with that actor's rights. */
  store(actor = 'agent', permissions: Permissions = {}): Store {
    return new SimulatedStore(this, this.#options, actor, permissions)
  }

  /** The truth, whatever a listing says: names that exist now, sorted. */
  names(prefix = ''): ObjectName[] {
    return [...this.#versions.keys()].filter((name) => name.startsWith(prefix) && this.content(name) !== undefined).sort()
  }

  /** The truth about one object. */
  content(name: ObjectName): Buffer | undefined {
    return this.#versions.get(name)?.at(-1)?.bytes
  }

  /** All that a name ever held, oldest first, where the bucket is versioned. */
  history(name: ObjectName): readonly (Buffer | undefined)[] {
    return (this.#versions.get(name) ?? []).map((version) => version.bytes)
  }

  /** Changes what is stored, as bit rot or an intruder does; undefined removes. Leaves no trace. */
  tamper(name: ObjectName, change: (bytes: Buffer) => Buffer | undefined): void {
    const versions = this.#versions.get(name)
    const last = versions?.at(-1)
    if (versions === undefined || last?.bytes === undefined) throw new Error(`nothing to tamper with under ${name}`)
    versions[versions.length - 1] = { ...last, bytes: change(Buffer.from(last.bytes)) }
  }

  /** Locks one object: until then (milliseconds since 1970) it can be neither removed nor, without versions, overwritten. */
  hold(name: ObjectName, until: number): void {
    this.#holds.set(name, until)
  }

  /** Drops the names of what was removed: long simulations would carry them for ever. Stale reads no longer find it. */
  compact(): void {
    for (const [name, versions] of this.#versions)
      if (versions.at(-1)?.bytes === undefined) this.#versions.delete(name)
      else if (versions.length > 1 && this.#options.versioned !== true) this.#versions.set(name, versions.slice(-1))
    this.trace.length = 0
  }

  /** Until when an object is under lock; undefined where it is not. */
  lockedUntil(name: ObjectName): number | undefined {
    const { clock, lockMs } = this.#options
    const last = this.#versions.get(name)?.at(-1)
    if (last?.bytes === undefined) return undefined
    const until = Math.max(last.at + (lockMs ?? 0), this.#holds.get(name) ?? 0)
    return until > clock.now() ? until : undefined
  }

  /** Counts and judges a call; only for `SimulatedStore`. */
  begin(actor: string, operation: StoreOperation, name: string): { call: StoreCall; faults: readonly Fault[] } {
    const nth = (this.#counts.get(operation) ?? 0) + 1
    this.#counts.set(operation, nth)
    const call = { index: ++this.#calls, nth, actor, operation, name }
    return { call, faults: this.#plan(call) }
  }

  /** The version of a name that a reader sees at a moment. */
  visible(name: ObjectName, moment: number): Version | undefined {
    return this.#versions.get(name)?.findLast((version) => version.visibleAt <= moment)
  }

  write(name: ObjectName, bytes: Buffer | undefined, lateMs: number): void {
    const { clock, versioned, clockOffsetMs, capacityBytes } = this.#options
    const versions = this.#versions.get(name) ?? []
    const lockedUntil = this.lockedUntil(name)
    if (lockedUntil !== undefined && versioned !== true)
      throw new HoldfastError('store-refused', `${name} is locked until ${isoTime(lockedUntil)}`)
    if (capacityBytes !== undefined && bytes !== undefined && this.#usedBytes() + bytes.length > capacityBytes)
      throw new HoldfastError('store-full', `no room for ${name}`)
    const at = clock.now()
    // Without versions the older states are kept for stale reads alone, and cost nothing a reader could count.
    versions.push({ bytes, at, visibleAt: at + lateMs, storedAt: at + (clockOffsetMs ?? 0) })
    this.#versions.set(name, versions)
  }

  #usedBytes(): number {
    const kept = [...this.#versions.values()].flatMap((versions) => (this.#options.versioned === true ? versions : versions.slice(-1)))
    return kept.reduce((sum, version) => sum + (version.bytes?.length ?? 0), 0)
  }

  /** Every name that was ever written, sorted; only for `SimulatedStore`. */
  allNames(): string[] {
    return [...this.#versions.keys()].sort()
  }
}

class SimulatedStore implements Store {
  readonly location = 'simulated'
  readonly diagnostics: StoreDiagnostics
  readonly #bucket: SimulatedBucket
  readonly #options: BucketOptions
  readonly #actor: string
  readonly #permissions: Permissions
  #dead = false

  constructor(bucket: SimulatedBucket, options: BucketOptions, actor: string, permissions: Permissions) {
    this.#bucket = bucket
    this.#options = options
    this.#actor = actor
    this.#permissions = permissions
    this.diagnostics = {
      kind: 'simulated',
      overwrite: (name, bytes, at) => this.#overwrite(name, bytes, at?.signal),
      now: async () => options.clock.now() + (options.clockOffsetMs ?? 0),
      versioning: async () => (options.versioned === true ? 'on' : 'off'),
      objectLock: async () => ((options.lockMs ?? 0) > 0 ? 'on' : 'off'),
    }
  }

  async put(
    name: ObjectName,
    body: PutBody,
    options: { signal?: AbortSignal | undefined; progress?: ((bytes: number) => void) | undefined } = {},
  ): Promise<{ created: boolean }> {
    requireObjectName(name)
    const bytes = readBody(body)
    return this.#call<{ created: boolean }>('put', name, options.signal, (faults) => {
      const taken = this.#bucket.content(name) !== undefined
      if (taken && this.#options.conditional !== false) return { result: { created: false }, outcome: 'taken', bytes: 0 }
      const torn = find(faults, 'torn')
      if (find(faults, 'lost') === undefined)
        this.#bucket.write(name, torn === undefined ? bytes : bytes.subarray(0, torn.keepBytes), find(faults, 'late')?.ms ?? 0)
      if (torn?.reported === 'failure') throw new HoldfastError('store-unreachable', `the put of ${name} broke`)
      options.progress?.(bytes.length)
      return { result: { created: true }, outcome: 'ok', bytes: bytes.length }
    })
  }

  async get(name: ObjectName, options: { limitBytes: number; signal?: AbortSignal | undefined }): Promise<Buffer> {
    requireObjectName(name)
    checkLimit(options.limitBytes)
    return this.#call('get', name, options.signal, (faults) => {
      const bytes = this.#readable(find(faults, 'misdirected')?.name ?? name, faults)
      if (bytes.length > options.limitBytes) throw tooLarge(this.location, name, options.limitBytes)
      return { result: flipped(bytes, faults), outcome: 'ok', bytes: bytes.length }
    })
  }

  async getRange(
    name: ObjectName,
    range: { offset: number; length: number },
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Buffer> {
    requireObjectName(name)
    checkRange(range)
    return this.#call('getRange', name, options.signal, (faults) => {
      const bytes = this.#readable(find(faults, 'misdirected')?.name ?? name, faults)
      const start = range.offset < 0 ? bytes.length + range.offset : range.offset
      if (start < 0 || start + range.length > bytes.length) throw endsBefore(this.location, name, range, bytes.length)
      return { result: flipped(bytes.subarray(start, start + range.length), faults), outcome: 'ok', bytes: range.length }
    })
  }

  async head(name: ObjectName, options: { signal?: AbortSignal | undefined } = {}): Promise<ObjectInfo | undefined> {
    requireObjectName(name)
    return this.#call('head', name, options.signal, (faults) => {
      const seen = this.#info(name, faults)
      const lockMs = this.#options.lockMs ?? 0
      const info = seen === undefined || lockMs === 0 ? seen : { ...seen, lockedUntil: seen.storedAt + lockMs }
      return { result: info, outcome: info === undefined ? 'absent' : 'ok', bytes: 0 }
    })
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    requirePrefix(prefix)
    let from = ''
    for (;;) {
      const after = from
      const page = await this.#call('list', prefix, options.signal, (faults) => {
        const ghosts = faults.flatMap((f) => (f.kind === 'ghost' ? [f] : []))
        const names = [...new Set([...this.#bucket.allNames(), ...ghosts.map((g) => g.name)])]
          .filter((n) => n.startsWith(prefix) && n > after)
          .sort()
        let all = names.flatMap((name) => {
          const ghost = ghosts.find((g) => g.name === name)
          const info =
            this.#info(name, faults) ??
            (ghost === undefined ? undefined : { name, bytes: ghost.bytes, storedAt: this.#options.clock.now() })
          return info === undefined ? [] : [info]
        })
        const short = find(faults, 'short-list')
        if (short !== undefined) all = all.slice(0, Math.max(0, all.length - short.drop))
        return { result: { objects: all.slice(0, PAGE_OBJECTS), more: all.length > PAGE_OBJECTS }, outcome: 'ok', bytes: 0 }
      })
      options.onTime?.(this.#options.clock.now() + (this.#options.clockOffsetMs ?? 0))
      if (page.objects.length > 0) yield page.objects
      from = page.objects.at(-1)?.name ?? from
      if (!page.more) return
    }
  }

  async remove(name: ObjectName, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    requireObjectName(name)
    await this.#call('remove', name, options.signal, (faults) => {
      const exists = this.#bucket.content(name) !== undefined
      if (exists && find(faults, 'undead') === undefined) this.#bucket.write(name, undefined, 0)
      return { result: undefined, outcome: exists ? 'ok' : 'absent', bytes: 0 }
    })
  }

  async close(): Promise<void> {}

  async #overwrite(name: ObjectName, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<'accepted' | 'refused'> {
    try {
      return await this.#call('overwrite', name, signal, () => {
        this.#bucket.write(name, Buffer.from(bytes), 0)
        return { result: 'accepted' as const, outcome: 'ok', bytes: bytes.length }
      })
    } catch (error) {
      if (isHoldfastError(error, 'store-refused')) return 'refused'
      throw error
    }
  }

  #readable(name: ObjectName, faults: readonly Fault[]): Buffer {
    const bytes = this.#bucket.visible(name, this.#moment(faults))?.bytes
    if (bytes === undefined) throw notFound(this.location, name)
    return Buffer.from(bytes)
  }

  #info(name: ObjectName, faults: readonly Fault[]): ObjectInfo | undefined {
    const version = this.#bucket.visible(name, this.#moment(faults))
    return version?.bytes === undefined ? undefined : { name, bytes: version.bytes.length, storedAt: version.storedAt }
  }

  #moment(faults: readonly Fault[]): number {
    return this.#options.clock.now() - (find(faults, 'stale')?.ms ?? 0)
  }

  /** One call: asks the plan, does the effect in one synchronous step, and traces how it ended. */
  async #call<T>(
    operation: StoreOperation,
    name: string,
    signal: AbortSignal | undefined,
    effect: (faults: readonly Fault[]) => { result: T; outcome: string; bytes: number },
  ): Promise<T> {
    if (this.#dead) throw new SimulatedCrash(`${this.#actor} has crashed`)
    throwIfAborted(signal)
    const { call, faults } = this.#bucket.begin(this.#actor, operation, name)
    const trace = (outcome: string, bytes: number): void => {
      this.#bucket.trace.push({ ...call, outcome, bytes, faults: faults.map((f) => f.kind), at: this.#options.clock.now() })
    }
    try {
      const latency = find(faults, 'latency')
      if (latency !== undefined) await this.#options.clock.sleep(latency.ms, signal)
      if (this.#permissions[operation] === false) throw new HoldfastError('store-refused', `${this.#actor} may not ${operation} ${name}`)
      this.#strike(faults, 'before')
      const { result, outcome, bytes } = effect(faults)
      this.#strike(faults, 'after')
      trace(outcome, bytes)
      return result
    } catch (error) {
      trace(isHoldfastError(error) ? error.code : error instanceof SimulatedCrash ? 'crash' : 'cancelled', 0)
      if (signal?.aborted === true && !isHoldfastError(error) && !(error instanceof SimulatedCrash)) throwIfAborted(signal)
      throw error
    }
  }

  #strike(faults: readonly Fault[], when: 'before' | 'after'): void {
    for (const fault of faults) {
      if (fault.kind === 'fail' && fault.when === when) throw new HoldfastError(fault.code, `simulated failure ${when} the effect`)
      if (fault.kind === 'crash' && fault.when === when) {
        this.#dead = true
        throw new SimulatedCrash(`${this.#actor} crashes ${when} the effect`)
      }
    }
  }
}

function find<K extends Fault['kind']>(faults: readonly Fault[], kind: K): Extract<Fault, { kind: K }> | undefined {
  return faults.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind)
}

function flipped(bytes: Buffer, faults: readonly Fault[]): Buffer {
  const fault = find(faults, 'flipped')
  if (fault === undefined || bytes.length === 0) return bytes
  const at = Math.floor(fault.bit / 8) % bytes.length
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (fault.bit % 8))
  return bytes
}

/** The body's bytes, copied; a file must be as long and hash as declared, as a store that checks signatures demands. */
function readBody(body: PutBody): Buffer {
  if (body.kind === 'bytes') return Buffer.from(body.bytes)
  let bytes: Buffer
  try {
    if (statSync(body.path).size !== body.bytes) throw localFileError(undefined, body.path)
    bytes = readFileSync(body.path)
  } catch (error) {
    throw localFileError(error, body.path)
  }
  if (createHash('sha256').update(bytes).digest('hex') !== body.sha256)
    throw new HoldfastError('store-refused', 'the body is not what its SHA-256 says')
  return bytes
}
