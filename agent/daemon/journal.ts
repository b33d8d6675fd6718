// The agent's journal of records: appended, signed, chained and synced before the act it tells of goes on; dropped a segment at a time once
// the server has recorded it. Several processes of one agent (daemon and command line) may append: each append takes the journal's lock.
// Promise: after a crash at any byte the journal is a prefix of what was written and holds all that was acknowledged. No name is ever in it.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { RecordHeader } from '@holdfast/shared/protocol/records.ts'
import type { Random } from '@holdfast/shared/random.ts'
import {
  DELIVERY_BYTES_MAX,
  DELIVERY_RECORDS_MAX,
  encodeFrame,
  FIRST_PREVIOUS,
  parseHeader,
  RECORD_BODY_BYTES_MAX,
  signRecord,
} from '@holdfast/shared/record.ts'
import type { SigningKey } from '@holdfast/shared/signing.ts'
import type { Descriptor } from '../file-system/file-system.ts'
import {
  encodeEntry,
  encodeSegmentHeader,
  entryAt,
  parseSegmentName,
  scanSegment,
  SEGMENT_HEADER_BYTES,
  segmentName,
  type ChainEnd,
  type JournalEntry,
} from './journal-format.ts'
import { isErrno, readWhole, type StateDirectory } from './state-directory.ts'

export type { ChainEnd } from './journal-format.ts'

export const JOURNAL_LIMIT_BYTES = 1024 ** 3
const SEGMENT_BYTES = 4 * 1024 * 1024
const SEGMENT_FILE_BYTES_MAX = SEGMENT_BYTES + RECORD_BODY_BYTES_MAX + 64 * 1024
/** Kept back from new runs, so that a run that began can always say how it ended. */
const RESERVE_BYTES = 8 * 1024 * 1024

/** One record to be, made once its secret is known because the header holds the root over its file records. */
export type RecordDraft = (secret: Buffer) => { readonly header: RecordHeader; readonly body: Buffer }

export type DeliveryBatch = { readonly bytes: Buffer; readonly records: number; readonly from: number; readonly last: ChainEnd }

export type JournalStats = {
  /** The first record still held; one more than the last where none is. */
  readonly firstSeq: number
  readonly lastSeq: number
  readonly bytes: number
  readonly limitBytes: number
}

export type JournalOptions = {
  readonly directory: StateDirectory
  readonly agentId: string
  readonly key: SigningKey
  readonly random: Random
  readonly limitBytes?: number
  /** For tests. */
  readonly segmentBytes?: number
}

type Segment = { readonly name: string; readonly before: ChainEnd; readonly bytes: number }

/** Opens the journal in `directory` (its own), verifying all of it. Throws `damaged` where records stand behind damage. */
export function openJournal(options: JournalOptions): Journal {
  return new Journal(options)
}

export class Journal {
  readonly #options: JournalOptions
  readonly #limit: number
  #segments: Segment[] = []
  #end: ChainEnd = { seq: 0, hash: FIRST_PREVIOUS }
  #stale = true
  /** The record behind which the journal goes on that did not have it: those before are the server's, or stand behind it once more. */
  #goesOnAfter = 0
  /** Bytes that a crash left of an entry and that were cut off when the journal was opened. */
  readonly tornBytes: number

  constructor(options: JournalOptions) {
    this.#options = options
    this.#limit = options.limitBytes ?? JOURNAL_LIMIT_BYTES
    this.tornBytes = this.#locked(() => this.#load(0))
  }

  /** The last record's number and hash. */
  get end(): ChainEnd {
    return this.#end
  }

