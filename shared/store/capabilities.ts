// Finds out what a store really does, with the credentials at hand, and judges whether a repository can live there.
// Guesses by vendor go wrong; so everything is tried on objects under `probe/<random>/`, removed again where that is
// allowed. Write-only credentials that can overwrite would break O10.
import type { Clock } from '../clock.ts'
import { HoldfastError, isHoldfastError } from '../errors.ts'
import type { Random } from '../random.ts'
import type { ObjectName, Store, StoreDiagnostics } from './store.ts'

export type StoreCapabilities = {
  readonly location: string
  readonly kind: StoreDiagnostics['kind'] | 'unknown'
  /** What was put can be read at once and is the same; `refused` where these credentials may not read. */
  readonly readAfterWrite: 'yes' | 'no' | 'refused'
  /** First bytes, middle, last bytes, and an error past the end. */
  readonly rangedRead: 'yes' | 'no' | 'unknown'
  /** `racy`: a second put is refused, but of several at once more than one was told that it won. */
  readonly conditionalPut: 'honoured' | 'ignored' | 'racy'
  /** Whether an unconditional put with these credentials changes what is read; `kept`: it makes a newer version, and the oldest is read. */
  readonly overwrite: 'refused' | 'kept' | 'accepted' | 'unknown'
  readonly remove: 'allowed' | 'refused'
  /** `strong`: each listing showed every put (and removal) before it; `late` otherwise. */
  readonly listing: 'strong' | 'late'
  readonly versioning: 'on' | 'suspended' | 'off' | 'unknown'
  readonly objectLock: 'on' | 'off' | 'unknown'
  /** The store's clock minus ours, in milliseconds; S3 tells whole seconds. */
  readonly clockDifferenceMs: number | undefined
  /** Median of five looks at one object. */
  readonly roundTripMs: number
  /** Probe objects that could not be removed. */
  readonly leftBehind: readonly ObjectName[]
}

const RACERS = 8
const LISTINGS = 4
const ROUND_TRIPS = 5
const CONTENT = 'holdfast probe: 0123456789'

type ProbeSeams = { readonly random: Random; readonly clock: Clock; readonly signal?: AbortSignal | undefined }

/**
 * Tries the store out: about 40 small requests. Rejects with the store's own errors where it cannot be reached or refuses even
 * puts or listings; probe objects are removed then too, where possible.
 */
export async function probeStore(store: Store, seams: ProbeSeams): Promise<StoreCapabilities> {
  const probe = new Probe(store, seams)
  try {
    const found = await probe.run()
    return { ...found, ...(await probe.cleanUp()) }
  } catch (error) {
    await probe.cleanUp().catch((failure: unknown) => {
      // Whatever stopped the probe also stops its cleaning; the first error is the one to tell.
      if (!isHoldfastError(failure)) throw failure
    })
    throw error
  }
}

class Probe {
  readonly #store: Store
  readonly #seams: ProbeSeams
  readonly #folder: string
  readonly #put = new Set<ObjectName>()

  constructor(store: Store, seams: ProbeSeams) {
    this.#store = store
    this.#seams = seams
    this.#folder = `probe/${seams.random.bytes(8).toString('hex')}/`
  }

  async run(): Promise<Omit<StoreCapabilities, 'remove' | 'leftBehind'>> {
    const { diagnostics } = this.#store
    const options = this.#options
    const first = await this.#create('first', CONTENT)
    const readAfterWrite = await this.#reads(first, CONTENT)
    const versioning = (await diagnostics?.versioning(options)) ?? 'unknown'
    return {
      location: this.#store.location,
      kind: diagnostics?.kind ?? 'unknown',
      readAfterWrite,
      rangedRead: readAfterWrite === 'refused' ? 'unknown' : await this.#readsRanges(first),
      conditionalPut: await this.#conditionalPut(first),
      overwrite: await this.#overwrite(versioning === 'on' ? 'kept' : 'refused'),
      listing: await this.#listing(),
      versioning,
      objectLock: (await diagnostics?.objectLock(options)) ?? 'unknown',
      clockDifferenceMs: await this.#clockDifference(),
      roundTripMs: await this.#roundTrip(first),
    }
  }

