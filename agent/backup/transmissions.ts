// Which files are transmitted: a file is when the last new segment it needs stands in a pack that is durable (O4, design section 8). Kept exactly,
// so that the records of an aborted run are exact too.
import type { TransmittedFile } from './backup-types.ts'
import type { ClosedPack } from './pack-spool.ts'

export type Transmissions = {
  /** `segments` of this run that the file's content stands in; none of them may be durable yet or all of them. */
  readonly fileRead: (file: TransmittedFile, segments: readonly number[]) => void
  readonly packDurable: (pack: Pick<ClosedPack, 'segments'>) => void
  /** Files known to be read but not durable. */
  readonly waiting: () => number
}

type Waiting = { readonly file: TransmittedFile; missing: number }

export function createTransmissions(onTransmitted: (files: readonly TransmittedFile[]) => void): Transmissions {
  const durable = new Set<number>()
  const bySegment = new Map<number, Waiting[]>()
  let waiting = 0
  return {
    fileRead: (file, segments) => {
      const missing = segments.filter((segment) => !durable.has(segment))
      // Nothing new of its own and nothing of this run: its content was there before, so nothing was transmitted.
      if (segments.length === 0 && file.newBytes === 0) return
      if (missing.length === 0) return onTransmitted([file])
      const entry = { file, missing: missing.length }
      waiting += 1
      for (const segment of missing) {
        const list = bySegment.get(segment)
        if (list === undefined) bySegment.set(segment, [entry])
        else list.push(entry)
      }
    },
    packDurable: (pack) => {
      const done: TransmittedFile[] = []
      for (const segment of pack.segments) {
        durable.add(segment)
        for (const entry of bySegment.get(segment) ?? []) {
          entry.missing -= 1
          if (entry.missing === 0) done.push(entry.file)
        }
        bySegment.delete(segment)
      }
      waiting -= done.length
      if (done.length > 0) onTransmitted(done)
    },
    waiting: () => waiting,
  }
}