  stats(): JournalStats {
    const bytes = this.#bytes()
    return { firstSeq: (this.#segments[0]?.before.seq ?? 0) + 1, lastSeq: this.#end.seq, bytes, limitBytes: this.#limit }
  }

  /** Throws `journal-full` where a new run or recovery must not begin. */
  requireRoom(): void {
    if (this.#bytes() + RESERVE_BYTES > this.#limit) throw full(this.#bytes(), this.#limit)
  }

  /**
   * Appends one record and returns when it is durable. Throws `journal-full` (over the limit, or no space on the disk) and `local-disk`; then
   * nothing was appended. `closing` may use the space that is kept back for the end of what began.
   */
  append(draft: RecordDraft, options: { closing?: boolean } = {}): ChainEnd {
    const { key, random } = this.#options
    return this.#locked(() => {
      this.#refresh()
      const secret = random.bytes(32)
      const { hash, ...frame } = signRecord({ ...draft(secret), seq: this.#end.seq + 1, prev: this.#end.hash, secret, key })
      const bytes = encodeEntry(frame)
      const room = options.closing === true ? this.#limit : this.#limit - RESERVE_BYTES
      if (this.#bytes() + bytes.length > room) throw full(this.#bytes(), this.#limit)
      let segment = this.#segments.at(-1)
      if (segment === undefined || segment.bytes >= (this.#options.segmentBytes ?? SEGMENT_BYTES)) segment = this.#startSegment(this.#end)
      this.#writeDurably(segment, bytes)
      this.#segments[this.#segments.length - 1] = { ...segment, bytes: segment.bytes + bytes.length }
      this.#end = { seq: frame.seq, hash }
      return this.#end
    })
  }

  /** Records after `after`, in order, within the limits of one delivery; undefined where there is none or the next one is not held. */
  read(from: number, limits: { bytes?: number; records?: number } = {}): DeliveryBatch | undefined {
    this.#locked(() => this.#refresh())
    const after = Math.max(from, this.#goesOnAfter)
    const [bytesMax, recordsMax] = [limits.bytes ?? DELIVERY_BYTES_MAX, limits.records ?? DELIVERY_RECORDS_MAX]
    const frames: Buffer[] = []
    let total = 0
    let last: ChainEnd | undefined
    for (const entry of this.#entriesFrom(after + 1)) {
      if (entry.frame.seq !== (last?.seq ?? after) + 1) break
      const bytes = encodeFrame(entry.frame)
      if (frames.length > 0 && (total + bytes.length > bytesMax || frames.length === recordsMax)) break
      frames.push(bytes)
      total += bytes.length
      last = { seq: entry.frame.seq, hash: entry.hash }
    }
    return last === undefined ? undefined : { bytes: Buffer.concat(frames), records: frames.length, from: after + 1, last }
  }

  /** The hash of a record that is still held, or of the one before the first; undefined for others. */
  hashAt(seq: number): Buffer | undefined {
    this.#locked(() => this.#refresh())
    if (seq === this.#end.seq) return this.#end.hash
    const known = this.#segments.find((segment) => segment.before.seq === seq)
    if (known !== undefined) return known.before.hash
    for (const entry of this.#entriesFrom(seq)) return entry.frame.seq === seq ? entry.hash : undefined
    return undefined
  }

  /**
   * How far the journal tells of an act whose first record would have a number above `after`. A beginning that is dropped already counts as begun:
   * only what the server has recorded is dropped.
   */
  standOf(runId: string, after: number): 'not-begun' | 'begun' | 'ended' {
    let stand: 'not-begun' | 'begun' = 'not-begun'
    for (const { frame } of this.#entriesFrom(after + 1)) {
      const header = parseHeader(frame.header)
      if (!('runId' in header) || header.runId !== runId) continue
      if (header.kind === 'run-ended' || header.kind === 'recovery-ended') return 'ended'
      stand = 'begun'
    }
    return (this.#segments[0]?.before.seq ?? 0) > after ? 'begun' : stand
  }

  /** Drops whole segments whose records are all at most `through`. */
  forget(through: number): void {
    if ((this.#segments[0]?.before.seq ?? 0) >= through) return
    this.#locked(() => {
      this.#refresh()
      const last = this.#segments.at(-1)
      if (last !== undefined && this.#end.seq <= through && this.#end.seq > last.before.seq) this.#startSegment(this.#end)
      const keep = this.#segments.findIndex((_, index) => (this.#segments[index + 1]?.before.seq ?? Number.MAX_SAFE_INTEGER) > through)
      if (keep <= 0) return
      const { directory } = this.#options
      this.#onDisk(() => {
        for (const { name } of this.#segments.slice(0, keep)) directory.fileSystem.remove(directory.fd, Buffer.from(name), 'file')
        directory.fileSystem.sync(directory.fd)
      })
      this.#segments = this.#segments.slice(keep)
    })
  }

  /**
   * Goes on behind `end`, which the server holds and this journal does not: a disk that lost what it had acknowledged, or a state directory of long ago.
   * Numbers are not used twice, or the chain would fork: what stands here behind `sentThrough`, which the server has not accepted, is signed once more
   * behind `end`. Gives how many records that are.
   */
  adopt(end: ChainEnd, sentThrough: number): number {
    return this.#locked(() => {
      this.#refresh()
      if (end.seq <= this.#end.seq) throw new HoldfastError('conflict', 'the journal already has a record of that number')
      const { key, segmentBytes = SEGMENT_BYTES } = this.#options
      let before = end
      let at = end
      let entries: Buffer[] = []
      let bytes = 0
      const made: { segment: Segment; temporary: string }[] = []
      this.#stale = true
      const close = (): void => {
        const whole = Buffer.concat([encodeSegmentHeader(before), ...entries])
        const temporary = `tmp-${this.#options.random.bytes(8).toString('hex')}`
        made.push({ segment: { name: segmentName(before.seq + 1), before, bytes: whole.length }, temporary })
        this.#write(temporary, whole)
        ;[before, entries, bytes] = [at, [], 0]
      }
      try {
        for (const { frame } of this.#held(Math.max(sentThrough, this.#goesOnAfter) + 1)) {
          if (bytes >= segmentBytes) close()
          const { hash, ...again } = signRecord({ ...frame, header: parseHeader(frame.header), seq: at.seq + 1, prev: at.hash, key })
          const entry = encodeEntry(again)
          entries.push(entry)
          bytes += entry.length
          at = { seq: again.seq, hash }
        }
        close()
        this.#name(made)
      } catch (error) {
        // Of a few of them the journal would go on as if they were all.
        for (const name of made.flatMap(({ segment, temporary }) => [segment.name, temporary])) this.#options.directory.remove(name)
        throw error
      }
      this.#segments.push(...made.map(({ segment }) => segment))
      this.#end = at
      this.#goesOnAfter = end.seq
      this.#stale = false
      return at.seq - end.seq
    })
  }

  #bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0)
  }

  *#entriesFrom(seq: number): Generator<JournalEntry> {
    this.#locked(() => this.#refresh())
    yield* this.#held(seq)
  }

  *#held(seq: number): Generator<JournalEntry> {
    const first = this.#segments.findLastIndex((segment) => segment.before.seq < seq)
    for (const segment of this.#segments.slice(Math.max(first, 0))) {
      const bytes = this.#readSegment(segment.name).subarray(0, segment.bytes)
      let before = segment.before
      for (let offset = SEGMENT_HEADER_BYTES; offset < bytes.length;) {
        const entry = entryAt(bytes, offset, before, this.#options.agentId)
        if (entry === undefined) throw damaged(segment.name, before.seq)
        before = { seq: entry.frame.seq, hash: entry.hash }
        offset = entry.next
        if (entry.frame.seq >= seq) yield entry
      }
    }
  }

  /** Reads the segments from `known` on; the ones before are as they were. Returns how many torn bytes were cut off. */
  #load(known: number): number {
    const { directory, agentId } = this.#options
    const names = this.#names()
    const kept = this.#segments.slice(0, known).filter((segment) => names.includes(segment.name))
    const segments: Segment[] = kept
    let end: ChainEnd | undefined
    let torn = 0
    for (const name of names.slice(names.indexOf(kept.at(-1)?.name ?? '') + 1)) {
      const bytes = this.#readSegment(name)
      const isLast = name === names.at(-1)
      const scanned = scanSegment(bytes, agentId, `journal/${name}`)
      if (scanned === undefined) {
        if (!isLast || bytes.length > SEGMENT_HEADER_BYTES) throw damaged(name, end?.seq ?? 0)
        // A crash while the segment was begun: nothing was acknowledged from it.
        this.#onDisk(() => directory.fileSystem.remove(directory.fd, Buffer.from(name), 'file'))
        continue
      }
      if (end !== undefined && (scanned.before.seq < end.seq || (scanned.before.seq === end.seq && !scanned.before.hash.equals(end.hash))))
        throw damaged(name, end.seq)
      if (end !== undefined && scanned.before.seq > end.seq) this.#goesOnAfter = scanned.before.seq
      if (scanned.validBytes < bytes.length) {
        if (!isLast) throw damaged(name, scanned.end.seq)
        torn = bytes.length - scanned.validBytes
        this.#truncate(name, scanned.validBytes)
      }
      end = scanned.end
      segments.push({ name, before: scanned.before, bytes: scanned.validBytes })
    }
    this.#segments = segments
    if (end !== undefined) this.#end = end
    if (segments.length === 0) this.#startSegment(this.#end)
    this.#stale = false
    return torn
  }

  /** Takes in what another process of this agent appended or dropped since. */
  #refresh(): void {
    const names = this.#names()
    const last = this.#segments.at(-1)
    const size = last === undefined ? -1 : this.#sizeOf(last.name)
    const isSame = names.length === this.#segments.length && names.at(-1) === last?.name && size === last?.bytes
    if (!isSame || this.#stale) this.#load(Math.max(0, this.#segments.length - 1))
  }

  #startSegment(before: ChainEnd): Segment {
    const { directory } = this.#options
    const header = encodeSegmentHeader(before)
    const name = segmentName(before.seq + 1)
    this.#stale = true
    this.#write(name, header)
    this.#onDisk(() => directory.fileSystem.sync(directory.fd))
    this.#stale = false
    const segment = { name, before, bytes: header.length }
    this.#segments.push(segment)
    return segment
  }

  #writeDurably(segment: Segment, bytes: Buffer): void {
    const { directory } = this.#options
    // Until the bytes are known to be durable what stands on the disk is not known either: the next call reads it again.
    this.#stale = true
    this.#onDisk(() => {
      const fd = directory.fileSystem.open(directory.fd, Buffer.from(segment.name), 'update')
      try {
        directory.fileSystem.write(fd, bytes, segment.bytes)
        directory.fileSystem.sync(fd)
      } catch (error) {
        directory.fileSystem.truncate(fd, segment.bytes)
        throw error
      } finally {
        directory.fileSystem.close(fd)
      }
    })
    this.#stale = false
  }

  #write(name: string, bytes: Buffer): void {
    const { directory } = this.#options
    this.#onDisk(() => {
      const fd = directory.fileSystem.open(directory.fd, Buffer.from(name), 'create')
      try {
        directory.fileSystem.write(fd, bytes, 0)
        directory.fileSystem.sync(fd)
      } finally {
        directory.fileSystem.close(fd)
      }
    })
  }

  /** Gives segments that are written whole their names. */
  #name(made: readonly { segment: Segment; temporary: string }[]): void {
    const { directory } = this.#options
    this.#onDisk(() => {
      for (const { segment, temporary } of made)
        directory.fileSystem.rename(directory.fd, Buffer.from(temporary), directory.fd, Buffer.from(segment.name), true)
      directory.fileSystem.sync(directory.fd)
    })
  }

  #truncate(name: string, size: number): void {
    const { directory } = this.#options
    this.#onDisk(() => {
      const fd = directory.fileSystem.open(directory.fd, Buffer.from(name), 'update')
      try {
        directory.fileSystem.truncate(fd, size)
        directory.fileSystem.sync(fd)
      } finally {
        directory.fileSystem.close(fd)
      }
    })
  }

  #names(): string[] {
    return this.#options.directory
      .names()
      .filter((name) => parseSegmentName(name) !== undefined)
      .sort()
  }

  #sizeOf(name: string): number {
    const { directory } = this.#options
    return this.#onDisk(() => directory.fileSystem.stat(directory.fd, Buffer.from(name)).size)
  }

  #readSegment(name: string): Buffer {
    const { directory } = this.#options
    return this.#onDisk(() => readWhole(directory.fileSystem, directory.fd, name, SEGMENT_FILE_BYTES_MAX)) ?? Buffer.alloc(0)
  }

  #locked<T>(act: () => T): T {
    const { fileSystem, fd } = this.#options.directory
    if (fileSystem.lock === undefined) return act()
    const lock: Descriptor = this.#onDisk(() => fileSystem.open(fd, Buffer.from('lock'), 'append'))
    try {
      fileSystem.lock(lock, true)
      return act()
    } finally {
      fileSystem.close(lock)
    }
  }

  #onDisk<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      if (!isErrno(error)) throw error
      if (error.errno === 'ENOSPC' || error.errno === 'EDQUOT')
        throw new HoldfastError('journal-full', 'the disk of the journal is full, so nothing new is begun; free some space there', {
          cause: error,
        })
      const what = `${error.call}: ${error.errno}`
      throw new HoldfastError(
        'local-disk',
        `the journal in ${printable(this.#options.directory.path.toString())} cannot be used (${what})`,
        {
          cause: error,
        },
      )
    }
  }
}

function full(bytes: number, limit: number): HoldfastError {
  return new HoldfastError(
    'journal-full',
    `the journal holds ${bytes} of at most ${limit} bytes that the server has not recorded; bring the server back, or raise journalLimitBytes`,
    { fields: { bytes, limit } },
  )
}

function damaged(name: string, seq: number): HoldfastError {
  return new HoldfastError(
    'damaged',
    `journal/${name} is damaged behind record ${seq}; keep the file and ask for help, nothing was changed`,
    {
      fields: { seq },
    },
  )
}