  /** Removes every probe object; also tells whether that was allowed. Not cancelled: it ends what was begun. */
  async cleanUp(): Promise<Pick<StoreCapabilities, 'remove' | 'leftBehind'>> {
    const leftBehind: ObjectName[] = []
    for (const name of this.#put) {
      try {
        await this.#store.remove(name)
        // A store that keeps what it was told to remove, or a lock, is the same to us as a refusal.
        if ((await this.#store.head(name)) !== undefined) leftBehind.push(name)
      } catch (error) {
        if (!isHoldfastError(error, 'store-refused')) throw error
        leftBehind.push(name)
      }
    }
    return { remove: leftBehind.length === 0 ? 'allowed' : 'refused', leftBehind: leftBehind.sort() }
  }

  get #options(): { signal: AbortSignal | undefined } {
    return { signal: this.#seams.signal }
  }

  async #create(name: string, content: string): Promise<ObjectName> {
    const full = this.#folder + name
    this.#put.add(full)
    await this.#store.put(full, { kind: 'bytes', bytes: Buffer.from(content) }, this.#options)
    return full
  }

  async #reads(name: ObjectName, content: string): Promise<'yes' | 'no' | 'refused'> {
    try {
      return (await this.#text(name)) === content ? 'yes' : 'no'
    } catch (error) {
      if (isHoldfastError(error, 'store-refused')) return 'refused'
      if (isHoldfastError(error, 'not-found', 'too-large')) return 'no'
      throw error
    }
  }

  async #text(name: ObjectName): Promise<string> {
    return (await this.#store.get(name, { limitBytes: 1024, signal: this.#seams.signal })).toString('utf8')
  }

  async #readsRanges(name: ObjectName): Promise<'yes' | 'no'> {
    const size = CONTENT.length
    const ranges = [
      { offset: 0, length: 1 },
      { offset: 9, length: 5 },
      { offset: size - 1, length: 1 },
      { offset: -4, length: 4 },
    ]
    try {
      for (const range of ranges) {
        const start = range.offset < 0 ? size + range.offset : range.offset
        const read = await this.#store.getRange(name, range, this.#options)
        if (read.toString('utf8') !== CONTENT.slice(start, start + range.length)) return 'no'
      }
    } catch (error) {
      if (isHoldfastError(error, 'damaged', 'store-unsuitable', 'not-found')) return 'no'
      throw error
    }
    try {
      await this.#store.getRange(name, { offset: size, length: 1 }, this.#options)
      return 'no'
    } catch (error) {
      if (isHoldfastError(error, 'damaged')) return 'yes'
      if (isHoldfastError(error, 'store-unsuitable', 'not-found')) return 'no'
      throw error
    }
  }

  async #conditionalPut(first: ObjectName): Promise<StoreCapabilities['conditionalPut']> {
    const again = await this.#store.put(first, { kind: 'bytes', bytes: Buffer.from(CONTENT) }, this.#options)
    if (again.created) return 'ignored'
    const name = `${this.#folder}race`
    this.#put.add(name)
    const racers = Array.from({ length: RACERS }, (_, i) =>
      this.#store.put(name, { kind: 'bytes', bytes: Buffer.from(`racer ${i}`) }, this.#options),
    )
    const outcomes = await Promise.allSettled(racers)
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    return outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value.created).length <= 1 ? 'honoured' : 'racy'
  }

  async #overwrite(unchanged: 'kept' | 'refused'): Promise<StoreCapabilities['overwrite']> {
    const { diagnostics } = this.#store
    if (diagnostics === undefined) return 'unknown'
    const name = await this.#create('overwrite', 'before')
    if ((await diagnostics.overwrite(name, Buffer.from('after'), this.#options)) === 'refused') return 'refused'
    // An answer alone proves nothing: a store may say yes and keep what it has.
    return (await this.#reads(name, 'before')) === 'yes' ? unchanged : 'accepted'
  }

  async #listing(): Promise<StoreCapabilities['listing']> {
    const made: ObjectName[] = []
    for (let i = 0; i < LISTINGS; i++) {
      made.push(await this.#create(`listing/${i}`, CONTENT))
      const listed = await this.#names(`${this.#folder}listing/`)
      if (listed.join() !== made.join()) return 'late'
    }
    return 'strong'
  }

  async #names(prefix: string): Promise<ObjectName[]> {
    const names: ObjectName[] = []
    for await (const page of this.#store.list(prefix, this.#options)) names.push(...page.map((object) => object.name))
    return names
  }

  async #clockDifference(): Promise<number | undefined> {
    const { clock } = this.#seams
    const before = clock.now()
    const theirs = await this.#store.diagnostics?.now(this.#options)
    return theirs === undefined ? undefined : Math.round(theirs - (before + clock.now()) / 2)
  }

  async #roundTrip(name: ObjectName): Promise<number> {
    const { clock } = this.#seams
    const times: number[] = []
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const before = clock.monotonicMs()
      try {
        await this.#store.head(name, this.#options)
      } catch (error) {
        // A refusal takes as long as an answer.
        if (!isHoldfastError(error, 'store-refused')) throw error
      }
      times.push(clock.monotonicMs() - before)
    }
    return times.sort((a, b) => a - b)[Math.floor(ROUND_TRIPS / 2)] ?? 0
  }
}

export type FindingCode =
  | 'read-after-write'
  | 'ranged-read'
  | 'conditional-put'
  | 'overwrite'
  | 'remove'
  | 'listing'
  | 'versioning'
  | 'object-lock'
  | 'clock'
  | 'left-behind'

