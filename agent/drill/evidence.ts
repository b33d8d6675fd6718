// The evidence of drills on this machine: a file of JSON lines that is only ever appended to. Each line holds the SHA-256 of the one before it, so that
// a line that was changed or taken out later shows. Two lines a drill, one before its first byte and one at its end. No line holds a path or a name.
import { createHash } from 'node:crypto'
import { canonicalJson, type Json } from '@holdfast/shared/canonical-json.ts'
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { code, count, hex64, snapshotId, time } from '@holdfast/shared/protocol/common.ts'
import { z } from 'zod'
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'

const NAME = Buffer.from('evidence.jsonl')
const EMPTY = Buffer.alloc(0)
const NO_HASH = '0'.repeat(64)
const NEWLINE = 0x0a
const BYTES_MAX = 256 * 2 ** 20

const common = { v: z.literal(1), at: time, previous: hex64, drill: snapshotId, snapshotId, series: hex64 }
const sample = { sampleHash: hex64, whole: z.boolean(), from: count, next: count }
const began = z.strictObject({
  ...common,
  kind: z.literal('began'),
  /** Location of the repository; who ran it: host and program. */
  repository: z.string().max(4096),
  host: z.string().max(255),
  program: z.string().max(64),
  /** Set where an agent restored on request of this machine. */
  restoreId: z.string().max(64).optional(),
  agentId: z.string().max(64).optional(),
  ...sample,
})
const ended = z.strictObject({
  ...common,
  kind: z.literal('ended'),
  outcome: z.enum(['restored', 'incomplete', 'damaged', 'failed', 'cancelled']),
  code: code.optional(),
  files: count,
  bytes: count,
  /** Absent where an agent compared: its own records have it. */
  entriesCompared: count.optional(),
  bytesCompared: count.optional(),
  ofFiles: count,
  ofBytes: count,
  /** Token and code of the first problems. */
  problems: z.array(z.strictObject({ token: hex64, code })).max(100),
  problemCount: count,
})
const line = z.discriminatedUnion('kind', [began, ended])
export type EvidenceLine = z.infer<typeof line>
export type Began = Omit<z.infer<typeof began>, 'v' | 'previous' | 'kind'>
export type Ended = Omit<z.infer<typeof ended>, 'v' | 'previous' | 'kind'>

export type EvidenceRead = {
  readonly lines: readonly EvidenceLine[]
  /** Numbers of lines, from 1, that are no evidence or do not follow from the one before. */
  readonly broken: readonly number[]
  /** Whether a line was cut off, as a crash does. */
  readonly torn: number
}

/** Appends one line durably to the evidence in `directory`. Throws `local-disk` where that fails: then the drill does not count. */
export function appendEvidence(
  fs: FileSystem,
  directory: Descriptor,
  entry: { kind: 'began'; line: Began } | { kind: 'ended'; line: Ended },
): void {
  try {
    const fd = fs.open(directory, NAME, 'append')
    try {
      // Two that append at once would both follow the same line.
      fs.lock?.(fd, true)
      const before = readAll(fs, directory)
      const isTorn = before.length > 0 && before.at(-1) !== NEWLINE
      const last = splitLines(before).findLast((text) => parseLine(text) !== undefined)
      const text = canonicalJson({ v: 1, kind: entry.kind, previous: last === undefined ? NO_HASH : hashOf(last), ...entry.line } as Json)
      fs.write(fd, Buffer.from(`${isTorn ? '\n' : ''}${text}\n`), null)
      fs.sync(fd)
      fs.sync(directory)
    } finally {
      fs.close(fd)
    }
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    throw new HoldfastError(
      'local-disk',
      `the evidence of drills cannot be written (${printable(error.message)}): check the disk of the state directory`,
      {
        cause: error,
      },
    )
  }
}

/** All lines, each checked and held against the one before it. */
export function readEvidence(fs: FileSystem, directory: Descriptor): EvidenceRead {
  const bytes = readAll(fs, directory)
  const lines: EvidenceLine[] = []
  const broken: number[] = []
  let torn = 0
  let previous = NO_HASH
  for (const [i, text] of splitLines(bytes).entries()) {
    const parsed = parseLine(text)
    if (parsed === undefined) {
      // What a crash cut off is never followed from; what follows names the line before it.
      torn += 1
      continue
    }
    if (parsed.previous !== previous) broken.push(i + 1)
    previous = hashOf(text)
    lines.push(parsed)
  }
  return { lines, broken, torn }
}

function parseLine(text: Buffer): EvidenceLine | undefined {
  try {
    const parsed = line.safeParse(JSON.parse(text.toString('utf8')))
    return parsed.success ? parsed.data : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = []
  let start = 0
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, end))
    start = end + 1
  }
  if (start < bytes.length) lines.push(bytes.subarray(start))
  return lines
}

function hashOf(text: Buffer): string {
  return createHash('sha256').update(text).digest('hex')
}

function readAll(fs: FileSystem, directory: Descriptor): Buffer {
  let fd: Descriptor
  try {
    fd = fs.open(directory, NAME, 'read')
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return EMPTY
    throw error
  }
  try {
    const { size } = fs.stat(fd, EMPTY)
    if (size > BYTES_MAX)
      throw new HoldfastError(
        'local-disk',
        'the evidence of drills is longer than it can be: move evidence.jsonl away and keep it, a new one begins',
      )
    const bytes = Buffer.alloc(size)
    for (let done = 0; done < size;) {
      const read = fs.read(fd, bytes, done, size - done, done)
      if (read === 0) return bytes.subarray(0, done)
      done += read
    }
    return bytes
  } finally {
    fs.close(fd)
  }
}