export type Finding = { readonly level: 'ok' | 'warn' | 'refuse'; readonly code: FindingCode; readonly text: string }

const CLOCK_WARN_MS = 5 * 60 * 1000

/**
 * What the capabilities mean for a repository. With any `refuse` the store is not to be used; `acceptOverwrite` turns the one
 * about overwriting into a warning, because a person said so (`--accept-overwrite`).
 */
export function judgeCapabilities(caps: StoreCapabilities, options: { acceptOverwrite: boolean }): Finding[] {
  const findings: Finding[] = []
  const say = (level: Finding['level'], code: FindingCode, text: string): void => void findings.push({ level, code, text })

  if (caps.readAfterWrite === 'yes') say('ok', 'read-after-write', 'what is put can be read at once')
  else if (caps.readAfterWrite === 'refused')
    say('refuse', 'read-after-write', 'these credentials cannot read what they put; allow reading below the prefix')
  else say('refuse', 'read-after-write', 'what was put could not be read at once, or was not the same')

  if (caps.rangedRead === 'yes') say('ok', 'ranged-read', 'parts of objects can be read')
  else if (caps.rangedRead === 'no') say('refuse', 'ranged-read', 'parts of objects cannot be read as S3 defines it; restores need that')

  if (caps.conditionalPut === 'honoured') say('ok', 'conditional-put', 'of several puts of one name one wins')
  else if (caps.conditionalPut === 'racy')
    say('warn', 'conditional-put', 'of several puts of one name more than one can win; names are random, so nothing rests on it')
  else say('warn', 'conditional-put', 'conditional puts are ignored; names are random, so nothing rests on it')

  judgeOverwrite(caps, options.acceptOverwrite, say)

  if (caps.remove === 'refused') say('ok', 'remove', 'these credentials cannot delete')
  else if (caps.kind === 'directory') say('ok', 'remove', 'whoever can write here can delete; keep a second copy elsewhere')
  else say('warn', 'remove', 'these credentials can delete; give an appliance credentials that cannot')

  if (caps.listing === 'strong') say('ok', 'listing', 'listings show every put at once')
  else say('warn', 'listing', 'listings lag behind puts: use one writer only, and no collection beside it')

  if (caps.versioning === 'suspended') say('warn', 'versioning', 'versioning is suspended: what is overwritten now is lost')
  else if (caps.versioning === 'unknown' && caps.kind === 's3')
    say('warn', 'versioning', 'whether this bucket keeps versions is not told: the newest is read; allow s3:GetBucketVersioning')
  else say('ok', 'versioning', `versioning: ${caps.versioning}`)
  say('ok', 'object-lock', `object lock: ${caps.objectLock}`)

  const skew = caps.clockDifferenceMs
  if (skew === undefined) say('warn', 'clock', "the store's clock could not be read")
  else if (Math.abs(skew) > CLOCK_WARN_MS)
    say('warn', 'clock', `the store's clock differs from ours by ${Math.round(skew / 1000)} s; check the time of this machine`)
  else say('ok', 'clock', 'the clocks agree')

  if (caps.leftBehind.length > 0)
    say('warn', 'left-behind', `${caps.leftBehind.length} probe objects remain, for example ${caps.leftBehind[0]}; they hold nothing`)
  return findings
}

/** Put-without-delete is worth nothing if a put can overwrite (design, section 7). */
function judgeOverwrite(
  caps: StoreCapabilities,
  accepted: boolean,
  say: (level: Finding['level'], code: FindingCode, text: string) => void,
): void {
  if (caps.overwrite === 'refused') return say('ok', 'overwrite', 'an existing object cannot be overwritten with these credentials')
  if (caps.overwrite === 'kept')
    return say('ok', 'overwrite', 'an overwritten object keeps its oldest version, which is the one that is read')
  if (caps.kind === 'directory')
    return say('warn', 'overwrite', 'whoever can write to this directory can change what is in it; keep a second copy elsewhere')
  const what =
    caps.overwrite === 'accepted'
      ? 'these credentials can overwrite existing objects'
      : 'whether these credentials can overwrite could not be found out'
  if (accepted) return say('warn', 'overwrite', `${what}: a thief of them can destroy the repository (accepted with --accept-overwrite)`)
  if (caps.versioning === 'on')
    return say('refuse', 'overwrite', `${what}, and not read the older version: allow s3:ListBucketVersions and s3:GetObjectVersion`)
  say(
    'refuse',
    'overwrite',
    `${what}: demand If-None-Match in the bucket's policy, switch versioning on, or accept it with --accept-overwrite`,
  )
}

/** Rejects (throws) with `store-unsuitable` and every reason where a finding refuses. */
export function requireSuitable(findings: readonly Finding[]): void {
  const reasons = findings.filter((finding) => finding.level === 'refuse').map((finding) => finding.text)
  if (reasons.length > 0) throw new HoldfastError('store-unsuitable', `this store cannot be used: ${reasons.join('; ')}`)
}
